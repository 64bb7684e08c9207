//! The guard of the server's disk: `max_slot_lag_bytes` warns, fails or gives the slot up, and loses nothing.

use crate::cdc::{pipeline, run, slot_of};
use rapidbyte_testkit::{Database, Finished, Postgres, PostgresOptions, Project, Running, within, within_polled};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
const MIB: u64 = 1 << 20;

/// A pipeline over `items` that may keep 64 MiB.
fn guarded(name: &str, source: &Database<'_>, destination: &Database<'_>, policy: &str) -> String {
    let config = source.config();
    let guarded = format!("{config}, max_slot_lag_bytes: {}, on_slot_lag: {policy}", 64 * MIB);
    // A reader that is held up by its first rows.
    let rest = "resources: { max_inflight_batches: 1, checkpoint_interval_rows: 1 }\n";
    pipeline(name, source, destination, &["items"], "upsert", rest).replacen(&config, &guarded, 1)
}

fn resnapshots(yaml: &str) -> String {
    yaml.replace("  streams:\n", "  on_lost_slot: resnapshot\n  streams:\n")
}

/// A table to follow, and one that nobody follows.
fn make(source: &Database<'_>) {
    source.sql(
        "CREATE TABLE items (id int PRIMARY KEY, v text); INSERT INTO items SELECT i, 'v' FROM generate_series(1, 50) i;
         CREATE TABLE noise (v text); ALTER TABLE noise ALTER v SET STORAGE EXTERNAL",
    );
}

/// Writes so much log, and a little more.
fn write_log(source: &Database<'_>, mebibytes: u64) {
    source.sql(&format!("INSERT INTO noise SELECT repeat('x', 8000) FROM generate_series(1, {})", mebibytes * 131));
}

fn kept(source: &Database<'_>, name: &str) -> Option<u64> {
    let sql = format!("SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE slot_name = '{}'", slot_of(name));
    source.sql(&sql).parse().ok()
}

/// Runs until the slot keeps next to nothing.
fn settle(project: &Project, source: &Database<'_>, name: &str) {
    within(PATIENCE, "the log to be let go", || {
        source.sql("CHECKPOINT");
        run(project);
        (kept(source, name)? < 8 * MIB).then_some(())
    });
}

#[track_caller]
fn assert_equal(source: &Database<'_>, destination: &Database<'_>) {
    assert_eq!(source.hash("items"), destination.hash("items"));
}

/// Fails for the log that was kept.
#[track_caller]
fn assert_given_up(ended: &Finished, source: &Database<'_>, name: &str) {
    assert_eq!(ended.at("/error/code"), "source_changed", "{}", ended.told());
    assert!(ended.told().contains("it was dropped, as `on_slot_lag: drop_slot` says"), "{}", ended.told());
    assert_eq!(kept(source, name), None);
}

#[test]
fn a_slot_that_lags_is_told_read_on_or_given_up_as_the_pipeline_says() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, destination) = (server.database("lag_source"), Postgres::shared().database("lag_destination"));
    make(&source);
    let yaml = |policy: &str| guarded("lag", &source, &destination, policy);
    let project = Project::with_pipeline(&yaml("fail"));
    assert_eq!(run(&project), 50);
    settle(&project, &source, "lag");
    let checked = project.rapidbyte(&["check", "pipeline.yaml"]).finish().success();
    assert!(checked.told().contains("is there, and keeps "), "{}", checked.told());
    // Half of it is told, once, also before the run.
    write_log(&source, 40);
    let checked = project.rapidbyte(&["check", "pipeline.yaml"]).finish().success();
    assert!(checked.told().contains("more than half of the 64 MiB that `max_slot_lag_bytes` allows"), "{}", checked.told());
    let warned = project.run().finish().success();
    assert_eq!(warned.stderr.matches("more than half of the 64 MiB").count(), 1, "{}", warned.told());
    // What has grown while nobody ran is read, whatever it is.
    settle(&project, &source, "lag");
    source.sql("INSERT INTO items VALUES (100, 'w'); DELETE FROM items WHERE id < 5");
    write_log(&source, 90);
    let caught_up = project.run().finish().success();
    assert_eq!(caught_up.stderr.matches("beyond the 64 MiB").count(), 1, "{}", caught_up.told());
    assert_equal(&source, &destination);
    // Given up, the slot is lost as if the server had taken it, and the way out is the same.
    settle(&project, &source, "lag");
    let before = destination.hash("items");
    source.sql("INSERT INTO items VALUES (101, 'w'); DELETE FROM items WHERE id < 10");
    write_log(&source, 90);
    project.write("pipeline.yaml", yaml("drop_slot"));
    let lost = project.run().finish().exit(7);
    assert_given_up(&lost, &source, "lag");
    assert_eq!(destination.hash("items"), before);
    let hint = lost.at("/error/hint").as_str().expect("a hint").to_owned();
    let command = hint.split('`').find_map(|part| part.strip_prefix("rapidbyte ")).unwrap_or_else(|| panic!("no command: {hint}"));
    project.rapidbyte(&command.split(' ').collect::<Vec<_>>()).finish().success();
    run(&project);
    assert_equal(&source, &destination);
    // Or in the same run.
    settle(&project, &source, "lag");
    source.sql("UPDATE items SET v = 'x' WHERE id = 101; DELETE FROM items WHERE id < 20");
    write_log(&source, 90);
    project.write("pipeline.yaml", resnapshots(&yaml("drop_slot")));
    let anew = project.run().finish().success();
    assert!(anew.stderr.contains("it was dropped"), "{}", anew.told());
    assert_equal(&source, &destination);
    assert_eq!(run(&project), 0);
}

