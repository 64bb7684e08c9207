//! Incremental streams: what is new arrives, once, whatever commits late and whatever dies.

use rapidbyte_testkit::{AtLast, Database, Finished, Postgres, Project, Proof, is_full};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A pipeline with one incremental stream of `public`.
pub(crate) fn pipeline(source: &Database<'_>, destination: &Database<'_>, stream: &str, rest: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: news\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n\
         \x20   - {{ namespace: public, sync_mode: incremental, {stream} }}\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n{rest}",
        source.config(),
        destination.config()
    )
}

#[track_caller]
fn moved(run: Finished) -> u64 {
    run.success().at("/report/streams/0/rows_written").as_u64().expect("a count")
}

#[track_caller]
fn assert_refused(project: &Project, code: &str, hint: &str) {
    let run = project.run().finish();
    let error = run.at("/error");
    assert_eq!(error["code"], code, "{}", run.told());
    assert!(error["hint"].as_str().is_some_and(|text| text.contains(hint)), "{}", run.told());
}

#[test]
fn what_is_new_is_appended_once() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("news_source"), server.database("news_destination"));
    source.sql(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL, note text);
         INSERT INTO events SELECT i, '2026-01-01 00:00:00.000001+00'::timestamptz + (i / 100) * interval '1 microsecond', 'n' || i
         FROM generate_series(1, 5000) i;
         CREATE TABLE go (go int)",
    );
    let yaml = pipeline(&source, &destination, "name: events, cursor_field: at", "resources: { checkpoint_interval_rows: 1 }\n");
    let project = Project::with_pipeline(&yaml);
    // In flight during the first run, with the smallest cursor of all, and a savepoint.
    let late = "BEGIN; INSERT INTO events VALUES (9001, '2020-01-01'); SAVEPOINT s; INSERT INTO events VALUES (9002, '2020-01-02');
         DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM go); PERFORM pg_sleep(0.02); END LOOP; END $$; COMMIT";
    thread::scope(|scope| {
        let go = AtLast::new(|| drop(source.sql("INSERT INTO go VALUES (1)")));
        let writer = scope.spawn(|| source.sql(late));
        rapidbyte_testkit::within(Duration::from_secs(20), "the late writer to have written", || {
            (source.sql("SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()")
                == "1")
                .then_some(())
        });
        assert_eq!(moved(project.run().finish()), 5000);
        assert_eq!(moved(project.run().finish()), 0);
        drop(go);
        writer.join().expect("the late writer commits");
    });
    assert_eq!(moved(project.run().finish()), 2);
    source.sql("INSERT INTO events SELECT i, '2026-02-01', NULL FROM generate_series(6001, 6010) i");
    // The destination knows how far it has come.
    fs::remove_dir_all(project.path(".rapidbyte")).expect("the state is there");
    let run = project.run().finish();
    assert_eq!(run.at("/report/streams/0/location"), "public.events");
    assert_eq!(moved(run), 10);
    assert_eq!(source.hash("events"), destination.hash("events"));
    assert_eq!(moved(project.run().finish()), 0);
}

#[test]
fn rows_without_a_cursor_follow_their_policy() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("nulls_source"), server.database("nulls_destination"));
    source.sql(
        "CREATE TABLE holes (id int PRIMARY KEY, at timestamptz);
         INSERT INTO holes SELECT i, CASE WHEN i % 4 > 0 THEN now() END FROM generate_series(1, 100) i",
    );
    let yaml = |policy: &str, table: &str| {
        let stream = format!("name: holes, cursor_field: at, {policy} destination: {{ table: {table} }}");
        pipeline(&source, &destination, &stream, &format!("state: {{ connection: {table}.db }}\n")).replace("news", table)
    };
    let project = Project::with_pipeline(&yaml("", "failing"));
    assert_refused(&project, "null_cursor", "null_cursor: include");
    for (policy, rows, skipped) in [("skip", 75, 25), ("include", 100, 0)] {
        project.write("pipeline.yaml", yaml(&format!("null_cursor: {policy},"), policy));
        let run = project.run().finish().success();
        assert_eq!(run.at("/report/streams/0/rows_skipped"), skipped, "{policy}");
        assert_eq!(moved(run), rows, "{policy}");
        assert_eq!(moved(project.run().finish()), 0);
    }
}

