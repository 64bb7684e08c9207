//! Rows that can't be written: under `skip` and `dlq` the others arrive all the same, and none is lost in silence.

use crate::harness::{Pipe, Place, batch, field, position};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::DataType;
use rapidbyte_sdk::host_ffi::RawEvent;
use rapidbyte_sdk::testing::{Emitted, FakeHost};
use rapidbyte_sdk::{DataErrorPolicy, DeadLetter, ErrorCategory, NewColumnPolicy, SyncMode, TypeChangePolicy, WriteMode};
use std::sync::Arc;

/// Many good orders, with some notes replaced.
fn orders(count: i64, bad: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let note = |id: i64| bad.iter().find(|(of, _)| *of == id).map_or_else(|| format!("note {id}"), |(_, text)| (*text).to_owned());
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(note)));
    batch(vec![
        (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
        (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
    ])
}

fn pipe<'a>(place: &'a Place, mode: WriteMode, policy: DataErrorPolicy) -> Pipe<'a> {
    let mut pipe = Pipe::new(place, "orders", mode);
    pipe.context.policies.on_data_error = policy;
    pipe
}

fn incremental<'a>(place: &'a Place, mode: WriteMode, policy: DataErrorPolicy) -> Pipe<'a> {
    let mut pipe = pipe(place, mode, policy);
    pipe.context.sync_mode = SyncMode::Incremental;
    pipe.context.cursor_field = Some("id".into());
    pipe
}

/// The letters reported to the host.
fn reported(host: &FakeHost) -> Vec<DeadLetter> {
    let of = |what| if let Emitted::DeadLetters(letters) = what { letters } else { panic!("{what:?}") };
    host.emitted().into_iter().flat_map(of).collect()
}

const STORED: &str = r#"SELECT coalesce(string_agg(concat_ws(' ', stream_name, generation, partition, seq, ordinal, error_category,
    substring(record_json::text FROM '"id":{"type":"[^"]*","value":"([0-9]+)"')), '; ' ORDER BY partition, seq, ordinal), '')
    FROM _rapidbyte_dlq"#;

#[test]
fn rows_that_can_not_be_encoded_fall_out_before_the_server_sees_them() {
    let place = Place::new();
    for (policy, letters) in [(DataErrorPolicy::Skip, 0), (DataErrorPolicy::Dlq, 2)] {
        place.run("DROP TABLE IF EXISTS orders, _rapidbyte_dlq; DROP SCHEMA IF EXISTS _rapidbyte CASCADE");
        let mut pipe = pipe(&place, WriteMode::Append, policy);
        pipe.claim();
        pipe.prepare(1, "s", &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(1000, &[(7, "a\0b"), (999, "\0")])]).unwrap();
        host.feed_commit(1, true, None);
        let written = pipe.write(&host, 1, "0", 0, 0).unwrap();
        assert_eq!((written.records, written.records_skipped), (998, 2 - letters));
        let own = reported(&host);
        assert_eq!(own.len() as u64, letters);
        assert_eq!(host.checkpoints()[0].receipts[0].rows, 998);
        assert_eq!(pipe.publish(1).rows, 998);
        assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), format!("998 {}", 999 * 1000 / 2 - 7 - 999));
        if letters > 0 {
            assert_eq!(place.value(STORED), "public.orders 1 0 1 0 data 7; public.orders 1 0 1 1 data 999");
            assert!(own[0].error_message.contains("`note`") && own[0].error_message.contains("NUL"), "{}", own[0].error_message);
            assert!(own[0].record_json.contains(r#""value":"a\u0000b""#), "{}", own[0].record_json);
            assert_eq!(
                place.value("SELECT pipeline || ' ' || pipeline_id || ' ' || run_id || ' ' || (failed_at > now() - interval '1 hour') FROM _rapidbyte_dlq WHERE ordinal = 0"),
                format!("{} {} {} true", pipe.run.pipeline, pipe.run.pipeline_id, pipe.run.run_id)
            );
        } else {
            assert_eq!(place.value("SELECT to_regclass('_rapidbyte_dlq') IS NULL"), "t");
        }
    }
}

