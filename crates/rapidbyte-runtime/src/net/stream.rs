//! One connection: reads with a minimum, writes with a deadline, the step to TLS.

use super::dial::deadline;
use super::endpoint::endpoint_hash;
use super::preamble::is_tls_request;
use super::tls::{TlsConfigs, Verify};
use super::wire::Wire;
use super::{io_error, lowat, net_error};
use crate::wit::rapidbyte::connector::net::{NetCode, NetError, ReadOutcome, TlsInfo, TlsOptions, TlsVerify};
use rustls_pki_types::ServerName;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

/// The most one `read` gives.
const MAX_READ: u32 = 4 << 20;
/// The largest minimum handed to the kernel: more than the usual receive buffer would never be reached.
const MAX_LOWAT: u32 = 1 << 20;
/// How long a read with a minimum waits for more (measured: facts on read coalescing).
const COALESCE: Duration = Duration::from_millis(2);
/// What a readiness test may take off the wire ahead of the guest.
const PEEK: usize = 16 << 10;
const MAX_ALPN: usize = 8;

enum Io {
    Plain(Wire),
    Tls(Box<TlsStream<Wire>>),
    /// The handshake failed, or is under way.
    Gone,
}

/// The socket and what has been read ahead of the guest.
pub(crate) struct Connection {
    io: Io,
    ahead: Vec<u8>,
    eof: bool,
    /// Whether anything may leave in the clear.
    plaintext_allowed: bool,
    request_sent: bool,
    lowat: u32,
    _place: OwnedSemaphorePermit,
}

/// The host's side of the resource `tcp-stream`.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct TcpStream {
    connection: Arc<Mutex<Connection>>,
    tls_allowed: bool,
    tls: Arc<TlsConfigs>,
}

impl Connection {
    pub(super) fn new(stream: Wire, plaintext_allowed: bool, place: OwnedSemaphorePermit) -> Self {
        Self {
            io: Io::Plain(stream),
            ahead: Vec::new(),
            eof: false,
            plaintext_allowed,
            request_sent: false,
            lowat: 1,
            _place: place,
        }
    }

    /// Reads into the free part of `out`, at most up to `max` bytes in all. 0 = end.
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>, max: usize) -> Poll<io::Result<usize>> {
        let want = max.saturating_sub(out.len());
        if out.spare_capacity_mut().len() < want.min(PEEK) {
            // Doubling, so that a large `max` costs memory only where the bytes are there.
            out.reserve(want.min(out.len().max(64 << 10)));
        }
        let spare = out.spare_capacity_mut();
        let room = spare.len().min(want);
        let mut buffer = ReadBuf::uninit(&mut spare[..room]);
        match &mut self.io {
            Io::Plain(stream) => ready!(Pin::new(stream).poll_read(cx, &mut buffer))?,
            Io::Tls(stream) => {
                // What an earlier write left in the session must go out, or the answer never comes.
                if stream.get_ref().1.wants_write() {
                    let _ = Pin::new(&mut *stream).poll_flush(cx)?;
                }
                match ready!(Pin::new(stream).poll_read(cx, &mut buffer)) {
                    Ok(()) => {}
                    // A peer that hangs up without closing TLS first. Truncation is for the protocol above to see.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Io::Gone => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
        let filled = buffer.filled().len();
        // SAFETY: `ReadBuf` says that the first `filled` bytes of the spare capacity are initialised.
        unsafe { out.set_len(out.len() + filled) };
        Poll::Ready(Ok(filled))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => {
                let taken = ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
                let _ = Pin::new(stream).poll_flush(cx)?;
                Poll::Ready(Ok(taken))
            }
            Io::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(_) | Io::Gone => Poll::Ready(Ok(())),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Gone => Poll::Ready(Ok(())),
        }
    }

    /// Ready when `read` would have something to say. Takes a little off the wire, for with TLS nothing else tells.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.eof || !self.ahead.is_empty() {
            return Poll::Ready(());
        }
        // A minimum of an earlier read must not delay this.
        self.set_lowat(1);
        let mut ahead = std::mem::take(&mut self.ahead);
        let outcome = self.poll_read(cx, &mut ahead, PEEK);
        self.ahead = ahead;
        match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => {
                self.eof = true;
                Poll::Ready(())
            }
            // An error shows again at the next read.
            Poll::Ready(Ok(_) | Err(_)) => Poll::Ready(()),
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = match &mut self.io {
            Io::Plain(stream) => stream.poll_write_ready(cx),
            Io::Tls(stream) => {
                let flushed = Pin::new(&mut *stream).poll_flush(cx);
                match flushed {
                    Poll::Ready(Ok(())) => stream.get_ref().0.poll_write_ready(cx),
                    other => other,
                }
            }
            Io::Gone => Poll::Ready(Ok(())),
        };
        outcome.map(|_| ())
    }

    #[cfg(feature = "crash-points")]
    fn tamper(&self, act: crate::fault::Act) {
        match &self.io {
            Io::Plain(stream) => stream.tamper().set(act),
            Io::Tls(stream) => stream.get_ref().0.tamper().set(act),
            Io::Gone => {}
        }
    }

    fn is_plain(&self) -> bool {
        matches!(self.io, Io::Plain(_))
    }

    fn set_lowat(&mut self, bytes: u32) {
        if let Io::Plain(stream) = &self.io
            && self.lowat != bytes
            && lowat::set(stream, bytes).is_ok()
        {
            self.lowat = bytes;
        }
    }
}

