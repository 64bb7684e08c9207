//! What a server does: it restarts, crashes, is full, is out of time or of connections. The end states stand in
//! `docs/reference/faults.md`.

use rapidbyte_testkit::{Database, Fault, Postgres, PostgresOptions, Project, Stop, is_root, within};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ROWS: u32 = 1_200;

fn fill(source: &Database<'_>, rows: u32) {
    source.sql(&format!(
        "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL, v text);
         INSERT INTO items SELECT i, i / 7, repeat('v', 300) || i FROM generate_series(1, {rows}) i"
    ));
}

fn pipeline(source: &Database<'_>, destination: &str, stream: &str, rest: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: served\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: items{stream} }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {destination} }}\n  write_mode: append\n\
         resources: {{ checkpoint_interval_rows: 1, max_batch_bytes: 256kb{rest} }}\n",
        source.config()
    )
}

#[test]
fn a_server_that_restarts_in_the_middle_costs_an_attempt_and_no_row() {
    let (home, away) = (Postgres::start(PostgresOptions::default()), Postgres::start(PostgresOptions::default()));
    let source = home.database("restart_source");
    fill(&source, ROWS);
    let mut case = 0;
    for incremental in [false, true] {
        let stream = if incremental { ", sync_mode: incremental, cursor_field: n" } else { "" };
        for (server, point) in [(&home, "source.batch.emitted"), (&away, "dest.staging.after"), (&away, "dest.receipt.after")] {
            for stop in [Stop::Fast, Stop::Crash] {
                case += 1;
                let destination = away.database(&format!("restart_{case}"));
                let project = Project::with_pipeline(&pipeline(&source, &destination.config(), stream, ", max_retries: 6"));
                let waiting = Fault::new(point, 1, "second").arm(project.run(), &project).timeout(Duration::from_secs(120)).start();
                within(Duration::from_secs(60), "the point", || Fault::reached(&project).exists().then_some(()));
                server.restart(stop);
                Fault::go(&project);
                waiting.finish().success();
                assert_eq!(destination.hash("items"), source.hash("items"), "{stop:?} at {point}, incremental: {incremental}");
            }
        }
    }
}

/// A file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(dir: &Path, size: &str) -> Self {
        std::fs::create_dir_all(dir).expect("a directory can be made");
        mount(&["-t", "tmpfs", "-o", &format!("size={size},mode=0755"), "tmpfs", &dir.to_string_lossy()]);
        Self(dir.to_path_buf())
    }

    fn resize(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}"), &self.0.to_string_lossy()]);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since the server may still have files of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str]) {
    let done = Command::new("mount").args(arguments).status().expect("`mount` can be started");
    assert!(done.success(), "mount {arguments:?}");
}

#[test]
fn a_full_disk_at_the_destination_ends_the_run_and_a_larger_one_lets_it_go_on() {
    if !is_root() {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    }
    let server = Postgres::start(PostgresOptions::default());
    let source = server.database("full_source");
    fill(&source, 60_000);
    let dir = tempfile::Builder::new().prefix("rb-full-").tempdir().expect("a temporary directory");
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opened to the server");
    let disk = SmallDisk::new(&dir.path().join("disk"), "16m");
    for (case, stream) in ["", ", sync_mode: incremental, cursor_field: n"].into_iter().enumerate() {
        disk.resize("16m");
        let space = disk.0.join(format!("space{case}"));
        std::fs::create_dir(&space).expect("a directory can be made");
        let destination = server.database_below("full", &space);
        let project = Project::with_pipeline(&pipeline(&source, &destination.config(), stream, ", max_retries: 1"));
        let run = project.run().finish().exit(6);
        assert_eq!(run.at("/error/code"), "disk_full", "{}", run.told());
        assert!(run.at("/error/hint").as_str().is_some_and(|hint| hint.contains("free space")), "{}", run.told());
        disk.resize("200m");
        project.run().finish().success();
        assert_eq!(destination.hash("items"), source.hash("items"), "{stream}");
        destination.remove();
    }
}

