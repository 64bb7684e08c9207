//! Rows that commit late, in whatever order: each row version is delivered once.

use crate::incremental::{Read, incremental, make, read, try_read};
use crate::server;
use postgres_wire::Connection;
use rapidbyte_sdk::{Position, SafeBoundary, StreamContext, WriteMode};
use std::collections::HashMap;

fn ids(read: &Read) -> Vec<String> {
    let mut ids = read.column(0);
    ids.sort();
    ids
}

fn appended(table: &str, cursor: &str) -> StreamContext {
    let mut context = incremental(table, cursor);
    context.write_mode = WriteMode::Append;
    context
}

#[test]
fn a_smaller_cursor_that_commits_later_is_delivered_once() {
    let mut sql = make("CREATE TABLE late (id int PRIMARY KEY, n int NOT NULL); INSERT INTO late VALUES (1, 10)");
    let (mut early, mut nested) = (server().connect(), server().connect());
    early.batch_execute("BEGIN; INSERT INTO late VALUES (2, 5)").unwrap();
    // Rows after a savepoint are written under ids that no snapshot lists.
    nested.batch_execute("BEGIN; INSERT INTO late VALUES (3, 4); SAVEPOINT s; INSERT INTO late VALUES (4, 3)").unwrap();
    sql.batch_execute("INSERT INTO late VALUES (5, 20)").unwrap();
    let context = appended("late", "n");
    let first = read(&context, None);
    assert_eq!(ids(&first), ["1", "5"]);
    // Delivered between two that are still in flight: not again.
    nested.batch_execute("COMMIT").unwrap();
    let second = read(&context, Some(&first.end()));
    assert_eq!(ids(&second), ["3", "4"]);
    early.batch_execute("COMMIT").unwrap();
    let third = read(&context, Some(&second.end()));
    assert_eq!(ids(&third), ["2"]);
    assert!(read(&context, Some(&third.end())).rows().is_empty());
    // With no protection they are lost: the test can tell.
    let mut unsafe_context = context;
    unsafe_context.safe_boundary = Some(SafeBoundary::None);
    assert!(read(&unsafe_context, Some(&first.end())).rows().is_empty());
}

#[test]
fn a_transaction_that_had_begun_and_not_yet_written_is_not_missed() {
    make("CREATE TABLE begun (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now()); INSERT INTO begun VALUES (1)");
    let mut slow = server().connect();
    slow.batch_execute("BEGIN; SELECT count(*) FROM begun").unwrap();
    let mut sql = make("SELECT pg_sleep(0.01); INSERT INTO begun VALUES (2)");
    let context = appended("begun", "at");
    let first = read(&context, None);
    assert_eq!(ids(&first), ["1", "2"]);
    // Its `now()` is the time of its BEGIN, before the bound.
    slow.batch_execute("INSERT INTO begun VALUES (3); COMMIT").unwrap();
    let behind = sql.query("SELECT (SELECT at FROM begun WHERE id = 3) < (SELECT at FROM begun WHERE id = 2)").unwrap();
    assert_eq!(behind[0].get(0), Some("t"));
    assert_eq!(ids(&read(&context, Some(&first.end()))), ["3"]);
}

