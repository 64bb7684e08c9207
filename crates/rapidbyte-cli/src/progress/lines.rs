//! A line per event, for logs and pipes.

use super::tally::Tallies;
use crate::amounts;
use crate::printer::write_stderr;
use crate::table::printable;
use rapidbyte_engine::{Observer, RunEvent};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A stream under way is reported no more often.
const EVERY: Duration = Duration::from_secs(5);

/// A line per event.
pub(crate) struct Lines {
    tallies: Mutex<Tallies>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { tallies: Mutex::new(Tallies::new(EVERY)) }
    }

    fn line(&self, event: &RunEvent<'_>, now: Instant) -> Option<String> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match event {
            RunEvent::Started { run_id, pipeline, streams } => {
                format!("run {run_id} of `{pipeline}` started: {}", amounts::counted(*streams as u64, "stream"))
            }
            RunEvent::Planned { stream, partitions, resumed, .. } => {
                tallies.begin(stream, now);
                let how = if *resumed { ", going on where an earlier run stopped" } else { "" };
                format!("{stream}: reading in {}{how}", amounts::counted(*partitions as u64, "partition"))
            }
            RunEvent::Read { stream, rows, bytes } => {
                let tally = tallies.read(stream, *rows, *bytes, now)?;
                let rate = amounts::per_second(tally.rows_read, now.duration_since(tally.started));
                format!(
                    "{stream}: {} rows read ({}, {} rows/s), {} committed",
                    amounts::count(tally.rows_read),
                    amounts::bytes(tally.bytes_read),
                    amounts::count(rate),
                    amounts::count(tally.rows_written),
                )
            }
            // The place alone has moved, of which nobody wants to read for ever.
            RunEvent::Committed { rows: 0, .. } => return None,
            RunEvent::Committed { stream, rows, bytes } => {
                let tally = tallies.committed(stream, *rows, *bytes, now)?;
                let lag = tallies.lag.map_or_else(String::new, |lag| format!(", {} behind the source", amounts::duration(lag)));
                format!("{stream}: {} rows committed{lag}", amounts::count(tally.rows_written))
            }
            RunEvent::Following => "following the changes until it is stopped".to_owned(),
            RunEvent::Lag { lag } => {
                tallies.lag = Some(*lag);
                return None;
            }
            RunEvent::Retrying { stream, attempt, wait, error } => {
                format!("{stream}: attempt {attempt} failed, trying again in {}: {}", amounts::duration(*wait), error.message())
            }
            RunEvent::Published { stream, rows, location } => {
                let rows = tallies.of_load(stream, *rows);
                format!("{stream}: {} published at {location}", amounts::counted(rows, "row"))
            }
            RunEvent::Failed { stream, error } => format!("{stream}: failed: {}", error.message()),
            RunEvent::Peek { .. } => return None,
        })
    }
}

impl Observer for Lines {
    fn event(&self, event: RunEvent<'_>) {
        if let Some(line) = self.line(&event, Instant::now()) {
            write_stderr(&format!("{}\n", printable(&line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_engine::{Cause, EngineError, Stage};
    use rapidbyte_types::{ConnectorError, ErrorCategory, StreamName};

    #[test]
    fn each_event_has_its_line() {
        let lines = Lines::new();
        let start = Instant::now();
        let stream = StreamName::qualified("public", "orders");
        let say = |event: RunEvent<'_>, seconds: u64| lines.line(&event, start + Duration::from_secs(seconds));
        let error = EngineError {
            stage: Stage::Source,
            connector: None,
            stream: None,
            cause: Cause::Connector(ConnectorError::new(ErrorCategory::TransientNetwork, "x", "connection lost")),
            attempts: 1,
            first: None,
        };
        assert_eq!(
            say(RunEvent::Started { run_id: "r1", pipeline: "p", streams: 1 }, 0).as_deref(),
            Some("run r1 of `p` started: 1 stream")
        );
        assert_eq!(
            say(RunEvent::Planned { stream: &stream, partitions: 4, resumed: true }, 0).as_deref(),
            Some("public.orders: reading in 4 partitions, going on where an earlier run stopped")
        );
        assert_eq!(say(RunEvent::Read { stream: &stream, rows: 1000, bytes: 2048 }, 1), None, "too soon");
        assert_eq!(
            say(RunEvent::Read { stream: &stream, rows: 9000, bytes: 2048 }, 10).as_deref(),
            Some("public.orders: 10,000 rows read (4.0 KiB, 1,000 rows/s), 0 committed")
        );
        assert_eq!(
            say(RunEvent::Retrying { stream: &stream, attempt: 1, wait: Duration::from_millis(200), error: &error }, 11).as_deref(),
            Some("public.orders: attempt 1 failed, trying again in 200 ms: connection lost")
        );
        assert_eq!(
            say(RunEvent::Published { stream: &stream, rows: 10_000, location: "raw.orders" }, 12).as_deref(),
            Some("public.orders: 10,000 rows published at raw.orders")
        );
        assert_eq!(say(RunEvent::Peek { stream: &stream, table: "+" }, 13), None);
        assert_eq!(say(RunEvent::Following, 13).as_deref(), Some("following the changes until it is stopped"));
        assert_eq!(say(RunEvent::Committed { stream: &stream, rows: 0, bytes: 0 }, 30), None, "nothing was written");
        assert_eq!(say(RunEvent::Lag { lag: Duration::from_millis(300) }, 30), None);
        assert_eq!(
            say(RunEvent::Committed { stream: &stream, rows: 2, bytes: 20 }, 31).as_deref(),
            Some("public.orders: 2 rows committed, 300 ms behind the source")
        );
    }
}
