//! One task: batches into staging by COPY, a receipt at each commit.

use crate::catalog;
use crate::config::OwnConfig;
use crate::dlq_table::{self, Place};
use crate::encode::EncodeFault;
use crate::evolution::{self, Ground, Refusal};
use crate::fault;
use crate::feed::{Feed, SendFault, nanos, since};
use crate::layout::{self, Layout};
use crate::ledger::{self, Columns, Hold, Load, Owner, Progress};
use crate::merge;
use crate::names::{Table, target_of};
use crate::publish::check_kind;
use crate::rejects::Rejects;
use crate::session::Session;
use crate::tolerant;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use postgres_wire::quote_ident;
use rapidbyte_sdk::{
    Barrier, ConnectorError, Event, Input, Receipt, RunContext, SyncMode, WritePerf, WriteRequest, WriteStream, WriteSummary,
    host_ffi,
};
use std::collections::HashMap;
use std::time::Instant;

/// One stream of the task.
struct Share<'a> {
    run: &'a RunContext,
    request: &'a WriteStream,
    own: &'a OwnConfig,
    owner: Owner,
    staging: Option<Table>,
    layouts: HashMap<u32, Layout>,
    /// Of the newest receipt.
    seq: u64,
    rows: u64,
    bytes: u64,
    /// Since then.
    window_rows: u64,
    window_bytes: u64,
    rejects: Rejects,
}

/// Advisory lock, with a stream's number: its staging table is being made.
const STAGING_LOCK: i64 = 0x5261_7069_0000_0000;

/// Writes a task.
pub(crate) struct Loader<'a> {
    session: &'a mut Session,
    config: &'a OwnConfig,
    shares: Vec<Share<'a>>,
    buffer: Vec<u8>,
    summary: WriteSummary,
    staged: bool,
}

/// Runs a task to its end.
pub(crate) fn write(
    session: &mut Session,
    config: &OwnConfig,
    request: &WriteRequest,
    input: &mut Input,
) -> Result<WriteSummary, ConnectorError> {
    let perf = WritePerf { connect_ns: nanos(session.connect_time()), ..WritePerf::default() };
    let shares = (0..).zip(&request.streams).map(|(index, stream)| Share::new(&request.run, config, stream, index)).collect();
    let summary = WriteSummary { perf, ..WriteSummary::default() };
    let mut loader = Loader { session, config, shares, buffer: Vec::new(), summary, staged: false };
    let done = loader.run(input);
    if done.is_err() {
        loader.session.roll_back();
    }
    done.map(|()| loader.summary)
}

impl<'a> Share<'a> {
    fn new(run: &'a RunContext, own: &'a OwnConfig, request: &'a WriteStream, index: u32) -> Self {
        Self {
            run,
            request,
            own,
            owner: Owner::new(run, &request.context, request.epoch),
            staging: None,
            layouts: HashMap::new(),
            seq: request.seq,
            rows: request.rows,
            bytes: request.bytes,
            window_rows: 0,
            window_bytes: 0,
            rejects: Rejects::new(index, request.context.policies.on_data_error),
        }
    }

    fn name(&self) -> &str {
        &self.owner.stream
    }

