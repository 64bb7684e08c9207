//! Why a command did not succeed, and how that is said.

use crate::exit::ExitCode;
use crate::signals::Signal;
use crate::style::Style;
use rapidbyte_config::{ConfigError, ManifestError};
use rapidbyte_engine::{Cause, EngineError, Stage};
use rapidbyte_types::ErrorCategory;
use serde_json::{Map, Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine says so.
    Engine(EngineError),
    /// The pipeline file is wrong.
    Config(ConfigError),
    /// A connector or its manifest is wrong.
    Connector { name: String, error: ManifestError },
    /// There is no connector of this name.
    UnknownConnector { name: String, hint: String },
    /// A file can't be read or written.
    File { doing: &'static str, path: PathBuf, error: io::Error, hint: Option<String> },
    /// The command line or the environment is wrong.
    Usage { what: String, hint: String },
    /// `check` found something, and has said so.
    CheckFailed,
    /// The run succeeded without some rows, and has said so.
    RowsSkipped,
    /// `verify` found rows that are not the same, and has said so.
    Different,
    /// `verify` could not tell, and has said so.
    Unsettled,
    /// Nobody reads standard output any more.
    OutputClosed,
    /// A signal came.
    Stopped(Signal),
    /// This program is wrong.
    Internal(String),
}

/// What went well says nothing of it.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// The three parts of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) what: String,
    pub(crate) cause: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Words {
    fn new(what: impl Into<String>, cause: Option<String>, hint: Option<String>) -> Self {
        Self { what: what.into(), cause, hint }
    }

    /// As printed.
    pub(crate) fn render(&self, style: Style) -> String {
        let mut text = format!("{} {}\n", style.error("error:"), self.what);
        if let Some(cause) = &self.cause {
            text.push_str(&format!("  {} {cause}\n", style.label("cause:")));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("{} {hint}\n", style.hint("hint:")));
        }
        text
    }
}

impl Failure {
    pub(crate) fn file(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), error, hint: None }
    }

    pub(crate) fn usage(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), hint: hint.into() }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Engine(error) => ExitCode::of_engine(error),
            Self::Config(_) => ExitCode::Config,
            Self::Connector { error, .. } => ExitCode::of_manifest(error.kind()),
            Self::UnknownConnector { .. } => ExitCode::Config,
            Self::File { .. } => ExitCode::File,
            Self::Usage { .. } => ExitCode::Usage,
            Self::CheckFailed => ExitCode::CheckFailed,
            Self::RowsSkipped => ExitCode::RowsSkipped,
            Self::Different => ExitCode::Different,
            Self::Unsettled => ExitCode::Unsettled,
            Self::OutputClosed => ExitCode::Success,
            Self::Stopped(signal) => signal.exit_code(),
            Self::Internal(_) => ExitCode::Internal,
        }
    }

    /// What to say, unless everything has been said.
    pub(crate) fn words(&self) -> Option<Words> {
        Some(match self {
            Self::Engine(error) => engine_words(error),
            Self::Config(error) => config_words(error),
            Self::Connector { name, error } => {
                Words::new(format!("connector `{name}` can't be loaded"), Some(error.to_string()), error.hint().map(str::to_owned))
            }
            Self::UnknownConnector { name, hint } => {
                Words::new(format!("there is no connector `{name}`"), None, Some(hint.clone()))
            }
            Self::File { doing, path, error, hint } => {
                Words::new(format!("could not {doing} `{}`", path.display()), Some(io_words(error)), hint.clone())
            }
            Self::Usage { what, hint } => Words::new(what.clone(), None, Some(hint.clone())),
            Self::CheckFailed | Self::RowsSkipped | Self::Different | Self::Unsettled | Self::OutputClosed => return None,
            Self::Stopped(signal) => Words::new(
                format!("stopped by {signal}"),
                None,
                Some("run the same command again to go on; what was committed is kept".to_owned()),
            ),
            Self::Internal(what) => Words::new(
                what.clone(),
                None,
                Some("this is a defect: please report it with the output of `--log-level debug`".to_owned()),
            ),
        })
    }

    /// The failure as data, for `--output json`. Texts are not redacted yet.
    pub(crate) fn as_json(&self) -> Value {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| {
            object.insert(key.to_owned(), value);
        };
        let words = self.words();
        put("kind", json!(self.exit_code().word()));
        if let Self::Engine(error) = self {
            put("code", json!(error.code()));
            put("category", json!(error.category().as_str()));
            put("stage", json!(error.stage.to_string()));
            put("connector", json!(error.connector));
            put("stream", json!(error.stream.as_ref().map(ToString::to_string)));
            put("attempts", json!(error.attempts));
            put("first_attempt", json!(error.first));
        }
        if let Self::Config(error) = self {
            put("code", json!("config"));
            put("category", json!(ErrorCategory::Config.as_str()));
            put("file", json!(error.origin()));
            put("line", json!(error.mark().map(|mark| mark.line)));
            put("column", json!(error.mark().map(|mark| mark.column)));
        }
        put("message", json!(words.as_ref().map(|words| words.what.as_str())));
        put("cause", json!(words.as_ref().and_then(|words| words.cause.as_deref())));
        put("hint", json!(words.as_ref().and_then(|words| words.hint.as_deref())));
        Value::Object(object)
    }
}

