use crate::harness::{Pipe, Place, orders, position};
use rapidbyte_sdk::testing::{FakeHost, run_context};
use rapidbyte_sdk::{ClaimRequest, ClaimStream, CommitState, Destination, ErrorCategory, StreamContext, StreamName, WriteMode};

fn ledger(place: &Place) -> String {
    place.value(
        "SELECT coalesce(string_agg(x::text, '; '), '') FROM (
         SELECT s.epoch, s.newest_generation, g.state, r.partition, r.seq, r.rows
         FROM _rapidbyte.streams s LEFT JOIN _rapidbyte.generations g ON g.stream_id = s.id
         LEFT JOIN _rapidbyte.receipts r ON r.generation = g.number ORDER BY 1, 2, 3, 4) x",
    )
}

#[test]
fn an_older_epoch_changes_nothing() {
    let place = Place::new();
    let mut old = Pipe::new(&place, "orders", WriteMode::Append);
    old.claim();
    old.prepare(1, "s", &["0", "1"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..10)]).unwrap();
    host.feed_commit(1, true, None);
    old.write(&host, 1, "0", 0, 0).unwrap();

    let mut new = Pipe::new(&place, "orders", WriteMode::Append);
    assert_eq!(new.claim().epoch, old.epoch + 1);
    let before = ledger(&place);

    let host = FakeHost::install();
    host.feed(0, 1, &[orders(10..20)]).unwrap();
    host.feed_commit(1, true, None);
    let errors = [
        old.write(&host, 1, "1", 0, 0).map(|_| ()).unwrap_err(),
        old.try_prepare(2, "t", &["0"]).unwrap_err(),
        old.try_publish(1).map(|_| ()).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code, "fenced", "{error}");
        assert_eq!((error.category, error.retryable), (ErrorCategory::Permission, false));
        assert_eq!(error.commit_state, CommitState::BeforeCommit);
    }
    assert!(host.checkpoints().is_empty());
    assert_eq!(ledger(&place), before);
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte._rb_load_1_1"), "10");
}

#[test]
fn a_writer_stopped_in_the_middle_does_not_hold_up_the_next_run() {
    let place = Place::new();
    let mut old = Pipe::new(&place, "orders", WriteMode::Append);
    old.begin();
    // A session that is in the middle of a COPY into the staging table, as a stopped process would leave it.
    let mut zombie = place.sql();
    zombie.batch_execute("BEGIN; INSERT INTO _rapidbyte._rb_load_1_1 SELECT 1000").unwrap();
    let mut new = Pipe::new(&place, "orders", WriteMode::Append);
    new.claim();
    new.prepare(2, "t", &["0"]);
    assert!(zombie.batch_execute("COMMIT").is_err(), "the zombie's session was ended");
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(10..20)]).unwrap();
    host.feed_commit(1, true, None);
    assert_eq!(old.write(&host, 1, "0", 1, 10).unwrap_err().code, "fenced");
}

#[test]
fn a_session_left_by_an_earlier_attempt_does_not_hold_up_publish() {
    for existing in [false, true] {
        let place = Place::new();
        if existing {
            place.run("CREATE TABLE orders (id bigint, note text)");
        }
        let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
        pipe.claim();
        pipe.prepare(1, "s", &["0", "1"]);
        let write = |pipe: &Pipe<'_>, partition: &str, ids| {
            let host = FakeHost::install();
            host.feed(0, 1, &[orders(ids)]).unwrap();
            host.feed_commit(1, true, None);
            pipe.write(&host, 1, partition, 0, 0).unwrap();
        };
        write(&pipe, "0", 0..10);
        // The first attempt at partition 1 died with its machine in the middle of a COPY; the server does not know it yet.
        let mut half_open = place.sql();
        half_open.batch_execute("BEGIN; INSERT INTO _rapidbyte._rb_load_1_1 SELECT 1000").unwrap();
        pipe.claim();
        pipe.prepare(1, "s", &["0", "1"]);
        write(&pipe, "1", 10..20);
        assert_eq!(pipe.publish(1).rows, 20);
        assert_eq!(place.value("SELECT count(*) || ' ' || max(id) FROM orders"), "20 19");
        assert!(half_open.batch_execute("COMMIT").is_err(), "its session was ended");
    }
}

#[test]
fn a_receipt_that_is_not_the_successor_is_refused() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let attempt = |seq: u64| {
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(0..10)]).unwrap();
        host.feed_commit(1, false, Some(position("9")));
        pipe.write(&host, 1, "0", seq, 0)
    };
    assert_eq!(attempt(1).unwrap_err().code, "fenced", "there is no receipt 1 yet");
    attempt(0).unwrap();
    assert_eq!(attempt(0).unwrap_err().code, "fenced", "receipt 1 is there");
    assert_eq!(attempt(2).unwrap_err().code, "fenced");
    attempt(1).unwrap();
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte._rb_load_1_1"), "20");
}

