//! Fixtures, payloads and the smallest possible engine.

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use rapidbyte_config::manifest::{Manifest, pack};
use rapidbyte_runtime::*;
use rapidbyte_types::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// Nothing here takes longer; a test that hangs says who hung.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn within<F: Future>(who: &str, future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{who} hangs"))
}

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(RuntimeOptions::default()).expect("an engine"))
}

/// A fixture guest's component, built on first use.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rapidbyte-testkit/guests");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fixtures");
        let mut cargo = Command::new("cargo");
        if !has_target() {
            // What `cargo xtask` links where rustup can't add the target.
            cargo.env_remove("RUSTUP_TOOLCHAIN").env_remove("RUSTC").arg("+rapidbyte-guest");
        }
        let status = cargo
            .current_dir(guests)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR")
            .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the fixture guests do not build");
        target.join("wasm32-wasip2/release")
    });
    std::fs::read(dir.join(format!("{name}.wasm"))).expect("a fixture")
}

fn has_target() -> bool {
    let out = Command::new("rustc").args(["--print", "target-libdir", "--target", "wasm32-wasip2"]).output();
    out.is_ok_and(|out| Path::new(String::from_utf8_lossy(&out.stdout).trim()).exists())
}

/// A manifest that asks for everything a fixture might want.
pub(crate) fn manifest(role: &str) -> Value {
    let roles = match role {
        "source" => json!({ "source": { "supported_sync_modes": ["full_refresh"], "features": [] } }),
        "destination" => json!({ "destination": { "supported_write_modes": ["append"], "features": [] } }),
        _ => json!({ "transform": {} }),
    };
    json!({
        "manifest_version": "1.0", "id": "fixtures/misfit", "name": "Misfit", "version": "0.1.0",
        "description": "misbehaves", "author": "tests", "license": "Apache-2.0", "protocol_version": "2",
        "artifact": { "entry_point": "misfit.wasm", "min_memory_mb": 1 },
        "permissions": { "network": { "tls": "optional", "allowed_domains": [], "allow_runtime_config_domains": true },
                         "env": { "allowed_vars": ["ALLOWED_VAR"] }, "fs": {} },
        "roles": roles,
        "config_schema": { "$schema": "http://json-schema.org/draft-07/schema#", "type": "object" }
    })
}

pub(crate) fn packed(name: &str, manifest: &Value) -> Vec<u8> {
    pack(&fixture(name), manifest.to_string().as_bytes()).expect("a packed fixture").wasm
}

/// The connector of a role, compiled once for all tests.
pub(crate) fn connector(role: &'static str) -> Arc<Connector> {
    static LOADED: Mutex<Vec<(&'static str, Arc<Connector>)>> = Mutex::new(Vec::new());
    let mut loaded = LOADED.lock().expect("not poisoned");
    if let Some((_, connector)) = loaded.iter().find(|(of, _)| *of == role) {
        return Arc::clone(connector);
    }
    let packed = packed(&format!("misfit_{role}"), &manifest(role));
    let connector =
        runtime().load(&packed, None).unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    loaded.push((role, Arc::clone(&connector)));
    connector
}

pub(crate) fn options(config: Value) -> InstanceOptions {
    let mut options = InstanceOptions::new(config.to_string(), Grants::default());
    options.pipeline = Some("test".into());
    options
}

/// May dial these hosts.
pub(crate) fn hosts(names: &[&str]) -> NetworkGrant {
    NetworkGrant {
        config: names.iter().map(|name| name.parse().expect("a pattern")).collect(),
        tls: rapidbyte_config::manifest::TlsRule::Optional,
        ..NetworkGrant::default()
    }
}

/// A schema message and a batch message of it.
pub(crate) struct Payload {
    pub(crate) schema: Vec<u8>,
    pub(crate) batch: Vec<u8>,
    pub(crate) rows: u32,
}

pub(crate) fn payload(rows: u32) -> Payload {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..i64::from(rows)));
    let names: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|n| (n % 3 != 0).then(|| format!("name {n}")))));
    let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch");
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).expect("a writer");
    let schema = writer.get_ref().clone();
    writer.write(&batch).expect("written");
    let batch = writer.get_ref()[schema.len()..].to_vec();
    Payload { schema, batch, rows }
}

