use super::*;
use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use rapidbyte_sdk::testing::{FakeHost, run_context};
use rapidbyte_sdk::{CursorType, ErrorCategory, Position, StreamName, Truncate, host_ffi::RawEvent, parse_config};
use serde_json::json;
use std::io;
use std::sync::Arc;

fn destination(json: serde_json::Value) -> Stdout {
    Stdout::init(parse_config(&json.to_string()).unwrap(), InitContext::default()).unwrap()
}

fn request(names: &[&str]) -> WriteRequest {
    let stream = |name: &&str| WriteStream {
        context: StreamContext::full_refresh(StreamName::new(*name)),
        epoch: 3,
        generation: 2,
        partition: "0".into(),
        seq: 4,
        rows: 100,
        bytes: 1000,
    };
    WriteRequest { run: run_context(), streams: names.iter().map(stream).collect() }
}

fn batch(ids: &[i64], names: &[Option<&str>], cents: &[Option<i128>]) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
    ]);
    let amounts = Decimal128Array::from(cents.to_vec()).with_precision_and_scale(12, 2).unwrap();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(ids.to_vec())), Arc::new(StringArray::from(names.to_vec())), Arc::new(amounts)];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn printed(json: serde_json::Value, streams: &[&str], feed: impl FnOnce(&FakeHost)) -> (FakeHost, String, WriteSummary) {
    let host = FakeHost::install();
    feed(&host);
    let mut out = Vec::new();
    let summary = destination(json).print(&request(streams), &mut host.input(), &mut out).unwrap();
    (host, String::from_utf8(out).unwrap(), summary)
}

