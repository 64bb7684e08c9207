//! Exit codes: an interface for scripts. A number never changes its meaning.

use rapidbyte_config::manifest::ManifestErrorKind;
use rapidbyte_engine::{Cause, EngineError, Stage};
use rapidbyte_runtime::HostErrorKind;
use rapidbyte_state::ErrorKind as StateErrorKind;
use rapidbyte_types::ErrorCategory;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    Success,
    Internal,
    Usage,
    Config,
    Auth,
    Permission,
    Unavailable,
    Data,
    Schema,
    State,
    AlreadyRunning,
    Connector,
    CheckFailed,
    File,
    RowsSkipped,
    Different,
    Unsettled,
    Interrupted,
    Terminated,
}

impl ExitCode {
    /// Every code, in order.
    pub(crate) const ALL: &'static [Self] = &[
        Self::Success,
        Self::Internal,
        Self::Usage,
        Self::Config,
        Self::Auth,
        Self::Permission,
        Self::Unavailable,
        Self::Data,
        Self::Schema,
        Self::State,
        Self::AlreadyRunning,
        Self::Connector,
        Self::CheckFailed,
        Self::File,
        Self::RowsSkipped,
        Self::Different,
        Self::Unsettled,
        Self::Interrupted,
        Self::Terminated,
    ];

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Internal => 1,
            // What clap uses, too.
            Self::Usage => 2,
            Self::Config => 3,
            Self::Auth => 4,
            Self::Permission => 5,
            Self::Unavailable => 6,
            Self::Data => 7,
            Self::Schema => 8,
            Self::State => 9,
            Self::AlreadyRunning => 10,
            Self::Connector => 11,
            Self::CheckFailed => 12,
            Self::File => 13,
            Self::RowsSkipped => 20,
            Self::Different => 21,
            Self::Unsettled => 22,
            // 128 and the number of the signal, as shells have it.
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// A stable word, for `--output json`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Internal => "internal",
            Self::Usage => "usage",
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::Unavailable => "unavailable",
            Self::Data => "data",
            Self::Schema => "schema",
            Self::State => "state",
            Self::AlreadyRunning => "already_running",
            Self::Connector => "connector",
            Self::CheckFailed => "check_failed",
            Self::File => "file",
            Self::RowsSkipped => "rows_skipped",
            Self::Different => "different",
            Self::Unsettled => "unsettled",
            Self::Interrupted => "interrupted",
            Self::Terminated => "terminated",
        }
    }

    /// What it says, for the reference page.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Success => {
                "Done. Also when the reader of standard output went away, as in `rapidbyte … | head`, and when `run --follow` was stopped while it followed."
            }
            Self::Internal => "A defect of Rapidbyte or of a connector. Please report it.",
            Self::Usage => "The command line, or a variable of the environment, is wrong.",
            Self::Config => "The pipeline file, or a connector's configuration in it, is wrong.",
            Self::Auth => "A server refused the credentials.",
            Self::Permission => "Not allowed: by a server, by a connector's manifest, or by the file system.",
            Self::Unavailable => "A server could not be reached or was busy, after all retries. Running again may succeed.",
            Self::Data => "A value can't be carried, and the pipeline says that this is an error.",
            Self::Schema => "A table or column is not there, or not as expected.",
            Self::State => "The state store can't be used: damaged, read-only, full, or of another pipeline.",
            Self::AlreadyRunning => "Another run holds the pipeline, or has taken it over.",
            Self::Connector => "A connector can't be loaded: not a component, damaged, or its manifest lies.",
            Self::CheckFailed => "`rapidbyte check` or `rapidbyte plan` found something that would fail.",
            Self::File => "A file named on the command line can't be read or written.",
            Self::RowsSkipped => {
                "The run succeeded, and rows were left out by `on_data_error: skip` or by a contract; the summary counts them."
            }
            Self::Different => "`rapidbyte verify` found rows that are not the same at source and destination.",
            Self::Unsettled => {
                "`rapidbyte verify` could not tell: rows that differ were changing, too many to be looked at, or may have been left out by a contract."
            }
            Self::Interrupted => "Stopped by Ctrl-C. What was committed stays; the next run goes on from there.",
            Self::Terminated => "Stopped by SIGTERM. What was committed stays; the next run goes on from there.",
        }
    }

    /// The code for an error of the engine. A run that was cancelled has no code of its own: the signal decides.
    pub(crate) fn of_engine(error: &EngineError) -> Self {
        match &error.cause {
            Cause::Config(_) => Self::Config,
            Cause::Host(host) => Self::of_host(host.kind()),
            Cause::State(state) => Self::of_state(state.kind()),
            Cause::Connector(connector) if connector.code == FENCED => Self::AlreadyRunning,
            Cause::Connector(connector) if error.stage == Stage::Load && !WRONG_USE.contains(&connector.code.as_str()) => {
                Self::Connector
            }
            Cause::Connector(connector) => Self::of_category(connector.category),
            Cause::Cancelled => Self::Interrupted,
        }
    }

    pub(crate) fn of_category(category: ErrorCategory) -> Self {
        match category {
            ErrorCategory::Config => Self::Config,
            ErrorCategory::Auth => Self::Auth,
            ErrorCategory::Permission => Self::Permission,
            ErrorCategory::RateLimit | ErrorCategory::TransientNetwork | ErrorCategory::TransientDb => Self::Unavailable,
            ErrorCategory::Data => Self::Data,
            ErrorCategory::Schema => Self::Schema,
            ErrorCategory::Internal => Self::Internal,
        }
    }

    pub(crate) fn of_host(kind: HostErrorKind) -> Self {
        match kind {
            HostErrorKind::NotAComponent
            | HostErrorKind::Precompiled
            | HostErrorKind::World
            | HostErrorKind::Protocol
            | HostErrorKind::Imports
            | HostErrorKind::Manifest => Self::Connector,
            HostErrorKind::Memory => Self::Config,
            HostErrorKind::Grant => Self::Permission,
            HostErrorKind::Engine | HostErrorKind::Internal => Self::Internal,
        }
    }

    pub(crate) fn of_state(kind: StateErrorKind) -> Self {
        match kind {
            StateErrorKind::Locked | StateErrorKind::Fenced => Self::AlreadyRunning,
            StateErrorKind::NotOurs
            | StateErrorKind::Corrupt
            | StateErrorKind::TooNew
            | StateErrorKind::ReadOnly
            | StateErrorKind::Full
            | StateErrorKind::IdentityMismatch
            | StateErrorKind::Limit
            | StateErrorKind::Conflict
            | StateErrorKind::NotFound
            | StateErrorKind::Io
            | StateErrorKind::Sql => Self::State,
        }
    }

    pub(crate) fn of_manifest(_kind: ManifestErrorKind) -> Self {
        Self::Connector
    }
}

