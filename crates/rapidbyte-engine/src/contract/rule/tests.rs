use super::*;
use arrow_array::{
    BooleanArray, Date32Array, Decimal128Array, Decimal256Array, DictionaryArray, Float32Array, Float64Array, Int64Array,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use std::collections::HashMap;
use std::sync::Arc;

fn field(array: &ArrayRef, pg_type: Option<&str>) -> Field {
    let metadata = pg_type.map(|name| ("rapidbyte.pg.type".to_owned(), name.to_owned()));
    Field::new("c", array.data_type().clone(), true).with_metadata(metadata.into_iter().collect::<HashMap<_, _>>())
}

fn bounds(min: Option<&str>, max: Option<&str>) -> Range {
    Range { min: min.map(Literal::new), max: max.map(Literal::new) }
}

/// The rows that lie within.
fn within(array: &ArrayRef, pg_type: Option<&str>, min: Option<&str>, max: Option<&str>) -> Vec<usize> {
    let test = Test::range(&field(array, pg_type), &bounds(min, max)).unwrap();
    kept(&test, array)
}

fn kept(test: &Test, array: &ArrayRef) -> Vec<usize> {
    test.broken(array).unwrap().iter().enumerate().filter(|(_, broken)| !**broken).map(|(row, _)| row).collect()
}

fn among(array: &ArrayRef, list: &[&str]) -> Vec<usize> {
    let list: Vec<Literal> = list.iter().copied().map(Literal::new).collect();
    kept(&Test::one_of(&field(array, None), &list).unwrap(), array)
}

#[test]
fn integers_are_compared_in_all_their_bits() {
    // Neighbours that are one and the same double.
    let big: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -1, 0, (1 << 53) + 1, (1 << 53) + 2, i64::MAX]));
    assert_eq!(within(&big, None, Some("9007199254740994"), None), [4, 5]);
    assert_eq!(within(&big, None, None, Some("9007199254740993")), [0, 1, 2, 3]);
    assert_eq!(within(&big, None, Some("-0.5"), Some("0.5")), [2]);
    assert_eq!(within(&big, None, Some("-100000000000000000000"), Some("9223372036854775806")), [0, 1, 2, 3, 4]);
    let unsigned: ArrayRef = Arc::new(UInt64Array::from(vec![0, u64::MAX - 1, u64::MAX]));
    assert_eq!(within(&unsigned, None, Some("18446744073709551615"), None), [2]);
    assert_eq!(among(&unsigned, &["0", "18446744073709551614"]), [0, 1]);
}

#[test]
fn decimals_are_compared_in_all_their_digits() {
    let array: ArrayRef =
        Arc::new(Decimal128Array::from(vec![-1, 0, 1, 9_999_999, 10_000_000, 10_000_001]).with_precision_and_scale(12, 2).unwrap());
    assert_eq!(within(&array, None, Some("0"), Some("100000.00")), [1, 2, 3, 4]);
    assert_eq!(within(&array, None, Some("0.001"), Some("100000.009")), [2, 3, 4]);
    assert_eq!(among(&array, &["0.01", "100000.0"]), [2, 4]);
    let wide: ArrayRef = Arc::new(
        Decimal256Array::from(vec![i256::from_string(&"9".repeat(76)), i256::from_string(&format!("-{}", "9".repeat(76)))])
            .with_precision_and_scale(76, 0)
            .unwrap(),
    );
    assert_eq!(within(&wide, None, Some(&"9".repeat(76)), None), [0]);
    assert_eq!(within(&wide, None, Some(&"9".repeat(90)), None), Vec::<usize>::new());
}

#[test]
fn days_and_moments_are_compared_in_their_units() {
    let days: ArrayRef = Arc::new(Date32Array::from(vec![i32::MIN, -1, 0, 19_723, i32::MAX]));
    assert_eq!(within(&days, None, Some("1970-01-01"), Some("2024-01-01")), [2, 3]);
    assert_eq!(within(&days, None, Some("1970-01-01"), None), [2, 3, 4], "infinity is after every day");
    assert_eq!(among(&days, &["2024-01-01"]), [3]);
    let moments = TimestampMicrosecondArray::from(vec![-1, 0, 1, i64::MAX]);
    let plain: ArrayRef = Arc::new(moments.clone());
    assert_eq!(within(&plain, None, Some("1970-01-01"), Some("1970-01-01 00:00:00.000001")), [1, 2]);
    let zoned: ArrayRef = Arc::new(moments.with_timezone("UTC"));
    assert_eq!(within(&zoned, None, Some("1970-01-01T01:00:00+01"), None), [1, 2, 3]);
    let times: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![0, 43_200_000_000, 86_400_000_000]));
    assert_eq!(within(&times, None, Some("12:00"), Some("23:59:59.999999")), [1]);
}

