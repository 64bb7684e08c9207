//! What can go wrong between us and the server, and what the engine should make of it.

use rapidbyte_sdk::host_tcp::NetError;
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use std::fmt;

/// An ErrorResponse of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`.
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    /// The primary message. May quote a row's value: see [`ServerError::safe_message`].
    pub message: String,
    /// More words; often holds row values.
    pub detail: Option<String>,
    /// The server's advice.
    pub hint: Option<String>,
    /// What the server was doing; may hold row values.
    pub context: Option<String>,
    /// The schema concerned.
    pub schema: Option<String>,
    /// The table concerned.
    pub table: Option<String>,
    /// The column concerned.
    pub column: Option<String>,
    /// The type concerned.
    pub data_type: Option<String>,
    /// The constraint concerned.
    pub constraint: Option<String>,
}

/// Text before the first value the server quotes after a colon: `invalid input syntax for type integer: "12x"`.
fn before_value(text: &str) -> &str {
    text.split_once(": \"").map_or(text, |(before, _)| before)
}

impl ServerError {
    /// Reads the fields of an ErrorResponse or NoticeResponse. Unknown fields are left out.
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut parsed = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, value)) = field.split_first() else { continue };
            let value = String::from_utf8_lossy(value).into_owned();
            match kind {
                b'V' => parsed.severity = value,
                b'S' if parsed.severity.is_empty() => parsed.severity = value,
                b'C' => parsed.sqlstate = value,
                b'M' => parsed.message = value,
                b'D' => parsed.detail = Some(value),
                b'H' => parsed.hint = Some(value),
                b'W' => parsed.context = Some(value),
                b's' => parsed.schema = Some(value),
                b't' => parsed.table = Some(value),
                b'c' => parsed.column = Some(value),
                b'd' => parsed.data_type = Some(value),
                b'n' => parsed.constraint = Some(value),
                _ => {}
            }
        }
        parsed
    }

    /// The message without row values: data errors are cut before the value they quote, and what user code raises is not
    /// repeated at all.
    pub fn safe_message(&self) -> String {
        match self.class() {
            "22" | "23" => {
                let mut message = before_value(&self.message).to_owned();
                // `COPY orders, line 3, column total: "12x"`
                let place = self.context.as_deref().and_then(|context| context.lines().find(|line| line.starts_with("COPY ")));
                if let Some(place) = place {
                    message = format!("{message} ({})", before_value(place).trim_end_matches(':'));
                }
                message
            }
            "P0" => "code at the server (a trigger or function) raised an exception".to_owned(),
            _ => self.message.clone(),
        }
    }

    fn class(&self) -> &str {
        self.sqlstate.get(..2).unwrap_or_default()
    }
}

/// A failure of a call on a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Error {
    /// The server refused; the session goes on.
    Server(Box<ServerError>),
    /// The network failed; the session is lost.
    Network {
        /// How.
        error: NetError,
        /// What we were doing.
        during: &'static str,
    },
    /// The server sent what the protocol does not allow; the session is lost.
    Protocol(String),
    /// We refused.
    Refused(Box<ConnectorError>),
}

