//! `verify`: what is the same is called equal, what is not is found and named, and what moves is neither.

use crate::{incremental, tables};
use rapidbyte_testkit::{Database, Finished, Postgres, Project, root};
use serde_json::{Value, json};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const DIFFERENT: i32 = 21;
const UNSETTLED: i32 = 22;

fn pipeline(source: &Database<'_>, destination: &Database<'_>, streams: &str, rest: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: verified\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {streams} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {}, schema: public }}\n{rest}",
        source.config(),
        destination.config()
    )
}

#[track_caller]
fn verify(project: &Project, more: &[&str]) -> Finished {
    let arguments = [&["verify", "pipeline.yaml", "--output", "json"], more].concat();
    project.rapidbyte(&arguments).timeout(Duration::from_secs(120)).finish()
}

/// The keys found, as `difference key`, in the order of the words.
fn keys(run: &Finished, stream: usize) -> Vec<String> {
    let found = run.at(&format!("/streams/{stream}/keys"));
    let word = |key: &Value| format!("{} {}", key["difference"].as_str().unwrap_or(""), key["key"].as_str().unwrap_or(""));
    let mut words: Vec<String> = found.as_array().expect("a list").iter().map(word).collect();
    words.sort();
    words
}

#[test]
fn missing_extra_and_changed_rows_are_found_and_named() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_source"), server.database("verify_destination"));
    source.sql(&tables::lineitem(20_000));
    source.sql("ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber)");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.lineitem }", "  write_mode: replace\n"));
    project.run().finish().success();
    let equal = verify(&project, &[]).success();
    assert_eq!((equal.at("/status"), equal.at("/exit_code")), (json!("equal"), json!(0)));
    assert_eq!((equal.at("/streams/0/source_rows"), equal.at("/streams/0/destination_rows")), (json!(20_000), json!(20_000)));
    assert_eq!(equal.at("/streams/0/columns").as_array().map(Vec::len), Some(16));
    assert_eq!(equal.at("/streams/0/left_out"), json!([]));

    destination.sql(
        "ALTER TABLE lineitem DROP CONSTRAINT lineitem_pkey; DELETE FROM lineitem WHERE (l_orderkey, l_linenumber) = (7, 2);
         INSERT INTO lineitem SELECT 900001, l_partkey, l_suppkey, l_linenumber, l_quantity, l_extendedprice, l_discount, l_tax,
           l_returnflag, l_linestatus, l_shipdate, l_commitdate, l_receiptdate, l_shipinstruct, l_shipmode, l_comment
           FROM lineitem WHERE (l_orderkey, l_linenumber) = (8, 1);
         UPDATE lineitem SET l_tax = l_tax + 0.01 WHERE (l_orderkey, l_linenumber) = (9, 4);
         INSERT INTO lineitem SELECT * FROM lineitem WHERE (l_orderkey, l_linenumber) = (10, 1)",
    );
    let different = verify(&project, &[]).exit(DIFFERENT);
    assert_eq!(different.at("/status"), "different");
    assert_eq!(
        different.at("/streams/0/counts"),
        json!({ "missing": 1, "extra": 1, "different": 2, "unsettled": 0, "pending": 0 })
    );
    assert_eq!(
        keys(&different, 0),
        ["different [\"10\", \"1\"]", "different [\"9\", \"4\"]", "extra [\"900001\", \"1\"]", "missing [\"7\", \"2\"]"]
    );
    let capped = verify(&project, &["--keys", "1"]).exit(DIFFERENT);
    assert_eq!(keys(&capped, 0).len(), 1);
    let text = project.rapidbyte(&["verify", "pipeline.yaml", "--keys", "4"]).finish().exit(DIFFERENT);
    for words in ["1 key missing at the destination", "2 keys with other values", "missing [\"7\", \"2\"]"] {
        assert!(text.stdout.contains(words), "{words}: {}", text.told());
    }
    // A change outside of the columns that are compared is none.
    project.run().finish().success();
    destination.sql("UPDATE lineitem SET l_tax = l_tax + 0.01 WHERE l_orderkey = 9");
    verify(&project, &["--columns", "l_quantity,l_comment"]).success();
    verify(&project, &["--columns", "l_quantity,l_tax"]).exit(DIFFERENT);
    let wrong = verify(&project, &["--columns", "l_taxes"]).exit(3);
    assert_eq!(wrong.at("/error/code"), "unknown_column");
}

