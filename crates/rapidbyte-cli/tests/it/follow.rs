//! `run --follow`: changes arrive while it runs, and nothing is lost, repeated or held back, whatever dies.

use crate::cdc::{MIXED, Stop, assert_nothing_let_go, check, drop_slot, pipeline, run, slot_of};
use rapidbyte_testkit::{
    Database, Postgres, PostgresOptions, Project, Proof, Running, Seeded, Stop as How, crash_binary, is_full, within, within_polled,
};
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at whole tables.
const POLL: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(2);

pub(crate) fn follow(project: &Project) -> Running {
    let mut run = project.run().args(&["--follow"]).timeout(PATIENCE).start();
    run.until_stderr("\"following\"", PATIENCE);
    run
}

#[track_caller]
pub(crate) fn until_equal(source: &Database<'_>, destination: &Database<'_>, table: &str) {
    within_polled(PATIENCE, POLL, &format!("`{table}` to be equal"), || {
        (source.hash(table) == destination.hash(table)).then_some(())
    });
}

/// Ends it as it is meant to be ended.
#[track_caller]
pub(crate) fn stop(mut run: Running, signal: &str) -> rapidbyte_testkit::Finished {
    run.signal(signal);
    let ended = run.finish().success();
    assert!(ended.duration < SOON, "SIG{signal} took {:?}", ended.duration);
    ended
}

/// The session at the server that reads the slot.
fn reader_of(source: &Database<'_>, name: &str) -> String {
    source.sql(&format!("SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'", slot_of(name)))
}

#[test]
fn changes_arrive_while_they_are_followed() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("tail_source"), server.database("tail_destination"));
    source.sql(
        "CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items SELECT i, 'v' FROM generate_series(1, 100) i;
         CREATE TABLE notes (id int PRIMARY KEY, v text)",
    );
    let project = Project::with_pipeline(&pipeline("cdc_tail", &source, &destination, &["items", "notes"], "upsert", ""));
    let mut followed = follow(&project);
    assert_eq!(destination.hash("items").rows, 100, "the load is visible before the changes are followed");
    source.sql("INSERT INTO items SELECT i, 'w' FROM generate_series(101, 5000) i; INSERT INTO notes VALUES (1, 'n')");
    until_equal(&source, &destination, "items");
    until_equal(&source, &destination, "notes");
    source.sql("BEGIN; UPDATE items SET v = 'x' WHERE id < 50; DELETE FROM items WHERE id > 4000; UPDATE notes SET id = 2; COMMIT");
    until_equal(&source, &destination, "items");
    until_equal(&source, &destination, "notes");
    assert_nothing_let_go(&source, &destination, "cdc_tail", "");
    project.run().finish().exit(10);
    // Progress is told now and then, with the lag that the commits before it had.
    for id in 10..13 {
        source.sql(&format!("INSERT INTO notes VALUES ({id}, 'later')"));
        until_equal(&source, &destination, "notes");
        thread::sleep(Duration::from_millis(1_200));
    }
    followed.until_stderr("\"lag_ms\"", PATIENCE);
    let ended = stop(followed, "TERM");
    let written = |at: usize| ended.at(&format!("/report/streams/{at}/rows_written"));
    assert_eq!((written(0), written(1)), (6049.into(), 5.into()), "{}", ended.told());
    assert_eq!(run(&project), 0);
    source.sql("INSERT INTO notes VALUES (3, 'between')");
    let followed = follow(&project);
    until_equal(&source, &destination, "notes");
    stop(followed, "INT");
    assert_eq!(run(&project), 0);
    assert_nothing_let_go(&source, &destination, "cdc_tail", "");
    drop_slot(&source, "cdc_tail");
}

#[test]
fn only_changes_are_followed() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("plain_source"), server.database("plain_destination"));
    source.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)");
    let yaml = pipeline("cdc_plain", &source, &destination, &["a", "b"], "upsert", "");
    let project = Project::with_pipeline(&yaml.replace("name: b, sync_mode: cdc", "name: b, sync_mode: full_refresh"));
    let refused = project.run().args(&["--follow"]).finish().exit(3);
    assert_eq!(refused.at("/error/code"), "unsupported_mode", "{}", refused.told());
    assert!(refused.told().contains("stream `b`"), "{}", refused.told());
    assert!(!destination.has("_rapidbyte.streams"), "nothing was touched");
}

