//! Contracts of streams, through the binary: what breaks one is found, follows its policy, and everything else arrives.

use crate::dead_letters::{self, dlq, forget};
use rapidbyte_testkit::{Database, Finished, Postgres, Project, Rapidbyte};
use serde_json::Value;
use std::fs;

/// Rows of the source; one of them may be made bad.
const ROWS: u32 = 200;

fn fill(source: &Database<'_>, change: &str) {
    source.sql(&format!(
        "DROP TABLE IF EXISTS orders;
         CREATE TABLE orders (id int PRIMARY KEY, email text, amount numeric(12,2), big numeric, status text, day date, at timestamptz,
                              score float8, tags text[], code text);
         INSERT INTO orders SELECT i, 'u' || i || '@x', i, i, 'new', date '2024-01-01' + i, timestamptz '2024-01-01T00:00:00Z', i,
                                   ARRAY['a', NULL], i::text
         FROM generate_series(1, {ROWS}) i;
         {change}"
    ));
}

fn pipeline(source: &Database<'_>, destination: &Database<'_>, stream: &str, contract: &str, settings: &str) -> Project {
    let stream = format!("{stream}, contract: {contract}");
    Project::with_pipeline(&dead_letters::pipeline(source, destination, &stream, settings))
}

/// What a run without anything left out must have written, apart from row 7.
fn others_are_whole(source: &Database<'_>, destination: &Database<'_>, case: &str) {
    let rest = "SELECT md5(string_agg(o::text, ',' ORDER BY id)) FROM orders o WHERE id <> 7";
    assert_eq!(source.sql(rest), destination.sql(rest), "{case}");
}

fn counts(run: &Finished) -> (u64, u64, u64) {
    let of = |key: &str| run.at(&format!("/report/streams/0/{key}")).as_u64().expect("a number");
    (of("rows_read"), of("rows_skipped"), of("dead_letters"))
}

#[test]
fn each_value_rule_follows_each_policy() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_source"), server.database("held_destination"));
    for (rule, column, bad) in [
        ("not_null: true", "email", "NULL"),
        ("regex: \"^[^@]+@[^@]+$\"", "email", "'canary'"),
        ("one_of: [new, paid]", "status", "'canary'"),
        ("range: { min: 0, max: \"100000.00\" }", "amount", "100000.01"),
        ("range: { min: 0 }", "amount", "'NaN'"),
        ("range: { max: \"1000000000000000000000000.5\" }", "big", "1000000000000000000000000.51"),
        ("range: { min: 2024-01-01, max: 2025-01-01 }", "day", "'infinity'"),
        ("range: { max: \"2024-01-01T00:00:00Z\" }", "at", "timestamptz '2024-01-01T00:00:00.000001Z'"),
        ("range: { min: 0 }", "score", "'NaN'"),
    ] {
        fill(&source, &format!("UPDATE orders SET {column} = {bad} WHERE id = 7"));
        for policy in ["fail", "discard_row", "discard_column", "coerce"] {
            let case = format!("{column}: {rule}, {policy}");
            forget(&destination);
            let contract = format!("{{ columns: {{ {column}: {{ {rule}, on_violation: {policy} }} }} }}");
            let run = pipeline(&source, &destination, "", &contract, "").run().finish();
            let there = || destination.sql("SELECT count(*) || ' ' || count(*) FILTER (WHERE id = 7) FROM orders");
            match policy {
                "fail" => {
                    let run = run.exit(7).says(&format!("column `{column}`")).says("its key is `id`");
                    assert!(run.told().contains("discard_row"), "{case}: {}", run.told());
                    assert!(!run.told().contains("canary"), "{case}: {}", run.told());
                    assert_eq!(destination.sql("SELECT to_regclass('orders') IS NULL"), "t", "{case}");
                }
                "discard_row" => {
                    let run = run.exit(20);
                    assert_eq!(counts(&run), (u64::from(ROWS), 1, 0), "{case}");
                    assert_eq!(run.at("/report/rows_dropped"), 1, "{case}");
                    assert_eq!(there(), format!("{} 0", ROWS - 1), "{case}");
                    others_are_whole(&source, &destination, &case);
                }
                "discard_column" if !rule.starts_with("not_null") => {
                    let run = run.success();
                    assert_eq!(counts(&run), (u64::from(ROWS), 0, 0), "{case}");
                    assert_eq!(there(), format!("{ROWS} 1"), "{case}");
                    let seventh = destination.sql(&format!("SELECT {column} IS NULL AND code = '7' FROM orders WHERE id = 7"));
                    assert_eq!(seventh, "t", "{case}");
                    others_are_whole(&source, &destination, &case);
                }
                _ => {
                    let run = run.exit(3);
                    assert!(run.told().contains(&format!("`{policy}`")), "{case}: {}", run.told());
                }
            }
        }
    }
}

