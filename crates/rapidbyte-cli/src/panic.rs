//! A panic is a defect: it is said in our words, without secrets, and with an exit code of its own.

use crate::printer::write_stderr;
use crate::table::printable;
use std::any::Any;
use std::panic;

/// Replaces the standard library's report.
pub(crate) fn install_hook() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
        write_stderr(&report(&said(info.payload()), &place));
    }));
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

fn report(said: &str, place: &str) -> String {
    format!(
        "error: rapidbyte stopped because of a defect\n  cause: {}{place}\n\
         hint: please report this line; running again goes on from what was committed\n",
        printable(said)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_one_error_with_a_hint() {
        assert_eq!(
            report("a\nb", " at src/x.rs:1"),
            "error: rapidbyte stopped because of a defect\n  cause: a\\nb at src/x.rs:1\n\
             hint: please report this line; running again goes on from what was committed\n"
        );
        assert_eq!(said(&"text"), "text");
        assert_eq!(said(&String::from("text")), "text");
        assert_eq!(said(&7), "without a word");
    }
}