#[test]
fn a_statement_that_runs_out_of_time_is_named_and_nothing_is_half_there() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("slow_source"), server.database("slow_destination"));
    fill(&source, 10);
    source.sql("CREATE VIEW slow AS SELECT id, n, v, pg_sleep(10)::text AS nap FROM items");
    // The source's own statement.
    let yaml = pipeline(&source, &destination.config(), "", ", max_retries: 1");
    let at_source = yaml.replacen(&source.config(), &format!("{}, statement_timeout_seconds: 1", source.config()), 1);
    let project = Project::with_pipeline(&at_source.replace("name: items", "name: slow"));
    let run = project.run().finish().exit(6);
    assert_eq!(run.at("/error/code"), "statement_timeout", "{}", run.told());
    assert_eq!(run.at("/error/attempts"), 2, "{}", run.told());
    assert!(run.at("/error/hint").as_str().is_some_and(|hint| hint.contains("statement_timeout_seconds")), "{}", run.told());
    // The destination's: publishing into a table with a trigger that takes its time.
    destination.sql(
        "CREATE TABLE items (id int, n int, v text); INSERT INTO items VALUES (0, 0, 'old');
         CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(10); RETURN NULL; END';
         CREATE TRIGGER nap AFTER INSERT ON items FOR EACH STATEMENT EXECUTE FUNCTION nap()",
    );
    let at_destination = yaml.replace(&destination.config(), &format!("{}, statement_timeout_seconds: 1", destination.config()));
    let project = Project::with_pipeline(&at_destination.replace("pipeline: served", "pipeline: napping"));
    let run = project.run().finish().exit(6);
    assert_eq!(run.at("/error/code"), "statement_timeout", "{}", run.told());
    assert_eq!(destination.sql("SELECT string_agg(v, ',') FROM items"), "old");
    destination.sql("DROP TRIGGER nap ON items; DELETE FROM items");
    project.run().finish().success();
    assert_eq!(destination.hash("items"), source.hash("items"));
}

/// A table that is written for the first time by a transaction which the server gives up.
const ONCE: &str = "CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL, v text); CREATE SEQUENCE tries;
     CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
         IF nextval('tries') = 1 THEN RAISE EXCEPTION 'not this time' USING ERRCODE = '40001'; END IF; RETURN NULL; END $$;
     CREATE TRIGGER give_up AFTER INSERT ON items FOR EACH STATEMENT EXECUTE FUNCTION give_up()";

/// Holds row 2, then wants row 1 as soon as somebody who has that waits for row 2. The other one is who looks for deadlocks.
const CROSSING: &str = "SET deadlock_timeout = '60s'; BEGIN; UPDATE items SET v = 'mine' WHERE id = 2;
     DO $$ DECLARE until timestamptz := clock_timestamp() + interval '60 s'; BEGIN
         LOOP EXIT WHEN clock_timestamp() > until
             OR EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))); PERFORM pg_sleep(0.01); END LOOP; END $$;
     UPDATE items SET v = 'mine' WHERE id = 1; ROLLBACK";

#[test]
fn serialization_failures_and_deadlocks_are_tried_again() {
    let server = Postgres::shared();
    let source = server.database("given_up_source");
    fill(&source, 10);
    let destination = server.database("given_up");
    destination.sql(ONCE);
    let project = Project::with_pipeline(&pipeline(&source, &destination.config(), "", ""));
    let run = project.run().finish().success();
    assert_eq!(run.at("/report/streams/0/attempts"), 2, "{}", run.told());
    assert_eq!(destination.hash("items"), source.hash("items"));

    let destination = server.database("crossed");
    destination
        .sql("CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL, v text); INSERT INTO items VALUES (1, 1, ''), (2, 2, '')");
    let yaml = pipeline(&source, &destination.config(), "", "").replace("write_mode: append", "write_mode: upsert");
    let project = Project::with_pipeline(&yaml);
    let run = std::thread::scope(|scope| {
        let crossing = scope.spawn(|| destination.sql(CROSSING));
        within(Duration::from_secs(20), "the row to be held", || {
            let held = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND datname = current_database()";
            (destination.sql(held) == "1").then_some(())
        });
        let run = project.run().finish();
        crossing.join().expect("the other one goes on");
        run
    });
    let run = run.success();
    assert_eq!(run.at("/report/streams/0/attempts"), 2, "{}", run.told());
    assert_eq!(destination.hash("items"), source.hash("items"));
    assert!(server.log().contains("deadlock detected"));
}

#[test]
fn a_server_without_room_for_another_session_is_tried_again_until_there_is() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("cap_source"), server.database("cap_destination"));
    fill(&source, 10);
    destination.sql("CREATE ROLE capped LOGIN PASSWORD 'capped' CONNECTION LIMIT 0");
    destination.sql(&format!("GRANT ALL ON DATABASE \"{}\" TO capped; GRANT ALL ON SCHEMA public TO capped", destination.name()));
    let config =
        format!("host: 127.0.0.1, port: {}, user: capped, password: capped, database: {}", server.port(), destination.name());
    let project = Project::with_pipeline(&pipeline(&source, &config, "", ", max_retries: 1"));
    let run = project.run().finish().exit(6);
    assert_eq!(run.at("/error/code"), "too_many_connections", "{}", run.told());
    assert_eq!(run.at("/error/attempts"), 2);
    project.write("pipeline.yaml", pipeline(&source, &config, "", ", max_retries: 8"));
    let mut waiting = project.run().args(&["--log-level", "debug"]).start();
    waiting.until_stderr("will be tried again", Duration::from_secs(30));
    destination.sql("ALTER ROLE capped CONNECTION LIMIT 5");
    waiting.finish().success();
    assert_eq!(destination.hash("items"), source.hash("items"));
}