#[test]
fn each_rule_about_columns_follows_each_policy() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_columns_source"), server.database("held_columns_destination"));
    fill(&source, "UPDATE orders SET code = '007', email = NULL WHERE id = 7");
    let columns = |of: &str| {
        destination.sql(&format!(
            "SELECT coalesce(string_agg(format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' not null' ELSE '' END, ','), 'gone')
             FROM pg_attribute WHERE attrelid = to_regclass('orders') AND attname = '{of}'"
        ))
    };
    for (rule, column, policy, code, rows, column_is) in [
        ("type: int64", "code", "fail", 8, 0, "gone"),
        ("type: int64", "code", "coerce", 7, 0, "gone"),
        ("type: int64", "code", "discard_row", 20, ROWS - 1, "bigint"),
        ("type: int64", "code", "discard_column", 0, ROWS, "gone"),
        ("type: int64", "id", "coerce", 0, ROWS, "bigint"),
        ("type: int32", "id", "fail", 0, ROWS, "integer"),
        ("type: \"decimal(12,2)\"", "amount", "fail", 0, ROWS, "numeric(12,2)"),
        ("type: \"list(utf8)\"", "tags", "fail", 0, ROWS, "text[]"),
        ("nullable: false", "email", "fail", 8, 0, "gone"),
        ("nullable: false", "email", "coerce", 7, 0, "gone"),
        ("nullable: false", "email", "discard_row", 20, ROWS - 1, "text"),
        ("nullable: false", "email", "discard_column", 0, ROWS, "gone"),
        ("nullable: false", "id", "fail", 0, ROWS, "integer"),
        ("required: true, not_null: true", "gone", "discard_row", 8, 0, "gone"),
    ] {
        let case = format!("{column}: {rule}, {policy}");
        forget(&destination);
        let contract = format!("{{ columns: {{ {column}: {{ {rule}, on_violation: {policy} }} }} }}");
        let run = pipeline(&source, &destination, "", &contract, "").run().finish();
        assert_eq!(run.code, Some(code), "{case}: {}", run.told());
        if matches!(code, 7 | 8) {
            assert!(run.told().contains(&format!("`{column}`")) && run.told().contains("hint"), "{case}: {}", run.told());
            assert_eq!(destination.sql("SELECT to_regclass('orders') IS NULL"), "t", "{case}");
            continue;
        }
        assert_eq!(destination.sql("SELECT count(*) FROM orders"), rows.to_string(), "{case}");
        let shown = columns(column);
        assert_eq!(shown.trim_end_matches(" not null"), column_is, "{case}");
        if rule.starts_with("nullable") && column_is != "gone" {
            assert!(shown.ends_with(" not null"), "{case}: {shown}");
        }
        let same = destination.sql("SELECT count(*) FROM orders WHERE amount = id AND tags IS NOT DISTINCT FROM ARRAY['a', NULL]");
        assert_eq!(same, rows.to_string(), "{case}");
    }
    for (policy, code, there) in [("allow", 0, "f"), ("discard_column", 0, "t"), ("fail", 8, "t")] {
        forget(&destination);
        let contract = format!(
            "{{ other_columns: {policy}, columns: {{ id: {{ type: int32 }}, amount: {{ not_null: true }}, tags: {{ type: \"list(utf8)\" }} }} }}"
        );
        let run = pipeline(&source, &destination, "", &contract, "").run().finish();
        assert_eq!(run.code, Some(code), "{policy}: {}", run.told());
        let gone = "SELECT NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('orders') AND attname = 'email')";
        assert_eq!(destination.sql(gone), there, "{policy}");
    }
}

