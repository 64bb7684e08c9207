//! What can't be read is refused by name, with a hint.

use crate::{read, request, server, source, stream};
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{CheckStatus, ConnectorError, ErrorCategory, InitContext, Source, StreamContext, StreamName};
use serde_json::json;
use source_postgres::PostgresSource;

fn refused(context: StreamContext) -> ConnectorError {
    match read(server(), context) {
        Ok(_) => panic!("the read should have been refused"),
        Err(error) => error,
    }
}

#[test]
fn missing_tables_and_columns_are_named() {
    let error = refused(stream("wied"));
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Schema, "missing_table"));
    assert_eq!(error.hint.as_deref(), Some("did you mean `public.wide`?"));
    let mut context = stream("wide");
    context.selected_columns = Some(vec!["id".into(), "c_txt".into()]);
    let error = refused(context.clone());
    assert_eq!((error.code.as_str(), error.hint.as_deref()), ("missing_column", Some("did you mean `c_text`?")));
    context.selected_columns = Some(vec!["id".into(), "id".into()]);
    assert_eq!(refused(context.clone()).code, "repeated_column");
    context.selected_columns = Some(Vec::new());
    assert_eq!(refused(context).code, "no_columns");
}

#[test]
fn a_record_above_the_limit_is_refused_by_name() {
    let server = PostgresServer::start();
    server
        .connect()
        .batch_execute(
            "CREATE TABLE big (id int PRIMARY KEY, small text, large bytea);
             INSERT INTO big SELECT i, repeat('s', 100000), '' FROM generate_series(1, 50) i;
             INSERT INTO big VALUES (51, repeat('s', 900000), decode(repeat('00', 5000000), 'hex'))",
        )
        .unwrap();
    let mut context = stream("big");
    context.limits.max_record_bytes = 1 << 20;
    let Err(error) = read(&server, context.clone()) else { panic!("the record should have been refused") };
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Data, "record_too_large"));
    assert!(error.message.contains("stream `public.big`, column `large`, row 51 of the read, key `id` = 51:"), "{}", error.message);
    // The limit itself fits.
    context.limits.max_record_bytes = 5_900_004;
    assert_eq!(read(&server, context).unwrap().1.records, 51);
}

#[test]
fn a_record_above_the_limit_is_named_without_its_values() {
    let server = PostgresServer::start();
    server
        .connect()
        .batch_execute(
            "CREATE TABLE big (email text, day date, id uuid, large bytea, number int, PRIMARY KEY (email, day, id, number));
             INSERT INTO big SELECT 'canary@example.org', '1984-07-21', '11111111-2222-3333-4444-555555555555',
                 CASE WHEN i = 4321 THEN decode(repeat('00', 2000000), 'hex') ELSE '' END, i FROM generate_series(4319, 4321) i",
        )
        .unwrap();
    let mut context = stream("big");
    context.limits.max_record_bytes = 1 << 20;
    let Err(error) = read(&server, context) else { panic!("the record should have been refused") };
    // What comes after the large column is not known yet.
    let place =
        "column `large`, row 3 of the read, key `email`, key `day`, key `id` = 11111111222233334444555555555555, key `number`:";
    assert!(error.message.contains(place), "{}", error.message);
    let shown = format!("{error:?}");
    assert!(["canary", "1984", "4321"].iter().all(|value| !shown.contains(value)), "{shown}");
}

#[test]
fn batches_stay_within_their_limits() {
    let mut context = stream("wide");
    context.limits.max_batch_bytes = 256 << 10;
    let (host, summary) = read(server(), context).unwrap();
    assert!(summary.batches_emitted > 5);
    for emitted in host.emitted() {
        if let rapidbyte_sdk::testing::Emitted::Batch { ipc, .. } = emitted {
            assert!(ipc.len() <= 256 << 10);
        }
    }
    assert_eq!(summary.records, 3000);
    assert!(summary.perf.connect_ns > 0 && summary.perf.query_ns > 0 && summary.perf.fetch_ns > 0 && summary.perf.encode_ns > 0);
}