#[test]
fn a_change_in_a_column_of_any_type_is_found() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_types_source"), server.database("verify_types_destination"));
    source.sql(&fs::read_to_string(root().join("tests/types/every_type.sql")).expect("the table").replace(":rows", "300"));
    destination.sql("CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.every_type }", ""));
    project.run().finish().success();
    let equal = verify(&project, &[]).success();
    assert_eq!(equal.at("/streams/0/left_out"), json!([]), "every column is compared");
    assert_eq!(equal.at("/streams/0/converted"), json!([]), "each in its own form");
    // One row for each column; in it, this column gets another row's value, told apart by the server's text of it.
    let listed = destination.sql(
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = 'every_type'::regclass AND attnum > 0 AND NOT attisdropped
           AND attgenerated = '' AND NOT attnotnull ORDER BY attnum",
    );
    let columns: Vec<&str> = listed.lines().collect();
    assert!(columns.len() > 120, "{}", columns.len());
    let mut script = String::new();
    for (index, column) in columns.iter().enumerate() {
        let id = index + 1;
        script.push_str(&format!(
            "UPDATE every_type AS t SET {column} = (SELECT o.{column} FROM every_type o WHERE format('%s', o.{column}) <>
               (SELECT format('%s', s.{column}) FROM every_type s WHERE s.id = {id}) AND o.{column} IS DISTINCT FROM NULL
               ORDER BY o.id LIMIT 1) WHERE t.id = {id};\n"
        ));
    }
    destination.sql(&script);
    let different = verify(&project, &["--keys", "1000"]).exit(DIFFERENT);
    let found = keys(&different, 0);
    let lost: Vec<&str> = columns
        .iter()
        .enumerate()
        .filter(|(index, _)| !found.contains(&format!("different [\"{}\"]", index + 1)))
        .map(|(_, column)| *column)
        .collect();
    assert!(lost.is_empty(), "changes that were not found: {lost:?}");
    assert_eq!(found.len(), columns.len());
}

#[test]
fn values_that_compare_as_equal_and_are_not_are_different() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_fine_source"), server.database("verify_fine_destination"));
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric, f float8, a int[], b bytea, s text, at timestamptz, j jsonb, c char(4));
         INSERT INTO t SELECT i, 1.50, 0.0, '{1,2}', '\\x00', '', 'infinity', '{\"a\": 1.0}', 'x' FROM generate_series(1, 20) i;
         INSERT INTO t VALUES (100, 'NaN', 'NaN', '[0:1]={1,NULL}', NULL, NULL, '-infinity', NULL, NULL), (101, NULL, NULL, NULL, '', NULL,
           '4713-01-01 00:00:00+00 BC', 'null', '')",
    );
    // The element of an array that once held NULL keeps a bitmap; a copy has none.
    source.sql("INSERT INTO t (id, a) VALUES (102, '{1,NULL}'); UPDATE t SET a[2] = 7 WHERE id = 102");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.t }", ""));
    project.run().finish().success();
    verify(&project, &[]).success();
    destination.sql(
        "UPDATE t SET n = 1.5 WHERE id = 1; UPDATE t SET f = '-0' WHERE id = 2; UPDATE t SET a = '[0:1]={1,2}' WHERE id = 3;
         UPDATE t SET b = '' WHERE id = 4; UPDATE t SET s = NULL WHERE id = 5; UPDATE t SET at = '-infinity' WHERE id = 6;
         UPDATE t SET j = '{\"a\": 1}' WHERE id = 7; UPDATE t SET f = 'NaN' WHERE id = 8; UPDATE t SET n = 'Infinity' WHERE id = 9;
         UPDATE t SET a = '{{1,2}}' WHERE id = 10; UPDATE t SET s = NULL, b = NULL WHERE id = 101",
    );
    let different = verify(&project, &["--keys", "100"]).exit(DIFFERENT);
    let mut expected: Vec<String> = (1..=10).chain([101]).map(|id| format!("different [\"{id}\"]")).collect();
    expected.sort();
    assert_eq!(keys(&different, 0), expected);
}

