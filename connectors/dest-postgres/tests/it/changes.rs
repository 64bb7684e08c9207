//! Changes of a source's log: merged into what they leave behind, or kept as a log.

use crate::harness::{Pipe, Place, batch, field};
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array, new_null_array};
use arrow_schema::{DataType, Field};
use rapidbyte_sdk::changes::{ChangeOp, change_fields};
use rapidbyte_sdk::host_ffi::RawEvent;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{CursorType, Position, SyncMode, Truncate, WriteMode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A row: a key, a note, and a value that is large enough to be left out of a change.
pub(crate) type Row = (i64, Option<String>, Option<String>);

/// A change of a row. `big` is `Err` where it was left alone.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    op: ChangeOp,
    lsn: u64,
    seq: i64,
    old: Option<i64>,
    id: i64,
    note: Option<String>,
    big: Result<Option<String>, ()>,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

impl Change {
    pub(crate) fn insert(place: (u64, i64), id: i64, note: &str, big: &str) -> Self {
        Self { op: ChangeOp::Insert, lsn: place.0, seq: place.1, old: None, id, note: text(note), big: Ok(text(big)) }
    }

    /// From one key to another, `big` left alone.
    fn update(place: (u64, i64), old: i64, id: i64, note: &str) -> Self {
        let old = (old != id).then_some(old);
        Self { op: ChangeOp::Update, lsn: place.0, seq: place.1, old, id, note: text(note), big: Err(()) }
    }

    fn delete(place: (u64, i64), id: i64) -> Self {
        Self { op: ChangeOp::Delete, lsn: place.0, seq: place.1, old: Some(id), id, note: None, big: Ok(None) }
    }
}

fn key_field(name: &str, nullable: bool) -> Field {
    let marks: &[(&str, &str)] =
        if name == "id" { &[("type", "bigint"), ("pk_ord", "1"), ("notnull", "true")] } else { &[("type", "bigint")] };
    field(name, DataType::Int64, nullable, marks)
}

fn text_field(name: &str) -> Field {
    field(name, DataType::Utf8, true, &[("type", "text")])
}

/// The batch of a load.
fn rows(rows: &[Row]) -> RecordBatch {
    let note: StringArray = rows.iter().map(|row| row.1.clone()).collect();
    let big: StringArray = rows.iter().map(|row| row.2.clone()).collect();
    batch(vec![
        (key_field("id", false), Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
        (text_field("note"), Arc::new(note)),
        (text_field("big"), Arc::new(big)),
    ])
}

pub(crate) fn row(id: i64, note: &str, big: &str) -> Row {
    (id, text(note), text(big))
}

/// A batch of changes, with columns of the table behind the three.
pub(crate) fn changed(changes: &[Change], more: Vec<(Field, ArrayRef)>, told: bool) -> RecordBatch {
    let note: StringArray = changes.iter().map(|change| change.note.clone()).collect();
    let big: StringArray = changes.iter().map(|change| change.big.clone().ok().flatten()).collect();
    let mut unchanged = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
    for change in changes {
        if change.big.is_err() {
            unchanged.values().append_value("big");
        }
        unchanged.append(change.big.is_err());
    }
    let own: [ArrayRef; 5] = [
        Arc::new(StringArray::from_iter_values(changes.iter().map(|change| change.op.as_str()))),
        Arc::new(UInt64Array::from_iter_values(changes.iter().map(|change| change.lsn))),
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.seq))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(changes.iter().map(|change| change.lsn as i64)).with_timezone("UTC")),
        Arc::new(unchanged.finish()),
    ];
    let mut columns: Vec<(Field, ArrayRef)> = vec![
        (key_field("id", true), Arc::new(Int64Array::from_iter_values(changes.iter().map(|change| change.id)))),
        (text_field("note"), Arc::new(note)),
        (text_field("big"), Arc::new(big)),
    ];
    columns.extend(more);
    if told {
        let before: Int64Array = changes.iter().map(|change| change.old).collect();
        columns.push((key_field("_rb_before_id", true), Arc::new(before)));
    }
    columns.extend(change_fields().into_iter().zip(own));
    batch(columns)
}

