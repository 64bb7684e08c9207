//! PostgreSQL to PostgreSQL: what arrives is what was there.

use crate::tables;
use rapidbyte_testkit::{Authority, Database, Postgres, PostgresOptions, Project, Proof, packed_fixture};
use std::time::Duration;

const ROWS: u32 = 1_000_000;

/// A pipeline that moves tables of `public` from one database to the same schema of another.
fn pipeline(source: &Database<'_>, destination: &Database<'_>, streams: &[&str], rest: &str) -> String {
    let streams: String =
        streams.iter().map(|name| format!("\n    - {{ name: public.{name}, sync_mode: full_refresh }}")).collect();
    format!(
        "version: \"1.0\"\npipeline: moved\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:{streams}\n\
         destination:\n  use: dest-postgres\n  config: {{ {}, schema: public }}\n{rest}",
        source.config(),
        destination.config()
    )
}

#[track_caller]
fn assert_arrived(source: &Database<'_>, destination: &Database<'_>, table: &str) {
    assert_eq!(source.hash(table), destination.hash(table), "content of {table}");
    let kind = destination.sql(&format!("SELECT relpersistence FROM pg_class WHERE oid = '{table}'::regclass"));
    assert_eq!(kind, "p", "{table} is logged");
}

/// Name, type and nullability of each column.
fn columns(database: &Database<'_>, table: &str) -> String {
    database.sql(&format!(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
         WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ))
}

#[test]
fn prove_a_million_rows_arrive() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("million_source"), server.database("million_destination"));
    source.sql(&tables::lineitem(ROWS));
    assert_eq!(destination.sql("SHOW fsync"), "on");
    assert_eq!(destination.sql("SHOW synchronous_commit"), "on");
    let project = Project::with_pipeline(&pipeline(&source, &destination, &["lineitem"], ""));
    let run = project.run().timeout(Duration::from_secs(300)).finish().success();
    assert_arrived(&source, &destination, "lineitem");
    assert_eq!(columns(&source, "lineitem"), columns(&destination, "lineitem"));
    assert_eq!(run.at("/report/streams/0/rows_read"), ROWS);
    assert_eq!(run.at("/report/streams/0/rows_written"), ROWS);
    for step in ["connect", "query", "fetch", "encode", "decode", "flush", "commit", "vm_setup", "emit_batch", "next_batch"] {
        let spent = run.at(&format!("/report/timings_ns/{step}"));
        assert!(spent.as_u64().is_some_and(|nanoseconds| nanoseconds > 0), "{step}: {spent}");
    }
    let megabytes = run.peak_memory >> 20;
    assert!(megabytes <= 300, "peak memory {megabytes} MB");
    let hash = source.hash("lineitem");
    Proof {
        name: "PostgreSQL to PostgreSQL, 16 columns",
        cases: 1,
        failures: 0,
        seed: "0.42".into(),
        detail: format!("{} rows, content hash {}, peak {megabytes} MB", hash.rows, hash.hash),
    }
    .record();
}

#[test]
fn several_tables_arrive_and_columns_can_be_chosen() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("several_source"), server.database("several_destination"));
    source.sql(&tables::lineitem(2_000));
    source.sql(
        r#"CREATE TABLE "Odd ""Name""" ("Key.1" int PRIMARY KEY, "select" text, "ü" text, skipped text);
           INSERT INTO "Odd ""Name""" SELECT i, 'v'||i, NULL, 'not wanted' FROM generate_series(1, 1000) i;
           CREATE TABLE nothing (id int);
           CREATE SCHEMA other; CREATE TABLE other.far AS SELECT i AS id FROM generate_series(1, 10) i;"#,
    );
    let text = format!(
        "version: \"1\"\npipeline: several\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n\
         \x20   - {{ name: public.lineitem }}\n    - {{ name: nothing }}\n    - {{ name: other.far, destination: {{ table: moved.near }} }}\n\
         \x20   - {{ name: 'Odd \"Name\"', namespace: public, columns: [\"ü\", Key.1, select], destination: {{ table: odd }} }}\n\
         destination:\n  use: dest-postgres\n  config: {{ {}, schema: raw }}\n",
        source.config(),
        destination.config()
    );
    let run = Project::with_pipeline(&text).run().finish().success();
    assert_eq!(run.at("/report/streams").as_array().map(Vec::len), Some(4));
    assert_eq!(source.hash("lineitem"), destination.hash("raw.lineitem"));
    assert_eq!(destination.hash("raw.nothing").rows, 0);
    assert_eq!(source.hash("other.far"), destination.hash("moved.near"));
    assert_eq!(source.hash(r#"(SELECT "ü", "Key.1", "select" FROM "Odd ""Name""")"#), destination.hash("raw.odd"));
}

#[test]
fn append_adds_and_replace_replaces() {
    let server = Postgres::shared();
    for (mode, after) in [("append", 4_000), ("replace", 2_000)] {
        let (source, destination) = (server.database("again_source"), server.database("again_destination"));
        source.sql(&tables::lineitem(2_000));
        let project = Project::with_pipeline(&pipeline(&source, &destination, &["lineitem"], &format!("  write_mode: {mode}\n")));
        project.run().finish().success();
        assert_arrived(&source, &destination, "lineitem");
        project.run().finish().success();
        assert_eq!(destination.hash("lineitem").rows, after, "{mode}");
        // A server notices in its own time that a client has gone, ours and psql's alike.
        source.until_quiet(Duration::from_secs(5));
        destination.until_quiet(Duration::from_secs(5));
    }
}

#[test]
fn a_table_that_is_there_already_is_added_to() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("there_source"), server.database("there_destination"));
    source.sql("CREATE TABLE t AS SELECT i AS id, 'new' AS word FROM generate_series(1, 100) i");
    destination.sql("CREATE TABLE t (id int, word text, mine int DEFAULT 7); INSERT INTO t VALUES (0, 'old', 1)");
    Project::with_pipeline(&pipeline(&source, &destination, &["t"], "")).run().finish().success();
    assert_eq!(destination.sql("SELECT count(*), count(*) FILTER (WHERE word = 'old'), sum(id) FROM t"), "101|1|5050");
}

