//! The connector against a real folder, driven as the host drives it.

mod changes;
mod crashes;
mod files;
mod policies;
mod writers;

use crate::{Config, DestFile};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rapidbyte_sdk::testing::{Crashed, FakeHost, run_context};
use rapidbyte_sdk::{
    ClaimRequest, ClaimStream, ClaimedStream, ConnectorError, CursorType, Destination, Generation, InitContext, Partition,
    Position, PrepareRequest, PublishRequest, PublishSummary, Receipt, RunContext, StreamContext, StreamName, WriteMode,
    WriteRequest, WriteStream,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const IDENTITY: &str = "source one";

/// A pipeline of one stream, as the engine would run it.
struct Pipeline {
    dir: Arc<TempDir>,
    config: serde_json::Value,
    context: StreamContext,
    run: RunContext,
    /// What the state store would remember: the epoch, and the generation noted as open.
    known_epoch: u64,
    noted: Option<u64>,
    snapshot: String,
    /// Batches by partition; a barrier follows each.
    data: Vec<Vec<RecordBatch>>,
}

fn rows(from: i64, to: i64) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    let names: StringArray = (from..to).map(|id| (id % 7 != 0).then(|| format!("name {id}"))).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(from..to)), Arc::new(names)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

impl Pipeline {
    fn new(write_mode: WriteMode) -> Self {
        let mut context = StreamContext::full_refresh(StreamName::qualified("public", "orders"));
        context.write_mode = write_mode;
        Self {
            dir: Arc::new(TempDir::new().unwrap()),
            config: serde_json::json!({}),
            context,
            run: run_context(),
            known_epoch: 0,
            noted: None,
            snapshot: "first".into(),
            data: vec![vec![rows(0, 40), rows(40, 100)], vec![rows(100, 130)]],
        }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn config_json(&self) -> String {
        let mut config = self.config.clone();
        config["path"] = self.root().to_str().unwrap().into();
        config.to_string()
    }

    fn connector(&self) -> DestFile {
        let config: Config = rapidbyte_sdk::parse_config(&self.config_json()).unwrap();
        DestFile::init(config, InitContext::default()).unwrap()
    }

    fn claim(&mut self) -> Result<ClaimedStream, ConnectorError> {
        let stream = ClaimStream { context: self.context.clone(), known_epoch: self.known_epoch, source_identity: IDENTITY.into() };
        let claimed = self.connector().claim(&ClaimRequest { run: self.run.clone(), streams: vec![stream] })?.remove(0);
        self.known_epoch = claimed.epoch;
        Ok(claimed)
    }

    fn generation(&self, number: u64) -> Generation {
        let partition = |i: usize| Partition { id: i.to_string(), spec: vec![0, 255, i as u8] };
        Generation { number, snapshot: self.snapshot.clone(), partitions: (0..self.data.len()).map(partition).collect() }
    }

    fn prepare(&self, epoch: u64, number: u64) -> Result<(), ConnectorError> {
        let generation = self.generation(number);
        self.connector().prepare(&PrepareRequest { run: self.run.clone(), context: self.context.clone(), epoch, generation })
    }

    fn write_request(&self, epoch: u64, generation: u64, partition: &str, receipt: Option<&Receipt>) -> WriteRequest {
        let (seq, rows, bytes) = receipt.map_or((0, 0, 0), |receipt| (receipt.seq, receipt.rows, receipt.bytes));
        let partition = partition.to_owned();
        let stream = WriteStream { context: self.context.clone(), epoch, generation, partition, seq, rows, bytes };
        WriteRequest { run: self.run.clone(), streams: vec![stream] }
    }

    fn write(
        &self,
        host: &FakeHost,
        claimed: &ClaimedStream,
        number: u64,
        partition: usize,
    ) -> Result<rapidbyte_sdk::WriteSummary, ConnectorError> {
        let id = partition.to_string();
        let receipt = claimed.receipts.iter().find(|receipt| receipt.generation == number && receipt.partition == id);
        if receipt.is_some_and(|receipt| receipt.last) {
            return Ok(Default::default());
        }
        let position = receipt.and_then(|receipt| receipt.position.as_ref());
        let done: usize = position.map_or(0, |position| position.value.parse().unwrap());
        for (batch, at) in self.data[partition].iter().zip(1..).skip(done) {
            host.feed(0, 0, std::slice::from_ref(batch)).unwrap();
            host.feed_commit(at as u64, false, Some(place(at)));
        }
        host.feed_commit(99, true, Some(place(self.data[partition].len())));
        let request = self.write_request(claimed.epoch, number, &id, receipt);
        self.connector().write(&request, &mut host.input())
    }

    fn publish(&self, epoch: u64, generation: u64) -> Result<PublishSummary, ConnectorError> {
        let request = PublishRequest { run: self.run.clone(), context: self.context.clone(), epoch, generation };
        self.connector().publish(&request)
    }

    /// One run, by the table of the protocol's "start of a run".
    fn load(&mut self, host: &FakeHost) -> Result<PublishSummary, ConnectorError> {
        let claimed = self.claim()?;
        let number = match (&claimed.generation, self.noted) {
            (None, Some(noted)) if noted == claimed.newest_generation => {
                let summary = self.publish(claimed.epoch, noted)?;
                self.noted = None;
                return Ok(summary);
            }
            (Some(open), _) if open.snapshot == self.snapshot => open.number,
            _ => claimed.newest_generation + 1,
        };
        self.prepare(claimed.epoch, number)?;
        self.noted = Some(number);
        for partition in 0..self.data.len() {
            let mut resumed = claimed.clone();
            resumed.receipts.retain(|receipt| receipt.generation == number);
            self.write(host, &resumed, number, partition)?;
        }
        let summary = self.publish(claimed.epoch, number)?;
        self.noted = None;
        Ok(summary)
    }

    /// One run that dies at a point, if it comes so far.
    fn load_until(&mut self, point: &str, hit: usize) -> Result<PublishSummary, Crashed> {
        let host = FakeHost::install();
        host.crash_at_mark(point, hit);
        match catch_unwind(AssertUnwindSafe(|| self.load(&host))) {
            Ok(loaded) => Ok(loaded.unwrap()),
            Err(panic) => Err(*panic.downcast::<Crashed>().expect("no other panic")),
        }
    }

    fn loaded(&mut self) -> PublishSummary {
        self.load(&FakeHost::install()).unwrap()
    }

    /// The files a reader sees, with their bytes.
    fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        let Ok(entries) = std::fs::read_dir(self.root().join("public.orders")) else { return BTreeMap::new() };
        let read = |path: PathBuf| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap());
        entries.map(|entry| read(entry.unwrap().path())).collect()
    }

    /// The ids a reader of Parquet sees, in order.
    fn ids(&self) -> Vec<i64> {
        let mut ids: Vec<i64> = Vec::new();
        for name in self.visible().keys() {
            for batch in read_parquet(&self.root().join("public.orders").join(name)) {
                ids.extend(batch.column(0).as_primitive::<Int64Type>().values());
            }
        }
        ids.sort_unstable();
        ids
    }
}

fn place(batch: usize) -> Position {
    Position::new(CursorType::Int64, batch.to_string())
}

fn read_parquet(path: &Path) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

/// Every path below a folder.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
        }
    }
    found.sort();
    found
}