/// Orders with a column that the table does not have; its notes are text.
fn drifted(count: i64, bad: &[(i64, &str)]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let note = |id: i64| bad.iter().find(|(of, _)| *of == id).map_or_else(|| id.to_string(), |(_, text)| (*text).to_owned());
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..count).map(note)));
    batch(vec![
        (field("more", DataType::Int64, true, &[("type", "bigint")]), Arc::clone(&numbers)),
        (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), numbers),
        (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
    ])
}

#[test]
fn rows_whose_values_do_not_fit_the_changed_column_fall_out() {
    // The last has no number, and a NUL which would be refused before it was one.
    let bad = [(7, "seven"), (8, "007"), (999, "\0")];
    for (policy, open_ended, method) in [
        (DataErrorPolicy::Skip, false, "copy"),
        (DataErrorPolicy::Dlq, false, "copy"),
        (DataErrorPolicy::Dlq, false, "insert"),
        (DataErrorPolicy::Dlq, true, "copy"),
    ] {
        let place = Place::new();
        place.run("CREATE TABLE orders (id bigint PRIMARY KEY, note integer)");
        let mut pipe = match open_ended {
            true => incremental(&place, WriteMode::Upsert, policy),
            false => pipe(&place, WriteMode::Upsert, policy),
        };
        pipe.extra = serde_json::json!({ "load_method": method });
        pipe.context.policies.type_change = TypeChangePolicy::Coerce;
        pipe.context.policies.new_column = NewColumnPolicy::Ignore;
        pipe.claim();
        pipe.prepare(1, if open_ended { "~" } else { "s" }, &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, &[drifted(1000, &bad)]).unwrap();
        host.feed_commit(1, !open_ended, open_ended.then(|| position("one")));
        let written = pipe.write(&host, 1, "0", 0, 0).unwrap();
        let dlq = policy == DataErrorPolicy::Dlq;
        assert_eq!((written.records, written.records_skipped), (997, if dlq { 0 } else { 3 }));
        if !open_ended {
            assert_eq!(pipe.publish(1).rows, 997);
        }
        let sum = 999 * 1000 / 2 - 7 - 8 - 999;
        assert_eq!(place.value("SELECT concat_ws(' ', count(*), sum(id), sum(note)) FROM orders"), format!("997 {sum} {sum}"));
        let own = reported(&host);
        assert_eq!(own.len(), if dlq { 3 } else { 0 });
        for (letter, (id, value)) in own.iter().zip(bad) {
            assert_eq!(letter.error_category, ErrorCategory::Data);
            let message = &letter.error_message;
            assert!(message.contains(&format!("`note` in row {}", id + 1)) && message.contains("exactly"), "{message}");
            assert!(!message.contains(value), "{message}");
            // As the source had it, with what would have been left out.
            let record: serde_json::Value = serde_json::from_str(&letter.record_json).unwrap();
            assert!(letter.record_json.contains(&serde_json::to_string(value).unwrap()), "{record}");
            assert!(record.to_string().contains("\"more\""), "{record}");
        }
    }
}

#[test]
fn under_fail_one_bad_row_ends_the_load() {
    let place = Place::new();
    let mut pipe = pipe(&place, WriteMode::Append, DataErrorPolicy::Fail);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(10, &[(7, "\0")])]).unwrap();
    host.feed_commit(1, true, None);
    assert_eq!(pipe.write(&host, 1, "0", 0, 0).unwrap_err().code, "nul_in_text");
}

/// A column whose values the server checks when they are copied.
fn documents(values: &[&str]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(values.iter().copied()));
    batch(vec![
        (field("id", DataType::Int64, false, &[("type", "bigint")]), ids),
        (field("note", DataType::Utf8, true, &[("type", "json")]), texts),
    ])
}

