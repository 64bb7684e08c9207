//! One table read by several readers at one snapshot: what arrives is one state of it, and a retry reads what is missing.

use rapidbyte_testkit::{AtLast, Database, Fault, Finished, Postgres, PostgresOptions, Project, Proof, is_full, within};
use std::thread;
use std::time::Duration;

fn pipeline(source: &Database<'_>, destination: &Database<'_>, stream: &str, rest: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: shared\nsource:\n  use: source-postgres\n  config: {{ {}, split_above_bytes: 8192 }}\n  streams:\n\
         \x20   - {{ {stream} }}\ndestination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: replace\n{rest}",
        source.config(),
        destination.config()
    )
}

fn partitions(run: &Finished) -> u64 {
    run.at("/report/streams/0/partitions").as_u64().expect("a count")
}

/// A table in three partitions, a log of its content after each transaction, and what moves rows about: each step in one
/// transaction, which ends with the content's hash, so that every state that was ever visible is known.
const MOVING: &str = "
CREATE TABLE moving (id int NOT NULL, home int NOT NULL, n bigint NOT NULL, note text) PARTITION BY RANGE (home);
CREATE TABLE moving_0 PARTITION OF moving FOR VALUES FROM (0) TO (10);
CREATE TABLE moving_1 PARTITION OF moving FOR VALUES FROM (10) TO (20);
CREATE TABLE moving_2 PARTITION OF moving FOR VALUES FROM (20) TO (30);
INSERT INTO moving SELECT i, i % 30, i, repeat('m', 60) || i FROM generate_series(1, 6000) i;
CREATE TABLE states (rows bigint, a numeric, b numeric);
CREATE TABLE stop (stop int);
CREATE PROCEDURE note_state() LANGUAGE sql AS $$
    INSERT INTO states SELECT count(*), sum(hashtextextended(t::text, 0)::numeric), sum(hashtextextended(t::text, 77)::numeric) FROM moving t
$$;
CREATE PROCEDURE move_busily() LANGUAGE plpgsql AS $$
DECLARE step int := 0;
BEGIN
    LOOP
        EXIT WHEN EXISTS (SELECT FROM stop);
        step := step + 1;
        -- Other tables, other blocks, other rows.
        UPDATE moving SET home = (home + 11) % 30, n = n + step WHERE id % 40 = step % 40;
        UPDATE moving SET note = 'moved ' || step WHERE id % 60 = step % 60;
        DELETE FROM moving WHERE id % 997 = step % 997;
        INSERT INTO moving SELECT 10000 + step * 10 + i, (step + i) % 30, step, 'new' FROM generate_series(1, 5) i;
        CALL note_state();
        COMMIT;
    END LOOP;
END $$;
CALL note_state();";

#[test]
fn prove_shares_arrive_as_one_state_while_a_writer_moves_rows() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("moving_source"), server.database("moving_destination"));
    source.sql(MOVING);
    let project =
        Project::with_pipeline(&pipeline(&source, &destination, "name: public.moving", "resources: { parallelism: 4 }\n"));
    let runs = if is_full() { 100 } else { 4 };
    let mut seen = Vec::new();
    thread::scope(|scope| {
        let _stop = AtLast::new(|| drop(source.sql("INSERT INTO stop VALUES (1)")));
        scope.spawn(|| source.sql("CALL move_busily()"));
        within(Duration::from_secs(20), "the writer to be at work", || {
            (source.sql("SELECT count(*) > 3 FROM states") == "t").then_some(())
        });
        for _ in 0..runs {
            let run = project.run().finish().success();
            assert_eq!(partitions(&run), 4, "{}", run.told());
            seen.push(destination.hash("moving"));
        }
    });
    for (index, hash) in seen.iter().enumerate() {
        let known = source
            .sql(&format!("SELECT count(*) > 0 FROM states WHERE rows || ' ' || a || ' ' || b = '{} {}'", hash.rows, hash.hash));
        assert_eq!(known, "t", "run {index} arrived as no state that was ever visible: {hash:?}");
    }
    let states = source.sql("SELECT count(*) FROM states");
    Proof {
        name: "one snapshot in four shares, rows moving between them",
        cases: runs,
        failures: 0,
        seed: "-".into(),
        detail: format!("{states} states in all, each run's content hash is one of them"),
    }
    .record();
}

