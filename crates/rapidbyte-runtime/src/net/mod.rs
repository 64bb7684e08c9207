//! The one way out of the sandbox: TCP, checked by name and address, encrypted by the host.

mod acl;
mod address;
mod dial;
mod endpoint;
mod lowat;
mod preamble;
mod stream;
mod tls;
mod wire;

pub use acl::{HostPattern, HostPatternError, NetworkGrant};
pub use dial::{Resolve, SystemResolver};
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub use stream::TcpStream;

pub(crate) use dial::NetState;
pub(crate) use stream::{ReadInterest, WriteInterest};
pub(crate) use tls::TlsConfigs;
#[cfg(feature = "crash-points")]
pub(crate) use wire::Tamper;

use crate::wit::rapidbyte::connector::net::{NetCode, NetError};

pub(crate) fn net_error(code: NetCode, message: impl Into<String>) -> NetError {
    NetError { code, message: message.into(), hint: None }
}

pub(crate) fn io_error(doing: &str, error: &std::io::Error) -> NetError {
    use std::io::ErrorKind;
    let code = match error.kind() {
        ErrorKind::ConnectionRefused => NetCode::Refused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => NetCode::Reset,
        ErrorKind::BrokenPipe | ErrorKind::NotConnected | ErrorKind::UnexpectedEof => NetCode::Closed,
        ErrorKind::TimedOut => NetCode::TimedOut,
        // rustls speaks through `InvalidData`: bytes of an encrypted connection that were changed on their way. The handshake
        // has words of its own.
        ErrorKind::InvalidData => NetCode::Reset,
        _ => NetCode::Other,
    };
    net_error(code, format!("{doing}: {error}"))
}
