//! TCP through the host, which checks every connection and encrypts it.

use crate::{ConnectorError, ErrorCategory};
use std::io;
use std::time::Duration;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
use native::Backend;
#[cfg(target_family = "wasm")]
use wasm::Backend;

#[cfg(feature = "tokio")]
pub use self::tokio::block_on;

/// Why a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetCode {
    /// Manifest, operator or pipeline does not allow it.
    Denied,
    /// The name has no address.
    NameNotFound,
    /// Nobody listens.
    Refused,
    /// The deadline passed.
    TimedOut,
    /// The peer cut the connection.
    Reset,
    /// The handshake failed.
    Tls,
    /// The stream is closed.
    Closed,
    /// A limit of the host.
    Limit,
    /// Anything else.
    Other,
}

/// A failure of the network, as the host tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetError {
    /// Its kind.
    pub code: NetCode,
    /// In words.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl std::fmt::Display for NetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for NetError {}

impl From<NetError> for io::Error {
    fn from(error: NetError) -> Self {
        let kind = match error.code {
            NetCode::Denied => io::ErrorKind::PermissionDenied,
            NetCode::NameNotFound => io::ErrorKind::NotFound,
            NetCode::Refused => io::ErrorKind::ConnectionRefused,
            NetCode::TimedOut => io::ErrorKind::TimedOut,
            NetCode::Reset => io::ErrorKind::ConnectionReset,
            NetCode::Tls => io::ErrorKind::InvalidData,
            NetCode::Closed => io::ErrorKind::BrokenPipe,
            NetCode::Limit | NetCode::Other => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl From<NetError> for ConnectorError {
    fn from(error: NetError) -> Self {
        let (category, code) = match error.code {
            NetCode::Denied => (ErrorCategory::Permission, "network_denied"),
            NetCode::NameNotFound => (ErrorCategory::Config, "unknown_host"),
            NetCode::Refused => (ErrorCategory::TransientNetwork, "connection_refused"),
            NetCode::TimedOut => (ErrorCategory::TransientNetwork, "timed_out"),
            NetCode::Reset => (ErrorCategory::TransientNetwork, "connection_reset"),
            NetCode::Tls => (ErrorCategory::Config, "tls"),
            NetCode::Closed => (ErrorCategory::TransientNetwork, "connection_closed"),
            NetCode::Limit => (ErrorCategory::Internal, "network_limit"),
            NetCode::Other => (ErrorCategory::TransientNetwork, "network"),
        };
        let mut made = Self::new(category, code, error.message);
        made.hint = error.hint;
        made
    }
}

/// How far the server's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVerify {
    /// Not at all: encryption without identity. Where the pipeline names a CA, the host checks the chain all the same.
    None,
    /// Its chain.
    Ca,
    /// Its chain and its name.
    Full,
}

/// What the handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3`, …
    pub protocol: String,
    /// The protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// `tls-server-end-point` of RFC 5929.
    pub endpoint_hash: Option<Vec<u8>>,
}

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// At least one byte.
    Data(Vec<u8>),
    /// Nothing before the deadline.
    WouldBlock,
    /// The peer will send no more.
    Eof,
}

/// A connection. Blocking `Read + Write` with a deadline for each call; with the feature `tokio` also
/// `AsyncRead + AsyncWrite` under `block_on`.
pub struct HostTcpStream {
    backend: Backend,
    timeout: Duration,
    #[cfg(feature = "tokio")]
    pending: self::tokio::Pending,
}

