//! Changes of a source's log, kept as a log.

use super::*;
use arrow_array::UInt64Array;
use rapidbyte_sdk::changes::{LSN, OP, SEQ};
use rapidbyte_sdk::host_ffi::RawEvent;
use rapidbyte_sdk::{SyncMode, Truncate};

const CHANGES: &str = "_rb_changes";

fn lsn(place: u64) -> Position {
    Position::new(CursorType::Lsn, format!("{:X}/{:X}", place >> 32, place & 0xffff_ffff))
}

/// Changes of the ids, all in one transaction.
fn changed(op: &str, place: u64, ids: std::ops::Range<i64>) -> RecordBatch {
    let rows = ids.clone().count();
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("_rb_before_id", DataType::Int64, true),
        Field::new(OP, DataType::Utf8, false),
        Field::new(LSN, DataType::UInt64, false),
        Field::new(SEQ, DataType::Int64, false),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids)),
        Arc::new(StringArray::new_null(rows)),
        Arc::new(Int64Array::new_null(rows)),
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(op, rows))),
        Arc::new(UInt64Array::from_iter_values(std::iter::repeat_n(place, rows))),
        Arc::new(Int64Array::from_iter_values(1..=rows as i64)),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn pipeline() -> Pipeline {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.config = serde_json::json!({ "format": "jsonl" });
    pipeline.context.sync_mode = SyncMode::Cdc;
    pipeline.data = vec![vec![rows(1, 3)]];
    pipeline
}

/// What a reader sees: operation, id and place of each row.
fn log(pipeline: &Pipeline) -> Vec<String> {
    let mut lines = Vec::new();
    for bytes in pipeline.visible().values() {
        for line in std::str::from_utf8(bytes).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            lines.push(format!("{} {} {}", row[OP].as_str().unwrap(), row["id"], row[LSN]));
        }
    }
    lines.sort();
    lines
}

fn write(pipeline: &Pipeline, host: &FakeHost, claimed: &ClaimedStream) -> Result<u64, ConnectorError> {
    let open = claimed.generation.as_ref().expect("an open generation");
    let receipt = claimed.receipts.iter().find(|receipt| receipt.partition == CHANGES);
    let request = pipeline.write_request(claimed.epoch, open.number, CHANGES, receipt);
    pipeline.connector().write(&request, &mut host.input()).map(|summary| summary.records)
}

#[test]
fn a_log_begins_with_the_load_and_goes_on_with_every_change() {
    let mut pipeline = pipeline();
    pipeline.loaded();
    assert_eq!(log(&pipeline), ["insert 1 null", "insert 2 null"]);
    let claimed = pipeline.claim().unwrap();
    // Asked again, the publication says the same, and the generation is still open.
    assert_eq!(pipeline.publish(claimed.epoch, 1).unwrap().rows, 2);
    let host = FakeHost::install();
    host.feed(0, 1, &[changed("update", 10, 1..3), changed("delete", 12, 2..3)]).unwrap();
    host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(12)) }));
    host.feed_commit(1, false, Some(lsn(20)));
    assert_eq!(write(&pipeline, &host, &claimed).unwrap(), 4);
    let all = ["delete 2 12", "insert 1 null", "insert 2 null", "truncate null 12", "update 1 10", "update 2 10"];
    assert_eq!(log(&pipeline), all);
    // Sent again for another stream's sake, with what is new behind it.
    let claimed = pipeline.claim().unwrap();
    let host = FakeHost::install();
    host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(12)) }));
    host.feed(0, 1, &[changed("update", 10, 1..3), changed("insert", 21, 7..8)]).unwrap();
    host.feed_commit(1, false, Some(lsn(30)));
    assert_eq!(write(&pipeline, &host, &claimed).unwrap(), 1);
    let receipt = pipeline.claim().unwrap().receipts.into_iter().find(|receipt| receipt.partition == CHANGES).unwrap();
    assert_eq!((receipt.seq, receipt.rows, receipt.position), (2, 5, Some(lsn(30))));
    assert_eq!(log(&pipeline).len(), 7);
    assert!(log(&pipeline).contains(&"insert 7 21".to_owned()));
}

#[test]
fn a_commit_that_stands_before_the_last_one_brings_no_change_back() {
    let mut pipeline = pipeline();
    pipeline.loaded();
    let mut goes_on = |batches: &[RecordBatch], at: u64| {
        let claimed = pipeline.claim().unwrap();
        let host = FakeHost::install();
        host.feed(0, 1, batches).unwrap();
        host.feed_commit(1, false, Some(lsn(at)));
        write(&pipeline, &host, &claimed).unwrap()
    };
    let (first, second, third) = (changed("update", 10, 1..3), changed("delete", 18, 2..3), changed("insert", 21, 7..8));
    assert_eq!(goes_on(&[first.clone(), second.clone()], 20), 3);
    // Another stream was not as far when the run was cut off: the next one begins with its place, and is cut off before it is here again.
    assert_eq!(goes_on(std::slice::from_ref(&first), 12), 0);
    assert_eq!(goes_on(&[first, second, third], 30), 1);
    let all = ["delete 2 18", "insert 1 null", "insert 2 null", "insert 7 21", "update 1 10", "update 2 10"];
    assert_eq!(log(&pipeline), all);
}

#[test]
fn a_column_that_does_not_fit_gives_no_log_up() {
    let mut pipeline = pipeline();
    pipeline.loaded();
    let claimed = pipeline.claim().unwrap();
    let host = FakeHost::install();
    host.feed(0, 1, &[changed("update", 10, 1..3)]).unwrap();
    host.feed_commit(1, false, Some(lsn(12)));
    write(&pipeline, &host, &claimed).unwrap();
    let before = log(&pipeline);
    let other = changed("update", 20, 1..3);
    let other =
        RecordBatch::try_from_iter_with_nullable(other.schema().fields().iter().zip(other.columns()).map(|(field, column)| {
            let text: ArrayRef = Arc::new(StringArray::from_iter_values(["a", "b"]));
            (field.name().clone(), if field.name() == "id" { text } else { Arc::clone(column) }, field.is_nullable())
        }));
    let claimed = pipeline.claim().unwrap();
    let host = FakeHost::install();
    host.feed(0, 1, &[other.unwrap()]).unwrap();
    host.feed_commit(1, false, Some(lsn(30)));
    let error = write(&pipeline, &host, &claimed).unwrap_err();
    assert_eq!(error.code, "type_change");
    assert!(!error.hint.unwrap_or_default().contains("anew"));
    let claimed = pipeline.claim().unwrap();
    let receipt = claimed.receipts.iter().find(|receipt| receipt.partition == CHANGES).expect("it goes on where it was");
    assert_eq!(receipt.position, Some(lsn(12)));
    assert_eq!(log(&pipeline), before);
}

#[test]
fn what_is_no_log_is_refused() {
    let mut pipeline = pipeline();
    pipeline.context.write_mode = WriteMode::Replace;
    let claimed = pipeline.claim().unwrap();
    assert_eq!(pipeline.prepare(claimed.epoch, 1).unwrap_err().code, "write_mode");
}
