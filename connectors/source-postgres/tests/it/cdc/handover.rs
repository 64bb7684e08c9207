//! From the load to the changes, with writers at work throughout.

use super::{Pipeline, Target, generation, logical, server};
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{FakeHost, run_context};
use rapidbyte_sdk::{ErrorCategory, Position, ReadRequest, Source};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const COLUMNS: [&str; 3] = ["id", "v", "big"];

/// Inserts, updates, key changes, deletes, savepoints, rollbacks and truncates, in transactions of several statements that
/// stay open for a while.
fn write(server: &PostgresServer, seed: u64, stop: &AtomicBool) {
    let mut connection = server.connect();
    let mut state = seed;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) && round < 3_000 {
        round += 1;
        // Each writer has keys of its own, so that none waits for another for long.
        let key = |n: u64| seed * 1_000_000 + n;
        let mut sql = String::from("BEGIN;");
        for _ in 0..=random(4) {
            let (a, b) = (key(random(200)), key(random(200)));
            sql.push_str(&match random(8) {
                0..=2 => format!("INSERT INTO live VALUES ({a}, 'i{round}', repeat('x', 3000)) ON CONFLICT (id) DO UPDATE SET v = 'c{round}';"),
                3 | 4 => format!("UPDATE live SET v = 'u{round}' WHERE id = {a};"),
                5 => format!("UPDATE live SET id = {b} WHERE id = {a} AND NOT EXISTS (SELECT FROM live WHERE id = {b});"),
                6 => format!("SAVEPOINT s; DELETE FROM live WHERE id = {b}; ROLLBACK TO s; SAVEPOINT t; UPDATE live SET v = 't{round}' WHERE id = {b};"),
                _ => format!("DELETE FROM live WHERE id = {a};"),
            });
        }
        sql.push_str(if random(10) == 0 { "ROLLBACK" } else { "SELECT pg_sleep(0.001); COMMIT" });
        connection.batch_execute(&sql).unwrap();
    }
}

#[test]
fn no_change_is_lost_or_repeated_between_load_and_changes() {
    let server = server();
    let mut pipeline = Pipeline::new(server, "live", &["live"]);
    pipeline.sql("CREATE TABLE live (id bigint PRIMARY KEY, v text, big text); ALTER TABLE live ALTER big SET STORAGE EXTERNAL");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stop = &stop;
        let writers: Vec<_> = (1..=3).map(|seed| scope.spawn(move || write(server, seed, stop))).collect();
        // The load begins amid the writers, and five windows of changes follow while they go on.
        let mut target = Target::of(pipeline.load().remove(0));
        let mut resume: Option<Position> = None;
        for _ in 0..5 {
            let read = pipeline.changes(resume.as_ref());
            target.apply(&read, 0, &COLUMNS);
            resume = Some(read.end());
            pipeline.confirm(resume.as_ref().unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let read = pipeline.changes(resume.as_ref());
        target.apply(&read, 0, &COLUMNS);
        assert_eq!(target, Target::now(&pipeline, 0));
        assert!(!target.rows.is_empty());
    });
}

#[test]
fn transactions_open_at_the_cut_come_as_changes_and_others_do_not() {
    // Which tells all tables, so that nobody is waited for.
    let mut pipeline = Pipeline::by("test_decoding", "cut", &["cut"]);
    pipeline.sql("CREATE TABLE cut (id int PRIMARY KEY); INSERT INTO cut VALUES (1)");
    // The slot is there before, so that everything below lies in the log that is read.
    pipeline.load();
    let mut open = pipeline.sql("BEGIN; SAVEPOINT s; INSERT INTO cut VALUES (2)");
    pipeline.sql("INSERT INTO cut VALUES (3)");
    pipeline.loads.clear();
    let mut loaded: Vec<String> = pipeline.load().remove(0).into_iter().map(|row| row[0].clone().unwrap()).collect();
    loaded.sort();
    assert_eq!(loaded, ["1", "3"]);
    open.batch_execute("INSERT INTO cut VALUES (4); COMMIT").unwrap();
    let mut changed: Vec<String> = pipeline.changes(None).changes(0).iter().map(|row| row["id"].clone()).collect();
    changed.sort();
    assert_eq!(changed, ["2", "4"]);
}