/// Codes of errors at loading that say what is wrong with the pipeline, not with a connector.
const WRONG_USE: [&str; 2] = ["unknown_connector", "wrong_role"];

/// The code of a destination's error by which it says that another run has claimed the stream.
const FENCED: &str = "fenced";

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_types::ConnectorError;
    use std::collections::BTreeSet;

    fn engine_error(error: ConnectorError) -> EngineError {
        EngineError {
            stage: Stage::Destination,
            connector: None,
            stream: None,
            cause: Cause::Connector(error),
            attempts: 1,
            first: None,
        }
    }

    #[test]
    fn numbers_and_words_are_distinct() {
        let numbers: BTreeSet<u8> = ExitCode::ALL.iter().map(|code| code.number()).collect();
        let words: BTreeSet<&str> = ExitCode::ALL.iter().map(|code| code.word()).collect();
        assert_eq!((numbers.len(), words.len()), (ExitCode::ALL.len(), ExitCode::ALL.len()));
    }

    #[test]
    fn each_category_has_its_code() {
        let table = [
            (ErrorCategory::Config, 3),
            (ErrorCategory::Auth, 4),
            (ErrorCategory::Permission, 5),
            (ErrorCategory::RateLimit, 6),
            (ErrorCategory::TransientNetwork, 6),
            (ErrorCategory::TransientDb, 6),
            (ErrorCategory::Data, 7),
            (ErrorCategory::Schema, 8),
            (ErrorCategory::Internal, 1),
        ];
        assert_eq!(table.len(), ErrorCategory::ALL.len());
        for (category, number) in table {
            let error = engine_error(ConnectorError::new(category, "x", "x"));
            assert_eq!(ExitCode::of_engine(&error).number(), number, "{category}");
        }
    }

    #[test]
    fn a_fenced_writer_is_told_that_another_runs() {
        let error = engine_error(ConnectorError::new(ErrorCategory::Permission, "fenced", "x"));
        assert_eq!(ExitCode::of_engine(&error), ExitCode::AlreadyRunning);
    }

    #[test]
    fn a_locked_store_is_not_a_broken_one() {
        assert_eq!(ExitCode::of_state(StateErrorKind::Locked), ExitCode::AlreadyRunning);
        assert_eq!(ExitCode::of_state(StateErrorKind::Corrupt), ExitCode::State);
    }
}
