//! Streams chosen by pattern, and rows chosen by filter, through the binary.

use rapidbyte_testkit::{Database, Postgres, Project};
use std::collections::BTreeMap;

fn pipeline(source: &Database<'_>, destination: &Database<'_>, streams: &[&str]) -> String {
    let streams: String = streams.iter().map(|stream| format!("\n    - {{ {stream} }}")).collect();
    format!(
        "version: \"1.0\"\npipeline: chosen\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:{streams}\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n",
        source.config(),
        destination.config()
    )
}

/// The streams of a run, with their rows.
fn moved(project: &Project) -> BTreeMap<String, u64> {
    let run = project.run().finish().success();
    let streams = run.at("/report/streams").as_array().expect("streams").clone();
    streams
        .iter()
        .map(|stream| {
            let name = stream["stream"].as_str().map(str::to_owned).unwrap_or_else(|| {
                format!(
                    "{}.{}",
                    stream["stream"]["namespace"].as_str().unwrap_or("-"),
                    stream["stream"]["name"].as_str().unwrap_or("-")
                )
            });
            (name, stream["rows_written"].as_u64().expect("a count"))
        })
        .collect()
}

const SHOP: &str = r#"
CREATE TABLE orders (id int PRIMARY KEY, status text, at timestamptz NOT NULL DEFAULT now());
INSERT INTO orders SELECT i, CASE WHEN i % 4 = 0 THEN 'open' ELSE 'done' END FROM generate_series(1, 100) i;
CREATE TABLE users AS SELECT i AS id FROM generate_series(1, 10) i;
CREATE TABLE audit_2025 AS SELECT 1 AS id; CREATE TABLE audit_2026 AS SELECT 1 AS id;
CREATE VIEW busy AS SELECT * FROM users WHERE id > 5;
CREATE TABLE "Users" AS SELECT 1 AS id; CREATE TABLE "odd.*""name'; --" AS SELECT 1 AS id; CREATE TABLE "ü?" AS SELECT 1 AS id;
CREATE TABLE leafy (id int) PARTITION BY RANGE (id); CREATE TABLE leafy_1 PARTITION OF leafy FOR VALUES FROM (0) TO (9);
INSERT INTO leafy VALUES (1), (2);
CREATE SCHEMA sales; CREATE TABLE sales.leads AS SELECT 1 AS id; CREATE TABLE sales.calls AS SELECT 1 AS id;
"#;

#[test]
fn a_pattern_stands_for_every_table_it_matches() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("glob_source"), server.database("glob_destination"));
    source.sql(SHOP);
    let project = Project::with_pipeline(&pipeline(
        &source,
        &destination,
        &[
            // Named: its own settings win.
            "name: public.orders, filter: \"status = 'open'\", destination: { table: open_orders }",
            "name: 'public.*', exclude: [audit_*, 'public.busy', Users]",
            "name: 'sal?s.*', destination: { table: 'crm.s_*' }",
        ],
    ));
    let got = moved(&project);
    let wanted = [
        ("public.leafy", 2),
        ("public.odd.*\"name'; --", 1),
        ("public.orders", 25),
        ("public.users", 10),
        ("public.ü?", 1),
        ("sales.calls", 1),
        ("sales.leads", 1),
    ];
    assert_eq!(got, wanted.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect());
    assert_eq!(source.hash(r#""odd.*""name'; --""#), destination.hash(r#""odd.*""name'; --""#));
    assert_eq!(source.hash("sales.leads"), destination.hash("crm.s_leads"));
    assert_eq!(source.hash("(SELECT * FROM orders WHERE status = 'open')"), destination.hash("open_orders"));
    assert!(!destination.has("audit_2025") && !destination.has("busy"));
    // A table that comes later comes along.
    source.sql("CREATE TABLE late AS SELECT 1 AS id");
    assert_eq!(moved(&project).get("public.late"), Some(&1));
    let check = project.rapidbyte(&["check", "pipeline.yaml"]).finish();
    assert!(check.told().contains("stand for 7 streams") && check.told().contains("public.late"), "{}", check.told());
}

#[test]
fn patterns_that_choose_nothing_or_too_much_are_refused() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("globs_source"), server.database("globs_destination"));
    source.sql(SHOP);
    let project = Project::empty();
    let cases: [(&[&str], &str, &str); 8] = [
        (&["name: 'pulbic.*'"], "matches none of", "`public`, `sales`"),
        (&["name: 'audit*'"], "matches none of", "write `public.audit*`"),
        (&["name: 'public.audit*', exclude: [audit_20*]"], "matches none of", "leaves all 2 of them out"),
        (&["name: 'public.*'", "name: 'p*.users'"], "public.users", "exclude"),
        (&["name: users", "name: 'public.u*'"], "may be `public.users`", "public.users"),
        (&["name: 'public.users', destination: { table: leads }", "name: 'sales.*'"], "both be written to `leads`", "raw.*"),
        (&["name: 'public.*', destination: { table: one }"], "written to one table", "raw.*"),
        (&["name: public.users, exclude: [a]"], "no effect without a pattern", "public.*"),
    ];
    for (streams, says, hint) in cases {
        project.write("pipeline.yaml", pipeline(&source, &destination, streams));
        for command in ["run", "check"] {
            let told = project.rapidbyte(&[command, "pipeline.yaml"]).finish();
            assert!(told.code.is_some_and(|code| code != 0), "{streams:?}: {}", told.told());
            assert!(told.told().contains(says) && told.told().contains(hint), "{streams:?} {says} {hint}: {}", told.told());
        }
    }
    // A literal name with such characters takes the namespace apart.
    project.write("pipeline.yaml", pipeline(&source, &destination, &["namespace: public, name: 'ü?'"]));
    assert_eq!(moved(&project).len(), 1);
    // An exclusion that leaves nothing out is most likely misspelt.
    project.write("pipeline.yaml", pipeline(&source, &destination, &["name: 'sales.*', exclude: [cals]"]));
    let check = project.rapidbyte(&["check", "pipeline.yaml"]).finish();
    assert!(check.told().contains("`cals` leaves no stream of `sales.*` out"), "{}", check.told());
}

