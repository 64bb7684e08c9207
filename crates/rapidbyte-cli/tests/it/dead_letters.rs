//! Rows that can't be written, through the binary: the others arrive, none is lost in silence, and each is replayed once.

use rapidbyte_testkit::{Database, Finished, Postgres, Project, Rapidbyte, packed_fixture};
use serde_json::Value;
use std::fs;

/// The columns of the source's table, which has one row that the destination refuses.
fn fill(source: &Database<'_>, rows: u32, bad: &[u32]) {
    let bad = bad.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    // In one statement: rows changed afterwards lie in an order that depends on what else the server does.
    source.sql(&format!(
        "CREATE TABLE orders (id int PRIMARY KEY, note text);
         INSERT INTO orders SELECT i, CASE WHEN i IN ({bad}) THEN 'bad' ELSE 'n' || i END FROM generate_series(1, {rows}) i"
    ));
}

/// The destination as it was before any run.
pub(crate) fn forget(destination: &Database<'_>) {
    destination.sql("DROP SCHEMA IF EXISTS _rapidbyte CASCADE; DROP TABLE IF EXISTS orders, _rapidbyte_dlq");
}

fn target(destination: &Database<'_>) {
    forget(destination);
    destination.sql("CREATE TABLE orders (id int PRIMARY KEY, note text CHECK (note <> 'bad'))");
}

/// A pipeline of the table `orders`; `stream` are more of the stream's settings, `settings` those of the destination and all after.
pub(crate) fn pipeline(source: &Database<'_>, destination: &Database<'_>, stream: &str, settings: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: letters\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n    - {{ name: orders{stream} }}\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n{settings}",
        source.config(),
        destination.config()
    )
}

pub(crate) fn dlq(project: &Project, args: &[&str]) -> Rapidbyte {
    let mut all = vec!["dlq", args[0], "pipeline.yaml", "--output", "json"];
    all.extend(&args[1..]);
    Rapidbyte::new(project.dir()).args(&all)
}

fn documents(run: &Finished) -> Vec<Value> {
    run.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn one_bad_row_in_many_follows_the_policy_in_every_mode() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("letters_source"), server.database("letters_destination"));
    fill(&source, 2000, &[700]);
    let incremental = ", sync_mode: incremental, cursor_field: id";
    for (stream, mode) in [("", "append"), ("", "replace"), ("", "upsert"), (incremental, "append"), (incremental, "upsert")] {
        for (policy, code) in [("skip", 20), ("fail", 7), ("dlq", 0)] {
            let case = format!("{mode}{stream} {policy}");
            target(&destination);
            let settings = format!("  write_mode: {mode}\n  on_data_error: {policy}\n");
            let project = Project::with_pipeline(&pipeline(&source, &destination, stream, &settings));
            let run = project.run().finish();
            assert_eq!(run.code, Some(code), "{case}: {}", run.told());
            let there = destination.sql("SELECT count(*) || ' ' || coalesce(sum(id), 0) FROM orders");
            if policy == "fail" {
                assert_eq!(there, "0 0", "{case}");
                continue;
            }
            assert_eq!(there, format!("1999 {}", 2000 * 2001 / 2 - 700), "{case}");
            let stream = run.at("/report/streams/0");
            assert_eq!(stream["rows_read"], 2000, "{case}");
            let told = (stream["rows_skipped"].as_u64(), stream["dead_letters"].as_u64());
            assert_eq!(told, if policy == "skip" { (Some(1), Some(0)) } else { (Some(0), Some(1)) }, "{case}");
            let listed = documents(&dlq(&project, &["list"]).finish().success()).remove(0);
            if policy == "skip" {
                assert_eq!(listed["open"], 0, "{case}");
                assert_eq!(destination.sql("SELECT to_regclass('_rapidbyte_dlq') IS NULL"), "t");
                continue;
            }
            assert_eq!(destination.sql("SELECT pipeline || ' ' || stream_name FROM _rapidbyte_dlq"), "letters orders");
            assert_eq!(listed["letters"].as_array().map(Vec::len), Some(1), "{case}: {listed}");
            let letter = &listed["letters"][0];
            assert_eq!((&letter["stream"], &letter["error_category"]), (&"orders".into(), &"data".into()));
            assert!(!letter.to_string().contains("bad"), "values are not listed: {letter}");
            let shown = documents(&dlq(&project, &["show", &letter["id"].to_string()]).finish().success()).remove(0);
            assert_eq!(shown["record"]["id"]["value"], "700", "{shown}");
            assert_eq!(shown["record"]["note"]["value"], "bad", "{shown}");
        }
    }
}