pub(crate) fn lsn(place: u64) -> Position {
    Position::new(CursorType::Lsn, format!("{:X}/{:X}", place >> 32, place & 0xffff_ffff))
}

/// A pipeline whose load of these rows is visible.
pub(crate) fn loaded<'a>(place: &'a Place, mode: WriteMode, extra: serde_json::Value, load: &[Row]) -> Pipe<'a> {
    let mut pipe = Pipe::new(place, "items", mode);
    pipe.context.sync_mode = SyncMode::Cdc;
    pipe.extra = extra;
    reload(&mut pipe, load);
    pipe
}

/// Another load, as after a reset.
fn reload(pipe: &mut Pipe<'_>, load: &[Row]) -> u64 {
    let generation = pipe.claim().newest_generation + 1;
    pipe.prepare(generation, &format!("~/{generation}"), &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[rows(load)]).unwrap();
    host.feed_commit(1, true, Some(lsn(1)));
    pipe.write(&host, generation, "0", 0, 0).unwrap();
    assert_eq!(pipe.publish(generation).rows, load.len() as u64);
    // Asked again it says the same, and the generation stays open.
    assert_eq!(pipe.publish(generation).rows, load.len() as u64);
    assert_eq!(pipe.claim().generation.expect("an open one").number, generation);
    generation
}

/// One task with one window.
fn window(pipe: &Pipe<'_>, seq: u64, changes: &[Change], end: u64) -> Result<u64, String> {
    let host = FakeHost::install();
    host.feed(0, 1, &[changed(changes, Vec::new(), true)]).unwrap();
    host.feed_commit(1, false, Some(lsn(end)));
    pipe.write(&host, 1, "_rb_changes", seq, 0).map(|summary| summary.records).map_err(|error| error.code)
}

const SHOWN: &str = "SELECT string_agg(id || coalesce(note, '-') || coalesce(big, '-'), ' ' ORDER BY id) FROM items";

#[test]
fn a_window_leaves_behind_what_its_changes_say() {
    let place = Place::new();
    let mut pipe =
        loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "A"), row(2, "b", "B"), row(3, "c", "C")]);
    assert_eq!(place.value("SELECT count(*) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname LIKE '\\_rb%'"), "0");
    let plain = [
        Change::insert((10, 1), 4, "d", "D"),
        Change::delete((10, 2), 2),
        Change { big: Ok(text("X")), ..Change::update((12, 1), 1, 1, "aa") },
        Change { big: Ok(None), ..Change::update((12, 2), 4, 4, "dd") },
    ];
    assert_eq!(window(&pipe, 0, &plain, 20), Ok(4));
    assert_eq!(place.value(SHOWN), "1aaX 3cC 4dd-");
    // Values left alone stay, also where the row moves; a row that was deleted comes back under its key.
    let moved = [
        Change::update((30, 1), 3, 3, "cc"),
        Change::update((30, 2), 3, 7, "ccc"),
        Change::update((31, 1), 7, 8, "cccc"),
        Change::delete((31, 2), 1),
        Change::insert((31, 3), 1, "e", "E"),
        Change::insert((31, 4), 9, "f", "F"),
        Change::update((31, 5), 9, 9, "ff"),
    ];
    assert_eq!(window(&pipe, 1, &moved, 40), Ok(7));
    assert_eq!(place.value(SHOWN), "1eE 4dd- 8ccccC 9ffF");
    let claimed = pipe.claim();
    let receipt = claimed.receipts.iter().find(|receipt| receipt.partition == "_rb_changes").expect("a receipt");
    assert_eq!((receipt.seq, receipt.rows, receipt.last), (2, 11 - 4, false));
    assert_eq!(receipt.position, Some(lsn(40)));
    assert_eq!(place.value("SELECT attnotnull FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'id'"), "t");
}