#[test]
fn rows_that_the_server_refuses_within_a_copy_are_found_by_halving() {
    let place = Place::new();
    let mut values = vec!["{}"; 3000];
    let bad = [0, 1, 1500, 2998, 2999];
    bad.iter().for_each(|at| values[*at] = "{broken");
    let mut pipe = pipe(&place, WriteMode::Append, DataErrorPolicy::Dlq);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[documents(&values), documents(&["{}", "]"])]).unwrap();
    host.feed_commit(1, true, None);
    assert_eq!(pipe.write(&host, 1, "0", 0, 0).unwrap().records, 2996);
    assert_eq!(pipe.publish(1).rows, 2996);
    let own = reported(&host);
    assert_eq!(own.len(), 6);
    assert!(own.iter().all(|letter| !letter.error_message.contains("broken") && letter.error_category == ErrorCategory::Data));
    assert_eq!(
        place.value("SELECT string_agg(record_json #>> '{id,value}', ' ' ORDER BY ordinal) FROM _rapidbyte_dlq"),
        "0 1 1500 2998 2999 1"
    );
    // Nothing else is missing, and the good row of the second batch is there.
    assert_eq!(place.value("SELECT count(DISTINCT id) || ' ' || count(*) FROM orders"), "2996 2996");
}

/// What a target refuses, with the id of the row that it refuses.
const TARGETS: [(&str, i64, &str); 7] = [
    ("CREATE TABLE orders (id bigint, note text CHECK (note <> 'bad'))", 700, "bad"),
    (
        "CREATE DOMAIN good AS text CHECK (VALUE <> 'bad'); CREATE TABLE orders (id bigint, note text, copy good GENERATED ALWAYS AS (note) STORED)",
        3,
        "bad",
    ),
    ("CREATE TABLE orders (id bigint, note text UNIQUE)", 701, "note 5"),
    (
        "CREATE TABLE notes (note text PRIMARY KEY); INSERT INTO notes SELECT 'note ' || n FROM generate_series(0, 999) n; CREATE TABLE orders (id bigint, note text REFERENCES notes)",
        0,
        "bad",
    ),
    (
        "CREATE TABLE notes (note text PRIMARY KEY); INSERT INTO notes SELECT 'note ' || n FROM generate_series(0, 999) n; CREATE TABLE orders (id bigint, note text REFERENCES notes DEFERRABLE INITIALLY DEFERRED)",
        999,
        "bad",
    ),
    ("CREATE TABLE orders (id bigint, note text, EXCLUDE USING btree (note WITH =))", 999, "note 998"),
    (
        "CREATE TABLE orders (id bigint, note text); CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.note = 'bad' THEN RAISE 'canary %', new.note; END IF; RETURN new; END $$; CREATE TRIGGER no BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION no()",
        500,
        "bad",
    ),
];