#[test]
fn keys_of_any_kind_under_any_collation_meet() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_keys_source"), server.database("verify_keys_destination"));
    source.sql(
        "CREATE TABLE words (word text COLLATE \"C\", n int, v text, PRIMARY KEY (word, n));
         INSERT INTO words SELECT chr(64 + i % 60) || chr(200 + i % 100) || i, i % 3, NULLIF(i % 5, 0)::text FROM generate_series(1, 3000) i;
         CREATE TABLE log (word text, n int);
         INSERT INTO log SELECT 'w' || i % 7, i % 5 FROM generate_series(1, 700) i;
         CREATE TABLE nothing (id int PRIMARY KEY);
         CREATE TABLE \"Odd \"\"Name\"\"\" (\"Key.1\" int PRIMARY KEY, \"select\" text);
         INSERT INTO \"Odd \"\"Name\"\"\" SELECT i, 'v' || i FROM generate_series(1, 50) i",
    );
    destination.sql(
        "CREATE COLLATION other (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE words (v text, n int, word text COLLATE other, mine int DEFAULT 7)",
    );
    let streams = "{ name: public.words }, { name: public.log }, { name: public.nothing }, \
                   { name: 'Odd \"Name\"', namespace: public, destination: { table: odd } }";
    let project = Project::with_pipeline(&pipeline(&source, &destination, streams, "resources: { parallelism: 4 }\n"));
    project.run().finish().success();
    let equal = verify(&project, &[]).success();
    assert_eq!(equal.at("/streams/0/left_out/0/column"), "mine");
    assert_eq!(equal.at("/streams/0/key"), json!(["word", "n"]));
    assert_eq!(equal.at("/streams/2/source_rows"), 0);
    assert_eq!(equal.at("/streams/3/destination"), "public.odd");

    destination.sql(
        "UPDATE words SET v = 'other' WHERE n = 1 AND word IN (SELECT word FROM words WHERE n = 1 ORDER BY word COLLATE \"C\" LIMIT 2);
         UPDATE words SET v = '' WHERE ctid = (SELECT min(ctid) FROM words WHERE v IS NULL);
         DELETE FROM log WHERE ctid IN (SELECT ctid FROM log WHERE word = 'w1' AND n = 2 LIMIT 3);
         INSERT INTO log VALUES ('w1', NULL), ('w1', NULL);
         INSERT INTO nothing VALUES (5)",
    );
    let different = verify(&project, &[]).exit(DIFFERENT);
    assert_eq!(different.at("/streams/0/counts/different"), 3);
    assert_eq!(
        different.at("/streams/1/counts"),
        json!({ "missing": 3, "extra": 2, "different": 0, "unsettled": 0, "pending": 0 })
    );
    assert_eq!(different.at("/streams/1/keys"), json!([]));
    let notes = different.at("/streams/1/notes/0");
    assert!(notes.as_str().is_some_and(|note| note.contains("has no key")), "{notes}");
    assert_eq!(keys(&different, 2), ["extra [\"5\"]"]);
    assert_eq!(different.at("/streams/3/verdict"), "equal");
    verify(&project, &["--stream", "public.Odd \"Name\""]).success();
    assert_eq!(verify(&project, &["--stream", "odd"]).exit(3).at("/error/code"), "unknown_stream");
}