#[test]
fn no_number_lies_within_no_range() {
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![f64::NEG_INFINITY, -0.0, 0.1, f64::INFINITY, f64::NAN]));
    assert_eq!(within(&doubles, None, Some("0"), None), [1, 2, 3]);
    assert_eq!(within(&doubles, None, None, Some("0.1")), [0, 1, 2]);
    assert_eq!(among(&doubles, &["0", "0.1"]), [1, 2]);
    let singles: ArrayRef = Arc::new(Float32Array::from(vec![0.1, f32::NAN]));
    assert_eq!(among(&singles, &["0.1"]), [0], "in the column's own width");
    let numbers: ArrayRef = Arc::new(StringArray::from(vec!["-Infinity", "9", "10", "10.5", "Infinity", "NaN", "odd"]));
    assert_eq!(within(&numbers, Some("numeric"), Some("10"), None), [2, 3, 4]);
    assert_eq!(within(&numbers, Some("numeric"), None, Some("10.49")), [0, 1, 2]);
}

#[test]
fn text_is_compared_by_code_points_and_only_where_it_is_text() {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["", "Z", "a", "é", "\u{10000}"]));
    assert_eq!(within(&texts, None, Some("a"), None), [2, 3, 4]);
    assert_eq!(within(&texts, Some("character varying(10)"), None, Some("a")), [0, 1, 2]);
    assert_eq!(among(&texts, &["", "é"]), [0, 3]);
    let refused = |pg_type| Test::range(&field(&texts, Some(pg_type)), &bounds(Some("a"), None)).err();
    for pg_type in ["inet", "text[]", "app.mood", "citext", "jsonb"] {
        let error = refused(pg_type).unwrap();
        assert!(error.code == "contract_unusable" && error.message.contains("have no order"), "{error:?}");
    }
}

#[test]
fn other_values_are_compared_by_their_exact_text() {
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
    assert_eq!(among(&flags, &["true"]), [0]);
    assert!(Test::one_of(&field(&flags, None), &[Literal::new("1")]).is_err());
    assert!(Test::range(&field(&flags, None), &bounds(Some("false"), None)).is_err());
}

#[test]
fn a_dictionary_is_asked_for_each_of_its_values() {
    let words: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    let array: ArrayRef = Arc::new(words);
    let test = Test::one_of(&field(&array, None), &[Literal::new("a")]).unwrap();
    let broken = test.broken(&array).unwrap();
    assert!(!broken[0] && broken[2] && !broken[3]);
    let empty: DictionaryArray<Int32Type> = vec![None::<&str>; 2].into_iter().collect();
    assert_eq!(test.broken(&(Arc::new(empty) as ArrayRef)).unwrap(), [false, false]);
    let test = Test::regex(&field(&array, None), &Literal::new("^b")).unwrap();
    assert!(!test.broken(&array).unwrap()[2]);
}

#[test]
fn bounds_that_are_no_values_are_refused_without_being_told() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let days: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    let moments: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC"));
    for (array, min, max) in [
        (&ints, Some("canary"), None),
        (&ints, Some("NaN"), None),
        (&ints, Some("2"), Some("1")),
        (&ints, Some("1.2"), Some("1.8")),
        (&days, Some("2024-01-01T00:00:00"), None),
        (&moments, Some("2024-01-01"), None),
    ] {
        let error = Test::range(&field(array, None), &bounds(min, max)).err().expect("refused");
        assert!(error.hint.is_some() && !error.message.contains("canary"), "{error:?}");
    }
    assert!(Test::one_of(&field(&ints, None), &[Literal::new("1.5")]).is_err());
    assert!(Test::regex(&field(&ints, None), &Literal::new("1")).is_err());
}
