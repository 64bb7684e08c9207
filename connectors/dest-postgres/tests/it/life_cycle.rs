use crate::harness::{Pipe, Place, orders, position};
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{CheckStatus, Destination, StreamContext, StreamName, WriteMode};

#[test]
fn appends_to_a_table_it_makes_and_to_one_that_is_there() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    let first = pipe.load(&[orders(0..1000), orders(1000..1500)]);
    assert_eq!((first.rows, first.location.as_str()), (1500, "public.orders"));
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(id) || ' ' || count(note) FROM orders"), "1500 1124250 1000");
    let types = "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || ' ' || attnotnull, ', ' ORDER BY attnum)
                 FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0";
    assert_eq!(place.value(types), "id bigint true, note text false");
    pipe.load(&[orders(2000..2010)]);
    assert_eq!(place.value("SELECT count(*) FROM orders"), "1510");
    assert_eq!(place.value("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_rb\\_load%'"), "0");
}

#[test]
fn rows_are_invisible_before_publish_and_a_second_publish_says_the_same() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.load(&[orders(0..10)]);
    let claimed = pipe.claim();
    assert_eq!((claimed.newest_generation, claimed.generation.is_none()), (1, true));
    pipe.prepare(2, "s2", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(10..20)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 2, "0", 0, 0).unwrap();
    assert_eq!(place.value("SELECT count(*) FROM orders"), "10");
    let first = pipe.publish(2);
    assert_eq!(place.value("SELECT count(*) FROM orders"), "20");
    assert_eq!(pipe.publish(2), first);
    assert_eq!(pipe.claim().location, first.location);
    assert_eq!(pipe.publish(2), first, "a later epoch is told the same");
    assert_eq!(place.value("SELECT count(*) FROM orders"), "20");
    let error = pipe.try_publish(1).unwrap_err();
    assert_eq!(error.code, "unknown_generation");
}

#[test]
fn a_load_goes_on_from_its_receipts() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "same", &["a", "b"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..100)]).unwrap();
    host.feed_commit(1, false, Some(position("99")));
    host.feed(0, 2, &[orders(100..200)]).unwrap();
    pipe.write(&host, 1, "a", 0, 0).expect("rows after the last commit are not an error of the destination");
    let written = host.checkpoints();
    assert_eq!(written.len(), 1);
    assert_eq!(place.value("SELECT sum(rows) FROM _rapidbyte.receipts"), "100");
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte._rb_load_1_1"), "100", "what has no receipt is gone");

    let claimed = pipe.claim();
    let open = claimed.generation.expect("the generation is open");
    assert_eq!((open.number, open.snapshot.as_str(), open.partitions.len()), (1, "same", 2));
    assert_eq!(open.partitions[0].spec, [0, 255, 7]);
    assert_eq!(claimed.receipts.len(), 1);
    assert_eq!(claimed.receipts[0].position, Some(position("99")));
    assert_eq!((claimed.receipts[0].seq, claimed.receipts[0].rows, claimed.receipts[0].last), (1, 100, false));
    assert_eq!(claimed.receipts[0].committed_at_ms, written[0].receipts[0].committed_at_ms);

    let error = pipe.try_publish(1).unwrap_err();
    assert_eq!(error.code, "unfinished_generation");
    pipe.prepare(1, "same", &["a", "b", "c"]);
    for (partition, seq, rows, ids) in [("a", 1, 100, 100..150), ("b", 0, 0, 150..160), ("c", 0, 0, 160..170)] {
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(ids)]).unwrap();
        host.feed_commit(1, true, None);
        pipe.write(&host, 1, partition, seq, rows).unwrap();
        assert_eq!(host.checkpoints()[0].receipts[0].seq, seq + 1);
    }
    assert_eq!(pipe.publish(1).rows, 170);
    assert_eq!(place.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders"), "170 170");
}