#[test]
fn projections_filters_and_widened_types_are_compared_as_they_were_loaded() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_way_source"), server.database("verify_way_destination"));
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(10,2), word varchar(20), secret text, state text);
         INSERT INTO t SELECT i, i * 1.25, 'w' || i, 's' || i, CASE WHEN i % 2 = 0 THEN 'open' ELSE 'shut' END FROM generate_series(1, 400) i",
    );
    destination.sql("CREATE TABLE t (id bigint, n numeric(14,4), word text, state text, _rb_note text)");
    let stream = "{ name: public.t, columns: [id, n, word, state], filter: \"state = 'open'\" }";
    let project = Project::with_pipeline(&pipeline(&source, &destination, stream, ""));
    project.run().finish().success();
    let equal = verify(&project, &[]).success();
    assert_eq!(equal.at("/streams/0/source_rows"), 200);
    assert_eq!(equal.at("/streams/0/left_out"), json!([]));
    let forms: Vec<Value> = (0..2).map(|index| equal.at(&format!("/streams/0/converted/{index}/compared_as"))).collect();
    assert_eq!(forms, ["int8", "number"]);
    destination.sql("UPDATE t SET n = n + 0.0001 WHERE id = 20");
    assert_eq!(keys(&verify(&project, &[]).exit(DIFFERENT), 0), ["different [\"20\"]"]);
}

#[test]
fn what_can_not_be_compared_is_refused_with_what_to_do() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_no_source"), server.database("verify_no_destination"));
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, mail text, n int); INSERT INTO t SELECT i, 'm' || i, i FROM generate_series(1, 90) i",
    );
    let with = |rest: &str| Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.t }", rest));
    // Nothing has run yet.
    let never = verify(&with(""), &[]).exit(DIFFERENT);
    assert!(never.at("/streams/0/notes/0").as_str().is_some_and(|note| note.contains("no such table")), "{}", never.told());
    let masked = with("transforms:\n  - { use: transform-mask, config: { fields: [mail], method: redact } }\n");
    masked.run().finish().success();
    let refused = verify(&masked, &[]).exit(3);
    assert_eq!(refused.at("/error/code"), "not_verifiable");
    assert!(refused.at("/error/hint").as_str().is_some_and(|hint| hint.contains("--columns")), "{}", refused.told());
    verify(&masked, &["--columns", "n"]).success();
    destination.sql("DROP TABLE t");
    let numbered = with("transforms:\n  - { use: transform-row-number }\n");
    numbered.run().finish().success();
    let equal = verify(&numbered, &[]).success();
    assert_eq!(equal.at("/streams/0/left_out/0/column"), "row_number");
    let filtered = with("transforms:\n  - { use: transform-filter, config: { where: [ { field: n, op: gt, value: 5 } ] } }\n");
    let refused = verify(&filtered, &["--columns", "n"]).exit(3);
    assert_eq!(refused.at("/error/code"), "not_verifiable", "{}", refused.told());
    let file = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: file\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: public.t }} ]\n\
         destination:\n  use: dest-file\n  config: {{ path: out }}\n",
        source.config()
    ));
    let refused = verify(&file, &[]).exit(3);
    assert_eq!(refused.at("/error/code"), "not_verifiable");
    assert_eq!(refused.at("/error/connector"), "dest-file");
    source.sql("DROP TABLE t");
    assert_eq!(verify(&with(""), &[]).exit(8).at("/error/code"), "missing_table");
}