/// A user pipeline over TLS; `host` and the rest of both configurations vary.
fn over_tls(source: &Database<'_>, destination: &Database<'_>, host: &str, settings: &str) -> Project {
    let port = source.server().port();
    let side = |database: &str| {
        format!("host: {host}, port: {port}, user: tls_only, password: 'over tls', database: {database}, {settings}")
    };
    Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: tls\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n    - {{ name: public.t }}\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: replace\nresources: {{ max_retries: 0 }}\n",
        side(source.name()),
        side(destination.name())
    ))
}

#[test]
fn the_host_encrypts_and_checks_certificates() {
    let (authority, stranger) = (Authority::new("the server's"), Authority::new("a stranger's"));
    // The certificate is for the name `localhost` and for no address.
    let server = Postgres::start(PostgresOptions::default().with_tls(&authority));
    let (source, destination) = (server.database("tls_source"), server.database("tls_destination"));
    source.sql("CREATE ROLE tls_only LOGIN SUPERUSER PASSWORD 'over tls'; CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 1000) i;");
    let (ca, wrong) = (authority.certificate(), stranger.certificate());
    let (ca, wrong) = (format!("sslrootcert: {}", ca.display()), format!("sslrootcert: {}", wrong.display()));

    for (host, settings) in [
        ("127.0.0.1", "sslmode: require".to_owned()),
        ("localhost", "sslmode: prefer".to_owned()),
        ("127.0.0.1", format!("sslmode: require, {ca}")),
        ("127.0.0.1", format!("sslmode: verify-ca, {ca}")),
        ("localhost", format!("sslmode: verify-full, {ca}")),
    ] {
        over_tls(&source, &destination, host, &settings).run().finish().success();
        assert_eq!(source.hash("t"), destination.hash("t"), "{settings}");
        destination.sql("DROP TABLE t");
    }
    for (host, settings, what) in [
        ("127.0.0.1", "sslmode: disable".to_owned(), "the server refuses plain connections"),
        ("localhost", format!("sslmode: prefer, {wrong}"), "a stranger's authority"),
        ("localhost", format!("sslmode: require, {wrong}"), "a stranger's authority"),
        ("localhost", format!("sslmode: verify-ca, {wrong}"), "a stranger's authority"),
        ("localhost", "sslmode: verify-ca".to_owned(), "no authority"),
        ("localhost", format!("sslmode: verify-full, {wrong}"), "a stranger's authority"),
        ("127.0.0.1", format!("sslmode: verify-full, {ca}"), "a name that the certificate does not have"),
        ("localhost", "sslmode: verify-full".to_owned(), "an authority the world does not know"),
    ] {
        let run = over_tls(&source, &destination, host, &settings).run().finish();
        assert!(run.code.is_some_and(|code| code != 0), "{what}: {}", run.told());
        assert!(run.json()["error"]["hint"].is_string(), "{what}: no hint: {}", run.told());
        assert!(!destination.has("t"), "{what}");
    }
}

#[test]
fn drivers_with_and_without_async_work_in_the_sandbox() {
    let authority = Authority::new("the probe's");
    let server = Postgres::start(PostgresOptions::default().with_tls(&authority));
    let database = server.database("probe");
    database.sql("CREATE ROLE tls_only LOGIN PASSWORD 'over tls'");
    let probe = packed_fixture("probe-tokio-postgres");
    let query = "SELECT 'user ' || current_user || ', tls ' || (SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid())";
    for (settings, answer) in [
        (
            format!("sslmode: verify-full, sslrootcert: {}, user: tls_only, password: over tls", authority.certificate().display()),
            "user tls_only, tls true",
        ),
        (
            format!("sslmode: disable, user: {}, password: \"{}\"", server.user(), server.password().replace('\\', "\\\\")),
            "user keeper, tls false",
        ),
    ] {
        let project = Project::with_pipeline(&format!(
            "version: \"1.0\"\npipeline: probe\nsource:\n  use: {}\n  config: {{ host: localhost, port: {}, database: {}, query: \"{query}\", {settings} }}\n\
             \x20 streams: [ {{ name: none }} ]\ndestination: {{ use: dest-stdout }}\n",
            probe.display(),
            server.port(),
            database.name()
        ));
        let check = project.rapidbyte(&["check", "pipeline.yaml"]).finish();
        assert!(check.stdout.contains(answer) || check.stderr.contains(answer), "{answer}: {}", check.told());
        let blocking = "`S`, then TimedOut, then 0 bytes and the end";
        assert!(check.stdout.contains(blocking) || check.stderr.contains(blocking), "{}", check.told());
    }
}

#[test]
fn a_load_that_can_not_be_published_is_read_again_once_it_is_mended() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("unfit_source"), server.database("unfit_destination"));
    source.sql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 3) i");
    destination.sql("CREATE TABLE t (id integer PRIMARY KEY); INSERT INTO t VALUES (1)");
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: unfit\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: public.t }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: append\n",
        source.config(),
        destination.config()
    ));
    project.run().finish().exit(7);
    assert_eq!(destination.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "1", "nothing is half there");
    source.sql("DELETE FROM t WHERE id = 1");
    project.run().finish().success();
    assert_eq!(destination.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t"), "1,2,3");
}