#[test]
fn an_interrupted_read_goes_on_in_a_later_snapshot() {
    let mut sql = make(
        "CREATE TABLE broken (id int PRIMARY KEY, n int NOT NULL);
          INSERT INTO broken SELECT i, i * 10 FROM generate_series(1, 200) i",
    );
    let mut slow = server().connect();
    slow.batch_execute("BEGIN; INSERT INTO broken VALUES (1000, 1)").unwrap();
    let context = appended("broken", "n");
    let first = read(&context, None);
    let (rows, barrier) = &first.windows[3];
    let before: usize = first.windows[..3].iter().map(|(rows, _)| rows.len()).sum::<usize>() + rows.len();
    assert!(before < 150);
    // Meanwhile: a late one, one behind the place, one deleted that was not read yet, one changed of each kind.
    slow.batch_execute("COMMIT").unwrap();
    sql.batch_execute(
        "INSERT INTO broken VALUES (1001, 15); DELETE FROM broken WHERE id = 190;
         UPDATE broken SET n = n WHERE id = 2; UPDATE broken SET n = n WHERE id = 195",
    )
    .unwrap();
    let rest = read(&context, barrier.as_ref());
    let mut got = ids(&rest);
    let mut wanted: Vec<String> = (before as i32 + 1..=200).filter(|id| *id != 190).map(|id| id.to_string()).collect();
    wanted.extend(["1000", "1001", "2"].map(str::to_owned));
    wanted.sort();
    got.sort();
    assert_eq!(got, wanted);
    // Interrupted again, in each of its windows.
    for (_, barrier) in &rest.windows {
        let Some(barrier) = barrier else { continue };
        assert!(try_read(server(), &context, Some(barrier)).is_ok());
    }
    assert!(read(&context, Some(&rest.end())).rows().is_empty());
}

#[test]
fn what_was_written_anew_is_not_appended_again() {
    let mut sql = make(
        "CREATE TABLE rewritten (id int PRIMARY KEY, n int NOT NULL, v int);
          INSERT INTO rewritten SELECT i, i, i FROM generate_series(1, 50) i",
    );
    let mut context = appended("rewritten", "n");
    let end = read(&context, None).end();
    sql.batch_execute("CLUSTER rewritten USING rewritten_pkey").unwrap();
    assert!(read(&context, Some(&end)).rows().is_empty());
    sql.batch_execute("ALTER TABLE rewritten ALTER COLUMN v TYPE bigint; INSERT INTO rewritten VALUES (51, 51, 51)").unwrap();
    let error = try_read(server(), &context, Some(&end)).map(|_| ()).unwrap_err();
    assert_eq!(error.code, "source_changed");
    // The hint's way works, and leads back.
    context.safe_boundary = Some(SafeBoundary::None);
    let next = read(&context, Some(&end));
    assert_eq!(ids(&next), ["51"]);
    context.safe_boundary = None;
    assert!(read(&context, Some(&next.end())).rows().is_empty());
    context.write_mode = WriteMode::Upsert;
    assert_eq!(read(&context, Some(&end)).rows().len(), 51);
}

#[test]
fn frozen_rows_stay_delivered() {
    let mut sql = make("CREATE TABLE frozen (id int PRIMARY KEY, n int NOT NULL); INSERT INTO frozen VALUES (1, 1), (2, 2)");
    let context = appended("frozen", "n");
    let end = read(&context, None).end();
    sql.batch_execute("VACUUM (FREEZE) frozen").unwrap();
    sql.batch_execute("INSERT INTO frozen VALUES (3, 0)").unwrap();
    assert_eq!(ids(&read(&context, Some(&end))), ["3"]);
}

#[test]
fn partitions_are_read_through_their_parent() {
    let mut sql = make(
        "CREATE TABLE parts (id int, n int NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
          CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
          CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200);
          INSERT INTO parts SELECT i, i FROM generate_series(50, 149) i",
    );
    let context = appended("parts", "n");
    let end = read(&context, None).end();
    sql.batch_execute("INSERT INTO parts VALUES (1, 1), (199, 2)").unwrap();
    assert_eq!(ids(&read(&context, Some(&end))), ["1", "199"]);
}

