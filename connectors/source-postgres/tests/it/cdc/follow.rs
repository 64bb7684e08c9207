//! Following the log as it is written.

use super::{Pipeline, server};
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{ReadRequest, Source};
use std::thread;

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
