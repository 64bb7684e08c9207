//! Columns that change at the source, through the binary. The whole matrix is tested where the rows are written:
//! `connectors/dest-postgres/tests/it/evolution.rs`.

use rapidbyte_testkit::{Database, Postgres, Project};
use serde_json::Value;

fn pipeline(source: &Database<'_>, destination: &Database<'_>, stream: &str, settings: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: drift\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ {stream} }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n{settings}",
        source.config(),
        destination.config()
    )
}

fn policy(text: &str) -> String {
    format!("  write_mode: replace\n  schema_evolution: {{ {text} }}\n")
}

#[test]
fn the_default_policies_follow_a_source_that_changes() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("drift_source"), server.database("drift_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text); INSERT INTO t SELECT i, i, 'b' FROM generate_series(1, 100) i");
    for settings in ["  write_mode: replace\n", "  write_mode: upsert\n"] {
        let project = Project::with_pipeline(&pipeline(&source, &destination, "name: t", settings));
        project.run().finish().success();
        // One renamed, one new, one that may be empty now.
        source.sql("ALTER TABLE t RENAME b TO c; ALTER TABLE t ADD d date DEFAULT '2024-02-29'; ALTER TABLE t ALTER a DROP NOT NULL; UPDATE t SET a = NULL WHERE id = 1");
        project.run().finish().success();
        assert_eq!(
            destination.sql("SELECT count(*) || ' ' || count(a) || ' ' || count(c) || ' ' || count(d) FROM t"),
            "100 99 100 100"
        );
        source.sql("ALTER TABLE t RENAME c TO b; ALTER TABLE t DROP d; UPDATE t SET a = 1; ALTER TABLE t ALTER a SET NOT NULL");
        destination.sql("DROP TABLE t");
    }
}

#[test]
fn a_column_of_another_type_follows_its_policy() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("typed_source"), server.database("typed_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i");
    let run = |settings: &str| Project::with_pipeline(&pipeline(&source, &destination, "name: t", settings)).run().finish();
    run(&policy("type_change: fail")).success();
    source.sql("ALTER TABLE t ALTER n TYPE text USING CASE WHEN id = 7 THEN 'canary' ELSE n::text END");
    let refused = run(&policy("type_change: fail"));
    assert_eq!(refused.at("/error/code"), "type_mismatch", "{}", refused.told());
    let unfit = run(&policy("type_change: coerce"));
    assert_eq!(unfit.at("/error/code"), "value_does_not_fit", "{}", unfit.told());
    assert!(unfit.told().contains("`n`") && !unfit.told().contains("canary"), "{}", unfit.told());
    // The old rows are there until a whole load is.
    assert_eq!(destination.sql("SELECT count(n) FROM t"), "100");
    run(&policy("type_change: \"null\"")).success();
    assert_eq!(destination.sql("SELECT count(*) || ' ' || count(n) || ' ' || sum(n) FROM t"), "100 99 5043");
    // The statement of the hint, and the source's type is the table's.
    let hint = refused.at("/error/hint");
    destination.sql(hint.as_str().and_then(|hint| hint.split('`').nth(1)).expect("a statement"));
    run(&policy("type_change: fail")).success();
    assert_eq!(source.hash("t"), destination.hash("t"));
}

#[test]
fn an_incremental_stream_follows_changes_between_its_runs() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("drifting_source"), server.database("drifting_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 10) i");
    let stream = "name: t, sync_mode: incremental, cursor_field: id";
    let settings = "  write_mode: upsert\n  schema_evolution: { type_change: coerce, new_column: ignore }\n";
    let project = Project::with_pipeline(&pipeline(&source, &destination, stream, settings));
    project.run().finish().success();
    source.sql(
        "ALTER TABLE t ALTER n TYPE bigint; ALTER TABLE t ADD x int; INSERT INTO t SELECT i, i, i FROM generate_series(11, 20) i",
    );
    project.run().finish().success();
    assert_eq!(destination.sql("SELECT count(*) || ' ' || sum(n) || ' ' || max(pg_typeof(n)::text) FROM t"), "20 210 integer");
    source.sql("INSERT INTO t VALUES (21, 5000000000)");
    let unfit = project.run().finish();
    assert_eq!(unfit.at("/error/code"), "value_does_not_fit", "{}", unfit.told());
    // Nothing of the refused window has arrived, and it comes once the value fits.
    source.sql("UPDATE t SET n = 21 WHERE id = 21");
    project.run().finish().success();
    assert_eq!(destination.sql("SELECT count(*) || ' ' || sum(n) FROM t"), "21 231");
}

#[test]
fn check_says_what_becomes_of_changes_and_who_can_not_follow_them() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("told_source"), server.database("told_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let yaml = pipeline(&source, &destination, "name: t", &policy("new_column: fail, type_change: \"null\""));
    let project = Project::with_pipeline(&yaml);
    let told = project.rapidbyte(&["check", "pipeline.yaml", "--output", "json"]).finish().success();
    let lines: Vec<Value> = told.at("/items").as_array().cloned().unwrap_or_default();
    let line = lines.iter().find(|line| line["name"] == "schema evolution").unwrap_or_else(|| panic!("{}", told.told()));
    let message = line["message"].as_str().unwrap_or_default();
    assert!(message.contains("a new column ends the run") && message.contains("becomes NULL"), "{message}");
    // Files keep the types they were written with; standard output has no columns to compare with.
    for (destination, settings, word) in [
        ("dest-file\n  config: { path: out }", "type_change: coerce", "type_change: coerce"),
        ("dest-stdout", "new_column: fail", "new_column: fail"),
    ] {
        let yaml = format!(
            "version: \"1.0\"\npipeline: drift\nsource:\n  use: source-datagen\n  streams: [ {{ name: orders }} ]\n\
             destination:\n  use: {destination}\n  schema_evolution: {{ {settings} }}\n"
        );
        let refused = Project::with_pipeline(&yaml).run().finish();
        assert!(refused.told().contains("unsupported_policy"), "{}", refused.told());
        assert!(refused.told().contains(word), "{}", refused.told());
    }
}