    /// Finds or makes the staging table, and gives it what a schema needs; within a transaction. Gives the way of the schema's
    /// batches into what is there.
    fn ensure_staging(&mut self, session: &mut Session, natural: &Layout, schema: &Schema, hold: Hold) -> Result<Layout, Refusal> {
        let stream = ledger::check_epoch(session, &self.owner, hold)?;
        let generation = self.request.generation;
        let load = ledger::open_load(session, &self.owner, stream, generation)?;
        let target = target_of(&self.request.context, &self.own.schema)?;
        let relation = catalog::relation(session, &target)?.filter(|relation| check_kind(&target, relation).is_ok());
        let settle = |session: &mut Session, staging: Option<&Columns>| {
            let ground = Ground { context: &self.request.context, target: &target, relation: relation.as_ref(), staging };
            evolution::settle(session, natural, schema, &ground)
        };
        if self.open_ended() && !self.in_window() {
            let layout = settle(session, None)?;
            self.begin_open_ended(session, stream, &load, &layout)?;
            self.staging = Some(load.staging);
            return Ok(layout);
        }
        let staging = load.staging;
        let mut known = ledger::columns(session, stream, generation)?;
        let mut layout = settle(session, known.as_ref())?;
        if known.as_ref().is_none_or(|columns| !evolution::changes(columns, &layout).is_empty()) {
            // Writers of other partitions see the same schema at the same time: the first one makes the table.
            session.query_params("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[(STAGING_LOCK ^ stream).into()])?;
            known = ledger::columns(session, stream, generation)?;
            layout = settle(session, known.as_ref())?;
        }
        match known {
            Some(mut columns) => {
                let made = evolution::changes(&columns, &layout);
                if !made.is_empty() {
                    evolution::alter(session, &staging, &mut columns, made)?;
                    ledger::set_columns(session, stream, generation, &columns)?;
                }
            }
            None => {
                session.run(&create_statement("TABLE", &staging, &layout.columns)?)?;
                ledger::set_columns(session, stream, generation, &layout.columns)?;
            }
        }
        self.staging = Some(staging);
        Ok(layout)
    }

    /// Columns that do not go with rows the load has would stand in the way of every attempt to go on with it, also once the
    /// source has been mended: the next run begins another load. The refusal is the error to report, whatever becomes of this.
    fn spoil(&self, session: &mut Session, mut error: ConnectorError) -> ConnectorError {
        session.roll_back();
        let spoiled = session.transaction(|session| {
            let stream = ledger::check_epoch(session, &self.owner, Hold::Share)?;
            ledger::spoil(session, stream, self.request.generation)
        });
        if spoiled.is_ok() {
            let hint = error.hint.unwrap_or_default();
            error.hint = Some(format!("{hint}; the next run loads the stream anew"));
        }
        error
    }

    /// Each commit goes into the target itself.
    fn open_ended(&self) -> bool {
        self.request.context.sync_mode == SyncMode::Incremental
    }

    /// Rows have come since the last commit.
    fn in_window(&self) -> bool {
        self.window_rows > 0
    }

    /// Makes staging and target ready for windows of this layout. Between windows staging is empty, so that another layout needs
    /// no change of the old table.
    fn begin_open_ended(&self, session: &mut Session, stream: i64, load: &Load, layout: &Layout) -> Result<(), ConnectorError> {
        let generation = self.request.generation;
        let key = merge::key_of(&self.request.context, &layout.columns)?;
        let target = target_of(&self.request.context, &self.own.schema)?;
        ledger::drop_staging(session, &load.staging)?;
        // Not logged: at every commit it is empty. Its rows lie in the order in which they came, and of two with one key the last one
        // counts: nobody may make room among them for later ones.
        let table = create_statement("UNLOGGED TABLE", &load.staging, &layout.columns)?;
        session.run(&format!("{table} WITH (autovacuum_enabled = off)"))?;
        ledger::set_columns(session, stream, generation, &layout.columns)?;
        merge::ensure_target(session, &self.request.context, load, &layout.columns, &target, &key)
    }

    /// Puts the window's rows into the target, in the transaction of their receipt.
    fn merge_window(&mut self, session: &mut Session) -> Result<(), ConnectorError> {
        if !self.open_ended() || !self.in_window() {
            return Ok(());
        }
        let stream = ledger::check_epoch(session, &self.owner, Hold::Share)?;
        let load = ledger::open_load(session, &self.owner, stream, self.request.generation)?;
        let columns = ledger::columns(session, stream, self.request.generation)?
            .ok_or_else(|| ConnectorError::internal("missing_schema", "rows came before their schema"))?;
        let key = merge::key_of(&self.request.context, &columns)?;
        let target = target_of(&self.request.context, &self.own.schema)?;
        host_ffi::mark("dest.merge.before");
        let context = &self.request.context;
        let skip_identical = self.own.upsert_skip_identical;
        let inserted = merge::Insertion::plan(session, context, &load, &columns, &target, &key, skip_identical)
            .and_then(|insertion| insertion.run(session, &load, &columns, &mut self.rejects))
            .map_err(|error| fault::of_stream(error, &self.owner.stream))?;
        self.window_rows -= inserted.fallen.min(self.window_rows);
        if key.is_empty() {
            merge::took_all(&target, self.window_rows, inserted.rows).map_err(|error| fault::of_stream(error, self.name()))?;
        }
        session.run(&format!("TRUNCATE {}", load.staging.quoted()?))?;
        host_ffi::mark("dest.merge.after");
        Ok(())
    }

    fn write_receipt(&self, session: &mut Session, index: usize, barrier: &Barrier) -> Result<Receipt, ConnectorError> {
        let stream = ledger::check_epoch(session, &self.owner, Hold::Share)?;
        ledger::open_load(session, &self.owner, stream, self.request.generation)?;
        let progress = Progress {
            generation: self.request.generation,
            partition: &self.request.partition,
            seq: self.seq + 1,
            rows: self.rows + self.window_rows,
            bytes: self.bytes + self.window_bytes,
            last: barrier.last,
            position: barrier.position.as_ref(),
            transform_state: &barrier.transform_state,
        };
        let committed_at_ms = ledger::write_receipt(session, &self.owner, stream, &progress)?;
        Ok(Receipt {
            stream: u32::try_from(index).unwrap_or(u32::MAX),
            generation: progress.generation,
            partition: self.request.partition.clone(),
            epoch: self.owner.epoch,
            seq: progress.seq,
            position: barrier.position.clone(),
            rows: progress.rows,
            bytes: progress.bytes,
            last: barrier.last,
            transform_state: barrier.transform_state.clone(),
            committed_at_ms,
        })
    }

    /// The window is durable.
    fn settle(&mut self) {
        self.seq += 1;
        self.rows += std::mem::take(&mut self.window_rows);
        self.bytes += std::mem::take(&mut self.window_bytes);
        self.rejects.clear();
    }

    /// Writes the rows given up since the last commit, in the transaction of their receipt.
    fn write_letters(&self, session: &mut Session) -> Result<(), ConnectorError> {
        if self.rejects.letters().next().is_none() {
            return Ok(());
        }
        let place = Place {
            run: self.run,
            stream: &self.owner.stream,
            generation: self.request.generation,
            partition: &self.request.partition,
            seq: self.seq + 1,
        };
        host_ffi::mark("dest.letters.before");
        dlq_table::write(session, &self.own.letters_table(), &place, self.rejects.letters())
            .map_err(|error| fault::of_stream(error, &self.owner.stream))?;
        host_ffi::mark("dest.letters.after");
        Ok(())
    }
}

/// A logged table: its rows must outlive a crash of the server, as the receipts say they do.
fn create_statement(kind: &str, table: &Table, columns: &Columns) -> Result<String, ConnectorError> {
    let mut parts = Vec::with_capacity(columns.len());
    for column in columns {
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        parts.push(format!("{} {}{not_null}", quote_ident(&column.name)?, column.staged));
    }
    Ok(format!("CREATE {kind} {} ({})", table.quoted()?, parts.join(",\n")))
}

fn no_stream(stream: u32) -> ConnectorError {
    ConnectorError::internal("unknown_stream", format!("an event names stream {stream}, which the task does not have"))
}

fn unsupported_event(name: &str) -> ConnectorError {
    ConnectorError::internal("unsupported_event", format!("an event `{name}` can't be written yet"))
        .with_hint("use `sync_mode: full_refresh` or `sync_mode: incremental` with this destination")
}

impl Loader<'_> {
    fn run(&mut self, input: &mut Input) -> Result<(), ConnectorError> {
        let mut event = input.next()?;
        loop {
            event = match event {
                Event::Schema { stream, schema_id, schema } => {
                    self.announce(stream, schema_id, &schema)?;
                    input.next()?
                }
                Event::Batch { stream, schema_id, batch, bytes } => self.copy(stream, schema_id, (batch, bytes), input)?,
                Event::Barrier(barrier) => {
                    if barrier.commit {
                        self.commit(&barrier, input)?;
                    }
                    input.next()?
                }
                Event::Heartbeat => input.next()?,
                Event::DeadLetters(letters) => {
                    for letter in letters {
                        let share = self.shares.get_mut(letter.stream as usize).ok_or_else(|| no_stream(letter.stream))?;
                        share.rejects.arrived(letter)?;
                    }
                    input.next()?
                }
                Event::Truncate(_) => return Err(unsupported_event("truncate")),
                Event::ReplaceRange { .. } => return Err(unsupported_event("replace-range")),
                Event::End => {
                    // Rows after the last commit have no receipt and must not stay.
                    self.session.roll_back();
                    return Ok(());
                }
            };
        }
    }