#[test]
fn tables_are_aligned_and_nulls_are_distinct() {
    let rows = batch(&[1, 20], &[Some("Ada"), None], &[Some(1250), Some(-5)]);
    let odd = batch(&[3, 4, 5], &[Some("NULL"), Some(""), Some("a\u{1b}[2J\n日本")], &[None, None, Some(0)]);
    let (_, out, _) = printed(json!({}), &["people"], |host| {
        host.feed(0, 0, &[rows, odd]).unwrap();
        host.feed_commit(1, true, None);
    });
    let expected = [
        "people",
        " id | name | amount",
        "----+------+--------",
        "  1 | Ada  |  12.50",
        " 20 | NULL |  -0.05",
        "",
        " id | name             | amount",
        "----+------------------+--------",
        "  3 | \"NULL\"           |   NULL",
        "  4 | \"\"               |   NULL",
        "  5 | a\\u{1b}[2J\\n日本 |   0.00",
        "",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn wide_values_are_cut_with_an_ellipsis() {
    let rows = batch(&[1, 2, 3], &[Some("12345678"), Some("123456789"), Some("日本日本日本")], &[None, None, None]);
    let (_, out, _) = printed(json!({ "max_width": 8 }), &["s"], |host| host.feed(0, 0, &[rows]).unwrap());
    let names: Vec<&str> = out.lines().skip(3).take(3).map(|line| line.split(" | ").nth(1).unwrap().trim()).collect();
    assert_eq!(names, ["12345678", "1234567…", "日本日…"]);
}

#[test]
fn json_is_exact_and_one_line_per_row() {
    let rows = batch(&[i64::MAX, 2], &[Some("a\n\"b\""), None], &[Some(999_999_999_999), None]);
    let (_, out, summary) = printed(json!({ "format": "json" }), &["s"], |host| host.feed(0, 0, &[rows]).unwrap());
    assert_eq!(
        out,
        "{\"id\":9223372036854775807,\"name\":\"a\\n\\\"b\\\"\",\"amount\":9999999999.99}\n{\"id\":2,\"name\":null,\"amount\":null}\n"
    );
    assert_eq!((summary.records, summary.batches_written), (2, 1));
    for line in out.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn lines_name_their_stream_where_there_are_several() {
    let feed = |host: &FakeHost| {
        host.feed(0, 0, &[batch(&[1], &[None], &[None])]).unwrap();
        host.feed(1, 0, &[batch(&[2], &[None], &[None])]).unwrap();
    };
    let (_, out, _) = printed(json!({ "format": "json" }), &["a", "b\""], feed);
    assert_eq!(
        out,
        "{\"stream\":\"a\",\"record\":{\"id\":1,\"name\":null,\"amount\":null}}\n{\"stream\":\"b\\\"\",\"record\":{\"id\":2,\"name\":null,\"amount\":null}}\n"
    );
    let (_, out, _) = printed(json!({ "format": "json", "include_stream": false }), &["a", "b"], feed);
    assert!(!out.contains("stream"));
}

#[test]
fn rows_beyond_the_limit_are_counted_and_not_printed() {
    let feed = |host: &FakeHost| {
        host.feed(0, 0, &[batch(&[1, 2], &[None, None], &[None, None]), batch(&[3, 4], &[None, None], &[None, None])]).unwrap();
        host.feed_commit(1, true, None);
    };
    let (host, out, summary) = printed(json!({ "format": "json", "max_rows": 3 }), &["s"], feed);
    assert_eq!((out.lines().count(), summary.records, host.checkpoints()[0].receipts[0].rows), (3, 4, 104));
    let (_, out, _) = printed(json!({ "max_rows": 1 }), &["s"], feed);
    assert!(out.ends_with("… and 3 more rows\n"), "{out}");
}

#[test]
fn commits_are_acknowledged_with_receipts() {
    let position = Position::new(CursorType::Int64, "2");
    let (host, _, summary) = printed(json!({}), &["s"], |host| {
        host.feed(0, 0, &[batch(&[1, 2], &[None, None], &[None, None])]).unwrap();
        let quiet = Barrier { id: 1, commit: false, last: false, position: None, transform_state: Vec::new() };
        host.feed_event(RawEvent::Barrier(quiet));
        host.feed_commit(2, false, Some(position.clone()));
        host.feed_commit(3, true, Some(position.clone()));
    });
    let checkpoints = host.checkpoints();
    assert_eq!(checkpoints.iter().map(|of| of.barrier).collect::<Vec<_>>(), [2, 3]);
    let Receipt { generation, epoch, seq, position: at, rows, last, bytes, .. } = &checkpoints[0].receipts[0];
    assert_eq!((*generation, *epoch, *seq, at.as_ref(), *rows, *last), (2, 3, 5, Some(&position), 102, false));
    assert!(*bytes > 1000);
    let second = &checkpoints[1].receipts[0];
    assert_eq!((second.seq, second.last), (6, true));
    assert_eq!((summary.records, summary.checkpoint_count), (2, 2));
}

/// Takes so many bytes, then fails.
struct Failing(usize, io::ErrorKind);

impl io::Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.len() <= 4096, "a write of {} bytes", bytes.len());
        if self.0 < bytes.len() {
            return Err(self.1.into());
        }
        self.0 -= bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn many() -> FakeHost {
    let host = FakeHost::install();
    let ids: Vec<i64> = (0..20_000).collect();
    let rows = batch(&ids, &vec![Some("x"); ids.len()], &vec![None; ids.len()]);
    host.feed(0, 0, &[rows.clone(), rows]).unwrap();
    host.feed_commit(1, true, None);
    host
}

#[test]
fn a_closed_pipe_is_a_clean_stop_without_a_receipt() {
    for format in ["json", "pretty"] {
        let host = many();
        let mut out = Failing(300_000, io::ErrorKind::BrokenPipe);
        let summary = destination(json!({ "format": format })).print(&request(&["s"]), &mut host.input(), &mut out).unwrap();
        assert_eq!(summary.checkpoint_count, 0);
        assert!(host.checkpoints().is_empty());
    }
}

#[test]
fn any_other_failure_is_an_error() {
    let host = many();
    let mut out = Failing(100_000, io::ErrorKind::StorageFull);
    let error = destination(json!({ "format": "json" })).print(&request(&["s"]), &mut host.input(), &mut out).unwrap_err();
    assert_eq!(error.code, "stdout_write");
    assert!(host.checkpoints().is_empty());
}

#[test]
fn what_can_not_be_honoured_is_refused() {
    for json in [json!({ "format": "json", "max_width": 10 }), json!({ "include_stream": true }), json!({ "max_width": 1 })] {
        let config = parse_config(&json.to_string()).unwrap();
        assert!(Stdout::init(config, InitContext::default()).is_err_and(|error| error.category == ErrorCategory::Config), "{json}");
    }
    let mut replace = request(&["s"]);
    replace.streams[0].context.write_mode = WriteMode::Replace;
    let items = destination(json!({})).validate(&[replace.streams[0].context.clone()]).unwrap();
    assert_eq!(items[0].status, CheckStatus::Failed);
    let host = FakeHost::install();
    let error = destination(json!({})).print(&replace, &mut host.input(), &mut io::sink()).unwrap_err();
    assert_eq!(error.code, "write_mode");
    host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: None }));
    let error = destination(json!({})).print(&request(&["s"]), &mut host.input(), &mut io::sink()).unwrap_err();
    assert_eq!(error.code, "unsupported_event");
}

#[test]
fn a_type_without_text_is_refused_before_any_row() {
    let host = FakeHost::install();
    let schema = Schema::new(vec![Field::new("v", DataType::Utf8View, false)]);
    host.feed(0, 0, &[RecordBatch::new_empty(Arc::new(schema))]).unwrap();
    let mut out = Vec::new();
    let error = destination(json!({})).print(&request(&["s"]), &mut host.input(), &mut out).unwrap_err();
    assert!(error.code == "unsupported_type" && error.message.contains("`v`") && out.is_empty(), "{error}");
}

#[test]
fn the_manifest_and_the_configuration_agree() {
    let manifest: serde_json::Value = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    assert_eq!(manifest["config_schema"]["properties"]["format"]["default"], "pretty");
    assert_eq!(parse_config::<Config>("{}").unwrap(), Config::default());
    assert_eq!(manifest["roles"]["destination"]["delivery"], "at_least_once");
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
}
