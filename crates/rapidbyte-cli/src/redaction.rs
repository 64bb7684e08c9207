//! Whatever leaves the process as text passes here: secrets that are known are replaced by `***`.

use rapidbyte_config::{Redactor, Secret, Secrets};
use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

#[derive(Default)]
struct Known {
    secrets: Secrets,
    redactor: Redactor,
}

/// One per process, because a panic and a log line have no other way to it.
static KNOWN: RwLock<Option<Known>> = RwLock::new(None);

/// Adds secrets to those already known.
pub(crate) fn learn<'a>(secrets: impl IntoIterator<Item = &'a Secret>) {
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let before = known.secrets.len();
    known.secrets.extend(secrets);
    if known.secrets.len() != before {
        known.redactor = known.secrets.redactor();
    }
}

/// The text without secrets.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    match known.as_ref() {
        Some(known) => known.redactor.redact(text),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_later_is_added() {
        learn([&Secret::new("canary-one")]);
        learn([&Secret::new("canary-two")]);
        assert_eq!(redact("a canary-one b canary-two c"), "a *** b *** c");
    }
}