#[test]
fn rows_skipped_by_streams_of_a_pattern_are_told_of() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("pattern_source"), server.database("pattern_destination"));
    fill(&source, 20, &[7]);
    target(&destination);
    let yaml = pipeline(&source, &destination, "", "  on_data_error: skip\n").replace("name: orders", "name: \"public.*\"");
    assert_eq!(Project::with_pipeline(&yaml).run().finish().exit(20).at("/report/streams/0/rows_skipped"), 1);
}

#[test]
fn a_policy_that_a_connector_does_not_follow_is_refused() {
    let yaml = "version: \"1.0\"\npipeline: p\nsource:\n  use: source-datagen\n  config: { pattern: orders, max_events: 5 }\n  streams: [ { name: orders } ]\n\
                destination:\n  use: dest-stdout\n  config: { format: json }\n  on_data_error: dlq\n";
    let run = Project::with_pipeline(yaml).run().finish();
    // Standard output belongs to the rows.
    run.exit(3).says("\"code\":\"unsupported_policy\"");
    Project::with_pipeline(&yaml.replace("dlq", "skip")).run().finish().success();
}

#[test]
fn a_connector_reaches_state_and_dead_letters_by_the_hosts_own_calls() {
    let yaml = format!(
        "version: \"1.0\"\npipeline: calls\nsource:\n  use: source-datagen\n  config: {{ pattern: sequence, max_events: 12, batch_rows: 4 }}\n\
         \x20 streams: [ {{ name: sequence }} ]\ntransforms: [ {{ use: {} }} ]\n\
         destination: {{ use: dest-file, config: {{ path: out }}, on_data_error: dlq }}\nresources: {{ parallelism: 1 }}\n",
        packed_fixture("probe-host-calls").display()
    );
    let project = Project::with_pipeline(&yaml);
    // What the run before left is there in the next: the store is the pipeline's, not the instance's.
    for (run, first) in ["nothing", "two"].into_iter().enumerate() {
        let told = project.run().finish().success().at("/report/streams/0");
        assert_eq!(
            (&told["rows_read"], &told["dead_letters"], &told["rows_written"]),
            (&12.into(), &1.into(), &8.into()),
            "{told}"
        );
        let listed = documents(&dlq(&project, &["list"]).finish().success()).remove(0);
        assert_eq!(listed["letters"].as_array().map(Vec::len), Some(run + 1), "{listed}");
        let messages: Vec<&str> =
            listed["letters"].as_array().into_iter().flatten().filter_map(|one| one["error_message"].as_str()).collect();
        let expected = format!(
            "at first {first}, put one, swapped true, swapped again false, at last two, made true, the pipeline's all, deleted true, \
             then nothing"
        );
        assert!(messages.contains(&expected.as_str()), "{messages:?}");
    }
}

/// Kills a run at a point, runs again, and looks whether rows and letters are there once.
#[test]
fn letters_come_once_whatever_is_killed() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("killed_source"), server.database("killed_destination"));
    fill(&source, 300, &[7, 200]);
    let incremental = ", sync_mode: incremental, cursor_field: id";
    let commit = [
        "dest.letters.before",
        "dest.letters.after",
        "dest.receipt.after",
        "dest.commit.sent",
        "engine.letters.before",
        "engine.letters.after",
        "engine.mirror.before",
    ];
    let publish = [
        "dest.letters.before",
        "dest.letters.after",
        "dest.publish.sent",
        "dest.publish.after",
        "engine.publish.after",
        "engine.letters.before",
        "engine.letters.after",
    ];
    for (stream, mode, points) in [(incremental, "append", commit), ("", "append", publish)] {
        for point in points {
            target(&destination);
            let settings = format!("  write_mode: {mode}\n  on_data_error: dlq\n");
            let project = Project::with_pipeline(&pipeline(&source, &destination, stream, &settings));
            project.run().killed_at(point);
            let again = project.run().finish();
            assert_eq!(again.code, Some(0), "{mode}{stream} {point}: {}", again.told());
            assert_eq!(destination.sql("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders"), "298 298", "{point}");
            let kept = "SELECT string_agg(record_json #>> '{id,value}', ' ' ORDER BY ordinal) FROM _rapidbyte_dlq";
            assert_eq!(destination.sql(kept), "7 200", "{mode}{stream} {point}");
            let listed = documents(&dlq(&project, &["list"]).finish().success()).remove(0);
            // Between the commit of a partition and the copy of its letters the state store's copy is lost, as the protocol says.
            let copied = if stream.is_empty() || !["dest.commit.sent", "engine.letters.before"].contains(&point) { 2 } else { 0 };
            assert_eq!(listed["open"], copied, "{mode}{stream} {point}: {listed}");
        }
    }
}

