//! Data through destinations and transforms, and what is said about it.

use crate::support::*;
use rapidbyte_runtime::*;
use rapidbyte_types::*;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[derive(Clone, Default)]
pub(crate) struct Acks(pub(crate) Arc<Mutex<Vec<String>>>);

impl Acknowledged for Acks {
    fn acknowledged(&mut self, barrier: u64, receipts: Vec<Receipt>, letters: Vec<DeadLetter>) -> Result<(), ConnectorError> {
        let said = receipts.iter().map(|r| format!("{} rows, last {}", r.rows, r.last)).collect::<Vec<_>>().join("; ");
        let mut said = format!("{barrier}: {said}");
        if !letters.is_empty() {
            let words: Vec<&str> = letters.iter().map(|letter| letter.error_message.as_str()).collect();
            said.push_str(&format!(", letters {}", words.join(" ")));
        }
        self.0.lock().expect("not poisoned").push(said);
        Ok(())
    }
}

fn barrier(id: u64, last: bool) -> Event {
    let position = Some(Position::new(CursorType::Int64, id.to_string()));
    Event::Barrier(Barrier { id, commit: true, last, position, transform_state: Vec::new() })
}

fn batch(payload: &Payload) -> Event {
    Event::Batch { stream: 0, schema_id: 1, rows: payload.rows, bytes: payload.batch.clone().into() }
}

fn schema(payload: &Payload) -> Event {
    Event::Schema { stream: 0, schema_id: 1, ipc: payload.schema.clone().into() }
}

/// Gives a destination two batches and three commits.
async fn write(mode: &str) -> (Result<WriteSummary, GuestError>, Vec<String>) {
    let good = payload(7);
    let events =
        vec![schema(&good), batch(&good), barrier(1, false), batch(&good), barrier(2, false), barrier(3, true), Event::End];
    write_events(mode, DataErrorPolicy::Dlq, events).await
}

/// A letter of an earlier stage.
fn letter(words: &str) -> DeadLetter {
    DeadLetter {
        stream: 0,
        record_json: "{}".into(),
        error_message: words.into(),
        error_category: ErrorCategory::Data,
        failed_at_ms: 1,
    }
}

