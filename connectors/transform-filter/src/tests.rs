use super::*;
use arrow_array::builder::{FixedSizeBinaryBuilder, StringDictionaryBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray, UInt8Array,
};
use arrow_schema::{DataType, Field};
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{CheckStatus, ErrorCategory, StreamName, parse_config};
use serde_json::{Value, json};
use std::sync::Arc;

fn filter(json: Value) -> Filter {
    Filter::init(parse_config(&json.to_string()).unwrap(), InitContext::default()).unwrap()
}

fn request(names: &[&str]) -> TransformRequest {
    let streams = names.iter().map(|name| StreamContext::full_refresh(StreamName::new(*name))).collect();
    TransformRequest { run: run_context(), streams, state: None }
}

/// Four rows of each type; the last one without values.
fn rows() -> RecordBatch {
    let mut uuids = FixedSizeBinaryBuilder::new(16);
    for byte in [1_u8, 2, 3] {
        uuids.append_value([byte; 16]).unwrap();
    }
    uuids.append_null();
    let mut words = StringDictionaryBuilder::<Int32Type>::new();
    ["a", "b", "a"].iter().for_each(|word| words.append_value(word));
    words.append_null();
    let day = 86_400_000_000;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("int", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(5), Some(i64::MAX), None]))),
        ("byte", Arc::new(UInt8Array::from(vec![Some(0), Some(5), Some(255), None]))),
        (
            "amount",
            Arc::new(
                Decimal128Array::from(vec![Some(-5), Some(1250), Some(99_999), None]).with_precision_and_scale(12, 2).unwrap(),
            ),
        ),
        ("float", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.5), Some(f64::INFINITY), None]))),
        ("single", Arc::new(Float32Array::from(vec![Some(0.1), Some(0.5), Some(1.5), None]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), Some(false), Some(true), None]))),
        ("name", Arc::new(StringArray::from(vec![Some(""), Some("Ada Lovelace"), Some("Zoë"), None]))),
        ("day", Arc::new(Date32Array::from(vec![Some(0), Some(19_782), Some(-1), None]))),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(day), Some(-1), None]).with_timezone("UTC"))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(day), Some(-1), None]))),
        ("uuid", Arc::new(uuids.finish())),
        ("word", Arc::new(words.finish())),
        ("blob", Arc::new(BinaryArray::from(vec![Some(b"x".as_slice()), Some(b""), Some(b"y"), None]))),
    ];
    let field = |(name, array): &(&str, ArrayRef)| {
        let field = Field::new(*name, array.data_type().clone(), *name != "id");
        if *name == "uuid" {
            return field.with_metadata([("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())].into());
        }
        field
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

fn outcome(config: Value) -> Result<Vec<i64>, ConnectorError> {
    let host = FakeHost::install();
    host.feed(0, 0, &[rows()]).unwrap();
    filter(config).transform(&request(&["s"]), &mut host.input(), &mut host.transform_output())?;
    let batches = host.batches(0).unwrap();
    Ok(batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect())
}

fn kept(field: &str, op: &str, value: Value) -> Vec<i64> {
    outcome(json!({ "where": [{ "field": field, "op": op, "value": value }] })).unwrap()
}

fn refused(field: &str, op: &str, value: Value) -> ConnectorError {
    outcome(json!({ "where": [{ "field": field, "op": op, "value": value }] })).unwrap_err()
}

#[test]
fn each_type_is_compared_as_itself() {
    for (field, op, value, expected) in [
        ("int", "eq", json!(5), vec![2]),
        ("int", "ne", json!(5), vec![1, 3]),
        ("int", "lt", json!(5), vec![1]),
        ("int", "le", json!(5), vec![1, 2]),
        ("int", "gt", json!(5), vec![3]),
        ("int", "ge", json!(i64::MAX), vec![3]),
        ("int", "eq", json!(i64::MIN), vec![1]),
        ("byte", "ge", json!(5), vec![2, 3]),
        ("amount", "eq", json!("12.50"), vec![2]),
        ("amount", "gt", json!(12.49), vec![2, 3]),
        ("amount", "lt", json!(0), vec![1]),
        ("float", "gt", json!(0), vec![2, 3]),
        ("float", "ne", json!(0.5), vec![1, 3]),
        ("float", "eq", json!(0.5), vec![2]),
        ("single", "eq", json!(0.1), vec![1]),
        ("flag", "eq", json!(true), vec![1, 3]),
        ("flag", "ne", json!(true), vec![2]),
        ("name", "eq", json!(""), vec![1]),
        ("name", "gt", json!("B"), vec![3]),
        ("name", "contains", json!("a L"), vec![2]),
        ("name", "starts_with", json!("Z"), vec![3]),
        ("name", "ends_with", json!("ë"), vec![3]),
        ("day", "ge", json!("1970-01-01"), vec![1, 2]),
        ("day", "eq", json!("2024-02-29"), vec![2]),
        ("at", "lt", json!("1970-01-01T01:00:00+01:00"), vec![3]),
        ("at", "eq", json!("1970-01-02T00:00:00Z"), vec![2]),
        ("local", "ge", json!("1970-01-01 00:00:00"), vec![1, 2]),
        ("uuid", "eq", json!("02020202-0202-0202-0202-020202020202"), vec![2]),
        ("uuid", "in", json!(["01010101-0101-0101-0101-010101010101", "03030303-0303-0303-0303-030303030303"]), vec![1, 3]),
        ("word", "eq", json!("a"), vec![1, 3]),
        ("word", "ne", json!("a"), vec![2]),
        ("int", "in", json!([5, 7, i64::MAX, 6]), vec![2, 3]),
        ("int", "not_in", json!([5, 7]), vec![1, 3]),
        ("float", "in", json!([0.5, 1]), vec![2]),
        ("float", "not_in", json!([0.5]), vec![1, 3]),
        ("name", "in", json!(["Zoë", "x"]), vec![3]),
        ("name", "not_in", json!(["Zoë", "x"]), vec![1, 2]),
        ("flag", "in", json!([true]), vec![1, 3]),
        ("amount", "in", json!(["12.5", -0.05]), vec![1, 2]),
    ] {
        assert_eq!(kept(field, op, value.clone()), expected, "{field} {op} {value}");
    }
}

#[test]
fn a_null_satisfies_nothing_but_is_null() {
    for field in ["int", "amount", "float", "flag", "name", "day", "at", "uuid", "word", "blob"] {
        let null = |op: &str| outcome(json!({ "where": [{ "field": field, "op": op }] })).unwrap();
        assert_eq!(null("is_null"), [4], "{field}");
        assert_eq!(null("is_not_null"), [1, 2, 3], "{field}");
    }
    let none = |op: &str| outcome(json!({ "where": [{ "field": "id", "op": op }] })).unwrap().len();
    assert_eq!((none("is_null"), none("is_not_null")), (0, 4));
}

#[test]
fn predicates_go_together_as_asked() {
    let two = |combine: &str| {
        let predicates = json!([{ "field": "int", "op": "gt", "value": 0 }, { "field": "flag", "op": "eq", "value": true }]);
        outcome(json!({ "where": predicates, "match": combine })).unwrap()
    };
    assert_eq!(two("all"), [3]);
    assert_eq!(two("any"), [1, 2, 3]);
    // A null on one side does not keep the other from holding.
    let either = json!([{ "field": "int", "op": "gt", "value": 0 }, { "field": "id", "op": "eq", "value": 4 }]);
    assert_eq!(outcome(json!({ "where": either, "match": "any" })).unwrap(), [2, 3, 4]);
}

#[test]
fn an_operand_of_another_type_is_refused_and_never_cast() {
    for (field, op, value, code) in [
        ("int", "eq", json!("5"), "operand_type"),
        ("int", "eq", json!(5.5), "operand_type"),
        ("byte", "eq", json!(256), "operand_type"),
        ("byte", "eq", json!(-1), "operand_type"),
        ("amount", "eq", json!("12.505"), "operand_type"),
        ("amount", "eq", json!("99999999999.00"), "operand_type"),
        ("flag", "eq", json!("true"), "operand_type"),
        ("flag", "lt", json!(true), "operator_type"),
        ("name", "eq", json!(5), "operand_type"),
        ("day", "eq", json!("29.02.2024"), "operand_type"),
        ("at", "eq", json!("1970-01-01T00:00:00"), "operand_type"),
        ("local", "eq", json!("1970-01-01T00:00:00Z"), "operand_type"),
        ("uuid", "eq", json!("x"), "operand_type"),
        ("int", "contains", json!("5"), "operator_type"),
        ("blob", "eq", json!("x"), "unsupported_type"),
        ("int", "in", json!([1, "2"]), "operand_type"),
    ] {
        let error = refused(field, op, value.clone());
        assert_eq!((error.code.as_str(), error.category), (code, ErrorCategory::Schema), "{field} {op} {value}: {error}");
        assert!(error.message.contains(field) && error.hint.is_some());
    }
    let error = refused("amuont", "eq", json!(1));
    assert_eq!(error.code, "unknown_column");
    assert!(error.hint.unwrap().starts_with("did you mean `amount`?"));
}

#[test]
fn predicates_without_sense_are_refused_at_once() {
    for predicate in [
        json!({ "field": "a", "op": "eq" }),
        json!({ "field": "a", "op": "eq", "value": [1] }),
        json!({ "field": "a", "op": "in", "value": 1 }),
        json!({ "field": "a", "op": "in", "value": [] }),
        json!({ "field": "a", "op": "in", "value": [null] }),
        json!({ "field": "a", "op": "is_null", "value": 1 }),
        json!({ "field": "a", "op": "contains", "value": 1 }),
    ] {
        let config = parse_config(&json!({ "where": [predicate] }).to_string()).unwrap();
        assert_eq!(Filter::init(config, InitContext::default()).err().unwrap().code, "predicate", "{predicate}");
    }
    assert!(Filter::init(parse_config(r#"{"where":[]}"#).unwrap(), InitContext::default()).is_err());
    assert!(parse_config::<Config>(r#"{"where":[{"field":"a","op":"regex","value":"x"}]}"#).is_err());
}

#[test]
fn order_is_kept_and_empty_batches_are_left_out() {
    let host = FakeHost::install();
    host.feed(0, 0, &[rows(), rows()]).unwrap();
    host.feed(1, 0, &[rows()]).unwrap();
    host.feed_commit(7, true, None);
    let mut transform = filter(json!({ "where": [{ "field": "id", "op": "gt", "value": 4 }], "streams": ["a"] }));
    let summary = transform.transform(&request(&["a", "b"]), &mut host.input(), &mut host.transform_output()).unwrap();
    assert_eq!(host.batches(0).unwrap(), []);
    assert_eq!(host.batches(1).unwrap(), [rows()]);
    assert!(matches!(
        host.emitted().as_slice(),
        [
            Emitted::Schema { stream: 0, .. },
            Emitted::Schema { stream: 1, .. },
            Emitted::Batch { stream: 1, .. },
            Emitted::ForwardedBarrier { id: 7, state: None }
        ]
    ));
    assert_eq!((summary.records_in, summary.records_out), (12, 4));
}

#[test]
fn checks_name_streams_and_columns_that_are_missing() {
    let mut stream = request(&["a"]).streams.remove(0);
    stream.selected_columns = Some(vec!["id".into()]);
    let mut transform = filter(json!({ "where": [{ "field": "amount", "op": "gt", "value": 4 }] }));
    assert!(transform.validate(&[stream.clone()]).unwrap()[0].message.contains("`amount`"));
    let mut transform = filter(json!({ "where": [{ "field": "id", "op": "gt", "value": 4 }], "streams": ["a", "b"] }));
    let items = transform.validate(&[stream]).unwrap();
    assert_eq!(items.iter().map(|item| item.status).collect::<Vec<_>>(), [CheckStatus::Failed, CheckStatus::Ok]);
}

#[test]
fn filtered_batches_keep_their_types() {
    let host = FakeHost::install();
    host.feed(0, 0, &[rows()]).unwrap();
    let mut transform = filter(json!({ "where": [{ "field": "id", "op": "in", "value": [2, 4] }] }));
    transform.transform(&request(&["s"]), &mut host.input(), &mut host.transform_output()).unwrap();
    let batch = host.batches(0).unwrap().remove(0);
    assert_eq!(batch.schema(), rows().schema());
    assert_eq!(batch.column_by_name("amount").unwrap().data_type(), &DataType::Decimal128(12, 2));
    assert_eq!(batch.column_by_name("name").unwrap().as_string::<i32>().iter().collect::<Vec<_>>(), [Some("Ada Lovelace"), None]);
}
