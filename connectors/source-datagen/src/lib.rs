//! A source that makes its data: the same configuration gives the same bytes, on every machine and from any row on.

mod changes;
mod column;
mod config;
mod custom;
mod pace;
mod patterns;
mod plan;
mod random;

use crate::changes::Changes;
use crate::column::Column;
use crate::config::Clock;
use crate::pace::Pace;
use crate::plan::Share;
use crate::random::Draw;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use rapidbyte_sdk::{
    CheckItem, CheckStatus, ConnectorError, CursorType, DiscoveredStream, InitContext, Partition, PartitionPlan, PlanRequest,
    Position, ReadPerf, ReadRequest, ReadSummary, Source, SourceOutput, StreamContext, StreamName, SyncMode, host_ffi,
};
use std::sync::Arc;
use std::time::Instant;

pub use config::{Config, CustomField, FieldType, GeneratorKind, Pattern};

/// The most bytes that the frame of a batch takes for each column, beside its values.
const FRAME_BYTES_PER_COLUMN: u64 = 512;

/// The connector.
pub struct Datagen {
    config: Config,
    clock: Clock,
    name: StreamName,
    columns: Vec<Column>,
    primary_key: &'static str,
}

rapidbyte_sdk::connector_main!(source, Datagen);

impl Source for Datagen {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        let clock = Clock::of(&config)?;
        if i64::try_from(config.max_events).map_or(true, |rows| rows == i64::MAX) {
            return Err(ConnectorError::config("max_events", "`max_events` is larger than 9223372036854775806"));
        }
        if config.batch_rows == 0 || config.batch_rows > 65_536 {
            return Err(ConnectorError::config(
                "batch_rows",
                format!("`batch_rows` is {}, not within 1 and 65536", config.batch_rows),
            ));
        }
        let name = StreamName {
            namespace: config.namespace.clone(),
            name: config.stream_name.clone().unwrap_or_else(|| config.pattern.as_str().to_owned()),
        };
        let recipe = patterns::recipe(config.pattern, config.seed, clock);
        // The time of each commit is one of them.
        let tells_time = recipe.tells_time || config.include_timestamp || config.cdc_mode;
        if (config.start_time.is_some() || config.interval_ms.is_some()) && !tells_time {
            return Err(ConnectorError::config(
                "unused_time",
                format!("`start_time` and `interval_ms` have no effect on pattern `{}`", config.pattern.as_str()),
            )
            .with_hint("remove them, or set `include_timestamp: true`"));
        }
        let mut columns = recipe.columns;
        if config.include_sequence {
            columns.push(Column::int64("sequence_number", |row| row as i64));
        }
        if config.include_timestamp {
            columns.push(Column::timestamp("generated_at", move |row| clock.at(row)));
        }
        let taken: Vec<String> = columns.iter().map(|column| column.field.name().clone()).collect();
        columns.extend(custom::columns(&config.custom_fields, config.seed, &taken)?);
        Ok(Self { config, clock, name, columns, primary_key: recipe.primary_key })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let item = |stream: &StreamContext| {
            let (status, message, hint) = match self.selected(stream) {
                Ok(columns) => {
                    let what = if self.config.cdc_mode { "changes" } else { "rows" };
                    (CheckStatus::Ok, format!("{} {what} of {} columns", self.config.max_events, columns.len()), None)
                }
                Err(error) => (CheckStatus::Failed, error.message, error.hint),
            };
            CheckItem { name: format!("stream {}", stream.name), status, message, hint }
        };
        Ok(streams.iter().map(item).collect())
    }

    fn identity(&mut self) -> Result<Option<String>, ConnectorError> {
        // Pattern and seed are to a generator what system identifier and database are to a server. Everything else may be
        // changed as a table may be altered, and leads to a new generation.
        Ok(Some(format!("datagen:{}:{}", self.config.pattern.as_str(), self.config.seed)))
    }

    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError> {
        let columns: Vec<&Column> = self.columns.iter().collect();
        Ok(vec![DiscoveredStream {
            name: self.name.clone(),
            kind: "generated".into(),
            schema: schema_of(&columns),
            primary_key: vec![self.primary_key.into()],
            // The order of rows is the order of the key; there is no incremental reading of generated data.
            cursor_candidates: Vec::new(),
            sync_modes: vec![self.sync_mode()],
            estimated_rows: Some(self.config.max_events),
            estimated_bytes: Some(self.config.max_events.saturating_mul(row_bytes(&columns))),
        }])
    }

    fn plan_partitions(&mut self, request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
        self.selected(&request.stream)?;
        let snapshot = plan::snapshot(&self.config, self.clock, request.stream.selected_columns.as_deref());
        if self.config.cdc_mode {
            // The table is empty before its first change.
            return Ok(PartitionPlan {
                snapshot,
                partitions: vec![Partition { id: "0".into(), spec: Vec::new() }],
                token: Vec::new(),
            });
        }
        let partitions: Vec<Partition> = match &request.pinned {
            Some(pinned) if pinned.snapshot == snapshot => pinned.partitions.clone(),
            _ => plan::partitions(&self.config, request.max_partitions),
        };
        Ok(PartitionPlan { snapshot, partitions, token: Vec::new() })
    }

    fn read(&mut self, request: &ReadRequest, output: &mut SourceOutput) -> Result<ReadSummary, ConnectorError> {
        host_ffi::mark("source.read.start");
        let [stream] = request.streams.as_slice() else {
            return Err(ConnectorError::internal("streams", "this source reads one stream in a task"));
        };
        let columns = self.selected(stream)?;
        if self.config.cdc_mode {
            return self.read_changes(request, &columns, output);
        }
        let rows = Share::of(request.partition.as_ref(), &self.config)?.after(request.resume.as_ref())?;
        let schema = schema_of(&columns);
        let schema_id = output.schema(0, schema.clone())?;
        let mut pace = Pace::new(self.config.events_per_second);
        let step = pace.rows_at_once(self.batch_rows(&columns, stream.limits.max_batch_bytes));
        let mut perf = ReadPerf::default();
        let mut next = rows.start;
        while next < rows.end {
            let until = rows.end.min(next.saturating_add(step));
            pace.wait(until - next);
            let started = Instant::now();
            let batch = make_batch(&schema, &columns, &(next..until).collect::<Vec<_>>())?;
            perf.fetch_ns += u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            output.batch(schema_id, &batch)?;
            host_ffi::mark("source.batch.emitted");
            next = until;
            output.barrier(&Position::new(CursorType::Int64, next.to_string()))?;
        }
        Ok(output.summary(perf))
    }
}

