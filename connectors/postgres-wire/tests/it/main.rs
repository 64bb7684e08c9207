//! The wire against a real server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod words;

use postgres_wire::test_server::PostgresServer;
use postgres_wire::{Connection, CopyOutError, Error, Param, Secret, SslMode, TransactionStatus};
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

fn connector_error(result: Result<Connection, Error>) -> ConnectorError {
    match result {
        Ok(_) => panic!("the connection should have been refused"),
        Err(error) => error.into(),
    }
}

#[test]
fn one_session_does_everything() {
    let server = PostgresServer::start();
    let mut connection = server.connect();
    assert!(connection.server_version() >= 120_000);
    assert_eq!(connection.parameter("client_encoding"), Some("UTF8"));

    // Simple and extended queries.
    let rows = connection.query("SELECT 1; SELECT 'a', NULL, 'ü€😀'").unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].get(0), rows[0].get(1), rows[0].get(2)), (Some("a"), None, Some("ü€😀")));
    let binary = Param::Binary { oid: 20, bytes: 7_i64.to_be_bytes().to_vec().into() };
    let params = ["it's \\ \"".into(), Param::Null, binary, 5_i32.into(), true.into()];
    let rows = connection.query_params("SELECT $1::text, $2::int, $3, $4::int + 1, $5::bool", &params).unwrap();
    let values: Vec<Option<&str>> = (0..5).map(|index| rows[0].get(index)).collect();
    assert_eq!(values, [Some("it's \\ \""), None, Some("7"), Some("6"), Some("t")]);
    connection.batch_execute("CREATE TABLE t (a int, b text)").unwrap();
    assert_eq!(connection.execute("INSERT INTO t SELECT g, $1 FROM generate_series(1, 5) g", &["x".into()]).unwrap(), 5);
    let columns = connection.describe("SELECT b, a::numeric(7,2) FROM t").unwrap();
    assert_eq!((columns[0].name.as_str(), columns[0].type_oid, columns[1].typmod), ("b", 25, (7 << 16) + 2 + 4));

    // An error leaves the session usable, in and out of a transaction.
    connection.batch_execute("BEGIN").unwrap();
    assert_eq!(connection.transaction(), TransactionStatus::Open);
    let error = connection.batch_execute("INSERT INTO nowhere VALUES (1)").unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"));
    assert_eq!(connection.transaction(), TransactionStatus::Failed);
    connection.batch_execute("ROLLBACK").unwrap();
    let error = connection.query_params("SELECT $1::int", &["abc".into()]).unwrap_err();
    assert_eq!(ConnectorError::from(error).category, ErrorCategory::Data);
    assert_eq!(connection.transaction(), TransactionStatus::Idle);

    // COPY in: small writes, large writes, abort, and an error of the server in the middle.
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    for index in 0..10_000 {
        copy.write(format!("{index}\tsmall\n").as_bytes()).unwrap();
    }
    copy.write("7\tlarge\n".repeat(100_000).as_bytes()).unwrap();
    assert_eq!(copy.finish().unwrap(), 110_000);
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    copy.write(b"1\tgiven up\n").unwrap();
    copy.abort("the test says so").unwrap();
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    let bad = "not a number\tx\n".repeat(100_000);
    let failed = (0..200).find_map(|_| copy.write(bad.as_bytes()).err()).expect("the server's refusal shows before the end");
    assert_eq!(failed.sqlstate(), Some("22P02"));
    let made = ConnectorError::from(failed);
    assert!(made.message.contains("line 1, column a") && !made.message.contains("not a number"), "{made}");
    drop(copy);
    assert!(!connection.is_broken());
    assert_eq!(connection.query("SELECT count(*) FROM t").unwrap()[0].get(0), Some("110005"));

    // COPY out, whole and refused by length.
    let mut copy = connection.copy_out("COPY (SELECT a FROM t ORDER BY a) TO STDOUT", 1 << 20).unwrap();
    let mut rows = 0;
    while let Some(payload) = copy.next_payload().unwrap() {
        rows += payload.iter().filter(|byte| **byte == b'\n').count();
    }
    drop(copy);
    assert_eq!(rows, 110_005);
    let mut copy = connection.copy_out("COPY (SELECT 'head' || repeat('x', 5000000)) TO STDOUT", 1 << 20).unwrap();
    assert!(matches!(copy.next_payload(), Err(CopyOutError::TooLong { length: 5_000_005 })));
    assert!(copy.refused_head(4).unwrap().starts_with(b"head"));
    drop(copy);
    assert!(connection.is_broken());
    assert!(connection.query("SELECT 1").unwrap_err().is_network());

    // Errors in the middle of a COPY OUT.
    let mut connection = server.connect();
    let mut copy = connection.copy_out("COPY (SELECT 1 / (500 - g) FROM generate_series(1, 1000) g) TO STDOUT", 1 << 20).unwrap();
    let error = loop {
        match copy.next_payload() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the COPY should have failed"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CopyOutError::Wire(error) if error.sqlstate() == Some("22012")));
    drop(copy);
    assert_eq!(connection.query("SELECT 1").unwrap().len(), 1);
    connection.close();

    refusals(&server);
    lost_servers(&server);
}