impl Payload {
    /// As the fixtures take it.
    pub(crate) fn blob(&self) -> Vec<u8> {
        let length = u32::try_from(self.schema.len()).expect("small");
        [&length.to_le_bytes()[..], &self.schema, &self.batch].concat()
    }
}

pub(crate) fn run_context() -> RunContext {
    RunContext { pipeline_id: "p".into(), pipeline: "test".into(), run_id: "r".into(), attempt: 1 }
}

pub(crate) fn read_request() -> ReadRequest {
    ReadRequest {
        run: run_context(),
        streams: vec![StreamContext::full_refresh(StreamName::new("things"))],
        partition: None,
        token: Vec::new(),
        resume: None,
        follow: false,
    }
}

pub(crate) fn write_request() -> WriteRequest {
    let stream = WriteStream {
        context: StreamContext::full_refresh(StreamName::new("things")),
        epoch: 4,
        generation: 2,
        partition: "0".into(),
        seq: 0,
        rows: 0,
        bytes: 0,
    };
    WriteRequest { run: run_context(), streams: vec![stream] }
}

/// Every barrier is a commit.
#[derive(Default)]
pub(crate) struct EveryBarrier {
    next: u64,
}

impl BarrierGate for EveryBarrier {
    fn batch(&mut self, _stream: u32, _rows: u32, _bytes: u64) {}

    fn rowless(&mut self) {}

    fn barrier(&mut self, _position: &Position) -> Option<BarrierDecision> {
        self.next += 1;
        Some(BarrierDecision { id: self.next, commit: true, last: false })
    }
}

pub(crate) fn small_link() -> (EventSender, EventReceiver) {
    link(LinkOptions::new(MemoryBudget::default(), Arc::default()))
}

/// Opens a source with this configuration and reads into nowhere.
pub(crate) async fn read(options: &InstanceOptions) -> Result<ReadSummary, GuestError> {
    let (sender, mut receiver) = small_link();
    let drain = tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
    let (_durable, watch) = watch::channel(None);
    let outcome = async {
        let mut source = SourceInstance::open(&connector("source"), options).await?;
        source.read(read_request(), sender, Box::new(EveryBarrier::default()), watch).await
    };
    let outcome = within("the source", outcome).await;
    within("the drain", drain).await.expect("drained");
    outcome
}

/// What the guest has to say: the message of its error with the code `report`.
pub(crate) async fn told(options: &InstanceOptions) -> String {
    match read(options).await {
        Err(GuestError::Connector(error)) if error.code == "report" => error.message,
        other => panic!("no report: {other:?}"),
    }
}

/// The code of the error the guest returned.
pub(crate) async fn code(options: &InstanceOptions) -> String {
    match read(options).await {
        Err(GuestError::Connector(error)) => error.code,
        other => panic!("no connector error: {other:?}"),
    }
}

pub(crate) async fn trap(options: &InstanceOptions) -> Trap {
    match read(options).await {
        Err(GuestError::Trap(trap)) => trap,
        other => panic!("no trap: {other:?}"),
    }
}

/// After whatever a guest did, the next one works.
pub(crate) async fn unharmed() {
    let good = payload(10);
    let mut options = options(json!({ "mode": "ok", "batches": 2, "rows": good.rows }));
    options.blob = Some(good.blob());
    assert_eq!(read(&options).await.expect("a good read").records, 20);
}

pub(crate) fn parse(manifest: &Value) -> Manifest {
    Manifest::parse(manifest.to_string().as_bytes()).expect("a manifest")
}
