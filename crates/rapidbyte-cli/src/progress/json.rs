//! One JSON document per event on standard error, for programs.

use super::tally::{Tallies, Tally};
use crate::printer::write_stderr_json;
use rapidbyte_engine::{Observer, RunEvent};
use rapidbyte_types::StreamName;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A stream under way is reported no more often.
const EVERY: Duration = Duration::from_secs(1);

/// One JSON document per event.
pub(crate) struct JsonLines {
    tallies: Mutex<Tallies>,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        Self { tallies: Mutex::new(Tallies::new(EVERY)) }
    }

    fn document(&self, event: &RunEvent<'_>, now: Instant) -> Option<Value> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match event {
            RunEvent::Started { run_id, pipeline, streams } => {
                json!({ "event": "started", "run_id": run_id, "pipeline": pipeline, "streams": streams })
            }
            RunEvent::Planned { stream, partitions, resumed, .. } => {
                tallies.begin(stream, now);
                json!({ "event": "planned", "stream": stream.to_string(), "partitions": partitions, "resumed": resumed })
            }
            RunEvent::Read { stream, rows, bytes } => {
                let tally = tallies.read(stream, *rows, *bytes, now)?;
                progress(stream, &tally, tallies.lag)
            }
            RunEvent::Committed { stream, rows, bytes } => {
                let tally = tallies.committed(stream, *rows, *bytes, now)?;
                progress(stream, &tally, tallies.lag)
            }
            RunEvent::Following => json!({ "event": "following" }),
            RunEvent::Lag { lag } => {
                tallies.lag = Some(*lag);
                return None;
            }
            RunEvent::Retrying { stream, attempt, wait, error } => json!({
                "event": "retrying",
                "stream": stream.to_string(),
                "attempt": attempt,
                "wait_ms": u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                "category": error.category().as_str(),
                "code": error.code(),
                "message": error.message(),
            }),
            RunEvent::Published { stream, rows, location } => {
                json!({ "event": "published", "stream": stream.to_string(), "rows": rows, "location": location })
            }
            RunEvent::Failed { stream, error } => json!({
                "event": "failed",
                "stream": stream.to_string(),
                "category": error.category().as_str(),
                "code": error.code(),
                "message": error.message(),
            }),
            RunEvent::Peek { .. } => return None,
        })
    }
}

fn progress(stream: &StreamName, tally: &Tally, lag: Option<Duration>) -> Value {
    let mut document = json!({
        "event": "progress",
        "stream": stream.to_string(),
        "rows_read": tally.rows_read,
        "bytes_read": tally.bytes_read,
        "rows_committed": tally.rows_written,
        "bytes_committed": tally.bytes_written,
    });
    if let Some(lag) = lag {
        document["lag_ms"] = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX).into();
    }
    document
}

impl Observer for JsonLines {
    fn event(&self, event: RunEvent<'_>) {
        if let Some(document) = self.document(&event, Instant::now()) {
            write_stderr_json(&document);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_cumulative() {
        let lines = JsonLines::new();
        let start = Instant::now();
        let stream = StreamName::new("orders");
        let say = |event: RunEvent<'_>, seconds: u64| lines.document(&event, start + Duration::from_secs(seconds));
        say(RunEvent::Planned { stream: &stream, partitions: 1, resumed: false }, 0);
        assert_eq!(say(RunEvent::Committed { stream: &stream, rows: 3, bytes: 30 }, 0), None);
        let document = say(RunEvent::Read { stream: &stream, rows: 5, bytes: 50 }, 2).expect("due");
        assert_eq!(
            document,
            json!({ "event": "progress", "stream": "orders", "rows_read": 5, "bytes_read": 50, "rows_committed": 3, "bytes_committed": 30 })
        );
        assert_eq!(say(RunEvent::Lag { lag: Duration::from_millis(340) }, 3), None);
        let document = say(RunEvent::Committed { stream: &stream, rows: 2, bytes: 20 }, 4).expect("due");
        assert_eq!((&document["rows_committed"], &document["lag_ms"]), (&json!(5), &json!(340)));
    }
}