/// Points that a follower comes by again and again while somebody writes.
const POINTS: [&str; 13] = [
    "source.batch.emitted",
    "dest.staging.before",
    "dest.staging.after",
    "dest.merge.before",
    "dest.merge.after",
    "dest.receipt.before",
    "dest.receipt.after",
    "dest.commit.sent",
    "dest.commit.confirmed",
    "engine.mirror.before",
    "engine.mirror.after",
    "source.slot.before_advance",
    "source.slot.advanced",
];

fn survives_kills(mode: &'static str, name: &'static str) {
    let server = Postgres::shared();
    let (source, destination) = (server.database("tail_kill_source"), server.database("tail_kill_destination"));
    source.sql(MIXED);
    // Changes that leave values out are merged one by one: windows are kept small, so that each point comes soon.
    let rest = "resources: { checkpoint_interval_rows: 300 }\n";
    let project = Project::with_pipeline(&pipeline(name, &source, &destination, &["live", "side"], mode, rest));
    run(&project);
    let seed = Seeded::seed_of_environment();
    let mut random = Seeded::new(seed);
    let mut points: Vec<&str> =
        POINTS.iter().copied().filter(|point| mode == "upsert" || !point.starts_with("dest.merge")).collect();
    let mut kills = 0;
    thread::scope(|scope| {
        for writer in 1..=2 {
            let source = &source;
            scope.spawn(move || source.sql(&format!("CALL write_mixed({writer})")));
        }
        let _stop = Stop(&source);
        for _ in 0..if is_full() { 15 } else { 1 } {
            random.shuffle(&mut points);
            for point in &points {
                // A task comes by these once.
                let once = point.starts_with("dest.staging");
                let hit = if once { 1 } else { random.below(if is_full() { 4 } else { 2 }) + 1 };
                let killed = project
                    .run()
                    .args(&["--follow"])
                    .program(crash_binary())
                    .env("RAPIDBYTE_CRASH_AT", format!("{point}:{hit}"))
                    .timeout(PATIENCE)
                    .finish();
                assert_eq!(killed.signal, Some(9), "at {point}:{hit} (seed {seed}): {}", killed.told());
                kills += 1;
                assert_nothing_let_go(&source, &destination, name, "");
            }
        }
    });
    let followed = follow(&project);
    if mode == "upsert" {
        until_equal(&source, &destination, "live");
        until_equal(&source, &destination, "side");
    }
    stop(followed, "TERM");
    let left = run(&project);
    assert!(left == 0 || mode != "upsert", "{left} rows were left");
    let detail = check(&source, &destination, mode);
    drop_slot(&source, name);
    Proof {
        name: if mode == "upsert" {
            "kills of a follower beside a mixed writer, changes merged"
        } else {
            "kills of a follower beside a mixed writer, changes as a log"
        },
        cases: kills,
        failures: 0,
        seed: seed.to_string(),
        detail,
    }
    .record();
}

#[test]
fn prove_followers_that_merge_survive_kills() {
    survives_kills("upsert", "tail_kill");
}

#[test]
fn prove_followers_that_append_survive_kills() {
    survives_kills("append", "tail_kill_log");
}

#[test]
fn a_source_that_is_restarted_is_followed_on() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, destination) = (server.database("restarted"), Postgres::shared().database("restarted_destination"));
    source.sql("CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items VALUES (0, 'v')");
    let yaml = pipeline("cdc_restart", &source, &destination, &["items"], "upsert", "resources: { max_retries: 8 }\n");
    let project = Project::with_pipeline(&yaml);
    let followed = follow(&project);
    for (round, how) in [How::Fast, How::Crash, How::Fast].into_iter().enumerate() {
        source.sql(&format!("INSERT INTO items SELECT {round} * 1000 + i, 'w' FROM generate_series(1, 500) i"));
        server.restart(how);
        source.sql(&format!("DELETE FROM items WHERE id BETWEEN {round} * 1000 + 1 AND {round} * 1000 + 100"));
        until_equal(&source, &destination, "items");
    }
    let ended = stop(followed, "TERM");
    assert!(ended.stderr.contains("\"retrying\""), "{}", ended.told());
    assert_eq!(run(&project), 0);
}

