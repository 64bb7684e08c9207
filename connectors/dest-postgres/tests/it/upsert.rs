//! Merging by key: full loads when they are published, open-ended loads at each commit.

use crate::harness::{Pipe, Place, batch, field, orders, position};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{SyncMode, WriteMode};
use std::sync::Arc;

/// Orders with a note each.
fn noted(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id)));
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, note)| *note)));
    batch(vec![
        (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
        (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
    ])
}

fn incremental<'a>(place: &'a Place, table: &str, mode: WriteMode) -> Pipe<'a> {
    let mut pipe = Pipe::new(place, table, mode);
    pipe.context.sync_mode = SyncMode::Incremental;
    pipe.context.cursor_field = Some("id".into());
    pipe
}

const SHOWN: &str = "SELECT string_agg(id || note, ' ' ORDER BY id) FROM orders";

#[test]
fn a_full_load_is_merged_when_it_is_published() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Upsert);
    pipe.load(&[noted(&[(1, "a"), (2, "b")])]);
    assert_eq!(place.value("SELECT indisprimary FROM pg_index WHERE indrelid = 'orders'::regclass"), "t");
    // The last row of a key wins, whichever batch it came in; rows that did not come stay.
    pipe.load(&[noted(&[(2, "x"), (3, "c"), (2, "y")]), noted(&[(3, "z")])]);
    assert_eq!(place.value(SHOWN), "1a 2y 3z");
}

#[test]
fn a_key_that_is_spelled_anew_is_written_anew() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Upsert);
    let priced = |ids: &[&str]| {
        let ids: ArrayRef = Arc::new(StringArray::from_iter_values(ids));
        batch(vec![(field("id", DataType::Utf8, false, &[("type", "numeric"), ("pk_ord", "1"), ("notnull", "true")]), ids)])
    };
    pipe.load(&[priced(&["1.0", "2"])]);
    pipe.load(&[priced(&["1.00", "2"])]);
    assert_eq!(place.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM orders"), "1.00 2");
}

#[test]
fn a_first_load_with_a_key_twice_keeps_the_last_row() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Upsert);
    pipe.load(&[noted(&[(1, "a"), (2, "b"), (1, "c")])]);
    assert_eq!(place.value(SHOWN), "1c 2b");
    assert_eq!(place.value("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_rb\\_load%'"), "0");
}

/// Rows of very different lengths: a server puts a short one where an earlier page has room for it.
fn uneven() -> (Vec<(i64, String)>, String) {
    let mut seed = 20261_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let rows: Vec<(i64, String)> = (0..3_000)
        .map(|n| {
            let (id, length) = ((random() % 300) as i64, random() % 1_500);
            (id, format!("{n}:{}", "x".repeat(length as usize)))
        })
        .collect();
    let newest: std::collections::BTreeMap<i64, usize> = rows.iter().zip(0..).map(|((id, _), n)| (*id, n)).collect();
    let expected: Vec<String> = newest.iter().map(|(id, n)| format!("{id}={n}")).collect();
    (rows, expected.join(" "))
}

#[test]
fn the_last_row_of_a_key_wins_wherever_the_server_puts_it() {
    let (rows, expected) = uneven();
    let noted: Vec<RecordBatch> =
        rows.chunks(100).map(|some| noted(&some.iter().map(|(id, note)| (*id, note.as_str())).collect::<Vec<_>>())).collect();
    let shown = "SELECT string_agg(id || '=' || split_part(note, ':', 1), ' ' ORDER BY id) FROM orders";
    for method in ["copy", "insert"] {
        for sync in [SyncMode::Incremental, SyncMode::FullRefresh] {
            let place = Place::new();
            let full = sync == SyncMode::FullRefresh;
            let mut pipe = match full {
                true => Pipe::new(&place, "orders", WriteMode::Upsert),
                false => incremental(&place, "orders", WriteMode::Upsert),
            };
            pipe.extra = serde_json::json!({ "load_method": method });
            if full {
                pipe.load(&noted);
            } else {
                pipe.claim();
                pipe.prepare(1, "~", &["0"]);
                let host = FakeHost::install();
                host.feed(0, 1, &noted).unwrap();
                host.feed_commit(1, false, Some(position("p")));
                pipe.write(&host, 1, "0", 0, 0).unwrap();
            }
            assert_eq!(place.value(shown), expected, "{method} {sync:?}");
            assert_eq!(place.value("SELECT count(*) FROM information_schema.columns WHERE table_name = 'orders'"), "2");
        }
    }
}

#[test]
fn each_commit_of_an_open_ended_load_is_visible_with_its_receipt() {
    let place = Place::new();
    let mut pipe = incremental(&place, "orders", WriteMode::Upsert);
    pipe.claim();
    pipe.prepare(1, "~ snapshot", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[noted(&[(1, "a"), (2, "b"), (1, "c")])]).unwrap();
    host.feed_commit(1, false, Some(position("one")));
    host.feed(0, 2, &[noted(&[(2, "x"), (3, "d")])]).unwrap();
    host.feed_commit(2, false, Some(position("two")));
    // Rows after the last commit have no receipt.
    host.feed(0, 3, &[noted(&[(1, "lost")])]).unwrap();
    let written = pipe.write(&host, 1, "0", 0, 0).unwrap();
    assert_eq!((written.records, written.checkpoint_count), (5, 2));
    assert_eq!(place.value(SHOWN), "1c 2x 3d");
    let claimed = pipe.claim();
    assert_eq!(claimed.generation.unwrap().snapshot, "~ snapshot");
    assert_eq!((claimed.receipts[0].seq, claimed.receipts[0].position.clone()), (2, Some(position("two"))));
    assert!(!claimed.receipts[0].last);
    // Another run goes on in the same generation; a commit without rows moves the position.
    pipe.prepare(1, "~ snapshot", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[noted(&[(3, "e")])]).unwrap();
    host.feed_commit(1, false, Some(position("three")));
    host.feed_commit(2, false, Some(position("four")));
    pipe.write(&host, 1, "0", 2, 5).unwrap();
    assert_eq!(place.value(SHOWN), "1c 2x 3e");
    assert_eq!(pipe.claim().receipts[0].position, Some(position("four")));
}