#[test]
fn another_source_is_refused_and_the_hint_helps() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    let epoch = pipe.claim().epoch;
    let error = pipe.try_claim("another", 50).unwrap_err();
    assert_eq!((error.code.as_str(), error.category), ("source_mismatch", ErrorCategory::Config));
    assert_eq!(place.value("SELECT epoch FROM _rapidbyte.streams"), epoch.to_string());
    place.run_hint(&error.hint.unwrap());
    assert_eq!(pipe.try_claim("another", 50).unwrap().epoch, 51);
}

#[test]
fn a_damaged_ledger_is_told_and_never_guessed_at() {
    let place = Place::new();
    for (damage, what) in [
        ("UPDATE _rapidbyte.receipts SET position_value = '\\xff'", "a position"),
        ("UPDATE _rapidbyte.receipts SET position_type = 'colour'", "a position"),
        ("UPDATE _rapidbyte.receipts SET rows = -1", "a count"),
        ("UPDATE _rapidbyte.receipts SET transform_state = '[[0, \"zz\"]]'", "transform state"),
        ("UPDATE _rapidbyte.generations SET snapshot = '\\xff'", "a snapshot"),
        ("UPDATE _rapidbyte.generations SET partitions = '[{\"id\": \"0\", \"spec\": \"zz\"}]'", "a partition"),
    ] {
        let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
        pipe.begin();
        place.run(damage);
        let error = pipe.try_claim("source", 0).unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("ledger_damaged", false), "{damage}");
        assert!(error.message.contains(what), "{damage}: {error}");
        place.run_hint(&error.hint.unwrap());
        assert!(pipe.claim().generation.is_none());
        place.run("DROP SCHEMA _rapidbyte CASCADE");
    }
}

#[test]
fn many_streams_are_claimed_at_once() {
    let place = Place::new();
    let stream = |number: u32| ClaimStream {
        context: StreamContext::full_refresh(StreamName::qualified("public", format!("t{number}"))),
        known_epoch: 0,
        source_identity: "s".into(),
    };
    let request = ClaimRequest { run: run_context(), streams: (0..300).map(stream).collect() };
    let claimed = place.destination().claim(&request).unwrap();
    assert!(claimed.len() == 300 && claimed.iter().all(|claimed| claimed.epoch == 1));
    assert_eq!(place.value("SELECT count(*) || ' ' || count(DISTINCT xmin::text) FROM _rapidbyte.streams"), "300 1");
}

#[test]
fn the_ledger_is_made_once_by_many_at_the_same_time() {
    let place = Place::new();
    std::thread::scope(|scope| {
        let claims: Vec<_> = (0..8)
            .map(|number| {
                let place = &place;
                scope.spawn(move || {
                    let pipe = Pipe::new(place, &format!("t{}", number % 2), WriteMode::Append);
                    pipe.try_claim("s", 0).map(|claimed| claimed.epoch)
                })
            })
            .collect();
        let mut epochs: Vec<u64> = claims.into_iter().map(|claim| claim.join().unwrap().expect("the claim succeeds")).collect();
        epochs.sort_unstable();
        assert_eq!(epochs, [1, 1, 2, 2, 3, 3, 4, 4]);
    });
}

#[test]
fn partitions_are_written_side_by_side() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    pipe.claim();
    pipe.prepare(1, "s", &["0", "1", "2", "3"]);
    std::thread::scope(|scope| {
        for number in 0..4_i64 {
            let pipe = &pipe;
            scope.spawn(move || {
                let host = FakeHost::install();
                host.feed(0, 1, &[orders(number * 1000..number * 1000 + 500)]).unwrap();
                host.feed_commit(1, false, Some(position("x")));
                host.feed(0, 2, &[orders(number * 1000 + 500..number * 1000 + 1000)]).unwrap();
                host.feed_commit(2, true, None);
                pipe.write(&host, 1, &number.to_string(), 0, 0).expect("the partition is written");
            });
        }
    });
    assert_eq!(pipe.publish(1).rows, 4000);
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) FROM orders"), "4000 7998000");
}

#[test]
fn a_claim_waits_for_a_commit_under_way_and_sees_its_receipt() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.begin();
    // Another writer between its receipt and its COMMIT.
    let mut writer = place.sql();
    writer
        .batch_execute("BEGIN; SELECT epoch FROM _rapidbyte.streams FOR SHARE; UPDATE _rapidbyte.receipts SET seq = 2, rows = 20")
        .unwrap();
    std::thread::scope(|scope| {
        let claim = scope.spawn(|| Pipe::new(&place, "orders", WriteMode::Append).claim());
        let mut watch = place.sql();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while watch.query(waiting).unwrap()[0].get(0) == Some("0") {
            assert!(!claim.is_finished(), "the claim did not wait");
        }
        writer.batch_execute("COMMIT").unwrap();
        let receipt = claim.join().unwrap().receipts.remove(0);
        assert_eq!((receipt.seq, receipt.rows), (2, 20));
    });
}