#[test]
fn rows_left_out_are_dead_letters_and_are_replayed_once() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_letters_source"), server.database("held_letters_destination"));
    fill(&source, "UPDATE orders SET amount = -1 WHERE id = 7; UPDATE orders SET code = 'x' WHERE id = 9");
    let contract = "{ on_violation: discard_row, columns: { amount: { range: { min: 0 } }, code: { type: int32 } } }";
    for (stream, mode) in [("", "replace"), ("", "upsert"), (", sync_mode: incremental, cursor_field: id", "append")] {
        let case = format!("{mode}{stream}");
        forget(&destination);
        let settings = format!("  write_mode: {mode}\n  on_data_error: dlq\n");
        let project = pipeline(&source, &destination, stream, contract, &settings);
        let run = project.run().finish().success();
        assert_eq!(counts(&run), (u64::from(ROWS), 0, 2), "{case}");
        assert_eq!(destination.sql("SELECT count(*) FROM orders"), (ROWS - 2).to_string(), "{case}");
        let kept = "SELECT string_agg((record_json #>> '{id,value}') || ' ' || error_message || ' ' || error_category, '; ' ORDER BY record_json #>> '{id,value}') FROM _rapidbyte_dlq";
        assert_eq!(
            destination.sql(kept),
            "7 the row breaks the contract: `amount` (`range`) data; 9 the row breaks the contract: `code` (`type`) data",
            "{case}"
        );
        let edit = |from: &str, to: &str| {
            dlq(&project, &["export", "--out", "letters.jsonl"]).finish().success();
            let exported = fs::read_to_string(project.path("letters.jsonl")).expect("a file");
            assert!(exported.contains(from), "{case}: {exported}");
            project.write("letters.jsonl", exported.replace(from, to));
        };
        // The value that did not fit its type has to be mended; the one that broke a rule is written as it stands.
        let refused = dlq(&project, &["replay"]).finish().exit(3);
        assert!(refused.told().contains("`code`") && !refused.told().contains("\"x\""), "{case}: {}", refused.told());
        edit("\"value\":\"x\"", "\"value\":\"9\"");
        for _ in 0..2 {
            dlq(&project, &["replay", "--edited", "letters.jsonl"]).finish().success();
        }
        let there = "SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || min(amount) || ' ' || sum(code) FROM orders";
        assert_eq!(destination.sql(there), format!("{ROWS} {ROWS} -1.00 {}", ROWS * (ROWS + 1) / 2), "{case}");
        let types = "SELECT string_agg(format_type(atttypid, atttypmod), ',' ORDER BY attnum) FROM pg_attribute
                     WHERE attrelid = 'orders'::regclass AND attname IN ('id', 'amount', 'code')";
        assert_eq!(destination.sql(types), "integer,numeric(12,2),integer", "{case}");
    }
}

#[test]
fn transforms_see_what_the_contract_passes_and_its_letters() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_transforms_source"), server.database("held_transforms_destination"));
    fill(&source, "UPDATE orders SET email = 'canary' WHERE id = 7");
    let contract = "{ other_columns: discard_column, columns: { id: { type: int64, on_violation: coerce }, email: { regex: \"@\", on_violation: discard_row } } }";
    let settings = "  on_data_error: dlq\ntransforms:\n  - { use: transform-filter, config: { where: [ { field: id, op: le, value: 10 } ] } }\n  - { use: transform-mask, config: { fields: [email] } }\n";
    let project = pipeline(&source, &destination, "", contract, settings);
    let run = project.run().finish().success();
    assert_eq!(counts(&run).2, 1, "{}", run.told());
    assert_eq!(destination.sql("SELECT count(*) || ' ' || count(*) FILTER (WHERE email LIKE 'u%') FROM orders"), "9 0");
    let letter = destination.sql("SELECT record_json FROM _rapidbyte_dlq");
    assert!(!letter.contains("canary") && letter.contains("\"Int64\""), "letters pass the transforms behind: {letter}");
}

#[test]
fn incremental_streams_leave_rows_out_once() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_on_source"), server.database("held_on_destination"));
    fill(&source, "UPDATE orders SET amount = -1 WHERE id IN (7, 150)");
    let contract = "{ columns: { amount: { range: { min: 0 }, on_violation: discard_row } } }";
    let stream = ", sync_mode: incremental, cursor_field: id";
    let settings = "  write_mode: upsert\nresources: { checkpoint_interval_rows: 1 }\n";
    let project = pipeline(&source, &destination, stream, contract, settings);
    let run = project.run().finish().exit(20);
    assert_eq!(counts(&run), (u64::from(ROWS), 2, 0));
    assert_eq!(run.at("/report/streams/0/rows_written"), ROWS - 2);
    source.sql("INSERT INTO orders (id, amount) VALUES (1000, -5), (1001, 5)");
    let run = project.run().finish().exit(20);
    assert_eq!(
        (counts(&run).1, destination.sql("SELECT count(*) || ' ' || max(id) FROM orders")),
        (1, format!("{} 1001", ROWS - 1))
    );
    // All of a run's rows may be left out; the place where the next one goes on moves all the same.
    source.sql("INSERT INTO orders (id, amount) VALUES (1002, -5)");
    assert_eq!(counts(&project.run().finish().exit(20)), (1, 1, 0));
    let run = project.run().finish().success();
    assert_eq!(counts(&run), (0, 0, 0));
}