#[test]
fn check_reports_each_problem_with_a_way_out() {
    let server = PostgresServer::start();
    server
        .connect()
        .batch_execute(
            "CREATE TABLE open (id int, secret text); CREATE TABLE closed (id int); CREATE TABLE guarded (id int);
             ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
             CREATE ROLE \"lim ited\" LOGIN PASSWORD 'secret'; GRANT SELECT (id) ON open TO \"lim ited\"; GRANT SELECT ON guarded TO \"lim ited\";
             CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int)",
        )
        .unwrap();
    let mut config = server.config_json("app");
    config["user"] = json!("lim ited");
    let make = |config: &serde_json::Value| PostgresSource::init(config.clone(), InitContext::default()).unwrap();
    let mut part = stream("open");
    part.selected_columns = Some(vec!["id".into()]);
    let streams = [
        part.clone(),
        stream("open"),
        stream("closed"),
        StreamContext::full_refresh(StreamName::qualified("hidden", "t")),
        stream("guarded"),
        stream("opne"),
    ];
    let items = make(&config).validate(&streams).unwrap();
    let found: Vec<(CheckStatus, Option<&str>)> = items.iter().map(|item| (item.status, item.hint.as_deref())).collect();
    assert_eq!(
        found,
        [
            (CheckStatus::Ok, None),
            (CheckStatus::Ok, None),
            (CheckStatus::Failed, Some("run at the source: `GRANT SELECT ON \"public\".\"open\" TO \"lim ited\"`")),
            (CheckStatus::Failed, Some("run at the source: `GRANT SELECT ON \"public\".\"closed\" TO \"lim ited\"`")),
            (
                CheckStatus::Failed,
                Some(
                    "run at the source: `GRANT USAGE ON SCHEMA \"hidden\" TO \"lim ited\"; GRANT SELECT ON \"hidden\".\"t\" TO \"lim ited\"`"
                )
            ),
            (
                CheckStatus::Failed,
                Some("as a superuser run: `ALTER ROLE \"lim ited\" BYPASSRLS`; or set `user` to the table's owner, `app`")
            ),
            (CheckStatus::Failed, Some("did you mean `public.open`?")),
        ],
        "{items:#?}"
    );
    // What the check says holds for the read, and its advice works.
    let read_as = |stream: StreamContext| {
        let host = FakeHost::install();
        make(&config).read(&request(stream), &mut host.source_output())
    };
    assert!(read_as(part).is_ok());
    assert_eq!(read_as(stream("closed")).unwrap_err().category, ErrorCategory::Permission);
    server.connect().batch_execute("GRANT SELECT ON \"public\".\"closed\" TO \"lim ited\"").unwrap();
    assert!(read_as(stream("closed")).is_ok());

    config["password"] = json!("canary");
    let items = make(&config).validate(&streams).unwrap();
    assert_eq!((items.len(), items[0].status), (1, CheckStatus::Failed));
    assert!(items[0].hint.is_some() && !format!("{items:?}").contains("canary"));
}

