//! A destination that does whatever its configuration's `mode` says, good or bad.

wit_bindgen::generate!({
    path: "../../../../wit/v2",
    world: "rapidbyte-destination",
    generate_all,
});

use exports::rapidbyte::connector::destination::{
    ClaimRequest, ClaimedStream, Guest, PrepareRequest, PublishRequest, PublishSummary, WriteRequest, WriteStream,
};
use rapidbyte::connector::acknowledge::{acknowledge, report_dead_letters};
use rapidbyte::connector::input::{BarrierEvent, Event, next_event, subscribe_event};
use rapidbyte::connector::types::*;
use serde_json::Value;
use std::io::Write;
use std::sync::Mutex;

static CONFIG: Mutex<Value> = Mutex::new(Value::Null);

struct Misfit;

fn mode() -> String {
    CONFIG.lock().unwrap()["mode"].as_str().unwrap_or("").to_owned()
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

fn receipt(stream: &WriteStream, barrier: &BarrierEvent, seq: u64, rows: u64) -> Receipt {
    Receipt {
        stream: 0,
        generation: stream.generation,
        partition: stream.partition.clone(),
        epoch: stream.epoch,
        seq,
        position: barrier.position.clone(),
        rows,
        bytes: 0,
        last: barrier.last,
        transform_state: barrier.transform_state.clone(),
        committed_at_ms: 1,
    }
}

fn next() -> Result<Event, ConnectorError> {
    loop {
        if let Some(event) = next_event(20)? {
            return Ok(event);
        }
        subscribe_event().block();
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        stream: 0,
        record_json: "{}".into(),
        error_message: "no".into(),
        error_category: ErrorCategory::Data,
        failed_at_ms: 1,
    }
}

impl Guest for Misfit {
    fn spec() -> ConnectorSpec {
        ConnectorSpec { id: "fixtures/misfit".into(), version: "0.1.0".into(), protocol_version: "2".into() }
    }

    fn open(request: OpenRequest) -> Result<(), ConnectorError> {
        *CONFIG.lock().unwrap() = serde_json::from_str(&request.config).map_err(|error| report(error.to_string()))?;
        Ok(())
    }

    fn check(_streams: Vec<StreamContext>) -> Result<Vec<CheckItem>, ConnectorError> {
        Ok(vec![])
    }

    fn claim(request: ClaimRequest) -> Result<Vec<ClaimedStream>, ConnectorError> {
        let epoch = |known: u64| if mode() == "stale-epoch" { known } else { known + 1 };
        Ok(request
            .streams
            .into_iter()
            .map(|stream| ClaimedStream {
                epoch: epoch(stream.known_epoch),
                newest_generation: 0,
                generation: None,
                receipts: vec![],
                location: String::new(),
            })
            .collect())
    }

    fn prepare(_request: PrepareRequest) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn write(request: WriteRequest) -> Result<WriteSummary, ConnectorError> {
        let mode = mode();
        let stream = &request.streams[0];
        let (mut rows, mut bytes, mut batches, mut seq) = (stream.rows, 0, 0, stream.seq);
        match mode.as_str() {
            "early" => return Ok(summary(0, 0, 0)),
            "ack-unknown" => {
                let barrier = BarrierEvent { id: 999, commit: true, last: false, position: None, transform_state: vec![] };
                acknowledge(999, &[receipt(stream, &barrier, 1, 0)])?;
                return Err(report("taken"));
            }
            "print" => {
                let mut out = std::io::stdout();
                for n in 0..100_000 {
                    if let Err(error) = writeln!(out, "line {n}").and_then(|()| out.flush()) {
                        return Err(report(format!("{:?}", error.kind())));
                    }
                }
                return Err(report("printed all"));
            }
            _ => {}
        }
        loop {
            match next()? {
                Event::Batch(batch) => {
                    rows += u64::from(batch.rows);
                    bytes += batch.ipc.len() as u64;
                    batches += 1;
                }
                Event::Barrier(barrier) if barrier.commit => {
                    seq += 1;
                    let good = receipt(stream, &barrier, seq, rows);
                    match mode.as_str() {
                        "never-ack" => {}
                        "wrong-epoch" => acknowledge(barrier.id, &[Receipt { epoch: 999, ..good }])?,
                        "wrong-stream" => acknowledge(barrier.id, &[Receipt { stream: 3, ..good }])?,
                        "false-last" => acknowledge(barrier.id, &[Receipt { last: !good.last, ..good }])?,
                        "other-state" => acknowledge(barrier.id, &[Receipt { transform_state: vec![(0, vec![1])], ..good }])?,
                        "no-receipt" => acknowledge(barrier.id, &[])?,
                        "ack-twice" => {
                            acknowledge(barrier.id, std::slice::from_ref(&good))?;
                            acknowledge(barrier.id, &[good])?;
                        }
                        "letters" => {
                            report_dead_letters(&[letter(), letter()])?;
                            acknowledge(barrier.id, &[good])?;
                        }
                        "letter-flood" => {
                            for _ in 0..100 {
                                report_dead_letters(&vec![letter(); 1_000])?;
                            }
                        }
                        _ => acknowledge(barrier.id, &[good])?,
                    }
                }
                Event::End => {
                    if mode == "past-the-end" {
                        next()?;
                    }
                    return Ok(summary(rows, bytes, batches));
                }
                Event::Schema(_) | Event::DeadLetters(_) | Event::Truncate(_) | Event::ReplaceRange(_) => {}
                Event::Heartbeat | Event::Barrier(_) => {}
                Event::Other((name, _)) => return Err(report(name)),
            }
        }
    }

    fn publish(_request: PublishRequest) -> Result<PublishSummary, ConnectorError> {
        Ok(PublishSummary { rows: 1, records_skipped: 0, location: "here".into() })
    }

    fn teardown(_run: RunContext, _streams: Vec<StreamContext>) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn close() -> Result<(), ConnectorError> {
        Ok(())
    }
}

fn summary(records: u64, bytes: u64, batches_written: u64) -> WriteSummary {
    let perf = WritePerf { connect_ns: 1, decode_ns: 2, flush_ns: 3, commit_ns: 4 };
    WriteSummary { records, bytes, batches_written, checkpoint_count: 0, records_skipped: 0, perf }
}

export!(Misfit);
