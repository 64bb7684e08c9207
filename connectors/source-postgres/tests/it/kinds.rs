//! What is not a plain table: views, foreign tables, a standby; and plain tables of extreme shape.

use crate::render::rows;
use crate::shares::{plan_for, union};
use crate::{incremental, read, source, stream};
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::{CheckStatus, Lookback, SafeBoundary, Source, StreamName};

/// A server whose tables another one of its databases shows as foreign.
fn with_foreign() -> PostgresServer {
    let server = PostgresServer::start();
    server.connect_to("postgres").batch_execute("CREATE DATABASE far").unwrap();
    server
        .connect_to("far")
        .batch_execute("CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, repeat('f', 100) || i FROM generate_series(1, 2000) i")
        .unwrap();
    server
        .connect()
        .batch_execute(&format!(
            "CREATE EXTENSION postgres_fdw;
             CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{}', dbname 'far');
             CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'app', password 'secret');
             CREATE FOREIGN TABLE outside (id int, note text) SERVER far OPTIONS (table_name 't');
             CREATE TABLE mixed (id int, note text) PARTITION BY RANGE (id);
             CREATE TABLE mixed_near PARTITION OF mixed FOR VALUES FROM (3000) TO (9000);
             CREATE FOREIGN TABLE mixed_far PARTITION OF mixed FOR VALUES FROM (1) TO (3000) SERVER far OPTIONS (table_name 't');
             INSERT INTO mixed SELECT i, repeat('n', 100) || i FROM generate_series(3000, 6999) i",
            server.port()
        ))
        .unwrap();
    server
}

#[test]
fn foreign_tables_are_read_alone_and_as_partitions() {
    let server = with_foreign();
    let (host, summary) = read(&server, stream("outside")).unwrap();
    assert_eq!(summary.records, 2000);
    let mut wanted: Vec<_> = (1..=2000).map(|i| vec![Some(i.to_string()), Some(format!("{}{i}", "f".repeat(100)))]).collect();
    wanted.sort();
    let mut found = rows(&host.batches(0).unwrap());
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(read(&server, stream("mixed")).unwrap().1.records, 6000);
    // In shares: the foreign partition is read whole.
    let mixed = stream("mixed");
    let mut planner = crate::shares::cutting(&server, "app");
    let plan = plan_for(&mut planner, &mixed, 3, None);
    assert_eq!(plan.partitions.len(), 3);
    assert_eq!(union(&server, &mixed, &plan, |_| {}).len(), 6000);
    // Incremental reads say why not by transactions.
    for table in ["outside", "mixed"] {
        let context = incremental::incremental(table, "id");
        let item = source(&server).validate(&[context]).unwrap().pop().unwrap();
        assert_eq!(item.status, CheckStatus::Failed, "{item:?}");
        assert!(item.message.contains("late commits") && item.hint.is_some_and(|hint| hint.contains("lookback")));
    }
}

#[test]
fn a_standby_is_read_whole_in_shares_and_by_lookback() {
    let primary = PostgresServer::start_with(&["wal_level=replica", "max_wal_senders=4"]);
    let mut sql = primary.connect();
    sql.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL, note text);
         INSERT INTO t SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', repeat('s', 100) FROM generate_series(1, 3000) i",
    )
    .unwrap();
    let standby = primary.standby();
    let mut there = standby.connect();
    assert_eq!(there.query("SELECT pg_is_in_recovery()").unwrap()[0].get(0), Some("t"));
    let catch_up = |sql: &mut postgres_wire::Connection, there: &mut postgres_wire::Connection| {
        let lsn = sql.query("SELECT pg_current_wal_lsn()").unwrap()[0].get(0).unwrap().to_owned();
        for _ in 0..500 {
            let done = there.query(&format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn")).unwrap();
            if done[0].get(0) == Some("t") {
                return;
            }
            there.batch_execute("SELECT pg_sleep(0.02)").unwrap();
        }
        panic!("the standby does not catch up");
    };
    catch_up(&mut sql, &mut there);
    assert_eq!(read(&standby, stream("t")).unwrap().1.records, 3000);
    let table = stream("t");
    let mut planner = crate::shares::cutting(&standby, "app");
    let plan = plan_for(&mut planner, &table, 3, None);
    assert_eq!(plan.partitions.len(), 3);
    let all = union(&standby, &table, &plan, |share| {
        sql.batch_execute(&format!(
            "INSERT INTO t VALUES ({share} + 5000, '2026-02-01', 'late'); UPDATE t SET note = note || 'x' WHERE id < 1000"
        ))
        .unwrap();
        catch_up(&mut sql, &mut there);
    });
    assert_eq!(all.len(), 3000);
    assert!(all.iter().all(|row| row[2] == Some("s".repeat(100))));
    planner.close().unwrap();
    // Transactions can't be told apart there: `check` says so, and what helps.
    let mut context = incremental::incremental("t", "at");
    let item = source(&standby).validate(&[context.clone()]).unwrap().pop().unwrap();
    assert!(item.status == CheckStatus::Failed && item.message.contains("standby"), "{item:?}");
    assert!(item.hint.as_ref().is_some_and(|hint| hint.contains("lookback(5m)")), "{item:?}");
    context.safe_boundary = Some(SafeBoundary::Lookback(Lookback::Seconds(60)));
    let item = source(&standby).validate(&[context.clone()]).unwrap().pop().unwrap();
    assert!(item.status != CheckStatus::Failed && item.message.contains("standby"), "{item:?}");
    let first = incremental::try_read(&standby, &context, None).unwrap();
    assert_eq!(first.rows().len(), 3003);
    sql.batch_execute("INSERT INTO t VALUES (9000, '2026-01-31 23:59:30', 'a little late')").unwrap();
    catch_up(&mut sql, &mut there);
    let again = incremental::try_read(&standby, &context, Some(&first.end())).unwrap();
    assert!(again.column(0).contains(&"9000".to_owned()));
}

