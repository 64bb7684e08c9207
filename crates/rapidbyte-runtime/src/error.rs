//! What can go wrong between the host and a connector.

use rapidbyte_types::ConnectorError;
use std::error::Error;
use std::fmt;

/// What kind of failure a [`HostError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostErrorKind {
    /// The engine itself could not be made.
    Engine,
    /// The bytes are no component: text, a core module, cut off, too large.
    NotAComponent,
    /// The bytes are compiled code; only WebAssembly is accepted.
    Precompiled,
    /// The component exports none, or more than one, of the connector worlds.
    World,
    /// It speaks another protocol version.
    Protocol,
    /// It imports something this host does not offer.
    Imports,
    /// The manifest and the component disagree.
    Manifest,
    /// A grant could not be given: a directory that is not there, a CA file that can't be read.
    Grant,
    /// The limits leave less memory than the connector says it needs.
    Memory,
    /// The host failed.
    Internal,
}

/// A failure of the host around a connector, before or beside its own work.
#[derive(Debug)]
pub struct HostError {
    kind: HostErrorKind,
    what: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl HostError {
    pub(crate) fn new(kind: HostErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, source: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> HostErrorKind {
        self.kind
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for HostError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// How a guest was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrapKind {
    /// It asked for more memory than its limit, or than was left for all.
    OutOfMemory,
    /// The call's wall-clock budget ran out.
    Timeout,
    /// A call was cancelled before; the instance can't be used again.
    Interrupted,
    /// It panicked or aborted.
    Panic,
    /// Its stack ran over.
    StackOverflow,
    /// It handed more to the host in one call than is allowed.
    Oversized,
    /// It called `exit`.
    Exit,
    /// Any other trap: a bad handle, a wild pointer, a value that is not what its type says.
    Fault,
}

/// A guest that did not return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// How it was stopped.
    pub kind: TrapKind,
    /// What happened, redacted.
    pub message: String,
    /// The end of what the guest wrote to its standard error, redacted.
    pub stderr: String,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(line) = self.stderr.lines().rev().find(|line| !line.trim().is_empty()) {
            write!(f, " (its last words: `{}`)", line.trim())?;
        }
        Ok(())
    }
}

/// Why a call into a connector gave no result.
#[derive(Debug)]
pub enum GuestError {
    /// The connector says so itself.
    Connector(ConnectorError),
    /// It was stopped.
    Trap(Trap),
    /// The host could not make the call.
    Host(HostError),
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connector(error) => error.fmt(f),
            Self::Trap(trap) => trap.fmt(f),
            Self::Host(error) => error.fmt(f),
        }
    }
}

impl Error for GuestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Connector(_) | Self::Trap(_) => None,
            Self::Host(error) => error.source(),
        }
    }
}

impl From<HostError> for GuestError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<ConnectorError> for GuestError {
    fn from(error: ConnectorError) -> Self {
        Self::Connector(error)
    }
}
