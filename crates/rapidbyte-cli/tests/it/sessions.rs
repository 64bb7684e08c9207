//! How many sessions a run makes at its servers, and what becomes of one that a server ends between two steps.

use rapidbyte_testkit::{Database, Fault, Postgres, PostgresOptions, Project, within};
use std::time::Duration;

fn logging() -> Postgres {
    Postgres::start(PostgresOptions { settings: vec!["log_connections = on".into()], ..PostgresOptions::default() })
}

fn pipeline(source: &Database<'_>, destination: &Database<'_>, tables: usize, rest: &str) -> String {
    let streams: String = (0..tables).map(|table| format!("\n    - {{ name: public.t{table} }}")).collect();
    format!(
        "version: \"1.0\"\npipeline: counted\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:{streams}\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: replace\n{rest}",
        source.config(),
        destination.config()
    )
}

fn make_tables(source: &Database<'_>, tables: usize) {
    for table in 0..tables {
        source.sql(&format!("CREATE TABLE t{table} AS SELECT i AS id, 'row ' || i AS word FROM generate_series(1, 50) i"));
    }
}

/// Sessions of ours that a database has seen, off the server's log.
fn seen(server: &Postgres, database: &Database<'_>) -> usize {
    let ours = |line: &&str| line.contains("connection authorized") && line.contains("application_name=rapidbyte");
    let here = format!("database={} ", database.name());
    server.log().lines().filter(ours).filter(|line| line.contains(&here)).count()
}

#[test]
fn a_run_has_a_session_at_each_end_for_each_task_and_no_more() {
    let server = logging();
    for (tables, parallelism, most) in [(1, 1, 1), (6, 1, 1), (8, 3, 3)] {
        let (source, destination) = (server.database("counted_source"), server.database("counted_destination"));
        make_tables(&source, tables);
        let resources = format!("resources: {{ parallelism: {parallelism} }}\n");
        let project = Project::with_pipeline(&pipeline(&source, &destination, tables, &resources));
        let run = project.run().finish().success();
        for table in 0..tables {
            let name = format!("t{table}");
            assert_eq!(source.hash(&name), destination.hash(&name));
        }
        for end in [&source, &destination] {
            let sessions = seen(&server, end);
            let told = format!("{sessions} sessions in {} for {tables} tables, {parallelism} at once: {}", end.name(), run.told());
            assert!((1..=most).contains(&sessions), "{told}");
        }
    }
}

#[test]
fn a_session_that_was_ended_between_two_steps_is_replaced_without_a_failed_attempt() {
    let server = logging();
    for (point, sources, destinations) in [
        // The source has told who it is, and has nothing to do.
        ("engine.claim.before", 2, 1),
        // The destination has claimed.
        ("engine.prepare.before", 2, 2),
        // It has written.
        ("engine.publish.before", 1, 2),
    ] {
        let (source, destination) = (server.database("ended_source"), server.database("ended_destination"));
        make_tables(&source, 1);
        let project = Project::with_pipeline(&pipeline(&source, &destination, 1, "resources: { max_retries: 0 }\n"));
        let waiting = Fault::new(point, 1, "second").arm(project.run(), &project).start();
        within(Duration::from_secs(60), point, || Fault::reached(&project).exists().then_some(()));
        for end in [&source, &destination] {
            let idle = "pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'";
            // Neither a transaction nor a snapshot is open in a session that waits.
            let busy =
                format!("SELECT count(*) FROM pg_stat_activity WHERE {idle} AND (state <> 'idle' OR backend_xmin IS NOT NULL)");
            assert_eq!(end.sql(&busy), "0", "{point}: {}", end.name());
            end.sql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {idle}"));
            end.until_quiet(Duration::from_secs(10));
        }
        Fault::go(&project);
        let run = waiting.finish().success();
        assert_eq!(run.at("/report/streams/0/attempts"), 1, "{point}: {}", run.told());
        assert_eq!(source.hash("t0"), destination.hash("t0"), "{point}");
        assert_eq!((seen(&server, &source), seen(&server, &destination)), (sources, destinations), "{point}");
    }
}

/// Each of two streams sets something in its session, at both ends, and tells what it found.
#[test]
fn what_one_stream_has_set_in_a_session_does_not_reach_the_next() {
    let server = logging();
    let (source, destination) = (server.database("set_source"), server.database("set_destination"));
    destination.sql(
        "CREATE TABLE found (word text);
         CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.found VALUES (coalesce(current_setting('my.canary', true), ''));
             PERFORM set_config('my.canary', 'left', false), pg_advisory_lock(pg_backend_pid());
             RETURN NEW;
         END $$",
    );
    for table in 0..2 {
        source.sql(&format!(
            "CREATE VIEW t{table} AS SELECT 1 AS id, coalesce(current_setting('my.canary', true), '') AS was,
                 set_config('my.canary', 'left', false) AS left"
        ));
        destination.sql(&format!(
            "CREATE TABLE t{table} (id int, was text, \"left\" text);
             CREATE TRIGGER look BEFORE INSERT ON t{table} FOR EACH ROW EXECUTE FUNCTION look()"
        ));
    }
    let text = pipeline(&source, &destination, 2, "resources: { parallelism: 1 }\n").replace("replace", "append");
    let project = Project::with_pipeline(&text);
    let run = project.run().finish().success();
    for table in ["t0", "t1"] {
        assert_eq!(destination.sql(&format!("SELECT was || '/' || \"left\" FROM {table}")), "/left", "{}", run.told());
    }
    assert_eq!(destination.sql("SELECT count(*) || '/' || count(nullif(word, '')) FROM found"), "2/0");
    assert_eq!((seen(&server, &source), seen(&server, &destination)), (1, 1), "each end has one session");
}
