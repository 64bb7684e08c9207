//! Settings that are known and can't be used yet. A feature that lands takes its lines out.

use crate::error::{ConfigError, ConfigErrorKind};
use crate::spec::Marked;

/// A word of a document that this version knows and refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAvailable {
    /// The key, by its last name.
    pub key: &'static str,
    /// The word.
    pub word: &'static str,
    /// What works today.
    pub hint: &'static str,
}

const fn line(key: &'static str, word: &'static str, hint: &'static str) -> NotAvailable {
    NotAvailable { key, word, hint }
}

static NOT_AVAILABLE: &[NotAvailable] = &[line("backend", "postgres", "use `backend: sqlite`")];

/// Every word that is known and refused.
pub fn not_available() -> &'static [NotAvailable] {
    NOT_AVAILABLE
}

/// Refuses a word of the table.
pub(super) fn check<T>(key: &str, written: Option<&Marked<T>>, word: impl Fn(&T) -> &'static str) -> Result<(), ConfigError> {
    let Some(written) = written else { return Ok(()) };
    let word = word(&written.value);
    match NOT_AVAILABLE.iter().find(|line| line.key == key && line.word == word) {
        Some(line) => {
            let message = format!("`{key}: {word}` is not available yet");
            Err(ConfigError::new(ConfigErrorKind::NotAvailable, written.mark, message).with_hint(line.hint))
        }
        None => Ok(()),
    }
}
