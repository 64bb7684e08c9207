//! Columns that are added with a default, which the log tells nothing of for the rows that were there: the destination's show it too.

use crate::cdc::{drop_slot, pipeline, run};
use crate::follow::{follow, stop, until_equal};
use rapidbyte_testkit::{Database, Finished, Postgres, Project};
use serde_json::json;
use std::time::Duration;

const DIFFERENT: i32 = 21;

/// A table with rows whose large values are left out of their changes.
const TABLE: &str = "
CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"');
CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
INSERT INTO t SELECT i, 'v' || i, repeat('x', 3000) FROM generate_series(1, 200) i";

/// Constants of many types, one of which is NOT NULL and one evaluated as it is added.
const ADDED: &str = r#"ALTER TABLE t ADD n int NOT NULL DEFAULT 5, ADD m numeric(10,2) DEFAULT 1.5, ADD s text DEFAULT E'it''s "q\\uoted" {x}, NULL\n',
  ADD e varchar(3) DEFAULT '', ADD ts timestamptz DEFAULT now(), ADD b boolean DEFAULT true, ADD a int[] DEFAULT '{1,NULL,2}',
  ADD ta text[] DEFAULT ARRAY['a,b', '"', NULL, 'NULL'], ADD j jsonb DEFAULT '{"k": [1, "x y"]}', ADD o mood DEFAULT 'it''s "ok"',
  ADD bx box DEFAULT '(1,1),(0,0)', ADD by bytea DEFAULT '\x00ff5c', ADD d date DEFAULT '2024-02-29', ADD f float8 DEFAULT 'NaN',
  ADD iv interval DEFAULT '1 mon -2 days', ADD l text DEFAULT repeat('long ', 5000)"#;

/// Old rows changed, new ones with the default, with values and with NULLs.
const CHANGES: [&str; 6] = [
    "INSERT INTO t (id, v) SELECT i, 'default' FROM generate_series(301, 310) i",
    "INSERT INTO t (id, v, n, m, s, ts, b, a, j, o) VALUES (320, 'null', 6, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "INSERT INTO t (id, v, n, m, s, b, a, o) VALUES (321, 'other', 7, 'NaN', '', false, '{}', 'sad')",
    "UPDATE t SET v = 'changed' WHERE id <= 10; UPDATE t SET s = NULL, n = 8 WHERE id = 11; UPDATE t SET v = 'again' WHERE id IN (5, 11)",
    "DELETE FROM t WHERE id = 20",
    "UPDATE t SET id = 1000 + id WHERE id IN (21, 305)",
];

const WARNING: &str = "what earlier rows have in it at the source is not told";

/// The table, and a pipeline that merges its changes, with keys for the source.
fn begun(name: &str, keys: &str) -> (Database<'static>, Database<'static>, Project) {
    let server = Postgres::shared();
    let (source, destination) = (server.database(&format!("{name}_source")), server.database(&format!("{name}_destination")));
    source.sql(TABLE);
    let yaml = pipeline(name, &source, &destination, &["t"], "upsert", "");
    let yaml = yaml.replace("source-postgres\n  config: { ", &format!("source-postgres\n  config: {{ {keys}"));
    (source, destination, Project::with_pipeline(&yaml))
}

fn verify(project: &Project) -> Finished {
    project.rapidbyte(&["verify", "pipeline.yaml", "--output", "json"]).timeout(Duration::from_secs(120)).finish()
}

#[track_caller]
fn assert_same(source: &Database<'_>, destination: &Database<'_>, project: &Project) {
    assert_eq!(source.hash("t"), destination.hash("t"));
    let equal = verify(project).success();
    assert_eq!((equal.at("/status"), equal.at("/streams/0/left_out")), (json!("equal"), json!([])), "{}", equal.told());
}

#[test]
fn earlier_rows_show_the_default_of_a_column_that_came_between_runs() {
    for plugin in ["pgoutput", "test_decoding"] {
        let name = format!("cdc_default_{plugin}");
        let (source, destination, project) = begun(&name, &format!("plugin: {plugin}, "));
        assert_eq!(run(&project), 200);
        // One window has rows of both shapes.
        source
            .sql("INSERT INTO t SELECT i, 'before', 'b' FROM generate_series(201, 210) i; UPDATE t SET v = 'before' WHERE id = 12");
        source.sql(ADDED);
        CHANGES.iter().for_each(|sql| _ = source.sql(sql));
        let told = project.run().finish().success().told();
        assert!(!told.contains(WARNING), "{told}");
        assert_same(&source, &destination, &project);
        // Without a change nothing tells of a column; what is compared is the same.
        source.sql("ALTER TABLE t ADD late int DEFAULT 9");
        assert_eq!(run(&project), 0);
        assert_eq!(verify(&project).success().at("/status"), "equal");
        source.sql("ALTER TABLE t ALTER late SET DEFAULT 10; ALTER TABLE t ADD later text DEFAULT 'z'");
        source.sql("INSERT INTO t (id, v) VALUES (400, 'late')");
        assert_eq!(run(&project), 1);
        assert_same(&source, &destination, &project);
        drop_slot(&source, &name);
    }
}

#[test]
fn earlier_rows_show_the_default_of_a_column_that_comes_while_they_are_followed() {
    let (source, destination, project) = begun("cdc_default_tail", "");
    let followed = follow(&project);
    source.sql("INSERT INTO t SELECT i, 'before', 'b' FROM generate_series(201, 210) i");
    until_equal(&source, &destination, "t");
    // All of it in one transaction, so that one window has rows of both shapes.
    source.sql(&format!("BEGIN; INSERT INTO t VALUES (211, 'within', 'b'); {ADDED}; {}; COMMIT", CHANGES.join("; ")));
    until_equal(&source, &destination, "t");
    source.sql("ALTER TABLE t ADD late int DEFAULT 9");
    source.sql("UPDATE t SET late = NULL WHERE id = 40");
    until_equal(&source, &destination, "t");
    let ended = stop(followed, "TERM");
    assert!(!ended.told().contains(WARNING), "{}", ended.told());
    assert_same(&source, &destination, &project);
    drop_slot(&source, "cdc_default_tail");
}

#[test]
fn what_nothing_tells_is_said_and_a_load_anew_brings_it() {
    let (source, destination, project) = begun("cdc_default_own", "");
    assert_eq!(run(&project), 200);
    source.sql("ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid()");
    source.sql("UPDATE t SET v = 'u' WHERE id = 1");
    let told = project.run().finish().success().told();
    assert!(told.contains(WARNING) && told.contains("`rapidbyte state reset`"), "{told}");
    assert_eq!(destination.sql("SELECT count(u) FROM t"), "1");
    verify(&project).exit(DIFFERENT);
    project.rapidbyte(&["state", "reset", "pipeline.yaml"]).finish().success();
    assert_eq!(run(&project), 200);
    assert_same(&source, &destination, &project);
    drop_slot(&source, "cdc_default_own");
}
