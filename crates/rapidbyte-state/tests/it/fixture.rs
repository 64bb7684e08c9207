//! A store in a folder of its own, and one of everything to put into it.

use rapidbyte_state::*;
use rapidbyte_types::{CursorType, DeadLetter, ErrorCategory, Position, Receipt, StreamName};
use std::path::PathBuf;
use tempfile::TempDir;

pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder for the test") }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub(crate) fn store(&self) -> SqliteStore {
        SqliteStore::open(self.file()).expect("opens")
    }
}

pub(crate) fn orders() -> StreamName {
    StreamName::qualified("public", "orders")
}

pub(crate) fn pipeline(store: &dyn StateStore) -> PipelineId {
    store.resolve_pipeline("sales", "source:1", 1_000).expect("resolves").id
}

pub(crate) fn receipt(generation: u64, partition: &str, epoch: u64, seq: u64) -> Receipt {
    Receipt {
        stream: 0,
        generation,
        partition: partition.into(),
        epoch,
        seq,
        position: Some(Position::new(CursorType::Decimal, format!("{seq}.000000000000000000000000000001"))),
        rows: seq * 10,
        bytes: seq * 1_000,
        last: false,
        transform_state: Vec::new(),
        committed_at_ms: 1_700_000_000_000 + seq,
    }
}

pub(crate) fn acknowledged(pipeline: PipelineId, receipt: Receipt) -> DurableReceipt {
    DurableReceipt::from_acknowledgement(receipt, pipeline, orders()).expect("a possible receipt")
}

pub(crate) fn outcome(status: RunStatus) -> RunOutcome {
    RunOutcome {
        status,
        error: Some(RunError {
            category: ErrorCategory::TransientDb,
            code: "57P01".into(),
            message: "the server is going down".into(),
            hint: Some("run again".into()),
        }),
        totals: RunTotals { rows_read: 1, bytes_read: 2, rows_written: 3, bytes_written: 4 },
        finished_at_ms: 5_000,
        duration_ms: 4_000,
        timings_json: Some(r#"{"connect":1.5}"#.into()),
    }
}

pub(crate) fn letter(pipeline: PipelineId, seq: u64, ordinal: u64, record: &str) -> DeadLetterEntry {
    DeadLetterEntry {
        key: DeadLetterKey { pipeline, stream: orders(), generation: 1, partition: "0".into(), seq, ordinal },
        run_id: "run-1".into(),
        letter: DeadLetter {
            stream: 0,
            record_json: record.into(),
            error_message: "numeric overflow".into(),
            error_category: ErrorCategory::Data,
            failed_at_ms: 77,
        },
    }
}

/// Puts one or more rows into every table.
pub(crate) fn fill(store: &dyn StateStore) {
    let id = pipeline(store);
    store.resolve_pipeline("other", "source:2", 1_001).expect("resolves");
    let guard = store.lock_run(id, "run-1").expect("locks");
    store.begin_run(&guard, 2_000).expect("begins");
    for name in ["orders", "users", "items"] {
        let stream = StreamName::qualified("public", name);
        store.advance_epoch(id, &stream, 0, 7).expect("advances");
        let generation = GenerationRecord { number: 3, snapshot: format!("00000003-{name}"), state: GenerationState::Open };
        store.record_generation(id, &stream, 7, &generation).expect("records");
        for partition in 0..12 {
            let mut receipt = receipt(3, &partition.to_string(), 7, 40 + partition);
            if partition == 3 {
                receipt.last = true;
                receipt.position = None;
            }
            let durable = DurableReceipt::from_acknowledgement(receipt, id, stream.clone()).expect("possible");
            assert_eq!(store.mirror(&durable).expect("mirrors"), Mirrored::Advanced);
        }
        let result = StreamResult {
            stream,
            status: StreamStatus::Succeeded,
            rows: 120,
            bytes: 12_000,
            partitions: 12,
            skipped: 1,
            dead_letters: 2,
        };
        store.record_stream(&guard, &result).expect("records");
    }
    store.add_dead_letters(&[letter(id, 1, 0, "{\"a\":1}"), letter(id, 1, 1, &"x".repeat(9_000))]).expect("adds");
    for n in 0..20 {
        let key = format!("key-{n}");
        store.key_value_put(id, &KeyValueScope::Pipeline, &key, key.repeat(40).as_bytes()).expect("puts");
    }
    let reset = ResetRecord { stream: StreamName::qualified("public", "users"), asked_at_ms: 3_000 };
    store.ask_reset(&guard, &reset).expect("asks");
    store.finish_run(&guard, &outcome(RunStatus::Failed)).expect("finishes");
}

/// Everything the store gives back, as text.
pub(crate) fn dump(store: &dyn StateStore) -> Result<String, StateError> {
    use std::fmt::Write;
    let mut text = String::new();
    let mut line = |part: &dyn std::fmt::Debug| writeln!(text, "{part:?}").expect("writes to a string");
    // Ids are random: they are shown by the order of their names.
    let pipelines = store.pipelines()?;
    line(&pipelines);
    for pipeline in &pipelines {
        line(&store.find_pipeline(&pipeline.name)?);
        line(&store.pipeline_checkpoints(pipeline.id)?);
        line(&store.streams(pipeline.id)?);
        line(&store.resets(pipeline.id)?);
        for name in ["orders", "users", "items"] {
            let stream = StreamName::qualified("public", name);
            line(&store.epoch(pipeline.id, &stream)?);
            line(&store.generations(pipeline.id, &stream)?);
            line(&store.checkpoints(pipeline.id, &stream)?);
        }
        line(&store.count_dead_letters(pipeline.id, None)?);
        for letter in store.dead_letters(pipeline.id, None, 0, 100)? {
            line(&store.dead_letter(letter.id)?);
            line(&letter);
        }
        for n in 0..20 {
            line(&store.key_value_get(pipeline.id, &KeyValueScope::Pipeline, &format!("key-{n}"))?);
        }
        line(&store.recent_runs(Some(pipeline.id), 10)?);
    }
    for run in store.recent_runs(None, 10)? {
        line(&store.run(&run.run_id)?);
        line(&store.stream_results(&run.run_id)?);
    }
    Ok(text)
}