    /// Plans a schema and makes the staging table fit for it.
    fn announce(&mut self, stream: u32, schema_id: u32, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let share = self.shares.get_mut(stream as usize).ok_or_else(|| no_stream(stream))?;
        let target = target_of(&share.request.context, &self.config.schema)?;
        let natural = layout::plan(self.session, schema, share.name(), &target, self.config.missing_types)?;
        if share.layouts.is_empty() {
            natural.warn(share.name());
        }
        let mut settled = None;
        let mut within_load = false;
        let mut ensure = |session: &mut Session, hold| {
            settled = Some(share.ensure_staging(session, &natural, schema, hold).map_err(|refusal| {
                within_load = refusal.within_load;
                fault::of_stream(*refusal.error, share.name())
            })?);
            Ok(())
        };
        let ensured = if self.session.in_transaction() {
            ensure(self.session, Hold::No)
        } else {
            self.session.transaction(|session| ensure(session, Hold::Share))
        };
        if let Err(error) = ensured {
            return Err(if within_load && !share.open_ended() { share.spoil(self.session, error) } else { error });
        }
        let layout = settled.ok_or_else(|| ConnectorError::internal("missing_schema", "a schema was not settled"))?;
        share.layouts.insert(schema_id, layout);
        Ok(())
    }

    /// Copies a batch and those that follow it under the same schema. Gives the first event of another kind.
    fn copy(&mut self, stream: u32, schema_id: u32, first: (RecordBatch, u64), input: &mut Input) -> Result<Event, ConnectorError> {
        if self.shares.get(stream as usize).is_some_and(|share| share.rejects.tolerant()) {
            return self.copy_tolerantly(stream, schema_id, first, input);
        }
        let Self { session, shares, buffer, summary, staged, config } = self;
        let share = shares.get_mut(stream as usize).ok_or_else(|| no_stream(stream))?;
        if !session.in_transaction() {
            session.begin_window()?;
        }
        let Share { owner, staging, layouts, request, rows, window_rows, window_bytes, .. } = share;
        let unannounced =
            || ConnectorError::internal("unknown_schema", format!("a batch of `{}` came before its schema", owner.stream));
        let layout = layouts.get(&schema_id).ok_or_else(unannounced)?;
        let staging = staging.as_ref().ok_or_else(unannounced)?;
        let names = layout.names();
        let in_stream = |error| fault::of_stream(fault::from_server(error), &owner.stream);
        if !*staged {
            host_ffi::mark("dest.staging.before");
        }
        let mut feed = Feed::start(session, config.load_method, staging, layout, buffer, &mut summary.perf).map_err(in_stream)?;
        let mut sent = 0;
        let (mut batch, mut bytes) = first;
        let next = loop {
            let at = *rows + *window_rows;
            feed.batch(&batch, layout, &mut summary.perf).map_err(|failed| match failed {
                SendFault::Encode(fault) => fault::of_encoding(&fault, &owner.stream, &request.partition, at + 1, &names),
                SendFault::Server(error) => in_stream(error),
            })?;
            let count = batch.num_rows() as u64;
            sent += count;
            *window_rows += count;
            *window_bytes += bytes;
            summary.batches_written += 1;
            if !*staged {
                *staged = true;
                host_ffi::mark("dest.staging.after");
            }
            match next_of_schema(input, stream, schema_id)? {
                Ok(following) => (batch, bytes) = following,
                Err(other) => break other,
            }
        };
        let taken = feed.finish(&mut summary.perf).map_err(in_stream)?;
        if taken != sent {
            return Err(ConnectorError::internal(
                "copy_count",
                format!("stream `{}`: {sent} rows were sent and the server took {taken}", owner.stream),
            ));
        }
        Ok(next)
    }

