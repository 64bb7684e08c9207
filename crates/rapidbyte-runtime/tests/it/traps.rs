use crate::support::*;
use rapidbyte_config::Secrets;
use rapidbyte_runtime::*;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_die_has_its_kind_and_leaves_the_host_unharmed() {
    for (mode, kind) in [
        ("panic", TrapKind::Panic),
        ("exit", TrapKind::Exit),
        ("stack", TrapKind::StackOverflow),
        ("memory", TrapKind::OutOfMemory),
        ("many-pollables", TrapKind::Fault),
    ] {
        let mut options = options(json!({ "mode": mode }));
        options.limits.memory = 64 << 20;
        let trap = trap(&options).await;
        assert_eq!(trap.kind, kind, "{mode}: {trap:?}");
    }
    unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_carries_the_end_of_stderr_without_secrets() {
    let mut secrets = Secrets::new();
    secrets.insert("canary-5491");
    let mut quiet = options(json!({ "mode": "panic", "secret": "canary-5491" }));
    quiet.redactor = Arc::new(secrets.redactor());
    let panicked = trap(&quiet).await;
    assert!(panicked.stderr.contains("the misfit falls over with ***"), "{}", panicked.stderr);
    assert!(!format!("{panicked:?} {panicked}").contains("canary"));

    let flood = trap(&options(json!({ "mode": "stderr", "lines": 10_000 }))).await;
    assert!(flood.stderr.len() <= 17 << 10, "{}", flood.stderr.len());
    assert!(flood.stderr.contains("the end") && flood.stderr.contains("line 9999"));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded_alone_and_together_and_given_back() {
    let pool = MemoryPool::new(24 << 20);
    let mut greedy = options(json!({ "mode": "memory" }));
    greedy.limits.total_memory = Some(pool.clone());
    assert_eq!(trap(&greedy).await.kind, TrapKind::OutOfMemory);
    assert_eq!(pool.used(), 0, "a dropped store gives its memory back");

    let modest = InstanceOptions { config_json: "{}".into(), ..greedy };
    let mut narrow = modest.clone();
    narrow.limits.memory = 1 << 20;
    match SourceInstance::open(&connector("source"), &narrow).await.map(|_| ()) {
        Err(GuestError::Trap(trap)) => assert_eq!(trap.kind, TrapKind::OutOfMemory, "what it begins with: {trap:?}"),
        other => panic!("{other:?}"),
    }
    let first = SourceInstance::open(&connector("source"), &modest).await.expect("fits");
    assert!(pool.used() > 1 << 20);
    drop(first);
    assert_eq!(pool.used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_nobody_uses_is_given_up_before_a_guest_is_refused_any() {
    let open = async |pool: &MemoryPool, config: serde_json::Value| {
        let mut options = options(config);
        options.limits.total_memory = Some(pool.clone());
        SourceInstance::open(&connector("source"), &options).await
    };
    let measured = MemoryPool::new(64 << 20);
    let source = open(&measured, json!({})).await.expect("fits");
    let one = measured.used();
    drop(source);

    let pool = MemoryPool::new(one + one / 2);
    let idle = Arc::new(Mutex::new(Some(open(&pool, json!({})).await.expect("fits"))));
    assert!(open(&pool, json!({})).await.is_err(), "there is no room for two");
    let spare = Arc::clone(&idle);
    pool.set_spare(move || drop(spare.lock().expect("whole").take()));
    let second = open(&pool, json!({})).await.expect("fits in the place of the first");
    assert!(idle.lock().expect("whole").is_none());
    assert_eq!(pool.used(), one);
    assert!(open(&pool, json!({})).await.is_err(), "what is in use is not given up");
    drop(second);

    // In the middle of a call, too.
    let pool = MemoryPool::new(24 << 20);
    let idle = Arc::new(Mutex::new(Some(open(&pool, json!({})).await.expect("fits"))));
    let spare = Arc::clone(&idle);
    pool.set_spare(move || drop(spare.lock().expect("whole").take()));
    let mut greedy = options(json!({ "mode": "memory" }));
    greedy.limits.total_memory = Some(pool.clone());
    assert_eq!(trap(&greedy).await.kind, TrapKind::OutOfMemory);
    assert!(idle.lock().expect("whole").is_none());
    assert_eq!(pool.used(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_runs_over_its_budget_is_stopped() {
    let mut opening = options(json!({ "open": "spin" }));
    opening.limits.call_timeout = Some(Duration::from_millis(200));
    let started = Instant::now();
    assert_eq!(trap(&opening).await.kind, TrapKind::Timeout);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let mut reading = options(json!({ "mode": "spin" }));
    reading.limits.stream_timeout = Some(Duration::from_millis(200));
    assert_eq!(trap(&reading).await.kind, TrapKind::Timeout);
    unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_future_stops_a_spinning_and_a_blocked_guest() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let silent = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    for mode in ["spin", "read-blocked", "emit-forever"] {
        let good = payload(10);
        let mut options = options(json!({ "mode": mode, "host": "127.0.0.1", "port": port, "rows": good.rows }));
        options.grants.network = hosts(&["127.0.0.1"]);
        options.blob = Some(good.blob());
        let mut source = SourceInstance::open(&connector("source"), &options).await.expect("opens");
        let (sender, receiver) = small_link();
        let (_durable, durable) = watch::channel(None);
        let started = Instant::now();
        let call = source.read(read_request(), sender, Box::new(EveryBarrier::default()), durable);
        let outcome = tokio::time::timeout(Duration::from_millis(300), call).await;
        assert!(outcome.is_err(), "{mode} returned: {outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{mode}: {:?}", started.elapsed());
        match source.confirm(rapidbyte_types::Position::new(rapidbyte_types::CursorType::Int64, "1")).await {
            Err(GuestError::Trap(trap)) => assert_eq!(trap.kind, TrapKind::Interrupted),
            other => panic!("{mode}: a broken instance was called: {other:?}"),
        }
        drop(receiver);
    }
    silent.abort();
    unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_spinning_guest_leaves_room_for_others_on_one_thread() {
    let spinning = tokio::spawn(async {
        let _ = trap(&InstanceOptions {
            limits: InstanceLimits { stream_timeout: Some(Duration::from_secs(2)), ..InstanceLimits::default() },
            ..options(json!({ "mode": "spin" }))
        })
        .await;
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let started = Instant::now();
    unharmed().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    within("the spinning guest", spinning).await.expect("stopped");
}
