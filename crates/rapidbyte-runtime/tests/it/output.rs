use crate::support::*;
use rapidbyte_runtime::*;
use rapidbyte_types::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

fn with_payload(config: Value, payload: &Payload) -> InstanceOptions {
    let mut options = options(config);
    options.blob = Some(payload.blob());
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_claims_of_its_batches_is_checked() {
    let good = payload(100);
    let raw = |rows: u32, schema: Vec<u8>, batch: Vec<u8>| {
        with_payload(json!({ "mode": "raw", "rows": rows }), &Payload { schema, batch, rows })
    };
    assert!(read(&raw(100, good.schema.clone(), good.batch.clone())).await.is_ok());
    for rows in [0, 99, 101, u32::MAX] {
        assert_eq!(code(&raw(rows, good.schema.clone(), good.batch.clone())).await, "invalid_batch", "{rows}");
    }
    let half = good.batch.len() / 2;
    let cut = good.batch[..half].to_vec();
    let twice = [good.batch.clone(), good.batch.clone()].concat();
    for batch in [Vec::new(), vec![0; 64], vec![0xff; 64], cut, twice, good.schema.clone(), b"PAR1".to_vec()] {
        assert_eq!(code(&raw(100, good.schema.clone(), batch)).await, "invalid_batch");
    }
    for schema in [Vec::new(), vec![0xff; 64], good.schema[..20].to_vec(), good.batch.clone()] {
        assert_eq!(code(&raw(100, schema, good.batch.clone())).await, "invalid_schema");
    }
    unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_and_streams_are_known_or_refused() {
    let good = payload(3);
    for (mode, expected) in [
        ("unknown-schema", "unknown_schema"),
        ("unknown-stream", "unknown_stream"),
        ("schema-order", "schema_id_order"),
        ("schema-flood", "too_many_schemas"),
        ("barrier-big", "position_too_large"),
        ("state-big", "state_limit"),
    ] {
        assert_eq!(code(&with_payload(json!({ "mode": mode, "rows": 3 }), &good)).await, expected, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_the_limit_is_refused_and_one_far_over_it_is_a_trap() {
    let good = payload(3);
    let sized = |size: u64| {
        let mut options = with_payload(json!({ "mode": "oversized", "size": size }), &good);
        options.limits.max_batch_bytes = 4 << 20;
        options
    };
    assert_eq!(code(&sized((4 << 20) + 1)).await, "batch_too_large");
    assert_eq!(trap(&sized(32 << 20)).await.kind, TrapKind::Oversized);
    unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_turns_to_another_stream_is_held_to_its_limits() {
    let good = payload(3);
    let mut wide = with_payload(json!({ "mode": "oversized", "size": (4 << 20) + 1 }), &good);
    wide.limits.max_batch_bytes = 64 << 20;
    let mut source = SourceInstance::open(&connector("source"), &wide).await.expect("opens");
    let mut narrow = wide.clone();
    narrow.limits.max_batch_bytes = 4 << 20;
    for (options, refused) in [(&wide, false), (&narrow, true), (&wide, false)] {
        source.turn_to(options);
        assert!(source.is_sound() && source.memory() > 0);
        let (sender, _receiver) = small_link();
        let (_durable, watch) = watch::channel(None);
        let read = within("the source", source.read(read_request(), sender, Box::new(EveryBarrier::default()), watch)).await;
        let too_large = matches!(&read, Err(GuestError::Connector(error)) if error.code == "batch_too_large");
        assert_eq!(too_large, refused, "{read:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_outside_its_place_is_refused() {
    let mut source = SourceInstance::open(&connector("source"), &options(json!({ "mode": "out-of-place" }))).await.expect("opens");
    match source.check(Vec::new()).await {
        Err(GuestError::Connector(error)) => assert_eq!(error.code, "out_of_place"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_and_discoveries_are_checked() {
    let open = async |config: Value| {
        let mut options = options(config);
        options.blob = Some(payload(1).blob());
        SourceInstance::open(&connector("source"), &options).await.expect("opens")
    };
    let plan = || PlanRequest {
        run: run_context(),
        stream: StreamContext::full_refresh(StreamName::new("things")),
        max_partitions: 4,
        pinned: None,
    };
    let good = open(json!({ "mode": "ok" })).await.plan_partitions(plan()).await.expect("a plan");
    assert_eq!(good.partitions.len(), 2);
    for config in [json!({ "mode": "twin-partitions" }), json!({ "mode": "ok", "token": 70_000 })] {
        match open(config).await.plan_partitions(plan()).await {
            Err(GuestError::Connector(error)) => assert_eq!(error.code, "protocol_violation"),
            other => panic!("{other:?}"),
        }
    }
    let mut source = open(json!({ "mode": "ok" })).await;
    assert_eq!(source.discover().await.expect("streams")[0].name, StreamName::new("things"));
    assert_eq!(source.identity().await.expect("an identity").as_deref(), Some("misfit"));
    assert_eq!(source.check(Vec::new()).await.expect("items").len(), 1);
    source.close().await.expect("closes");

    let mut lying = options(json!({ "mode": "ok" }));
    lying.blob = Some([&4_u32.to_le_bytes()[..], b"junk"].concat());
    let mut source = SourceInstance::open(&connector("source"), &lying).await.expect("opens");
    match source.discover().await {
        Err(GuestError::Connector(error)) => assert_eq!(error.code, "protocol_violation"),
        other => panic!("{other:?}"),
    }
}

struct Shy;

impl BarrierGate for Shy {
    fn batch(&mut self, _stream: u32, _rows: u32, _bytes: u64) {}

    fn rowless(&mut self) {}

    fn barrier(&mut self, position: &Position) -> Option<BarrierDecision> {
        let id: u64 = position.value.parse().expect("a number");
        id.is_multiple_of(2).then_some(BarrierDecision { id, commit: true, last: false })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn barriers_travel_in_order_with_the_data_and_the_gate_drops_the_rest() {
    let good = payload(5);
    let options = with_payload(json!({ "mode": "ok", "batches": 4, "rows": 5 }), &good);
    let mut source = SourceInstance::open(&connector("source"), &options).await.expect("opens");
    let (sender, mut receiver) = small_link();
    let (_durable, durable) = watch::channel(None);
    let reading = tokio::spawn(async move { source.read(read_request(), sender, Box::new(Shy), durable).await });
    let mut seen = Vec::new();
    while let Ok(event) = within("the link", receiver.recv()).await {
        seen.push(match event {
            Event::Schema { schema_id, .. } => format!("schema {schema_id}"),
            Event::Batch { rows, bytes, .. } => {
                assert_eq!(bytes, good.batch, "bytes pass unchanged");
                format!("batch {rows}")
            }
            Event::Barrier(barrier) => format!("barrier {}", barrier.id),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, ["schema 1", "batch 5", "batch 5", "barrier 2", "batch 5", "batch 5", "barrier 4"]);
    assert_eq!(within("the source", reading).await.expect("joined").expect("read").records, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_hears_what_is_durable_and_sees_a_closed_link() {
    let mut source = SourceInstance::open(&connector("source"), &options(json!({ "mode": "durable" }))).await.expect("opens");
    let (sender, _receiver) = small_link();
    let (durable, watch) = watch::channel(None);
    let telling = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        durable.send_replace(Some(Position::new(CursorType::Lsn, "0/16B3748")));
        durable
    });
    match within("the source", source.read(read_request(), sender, Box::new(EveryBarrier::default()), watch)).await {
        Err(GuestError::Connector(error)) => assert_eq!(error.message, "0/16B3748"),
        other => panic!("{other:?}"),
    }
    telling.await.expect("told");

    let good = payload(5);
    let options = with_payload(json!({ "mode": "ok", "batches": 1000, "rows": 5 }), &good);
    let mut source = SourceInstance::open(&connector("source"), &options).await.expect("opens");
    let (sender, receiver) = small_link();
    let (_durable, watch) = watch::channel(None);
    drop(receiver);
    match within("the source", source.read(read_request(), sender, Box::new(EveryBarrier::default()), watch)).await {
        Err(GuestError::Connector(error)) => assert_eq!(error.code, "downstream_closed"),
        other => panic!("{other:?}"),
    }
}

#[derive(Default)]
struct Memory(Mutex<HashMap<(StateScope, String), Vec<u8>>>);

impl StateAccess for Memory {
    fn get(&self, scope: &StateScope, key: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
        Ok(self.0.lock().expect("not poisoned").get(&(scope.clone(), key.to_owned())).cloned())
    }

    fn put(&self, scope: &StateScope, key: &str, value: &[u8]) -> Result<(), ConnectorError> {
        self.0.lock().expect("not poisoned").insert((scope.clone(), key.to_owned()), value.to_vec());
        Ok(())
    }

    fn cas(&self, scope: &StateScope, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, ConnectorError> {
        let mut all = self.0.lock().expect("not poisoned");
        let key = (scope.clone(), key.to_owned());
        if all.get(&key).map(Vec::as_slice) != expected {
            return Ok(false);
        }
        match value {
            Some(value) => all.insert(key, value.to_vec()),
            None => all.remove(&key),
        };
        Ok(true)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_scoped_and_compared() {
    let mut keeping = options(json!({ "mode": "state" }));
    keeping.state = Arc::new(Memory::default());
    assert_eq!(told(&keeping).await, "true false Some([116, 119, 111]) None");
    assert_eq!(code(&options(json!({ "mode": "state" }))).await, "no_state");
}

#[derive(Default)]
struct Meters(Mutex<Vec<String>>);

impl TelemetrySink for Meters {
    fn metric(&self, name: &str, kind: MetricKind, value: f64, labels: &[(String, String)]) {
        self.0.lock().expect("not poisoned").push(format!("{name} {kind:?} {value} {labels:?}"));
    }
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn secrets_and_floods_do_not_reach_the_log() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG);
    let meters = Arc::new(Meters::default());
    // One thread, so that the subscriber sees everything.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let errors = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber.finish());
    tokio.block_on(async {
        let mut secrets = rapidbyte_config::Secrets::new();
        secrets.insert("canary-5491");
        let mut chatty = options(json!({ "mode": "log-secret", "secret": "canary-5491" }));
        chatty.redactor = Arc::new(secrets.redactor());
        chatty.telemetry = meters.clone();
        chatty.stream = "orders".into();
        match read(&chatty).await {
            Err(GuestError::Connector(error)) => {
                assert_eq!(error.message, "failed with ***");
                assert_eq!(error.hint.as_deref(), Some("***"));
            }
            other => panic!("{other:?}"),
        }
        let mut source = SourceInstance::open(&connector("source"), &chatty).await.expect("opens");
        assert_eq!(source.check(Vec::new()).await.expect("items")[0].message, "fine, ***");
        read(&options(json!({ "mode": "log-flood", "lines": 100_000 }))).await.expect("read");
    });
    drop(errors);
    let log = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
    assert!(!log.contains("canary"), "{log}");
    assert!(log.contains("the password is ***") && log.contains("stderr has ***") && log.contains("orders"), "{log}");
    let flood = log.lines().filter(|line| line.contains("flood ")).count();
    assert!((200..5_000).contains(&flood), "{flood} lines of 100000");
    assert!(log.contains("log lines were dropped"), "and it is said");
    assert_eq!(*meters.0.lock().expect("not poisoned"), ["rows.read Counter 3 [(\"password\", \"***\")]"]);
}