#[test]
fn a_replay_writes_edited_letters_once_whatever_is_killed() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("replay_source"), server.database("replay_destination"));
    fill(&source, 50, &[7, 20]);
    let incremental = ", sync_mode: incremental, cursor_field: id";
    let own = [
        "engine.replay.noted",
        "engine.replay.numbered",
        "engine.replay.prepared",
        "dest.receipt.after",
        "dest.commit.sent",
        "engine.mirror.before",
        "engine.replay.written",
        "dest.publish.sent",
        "dest.publish.after",
        "engine.replay.published",
        "engine.replay.finished",
    ];
    let within = [
        "engine.replay.noted",
        "engine.replay.prepared",
        "dest.merge.after",
        "dest.commit.sent",
        "engine.mirror.after",
        "engine.replay.written",
        "engine.replay.finished",
    ];
    for (stream, mode, points) in
        [("", "append", &own[..]), (incremental, "append", &within[..]), (incremental, "upsert", &within[1..3])]
    {
        for point in points {
            let case = format!("{mode}{stream} {point}");
            target(&destination);
            // Without a key of its own the table would hide that a row has come twice.
            destination.sql("ALTER TABLE orders DROP CONSTRAINT orders_pkey; CREATE INDEX ON orders (id)");
            if mode == "upsert" {
                destination.sql("CREATE UNIQUE INDEX ON orders (id)");
            }
            let settings = format!("  write_mode: {mode}\n  on_data_error: dlq\n");
            let project = Project::with_pipeline(&pipeline(&source, &destination, stream, &settings));
            project.run().finish().success();
            dlq(&project, &["export", "--out", "letters.jsonl"]).finish().success();
            let exported = fs::read_to_string(project.path("letters.jsonl")).expect("a file");
            assert_eq!(exported.lines().count(), 2, "{case}: {exported}");
            // One is mended, the other fails again.
            let mended: Vec<String> = exported
                .lines()
                .map(|line| if line.contains("\"value\":\"7\"") { line.replace("\"bad\"", "\"mended\"") } else { line.to_owned() })
                .collect();
            project.write("letters.jsonl", mended.join("\n"));
            let replay = || dlq(&project, &["replay", "--edited", "letters.jsonl"]);
            replay().killed_at(point);
            for _ in 0..2 {
                let again = replay().finish();
                assert_eq!(again.code, Some(0), "{case}: {}", again.told());
            }
            assert_eq!(
                destination.sql("SELECT count(*) || ' ' || count(DISTINCT id) || ' ' || string_agg(id::text, ' ') FILTER (WHERE note = 'mended') FROM orders"),
                "49 49 7",
                "{case}"
            );
            let listed = documents(&dlq(&project, &["list", "--all"]).finish().success()).remove(0);
            assert_eq!(listed["replayed"], 2, "{case}: {listed}");
            let kept = "SELECT count(*) FILTER (WHERE record_json #>> '{id,value}' = '20') || ' ' || count(*) FROM _rapidbyte_dlq";
            assert_eq!(destination.sql(kept), "2 3", "{case}");
        }
    }
}

#[test]
fn the_next_run_finishes_an_interrupted_replay() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("taken_source"), server.database("taken_destination"));
    fill(&source, 50, &[7]);
    target(&destination);
    let stream = ", sync_mode: incremental, cursor_field: id";
    let project = Project::with_pipeline(&pipeline(&source, &destination, stream, "  on_data_error: dlq\n"));
    project.run().finish().success();
    destination.sql("ALTER TABLE orders DROP CONSTRAINT orders_note_check");
    let replay = || dlq(&project, &["replay"]);
    replay().killed_at("engine.replay.prepared");
    source.sql("INSERT INTO orders VALUES (51, 'new')");
    assert_eq!(project.run().finish().success().at("/report/streams/0/rows_written"), 1);
    assert_eq!(destination.sql("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders"), "51 51");
    let nothing = replay().finish().success();
    assert_eq!(nothing.at("/report/streams").as_array().map(Vec::len), Some(0), "{}", nothing.told());
    assert_eq!(source.hash("orders"), destination.hash("orders"));
}
