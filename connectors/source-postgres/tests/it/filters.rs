//! Row filters: what they let through, and what is refused before a row is read.

use crate::incremental::{Read, incremental, make, read as read_news, try_read};
use crate::render::rows;
use crate::{read, server, source, stream};
use rapidbyte_sdk::testing::run_context;
use rapidbyte_sdk::{CheckStatus, ErrorCategory, NullCursorPolicy, PlanRequest, SafeBoundary, Source, StreamContext};

fn filtered(mut context: StreamContext, filter: &str) -> StreamContext {
    context.filter = Some(filter.to_owned());
    context
}

fn ids(table: &str, filter: &str) -> Vec<i64> {
    let (host, summary) = read(server(), filtered(stream(table), filter)).unwrap();
    let mut ids: Vec<i64> = rows(&host.batches(0).unwrap()).iter().map(|row| row[0].as_ref().unwrap().parse().unwrap()).collect();
    assert_eq!(ids.len() as u64, summary.records);
    ids.sort_unstable();
    ids
}

#[test]
fn only_rows_that_meet_the_filter_are_read() {
    make(
        "CREATE EXTENSION IF NOT EXISTS citext;
         CREATE TABLE sieved (id int PRIMARY KEY, \"Odd \"\"name\"\"; --\" text, mail citext, at timestamptz, tags text[]);
         INSERT INTO sieved SELECT i, 'it''s; -- ' || i, CASE WHEN i % 2 = 0 THEN 'A@x' ELSE 'b@x' END, now() - i * interval '1 day',
             ARRAY['t' || i % 3] FROM generate_series(1, 12) i;
         INSERT INTO sieved (id) VALUES (99);
         CREATE FUNCTION is_third(n int) RETURNS bool LANGUAGE sql AS 'SELECT n % 3 = 0';
         CREATE VIEW sieved_view AS SELECT * FROM sieved",
    );
    assert_eq!(ids("sieved", "id > 10"), [11, 12, 99]);
    assert_eq!(ids("sieved", "id = 1 OR id = 2"), [1, 2]);
    assert_eq!(ids("sieved", "\"Odd \"\"name\"\"; --\" = 'it''s; -- 7' OR id - -1 = 4"), [3, 7]);
    // Names mean what they mean to the role: `citext` compares without case, and functions of `public` are found.
    assert_eq!(ids("sieved", "mail = 'a@X' AND is_third(id)"), [6, 12]);
    assert_eq!(ids("sieved", "tags @> ARRAY['t1'] AND id IN (SELECT id FROM sieved_view WHERE id < 8)"), [1, 4, 7]);
    assert_eq!(ids("sieved_view", "at IS NULL"), [99]);
    assert!(ids("sieved", "false").is_empty());
}

#[test]
fn what_is_no_condition_is_refused_with_a_way_out() {
    make("CREATE TABLE firm (id int PRIMARY KEY, status text, at date); INSERT INTO firm VALUES (1, 'canary', now())");
    let cases = [
        ("id > 0); DROP TABLE firm; --", "", "one SQL expression"),
        ("true) OR (true", "parentheses", "one SQL expression"),
        ("id > 0 -- and all", "comment", "one SQL expression"),
        ("status = $$open$$", "`$`", "one SQL expression"),
        ("statsu = 'open'", "statsu", "`status`"),
        ("firm2.status = 'open'", "", "WHERE"),
        ("status = 5", "operator does not exist", "cast"),
        ("id", "boolean", "true or false"),
        ("count(*) > 1", "aggregate", "WHERE"),
        ("id >", "syntax error", "WHERE"),
        ("at > 'someday'", "", "WHERE"),
    ];
    for (filter, says, hint) in cases {
        let context = filtered(stream("firm"), filter);
        let Err(error) = read(server(), context.clone()) else { panic!("`{filter}` was taken") };
        assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Config, "filter"), "{filter}: {error:?}");
        assert!(error.message.contains("public.firm") && error.message.contains(says), "{filter}: {}", error.message);
        assert!(error.hint.as_ref().is_some_and(|text| text.contains(hint)), "{filter}: {error:?}");
        // `check` says the same, and goes on with the next stream.
        let items = source(server()).validate(&[context, stream("firm")]).unwrap();
        assert_eq!((items[1].status, items[2].status), (CheckStatus::Failed, CheckStatus::Ok), "{filter}: {items:?}");
        assert!(items[1].message.contains("public.firm"), "{items:?}");
    }
    // What fails at a row tells no value of it.
    let Err(error) = read(server(), filtered(stream("firm"), "status::int > 5")) else { panic!("it was taken") };
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    // A filter changes nothing at the source.
    make("CREATE SEQUENCE firm_ids");
    let Err(error) = read(server(), filtered(stream("firm"), "nextval('firm_ids') > 0")) else { panic!("it was taken") };
    assert!(error.message.contains("read-only"), "{error:?}");
}

#[test]
fn an_incremental_read_keeps_to_its_filter() {
    let mut sql = make(
        "CREATE TABLE sifted (id int PRIMARY KEY, n int, kind text);
         INSERT INTO sifted SELECT i, CASE WHEN i % 10 > 0 THEN i END, CASE WHEN i % 2 = 0 THEN 'a' ELSE 'b' END
         FROM generate_series(1, 100) i;
         CREATE FUNCTION kind_a(kind text) RETURNS bool LANGUAGE sql AS $$ SELECT kind = 'a' $$",
    );
    for boundary in [None, Some(SafeBoundary::None)] {
        let mut context = filtered(incremental("sifted", "n"), "kind_a(kind) OR kind = 'x'");
        context.safe_boundary = boundary;
        let count = |read: &Read| (read.rows().len(), read.summary.records_skipped);
        // NULL cursors count within the filter only.
        assert_eq!(try_read(server(), &context, None).map(|_| ()).unwrap_err().code, "null_cursor");
        context.null_cursor = NullCursorPolicy::Skip;
        let first = read_news(&context, None);
        assert_eq!(count(&first), (40, 10));
        sql.batch_execute(
            "INSERT INTO sifted VALUES (1001, 1001, 'a'), (1002, 1002, 'b'); UPDATE sifted SET kind = 'x', n = 2000 WHERE id = 1",
        )
        .unwrap();
        let second = read_news(&context, Some(&first.end()));
        assert_eq!(count(&second).0, 2);
        sql.batch_execute("DELETE FROM sifted WHERE id > 1000; UPDATE sifted SET kind = 'b', n = 1 WHERE id = 1").unwrap();
    }
}

#[test]
fn another_filter_is_another_load() {
    make("CREATE TABLE named (id int PRIMARY KEY, n int NOT NULL)");
    let snapshot = |context: StreamContext| {
        let request = PlanRequest { run: run_context(), stream: context, max_partitions: 1, pinned: None };
        source(server()).plan_partitions(&request).unwrap().snapshot
    };
    let plain = snapshot(incremental("named", "n"));
    let one = snapshot(filtered(incremental("named", "n"), "id > 1"));
    let other = snapshot(filtered(incremental("named", "n"), "id > 2"));
    assert!(plain != one && one != other);
    assert_eq!(one, snapshot(filtered(incremental("named", "n"), "id > 1")));
}
