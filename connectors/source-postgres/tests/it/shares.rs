//! One table read in shares: they are one snapshot, whatever moves between them, and together the whole table.

use crate::incremental::Shown;
use crate::render::rows;
use crate::{server, stream};
use postgres_wire::Connection;
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{FakeHost, run_context};
use rapidbyte_sdk::{
    ConnectorError, ErrorCategory, Generation, InitContext, PartitionPlan, PlanRequest, ReadRequest, RunContext, Source,
    StreamContext,
};
use serde_json::Value;
use source_postgres::PostgresSource;
use std::sync::mpsc;
use std::thread;

/// A source that cuts small tables too.
pub(crate) fn cutting(server: &PostgresServer, database: &str) -> PostgresSource {
    let mut config = server.config_json(database);
    config["split_above_bytes"] = 8192.into();
    PostgresSource::init(config, InitContext::default()).unwrap()
}

pub(crate) fn plan_for(
    source: &mut PostgresSource,
    stream: &StreamContext,
    most: u32,
    pinned: Option<Generation>,
) -> PartitionPlan {
    let request = PlanRequest { run: run_context(), stream: stream.clone(), max_partitions: most, pinned };
    source.plan_partitions(&request).unwrap()
}

/// Reads one share of a plan by an instance of its own.
fn read_share(
    server: &PostgresServer,
    stream: &StreamContext,
    plan: &PartitionPlan,
    share: usize,
) -> Result<Vec<Shown>, ConnectorError> {
    let host = FakeHost::install();
    let mut output = host.source_output();
    let request = ReadRequest {
        run: RunContext { ..run_context() },
        streams: vec![stream.clone()],
        partition: Some(plan.partitions[share].clone()),
        token: plan.token.clone(),
        resume: None,
        follow: false,
    };
    cutting(server, "app").read(&request, &mut output)?;
    Ok(rows(&host.batches(0).unwrap()))
}

