use super::super::fixture::contract;
use super::*;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int64Array, RecordBatch};
use rapidbyte_runtime::{Barrier, HostTimings, LinkOptions, MemoryBudget, link};
use rapidbyte_types::StreamName;

fn batch(ids: &[i64]) -> RecordBatch {
    let words: DictionaryArray<Int32Type> = ids.iter().map(|id| Some(["even", "odd"][(id % 2).unsigned_abs() as usize])).collect();
    let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
    RecordBatch::try_from_iter([("id", ids), ("word", Arc::new(words) as ArrayRef)]).unwrap()
}

fn plain(ids: &[i64]) -> RecordBatch {
    batch(ids).project(&[0]).unwrap()
}

fn barrier(id: u64) -> Event {
    Event::Barrier(Barrier { id, commit: true, last: false, position: None, transform_state: Vec::new() })
}

/// Events of a source that sends these batches, with a commit after each.
fn source(batches: &[RecordBatch]) -> Vec<Event> {
    let schema = batches[0].schema();
    let mut events = vec![Event::Schema { stream: 0, schema_id: 1, ipc: encode_schema(&schema).unwrap().into() }];
    let mut encoder = BatchEncoder::new(schema).unwrap();
    for (id, batch) in (1..).zip(batches) {
        let bytes = encoder.encode(batch).unwrap().into();
        events.push(Event::Batch { stream: 0, schema_id: 1, rows: batch.num_rows() as u32, bytes });
        events.push(barrier(id));
    }
    events.push(Event::End);
    events
}

fn stream(policy: DataErrorPolicy) -> StreamContext {
    let mut stream = StreamContext::full_refresh(StreamName::new("s"));
    stream.policies.on_data_error = policy;
    stream
}

/// What comes out, and how many rows were left out.
fn through(yaml: &str, stream: StreamContext, events: Vec<Event>) -> Result<(Vec<Event>, u64), EngineError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = || LinkOptions::new(MemoryBudget::new(1 << 20), Arc::new(HostTimings::default()));
        let ((send, from), (to, mut receive)) = (link(options()), link(options()));
        let enforcer = Enforcer::new(0, stream, "p".into(), Arc::new(contract(yaml)));
        let feed = async move {
            for event in events {
                if send.send(event).await.is_err() {
                    break;
                }
            }
        };
        let drain = async move {
            let mut out = Vec::new();
            while let Ok(event) = receive.recv().await {
                out.push(event);
            }
            out
        };
        let ((), out, discarded) = tokio::join!(feed, drain, enforcer.run(from, to));
        discarded.map(|discarded| (out, discarded))
    })
}

/// The ids of the batches that came out; a letter is `!` and its number of letters, a commit `|`.
fn shown(events: &[Event]) -> Vec<String> {
    let mut decoder = None;
    events
        .iter()
        .filter_map(|event| match event {
            Event::Schema { ipc, .. } => {
                decoder = Some(BatchDecoder::new(ipc).unwrap());
                None
            }
            Event::Batch { rows, bytes, .. } => {
                let batch = decoder.as_mut().unwrap().decode(bytes.clone()).unwrap();
                assert_eq!(batch.num_rows(), *rows as usize);
                let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
                if let Some(words) = batch.columns().get(1) {
                    let words = words.as_any().downcast_ref::<DictionaryArray<Int32Type>>().unwrap();
                    for (word, id) in words.downcast_dict::<arrow_array::StringArray>().unwrap().into_iter().zip(&ids) {
                        assert_eq!(word, Some(["even", "odd"][(id % 2).unsigned_abs() as usize]), "row {id}");
                    }
                }
                Some(format!("{ids:?}"))
            }
            Event::DeadLetters(letters) => Some(format!("!{}", letters.len())),
            Event::Barrier(barrier) => Some(format!("|{}", barrier.id)),
            _ => None,
        })
        .collect()
}

const ROWS: &str = "{ columns: { id: { range: { min: 0 }, on_violation: discard_row } } }";

#[test]
fn batches_in_which_nothing_changes_go_on_as_they_came() {
    let sent = source(&[plain(&[1, 2]), plain(&[3])]);
    let (out, discarded) = through(ROWS, stream(DataErrorPolicy::Fail), sent.clone()).unwrap();
    assert_eq!((out, discarded), (sent, 0));
}

#[test]
fn rows_are_left_out_between_the_barriers_they_came_between() {
    for make in [plain as fn(&[i64]) -> RecordBatch, batch] {
        let sent = source(&[make(&[1, -2, 3]), make(&[-4]), make(&[5, 6, -7])]);
        let (out, discarded) = through(ROWS, stream(DataErrorPolicy::Skip), sent.clone()).unwrap();
        assert_eq!((shown(&out), discarded), (["[1, 3]", "|1", "|2", "[5, 6]", "|3"].map(str::to_owned).to_vec(), 3));
        let (out, discarded) = through(ROWS, stream(DataErrorPolicy::Dlq), sent).unwrap();
        let expected = ["!1", "[1, 3]", "|1", "!1", "|2", "!1", "[5, 6]", "|3"];
        assert_eq!((shown(&out), discarded), (expected.map(str::to_owned).to_vec(), 0), "letters are counted by their commit");
    }
}

#[test]
fn rows_are_counted_over_batches_and_partition_in_errors() {
    let sent = source(&[plain(&[1, 2, 3]), plain(&[4, -5])]);
    let error = through("{ columns: { id: { range: { min: 0 } } } }", stream(DataErrorPolicy::Skip), sent).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("contract, stream `s`: row 5 breaks the contract") && message.contains("partition `p`"), "{message}");
}

#[test]
fn a_batch_that_a_cast_makes_too_large_becomes_several() {
    let ids: Vec<i64> = (0..1000).map(|id| i64::MAX - id).collect();
    let mut stream = stream(DataErrorPolicy::Fail);
    stream.limits.max_batch_bytes = 9_000;
    let (out, _) = through("{ columns: { id: { type: utf8, on_violation: coerce } } }", stream, source(&[batch(&ids)])).unwrap();
    let mut decoder = None;
    let (mut rows, mut batches) = (0, 0);
    for event in &out {
        match event {
            Event::Schema { ipc, .. } => decoder = Some(BatchDecoder::new(ipc).unwrap()),
            Event::Batch { bytes, .. } => {
                assert!(bytes.len() <= 9_000);
                let batch = decoder.as_mut().unwrap().decode(bytes.clone()).unwrap();
                let texts = batch.column(0).as_any().downcast_ref::<arrow_array::StringArray>().unwrap();
                for text in texts.iter() {
                    assert_eq!(text, Some((i64::MAX - rows).to_string().as_str()));
                    rows += 1;
                }
                batches += 1;
            }
            _ => {}
        }
    }
    assert!(rows == 1000 && batches > 2, "{rows} rows in {batches} batches");
}

#[test]
fn a_broken_batch_is_an_error() {
    let mut sent = source(&[plain(&[1])]);
    let Some(Event::Batch { bytes, .. }) = sent.get_mut(1) else { panic!() };
    *bytes = bytes.slice(..bytes.len() / 2);
    assert_eq!(through(ROWS, stream(DataErrorPolicy::Fail), sent).unwrap_err().code(), "arrow_ipc");
    let unknown = vec![Event::Batch { stream: 0, schema_id: 9, rows: 1, bytes: bytes::Bytes::new() }, Event::End];
    assert_eq!(through(ROWS, stream(DataErrorPolicy::Fail), unknown).unwrap_err().code(), "unknown_schema");
}
