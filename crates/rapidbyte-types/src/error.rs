//! The one error shape that crosses the component boundary.

use crate::words::words;
use serde::{Deserialize, Serialize};
use std::fmt;

words! {
    /// What kind of thing went wrong; the retry table is keyed by it.
    ErrorCategory ("error category") {
        /// The configuration is wrong.
        Config = "config",
        /// The credentials were refused.
        Auth = "auth",
        /// The user may not do this.
        Permission = "permission",
        /// The server asks for fewer requests.
        RateLimit = "rate_limit",
        /// The network failed.
        TransientNetwork = "transient_network",
        /// The server failed for now: restart, deadlock, too many connections.
        TransientDb = "transient_db",
        /// A value can't be carried.
        Data = "data",
        /// A table or column is not as expected.
        Schema = "schema",
        /// A defect of the connector or the host.
        Internal = "internal",
    }
}
words! {
    /// How much an error spoils.
    ErrorScope ("error scope") {
        /// The whole stream.
        Stream = "stream",
        /// One batch.
        Batch = "batch",
        /// One record.
        Record = "record",
    }
}
words! {
    /// How fast a retry may come.
    BackoffClass ("backoff class") {
        /// Within a second.
        Fast = "fast",
        /// Within seconds.
        Normal = "normal",
        /// Within minutes.
        Slow = "slow",
    }
}
words! {
    /// What is known of the destination's transaction when the error arose.
    CommitState ("commit state") {
        /// Nothing was committed.
        BeforeCommit = "before_commit",
        /// COMMIT was sent and its answer lost.
        AfterCommitUnknown = "after_commit_unknown",
        /// The commit is durable.
        AfterCommitConfirmed = "after_commit_confirmed",
    }
}

/// An error of a connector, as typed data.
///
/// `code` is stable and machine-readable (an SQLSTATE, `missing_table`, …), `message` a lower-case fragment without a full
/// stop, `hint` what to do next. Neither may hold row values or secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorError {
    /// What kind of thing went wrong.
    pub category: ErrorCategory,
    /// How much it spoils.
    pub scope: ErrorScope,
    /// Stable and machine-readable.
    pub code: String,
    /// What happened, in words.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// The server's own wish for the wait before a retry.
    pub retry_after_ms: Option<u64>,
    /// How fast a retry may come.
    pub backoff: BackoffClass,
    /// Whether a retry can't repeat an effect.
    pub safe_to_retry: bool,
    /// What is known of the destination's transaction.
    pub commit_state: CommitState,
    /// JSON for people.
    pub details: Option<String>,
}

impl ConnectorError {
    /// An error with the category's usual retry facts: network, database and rate errors may be retried, others not.
    pub fn new(category: ErrorCategory, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (retryable, backoff) = match category {
            ErrorCategory::TransientNetwork => (true, BackoffClass::Fast),
            ErrorCategory::TransientDb => (true, BackoffClass::Normal),
            ErrorCategory::RateLimit => (true, BackoffClass::Slow),
            ErrorCategory::Config
            | ErrorCategory::Auth
            | ErrorCategory::Permission
            | ErrorCategory::Data
            | ErrorCategory::Schema
            | ErrorCategory::Internal => (false, BackoffClass::Normal),
        };
        Self {
            category,
            scope: ErrorScope::Stream,
            code: code.into(),
            message: message.into(),
            hint: None,
            retryable,
            retry_after_ms: None,
            backoff,
            safe_to_retry: retryable,
            commit_state: CommitState::BeforeCommit,
            details: None,
        }
    }

    /// The configuration is wrong.
    pub fn config(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Config, code, message)
    }

    /// A value can't be carried.
    pub fn data(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Data, code, message)
    }

    /// A table or column is not as expected.
    pub fn schema(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Schema, code, message)
    }

    /// A defect.
    pub fn internal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorCategory::Internal, code, message)
    }

    /// Says what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Narrows what the error spoils.
    #[must_use]
    pub fn with_scope(mut self, scope: ErrorScope) -> Self {
        self.scope = scope;
        self
    }

    /// States what is known of the transaction. An unknown outcome is not safe to retry blindly.
    #[must_use]
    pub fn with_commit_state(mut self, state: CommitState) -> Self {
        self.commit_state = state;
        self
    }

    /// Adds JSON for people.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, `{}`)", self.message, self.category, self.code)
    }
}

impl std::error::Error for ConnectorError {}
