//! One task: rows into staged files, and at each barrier a commit.

use crate::changes;
use crate::config::Settings;
use crate::control::{Commit, Control, now_ms};
use crate::disk::{DISK_FULL, Disk};
use crate::evolution::{self, Evolved};
use crate::format::{Encoder, Sink, check_schema, fit, stored};
use crate::letters::Letters;
use crate::manifest::{Column, FileKind, Manifest, StagedFile, Step};
use crate::{names, publish};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use arrow_select::filter::filter;
use rapidbyte_sdk::{
    Barrier, Checkpoint, CommitState, ConnectorError, DataErrorPolicy, ErrorScope, Event, Input, Position, Receipt, SyncMode,
    Truncate, WriteMode, WritePerf, WriteRequest, WriteStream, WriteSummary, host_ffi,
};
use std::collections::HashMap;
use std::time::Instant;

pub(crate) use crate::evolution::supported_policies;

/// So that a file's size is looked at often enough to close it near its target.
const SLICE_ROWS: usize = 16_384;

/// The streams of one `write`.
pub(crate) struct Task<'a> {
    streams: Vec<StreamWriter<'a>>,
    summary: WriteSummary,
}

/// One stream of the task.
struct StreamWriter<'a> {
    index: u32,
    settings: &'a Settings,
    control: Control,
    stream: &'a WriteStream,
    seq: u64,
    rows: u64,
    bytes: u64,
    staging: (String, String),
    /// What the columns must fit, from earlier files.
    known: Option<Vec<Column>>,
    schemas: HashMap<u32, Evolved>,
    newest_schema: Option<u32>,
    open: Option<OpenFile>,
    /// Changes up to here are in files that count.
    applied: u64,
    /// The place of the newest change in the log.
    newest_change: (u64, i64),
    /// Closed and durable since the last commit.
    staged: Vec<StagedFile>,
    letters: Letters,
}

struct OpenFile {
    schema_id: u32,
    encoder: Encoder,
    name: String,
    rows: u64,
}

impl<'a> Task<'a> {
    pub(crate) fn new(settings: &'a Settings, disk: &Disk, request: &'a WriteRequest) -> Result<Self, ConnectorError> {
        let streams = request.streams.iter().zip(0..).map(|(stream, index)| StreamWriter::new(settings, disk, stream, index));
        Ok(Self { streams: streams.collect::<Result<_, _>>()?, summary: WriteSummary::default() })
    }

    pub(crate) fn run(mut self, input: &mut Input) -> Result<WriteSummary, ConnectorError> {
        let written = self.take(input);
        if written.as_ref().is_err_and(|error| error.code == DISK_FULL && error.commit_state == CommitState::BeforeCommit) {
            self.discard();
        }
        written.map(|()| self.summary)
    }

    /// Gives the space of what was not committed back: the next claim has to write its manifest before it can sweep.
    pub(crate) fn discard(&mut self) {
        for stream in &mut self.streams {
            // The full disk is the error to report; what can't be removed now is swept later.
            let _ = stream.discard();
        }
    }

    /// Takes events until the end.
    pub(crate) fn take(&mut self, input: &mut Input) -> Result<(), ConnectorError> {
        loop {
            match input.next()? {
                Event::Schema { stream, schema_id, schema } => self.stream(stream)?.schema(schema_id, &schema)?,
                Event::Batch { stream, schema_id, batch, bytes } => {
                    let mut perf = WritePerf::default();
                    let skipped = self.stream(stream)?.batch(schema_id, batch, bytes, &mut perf)?;
                    self.summary.perf = sum(self.summary.perf, perf);
                    self.summary.bytes += bytes;
                    self.summary.batches_written += 1;
                    self.summary.records_skipped += skipped;
                }
                Event::DeadLetters(letters) => {
                    for letter in letters {
                        let stream = letter.stream;
                        self.stream(stream)?.letters.arrived(letter)?;
                    }
                }
                Event::Barrier(barrier) if barrier.commit => self.commit(&barrier, input)?,
                // The host keeps barriers that are no commits from destinations; one more changes nothing.
                Event::Barrier(_) | Event::Heartbeat => {}
                Event::Truncate(Truncate { stream, position }) => {
                    let mut perf = WritePerf::default();
                    self.stream(stream)?.truncate(position.as_ref(), &mut perf)?;
                    self.summary.perf = sum(self.summary.perf, perf);
                }
                Event::ReplaceRange { .. } => return Err(unsupported("replace-range")),
                Event::End => return Ok(()),
            }
        }
    }

