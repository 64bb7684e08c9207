//! Tables that are there, of every kind: what is done to them, and what is refused with nothing changed.

use crate::harness::{Pipe, Place, orders, position};
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{
    CheckStatus, ColumnEncoding, DataErrorPolicy, Destination, DigestRanges, DigestRequest, PinRequest, SyncMode, WriteMode,
};

/// Old rows 1 to 3 in `orders`, before the new ones 2 to 5.
const OLD: &str = "INSERT INTO orders SELECT i, 'old' FROM generate_series(1, 3) i";
const SHOWN: &str = "SELECT string_agg(id || coalesce(note, '-'), ' ' ORDER BY id, note) FROM orders";

fn prepared<'a>(place: &'a Place, mode: WriteMode, table: &str) -> Pipe<'a> {
    place.run(&format!("{table}; {OLD}"));
    Pipe::new(place, "orders", mode)
}

const KEYED: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, note text)";

#[test]
fn rows_that_others_refer_to_are_not_replaced_away() {
    let place = Place::new();
    let child =
        "CREATE SCHEMA \"Other\"; CREATE TABLE \"Other\".items (n int, order_id bigint CONSTRAINT \"to Order\" REFERENCES orders);
         INSERT INTO \"Other\".items VALUES (1, 1), (2, 3)";
    let mut pipe = prepared(&place, WriteMode::Replace, KEYED);
    place.run(child);
    assert_eq!(pipe.load_fails(&[orders(2..6)]), "referenced_rows");
    assert_eq!(place.value(SHOWN), "1old 2old 3old");
    let error = pipe.try_publish(1).unwrap_err();
    assert!(error.message.contains("`Other.items`") && error.message.contains("`to Order`"), "{error}");
    place.run_hint(&error.hint.unwrap());
    // The check waits now, and one row has nothing to refer to any more.
    let error = pipe.try_publish(1).unwrap_err();
    assert_eq!(error.code, "referenced_rows");
    assert!(error.hint.unwrap().contains("delete those"), "the one left");
    assert_eq!(place.value(SHOWN), "1old 2old 3old");
    place.run("DELETE FROM \"Other\".items WHERE order_id = 1");
    assert_eq!(pipe.publish(1).rows, 4);
    assert_eq!(place.value(SHOWN), "2note 2 3- 4note 4 5note 5");
    assert_eq!(place.value("SELECT count(*) FROM \"Other\".items"), "1");
}

#[test]
fn rows_of_other_tables_are_never_deleted_or_emptied_along() {
    for action in ["CASCADE", "SET NULL", "SET DEFAULT"] {
        let place = Place::new();
        let mut pipe = prepared(&place, WriteMode::Replace, KEYED);
        place.run(&format!(
            "CREATE TABLE items (order_id bigint REFERENCES orders ON DELETE {action}); INSERT INTO items VALUES (1)"
        ));
        assert_eq!(pipe.load_fails(&[orders(2..6)]), "referenced_table", "{action}");
        let item = pipe.destination().validate(std::slice::from_ref(&pipe.context)).unwrap().pop().unwrap();
        assert_eq!(item.status, CheckStatus::Failed, "{}", item.message);
        assert_eq!(place.value("SELECT count(*) || ' ' || count(order_id) FROM items"), "1 1");
        assert_eq!(place.value(SHOWN), "1old 2old 3old");
        place.run_hint(&item.hint.unwrap());
        pipe.publish(1);
        assert_eq!(place.value("SELECT count(*) || ' ' || count(order_id) FROM items"), "1 1");
    }
}