/// What the plan's own snapshot shows of a table, asked of the server by another session.
fn at_snapshot(sql: &mut Connection, plan: &PartitionPlan, select: &str) -> Vec<Shown> {
    let token: Value = serde_json::from_slice(&plan.token).unwrap();
    let snapshot = token[0]["snapshot"].as_str().unwrap();
    sql.batch_execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'")).unwrap();
    let found = sql.query(select).unwrap();
    sql.batch_execute("COMMIT").unwrap();
    sorted(found.iter().map(|row| (0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect()).collect())
}

fn sorted(mut rows: Vec<Shown>) -> Vec<Shown> {
    rows.sort();
    rows
}

/// Reads all shares, with the writer at work before each.
pub(crate) fn union(
    server: &PostgresServer,
    stream: &StreamContext,
    plan: &PartitionPlan,
    mut before: impl FnMut(usize),
) -> Vec<Shown> {
    let mut all = Vec::new();
    for share in 0..plan.partitions.len() {
        before(share);
        let part = read_share(server, stream, plan, share).unwrap();
        assert!(!part.is_empty(), "share {share} of {} has no rows", plan.partitions.len());
        all.extend(part);
    }
    sorted(all)
}

fn make(sql: &str) -> Connection {
    let mut connection = server().connect();
    connection.batch_execute(sql).unwrap();
    connection
}

#[test]
fn shares_are_one_snapshot_whatever_moves_between_them() {
    let mut sql = make(
        "CREATE TABLE moving (id int PRIMARY KEY, n numeric, note text);
         INSERT INTO moving SELECT i, i / 7.0, repeat('x', 100) || i FROM generate_series(1, 8000) i",
    );
    let stream = stream("moving");
    let mut planner = cutting(server(), "app");
    let plan = plan_for(&mut planner, &stream, 4, None);
    assert_eq!(plan.partitions.len(), 4);
    let mut writer = server().connect();
    let all = union(server(), &stream, &plan, |share| {
        // New versions go to other blocks, old ones are not reused while the snapshot lives, some rows go and others come.
        writer
            .batch_execute(&format!(
                "UPDATE moving SET n = -n, note = 'moved {share}' WHERE id % 4 <> {share};
                 DELETE FROM moving WHERE id % 97 = {share};
                 INSERT INTO moving SELECT 100000 * ({share} + 1) + i, NULL, 'late' FROM generate_series(1, 500) i"
            ))
            .unwrap();
        writer.batch_execute("VACUUM moving").unwrap();
    });
    let shown = at_snapshot(&mut sql, &plan, "SELECT id, n, note FROM moving");
    assert_eq!(shown.len(), 8000);
    assert!(all == shown, "the shares' union is not what the snapshot shows");
    // The test can tell: now is another state.
    let now = sql.query("SELECT id, n, note FROM moving").unwrap();
    assert_ne!(now.len(), shown.len());
}

#[test]
fn leaves_of_a_partitioned_table_are_cut_each_for_itself() {
    let mut sql = make(
        "CREATE TABLE leafy (id int, region text, note text) PARTITION BY LIST (region);
         CREATE TABLE leafy_a PARTITION OF leafy FOR VALUES IN ('a');
         CREATE TABLE leafy_rest (note text, more int, region text, id int);
         ALTER TABLE leafy_rest DROP COLUMN more;
         ALTER TABLE leafy ATTACH PARTITION leafy_rest DEFAULT;
         CREATE TABLE \"leafy \"\"b\"\"\" PARTITION OF leafy FOR VALUES IN ('b') PARTITION BY RANGE (id);
         CREATE TABLE leafy_b_low PARTITION OF \"leafy \"\"b\"\"\" FOR VALUES FROM (0) TO (1000);
         CREATE TABLE leafy_b_high PARTITION OF \"leafy \"\"b\"\"\" FOR VALUES FROM (1000) TO (1000000);
         CREATE TABLE leafy_none PARTITION OF leafy FOR VALUES IN ('none');
         INSERT INTO leafy SELECT i, (ARRAY['a', 'b', 'c', 'd'])[1 + i % 4], repeat('y', 90) || i FROM generate_series(1, 6000) i",
    );
    let stream = stream("leafy");
    let mut planner = cutting(server(), "app");
    let plan = plan_for(&mut planner, &stream, 5, None);
    assert_eq!(plan.partitions.len(), 5);
    let mut writer = server().connect();
    let all = union(server(), &stream, &plan, |share| {
        // Rows change their table.
        let to = ["a", "b", "c", "none", "a"][share];
        writer.batch_execute(&format!("UPDATE leafy SET region = '{to}' WHERE id % 5 = {share} AND region <> '{to}'")).unwrap();
    });
    let shown = at_snapshot(&mut sql, &plan, "SELECT id, region, note FROM leafy");
    assert_eq!(shown.len(), 6000);
    assert!(all == shown, "the shares' union is not what the snapshot shows");
}

#[test]
fn a_share_whose_values_do_not_fit_changes_its_own_schema_only() {
    let mut sql = make(
        "CREATE TABLE halfway (id int, n numeric(10, 2), note text);
         INSERT INTO halfway SELECT i, CASE WHEN i = 3900 THEN 'NaN'::numeric ELSE i END, repeat('z', 100) FROM generate_series(1, 4000) i",
    );
    let stream = stream("halfway");
    let mut planner = cutting(server(), "app");
    let plan = plan_for(&mut planner, &stream, 3, None);
    let all = union(server(), &stream, &plan, |_| {});
    let ids = |rows: &[Shown]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    let shown = at_snapshot(&mut sql, &plan, "SELECT id, n, note FROM halfway");
    assert_eq!(ids(&all), ids(&shown));
}

#[test]
fn a_planner_gives_its_plan_again_as_long_as_its_snapshot_lives() {
    let server = PostgresServer::start();
    let mut sql = server.connect();
    sql.batch_execute(
        "CREATE TABLE again (id int, note text); INSERT INTO again SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i;
         CREATE TABLE second AS SELECT * FROM again",
    )
    .unwrap();
    let stream = stream("again");
    let mut planner = cutting(&server, "app");
    let first = plan_for(&mut planner, &stream, 3, None);
    let pinned = Generation { number: 1, snapshot: first.snapshot.clone(), partitions: first.partitions.clone() };
    assert_eq!(plan_for(&mut planner, &stream, 3, Some(pinned.clone())), first);
    // A second stream on the same planner keeps the first one's snapshot.
    let second = plan_for(&mut planner, &crate::stream("second"), 2, None);
    assert_eq!(second.partitions.len(), 2);
    assert!(!read_share(&server, &stream, &PartitionPlan { token: second.token, ..first.clone() }, 0).unwrap().is_empty());
    // Another planner can't go on, and does not pretend to.
    let mut other = cutting(&server, "app");
    assert_ne!(plan_for(&mut other, &stream, 3, Some(pinned.clone())).snapshot, first.snapshot);
    other.close().unwrap();
    assert!(read_share(&server, &stream, &first, 1).is_ok());
    // Its transaction ends before its time.
    let held = "FROM pg_stat_activity WHERE state = 'idle in transaction'";
    let killed = sql.query(&format!("SELECT count(pg_terminate_backend(pid, 5000)) {held}")).unwrap();
    assert_eq!(killed[0].get(0), Some("2"));
    let error = read_share(&server, &stream, &first, 2).unwrap_err();
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::TransientDb, "snapshot_lost"), "{error:?}");
    assert!(error.retryable && error.message.contains("public.again"), "{error:?}");
    let next = plan_for(&mut planner, &stream, 3, Some(pinned));
    assert_ne!(next.snapshot, first.snapshot);
    assert!(read_share(&server, &stream, &next, 2).is_ok());
    planner.close().unwrap();
    assert_eq!(read_share(&server, &stream, &next, 0).unwrap_err().code, "snapshot_lost");
}