impl HostTcpStream {
    /// Reaches `host`, which must be allowed by manifest, operator and pipeline.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> Result<Self, NetError> {
        Ok(Self {
            backend: Backend::connect(host, port, timeout)?,
            timeout: Duration::from_secs(60),
            #[cfg(feature = "tokio")]
            pending: self::tokio::Pending::default(),
        })
    }

    /// The deadline of each `Read` and `Write` call; 60 seconds at first.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Up to `max` bytes: as soon as `min` are there, or some have been there for a moment, or at the deadline. A large
    /// `min` saves calls while a COPY streams and costs latency in request and response.
    pub fn read_chunk(&mut self, max: u32, min: u32, timeout: Duration) -> Result<ReadOutcome, NetError> {
        self.backend.read(max, min, timeout)
    }

    /// Sends all of it.
    pub fn write_all_bytes(&mut self, mut bytes: &[u8]) -> Result<(), NetError> {
        while !bytes.is_empty() {
            let taken = self.backend.write(bytes, self.timeout)?;
            if taken == 0 {
                return Err(NetError {
                    code: NetCode::TimedOut,
                    message: format!("the peer took no bytes for {} seconds", self.timeout.as_secs()),
                    hint: None,
                });
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Encrypts from here on, in the host. Refused while received bytes have not been read.
    pub fn start_tls(&mut self, server_name: &str, verify: TlsVerify, alpn: &[&str]) -> Result<TlsInfo, NetError> {
        // Bytes an async driver has asked for and not taken would be believed to have come encrypted.
        #[cfg(feature = "tokio")]
        if self.pending.has_unread() {
            return Err(NetError { code: NetCode::Tls, message: "the peer sent bytes in the clear before TLS".into(), hint: None });
        }
        self.backend.start_tls(server_name, verify, alpn, self.timeout)
    }

    /// Closes the writing side.
    pub fn shutdown(&mut self) -> Result<(), NetError> {
        self.backend.shutdown()
    }
}

impl io::Read for HostTcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        match self.read_chunk(max, 1, self.timeout)? {
            ReadOutcome::Data(bytes) => {
                let Some(room) = buffer.get_mut(..bytes.len()) else {
                    return Err(io::Error::other("the host gave more bytes than asked for"));
                };
                room.copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            ReadOutcome::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            ReadOutcome::Eof => Ok(0),
        }
    }
}

impl io::Write for HostTcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.backend.write(bytes, self.timeout)? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread::JoinHandle;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// A stream to a server that does `serve` with its end of the connection.
    fn to<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (HostTcpStream, JoinHandle<T>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let mut stream = HostTcpStream::connect("127.0.0.1", port, PATIENCE).unwrap();
        stream.set_timeout(PATIENCE);
        (stream, server)
    }

    #[test]
    fn bytes_go_out_and_come_back_through_read_and_write() {
        let (mut stream, server) = to(|mut peer| {
            let mut seen = Vec::new();
            peer.read_to_end(&mut seen).unwrap();
            peer.write_all(&seen).unwrap();
            seen.len()
        });
        // More than the system's buffers take at once, and nothing that repeats within one.
        let sent: Vec<u8> = (0..6_000_000_u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(stream.write(&[]).unwrap(), 0);
        stream.write_all(&sent).unwrap();
        stream.flush().unwrap();
        stream.shutdown().unwrap();
        let mut first = [0; 3];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first, sent[..3]);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest == sent[3..], "{} bytes came back", rest.len());
        assert_eq!(stream.read(&mut first).unwrap(), 0, "the end is the end");
        assert_eq!(server.join().unwrap(), sent.len());
    }

    #[test]
    fn a_peer_that_does_nothing_is_a_timeout_and_not_an_end() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (mut stream, server) = to(move |peer| {
            let _ = held.recv();
            peer.shutdown(Shutdown::Both).unwrap();
        });
        stream.set_timeout(Duration::from_millis(20));
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Nobody reads: once the buffers are full, no byte is taken any more.
        let full = std::iter::repeat_with(|| stream.write(&[7; 1 << 16])).take(10_000).find_map(Result::err);
        assert_eq!(full.expect("the buffers end somewhere").kind(), io::ErrorKind::TimedOut);
        drop(release);
        server.join().unwrap();
    }

    #[test]
    fn failures_keep_their_kind() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = HostTcpStream::connect("127.0.0.1", free, PATIENCE).err().expect("nobody listens");
        assert_eq!(error.code, NetCode::Refused);
        for (code, kind) in [
            (NetCode::Denied, io::ErrorKind::PermissionDenied),
            (NetCode::NameNotFound, io::ErrorKind::NotFound),
            (NetCode::Refused, io::ErrorKind::ConnectionRefused),
            (NetCode::TimedOut, io::ErrorKind::TimedOut),
            (NetCode::Reset, io::ErrorKind::ConnectionReset),
            (NetCode::Tls, io::ErrorKind::InvalidData),
            (NetCode::Closed, io::ErrorKind::BrokenPipe),
            (NetCode::Limit, io::ErrorKind::Other),
            (NetCode::Other, io::ErrorKind::Other),
        ] {
            let error = io::Error::from(NetError { code, message: "in words".into(), hint: None });
            assert_eq!((error.kind(), error.to_string().as_str()), (kind, "in words"), "{code:?}");
        }
    }
}
