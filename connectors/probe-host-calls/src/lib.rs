//! A fixture: a transform that makes the host's calls itself, without the SDK's `Input` and `TransformOutput`.
//!
//! In place of a stream's first batch it emits one dead letter, whose message tells what the calls for state answered.

use rapidbyte_sdk::host_ffi::{self, RawEvent, StateScope};
use rapidbyte_sdk::{
    CheckItem, ConnectorError, DeadLetter, ErrorCategory, InitContext, Input, StreamContext, Transform, TransformOutput,
    TransformRequest, TransformSummary,
};
use serde::Deserialize;

rapidbyte_sdk::connector_main!(transform, HostCalls);

const KEY: &str = "turns";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
/// No keys.
pub struct Nothing {}

/// Calls the host.
pub struct HostCalls;

/// What the calls for state answer, in words. Under the stream's name the key has `two` afterwards.
fn state_calls(stream: &str) -> Result<String, ConnectorError> {
    let (own, pipeline) = (StateScope::Stream(stream.to_owned()), StateScope::Pipeline);
    let get = |scope: &StateScope| {
        let value = host_ffi::state_get(scope, KEY)?;
        Ok::<_, ConnectorError>(value.map_or("nothing".to_owned(), |value| String::from_utf8_lossy(&value).into_owned()))
    };
    let mut answers = vec![format!("at first {}", get(&own)?)];
    host_ffi::state_put(&own, KEY, b"one")?;
    answers.push(format!("put {}", get(&own)?));
    answers.push(format!("swapped {}", host_ffi::state_cas(&own, KEY, Some(b"one"), Some(b"two"))?));
    answers.push(format!("swapped again {}", host_ffi::state_cas(&own, KEY, Some(b"one"), Some(b"three"))?));
    answers.push(format!("at last {}", get(&own)?));
    answers.push(format!("made {}", host_ffi::state_cas(&pipeline, KEY, None, Some(b"all"))?));
    answers.push(format!("the pipeline's {}", get(&pipeline)?));
    answers.push(format!("deleted {}", host_ffi::state_cas(&pipeline, KEY, Some(b"all"), None)?));
    answers.push(format!("then {}", get(&pipeline)?));
    Ok(answers.join(", "))
}

impl Transform for HostCalls {
    type Config = Nothing;

    fn init(_config: Nothing, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self)
    }

    fn validate(&mut self, _streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        Ok(Vec::new())
    }

    fn transform(
        &mut self,
        request: &TransformRequest,
        _input: &mut Input,
        _output: &mut TransformOutput,
    ) -> Result<TransformSummary, ConnectorError> {
        let mut summary = TransformSummary::default();
        let mut told = vec![false; request.streams.len()];
        while let Some(event) = host_ffi::next_batch()? {
            match event {
                RawEvent::Schema { stream, schema_id, ipc } => host_ffi::emit_schema(stream, schema_id, ipc)?,
                RawEvent::Batch { stream, schema_id, rows, ipc } => {
                    summary.records_in += u64::from(rows);
                    summary.bytes_in += ipc.len() as u64;
                    let name = request.stream(stream)?.name.to_string();
                    if !std::mem::replace(&mut told[stream as usize], true) {
                        host_ffi::emit_dlq_record(&DeadLetter {
                            stream,
                            record_json: "{\"id\":{\"type\":\"Int64\",\"value\":\"1\"}}".into(),
                            error_message: state_calls(&name)?,
                            error_category: ErrorCategory::Data,
                            failed_at_ms: 0,
                        })?;
                        continue;
                    }
                    summary.records_out += u64::from(rows);
                    summary.bytes_out += ipc.len() as u64;
                    summary.batches_emitted += 1;
                    host_ffi::emit_batch(stream, schema_id, rows, ipc)?;
                }
                RawEvent::Barrier(barrier) => host_ffi::forward_barrier(barrier.id, None)?,
                other => return Err(ConnectorError::internal("unexpected_event", format!("`next_batch` gave {other:?}"))),
            }
        }
        Ok(summary)
    }
}