    fn stream(&mut self, index: u32) -> Result<&mut StreamWriter<'a>, ConnectorError> {
        self.streams.get_mut(index as usize).ok_or_else(|| {
            ConnectorError::internal("unknown_stream", format!("an event names stream {index}, which the task has not"))
        })
    }

    fn commit(&mut self, barrier: &Barrier, input: &mut Input) -> Result<(), ConnectorError> {
        let mut receipts = Vec::with_capacity(self.streams.len());
        for stream in &mut self.streams {
            let before = stream.committed_rows();
            let mut perf = WritePerf::default();
            let receipt = stream.commit(barrier, input, &mut perf)?;
            self.summary.perf = sum(self.summary.perf, perf);
            self.summary.records += receipt.rows - before;
            receipts.push(receipt);
        }
        self.summary.checkpoint_count += 1;
        input.acknowledge(&Checkpoint { barrier: barrier.id, receipts })
    }
}

impl<'a> StreamWriter<'a> {
    fn new(settings: &'a Settings, disk: &Disk, stream: &'a WriteStream, index: u32) -> Result<Self, ConnectorError> {
        let control = Control::new(disk.clone(), &stream.context.target);
        let newest = control.newest()?;
        let manifest = control.claimed(newest.as_ref(), stream.epoch)?;
        Ok(Self {
            index,
            settings,
            seq: stream.seq,
            rows: stream.rows,
            bytes: stream.bytes,
            staging: control.staging(stream.generation, stream.epoch),
            known: evolution::known(manifest),
            applied: applied(manifest, stream)?,
            newest_change: (0, 0),
            schemas: HashMap::new(),
            newest_schema: None,
            open: None,
            staged: Vec::new(),
            letters: Letters::default(),
            control,
            stream,
        })
    }

    /// Whether its commits are visible at once and followed by others, run after run.
    fn open_ended(&self) -> bool {
        self.stream.context.sync_mode == SyncMode::Incremental || changes::of_changes(self.stream)
    }

    fn committed_rows(&self) -> u64 {
        self.rows - self.staged_rows()
    }

    fn staged_rows(&self) -> u64 {
        let closed: u64 = self.staged.iter().filter(|file| file.kind == FileKind::Data).map(|file| file.rows).sum();
        closed + self.open.as_ref().map_or(0, |file| file.rows)
    }

    fn schema(&mut self, schema_id: u32, schema: &SchemaRef) -> Result<(), ConnectorError> {
        let context = &self.stream.context;
        let schema = stored(schema, self.settings.unsupported_values);
        let schema = match self.stream.context.sync_mode {
            SyncMode::Cdc if changes::of_changes(self.stream) => changes::loosened(&schema),
            SyncMode::Cdc => changes::with_fields(&schema),
            SyncMode::FullRefresh | SyncMode::Incremental => schema,
        };
        let evolved = evolution::evolve(&context.name.to_string(), self.known.as_deref(), &schema, &context.policies)
            .map_err(|error| self.unfit(error))?;
        check_schema(&context.name.to_string(), &evolved.schema, &self.settings.format)?;
        evolution::merge(&context.name, &mut self.known, &evolution::columns(&evolved.schema))?;
        self.schemas.insert(schema_id, evolved);
        self.newest_schema = Some(schema_id);
        Ok(())
    }