#[test]
fn a_changed_source_or_mode_is_refused_and_nothing_is_lost() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("changed_source"), server.database("changed_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL); INSERT INTO t SELECT i, i, i FROM generate_series(1, 9) i");
    let yaml = |stream: &str| pipeline(&source, &destination, &format!("name: t, {stream}"), "");
    let project = Project::with_pipeline(&yaml("cursor_field: a"));
    assert_eq!(moved(project.run().finish()), 9);
    project.write("pipeline.yaml", yaml("cursor_field: b"));
    assert_refused(&project, "source_changed", "rapidbyte state reset pipeline.yaml --stream public.t");
    project.write("pipeline.yaml", yaml("cursor_field: a, destination: { write_mode: upsert }"));
    assert_refused(&project, "mode_changed", "rapidbyte state reset pipeline.yaml --stream public.t");
    project.write("pipeline.yaml", yaml("cursor_field: a").replace("sync_mode: incremental, name: t, cursor_field: a", "name: t"));
    assert_refused(&project, "mode_changed", "rapidbyte state reset pipeline.yaml --stream public.t");
    project.write("pipeline.yaml", yaml("cursor_field: a"));
    source.sql("INSERT INTO t VALUES (10, 10, 10)");
    assert_eq!(moved(project.run().finish()), 1);
    source.sql("ALTER TABLE t ALTER COLUMN a TYPE bigint");
    assert_refused(&project, "source_changed", "rapidbyte state reset pipeline.yaml --stream public.t");
    // The hint helps.
    destination.sql("TRUNCATE t");
    let run = project.run().finish();
    let hint = run.at("/error/hint").as_str().expect("a hint").to_owned();
    let command: Vec<&str> =
        hint.split('`').find_map(|part| part.strip_prefix("rapidbyte ")).expect("a command").split(' ').collect();
    let said = project.rapidbyte(&command).finish().success();
    assert!(said.stdout.contains("adds every row again"), "{}", said.told());
    destination.sql("DROP TABLE t");
    assert_eq!(moved(project.run().finish()), 10);
    assert_eq!(source.hash("t"), destination.hash("t"));
    assert_eq!(moved(project.run().finish()), 0);
}

#[test]
fn files_are_published_at_each_commit() {
    let source = Postgres::shared().database("filed_source");
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i");
    let yaml = format!(
        "version: \"1.0\"\npipeline: filed\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n\
         \x20   - {{ name: t, sync_mode: incremental, cursor_field: n }}\n\
         destination:\n  use: dest-file\n  config: {{ path: out, format: jsonl }}\n",
        source.config()
    );
    let project = Project::with_pipeline(&yaml);
    let lines = || {
        let files = fs::read_dir(project.path("out/t")).expect("the stream's folder").flatten();
        files.map(|file| fs::read_to_string(file.path()).expect("text").lines().count()).sum::<usize>()
    };
    let run = project.run().finish();
    assert!(run.at("/report/streams/0/location").as_str().is_some_and(|place| place.ends_with("/out/t/*.jsonl")), "{}", run.told());
    assert_eq!(moved(run), 100);
    assert_eq!(lines(), 100);
    source.sql("INSERT INTO t SELECT i, i - 200 FROM generate_series(101, 130) i");
    assert_eq!(moved(project.run().finish()), 30);
    assert_eq!(lines(), 130);
    assert_eq!(moved(project.run().finish()), 0);
    assert_eq!(lines(), 130);
    project.write("pipeline.yaml", format!("{yaml}  write_mode: upsert\n"));
    assert_refused(&project, "unsupported_mode", "append");
}

#[test]
fn what_keeps_no_place_is_refused() {
    let project = Project::with_pipeline(
        "version: \"1.0\"\npipeline: p\nsource:\n  use: source-datagen\n  streams: [ { name: orders, sync_mode: incremental, cursor_field: order_id } ]\n\
         destination:\n  use: dest-stdout\n",
    );
    // Where standard output is the destination's, the document goes elsewhere.
    project.run().finish().exit(3).says("does not support `sync_mode: incremental`");
    let source = Postgres::shared().database("placeless_source");
    source.sql("CREATE TABLE t (id int PRIMARY KEY)");
    project.write(
        "pipeline.yaml",
        format!(
            "version: \"1.0\"\npipeline: p\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: t, sync_mode: incremental, cursor_field: id }} ]\n\
             destination:\n  use: dest-stdout\n",
            source.config()
        ),
    );
    project.run().finish().exit(3).says("keeps no place");
}