#[test]
fn rows_that_the_target_refuses_fall_out_when_the_load_is_published() {
    let place = Place::new();
    for (ddl, id, text) in TARGETS {
        for (mode, policy) in [(WriteMode::Append, DataErrorPolicy::Dlq), (WriteMode::Replace, DataErrorPolicy::Skip)] {
            place.run("DROP SCHEMA IF EXISTS _rapidbyte CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO PUBLIC");
            place.run(ddl);
            place.run("ALTER TABLE orders OWNER TO app");
            let mut pipe = pipe(&place, mode, policy);
            pipe.claim();
            pipe.prepare(1, "s", &["0"]);
            let host = FakeHost::install();
            host.feed(0, 1, &[orders(1000, &[(id, text)])]).unwrap();
            host.feed_commit(1, true, None);
            pipe.write(&host, 1, "0", 0, 0).unwrap();
            let published = pipe.try_publish(1).unwrap_or_else(|error| panic!("{ddl}: {error}"));
            assert_eq!(published.rows, 999, "{ddl}");
            assert_eq!(published.records_skipped, u64::from(policy == DataErrorPolicy::Skip), "{ddl}");
            assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), format!("999 {}", 999 * 500 - id), "{ddl}");
            let own = reported(&host);
            if policy == DataErrorPolicy::Skip {
                assert_eq!(own, []);
                continue;
            }
            assert_eq!(own.len(), 1, "{ddl}");
            assert!(!own[0].error_message.contains("bad") && !own[0].error_message.contains("canary"), "{}", own[0].error_message);
            assert_eq!(place.value(STORED), format!("public.orders 1 _rb_publish 1 0 data {id}"), "{ddl}");
            assert!(own[0].record_json.contains(&format!(r#""note":{{"type":"Utf8","value":"{text}""#)), "{}", own[0].record_json);
            // Asked again, it says the same.
            let host = FakeHost::install();
            assert_eq!(pipe.publish(1), published);
            assert_eq!(reported(&host), own);
            assert_eq!(place.value("SELECT count(*) FROM _rapidbyte_dlq"), "1");
        }
    }
}

#[test]
fn a_first_load_that_can_not_be_moved_whole_is_copied_without_the_bad_rows() {
    let place = Place::new();
    // A key twice stands in the way of the primary key.
    let twins = {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values((0..500).chain([250])));
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values((0..501).map(|n| format!("{n}"))));
        batch(vec![
            (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
            (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
        ])
    };
    let mut pipe = pipe(&place, WriteMode::Replace, DataErrorPolicy::Dlq);
    assert_eq!(pipe.load(&[twins]).rows, 500);
    assert_eq!(place.value("SELECT indisprimary FROM pg_index WHERE indrelid = 'orders'::regclass"), "t");
    assert_eq!(place.value(STORED), "public.orders 1 _rb_publish 1 0 data 250");
    assert_eq!(place.value("SELECT note FROM orders WHERE id = 250"), "250");
    assert_eq!(place.value("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_rb\\_load%'"), "0");
}

#[test]
fn texts_that_can_not_be_cast_fall_out_when_the_load_is_published() {
    for exists in [false, true] {
        let place = Place::new();
        if exists {
            place.run("CREATE TABLE orders (id bigint, span int4range)");
        }
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..300));
        let spans: ArrayRef = Arc::new(StringArray::from_iter_values(
            (0..300).map(|n| if n == 123 { "[9,1)".to_owned() } else { format!("[{n},{})", n + 1) }),
        ));
        let rows = batch(vec![
            (field("id", DataType::Int64, false, &[("type", "bigint")]), ids),
            (field("span", DataType::Utf8, true, &[("type", "int4range"), ("encoding", "text")]), spans),
        ]);
        let mut pipe = pipe(&place, WriteMode::Append, DataErrorPolicy::Dlq);
        assert_eq!(pipe.load(&[rows]).rows, 299, "{exists}");
        assert_eq!(place.value(STORED), "public.orders 1 _rb_publish 1 0 data 123");
        assert_eq!(place.value("SELECT count(*) || ' ' || min(pg_typeof(span)::text) FROM orders"), "299 int4range");
    }
}

#[test]
fn a_key_without_a_value_is_a_row_of_its_own() {
    for exists in [false, true] {
        let place = Place::new();
        if exists {
            place.run("CREATE TABLE orders (id bigint, note text); CREATE UNIQUE INDEX ON orders (id)");
        }
        let ids: ArrayRef = Arc::new(Int64Array::from_iter([Some(1), None, Some(2), None]));
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values(["a", "b", "c", "d"]));
        let rows = batch(vec![
            (field("id", DataType::Int64, true, &[("type", "bigint")]), ids),
            (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
        ]);
        let mut pipe = pipe(&place, WriteMode::Upsert, DataErrorPolicy::Dlq);
        pipe.context.primary_key = vec!["id".into()];
        assert_eq!(pipe.load(&[rows]).rows, 2, "{exists}");
        assert_eq!(place.value("SELECT string_agg(id || note, ' ' ORDER BY id) FROM orders"), "1a 2c");
        assert_eq!(
            place.value("SELECT string_agg(record_json #>> '{note,value}', ' ' ORDER BY ordinal) FROM _rapidbyte_dlq"),
            "b d"
        );
    }
}

