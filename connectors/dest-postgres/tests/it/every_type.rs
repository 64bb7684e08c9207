//! From the PostgreSQL source into this destination: every type, every extreme, and types that are not there yet.

use crate::harness::{Pipe, Place};
use postgres_wire::quote_ident;
use rapidbyte_sdk::host_ffi::RawEvent;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{ConnectorError, InitContext, Partition, ReadRequest, Source, StreamContext, StreamName, WriteMode};
use source_postgres::PostgresSource;

const TABLE: &str = include_str!("../../../../tests/types/every_type.sql");
/// Generated rows; the extremes come on top.
const ROWS: &str = "200";

/// What the source puts out for a table.
fn read(from: &Place, table: &str) -> Vec<Emitted> {
    let host = FakeHost::install();
    let mut source = PostgresSource::init(from.server.config_json(&from.database), InitContext::default()).unwrap();
    let request = ReadRequest {
        run: run_context(),
        streams: vec![StreamContext::full_refresh(StreamName::qualified("public", table))],
        partition: Some(Partition { id: "0".into(), spec: Vec::new() }),
        token: Vec::new(),
        resume: None,
        follow: false,
    };
    source.read(&request, &mut host.source_output()).unwrap_or_else(|error| panic!("{error:?}"));
    host.emitted()
}

/// Loads it; gives what was logged.
fn load(emitted: &[Emitted], pipe: &mut Pipe<'_>) -> Result<Vec<String>, ConnectorError> {
    let generation = pipe.claim().newest_generation + 1;
    pipe.prepare(generation, &format!("snapshot {generation}"), &["0"]);
    let host = FakeHost::install();
    for what in emitted {
        host.feed_event(match what.clone() {
            Emitted::Schema { stream, schema_id, ipc } => RawEvent::Schema { stream, schema_id, ipc },
            Emitted::Batch { stream, schema_id, rows, ipc } => RawEvent::Batch { stream, schema_id, rows, ipc },
            other => panic!("{other:?}"),
        });
    }
    host.feed_commit(1, true, None);
    pipe.write(&host, generation, "0", 0, 0)?;
    let logs = host.logs();
    pipe.try_publish(generation)?;
    Ok(logs)
}

/// Name, type and nullability of each column.
fn columns(place: &Place, table: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SET search_path = pg_catalog;
         SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END FROM pg_attribute
         WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    );
    let rows = place.sql().query(&sql).unwrap();
    rows.iter().map(|row| (row.text(0).unwrap().to_owned(), row.text(1).unwrap().to_owned())).collect()
}