    /// Columns that do not go with those known. If those are of the load's own commits, they would stand in the way of every
    /// attempt to go on with it, also once the source has been mended.
    fn unfit(&self, mut error: ConnectorError) -> ConnectorError {
        if error.code == "type_change" && self.stream.context.write_mode == WriteMode::Replace {
            error.hint = Some(evolution::ONE_TYPE.to_owned());
        }
        let committed = || -> Result<bool, ConnectorError> {
            let newest = self.control.newest()?;
            let open = self.control.claimed(newest.as_ref(), self.stream.epoch)?.open.as_ref();
            Ok(open.is_some_and(|open| open.columns.is_some()))
        };
        // The change of columns is the error to report. What goes on for ever is not given up for it: its rows would come once more.
        if !self.open_ended()
            && let Ok(true) = committed()
            && self.control.spoil(self.stream.epoch, self.stream.generation).is_ok()
        {
            let hint = error.hint.unwrap_or_default();
            error.hint = Some(format!("{hint}; the next run loads the stream anew"));
        }
        error
    }

    /// Returns the rows left out.
    fn batch(&mut self, schema_id: u32, batch: RecordBatch, bytes: u64, perf: &mut WritePerf) -> Result<u64, ConnectorError> {
        let started = Instant::now();
        let batch = if changes::of_changes(self.stream) {
            changes::beyond(batch, self.applied, &mut self.newest_change)?
        } else if changes::of_load(self.stream) {
            changes::as_inserts(&batch)?
        } else {
            batch
        };
        let evolved = self.schemas.get(&schema_id).ok_or_else(|| unknown_schema(schema_id))?;
        let (batch, schema) = (evolved.apply(batch)?, evolved.schema.clone());
        let (batch, skipped) = self.fit(&batch, &schema)?;
        // A column that was split is stored as it was before.
        let fits = |file: &OpenFile| self.schemas.get(&file.schema_id).is_some_and(|of| of.schema == schema);
        if self.open.as_ref().is_some_and(|file| file.schema_id != schema_id && !fits(file)) {
            self.close_file(perf)?;
        }
        let first = self.open.is_none() && self.staged.is_empty();
        if first && batch.num_rows() > 0 {
            host_ffi::mark("dest.staging.before");
        }
        let flushed = perf.flush_ns;
        for start in (0..batch.num_rows()).step_by(SLICE_ROWS) {
            let slice = batch.slice(start, SLICE_ROWS.min(batch.num_rows() - start));
            let mut file = match self.open.take() {
                Some(file) => file,
                None => self.create_file(schema_id)?,
            };
            file.encoder.write(&slice)?;
            file.rows += slice.num_rows() as u64;
            self.rows += slice.num_rows() as u64;
            let full = file.encoder.bytes() >= self.settings.file_bytes;
            self.open = Some(file);
            if full {
                self.close_file(perf)?;
            }
        }
        if first && batch.num_rows() > 0 {
            host_ffi::mark("dest.staging.after");
        }
        self.bytes += bytes;
        let spent = started.elapsed().as_nanos() as u64;
        perf.decode_ns += spent.saturating_sub(perf.flush_ns - flushed);
        Ok(skipped)
    }

    /// The stream was emptied at the source: a row that says so, in a file of its own.
    fn truncate(&mut self, position: Option<&Position>, perf: &mut WritePerf) -> Result<(), ConnectorError> {
        let Some(position) = position.filter(|_| changes::of_changes(self.stream)) else { return Err(unsupported("truncate")) };
        let place = changes::place(position)?;
        if place <= self.applied {
            return Ok(());
        }
        // The event names its transaction and no place in it: the next one that no change has.
        let seq = if self.newest_change.0 == place { self.newest_change.1 + 1 } else { 1 };
        self.schemas.entry(changes::TRUNCATES).or_insert_with(|| Evolved::whole(changes::truncate_schema()));
        self.batch(changes::TRUNCATES, changes::truncate((place, seq))?, 0, perf).map(drop)
    }