#[test]
fn changes_up_to_the_receipt_are_left_out() {
    let place = Place::new();
    let pipe = loaded(&place, WriteMode::Append, serde_json::Value::Null, &[]);
    let first = [Change::insert((10, 1), 1, "a", "A"), Change::insert((12, 1), 2, "b", "B")];
    assert_eq!(window(&pipe, 0, &first, 12), Ok(2));
    // Sent again for another stream's sake, with what is new behind it, and a truncate among what is known.
    let host = FakeHost::install();
    host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(11)) }));
    host.feed(0, 1, &[changed(&[first.as_slice(), &[Change::insert((13, 1), 3, "c", "C")]].concat(), Vec::new(), true)]).unwrap();
    host.feed_commit(1, false, Some(lsn(20)));
    pipe.write(&host, 1, "_rb_changes", 1, 2).unwrap();
    assert_eq!(place.value("SELECT string_agg(_rb_op || id, ' ' ORDER BY _rb_lsn, _rb_seq) FROM items"), "insert1 insert2 insert3");
}

#[test]
fn a_change_log_holds_every_change_in_its_place() {
    let place = Place::new();
    let pipe = loaded(&place, WriteMode::Append, serde_json::Value::Null, &[row(1, "a", "A")]);
    assert_eq!(place.value("SELECT _rb_op || coalesce(_rb_lsn::text, '-') FROM items"), "insert-");
    let host = FakeHost::install();
    let before = [Change::update((0x1_0000_000A, 1), 1, 5, "b"), Change::delete((0x1_0000_000A, 2), 5)];
    host.feed(0, 1, &[changed(&before, Vec::new(), true)]).unwrap();
    host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(0x1_0000_000A)) }));
    host.feed(0, 2, &[changed(&[Change::insert((0x1_0000_000A, 4), 6, "c", "C")], Vec::new(), true)]).unwrap();
    host.feed_commit(1, false, Some(lsn(0x1_0000_000B)));
    pipe.write(&host, 1, "_rb_changes", 0, 0).unwrap();
    let log = place.value(
        "SELECT string_agg(concat_ws(',', _rb_op, _rb_seq, id, note, big, _rb_before_id, _rb_unchanged), ' ' ORDER BY _rb_lsn, _rb_seq)
         FROM items WHERE _rb_lsn = '1/A'",
    );
    assert_eq!(log, "update,1,5,b,1,{big} delete,2,5,5 truncate,3 insert,4,6,c,C");
    let time = "SELECT bool_and(_rb_commit_time = '1970-01-01 01:11:34.967306+00') FROM items WHERE _rb_op IN ('update', 'delete')";
    assert_eq!(place.value(time), "t");
}

#[test]
fn deleted_rows_can_be_kept() {
    let place = Place::new();
    let soft = serde_json::json!({ "deletes": "soft" });
    let mut pipe = loaded(&place, WriteMode::Upsert, soft, &[row(1, "a", "A"), row(2, "b", "B"), row(3, "c", "C")]);
    window(&pipe, 0, &[Change::delete((10, 1), 1), Change::delete((10, 2), 2)], 20).unwrap();
    let shown =
        "SELECT string_agg(id || note || CASE WHEN _rb_deleted_at IS NULL THEN '' ELSE '†' END, ' ' ORDER BY id) FROM items";
    assert_eq!(place.value(shown), "1a† 2b† 3c");
    assert_eq!(place.value("SELECT _rb_deleted_at = '1970-01-01 00:00:00.00001+00' FROM items WHERE id = 1"), "t");
    // One comes back, one is emptied with the table; the other way of applying marks too.
    window(&pipe, 1, &[Change::insert((30, 1), 1, "x", "X")], 40).unwrap();
    assert_eq!(place.value(shown), "1x 2b† 3c");
    window(&pipe, 2, &[Change::update((50, 1), 1, 1, "y"), Change::delete((50, 2), 1)], 60).unwrap();
    assert_eq!(place.value(shown), "1y† 2b† 3c");
    let host = FakeHost::install();
    host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(70)) }));
    host.feed(0, 1, &[changed(&[Change::insert((70, 2), 4, "d", "D")], Vec::new(), true)]).unwrap();
    host.feed_commit(1, false, Some(lsn(80)));
    pipe.write(&host, 1, "_rb_changes", 3, 0).unwrap();
    assert_eq!(place.value(shown), "1y† 2b† 3c† 4d");
    // Each is kept as it was last, also where all of it came in one window.
    let changed = Change { big: Ok(text("Z")), ..Change::update((90, 1), 4, 4, "z") };
    let at_once = [changed, Change::delete((90, 2), 4), Change::insert((90, 3), 5, "e", "E"), Change::delete((90, 4), 5)];
    window(&pipe, 4, &at_once, 95).unwrap();
    assert_eq!(place.value(shown), "1y† 2b† 3c† 4z† 5e†");
    // What another load lacks was deleted, and what it has was not.
    reload(&mut pipe, &[row(2, "bb", "B")]);
    assert_eq!(place.value(shown), "1y† 2bb 3c† 4z† 5e†");
}