#[test]
fn settings_of_a_pattern_hold_for_each_stream() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("globset_source"), server.database("globset_destination"));
    source.sql(
        "CREATE SCHEMA log; CREATE TABLE log.a (id int PRIMARY KEY, n int NOT NULL); CREATE TABLE log.b (LIKE log.a INCLUDING ALL);
         INSERT INTO log.a SELECT i, i FROM generate_series(1, 10) i; INSERT INTO log.b SELECT i, i FROM generate_series(1, 20) i",
    );
    let stream = "name: 'log.*', sync_mode: incremental, cursor_field: n, filter: n > 5, destination: { write_mode: upsert }";
    let project = Project::with_pipeline(&pipeline(&source, &destination, &[stream]));
    assert_eq!(moved(&project).into_values().collect::<Vec<_>>(), [5, 15]);
    source.sql("INSERT INTO log.a VALUES (11, 11), (12, 1); UPDATE log.b SET n = n + 100 WHERE id = 20");
    assert_eq!(moved(&project).into_values().collect::<Vec<_>>(), [1, 1]);
    assert_eq!(source.hash("(SELECT * FROM log.b WHERE n > 5)"), destination.hash("b"));
    // What another filter passed by would be missing for good.
    project.write("pipeline.yaml", pipeline(&source, &destination, &[&stream.replace("n > 5", "n > 3")]));
    let run = project.run().finish();
    assert_eq!(run.at("/error/code"), "mode_changed", "{}", run.told());
}

#[test]
fn a_filter_is_refused_where_nobody_would_follow_it() {
    let project = Project::with_pipeline(
        "version: \"1.0\"\npipeline: p\nsource:\n  use: source-datagen\n  streams: [ { name: orders, filter: order_id > 5 } ]\n\
         destination:\n  use: dest-file\n  config: { path: out, format: jsonl }\n",
    );
    let run = project.run().finish().exit(3);
    assert!(run.told().contains("does not know `filter`"), "{}", run.told());
    project.write(
        "pipeline.yaml",
        "version: \"1.0\"\npipeline: p\nsource:\n  use: source-datagen\n  streams: [ { name: orders, filter: 'a > 5; DROP TABLE t' } ]\n\
         destination:\n  use: dest-file\n  config: { path: out, format: jsonl }\n",
    );
    let run = project.run().finish().exit(3);
    assert!(run.told().contains("`filter` holds a `;`"), "{}", run.told());
}

#[test]
fn patterns_choose_among_streams_without_a_namespace_too() {
    let project = Project::with_pipeline(
        "version: \"1.0\"\npipeline: p\nsource:\n  use: source-datagen\n  config: { pattern: orders, max_events: 10 }\n  streams: [ { name: 'ord*' } ]\n\
         destination:\n  use: dest-file\n  config: { path: out, format: jsonl }\n",
    );
    assert_eq!(moved(&project).into_iter().collect::<Vec<_>>(), [("orders".to_owned(), 10)]);
}