#[test]
fn a_planner_keeps_lock_and_snapshot_while_it_waits() {
    let server = PostgresServer::start_with(&["idle_in_transaction_session_timeout=200"]);
    let mut sql = server.connect();
    sql.batch_execute(
        "CREATE TABLE patient (id int, note text); INSERT INTO patient SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i",
    )
    .unwrap();
    let stream = stream("patient");
    let mut planner = cutting(&server, "app");
    let plan = plan_for(&mut planner, &stream, 2, None);
    sql.batch_execute("SELECT pg_sleep(0.6)").unwrap();
    // What would move or remove rows under the readers waits.
    for statement in ["TRUNCATE patient", "ALTER TABLE patient ALTER COLUMN id TYPE bigint", "DROP TABLE patient"] {
        let error = sql.batch_execute(&format!("SET lock_timeout = '50ms'; {statement}")).unwrap_err();
        assert_eq!(error.sqlstate(), Some("55P03"), "{statement}");
    }
    assert_eq!(union(&server, &stream, &plan, |_| {}).len(), 3000);
    planner.close().unwrap();
    sql.batch_execute("SET lock_timeout = '20s'; TRUNCATE patient").unwrap();
}

#[test]
fn a_table_that_takes_the_name_while_it_is_planned_is_the_one_that_is_read() {
    let mut sql = make(
        "CREATE TABLE swapped (id int, note text); INSERT INTO swapped SELECT i, repeat('old', 30) FROM generate_series(1, 3000) i;
         CREATE TABLE swapped_new (note text, id int); INSERT INTO swapped_new SELECT repeat('new', 30), i FROM generate_series(1, 2000) i",
    );
    let stream = stream("swapped");
    let mut planner = cutting(server(), "app");
    let plan = thread::scope(|scope| {
        let (begun, begins) = mpsc::channel();
        scope.spawn(move || {
            let (mut open, mut look) = (server().connect(), server().connect());
            let old = look.query("SELECT 'swapped'::regclass::oid").unwrap()[0].get(0).unwrap().to_owned();
            open.batch_execute("BEGIN; ALTER TABLE swapped RENAME TO swapped_old; ALTER TABLE swapped_new RENAME TO swapped")
                .unwrap();
            begun.send(()).unwrap();
            let waits = format!("SELECT pg_sleep(0.01), count(*) FROM pg_locks WHERE relation = {old} AND NOT granted");
            let waited = (0..2_000).any(|_| look.query(&waits).unwrap()[0].get(1) != Some("0"));
            assert!(waited, "the planner does not wait for the table");
            open.batch_execute("COMMIT").unwrap();
        });
        begins.recv().unwrap();
        plan_for(&mut planner, &stream, 2, None)
    });
    assert_eq!(plan.partitions.len(), 2);
    let all = union(server(), &stream, &plan, |_| {});
    assert!(all == at_snapshot(&mut sql, &plan, "SELECT note, id FROM swapped"), "the shares are of the table that bore the name");
    assert_eq!(all.len(), 2000);
}