#[test]
fn a_destination_that_is_restarted_is_followed_on() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, destination) = (Postgres::shared().database("kept"), server.database("kept_destination"));
    source.sql("CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items VALUES (0, 'v')");
    let yaml = pipeline("cdc_kept", &source, &destination, &["items"], "upsert", "resources: { max_retries: 8 }\n");
    let project = Project::with_pipeline(&yaml);
    let followed = follow(&project);
    source.sql("INSERT INTO items SELECT i, 'w' FROM generate_series(1, 500) i");
    server.restart(How::Crash);
    source.sql("UPDATE items SET v = 'x' WHERE id < 100");
    until_equal(&source, &destination, "items");
    stop(followed, "TERM");
    assert_eq!(run(&project), 0);
    drop_slot(&source, "cdc_kept");
}

#[test]
fn quiet_tables_hold_no_log_back() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, neighbour) = (server.database("quiet"), server.database("busy"));
    let destination = Postgres::shared().database("quiet_destination");
    source.sql("CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items VALUES (0, 'v')");
    for busy in [&source, &neighbour] {
        busy.sql("CREATE TABLE noise (v text); ALTER TABLE noise ALTER v SET STORAGE EXTERNAL");
    }
    let project = Project::with_pipeline(&pipeline("cdc_quiet", &source, &destination, &["items"], "upsert", ""));
    let followed = follow(&project);
    let began = source.sql("SELECT pg_current_wal_lsn()");
    for busy in [&neighbour, &source, &neighbour] {
        busy.sql("INSERT INTO noise SELECT repeat('x', 8000) FROM generate_series(1, 12000)");
    }
    let written = source.sql(&format!("SELECT pg_current_wal_lsn() - '{began}' > 256 * 1024 * 1024"));
    assert_eq!(written, "t", "the neighbours write more than what may be kept");
    // A checkpoint tells the decoder which transactions run; otherwise the server does that every 15 seconds.
    let kept = "CHECKPOINT; SELECT pg_current_wal_lsn() - restart_lsn < 64 * 1024 * 1024 FROM pg_replication_slots WHERE slot_name = 'rapidbyte_cdc_quiet'";
    within_polled(PATIENCE, POLL * 5, "the log to be let go", || (source.sql(kept) == "t").then_some(()));
    assert_nothing_let_go(&source, &destination, "cdc_quiet", "");
    source.sql("INSERT INTO items VALUES (1, 'still there')");
    until_equal(&source, &destination, "items");
    stop(followed, "TERM");
}

#[test]
fn a_slow_destination_does_not_end_the_session_at_the_source() {
    let server =
        Postgres::start(PostgresOptions { settings: vec!["wal_sender_timeout = '1s'".into()], ..PostgresOptions::default() });
    let (source, destination) = (server.database("patient"), Postgres::shared().database("slow_destination"));
    source.sql("CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items VALUES (0, 'v')");
    let rest = "resources: { max_inflight_batches: 1, checkpoint_interval_rows: 1 }\n";
    let project = Project::with_pipeline(&pipeline("cdc_patient", &source, &destination, &["items"], "upsert", rest));
    let followed = follow(&project);
    source.sql("INSERT INTO items VALUES (1, 'v')");
    until_equal(&source, &destination, "items");
    let reader = reader_of(&source, "cdc_patient");
    assert!(!reader.is_empty());
    thread::scope(|scope| {
        let held = scope.spawn(|| destination.sql("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(6); COMMIT"));
        within(PATIENCE, "the lock", || {
            let locks =
                "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'items'::regclass AND mode = 'AccessExclusiveLock' AND granted";
            (destination.sql(locks) == "t").then_some(())
        });
        for round in 0..12 {
            source.sql(&format!("INSERT INTO items SELECT {round} * 10000 + i, repeat('w', 50) FROM generate_series(2, 10001) i"));
        }
        held.join().expect("the lock was held");
    });
    until_equal(&source, &destination, "items");
    assert_eq!(reader_of(&source, "cdc_patient"), reader, "the session has lived on");
    let ended = stop(followed, "TERM");
    assert!(!ended.stderr.contains("\"retrying\""), "{}", ended.told());
}

