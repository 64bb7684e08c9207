//! A session and its queries.

use crate::config::ConnectConfig;
use crate::copy::{CopyIn, CopyOut};
use crate::error::{Error, ServerError};
use crate::handshake::{self, keep_parameter, unexpected, wire};
use crate::insert::InsertIn;
use crate::params::Param;
use crate::transport::{Body, Fault, Transport, log_notice};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::host_tcp::TlsInfo;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

/// Bound on the text of one query's rows; results of this size belong into a COPY.
const MAX_RESULT: usize = 64 << 20;

/// What a session gets to become new. Guessed: one that takes longer has more to do than this, or nobody at its other end.
const RENEWED_WITHIN: Duration = Duration::from_secs(5);

/// Settings that make texts and numbers of both connectors mean the same everywhere. Queries of the catalog look costly and are
/// not: compiling one takes longer than running it.
const SETTINGS: [(&str, &str); 12] = [
    // A pooler has given its server's session another start than ours.
    ("client_encoding", "'UTF8'"),
    ("DateStyle", "'ISO, YMD'"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "'UTC'"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "'C'"),
    ("xmloption", "content"),
    ("array_nulls", "on"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("jit", "off"),
];

/// The statements that make the settings which each session begins with. `local`: for the transaction alone, where a pooler may
/// have given another session than the one that was set up.
pub fn settings(local: bool) -> String {
    let word = if local { "SET LOCAL" } else { "SET" };
    let statements: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{word} {name} = {value}")).collect();
    statements.join("; ")
}

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// No transaction.
    Idle,
    /// In a transaction.
    Open,
    /// In a transaction that can only be rolled back.
    Failed,
}

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type; the base type of a domain.
    pub type_oid: u32,
    /// Its type modifier; -1 = none.
    pub typmod: i32,
}

/// A row of text values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    values: Vec<Option<String>>,
}

impl Row {
    /// The value; `None` = NULL or no such column.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.values.get(index)?.as_deref()
    }

    /// How many columns.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it has no columns.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value, which the query never leaves NULL.
    pub fn text(&self, index: usize) -> Result<&str, Error> {
        self.get(index).ok_or_else(|| Error::protocol(format!("column {index} of a catalog query is missing")))
    }

    /// The value, parsed; `None` = NULL.
    pub fn parse<T: FromStr>(&self, index: usize) -> Result<Option<T>, Error> {
        let parse =
            |text: &str| text.parse().map_err(|_| Error::protocol(format!("column {index} of a catalog query is malformed")));
        self.get(index).map(parse).transpose()
    }

    /// The value of a boolean, which the query never leaves NULL.
    pub fn flag(&self, index: usize) -> Result<bool, Error> {
        Ok(self.text(index)? == "t")
    }
}

/// What a query left behind.
#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    bytes: usize,
    affected: u64,
    columns: Vec<Column>,
}

/// A session at the server.
pub struct Connection {
    pub(crate) transport: Transport,
    parameters: BTreeMap<String, String>,
    tls: Option<TlsInfo>,
    status: TransactionStatus,
    server_version: u32,
    /// The statements that put it into its known state.
    settings: String,
    idle_timeout: Duration,
}

/// `15.18 (Debian …)` -> 150018; `9.6.24` -> 90624; `17beta1` -> 170000.
fn version_number(text: &str) -> u32 {
    let number = |part: &str| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).take(4).collect();
        digits.parse::<u32>().unwrap_or(0)
    };
    let mut parts = text.split(['.', ' ']).map(number);
    let (first, second, third) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if first >= 10 { first * 10_000 + second } else { first * 10_000 + second * 100 + third }
}

/// The count at the end of a command tag: `INSERT 0 5`, `COPY 7`, `SELECT 1`, `BEGIN`.
pub(crate) fn tag_count(body: &[u8]) -> Result<u64, Error> {
    let tag = Body::new(body).text()?;
    Ok(tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0))
}

fn describe_columns(body: &[u8]) -> Result<Vec<Column>, Error> {
    let mut body = Body::new(body);
    let count = body.i16()?;
    let mut columns = Vec::new();
    for _ in 0..count {
        let name = body.text()?.to_owned();
        body.bytes(6)?;
        let type_oid = body.u32()?;
        body.bytes(2)?;
        let typmod = body.i32()?;
        body.bytes(2)?;
        columns.push(Column { name, type_oid, typmod });
    }
    Ok(columns)
}

fn data_row(body: &[u8]) -> Result<Row, Error> {
    let mut body = Body::new(body);
    let count = body.i16()?;
    let mut values = Vec::new();
    for _ in 0..count {
        let length = body.i32()?;
        values.push(match usize::try_from(length) {
            Ok(length) => {
                let text = std::str::from_utf8(body.bytes(length)?);
                Some(text.map_err(|_| Error::protocol("a catalog value is not UTF-8"))?.to_owned())
            }
            Err(_) => None,
        });
    }
    Ok(Row { values })
}

