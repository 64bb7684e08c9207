//! The server's log as a stream: `START_REPLICATION`, and what both sides say while it runs.

use crate::connection::Connection;
use crate::copy::CopyOutError;
use crate::error::Error;
use crate::handshake::{unexpected, wire};
use crate::transport::{Body, Fault};
use rapidbyte_sdk::host_tcp::{NetCode, NetError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_SECONDS: u64 = 946_684_800;
/// Kind, start, end and time in front of a plugin's message.
const DATA_HEADER: usize = 25;

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum LogFrame<'a> {
    /// A message of the plugin.
    Message(&'a [u8]),
    /// Everything before this place was decoded, and what there was to send was sent.
    SentUpTo {
        /// The place in the log.
        lsn: u64,
        /// Whether the server waits for a word of ours, and ends the session without one.
        reply: bool,
    },
    /// Nothing came before the deadline.
    Nothing,
}

/// The log on its way. Dropped, it leaves the session unusable: close it.
pub struct LogStream {
    connection: Connection,
    max_message: usize,
    /// How long we have listened in vain since the server spoke last. Time in which nobody listens tells nothing.
    silent: Duration,
    patience: Duration,
}

impl LogStream {
    /// Starts sending. `connection` comes from [`Connection::connect_to_log`]; messages of more than `max_message` bytes are
    /// refused before they are read. A server that is listened to in vain for `patience` counts as gone, so whoever calls asks it for a
    /// word more often than that.
    pub fn start(mut connection: Connection, command: &str, max_message: usize, patience: Duration) -> Result<Self, Error> {
        connection.send_simple(command)?;
        let (tag, body) = connection.next(0).map_err(wire)?;
        match tag {
            // CopyBothResponse.
            b'W' => {
                let max_message = max_message.saturating_add(DATA_HEADER);
                Ok(Self { connection, max_message, silent: Duration::ZERO, patience })
            }
            b'E' => {
                let body = body.to_vec();
                Err(connection.recover(body))
            }
            other => {
                connection.transport.mark_broken();
                Err(unexpected(other))
            }
        }
    }

    /// What comes next, within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<LogFrame<'_>, CopyOutError> {
        let began = Instant::now();
        if !self.connection.transport.poll_for(timeout).map_err(CopyOutError::Wire)? {
            // No more than was asked for: a process that was stopped has not listened.
            self.silent += began.elapsed().min(timeout);
            return if self.silent < self.patience { Ok(LogFrame::Nothing) } else { Err(self.is_gone()) };
        }
        self.silent = Duration::ZERO;
        let tag = match self.connection.transport.message(self.max_message) {
            Ok((tag, _)) => tag,
            Err(Fault::Wire(error)) => return Err(CopyOutError::Wire(error)),
            Err(Fault::TooLong(length)) => return Err(CopyOutError::TooLong { length: length.saturating_sub(DATA_HEADER) }),
        };
        match tag {
            b'd' => frame(self.connection.transport.last().1).map_err(CopyOutError::Wire),
            b'N' | b'S' | b'A' => Ok(LogFrame::Nothing),
            b'E' => {
                let body = self.connection.transport.last().1.to_vec();
                Err(CopyOutError::Wire(self.connection.recover(body)))
            }
            // A server that is shut down ends its streams in order.
            b'c' | b'C' => {
                self.connection.transport.mark_broken();
                let error = NetError {
                    code: NetCode::Closed,
                    message: "the server has ended the stream of its log, as it does when it is shut down".to_owned(),
                    hint: None,
                };
                Err(CopyOutError::Wire(Error::Network { error, during: "reading its log" }))
            }
            other => {
                self.connection.transport.mark_broken();
                Err(CopyOutError::Wire(unexpected(other)))
            }
        }
    }

    fn is_gone(&mut self) -> CopyOutError {
        self.connection.transport.mark_broken();
        let error = NetError {
            code: NetCode::TimedOut,
            message: format!("the server was asked for a word and was silent for {} seconds", self.patience.as_secs()),
            hint: Some(
                "look for a firewall that forgets connections; a server that is busy with one large transaction needs a larger \
                 `wal_sender_timeout`, and `idle_timeout_seconds` must be no smaller"
                    .to_owned(),
            ),
        };
        CopyOutError::Wire(Error::Network { error, during: "reading its log" })
    }

    /// Whether the next frame has begun to come already.
    pub fn has_more(&self) -> bool {
        self.connection.transport.has_unread()
    }

    /// Tells the server what has come here, and what is durable: that it may let go. Asked for a word, it answers with
    /// [`LogFrame::SentUpTo`].
    pub fn feedback(&mut self, received: u64, durable: u64, ask: bool) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = now.saturating_sub(Duration::from_secs(EPOCH_SECONDS)).as_micros() as u64;
        self.connection.transport.frame(b'd', |out| {
            out.push(b'r');
            // Received, made durable, applied; the time; whether an answer is wanted.
            for number in [received.max(durable), durable, durable, now] {
                out.extend_from_slice(&number.to_be_bytes());
            }
            out.push(u8::from(ask));
        })?;
        self.connection.transport.flush()
    }

    /// After [`CopyOutError::TooLong`]: the first `up_to` bytes of the plugin's message that was refused.
    pub fn refused_head(&mut self, up_to: usize) -> Result<&[u8], Error> {
        let head = self.connection.transport.refused_head(DATA_HEADER + up_to)?;
        Ok(head.get(DATA_HEADER..).unwrap_or_default())
    }

    /// Ends the session.
    pub fn close(self) {
        self.connection.close();
    }
}

fn frame(body: &[u8]) -> Result<LogFrame<'_>, Error> {
    let mut parts = Body::new(body);
    match parts.bytes(1)? {
        b"w" => {
            parts.bytes(DATA_HEADER - 1)?;
            Ok(LogFrame::Message(parts.rest()))
        }
        b"k" => {
            let place = parts.bytes(8)?;
            parts.bytes(8)?;
            let reply = parts.bytes(1)? == [1];
            let lsn = place.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            Ok(LogFrame::SentUpTo { lsn, reply })
        }
        _ => Err(Error::protocol("an unknown message in the stream of the server's log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_cut_ones_refused() {
        let mut data = b"w".to_vec();
        data.extend_from_slice(&[0; 24]);
        data.extend_from_slice(b"message");
        assert_eq!(frame(&data).unwrap(), LogFrame::Message(b"message"));
        let alive = b"k\0\0\0\x16\xB3\x74\xD8\x48\0\0\0\0\0\0\0\0\x01";
        assert_eq!(frame(alive).unwrap(), LogFrame::SentUpTo { lsn: 0x16_B374_D848, reply: true });
        for length in 0..alive.len() {
            assert!(frame(&alive[..length]).is_err());
        }
        assert!(frame(&data[..20]).is_err() && frame(b"x").is_err());
    }
}