#[test]
fn a_row_takes_the_key_of_one_that_was_deleted() {
    let place = Place::new();
    let soft = serde_json::json!({ "deletes": "soft" });
    let pipe = loaded(&place, WriteMode::Upsert, soft, &[row(1, "a", "A"), row(2, "b", "B"), row(3, "c", "C")]);
    window(&pipe, 0, &[Change::delete((10, 1), 2)], 20).unwrap();
    // What the change leaves alone is that of the row that has moved.
    window(&pipe, 1, &[Change::update((30, 1), 1, 2, "x")], 40).unwrap();
    assert_eq!(place.value(SHOWN), "2xA 3cC");
    // All of it within a window, and of the key that it has left.
    let at_once = [Change::delete((50, 1), 3), Change::update((50, 2), 2, 3, "y"), Change::insert((50, 3), 2, "d", "D")];
    window(&pipe, 2, &at_once, 60).unwrap();
    assert_eq!(place.value(SHOWN), "2dD 3yA");
    assert_eq!(place.value("SELECT count(*) FROM items WHERE _rb_deleted_at IS NOT NULL"), "0");
}

#[test]
fn another_load_takes_the_place_of_the_one_before_and_the_first_leaves_strange_rows_alone() {
    let place = Place::new();
    place.run(
        "CREATE TABLE items (id bigint PRIMARY KEY, note text, big text); INSERT INTO items VALUES (99, 'z', 'Z'), (1, '-', '-')",
    );
    let mut pipe = loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "A"), row(2, "b", "B")]);
    assert_eq!(place.value(SHOWN), "1aA 2bB 99zZ");
    // An attempt that ends before it is visible changes nothing of that.
    pipe.claim();
    pipe.prepare(2, "~/lost", &["0"]);
    assert_eq!(reload(&mut pipe, &[row(1, "c", "C")]), 3);
    assert_eq!(place.value(SHOWN), "1cC");
}

#[test]
fn another_load_is_not_stopped_by_rows_that_are_gone() {
    let place = Place::new();
    let mut pipe = loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "a"), row(2, "b", "a")]);
    place.run("ALTER TABLE items ADD UNIQUE (note)");
    // Another row has the unique value of one that is gone.
    reload(&mut pipe, &[row(2, "b", "a"), row(3, "a", "a")]);
    assert_eq!(place.value(SHOWN), "2ba 3aa");
    // A row that stays refers to one that is gone until it is changed.
    place.run("ALTER TABLE items ADD FOREIGN KEY (big) REFERENCES items (note)");
    reload(&mut pipe, &[row(2, "b", "b")]);
    assert_eq!(place.value(SHOWN), "2bb");
}