#[test]
fn partitions_that_were_written_anew_are_not_appended_again() {
    let mut sql = make(
        "CREATE TABLE ring (id int, n int NOT NULL, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
          CREATE TABLE ring_1 PARTITION OF ring FOR VALUES FROM (0) TO (100);
          CREATE TABLE ring_2 PARTITION OF ring FOR VALUES FROM (100) TO (200);
          INSERT INTO ring SELECT i, i, i FROM generate_series(50, 149) i;
          CREATE TABLE ring_5 (id int NOT NULL, n int NOT NULL, v bigint); INSERT INTO ring_5 VALUES (400, 5, 5)",
    );
    let mut context = appended("ring", "n");
    let mut end = read(&context, None).end();
    // Partitions come, go, are filled with other rows and packed anew: what is new is read, and nothing else.
    for (change, new) in [
        ("INSERT INTO ring VALUES (1, 1, 1)", &["1"][..]),
        ("CREATE TABLE ring_3 PARTITION OF ring FOR VALUES FROM (200) TO (300); INSERT INTO ring VALUES (200, 2, 2)", &["200"][..]),
        ("TRUNCATE ring_2; INSERT INTO ring VALUES (150, 3, 3)", &["150"][..]),
        ("VACUUM FULL ring", &[][..]),
        (
            "DROP TABLE ring_1, ring_2, ring_3; CREATE TABLE ring_4 PARTITION OF ring FOR VALUES FROM (300) TO (400);
             INSERT INTO ring VALUES (300, 4, 4)",
            &["300"][..],
        ),
    ] {
        sql.batch_execute(change).unwrap();
        let next = read(&context, Some(&end));
        assert_eq!(ids(&next), new, "{change}");
        end = next.end();
    }
    for (change, rows) in [
        // The rows of a partition that is attached were written long ago, and say nothing of the others.
        ("ALTER TABLE ring ALTER v TYPE bigint; ALTER TABLE ring ATTACH PARTITION ring_5 FOR VALUES FROM (400) TO (500)", 1),
        ("ALTER TABLE ring ADD u uuid DEFAULT gen_random_uuid()", 2),
    ] {
        sql.batch_execute(change).unwrap();
        let error = try_read(server(), &context, Some(&end)).map(|_| ()).unwrap_err();
        assert_eq!(error.code, "source_changed", "{change}");
        context.write_mode = WriteMode::Upsert;
        assert_eq!(read(&context, Some(&end)).rows().len(), rows, "{change}");
        context.write_mode = WriteMode::Append;
        // The hint's way.
        context.safe_boundary = Some(SafeBoundary::None);
        let passed = read(&context, Some(&end));
        context.safe_boundary = None;
        let next = read(&context, Some(&passed.end()));
        assert!(passed.rows().is_empty() && next.rows().is_empty(), "{change}");
        end = next.end();
    }
}

#[test]
fn partitions_that_come_and_go_say_nothing_of_those_that_stay() {
    let mut sql = make(
        "CREATE TABLE pile (id int, n int NOT NULL, PRIMARY KEY (id)) PARTITION BY RANGE (id);
         CREATE TABLE pile_1 PARTITION OF pile FOR VALUES FROM (0) TO (100)",
    );
    let context = appended("pile", "n");
    let mut end = read(&context, None).end();
    for (change, new) in [
        // Nothing was delivered yet.
        ("INSERT INTO pile VALUES (1, 1); CREATE TABLE pile_2 PARTITION OF pile FOR VALUES FROM (100) TO (200)", "1"),
        // All that was delivered is gone.
        (
            "DELETE FROM pile; INSERT INTO pile VALUES (2, 2); CREATE TABLE pile_3 PARTITION OF pile FOR VALUES FROM (200) TO (300)",
            "2",
        ),
        ("DROP TABLE pile_1; INSERT INTO pile VALUES (100, 3)", "100"),
    ] {
        sql.batch_execute(change).unwrap();
        let next = read(&context, Some(&end));
        assert_eq!(ids(&next), [new], "{change}");
        end = next.end();
    }
}

#[test]
fn a_load_that_was_interrupted_does_not_begin_again_with_what_was_written_anew() {
    let mut sql = make(
        "CREATE TABLE half (id int PRIMARY KEY, n int NOT NULL, v int); INSERT INTO half SELECT i, i, i FROM generate_series(1, 200) i",
    );
    let context = appended("half", "n");
    let (_, barrier) = read(&context, None).windows.swap_remove(1);
    sql.batch_execute("CLUSTER half USING half_pkey").unwrap();
    assert!(read(&context, barrier.as_ref()).rows().len() < 200);
    sql.batch_execute("ALTER TABLE half ALTER v TYPE bigint").unwrap();
    let error = try_read(server(), &context, barrier.as_ref()).map(|_| ()).unwrap_err();
    assert_eq!(error.code, "source_changed");
}

