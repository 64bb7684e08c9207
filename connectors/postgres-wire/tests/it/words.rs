//! No error shows a row's value, whatever the server says; and words that help are kept.

use postgres_wire::test_server::PostgresServer;
use postgres_wire::{Connection, Error};
use rapidbyte_sdk::ConnectorError;

/// What stands in every row, a text and a number, by pieces short enough to survive a cut.
const CANARIES: [&str; 2] = ["kana", "8472"];

const TABLES: &str = r#"
CREATE TABLE v (id int PRIMARY KEY, txt text, query text, digits text, num numeric);
INSERT INTO v VALUES (1, 'kanary8472', 'kanary8472 & &', '8472847284728472', 84728472);
CREATE TABLE uniq (v text PRIMARY KEY);
INSERT INTO uniq VALUES ('kanary8472');
CREATE TABLE checked (v text CHECK (length(v) < 3), n int NOT NULL DEFAULT 0);
CREATE TABLE child (v text REFERENCES uniq);
CREATE TABLE apart (v text, EXCLUDE USING hash (v WITH =));
INSERT INTO apart VALUES ('kanary8472');
CREATE TABLE short (v varchar(3), n smallint);
CREATE VIEW low AS SELECT v, n FROM short WHERE n < 10 WITH CHECK OPTION;
CREATE DOMAIN tiny AS text CHECK (length(VALUE) < 3);
CREATE TYPE mood AS ENUM ('fine');
CREATE FUNCTION shout(state text, value text) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the row holds %', value USING ERRCODE = state, HINT = 'look at ' || value, DETAIL = value,
    SCHEMA = value, TABLE = value, COLUMN = value, CONSTRAINT = value, DATATYPE = value;
