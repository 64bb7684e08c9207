use super::super::fixture::{contract, field};
use super::*;
use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray,
    NullArray, StringArray, StructArray,
};
use arrow_buffer::{IntervalMonthDayNano, NullBuffer};
use arrow_schema::{DataType, Field, Schema};
use rapidbyte_testkit::Seeded;
use rapidbyte_types::StreamName;
use std::sync::Arc;

const PLACE: Place<'_> = Place { partition: "0", rows_before: 100 };

fn bound(yaml: &str, batch: &RecordBatch) -> Bound {
    Bound::new(&contract(yaml), &StreamName::new("s"), &["id".to_owned()], batch.schema_ref()).expect(yaml)
}

fn apply(yaml: &str, batch: &RecordBatch) -> Result<Applied, ConnectorError> {
    bound(yaml, batch).apply(batch, &PLACE, None)
}

/// What is kept, and the letters of what is not.
fn with_letters(yaml: &str, batch: &RecordBatch) -> (RecordBatch, Vec<DeadLetter>) {
    let mut count = LetterCount::default();
    let mut letters = Letters { stream: 3, max_record_bytes: 1 << 20, count: &mut count, made: Vec::new() };
    let applied = bound(yaml, batch).apply(batch, &PLACE, Some(&mut letters)).expect(yaml);
    (applied.batch.expect("changed"), letters.made)
}

fn orders() -> RecordBatch {
    let schema = Schema::new(vec![
        field("id", DataType::Int64, false, &[]),
        field("email", DataType::Utf8, true, &[]),
        field("amount", DataType::Int32, true, &[]),
    ]);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3, 4])),
        Arc::new(StringArray::from(vec![Some("a@b"), Some("canary"), None, Some("c@d")])),
        Arc::new(Int32Array::from(vec![Some(5), Some(-1), None, Some(-2)])),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn ids(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec()
}

#[test]
fn a_batch_without_violations_goes_on_as_it_came() {
    for yaml in [
        "{ columns: { email: { regex: \"@|a\" } } }",
        "{ columns: { amount: { range: { min: -2, max: 5 }, on_violation: discard_row }, id: { type: int64, nullable: false } } }",
        "{ columns: { id: { not_null: true } } }",
    ] {
        let applied = apply(yaml, &orders()).unwrap();
        assert!(applied.batch.is_none() && applied.discarded == 0, "{yaml}");
    }
}

#[test]
fn a_violation_that_fails_is_named_without_its_value() {
    for (rules, rule, row) in [
        ("email: { regex: \"@\" }", "regex", 102),
        ("email: { not_null: true }", "not_null", 103),
        ("email: { one_of: [a@b, c@d] }", "one_of", 102),
        ("amount: { range: { min: 0 } }", "range", 102),
        ("email: { type: int64, on_violation: coerce }", "type", 101),
        ("email: { nullable: false, on_violation: coerce }", "nullable", 103),
    ] {
        let error = apply(&format!("{{ columns: {{ {rules} }} }}"), &orders()).unwrap_err();
        let words = format!("row {row} breaks the contract: column `{}`, rule `{rule}`", rules.split(':').next().unwrap());
        assert!(error.message.contains(&words) && error.message.contains("its key is `id`"), "{rules}: {}", error.message);
        assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Data, "contract_violation"));
        let hint = error.hint.unwrap();
        assert!(hint.contains("discard_row") && !format!("{} {hint}", error.message).contains("canary"), "{hint}");
    }
    // Though another rule leaves the row out.
    let both = "{ columns: { email: { regex: \"@\", on_violation: discard_row }, amount: { range: { min: 0 } } } }";
    assert!(apply(both, &orders()).is_err());
}

#[test]
fn rows_are_left_out_and_counted() {
    let applied = apply("{ columns: { amount: { range: { min: 0 }, on_violation: discard_row } } }", &orders()).unwrap();
    assert_eq!((ids(&applied.batch.unwrap()), applied.discarded), (vec![1, 3], 2));
    let two = "{ on_violation: discard_row, columns: { amount: { range: { min: -1 } }, email: { not_null: true, regex: \"@\" } } }";
    let applied = apply(two, &orders()).unwrap();
    assert_eq!((ids(&applied.batch.unwrap()), applied.discarded), (vec![1], 3));
    let none = apply("{ columns: { id: { one_of: [9], on_violation: discard_row } } }", &orders()).unwrap();
    assert_eq!((none.batch.unwrap().num_rows(), none.discarded), (0, 4));
}

#[test]
fn values_become_null_and_their_rows_stay() {
    let yaml = "{ on_violation: discard_column, columns: { email: { regex: \"@\" }, amount: { range: { min: 0 } } } }";
    let applied = apply(yaml, &orders()).unwrap();
    assert_eq!(applied.discarded, 0);
    let batch = applied.batch.unwrap();
    assert_eq!(ids(&batch), [1, 2, 3, 4]);
    let emails: ArrayRef = Arc::new(StringArray::from(vec![Some("a@b"), None, None, Some("c@d")]));
    let amounts: ArrayRef = Arc::new(Int32Array::from(vec![Some(5), None, None, None]));
    assert_eq!((batch.column(1), batch.column(2)), (&emails, &amounts));
}