#[test]
fn rows_of_tables_that_inherit_are_not_changed_along() {
    for deletes in ["hard", "soft"] {
        let place = Place::new();
        let load: Vec<Row> = (1..=6).map(|id| row(id, "a", "A")).collect();
        let mut pipe = loaded(&place, WriteMode::Upsert, serde_json::json!({ "deletes": deletes }), &load);
        place.run("CREATE TABLE heirs () INHERITS (items); INSERT INTO heirs SELECT * FROM items");
        let theirs = "SELECT string_agg(heirs::text, ' ' ORDER BY id) FROM heirs";
        let before = place.value(theirs);
        let alive = if deletes == "soft" { " WHERE _rb_deleted_at IS NULL" } else { "" };
        let ours = || place.value(&format!("{}{alive}", SHOWN.replace("FROM", "FROM ONLY")));
        // As a set, one by one, all at once, and those that a load lacks.
        window(&pipe, 0, &[Change::delete((10, 1), 1)], 20).unwrap();
        window(&pipe, 1, &[Change::update((30, 1), 2, 7, "b"), Change::update((30, 2), 3, 3, "c"), Change::delete((30, 3), 4)], 40)
            .unwrap();
        assert_eq!(ours(), "3cA 5aA 6aA 7bA", "{deletes}");
        reload(&mut pipe, &[row(5, "d", "D"), row(6, "e", "E")]);
        assert_eq!(ours(), "5dD 6eE", "{deletes}");
        let host = FakeHost::install();
        host.feed(0, 1, &[changed(&[Change::insert((50, 1), 8, "f", "F")], Vec::new(), true)]).unwrap();
        host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(60)) }));
        host.feed_commit(1, false, Some(lsn(70)));
        pipe.write(&host, 2, "_rb_changes", 0, 0).unwrap();
        assert_eq!(ours(), "NULL", "{deletes}");
        assert_eq!(place.value(theirs), before, "{deletes}");
    }
}

#[test]
fn a_key_of_which_the_log_tells_no_old_value_is_refused() {
    let place = Place::new();
    let pipe = loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "A")]);
    let host = FakeHost::install();
    host.feed(0, 1, &[changed(&[Change::delete((10, 1), 1)], Vec::new(), false)]).unwrap();
    host.feed_commit(1, false, Some(lsn(20)));
    assert_eq!(pipe.write(&host, 1, "_rb_changes", 0, 0).unwrap_err().code, "replica_identity");
    assert_eq!(place.value(SHOWN), "1aA");
}

/// A change of a row that is its key alone: what it is, its place, its old key, its key.
type KeyChange<'a> = (ChangeOp, u64, Option<&'a str>, &'a str);

/// What gives a window to a pipeline whose rows are their key alone, of such a type.
fn keyed<'a>(
    place: &'a Place,
    deletes: &str,
    marks: &'a [(&'a str, &'a str)],
    load: &[&str],
) -> impl Fn(u64, &[KeyChange<'_>]) + use<'a> {
    let id = move |name: &str, nullable: bool, key: bool| {
        let of_key: &[(&str, &str)] = if key { &[("pk_ord", "1"), ("notnull", "true")] } else { &[] };
        field(name, DataType::Utf8, nullable, &[marks, of_key].concat())
    };
    let mut pipe = Pipe::new(place, "items", WriteMode::Upsert);
    pipe.context.sync_mode = SyncMode::Cdc;
    pipe.extra = serde_json::json!({ "deletes": deletes });
    pipe.claim();
    pipe.prepare(1, "~/1", &["0"]);
    let host = FakeHost::install();
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values(load));
    host.feed(0, 1, &[batch(vec![(id("id", false, true), ids)])]).unwrap();
    host.feed_commit(1, true, Some(lsn(1)));
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    pipe.publish(1);
    move |seq: u64, changes: &[KeyChange<'_>]| {
        let mut unchanged = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, false));
        changes.iter().for_each(|_| unchanged.append(false));
        let places = || changes.iter().map(|change| change.1);
        let own: [ArrayRef; 5] = [
            Arc::new(StringArray::from_iter_values(changes.iter().map(|change| change.0.as_str()))),
            Arc::new(UInt64Array::from_iter_values(places())),
            Arc::new(Int64Array::from_iter_values(places().map(|_| 1))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(places().map(|place| place as i64)).with_timezone("UTC")),
            Arc::new(unchanged.finish()),
        ];
        let ids: StringArray = changes.iter().map(|change| Some(change.3)).collect();
        let before: StringArray = changes.iter().map(|change| change.2).collect();
        let mut columns: Vec<(Field, ArrayRef)> =
            vec![(id("id", true, true), Arc::new(ids)), (id("_rb_before_id", true, false), Arc::new(before))];
        columns.extend(change_fields().into_iter().zip(own));
        let host = FakeHost::install();
        host.feed(0, 1, &[batch(columns)]).unwrap();
        let end = places().max().unwrap_or_default();
        host.feed_commit(1, false, Some(lsn(end)));
        pipe.write(&host, 1, "_rb_changes", seq, 0).unwrap();
    }
}