async fn write_events(mode: &str, policy: DataErrorPolicy, events: Vec<Event>) -> (Result<WriteSummary, GuestError>, Vec<String>) {
    let mut request = write_request();
    request.streams[0].context.policies.on_data_error = policy;
    let (sender, receiver) = small_link();
    let feeding = tokio::spawn(async move {
        for event in events {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    let acks = Acks::default();
    let outcome = async {
        let mut destination = DestinationInstance::open(&connector("destination"), &options(json!({ "mode": mode }))).await?;
        destination.write(request, receiver, Box::new(acks.clone())).await
    };
    let outcome = within("the destination", outcome).await;
    within("the feeder", feeding).await.expect("fed");
    let said = acks.0.lock().expect("not poisoned").clone();
    (outcome, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_acknowledged_in_order() {
    let (outcome, said) = write("ok").await;
    let summary = outcome.expect("written");
    assert_eq!((summary.records, summary.batches_written), (14, 2));
    assert_eq!(said, ["1: 7 rows, last false", "2: 14 rows, last false", "3: 14 rows, last true"]);
    let (outcome, said) = write("letters").await;
    outcome.expect("written");
    assert_eq!(said.iter().filter(|line| line.ends_with("letters no no")).count(), 3, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_belong_to_the_commit_that_they_came_before_and_stand_before_own_ones() {
    let letters = |words: &[&str]| Event::DeadLetters(words.iter().map(|words| letter(words)).collect());
    let good = payload(7);
    let events = vec![
        schema(&good),
        letters(&["a", "b"]),
        batch(&good),
        letters(&["c"]),
        barrier(1, false),
        barrier(2, false),
        letters(&["d"]),
        barrier(3, true),
        Event::End,
    ];
    let (outcome, said) = write_events("letters", DataErrorPolicy::Dlq, events.clone()).await;
    outcome.expect("written");
    let expected = [
        "1: 7 rows, last false, letters a b c no no",
        "2: 7 rows, last false, letters no no",
        "3: 7 rows, last true, letters d no no",
    ];
    assert_eq!(said, expected);
    // A row is never given up against the declared policy, and not a single commit is made of it.
    for policy in [DataErrorPolicy::Fail, DataErrorPolicy::Skip] {
        let (outcome, said) = write_events("ok", policy, events.clone()).await;
        assert!(matches!(outcome, Err(GuestError::Connector(error)) if error.code == "rows_given_up"));
        assert_eq!(said, Vec::<String>::new());
    }
    let flood = vec![schema(&good), Event::DeadLetters(vec![letter("x"); 10_000]), letters(&["y"]), barrier(1, true), Event::End];
    let (outcome, said) = write_events("ok", DataErrorPolicy::Dlq, flood).await;
    assert!(matches!(outcome, Err(GuestError::Connector(error)) if error.code == "too_many_dead_letters"));
    assert_eq!(said, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_lies_about_its_commits_is_found_out() {
    for (mode, expected) in [
        ("ack-unknown", "unknown_barrier"),
        ("ack-twice", "unknown_barrier"),
        ("wrong-epoch", "receipt_mismatch"),
        ("wrong-stream", "receipt_mismatch"),
        ("false-last", "receipt_mismatch"),
        ("other-state", "receipt_mismatch"),
        ("no-receipt", "receipt_missing"),
        ("never-ack", "barrier_unacknowledged"),
        ("early", "protocol_violation"),
        ("past-the-end", "past_the_end"),
        ("letter-flood", "too_many_dead_letters"),
    ] {
        match write(mode).await.0 {
            Err(GuestError::Connector(error)) => assert_eq!(error.code, expected, "{mode}: {error}"),
            other => panic!("{mode}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_vanishes_ends_the_next_one() {
    let (sender, receiver) = small_link();
    drop(sender);
    let mut destination =
        DestinationInstance::open(&connector("destination"), &options(json!({ "mode": "ok" }))).await.expect("opens");
    match within("the destination", destination.write(write_request(), receiver, Box::new(Acks::default()))).await {
        Err(GuestError::Connector(error)) => assert_eq!(error.code, "upstream_closed"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_below_the_known_epoch_is_refused() {
    let claim = || {
        vec![ClaimStream {
            context: StreamContext::full_refresh(StreamName::new("things")),
            known_epoch: 5,
            source_identity: "x".into(),
        }]
    };
    let mut good = DestinationInstance::open(&connector("destination"), &options(json!({ "mode": "ok" }))).await.expect("opens");
    assert_eq!(good.claim(run_context(), claim()).await.expect("claimed")[0].epoch, 6);
    let mut stale =
        DestinationInstance::open(&connector("destination"), &options(json!({ "mode": "stale-epoch" }))).await.expect("opens");
    match stale.claim(run_context(), claim()).await {
        Err(GuestError::Connector(error)) => assert_eq!(error.code, "protocol_violation"),
        other => panic!("{other:?}"),
    }
}

const MARK: StateMark = StateMark::new([7; StateMark::BYTES]);

async fn transform(mode: &str, events: Vec<Event>) -> (Result<TransformSummary, GuestError>, Vec<Event>) {
    transform_marked(mode, events, Some(MARK)).await
}

async fn transform_marked(
    mode: &str,
    events: Vec<Event>,
    mark: Option<StateMark>,
) -> (Result<TransformSummary, GuestError>, Vec<Event>) {
    let (sender, receiver) = small_link();
    for event in events {
        sender.send(event).await.expect("room");
    }
    let mut options_out = LinkOptions::new(MemoryBudget::default(), Arc::default());
    options_out.fed_by_transform = true;
    let (out, mut after) = link(options_out);
    let collecting = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Ok(event) = after.recv().await {
            seen.push(event);
        }
        seen
    });
    let request =
        TransformRequest { run: run_context(), streams: vec![StreamContext::full_refresh(StreamName::new("things"))], state: None };
    let outcome = async {
        let mut transform = TransformInstance::open(&connector("transform"), &options(json!({ "mode": mode }))).await?;
        transform.transform(request, 2, mark, receiver, out).await
    };
    let outcome = within("the transform", outcome).await;
    (outcome, within("the collector", collecting).await.expect("collected"))
}

fn everything() -> Vec<Event> {
    let good = payload(7);
    vec![
        schema(&good),
        batch(&good),
        Event::DeadLetters(vec![letter("no")]),
        Event::Truncate { stream: 0, position: None },
        Event::ReplaceRange { stream: 0, low: None, high: Some("[\"7\"]".into()) },
        Event::Heartbeat,
        barrier(1, false),
        batch(&good),
        barrier(2, true),
        Event::End,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_passes_everything_on_and_its_state_travels_with_the_barrier() {
    let (outcome, seen) = transform("ok", everything()).await;
    assert_eq!(outcome.expect("transformed").records_out, 14);
    let expected: Vec<Event> = everything()
        .into_iter()
        .filter(|event| !matches!(event, Event::Heartbeat | Event::End))
        .map(|event| match event {
            Event::Barrier(mut barrier) => {
                barrier.transform_state.push((2, MARK.seal(Some(format!("rows={}", 7 * barrier.id).into_bytes()))));
                Event::Barrier(barrier)
            }
            other => other,
        })
        .collect();
    assert_eq!(seen, expected);
}

/// A barrier with what an earlier transform has given.
fn loaded(id: u64, last: bool, state: Vec<u8>) -> Event {
    let Event::Barrier(plain) = barrier(id, last) else { unreachable!() };
    Event::Barrier(Barrier { transform_state: vec![(0, MARK.seal(Some(state)))], ..plain })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_does_not_see_the_state_of_another_and_passes_it_on() {
    let (outcome, seen) = transform("ok", vec![loaded(1, false, b"other".to_vec()), barrier(2, true), Event::End]).await;
    outcome.expect("transformed");
    let Event::Barrier(first) = &seen[0] else { panic!("{seen:?}") };
    let expected = [(0, MARK.seal(Some(b"other".to_vec()))), (2, MARK.seal(Some(b"rows=0".to_vec())))];
    assert_eq!(first.transform_state, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_without_state_gives_none() {
    let (outcome, seen) = transform_marked("no-state", everything(), None).await;
    outcome.expect("transformed");
    let states = |event: &Event| if let Event::Barrier(barrier) = event { barrier.transform_state.len() } else { 0 };
    assert_eq!(seen.iter().map(states).sum::<usize>(), 0);
    // One that keeps a state says so with each barrier, even if there is nothing to keep yet.
    let (_, seen) = transform("no-state", vec![barrier(1, true), Event::End]).await;
    let Event::Barrier(barrier) = &seen[0] else { panic!("{seen:?}") };
    assert_eq!(barrier.transform_state, [(2, MARK.seal(None))]);
    for (mark, events, expected) in [
        (None, everything(), "undeclared_state"),
        (Some(MARK), vec![loaded(1, true, vec![0; 1 << 20]), Event::End], "state_too_large"),
    ] {
        match transform_marked("ok", events, mark).await.0 {
            Err(GuestError::Connector(error)) => assert_eq!(error.code, expected, "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transform_that_loses_or_invents_barriers_or_goes_on_after_the_last_is_found_out() {
    for (mode, expected) in [
        ("swallow", "protocol_violation"),
        ("twice", "unknown_barrier"),
        ("invent", "barrier_order"),
        ("big-state", "state_too_large"),
        ("rows-after-last", "after_last_barrier"),
        ("letters-after-last", "after_last_barrier"),
        ("schema-after-last", "after_last_barrier"),
    ] {
        match transform(mode, everything()).await.0 {
            Err(GuestError::Connector(error)) => assert_eq!(error.code, expected, "{mode}: {error}"),
            other => panic!("{mode}: {other:?}"),
        }
    }
}

/// Source, transform and destination together, over a budget smaller than one batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_task_runs_in_a_tiny_budget_with_every_compression() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let good = payload(5_000);
        let budget = MemoryBudget::new(good.batch.len() / 2);
        let timings = Arc::new(HostTimings::default());
        let joined = |fed_by_transform| {
            link(LinkOptions {
                max_batches: 2,
                max_bytes: usize::MAX,
                budget: budget.clone(),
                compression,
                fed_by_transform,
                timings: Arc::clone(&timings),
            })
        };
        let (source_out, transform_in) = joined(false);
        let (transform_out, destination_in) = joined(true);
        let mut reading = options(json!({ "mode": "ok", "batches": 30, "rows": good.rows }));
        reading.blob = Some(good.blob());
        reading.timings = Arc::clone(&timings);
        let source = tokio::spawn(async move {
            let mut source = SourceInstance::open(&connector("source"), &reading).await?;
            let (_durable, durable) = watch::channel(None);
            let summary = source.read(read_request(), source_out.clone(), Box::new(EveryBarrier::default()), durable).await?;
            source_out.send(barrier(31, true)).await?;
            source_out.send(Event::End).await?;
            Ok::<_, GuestError>(summary)
        });
        let transform = tokio::spawn(async move {
            let request = TransformRequest {
                run: run_context(),
                streams: vec![StreamContext::full_refresh(StreamName::new("things"))],
                state: None,
            };
            let mut transform = TransformInstance::open(&connector("transform"), &options(json!({ "mode": "ok" }))).await?;
            let summary = transform.transform(request, 0, Some(MARK), transform_in, transform_out.clone()).await?;
            transform_out.send(Event::End).await?;
            Ok::<_, GuestError>(summary)
        });
        let acks = Acks::default();
        let sink = acks.clone();
        let mut writing = options(json!({ "mode": "ok" }));
        writing.timings = Arc::clone(&timings);
        let destination = tokio::spawn(async move {
            let mut destination = DestinationInstance::open(&connector("destination"), &writing).await?;
            destination.write(write_request(), destination_in, Box::new(sink)).await
        });
        let read = within("the source", source).await.expect("joined").expect("read");
        within("the transform", transform).await.expect("joined").expect("transformed");
        let written = within("the destination", destination).await.expect("joined").expect("written");
        assert_eq!((read.records, written.records), (150_000, 150_000), "{compression:?}");
        assert_eq!(acks.0.lock().expect("not poisoned").len(), 31);
        assert_eq!(budget.available(), MemoryBudget::new(good.batch.len() / 2).available(), "all is given back");
        let spent = timings.snapshot();
        assert!(spent.vm_setup_ns > 0 && spent.emit_batch_ns > 0 && spent.next_batch_ns > 0);
        assert_eq!(spent.compress_ns > 0 && spent.decompress_ns > 0, compression != Compression::None, "{spent:?}");
    }
}