#[test]
fn columns_are_cast_and_what_does_not_fit_is_left_out() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("7"), Some("x"), None, Some("9")]));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", texts, true)]).unwrap();
    let (kept, letters) =
        with_letters("{ columns: { id: { type: int32, range: { max: 8 }, on_violation: discard_row } } }", &batch);
    let expected: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
    assert_eq!(kept.column(0), &expected);
    let records: Vec<&str> = letters.iter().map(|letter| letter.record_json.as_str()).collect();
    // As it would have been written, but for the value that could not be.
    assert_eq!(records, [r#"{"id":{"type":"Int32","value":"x"}}"#, r#"{"id":{"type":"Int32","value":"9"}}"#]);
    let error = apply("{ columns: { id: { type: int32, on_violation: coerce } } }", &batch).unwrap_err();
    assert!(error.message.contains("row 102") && error.message.contains("`type`"), "{}", error.message);
}

#[test]
fn letters_hold_the_row_and_name_what_it_breaks() {
    let yaml = "{ on_violation: discard_row, other_columns: discard_column, columns: { id: {}, email: { not_null: true, regex: \"@\" }, \
                amount: { nullable: false, range: { min: 0 } } } }";
    let (kept, letters) = with_letters(yaml, &orders());
    assert_eq!(ids(&kept), [1]);
    assert!(!kept.schema().field(2).is_nullable());
    let told: Vec<(&str, u32)> = letters.iter().map(|letter| (letter.error_message.as_str(), letter.stream)).collect();
    let says = |what: &str| format!("the row breaks the contract: {what}");
    let (both, nulls, range) = (
        says("`email` (`regex`), `amount` (`range`)"),
        says("`email` (`not_null`), `amount` (`nullable`)"),
        says("`amount` (`range`)"),
    );
    assert_eq!(told, [(both.as_str(), 3), (nulls.as_str(), 3), (range.as_str(), 3)]);
    assert_eq!(
        letters[1].record_json,
        r#"{"id":{"type":"Int64","value":"3","not_null":true},"email":{"type":"Utf8","value":null},"amount":{"type":"Int32","value":null,"not_null":true}}"#
    );
    assert_eq!(letters[0].error_category, ErrorCategory::Data);
}

#[test]
fn too_many_or_too_large_letters_end_the_run() {
    let many: ArrayRef = Arc::new(Int64Array::from(vec![0; letter::MAX_LETTERS + 1]));
    let batch = RecordBatch::try_from_iter([("id", many)]).unwrap();
    let yaml = "{ columns: { id: { range: { min: 1 }, on_violation: discard_row } } }";
    for (max_record_bytes, code) in [(100, "too_many_dead_letters"), (3, "record_too_large")] {
        let mut count = LetterCount::default();
        let mut letters = Letters { stream: 0, max_record_bytes, count: &mut count, made: Vec::new() };
        assert_eq!(bound(yaml, &batch).apply(&batch, &PLACE, Some(&mut letters)).unwrap_err().code, code);
    }
}

/// Every kind of layout, with the row's number in `id`.
fn every_layout(rows: usize, random: &mut Seeded) -> RecordBatch {
    let mut maybe = || random.below(4) > 0;
    let mut lists = ListBuilder::new(Int32Builder::new());
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in 0..rows {
        let items = (0..row % 4).map(|item| maybe().then_some(item as i32)).collect::<Vec<_>>();
        lists.append_option(maybe().then_some(items));
        maps.keys().append_value(format!("k{row}"));
        maps.values().append_option(maybe().then_some(row as i32));
        maps.append(true).unwrap();
    }
    let texts: StringArray = (0..rows).map(|row| maybe().then(|| format!("text {row}"))).collect();
    let words: DictionaryArray<Int32Type> = (0..rows).map(|row| maybe().then(|| ["p", "q", "r"][row % 3])).collect();
    let members = vec![
        (Arc::new(Field::new("x", DataType::Utf8, true)), Arc::new(texts.clone()) as ArrayRef),
        (
            Arc::new(Field::new("y", DataType::Boolean, true)),
            Arc::new((0..rows).map(|row| maybe().then_some(row % 2 == 0)).collect::<BooleanArray>()) as ArrayRef,
        ),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    let valid = NullBuffer::from((0..rows).map(|_| maybe()).collect::<Vec<_>>());
    let whole = Field::new("split", DataType::Int32, true);
    let split_field = split::split(&whole);
    let DataType::Struct(split_members) = split_field.data_type() else { panic!() };
    let fits: Vec<bool> = (0..rows).map(|_| maybe()).collect();
    let parts: Vec<ArrayRef> = vec![
        Arc::new(fits.iter().map(|fits| fits.then_some(1)).collect::<Int32Array>()),
        Arc::new(fits.iter().map(|fits| (!fits).then_some(&b"\x01"[..])).collect::<BinaryArray>()),
        Arc::new(fits.iter().map(|fits| (!fits).then_some("NaN")).collect::<StringArray>()),
    ];
    let lengths: ListArray = lists.finish();
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("id", DataType::Int64, false), Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        (Field::new("text", DataType::Utf8, true), Arc::new(texts)),
        (Field::new("list", lengths.data_type().clone(), true), Arc::new(lengths)),
        (Field::new("word", words.data_type().clone(), true), Arc::new(words)),
        (
            Field::new("struct", DataType::Struct(fields.clone().into()), true),
            Arc::new(StructArray::new(fields.into(), arrays, Some(valid))),
        ),
        (split_field.clone(), Arc::new(StructArray::new(split_members.clone(), parts, None))),
        (
            Field::new("fixed", DataType::FixedSizeBinary(2), true),
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    (0..rows).map(|row| (row % 5 > 0).then_some([row as u8, 7])),
                    2,
                )
                .unwrap(),
            ),
        ),
        (
            Field::new("interval", DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano), true),
            Arc::new(
                (0..rows)
                    .map(|row| (row % 3 > 0).then(|| IntervalMonthDayNano::new(row as i32, -1, 5)))
                    .collect::<IntervalMonthDayNanoArray>(),
            ),
        ),
        (Field::new("nothing", DataType::Null, true), Arc::new(NullArray::new(rows))),
    ];
    let map = maps.finish();
    let columns: Vec<_> =
        columns.into_iter().chain([(Field::new("map", map.data_type().clone(), true), Arc::new(map) as ArrayRef)]).collect();
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