#[test]
fn each_commit_of_an_open_ended_load_has_its_letters() {
    for (mode, policy) in [
        (WriteMode::Append, DataErrorPolicy::Dlq),
        (WriteMode::Upsert, DataErrorPolicy::Dlq),
        (WriteMode::Upsert, DataErrorPolicy::Skip),
    ] {
        let place = Place::new();
        place.run("CREATE TABLE orders (id bigint PRIMARY KEY, note text CHECK (note <> 'bad'))");
        let mut pipe = incremental(&place, mode, policy);
        pipe.claim();
        pipe.prepare(1, "~", &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(100, &[(40, "bad"), (41, "\0")])]).unwrap();
        host.feed_commit(1, false, Some(position("one")));
        // A commit of which nothing is left.
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values([500]));
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values(["bad"]));
        host.feed(
            0,
            2,
            &[batch(vec![
                (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
                (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
            ])],
        )
        .unwrap();
        host.feed_commit(2, false, Some(position("two")));
        let written = pipe.write(&host, 1, "0", 0, 0).unwrap();
        let dlq = policy == DataErrorPolicy::Dlq;
        assert_eq!((written.records, written.records_skipped), (98, if dlq { 0 } else { 3 }));
        assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), format!("98 {}", 4950 - 81));
        let receipts: Vec<u64> = host.checkpoints().iter().map(|of| of.receipts[0].rows).collect();
        assert_eq!(receipts, [98, 98]);
        if dlq {
            let expected = "public.orders 1 0 1 0 data 41; public.orders 1 0 1 1 data 40; public.orders 1 0 2 0 data 500";
            assert_eq!(place.value(STORED), expected);
            assert_eq!(reported(&host).len(), 3);
        }
    }
}

#[test]
fn a_bad_row_does_not_hide_the_good_one_of_its_key() {
    let place = Place::new();
    place.run("CREATE TABLE orders (id bigint PRIMARY KEY, note text CHECK (note <> 'bad'))");
    let rows = |all: &[(i64, &str)]| {
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(all.iter().map(|(id, _)| *id)));
        let notes: ArrayRef = Arc::new(StringArray::from_iter_values(all.iter().map(|(_, note)| *note)));
        batch(vec![
            (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
            (field("note", DataType::Utf8, true, &[("type", "text")]), notes),
        ])
    };
    let mut pipe = pipe(&place, WriteMode::Upsert, DataErrorPolicy::Dlq);
    pipe.load(&[rows(&[(1, "a"), (2, "b"), (1, "bad"), (2, "c"), (3, "bad"), (3, "d")])]);
    assert_eq!(place.value("SELECT string_agg(id || note, ' ' ORDER BY id) FROM orders"), "1a 2c 3d");
    // One that a later row of its key replaces is not missed.
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte_dlq"), "1");
}

#[test]
fn a_row_that_refers_to_a_later_one_is_no_bad_row() {
    for mode in [WriteMode::Append, WriteMode::Upsert] {
        let place = Place::new();
        place.run("CREATE TABLE orders (id bigint PRIMARY KEY, boss bigint REFERENCES orders)");
        // Each but the last refers to the next one; one to nobody.
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..60));
        let bosses: ArrayRef = Arc::new(Int64Array::from_iter((0..60).map(|id| match id {
            59 => None,
            30 => Some(1000),
            id => Some(id + 1),
        })));
        let rows = batch(vec![
            (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), ids),
            (field("boss", DataType::Int64, true, &[("type", "bigint")]), bosses),
        ]);
        let mut pipe = pipe(&place, mode, DataErrorPolicy::Dlq);
        // Those before the bad row refer to it, by way of each other.
        assert_eq!(pipe.load(&[rows]).rows, 29, "{mode}");
        assert_eq!(place.value("SELECT min(id) || ' ' || max(id) FROM orders"), "31 59");
        assert_eq!(place.value("SELECT count(*) FROM _rapidbyte_dlq"), "31");
    }
}

fn letter(record: &str) -> DeadLetter {
    DeadLetter {
        stream: 0,
        record_json: record.into(),
        error_message: "of an\tearlier \\stage\n".into(),
        error_category: ErrorCategory::Schema,
        failed_at_ms: 1_700_000_000_123,
    }
}

