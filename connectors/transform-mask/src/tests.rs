use super::*;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, Decimal128Array, Int64Array, ListArray, StringArray, types::Int64Type};
use arrow_schema::{DataType, Field};
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{CheckStatus, DeadLetter, ErrorCategory, KeyRange, StreamName, host_ffi::RawEvent, parse_config};
use serde_json::json;

fn mask(json: serde_json::Value) -> Mask {
    Mask::init(parse_config(&json.to_string()).unwrap(), InitContext::default()).unwrap()
}

fn request(names: &[&str]) -> TransformRequest {
    let streams = names.iter().map(|name| StreamContext::full_refresh(StreamName::new(*name))).collect();
    TransformRequest { run: run_context(), streams, state: None }
}

fn people() -> RecordBatch {
    let pg = |field: Field| field.with_metadata([("pg.type".to_owned(), "varchar(20)".to_owned())].into());
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        pg(Field::new("email", DataType::Utf8, true)),
        pg(Field::new("salary", DataType::Decimal128(12, 2), true)),
    ]);
    let salaries = Decimal128Array::from(vec![Some(1250), None, Some(0)]).with_precision_and_scale(12, 2).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("ada@example.com"), None, Some("é😀x")])),
        Arc::new(salaries),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn run(json: serde_json::Value) -> RecordBatch {
    let host = FakeHost::install();
    host.feed(0, 0, &[people()]).unwrap();
    mask(json).transform(&request(&["people"]), &mut host.input(), &mut host.transform_output()).unwrap();
    host.batches(0).unwrap().remove(0)
}

fn failure(json: serde_json::Value) -> ConnectorError {
    let host = FakeHost::install();
    host.feed(0, 0, &[people()]).unwrap();
    mask(json).transform(&request(&["people"]), &mut host.input(), &mut host.transform_output()).unwrap_err()
}

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    batch.column_by_name(name).unwrap().as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn some(texts: [Option<&str>; 3]) -> Vec<Option<String>> {
    texts.map(|text| text.map(str::to_owned)).to_vec()
}

#[test]
fn redacted_columns_become_text_and_nulls_stay() {
    let batch = run(json!({ "fields": ["email", "salary"] }));
    assert_eq!(column(&batch, "email"), some([Some("***"), None, Some("***")]));
    assert_eq!(column(&batch, "salary"), some([Some("***"), None, Some("***")]));
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[1, 2, 3]);
    let schema = batch.schema();
    for name in ["email", "salary"] {
        let field = schema.field_with_name(name).unwrap();
        assert!(field.data_type() == &DataType::Utf8 && field.is_nullable() && field.metadata().is_empty(), "{field}");
    }
    assert!(!schema.field(0).is_nullable());
    assert_eq!(column(&run(json!({ "fields": ["id"], "with": "" })), "id"), some([Some(""), Some(""), Some("")]));
}

#[test]
fn untouched_columns_keep_their_metadata() {
    let batch = run(json!({ "fields": ["id"] }));
    assert_eq!(batch.schema().field(1), people().schema().field(1));
}

// `printf '%s' ada@example.com | openssl dgst -sha256 -hmac pepper-and-salt`, and the same for 12.50.
#[test]
fn hashes_are_hmac_sha256_of_the_exact_text() {
    let batch = run(json!({ "fields": ["email", "salary"], "method": "hash", "salt": "pepper-and-salt" }));
    assert_eq!(column(&batch, "email")[0].as_deref(), Some("eb74f112be82e86a5cb2dd7c4c1ad51295a1dbe98bd49bfedeb0dac77a4e7acc"));
    assert_eq!(column(&batch, "salary")[0].as_deref(), Some("89c4f7e8a113f7a3359d91ba30d7eae6ff3bf079582e68cf9bed9f02766d3f6c"));
    assert_eq!(column(&batch, "email")[1], None);
    let other = run(json!({ "fields": ["email"], "method": "hash", "salt": "another-salt" }));
    assert_ne!(column(&other, "email")[0], column(&batch, "email")[0]);
}

#[test]
fn partial_keeps_characters_and_never_a_whole_value() {
    let partial = |first: u32, last: u32| {
        let rule = json!({ "field": "email", "method": "partial", "keep_first": first, "keep_last": last });
        column(&run(json!({ "rules": [rule] })), "email")
    };
    assert_eq!(partial(2, 4), some([Some("ad*********.com"), None, Some("***")]));
    assert_eq!(partial(1, 0), some([Some("a**************"), None, Some("é**")]));
    assert_eq!(partial(1, 1), some([Some("a*************m"), None, Some("é*x")]));
    assert_eq!(partial(2, 1)[2].as_deref(), Some("***"));
    assert_eq!(partial(10_000, 10_000)[0].as_deref(), Some("***************"));
}

#[test]
fn an_unknown_column_is_named_with_what_was_meant() {
    let error = failure(json!({ "fields": ["emial"] }));
    assert_eq!((error.code.as_str(), error.category), ("unknown_column", ErrorCategory::Schema));
    assert!(error.message.contains("`people`") && error.message.contains("`emial`"));
    assert!(error.hint.unwrap().starts_with("did you mean `email`?"));
}

