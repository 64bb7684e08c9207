//! Following the log as it is written.

use super::{Pipeline, logical, server};
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{ConnectorError, ErrorCategory, InitContext, ReadRequest, Source};
use source_postgres::PostgresSource;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

#[test]
fn following_hands_on_what_is_committed_and_lets_go_only_what_is_durable() {
    let mut pipeline = Pipeline::new(server(), "followed", &["followed"]);
    pipeline.sql("CREATE TABLE followed (id int PRIMARY KEY, v text, net inet)");
    pipeline.load();
    pipeline.sql("INSERT INTO followed VALUES (1, 'before', '10.0.0.1')");
    let durable = pipeline.changes(None).end();
    let confirmed = || pipeline.ask("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'rapidbyte_followed'");
    assert_ne!(confirmed(), durable.value);
    // Every commit is a barrier; a change above the limit ends the read.
    let mut streams = pipeline.streams.clone();
    (streams[0].limits.max_batch_bytes, streams[0].limits.max_record_bytes) = (4, 1 << 20);
    let token = pipeline.token().unwrap();
    let host = FakeHost::install();
    host.set_durable(durable.clone());
    let mut output = host.source_output();
    let request = ReadRequest { run: run_context(), streams, partition: None, token, resume: Some(durable.clone()), follow: true };
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            // Not before the source listens.
            while pipeline.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rapidbyte_followed' AND active") != "1"
            {
                thread::yield_now();
            }
            for id in 2..20 {
                pipeline.each(&[
                    &format!("INSERT INTO followed VALUES ({id}, 'new', '10.0.0.{id}')"),
                    "BEGIN; DELETE FROM followed; ROLLBACK",
                    &format!("UPDATE followed SET v = 'changed' WHERE id = {id}"),
                ]);
            }
            // What was durable was told by now, and nothing more.
            pipeline.sql("INSERT INTO followed VALUES (0, repeat('x', 2000000), NULL)");
        });
        pipeline.source().read(&request, &mut output).map(|_| ()).unwrap_err()
    });
    assert_eq!(error.code, "record_too_large");
    let read = super::Read { emitted: host.emitted(), host };
    let changes: Vec<(String, String, String)> =
        read.changes(0).iter().map(|row| (row["id"].clone(), row["_rb_op"].clone(), row["net"].clone())).collect();
    let expected: Vec<(String, String, String)> =
        (2..20).flat_map(|id| ["insert", "update"].map(|op| (id.to_string(), op.to_owned(), format!("10.0.0.{id}/32")))).collect();
    assert_eq!(changes, expected);
    assert!(matches!(read.emitted.last(), Some(Emitted::Barrier(_))), "everything has a barrier behind it");
    assert_eq!(confirmed(), durable.value);
    // Where it ended, a bounded read goes on.
    let rest = pipeline.changes(read.barriers().last()).changes(0);
    assert_eq!(rest.len(), 1);
}

/// A proxy whose sessions of the log fall silent when it is told to, and are closed at `end`.
struct Proxy {
    port: u16,
    silent: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: u16, end: mpsc::Receiver<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, silent) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let (told, ended) = (silent.clone(), Arc::new(Mutex::new(Vec::<TcpStream>::new())));
        let open = ended.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, upstream) = (client.unwrap(), TcpStream::connect(("127.0.0.1", server)).unwrap());
                open.lock().unwrap().push(client.try_clone().unwrap());
                let of_log = Arc::new(AtomicBool::new(false));
                let ways = [(client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client)];
                for (mut from, mut to) in ways {
                    let (told, of_log) = (told.clone(), of_log.clone());
                    thread::spawn(move || {
                        let mut bytes = [0; 65536];
                        while let Ok(count @ 1..) = from.read(&mut bytes) {
                            if bytes[..count].windows(12).any(|word| word == b"replication\0") {
                                of_log.store(true, Ordering::SeqCst);
                            }
                            let lost = told.load(Ordering::SeqCst) && of_log.load(Ordering::SeqCst);
                            if !lost && to.write_all(&bytes[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        thread::spawn(move || {
            let _ = end.recv_timeout(Duration::from_secs(60));
            for client in ended.lock().unwrap().iter() {
                let _ = client.shutdown(Shutdown::Both);
            }
        });
        Self { port, silent }
    }
}

/// Follows through a proxy with five seconds' patience; gives the error that ends it. `meanwhile` runs beside it once the server sends, and is
/// told whether it still reads.
fn follow_through_proxy(
    pipeline: &Pipeline<'_>,
    meanwhile: impl FnOnce(&Proxy, &(dyn Fn() -> bool + Sync)) + Send,
) -> ConnectorError {
    let (ended, end) = mpsc::channel();
    let proxy = Proxy::start(pipeline.server.port(), end);
    let mut config = pipeline.server.config_json("app");
    (config["port"], config["idle_timeout_seconds"]) = (proxy.port.into(), 5.into());
    let context = InitContext { pipeline: Some(pipeline.name.clone()), blob: None };
    let mut source = PostgresSource::init(config, context).unwrap();
    let mut streams = pipeline.streams.clone();
    streams[0].limits.max_record_bytes = 1 << 20;
    let resume = Some(pipeline.changes(None).end());
    let token = pipeline.token().unwrap();
    let request = ReadRequest { run: run_context(), streams, partition: None, token, resume, follow: true };
    let host = FakeHost::install();
    let slot = format!("rapidbyte_{}", pipeline.name);
    let reading = AtomicBool::new(true);
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            let reads = || reading.load(Ordering::SeqCst);
            let active = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active");
            while reads() && pipeline.ask(&active) != "1" {
                thread::sleep(Duration::from_millis(50));
            }
            meanwhile(&proxy, &reads);
        });
        let error = source.read(&request, &mut host.source_output()).map(|_| ()).unwrap_err();
        reading.store(false, Ordering::SeqCst);
        error
    });
    let _ = ended.send(());
    error
}

#[test]
fn a_server_that_is_gone_is_noticed_and_one_that_is_quiet_is_asked() {
    // Nobody else writes its log, of which it would have something to say.
    let server = logical(&[]);
    let mut pipeline = Pipeline::new(&server, "silent", &["silent"]);
    pipeline.sql("CREATE TABLE silent (id int PRIMARY KEY, v text)");
    pipeline.load();
    let error = follow_through_proxy(&pipeline, |proxy, _| proxy.silent.store(true, Ordering::SeqCst));
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::TransientNetwork, "timed_out"), "{}", error.message);
    assert!(error.message.contains("silent for 5 seconds"), "{}", error.message);
    // The session of the one before is still there for the server.
    while pipeline.ask("SELECT count(pg_terminate_backend(active_pid)) FROM pg_replication_slots WHERE active") != "0" {
        thread::sleep(Duration::from_millis(50));
    }
    // One that has nothing to say for longer than that is there, and says so.
    let error = follow_through_proxy(&pipeline, |_, reads| {
        let long = "SELECT coalesce(bool_or(reply_time - backend_start > '12 s'), false) FROM pg_stat_replication r
                    JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = 'rapidbyte_silent'";
        while reads() && pipeline.ask(long) != "t" {
            thread::sleep(Duration::from_millis(50));
        }
        pipeline.sql("INSERT INTO silent VALUES (1, repeat('x', 2000000))");
    });
    assert_eq!(error.code, "record_too_large", "{}", error.message);
}