#[test]
fn a_contract_makes_no_differences() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_held_source"), server.database("verify_held_destination"));
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n int, code text, state text, amount numeric(10,2));
         INSERT INTO t SELECT i, i, i || '.5', 'new', i FROM generate_series(1, 200) i",
    );
    let with = |contract: &str, mode: &str| {
        let stream = format!("{{ name: public.t, contract: {contract} }}");
        Project::with_pipeline(&pipeline(&source, &destination, &stream, &format!("  write_mode: {mode}\n")))
    };
    let fresh = || destination.sql("DROP SCHEMA IF EXISTS _rapidbyte CASCADE; DROP TABLE IF EXISTS t");
    let left_out = |run: &Finished| {
        let columns = run.at("/streams/0/left_out");
        let shown = |one: &Value| format!("{} {}", one["column"].as_str().unwrap_or(""), one["reason"].as_str().unwrap_or(""));
        columns.as_array().expect("a list").iter().map(shown).collect::<Vec<_>>().join("; ")
    };

    // What can only end a load changes nothing, and neither does a cast from number to number.
    let project =
        with("{ columns: { n: { not_null: true, range: { min: 0 } }, id: { type: int64, on_violation: coerce } } }", "replace");
    project.run().finish().success();
    assert_eq!(left_out(&verify(&project, &[]).success()), "");
    destination.sql("UPDATE t SET n = -1 WHERE id = 7; DELETE FROM t WHERE id = 8");
    assert_eq!(keys(&verify(&project, &[]).exit(DIFFERENT), 0), ["different [\"7\"]", "missing [\"8\"]"]);

    // Columns whose values may be others are not compared, nor are those that are left out, whatever the destination has there.
    fresh();
    source.sql("UPDATE t SET state = 'odd' WHERE id = 7");
    destination.sql("CREATE TABLE t (id int PRIMARY KEY, n int, code numeric(12,3), state text, amount numeric(10,2))");
    let contract = "{ columns: { code: { type: \"decimal(12,3)\", on_violation: coerce }, state: { one_of: [new], on_violation: discard_column },
                      amount: { type: int64, on_violation: discard_column } } }";
    let project = with(contract, "replace");
    project.run().finish().success();
    assert_eq!(destination.sql("SELECT count(*) || ' ' || count(state) || ' ' || count(amount) FROM t"), "200 199 0");
    let equal = verify(&project, &[]).success();
    assert_eq!(
        left_out(&equal),
        "code the contract casts it from `utf8` (`text`) to `decimal(12,3)`; state the contract may put NULL in place of its values; \
         amount the contract leaves it out"
    );
    let wanted = verify(&project, &["--columns", "state"]).exit(3);
    assert_eq!(wanted.at("/error/code"), "not_comparable");
    destination.sql("UPDATE t SET n = -1 WHERE id = 9");
    assert_eq!(keys(&verify(&project, &[]).exit(DIFFERENT), 0), ["different [\"9\"]"]);

    // Rows that are left out are not called lost, and nothing else is excused by them.
    for (mode, bent) in [("replace", DIFFERENT), ("upsert", UNSETTLED)] {
        fresh();
        let project = with("{ columns: { state: { one_of: [new], on_violation: discard_row } } }", mode);
        project.run().finish().exit(20);
        let unsettled = verify(&project, &[]).exit(UNSETTLED);
        assert_eq!(
            (unsettled.at("/streams/0/counts/missing"), keys(&unsettled, 0)),
            (json!(1), vec!["missing [\"7\"]".to_owned()])
        );
        let notes = unsettled.at("/streams/0/notes");
        assert!(
            notes.to_string().contains("may have left these rows out") && notes.to_string().contains("`filter`"),
            "{mode}: {notes}"
        );
        let filtered = Project::with_pipeline(
            &fs::read_to_string(project.path("pipeline.yaml"))
                .expect("the pipeline")
                .replace("contract:", "filter: \"state = 'new'\", contract:"),
        );
        verify(&filtered, &[]).success();
        destination.sql("UPDATE t SET n = -1 WHERE id = 9");
        verify(&project, &[]).exit(bent);
        destination.sql("INSERT INTO t VALUES (1000, 1, 'x', 'new', 1)");
        verify(&project, &[]).exit(DIFFERENT);
        source.sql("UPDATE t SET state = 'new' WHERE id = 7");
        project.run().finish().success();
        destination.sql("DELETE FROM t WHERE id = 1000");
        verify(&project, &[]).success();
        source.sql("UPDATE t SET state = 'odd' WHERE id = 7");
    }
    let broken = verify(&with("{ columns: { n: { type: int64 } } }", "replace"), &[]).exit(8);
    assert_eq!(broken.at("/error/code"), "contract_violation");
}