#[test]
fn only_the_named_streams_are_masked() {
    let host = FakeHost::install();
    host.feed(0, 0, &[people()]).unwrap();
    host.feed(1, 0, &[people()]).unwrap();
    host.feed_commit(1, true, None);
    let mut transform = mask(json!({ "fields": ["email"], "streams": ["b"] }));
    let summary = transform.transform(&request(&["a", "b"]), &mut host.input(), &mut host.transform_output()).unwrap();
    assert_eq!(host.batches(0).unwrap(), [people()]);
    assert_eq!(column(&host.batches(1).unwrap()[0], "email")[0].as_deref(), Some("***"));
    assert_eq!(host.emitted().last(), Some(&Emitted::ForwardedBarrier { id: 1, state: None }));
    assert_eq!((summary.records_in, summary.records_out), (6, 6));
    let streams: Vec<StreamContext> = request(&["a"]).streams;
    let items = transform.validate(&streams).unwrap();
    assert!(items[0].status == CheckStatus::Failed && items[0].message.contains("`b`"));
}

#[test]
fn a_batch_that_grows_is_split() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
    let batch = RecordBatch::try_new(schema, vec![ids]).unwrap();
    let host = FakeHost::install();
    host.feed(0, 0, &[batch]).unwrap();
    let mut request = request(&["s"]);
    request.streams[0].limits.max_batch_bytes = 20_000;
    let mut transform = mask(json!({ "fields": ["id"], "method": "hash", "salt": "long enough" }));
    transform.transform(&request, &mut host.input(), &mut host.transform_output()).unwrap();
    let batches = host.batches(0).unwrap();
    assert!(batches.len() > 3);
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
    for what in host.emitted() {
        assert!(!matches!(what, Emitted::Batch { ipc, .. } if ipc.len() > 20_000));
    }
}

#[test]
fn lists_are_hashed_by_their_json() {
    let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None])]));
    let field = Field::new("l", list.data_type().clone(), true);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["[1,null]"]));
    let hash = Method::hash(b"0123456789");
    let of = |field: &Field, array: &ArrayRef| hash.apply(field, array).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(of(&field, &list), of(&Field::new("t", DataType::Utf8, true), &text));
}

#[test]
fn dead_letters_do_not_leak() {
    let letter = |record: &str| DeadLetter {
        stream: 0,
        record_json: record.into(),
        error_message: "bad row".into(),
        error_category: ErrorCategory::Data,
        failed_at_ms: 1,
    };
    let host = FakeHost::install();
    let nested = r#"{"columns":{"email":{"type":"text","value":"ada@example.com"},"id":{"value":"1"}}}"#;
    host.feed_event(RawEvent::DeadLetters(vec![
        letter(r#"{"id":1,"email":"ada@example.com"}"#),
        letter(nested),
        letter("ada@example.com"),
    ]));
    mask(json!({ "fields": ["email"] })).transform(&request(&["s"]), &mut host.input(), &mut host.transform_output()).unwrap();
    let Emitted::DeadLetters(letters) = host.emitted().remove(0) else { panic!("no dead letters") };
    assert!(letters.iter().all(|letter| !letter.record_json.contains("ada")), "{letters:?}");
    assert!(letters[0].record_json.contains("\"id\":1") && letters[1].record_json.contains("\"value\":\"1\""));
}

#[test]
fn ranges_over_a_masked_key_are_refused() {
    let host = FakeHost::install();
    host.feed_event(RawEvent::ReplaceRange { stream: 0, range: KeyRange { low: None, high: None } });
    let mut request = request(&["s"]);
    request.streams[0].primary_key = vec!["email".into()];
    let mut transform = mask(json!({ "fields": ["email"] }));
    let error = transform.transform(&request, &mut host.input(), &mut host.transform_output()).unwrap_err();
    assert_eq!(error.code, "masked_key");
}

#[test]
fn settings_without_effect_are_refused() {
    for (json, code) in [
        (json!({}), "no_fields"),
        (json!({ "method": "redact", "rules": [{ "field": "a", "method": "redact" }] }), "unused_key"),
        (json!({ "fields": ["a"], "salt": "long enough" }), "unused_key"),
        (json!({ "fields": ["a"], "method": "hash" }), "missing_salt"),
        (json!({ "fields": ["a"], "method": "hash", "salt": "short" }), "short_salt"),
        (json!({ "fields": ["a"], "method": "hash", "salt": "long enough", "with": "x" }), "unused_key"),
        (json!({ "fields": ["a"], "method": "partial" }), "nothing_kept"),
        (json!({ "fields": ["a"], "keep_last": 4 }), "unused_key"),
        (json!({ "fields": ["a", "a"] }), "duplicate_field"),
        (json!({ "fields": ["a"], "rules": [{ "field": "a", "method": "redact" }] }), "duplicate_field"),
        (json!({ "rules": [{ "field": "a", "method": "hash", "with": "x" }], "salt": "long enough" }), "unused_key"),
        (json!({ "fields": ["_rb_op"] }), "reserved_column"),
    ] {
        let config = parse_config(&json.to_string()).unwrap();
        let error = Mask::init(config, InitContext::default()).err().unwrap();
        assert_eq!((error.code.as_str(), error.category), (code, ErrorCategory::Config), "{json}");
    }
}

#[test]
fn the_salt_shows_nowhere() {
    let config: Config = parse_config(&json!({ "fields": ["a"], "method": "hash", "salt": "canary-salt" }).to_string()).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    let manifest: serde_json::Value = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    assert_eq!(manifest["config_schema"]["properties"]["salt"]["x-rapidbyte-secret"], true);
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
}
