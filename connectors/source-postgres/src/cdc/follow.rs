//! Following the log as it is written: the streaming protocol, feedback only of what is durable.

use super::config::Names;
use super::feed::explain;
use super::lsn::Lsn;
use super::read::{NEEDS_TEXT, Reader};
use postgres_wire::{ConnectConfig, Connection, CopyOutError, LogFrame, LogStream, quote_ident, quote_literal};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::host_ffi::{self, MetricKind};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Waited for news before we look around.
const WAIT: Duration = Duration::from_millis(500);
/// A word of ours at least this often, and four times within the server's `wal_sender_timeout` and our own patience.
const FEEDBACK_EVERY: Duration = Duration::from_secs(10);
const LEAST_WAIT: Duration = Duration::from_millis(10);
/// A server that is silent for so many times its own `wal_sender_timeout` is gone: guessed. While it decodes what concerns no plugin (a
/// table that was rewritten) it says nothing, and would decode the same again for the next session.
const PATIENCE: u32 = 5;
/// A `wal_sender_timeout` that is shorter counts as this.
const LEAST_TIMEOUT: Duration = Duration::from_secs(30);
/// While nothing concerns the streams, a barrier stands wherever the log has grown by so much, or so much time has passed. What a slot
/// keeps stays far below 64 MiB that way, and a quiet pipeline does not write a receipt a second for ever.
const QUIET_BYTES: u64 = 8 << 20;
const QUIET_TIME: Duration = Duration::from_secs(10);
/// Seconds from 1970 to 2000, where PostgreSQL begins to count.
const EPOCH_SECONDS: u64 = 946_684_800;
/// Barriers whose delay is measured; of more that wait, the oldest ones are.
const MAX_MEASURED: usize = 1_024;

/// The session, and what the server was told.
struct Tail {
    stream: LogStream,
    durable: Lsn,
    received: Lsn,
    told: Instant,
    every: Duration,
    /// Barriers that are not durable yet, and when the newest transaction before each was committed.
    on_way: VecDeque<(Lsn, i64)>,
}

/// What came. A message lies in the buffer that was given.
enum Came {
    Message,
    SentUpTo { lsn: Lsn, reply: bool },
    Nothing,
}

impl Tail {
    fn open(
        connect: &ConnectConfig,
        names: &Names,
        from: Lsn,
        durable: Lsn,
        binary: bool,
        longest: usize,
        catalog: &mut Connection,
    ) -> Result<Self, ConnectorError> {
        let mut connection = Connection::connect_to_log(connect)?;
        // Names of objects then come with their schema, as in the initial load.
        connection.batch_execute("SET search_path = pg_catalog")?;
        let rows = connection.query("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'")?;
        let theirs: u64 = rows.first().map(|row| row.parse(0)).transpose()?.flatten().unwrap_or_default();
        // Zero is for ever.
        let theirs = if theirs == 0 { Duration::MAX } else { Duration::from_millis(theirs) };
        let patience = theirs.max(LEAST_TIMEOUT).saturating_mul(PATIENCE);
        let ours = Duration::from_secs(connect.idle_timeout_seconds).min(patience);
        let every = FEEDBACK_EVERY.min(theirs.min(ours) / 4).max(LEAST_WAIT);
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} (proto_version '1', publication_names {}{})",
            quote_ident(&names.slot)?,
            quote_literal(&quote_ident(&names.publication)?)?,
            if binary { ", binary 'true'" } else { "" },
        );
        let stream = LogStream::start(connection, &command, longest, ours).map_err(|error| explain(error, names, catalog))?;
        Ok(Self { stream, durable, received: from, told: Instant::now(), every, on_way: VecDeque::new() })
    }

    /// What comes next. A message is copied: while it is worked on, the server may have to be told that we live.
    fn next(&mut self, wait: Duration, message: &mut Vec<u8>) -> Result<Came, CopyOutError> {
        Ok(match self.stream.next(wait)? {
            LogFrame::Message(bytes) => {
                message.clear();
                message.extend_from_slice(bytes);
                Came::Message
            }
            LogFrame::SentUpTo { lsn, reply } => Came::SentUpTo { lsn: Lsn(lsn), reply },
            LogFrame::Nothing => Came::Nothing,
        })
    }

    /// Tells the server what is durable: when that has moved, when it asks, and now and then.
    fn tell(&mut self, reply: bool) -> Result<(), ConnectorError> {
        let durable = host_ffi::durable_position().map(|position| Lsn::of(&position)).transpose()?.unwrap_or_default();
        let is_due = self.told.elapsed() >= self.every;
        if durable > self.durable || reply || is_due {
            self.durable = self.durable.max(durable);
            self.told = Instant::now();
            self.measure();
            host_ffi::mark("source.slot.before_advance");
            // Whoever is asked now and then can be told from one who is gone.
            self.stream.feedback(self.received.0, self.durable.0, is_due)?;
            host_ffi::mark("source.slot.advanced");
        }
        Ok(())
    }

    /// A transaction has been handed on.
    fn note(&mut self, barrier: Lsn, committed: i64) {
        if self.on_way.len() < MAX_MEASURED {
            self.on_way.push_back((barrier, committed));
        }
    }

    /// Reports how long ago what is durable now was committed, by the clocks of both machines.
    fn measure(&mut self) {
        let mut newest = None;
        while let Some((_, committed)) = self.on_way.pop_front_if(|(barrier, _)| *barrier <= self.durable) {
            newest = Some(committed);
        }
        let Some(micros) = newest.and_then(|committed| u64::try_from(committed).ok()) else { return };
        let committed = UNIX_EPOCH + Duration::from_secs(EPOCH_SECONDS) + Duration::from_micros(micros);
        let lag = SystemTime::now().duration_since(committed).unwrap_or_default();
        host_ffi::metric("source.lag_seconds", MetricKind::Gauge, lag.as_secs_f64(), &[]);
    }
}