#[test]
fn tables_of_extreme_shape_are_read() {
    let server = PostgresServer::start();
    let long = "n".repeat(63);
    let columns: Vec<String> = (1..=1600).map(|i| format!("c{i} int")).collect();
    server
        .connect()
        .batch_execute(&format!(
            "CREATE TABLE wide ({}); INSERT INTO wide (c1, c1600) SELECT i, -i FROM generate_series(1, 50) i;
             CREATE TABLE \"{long}\" (\"{long}\" int, \"\"\"\" text); INSERT INTO \"{long}\" VALUES (1, 'x'), (2, NULL);
             CREATE TABLE keyless (v text); INSERT INTO keyless VALUES ('same'), ('same'), (NULL);
             CREATE TABLE empty (id int PRIMARY KEY, v text);
             CREATE TABLE columnless (); INSERT INTO columnless DEFAULT VALUES;
             CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY, given int GENERATED BY DEFAULT AS IDENTITY (START 10), a int,
                 twice int GENERATED ALWAYS AS (a * 2) STORED);
             INSERT INTO made (a) VALUES (1), (2), (NULL)",
            columns.join(", ")
        ))
        .unwrap();
    let (host, summary) = read(&server, stream("wide")).unwrap();
    assert_eq!((summary.records, host.batches(0).unwrap()[0].num_columns()), (50, 1600));
    let last = rows(&host.batches(0).unwrap());
    assert_eq!((last[6][0].as_deref(), last[6][1].as_deref(), last[6][1599].as_deref()), (Some("7"), None, Some("-7")));
    let (host, _) = read(&server, stream(&long)).unwrap();
    assert_eq!(rows(&host.batches(0).unwrap())[0], [Some("1".to_owned()), Some("x".to_owned())]);
    assert_eq!(host.batches(0).unwrap()[0].schema().field(0).name(), &long);
    assert_eq!(read(&server, stream("keyless")).unwrap().1.records, 3);
    assert_eq!(read(&server, stream("empty")).unwrap().1.records, 0);
    // Identity and generated columns are read like others, and say what they are.
    let (host, _) = read(&server, stream("made")).unwrap();
    let batches = host.batches(0).unwrap();
    let shown = rows(&batches);
    assert_eq!(shown[1], ["2", "11", "2", "4"].map(|text| Some(text.to_owned())));
    assert_eq!(shown[2][3], None);
    let schema = batches[0].schema();
    let says = |column: usize, key: &str| schema.field(column).metadata().get(&format!("rapidbyte.pg.{key}")).cloned();
    assert_eq!((says(0, "identity"), says(1, "identity")), (Some("a".into()), Some("d".into())));
    assert_eq!((says(2, "generated"), says(3, "generated")), (None, Some("s".into())));
    // Discovery knows all of them.
    let found: Vec<StreamName> = source(&server).discover().unwrap().into_iter().map(|stream| stream.name).collect();
    for name in ["wide", long.as_str(), "keyless", "empty", "made"] {
        assert!(found.contains(&StreamName::qualified("public", name)), "{name}");
    }
}