#[test]
fn changes_are_compared_where_they_are_merged() {
    let server = Postgres::shared();
    let source = server.database("verify_changes_source");
    for (mode, deletes) in [("upsert", "hard"), ("upsert", "soft"), ("append", "hard")] {
        let destination = server.database("verify_changes_destination");
        source.sql("DROP TABLE IF EXISTS t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 50) i");
        let text = pipeline(&source, &destination, "{ name: public.t, sync_mode: cdc }", &format!("  write_mode: {mode}\n"));
        let project = Project::with_pipeline(&text.replace("schema: public", &format!("schema: public, deletes: {deletes}")));
        project.run().finish().success();
        source.sql("DELETE FROM t WHERE id <= 5; UPDATE t SET v = 'w' WHERE id = 6; INSERT INTO t VALUES (51, 'v')");
        if mode == "append" {
            let refused = verify(&project, &[]).exit(3);
            assert_eq!((refused.at("/error/code"), refused.at("/error/stream")), (json!("not_verifiable"), json!("public.t")));
        } else {
            // What the log says is not there yet.
            verify(&project, &[]).exit(DIFFERENT);
            project.run().finish().success();
            let rows = if deletes == "soft" { "51" } else { "46" };
            assert_eq!(destination.sql("SELECT count(*) FROM t"), rows);
            let equal = verify(&project, &[]).success();
            assert_eq!(equal.at("/streams/0/destination_rows"), 46, "{deletes}");
            destination.sql("UPDATE t SET v = 'x' WHERE id = 7");
            assert_eq!(keys(&verify(&project, &[]).exit(DIFFERENT), 0), ["different [\"7\"]"]);
        }
        project.rapidbyte(&["teardown", "pipeline.yaml", "--yes"]).finish().success();
    }
}

#[test]
fn an_incremental_stream_is_compared_up_to_its_place() {
    let server = Postgres::shared();
    for (mode, boundary) in [("append", "xact_horizon"), ("append", "none"), ("upsert", "xact_horizon"), ("upsert", "lookback(1)")]
    {
        let (source, destination) = (server.database("verify_news_source"), server.database("verify_news_destination"));
        source.sql(
            "CREATE TABLE t (id int PRIMARY KEY, at bigint NOT NULL, v text);
             INSERT INTO t SELECT i, i, 'v' || i FROM generate_series(1, 500) i",
        );
        let stream = format!("name: t, cursor_field: at, safe_boundary: {boundary}");
        let project =
            Project::with_pipeline(&incremental::pipeline(&source, &destination, &stream, &format!("  write_mode: {mode}\n")));
        let unknown = verify(&project, &[]).exit(3);
        assert_eq!(unknown.at("/error/code"), "position_unknown", "{mode} {boundary}");
        project.run().finish().success();
        verify(&project, &[]).success();
        // Versions of a row in a log of changes: the newest counts.
        source.sql("UPDATE t SET at = at + 1000, v = 'w' WHERE id <= 10");
        project.run().finish().success();
        let equal = verify(&project, &[]).success();
        assert_eq!(equal.at("/streams/0/destination_rows"), 500, "{mode} {boundary}");
        // What is new or was changed since waits for the next run.
        source.sql("UPDATE t SET at = at + 2000, v = 'x' WHERE id BETWEEN 21 AND 25; INSERT INTO t VALUES (9001, 9001, 'new')");
        let waiting = verify(&project, &[]).success();
        assert_eq!(waiting.at("/streams/0/counts/pending"), 5, "{mode} {boundary}: {}", waiting.told());
        let lost = "DELETE FROM t WHERE id = 30; UPDATE t SET v = 'bent' WHERE id = 31";
        destination.sql(lost);
        assert_eq!(
            keys(&verify(&project, &[]).exit(DIFFERENT), 0),
            ["different [\"31\"]", "missing [\"30\"]"],
            "{mode} {boundary}"
        );
    }
}

