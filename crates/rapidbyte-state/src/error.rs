//! The one error of this crate: kind first, words second.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The file is something else.
    NotOurs,
    /// The file is ours, and damaged.
    Corrupt,
    /// The file was written by a newer version.
    TooNew,
    /// The file or its folder can't be written.
    ReadOnly,
    /// No space is left.
    Full,
    /// Someone else holds the pipeline, or the file for too long.
    Locked,
    /// The pipeline belongs to another source.
    IdentityMismatch,
    /// A newer owner has taken over.
    Fenced,
    /// Too long, too many, or not a possible value.
    Limit,
    /// What is there contradicts what is to be recorded.
    Conflict,
    /// There is no such record.
    NotFound,
    /// The file system failed.
    Io,
    /// The database failed in another way.
    Sql,
}

impl ErrorKind {
    /// The kind as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotOurs => "not_ours",
            Self::Corrupt => "corrupt",
            Self::TooNew => "too_new",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Locked => "locked",
            Self::IdentityMismatch => "identity_mismatch",
            Self::Fenced => "fenced",
            Self::Limit => "limit",
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Io => "io",
            Self::Sql => "sql",
        }
    }

    /// What a person can do about it, where that does not depend on the case.
    fn usual_hint(self) -> Option<&'static str> {
        match self {
            Self::NotOurs => Some("set `state.connection` to another path; this file has been left as it was"),
            Self::Corrupt => {
                Some("restore the file from a backup, or move it and its `-wal` and `-shm` files away to start with a new one")
            }
            Self::TooNew => Some("use the newer version of rapidbyte, or set `state.connection` to another path"),
            Self::ReadOnly => {
                Some("make the file and its folder writable for this user, or set `state.connection` to another path")
            }
            Self::Full => Some("free some space on the disk that holds the state file, then run again"),
            Self::Locked => Some("wait for the other process to finish, then run again"),
            Self::Fenced => Some("another run has taken this stream over; let it finish, then run again"),
            Self::Io => Some("check that the folder of the state file exists, can be written and supports file locks"),
            Self::IdentityMismatch | Self::Limit | Self::Conflict | Self::NotFound | Self::Sql => None,
        }
    }
}

/// A failure of the state store: what kind, what happened, where, and what to do next.
///
/// Its text holds names, counts and paths, never values that were stored.
#[derive(Debug)]
pub struct StateError {
    kind: ErrorKind,
    message: String,
    path: Option<PathBuf>,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StateError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: None, hint: kind.usual_hint().map(String::from), source: None }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says where, unless that is known already.
    #[must_use]
    pub fn at(mut self, path: &Path) -> Self {
        self.path.get_or_insert_with(|| path.to_owned());
        self
    }

    /// A failure of the file system while doing `what`.
    pub(crate) fn io(what: &str, path: &Path, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("can't {what}")).at(path).with_source(error)
    }

    /// For statements that a whole file of ours can't refuse: then it is not whole.
    pub(crate) fn or_damage(self) -> Self {
        match self.kind {
            ErrorKind::Sql | ErrorKind::Limit => {
                let error = Self::new(ErrorKind::Corrupt, "the state file is damaged: it can't be read as a database");
                error.with_source(self)
            }
            _ => self,
        }
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened: a lower-case fragment without the path.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The file concerned.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.path {
            Some(path) => write!(f, " (`{}`)", path.display()),
            None => Ok(()),
        }
    }
}

impl Error for StateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<rusqlite::Error> for StateError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        use rusqlite::ErrorCode as Code;
        let (kind, message) = match &error {
            E::SqliteFailure(failure, _) => match failure.code {
                Code::DiskFull => (ErrorKind::Full, "no space is left for the state file"),
                Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied => {
                    (ErrorKind::ReadOnly, "the state file can't be written")
                }
                Code::DatabaseBusy | Code::DatabaseLocked | Code::FileLockingProtocolFailed => {
                    (ErrorKind::Locked, "another process has held the state file for too long")
                }
                Code::DatabaseCorrupt => (ErrorKind::Corrupt, "the state file is damaged"),
                Code::NotADatabase => (ErrorKind::Corrupt, "the state file is damaged: its header is not that of a database"),
                Code::TooBig => (ErrorKind::Limit, "the value is too long for the state file"),
                Code::CannotOpen | Code::SystemIoFailure | Code::NoLargeFileSupport => {
                    (ErrorKind::Io, "the state file can't be read or written")
                }
                _ => (ErrorKind::Sql, "the state store refused the operation"),
            },
            // Tables are strict and written by this crate alone: a value of another type has been damaged.
            E::InvalidColumnType(..) | E::FromSqlConversionFailure(..) | E::IntegralValueOutOfRange(..) | E::Utf8Error(..) => {
                (ErrorKind::Corrupt, "the state file is damaged: a value is not of its column's type")
            }
            _ => (ErrorKind::Sql, "the state store refused the operation"),
        };
        Self::new(kind, message).with_source(error)
    }
}
