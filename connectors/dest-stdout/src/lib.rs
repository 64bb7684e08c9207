//! A destination that prints. Rows go to standard output, which the host passes on to its own.
//!
//! A printed row can't be taken back, so delivery is at least once: a run that is tried again prints again.

mod json;
mod printer;
mod table;

use crate::json::JsonLines;
use crate::printer::{Format, Printed, Printer};
use crate::table::Tables;
use rapidbyte_sdk::{
    Barrier, CheckItem, CheckStatus, Checkpoint, ConnectorError, Destination, Event, InitContext, Input, PublishRequest,
    PublishSummary, Receipt, StreamContext, WriteMode, WritePerf, WriteRequest, WriteStream, WriteSummary, host_ffi,
};
use serde::Deserialize;
use std::io::Write;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How rows are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatName {
    /// Aligned tables.
    #[default]
    Pretty,
    /// One object per line.
    Json,
}

/// The `config:` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How rows are printed.
    pub format: FormatName,
    /// Rows to print in a task.
    pub max_rows: Option<u64>,
    /// Characters of a value in a table.
    pub max_width: Option<u32>,
    /// Whether each line names its stream.
    pub include_stream: Option<bool>,
}

/// Characters of a value in a table, when the configuration does not say. Guessed: two such columns fit a narrow terminal.
const DEFAULT_WIDTH: u32 = 40;

/// The connector.
pub struct Stdout {
    config: Config,
}

rapidbyte_sdk::connector_main!(destination, Stdout);

impl Destination for Stdout {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        let unused = |key: &str, format: &str| {
            ConnectorError::config("unused_key", format!("`{key}` has no effect with this format"))
                .with_hint(format!("remove `{key}`, or set `format: {format}`"))
        };
        if config.max_width.is_some() && config.format != FormatName::Pretty {
            return Err(unused("max_width", "pretty"));
        }
        if config.include_stream.is_some() && config.format != FormatName::Json {
            return Err(unused("include_stream", "json"));
        }
        if config.max_width.is_some_and(|width| !(4..=10_000).contains(&width)) {
            return Err(ConnectorError::config("max_width", "`max_width` is not within 4 and 10000"));
        }
        Ok(Self { config })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let item = |stream: &StreamContext| {
            let problem = unfit(stream);
            CheckItem {
                name: format!("stream {}", stream.target),
                status: if problem.is_some() { CheckStatus::Failed } else { CheckStatus::Ok },
                message: problem.as_ref().map_or_else(|| "printed to standard output".into(), |problem| problem.message.clone()),
                hint: problem.and_then(|problem| problem.hint),
            }
        };
        Ok(streams.iter().map(item).collect())
    }

    fn write(&mut self, request: &WriteRequest, input: &mut Input) -> Result<WriteSummary, ConnectorError> {
        self.print(request, input, &mut std::io::stdout().lock())
    }

    fn publish(&mut self, _request: &PublishRequest) -> Result<PublishSummary, ConnectorError> {
        // Rows were visible when they were printed. How many they were is known to the instances that printed them; this one is
        // asked by generation alone, has no state, and a number it made up would be worse than none.
        Ok(PublishSummary { rows: 0, records_skipped: 0, location: "standard output".into() })
    }
}

fn unfit(stream: &StreamContext) -> Option<ConnectorError> {
    (stream.write_mode != WriteMode::Append).then(|| {
        ConnectorError::config("write_mode", format!("standard output does not support write mode `{}`", stream.write_mode))
            .with_hint("set `write_mode: append`")
    })
}

impl Stdout {
    fn format(&self, request: &WriteRequest) -> Box<dyn Format> {
        let names: Vec<String> = request.streams.iter().map(|stream| stream.context.target.to_string()).collect();
        match self.config.format {
            FormatName::Pretty => Box::new(Tables::new(names, self.config.max_width.unwrap_or(DEFAULT_WIDTH) as usize)),
            FormatName::Json => {
                let named = self.config.include_stream.unwrap_or(names.len() > 1);
                Box::new(JsonLines::new(if named { names } else { Vec::new() }))
            }
        }
    }