/// Holds up whatever is written into `items`, for as long as there is a row in `held`.
const HOLD: &str = "
CREATE TABLE held (held int);
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM public.held) LOOP PERFORM pg_catalog.pg_sleep(0.05); END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER hold BEFORE INSERT OR UPDATE OR DELETE ON items FOR EACH STATEMENT EXECUTE FUNCTION hold()";

/// Starts a run whose destination takes nothing, and lets the log grow.
fn start_held(project: &Project, source: &Database<'_>, destination: &Database<'_>, how: &[&str]) -> Running {
    destination.sql("INSERT INTO held VALUES (1)");
    let mut running = project.run().args(how).timeout(PATIENCE).start();
    if !how.is_empty() {
        running.until_stderr("\"following\"", PATIENCE);
        change(source);
    }
    within_polled(PATIENCE, POLL, "the destination to be held up", || {
        let sleeps = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        (destination.sql(sleeps) == "t").then_some(())
    });
    write_log(source, 90);
    running
}

/// More changes than there is room for on the way.
fn change(source: &Database<'_>) {
    for round in 0..8 {
        source.sql(&format!(
            "INSERT INTO items SELECT {round} * 10000 + i, 'w' FROM generate_series(1000, 10999) i ON CONFLICT (id) DO UPDATE SET v = 'x'"
        ));
    }
}

#[test]
fn a_run_whose_destination_takes_nothing_fails_before_the_disk_is_full() {
    let server = Postgres::start(PostgresOptions::default());
    for how in [&[][..], &["--follow"]] {
        let (source, destination) = (server.database("held_source"), Postgres::shared().database("held_destination"));
        make(&source);
        let name = if how.is_empty() { "lag_run" } else { "lag_tail" };
        let project = Project::with_pipeline(&guarded(name, &source, &destination, "fail"));
        assert_eq!(run(&project), 50);
        settle(&project, &source, name);
        destination.sql(HOLD);
        if how.is_empty() {
            change(&source);
        }
        let ended = start_held(&project, &source, &destination, how).finish().exit(6);
        assert_eq!(ended.at("/error/code"), "slot_lag", "{}", ended.told());
        assert!(kept(&source, name).is_some_and(|kept| kept > 64 * MIB), "the slot stays: {}", ended.told());
        destination.sql("DELETE FROM held");
        // The next run begins beyond the budget, and catches up.
        source.sql("DELETE FROM items WHERE id < 10");
        run(&project);
        assert_equal(&source, &destination);
        source.sql(&format!("SELECT pg_drop_replication_slot('{}')", slot_of(name)));
    }
}

#[test]
fn a_follower_whose_destination_takes_nothing_gives_its_slot_up() {
    let server = Postgres::start(PostgresOptions::default());
    let (source, destination) = (server.database("gone_source"), Postgres::shared().database("gone_destination"));
    make(&source);
    let project = Project::with_pipeline(&resnapshots(&guarded("lag_gone", &source, &destination, "drop_slot")));
    assert_eq!(run(&project), 50);
    settle(&project, &source, "lag_gone");
    destination.sql(HOLD);
    let slots = "SELECT string_agg(catalog_xmin::text, ',') FROM pg_replication_slots";
    let first = source.sql(slots);
    let mut running = start_held(&project, &source, &destination, &["--follow"]);
    within_polled(PATIENCE, POLL, "the slot to be dropped", || (source.sql(slots).is_empty()).then_some(()));
    assert!(!first.is_empty() && !running.ended());
    source.sql("DELETE FROM items WHERE id < 10; INSERT INTO items VALUES (-1, 'z')");
    destination.sql("DELETE FROM held");
    // It is loaded anew, and followed on.
    within_polled(PATIENCE, POLL, "`items` to be equal", || (source.hash("items") == destination.hash("items")).then_some(()));
    within_polled(PATIENCE, POLL, "it to follow again", || {
        (running.stderr_so_far().matches("\"following\"").count() > 1).then_some(())
    });
    source.sql("UPDATE items SET v = 'y' WHERE id = -1");
    within_polled(PATIENCE, POLL, "`items` to be equal", || (source.hash("items") == destination.hash("items")).then_some(()));
    running.signal("TERM");
    running.finish().success();
    assert_eq!(run(&project), 0);
}