#[test]
fn an_outage_that_is_over_counts_for_nothing() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, destination) = (server.database("counted"), Postgres::shared().database("counted_destination"));
    source.sql("CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (0)");
    // One failure in a row may be tried again.
    let yaml = pipeline("cdc_counted", &source, &destination, &["items"], "upsert", "resources: { max_retries: 1 }\n");
    let project = Project::with_pipeline(&yaml);
    let mut followed = follow(&project);
    for id in 1..=3 {
        let reader =
            within(PATIENCE, "a session at the source", || Some(reader_of(&source, "cdc_counted")).filter(|pid| !pid.is_empty()));
        source.sql(&format!("SELECT pg_terminate_backend({reader})"));
        source.sql(&format!("INSERT INTO items VALUES ({id})"));
        until_equal(&source, &destination, "items");
        assert!(!followed.ended());
    }
    stop(followed, "TERM");
    // Without any there is no other attempt.
    project.write("pipeline.yaml", yaml.replace("max_retries: 1", "max_retries: 0"));
    let followed = follow(&project);
    let reader =
        within(PATIENCE, "a session at the source", || Some(reader_of(&source, "cdc_counted")).filter(|pid| !pid.is_empty()));
    source.sql(&format!("SELECT pg_terminate_backend({reader})"));
    followed.finish().exit(6);
}

#[test]
fn an_outage_longer_than_the_retries_is_outlasted() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, destination) = (server.database("shut"), Postgres::shared().database("shut_destination"));
    source.sql(
        "CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (0); CREATE PUBLICATION rapidbyte_cdc_shut FOR TABLE items;
         CREATE ROLE reader LOGIN REPLICATION PASSWORD 'reads'; GRANT SELECT ON items TO reader",
    );
    let yaml = pipeline("cdc_shut", &source, &destination, &["items"], "upsert", "resources: { max_retries: 1 }\n");
    let login = format!("user: reader, password: reads, database: {}", source.name());
    let project = Project::with_pipeline(&yaml.replace(&source.login(), &login));
    let mut followed = follow(&project);
    // The door is shut first. A session that had just come in is not among those of the server at once.
    source.sql("ALTER ROLE reader CONNECTION LIMIT 0");
    within_polled(PATIENCE, POLL, "a session that has ended", || {
        source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'");
        followed.stderr_so_far().contains("\"retrying\"").then_some(())
    });
    followed.until_stderr("\"attempt\":4", PATIENCE);
    source.sql("INSERT INTO items VALUES (1); ALTER ROLE reader CONNECTION LIMIT -1");
    until_equal(&source, &destination, "items");
    stop(followed, "TERM");
}

#[test]
fn an_emptied_table_is_told_once() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("emptied_source"), server.database("emptied_destination"));
    source.sql("CREATE TABLE items (id int PRIMARY KEY)");
    let project = Project::with_pipeline(&pipeline("cdc_emptied", &source, &destination, &["items"], "append", ""));
    let told = |op: &str, expected: &str| {
        let count = format!("SELECT count(*) FROM items WHERE _rb_op = '{op}'");
        within_polled(PATIENCE, POLL, &format!("{expected} of `{op}`"), || (destination.sql(&count) == expected).then_some(()));
    };
    let followed = follow(&project);
    for round in 1..=4 {
        // The second row comes too soon after the first for a commit of its own, and the table is emptied before its turn.
        source.sql(&format!("INSERT INTO items VALUES ({round})"));
        told("insert", &(2 * round - 1).to_string());
        source.sql(&format!("INSERT INTO items VALUES (-{round})"));
        thread::sleep(Duration::from_millis(300));
        source.sql("TRUNCATE items");
        told("truncate", &round.to_string());
    }
    stop(followed, "TERM");
    assert_eq!(run(&project), 0);
    assert_eq!(destination.sql("SELECT count(*), count(DISTINCT (_rb_lsn, _rb_seq, _rb_op)) FROM items"), "12|12");
    drop_slot(&source, "cdc_emptied");
}