    /// The same where rows that fail are left out: each batch by a COPY of its own, which can be tried again in parts.
    fn copy_tolerantly(
        &mut self,
        stream: u32,
        schema_id: u32,
        (batch, bytes): (RecordBatch, u64),
        input: &mut Input,
    ) -> Result<Event, ConnectorError> {
        let Self { session, shares, buffer, summary, staged, config } = self;
        let share = shares.get_mut(stream as usize).ok_or_else(|| no_stream(stream))?;
        if !session.in_transaction() {
            session.begin_window()?;
        }
        let Share { owner, staging, layouts, request, rows, window_rows, window_bytes, rejects, .. } = share;
        let unannounced =
            || ConnectorError::internal("unknown_schema", format!("a batch of `{}` came before its schema", owner.stream));
        let layout = layouts.get(&schema_id).ok_or_else(unannounced)?;
        let staging = staging.as_ref().ok_or_else(unannounced)?;
        let names = layout.names();
        let first_row = *rows + *window_rows + 1;
        let words = |fault: &EncodeFault| fault::of_encoding(fault, &owner.stream, &request.partition, first_row, &names);
        if !*staged {
            host_ffi::mark("dest.staging.before");
        }
        let way = tolerant::Way { method: config.load_method, staging, layout, buffer, words: &words };
        let kept = tolerant::feed_batch(session, way, &batch, rejects, &mut summary.perf)
            .map_err(|error| fault::of_stream(error, &owner.stream))?;
        if !std::mem::replace(staged, true) {
            host_ffi::mark("dest.staging.after");
        }
        *window_rows += kept;
        *window_bytes += bytes;
        summary.batches_written += 1;
        input.next()
    }

