//! Messages over the host's socket: framing, bounds, deadlines.
//!
//! A chunk is what one host read gave. Messages that lie whole in a chunk are lent from it; only a message that straddles two
//! chunks is put together in a buffer of its own.

use crate::error::{Error, ServerError};
use rapidbyte_sdk::host_ffi::{LogLevel, log};
use rapidbyte_sdk::host_tcp::{HostTcpStream, NetCode, NetError, ReadOutcome};
use std::time::{Duration, Instant};

/// Bound on every message but CopyData. Catalog rows and errors stay far below it.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;
/// Tag and length.
const HEADER: usize = 5;
/// Asked for at once where answers are small.
const SMALL_READ: u32 = 64 << 10;
/// Asked for at once, and waited for, while a COPY streams. Measured: the larger minimum halves the CPU of an idle reader.
const COPY_READ: (u32, u32) = (1 << 20, 256 << 10);

/// Why no message came.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Anything but the next.
    Wire(Error),
    /// A CopyData longer than allowed: nothing of its body was stored.
    TooLong(usize),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Wire(error)
    }
}

pub(crate) struct Transport {
    stream: HostTcpStream,
    chunk: Vec<u8>,
    at: usize,
    straddle: Vec<u8>,
    out: Vec<u8>,
    idle_timeout: Duration,
    /// The key that says how long the server may be silent now.
    knob: &'static str,
    streaming: bool,
    waited: Duration,
    broken: bool,
    last: Place,
}

/// Where the message read last lies.
#[derive(Clone, Copy, Default)]
struct Place {
    tag: u8,
    straddles: bool,
    start: usize,
    end: usize,
}

/// Tag and whole length of the message that begins here.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let (head, _) = bytes.split_first_chunk::<HEADER>()?;
    Some((head[0], u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize + 1))
}

fn check(tag: u8, total: usize, copy_cap: usize) -> Result<(), Fault> {
    if total < HEADER {
        return Err(Error::protocol(format!("a message of type {:?} has an impossible length", tag as char)).into());
    }
    let body = total - HEADER;
    if tag == b'd' {
        if body > copy_cap { Err(Fault::TooLong(body)) } else { Ok(()) }
    } else if body > MAX_MESSAGE {
        Err(Error::protocol(format!("a message of type {:?} claims {body} bytes", tag as char)).into())
    } else {
        Ok(())
    }
}

impl Transport {
    /// For a session that is being set up: `timeout` is that of connecting until [`Self::set_idle_timeout`].
    pub(crate) fn new(stream: HostTcpStream, timeout: Duration) -> Self {
        let mut made = Self {
            stream,
            chunk: Vec::new(),
            at: 0,
            straddle: Vec::new(),
            out: Vec::new(),
            idle_timeout: timeout,
            knob: "connect_timeout_seconds",
            streaming: false,
            waited: Duration::ZERO,
            broken: false,
            last: Place::default(),
        };
        made.stream.set_timeout(timeout);
        made
    }

    pub(crate) fn set_idle_timeout(&mut self, timeout: Duration) {
        self.knob = "idle_timeout_seconds";
        self.idle_timeout = timeout;
        self.stream.set_timeout(timeout);
    }

    /// Large reads, for as long as a COPY streams.
    pub(crate) fn set_streaming(&mut self, streaming: bool) {
        self.streaming = streaming;
    }