pub(crate) fn no_nul(sql: &str) -> Result<&str, Error> {
    if sql.contains('\0') {
        return Err(ConnectorError::internal("sql_nul", "a statement contains a NUL character").into());
    }
    Ok(sql)
}

impl Connection {
    /// Reaches the server, encrypts, logs in and puts the session into a known state.
    pub fn connect(config: &ConnectConfig) -> Result<Self, Error> {
        Self::open(config, false)
    }

    /// As [`Connection::connect`], for a session that takes commands about the server's log beside simple queries. It takes no
    /// parameters.
    pub fn connect_to_log(config: &ConnectConfig) -> Result<Self, Error> {
        Self::open(config, true)
    }

    fn open(config: &ConnectConfig, log: bool) -> Result<Self, Error> {
        let session = handshake::connect(config, log)?;
        let server_version = session.parameters.get("server_version").map_or(0, |text| version_number(text));
        let settings = match config.statement_timeout_seconds {
            Some(seconds) => format!("{}; SET statement_timeout = '{seconds}s'", settings(false)),
            None => settings(false),
        };
        let mut made = Self {
            transport: session.transport,
            parameters: session.parameters,
            tls: session.tls,
            status: TransactionStatus::Idle,
            server_version,
            settings,
            idle_timeout: Duration::from_secs(config.idle_timeout_seconds),
        };
        if !made.speaks_utf8() {
            return Err(
                ConnectorError::config("client_encoding", "the server does not let us set `client_encoding` to UTF8").into()
            );
        }
        made.set_idle_timeout(made.idle_timeout);
        let settings = made.settings.clone();
        made.batch_execute(&settings)?;
        Ok(made)
    }

    fn speaks_utf8(&self) -> bool {
        self.parameter("client_encoding").is_none_or(|encoding| encoding == "UTF8" || encoding == "UNICODE")
    }

    /// As `server_version_num`: 150018.
    pub fn server_version(&self) -> u32 {
        self.server_version
    }