#[test]
fn who_wrote_before_a_table_was_published_is_waited_for() {
    let server = server();
    let mut first = Pipeline::new(server, "waited", &["waited_a"]);
    first.sql(
        "CREATE TABLE waited_a (id int PRIMARY KEY); CREATE TABLE waited_b (id int PRIMARY KEY); CREATE TABLE waited_c (id int PRIMARY KEY);
         CREATE TABLE waited_d (id int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE waited_d1 PARTITION OF waited_d FOR VALUES FROM (0) TO (10)",
    );
    first.load();
    // Added by us; by somebody else just before; and written to in a partition.
    for (table, written, added) in [
        ("waited_b", "waited_b", ""),
        ("waited_c", "waited_c", "ALTER PUBLICATION rapidbyte_waited ADD TABLE ONLY waited_c"),
        ("waited_d", "waited_d1", ""),
    ] {
        let mut open = first.sql(&format!("BEGIN; INSERT INTO {written} VALUES (1)"));
        first.sql(added);
        let mut pipeline = Pipeline::new(server, "waited", &[table]);
        let loaded = thread::scope(|scope| {
            let writer = scope.spawn(move || {
                // Somebody who begins later is not waited for.
                thread::sleep(Duration::from_millis(300));
                let later = first_of(server, &format!("BEGIN; INSERT INTO {written} VALUES (3)"));
                open.batch_execute(&format!("INSERT INTO {written} VALUES (2); COMMIT")).unwrap();
                later
            });
            let loaded = pipeline.load().remove(0);
            writer.join().unwrap().batch_execute("COMMIT").unwrap();
            loaded
        });
        let mut target = Target::of(loaded);
        target.apply(&pipeline.changes(None), 0, &["id"]);
        assert_eq!(target.rows.into_keys().collect::<Vec<_>>(), ["1", "2", "3"], "{table}");
    }
}

fn first_of(server: &PostgresServer, sql: &str) -> postgres_wire::Connection {
    let mut connection = server.connect();
    connection.batch_execute(sql).unwrap();
    connection
}

#[test]
fn who_writes_for_longer_than_is_allowed_is_named() {
    let mut pipeline = Pipeline::new(server(), "patient", &["patient_a"]);
    pipeline.sql("CREATE TABLE patient_a (id int PRIMARY KEY); CREATE TABLE patient_b (id int PRIMARY KEY)");
    pipeline.load();
    pipeline.streams = vec![super::stream("patient_b")];
    let mut open = pipeline.sql("BEGIN; INSERT INTO patient_b VALUES (1)");
    let session = open.query("SELECT pg_backend_pid()").unwrap()[0].text(0).unwrap().to_owned();
    let mut config = pipeline.server.config_json("app");
    config["statement_timeout_seconds"] = 1.into();
    let context = rapidbyte_sdk::InitContext { pipeline: Some(pipeline.name.clone()), blob: None };
    let mut planner = source_postgres::PostgresSource::init(config, context).unwrap();
    let error = planner.plan_partitions(&pipeline.request(0, 4)).unwrap_err();
    assert_eq!(error.code, "writers_in_flight");
    assert!(error.message.contains(&session), "{error:?} does not name {session}");
    open.batch_execute("COMMIT").unwrap();
    planner.plan_partitions(&pipeline.request(0, 4)).unwrap();
    planner.close().unwrap();
}

#[test]
fn a_load_says_at_its_end_where_its_changes_begin() {
    let mut pipeline = Pipeline::new(server(), "begins", &["begins"]);
    pipeline.sql("CREATE TABLE begins (id int PRIMARY KEY); INSERT INTO begins VALUES (1)");
    pipeline.load();
    // The snapshot of another plan, held while it is read, and read on once more after the last row.
    let mut planner = pipeline.source();
    pipeline.loads.clear();
    let plan = planner.plan_partitions(&pipeline.request(0, 4)).unwrap();
    pipeline.sql("INSERT INTO begins VALUES (2)");
    pipeline.loads.push(generation(&plan));
    let end = pipeline.load_from(0, &plan.token, None);
    assert_eq!(end.host.batches(0).unwrap().iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 1);
    let again = pipeline.load_from(0, &plan.token, Some(&end.end()));
    assert!(again.barriers().is_empty() && again.host.batches(0).unwrap().is_empty());
    planner.close().unwrap();
    let changed: Vec<String> = pipeline.changes(Some(&end.end())).changes(0).iter().map(|row| row["id"].clone()).collect();
    assert_eq!(changed, ["2"]);
}

#[test]
fn reading_goes_on_at_every_barrier_whatever_the_slot_has_let_go() {
    let mut pipeline = Pipeline::new(server(), "resumed", &["resumed_a", "resumed_b"]);
    pipeline.sql("CREATE TABLE resumed_a (id int PRIMARY KEY, v text); CREATE TABLE resumed_b (id int PRIMARY KEY, v text)");
    pipeline.load();
    // A small limit makes a barrier after nearly every transaction.
    pipeline.streams.iter_mut().for_each(|stream| stream.limits.max_batch_bytes = 200);
    for round in 0..20 {
        pipeline.sql(&format!(
            "BEGIN; INSERT INTO resumed_a VALUES ({round}, 'a'); INSERT INTO resumed_b VALUES ({round}, 'b'); UPDATE resumed_a SET v = 'c' WHERE id = {round} - 1; COMMIT"
        ));
    }
    let whole = pipeline.changes(None);
    let barriers = whole.barriers();
    assert!(barriers.len() > 10, "{} barriers", barriers.len());
    let all: Vec<_> = (0..2).map(|stream| whole.changes(stream)).collect();
    for (index, barrier) in barriers.iter().enumerate().step_by(3) {
        let rest = pipeline.changes(Some(barrier));
        for (stream, all) in all.iter().enumerate() {
            let rest = rest.changes(stream as u32);
            assert_eq!(rest, all[all.len() - rest.len()..], "going on from {barrier:?}");
            assert!(index + 1 < barriers.len() || rest.is_empty());
        }
        // What is behind may be let go, again and again, and never comes back.
        pipeline.confirm(barrier);
        pipeline.confirm(&barriers[0]);
        let confirmed = pipeline.ask("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'rapidbyte_resumed'");
        assert_eq!(confirmed, barrier.value);
    }
}

#[test]
fn nothing_is_let_go_before_it_is_durable() {
    let mut pipeline = Pipeline::new(server(), "held", &["held"]);
    pipeline.sql("CREATE TABLE held (id int PRIMARY KEY)");
    pipeline.load();
    let confirmed = || pipeline.ask("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'rapidbyte_held'");
    let before = confirmed();
    pipeline.sql("INSERT INTO held VALUES (1)");
    // A destination that never commits.
    let first = pipeline.changes(None);
    assert_eq!(confirmed(), before);
    // It comes again.
    assert_eq!(pipeline.changes(None).changes(0), first.changes(0));
    assert_eq!(pipeline.source().confirm(&Position::new(rapidbyte_sdk::CursorType::Json, "{}")), Ok(()));
    assert_eq!(confirmed(), before);
    pipeline.confirm(&first.end());
    assert_eq!(confirmed(), first.end().value);
}

#[test]
fn a_table_added_later_does_not_touch_the_others() {
    let mut pipeline = Pipeline::new(server(), "grown", &["grown_a"]);
    pipeline.sql(
        "CREATE TABLE grown_a (id int PRIMARY KEY); CREATE TABLE grown_b (id int PRIMARY KEY); INSERT INTO grown_b VALUES (1)",
    );
    pipeline.load();
    pipeline.sql("INSERT INTO grown_a VALUES (1); INSERT INTO grown_b VALUES (2)");
    let end = pipeline.changes(None).end();
    pipeline.confirm(&end);
    pipeline.sql("INSERT INTO grown_a VALUES (2); INSERT INTO grown_b VALUES (3)");
    // The new stream is loaded, the other one goes on from its receipt.
    let old = pipeline.loads[0].clone();
    let mut added = Pipeline::new(server(), "grown", &["grown_b"]);
    assert_eq!(added.load()[0].len(), 3);
    pipeline.streams.extend(added.streams.clone());
    pipeline.loads = vec![old, added.loads[0].clone()];
    pipeline.sql("INSERT INTO grown_a VALUES (3); INSERT INTO grown_b VALUES (4)");
    let read = pipeline.changes(Some(&end));
    let ids = |stream: u32| read.changes(stream).iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(0), ids(1)), (vec!["2".to_owned(), "3".into()], vec!["4".to_owned()]));
    // A table that is no stream any more leaves the publication.
    pipeline.streams.remove(0);
    pipeline.loads.remove(0);
    pipeline.changes(Some(&read.end()));
    let members = pipeline.ask("SELECT string_agg(tablename, ',') FROM pg_publication_tables WHERE pubname = 'rapidbyte_grown'");
    assert_eq!(members, "grown_b");
}