#[test]
fn rows_of_tables_that_inherit_stay_theirs() {
    let place = Place::new();
    let mut pipe = prepared(&place, WriteMode::Replace, "CREATE TABLE orders (id bigint, note text)");
    place.run("CREATE TABLE late (days int) INHERITS (orders); INSERT INTO late VALUES (3, 'theirs', 1), (9, 'theirs', 2)");
    pipe.load(&[orders(2..6)]);
    assert_eq!(place.value(&SHOWN.replace("FROM", "FROM ONLY")), "2note 2 3- 4note 4 5note 5");
    assert_eq!(place.value("SELECT string_agg(id || note, ' ' ORDER BY id) FROM late"), "3theirs 9theirs");
    // Nor do they count as the table's where it is compared.
    let mut log = pipe.context.clone();
    (log.sync_mode, log.write_mode, log.cursor_field) = (SyncMode::Incremental, WriteMode::Append, Some("id".into()));
    for stream in [pipe.context.clone(), log] {
        let mut destination = pipe.destination();
        destination.pin(&PinRequest { stream, position: None }).unwrap().expect("the table is there");
        let columns = [("id", "int8"), ("note", "text")];
        let columns = columns.map(|(name, encoding)| ColumnEncoding { name: name.into(), encoding: encoding.into() }).into();
        let request = DigestRequest { columns, key: vec!["id".into()], ranges: 1, whole: false };
        assert_eq!(destination.digest(&request).unwrap().iter().map(|range| range.rows).sum::<u64>(), 4);
    }
}

#[test]
fn rows_of_a_hypertable_are_its_own_wherever_they_are() {
    let place = Place::new();
    let mut pipe = prepared(&place, WriteMode::Replace, "CREATE TABLE orders (id bigint, note text)");
    // As TimescaleDB lays them out: a table that inherits, in a schema of its own, which nobody else writes.
    place.run(
        "CREATE SCHEMA _timescaledb_internal; CREATE TABLE _timescaledb_internal.chunk () INHERITS (orders);
         INSERT INTO _timescaledb_internal.chunk VALUES (7, 'old')",
    );
    pipe.load(&[orders(2..6)]);
    assert_eq!(place.value(SHOWN), "2note 2 3- 4note 4 5note 5");
}

#[test]
fn a_table_that_refers_to_itself_is_replaced() {
    let place = Place::new();
    let mut pipe = prepared(
        &place,
        WriteMode::Replace,
        "CREATE TABLE orders (id bigint PRIMARY KEY, note text, above bigint DEFAULT 3 REFERENCES orders ON DELETE CASCADE)",
    );
    pipe.load(&[orders(2..6)]);
    assert_eq!(place.value(SHOWN), "2note 2 3- 4note 4 5note 5");
}

#[test]
fn triggers_run_and_none_takes_a_row_away_in_silence() {
    for mode in [WriteMode::Append, WriteMode::Replace] {
        let place = Place::new();
        let mut pipe = prepared(&place, mode, "CREATE TABLE orders (id bigint, note text)");
        place.run(
            "CREATE FUNCTION pick() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF NEW.id = 4 THEN RETURN NULL; END IF; NEW.note := 'triggered'; RETURN NEW; END $$;
             CREATE TRIGGER pick BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION pick()",
        );
        assert_eq!(pipe.load_fails(&[orders(2..6)]), "rows_left_out", "{mode}");
        assert_eq!(place.value(SHOWN), "1old 2old 3old", "{mode}");
        place.run("DROP TRIGGER pick ON orders; CREATE RULE gone AS ON INSERT TO orders DO INSTEAD NOTHING");
        assert_eq!(pipe.try_publish(1).unwrap_err().code, "rows_left_out", "{mode}");
        place.run(
            "DROP RULE gone ON orders; CREATE TRIGGER pick BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.id <> 4)
                 EXECUTE FUNCTION pick()",
        );
        pipe.publish(1);
        assert_eq!(place.value("SELECT count(*) FROM orders WHERE note = 'triggered'"), "3", "{mode}");
    }
    let place = Place::new();
    place.run(
        "CREATE TABLE orders (id bigint, note text);
         CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
         CREATE TRIGGER drop_row BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION drop_row()",
    );
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.context.sync_mode = SyncMode::Incremental;
    pipe.claim();
    pipe.prepare(1, "~", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[orders(1..4)]).unwrap();
    host.feed_commit(1, false, Some(position("p")));
    assert_eq!(pipe.write(&host, 1, "0", 0, 0).unwrap_err().code, "rows_left_out");
    assert!(pipe.claim().receipts.is_empty(), "no receipt for rows that are not there");
}

const KEEP: &str = "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER keep BEFORE DELETE ON";