#[test]
fn whatever_is_left_out_the_other_rows_and_columns_stay_as_they_were() {
    let mut random = Seeded::new(7);
    for round in 0..200 {
        let rows = 1 + random.below(40) as usize;
        let batch = every_layout(rows, &mut random);
        let chosen: Vec<usize> = (0..rows).filter(|_| random.below(3) > 0).chain([rows - 1]).collect();
        let list = chosen.iter().map(usize::to_string).collect::<std::collections::BTreeSet<_>>();
        let list = list.into_iter().collect::<Vec<_>>().join(", ");
        let yaml = format!("{{ columns: {{ id: {{ one_of: [{list}], on_violation: discard_row }} }} }}");
        let applied = apply(&yaml, &batch).unwrap();
        let kept = applied.batch.unwrap();
        let numbers = ids(&kept);
        assert!(numbers.iter().all(|id| chosen.contains(&(*id as usize))) && numbers.is_sorted(), "round {round}");
        assert_eq!(kept.num_rows() as u64 + applied.discarded, rows as u64, "round {round}");
        for (at, id) in numbers.iter().enumerate() {
            assert_eq!(kept.slice(at, 1), batch.slice(*id as usize, 1), "round {round}, row {id}");
        }
        let nulls = "{ columns: { text: { regex: \"[02468]$\", on_violation: discard_column } } }";
        let nulled = apply(nulls, &batch).unwrap().batch.unwrap();
        for (column, (before, after)) in batch.columns().iter().zip(nulled.columns()).enumerate() {
            assert!(column == 1 || before == after, "round {round}, column {column}");
        }
    }
}

#[test]
fn a_value_beyond_its_type_lies_in_no_range() {
    let field = split::split(&Field::new("id", DataType::Int32, true));
    let DataType::Struct(members) = field.data_type() else { panic!() };
    let parts: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(1), None, None, Some(9)])),
        Arc::new(BinaryArray::from(vec![None, Some(&b"\x01"[..]), None, None])),
        Arc::new(StringArray::from(vec![None, Some("NaN"), None, None])),
    ];
    let array: ArrayRef = Arc::new(StructArray::new(members.clone(), parts, Some(NullBuffer::from(vec![true, true, false, true]))));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
    let yaml = "{ columns: { id: { type: int32, range: { max: 5 }, on_violation: discard_row } } }";
    let (kept, letters) = with_letters(yaml, &batch);
    assert_eq!(kept.num_rows(), 2);
    assert!(letters[0].record_json.contains("NaN"), "{}", letters[0].record_json);
    let (kept, letters) = with_letters("{ columns: { id: { type: int64, on_violation: discard_row } } }", &batch);
    assert_eq!((kept.num_rows(), letters[0].record_json.as_str()), (3, r#"{"id":{"type":"Int64","value":"NaN"}}"#));
    let nulled = apply("{ columns: { id: { one_of: [1], on_violation: discard_column } } }", &batch).unwrap().batch.unwrap();
    assert_eq!(nulled.column(0).null_count(), 3);
}