#[test]
fn rows_that_are_changing_are_not_called_different() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_live_source"), server.database("verify_live_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, v bigint); INSERT INTO t SELECT i, 0 FROM generate_series(1, 5000) i");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.t }", "  write_mode: replace\n"));
    project.run().finish().success();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                source.sql("UPDATE t SET v = v + 1 WHERE id <= 20");
            }
        });
        rapidbyte_testkit::within(Duration::from_secs(20), "the writer to write", || {
            (source.sql("SELECT min(v) > 0 FROM t WHERE id <= 20") == "t").then_some(())
        });
        let moving = verify(&project, &[]);
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends");
        let moving = moving.exit(UNSETTLED);
        assert_eq!(
            moving.at("/streams/0/counts"),
            json!({ "missing": 0, "extra": 0, "different": 0, "unsettled": 20, "pending": 0 })
        );
        assert_eq!((moving.at("/status"), moving.at("/exit_code")), (json!("unsettled"), json!(UNSETTLED)));
    });
    // It rests, and differs; after the next run it does not.
    assert_eq!(verify(&project, &[]).exit(DIFFERENT).at("/streams/0/counts/different"), 20);
    project.run().finish().success();
    verify(&project, &[]).success();
}

#[test]
fn a_table_that_is_all_different_is_told_in_time() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_all_source"), server.database("verify_all_destination"));
    source.sql(
        "CREATE TABLE t AS SELECT i AS id, 'v' || i AS v FROM generate_series(1, 300000) i; ALTER TABLE t ADD PRIMARY KEY (id)",
    );
    destination.sql("CREATE TABLE t AS SELECT i AS id, 'w' || i AS v FROM generate_series(1, 300000) i");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.t }", ""));
    let different = verify(&project, &[]).exit(DIFFERENT);
    let counted = different.at("/streams/0/counts/different").as_u64().expect("a count");
    assert!((190_000..300_000).contains(&counted), "{counted}");
    assert_eq!(different.at("/streams/0/complete"), false);
    assert_eq!(keys(&different, 0).len(), 10);
}

#[test]
fn missing_rights_are_told_with_the_grant() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_right_source"), server.database("verify_right_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    destination.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1); DROP ROLE IF EXISTS verify_blind; CREATE ROLE verify_blind LOGIN PASSWORD 'p'");
    let text = pipeline(&source, &destination, "{ name: public.t }", "");
    let blind = text.replacen(
        &destination.config(),
        &format!(
            "host: 127.0.0.1, port: {}, user: verify_blind, password: p, database: {}, sslmode: disable",
            server.port(),
            destination.name()
        ),
        1,
    );
    let project = Project::with_pipeline(&blind);
    let refused = verify(&project, &[]).exit(5);
    let hint = refused.at("/error/hint").as_str().expect("a hint").to_owned();
    let statement = hint.split('`').nth(1).expect("a statement").to_owned();
    destination.sql(&statement);
    verify(&project, &[]).success();
    destination.sql("DROP OWNED BY verify_blind; DROP ROLE verify_blind");
}

#[test]
#[ignore = "a measurement: `cargo xtask bench speeds`"]
fn speed_of_verify() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("verify_speed_source"), server.database("verify_speed_destination"));
    source.sql(&tables::lineitem(1_000_000));
    source.sql("ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber); VACUUM (ANALYZE, FREEZE) lineitem");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "{ name: public.lineitem }", ""));
    project.run().timeout(Duration::from_secs(300)).finish().success();
    destination.sql("VACUUM (ANALYZE, FREEZE) lineitem");
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let started = Instant::now();
        verify(&project, &[]).success();
        seconds.push(started.elapsed().as_secs_f64());
    }
    destination.sql("UPDATE lineitem SET l_tax = l_tax + 0.01 WHERE l_orderkey = 77");
    let started = Instant::now();
    verify(&project, &[]).exit(DIFFERENT);
    println!("verify, 1,000,000 rows of 16 columns: equal {seconds:.2?} s, four rows different {:.2?} s", started.elapsed());
}