#[test]
fn old_rows_that_a_trigger_or_rule_keeps_are_not_left_beside_the_new_ones() {
    let obeys = "CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$";
    let plain = "CREATE TABLE orders (id bigint, note text)";
    let parted =
        "CREATE TABLE orders (id bigint, note text) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF orders DEFAULT";
    let trigger = |of: &str| format!("{KEEP} {of} FOR EACH ROW EXECUTE FUNCTION keep()");
    for (table, keeps, mended) in [
        (plain, trigger("orders"), obeys),
        (KEYED, trigger("orders"), obeys),
        (parted, trigger("part"), obeys),
        (KEYED, "CREATE RULE keep AS ON DELETE TO orders DO INSTEAD NOTHING".to_owned(), "DROP RULE keep ON orders"),
    ] {
        for policy in [DataErrorPolicy::Fail, DataErrorPolicy::Skip, DataErrorPolicy::Dlq] {
            let place = Place::new();
            let mut pipe = prepared(&place, WriteMode::Replace, table);
            pipe.context.policies.on_data_error = policy;
            place.run(&keeps);
            assert_eq!(pipe.load_fails(&[orders(2..6)]), "rows_left_out", "{keeps} {policy}");
            assert_eq!(place.value(SHOWN), "1old 2old 3old", "{keeps} {policy}");
            place.run(mended);
            assert_eq!(pipe.publish(1).rows, 4);
            assert_eq!(place.value(SHOWN), "2note 2 3- 4note 4 5note 5", "{keeps} {policy}");
        }
    }
}

#[test]
fn the_right_to_see_whether_rows_were_kept_is_asked_for() {
    let mut place = Place::new();
    place.run(&format!("{KEYED}; CREATE ROLE mover LOGIN PASSWORD 'secret'; GRANT INSERT, DELETE ON orders TO mover"));
    place.user = "mover";
    let pipe = Pipe::new(&place, "orders", WriteMode::Replace);
    let look = || place.destination().validate(std::slice::from_ref(&pipe.context)).unwrap().pop().unwrap();
    assert_eq!(look().status, CheckStatus::Ok);
    place.run(&format!("{KEEP} orders FOR EACH ROW EXECUTE FUNCTION keep()"));
    let item = look();
    assert!(item.status == CheckStatus::Failed && item.message.contains("SELECT"), "{}", item.message);
    place.run_hint(&item.hint.unwrap());
    assert_eq!(look().status, CheckStatus::Ok);
}

#[test]
fn a_row_that_meets_another_unique_index_ends_the_load_with_nothing_changed() {
    let table = "CREATE TABLE orders (id bigint PRIMARY KEY, note text UNIQUE)".to_owned();
    for mode in [WriteMode::Append, WriteMode::Upsert] {
        let place = Place::new();
        place.run(&format!("{table}; INSERT INTO orders VALUES (100, 'note 4'), (2, 'two')"));
        let mut pipe = Pipe::new(&place, "orders", mode);
        assert_eq!(pipe.load_fails(&[orders(3..6)]), "23505", "{mode}");
        assert_eq!(place.value(SHOWN), "2two 100note 4", "{mode}");
    }
}

#[test]
fn partitioned_tables_are_written_in_every_mode() {
    let table = "CREATE TABLE orders (id bigint PRIMARY KEY, note text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF orders FOR VALUES FROM (0) TO (4); CREATE TABLE high PARTITION OF orders FOR VALUES FROM (4) TO (10)";
    let added = "1old 2old 3old 6- 7note 7";
    for (mode, expected) in [(WriteMode::Append, added), (WriteMode::Replace, "6- 7note 7"), (WriteMode::Upsert, added)] {
        let place = Place::new();
        let mut pipe = prepared(&place, mode, table);
        pipe.load(&[orders(6..8)]);
        assert_eq!(place.value(SHOWN), expected, "{mode}");
        assert_eq!(place.value("SELECT relkind FROM pg_class WHERE relname = 'orders'"), "p");
        // No partition for these.
        assert_eq!(pipe.load_fails(&[orders(9..12)]), "23514", "{mode}");
    }
}

