//! Sockets of the host.

use super::{NetCode, NetError, ReadOutcome, TlsInfo, TlsVerify};
use crate::bindings::imports::rapidbyte::connector::net as wit;
use std::time::Duration;

pub(super) struct Backend {
    stream: wit::TcpStream,
}

fn millis(timeout: Duration) -> u32 {
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)
}

fn error(error: wit::NetError) -> NetError {
    let wit::NetError { code, message, hint } = error;
    let code = match code {
        wit::NetCode::Denied => NetCode::Denied,
        wit::NetCode::NameNotFound => NetCode::NameNotFound,
        wit::NetCode::Refused => NetCode::Refused,
        wit::NetCode::TimedOut => NetCode::TimedOut,
        wit::NetCode::Reset => NetCode::Reset,
        wit::NetCode::Tls => NetCode::Tls,
        wit::NetCode::Closed => NetCode::Closed,
        wit::NetCode::Limit => NetCode::Limit,
        wit::NetCode::Other => NetCode::Other,
    };
    NetError { code, message, hint }
}

impl Backend {
    pub(super) fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, NetError> {
        Ok(Self { stream: wit::TcpStream::connect(host, port, millis(timeout)).map_err(error)? })
    }

    pub(super) fn read(&mut self, max: u32, min: u32, timeout: Duration) -> Result<ReadOutcome, NetError> {
        Ok(match self.stream.read(max, min, millis(timeout)).map_err(error)? {
            wit::ReadOutcome::Data(bytes) => ReadOutcome::Data(bytes),
            wit::ReadOutcome::WouldBlock => ReadOutcome::WouldBlock,
            wit::ReadOutcome::Eof => ReadOutcome::Eof,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<usize, NetError> {
        let taken = self.stream.write(bytes, millis(timeout)).map_err(error)?;
        Ok(usize::try_from(taken).unwrap_or(usize::MAX))
    }

    pub(super) fn start_tls(
        &mut self,
        server_name: &str,
        verify: TlsVerify,
        alpn: &[&str],
        timeout: Duration,
    ) -> Result<TlsInfo, NetError> {
        let options = wit::TlsOptions {
            server_name: server_name.to_owned(),
            verify: match verify {
                TlsVerify::None => wit::TlsVerify::None,
                TlsVerify::Ca => wit::TlsVerify::Ca,
                TlsVerify::Full => wit::TlsVerify::Full,
            },
            alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
        };
        let wit::TlsInfo { protocol, alpn, endpoint_hash } = self.stream.start_tls(&options, millis(timeout)).map_err(error)?;
        Ok(TlsInfo { protocol, alpn, endpoint_hash })
    }

    pub(super) fn shutdown(&mut self) -> Result<(), NetError> {
        self.stream.shutdown().map_err(error)
    }

    #[cfg(feature = "tokio")]
    pub(super) fn subscribe(&self, read: bool) -> Pollable {
        if read { self.stream.subscribe_read() } else { self.stream.subscribe_write() }
    }
}

#[cfg(feature = "tokio")]
pub(super) use crate::bindings::imports::wasi::io::poll::Pollable;

/// Suspends the guest until one is ready; says which are.
#[cfg(feature = "tokio")]
pub(super) fn wait_any(pollables: &[&Pollable]) -> Vec<u32> {
    crate::bindings::imports::wasi::io::poll::poll(pollables)
}
