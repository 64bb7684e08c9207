//! Rows over those with the same key.

use crate::incremental::pipeline;
use rapidbyte_testkit::{Postgres, Project};

#[test]
fn changes_are_merged_by_the_sources_own_key() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("merged_source"), server.database("merged_destination"));
    source.sql(
        "CREATE TABLE people (region text COLLATE \"und-x-icu\", id uuid, amount numeric, changed timestamptz NOT NULL DEFAULT now(),
             PRIMARY KEY (region, id));
         INSERT INTO people SELECT (ARRAY['a', 'B', 'ä'])[1 + i % 3], md5(i::text)::uuid, i * 0.0000000001 FROM generate_series(1, 3000) i",
    );
    let rest = "  write_mode: upsert\nresources: { checkpoint_interval_rows: 500 }\n";
    let project = Project::with_pipeline(&pipeline(&source, &destination, "name: people, cursor_field: changed", rest));
    project.run().finish().success();
    assert_eq!(source.hash("people"), destination.hash("people"));
    source.sql(
        "UPDATE people SET amount = amount + 1, changed = clock_timestamp() WHERE region = 'ä';
         UPDATE people SET amount = -amount WHERE region = 'B';
         INSERT INTO people VALUES ('new', gen_random_uuid(), 'NaN')",
    );
    let run = project.run().finish().success();
    // Rows whose cursor was left alone are new versions all the same.
    assert_eq!(run.at("/report/streams/0/rows_written"), 2001);
    assert_eq!(source.hash("people"), destination.hash("people"));
}

#[test]
fn a_full_refresh_is_merged_and_keeps_what_did_not_come() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("refreshed_source"), server.database("refreshed_destination"));
    source.sql("CREATE TABLE t AS SELECT i AS id, 'old' AS v FROM generate_series(1, 10) i");
    destination.sql("CREATE TABLE t (id int, v text)");
    let yaml = format!(
        "version: \"1.0\"\npipeline: refreshed\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: t }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: upsert\n",
        source.config(),
        destination.config()
    );
    let project = Project::with_pipeline(&yaml);
    // The source has no key, and none is named.
    let run = project.run().finish();
    assert_eq!(run.at("/error/code"), "missing_primary_key", "{}", run.told());
    project.write("pipeline.yaml", format!("{yaml}  primary_key: [id]\n"));
    let run = project.run().finish();
    assert_eq!(run.at("/error/code"), "missing_unique_index", "{}", run.told());
    let hint = run.at("/error/hint");
    destination.sql(hint.as_str().and_then(|hint| hint.split('`').nth(1)).expect("a statement"));
    project.run().finish().success();
    source.sql("DELETE FROM t WHERE id <= 5; UPDATE t SET v = 'new' WHERE id = 6; INSERT INTO t VALUES (11, 'new')");
    project.run().finish().success();
    assert_eq!(
        destination.sql("SELECT string_agg(id || v, ' ' ORDER BY id) FROM t"),
        "1old 2old 3old 4old 5old 6new 7old 8old 9old 10old 11new"
    );
}

#[test]
fn a_key_of_which_a_part_is_not_read_merges_nothing() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("part_source"), server.database("part_destination"));
    source.sql(
        "CREATE TABLE t (a int, b int, v text, PRIMARY KEY (a, b));
         INSERT INTO t SELECT i / 10, i % 10, 'v' || i FROM generate_series(0, 99) i",
    );
    let with = |stream: &str, mode: &str, transforms: &str| {
        Project::with_pipeline(&format!(
            "version: \"1.0\"\npipeline: part\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: t{stream} }} ]\n\
             destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: {mode}\n{transforms}",
            source.config(),
            destination.config()
        ))
    };
    let masked = "transforms: [ { use: transform-mask, config: { fields: [b] } } ]\n";
    let left_out = ", contract: { columns: { b: { type: utf8, on_violation: discard_column } } }";
    // Rows that differ in the other part alone would become one.
    for (stream, transforms) in [(", columns: [a, v]", ""), (", columns: [b, v]", ""), ("", masked), (left_out, "")] {
        let case = format!("{stream}{transforms}");
        let refused = with(stream, "upsert", transforms).run().finish();
        assert_eq!(refused.at("/error/code"), "missing_primary_key", "{case}: {}", refused.told());
        assert!(refused.at("/error/cause").as_str().is_some_and(|cause| cause.contains("not all columns")), "{}", refused.told());
        let project = with(stream, "replace", transforms);
        let planned = project.rapidbyte(&["plan", "pipeline.yaml"]).finish().success();
        assert!(transforms == masked || !planned.stdout.contains("PRIMARY KEY"), "{case}: {}", planned.told());
        project.run().finish().success();
        assert_eq!(destination.sql("SELECT count(*) FROM t"), "100", "{case}");
        destination.sql("DROP SCHEMA _rapidbyte CASCADE; DROP TABLE t");
    }
    with("", "upsert", "").run().finish().success();
    assert_eq!(source.hash("t"), destination.hash("t"));
}