#[test]
fn letters_that_arrive_are_written_with_the_receipt_before_own_ones() {
    let place = Place::new();
    let mut pipe = pipe(&place, WriteMode::Append, DataErrorPolicy::Dlq);
    pipe.extra = serde_json::json!({ "dlq_table": "Odd \"letters\"" });
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(10, &[(7, "\0")])]).unwrap();
    host.feed_event(RawEvent::DeadLetters(vec![letter(r#"{"id":{"type":"Int64","value":"\u0000é\\"}}"#)]));
    host.feed_commit(1, false, None);
    host.feed_event(RawEvent::DeadLetters(vec![letter("{}")]));
    // Letters that no commit follows are not there.
    let written = pipe.write(&host, 1, "0", 0, 0).unwrap();
    assert_eq!(written.records, 9);
    assert_eq!(reported(&host).len(), 1, "only own letters are reported");
    let table = "\"Odd \"\"letters\"\"\"";
    assert_eq!(
        place.value(&format!("SELECT string_agg(ordinal || ' ' || error_category, '; ' ORDER BY ordinal) FROM {table}")),
        "0 schema; 1 data"
    );
    assert_eq!(
        place.value(&format!(
            "SELECT record_json::text || extract(epoch FROM failed_at) || error_message FROM {table} WHERE ordinal = 0"
        )),
        "{\"id\":{\"type\":\"Int64\",\"value\":\"\\u0000é\\\\\"}}1700000000.123000of an\tearlier \\stage\n"
    );
}

#[test]
fn a_crash_between_letter_and_receipt_leaves_neither() {
    let place = Place::new();
    for point in ["dest.letters.before", "dest.letters.after", "dest.receipt.after"] {
        place.run("DROP TABLE IF EXISTS orders, _rapidbyte_dlq; DROP SCHEMA IF EXISTS _rapidbyte CASCADE");
        let mut pipe = pipe(&place, WriteMode::Append, DataErrorPolicy::Dlq);
        pipe.claim();
        pipe.prepare(1, "s", &["0"]);
        let write = |crash: bool| {
            let host = FakeHost::install();
            host.feed(0, 1, &[orders(10, &[(7, "\0")])]).unwrap();
            host.feed_commit(1, true, None);
            if crash {
                host.crash_at_mark(point, 1);
            }
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pipe.write(&host, 1, "0", 0, 0)))
        };
        assert!(write(true).is_err(), "{point} is not marked");
        assert_eq!(place.value("SELECT to_regclass('_rapidbyte_dlq') IS NULL"), "t", "{point}");
        pipe.claim();
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(10, &[(7, "\0")])]).unwrap();
        host.feed_commit(1, true, None);
        pipe.write(&host, 1, "0", 0, 0).unwrap();
        assert_eq!(place.value("SELECT count(*) FROM _rapidbyte_dlq"), "1", "{point}");
    }
}

#[test]
fn more_letters_than_a_commit_may_have_end_the_run() {
    let place = Place::new();
    let bad: Vec<(i64, String)> = (0..10_001).map(|id| (id, "\0".to_owned())).collect();
    let bad: Vec<(i64, &str)> = bad.iter().map(|(id, text)| (*id, text.as_str())).collect();
    for (policy, count) in [(DataErrorPolicy::Dlq, 10_001), (DataErrorPolicy::Skip, 10_001), (DataErrorPolicy::Dlq, 10_000)] {
        place.run("DROP SCHEMA IF EXISTS _rapidbyte CASCADE");
        let mut pipe = pipe(&place, WriteMode::Append, policy);
        pipe.claim();
        pipe.prepare(1, "s", &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(10_001, &bad[..count])]).unwrap();
        host.feed_commit(1, true, None);
        let written = pipe.write(&host, 1, "0", 0, 0);
        match (policy, count) {
            (DataErrorPolicy::Dlq, 10_001) => assert_eq!(written.unwrap_err().code, "too_many_dead_letters"),
            (DataErrorPolicy::Skip, _) => assert_eq!(written.unwrap().records_skipped, 10_001),
            _ => assert_eq!(place.value("SELECT count(*) FROM _rapidbyte_dlq"), "10000"),
        }
    }
}