const RANGES: &[(&str, &str)] = &[("type", "int4range"), ("encoding", "text")];
const KEYS: &str = "SELECT string_agg(id::text, ' ' ORDER BY id) FROM items";

#[test]
fn a_key_that_is_spelled_anew_is_written_anew() {
    let place = Place::new();
    let window = keyed(&place, "hard", &[("type", "numeric")], &["1.0", "2", "3"]);
    window(0, &[(ChangeOp::Update, 10, Some("1.0"), "1.00"), (ChangeOp::Update, 11, Some("3"), "4")]);
    assert_eq!(place.value(KEYS), "1.00 2 4");
    // By the other way, where the row was deleted in between.
    window(1, &[(ChangeOp::Delete, 20, Some("2"), "2"), (ChangeOp::Insert, 21, None, "2.0")]);
    assert_eq!(place.value(KEYS), "1.00 2.0 4");
}

#[test]
fn a_key_that_travels_as_text_can_move() {
    let place = Place::new();
    let window = keyed(&place, "hard", RANGES, &["[1,2)", "[5,6)"]);
    window(0, &[(ChangeOp::Update, 10, Some("[1,2)"), "[3,4)"), (ChangeOp::Delete, 11, Some("[5,6)"), "[5,6)")]);
    assert_eq!(place.value(KEYS), "[3,4)");
}

#[test]
fn a_key_that_travels_as_text_is_one_key_however_it_is_spelled() {
    let place = Place::new();
    let window = keyed(&place, "soft", RANGES, &["[1,2)"]);
    // The row is kept, with its deletion, though it came and went within the window.
    window(0, &[(ChangeOp::Insert, 10, None, "[5,6)"), (ChangeOp::Delete, 11, Some("[5,5]"), "[5,5]")]);
    assert_eq!(place.value(KEYS), "[1,2) [5,6)");
    assert_eq!(place.value("SELECT string_agg(id::text, ' ') FROM items WHERE _rb_deleted_at IS NOT NULL"), "[5,6)");
}

#[test]
fn a_row_that_is_its_key_alone_is_not_written_again() {
    let place = Place::new();
    let window = keyed(&place, "hard", &[("type", "numeric")], &["1.0", "2"]);
    window(0, &[(ChangeOp::Insert, 10, None, "1.0"), (ChangeOp::Insert, 11, None, "2.0")]);
    assert_eq!(place.value(KEYS), "1.0 2.0");
    assert_eq!(place.value("SELECT count(*) FILTER (WHERE xmin = (SELECT xmin FROM items WHERE id = 2)) FROM items"), "1");
}

