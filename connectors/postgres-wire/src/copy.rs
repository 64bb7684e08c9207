//! COPY in both directions.

use crate::connection::{Connection, tag_count};
use crate::error::Error;
use crate::handshake::{unexpected, wire};
use crate::transport::Fault;
use std::time::Duration;

/// Tag and length of CopyData.
const HEADER: usize = 5;
/// Gathered before a CopyData is sent.
const BUFFER: usize = 256 << 10;
/// Slices from here on are sent from where they lie.
const DIRECT: usize = 64 << 10;
/// Largest CopyData we send; the server allows 1 GiB.
const MAX_SEND: usize = 16 << 20;
/// Sent between two looks at what the server says.
const LOOK_EVERY: usize = 4 << 20;

/// Why a COPY gave no further data.
#[derive(Debug)]
pub enum CopyOutError {
    /// The connection or the server failed.
    Wire(Error),
    /// A message is longer than allowed; it was not read. [`CopyOut::refused_head`] shows its beginning.
    TooLong {
        /// Its length.
        length: usize,
    },
}

/// Data on its way from the server. Dropped before its end, it leaves the session unusable.
pub struct CopyOut<'a> {
    connection: &'a mut Connection,
    max_message: usize,
    done: bool,
}

impl<'a> CopyOut<'a> {
    pub(crate) fn start(connection: &'a mut Connection, sql: &str, max_message: usize) -> Result<Self, Error> {
        connection.send_simple(sql)?;
        let (tag, body) = connection.next(0).map_err(wire)?;
        match tag {
            b'H' => {
                connection.transport.set_streaming(true);
                Ok(Self { connection, max_message, done: false })
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

    /// The payload of the next CopyData; `None` at the end. PostgreSQL puts one row into each, but does not promise it.
    #[inline]
    pub fn next_payload(&mut self) -> Result<Option<&[u8]>, CopyOutError> {
        if self.done {
            return Ok(None);
        }
        match self.connection.transport.message(self.max_message) {
            Ok((b'd', _)) => Ok(Some(self.connection.transport.last().1)),
            Ok(_) => {
                self.other_message().map_err(CopyOutError::Wire)?;
                if self.done { Ok(None) } else { self.after_notice() }
            }
            Err(Fault::Wire(error)) => Err(CopyOutError::Wire(error)),
            Err(Fault::TooLong(length)) => Err(CopyOutError::TooLong { length }),
        }
    }

    /// Messages that have arrived, with tag and length, in case many are to be looked at together: perhaps none, and perhaps a
    /// cut one at the end. [`Self::next_payload`] waits for the next.
    pub fn arrived(&self) -> &[u8] {
        if self.done { &[] } else { self.connection.transport.arrived() }
    }

    /// Passes over whole CopyData messages at the beginning of [`Self::arrived`].
    pub fn pass(&mut self, bytes: usize) {
        self.connection.transport.pass(bytes);
    }

    #[cold]
    fn after_notice(&mut self) -> Result<Option<&[u8]>, CopyOutError> {
        self.next_payload()
    }

    /// Deals with the message just read, which is not CopyData.
    #[cold]
    fn other_message(&mut self) -> Result<(), Error> {
        let (tag, body) = self.connection.transport.last();
        match tag {
            b'c' => self.end(),
            b'E' => {
                let body = body.to_vec();
                self.done = true;
                self.connection.transport.set_streaming(false);
                Err(self.connection.recover(body))
            }
            b'N' | b'S' | b'A' => Ok(()),
            other => {
                self.connection.transport.mark_broken();
                Err(unexpected(other))
            }
        }
    }

    fn end(&mut self) -> Result<(), Error> {
        self.done = true;
        self.connection.transport.set_streaming(false);
        loop {
            let (tag, body) = self.connection.next(0).map_err(wire)?;
            match tag {
                b'C' => {}
                b'Z' => {
                    let status = body.first().copied().unwrap_or(0);
                    return self.connection.ready(status);
                }
                b'E' => {
                    let body = body.to_vec();
                    return Err(self.connection.recover(body));
                }
                other => {
                    self.connection.transport.mark_broken();
                    return Err(unexpected(other));
                }
            }
        }
    }

    /// After [`CopyOutError::TooLong`]: the first `up_to` bytes of the message that was refused.
    pub fn refused_head(&mut self, up_to: usize) -> Result<&[u8], Error> {
        self.connection.transport.refused_head(up_to)
    }

    /// After [`CopyOutError::TooLong`]: passes over the message that was refused, of this length; the next one follows.
    pub fn skip_refused(&mut self, length: usize) -> Result<(), Error> {
        self.connection.transport.skip_refused(length)
    }

    /// Time spent waiting for bytes by this session so far.
    pub fn waited(&self) -> Duration {
        self.connection.transport.waited()
    }
}

impl Drop for CopyOut<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.transport.mark_broken();
        }
    }
}

