//! Reading the changes of all streams: one decoding of the log, in its order, barriers at ends of transactions only.

use super::changes::{Change, Transaction, too_large};
use super::config::{Names, Plugin};
use super::feed::{Window, WindowError, explain, peek, read_window};
use super::guard::{Guard, gives_up};
use super::lsn::Lsn;
use super::pgoutput::{Message, Tuple, parse, relation_of};
use super::plan::{Token, earliest};
use super::slot::{self, ServerLog, Slot};
use super::table::Table;
use super::test_decoding::Translator;
use super::{publication, source_changed};
use crate::PostgresSource;
use crate::catalog::{columns_of, find_relation, missing_table};
use crate::types::Kind;
use postgres_wire::{ConnectConfig, Connection};
use rapidbyte_sdk::changes::ChangeOp;
use rapidbyte_sdk::{
    ConnectorError, ReadPerf, ReadRequest, ReadSummary, SourceOutput, StreamContext, SyncMode, Truncate, host_ffi,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Changes are handed on from here on, in the middle of a transaction too.
const BATCH_ROWS: usize = 10_000;
/// The same in bytes of the log's messages.
const BATCH_BYTES: usize = 8 << 20;
/// The code of an error that no one sees: the values must be asked for as text.
pub(super) const NEEDS_TEXT: &str = "needs_text";

/// Bytes allowed for the names of columns and types in a line, those of an old row included: the server has up to 1,600 columns.
const NAMES: usize = 1 << 20;

/// The most bytes of values as text in a message: it lies in memory twice, and its values as often again.
const LONGEST_TEXT: usize = 96 << 20;

/// `pgoutput` sends values in their send form since then.
const SENDS_BINARY: u32 = 140_000;

/// A transaction on its way.
struct Open {
    of: Transaction,
    /// The place of its last change.
    seq: i64,
    /// Whether an earlier run, or window, has handed it on.
    skip: bool,
}

/// All streams of a task.
pub(super) struct Reader<'a> {
    tables: Vec<Table<'a>>,
    by_oid: HashMap<u32, usize>,
    pub(super) connect: ConnectConfig,
    pub(super) catalog: &'a mut Connection,
    /// Looks at what the slot keeps.
    pub(super) guard: &'a Rc<RefCell<Guard>>,
    output: &'a mut SourceOutput,
    /// Everything before was taken in.
    pub(super) covered: Lsn,
    /// The newest barrier, and when it was handed on.
    pub(super) marked: Option<(Lsn, Instant)>,
    /// When the newest transaction with rows was committed, in microseconds since 2000.
    pub(super) committed: Option<i64>,
    open: Option<Open>,
    /// The last change taken in, by commit and place.
    last: (Lsn, i64),
    waiting_rows: usize,
    waiting_bytes: usize,
    /// Whether rows went out since the last barrier.
    unmarked: bool,
    max_bytes: usize,
    /// Values come in their send form.
    pub(super) binary: bool,
    /// Makes messages out of lines, where the plugin writes those.
    translator: Option<Translator>,
}

/// Reads from `resume`, or where the slot stands, up to the end of the log as it is now, or on and on. A slot that keeps more of the log
/// than it may is dropped where the configuration says so.
pub(crate) fn read(
    source: &mut PostgresSource,
    request: &ReadRequest,
    output: &mut SourceOutput,
) -> Result<ReadSummary, ConnectorError> {
    let names = source.cdc_names()?;
    let guard = Rc::new(RefCell::new(Guard::new(source.connect.clone(), names.clone(), source.budget)));
    match read_log(source, request, output, &names, &guard) {
        Err(error) if gives_up(&error) => {
            slot::give_up(source.session()?, &names.slot)?;
            let message = format!("{}; it was dropped, as `on_slot_lag: drop_slot` says", error.message);
            Err(source_changed(message, "raise `max_slot_lag_bytes` if the server has room, and load the streams anew"))
        }
        read => read,
    }
}