const WRITERS: usize = 64;

/// Writers that take a number and a time, wait, write two rows of equal cursors, nest, wait again, and commit or roll back, until
/// they are told to stop. Some hold their transaction over several runs. Times have every precision, from microseconds to days.
const BUSY: &str = "
CREATE SEQUENCE clock;
CREATE TABLE busy (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n bigint NOT NULL, at timestamptz NOT NULL, w int);
CREATE TABLE stop (stop int);
CREATE PROCEDURE write_busily(w int) LANGUAGE plpgsql AS $$
DECLARE taken bigint; at timestamptz; patience float := CASE WHEN w % 16 = 0 THEN 4 ELSE 0.3 END;
BEGIN
    LOOP
        EXIT WHEN EXISTS (SELECT FROM stop);
        taken := nextval('clock');
        at := date_trunc((ARRAY['microseconds', 'milliseconds', 'second', 'minute', 'day'])[1 + taken % 5], clock_timestamp());
        PERFORM pg_sleep(random() * patience);
        INSERT INTO busy (n, at, w) VALUES (taken, at, w);
        BEGIN
            INSERT INTO busy (n, at, w) VALUES (taken, at, -w);
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
        PERFORM pg_sleep(random() * (patience + 0.2));
        IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
    END LOOP;
END $$;";

#[test]
fn prove_many_writers_lose_and_repeat_nothing() {
    let server = Postgres::shared();
    let source = server.database("busy_source");
    source.sql(BUSY);
    let runs = if is_full() { 1_000 } else { 5 };
    // By a sequence into `append`, by times into `upsert`.
    let sides = [("n", "append"), ("at", "upsert")].map(|(cursor, mode)| {
        let destination = server.database("busy_destination");
        let stream = format!("name: busy, cursor_field: {cursor}, destination: {{ write_mode: {mode} }}");
        let rest = "resources: { checkpoint_interval_rows: 1, max_retries: 0 }\n";
        (Project::with_pipeline(&pipeline(&source, &destination, &stream, rest)), destination, mode)
    });
    let mut written = [0; 2];
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = AtLast::new(|| {
            stopped.store(true, Ordering::Relaxed);
            source.sql("INSERT INTO stop VALUES (1)");
        });
        for writer in 1..=WRITERS {
            let (source, stopped) = (&source, &stopped);
            scope.spawn(move || {
                if !stopped.load(Ordering::Relaxed) {
                    source.sql(&format!("CALL write_busily({writer})"));
                }
            });
        }
        for _ in 0..runs {
            for ((project, _, _), written) in sides.iter().zip(&mut written) {
                *written += moved(project.run().finish());
            }
        }
    });
    let hash = source.hash("busy");
    assert!(hash.rows as usize > WRITERS, "{hash:?}");
    for ((project, destination, mode), written) in sides.iter().zip(written) {
        let written = written + moved(project.run().finish());
        assert_eq!(hash, destination.hash("busy"), "{mode}");
        // Each row came once, also where a second time would not be seen.
        assert_eq!(written, hash.rows, "{mode}");
    }
    Proof {
        name: "64 writers in any order, incremental append and upsert",
        cases: runs,
        failures: 0,
        seed: "-".into(),
        detail: format!("{} rows, content hash {}", hash.rows, hash.hash),
    }
    .record();
}

#[test]
fn rows_behind_the_last_barrier_are_never_committed() {
    let destination = Postgres::shared().database("unmarked");
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: unmarked\nsource:\n  use: {}\n  streams: [ {{ name: t, sync_mode: incremental, cursor_field: id }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\nresources: {{ checkpoint_interval_rows: 1 }}\n",
        rapidbyte_testkit::packed_fixture("probe-unmarked").display(),
        destination.config()
    ));
    let run = project.run().finish();
    assert_eq!(run.at("/error/code"), "missing_barrier", "{}", run.told());
    // How far the destination had come when the source ended is chance; the rows behind the barrier are not.
    assert!(!destination.has("t") || destination.sql("SELECT count(*) FROM t WHERE id > 1") == "0");
}