#[test]
fn a_delete_without_a_key_is_refused() {
    let place = Place::new();
    let pipe = loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "A")]);
    // The source calls its key NOT NULL, and yet it is not told.
    let delete = changed(&[Change::delete((10, 1), 1)], Vec::new(), true);
    let without = |(field, array): (&Arc<Field>, &ArrayRef)| match field.name().as_str() {
        "id" | "_rb_before_id" => new_null_array(&DataType::Int64, array.len()),
        _ => array.clone(),
    };
    let arrays = delete.schema().fields().iter().zip(delete.columns()).map(without).collect();
    let host = FakeHost::install();
    host.feed(0, 1, &[RecordBatch::try_new(delete.schema(), arrays).unwrap()]).unwrap();
    host.feed_commit(1, false, Some(lsn(20)));
    assert_eq!(pipe.write(&host, 1, "_rb_changes", 0, 0).map(|_| ()).map_err(|error| error.code), Err("null_key".into()));
    assert_eq!(place.value(SHOWN), "1aA");
}

#[test]
fn a_change_of_a_row_that_is_gone_is_no_reason_to_make_one_up() {
    let place = Place::new();
    let pipe = loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "A"), row(2, "b", "B")]);
    place.run("DELETE FROM items WHERE id = 1");
    assert_eq!(window(&pipe, 0, &[Change::update((10, 1), 1, 1, "x")], 20), Err("missing_row".into()));
    // One that tells the whole row brings it back.
    assert_eq!(window(&pipe, 0, &[Change { big: Ok(text("X")), ..Change::update((10, 1), 1, 1, "x") }], 20), Ok(1));
    assert_eq!(place.value(SHOWN), "1xX 2bB");
    place.run("DROP TABLE items");
    assert_eq!(window(&pipe, 1, &[Change::delete((30, 1), 2)], 40), Err("missing_table".into()));
}

#[test]
fn values_that_must_be_unique_may_change_places_within_a_window() {
    let place = Place::new();
    let pipe = loaded(&place, WriteMode::Upsert, serde_json::Value::Null, &[row(1, "a", "A"), row(2, "b", "B")]);
    place.run("CREATE UNIQUE INDEX ON items (note)");
    let whole = |change: Change, big: &str| Change { big: Ok(text(big)), ..change };
    let swap = [
        whole(Change::update((10, 1), 1, 1, "t"), "A"),
        whole(Change::update((10, 2), 2, 2, "a"), "B"),
        whole(Change::update((10, 3), 1, 1, "b"), "A"),
    ];
    assert_eq!(window(&pipe, 0, &swap, 20), Ok(3));
    assert_eq!(place.value(SHOWN), "1bA 2aB");
}

#[test]
fn a_column_added_in_the_middle_of_a_window_is_followed() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let place = Place::new();
        let pipe = loaded(&place, mode, serde_json::Value::Null, &[row(1, "a", "A")]);
        let host = FakeHost::install();
        host.feed(0, 1, &[changed(&[Change::insert((10, 1), 2, "b", "B")], Vec::new(), true)]).unwrap();
        let added = (text_field("more"), Arc::new(StringArray::from(vec!["m"])) as ArrayRef);
        host.feed(0, 2, &[changed(&[Change::insert((10, 2), 3, "c", "C")], vec![added], true)]).unwrap();
        host.feed_commit(1, false, Some(lsn(20)));
        pipe.write(&host, 1, "_rb_changes", 0, 0).unwrap();
        assert_eq!(place.value("SELECT string_agg(id || coalesce(more, '-'), ' ' ORDER BY id) FROM items"), "1- 2- 3m", "{mode}");
    }
}

/// Numbers by chance, the same for each seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// What changes leave behind.
struct Model {
    live: BTreeMap<i64, Row>,
    /// Rows that were deleted, as they were then, until their key is taken again.
    gone: BTreeMap<i64, Row>,
}

impl Model {
    fn put(&mut self, row: Row) {
        self.gone.remove(&row.0);
        self.live.insert(row.0, row);
    }

    fn empty(&mut self) {
        self.gone.append(&mut self.live);
    }

