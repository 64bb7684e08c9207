//! Why a run did not succeed.

use rapidbyte_config::ConfigError;
use rapidbyte_runtime::{GuestError, HostError, HostErrorKind, TrapKind};
use rapidbyte_state::StateError;
use rapidbyte_types::{ConnectorError, ErrorCategory, StreamName};
use std::error::Error;
use std::fmt;

/// Where in a run an error arose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The pipeline document.
    Plan,
    /// Loading a component or its manifest.
    Load,
    /// The state store.
    State,
    /// The source connector.
    Source,
    /// The contract of a stream.
    Contract,
    /// A transform, by its place in the pipeline.
    Transform(u32),
    /// The destination connector.
    Destination,
    /// The engine itself.
    Engine,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan => f.write_str("plan"),
            Self::Load => f.write_str("load"),
            Self::State => f.write_str("state"),
            Self::Source => f.write_str("source"),
            Self::Contract => f.write_str("contract"),
            Self::Transform(index) => write!(f, "transform {}", index + 1),
            Self::Destination => f.write_str("destination"),
            Self::Engine => f.write_str("engine"),
        }
    }
}

/// What was wrong, with the layer's own error whole.
#[derive(Debug)]
pub enum Cause {
    /// The document, a manifest or a connector's configuration.
    Config(ConfigError),
    /// A component could not be loaded or opened.
    Host(HostError),
    /// The state store.
    State(StateError),
    /// A connector says so, or the host on its behalf.
    Connector(ConnectorError),
    /// The run was asked to stop.
    Cancelled,
}

/// Why a run did not succeed: the first cause, where it arose, and how often it was tried.
#[derive(Debug)]
pub struct EngineError {
    /// Where.
    pub stage: Stage,
    /// Which connector, as the pipeline names it.
    pub connector: Option<String>,
    /// Which stream.
    pub stream: Option<StreamName>,
    /// What.
    pub cause: Cause,
    /// Attempts made, the failed one included.
    pub attempts: u32,
    /// What the first of them failed of, where that was something else.
    pub first: Option<String>,
}

impl EngineError {
    pub(crate) fn new(stage: Stage, cause: Cause) -> Self {
        Self { stage, connector: None, stream: None, cause, attempts: 1, first: None }
    }

    pub(crate) fn guest(stage: Stage, error: GuestError) -> Self {
        let cause = match error {
            GuestError::Connector(error) => Cause::Connector(error),
            GuestError::Host(error) => Cause::Host(error),
            GuestError::Trap(trap) => {
                let code = match trap.kind {
                    TrapKind::OutOfMemory => "guest_out_of_memory",
                    TrapKind::Timeout => "guest_timeout",
                    TrapKind::Interrupted => "guest_interrupted",
                    TrapKind::Panic => "guest_panic",
                    TrapKind::StackOverflow => "guest_stack_overflow",
                    TrapKind::Oversized => "guest_oversized",
                    TrapKind::Exit => "guest_exit",
                    TrapKind::Fault => "guest_fault",
                };
                let hint = match trap.kind {
                    TrapKind::OutOfMemory => {
                        "raise `resources.max_memory`, or lower `resources.parallelism` or `resources.max_batch_bytes`"
                    }
                    TrapKind::Oversized => "raise `resources.max_batch_bytes`",
                    TrapKind::Timeout
                    | TrapKind::Interrupted
                    | TrapKind::Panic
                    | TrapKind::StackOverflow
                    | TrapKind::Exit
                    | TrapKind::Fault => "this is a defect of the connector: report it with the output of `--log-level debug`",
                };
                Cause::Connector(ConnectorError::internal(code, trap.to_string()).with_hint(hint))
            }
        };
        Self::new(stage, cause)
    }

    pub(crate) fn internal(stage: Stage, code: &str, message: impl Into<String>) -> Self {
        Self::new(stage, Cause::Connector(ConnectorError::internal(code, message)))
    }

    #[must_use]
    pub(crate) fn in_connector(mut self, name: &str) -> Self {
        self.connector.get_or_insert_with(|| name.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn in_stream(mut self, stream: &StreamName) -> Self {
        self.stream.get_or_insert_with(|| stream.clone());
        self
    }

    /// What kind of thing went wrong; decides retry and exit code.
    pub fn category(&self) -> ErrorCategory {
        match &self.cause {
            Cause::Config(_) => ErrorCategory::Config,
            Cause::Host(error) => match error.kind() {
                HostErrorKind::NotAComponent
                | HostErrorKind::Precompiled
                | HostErrorKind::World
                | HostErrorKind::Protocol
                | HostErrorKind::Imports
                | HostErrorKind::Manifest
                | HostErrorKind::Memory => ErrorCategory::Config,
                HostErrorKind::Grant => ErrorCategory::Permission,
                HostErrorKind::Engine | HostErrorKind::Internal => ErrorCategory::Internal,
            },
            Cause::State(_) => ErrorCategory::Internal,
            Cause::Connector(error) => error.category,
            Cause::Cancelled => ErrorCategory::Internal,
        }
    }

    /// A stable word for the kind of failure.
    pub fn code(&self) -> &str {
        match &self.cause {
            Cause::Config(_) => "config",
            Cause::Host(_) => "connector_load",
            Cause::State(error) => error.kind().as_str(),
            Cause::Connector(error) => &error.code,
            Cause::Cancelled => "cancelled",
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        match &self.cause {
            Cause::Config(error) => error.hint().map(str::to_owned),
            Cause::Host(error) => error.hint().map(str::to_owned),
            Cause::State(error) => error.hint().map(str::to_owned),
            Cause::Connector(error) => error.hint.clone().or_else(|| match crate::retry::policy(error.category) {
                crate::retry::RetryPolicy::Never(advice) => Some(advice.to_owned()),
                crate::retry::RetryPolicy::Backoff => None,
            }),
            Cause::Cancelled => None,
        }
    }

    /// The words of the innermost layer.
    pub fn message(&self) -> String {
        match &self.cause {
            Cause::Config(error) => error.to_string(),
            Cause::Host(error) => chain(error),
            Cause::State(error) => chain(error),
            Cause::Connector(error) => error.message.clone(),
            Cause::Cancelled => "the run was cancelled".into(),
        }
    }

    /// Whether this error only says that another stage has gone first.
    pub(crate) fn is_echo(&self) -> bool {
        matches!(&self.cause, Cause::Connector(error) if matches!(error.code.as_str(), "downstream_closed" | "upstream_closed" | "mirror_gone"))
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(connector) = &self.connector {
            write!(f, "{} `{connector}`", self.stage)?;
        } else {
            write!(f, "{}", self.stage)?;
        }
        if let Some(stream) = &self.stream {
            write!(f, ", stream `{stream}`")?;
        }
        write!(f, ": {}", self.message())
    }
}

impl Error for EngineError {}

impl From<StateError> for EngineError {
    fn from(error: StateError) -> Self {
        Self::new(Stage::State, Cause::State(error))
    }
}

impl From<ConfigError> for EngineError {
    fn from(error: ConfigError) -> Self {
        Self::new(Stage::Plan, Cause::Config(error))
    }
}