    /// Time spent waiting for bytes so far.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn mark_broken(&mut self) {
        self.broken = true;
    }

    pub(crate) fn stream(&mut self) -> &mut HostTcpStream {
        &mut self.stream
    }

    fn network(&mut self, error: NetError, during: &'static str) -> Error {
        self.broken = true;
        Error::Network { error, during }
    }

    fn protocol<T>(&mut self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.is_err() {
            self.broken = true;
        }
        result
    }

    /// Replaces the chunk, which has been used up.
    fn fill(&mut self) -> Result<(), Error> {
        if self.broken {
            let error = NetError { code: NetCode::Closed, message: "the session was lost before".into(), hint: None };
            return Err(Error::Network { error, during: "waiting for the server" });
        }
        let (max, min) = if self.streaming { COPY_READ } else { (SMALL_READ, 1) };
        let started = Instant::now();
        let outcome = self.stream.read_chunk(max, min, self.idle_timeout);
        self.waited += started.elapsed();
        self.at = 0;
        self.chunk.clear();
        let (code, message, hint) = match outcome {
            Ok(ReadOutcome::Data(bytes)) => {
                self.chunk = bytes;
                return Ok(());
            }
            Ok(ReadOutcome::WouldBlock) => (
                NetCode::TimedOut,
                format!("the server was silent for {} seconds", self.idle_timeout.as_secs()),
                Some(format!("look for locks and load at the server, or raise `{}`", self.knob)),
            ),
            Ok(ReadOutcome::Eof) => (NetCode::Closed, "the server closed the connection".to_owned(), None),
            Err(error) => return Err(self.network(error, "waiting for the server")),
        };
        Err(self.network(NetError { code, message, hint }, "waiting for the server"))
    }

    /// The next message: tag and body. CopyData may have up to `copy_cap` bytes.
    #[inline]
    pub(crate) fn message(&mut self, copy_cap: usize) -> Result<(u8, &[u8]), Fault> {
        if let Some((tag, total)) = header(&self.chunk[self.at..])
            && total <= self.chunk.len() - self.at
            && check(tag, total, copy_cap).is_ok()
        {
            let start = self.at + HEADER;
            self.at += total;
            self.last = Place { tag, straddles: false, start, end: self.at };
            return Ok((tag, &self.chunk[start..self.at]));
        }
        self.straddling_message(copy_cap)
    }

    #[cold]
    fn straddling_message(&mut self, copy_cap: usize) -> Result<(u8, &[u8]), Fault> {
        self.straddle.clear();
        self.gather(HEADER)?;
        let (tag, total) = header(&self.straddle).ok_or_else(|| Fault::Wire(Error::protocol("a message without its header")))?;
        let checked = check(tag, total, copy_cap);
        self.protocol(checked)?;
        self.gather(total)?;
        self.last = Place { tag, straddles: true, start: HEADER, end: total };
        Ok((tag, &self.straddle[HEADER..total]))
    }

    /// The message read last, again: callers look at its tag before they decide who borrows its body.
    #[inline]
    pub(crate) fn last(&self) -> (u8, &[u8]) {
        let Place { tag, straddles, start, end } = self.last;
        let bytes = if straddles { &self.straddle } else { &self.chunk };
        (tag, bytes.get(start..end).unwrap_or_default())
    }

    /// What has been read and not been looked at: whole messages and, at the end, perhaps a part of one.
    pub(crate) fn arrived(&self) -> &[u8] {
        &self.chunk[self.at..]
    }

    /// Passes over messages that were taken from [`Self::arrived`].
    pub(crate) fn pass(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.chunk.len());
    }

    /// Moves bytes from the stream into the straddle buffer until it holds `total`.
    fn gather(&mut self, total: usize) -> Result<(), Error> {
        while self.straddle.len() < total {
            if self.at == self.chunk.len() {
                self.fill()?;
            }
            let rest = &self.chunk[self.at..];
            let count = rest.len().min(total - self.straddle.len());
            self.straddle.extend_from_slice(&rest[..count]);
            self.at += count;
        }
        Ok(())
    }

    /// After [`Fault::TooLong`]: the first bytes of the message that was refused. The session is lost.
    pub(crate) fn refused_head(&mut self, up_to: usize) -> Result<&[u8], Error> {
        self.broken = false;
        let gathered = self.gather(HEADER + up_to);
        self.broken = true;
        gathered?;
        Ok(&self.straddle[HEADER..])
    }

    /// After [`Fault::TooLong`]: passes over the message that was refused, whose body has so many bytes, without holding it. The
    /// session goes on.
    pub(crate) fn skip_refused(&mut self, body: usize) -> Result<(), Error> {
        self.broken = false;
        let mut left = (HEADER + body).saturating_sub(self.straddle.len());
        self.straddle.clear();
        while left > 0 {
            if self.at == self.chunk.len() {
                self.fill()?;
            }
            let count = (self.chunk.len() - self.at).min(left);
            self.at += count;
            left -= count;
        }
        Ok(())
    }

    /// Puts a message into the send buffer.
    pub(crate) fn frame(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), Error> {
        let start = self.out.len();
        self.out.extend_from_slice(&[tag, 0, 0, 0, 0]);
        body(&mut self.out);
        let length = i32::try_from(self.out.len() - start - 1)
            .map_err(|_| Error::protocol("a message to the server is larger than 2 GiB"))?;
        self.out[start + 1..start + HEADER].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    /// Puts bytes without a tag into the send buffer.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Sends what [`Self::frame`] gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let out = std::mem::take(&mut self.out);
        let sent = self.write(&out);
        self.out = out;
        self.out.clear();
        // One large statement must not pin its buffer for the session's life.
        self.out.shrink_to(MAX_MESSAGE);
        sent
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self.stream.write_all_bytes(bytes) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain_write_failure(error)),
        }
    }

    /// A server that goes away says why before it closes the connection.
    fn explain_write_failure(&mut self, error: NetError) -> Error {
        const LAST_WORDS: Duration = Duration::from_millis(200);
        self.set_idle_timeout(LAST_WORDS);
        for _ in 0..16 {
            match self.message(0) {
                Ok((b'E', body)) => {
                    let server = ServerError::parse(body);
                    self.broken = true;
                    if server.severity != "ERROR" {
                        return Error::Server(Box::new(server));
                    }
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.network(error, "sending to the server")
    }

    /// Whether a message is there or on its way in, without waiting.
    pub(crate) fn poll(&mut self) -> Result<bool, Error> {
        self.poll_with((SMALL_READ, 1), Duration::ZERO)
    }

    /// The same within `timeout`, by large reads.
    pub(crate) fn poll_for(&mut self, timeout: Duration) -> Result<bool, Error> {
        self.poll_with(COPY_READ, timeout)
    }

    /// Whether bytes have come that were not looked at.
    pub(crate) fn has_unread(&self) -> bool {
        self.at < self.chunk.len()
    }

    fn poll_with(&mut self, (max, min): (u32, u32), timeout: Duration) -> Result<bool, Error> {
        if self.has_unread() {
            return Ok(true);
        }
        match self.stream.read_chunk(max, min, timeout) {
            Ok(ReadOutcome::Data(bytes)) => {
                self.chunk = bytes;
                self.at = 0;
                Ok(true)
            }
            Ok(ReadOutcome::WouldBlock) => Ok(false),
            Ok(ReadOutcome::Eof) => {
                let message = "the server closed the connection".to_owned();
                Err(self.network(NetError { code: NetCode::Closed, message, hint: None }, "sending to the server"))
            }
            Err(error) => Err(self.network(error, "sending to the server")),
        }
    }
}

/// Logs a NoticeResponse.
pub(crate) fn log_notice(body: &[u8]) {
    let notice = ServerError::parse(body);
    log(LogLevel::Debug, "the server sent a notice", &[("sqlstate", &notice.sqlstate), ("message", &notice.safe_message())]);
}

/// Reads the parts of a message's body; every read is checked.
pub(crate) struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn short() -> Error {
        Error::protocol("a message is shorter than its contents")
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(Self::short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, Error> {
        let bytes = self.bytes(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Error> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        Ok(self.i32()?.cast_unsigned())
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or_else(Self::short)?;
        let text = std::str::from_utf8(&self.rest[..end]).map_err(|_| Error::protocol("a message holds text that is not UTF-8"))?;
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
}