    /// The rows as they are stored; leaves out, by policy, those that no file can hold.
    fn fit(&mut self, batch: &RecordBatch, schema: &SchemaRef) -> Result<(RecordBatch, u64), ConnectorError> {
        let (mut arrays, unfit) = fit(batch, schema, self.settings.unsupported_values, &self.settings.format)?;
        let context = &self.stream.context;
        if let (Some(first), DataErrorPolicy::Fail) = (unfit.first(), context.policies.on_data_error) {
            let column = batch.schema_ref().field(first.column).name().clone();
            let message = format!("stream `{}`: column `{column}` holds {}", context.name, first.why);
            return Err(ConnectorError::data("unfit_value", message).with_scope(ErrorScope::Record).with_hint(
                "set `unsupported_values` to `null`, `text` or `clamp`, convert the column at the source, or leave it out with \
                 `columns`",
            ));
        }
        if context.policies.on_data_error == DataErrorPolicy::Dlq {
            self.letters.refused(self.index, batch, &unfit)?;
        }
        let rows = batch.num_rows() - unfit.len();
        if !unfit.is_empty() {
            let mut keep = vec![true; batch.num_rows()];
            for row in &unfit {
                keep[row.row] = false;
            }
            let keep = BooleanArray::from(keep);
            arrays = arrays
                .iter()
                .map(|array| filter(array, &keep))
                .collect::<Result<Vec<ArrayRef>, _>>()
                .map_err(|error| ConnectorError::internal("filter", error.to_string()))?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let kept = RecordBatch::try_new_with_options(schema.clone(), arrays, &options)
            .map_err(|error| ConnectorError::internal("batch_shape", error.to_string()))?;
        // Rows among the letters are counted by the host.
        let skipped = if context.policies.on_data_error == DataErrorPolicy::Skip { unfit.len() } else { 0 };
        Ok((kept, skipped as u64))
    }

    fn create_file(&self, schema_id: u32) -> Result<OpenFile, ConnectorError> {
        let evolved = self.schemas.get(&schema_id).ok_or_else(|| unknown_schema(schema_id))?;
        let n = self.staged.iter().filter(|file| file.kind == FileKind::Data).count() as u32 + 1;
        let format = &self.settings.format;
        let name = names::data_file(self.stream.generation, &self.stream.partition, self.seq + 1, n, format.extension());
        self.control.disk.ensure_dir(&self.staging.1)?;
        let path = format!("{}/{name}", self.staging.1);
        let sink = Sink::new(self.control.disk.create(&path)?, path);
        Ok(OpenFile { schema_id, encoder: Encoder::new(format, &evolved.schema, sink)?, name, rows: 0 })
    }

    fn discard(&mut self) -> Result<(), ConnectorError> {
        self.open = None;
        self.staged.clear();
        let stem = names::file_stem(self.stream.generation, &self.stream.partition, self.seq + 1);
        for name in self.control.disk.list(&self.staging.1)? {
            if name.strip_prefix(&stem).is_some_and(|rest| rest.starts_with(['.', '-'])) {
                self.control.disk.remove_file(&format!("{}/{name}", self.staging.1))?;
            }
        }
        Ok(())
    }

    fn close_file(&mut self, perf: &mut WritePerf) -> Result<(), ConnectorError> {
        let Some(OpenFile { encoder, name, rows, .. }) = self.open.take() else { return Ok(()) };
        let mut sink = encoder.finish()?;
        let started = Instant::now();
        sink.sync()?;
        perf.commit_ns += started.elapsed().as_nanos() as u64;
        perf.flush_ns += sink.spent().as_nanos() as u64;
        let directory = self.staging.0.clone();
        self.staged.push(StagedFile { kind: FileKind::Data, directory, name, rows, bytes: sink.bytes() });
        Ok(())
    }

    fn commit(&mut self, barrier: &Barrier, input: &mut Input, perf: &mut WritePerf) -> Result<Receipt, ConnectorError> {
        host_ffi::mark("dest.receipt.before");
        if let (true, 0, Some(schema_id)) = (barrier.last, self.rows, self.newest_schema) {
            // So that an empty stream is a file with its columns and not nothing.
            self.open = Some(self.create_file(schema_id)?);
        }
        self.close_file(perf)?;
        let started = Instant::now();
        let own = self.letters.own().to_vec();
        if let Some(file) = self.letters.stage(&self.control, self.stream, &self.staging, self.seq + 1)? {
            self.staged.push(file);
        }
        if !self.staged.is_empty() {
            self.control.disk.sync_dir(&self.staging.1)?;
        }
        host_ffi::mark("dest.receipt.after");
        let receipt = Receipt {
            stream: self.index,
            generation: self.stream.generation,
            partition: self.stream.partition.clone(),
            epoch: self.stream.epoch,
            seq: self.seq + 1,
            position: barrier.position.clone(),
            rows: self.rows,
            bytes: self.bytes,
            last: barrier.last,
            transform_state: barrier.transform_state.clone(),
            committed_at_ms: now_ms(),
        };
        let epoch = self.stream.epoch;
        let visible =
            (self.open_ended() && !self.staged.is_empty()).then(|| names::committed(self.stream.generation, epoch, self.seq + 1));
        if let Some(directory) = &visible {
            publish::build_commit(&self.control, epoch, &self.staged, directory)?;
            host_ffi::mark("dest.commit.directory");
        }
        let applied = match &barrier.position {
            Some(position) if changes::of_changes(self.stream) => changes::place(position)?,
            _ => 0,
        };
        let (columns, visible_in) = (self.known.as_deref(), visible.as_deref());
        let commit = Commit { receipt: &receipt, files: &self.staged, columns, applied, visible: visible_in };
        let now = self
            .control
            .change_claimed(epoch, Step::Commit, |manifest| commit.apply(&self.control, manifest))
            .map_err(|error| if error.code == evolution::TYPE_MISMATCH { self.unfit(error) } else { error })?;
        if visible.is_some() {
            // A crash before the link has moved is made up for by the next claim.
            publish::point(&self.control, &now)?;
            publish::sweep(&self.control, &now, publish::Sweep::Everything, now_ms())?;
        }
        self.seq += 1;
        self.staged.clear();
        if !own.is_empty() {
            input.report_dead_letters(&own)?;
        }
        perf.commit_ns += started.elapsed().as_nanos() as u64;
        Ok(receipt)
    }
}

/// Up to where the changes of a stream are in files that count: streams of a task are committed one after the other.
fn applied(manifest: &Manifest, stream: &WriteStream) -> Result<u64, ConnectorError> {
    let open = manifest.open.as_ref().filter(|open| open.number == stream.generation && changes::of_changes(stream));
    let Some(open) = open else { return Ok(0) };
    let position = open.receipt(&stream.partition).and_then(|receipt| receipt.position.as_ref());
    Ok(position.map_or(Ok(0), changes::place)?.max(open.applied))
}

fn unknown_schema(schema_id: u32) -> ConnectorError {
    ConnectorError::internal("unknown_schema", format!("a batch came before its schema {schema_id}"))
}

fn unsupported(event: &str) -> ConnectorError {
    ConnectorError::internal("unsupported_event", format!("files can't be changed by a `{event}` event"))
}

fn sum(a: WritePerf, b: WritePerf) -> WritePerf {
    WritePerf {
        connect_ns: a.connect_ns + b.connect_ns,
        decode_ns: a.decode_ns + b.decode_ns,
        flush_ns: a.flush_ns + b.flush_ns,
        commit_ns: a.commit_ns + b.commit_ns,
    }
}