fn config_words(error: &ConfigError) -> Words {
    Words::new(error.to_string(), None, error.hint().map(str::to_owned))
}

fn engine_words(error: &EngineError) -> Words {
    let hint = error.hint();
    match &error.cause {
        Cause::Config(config) if error.connector.is_none() => config_words(config),
        Cause::Cancelled => Words::new("the run was cancelled", None, hint),
        Cause::State(state) => {
            let cause = std::error::Error::source(state).map(ToString::to_string);
            Words::new(format!("state store: {state}"), cause, hint)
        }
        Cause::Host(_) if error.stream.is_none() => {
            let what = match &error.connector {
                Some(name) => format!("connector `{name}` can't be loaded"),
                None => "the sandbox can't start".to_owned(),
            };
            Words::new(what, Some(error.message()), hint)
        }
        Cause::Config(_) | Cause::Host(_) => Words::new(failed_where(error), Some(error.message()), hint),
        Cause::Connector(connector) => {
            let mut cause = format!("{} ({}, `{}`)", connector.message, connector.category, connector.code);
            if let Some(first) = &error.first {
                cause.push_str(&format!("; the first attempt failed of: {first}"));
            }
            Words::new(failed_where(error), Some(cause), hint)
        }
    }
}

/// `source `source-postgres` failed on stream `public.orders` after 4 attempts`
fn failed_where(error: &EngineError) -> String {
    let mut what = match error.stage {
        Stage::Plan => "the pipeline can't be run".to_owned(),
        Stage::Load => "a connector can't be loaded".to_owned(),
        Stage::State => "the state store failed".to_owned(),
        Stage::Contract => "the contract is broken".to_owned(),
        Stage::Engine => "the run failed".to_owned(),
        stage @ (Stage::Source | Stage::Transform(_) | Stage::Destination) => match &error.connector {
            Some(name) => format!("{stage} `{name}` failed"),
            None => format!("{stage} failed"),
        },
    };
    if let Some(stream) = &error.stream {
        what.push_str(&format!(" on stream `{stream}`"));
    }
    if error.attempts > 1 {
        what.push_str(&format!(" after {} attempts", error.attempts));
    }
    what
}

/// The system's words without its number: `permission denied`.
fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_types::{ConnectorError, StreamName};

    fn lost_connection(attempts: u32) -> Failure {
        let error = ConnectorError::new(ErrorCategory::TransientNetwork, "connection_lost", "the server closed the connection");
        Failure::Engine(EngineError {
            stage: Stage::Source,
            connector: Some("source-postgres".to_owned()),
            stream: Some(StreamName::qualified("public", "orders")),
            cause: Cause::Connector(error.with_hint("check that the server runs")),
            attempts,
            first: None,
        })
    }

    #[test]
    fn the_first_cause_is_told_beside_the_last() {
        let Failure::Engine(mut error) = lost_connection(4) else { unreachable!("made above") };
        error.first = Some("the server is shutting down".to_owned());
        let failure = Failure::Engine(error);
        let cause = failure.words().expect("words").cause.expect("a cause");
        assert!(cause.ends_with("`connection_lost`); the first attempt failed of: the server is shutting down"), "{cause}");
        assert_eq!(failure.as_json()["first_attempt"], "the server is shutting down");
    }

    #[test]
    fn an_error_says_where_why_and_what_next() {
        let text = lost_connection(4).words().expect("words").render(Style::plain());
        assert_eq!(
            text,
            "error: source `source-postgres` failed on stream `public.orders` after 4 attempts\n  \
             cause: the server closed the connection (transient_network, `connection_lost`)\n\
             hint: check that the server runs\n"
        );
    }

    #[test]
    fn one_attempt_is_not_worth_a_word() {
        let words = lost_connection(1).words().expect("words");
        assert_eq!(words.what, "source `source-postgres` failed on stream `public.orders`");
    }

    #[test]
    fn the_same_as_data() {
        let json = lost_connection(4).as_json();
        assert_eq!(json["kind"], "unavailable");
        assert_eq!(json["category"], "transient_network");
        assert_eq!(json["stream"], "public.orders");
        assert_eq!(json["attempts"], 4);
        assert_eq!(json["hint"], "check that the server runs");
    }

    #[test]
    fn a_document_is_named_with_line_and_column() {
        let wrong = "version: \"1.0\"\npipelin: x\n";
        let error = rapidbyte_config::spec::PipelineSpec::from_str(wrong, "p.yaml", &|_| None).expect_err("misspelt");
        let failure = Failure::from(error);
        let text = failure.words().expect("words").render(Style::plain());
        assert!(text.starts_with("error: p.yaml:2:1: "), "{text}");
        assert!(text.contains("hint: "), "{text}");
        assert_eq!(failure.exit_code(), ExitCode::Config);
        assert_eq!(failure.as_json()["line"], 2);
    }

    #[test]
    fn files_are_named_and_system_errors_read_as_words() {
        let failure = Failure::file("read", Path::new("a.yaml"), io::Error::from_raw_os_error(13));
        assert_eq!(
            failure.words().expect("words").render(Style::plain()),
            "error: could not read `a.yaml`\n  cause: permission denied\n"
        );
    }

    #[test]
    fn a_closed_output_is_no_error() {
        assert_eq!(Failure::OutputClosed.exit_code(), ExitCode::Success);
        assert_eq!(Failure::OutputClosed.words(), None);
    }
}