/// Each way a login fails, with its category and code.
fn refusals(server: &PostgresServer) {
    use ErrorCategory as C;
    let base = server.config("app");
    let mut wrong_password = base.clone();
    wrong_password.password = Some(Secret::new("canary"));
    let mut no_password = base.clone();
    no_password.password = None;
    let mut unknown_database = base.clone();
    unknown_database.database = "nowhere".into();
    let mut unknown_host = base.clone();
    unknown_host.host = "no-such-host.invalid".into();
    let mut nobody_listens = base.clone();
    nobody_listens.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut tls = base.clone();
    tls.sslmode = SslMode::Require;
    let cases = [
        (wrong_password, C::Auth, "auth"),
        (no_password, C::Auth, "password_missing"),
        (unknown_database, C::Config, "unknown_database"),
        (unknown_host, C::Config, "unknown_host"),
        (nobody_listens, C::TransientNetwork, "connection_refused"),
        (tls, C::Config, "tls_not_offered"),
    ];
    for (config, category, code) in cases {
        let error = connector_error(Connection::connect(&config));
        assert_eq!((error.category, error.code.as_str()), (category, code), "{error:?}");
        assert!(error.hint.is_some() && !format!("{error:?}").contains("canary"));
    }
    let mut prefers = base.clone();
    prefers.sslmode = SslMode::Prefer;
    assert!(Connection::connect(&prefers).unwrap().tls().is_none());

    let mut admin = server.connect();
    admin.batch_execute("CREATE ROLE md5er LOGIN PASSWORD 'md5ad5b04f2a8bf2f4f0a7ddf3fb0d3aa6e'").unwrap();
    admin.batch_execute("SET password_encryption = 'md5'; ALTER ROLE md5er PASSWORD 'old style'").unwrap();
    let hba = server.directory().join("data/pg_hba.conf");
    std::fs::write(&hba, "host all md5er all md5\nhost all clear all password\nhost all all all scram-sha-256\n").unwrap();
    admin.batch_execute("CREATE ROLE clear LOGIN PASSWORD 'x'; SELECT pg_reload_conf()").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut md5 = base.clone();
    (md5.user, md5.password) = ("md5er".into(), Some(Secret::new("old style")));
    assert_eq!(Connection::connect(&md5).unwrap().query("SELECT current_user").unwrap()[0].get(0), Some("md5er"));
    let mut clear = base;
    (clear.user, clear.password) = ("clear".into(), Some(Secret::new("x")));
    assert_eq!(connector_error(Connection::connect(&clear)).code, "cleartext_password");
}