    /// Makes the window durable with a receipt for each stream, in one transaction, and acknowledges.
    fn commit(&mut self, barrier: &Barrier, input: &mut Input) -> Result<(), ConnectorError> {
        let started = Instant::now();
        if !self.session.in_transaction() {
            self.session.begin_window()?;
        }
        // Streams are locked in the order in which a claim locks them.
        let mut order: Vec<usize> = (0..self.shares.len()).collect();
        order.sort_by(|a, b| self.shares[*a].owner.key.cmp(&self.shares[*b].owner.key));
        let mut receipts: Vec<Option<Receipt>> = self.shares.iter().map(|_| None).collect();
        for index in order {
            self.shares[index].merge_window(self.session)?;
            self.shares[index].write_letters(self.session)?;
            host_ffi::mark("dest.receipt.before");
            receipts[index] = Some(self.shares[index].write_receipt(self.session, index, barrier)?);
            host_ffi::mark("dest.receipt.after");
        }
        self.session.commit(|| host_ffi::mark("dest.commit.sent"))?;
        host_ffi::mark("dest.commit.confirmed");
        for share in &mut self.shares {
            self.summary.records += share.window_rows;
            self.summary.bytes += share.window_bytes;
            self.summary.records_skipped += share.rejects.skipped();
            if !share.rejects.own().is_empty() {
                input.report_dead_letters(share.rejects.own())?;
            }
            share.settle();
        }
        self.summary.checkpoint_count += 1;
        self.summary.perf.commit_ns += since(started);
        let receipts: Vec<Receipt> = receipts.into_iter().flatten().collect();
        input.acknowledge(barrier.id, &receipts)
    }
}

/// The next batch of the same schema with its bytes, or the event that comes instead.
fn next_of_schema(input: &mut Input, stream: u32, schema_id: u32) -> Result<Result<(RecordBatch, u64), Event>, ConnectorError> {
    loop {
        return Ok(match input.next()? {
            Event::Batch { stream: of, schema_id: under, batch, bytes } if of == stream && under == schema_id => Ok((batch, bytes)),
            Event::Heartbeat => continue,
            Event::Barrier(barrier) if !barrier.commit => continue,
            other => Err(other),
        });
    }
}