#[test]
fn transform_state_comes_back_byte_for_byte() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let large: Vec<u8> = (0..1_u32 << 20).map(|byte| ((byte * 31) >> 3) as u8).collect();
    let state = vec![(0, large), (2, Vec::new()), (3, vec![0, 255])];
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..10)]).unwrap();
    host.feed_event(rapidbyte_sdk::host_ffi::RawEvent::Barrier(rapidbyte_sdk::Barrier {
        id: 1,
        commit: true,
        last: false,
        position: Some(position("nul \0 and 'quotes'")),
        transform_state: state.clone(),
    }));
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    let receipt = pipe.claim().receipts.remove(0);
    assert!(receipt.transform_state == state);
    assert_eq!(receipt.position, Some(position("nul \0 and 'quotes'")));
}

#[test]
fn acknowledged_means_durable_whatever_the_role_says() {
    let place = Place::new();
    place.run(&format!(
        "ALTER ROLE app IN DATABASE {} SET synchronous_commit = off",
        postgres_wire::quote_ident(&place.database).unwrap()
    ));
    place.run("CREATE TABLE seen (setting text, note text)");
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.load(&[orders(0..1)]);
    place.run(
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_setting('synchronous_commit'), TG_TABLE_NAME); RETURN NEW; END $$;
         CREATE TRIGGER look BEFORE INSERT OR UPDATE ON _rapidbyte.receipts FOR EACH ROW EXECUTE FUNCTION look();
         CREATE TRIGGER look BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION look()",
    );
    pipe.load(&[orders(1..2)]);
    assert_eq!(place.value("SELECT string_agg(note || ' ' || setting, ', ' ORDER BY note) FROM seen"), "orders on, receipts on");
}

#[test]
fn another_snapshot_discards_the_load() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "lost", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..100)]).unwrap();
    host.feed_commit(1, false, Some(position("99")));
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    assert_eq!(pipe.claim().newest_generation, 1);
    pipe.prepare(2, "new", &["0"]);
    assert_eq!(place.value("SELECT to_regclass('_rapidbyte._rb_load_1_1') IS NULL"), "t");
    let claimed = pipe.claim();
    assert_eq!((claimed.newest_generation, claimed.receipts.len()), (2, 0));
    assert!(pipe.try_prepare(2, "other", &["0"]).is_err(), "an open generation keeps its snapshot");
    let error = pipe.try_prepare(1, "older", &["0"]).unwrap_err();
    assert_eq!(error.code, "generation_order");
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..7)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 2, "0", 0, 0).unwrap();
    assert_eq!(pipe.publish(2).rows, 7);
}

#[test]
fn an_empty_stream_and_a_barrier_alone_are_loads_too() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    assert_eq!(pipe.load(&[orders(0..0)]).rows, 0);
    assert_eq!(place.value("SELECT count(*) FROM orders"), "0");
    assert_eq!(place.value("SELECT count(*) FROM pg_index WHERE indrelid = 'orders'::regclass AND indisprimary"), "1");
    pipe.claim();
    pipe.prepare(2, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..5)]).unwrap();
    host.feed_commit(1, false, Some(position("4")));
    host.feed_commit(2, true, None);
    let summary = pipe.write(&host, 2, "0", 0, 0).unwrap();
    assert_eq!((summary.records, summary.checkpoint_count, summary.batches_written), (5, 2, 1));
    assert!(summary.perf.decode_ns > 0 && summary.perf.flush_ns > 0 && summary.perf.commit_ns > 0 && summary.perf.connect_ns > 0);
    let seqs: Vec<u64> = host.checkpoints().iter().map(|of| of.receipts[0].seq).collect();
    assert_eq!(seqs, [1, 2]);
    for mark in [
        "dest.staging.before",
        "dest.staging.after",
        "dest.receipt.before",
        "dest.receipt.after",
        "dest.commit.sent",
        "dest.commit.confirmed",
    ] {
        assert!(host.marks().iter().any(|made| made == mark), "`{mark}` was not reached");
    }
}