    fn print(&self, request: &WriteRequest, input: &mut Input, out: &mut dyn Write) -> Result<WriteSummary, ConnectorError> {
        if let Some(problem) = request.streams.iter().find_map(|stream| unfit(&stream.context)) {
            return Err(problem);
        }
        let mut printer = Printer::new(self.format(request), self.config.max_rows, out);
        let mut progress: Vec<Progress> = request.streams.iter().map(Progress::new).collect();
        let mut summary = WriteSummary::default();
        loop {
            let done = match input.next()? {
                Event::Schema { stream, schema_id, schema } => printer.schema(stream, schema_id, &schema)?,
                Event::Batch { stream, schema_id, batch, bytes } => {
                    host_ffi::mark("dest.staging.before");
                    let started = Instant::now();
                    let printed = printer.batch(stream, schema_id, &batch)?;
                    summary.perf.decode_ns += nanoseconds(started);
                    host_ffi::mark("dest.staging.after");
                    if printed == Printed::Yes {
                        let rows = batch.num_rows() as u64;
                        summary.records += rows;
                        summary.bytes += bytes;
                        summary.batches_written += 1;
                        of(&mut progress, stream)?.add(rows, bytes);
                    }
                    printed
                }
                Event::Barrier(barrier) if barrier.commit => {
                    let started = Instant::now();
                    let printed = printer.flush(barrier.last)?;
                    add_commit(&mut summary.perf, started);
                    if printed == Printed::Yes {
                        host_ffi::mark("dest.receipt.before");
                        let receipts =
                            progress.iter_mut().enumerate().map(|(at, progress)| progress.receipt(at, &barrier)).collect();
                        input.acknowledge(&Checkpoint { barrier: barrier.id, receipts })?;
                        host_ffi::mark("dest.receipt.after");
                        summary.checkpoint_count += 1;
                    }
                    printed
                }
                Event::DeadLetters(letters) => {
                    summary.records_skipped += letters.len() as u64;
                    let count = letters.len().to_string();
                    host_ffi::log(
                        host_ffi::LogLevel::Warn,
                        "rows that could not be processed are neither printed nor kept",
                        &[("rows", &count)],
                    );
                    Printed::Yes
                }
                Event::Barrier(_) | Event::Heartbeat => Printed::Yes,
                Event::Truncate(_) | Event::ReplaceRange { .. } => {
                    return Err(ConnectorError::data("unsupported_event", "standard output can't take printed rows back")
                        .with_hint("use a destination that keeps rows"));
                }
                Event::End => {
                    // Rows after the last commit were never acknowledged, but whoever reads along should see them.
                    printer.flush(false)?;
                    return Ok(summary);
                }
            };
            if done == Printed::Closed {
                host_ffi::log(host_ffi::LogLevel::Info, "standard output was closed by its reader", &[]);
                return Ok(summary);
            }
        }
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn add_commit(perf: &mut WritePerf, since: Instant) {
    perf.commit_ns += nanoseconds(since);
}

fn of(progress: &mut [Progress], stream: u32) -> Result<&mut Progress, ConnectorError> {
    progress.get_mut(stream as usize).ok_or_else(|| {
        ConnectorError::internal("unknown_stream", format!("an event names stream {stream}, which the task has not"))
    })
}

/// How far one stream of the task has come.
struct Progress {
    epoch: u64,
    generation: u64,
    partition: String,
    seq: u64,
    rows: u64,
    bytes: u64,
}

impl Progress {
    fn new(stream: &WriteStream) -> Self {
        let WriteStream { context: _, epoch, generation, partition, seq, rows, bytes } = stream.clone();
        Self { epoch, generation, partition, seq, rows, bytes }
    }

    fn add(&mut self, rows: u64, bytes: u64) {
        self.rows += rows;
        self.bytes += bytes;
    }

    fn receipt(&mut self, stream: usize, barrier: &Barrier) -> Receipt {
        self.seq += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Receipt {
            stream: u32::try_from(stream).unwrap_or(u32::MAX),
            generation: self.generation,
            partition: self.partition.clone(),
            epoch: self.epoch,
            seq: self.seq,
            position: barrier.position.clone(),
            rows: self.rows,
            bytes: self.bytes,
            last: barrier.last,
            transform_state: barrier.transform_state.clone(),
            committed_at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests;
