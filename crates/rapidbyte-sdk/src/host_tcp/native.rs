//! Plain sockets of the machine, for tests and native builds of connectors. TLS is the host's and is not offered here.

use super::{NetCode, NetError, ReadOutcome, TlsInfo, TlsVerify};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

pub(super) struct Backend {
    stream: TcpStream,
}

fn error(error: io::Error) -> NetError {
    let code = match error.kind() {
        io::ErrorKind::ConnectionRefused => NetCode::Refused,
        io::ErrorKind::TimedOut => NetCode::TimedOut,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => NetCode::Reset,
        io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => NetCode::Closed,
        _ => NetCode::Other,
    };
    NetError { code, message: error.to_string(), hint: None }
}

/// A zero deadline means "now", which the machine's sockets spell as the shortest one.
fn deadline(timeout: Duration) -> Option<Duration> {
    Some(timeout.max(Duration::from_millis(1)))
}

impl Backend {
    pub(super) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, NetError> {
        let not_found = || NetError { code: NetCode::NameNotFound, message: format!("host `{host}` has no address"), hint: None };
        let addresses = (host, port).to_socket_addrs().map_err(|_| not_found())?;
        let mut last = not_found();
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(error)?;
                    return Ok(Self { stream });
                }
                Err(failed) => last = error(failed),
            }
        }
        Err(last)
    }

    pub(super) fn read(&mut self, max: u32, _min: u32, timeout: Duration) -> Result<ReadOutcome, NetError> {
        self.stream.set_read_timeout(deadline(timeout)).map_err(error)?;
        let mut bytes = vec![0; (max as usize).min(4 << 20)];
        match self.stream.read(&mut bytes) {
            Ok(0) => Ok(ReadOutcome::Eof),
            Ok(count) => {
                bytes.truncate(count);
                Ok(ReadOutcome::Data(bytes))
            }
            Err(failed) if matches!(failed.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                Ok(ReadOutcome::WouldBlock)
            }
            Err(failed) => Err(error(failed)),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<usize, NetError> {
        self.stream.set_write_timeout(deadline(timeout)).map_err(error)?;
        match self.stream.write(bytes) {
            Ok(count) => Ok(count),
            Err(failed) if matches!(failed.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(0),
            Err(failed) => Err(error(failed)),
        }
    }

    pub(super) fn start_tls(&mut self, _: &str, _: TlsVerify, _: &[&str], _: Duration) -> Result<TlsInfo, NetError> {
        Err(NetError {
            code: NetCode::Tls,
            message: "a native build of a connector has no TLS".into(),
            hint: Some("set `sslmode: disable`".into()),
        })
    }

    pub(super) fn shutdown(&mut self) -> Result<(), NetError> {
        self.stream.shutdown(Shutdown::Write).map_err(error)
    }

    #[cfg(feature = "tokio")]
    #[expect(clippy::unused_self, reason = "the same shape as the host's sockets")]
    pub(super) fn subscribe(&self, _read: bool) -> Pollable {
        Pollable
    }
}

/// Stands for a wish to read or write; a plain socket is asked again a moment later.
#[cfg(feature = "tokio")]
pub(super) struct Pollable;

/// Waits a moment; any of them may be ready then.
#[cfg(feature = "tokio")]
pub(super) fn wait_any(pollables: &[&Pollable]) -> Vec<u32> {
    std::thread::sleep(Duration::from_millis(1));
    (0..pollables.len() as u32).collect()
}