#[test]
fn a_retry_reads_the_missing_share_at_the_same_snapshot() {
    let server = Postgres::start(PostgresOptions { settings: vec!["log_statement = 'all'".into()], ..PostgresOptions::default() });
    let (source, destination) = (server.database("retry_source"), server.database("retry_destination"));
    // One row holds its reader up for as long as somebody else has the lock.
    source.sql(
        "CREATE TABLE held (id int, note text); INSERT INTO held SELECT i, repeat('h', 90) || i FROM generate_series(1, 6000) i;
         CREATE FUNCTION let_pass(id int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
             IF id = 5990 THEN PERFORM pg_advisory_lock_shared(7), pg_advisory_unlock_shared(7); END IF; RETURN true; END $$;
         CREATE TABLE go (go int)",
    );
    let stream = "name: public.held, filter: let_pass(id)";
    let project =
        Project::with_pipeline(&pipeline(&source, &destination, stream, "resources: { parallelism: 3, max_retries: 2 }\n"));
    let before = source.hash("held");
    let run = thread::scope(|scope| {
        let go = AtLast::new(|| drop(source.sql("INSERT INTO go VALUES (1)")));
        // Another database's locks are others: the guard sits in the source's.
        let guard = scope.spawn(|| {
            source.sql(
                "SELECT pg_advisory_lock(7); DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM go); PERFORM pg_sleep(0.02); END LOOP; END $$;",
            )
        });
        let ours = "FROM pg_locks WHERE locktype = 'advisory' AND objid = 7
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND granted";
        let waiting = ours.replace("AND granted", "AND NOT granted");
        within(Duration::from_secs(20), "the guard to hold the lock", || {
            (source.sql(&format!("SELECT count(*) {ours}")) == "1").then_some(())
        });
        let running = scope.spawn(|| project.run().finish());
        let done = "SELECT count(*) FROM _rapidbyte.receipts WHERE last";
        within(Duration::from_secs(60), "two shares to be complete and the third to wait", || {
            let waits = source.sql(&format!("SELECT count(*) {waiting}")) == "1";
            (waits && destination.has("_rapidbyte.receipts") && destination.sql(done) == "2").then_some(())
        });
        // The table changes, then the reader that waits is cut off.
        source.sql("UPDATE held SET note = 'changed' WHERE id % 3 = 0; DELETE FROM held WHERE id % 7 = 0");
        source.sql(&format!("SELECT pg_terminate_backend(pid) {waiting}"));
        drop(go);
        guard.join().expect("the guard goes");
        running.join().expect("the run ends")
    })
    .success();
    assert_eq!(run.at("/report/streams/0/attempts"), 2, "{}", run.told());
    assert_eq!(partitions(&run), 3);
    // As it was when the first attempt began, the share of the second one included.
    assert_eq!(destination.hash("held"), before);
    assert_ne!(source.hash("held"), before);
    // Three shares and one again: what was complete was not read again. The server repeats the one that was cut off as a `STATEMENT`.
    let copies =
        server.log().lines().filter(|line| line.contains("statement: COPY (SELECT \"id\"") && line.contains("let_pass")).count();
    assert_eq!(copies, 4);
    assert_eq!(run.at("/report/streams/0/rows_read"), 6000);
    source.until_quiet(Duration::from_secs(5));
}

#[test]
fn the_snapshot_is_let_go_before_the_load_is_published() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("early_source"), server.database("early_destination"));
    source.sql("CREATE TABLE t (id int, note text); INSERT INTO t SELECT i, repeat('t', 90) FROM generate_series(1, 3000) i");
    // What keeps the source's vacuum from its work.
    let held = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
         AND backend_xmin IS NOT NULL AND backend_type = 'client backend'";
    for (point, free) in [("dest.receipt.before", false), ("engine.publish.before", true)] {
        let project = Project::with_pipeline(&pipeline(&source, &destination, "name: public.t", "resources: { parallelism: 2 }\n"));
        let waiting = Fault::new(point, 1, "second").arm(project.run(), &project).start();
        within(Duration::from_secs(60), "the point", || Fault::reached(&project).exists().then_some(()));
        if free {
            // The server may need a moment to notice that a session is closed.
            within(Duration::from_secs(5), "the source to be free", || (source.sql(held) == "0").then_some(()));
        } else {
            assert_ne!(source.sql(held), "0", "{point}");
        }
        Fault::go(&project);
        let run = waiting.finish().success();
        assert_eq!(partitions(&run), 2);
        assert_eq!(source.hash("t"), destination.hash("t"));
    }
}

#[test]
fn shares_wait_for_their_turn_and_all_arrive() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("turns_source"), server.database("turns_destination"));
    source.sql(
        "CREATE TABLE a (id int, note text, n numeric(10, 2));
         INSERT INTO a SELECT i, repeat('a', 90), CASE WHEN i = 3990 THEN 'NaN' ELSE i::numeric END FROM generate_series(1, 4000) i;
         CREATE TABLE b (LIKE a); INSERT INTO b SELECT * FROM a; CREATE TABLE c (LIKE a); INSERT INTO c SELECT * FROM a ORDER BY id DESC",
    );
    let streams = "name: public.a }\n    - { name: public.b }\n    - { name: public.c";
    let project = Project::with_pipeline(&pipeline(&source, &destination, streams, "resources: { parallelism: 2 }\n"));
    let run = project.run().finish().success();
    for (index, table) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(run.at(&format!("/report/streams/{index}/partitions")), 2);
        assert_eq!(source.hash(table), destination.hash(table));
    }
}