/// Peers that are silent, talk nonsense, or go away.
fn lost_servers(server: &PostgresServer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut config = server.config("app");
    config.port = port;
    config.connect_timeout_seconds = 1;
    let started = Instant::now();
    for sslmode in [SslMode::Prefer, SslMode::Disable] {
        config.sslmode = sslmode;
        let error = connector_error(Connection::connect(&config));
        assert_eq!(error.category, ErrorCategory::TransientNetwork);
        assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("connect_timeout_seconds")), "{error:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(5));

    for answer in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"R\0\0\0\x03", b"R\0\0\0\x08\0\0", b"R\x7f\xff\xff\xff\0\0\0\0", b"\0"]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        config.port = listener.local_addr().unwrap().port();
        let peer = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut startup = [0; 1024];
            let _ = socket.read(&mut startup);
            let _ = socket.write_all(answer);
        });
        assert_eq!(connector_error(Connection::connect(&config)).category, ErrorCategory::TransientNetwork);
        peer.join().unwrap();
    }

    let mut connection = server.connect();
    let mut copy = connection.copy_in("COPY t FROM STDIN").unwrap();
    server.stop_immediately();
    let line = "1\tx\n".repeat(100_000);
    let error = (0..100).find_map(|_| copy.write(line.as_bytes()).err()).expect("a stopped server takes no data");
    assert!(error.is_network() || matches!(error.sqlstate(), Some("57P01" | "57P02")), "{error}");
    drop(copy);
    assert!(connection.is_broken());
}

#[test]
fn a_session_that_is_renewed_is_as_if_just_connected() {
    let server = PostgresServer::start();
    let mut session = server.connect();
    let same = "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('TimeZone'), current_user,
        current_setting('session_replication_role'), current_setting('application_name'), current_setting('client_encoding')";
    let before = session.query(same).unwrap();
    session
        .batch_execute(
            "CREATE ROLE other; CREATE TEMP TABLE kept (a int); PREPARE kept AS SELECT 1; SELECT pg_advisory_lock(7); LISTEN news;
             SET TimeZone = 'Asia/Tokyo'; SET search_path = nowhere; SET session_replication_role = replica; SET ROLE other",
        )
        .unwrap();
    // What comes out of turn takes nothing away.
    server.connect().batch_execute("NOTIFY news").unwrap();
    assert!(session.renew("SET lock_timeout = '3s'"));
    assert_eq!(session.query(same).unwrap(), before);
    let left = "SELECT to_regclass('pg_temp.kept'), (SELECT count(*) FROM pg_prepared_statements),
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_listening_channels()),
        current_setting('lock_timeout')";
    let left = session.query(left).unwrap();
    let values: Vec<Option<&str>> = (0..5).map(|at| left[0].get(at)).collect();
    assert_eq!(values, [None, Some("0"), Some("0"), Some("0"), Some("3s")]);
    // An open transaction is nobody's to take over, and neither is a session that the server has ended.
    session.batch_execute("BEGIN").unwrap();
    assert!(!session.renew(""));
    session.batch_execute("ROLLBACK").unwrap();
    assert!(session.renew(""));
    let others = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
    server.connect().query(others).unwrap();
    assert!(!session.renew("") && session.is_broken());
    // The role is the one that the login gives.
    let mut config = server.config("app");
    server
        .connect()
        .batch_execute("CREATE ROLE member LOGIN PASSWORD 'm'; GRANT other TO member; ALTER ROLE member SET role = other")
        .unwrap();
    (config.user, config.password) = ("member".into(), Some(Secret::new("m")));
    let mut session = Connection::connect(&config).unwrap();
    session.batch_execute("RESET ROLE; SET client_encoding = 'LATIN1'").unwrap();
    assert!(session.renew(""));
    let values = session.query("SELECT current_user, session_user, current_setting('client_encoding')").unwrap();
    assert_eq!((0..3).map(|at| values[0].get(at)).collect::<Vec<_>>(), [Some("other"), Some("member"), Some("UTF8")]);
}