#[test]
fn what_is_no_table_is_refused_by_name() {
    let place = Place::new();
    place.run(
        "CREATE TABLE base (id bigint, note text); CREATE VIEW viewed AS SELECT * FROM base;
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM base; CREATE SEQUENCE counted",
    );
    for table in ["viewed", "kept", "counted"] {
        let mut pipe = Pipe::new(&place, table, WriteMode::Append);
        assert_eq!(pipe.load_fails(&[orders(0..3)]), "not_a_table", "{table}");
        let error = pipe.try_publish(1).unwrap_err();
        assert!(error.message.contains(table) && error.hint.unwrap().contains("destination"), "{table}");
    }
    assert_eq!(place.value("SELECT count(*) FROM base"), "0");
}

#[test]
fn an_unlogged_table_is_no_place_for_a_load_that_goes_on_from_its_receipts() {
    let place = Place::new();
    place.run("CREATE UNLOGGED TABLE orders (id bigint, note text)");
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.context.sync_mode = SyncMode::Incremental;
    pipe.claim();
    pipe.prepare(1, "~", &["0"]);
    let write = |pipe: &Pipe<'_>| {
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(1..4)]).unwrap();
        host.feed_commit(1, false, Some(position("p")));
        pipe.write(&host, 1, "0", 0, 0)
    };
    let error = write(&pipe).unwrap_err();
    assert_eq!(error.code, "unlogged_table");
    let item = pipe.destination().validate(std::slice::from_ref(&pipe.context)).unwrap().pop().unwrap();
    assert_eq!(item.status, CheckStatus::Failed, "{}", item.message);
    place.run_hint(&error.hint.unwrap());
    write(&pipe).unwrap();
    // A full refresh warns: the next one fills it again.
    place.run("CREATE UNLOGGED TABLE scratch (id bigint, note text)");
    let mut pipe = Pipe::new(&place, "scratch", WriteMode::Replace);
    pipe.load(&[orders(1..4)]);
    let host = FakeHost::install();
    let number = pipe.claim().newest_generation + 1;
    pipe.prepare(number, "again", &["0"]);
    host.feed(0, 1, &[orders(1..4)]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, number, "0", 0, 0).unwrap();
    pipe.publish(number);
    assert!(host.logs().iter().any(|line| line.contains("unlogged")), "{:?}", host.logs());
}

#[test]
fn two_pipelines_append_to_one_table_side_by_side() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for number in 0..4_i64 {
            let place = &place;
            scope.spawn(move || {
                let mut pipe = Pipe::new(place, "orders", WriteMode::Append);
                pipe.run.pipeline_id = format!("00000000-0000-4000-8000-0000000001{number:02}");
                for round in 0..3 {
                    let start = number * 1000 + round * 100;
                    pipe.load(&[orders(start..start + 100)]);
                }
            });
        }
    });
    assert_eq!(place.value("SELECT count(*) || ' ' || count(DISTINCT id) FROM orders"), "1200 1200");
    assert_eq!(place.value("SELECT count(*) FROM _rapidbyte.generations WHERE state = 'published'"), "4");
}

#[test]
fn a_claim_that_waits_in_vain_says_who_holds_the_row() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "orders", WriteMode::Append);
    pipe.claim();
    let mut holder = place.sql();
    holder.batch_execute("SET application_name = 'stuck loader'; BEGIN; SELECT FROM _rapidbyte.streams FOR SHARE").unwrap();
    let pid = holder.query("SELECT pg_backend_pid()").unwrap()[0].get(0).unwrap().to_owned();
    let error = pipe.try_claim("source", 0).unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("lock_timeout", true));
    assert!(error.message.contains(&pid) && error.message.contains("`stuck loader`, idle in transaction"), "{error}");
    place.run(error.hint.unwrap().split('`').nth(1).unwrap());
    pipe.claim();
}

#[test]
fn a_server_notices_within_a_minute_that_a_loader_is_gone() {
    let place = Place::new();
    place.run(
        "CREATE TABLE seen (v text);
         CREATE FUNCTION look() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen
             VALUES (concat_ws(' ', current_setting('tcp_keepalives_idle'), current_setting('tcp_keepalives_interval'),
                 current_setting('tcp_keepalives_count'))); END $$;
         CREATE EVENT TRIGGER look ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION look()",
    );
    Pipe::new(&place, "orders", WriteMode::Append).load(&[orders(0..3)]);
    assert_eq!(place.value("SELECT string_agg(DISTINCT v, ', ') FROM seen"), "30 10 3");
}
