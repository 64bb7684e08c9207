//! One thing that was looked at, as `check` and `plan` show it.

use crate::style::Style;
use crate::table::printable;
use rapidbyte_types::CheckStatus;

/// How it was found, what it is, and below what to do about it.
pub(crate) fn shown(status: CheckStatus, what: &str, hint: Option<&str>, style: Style) -> String {
    let mark = match status {
        CheckStatus::Ok => style.good("ok     "),
        CheckStatus::Warning => style.warning("warning"),
        CheckStatus::Failed => style.error("failed "),
    };
    let mut text = format!("{mark}  {}\n", printable(what));
    if let Some(hint) = hint.filter(|_| status != CheckStatus::Ok) {
        text.push_str(&format!("         {} {}\n", style.hint("hint:"), printable(hint)));
    }
    text
}
