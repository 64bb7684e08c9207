//! A standby takes over from a primary whose last transactions it has never seen, and gives their ids to others.

use crate::incremental::{incremental, try_read};
use postgres_wire::Connection;
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::{SafeBoundary, WriteMode};

fn value(sql: &mut Connection, query: &str) -> String {
    sql.query(query).unwrap()[0].get(0).unwrap_or("NULL").to_owned()
}

/// Asks until the answer is yes.
fn until(sql: &mut Connection, query: &str) {
    for _ in 0..500 {
        if value(sql, query) == "t" {
            return;
        }
        sql.batch_execute("SELECT pg_sleep(0.02)").unwrap();
    }
    panic!("never true: {query}");
}

#[test]
fn ids_given_twice_after_a_promotion_hide_no_row() {
    let primary = PostgresServer::start_with(&["wal_level=replica", "max_wal_senders=4"]);
    let mut sql = primary.connect();
    sql.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t SELECT i, i FROM generate_series(1, 10) i",
    )
    .unwrap();
    let standby = primary.standby();
    let mut there = standby.connect();
    let lsn = value(&mut sql, "SELECT pg_current_wal_lsn()");
    until(&mut there, &format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'"));
    // From here on nothing reaches the standby.
    there.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").unwrap();
    there.batch_execute("SELECT pg_reload_conf()").unwrap();
    until(&mut there, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)");
    for id in 11..=20 {
        sql.batch_execute(&format!("INSERT INTO t VALUES ({id}, {id})")).unwrap();
    }
    let (mut merged, mut appended) = (incremental("t", "n"), incremental("t", "n"));
    appended.write_mode = WriteMode::Append;
    merged.limits.max_batch_bytes = 64 << 20;
    let end = try_read(&primary, &merged, None).unwrap().end();
    assert!(try_read(&primary, &merged, Some(&end)).unwrap().rows().is_empty());
    let last: i64 = value(&mut sql, "SELECT max(xmin::text::bigint) FROM t").parse().unwrap();
    drop(sql);
    primary.stop_immediately();

    until(&mut there, "SELECT pg_promote()");
    for id in 101..=108 {
        there.batch_execute(&format!("INSERT INTO t VALUES ({id}, {id})")).unwrap();
    }
    let first: i64 = value(&mut there, "SELECT min(xmin::text::bigint) FROM t WHERE id > 100").parse().unwrap();
    assert!(first <= last, "the ids are not given twice: {first} comes after {last}");
    // Past what was delivered, so that it does not look like a server set back.
    for _ in 0..30 {
        there.batch_execute("SELECT txid_current()").unwrap();
    }
    let all: Vec<String> = (1..=10).chain(101..=108).map(|id| id.to_string()).collect();
    let again = try_read(&standby, &merged, Some(&end)).unwrap();
    assert_eq!(again.column(0), all);
    assert!(try_read(&standby, &merged, Some(&again.end())).unwrap().rows().is_empty());
    let error = try_read(&standby, &appended, Some(&end)).map(|_| ()).unwrap_err();
    assert_eq!(error.code, "source_changed");
    assert!(error.message.contains("promoted"), "{error}");
    // The hint's way: on behind the largest cursor, and from there by transactions again.
    appended.safe_boundary = Some(SafeBoundary::None);
    let next = try_read(&standby, &appended, Some(&end)).unwrap();
    assert_eq!(next.column(0), all[10..]);
    appended.safe_boundary = None;
    assert!(try_read(&standby, &appended, Some(&next.end())).unwrap().rows().is_empty());
}
