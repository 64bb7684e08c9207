//! `plan`: what a run would do is told, and not done.

use crate::{incremental, tables};
use rapidbyte_testkit::{Database, Finished, Postgres, Project, postgres_bin};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

const REFUSED: i32 = 12;

fn pipeline(source: &str, destination: &str, streams: &str, rest: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: planned\nsource:\n  use: source-postgres\n  config: {{ {source} }}\n  streams: [ {streams} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {destination}, schema: raw }}\n{rest}"
    )
}

#[track_caller]
fn plan(project: &Project) -> Finished {
    project.rapidbyte(&["plan", "pipeline.yaml", "--output", "json"]).finish()
}

/// Everything of a database, as `pg_dump` writes it.
fn dump(database: &Database<'_>, more: &[&str]) -> String {
    let dumped = Command::new(postgres_bin().join("pg_dump"))
        .args([
            "-h",
            "127.0.0.1",
            "-U",
            database.server().user(),
            "-p",
            &database.server().port().to_string(),
            "-d",
            database.name(),
        ])
        .args(more)
        .env("PGPASSWORD", database.server().password())
        .output()
        .expect("pg_dump can be started");
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let text = String::from_utf8(dumped.stdout).expect("UTF-8");
    // Newer servers put a random word there.
    text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")).collect::<Vec<_>>().join("\n")
}

/// The statements of a stream's effects of some kinds, in order.
fn statements(run: &Finished, stream: usize, kinds: &[&str]) -> Vec<String> {
    let effects = run.at(&format!("/streams/{stream}/effects"));
    let effects = effects.as_array().expect("a list").clone();
    let wanted = |effect: &&Value| kinds.iter().any(|kind| effect["kind"] == *kind);
    effects.iter().filter(wanted).filter_map(|effect| effect["sql"].as_str()).map(str::to_owned).collect()
}

#[track_caller]
fn assert_told(run: &Finished, stream: usize, kind: &str, words: &str) {
    let effects = run.at(&format!("/streams/{stream}/effects"));
    let said = effects
        .as_array()
        .expect("a list")
        .iter()
        .any(|effect| effect["kind"] == kind && effect["message"].as_str().is_some_and(|message| message.contains(words)));
    assert!(said, "{kind} {words}: {effects}");
}

/// The statements, run by hand elsewhere in their order, declare what the run has declared.
#[track_caller]
fn assert_makes_the_same(planned: &Finished, by_hand: &Database<'_>, destination: &Database<'_>) {
    for stream in 0..planned.at("/streams").as_array().map_or(0, Vec::len) {
        for statement in statements(planned, stream, &["create", "alter"]) {
            by_hand.sql(&statement.replace("CREATE SCHEMA \"raw\"", "CREATE SCHEMA IF NOT EXISTS \"raw\""));
        }
    }
    let declared = |database: &Database<'_>| dump(database, &["--schema-only", "--no-owner", "--schema", "raw"]);
    assert_eq!(declared(by_hand), declared(destination));
}

#[test]
fn statements_to_come_make_what_the_run_makes_and_nothing_is_written() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("plan_source"), server.database("plan_destination"));
    source.sql(&tables::lineitem(3_000));
    source.sql(
        "ALTER TABLE lineitem ADD PRIMARY KEY (l_orderkey, l_linenumber); ANALYZE lineitem;
         CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN price AS numeric(12,3); CREATE TYPE pair AS (a int, m mood);
         CREATE TABLE odd (\"Key.1\" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood, ms mood[], p price, q pair NOT NULL,
           at timestamptz(3), d numeric(10,2), j jsonb, plain text);
         INSERT INTO odd (m, q) VALUES ('ok', '(1,sad)')",
    );
    let text = pipeline(
        &source.config(),
        &destination.config(),
        "{ name: public.lineitem }, { name: public.odd, columns: [Key.1, m, ms, p, q, at, d, j] }",
        "  write_mode: replace\n",
    );
    let project = Project::with_pipeline(&text);
    let before = dump(&destination, &[]);
    let planned = plan(&project).success();
    assert_eq!(planned.at("/status"), "ready");
    assert_eq!(dump(&destination, &[]), before, "the destination is what it was");
    assert!(!project.path(".rapidbyte/state.db").exists(), "no state file is made");
    assert_eq!(planned.at("/streams/0/estimated_rows"), 3_000);
    assert!(planned.at("/streams/0/estimated_bytes").as_u64().is_some_and(|bytes| bytes > 100_000));
    assert_eq!(planned.at("/streams/0/exists"), false);
    assert_eq!(planned.at("/streams/0/target"), "raw.lineitem");
    assert_eq!(planned.at("/streams/1/columns").as_array().map(Vec::len), Some(8));
    assert_told(&planned, 0, "create", "_rapidbyte");
    assert_told(&planned, 0, "write", "become visible in one act");

    project.run().finish().success();
    assert_makes_the_same(&planned, &server.database("plan_by_hand"), &destination);

    let state = fs::read(project.path(".rapidbyte/state.db")).expect("a state file");
    let before = dump(&destination, &[]);
    let again = plan(&project).success();
    assert_eq!(dump(&destination, &[]), before, "the destination is what it was");
    assert_eq!(fs::read(project.path(".rapidbyte/state.db")).expect("a state file"), state, "so is the state file");
    assert_eq!(again.at("/streams/0/exists"), true);
    assert!(statements(&again, 0, &["create", "alter"]).is_empty());
    assert_told(&again, 0, "write", "all rows that are there are replaced");
    assert!(again.at("/streams/0/resumes").as_str().is_some_and(|text| text.contains("as load 2")), "{}", again.told());
    let text = project.rapidbyte(&["plan", "pipeline.yaml"]).finish().success();
    for words in
        ["public.lineitem – full_refresh, replace · about 3,000 rows", "into     raw.odd, which is there", "nothing was written"]
    {
        assert!(text.stdout.contains(words), "{words}: {}", text.told());
    }
}

