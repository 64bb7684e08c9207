//! `load_method: insert`: the same rows, receipts and errors as by COPY.

use crate::harness::{Pipe, Place, batch, field, orders, position};
use arrow_array::{ArrayRef, Int32Array, StringArray};
use arrow_schema::DataType;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{ErrorScope, WriteMode};
use serde_json::json;
use std::sync::Arc;

fn inserting<'a>(place: &'a Place, table: &str) -> Pipe<'a> {
    let mut pipe = Pipe::new(place, table, WriteMode::Append);
    pipe.extra = json!({ "load_method": "insert" });
    pipe
}

#[test]
fn any_number_of_rows_is_inserted_without_a_copy() {
    let place = Place::new();
    // Whatever comes by COPY is refused.
    place.run(
        "CREATE FUNCTION no_copy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF current_query() ILIKE 'copy%' THEN RAISE 'a COPY'; END IF; RETURN NULL; END $$;
         CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE made text; BEGIN
             FOR made IN SELECT object_identity FROM pg_event_trigger_ddl_commands()
                 WHERE object_identity LIKE '%.\\_rb\\_load%' AND object_type = 'table' LOOP
                 EXECUTE 'CREATE TRIGGER no_copy BEFORE INSERT ON ' || made || ' FOR EACH STATEMENT EXECUTE FUNCTION public.no_copy()';
             END LOOP; END $$;
         CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION watch()",
    );
    let mut pipe = inserting(&place, "orders");
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let host = FakeHost::install();
    // One row, whole statements, and rests that take several of them; batches that share a statement.
    host.feed(0, 1, &[orders(0..1)]).unwrap();
    host.feed_commit(1, false, Some(position("1")));
    host.feed(0, 2, &[orders(1..513), orders(513..600), orders(600..2000)]).unwrap();
    host.feed_commit(2, false, Some(position("2000")));
    host.feed(0, 3, &[orders(2000..2003)]).unwrap();
    host.feed_commit(3, true, None);
    let written = pipe.write(&host, 1, "0", 0, 0).unwrap();
    assert_eq!((written.records, written.checkpoint_count), (2003, 3));
    assert_eq!(host.checkpoints().iter().map(|of| of.receipts[0].rows).collect::<Vec<_>>(), [1, 2000, 2003]);
    pipe.publish(1);
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) || ' ' || count(note) FROM orders"), "2003 2005003 1335");
    let copied = Pipe::new(&place, "copied", WriteMode::Append).load_fails(&[orders(0..1)]);
    assert_eq!(copied, "P0001", "the watch works");
}

#[test]
fn wide_rows_and_large_values_are_inserted() {
    let place = Place::new();
    let mut pipe = inserting(&place, "wide");
    let columns = (0..1600).map(|number| {
        let values: ArrayRef = Arc::new(Int32Array::from_iter((0..50).map(|row| (row % 7 > 0).then_some(row * number))));
        (field(&format!("c{number}"), DataType::Int32, true, &[("type", "integer")]), values)
    });
    pipe.load(&[batch(columns.collect())]);
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(c1599) || ' ' || count(c0) FROM wide"), "50 1645371 42");

    let mut pipe = inserting(&place, "large");
    let text = |row: usize| if row.is_multiple_of(5) { "x".repeat(3 << 20) } else { "y".repeat(row) };
    let values: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(text)));
    pipe.load(&[batch(vec![(field("v", DataType::Utf8, false, &[("type", "text")]), values)])]);
    let expected: usize = (0..40).map(|row| text(row).len()).sum();
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(length(v)) FROM large"), format!("40 {expected}"));
}

#[test]
fn a_value_that_does_not_fit_is_told_as_by_copy() {
    let place = Place::new();
    let told = |method: &str| {
        let mut pipe = inserting(&place, "texts");
        pipe.extra = json!({ "load_method": method });
        let generation = pipe.claim().newest_generation + 1;
        pipe.prepare(generation, method, &["0"]);
        let host = FakeHost::install();
        let values: ArrayRef = Arc::new(StringArray::from(vec!["fine", "not\0fine"]));
        host.feed(0, 1, &[batch(vec![(field("v", DataType::Utf8, true, &[("type", "text")]), values)])]).unwrap();
        host.feed_commit(1, true, None);
        pipe.write(&host, generation, "0", 0, 0).unwrap_err()
    };
    let (inserted, copied) = (told("insert"), told("copy"));
    assert_eq!((inserted.code.as_str(), inserted.scope), ("nul_in_text", ErrorScope::Record));
    assert_eq!(inserted, copied);
}

#[test]
fn what_the_server_refuses_leaves_nothing() {
    let place = Place::new();
    let mut pipe = inserting(&place, "numbers");
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let rows = |values: Vec<&str>| {
        let values: ArrayRef = Arc::new(StringArray::from(values));
        batch(vec![(field("v", DataType::Utf8, true, &[("type", "character varying(3)")]), values)])
    };
    let host = FakeHost::install();
    host.feed(0, 1, &[rows(vec!["a", "b"])]).unwrap();
    host.feed_commit(1, false, Some(position("1")));
    host.feed(0, 2, &[rows(vec!["c", "longer"])]).unwrap();
    host.feed_commit(2, true, None);
    let error = pipe.write(&host, 1, "0", 0, 0).unwrap_err();
    assert_eq!(error.code, "22001", "{error}");
    assert!(!error.to_string().contains("longer"));
    assert_eq!(pipe.claim().receipts[0].rows, 2);
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte._rb_load_1_1"), "2");
}
