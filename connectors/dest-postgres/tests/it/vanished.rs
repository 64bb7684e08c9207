//! Writers that vanish in the middle of a transaction: their session stays, and nobody tells the server.

use crate::harness::{Pipe, Place, orders, position};
use dest_postgres::PostgresDestination;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{Destination, PublishRequest, SyncMode, WriteMode};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// The next claim takes the time that a writer may do nothing, and not that of a lock: `lock_timeout_seconds` is 10.
const SOON: Duration = Duration::from_secs(6);

fn feed(host: &FakeHost, ids: std::ops::Range<i64>, last: bool) {
    host.feed(0, 1, &[orders(ids.clone())]).unwrap();
    host.feed_commit(1, last, (!last).then(|| position(&(ids.end - 1).to_string())));
}

/// Writes up to a point and stays there, with its session open in the middle of its transaction.
fn stop_at(point: &str, pipe: &Pipe<'_>, act: impl FnOnce(&mut PostgresDestination, &FakeHost)) -> PostgresDestination {
    let mut destination = pipe.destination();
    let host = FakeHost::install();
    host.crash_at_mark(point, 1);
    let stopped = catch_unwind(AssertUnwindSafe(|| act(&mut destination, &host)));
    assert!(stopped.is_err(), "{point} is not marked");
    destination
}

fn idle_in_transaction(place: &Place) -> String {
    place.value("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'")
}

/// Claims, and says that it was not a lock's time that it took.
fn claim_soon(pipe: &mut Pipe<'_>) {
    assert_eq!(idle_in_transaction(pipe.place), "1");
    let started = Instant::now();
    pipe.claim();
    assert!(started.elapsed() < SOON, "the claim took {:?}", started.elapsed());
    assert_eq!(idle_in_transaction(pipe.place), "0");
}

#[test]
fn one_that_vanished_before_its_commit_is_ended_by_the_next_claim() {
    for point in ["dest.receipt.before", "dest.receipt.after"] {
        let place = Place::new();
        let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
        pipe.claim();
        pipe.prepare(1, "s", &["0"]);
        let gone = stop_at(point, &pipe, |destination, host| {
            feed(host, 0..10, true);
            let _ = destination.write(&pipe.write_request(1, "0", 0, 0), &mut host.input());
        });
        if point == "dest.receipt.after" {
            claim_soon(&mut pipe);
        } else {
            // It holds no more than its staging table, which no claim waits for.
            pipe.claim();
        }
        let host = FakeHost::install();
        feed(&host, 0..10, true);
        pipe.write(&host, 1, "0", 0, 0).unwrap();
        assert_eq!(pipe.publish(1).rows, 10);
        drop(gone);
        assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), "10 45");
    }
}

#[test]
fn one_that_vanished_while_it_merged_is_ended_by_the_next_claim() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Upsert);
    pipe.context.sync_mode = SyncMode::Incremental;
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let gone = stop_at("dest.merge.after", &pipe, |destination, host| {
        feed(host, 0..10, false);
        let _ = destination.write(&pipe.write_request(1, "0", 0, 0), &mut host.input());
    });
    claim_soon(&mut pipe);
    let host = FakeHost::install();
    feed(&host, 0..12, false);
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    drop(gone);
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), "12 66");
}

#[test]
fn one_that_vanished_while_it_published_is_ended_by_the_next_claim() {
    for existing in [false, true] {
        let place = Place::new();
        if existing {
            place.run("CREATE TABLE orders (id bigint, note text); INSERT INTO orders VALUES (-1, 'old')");
        }
        let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
        pipe.claim();
        pipe.prepare(1, "s", &["0"]);
        let host = FakeHost::install();
        feed(&host, 0..10, true);
        pipe.write(&host, 1, "0", 0, 0).unwrap();
        let gone = stop_at("dest.letters.after", &pipe, |destination, _| {
            let request = PublishRequest { run: pipe.run.clone(), context: pipe.context.clone(), epoch: pipe.epoch, generation: 1 };
            let _ = destination.publish(&request);
        });
        claim_soon(&mut pipe);
        assert_eq!(pipe.publish(1).rows, 10);
        drop(gone);
        assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), "10 45");
    }
}

#[test]
fn writers_of_other_streams_and_other_sessions_are_left_alone() {
    let place = Place::new();
    let mut other = Pipe::new(&place, "others", WriteMode::Append);
    other.claim();
    other.prepare(1, "s", &["0"]);
    let slow = stop_at("dest.receipt.after", &other, |destination, host| {
        feed(host, 0..10, true);
        let _ = destination.write(&other.write_request(1, "0", 0, 0), &mut host.input());
    });
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.extra = serde_json::json!({ "lock_timeout_seconds": 3 });
    pipe.claim();
    // Somebody who is no writer holds the row, and the claim waits for it in vain.
    let mut somebody = place.sql();
    somebody.batch_execute("BEGIN; SELECT FROM _rapidbyte.streams WHERE stream = 'orders' FOR SHARE").unwrap();
    assert_eq!(pipe.try_claim("source", 0).unwrap_err().code, "lock_timeout");
    assert_eq!(idle_in_transaction(&place), "2");
    somebody.batch_execute("COMMIT").unwrap();
    pipe.claim();
    assert_eq!(idle_in_transaction(&place), "1");
    drop(slow);
}