#[test]
fn what_each_policy_would_do_is_told() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("plan_policy_source"), server.database("plan_policy_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n bigint, fresh date, maybe text); INSERT INTO t VALUES (1, 1, now(), 'x')");
    destination.sql("CREATE SCHEMA raw; CREATE TABLE raw.t (id int PRIMARY KEY, n int, maybe text NOT NULL, gone text)");
    let with = |policies: &str| {
        let text = pipeline(
            &source.config(),
            &destination.config(),
            "{ name: public.t }",
            &format!("  write_mode: upsert\n  schema_evolution: {{ {policies} }}\n"),
        );
        Project::with_pipeline(&text)
    };
    let coerced = plan(&with("type_change: coerce")).success();
    assert_eq!(statements(&coerced, 0, &["alter"]), ["ALTER TABLE \"raw\".\"t\" ADD COLUMN \"fresh\" date"]);
    assert_told(&coerced, 0, "policy", "column `n` is `bigint` at the source and `integer` here");
    assert_told(&coerced, 0, "policy", "column `gone` does not come from the source");
    assert_told(&coerced, 0, "policy", "column `maybe` is NOT NULL here");
    assert_told(&coerced, 0, "write", "merged by `id`");
    let ignored = plan(&with("type_change: coerce, new_column: ignore")).success();
    assert_told(&ignored, 0, "policy", "column `fresh` is left out");
    for (policies, words) in [
        ("type_change: fail", "column `n` of `raw.t` is `integer`"),
        ("type_change: coerce, new_column: fail", "column `fresh` is new"),
        ("type_change: coerce, removed_column: fail", "column `gone` of `raw.t` is gone"),
        ("type_change: coerce, nullability_change: fail", "column `maybe` of `raw.t` is NOT NULL"),
    ] {
        let project = with(policies);
        let refused = plan(&project).exit(REFUSED);
        assert_eq!(refused.at("/status"), "refused");
        assert_told(&refused, 0, "refusal", words);
        // As the run says it.
        let run = project.run().finish();
        assert!(run.code.is_some_and(|code| code != 0), "{policies}: {}", run.told());
        assert!(run.at("/error/cause").as_str().is_some_and(|cause| cause.contains(words)), "{policies}: {}", run.told());
    }
}