    /// The rows as they are shown, those that were deleted too where they are kept.
    fn shown(&self, keeps: bool) -> String {
        let of = |rows: &BTreeMap<i64, Row>, mark: &str| {
            let show = |(id, note, big): &Row| {
                (*id, format!("{id}{}{}{mark}", note.as_deref().unwrap_or("-"), big.as_deref().unwrap_or("-")))
            };
            rows.values().map(show).collect::<BTreeMap<i64, String>>()
        };
        let mut all = of(&self.live, "");
        if keeps {
            all.extend(of(&self.gone, "†"));
        }
        all.into_values().collect::<Vec<_>>().join(" ")
    }
}

/// A change by chance that the rows of the model allow, made to the model too.
fn by_chance(chance: &mut Chance, model: &mut Model, place: (u64, i64), calm: bool) -> Option<Change> {
    let (a, b) = (chance.below(12) as i64, chance.below(12) as i64);
    let note = format!("n{}", chance.below(1000));
    match (chance.below(4), model.live.contains_key(&a)) {
        (_, false) => {
            let change = Change::insert(place, a, &note, &format!("B{}", chance.below(1000)));
            model.put((a, change.note.clone(), change.big.clone().unwrap()));
            Some(change)
        }
        (0, true) => {
            let row = model.live.remove(&a)?;
            model.gone.insert(a, row);
            Some(Change::delete(place, a))
        }
        (1, true) if !calm => {
            let b = if model.live.contains_key(&b) { a } else { b };
            let change = Change::update(place, a, b, &note);
            let mut row = model.live.remove(&a)?;
            (row.0, row.1) = (b, change.note.clone());
            model.put(row);
            Some(change)
        }
        _ => {
            let big = (chance.below(3) > 0).then(|| format!("C{}", chance.below(1000)));
            let change = Change { big: Ok(big), ..Change::update(place, a, a, &note) };
            model.put((a, change.note.clone(), change.big.clone().unwrap()));
            Some(change)
        }
    }
}

#[test]
fn any_changes_leave_behind_what_a_model_does() {
    for deletes in ["hard", "soft"] {
        follow_a_model(deletes);
    }
}

fn follow_a_model(deletes: &str) {
    let place = Place::new();
    let load = [row(1, "a", "A"), row(2, "b", "B")];
    let pipe = loaded(&place, WriteMode::Upsert, serde_json::json!({ "deletes": deletes }), &load);
    let mut model = Model { live: load.into_iter().map(|row| (row.0, row)).collect(), gone: BTreeMap::new() };
    let mark = if deletes == "soft" { "CASE WHEN _rb_deleted_at IS NULL THEN '' ELSE '†' END" } else { "''" };
    let shown = format!(
        "SELECT coalesce(string_agg(id || coalesce(note, '-') || coalesce(big, '-') || {mark}, ' ' ORDER BY id), '') FROM items"
    );
    let mut chance = Chance(0x5eed_1234_9876);
    let (mut at, mut seen_plain) = (100, 0);
    for seq in 0..60 {
        let host = FakeHost::install();
        let mut schema_id = 0;
        let calm = seq % 3 == 0;
        for _ in 0..=chance.below(3) {
            at += 10;
            let changes: Vec<Change> =
                (1..=chance.below(25) as i64).filter_map(|n| by_chance(&mut chance, &mut model, (at, n), calm)).collect();
            schema_id += 1;
            host.feed(0, schema_id, &[changed(&changes, Vec::new(), true)]).unwrap();
            if chance.below(8) == 0 {
                at += 1;
                host.feed_event(RawEvent::Truncate(Truncate { stream: 0, position: Some(lsn(at)) }));
                model.empty();
            }
        }
        seen_plain += u32::from(calm);
        at += 1;
        host.feed_commit(1, false, Some(lsn(at)));
        pipe.write(&host, 1, "_rb_changes", seq, 0).unwrap();
        assert_eq!(place.value(&shown), model.shown(deletes == "soft"), "{deletes}, window {seq}");
    }
    assert_eq!(seen_plain, 20);
}
