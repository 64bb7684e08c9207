//! A source that does whatever its configuration's `mode` says, good or bad.
//!
//! What it has to tell the test it returns as a connector error with the code `report`.

wit_bindgen::generate!({
    path: "../../../../wit/v2",
    world: "rapidbyte-source",
    generate_all,
});

use exports::rapidbyte::connector::source::{DiscoveredStream, Guest, PartitionPlan, PlanRequest, ReadRequest};
use rapidbyte::connector::net::{NetError, ReadOutcome, TcpStream, TlsOptions, TlsVerify};
use rapidbyte::connector::output::{EmitOutcome, emit_batch, emit_schema, subscribe_capacity};
use rapidbyte::connector::progress::{durable_position, emit_barrier, subscribe_durable};
use rapidbyte::connector::state::{StateScope, state_cas, state_get, state_put};
use rapidbyte::connector::telemetry::{LogLevel, MetricKind, log, mark, metric};
use rapidbyte::connector::types::*;
use serde_json::Value;
use std::sync::Mutex;

static CONFIG: Mutex<Option<(Value, Vec<u8>)>> = Mutex::new(None);

struct Misfit;

fn text(key: &str) -> String {
    CONFIG.lock().unwrap().as_ref().and_then(|(config, _)| config[key].as_str().map(str::to_owned)).unwrap_or_default()
}

fn number(key: &str) -> u64 {
    CONFIG.lock().unwrap().as_ref().and_then(|(config, _)| config[key].as_u64()).unwrap_or(0)
}

/// The blob is a schema message behind its length, and the messages of one batch.
fn payload() -> (Vec<u8>, Vec<u8>) {
    let guard = CONFIG.lock().unwrap();
    let Some((_, blob)) = guard.as_ref() else { return Default::default() };
    if blob.len() < 4 {
        return Default::default();
    }
    let length = u32::from_le_bytes(blob[..4].try_into().unwrap()) as usize;
    (blob[4..4 + length].to_vec(), blob[4 + length..].to_vec())
}

fn report(message: impl Into<String>) -> ConnectorError {
    ConnectorError {
        category: ErrorCategory::Data,
        scope: ErrorScope::Stream,
        code: "report".into(),
        message: message.into(),
        hint: None,
        retryable: false,
        retry_after_ms: None,
        backoff: BackoffClass::Normal,
        safe_to_retry: false,
        commit_state: CommitState::BeforeCommit,
        details: None,
        extensions: Vec::new(),
    }
}

fn net(error: NetError) -> ConnectorError {
    report(format!("{:?}: {}", error.code, error.message))
}

fn connect() -> Result<TcpStream, ConnectorError> {
    TcpStream::connect(&text("host"), number("port") as u16, 5_000).map_err(net)
}

fn summary(records: u64, batches: u64) -> ReadSummary {
    let perf = ReadPerf { connect_ns: 1, query_ns: 2, fetch_ns: 3, encode_ns: 4 };
    ReadSummary { records, bytes: 0, batches_emitted: batches, checkpoint_count: 0, records_skipped: 0, perf }
}

fn spin() -> ! {
    let mut x = 0u64;
    loop {
        x = std::hint::black_box(x.wrapping_add(1));
    }
}

fn position(value: impl Into<String>) -> Position {
    Position { type_: CursorType::Int64, value: value.into() }
}

fn emit_good(batches: u64) -> Result<ReadSummary, ConnectorError> {
    let (schema, batch) = payload();
    let rows = number("rows") as u32;
    emit_schema(0, 1, &schema)?;
    for n in 1..=batches {
        while emit_batch(0, 1, rows, &batch, 50)? == EmitOutcome::Full {
            subscribe_capacity().block();
        }
        while emit_barrier(&position(n.to_string()), 50)? == EmitOutcome::Full {}
    }
    Ok(summary(batches * u64::from(rows), batches))
}

/// Recursion without locals in linear memory, whose own stack would run over first, and not to be made a loop.
#[inline(never)]
fn deep(n: u64) -> u64 {
    if n == u64::MAX { 0 } else { deep(n + 1).rotate_left((n & 63) as u32).wrapping_mul(n | 1) }
}