#[test]
fn a_contract_is_told_and_shapes_the_statements() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("plan_held_source"), server.database("plan_held_destination"));
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, amount numeric(10,2), note text, state text NOT NULL, secret text, at date);
         INSERT INTO t SELECT i, i::text, i, 'n', 'new', 's', now() FROM generate_series(1, 9) i",
    );
    let with = |contract: &str, stream: &str, rest: &str| {
        let stream = format!("{{ name: public.t{stream}, contract: {contract} }}");
        Project::with_pipeline(&pipeline(&source.config(), &destination.config(), &stream, rest))
    };
    let contract = "{ other_columns: discard_column, columns: { id: { type: int64, on_violation: coerce },
        code: { type: int32, on_violation: discard_row }, amount: { range: { min: 0 }, not_null: true },
        note: { nullable: false, on_violation: discard_row }, state: { one_of: [new], on_violation: discard_column },
        secret: { type: int64, on_violation: discard_column }, gone: { not_null: true } } }";
    let project = with(contract, "", "  write_mode: replace\n");
    let planned = plan(&project).success();
    let policies = planned.at("/streams/0/policies");
    for line in [
        "contract: column `id` is cast from `int32` (`integer`) to `int64`; a value that does not fit ends the load (`on_violation: coerce`)",
        "contract: column `code` is cast from `utf8` (`text`) to `int32`; a value that does not fit leaves its row out, which is counted (`on_violation: discard_row`)",
        "contract: column `amount`: a value that breaks `not_null` or `range` ends the load (`on_violation: fail`)",
        "contract: column `note` is declared NOT NULL from here on; a NULL leaves its row out, which is counted (`on_violation: discard_row`)",
        "contract: column `state`: a value that breaks `one_of` becomes NULL (`on_violation: discard_column`)",
        "contract: column `secret` is left out: it is `utf8` (`text`), not `int64` (`on_violation: discard_column`)",
        "contract: column `at` is left out: the contract does not name it (`other_columns: discard_column`)",
        "contract: column `gone` is not there, and its rules say nothing",
    ] {
        assert!(policies.as_array().is_some_and(|all| all.contains(&json!(line))), "{line}: {policies}");
    }
    let made = statements(&planned, 0, &["create"]).join("\n");
    assert!(made.contains("\"code\" integer NOT NULL") && !made.contains("secret") && !made.contains("\"at\""), "{made}");
    project.run().finish().success();
    assert_makes_the_same(&planned, &server.database("plan_held_by_hand"), &destination);
    // Into a table that is there, a column that is left out is one that the source does not have.
    assert_told(
        &plan(&with("{ other_columns: discard_column, columns: { id: {} } }", "", "")),
        0,
        "policy",
        "`note` does not come from the source",
    );

    for (contract, stream, words) in [
        (
            "{ columns: { id: { type: int64 } } }",
            "",
            "column `id` breaks `type` of the contract: it is `int32` (`integer`), not `int64`",
        ),
        (
            "{ columns: { gone: { required: true } } }",
            "",
            "column `gone` breaks `required` of the contract: `public.t` has no such column",
        ),
        ("{ columns: { at: { required: true } } }", ", columns: [id]", "column `at` breaks `required`"),
        ("{ columns: { note: { nullable: false } } }", "", "column `note` breaks `nullable`"),
        ("{ other_columns: fail, columns: { id: {} } }", "", "column `code` breaks `other_columns`"),
        ("{ columns: { at: { type: uuid, on_violation: discard_row } } }", "", "no exact way to `uuid`"),
    ] {
        let project = with(contract, stream, "");
        let refused = plan(&project).exit(REFUSED);
        let findings = refused.at("/findings");
        let told = |one: &Value| {
            (&one["area"], &one["status"]) == (&json!("contracts"), &json!("failed"))
                && one["message"].as_str().is_some_and(|message| message.contains(words))
                && one["hint"].is_string()
        };
        assert!(findings.as_array().is_some_and(|all| all.iter().any(told)), "{contract}: {findings}");
        assert_eq!(refused.at("/streams/0/effects"), json!([]), "a run would make nothing: {contract}");
        // As the run says it.
        let run = project.run().finish().exit(8);
        assert!(run.at("/error/cause").as_str().is_some_and(|cause| cause.contains(words)), "{contract}: {}", run.told());
    }
}

#[test]
fn columns_of_changes_are_among_the_statements() {
    let server = Postgres::shared();
    let source = server.database("plan_changes_source");
    source.sql("CREATE TABLE t (id int PRIMARY KEY, note text NOT NULL); INSERT INTO t VALUES (1, 'n')");
    for (name, mode, deletes, added) in [("hard", "upsert", "hard", 0), ("soft", "upsert", "soft", 1), ("log", "append", "hard", 5)]
    {
        let destination = server.database(&format!("plan_changes_{name}"));
        let config = format!("{}, deletes: {deletes}", destination.config());
        let text = pipeline(&source.config(), &config, "{ name: public.t, sync_mode: cdc }", &format!("  write_mode: {mode}\n"));
        let project = Project::with_pipeline(&text);
        let planned = plan(&project).success();
        assert_eq!(statements(&planned, 0, &["alter"]).len(), added, "{name}: {}", planned.told());
        project.run().finish().success();
        assert_makes_the_same(&planned, &server.database("plan_changes_by_hand"), &destination);
        assert!(statements(&plan(&project).success(), 0, &["create", "alter"]).is_empty(), "{name}");
        project.rapidbyte(&["teardown", "pipeline.yaml", "--yes"]).finish().success();
    }
}