impl Datagen {
    /// The one way in which the stream is read.
    fn sync_mode(&self) -> SyncMode {
        if self.config.cdc_mode { SyncMode::Cdc } else { SyncMode::FullRefresh }
    }

    /// Reads the empty table that comes before the changes, or changes.
    fn read_changes(
        &self,
        request: &ReadRequest,
        columns: &[&Column],
        output: &mut SourceOutput,
    ) -> Result<ReadSummary, ConnectorError> {
        let mut perf = ReadPerf::default();
        if request.partition.is_some() {
            output.schema(0, schema_of(columns))?;
            output.barrier(&changes::position(0))?;
            return Ok(output.summary(perf));
        }
        let limits = &request.streams[0].limits;
        let schema = changes::schema_of(columns);
        let schema_id = output.schema(0, schema.clone())?;
        let label = |what: &str| Draw::new(self.config.seed, &format!("{}.changes.{what}", self.config.pattern.as_str()));
        let (mut log, clock) = (Changes::new(label), self.clock);
        let mut pace = Pace::new(self.config.events_per_second);
        let room = limits.max_batch_bytes.saturating_sub(FRAME_BYTES_PER_COLUMN * schema.fields().len() as u64);
        let most = (room / (2 * row_bytes(columns) + changes::OWN_BYTES)).clamp(1, u64::from(self.config.batch_rows));
        let step = pace.rows_at_once(most);
        let mut next = changes::next_event(request.resume.as_ref())?;
        while next < self.config.max_events {
            let until = self.config.max_events.min(next.saturating_add(step));
            pace.wait(until - next);
            let started = Instant::now();
            let batch = changes::make_batch(&schema, columns, self.primary_key, &mut log, next..until, |event| clock.at(event))?;
            perf.fetch_ns += u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            output.batch(schema_id, &batch)?;
            host_ffi::mark("source.batch.emitted");
            next = until;
            output.barrier(&changes::position(next))?;
        }
        Ok(output.summary(perf))
    }

    /// The columns that a stream asks for, in its order.
    fn selected(&self, stream: &StreamContext) -> Result<Vec<&Column>, ConnectorError> {
        if stream.name != self.name {
            return Err(ConnectorError::config("unknown_stream", format!("there is no stream `{}`", stream.name))
                .with_hint(format!("this configuration makes the one stream `{}`", self.name)));
        }
        if stream.sync_mode != self.sync_mode() {
            let message = format!("stream `{}` can't be read in sync mode `{}`", stream.name, stream.sync_mode);
            let hint = match (stream.sync_mode, self.config.cdc_mode) {
                (SyncMode::Cdc, _) => "set `cdc_mode: true` in the source's configuration",
                (_, true) => "set `sync_mode: cdc`, or take `cdc_mode` out of the source's configuration",
                (_, false) => "set `sync_mode: full_refresh`",
            };
            return Err(ConnectorError::config("sync_mode", message).with_hint(hint));
        }
        let Some(names) = &stream.selected_columns else { return Ok(self.columns.iter().collect()) };
        if names.is_empty() {
            return Err(ConnectorError::config("no_columns", format!("no column of stream `{}` is selected", stream.name))
                .with_hint("name at least one column, or remove `columns`"));
        }
        if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            return Err(ConnectorError::config("duplicate_column", format!("column `{}` is selected twice", names[twice]))
                .with_hint("name it once"));
        }
        names.iter().map(|name| self.column(stream, name)).collect()
    }

    fn column(&self, stream: &StreamContext, name: &str) -> Result<&Column, ConnectorError> {
        self.columns.iter().find(|column| column.field.name() == name).ok_or_else(|| {
            let known: Vec<String> = self.columns.iter().take(30).map(|column| format!("`{}`", column.field.name())).collect();
            ConnectorError::schema("unknown_column", format!("stream `{}` has no column `{name}`", stream.name))
                .with_hint(format!("its columns are {}", known.join(", ")))
        })
    }

    /// As many rows as stay below the batch limit, whatever their values.
    fn batch_rows(&self, columns: &[&Column], max_batch_bytes: u64) -> u64 {
        let room = max_batch_bytes.saturating_sub(FRAME_BYTES_PER_COLUMN * columns.len() as u64);
        (room / row_bytes(columns)).clamp(1, u64::from(self.config.batch_rows))
    }
}

fn row_bytes(columns: &[&Column]) -> u64 {
    columns.iter().map(|column| column.max_bytes as u64).sum::<u64>().max(1)
}

fn schema_of(columns: &[&Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
}

fn make_batch(schema: &SchemaRef, columns: &[&Column], rows: &column::Rows) -> Result<RecordBatch, ConnectorError> {
    let arrays = columns.iter().map(|column| column.make(rows)).collect();
    RecordBatch::try_new(schema.clone(), arrays)
        .map_err(|error| ConnectorError::internal("batch", format!("a batch could not be made: {error}")))
}

#[cfg(test)]
mod tests;