impl TcpStream {
    pub(crate) fn new(connection: Connection, tls_allowed: bool, tls: Arc<TlsConfigs>) -> Self {
        Self { connection: Arc::new(Mutex::new(connection)), tls_allowed, tls }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // No critical section leaves the connection half changed.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is there, then waits once. `None` = the wait ended first.
    async fn read_more(&self, out: &mut Vec<u8>, max: usize, until: Instant) -> io::Result<Option<usize>> {
        let read = poll_fn(|cx| {
            let mut connection = self.lock();
            let mut total = 0;
            loop {
                match connection.poll_read(cx, out, max) {
                    Poll::Ready(Ok(0)) if out.len() < max => {
                        connection.eof = true;
                        return Poll::Ready(Ok(total));
                    }
                    Poll::Ready(Ok(count)) => {
                        total += count;
                        if out.len() >= max {
                            return Poll::Ready(Ok(total));
                        }
                    }
                    // Bytes already read are delivered; the error comes again.
                    Poll::Ready(Err(_)) if total > 0 => return Poll::Ready(Ok(total)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if total > 0 => return Poll::Ready(Ok(total)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        match tokio::time::timeout_at(until, read).await {
            Ok(outcome) => outcome.map(Some),
            Err(_) => Ok(None),
        }
    }

    pub(crate) async fn read(&self, max: u32, min: u32, timeout_ms: u32) -> Result<ReadOutcome, NetError> {
        if max == 0 {
            return Err(net_error(NetCode::Other, "a read of 0 bytes was asked for"));
        }
        let deadline = deadline(timeout_ms);
        let max = max.min(MAX_READ) as usize;
        let min = (min.clamp(1, MAX_LOWAT) as usize).min(max);
        let mut out = {
            let mut connection = self.lock();
            let mut out = std::mem::take(&mut connection.ahead);
            if out.len() > max {
                connection.ahead = out.split_off(max);
            }
            out
        };
        let failed = |error: io::Error| io_error("could not read", &error);
        // What is there now; a full or ended stream needs no more.
        if out.len() < max && !self.lock().eof {
            match self.read_more(&mut out, max, Instant::now()).await {
                Ok(_) => {}
                Err(_) if !out.is_empty() => return Ok(ReadOutcome::Data(out)),
                Err(error) => return Err(failed(error)),
            }
        }
        if out.is_empty() && !self.lock().eof {
            // The kernel is asked for the whole minimum first: a large read with one wake-up is what this is for.
            let mut got = Ok(None);
            if min > 1 {
                self.lock().set_lowat(u32::try_from(min).unwrap_or(1));
                got = self.read_more(&mut out, max, deadline.min(Instant::now() + COALESCE)).await;
            }
            if matches!(got, Ok(None)) {
                self.lock().set_lowat(1);
                got = self.read_more(&mut out, max, deadline).await;
            }
            got.map_err(failed)?;
        }
        let until = deadline.min(Instant::now() + COALESCE);
        while !out.is_empty() && out.len() < min && !self.lock().eof {
            self.lock().set_lowat(u32::try_from(min - out.len()).unwrap_or(1));
            match self.read_more(&mut out, max, until).await {
                Ok(Some(count)) if count > 0 => {}
                // An error comes again at the next read.
                _ => break,
            }
        }
        if !out.is_empty() {
            return Ok(ReadOutcome::Data(out));
        }
        Ok(if self.lock().eof { ReadOutcome::Eof } else { ReadOutcome::WouldBlock })
    }

    pub(crate) async fn write(&self, bytes: &[u8], timeout_ms: u32) -> Result<u64, NetError> {
        let deadline = deadline(timeout_ms);
        if bytes.is_empty() {
            return Ok(0);
        }
        {
            let mut connection = self.lock();
            if connection.is_plain() && !connection.plaintext_allowed {
                if connection.request_sent || !is_tls_request(bytes) {
                    return Err(NetError {
                        code: NetCode::Denied,
                        message: "nothing but a request to encrypt may leave in the clear".into(),
                        hint: Some("call `start-tls` first, or set `permissions.network.tls` to `optional`".into()),
                    });
                }
                connection.request_sent = true;
            }
        }
        #[cfg(feature = "crash-points")]
        if crate::fault::sends(bytes) {
            self.lock().tamper(crate::fault::Act::LoseAnswer);
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let write = poll_fn(|cx| self.lock().poll_write(cx, &bytes[taken..]));
            match tokio::time::timeout_at(deadline, write).await {
                Ok(Ok(0)) => return Err(net_error(NetCode::Closed, "the socket takes no more bytes")),
                Ok(Ok(count)) => taken += count,
                Ok(Err(_)) if taken > 0 => break,
                Ok(Err(error)) => return Err(io_error("could not write", &error)),
                Err(_) => break,
            }
        }
        if taken > 0 {
            // Within the deadline; what stays in the session goes out with the next call.
            let flush = poll_fn(|cx| self.lock().poll_flush(cx));
            if let Ok(Err(error)) = tokio::time::timeout_at(deadline, flush).await {
                return Err(io_error("could not write", &error));
            }
        }
        Ok(taken as u64)
    }

    pub(crate) async fn shutdown(&self) -> Result<(), NetError> {
        let closing = poll_fn(|cx| self.lock().poll_shutdown(cx));
        match tokio::time::timeout(Duration::from_secs(5), closing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            Ok(Err(error)) => Err(io_error("could not close the writing side", &error)),
            Err(_) => Err(net_error(NetCode::TimedOut, "the peer takes no more bytes")),
        }
    }

    pub(crate) async fn start_tls(&self, options: TlsOptions, timeout_ms: u32) -> Result<TlsInfo, NetError> {
        let TlsOptions { server_name, verify, alpn } = options;
        if !self.tls_allowed {
            return Err(net_error(NetCode::Denied, "this connector's connections are not to be encrypted (`tls: forbidden`)"));
        }
        let name = ServerName::try_from(server_name)
            .map_err(|_| net_error(NetCode::Tls, "the server's name is neither a DNS name nor an address"))?;
        if alpn.len() > MAX_ALPN || alpn.iter().any(|protocol| protocol.is_empty() || protocol.len() > 255) {
            return Err(net_error(NetCode::Limit, format!("at most {MAX_ALPN} ALPN names of 1 to 255 bytes are taken")));
        }
        let verify = match verify {
            TlsVerify::None => Verify::Nothing,
            TlsVerify::Ca => Verify::Chain,
            TlsVerify::Full => Verify::ChainAndName,
        };
        if self.tls.proves_nothing(verify) {
            return Err(NetError {
                code: NetCode::Tls,
                message: "the certificate's authority is to be checked, and none is named".into(),
                hint: Some(
                    "name the server's authority with `sslrootcert`, or have the name checked too with `sslmode: verify-full`"
                        .into(),
                ),
            });
        }
        let alpn = alpn.into_iter().map(String::into_bytes).collect();
        let config = self.tls.client_config(verify, alpn).map_err(|error| net_error(NetCode::Tls, error.to_string()))?;
        let stream = self.take_plain()?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = match tokio::time::timeout_at(deadline(timeout_ms), connector.connect(name, stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(handshake_error(&error)),
            Err(_) => return Err(net_error(NetCode::TimedOut, "the TLS handshake was not finished before the deadline")),
        };
        let session = stream.get_ref().1;
        let info = TlsInfo {
            protocol: session.protocol_version().map_or_else(|| "unknown".to_owned(), |version| format!("{version:?}")),
            alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            endpoint_hash: session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| endpoint_hash(leaf)),
        };
        self.lock().io = Io::Tls(Box::new(stream));
        Ok(info)
    }

    /// Takes the socket out, if nothing in the clear lies unread: a man in the middle may have put it there, to be taken
    /// for the server's word after the handshake.
    fn take_plain(&self) -> Result<Wire, NetError> {
        let mut connection = self.lock();
        connection.set_lowat(1);
        let Io::Plain(stream) = &connection.io else {
            return Err(net_error(NetCode::Tls, "the connection is encrypted already, or its handshake has failed"));
        };
        let unread = || {
            let mut byte = [0];
            // The socket's own answer, not the readiness remembered for it.
            socket2::SockRef::from(bare(stream)).peek(as_uninit(&mut byte)).is_ok_and(|count| count > 0)
        };
        if !connection.ahead.is_empty() || unread() {
            return Err(NetError {
                code: NetCode::Tls,
                message: "the server has sent plaintext that was not read before the handshake".into(),
                hint: Some("somebody between here and the server may have put it there".into()),
            });
        }
        match std::mem::replace(&mut connection.io, Io::Gone) {
            Io::Plain(stream) => Ok(stream),
            Io::Tls(_) | Io::Gone => Err(net_error(NetCode::Closed, "the connection is gone")),
        }
    }

    pub(crate) fn read_interest(&self) -> ReadInterest {
        ReadInterest(Arc::clone(&self.connection))
    }

    pub(crate) fn write_interest(&self) -> WriteInterest {
        WriteInterest(Arc::clone(&self.connection))
    }
}

/// The socket itself.
fn bare(wire: &Wire) -> &tokio::net::TcpStream {
    wire
}

fn as_uninit(bytes: &mut [u8]) -> &mut [std::mem::MaybeUninit<u8>] {
    // SAFETY: the layouts are the same, and `peek` writes initialised bytes only.
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [std::mem::MaybeUninit<u8>]) }
}

fn handshake_error(error: &io::Error) -> NetError {
    let mut out = io_error("the TLS handshake failed", error);
    if let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        out.code = NetCode::Tls;
        if let rustls::Error::InvalidCertificate(_) = inner {
            out.hint = Some("give the server's CA file, or choose a lower degree of checking".into());
        }
    }
    out
}

/// Waits until a read would have something to say.
pub(crate) struct ReadInterest(Arc<Mutex<Connection>>);
/// Waits until a write would take a byte.
pub(crate) struct WriteInterest(Arc<Mutex<Connection>>);

impl ReadInterest {
    pub(crate) async fn ready(&self) {
        poll_fn(|cx| self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_readable(cx)).await;
    }
}

impl WriteInterest {
    pub(crate) async fn ready(&self) {
        poll_fn(|cx| self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_writable(cx)).await;
    }
}