END $$;
CREATE FUNCTION dynamic(value text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT ' || value; RETURN 1; END $$;
CREATE FUNCTION careless() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.n := NEW.v::int; RETURN NEW; END $$;
CREATE TABLE guarded (v text, n int);
CREATE TRIGGER careless BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION careless();
"#;

/// A statement that meets the row, the SQLSTATE it ends with, and a piece of the words that stand for it.
const FAILING: [(&str, &str, &str); 41] = [
    ("SELECT txt::int FROM v", "22P02", "no value of its type"),
    ("SELECT 'kanary8472'::int", "22P02", "no value of its type"),
    ("SELECT txt::boolean FROM v", "22P02", ""),
    ("SELECT txt::uuid FROM v", "22P02", ""),
    ("SELECT txt::json FROM v", "22P02", "no value of its type (SQLSTATE 22P02)"),
    ("SELECT txt::bytea FROM (SELECT '\\x' || txt AS txt FROM v) s", "22023", ""),
    ("SELECT txt::mood FROM v", "22P02", ""),
    ("SELECT txt::date FROM v", "22007", "no date or time"),
    ("SELECT to_timestamp(txt, 'YYYY') FROM v", "22007", ""),
    ("SELECT digits::int FROM v", "22003", "outside of its type's range"),
    ("SELECT num::smallint FROM v", "22003", ""),
    ("SELECT num::numeric(3,1) FROM v", "22003", ""),
    ("SELECT num / (id - 1) FROM v", "22012", "division by zero"),
    ("SELECT 'x' ~ ('(' || txt) FROM v", "2201B", "can't be processed"),
    ("SELECT date_trunc(txt, now()) FROM v", "22023", ""),
    ("SELECT set_config('work_mem', txt, false) FROM v", "22023", ""),
    ("SELECT current_setting(txt) FROM v", "42704", "does not exist"),
    ("INSERT INTO short (v) SELECT txt FROM v", "22001", "too long"),
    ("INSERT INTO uniq SELECT txt FROM v", "23505", "in `public.uniq`, constraint `uniq_pkey`"),
    ("INSERT INTO checked SELECT txt FROM v", "23514", "constraint `checked_v_check`"),
    ("INSERT INTO checked SELECT left(txt, 2), NULL FROM v", "23502", "in `public.checked`, column `n`"),
    ("INSERT INTO child SELECT txt || 'x' FROM v", "23503", "constraint `child_v_fkey`"),
    ("INSERT INTO apart SELECT txt FROM v", "23P01", "constraint `apart_v_excl`"),
    ("INSERT INTO low SELECT 'x', 84 FROM v", "44000", "view"),
    ("SELECT txt::tiny FROM v", "23514", "type `tiny`"),
    ("SELECT query::tsquery FROM v", "42601", "syntax error (SQLSTATE 42601)"),
    ("SELECT repeat(txt, 500)::tsquery FROM v", "54000", "limit"),
    ("SELECT txt::regclass FROM v", "42P01", "a table does not exist"),
    ("SELECT txt::regproc FROM v", "42883", ""),
    ("SELECT txt::regtype FROM v", "42704", ""),
    ("SELECT txt::regrole FROM v", "42704", ""),
    ("SELECT txt::regnamespace FROM v", "3F000", "a schema does not exist"),
    ("SELECT pg_read_file(txt) FROM v", "58P01", "file"),
    ("SELECT shout('P0001', txt) FROM v", "P0001", "raised an exception"),
    ("SELECT shout('23505', txt) FROM v", "23505", "in code at the server"),
    ("SELECT shout('42501', txt) FROM v", "42501", "in code at the server"),
    ("SELECT shout('40P01', txt) FROM v", "40P01", "in code at the server"),
    ("SELECT shout('XX000', txt) FROM v", "XX000", "in code at the server"),
    ("SELECT dynamic(txt) FROM v", "42703", "in code at the server"),
    ("INSERT INTO guarded SELECT txt FROM v", "22P02", "in code at the server"),
    ("BEGIN; ALTER TYPE mood ADD VALUE 'kanary8472'; SELECT txt::mood FROM v", "55P04", "enum"),
];

/// A statement, and what its error must go on telling.
const TELLING: [(&str, &str); 6] = [
    ("SELECT * FROM nowhere", "relation \"nowhere\" does not exist"),
    ("SELECT nothing FROM v", "column \"nothing\" does not exist"),
    ("SELECT 1 FRAM v", "syntax error at or near"),
    ("SET ROLE nobody; SELECT * FROM v", "permission denied for table v"),
    ("CREATE TABLE uniq ()", "relation \"uniq\" already exists"),
    ("SET statement_timeout = 50; SELECT pg_sleep(60)", "statement timeout"),
];

fn failure(connection: &mut Connection, sql: &str) -> Error {
    let error = connection.batch_execute(sql).expect_err(sql);
    connection.batch_execute("ROLLBACK; RESET ROLE; RESET statement_timeout").unwrap();
    error
}

fn shows_nothing(error: Error, what: &str) -> ConnectorError {
    let shown = format!("{error:?} {error}");
    let made = ConnectorError::from(error);
    for shown in [shown, format!("{made:?} {made}")] {
        assert!(CANARIES.iter().all(|canary| !shown.contains(canary)), "{what}: {shown}");
    }
    made
}

#[test]
fn no_error_shows_a_row() {
    let server = PostgresServer::start();
    let mut connection = server.connect();
    connection.batch_execute(TABLES).unwrap();
    connection.batch_execute("CREATE ROLE nobody").unwrap();
    for (sql, state, words) in FAILING {
        let error = failure(&mut connection, sql);
        assert_eq!(error.sqlstate(), Some(state), "{sql}");
        let made = shows_nothing(error, sql);
        assert!(made.message.contains(words) && made.message.contains(state), "{sql}: {}", made.message);
        assert!(made.hint.is_some(), "{sql}");
    }
    for (sql, words) in TELLING {
        let made = ConnectorError::from(failure(&mut connection, sql));
        assert!(made.message.contains(words), "{sql}: {}", made.message);
    }

    // In a COPY the line and column are told.
    for (statement, data, words) in [
        ("COPY short (n) FROM STDIN", "1\nkanary8472\n", "at line 2, column n"),
        ("COPY uniq FROM STDIN", "kanary8472\n", "at line 1 in `public.uniq`"),
        ("COPY v (id) FROM STDIN", "2\tkanary8472\n", ""),
    ] {
        let mut copy = connection.copy_in(statement).unwrap();
        copy.write(data.as_bytes()).unwrap();
        let made = shows_nothing(copy.finish().expect_err(statement), statement);
        assert!(made.message.contains(words), "{statement}: {}", made.message);
    }
}