#[test]
fn rows_hidden_by_a_policy_are_an_error_and_not_a_smaller_load() {
    let server = PostgresServer::start();
    server
        .connect()
        .batch_execute(
            "CREATE ROLE owner LOGIN PASSWORD 'secret'; CREATE ROLE reader LOGIN PASSWORD 'secret';
             GRANT CREATE ON SCHEMA public TO owner; SET ROLE owner;
             CREATE TABLE open (id int); CREATE TABLE guarded (id int); CREATE TABLE forced (id int);
             INSERT INTO open VALUES (1), (2); INSERT INTO guarded VALUES (1), (2); INSERT INTO forced VALUES (1), (2);
             ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY part ON guarded USING (id = 1); CREATE POLICY part ON forced USING (id = 1);
             CREATE VIEW seen AS SELECT * FROM guarded; CREATE VIEW hidden AS SELECT * FROM forced;
             CREATE VIEW invoked WITH (security_invoker) AS SELECT * FROM guarded;
             GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        )
        .unwrap();
    let make = |user: &str| {
        let mut config = server.config_json("app");
        config["user"] = json!(user);
        PostgresSource::init(config, InitContext::default()).unwrap()
    };
    // Rows, or the error; the check before a run says the same as the run.
    let read_as = |user: &str, table: &str| {
        let context = stream(table);
        let checked = make(user).validate(std::slice::from_ref(&context)).unwrap().remove(1);
        let host = FakeHost::install();
        let read = make(user).read(&request(context), &mut host.source_output());
        let expected = if read.is_ok() { CheckStatus::Ok } else { CheckStatus::Failed };
        assert_eq!(checked.status, expected, "{user} {table}: {checked:?}");
        assert_eq!(checked.hint, read.as_ref().err().and_then(|error| error.hint.clone()), "{user} {table}");
        read.map(|summary| summary.records)
    };
    for (user, table) in
        [("reader", "open"), ("owner", "guarded"), ("reader", "seen"), ("app", "forced"), ("app", "guarded"), ("app", "invoked")]
    {
        assert_eq!(read_as(user, table).unwrap(), 2, "{user} {table}");
    }
    let refused = [
        ("reader", "guarded", "ALTER ROLE \"reader\" BYPASSRLS"),
        ("reader", "forced", "ALTER ROLE \"reader\" BYPASSRLS"),
        ("reader", "invoked", "ALTER ROLE \"reader\" BYPASSRLS"),
        ("owner", "forced", "ALTER TABLE \"public\".\"forced\" NO FORCE ROW LEVEL SECURITY"),
        ("reader", "hidden", "ALTER ROLE \"owner\" BYPASSRLS"),
        ("app", "hidden", "ALTER ROLE \"owner\" BYPASSRLS"),
    ];
    for (user, table, _) in refused {
        let error = read_as(user, table).unwrap_err();
        assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Permission, "row_security"), "{error}");
        assert!(error.message.contains(&format!("`public.{table}`")) && !error.retryable, "{error}");
    }
    // Each hint's statement mends its case.
    for (user, table, statement) in refused {
        let hint = read_as(user, table).unwrap_err().hint.unwrap();
        assert!(hint.contains(statement), "{hint}");
        let mut admin = server.connect();
        admin.batch_execute(statement).unwrap();
        assert_eq!(read_as(user, table).unwrap(), 2, "{statement}");
        admin
            .batch_execute(
                "ALTER ROLE reader NOBYPASSRLS; ALTER ROLE owner NOBYPASSRLS; ALTER TABLE forced FORCE ROW LEVEL SECURITY",
            )
            .unwrap();
    }
}

#[test]
fn identity_names_the_database_not_the_address() {
    let first = source(server()).identity().unwrap().unwrap();
    let mut config = server().config_json("app");
    config["host"] = json!("localhost");
    let same = PostgresSource::init(config.clone(), InitContext::default()).unwrap().identity().unwrap().unwrap();
    assert_eq!(first, same);
    config["database"] = json!("postgres");
    let other = PostgresSource::init(config, InitContext::default()).unwrap().identity().unwrap().unwrap();
    assert_ne!(first, other);
}

#[test]
fn a_default_schema_serves_streams_without_one() {
    let mut context = stream("no_rows");
    context.name.namespace = None;
    assert!(read(server(), context).is_ok());
    let mut config = server().config_json("app");
    config["schema"] = json!("elsewhere");
    let mut context = stream("no_rows");
    context.name.namespace = None;
    let host = FakeHost::install();
    let error = PostgresSource::init(config, InitContext::default())
        .unwrap()
        .read(&request(context), &mut host.source_output())
        .unwrap_err();
    assert_eq!(error.code, "missing_table");
}