/// The same, and leaves the slot alone. Its session has been closed then, however it ends.
fn read_log(
    source: &mut PostgresSource,
    request: &ReadRequest,
    output: &mut SourceOutput,
    names: &Names,
    guard: &Rc<RefCell<Guard>>,
) -> Result<ReadSummary, ConnectorError> {
    if let Some(other) = request.streams.iter().find(|stream| stream.sync_mode != SyncMode::Cdc) {
        return Err(ConnectorError::config("sync_mode", format!("stream `{}` is not read by its changes", other.name)));
    }
    host_ffi::mark("source.read.start");
    let mut perf = ReadPerf::default();
    let started = Instant::now();
    let connect = source.connect.clone();
    let mut connection = log_session(&connect)?;
    perf.connect_ns = nanos(started);
    let started = Instant::now();
    let tables = tables(source, request)?;
    let oids: Vec<u32> = tables.iter().map(|table| table.relation.oid).collect();
    let catalog = source.session()?;
    publication::keep_only(catalog, names, &oids)?;
    let log = ServerLog::look(catalog)?;
    let Some(found) = Slot::find(catalog, &names.slot)? else { return Err(slot::missing(&names.slot)) };
    let confirmed = found.usable(names)?;
    guard.borrow_mut().see(&found, &log)?;
    let resume = request.resume.as_ref().map(Lsn::of).transpose()?;
    check_start(&tables, resume, confirmed, &log, names)?;
    let lines = names.plugin == Plugin::TestDecoding;
    if lines && request.follow {
        return Err(ConnectorError::config(
            "unsupported_plugin",
            "`test_decoding` can't be followed: it says at a transaction's end where it is",
        )
        .with_hint("run without `--follow` now and then, or use `plugin: pgoutput`"));
    }
    let translator = lines.then(|| Translator::new(tables.iter().map(|table| &table.relation)));
    let binary = !lines
        && catalog.server_version() >= SENDS_BINARY
        && !tables.iter().try_fold(false, |any, table| {
            Ok::<bool, ConnectorError>(any || table.selected()?.iter().any(|column| column.kind == Kind::Cast))
        })?;
    let limit = request.streams.iter().map(|stream| stream.limits.max_batch_bytes).min().unwrap_or(u64::MAX);
    let mut reader = Reader {
        by_oid: oids.into_iter().enumerate().map(|(index, oid)| (oid, index)).collect(),
        tables,
        connect,
        catalog,
        guard,
        output,
        covered: resume.unwrap_or(confirmed),
        marked: None,
        committed: None,
        open: None,
        last: (Lsn(0), 0),
        waiting_rows: 0,
        waiting_bytes: 0,
        unmarked: false,
        max_bytes: BATCH_BYTES.min(usize::try_from(limit / 4).unwrap_or(usize::MAX)).max(1),
        binary,
        translator,
    };
    perf.query_ns += nanos(started);
    let started = Instant::now();
    if request.follow {
        connection.close();
        reader.follow(names, confirmed)?;
        return Ok(output.summary(perf));
    }
    let read = reader.windows(&mut connection, names, confirmed, log.flushed, resume);
    perf.fetch_ns += nanos(started);
    connection.close();
    read?;
    Ok(output.summary(perf))
}

fn log_session(connect: &ConnectConfig) -> Result<Connection, ConnectorError> {
    let mut connection = Connection::connect(connect)?;
    // Names of objects then come with their schema, as in the initial load.
    connection.batch_execute("SET search_path = pg_catalog")?;
    Ok(connection)
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn tables<'a>(source: &mut PostgresSource, request: &'a ReadRequest) -> Result<Vec<Table<'a>>, ConnectorError> {
    let token = Token::read(&request.token)?;
    let mut tables = Vec::with_capacity(request.streams.len());
    for (index, stream) in request.streams.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_| ConnectorError::internal("streams", "too many streams in a task"))?;
        let (schema, name) = source.table(&stream.name);
        let (schema, name) = (schema.to_owned(), name.to_owned());
        let session = source.session()?;
        let Some(relation) = find_relation(session, &schema, &name)? else {
            return Err(missing_table(session, &schema, &name));
        };
        let columns = columns_of(session, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
        let cut = token.cut(relation.oid)?;
        tables.push(Table::new(index, stream, relation, columns, cut)?);
    }
    Ok(tables)
}

