//! What is wrong with a document: kind, place, words, advice.

use std::fmt;

/// A place in a document; both numbers count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// What kind of thing is wrong with a pipeline document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigErrorKind {
    /// The file can't be read.
    Io,
    /// A cap on size, depth or expansion is exceeded.
    TooLarge,
    /// The text is not YAML, or uses a part of it that documents may not use.
    Syntax,
    /// A variable is missing, or its reference is malformed.
    Variable,
    /// A key that no reader knows.
    UnknownKey,
    /// The same key twice.
    DuplicateKey,
    /// A key that must be there is not.
    MissingKey,
    /// The value has another type than the key takes.
    WrongType,
    /// The value is out of its set or range.
    InvalidValue,
    /// Two settings contradict each other, or one has no effect without another.
    Conflict,
    /// The setting is known, and this version can't do it yet.
    NotAvailable,
}

/// One thing wrong with a pipeline document.
///
/// `Display` is `file:line:column: fragment`; the advice is apart, in [`ConfigError::hint`]. Neither holds a value that came
/// from the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    kind: ConfigErrorKind,
    origin: String,
    mark: Option<Mark>,
    message: String,
    hint: Option<String>,
}

impl ConfigError {
    pub(crate) fn new(kind: ConfigErrorKind, mark: impl Into<Option<Mark>>, message: impl Into<String>) -> Self {
        Self { kind, origin: String::new(), mark: mark.into(), message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn with_hint_opt(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    /// Names the document, once, where it is known.
    #[must_use]
    pub(crate) fn at_origin(mut self, origin: &str) -> Self {
        self.origin = origin.to_owned();
        self
    }

    /// What kind of thing is wrong.
    pub fn kind(&self) -> ConfigErrorKind {
        self.kind
    }

    /// The document, as the caller named it.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Where in the document, when it is about one place.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// The fragment alone, without its place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.origin.is_empty() {
            write!(f, "{}:", self.origin)?;
            if let Some(mark) = self.mark {
                write!(f, "{}:{}:", mark.line, mark.column)?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}
