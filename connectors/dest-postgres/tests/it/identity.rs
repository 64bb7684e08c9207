//! Identity and generated columns.

use crate::harness::{Pipe, Place, batch, field};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use rapidbyte_sdk::WriteMode;
use std::sync::Arc;

/// `id` is the key, `serial` a second number, `sum` computed at the source.
fn rows(ids: &[i64], serials: &[i64], identity: (&str, &str)) -> RecordBatch {
    let numbers = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("n{id}"))));
    let sums = numbers(&ids.iter().zip(serials).map(|(id, serial)| id + serial).collect::<Vec<_>>());
    let bigint = ("type", "bigint");
    batch(vec![
        (field("id", DataType::Int64, false, &[bigint, ("pk_ord", "1"), ("identity", identity.0)]), numbers(ids)),
        (field("serial", DataType::Int64, false, &[bigint, ("identity", identity.1)]), numbers(serials)),
        (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
        (field("sum", DataType::Int64, true, &[bigint, ("generated", "s")]), sums),
    ])
}

const COLUMNS: &str =
    "SELECT string_agg(concat(attname, attidentity, attgenerated, CASE WHEN attnotnull THEN '!' END), ' ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 AND NOT attisdropped";

#[test]
fn a_table_that_is_made_numbers_rows_as_the_source_does() {
    for (mode, identity, expected) in [
        (WriteMode::Append, ("a", ""), "ida! serial! note sum"),
        (WriteMode::Replace, ("d", ""), "idd! serial! note sum"),
        (WriteMode::Upsert, ("a", ""), "ida! serial! note sum"),
        (WriteMode::Replace, ("", "a"), "id! seriala! note sum"),
        // A column that is merged has to take other values.
        (WriteMode::Upsert, ("", "a"), "id! seriald! note sum"),
        (WriteMode::Append, ("?", ""), "id! serial! note sum"),
    ] {
        let place = Place::new();
        let mut pipe = Pipe::new(&place, "t", mode);
        pipe.load(&[rows(&[5, 40, 7], &[1, 2, 3], identity)]);
        assert_eq!(place.value(COLUMNS), expected, "{mode} {identity:?}");
        assert_eq!(place.value("SELECT string_agg(id || ':' || sum, ' ' ORDER BY id) FROM t"), "5:6 7:10 40:42");
        // The next number is beyond those that came.
        let column = if identity.0.is_empty() { "serial" } else { "id" };
        if expected.contains(&format!("{column}a")) || expected.contains(&format!("{column}d")) {
            let other = if column == "id" { "serial" } else { "id" };
            place.run(&format!("INSERT INTO t ({other}, note) VALUES (100, 'own')"));
            let next = if column == "id" { "41" } else { "4" };
            assert_eq!(place.value(&format!("SELECT {column} FROM t WHERE note = 'own'")), next, "{mode} {identity:?}");
        }
    }
}

#[test]
fn a_first_load_with_a_key_twice_and_later_ones_keep_the_numbers_ahead() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "t", WriteMode::Upsert);
    pipe.load(&[rows(&[5, 9, 5], &[1, 2, 3], ("d", ""))]);
    assert_eq!(place.value(COLUMNS), "idd! serial! note sum");
    assert_eq!(place.value("SELECT nextval(pg_get_serial_sequence('t', 'id'))"), "10");
    pipe.load(&[rows(&[5, 30], &[1, 2], ("d", ""))]);
    assert_eq!(place.value("SELECT nextval(pg_get_serial_sequence('t', 'id'))"), "31");
    // Never back.
    pipe.load(&[rows(&[2], &[1], ("d", ""))]);
    assert_eq!(place.value("SELECT nextval(pg_get_serial_sequence('t', 'id'))"), "32");
}

#[test]
fn a_table_that_is_there_keeps_its_identities_and_computed_columns() {
    for (mode, key) in [(WriteMode::Append, ""), (WriteMode::Replace, ""), (WriteMode::Upsert, ", PRIMARY KEY (id)")] {
        let place = Place::new();
        place.run(&format!(
            "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY (INCREMENT -1 MINVALUE -1000 MAXVALUE 100 START 100), serial bigint,
                 note text, sum bigint GENERATED ALWAYS AS (id + serial) STORED{key})"
        ));
        let mut pipe = Pipe::new(&place, "t", mode);
        pipe.load(&[rows(&[50, 40, 70], &[1, 2, 3], ("a", ""))]);
        assert_eq!(place.value("SELECT string_agg(id || ':' || sum, ' ' ORDER BY id) FROM t"), "40:42 50:51 70:73", "{mode}");
        assert!(place.value(COLUMNS).starts_with("ida! serial note sums"), "{mode}");
        assert_eq!(place.value("SELECT nextval(pg_get_serial_sequence('t', 'id'))"), "39", "it counts down");
    }
}

#[test]
fn numbers_that_only_the_server_may_change_are_not_merged() {
    let place = Place::new();
    place.run("CREATE TABLE t (id bigint PRIMARY KEY, serial bigint GENERATED ALWAYS AS IDENTITY, note text, sum bigint)");
    let mut pipe = Pipe::new(&place, "t", WriteMode::Upsert);
    let batch = rows(&[1], &[7], ("", "a"));
    assert_eq!(pipe.load_fails(std::slice::from_ref(&batch)), "identity_always");
    let error = pipe.try_publish(1).unwrap_err();
    place.run_hint(&error.hint.unwrap());
    pipe.publish(1);
    assert_eq!(place.value("SELECT id || ' ' || serial FROM t"), "1 7");
}
