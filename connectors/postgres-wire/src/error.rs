//! What can go wrong between us and the server, and what the engine should make of it.

use crate::words;
use rapidbyte_sdk::host_tcp::NetError;
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use std::fmt;

/// An ErrorResponse of the server. What of it may be shown is said by [`ServerError::safe_message`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL`, `PANIC`.
    pub(crate) severity: String,
    /// Five letters and digits.
    pub(crate) sqlstate: String,
    /// What we were doing, where it was no statement.
    pub(crate) during: Option<String>,
    /// The primary message; may quote a row's value.
    pub(crate) message: String,
    /// The server's advice; may quote a row's value.
    pub(crate) hint: Option<String>,
    /// What the server was doing; may quote a row's value.
    pub(crate) context: Option<String>,
    /// Whether the error names a place in our statement.
    pub(crate) has_position: bool,
    /// The server's function that reported it; its name is no translated text.
    pub(crate) routine: Option<String>,
    /// The schema concerned.
    pub(crate) schema: Option<String>,
    /// The table concerned.
    pub(crate) table: Option<String>,
    /// The column concerned.
    pub(crate) column: Option<String>,
    /// The type concerned.
    pub(crate) data_type: Option<String>,
    /// The constraint concerned.
    pub(crate) constraint: Option<String>,
}

/// Shows no more than an error message does.
impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerError").field("sqlstate", &self.sqlstate).field("message", &self.safe_message()).finish()
    }
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
                b'C' if value.len() == 5 && value.bytes().all(|byte| byte.is_ascii_alphanumeric()) => parsed.sqlstate = value,
                b'M' => parsed.message = value,
                b'H' => parsed.hint = Some(value),
                b'P' => parsed.has_position = true,
                b'W' => parsed.context = Some(value),
                b'R' => parsed.routine = Some(value),
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

    /// What has happened, without row values: the server's message where it can't hold one, else words of our own with the
    /// SQLSTATE; then the place and the names which the server gives apart from its message.
    pub fn safe_message(&self) -> String {
        let mut message = if words::may_show(self, &self.message) {
            self.message.clone()
        } else {
            let condition = words::condition(&self.sqlstate);
            let whose = if words::in_user_code(self) && self.class() != "P0" {
                ", in code at the server (a trigger or function)"
            } else {
                ""
            };
            format!("{condition}{whose} (SQLSTATE {})", self.sqlstate)
        };
        if let Some(during) = &self.during {
            message = format!("{during}: {message}");
        }
        if let Some(place) = words::place(self) {
            message = format!("{message}, at {place}");
        }
        if words::names_are_names(self) {
            self.add_names(&mut message);
        }
        message
    }

    /// Adds what the message does not name already.
    fn add_names(&self, message: &mut String) {
        if let (Some(schema), Some(table)) = (&self.schema, &self.table)
            && !message.contains(&format!("\"{table}\""))
        {
            *message = format!("{message} in `{schema}.{table}`");
        }
        let named = [("column", &self.column), ("type", &self.data_type), ("constraint", &self.constraint)];
        for (what, name) in named {
            if let Some(name) = name
                && !message.contains(&format!("\"{name}\""))
            {
                *message = format!("{message}, {what} `{name}`");
            }
        }
    }

    /// The server's hint, where it can't hold a row value.
    fn safe_hint(&self) -> Option<String> {
        if !words::may_show(self, &self.message) {
            return Some("the server's log has its own words".to_owned());
        }
        self.hint.clone().filter(|hint| words::may_show(self, hint))
    }

    pub(crate) fn class(&self) -> &str {
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
            Self::Server(server) => f.write_str(&server.safe_message()),
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

/// The server's function that refuses a statement under `row_security = off` where a policy would hide rows.
const ROW_SECURITY_CHECK: &str = "check_enable_rls";

/// Category, code and advice for an SQLSTATE. Codes with a name of their own first, then their class.
fn classify(server: &ServerError) -> (ErrorCategory, Option<&'static str>, Option<&'static str>) {
    use ErrorCategory as C;
    let table_hint = "check the stream's name and the `database`; `rapidbyte discover <PIPELINE>` lists what can be read";
    match server.sqlstate.as_str() {
        "28P01" | "28000" => (C::Auth, Some("auth"), Some("check `user`, `password` and the server's pg_hba.conf")),
        "3D000" => (C::Config, Some("unknown_database"), Some("check `database`; `psql -l` lists the server's databases")),
        "3F000" => (C::Schema, Some("missing_schema"), Some("check the schema's name, or create it")),
        "42P01" => (C::Schema, Some("missing_table"), Some(table_hint)),
        "42703" => (C::Schema, Some("missing_column"), Some("compare the stream's `columns` with the table")),
        "42501" if server.routine.as_deref() == Some(ROW_SECURITY_CHECK) => (
            C::Permission,
            Some("row_security"),
            Some("let the configured `user` see all rows, as a superuser with: `ALTER ROLE <ROLE> BYPASSRLS`"),
        ),
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
        let message = server.safe_message();
        let mut made = ConnectorError::new(category, code.map_or_else(|| server.sqlstate.clone(), str::to_owned), message);
        made.hint = hint.map(str::to_owned).or_else(|| server.safe_hint());
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
    fn names_come_from_their_fields_unless_user_code_filled_them() {
        let mut error = server("23505", "duplicate key value violates unique constraint \"orders_pkey\"");
        error.schema = Some("public".into());
        error.table = Some("orders".into());
        error.constraint = Some("orders_pkey".into());
        error.context = Some("COPY orders, line 3".into());
        let made = ConnectorError::from(error.clone());
        assert_eq!(
            made.message,
            "a row repeats a unique key (SQLSTATE 23505), at line 3 in `public.orders`, constraint `orders_pkey`"
        );
        assert_eq!(made.hint.as_deref(), Some("the server's log has its own words"));
        error.context = Some("PL/pgSQL function f() line 1 at RAISE".into());
        let made = ConnectorError::from(error);
        assert_eq!(made.message, "a row repeats a unique key, in code at the server (a trigger or function) (SQLSTATE 23505)");
    }

    #[test]
    fn a_notice_is_logged_without_its_words() {
        let notice = server("01000", "the row holds canary");
        assert_eq!(notice.safe_message(), "a notice (SQLSTATE 01000)");
    }

    #[test]
    fn a_login_tells_the_servers_words() {
        let mut error = server("3D000", "database \"x\" does not exist");
        assert!(!error.safe_message().contains("\"x\""));
        error.during = Some("cannot log in to `h:1`".into());
        assert_eq!(error.safe_message(), "cannot log in to `h:1`: database \"x\" does not exist");
    }

    #[test]
    fn fields_are_read_and_the_unknown_left_out() {
        let body = b"SFEHLER\0VERROR\0C42P01\0Mrelation \"x\" does not exist\0sS\0tT\0cC\0nN\0P15\0zignored\0\0";
        let parsed = ServerError::parse(body);
        assert_eq!((parsed.severity.as_str(), parsed.sqlstate.as_str()), ("ERROR", "42P01"));
        assert_eq!(
            (parsed.schema.as_deref(), parsed.table.as_deref(), parsed.column.as_deref(), parsed.constraint.as_deref()),
            (Some("S"), Some("T"), Some("C"), Some("N"))
        );
        assert!(parsed.has_position);
        for odd in [&b""[..], b"C\0", b"Ccanary\0", b"Ca b c\0"] {
            assert_eq!(ServerError::parse(odd).sqlstate, "");
        }
    }
}