/// Data on its way to the server. Dropped before [`CopyIn::finish`], it leaves the session unusable and the server rolls
/// back when the connection closes.
pub struct CopyIn<'a> {
    connection: &'a mut Connection,
    buffer: Vec<u8>,
    since_look: usize,
    done: bool,
}

impl<'a> CopyIn<'a> {
    pub(crate) fn start(connection: &'a mut Connection, sql: &str) -> Result<Self, Error> {
        connection.send_simple(sql)?;
        let (tag, body) = connection.next(0).map_err(wire)?;
        match tag {
            b'G' => {
                let mut buffer = Vec::with_capacity(BUFFER + DIRECT + HEADER);
                buffer.extend_from_slice(&[0; HEADER]);
                Ok(Self { connection, buffer, since_look: 0, done: false })
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

    /// Sends data. Small slices are gathered, large ones go out without a copy. An error of the server may show up here or
    /// in [`CopyIn::finish`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() < DIRECT {
            self.buffer.extend_from_slice(bytes);
            return if self.buffer.len() >= BUFFER { self.send() } else { Ok(()) };
        }
        self.send()?;
        for part in bytes.chunks(MAX_SEND) {
            let mut head = [b'd', 0, 0, 0, 0];
            head[1..].copy_from_slice(&((part.len() + 4) as u32).to_be_bytes());
            self.connection.transport.write(&head)?;
            self.connection.transport.write(part)?;
            self.since_look += part.len();
            self.look()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Error> {
        if self.buffer.len() == HEADER {
            return Ok(());
        }
        let length = (self.buffer.len() - 1) as u32;
        self.buffer[0] = b'd';
        self.buffer[1..HEADER].copy_from_slice(&length.to_be_bytes());
        self.connection.transport.write(&self.buffer)?;
        self.since_look += self.buffer.len();
        self.buffer.truncate(HEADER);
        self.look()
    }

    /// Stops early when the server has refused the data already.
    fn look(&mut self) -> Result<(), Error> {
        if self.since_look < LOOK_EVERY {
            return Ok(());
        }
        self.since_look = 0;
        while self.connection.transport.poll()? {
            let (tag, body) = self.connection.transport.message(0).map_err(wire)?;
            match tag {
                b'E' => {
                    let body = body.to_vec();
                    self.done = true;
                    return Err(self.connection.recover(body));
                }
                b'N' | b'S' | b'A' => {}
                other => {
                    self.connection.transport.mark_broken();
                    return Err(unexpected(other));
                }
            }
        }
        Ok(())
    }

    /// Ends the COPY; gives the rows the server took.
    pub fn finish(mut self) -> Result<u64, Error> {
        self.send()?;
        self.connection.transport.frame(b'c', |_| {})?;
        self.connection.transport.flush()?;
        let mut rows = 0;
        loop {
            let (tag, body) = self.connection.next(0).map_err(wire)?;
            match tag {
                b'C' => rows = tag_count(body)?,
                b'Z' => {
                    let status = body.first().copied().unwrap_or(0);
                    self.done = true;
                    self.connection.ready(status)?;
                    return Ok(rows);
                }
                b'E' => {
                    let body = body.to_vec();
                    self.done = true;
                    return Err(self.connection.recover(body));
                }
                other => {
                    self.connection.transport.mark_broken();
                    return Err(unexpected(other));
                }
            }
        }
    }

    /// Gives the COPY up; the transaction, if any, has failed then.
    pub fn abort(mut self, reason: &str) -> Result<(), Error> {
        self.connection.transport.frame(b'f', |out| {
            out.extend(reason.bytes().filter(|byte| *byte != 0));
            out.push(0);
        })?;
        self.connection.transport.flush()?;
        loop {
            let (tag, body) = self.connection.next(0).map_err(wire)?;
            match tag {
                b'E' => {
                    let body = body.to_vec();
                    self.done = true;
                    self.connection.recover(body);
                    return Ok(());
                }
                b'Z' => {
                    self.connection.transport.mark_broken();
                    return Err(Error::protocol("the server took a COPY that was given up"));
                }
                b'C' => {}
                other => {
                    self.connection.transport.mark_broken();
                    return Err(unexpected(other));
                }
            }
        }
    }
}

impl Drop for CopyIn<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.transport.mark_broken();
        }
    }
}