#[test]
fn quiet_tables_let_the_log_go() {
    let mut pipeline = Pipeline::new(server(), "quiet", &["quiet"]);
    pipeline.sql("CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE busy (id int, v text)");
    pipeline.load();
    let mut resume = None;
    for _ in 0..3 {
        pipeline.each(&["INSERT INTO busy SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i", "CHECKPOINT"]);
        let read = pipeline.changes(resume.as_ref());
        assert!(read.changes(0).is_empty());
        let end = read.end();
        pipeline.confirm(&end);
        resume = Some(end);
    }
    let behind = pipeline.ask(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 16 * 1024 * 1024 FROM pg_replication_slots WHERE slot_name = 'rapidbyte_quiet'",
    );
    assert_eq!(behind, "t");
    assert!(pipeline.ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') > 30 * 1024 * 1024") == "t");
}

#[test]
fn a_load_whose_snapshot_is_gone_is_planned_again() {
    // Each statement is in the server's log before it is carried out.
    let server = logical(&["log_statement=all"]);
    let mut pipeline = Pipeline::new(&server, "unheld", &["unheld"]);
    pipeline.sql("CREATE TABLE unheld (id int PRIMARY KEY); INSERT INTO unheld VALUES (1)");
    let mut planner = pipeline.source();
    let plan = planner.plan_partitions(&pipeline.request(0, 1)).unwrap();
    let log = std::fs::read_to_string(server.directory().join("log")).unwrap();
    assert!(log.contains("SET tcp_keepalives_idle = 30"), "the server is asked to notice that the planner is gone");
    let held = "FROM pg_stat_activity WHERE state = 'idle in transaction'";
    assert_eq!(pipeline.ask(&format!("SELECT count(pg_terminate_backend(pid, 5000)) {held}")), "1");
    let request = ReadRequest {
        run: run_context(),
        streams: pipeline.streams.clone(),
        partition: Some(plan.partitions[0].clone()),
        token: plan.token,
        resume: None,
        follow: false,
    };
    let host = FakeHost::install();
    let error = pipeline.source().read(&request, &mut host.source_output()).map(drop).unwrap_err();
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::TransientDb, "snapshot_lost"), "{error:?}");
    assert!(error.retryable && error.message.contains("public.unheld"), "{error:?}");
    assert_eq!(pipeline.load()[0].len(), 1);
}
