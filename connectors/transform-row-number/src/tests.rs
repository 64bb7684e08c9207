use super::*;
use arrow_array::StringArray;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{CheckStatus, KeyRange, StreamName, host_ffi::RawEvent, parse_config};
use serde_json::json;

fn transform(config: serde_json::Value) -> RowNumber {
    RowNumber::init(parse_config(&config.to_string()).unwrap(), InitContext::default()).unwrap()
}

fn refused(config: serde_json::Value) -> ConnectorError {
    RowNumber::init(parse_config(&config.to_string()).unwrap(), InitContext::default()).err().expect("a refusal")
}

fn request(state: Option<Vec<u8>>) -> TransformRequest {
    TransformRequest { run: run_context(), streams: vec![StreamContext::full_refresh(StreamName::new("orders"))], state }
}

fn batch(keys: &[Option<&str>]) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("k", DataType::Utf8, true)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(keys.to_vec()))]).unwrap()
}

/// The numbers given, and the states at each barrier.
fn run(config: serde_json::Value, state: Option<Vec<u8>>, batches: &[RecordBatch]) -> (Vec<i64>, Vec<Vec<u8>>) {
    let host = FakeHost::install();
    for (id, batch) in (1..).zip(batches) {
        host.feed(0, id as u32, std::slice::from_ref(batch)).unwrap();
        host.feed_commit(id, id as usize == batches.len(), None);
    }
    transform(config).transform(&request(state), &mut host.input(), &mut host.transform_output()).unwrap();
    let out = host.batches(0).unwrap();
    let numbers = out.iter().flat_map(|batch| batch.columns().last().unwrap().as_primitive::<Int64Type>().values().to_vec());
    let states = host.emitted().into_iter().filter_map(|emitted| match emitted {
        Emitted::ForwardedBarrier { state, .. } => Some(state.expect("a state at each barrier")),
        _ => None,
    });
    (numbers.collect(), states.collect())
}

const A: Option<&str> = Some("a");
const B: Option<&str> = Some("b");

#[test]
fn each_key_is_counted_by_itself() {
    let batches = [batch(&[A, B, A, None, Some("")]), batch(&[None, A, B])];
    let (numbers, _) = run(json!({ "key": ["k"] }), None, &batches);
    assert_eq!(numbers, [1, 1, 2, 1, 1, 2, 3, 2]);
    let (numbers, _) = run(json!({}), None, &batches);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn reading_on_from_any_barrier_gives_what_an_undisturbed_run_gives() {
    let batches = [batch(&[A, B]), batch(&[B, None, A]), batch(&[A]), batch(&[None, B])];
    for config in [json!({ "key": ["k"] }), json!({})] {
        let (whole, states) = run(config.clone(), None, &batches);
        for (at, state) in (1..).zip(&states) {
            let (rest, later) = run(config.clone(), Some(state.clone()), &batches[at..]);
            assert_eq!(rest, whole[whole.len() - rest.len()..], "{config} from {at}");
            assert_eq!(later, states[at..], "the same states too");
        }
    }
}

#[test]
fn the_column_is_added_behind_the_others_and_the_schema_says_so() {
    let host = FakeHost::install();
    host.feed(0, 1, &[batch(&[A])]).unwrap();
    transform(json!({ "column": "n" })).transform(&request(None), &mut host.input(), &mut host.transform_output()).unwrap();
    let out = host.batches(0).unwrap().remove(0);
    assert_eq!(out.schema().field(1), &Field::new("n", DataType::Int64, false));
    assert_eq!(out.column(0).as_string::<i32>().value(0), "a");
}

#[test]
fn other_streams_pass_unchanged() {
    let host = FakeHost::install();
    host.feed(0, 1, &[batch(&[A])]).unwrap();
    host.feed_event(RawEvent::ReplaceRange { stream: 0, range: KeyRange { low: None, high: None } });
    let mut other = transform(json!({ "streams": ["invoices"] }));
    other.transform(&request(None), &mut host.input(), &mut host.transform_output()).unwrap();
    assert_eq!(host.batches(0).unwrap(), [batch(&[A])]);
    let items = other.validate(&request(None).streams).unwrap();
    assert!(items[0].status == CheckStatus::Failed && items[0].message.contains("invoices"));
}

#[test]
fn what_can_not_be_numbered_is_refused() {
    let code = |config: serde_json::Value, feed: &dyn Fn(&FakeHost), mode: SyncMode| {
        let host = FakeHost::install();
        feed(&host);
        let mut request = request(None);
        request.streams[0].sync_mode = mode;
        transform(config).transform(&request, &mut host.input(), &mut host.transform_output()).unwrap_err().code
    };
    let rows = |host: &FakeHost| host.feed(0, 1, &[batch(&[A])]).unwrap();
    let range = |host: &FakeHost| host.feed_event(RawEvent::ReplaceRange { stream: 0, range: KeyRange { low: None, high: None } });
    assert_eq!(code(json!({ "column": "k" }), &rows, SyncMode::FullRefresh), "duplicate_column");
    assert_eq!(code(json!({ "key": ["kk"] }), &rows, SyncMode::FullRefresh), "unknown_column");
    assert_eq!(code(json!({}), &rows, SyncMode::Cdc), "unsupported_mode");
    assert_eq!(code(json!({}), &range, SyncMode::Incremental), "unsupported_event");
    assert_eq!(refused(json!({ "column": "_rb_n" })).code, "reserved_column");
    assert_eq!(refused(json!({ "key": ["k", "k"] })).code, "duplicate_field");
    assert_eq!(refused(json!({ "key": ["k"], "column": "k" })).code, "duplicate_field");
    let host = FakeHost::install();
    rows(&host);
    let other = request(Some(b"what".to_vec()));
    let error = transform(json!({})).transform(&other, &mut host.input(), &mut host.transform_output()).unwrap_err();
    assert_eq!(error.code, "damaged_state");
}

#[test]
fn a_batch_that_grows_beyond_the_limit_is_divided() {
    let host = FakeHost::install();
    let keys: Vec<Option<&str>> = vec![A; 1000];
    host.feed(0, 1, &[batch(&keys)]).unwrap();
    let mut request = request(None);
    request.streams[0].limits.max_batch_bytes = 8 << 10;
    transform(json!({})).transform(&request, &mut host.input(), &mut host.transform_output()).unwrap();
    let out = host.batches(0).unwrap();
    assert!(out.len() > 1);
    assert_eq!(out.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
}