#[test]
fn hostile_names_arrive_as_they_are() {
    let place = Place::new();
    let long = format!("{}é", "ä".repeat(30));
    assert_eq!(long.len(), 62);
    for (number, name) in
        ["Ord\"ers", "a'; DROP TABLE x; --", &"x".repeat(63), &long, "sel ect", "t.dot", "UPPER"].iter().enumerate()
    {
        for mode in [WriteMode::Append, WriteMode::Replace] {
            let mut pipe = Pipe::new(&place, name, mode);
            pipe.schema = format!("Sch\"ema '{number} {mode}");
            for _ in 0..2 {
                pipe.load(&[orders(0..3)]);
            }
            let found = place.sql().query_params(
                "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = $1 AND nspname = $2",
                &[(*name).into(), (&pipe.schema).into()],
            );
            assert_eq!(found.unwrap()[0].get(0), Some("1"), "{name}");
        }
    }
    let mut pipe = Pipe::new(&place, &"x".repeat(64), WriteMode::Append);
    assert_eq!(pipe.try_claim("s", 0).unwrap_err().code, "bad_identifier");
    pipe.context.target = StreamName::new("short");
    pipe.load(&[orders(0..3)]);
    assert_eq!(place.value("SELECT count(*) FROM short"), "3");
}

#[test]
fn two_streams_never_share_a_table_in_silence() {
    let place = Place::new();
    let mut destination = place.destination();
    let stream = |namespace: &str| rapidbyte_sdk::ClaimStream {
        context: StreamContext::full_refresh(StreamName::qualified(namespace, "t")),
        known_epoch: 0,
        source_identity: "s".into(),
    };
    let request =
        rapidbyte_sdk::ClaimRequest { run: rapidbyte_sdk::testing::run_context(), streams: vec![stream("a"), stream("b")] };
    assert_eq!(destination.claim(&request).unwrap_err().code, "target_conflict");
}

#[test]
fn check_names_what_is_missing_with_a_statement_that_helps() {
    let place = Place::new();
    place.run(
        "CREATE ROLE poor LOGIN PASSWORD 'secret'; REVOKE CREATE ON SCHEMA public FROM PUBLIC; CREATE TABLE taken (id bigint)",
    );
    let mut config = place.config("public");
    config["user"] = "poor".into();
    let mut destination = dest_postgres::PostgresDestination::init(config, rapidbyte_sdk::InitContext::default())
        .expect("the configuration is right");
    let streams: Vec<StreamContext> = ["taken", "free"].map(|name| StreamContext::full_refresh(StreamName::new(name))).into();
    for _ in 0..4 {
        let items = destination.validate(&streams).unwrap();
        let failed: Vec<_> = items.iter().filter(|item| item.status == CheckStatus::Failed).collect();
        if failed.is_empty() {
            break;
        }
        for item in failed {
            place.run_hint(item.hint.as_deref().expect("a failed item has a hint"));
        }
    }
    let items = destination.validate(&streams).unwrap();
    assert!(items.iter().all(|item| item.status == CheckStatus::Ok), "{items:?}");

    let mut config = place.config("public");
    config["password"] = "wrong-canary".into();
    let mut destination = dest_postgres::PostgresDestination::init(config, rapidbyte_sdk::InitContext::default()).unwrap();
    let items = destination.validate(&streams).unwrap();
    assert_eq!((items.len(), items[0].status), (1, CheckStatus::Failed));
    assert!(!format!("{items:?}").contains("canary"));
}

#[test]
fn teardown_removes_the_ledger_rows_and_staging_and_nothing_else() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    let run = pipe.run.clone();
    place.destination().teardown(&run, &[]).expect("nothing to remove is fine");
    pipe.load(&[orders(0..10)]);
    pipe.claim();
    pipe.prepare(2, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(0..10)]).unwrap();
    host.feed_commit(1, false, Some(position("9")));
    pipe.write(&host, 2, "0", 0, 0).unwrap();
    for _ in 0..2 {
        place.destination().teardown(&run, &[pipe.context.clone()]).unwrap();
    }
    assert_eq!(place.value("SELECT count(*) FROM orders"), "10");
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte.streams"), "0");
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte.receipts"), "0");
    assert_eq!(place.value("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_rb\\_load%'"), "0");
}