#[test]
fn a_lost_slot_is_loaded_anew_where_the_pipeline_says_so() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("anew_source"), server.database("anew_destination"));
    source.sql(
        "CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items SELECT i, 'v' FROM generate_series(1, 20) i;
         CREATE TABLE notes (id int PRIMARY KEY); INSERT INTO notes VALUES (1)",
    );
    let yaml = pipeline("cdc_anew", &source, &destination, &["items", "notes"], "upsert", "");
    let yaml = yaml.replace("  streams:\n", "  on_lost_slot: resnapshot\n  streams:\n");
    let project = Project::with_pipeline(&yaml);
    let missed = |change: &str| {
        source.sql(change);
        run(&project);
        assert_eq!(
            (source.hash("items"), source.hash("notes")),
            (destination.hash("items"), destination.hash("notes")),
            "{change}"
        );
        assert_eq!(run(&project), 0, "{change}");
    };
    missed("INSERT INTO notes VALUES (2)");
    // Dropped; moved by somebody; made anew: what was deleted meanwhile goes, too.
    let gone = "SELECT pg_drop_replication_slot('rapidbyte_cdc_anew')";
    missed(&format!("{gone}; DELETE FROM items WHERE id < 5; INSERT INTO items VALUES (40, 'w'); DELETE FROM notes WHERE id = 2"));
    missed(
        "DELETE FROM items WHERE id = 40; INSERT INTO notes VALUES (3);
         SELECT pg_replication_slot_advance('rapidbyte_cdc_anew', pg_current_wal_lsn())",
    );
    missed(&format!(
        "{gone}; UPDATE items SET v = 'x'; DELETE FROM notes WHERE id = 3;
         SELECT pg_create_logical_replication_slot('rapidbyte_cdc_anew', 'pgoutput')"
    ));
    // A table that was made anew is loaded alone.
    source.sql("DROP TABLE notes; CREATE TABLE notes (id int PRIMARY KEY); INSERT INTO notes VALUES (7)");
    assert_eq!(run(&project), 1);
    assert_eq!(source.hash("notes"), destination.hash("notes"));
    // The follower does the same on its way.
    let mut followed = follow(&project);
    source.sql("INSERT INTO items VALUES (50, 'y')");
    until_equal(&source, &destination, "items");
    source.sql("DELETE FROM items WHERE id = 50");
    drop_slot_under(&source);
    source.sql("DELETE FROM items WHERE id = 10");
    until_equal(&source, &destination, "items");
    // A load that is stopped half way does not end well: the other table's comes first.
    within(PATIENCE, "the new loads to be followed", || {
        assert!(!followed.ended(), "{}", followed.stderr_so_far());
        let so_far = followed.stderr_so_far();
        let (_, since) = so_far.rsplit_once(r#""published","stream":"notes""#)?;
        since.contains(r#""following""#).then_some(())
    });
    stop(followed, "TERM");
    assert_eq!(run(&project), 0);
    drop_slot(&source, "cdc_anew");
}

/// Drops the slot from under its reader.
fn drop_slot_under(source: &Database<'_>) {
    source.sql(
        "DO $$ DECLARE reader int; BEGIN
             SELECT active_pid INTO reader FROM pg_replication_slots WHERE slot_name = 'rapidbyte_cdc_anew';
             PERFORM pg_terminate_backend(reader, 5000);
             PERFORM pg_drop_replication_slot('rapidbyte_cdc_anew');
         END $$",
    );
}