impl Reader<'_> {
    /// Reads on until the call is dropped or fails.
    pub(super) fn follow(&mut self, names: &Names, confirmed: Lsn) -> Result<(), ConnectorError> {
        loop {
            match self.follow_in(names, confirmed) {
                // The session has been closed, and all that was not marked comes again.
                Err(error) if error.code == NEEDS_TEXT => {
                    self.binary = false;
                    self.forget_open();
                }
                other => return other,
            }
        }
    }

    /// The same with values in one form.
    fn follow_in(&mut self, names: &Names, confirmed: Lsn) -> Result<(), ConnectorError> {
        let longest = self.longest();
        let tail = Tail::open(&self.connect, names, self.covered, confirmed, self.binary, longest, self.catalog)?;
        let every = self.guard.borrow().every().map_or(tail.every, |guard| guard.min(tail.every));
        let tail = Rc::new(RefCell::new(tail));
        let (waiting, guard) = (Rc::downgrade(&tail), Rc::downgrade(self.guard));
        self.meanwhile(every, move || {
            waiting.upgrade().map_or(Ok(()), |tail| tail.borrow_mut().tell(true))?;
            guard.upgrade().map_or(Ok(()), |guard| guard.borrow_mut().look_apart())
        });
        let followed = self.take_all(names, &tail);
        if let Some(tail) = Rc::into_inner(tail) {
            tail.into_inner().stream.close();
        }
        followed
    }

    fn take_all(&mut self, names: &Names, tail: &RefCell<Tail>) -> Result<(), ConnectorError> {
        let mut message = Vec::new();
        loop {
            let wait = WAIT.min(tail.borrow().every);
            let came = tail.borrow_mut().next(wait, &mut message);
            let (mut reply, mut silent) = (false, false);
            match came {
                Ok(Came::Message) => self.take(&message)?,
                Ok(Came::SentUpTo { lsn, reply: asked }) => {
                    self.nothing_before(lsn);
                    reply = asked;
                }
                Ok(Came::Nothing) => silent = true,
                Err(CopyOutError::Wire(error)) => return Err(explain(error, names, self.catalog)),
                Err(CopyOutError::TooLong { length }) => {
                    let head = tail.borrow_mut().stream.refused_head(5).map(<[u8]>::to_vec).unwrap_or_default();
                    return Err(self.too_long(length, &head));
                }
            }
            let more = tail.borrow().stream.has_more();
            if !more && self.is_between() && self.is_barrier_due(reply) {
                self.barrier()?;
            }
            let mut tail = tail.borrow_mut();
            if let (Some((barrier, _)), false) = (self.marked, self.has_unmarked())
                && let Some(committed) = self.committed.take()
            {
                tail.note(barrier, committed);
            }
            tail.received = self.covered;
            tail.tell(reply)?;
            // One who is gone would keep us waiting for an answer here, too.
            if !silent {
                self.look_at_slot()?;
            }
        }
    }

    /// Whether it is time to hand on what has come. A server that asks for a word may be about to be shut down, and then waits until
    /// all that it has sent is durable.
    fn is_barrier_due(&self, asked: bool) -> bool {
        let Some((at, when)) = self.marked else { return true };
        let moved = self.covered.0.saturating_sub(at.0);
        self.has_unmarked() || moved >= QUIET_BYTES || (moved > 0 && (asked || when.elapsed() >= QUIET_TIME))
    }
}