#[test]
fn a_server_notices_within_a_minute_that_a_reader_is_gone() {
    make(
        "CREATE VIEW kept_alive AS SELECT concat_ws(' ', current_setting('tcp_keepalives_idle'),
             current_setting('tcp_keepalives_interval'), current_setting('tcp_keepalives_count')) AS v",
    );
    let (host, _) = crate::read(server(), stream("kept_alive")).unwrap();
    assert_eq!(rows(&host.batches(0).unwrap()), [[Some("30 10 3".to_owned())]]);
}

#[test]
fn what_is_better_read_by_one_is_one_share() {
    let server = PostgresServer::start();
    let mut sql = server.connect();
    sql.batch_execute(
        "CREATE TABLE large (id int, note text); INSERT INTO large SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i;
         CREATE TABLE small (id int); INSERT INTO small VALUES (1);
         CREATE VIEW seen AS SELECT * FROM large; CREATE MATERIALIZED VIEW kept AS SELECT * FROM large;
         CREATE TABLE parent (id int, note text) PARTITION BY RANGE (id);
         CREATE TABLE closed PARTITION OF parent FOR VALUES FROM (0) TO (10000); INSERT INTO parent SELECT * FROM large;
         CREATE ROLE part LOGIN PASSWORD 'secret'; GRANT SELECT ON small, parent TO part; GRANT SELECT (id, note) ON large TO part;
         CREATE ROLE lone LOGIN PASSWORD 'secret'; GRANT SELECT ON large TO lone;
         REVOKE EXECUTE ON FUNCTION pg_export_snapshot() FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_export_snapshot() TO part",
    )
    .unwrap();
    let shares = |user: &str, table: &str, most: u32| {
        let mut config = server.config_json("app");
        config["split_above_bytes"] = 8192.into();
        config["user"] = user.into();
        let host = FakeHost::install();
        let mut source = PostgresSource::init(config, InitContext::default()).unwrap();
        let plan = plan_for(&mut source, &stream(table), most, None);
        (plan.partitions.len(), host.logs().join("\n"))
    };
    assert_eq!(shares("app", "large", 4).0, 4);
    assert_eq!(shares("app", "large", 1).0, 1);
    for (user, table, why) in [
        ("app", "small", ""),
        ("app", "seen", ""),
        ("app", "kept", "only tables"),
        ("part", "large", "single columns"),
        ("part", "parent", "each of its partitions"),
        ("lone", "large", "exports no snapshot"),
    ] {
        let (count, logs) = shares(user, table, 4);
        assert_eq!(count, 1, "{user} {table}");
        assert!(logs.contains(why), "{user} {table}: {logs}");
    }
    // The default is for huge tables.
    let mut source = PostgresSource::init(server.config_json("app"), InitContext::default()).unwrap();
    assert_eq!(plan_for(&mut source, &stream("large"), 4, None).partitions.len(), 1);
}
