//! A transform that does whatever its configuration's `mode` says, good or bad.

wit_bindgen::generate!({
    path: "../../../../wit/v2",
    world: "rapidbyte-transform",
    generate_all,
});

use exports::rapidbyte::connector::transform::{Guest, TransformRequest};
use rapidbyte::connector::forward::forward_barrier;
use rapidbyte::connector::input::{Event, next_event};
use rapidbyte::connector::output::{EmitOutcome, emit_batch, emit_dead_letters, emit_range, emit_schema, emit_truncate};
use rapidbyte::connector::types::*;
use serde_json::Value;
use std::sync::Mutex;

static CONFIG: Mutex<Value> = Mutex::new(Value::Null);

struct Misfit;

fn again(mut emit: impl FnMut() -> Result<EmitOutcome, ConnectorError>) -> Result<(), ConnectorError> {
    while emit()? == EmitOutcome::Full {}
    Ok(())
}

impl Guest for Misfit {
    fn spec() -> ConnectorSpec {
        ConnectorSpec { id: "fixtures/misfit".into(), version: "0.1.0".into(), protocol_version: "2".into() }
    }

    fn open(request: OpenRequest) -> Result<(), ConnectorError> {
        *CONFIG.lock().unwrap() = serde_json::from_str(&request.config).unwrap();
        Ok(())
    }

    fn check(_streams: Vec<StreamContext>) -> Result<Vec<CheckItem>, ConnectorError> {
        Ok(vec![])
    }

    fn transform(_request: TransformRequest) -> Result<TransformSummary, ConnectorError> {
        let mode = CONFIG.lock().unwrap()["mode"].as_str().unwrap_or("").to_owned();
        let (mut rows, mut bytes, mut batches) = (0, 0, 0);
        let mut newest = None;
        loop {
            match next_event(1_000)? {
                None | Some(Event::Heartbeat) => {}
                Some(Event::Schema(schema)) => emit_schema(schema.stream, schema.schema_id, &schema.ipc)?,
                Some(Event::Batch(batch)) => {
                    again(|| emit_batch(batch.stream, batch.schema_id, batch.rows, &batch.ipc, 100))?;
                    rows += u64::from(batch.rows);
                    bytes += batch.ipc.len() as u64;
                    batches += 1;
                    newest = Some(batch);
                }
                Some(Event::DeadLetters(letters)) => again(|| emit_dead_letters(&letters, 100))?,
                Some(Event::Truncate(event)) => again(|| emit_truncate(&event, 100))?,
                Some(Event::ReplaceRange(event)) => again(|| emit_range(&event, 100))?,
                // Those of other transforms are not shown.
                Some(Event::Barrier(barrier)) if !barrier.transform_state.is_empty() => panic!("a state of another transform"),
                Some(Event::Barrier(barrier)) => match mode.as_str() {
                    "no-state" => forward_barrier(barrier.id, None)?,
                    "swallow" => {}
                    "twice" => {
                        forward_barrier(barrier.id, None)?;
                        forward_barrier(barrier.id, None)?;
                    }
                    "big-state" => forward_barrier(barrier.id, Some(&vec![0; 2 << 20]))?,
                    "invent" => forward_barrier(barrier.id + 7, None)?,
                    "rows-after-last" | "letters-after-last" | "schema-after-last" if barrier.last => {
                        forward_barrier(barrier.id, None)?;
                        let Some(batch) = &newest else { continue };
                        match mode.as_str() {
                            "rows-after-last" => again(|| emit_batch(batch.stream, batch.schema_id, batch.rows, &batch.ipc, 100))?,
                            "letters-after-last" => again(|| emit_dead_letters(&[], 100))?,
                            _ => emit_schema(batch.stream, batch.schema_id + 1, &[])?,
                        }
                    }
                    _ => forward_barrier(barrier.id, Some(format!("rows={rows}").as_bytes()))?,
                },
                Some(Event::End) => {
                    return Ok(TransformSummary {
                        records_in: rows,
                        records_out: rows,
                        bytes_in: bytes,
                        bytes_out: bytes,
                        batches_emitted: batches,
                        records_skipped: 0,
                    });
                }
                Some(Event::Other(_)) => {}
            }
        }
    }

    fn close() -> Result<(), ConnectorError> {
        Ok(())
    }
}

export!(Misfit);
