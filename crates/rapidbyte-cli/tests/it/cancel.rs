//! Stopping: soon, cleanly, and one run at a time.

use crate::tables;
use rapidbyte_testkit::{Database, Postgres, Project, open_files, packed_fixture, within};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

/// Generated rows, so slowly that the run does not end by itself.
fn slow(destination: &Database<'_>) -> String {
    format!(
        "version: \"1.0\"\npipeline: slow\nsource:\n  use: source-datagen\n  config: {{ pattern: sequence, max_events: 10000000, events_per_second: 2000, batch_rows: 100 }}\n\
         \x20 streams: [ {{ name: sequence }} ]\ndestination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: replace\n\
         resources: {{ checkpoint_interval_rows: 500 }}\n",
        destination.config()
    )
}

#[test]
fn a_signal_ends_a_run_within_two_seconds() {
    let destination = Postgres::shared().database("stopped");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let project = Project::with_pipeline(&slow(&destination));
        assert_eq!(destination.sessions(), 0, "sessions before");
        let mut run = project.run().start();
        run.until_stderr("\"planned\"", PATIENCE);
        within(PATIENCE, "a session of the run", || (destination.sessions() > 0).then_some(()));
        run.signal(signal);
        let ended = run.finish().exit(code);
        assert!(ended.duration < SOON, "SIG{signal} took {:?}", ended.duration);
        assert_eq!(ended.json()["exit_code"], code);
        destination.until_quiet(Duration::from_secs(5));
    }
}

#[test]
fn a_signal_ends_a_run_whose_connector_spins() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let project = Project::with_pipeline(&format!(
            "version: \"1.0\"\npipeline: spinning\nsource: {{ use: {}, streams: [ {{ name: none }} ] }}\ndestination: {{ use: dest-file, config: {{ path: out }} }}\n",
            packed_fixture("probe-spin").display()
        ));
        let mut run = project.run().start();
        run.until_stderr("\"planned\"", PATIENCE);
        run.signal(signal);
        let ended = run.finish().exit(code);
        assert!(ended.duration < SOON, "SIG{signal} took {:?}", ended.duration);
        // The result is there, so the run has come to its end, and was not left behind.
        assert_eq!(ended.json()["exit_code"], code);
    }
}

#[test]
fn a_stopped_run_goes_on_where_it_was() {
    let destination = Postgres::shared().database("gone_on");
    let yaml = |rate: u32| {
        slow(&destination)
            .replace("max_events: 10000000", "max_events: 6000")
            .replace("events_per_second: 2000", &format!("events_per_second: {rate}"))
    };
    let project = Project::with_pipeline(&yaml(2000));
    let mut run = project.run().start();
    run.until_stderr("\"planned\"", PATIENCE);
    within(PATIENCE, "a receipt", || {
        let there = destination.has("_rapidbyte.receipts");
        (there && destination.sql("SELECT count(*) > 0 FROM _rapidbyte.receipts") == "t").then_some(())
    });
    run.signal("INT");
    run.finish().exit(130);
    let rest = project.run().finish().success();
    assert_eq!(rest.at("/report/streams/0/resumed"), true);
    let read = rest.at("/report/streams/0/rows_read").as_u64().expect("a number");
    assert!(read < 6_000, "{read} rows were read again");
    assert_eq!(destination.sql("SELECT count(*), count(DISTINCT id) FROM sequence"), "6000|6000");
}

#[test]
fn a_signal_ends_a_copy_and_leaves_no_session() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("copied_source"), server.database("copied_destination"));
    source.sql(&tables::lineitem(400_000));
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: copied\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: public.lineitem }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n",
        source.config(),
        destination.config()
    ));
    let mut run = project.run().start();
    within(PATIENCE, "the COPY to begin", || {
        (destination.sql("SELECT count(*) > 0 FROM pg_stat_progress_copy WHERE tuples_processed > 0") == "t").then_some(())
    });
    let files = open_files(run.pid()).expect("the process is ours");
    assert!(files.len() < 64, "{} files are open: {files:?}", files.len());
    run.signal("TERM");
    let ended = run.finish().exit(143);
    assert!(ended.duration < SOON, "{:?}", ended.duration);
    source.until_quiet(Duration::from_secs(5));
    destination.until_quiet(Duration::from_secs(5));
    assert_eq!(source.sql("SELECT count(*) FROM pg_prepared_xacts"), "0");
    assert_eq!(source.sql("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"), "0");
    assert!(!destination.has("lineitem"), "nothing is shown before it is whole");
    project.run().finish().success();
    assert_eq!(source.hash("lineitem"), destination.hash("lineitem"));
}

#[test]
fn two_runs_of_a_pipeline_do_not_meet() {
    let destination = Postgres::shared().database("two");
    let project = Project::with_pipeline(&slow(&destination));
    let mut first = project.run().start();
    first.until_stderr("\"planned\"", PATIENCE);
    let second = project.run().finish().exit(10);
    assert!(second.json()["error"]["hint"].is_string(), "{}", second.told());
    assert_eq!(second.json()["error"]["kind"], "already_running");
    first.signal("TERM");
    first.finish().exit(143);
}