/// Refuses a slot that has let go what is still needed, and a log that ends before it.
fn check_start(
    tables: &[Table<'_>],
    resume: Option<Lsn>,
    confirmed: Lsn,
    log: &ServerLog,
    names: &Names,
) -> Result<(), ConnectorError> {
    let cuts: Vec<_> = tables.iter().map(|table| table.cut.clone()).collect();
    let needed = resume.unwrap_or_else(|| earliest(&cuts));
    // A receipt's position was on the server's disk; the end of the log that a cut names may get there later.
    if resume.is_some() && needed > log.flushed {
        let message =
            format!("the server's log ends at {}, and was read up to {needed}: it was restored to an earlier time", log.flushed);
        return Err(source_changed(message, "load the streams anew"));
    }
    if confirmed > needed {
        let message = format!(
            "replication slot `{}` begins at {confirmed}, and changes are needed from {needed}: it was made anew, or somebody else has moved it",
            names.slot
        );
        return Err(source_changed(message, "load the streams anew"));
    }
    Ok(())
}

impl Reader<'_> {
    /// Reads window by window up to `goal`, and ends with a barrier there.
    fn windows(
        &mut self,
        connection: &mut Connection,
        names: &Names,
        mut confirmed: Lsn,
        goal: Lsn,
        resume: Option<Lsn>,
    ) -> Result<(), ConnectorError> {
        if let Some(every) = self.guard.borrow().every() {
            let guard = Rc::downgrade(self.guard);
            self.output.meanwhile(every, move || guard.upgrade().map_or(Ok(()), |guard| guard.borrow_mut().look_apart()));
        }
        let mut window = Window::default();
        let mut barrier = resume;
        while self.covered < goal {
            let upto = window.end(self.covered, goal);
            self.window(connection, names, upto)?;
            // Nothing that was committed before is still to come.
            self.covered = self.covered.max(upto);
            self.barrier()?;
            barrier = Some(self.covered);
            let durable = host_ffi::durable_position().map(|position| Lsn::of(&position)).transpose()?.unwrap_or_default();
            if durable > confirmed && self.covered < goal {
                slot::advance(self.catalog, names, durable)?;
                confirmed = durable;
                window = Window::default();
            } else {
                window.grow();
            }
        }
        if barrier.is_none() { self.barrier() } else { Ok(()) }
    }

    /// Reads one window; anew with values as text if a table turns out to need that.
    fn window(&mut self, connection: &mut Connection, names: &Names, upto: Lsn) -> Result<(), ConnectorError> {
        loop {
            let sql = match &self.translator {
                Some(translator) => translator.peek(&names.slot, upto)?,
                None => peek(names, self.binary, upto)?,
            };
            let longest = self.longest();
            match read_window(connection, &sql, longest, |message| self.take_row(message)) {
                Ok(()) if self.open.is_some() => {
                    return Err(ConnectorError::internal("pgoutput", "the changes end within a transaction"));
                }
                Ok(()) => return Ok(()),
                Err(WindowError::Failed(error)) if error.code == NEEDS_TEXT => {
                    // What was left unread spoils the session.
                    *connection = log_session(&self.connect)?;
                    self.binary = false;
                    self.forget_open();
                }
                Err(WindowError::Failed(error)) => return Err(error),
                Err(WindowError::Wire(error)) => return Err(explain(error, names, self.catalog)),
                Err(WindowError::TooLong(length, head)) => return Err(self.too_long(length, &head)),
            }
        }
    }

    /// Takes a row of a window in: a message, or a line that is one.
    fn take_row(&mut self, bytes: &[u8]) -> Result<(), ConnectorError> {
        let Some(mut translator) = self.translator.take() else { return self.take(bytes) };
        let open = self.open.as_ref();
        let counts = |oid: u32| {
            let table = self.by_oid.get(&oid).map(|index| &self.tables[*index]);
            open.zip(table).is_some_and(|(open, table)| !open.skip && !table.cut.has_seen(open.of.commit, open.of.xid))
        };
        let messages = translator.translate(bytes, self.catalog, counts);
        self.translator = Some(translator);
        messages?.iter().try_for_each(|message| self.take(message))
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), ConnectorError> {
        let message = parse(bytes).map_err(|malformed| {
            ConnectorError::internal("pgoutput", format!("a malformed message in the server's log: {}", malformed.0))
        })?;
        match message {
            Message::Begin { commit, commit_time, xid } => {
                if self.open.is_some() {
                    return Err(ConnectorError::internal("pgoutput", "a transaction begins within another"));
                }
                let of = Transaction { commit, time: commit_time, xid };
                self.open = Some(Open { of, seq: 0, skip: commit < self.covered });
                Ok(())
            }
            Message::Commit { end } => {
                let open = self.open.take().ok_or_else(outside)?;
                if open.skip {
                    return Ok(());
                }
                self.covered = self.covered.max(end);
                if self.has_unmarked() {
                    self.committed = Some(open.of.time);
                }
                // A transaction that was split ends with a barrier too.
                if self.is_full() || self.unmarked { self.barrier() } else { Ok(()) }
            }
            Message::Relation(logged) => {
                if let Some(index) = self.by_oid.get(&logged.oid) {
                    self.tables[*index].tell(logged);
                }
                Ok(())
            }
            Message::Insert { relation, new } => self.change(relation, ChangeOp::Insert, None, Some(new), bytes.len()),
            Message::Update { relation, old, new } => self.change(relation, ChangeOp::Update, old, Some(new), bytes.len()),
            Message::Delete { relation, old } => self.change(relation, ChangeOp::Delete, Some(old), None, bytes.len()),
            Message::Truncate { relations } => self.truncate(&relations),
            Message::Other => Ok(()),
        }
    }

    /// Counts a change; gives its transaction and place unless it was taken in before.
    fn next_change(&mut self) -> Result<Option<(Transaction, i64)>, ConnectorError> {
        let open = self.open.as_mut().ok_or_else(outside)?;
        open.seq += 1;
        let new = !open.skip && (open.of.commit, open.seq) > self.last;
        Ok(new.then_some((open.of, open.seq)))
    }

    /// The change at this place is done with.
    fn taken(&mut self, (of, seq): (Transaction, i64)) {
        self.last = (of.commit, seq);
    }

    fn change(
        &mut self,
        relation: u32,
        op: ChangeOp,
        old: Option<Tuple<'_>>,
        new: Option<Tuple<'_>>,
        bytes: usize,
    ) -> Result<(), ConnectorError> {
        let Some((of, seq)) = self.next_change()? else { return Ok(()) };
        let index = self.by_oid.get(&relation).filter(|index| !self.tables[**index].cut.has_seen(of.commit, of.xid));
        let Some(index) = index else {
            self.taken((of, seq));
            return Ok(());
        };
        let table = &mut self.tables[*index];
        table.reshape(self.catalog, self.output)?;
        if self.binary && table.needs_text() {
            // It comes again.
            return Err(ConnectorError::internal(NEEDS_TEXT, "a column's values are needed as text"));
        }
        table.push(&Change { op, old, new }, seq, &of, self.output)?;
        self.taken((of, seq));
        self.waiting_rows += 1;
        self.waiting_bytes += bytes;
        if self.is_full() { self.flush() } else { Ok(()) }
    }

    fn truncate(&mut self, relations: &[u32]) -> Result<(), ConnectorError> {
        let Some((of, seq)) = self.next_change()? else { return Ok(()) };
        self.taken((of, seq));
        for relation in relations {
            let Some(index) = self.by_oid.get(relation) else { continue };
            let table = &mut self.tables[*index];
            if table.cut.has_seen(of.commit, of.xid) {
                continue;
            }
            table.flush(self.output)?;
            self.unmarked = true;
            self.output.truncate(&Truncate { stream: table.index(), position: Some(of.place().position()) })?;
        }
        Ok(())
    }

    /// The most bytes that the values of a change may have.
    fn largest(&self) -> usize {
        let largest = self.tables.iter().map(|table| table.stream.limits.max_record_bytes).max().unwrap_or(0);
        usize::try_from(largest).unwrap_or(usize::MAX)
    }

    /// The most bytes a message may have. What values have as text is judged once they are none any more.
    pub(super) fn longest(&self) -> usize {
        let largest = self.largest();
        if self.binary { largest } else { largest.saturating_mul(2).min(LONGEST_TEXT) + NAMES }
    }

    /// Whether no transaction is on its way.
    pub(super) fn is_between(&self) -> bool {
        self.open.is_none()
    }

    /// Whether something was taken in since the last barrier.
    pub(super) fn has_unmarked(&self) -> bool {
        self.unmarked || self.waiting_rows > 0
    }

    /// Forgets the transaction on its way; it comes again.
    pub(super) fn forget_open(&mut self) {
        self.open = None;
    }

    /// The server has looked through the log up to here.
    pub(super) fn nothing_before(&mut self, lsn: Lsn) {
        if self.open.is_none() {
            self.covered = self.covered.max(lsn);
        }
    }

    fn is_full(&self) -> bool {
        self.waiting_rows >= BATCH_ROWS || self.waiting_bytes >= self.max_bytes
    }

    /// Hands everything on, and says how far it reaches.
    pub(super) fn barrier(&mut self) -> Result<(), ConnectorError> {
        self.flush()?;
        self.unmarked = false;
        self.output.barrier(&self.covered.position())?;
        self.marked = Some((self.covered, Instant::now()));
        Ok(())
    }

    /// What is done while the destination takes nothing.
    pub(super) fn meanwhile(&mut self, every: Duration, act: impl FnMut() -> Result<(), ConnectorError> + 'static) {
        self.output.meanwhile(every, act);
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        self.unmarked |= self.waiting_rows > 0;
        for table in &mut self.tables {
            table.flush(self.output)?;
        }
        self.waiting_rows = 0;
        self.waiting_bytes = 0;
        self.look_at_slot()
    }

    /// Looks at what the slot keeps, if it is time to.
    pub(super) fn look_at_slot(&mut self) -> Result<(), ConnectorError> {
        self.guard.borrow_mut().look(self.catalog)
    }

    /// Names the table whose change is larger than `max_record_bytes`.
    pub(super) fn too_long(&self, length: usize, head: &[u8]) -> ConnectorError {
        let oid = match &self.translator {
            Some(translator) => translator.relation_of(head),
            None => relation_of(head),
        };
        let stream: Option<&StreamContext> = oid.and_then(|oid| self.by_oid.get(&oid)).map(|index| self.tables[*index].stream);
        let of = stream.map_or_else(String::new, |stream| format!("stream `{}`: ", stream.name));
        too_large(&of, length, self.largest())
    }
}

fn outside() -> ConnectorError {
    ConnectorError::internal("pgoutput", "a change outside of a transaction")
}
