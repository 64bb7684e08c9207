//! Reaching the server, encryption and login.

use crate::config::{ConnectConfig, SslMode};
use crate::error::{Error, ServerError};
use crate::scram::{Binding, Broken, Exchange, SCRAM, SCRAM_PLUS};
use crate::transport::{Body, Fault, Transport, log_notice};
use postgres_protocol::authentication::md5_hash;
use rapidbyte_sdk::host_tcp::{HostTcpStream, NetCode, NetError, ReadOutcome, TlsInfo, TlsVerify};
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use std::collections::BTreeMap;
use std::time::Duration;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const PROTOCOL_3_0: i32 = 196_608;
/// ParameterStatus messages kept; a server sends about 15.
const MAX_PARAMETERS: usize = 128;

/// A session that is ready for its first query.
pub(crate) struct Session {
    pub(crate) transport: Transport,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) tls: Option<TlsInfo>,
}

pub(crate) fn wire(fault: Fault) -> Error {
    match fault {
        Fault::Wire(error) => error,
        Fault::TooLong(_) => Error::protocol("copy data outside a COPY"),
    }
}

/// Keeps a ParameterStatus.
pub(crate) fn keep_parameter(parameters: &mut BTreeMap<String, String>, body: &[u8]) -> Result<(), Error> {
    let mut body = Body::new(body);
    let (name, value) = (body.text()?, body.text()?);
    if parameters.len() < MAX_PARAMETERS || parameters.contains_key(name) {
        parameters.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

fn auth(code: &str, message: impl Into<String>, hint: &str) -> Error {
    ConnectorError::new(ErrorCategory::Auth, code, message).with_hint(hint).into()
}

fn explain_connect(config: &ConnectConfig, mut error: NetError) -> Error {
    let place = format!("{}:{}", config.host, config.port);
    let hint = match error.code {
        NetCode::NameNotFound => "check the spelling of `host`",
        NetCode::Refused => "check `host` and `port`, and that the server runs and listens there",
        NetCode::TimedOut => "check `host`, firewalls in between, and `connect_timeout_seconds`",
        _ => "check `host` and `port`",
    };
    error.hint = error.hint.or_else(|| Some(hint.to_owned()));
    error.message = format!("cannot connect to `{place}`: {}", error.message);
    let mut made = ConnectorError::from(error);
    if made.code == "timed_out" {
        "connect_timed_out".clone_into(&mut made.code);
    }
    made.into()
}

/// Asks for encryption where the mode wants it.
fn start_tls(stream: &mut HostTcpStream, config: &ConnectConfig, timeout: Duration) -> Result<Option<TlsInfo>, Error> {
    let verify = match config.sslmode {
        SslMode::Disable => return Ok(None),
        SslMode::Prefer | SslMode::Require => TlsVerify::None,
        SslMode::VerifyCa => TlsVerify::Ca,
        SslMode::VerifyFull => TlsVerify::Full,
    };
    let during = "asking for encryption";
    stream.write_all_bytes(&SSL_REQUEST).map_err(|error| Error::Network { error, during })?;
    // Exactly one byte: whatever followed it in the clear could come from anybody, and the host refuses it.
    let answer = match stream.read_chunk(1, 1, timeout).map_err(|error| Error::Network { error, during })? {
        ReadOutcome::Data(bytes) => bytes.first().copied(),
        ReadOutcome::WouldBlock => {
            let message = format!("the server was silent for {} seconds", timeout.as_secs());
            let hint = "check that `host` and `port` name a PostgreSQL server, or raise `connect_timeout_seconds`";
            let error = NetError { code: NetCode::TimedOut, message, hint: Some(hint.into()) };
            return Err(Error::Network { error, during });
        }
        ReadOutcome::Eof => {
            let error = NetError { code: NetCode::Closed, message: "the server closed the connection".into(), hint: None };
            return Err(Error::Network { error, during });
        }
    };
    match answer {
        Some(b'S') => match stream.start_tls(&config.host, verify, &[]) {
            Ok(info) => Ok(Some(info)),
            Err(error) => Err(Error::Network { error, during: "starting TLS" }),
        },
        Some(b'N') if config.sslmode == SslMode::Prefer => Ok(None),
        Some(b'N') => Err(ConnectorError::config("tls_not_offered", "the server does not offer TLS")
            .with_hint("switch `ssl` on at the server, or set `sslmode: disable` where the network is trusted")
            .into()),
        _ => Err(Error::protocol("the answer to SSLRequest is neither `S` nor `N`")),
    }
}

/// With `log`, the session takes commands about the server's log too.
pub(crate) fn connect(config: &ConnectConfig, log: bool) -> Result<Session, Error> {
    let timeout = Duration::from_secs(config.connect_timeout_seconds);
    let mut stream = HostTcpStream::connect(&config.host, config.port, timeout).map_err(|error| explain_connect(config, error))?;
    stream.set_timeout(timeout);
    let tls = start_tls(&mut stream, config, timeout)?;
    let mut transport = Transport::new(stream, timeout);

    let mut startup = PROTOCOL_3_0.to_be_bytes().to_vec();
    let parameters = [
        ("user", config.user.as_str()),
        ("database", config.database.as_str()),
        ("client_encoding", "UTF8"),
        ("application_name", config.application_name.as_str()),
    ];
    let replication = log.then_some(("replication", "database"));
    for (name, value) in parameters.into_iter().chain(replication) {
        for text in [name, value] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
    }
    startup.push(0);
    let length = i32::try_from(startup.len() + 4).map_err(|_| Error::protocol("the startup message is too large"))?;
    transport.raw(&length.to_be_bytes());
    transport.raw(&startup);
    transport.flush()?;

    let refused = |error| match error {
        Error::Server(mut server) => {
            server.during = Some(format!("cannot log in to `{}:{}`", config.host, config.port));
            Error::Server(server)
        }
        other => other,
    };
    log_in(&mut transport, config, tls.as_ref()).map_err(refused)?;
    let parameters = until_ready(&mut transport).map_err(refused)?;
    Ok(Session { transport, parameters, tls })
}

/// What follows a login: the server's parameters, then its word that it is ready.
fn until_ready(transport: &mut Transport) -> Result<BTreeMap<String, String>, Error> {
    let mut parameters = BTreeMap::new();
    loop {
        let (tag, body) = transport.message(0).map_err(wire)?;
        match tag {
            b'S' => keep_parameter(&mut parameters, body)?,
            b'N' => log_notice(body),
            // The key for CancelRequest: a cancelled guest closes its connection instead.
            b'K' => {}
            b'Z' => return Ok(parameters),
            b'E' => return Err(Error::Server(Box::new(ServerError::parse(body)))),
            other => return Err(unexpected(other)),
        }
    }
}

pub(crate) fn unexpected(tag: u8) -> Error {
    Error::protocol(format!("unexpected message of type {:?}", tag as char))
}

/// The next authentication request: its kind and data.
fn request(transport: &mut Transport) -> Result<(i32, Vec<u8>), Error> {
    loop {
        let (tag, body) = transport.message(0).map_err(wire)?;
        match tag {
            b'R' => {
                let mut body = Body::new(body);
                let kind = body.i32()?;
                return Ok((kind, body.rest().to_vec()));
            }
            b'E' => return Err(Error::Server(Box::new(ServerError::parse(body)))),
            b'N' => log_notice(body),
            // A server that only speaks older minor versions says so; we ask for none.
            b'v' => return Err(Error::protocol("the server does not speak protocol 3.0")),
            other => return Err(unexpected(other)),
        }
    }
}

fn log_in(transport: &mut Transport, config: &ConnectConfig, tls: Option<&TlsInfo>) -> Result<(), Error> {
    let password = || {
        config.password.as_ref().map(|secret| secret.reveal().as_bytes()).ok_or_else(|| {
            auth("password_missing", format!("the server asks for the password of `{}`", config.user), "set `password`")
        })
    };
    let (kind, data) = request(transport)?;
    match kind {
        0 => return Ok(()),
        3 => {
            if tls.is_none() {
                return Err(auth(
                    "cleartext_password",
                    "the server asks for the password in the clear over an unencrypted connection",
                    "set `sslmode: require`, or use scram-sha-256 in the server's pg_hba.conf",
                ));
            }
            let password = password()?;
            transport.frame(b'p', |out| {
                out.extend_from_slice(password);
                out.push(0);
            })?;
        }
        5 => {
            let salt: [u8; 4] = data.try_into().map_err(|_| Error::protocol("a salt without four bytes"))?;
            let hash = md5_hash(config.user.as_bytes(), password()?, salt);
            transport.frame(b'p', |out| {
                out.extend_from_slice(hash.as_bytes());
                out.push(0);
            })?;
        }
        10 => return scram(transport, password()?, &data, tls),
        _ => {
            return Err(auth(
                "auth_method",
                format!("the server asks for authentication method {kind}, which is not supported"),
                "use scram-sha-256 in the server's pg_hba.conf for this user",
            ));
        }
    }
    transport.flush()?;
    match request(transport)?.0 {
        0 => Ok(()),
        _ => Err(Error::protocol("a second authentication request")),
    }
}

fn scram(transport: &mut Transport, password: &[u8], offered: &[u8], tls: Option<&TlsInfo>) -> Result<(), Error> {
    let offers = |mechanism: &str| offered.split(|byte| *byte == 0).any(|name| name == mechanism.as_bytes());
    let binding = tls.and_then(|tls| tls.endpoint_hash.clone());
    let (binding, mechanism) = match binding {
        Some(hash) if offers(SCRAM_PLUS) => (Binding::EndPoint(hash), SCRAM_PLUS),
        Some(_) if offers(SCRAM) => (Binding::Unrequested, SCRAM),
        None if offers(SCRAM) => (Binding::Unsupported, SCRAM),
        _ => {
            return Err(auth(
                "auth_method",
                "the server offers no SASL mechanism that is supported",
                "use scram-sha-256 in the server's pg_hba.conf for this user",
            ));
        }
    };
    let broken = |Broken(why)| {
        auth("scram", format!("the SCRAM exchange failed: {why}"), "check `password`; a proxy in between may break channel binding")
    };
    let exchange = Exchange::new(binding);
    let first = exchange.first();
    transport.frame(b'p', |out| {
        out.extend_from_slice(mechanism.as_bytes());
        out.push(0);
        out.extend_from_slice(&(first.len() as i32).to_be_bytes());
        out.extend_from_slice(first.as_bytes());
    })?;
    transport.flush()?;

    let (11, challenge) = request(transport)? else { return Err(Error::protocol("expected a SASL challenge")) };
    let (answer, expected) = exchange.answer(password, &challenge).map_err(broken)?;
    transport.frame(b'p', |out| out.extend_from_slice(answer.as_bytes()))?;
    transport.flush()?;

    // The server proves that it knows the password too; a login without that proof is refused.
    let (12, proof) = request(transport)? else { return Err(Error::protocol("expected the end of the SASL exchange")) };
    expected.check(&proof).map_err(broken)?;
    match request(transport)?.0 {
        0 => Ok(()),
        _ => Err(Error::protocol("an authentication request after the SASL exchange")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_bounded() {
        let mut kept = BTreeMap::new();
        for index in 0..1_000 {
            keep_parameter(&mut kept, format!("name{index}\0value\0").as_bytes()).unwrap();
        }
        assert_eq!(kept.len(), MAX_PARAMETERS);
        assert!(keep_parameter(&mut kept, b"name").is_err());
    }
}