impl Error {
    /// The SQLSTATE, when the server spoke.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|server| server.sqlstate.as_str())
    }

    /// The server's words, when it spoke.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(server) => Some(server),
            _ => None,
        }
    }

    /// Whether the connection was lost rather than the statement refused. After COMMIT this means: outcome unknown.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Network { .. } | Self::Protocol(_))
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(server) => write!(f, "{} (SQLSTATE {})", server.safe_message(), server.sqlstate),
            Self::Network { error, during } => write!(f, "{error} while {during}"),
            Self::Protocol(what) => write!(f, "PostgreSQL protocol: {what}"),
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<ConnectorError> for Error {
    fn from(error: ConnectorError) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// Category, code and advice for an SQLSTATE. Codes with a name of their own first, then their class.
fn classify(server: &ServerError) -> (ErrorCategory, Option<&'static str>, Option<&'static str>) {
    use ErrorCategory as C;
    let table_hint = "check the stream's name and the `database`; `rapidbyte discover` lists what can be read";
    match server.sqlstate.as_str() {
        "28P01" | "28000" => (C::Auth, Some("auth"), Some("check `user`, `password` and the server's pg_hba.conf")),
        "3D000" => (C::Config, Some("unknown_database"), Some("check `database`; `psql -l` lists the server's databases")),
        "3F000" => (C::Schema, Some("missing_schema"), Some("check the schema's name, or create it")),
        "42P01" => (C::Schema, Some("missing_table"), Some(table_hint)),
        "42703" => (C::Schema, Some("missing_column"), Some("compare the stream's `columns` with the table")),
        "42501" => (C::Permission, Some("permission_denied"), Some("grant the right to the configured `user`")),
        "42804" | "42846" | "42P07" | "428C9" | "42704" | "42P16" | "42701" => (C::Schema, None, None),
        "53300" => (C::TransientDb, Some("too_many_connections"), Some("lower `parallelism` or raise `max_connections`")),
        "53100" => (C::TransientDb, Some("disk_full"), Some("free space on the server's disk")),
        "57014" => {
            (C::TransientDb, Some("statement_timeout"), Some("raise `statement_timeout_seconds` or lower the server's load"))
        }
        "57P03" => (C::TransientDb, Some("starting_up"), Some("the server is starting or stopping: try again in a moment")),
        "57P01" | "57P02" => (C::TransientDb, Some("server_shutdown"), None),
        "55P03" => (C::TransientDb, Some("lock_timeout"), Some("another session holds the lock: find it in pg_locks")),
        "55006" => (C::TransientDb, None, None),
        "25006" => (C::Config, Some("read_only_server"), Some("the server is a standby or read-only: name the primary")),
        "0A000" | "55000" => (C::Config, None, None),
        _ => match server.class() {
            "28" => (C::Auth, None, Some("check `user`, `password` and the server's pg_hba.conf")),
            "22" | "23" | "21" | "44" | "54" | "P0" => (C::Data, None, None),
            "08" => (C::TransientNetwork, None, None),
            "40" | "53" | "57" | "58" => (C::TransientDb, None, None),
            "3D" | "3F" => (C::Schema, None, None),
            _ => (C::Internal, None, None),
        },
    }
}

impl From<ServerError> for ConnectorError {
    fn from(server: ServerError) -> Self {
        let (category, code, hint) = classify(&server);
        let mut message = server.safe_message();
        if let (Some(table), Some(schema)) = (&server.table, &server.schema)
            && !message.contains(table.as_str())
        {
            message = format!("{message} in `{schema}.{table}`");
        }
        if let Some(column) = &server.column
            && !message.contains(column.as_str())
        {
            message = format!("{message}, column `{column}`");
        }
        let mut made = ConnectorError::new(category, code.map_or_else(|| server.sqlstate.clone(), str::to_owned), message);
        // The server's own hints name objects and settings, not values.
        made.hint = hint.map(str::to_owned).or(server.hint);
        made.with_details(format!(r#"{{"sqlstate":"{}"}}"#, server.sqlstate.escape_default()))
    }
}

impl From<Error> for ConnectorError {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(server) => Self::from(*server),
            Error::Network { error, during } => {
                let message = format!("{error} while {during}");
                let mut made = Self::from(error);
                made.message = message;
                made
            }
            Error::Protocol(what) => Self::new(ErrorCategory::TransientNetwork, "protocol", format!("PostgreSQL protocol: {what}"))
                .with_hint("check that `host` and `port` name a PostgreSQL server"),
            Error::Refused(error) => *error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(sqlstate: &str, message: &str) -> ServerError {
        ServerError { sqlstate: sqlstate.into(), message: message.into(), ..ServerError::default() }
    }

    #[test]
    fn every_known_state_has_its_category() {
        use ErrorCategory as C;
        let cases = [
            ("28P01", C::Auth, "auth"),
            ("28000", C::Auth, "auth"),
            ("3D000", C::Config, "unknown_database"),
            ("3F000", C::Schema, "missing_schema"),
            ("42P01", C::Schema, "missing_table"),
            ("42501", C::Permission, "permission_denied"),
            ("22P02", C::Data, "22P02"),
            ("23505", C::Data, "23505"),
            ("40001", C::TransientDb, "40001"),
            ("40P01", C::TransientDb, "40P01"),
            ("53300", C::TransientDb, "too_many_connections"),
            ("57P03", C::TransientDb, "starting_up"),
            ("08006", C::TransientNetwork, "08006"),
            ("42601", C::Internal, "42601"),
            ("", C::Internal, ""),
        ];
        for (state, category, code) in cases {
            let made = ConnectorError::from(server(state, "x"));
            assert_eq!((made.category, made.code.as_str()), (category, code), "{state}");
        }
    }

    #[test]
    fn row_values_are_not_repeated() {
        let mut error = server("22P02", "invalid input syntax for type integer: \"canary\"");
        error.detail = Some("Failing row contains (canary)".into());
        error.context = Some("COPY orders, line 3, column total: \"canary\"".into());
        let made = ConnectorError::from(error);
        assert!(!format!("{made:?}").contains("canary"), "{made:?}");
        assert!(made.message.contains("line 3, column total"));
        let made = ConnectorError::from(server("P0001", "canary"));
        assert!(!format!("{made:?}").contains("canary"));
    }

    #[test]
    fn fields_are_read_and_the_unknown_left_out() {
        let body = b"SFEHLER\0VERROR\0C42P01\0Mrelation \"x\" does not exist\0sS\0tT\0cC\0nN\0zignored\0\0";
        let parsed = ServerError::parse(body);
        assert_eq!((parsed.severity.as_str(), parsed.sqlstate.as_str()), ("ERROR", "42P01"));
        assert_eq!(
            (parsed.schema.as_deref(), parsed.table.as_deref(), parsed.column.as_deref(), parsed.constraint.as_deref()),
            (Some("S"), Some("T"), Some("C"), Some("N"))
        );
        assert_eq!(ServerError::parse(b"").sqlstate, "");
    }
}