/// Compares every value as the two servers write it, `times` being how often it must be there.
fn assert_the_same_values(from: &Place, to: &Place, table: &str, times: usize) {
    let (mut here, mut there) = (from.sql(), to.sql());
    let mut wrong = Vec::new();
    for (name, _) in columns(from, "public.every_type") {
        let name = quote_ident(&name).unwrap();
        let left = here.query(&format!("SELECT id, {name} FROM public.every_type ORDER BY id")).unwrap();
        let right = there.query(&format!("SELECT id, {name} FROM {table} ORDER BY id")).unwrap();
        assert_eq!(left.len() * times, right.len());
        let pairs = left.iter().flat_map(|row| std::iter::repeat_n(row, times)).zip(&right);
        wrong.extend(pairs.filter(|(l, r)| l != r).take(1).map(|(l, r)| format!("{name}: {l:.300?} became {r:.300?}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn source() -> Place {
    let from = Place::new();
    from.run(&TABLE.replace(":rows", ROWS));
    from
}

const EXTENSIONS: &str = "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree";

#[test]
fn every_type_and_extreme_arrives_as_it_was() {
    arrives_as_it_was("copy");
}

#[test]
fn every_type_and_extreme_is_inserted_as_it_was() {
    arrives_as_it_was("insert");
}

fn arrives_as_it_was(method: &str) {
    let (from, to) = (source(), Place::new());
    to.run(EXTENSIONS);
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
    pipe.extra = serde_json::json!({ "load_method": method });
    let emitted = read(&from, "every_type");
    load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(columns(&from, "public.every_type"), columns(&to, "public.every_type"));
    assert_the_same_values(&from, &to, "public.every_type", 1);
    // Again, into the table that is there.
    load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
    assert_the_same_values(&from, &to, "public.every_type", 2);
}

/// Settings of a database that write, or read, texts in another way.
const HOSTILE: [(&str, &str); 12] = [
    ("datestyle", "'SQL, DMY'"),
    ("intervalstyle", "sql_standard"),
    ("timezone", "'Asia/Kathmandu'"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "escape"),
    ("xmloption", "document"),
    ("array_nulls", "off"),
    ("quote_all_identifiers", "on"),
    ("transform_null_equals", "on"),
    ("standard_conforming_strings", "off"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
];

fn make_hostile(place: &Place) {
    let database = quote_ident(&place.database).unwrap();
    let settings = HOSTILE.iter().chain(&[("search_path", "nowhere")]);
    let sql: Vec<String> = settings.map(|(name, value)| format!("ALTER DATABASE {database} SET {name} = {value}")).collect();
    place.run(&sql.join("; "));
}

#[test]
fn settings_of_either_server_bend_no_value() {
    let (from, to) = (source(), Place::new());
    to.run(EXTENSIONS);
    for place in [&from, &to] {
        make_hostile(place);
    }
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
    let emitted = read(&from, "every_type");
    // Moved into place, then added to what is there.
    for times in 1..=2 {
        load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(columns(&from, "public.every_type"), columns(&to, "public.every_type"));
        assert_the_same_values(&from, &to, "public.every_type", times);
    }
}

#[test]
fn types_are_made_in_the_schema_of_the_table() {
    let (from, to) = (source(), Place::new());
    to.run("CREATE SCHEMA \"Ext\"; CREATE EXTENSION citext SCHEMA \"Ext\"; CREATE EXTENSION hstore SCHEMA \"Ext\"; CREATE EXTENSION ltree");
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Replace);
    pipe.schema = "Raw \"data\"".into();
    let emitted = read(&from, "every_type");
    for _ in 0..2 {
        load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
        let table = "\"Raw \"\"data\"\"\".every_type";
        assert_the_same_values(&from, &to, table, 1);
        let of = |name: &str| columns(&to, table).into_iter().find(|(of, _)| of == name).unwrap().1;
        assert_eq!(of("c_enum"), "\"Raw \"\"data\"\"\".mood");
        assert_eq!(of("a_nested"), "\"Raw \"\"data\"\"\".nested[]");
        assert_eq!(of("c_floatmultirange"), "\"Raw \"\"data\"\"\".floatmultirange");
        assert_eq!((of("c_citext").as_str(), of("a_hstore").as_str()), ("\"Ext\".citext", "\"Ext\".hstore[]"));
        assert_eq!(of("c_ltree"), "public.ltree");
        assert_eq!(of("c_domain_2"), "\"Raw \"\"data\"\"\".special_price");
    }
}

#[test]
fn extensions_that_are_not_there_become_text() {
    let (from, to) = (source(), Place::new());
    let logs = load(&read(&from, "every_type"), &mut Pipe::new(&to, "every_type", WriteMode::Append)).unwrap();
    let told = logs.iter().filter(|line| line.contains("another one takes its place")).count();
    assert_eq!(told, 7, "each once: {logs:?}");
    assert_the_same_values(&from, &to, "public.every_type", 1);
    let changed: Vec<(String, String)> = columns(&from, "public.every_type")
        .into_iter()
        .zip(columns(&to, "public.every_type"))
        .filter(|(left, right)| left != right)
        .map(|(_, right)| right)
        .collect();
    let expected = [
        ("c_citext", "text"),
        ("c_hstore", "text"),
        ("c_ltree", "text"),
        ("c_lquery", "text"),
        ("a_citext", "text[]"),
        ("a_hstore", "text"),
        ("a_ltree", "text"),
    ];
    assert_eq!(changed, expected.map(|(name, of)| (name.to_owned(), of.to_owned())));
}

/// A table of each kind of made type, and nothing else.
const MADE: &str =
    "CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
    CREATE TYPE pair AS (a int, m mood); CREATE TYPE span AS RANGE (subtype = int8);
    CREATE TABLE every_type (id int, e mood, d positive, c pair, r span, es mood[]);
    INSERT INTO every_type VALUES (1, 'ok', 5, ROW(1, 'sad'), '[1,2]', '{ok,NULL}')";

#[test]
fn types_that_are_not_to_be_made_are_not() {
    let (from, to) = (Place::new(), Place::new());
    from.run(MADE);
    let emitted = read(&from, "every_type");
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
    pipe.extra = serde_json::json!({ "missing_types": "fail" });
    let error = load(&emitted, &mut pipe).unwrap_err();
    assert_eq!(error.code, "missing_type");
    assert!(error.message.contains("`public.mood`") && error.hint.unwrap().contains("missing_types: create"));
    pipe.extra = serde_json::json!({ "missing_types": "text" });
    load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
    let found: Vec<String> = columns(&to, "public.every_type").into_iter().map(|(_, of)| of).collect();
    assert_eq!(found, ["integer", "text", "integer", "text", "text", "text[]"]);
    assert_the_same_values(&from, &to, "public.every_type", 1);
}

#[test]
fn a_type_that_means_something_else_is_not_taken() {
    let (from, to) = (Place::new(), Place::new());
    from.run(MADE);
    for other in
        ["CREATE TYPE raw.mood AS ENUM ('ok')", "CREATE TYPE raw.pair AS (a int, m text)", "CREATE DOMAIN raw.positive AS int8"]
    {
        to.run(&format!("DROP SCHEMA IF EXISTS raw CASCADE; CREATE SCHEMA raw; {other}"));
        let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
        pipe.schema = "raw".into();
        let error = load(&read(&from, "every_type"), &mut pipe).unwrap_err();
        assert_eq!(error.code, "type_conflict", "{other}");
        let left = to.value("SELECT count(*) FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = typnamespace WHERE nspname = 'raw' AND typname !~ '^_'");
        assert_eq!(left, "1", "nothing is half made");
    }
    // More labels than needed are fine.
    to.run("DROP SCHEMA raw CASCADE; CREATE SCHEMA raw; CREATE TYPE raw.mood AS ENUM ('better', 'ok', 'sad')");
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
    pipe.schema = "raw".into();
    load(&read(&from, "every_type"), &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
fn a_type_of_the_same_name_that_is_made_differently_is_not_taken() {
    let from = Place::new();
    from.run(MADE);
    let emitted = read(&from, "every_type");
    for other in [
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (m mood, a int)",
        "CREATE DOMAIN positive AS numeric(5,2)",
        "CREATE TYPE span AS RANGE (subtype = int4)",
    ] {
        let to = Place::new();
        to.run(other);
        let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
        let error = load(&emitted, &mut pipe).unwrap_err();
        assert_eq!(error.code, "type_conflict", "{other}");
        pipe.extra = serde_json::json!({ "missing_types": "text" });
        load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
        assert_the_same_values(&from, &to, "public.every_type", 1);
        to.run("DROP TABLE every_type");
        pipe.extra = serde_json::Value::Null;
        to.run_hint(&error.hint.unwrap());
        load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(columns(&from, "public.every_type"), columns(&to, "public.every_type"));
        assert_the_same_values(&from, &to, "public.every_type", 1);
    }
}

#[test]
fn descriptions_from_outside_are_not_run_as_sql() {
    let (from, to) = (Place::new(), Place::new());
    from.run(
        r#"CREATE TYPE "x'); DROP SCHEMA _rapidbyte CASCADE; --" AS ENUM ('a''); DROP SCHEMA _rapidbyte CASCADE; --', '\');
           CREATE TYPE pair AS ("a int); DROP SCHEMA _rapidbyte CASCADE; --" "x'); DROP SCHEMA _rapidbyte CASCADE; --"[]);
           CREATE TABLE every_type (id int, e "x'); DROP SCHEMA _rapidbyte CASCADE; --", c pair);
           INSERT INTO every_type VALUES (1, '\', ROW(ARRAY['\']::"x'); DROP SCHEMA _rapidbyte CASCADE; --"[]))"#,
    );
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
    load(&read(&from, "every_type"), &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(columns(&from, "public.every_type"), columns(&to, "public.every_type"));
    assert_the_same_values(&from, &to, "public.every_type", 1);
}

#[test]
fn a_name_of_an_object_that_is_not_there_is_not_told() {
    let (from, to) = (Place::new(), Place::new());
    from.run("CREATE TABLE canary (); CREATE TABLE every_type AS SELECT 1 AS id, 'canary'::regclass AS c");
    let emitted = read(&from, "every_type");
    let mut pipe = Pipe::new(&to, "every_type", WriteMode::Append);
    let error = load(&emitted, &mut pipe).unwrap_err();
    assert_eq!(error.code, "unknown_object");
    assert!(error.message.contains("`c`") && !format!("{error:?}").contains("canary"), "{error:?}");
    to.run("CREATE TABLE canary ()");
    load(&emitted, &mut pipe).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(to.value("SELECT c FROM every_type"), "canary");
}
