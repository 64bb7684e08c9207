//! What is wrong with a manifest or the file it came in.

use std::fmt;

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestErrorKind {
    /// The file is not WebAssembly at all.
    NotWasm,
    /// The file is a core module; a connector is a component.
    CoreModule,
    /// The file begins as a component and is not one to its end.
    Malformed,
    /// There is no manifest in the file.
    ManifestMissing,
    /// The manifest names no checksum.
    ChecksumMissing,
    /// The component is not the one the manifest was made for.
    ChecksumMismatch,
    /// The manifest inside and the one beside differ.
    Disagree,
    /// A cap on size is exceeded.
    TooLarge,
    /// The manifest is not JSON, or a value has the wrong type.
    Syntax,
    /// A key that no reader knows.
    UnknownKey,
    /// A value out of its set or range.
    InvalidValue,
    /// The manifest format or the protocol is not one this version speaks.
    UnsupportedVersion,
    /// The configuration schema can't be used.
    ConfigSchema,
}

/// One thing wrong with a manifest or the file it came in; the advice is apart, in [`ManifestError::hint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    kind: ManifestErrorKind,
    message: String,
    hint: Option<String>,
}

impl ManifestError {
    pub(crate) fn new(kind: ManifestErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub(crate) fn with_hint_opt(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What kind of thing is wrong.
    pub fn kind(&self) -> ManifestErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ManifestError {}
