//! Following the log as it is written: the streaming protocol, feedback only of what is durable.

use super::config::Names;
use super::feed::explain;
use super::lsn::Lsn;
use super::read::{NEEDS_TEXT, Reader};
use postgres_wire::{ConnectConfig, Connection, CopyOutError, LogFrame, LogStream, quote_ident, quote_literal};
use rapidbyte_sdk::{ConnectorError, host_ffi};
use std::time::{Duration, Instant};

/// Waited for news before we look around.
const WAIT: Duration = Duration::from_millis(500);
/// A word of ours at least this often; the server ends a session that is silent for `wal_sender_timeout`, a minute by default.
const FEEDBACK_EVERY: Duration = Duration::from_secs(10);
/// A barrier at most this often while nothing concerns the streams.
const QUIET_BARRIER: Duration = Duration::from_secs(1);

fn open(connect: &ConnectConfig, names: &Names, from: Lsn, binary: bool, largest: usize) -> Result<LogStream, ConnectorError> {
    let mut connection = Connection::connect_to_log(connect)?;
    // Names of objects then come with their schema, as in the initial load.
    connection.batch_execute("SET search_path = pg_catalog")?;
    let command = format!(
        "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}{})",
        quote_ident(&names.slot)?,
        quote_literal(&quote_ident(&names.publication)?)?,
        if binary { ", binary 'true'" } else { "" },
    );
    LogStream::start(connection, &command, largest).map_err(|error| explain(error, names))
}

/// What the server was told, and when.
struct Told {
    durable: Lsn,
    at: Instant,
}

impl Reader<'_> {
    /// Reads on until the call is dropped or fails.
    pub(super) fn follow(&mut self, names: &Names, confirmed: Lsn) -> Result<(), ConnectorError> {
        let largest = self.largest();
        let mut stream = open(&self.connect, names, self.covered, self.binary, largest)?;
        let mut told = Told { durable: confirmed, at: Instant::now() };
        let (mut marked, mut marked_at) = (None, Instant::now());
        loop {
            let mut reply = false;
            match stream.next(WAIT) {
                Ok(LogFrame::Message(message)) => match self.take(message) {
                    Ok(()) => {}
                    Err(error) if error.code == NEEDS_TEXT => {
                        stream.close();
                        self.binary = false;
                        self.forget_open();
                        stream = open(&self.connect, names, self.covered, false, largest)?;
                    }
                    Err(error) => return Err(error),
                },
                Ok(LogFrame::SentUpTo { lsn, reply: asked }) => {
                    self.nothing_before(Lsn(lsn));
                    reply = asked;
                }
                Ok(LogFrame::Nothing) => {}
                Err(CopyOutError::Wire(error)) => return Err(explain(error, names)),
                Err(CopyOutError::TooLong { length }) => {
                    let head = stream.refused_head(5).map(<[u8]>::to_vec).unwrap_or_default();
                    return Err(self.too_long(length, &head, largest));
                }
            }
            // Whatever has come is handed on as soon as nothing else waits.
            let moved = marked != Some(self.covered) && marked_at.elapsed() >= QUIET_BARRIER;
            if !stream.has_more() && self.is_between() && (self.has_unmarked() || moved || marked.is_none()) {
                self.barrier()?;
                (marked, marked_at) = (Some(self.covered), Instant::now());
            }
            self.tell(&mut stream, &mut told, reply)?;
        }
    }

    /// Tells the server what is durable, when that has moved, when it asks, and now and then.
    fn tell(&self, stream: &mut LogStream, told: &mut Told, reply: bool) -> Result<(), ConnectorError> {
        let durable = host_ffi::durable_position().map(|position| Lsn::of(&position)).transpose()?.unwrap_or_default();
        if durable > told.durable || reply || told.at.elapsed() >= FEEDBACK_EVERY {
            told.durable = told.durable.max(durable);
            told.at = Instant::now();
            stream.feedback(self.covered.0, told.durable.0)?;
            host_ffi::mark("source.slot.advanced");
        }
        Ok(())
    }
}