fn tls_options() -> TlsOptions {
    let verify = match text("verify").as_str() {
        "none" => TlsVerify::None,
        "ca" => TlsVerify::Ca,
        _ => TlsVerify::Full,
    };
    TlsOptions { server_name: text("server_name"), verify, alpn: vec!["postgresql".into()] }
}

fn read_all(stream: &TcpStream, want: usize) -> Result<Vec<u8>, ConnectorError> {
    let mut got = Vec::new();
    while got.len() < want {
        match stream.read(65_536, 1, 5_000).map_err(net)? {
            ReadOutcome::Data(bytes) => got.extend(bytes),
            ReadOutcome::WouldBlock => return Err(report("would block")),
            ReadOutcome::Eof => break,
        }
    }
    Ok(got)
}

fn run(mode: &str) -> Result<ReadSummary, ConnectorError> {
    match mode {
        "ok" => emit_good(number("batches")),
        "spin" => spin(),
        "panic" => panic!("the misfit falls over with {}", text("secret")),
        "exit" => std::process::exit(3),
        "stack" => Err(report(format!("{}", deep(0)))),
        "memory" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(vec![1; 8 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        "raw" => {
            let (schema, batch) = payload();
            emit_schema(0, 1, &schema)?;
            emit_batch(0, 1, number("rows") as u32, &batch, 1_000)?;
            Ok(summary(1, 1))
        }
        "unknown-schema" => {
            let (schema, batch) = payload();
            emit_schema(0, 1, &schema)?;
            emit_batch(0, 2, number("rows") as u32, &batch, 1_000)?;
            Ok(summary(1, 1))
        }
        "unknown-stream" => {
            let (schema, _) = payload();
            emit_schema(7, 1, &schema)?;
            Ok(summary(0, 0))
        }
        "schema-order" => {
            let (schema, _) = payload();
            emit_schema(0, 5, &schema)?;
            emit_schema(0, 5, &schema)?;
            Ok(summary(0, 0))
        }
        "schema-flood" => {
            let (schema, _) = payload();
            for id in 0..100_000 {
                emit_schema(0, id, &schema)?;
            }
            Ok(summary(0, 0))
        }
        "oversized" => {
            let (schema, _) = payload();
            emit_schema(0, 1, &schema)?;
            emit_batch(0, 1, 1, &vec![0; number("size") as usize], 1_000)?;
            Ok(summary(1, 1))
        }
        "emit-forever" => {
            let (schema, batch) = payload();
            emit_schema(0, 1, &schema)?;
            loop {
                let _ = emit_batch(0, 1, number("rows") as u32, &batch, 0)?;
            }
        }
        "barrier-big" => {
            emit_barrier(&position("9".repeat(1 << 20)), 1_000)?;
            Ok(summary(0, 0))
        }
        "durable" => {
            subscribe_durable().block();
            Err(report(durable_position().map_or("none".into(), |position| position.value)))
        }
        "dial" => connect().map(|_| summary(0, 0)),
        "dial-many" => {
            let mut open = Vec::new();
            loop {
                match TcpStream::connect(&text("host"), number("port") as u16, 5_000) {
                    Ok(stream) => open.push(stream),
                    Err(error) => return Err(report(format!("{} then {:?}", open.len(), error.code))),
                }
            }
        }
        "dial-drop" => {
            for _ in 0..number("times") {
                drop(connect()?);
            }
            Ok(summary(0, 0))
        }
        "read-blocked" => {
            let stream = connect()?;
            let outcome = stream.read(1024, 1, 3_600_000).map_err(net)?;
            Err(report(format!("{outcome:?}")))
        }
        "read-timeout" => {
            let stream = connect()?;
            let at = std::time::Instant::now();
            let outcome = stream.read(1024, 1, number("timeout") as u32).map_err(net)?;
            let waited = at.elapsed().as_millis();
            Err(report(format!(
                "{} after {waited}",
                if matches!(outcome, ReadOutcome::WouldBlock) { "would block" } else { "data" }
            )))
        }
        "echo" => {
            let stream = connect()?;
            let mut sent = 0;
            let message = text("message").into_bytes();
            while sent < message.len() {
                sent += stream.write(&message[sent..], 5_000).map_err(net)? as usize;
            }
            stream.shutdown().map_err(net)?;
            let got = read_all(&stream, usize::MAX)?;
            Err(report(String::from_utf8_lossy(&got)))
        }
        "echo-poll" => {
            let stream = connect()?;
            // Pollables that outlive the calls between them, and in the end the stream itself.
            let (readable, writable) = (stream.subscribe_read(), stream.subscribe_write());
            writable.block();
            stream.write(text("message").as_bytes(), 0).map_err(net)?;
            readable.block();
            let got = read_all(&stream, 1)?;
            drop(stream);
            drop(readable);
            drop(writable);
            Err(report(String::from_utf8_lossy(&got)))
        }
        "tls" => {
            let stream = connect()?;
            let info = stream.start_tls(&tls_options(), 5_000).map_err(net)?;
            stream.write(b"ping", 5_000).map_err(net)?;
            let got = read_all(&stream, 4)?;
            let hash: String = info.endpoint_hash.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
            Err(report(format!("{} {} {} {hash}", String::from_utf8_lossy(&got), info.protocol, info.alpn.unwrap_or_default())))
        }
        "tls-unread" => {
            let stream = connect()?;
            stream.subscribe_read().block();
            stream.start_tls(&tls_options(), 5_000).map_err(net)?;
            Ok(summary(0, 0))
        }
        "tls-unread-blind" => {
            let stream = connect()?;
            std::thread::sleep(std::time::Duration::from_millis(200));
            stream.start_tls(&tls_options(), 5_000).map_err(net)?;
            Ok(summary(0, 0))
        }
        "plaintext" => {
            let stream = connect()?;
            let mut said = Vec::new();
            for attempt in [&b"user app"[..], &[0, 0, 0, 8, 4, 210, 22, 47], &[0, 0, 0, 8, 4, 210, 22, 47]] {
                match stream.write(attempt, 5_000) {
                    Ok(count) => said.push(count.to_string()),
                    Err(error) => said.push(format!("{:?}", error.code)),
                }
            }
            Err(report(said.join(" ")))
        }
        "reads" => {
            let stream = connect()?;
            let mut sizes = Vec::new();
            loop {
                match stream.read(number("max") as u32, number("min") as u32, 5_000).map_err(net)? {
                    ReadOutcome::Data(bytes) => sizes.push(bytes.len().to_string()),
                    ReadOutcome::WouldBlock => sizes.push("-".into()),
                    ReadOutcome::Eof => break,
                }
            }
            Err(report(sizes.join(" ")))
        }
        "double-drop" => {
            let stream = connect()?;
            let handle = stream.take_handle();
            unsafe {
                drop(TcpStream::from_handle(handle));
                drop(TcpStream::from_handle(handle));
            }
            Err(report("dropped twice"))
        }
        "forged-handle" => {
            let stream = unsafe { TcpStream::from_handle(number("handle") as u32) };
            let outcome = stream.read(10, 1, 0).map_err(net)?;
            Err(report(format!("{outcome:?}")))
        }
        "many-pollables" => {
            let mut kept = Vec::new();
            loop {
                kept.push(subscribe_capacity());
            }
        }
        "read-file" => match std::fs::read_to_string(text("path")) {
            Ok(content) => Err(report(format!("read: {content}"))),
            Err(error) => Err(report(format!("error: {error}"))),
        },
        "write-file" => match std::fs::write(text("path"), "written") {
            Ok(()) => Err(report("written")),
            Err(error) => Err(report(format!("error: {error}"))),
        },
        "env" => {
            let mut all: Vec<String> = std::env::vars().map(|(key, value)| format!("{key}={value}")).collect();
            all.extend(std::env::args());
            all.sort();
            Err(report(all.join(",")))
        }
        "wasi-socket" => match std::net::TcpStream::connect((text("host").as_str(), number("port") as u16)) {
            Ok(_) => Err(report("connected")),
            Err(error) => Err(report(format!("error: {error}"))),
        },
        "stdin" => {
            let mut line = String::new();
            let outcome = std::io::stdin().read_line(&mut line);
            Err(report(format!("{outcome:?} {line}")))
        }
        "log-flood" => {
            for n in 0..number("lines") {
                log(LogLevel::Info, &format!("flood {n}"), &[]);
            }
            Ok(summary(0, 0))
        }
        "log-secret" => {
            log(LogLevel::Warn, &format!("the password is {}", text("secret")), &[("password".into(), text("secret"))]);
            metric("rows.read", MetricKind::Counter, 3.0, &[("password".into(), text("secret"))]);
            metric("bad name!", MetricKind::Counter, 3.0, &[]);
            mark("source.test.point");
            eprintln!("stderr has {}", text("secret"));
            Err(ConnectorError { hint: Some(text("secret")), ..report(format!("failed with {}", text("secret"))) })
        }
        "state" => {
            let scope = StateScope::Stream("orders".into());
            state_put(&scope, "key", b"one")?;
            let swapped = state_cas(&scope, "key", Some(b"one"), Some(b"two"))?;
            let lost = state_cas(&scope, "key", Some(b"one"), None)?;
            let found = state_get(&scope, "key")?;
            let other = state_get(&StateScope::Pipeline, "key")?;
            Err(report(format!("{swapped} {lost} {found:?} {other:?}")))
        }
        "state-big" => {
            state_put(&StateScope::Pipeline, "key", &vec![0; 2 << 20])?;
            Ok(summary(0, 0))
        }
        "stderr" => {
            for n in 0..number("lines") {
                eprintln!("line {n} {}", "x".repeat(100));
            }
            panic!("the end");
        }
        other => Err(report(format!("no such mode: {other}"))),
    }
}

impl Guest for Misfit {
    fn spec() -> ConnectorSpec {
        ConnectorSpec { id: "fixtures/misfit".into(), version: "0.1.0".into(), protocol_version: "2".into() }
    }

    fn open(request: OpenRequest) -> Result<(), ConnectorError> {
        let config: Value = serde_json::from_str(&request.config).map_err(|error| report(error.to_string()))?;
        let mode = config["open"].as_str().unwrap_or("").to_owned();
        *CONFIG.lock().unwrap() = Some((config, request.blob.unwrap_or_default()));
        match mode.as_str() {
            "spin" => spin(),
            "fail" => Err(report("refused to open")),
            _ => Ok(()),
        }
    }

    fn check(_streams: Vec<StreamContext>) -> Result<Vec<CheckItem>, ConnectorError> {
        if text("mode") == "out-of-place" {
            emit_barrier(&position("1"), 0)?;
        }
        Ok(vec![CheckItem {
            name: "misfit".into(),
            status: CheckStatus::Ok,
            message: format!("fine, {}", text("secret")),
            hint: None,
        }])
    }

    fn discover() -> Result<Vec<DiscoveredStream>, ConnectorError> {
        let (schema, _) = payload();
        Ok(vec![DiscoveredStream {
            name: StreamName { namespace: None, name: "things".into() },
            kind: "table".into(),
            schema,
            primary_key: vec![],
            cursor_candidates: vec![],
            sync_modes: vec![SyncMode::FullRefresh],
            estimated_rows: Some(1),
            estimated_bytes: None,
        }])
    }

    fn identity() -> Result<Option<String>, ConnectorError> {
        Ok(Some("misfit".into()))
    }

    fn plan_partitions(_request: PlanRequest) -> Result<PartitionPlan, ConnectorError> {
        let twice = text("mode") == "twin-partitions";
        let ids = if twice { vec!["0", "0"] } else { vec!["0", "1"] };
        Ok(PartitionPlan {
            snapshot: "s".into(),
            partitions: ids.into_iter().map(|id| Partition { id: id.into(), spec: vec![] }).collect(),
            token: vec![0; number("token") as usize],
        })
    }

    fn read(_request: ReadRequest) -> Result<ReadSummary, ConnectorError> {
        run(&text("mode"))
    }

    fn confirm(_position: Position) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn teardown(_run: RunContext, _streams: Vec<StreamContext>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn close() -> Result<(), ConnectorError> {
        Ok(())
    }
}

export!(Misfit);
