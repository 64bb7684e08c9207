//! {{name}}: a destination that counts rows. Replace what it does with them, keep the order of the calls.
//!
//! It remembers nothing, so its manifest says `at_least_once`: a run that is cut off writes again. A destination that can store
//! rows and receipts in one transaction implements `claim`, `prepare` and `publish` too, and says `exactly_once`.

use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{
    Barrier, CheckItem, CheckStatus, Checkpoint, ConnectorError, Destination, Event, InitContext, Input, PublishRequest,
    PublishSummary, Receipt, StreamContext, WriteMode, WriteRequest, WriteStream, WriteSummary,
};
use serde::Deserialize;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The `config:` block. Its shape is also told by `config_schema` in `manifest.json`, which is checked first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    max_rows: Option<u64>,
}

/// The connector.
pub struct Tally {
    config: Config,
}

rapidbyte_sdk::connector_main!(destination, Tally);

impl Destination for Tally {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self { config })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let check = |stream: &StreamContext| {
            let (status, message, hint) = match supported(stream) {
                Ok(()) => (CheckStatus::Ok, "rows will be counted".to_owned(), None),
                Err(error) => (CheckStatus::Failed, error.message, error.hint),
            };
            CheckItem { name: format!("stream {}", stream.target), status, message, hint }
        };
        Ok(streams.iter().map(check).collect())
    }

    fn write(&mut self, request: &WriteRequest, input: &mut Input) -> Result<WriteSummary, ConnectorError> {
        for stream in &request.streams {
            supported(&stream.context)?;
        }
        let mut tallies: Vec<StreamTally<'_>> = request.streams.iter().map(StreamTally::new).collect();
        let mut summary = WriteSummary::default();
        loop {
            match input.next()? {
                Event::Batch { stream, batch, bytes, .. } => {
                    let started = Instant::now();
                    let rows = batch.num_rows() as u64;
                    let tally = tallies.get_mut(stream as usize).ok_or_else(|| unknown_stream(stream))?;
                    tally.add(rows, bytes, self.config.max_rows)?;
                    summary.records += rows;
                    summary.bytes += bytes;
                    summary.batches_written += 1;
                    summary.perf.decode_ns += started.elapsed().as_nanos() as u64;
                }
                // Everything before the barrier must be durable before it is acknowledged.
                Event::Barrier(barrier) if barrier.commit => {
                    let receipts = tallies.iter_mut().zip(0..).map(|(tally, at)| tally.receipt(at, &barrier)).collect();
                    input.acknowledge(&Checkpoint { barrier: barrier.id, receipts })?;
                    summary.checkpoint_count += 1;
                }
                Event::Truncate(_) | Event::ReplaceRange { .. } => {
                    return Err(ConnectorError::internal("unsupported_event", "this destination only adds rows"));
                }
                Event::Schema { .. } | Event::DeadLetters(_) | Event::Barrier(_) | Event::Heartbeat => {}
                Event::End => {
                    let rows = summary.records.to_string();
                    host_ffi::log(LogLevel::Info, "rows counted", &[("rows", &rows)]);
                    return Ok(summary);
                }
            }
        }
    }

    fn publish(&mut self, _request: &PublishRequest) -> Result<PublishSummary, ConnectorError> {
        Ok(PublishSummary { rows: 0, records_skipped: 0, location: "nowhere: the rows were only counted".into() })
    }
}

/// One stream of the task.
struct StreamTally<'a> {
    stream: &'a WriteStream,
    seq: u64,
    rows: u64,
    bytes: u64,
}

impl<'a> StreamTally<'a> {
    fn new(stream: &'a WriteStream) -> Self {
        Self { stream, seq: stream.seq, rows: stream.rows, bytes: stream.bytes }
    }

    fn add(&mut self, rows: u64, bytes: u64, max_rows: Option<u64>) -> Result<(), ConnectorError> {
        self.rows += rows;
        self.bytes += bytes;
        match max_rows {
            Some(max) if self.rows > max => {
                let message = format!("stream `{}` has more than {max} rows", self.stream.context.name);
                Err(ConnectorError::data("too_many_rows", message).with_hint("set `max_rows` higher, or leave it out"))
            }
            _ => Ok(()),
        }
    }

    fn receipt(&mut self, index: u32, barrier: &Barrier) -> Receipt {
        self.seq += 1;
        Receipt {
            stream: index,
            generation: self.stream.generation,
            partition: self.stream.partition.clone(),
            epoch: self.stream.epoch,
            seq: self.seq,
            position: barrier.position.clone(),
            rows: self.rows,
            bytes: self.bytes,
            last: barrier.last,
            transform_state: barrier.transform_state.clone(),
            committed_at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        }
    }
}

fn supported(stream: &StreamContext) -> Result<(), ConnectorError> {
    if stream.write_mode == WriteMode::Append {
        return Ok(());
    }
    Err(ConnectorError::config("write_mode", format!("write mode `{}` is not supported", stream.write_mode))
        .with_hint("set `write_mode: append`"))
}

fn unknown_stream(stream: u32) -> ConnectorError {
    ConnectorError::internal("unknown_stream", format!("an event names stream {stream}, which the task has not"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, RecordBatch};
    use arrow_schema::{DataType, Field, Schema};
    use rapidbyte_sdk::testing::{FakeHost, run_context};
    use rapidbyte_sdk::{CursorType, Position, StreamName};
    use std::sync::Arc;

    fn batch(rows: i64) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from_iter_values(0..rows))]).unwrap()
    }

    fn request() -> WriteRequest {
        let context = StreamContext::full_refresh(StreamName::new("orders"));
        let stream = WriteStream { context, epoch: 3, generation: 1, partition: "0".into(), seq: 0, rows: 0, bytes: 0 };
        WriteRequest { run: run_context(), streams: vec![stream] }
    }

    #[test]
    fn counts_and_acknowledges_in_order() {
        let host = FakeHost::install();
        host.feed(0, 0, &[batch(5), batch(7)]).unwrap();
        host.feed_commit(1, false, Some(Position::new(CursorType::Int64, "12")));
        host.feed(0, 1, &[batch(1)]).unwrap();
        host.feed_commit(2, true, None);
        let mut destination = Tally::init(Config { max_rows: None }, InitContext::default()).unwrap();
        let summary = destination.write(&request(), &mut host.input()).unwrap();
        assert_eq!((summary.records, summary.batches_written, summary.checkpoint_count), (13, 3, 2));
        let receipts: Vec<(u64, u64, u64, bool)> =
            host.checkpoints().iter().map(|of| (of.barrier, of.receipts[0].seq, of.receipts[0].rows, of.receipts[0].last)).collect();
        assert_eq!(receipts, [(1, 1, 12, false), (2, 2, 13, true)]);
    }

    #[test]
    fn more_rows_than_allowed_are_an_error() {
        let host = FakeHost::install();
        host.feed(0, 0, &[batch(5)]).unwrap();
        let mut destination = Tally::init(Config { max_rows: Some(4) }, InitContext::default()).unwrap();
        let error = destination.write(&request(), &mut host.input()).unwrap_err();
        assert_eq!(error.code, "too_many_rows");
        assert!(host.checkpoints().is_empty());
    }
}
