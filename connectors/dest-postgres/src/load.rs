//! One task: batches into staging by COPY, a receipt at each commit.

use crate::changes::{self, Places};
use crate::config::OwnConfig;
use crate::encode::EncodeFault;
use crate::fault;
use crate::feed::{Feed, SendFault, nanos, since};
use crate::layout;
use crate::ledger::{self, Hold};
use crate::names::target_of;
use crate::session::Session;
use crate::share::Share;
use crate::tolerant;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use rapidbyte_sdk::{
    Barrier, Checkpoint, ConnectorError, Event, Input, Receipt, SyncMode, Truncate, WriteMode, WritePerf, WriteRequest,
    WriteSummary, host_ffi,
};
use std::time::Instant;

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
    let perf = WritePerf { connect_ns: nanos(session.take_connect_time()), ..WritePerf::default() };
    let shares = (0..).zip(&request.streams).map(|(index, stream)| Share::new(&request.run, config, stream, index)).collect();
    let summary = WriteSummary { perf, ..WriteSummary::default() };
    let mut loader = Loader { session, config, shares, buffer: Vec::new(), summary, staged: false };
    let done = loader.run(input);
    if done.is_err() {
        loader.session.roll_back();
    }
    done.map(|()| loader.summary)
}

fn no_stream(stream: u32) -> ConnectorError {
    ConnectorError::internal("unknown_stream", format!("an event names stream {stream}, which the task does not have"))
}

fn unsupported_event(name: &str) -> ConnectorError {
    ConnectorError::internal("unsupported_event", format!("an event `{name}` can't be written yet"))
        .with_hint("this is a defect of the source: please report it")
}

impl Loader<'_> {
    fn run(&mut self, input: &mut Input) -> Result<(), ConnectorError> {
        self.look_back()?;
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
                Event::Truncate(truncate) => {
                    self.truncate(&truncate)?;
                    input.next()?
                }
                Event::ReplaceRange { .. } => return Err(unsupported_event("replace-range")),
                Event::End => {
                    // Rows after the last commit have no receipt and must not stay.
                    self.session.roll_back();
                    return Ok(());
                }
            };
        }
    }

    /// Reads up to where each stream's changes are in its table: the source may send what lies before, if other streams need it.
    fn look_back(&mut self) -> Result<(), ConnectorError> {
        for share in self.shares.iter_mut().filter(|share| share.of_changes() && share.seq > 0) {
            let stream = ledger::check_epoch(self.session, &share.owner, Hold::No)?;
            let position = ledger::place_of(self.session, stream, share.request.generation, &share.request.partition)?;
            share.applied = position.as_ref().map(changes::place).transpose()?.unwrap_or(0);
        }
        Ok(())
    }

    fn truncate(&mut self, truncate: &Truncate) -> Result<(), ConnectorError> {
        let share = self.shares.get_mut(truncate.stream as usize).ok_or_else(|| no_stream(truncate.stream))?;
        let Some(position) = truncate.position.as_ref().filter(|_| share.of_changes()) else {
            return Err(unsupported_event("truncate"));
        };
        if !self.session.in_transaction() {
            self.session.begin_window()?;
        }
        share.truncate(self.session, position)
    }

    /// Plans a schema and makes the staging table fit for it.
    fn announce(&mut self, stream: u32, schema_id: u32, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let share = self.shares.get_mut(stream as usize).ok_or_else(|| no_stream(stream))?;
        let target = target_of(&share.request.context, &self.config.schema)?;
        let missing = self.config.missing_types;
        let mut natural = layout::plan(self.session, schema, share.name(), &target, missing, share.of_changes())?;
        let context = &share.request.context;
        if (context.sync_mode, context.write_mode) == (SyncMode::Cdc, WriteMode::Append) {
            // The log of a deleted row tells its key at most.
            natural.columns = changes::all_nullable(&natural.columns);
        }
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
            // A table that a crash of the server takes away is missed by nobody: the window's commit fails with it.
            self.session.transaction_ahead(|session| ensure(session, Hold::Share))
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
        let of_changes = share.of_changes();
        let Share { owner, staging, layouts, request, rows, window_rows, window_bytes, staged_rows, applied, newest, .. } = share;
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
            if of_changes {
                let places = Places::of(&batch)?;
                let known = places.up_to(*applied);
                *newest = places.last().unwrap_or(*newest);
                if known > 0 {
                    batch = batch.slice(known, batch.num_rows() - known);
                }
            }
            feed.batch(&batch, layout, &mut summary.perf).map_err(|failed| match failed {
                SendFault::Encode(fault) => fault::of_encoding(&fault, &owner.stream, &request.partition, at + 1, &names),
                SendFault::Server(error) => in_stream(error),
            })?;
            let count = batch.num_rows() as u64;
            sent += count;
            *window_rows += count;
            *staged_rows += count;
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
        let Share { owner, staging, layouts, request, rows, window_rows, window_bytes, staged_rows, rejects, .. } = share;
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
        *staged_rows += kept;
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
        let receipts = receipts.into_iter().flatten().collect();
        input.acknowledge(&Checkpoint { barrier: barrier.id, receipts })
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
