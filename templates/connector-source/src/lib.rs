//! {{name}}: a source that counts. Replace what it reads, keep the order of the calls.

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rapidbyte_sdk::{
    CheckItem, CheckStatus, ConnectorError, CursorType, DiscoveredStream, InitContext, PartitionPlan, PlanRequest, Position,
    ReadPerf, ReadRequest, ReadSummary, Source, SourceOutput, StreamContext, StreamName, SyncMode, host_ffi,
};
use serde::Deserialize;
use std::sync::Arc;

/// Rows of a batch. Aim at a few megabytes; here they are tiny.
const BATCH_ROWS: i64 = 1_000;
const STREAM: &str = "numbers";

/// The `config:` block. Its shape is also told by `config_schema` in `manifest.json`, which is checked first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "default_count")]
    count: i64,
}

fn default_count() -> i64 {
    10
}

/// The connector.
pub struct Counter {
    count: i64,
}

rapidbyte_sdk::connector_main!(source, Counter);

impl Source for Counter {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        if config.count < 0 {
            return Err(ConnectorError::config("count", "`count` is negative").with_hint("set `count` to 0 or more"));
        }
        Ok(Self { count: config.count })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        let check = |stream: &StreamContext| match columns(stream) {
            Ok(_) => item(stream, CheckStatus::Ok, format!("{} rows can be read", self.count), None),
            Err(error) => item(stream, CheckStatus::Failed, error.message, error.hint),
        };
        Ok(streams.iter().map(check).collect())
    }

    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError> {
        Ok(vec![DiscoveredStream {
            name: StreamName::new(STREAM),
            kind: "sequence".into(),
            schema: schema(),
            primary_key: vec!["number".into()],
            cursor_candidates: Vec::new(),
            sync_modes: vec![SyncMode::FullRefresh],
            estimated_rows: Some(self.count.unsigned_abs()),
            estimated_bytes: None,
        }])
    }

    fn plan_partitions(&mut self, _request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
        // The name of the data: equal names mean equal rows, so that a run that was cut off can go on.
        Ok(PartitionPlan::single(format!("1 to {}", self.count)))
    }

    fn read(&mut self, request: &ReadRequest, output: &mut SourceOutput) -> Result<ReadSummary, ConnectorError> {
        host_ffi::mark("source.read.start");
        let stream = request.streams.first().ok_or_else(|| ConnectorError::internal("no_stream", "there is no stream to read"))?;
        let columns = columns(stream)?;
        let schema = Arc::new(schema().project(&columns).map_err(|error| ConnectorError::internal("columns", error.to_string()))?);
        let id = output.schema(0, schema.clone())?;
        let mut done = request.resume.as_ref().map_or(Ok(0), position)?;
        while done < self.count {
            let to = (done + BATCH_ROWS).min(self.count);
            let numbers = Int64Array::from_iter_values(done + 1..=to);
            let squares = Int64Array::from_iter_values((done + 1..=to).map(|number| number.saturating_mul(number)));
            let all: [ArrayRef; 2] = [Arc::new(numbers), Arc::new(squares)];
            let chosen = columns.iter().map(|at| all[*at].clone()).collect();
            let batch = RecordBatch::try_new(schema.clone(), chosen)
                .map_err(|error| ConnectorError::internal("batch", error.to_string()))?;
            output.batch(id, &batch)?;
            host_ffi::mark("source.batch.emitted");
            // Everything emitted so far lies at or before this place.
            output.barrier(&Position::new(CursorType::Int64, to.to_string()))?;
            done = to;
        }
        Ok(output.summary(ReadPerf::default()))
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("number"), field("square")]))
}

/// The columns to emit, in the order asked for.
fn columns(stream: &StreamContext) -> Result<Vec<usize>, ConnectorError> {
    if stream.name != StreamName::new(STREAM) {
        return Err(ConnectorError::schema("missing_stream", format!("there is no stream `{}`", stream.name))
            .with_hint(format!("read the stream `{STREAM}`")));
    }
    let all = schema();
    let Some(selected) = &stream.selected_columns else { return Ok((0..all.fields().len()).collect()) };
    let find = |name: &String| {
        all.index_of(name).map_err(|_| {
            ConnectorError::schema("missing_column", format!("there is no column `{name}`"))
                .with_hint("choose from `number`, `square`")
        })
    };
    selected.iter().map(find).collect()
}

fn position(position: &Position) -> Result<i64, ConnectorError> {
    let done = position.value.parse().ok().filter(|done| *done >= 0);
    done.ok_or_else(|| ConnectorError::internal("position", "the position to resume from is not a number of this source"))
}

fn item(stream: &StreamContext, status: CheckStatus, message: String, hint: Option<String>) -> CheckItem {
    CheckItem { name: format!("stream {}", stream.name), status, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};

    fn read(count: i64, resume: Option<Position>, columns: Option<&[&str]>) -> (ReadSummary, FakeHost) {
        let host = FakeHost::install();
        let mut source = Counter::init(Config { count }, InitContext::default()).unwrap();
        let mut stream = StreamContext::full_refresh(StreamName::new(STREAM));
        stream.selected_columns = columns.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let plan =
            source.plan_partitions(&PlanRequest { run: run_context(), stream: stream.clone(), max_partitions: 1, pinned: None });
        let request = ReadRequest {
            run: run_context(),
            streams: vec![stream],
            partition: plan.unwrap().partitions.pop(),
            token: Vec::new(),
            resume,
            follow: false,
        };
        let summary = source.read(&request, &mut host.source_output()).unwrap();
        (summary, host)
    }

    fn numbers(host: &FakeHost) -> Vec<i64> {
        let batches = host.batches(0).unwrap();
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn counts_to_the_end() {
        let (summary, host) = read(2_500, None, None);
        assert_eq!(numbers(&host), (1..=2_500).collect::<Vec<_>>());
        assert_eq!((summary.records, summary.batches_emitted, summary.checkpoint_count), (2_500, 3, 3));
    }

    #[test]
    fn goes_on_after_every_barrier() {
        let (_, whole) = read(2_500, None, None);
        for emitted in whole.emitted() {
            if let Emitted::Barrier(position) = emitted {
                let from: i64 = position.value.parse().unwrap();
                let (_, rest) = read(2_500, Some(position), None);
                assert_eq!(numbers(&rest), (from + 1..=2_500).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn emits_the_columns_asked_for() {
        let (_, host) = read(3, None, Some(&["square"]));
        assert_eq!(numbers(&host), [1, 4, 9]);
        assert_eq!(host.batches(0).unwrap()[0].num_columns(), 1);
    }

    #[test]
    fn an_empty_stream_still_has_its_schema() {
        let (summary, host) = read(0, None, None);
        assert_eq!(summary.records, 0);
        assert!(matches!(host.emitted().as_slice(), [Emitted::Schema { .. }]));
    }
}
