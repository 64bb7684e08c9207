use crate::harness::{Pipe, Place, batch, field, orders};
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::DataType;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{Destination, ErrorCategory, WriteMode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Rows that all carry the number of their load.
fn load_of(number: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..500));
    let loads: ArrayRef = Arc::new(Int64Array::from_iter_values((0..500).map(|_| number)));
    batch(vec![
        (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
        (field("load", DataType::Int64, true, &[("type", "bigint")]), loads),
    ])
}

#[test]
fn readers_never_see_an_empty_or_mixed_table() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    pipe.load(&[load_of(0)]);
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut reader = place.sql();
                while !done.load(Ordering::Relaxed) {
                    let rows =
                        reader.query("SELECT count(*), count(DISTINCT load), count(DISTINCT id) FROM orders").expect("no error");
                    let seen: Vec<_> = (0..3).map(|index| rows[0].get(index).unwrap_or_default()).collect();
                    assert_eq!(seen, ["500", "1", "500"]);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for number in 1..=20 {
            pipe.load(&[load_of(number)]);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 20, "the readers have read");
    assert_eq!(place.value("SELECT count(*) || ' ' || min(load) || ' ' || max(load) FROM orders"), "500 20 20");
}

#[test]
fn rows_hidden_by_a_policy_are_not_left_beside_the_new_ones() {
    let mut place = Place::new();
    place.run(
        "CREATE ROLE veiled LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO veiled; SET ROLE veiled;
         CREATE TABLE orders (id bigint, note text); INSERT INTO orders VALUES (1000, 'hidden');
         ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY part ON orders USING (id < 1000)",
    );
    place.run(&format!("GRANT CREATE ON DATABASE {} TO veiled", postgres_wire::quote_ident(&place.database).unwrap()));
    place.user = "veiled";
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..10)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    let error = pipe.try_publish(1).map(|_| ()).unwrap_err();
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Permission, "row_security"), "{error}");
    let items = place.destination().validate(std::slice::from_ref(&pipe.context)).unwrap();
    let hint = error.hint.unwrap();
    assert!(items.iter().any(|item| item.hint.as_ref() == Some(&hint)), "{items:?}");
    place.run_hint(&hint);
    assert_eq!(pipe.publish(1).rows, 10);
    assert_eq!(place.value("SELECT count(*) || ' ' || max(id) FROM orders"), "10 9");
}

#[test]
fn the_table_keeps_its_identity() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    pipe.load(&[orders(0..10)]);
    place.run(
        "CREATE ROLE reader; GRANT SELECT ON orders TO reader; CREATE INDEX by_note ON orders (note);
         COMMENT ON TABLE orders IS 'kept';
         CREATE VIEW recent AS SELECT * FROM orders WHERE id > 3",
    );
    let identity = "SELECT c.oid || c.relacl::text || obj_description(c.oid) ||
        (SELECT string_agg(indexrelid::regclass::text, ',' ORDER BY 1) FROM pg_index WHERE indrelid = c.oid)
        FROM pg_class c WHERE oid = 'orders'::regclass";
    let before = place.value(identity);
    pipe.load(&[orders(0..4), orders(4..5)]);
    assert_eq!(place.value(identity), before);
    assert_eq!(place.value("SELECT count(*) FROM recent"), "1");
}

#[test]
fn a_failed_publication_leaves_the_old_rows() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    pipe.load(&[orders(0..10)]);
    place.run("ALTER TABLE orders ADD CONSTRAINT small CHECK (id < 100)");
    pipe.claim();
    pipe.prepare(2, "s", &["0"]);
    let host = rapidbyte_sdk::testing::FakeHost::install();
    host.feed(0, 1, &[orders(0..5), orders(200..205)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 2, "0", 0, 0).unwrap();
    let error = pipe.try_publish(2).unwrap_err();
    assert_eq!(error.category, ErrorCategory::Data, "{error}");
    assert!(error.message.contains("orders"), "{error}");
    assert_eq!(place.value("SELECT count(*) FROM orders"), "10");
    place.run("ALTER TABLE orders DROP CONSTRAINT small");
    pipe.claim();
    assert_eq!(pipe.publish(2).rows, 10);
    assert_eq!(place.value("SELECT count(*) || ' ' || max(id) FROM orders"), "10 204");
}

#[test]
fn a_table_that_is_moved_into_place_gets_the_default_privileges_of_its_schema() {
    let place = Place::new();
    place.run("CREATE ROLE \"an alyst\"; ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO \"an alyst\"");
    for mode in [WriteMode::Append, WriteMode::Replace] {
        let table = format!("orders_{mode}");
        Pipe::new(&place, &table, mode).load(&[orders(0..3)]);
        assert_eq!(place.value(&format!("SELECT has_table_privilege('an alyst', '{table}', 'SELECT')")), "t");
        assert_eq!(place.value(&format!("SELECT has_table_privilege('an alyst', '{table}', 'INSERT')")), "f");
    }
}