#[test]
fn letters_of_a_contract_come_once_whatever_is_killed() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_killed_source"), server.database("held_killed_destination"));
    fill(&source, "UPDATE orders SET amount = -1 WHERE id IN (7, 150)");
    let contract = "{ columns: { amount: { range: { min: 0 }, on_violation: discard_row } } }";
    let points = ["dest.letters.after", "dest.receipt.after", "dest.commit.sent", "engine.letters.before", "engine.mirror.before"];
    for point in points {
        forget(&destination);
        let stream = ", sync_mode: incremental, cursor_field: id";
        let project = pipeline(&source, &destination, stream, contract, "  write_mode: append\n  on_data_error: dlq\n");
        project.run().killed_at(point);
        let again = project.run().finish();
        assert_eq!(again.code, Some(0), "{point}: {}", again.told());
        let there = destination.sql("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders");
        assert_eq!(there, format!("{} {}", ROWS - 2, ROWS - 2), "{point}");
        let kept = "SELECT string_agg(record_json #>> '{id,value}', ' ' ORDER BY ordinal) FROM _rapidbyte_dlq";
        assert_eq!(destination.sql(kept), "7 150", "{point}");
    }
}

#[test]
fn a_load_is_not_finished_under_another_contract() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_other_source"), server.database("held_other_destination"));
    fill(&source, "UPDATE orders SET amount = -1 WHERE id = 7");
    let contract = |policy: &str| format!("{{ columns: {{ amount: {{ range: {{ min: 0 }}, on_violation: {policy} }} }} }}");
    let project = pipeline(&source, &destination, "", &contract("discard_row"), "");
    project.run().killed_at("engine.publish.before");
    let text = fs::read_to_string(project.path("pipeline.yaml")).expect("the pipeline");
    project.write("pipeline.yaml", text.replace("discard_row", "discard_column"));
    project.run().finish().success();
    assert_eq!(destination.sql("SELECT count(*) || ' ' || count(amount) FROM orders"), format!("{ROWS} {}", ROWS - 1));
}

#[test]
fn a_column_that_changes_while_it_is_read_is_held_to_its_rules_still() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_split_source"), server.database("held_split_destination"));
    // The NaN stands far behind the beginning: the column is announced as a decimal, and again as one with values beyond it.
    fill(
        &source,
        "INSERT INTO orders (id, amount) SELECT i, 5 FROM generate_series(1000, 80000) i; INSERT INTO orders (id, amount) VALUES (90000, 'NaN')",
    );
    let contract = "{ columns: { amount: { type: \"decimal(12,2)\", range: { min: 0 }, on_violation: discard_row } } }";
    let project = pipeline(&source, &destination, "", contract, "");
    assert_eq!(counts(&project.run().finish().exit(20)).1, 1);
    assert_eq!(destination.sql("SELECT count(*) || ' ' || max(id) FROM orders"), format!("{} 80000", ROWS + 79_001));
    forget(&destination);
    let passes = "{ columns: { amount: { type: \"decimal(12,2)\" } } }";
    pipeline(&source, &destination, "", passes, "").run().finish().success();
    assert_eq!(destination.sql("SELECT count(*) FROM orders WHERE amount = 'NaN'"), "1");
}

#[test]
fn check_tells_what_would_break() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("held_check_source"), server.database("held_check_destination"));
    fill(&source, "");
    for (columns, code, words) in [
        ("id: { type: int32, nullable: false, required: true }", 0, "its columns are as the contract says"),
        ("id: { type: int64 }", 12, "column `id` breaks `type` of the contract: it is `int32` (`integer`), not `int64`"),
        ("gone: { required: true }", 12, "breaks `required`"),
        ("day: { range: { min: yesterday } }", 12, "a value of `range` is none of type `date`"),
    ] {
        let project = pipeline(&source, &destination, "", &format!("{{ columns: {{ {columns} }} }}"), "");
        let checked = Rapidbyte::new(project.dir()).args(&["check", "pipeline.yaml", "--output", "json"]).finish();
        assert_eq!(checked.code, Some(code), "{columns}: {}", checked.told());
        assert!(checked.told().replace("\\\"", "\"").contains(words), "{columns}: {}", checked.told());
        let lines: Vec<Value> = checked.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(!lines.is_empty(), "{}", checked.told());
    }
}
