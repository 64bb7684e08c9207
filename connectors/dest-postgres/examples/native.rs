//! One table from PostgreSQL to PostgreSQL by the same connectors, built for this machine: the benchmarks' arm without a sandbox.
//!
//! Two threads with a queue between them; no checks of batches, no state store, no other process. Called by `cargo xtask bench`:
//!
//! ```text
//! RAPIDBYTE_BENCH_PASSWORD=… native HOST PORT USER SOURCE_DATABASE DESTINATION_DATABASE SCHEMA TABLE append|replace|upsert
//! ```

use dest_postgres::PostgresDestination;
use rapidbyte_sdk::host_ffi::RawEvent;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{
    Barrier, ClaimRequest, ClaimStream, ConnectorError, Destination, Generation, InitContext, Partition, PrepareRequest,
    PublishRequest, ReadRequest, Source, StreamContext, StreamName, WriteMode, WriteRequest, WriteStream,
};
use serde_json::{Value, json};
use source_postgres::PostgresSource;
use std::process::ExitCode;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::{env, thread};

/// As many bytes wait between the threads as in a run with the sandbox: four batches.
const WAITING: usize = 4;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match copy(&arguments) {
        Ok(rows) => {
            println!("{rows} rows");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy(arguments: &[String]) -> Result<u64, ConnectorError> {
    let [host, port, user, from, to, schema, table, mode] = arguments else {
        return Err(ConnectorError::config("usage", "eight arguments are expected: see the head of this file"));
    };
    let port: u16 = port.parse().map_err(|_| ConnectorError::config("usage", format!("`{port}` is no port")))?;
    let password = env::var("RAPIDBYTE_BENCH_PASSWORD").unwrap_or_default();
    let login = |database: &str| json!({ "host": host, "port": port, "user": user, "password": password, "sslmode": "disable", "database": database });
    let mut context = StreamContext::full_refresh(StreamName::qualified(schema, table));
    context.write_mode = match mode.as_str() {
        "append" => WriteMode::Append,
        "replace" => WriteMode::Replace,
        "upsert" => WriteMode::Upsert,
        other => return Err(ConnectorError::config("usage", format!("`{other}` is no write mode"))),
    };
    let (events, coming) = sync_channel(WAITING);
    let reading = {
        let (config, context) = (login(from), context.clone());
        thread::spawn(move || read(config, context, &events))
    };

    let fake = FakeHost::install();
    fake.draw_from(move || coming.recv().unwrap_or(RawEvent::End));
    let mut config = login(to);
    config["schema"] = Value::from(schema.as_str());
    let mut destination = PostgresDestination::init(config, InitContext::default())?;
    let run = run_context();
    let claim = ClaimStream { context: context.clone(), known_epoch: 0, source_identity: "benchmark".into() };
    let claimed = destination.claim(&ClaimRequest { run: run.clone(), streams: vec![claim] })?;
    let epoch = claimed.first().map_or(0, |claimed| claimed.epoch);
    let number = claimed.first().map_or(0, |claimed| claimed.newest_generation) + 1;
    let partition = Partition { id: "0".into(), spec: Vec::new() };
    let generation = Generation { number, snapshot: "benchmark".into(), partitions: vec![partition] };
    destination.prepare(&PrepareRequest { run: run.clone(), context: context.clone(), epoch, generation })?;
    let stream =
        WriteStream { context: context.clone(), epoch, generation: number, partition: "0".into(), seq: 0, rows: 0, bytes: 0 };
    let written = destination.write(&WriteRequest { run: run.clone(), streams: vec![stream] }, &mut fake.input());
    // A reader that failed says why; the writer only sees that nothing follows.
    let read = reading.join().map_err(|_| ConnectorError::internal("reader", "the reader panicked"))?;
    read?;
    written?;
    Ok(destination.publish(&PublishRequest { run, context, epoch, generation: number })?.rows)
}

fn read(config: Value, context: StreamContext, events: &SyncSender<RawEvent>) -> Result<(), ConnectorError> {
    let gone = |_| ConnectorError::internal("closed", "the writer has ended");
    let fake = FakeHost::install();
    let out = events.clone();
    fake.pour_into(move |emitted| {
        let event = match emitted {
            Emitted::Schema { stream, schema_id, ipc } => RawEvent::Schema { stream, schema_id, ipc },
            Emitted::Batch { stream, schema_id, rows, ipc } => RawEvent::Batch { stream, schema_id, rows, ipc },
            other => return Err(ConnectorError::internal("unexpected", format!("a full refresh put out {other:?}"))),
        };
        out.send(event).map_err(gone)
    });
    let mut source = PostgresSource::init(config, InitContext::default())?;
    let request = ReadRequest {
        run: run_context(),
        streams: vec![context],
        partition: Some(Partition { id: "0".into(), spec: Vec::new() }),
        token: Vec::new(),
        resume: None,
        follow: false,
    };
    source.read(&request, &mut fake.source_output())?;
    let last = Barrier { id: 1, commit: true, last: true, position: None, transform_state: Vec::new() };
    events.send(RawEvent::Barrier(last)).map_err(gone)
}