#[test]
fn an_open_ended_load_is_appended_at_each_commit() {
    let place = Place::new();
    place.run("CREATE TABLE orders (id bigint, note text, own int DEFAULT 7)");
    let mut pipe = incremental(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "~", &["0"]);
    for (seq, ids) in [(0, 1..4), (1, 4..6)] {
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(ids)]).unwrap();
        host.feed_commit(1, false, Some(position("p")));
        pipe.write(&host, 1, "0", seq, 0).unwrap();
    }
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) || ' ' || sum(own) FROM orders"), "5 15 35");
}

#[test]
fn a_table_without_the_key_is_refused_with_the_statement_that_mends_it() {
    let place = Place::new();
    place.run("CREATE TABLE orders (id bigint, note text); CREATE UNIQUE INDEX ON orders (id) WHERE id > 0; CREATE UNIQUE INDEX ON orders (id, note)");
    let mut pipe = incremental(&place, "orders", WriteMode::Upsert);
    pipe.claim();
    pipe.prepare(1, "~", &["0"]);
    let write = |pipe: &Pipe<'_>| {
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(1..3)]).unwrap();
        host.feed_commit(1, false, Some(position("p")));
        pipe.write(&host, 1, "0", 0, 0)
    };
    let error = write(&pipe).unwrap_err();
    assert_eq!(error.code, "missing_unique_index");
    let hint = error.hint.unwrap();
    place.run(hint.split('`').nth(1).unwrap());
    write(&pipe).unwrap();
    assert_eq!(place.value("SELECT count(*) FROM orders"), "2");
    // Named columns win over the source's own key.
    pipe.context.primary_key = vec!["note".into()];
    assert_eq!(write(&pipe).unwrap_err().code, "missing_unique_index");
    pipe.context.primary_key = vec!["absent".into()];
    assert_eq!(write(&pipe).unwrap_err().code, "missing_key_column");
}

#[test]
fn without_any_key_nothing_can_be_merged() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "plain", WriteMode::Upsert);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter([Some(1), None]));
    let rows = batch(vec![(field("id", DataType::Int64, true, &[("type", "bigint")]), ids)]);
    let host = FakeHost::install();
    host.feed(0, 1, &[rows]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    let error = pipe.try_publish(1).unwrap_err();
    assert_eq!(error.code, "missing_primary_key");
    assert!(error.hint.unwrap().contains("primary_key"));
    pipe.context.primary_key = vec!["id".into()];
    assert_eq!(pipe.try_publish(1).unwrap_err().code, "null_key");
}

#[test]
fn identical_rows_are_left_alone_where_asked_for() {
    for (skip, versions) in [(true, "2"), (false, "1")] {
        let place = Place::new();
        let mut pipe = incremental(&place, "orders", WriteMode::Upsert);
        pipe.extra = serde_json::json!({ "upsert_skip_identical": skip });
        pipe.claim();
        pipe.prepare(1, "~", &["0"]);
        for (seq, rows) in [(0, [(1, "same"), (2, "old")]), (1, [(1, "same"), (2, "new")])] {
            let host = FakeHost::install();
            host.feed(0, 1, &[noted(&rows)]).unwrap();
            host.feed_commit(1, false, Some(position("p")));
            pipe.write(&host, 1, "0", seq, 0).unwrap();
        }
        assert_eq!(place.value(SHOWN), "1same 2new");
        assert_eq!(place.value("SELECT count(DISTINCT xmin::text) FROM orders"), versions);
    }
}

#[test]
fn another_table_is_no_place_to_go_on() {
    let place = Place::new();
    let mut pipe = incremental(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "~", &["0"]);
    pipe.schema = "elsewhere".into();
    let error = pipe.try_prepare(1, "~", &["0"]).unwrap_err();
    assert_eq!(error.code, "target_changed");
    pipe.context.write_mode = WriteMode::Replace;
    assert_eq!(pipe.try_claim("source", 0).unwrap_err().code, "unsupported_mode");
}

#[test]
fn columns_that_come_go_and_widen_are_followed_between_commits() {
    let place = Place::new();
    let mut pipe = incremental(&place, "orders", WriteMode::Upsert);
    pipe.claim();
    pipe.prepare(1, "~", &["0"]);
    let write = |seq: u64, rows: RecordBatch| {
        let host = FakeHost::install();
        host.feed(0, 1, &[rows]).unwrap();
        host.feed_commit(1, false, Some(position("p")));
        pipe.write(&host, 1, "0", seq, 0)
    };
    write(0, noted(&[(1, "a")])).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values([1, 2]));
    let more: ArrayRef = Arc::new(StringArray::from_iter_values(["m", "n"]));
    let key = || field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]);
    write(1, batch(vec![(key(), ids.clone()), (field("more", DataType::Utf8, true, &[("type", "text")]), more)])).unwrap();
    // What the source has lost stays as it was.
    assert_eq!(place.value("SELECT string_agg(concat(id, note, more), ' ' ORDER BY id) FROM orders"), "1am 2n");
    let error = write(2, batch(vec![(key(), ids.clone()), (field("note", DataType::Int64, true, &[("type", "bigint")]), ids)]));
    assert_eq!(error.unwrap_err().code, "type_mismatch");
}