#[test]
fn missing_rights_are_told_with_statements_that_work() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("plan_right_source"), server.database("plan_right_destination"));
    source.sql(
        "CREATE SCHEMA shop; CREATE TABLE shop.a (id int PRIMARY KEY); CREATE TABLE shop.b (id int PRIMARY KEY);
         DROP ROLE IF EXISTS plan_reader; CREATE ROLE plan_reader LOGIN PASSWORD 'p'",
    );
    destination.sql(
        "CREATE SCHEMA raw; CREATE TABLE raw.a (id int PRIMARY KEY); DROP ROLE IF EXISTS plan_writer; CREATE ROLE plan_writer LOGIN PASSWORD 'p'",
    );
    let side = |user: &str, database: &Database<'_>| {
        format!(
            "host: 127.0.0.1, port: {}, user: {user}, password: p, database: {}, sslmode: disable",
            server.port(),
            database.name()
        )
    };
    let project = Project::with_pipeline(&pipeline(
        &side("plan_reader", &source),
        &side("plan_writer", &destination),
        "{ name: shop.a }, { name: shop.b }",
        "  write_mode: replace\n",
    ));
    let mut rounds = 0;
    loop {
        let planned = plan(&project);
        if planned.code == Some(0) {
            break;
        }
        let planned = planned.exit(REFUSED);
        rounds += 1;
        assert!(rounds < 4, "{}", planned.told());
        let findings = planned.at("/findings");
        let mut ran = 0;
        for finding in findings.as_array().expect("a list").iter().filter(|finding| finding["status"] == "failed") {
            let statement = finding["sql"].as_str().unwrap_or_else(|| panic!("no statement: {finding}"));
            let at_source = finding["area"].as_str().is_some_and(|area| area.starts_with("source"));
            if at_source {
                source.sql(statement)
            } else {
                destination.sql(statement)
            };
            ran += 1;
        }
        assert!(ran > 0, "{}", planned.told());
    }
    assert_eq!(rounds, 1, "all that is missing is told at once");
    project.run().finish().success();
    source.sql("DROP OWNED BY plan_reader; DROP ROLE plan_reader");
    destination.sql("DROP OWNED BY plan_writer CASCADE; DROP ROLE plan_writer");
}

#[test]
fn where_a_stream_goes_on_is_told() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("plan_news_source"), server.database("plan_news_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, at bigint NOT NULL); INSERT INTO t SELECT i, i FROM generate_series(1, 30) i");
    let project = Project::with_pipeline(&incremental::pipeline(&source, &destination, "name: t, cursor_field: at", ""));
    let first = plan(&project).success();
    assert!(first.at("/streams/0/resumes").as_str().is_some_and(|text| text.contains("from the start")), "{}", first.told());
    project.run().finish().success();
    let later = plan(&project).success();
    assert!(later.at("/streams/0/resumes").as_str().is_some_and(|text| text.contains("30 rows so far")), "{}", later.told());
    assert!(later.at("/streams/0/reading").as_str().is_some_and(|text| text.contains("incremental by `at`")), "{}", later.told());
    project.rapidbyte(&["state", "reset", "pipeline.yaml"]).finish().success();
    let reset = plan(&project).success();
    assert!(reset.at("/streams/0/resumes").as_str().is_some_and(|text| text.contains("`state reset`")), "{}", reset.told());
}

#[test]
fn a_destination_that_can_not_tell_is_named() {
    let server = Postgres::shared();
    let source = server.database("plan_file_source");
    source.sql("CREATE TABLE t (id int PRIMARY KEY)");
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: file\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: public.t }}, {{ name: public.none }} ]\n\
         destination:\n  use: dest-file\n  config: {{ path: out }}\n",
        source.config()
    ));
    let planned = plan(&project).exit(REFUSED);
    let findings = planned.at("/findings");
    let said = |words: &str| {
        findings.as_array().is_some_and(|all| all.iter().any(|one| one["message"].as_str().is_some_and(|m| m.contains(words))))
    };
    assert!(said("does not tell what it would do"), "{findings}");
    assert!(said("`public.none` does not exist"), "{findings}");
    assert_eq!(planned.at("/streams/0/exists"), json!(null));
}