    /// A setting the server reports by itself (`server_version`, `is_superuser`, `in_hot_standby`, …).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// What the TLS handshake agreed on; `None` = not encrypted.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
    }

    /// Where the session stands, as of the last answer.
    pub fn transaction(&self) -> TransactionStatus {
        self.status
    }

    /// Whether the session is lost.
    pub fn is_broken(&self) -> bool {
        self.transport.is_broken()
    }

    /// Makes the session what it was when it was connected, with `settings` on top, for something that has nothing to do with what
    /// it was used for before: functions, triggers and views run other people's code, which may have set anything in it. Tells whether
    /// that succeeded: a session in a transaction, one that the server has ended, and one that does not answer soon are lost.
    pub fn renew(&mut self, settings: &str) -> bool {
        if self.is_broken() || self.status != TransactionStatus::Idle {
            return false;
        }
        self.transport.set_idle_timeout(RENEWED_WITHIN.min(self.idle_timeout));
        // Two messages and one round trip. The first can't share a message with others, and on some servers it also takes away the role
        // that the user's own settings give.
        let renewed = self
            .send_simple("DISCARD ALL")
            .and_then(|()| self.send_simple(&format!("RESET ROLE; {}; {settings}", self.settings)))
            .and_then(|()| self.answer())
            .and_then(|_| self.answer());
        self.transport.set_idle_timeout(self.idle_timeout);
        if renewed.is_err() {
            self.transport.mark_broken();
        }
        renewed.is_ok() && self.status == TransactionStatus::Idle && self.speaks_utf8()
    }

    /// How long the server may be silent while we wait for it.
    pub fn set_idle_timeout(&mut self, timeout: Duration) {
        self.idle_timeout = timeout;
        self.transport.set_idle_timeout(timeout);
    }

    /// The next message that is not out-of-band. CopyData may have `copy_cap` bytes.
    pub(crate) fn next(&mut self, copy_cap: usize) -> Result<(u8, &[u8]), Fault> {
        loop {
            // Borrowed anew below: the loop would otherwise hold the message across its end.
            let (tag, body) = self.transport.message(copy_cap)?;
            match tag {
                b'N' => log_notice(body),
                b'S' => keep_parameter(&mut self.parameters, body)?,
                b'A' => {}
                _ => break,
            }
        }
        Ok(self.transport.last())
    }

    /// Takes a ReadyForQuery in.
    pub(crate) fn ready(&mut self, status: u8) -> Result<(), Error> {
        self.status = match status {
            b'I' => TransactionStatus::Idle,
            b'T' => TransactionStatus::Open,
            b'E' => TransactionStatus::Failed,
            other => {
                self.transport.mark_broken();
                return Err(Error::protocol(format!("unknown transaction status {:?}", other as char)));
            }
        };
        Ok(())
    }

    /// Reads on to ReadyForQuery after an error; the error itself is what counts.
    pub(crate) fn recover(&mut self, body: Vec<u8>) -> Error {
        let server = ServerError::parse(&body);
        let fatal = matches!(server.severity.as_str(), "FATAL" | "PANIC");
        loop {
            if fatal {
                self.transport.mark_broken();
                break;
            }
            match self.next(0) {
                Ok((b'Z', body)) => {
                    let status = body.first().copied().unwrap_or(0);
                    if self.ready(status).is_err() {
                        self.transport.mark_broken();
                    }
                    break;
                }
                Ok(_) => {}
                Err(_) => {
                    self.transport.mark_broken();
                    break;
                }
            }
        }
        Error::Server(Box::new(server))
    }

    /// Reads the answer of a query up to ReadyForQuery.
    fn answer(&mut self) -> Result<Answer, Error> {
        let mut answer = Answer::default();
        loop {
            let (tag, body) = self.next(0).map_err(wire)?;
            match tag {
                b'Z' => {
                    let status = body.first().copied().unwrap_or(0);
                    self.ready(status)?;
                    return Ok(answer);
                }
                b'T' => {
                    answer.columns = describe_columns(body)?;
                    answer.rows.clear();
                    answer.bytes = 0;
                }
                b'D' => {
                    answer.bytes += body.len();
                    if answer.bytes > MAX_RESULT {
                        self.transport.mark_broken();
                        return Err(Error::protocol(format!("the answer to a catalog query is larger than {MAX_RESULT} bytes")));
                    }
                    answer.rows.push(data_row(body)?);
                }
                b'C' => answer.affected = tag_count(body)?,
                // ParseComplete, BindComplete, NoData, ParameterDescription, EmptyQueryResponse.
                b'1' | b'2' | b'n' | b't' | b'I' => {}
                b'E' => {
                    let body = body.to_vec();
                    return Err(self.recover(body));
                }
                other => {
                    self.transport.mark_broken();
                    return Err(unexpected(other));
                }
            }
        }
    }

    pub(crate) fn send_simple(&mut self, sql: &str) -> Result<(), Error> {
        let sql = no_nul(sql)?;
        self.transport.frame(b'Q', |out| {
            out.extend_from_slice(sql.as_bytes());
            out.push(0);
        })?;
        self.transport.flush()
    }

    /// Runs one or more statements; several form one transaction unless they say otherwise.
    pub fn batch_execute(&mut self, sql: &str) -> Result<(), Error> {
        self.send_simple(sql)?;
        self.answer().map(|_| ())
    }

    /// The same for a COMMIT: calls `sent` when the statement has left and its answer is not there yet.
    pub fn batch_execute_marked(&mut self, sql: &str, sent: impl FnOnce()) -> Result<(), Error> {
        self.send_simple(sql)?;
        sent();
        self.answer().map(|_| ())
    }

    /// The rows of the last statement, as text.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Row>, Error> {
        self.send_simple(sql)?;
        Ok(self.answer()?.rows)
    }

    fn extended(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Answer, Error> {
        let sql = no_nul(sql)?;
        let count = i16::try_from(params.len())
            .map_err(|_| ConnectorError::internal("parameter_count", "a statement has more than 32,767 parameters"))?;
        self.transport.frame(b'P', |out| {
            out.push(0);
            out.extend_from_slice(sql.as_bytes());
            out.push(0);
            out.extend_from_slice(&count.to_be_bytes());
            for param in params {
                let oid = if let Param::Binary { oid, .. } = param { *oid } else { 0 };
                out.extend_from_slice(&oid.to_be_bytes());
            }
        })?;
        self.transport.frame(b'B', |out| {
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&count.to_be_bytes());
            for param in params {
                let format = i16::from(matches!(param, Param::Binary { .. }));
                out.extend_from_slice(&format.to_be_bytes());
            }
            out.extend_from_slice(&count.to_be_bytes());
            for param in params {
                let bytes = match param {
                    Param::Null => {
                        out.extend_from_slice(&(-1_i32).to_be_bytes());
                        continue;
                    }
                    Param::Text(text) => text.as_bytes(),
                    Param::Binary { bytes, .. } => bytes,
                };
                out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            // All results as text.
            out.extend_from_slice(&0_i16.to_be_bytes());
        })?;
        self.transport.frame(b'D', |out| out.extend_from_slice(b"P\0"))?;
        self.transport.frame(b'E', |out| out.extend_from_slice(&[0, 0, 0, 0, 0]))?;
        self.transport.frame(b'S', |_| {})?;
        self.transport.flush()?;
        self.answer()
    }

    /// Runs one statement with parameters; gives the number of rows it touched.
    pub fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Error> {
        Ok(self.extended(sql, params)?.affected)
    }

    /// Runs one statement with parameters; gives its rows as text.
    pub fn query_params(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        Ok(self.extended(sql, params)?.rows)
    }

    /// Prepares the unnamed statement, whose parameters get their types from where they stand. Any other statement ends it.
    pub(crate) fn prepare_unnamed(&mut self, sql: &str) -> Result<(), Error> {
        let sql = no_nul(sql)?;
        self.transport.frame(b'P', |out| {
            out.push(0);
            out.extend_from_slice(sql.as_bytes());
            out.extend_from_slice(&[0, 0, 0]);
        })?;
        self.transport.frame(b'S', |_| {})?;
        self.transport.flush()?;
        self.answer().map(|_| ())
    }

    /// Runs the unnamed statement with binary parameters, each with its length before it; gives the number of rows it touched.
    pub(crate) fn execute_unnamed(&mut self, count: usize, fields: &[u8]) -> Result<u64, Error> {
        let count = i16::try_from(count)
            .map_err(|_| ConnectorError::internal("parameter_count", "a statement has more than 32,767 parameters"))?;
        self.transport.frame(b'B', |out| {
            // Portal and statement without a name; one format for all parameters: binary.
            out.extend_from_slice(&[0, 0, 0, 1, 0, 1]);
            out.extend_from_slice(&count.to_be_bytes());
            out.extend_from_slice(fields);
            out.extend_from_slice(&0_i16.to_be_bytes());
        })?;
        self.transport.frame(b'E', |out| out.extend_from_slice(&[0, 0, 0, 0, 0]))?;
        self.transport.frame(b'S', |_| {})?;
        self.transport.flush()?;
        Ok(self.answer()?.affected)
    }

    /// The columns a statement would give, without running it.
    pub fn describe(&mut self, sql: &str) -> Result<Vec<Column>, Error> {
        let sql = no_nul(sql)?;
        self.transport.frame(b'P', |out| {
            out.push(0);
            out.extend_from_slice(sql.as_bytes());
            out.extend_from_slice(&[0, 0, 0]);
        })?;
        self.transport.frame(b'D', |out| out.extend_from_slice(b"S\0"))?;
        self.transport.frame(b'S', |_| {})?;
        self.transport.flush()?;
        Ok(self.answer()?.columns)
    }

    /// Starts `COPY … TO STDOUT`. CopyData of more than `max_message` bytes is refused before it is read.
    pub fn copy_out(&mut self, sql: &str, max_message: usize) -> Result<CopyOut<'_>, Error> {
        CopyOut::start(self, sql, max_message)
    }

    /// Starts `COPY … FROM STDIN`.
    pub fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>, Error> {
        CopyIn::start(self, sql)
    }

    /// Starts to insert rows of so many columns; `into` is the table and the columns in brackets, as SQL.
    pub fn insert_in(&mut self, into: &str, columns: usize) -> Result<InsertIn<'_>, Error> {
        InsertIn::start(self, into, columns)
    }

    /// Says goodbye.
    pub fn close(mut self) {
        // The server notices a closed socket as well; there is nobody left to tell of a failure here.
        let _ = self.transport.frame(b'X', |_| {});
        let _ = self.transport.flush();
        let _ = self.transport.stream().shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbered_as_the_server_does() {
        for (text, number) in
            [("15.18 (Debian 15.18-1)", 150_018), ("9.6.24", 90_624), ("17beta1", 170_000), ("", 0), ("99999999999", 99_990_000)]
        {
            assert_eq!(version_number(text), number);
        }
    }

    #[test]
    fn malformed_rows_are_errors() {
        for body in [&b""[..], b"\0", b"\0\x01", b"\0\x01\0\0\0\x05abc", b"\x7f\xff\0\0\0\0", b"\0\x01\0\0\0\x01\xff"] {
            assert!(data_row(body).is_err());
            assert!(describe_columns(body).is_err());
        }
        assert_eq!(data_row(b"\0\x02\xff\xff\xff\xff\0\0\0\x01a").unwrap().get(1), Some("a"));
    }

    #[test]
    fn counts_are_read_off_command_tags() {
        for (tag, count) in [(&b"INSERT 0 5\0"[..], 5), (b"COPY 7\0", 7), (b"BEGIN\0", 0)] {
            assert_eq!(tag_count(tag).unwrap(), count);
        }
    }
}