/// Chance without a crate for it.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

const WRITERS: usize = 64;

/// Writers that begin, take numbers, write, nest, roll back and commit in any order, while reads come in between and are cut at
/// any barrier. `append`: each row version that is there at a read is delivered once. The clock of cursors only grows, as a
/// sequence does, and is taken before the write.
fn many_writers(seed: u64, writers: &mut [Connection]) {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut sql = make("DROP TABLE IF EXISTS busy; CREATE TABLE busy (id int PRIMARY KEY, n int NOT NULL, v int NOT NULL)");
    let context = appended("busy", "n");
    let mut open = [false; WRITERS];
    let mut taken: Vec<Vec<usize>> = vec![Vec::new(); WRITERS];
    let (mut clock, mut next_id) = (0, 0);
    let mut position: Option<Position> = None;
    let mut delivered: HashMap<(String, String), usize> = HashMap::new();
    let mut note = |rows: &[Vec<Option<String>>]| {
        for row in rows {
            *delivered.entry((row[0].clone().unwrap(), row[2].clone().unwrap())).or_default() += 1;
        }
    };
    for _ in 0..300 {
        let who = chance.below(WRITERS);
        let writer = &mut writers[who];
        match chance.below(10) {
            0..=4 => {
                if !open[who] {
                    writer.batch_execute("BEGIN").unwrap();
                    open[who] = true;
                }
                clock += 1;
                taken[who].push(clock);
                if chance.below(3) == 0 {
                    writer.batch_execute("SAVEPOINT s").unwrap();
                }
                // Written later than taken.
                if chance.below(2) == 0 {
                    for n in taken[who].drain(..) {
                        next_id += 1;
                        writer.batch_execute(&format!("INSERT INTO busy VALUES ({next_id}, {n}, 0)")).unwrap();
                    }
                }
            }
            5..=7 => {
                if open[who] {
                    taken[who].clear();
                    let end = if chance.below(5) == 0 { "ROLLBACK" } else { "COMMIT" };
                    writer.batch_execute(end).unwrap();
                    open[who] = false;
                }
            }
            8 => {
                // An update of something visible, by a transaction that waits for nobody.
                clock += 1;
                sql.batch_execute(&format!(
                    "UPDATE busy SET n = {clock}, v = {clock} WHERE id = (SELECT id FROM busy ORDER BY id OFFSET {} LIMIT 1)",
                    chance.below(40)
                ))
                .unwrap();
            }
            _ => {
                let got = read(&context, position.as_ref());
                // A run that dies keeps what its last commit covered.
                let kept = 1 + chance.below(got.windows.len());
                let windows = &got.windows[..kept];
                let last = windows.iter().rposition(|(_, barrier)| barrier.is_some());
                for (rows, _) in last.map_or(&[][..], |last| &windows[..=last]) {
                    note(rows);
                }
                position = last.and_then(|last| windows[last].1.clone()).or(position);
            }
        }
    }
    for (writer, open) in writers.iter_mut().zip(open) {
        if open {
            writer.batch_execute("COMMIT").unwrap();
        }
    }
    let got = read(&context, position.as_ref());
    note(&got.rows());
    for row in sql.query("SELECT id, v FROM busy").unwrap() {
        let key = (row.get(0).unwrap().to_owned(), row.get(1).unwrap().to_owned());
        assert_eq!(delivered.get(&key), Some(&1), "seed {seed}: row {key:?}");
    }
    let twice: Vec<_> = delivered.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: delivered more than once: {twice:?}");
    assert!(read(&context, Some(&got.end())).rows().is_empty(), "seed {seed}");
}

#[test]
fn with_64_writers_in_any_order_each_row_version_comes_once() {
    let full = std::env::var("RAPIDBYTE_PROVE").is_ok_and(|value| value == "full");
    let mut writers: Vec<Connection> = (0..WRITERS).map(|_| server().connect()).collect();
    for seed in 1..=if full { 1_000 } else { 3 } {
        many_writers(seed, &mut writers);
    }
}
