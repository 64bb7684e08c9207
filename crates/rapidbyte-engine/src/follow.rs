//! Following: the changes of a log as they come, until the run is asked to stop.
//!
//! Everything that differs from a run which catches up and ends: when barriers become commits, how the end is reached, when an
//! attempt counts as one that came to nothing, and who counts rows that were durable before an attempt failed.

use crate::cancel::Cancel;
use crate::commits::{Gate, lock};
use crate::error::{Cause, EngineError, Stage};
use crate::kit::Kit;
use crate::observe::{Observer, RunEvent};
use crate::report::StreamReport;
use rapidbyte_config::{PipelinePlan, StreamPattern};
use rapidbyte_runtime::{Barrier, BarrierDecision, BarrierGate, EventSender, MetricKind, Sent, TelemetrySink};
use rapidbyte_types::{ConnectorError, Position, StreamName, SyncMode};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Rows wait for a commit no longer, where `checkpoint_interval_seconds` says nothing. Guessed: soon enough for people, and few
/// enough commits for files.
pub(crate) const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether rows wait that no later barrier will carry along.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the last commit may take once the run is asked to stop. The process ends at two seconds.
const GRACE: Duration = Duration::from_millis(1200);
/// What the rest of the run's end may take beyond that.
const SLACK: Duration = Duration::from_millis(300);
/// No wait between attempts is longer: whoever follows wants to be back soon after the server is.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Attempts go on for so long at least: a server keeps the session of a reader that it has lost for its `wal_sender_timeout`, a minute by
/// default, and lets no other read the slot meanwhile.
const LEAST_PATIENCE: Duration = Duration::from_secs(120);
/// How far what is durable is behind the source, as sources report it.
const LAG: &str = "source.lag_seconds";

/// A run that follows.
pub(crate) struct Follow {
    stop: Cancel,
    /// Since when changes are read; the loads are done.
    since: Mutex<Option<Instant>>,
    /// Changes were read for so long that what comes to an end was not in trouble.
    lasted: AtomicBool,
    seen: Arc<Tally>,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("since", &self.since).finish_non_exhaustive()
    }
}

/// Refuses what can't be followed: a stream that is not read by its changes would end, and the run would not.
pub(crate) fn refuse(plan: &PipelinePlan) -> Result<(), EngineError> {
    let mut streams = plan.streams.iter().chain(plan.patterns.iter().map(StreamPattern::template));
    let Some(other) = streams.find(|stream| stream.sync_mode != SyncMode::Cdc) else { return Ok(()) };
    let message = format!("`sync_mode: {}` can't be followed: such a stream is moved once", other.sync_mode.as_str());
    let error = ConnectorError::config("unsupported_mode", message)
        .with_hint("run without `--follow`; or use `sync_mode: cdc`, and put other streams into a pipeline of their own");
    Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&other.name))
}

/// Refuses a source that only catches up.
pub(crate) fn able(kit: &Kit) -> Result<(), EngineError> {
    if kit.source_has("follow") {
        return Ok(());
    }
    let error = ConnectorError::config("unsupported_mode", format!("`{}` can't follow its changes", kit.source_name()))
        .with_hint("run without `--follow`, as often as you like");
    Err(EngineError::new(Stage::Plan, Cause::Connector(error)))
}

impl Follow {
    pub(crate) fn new(stop: Cancel, observer: Arc<dyn Observer>) -> Self {
        let seen = Arc::new(Tally { inner: observer, counts: Mutex::default() });
        Self { stop, since: Mutex::new(None), lasted: AtomicBool::new(false), seen }
    }

    /// Changes are read from here on, or are not any more.
    pub(crate) fn set_under_way(&self, under_way: bool) {
        let before = std::mem::replace(&mut *lock(&self.since), under_way.then(Instant::now));
        if before.is_some_and(|since| since.elapsed() >= LEAST_PATIENCE) {
            self.lasted.store(true, Ordering::Relaxed);
        }
    }

    /// Waits until the run is asked to stop.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until the last commit has had its time after that.
    pub(crate) async fn overdue(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }

    /// Who watches the task, counts, and tells the run's own observer.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.seen) as Arc<dyn Observer>
    }

    /// Where the source's metrics go.
    pub(crate) fn telemetry(&self) -> Arc<dyn TelemetrySink> {
        Arc::clone(&self.seen) as Arc<dyn TelemetrySink>
    }

    /// Takes what was counted since the last time into the reports. Says whether the attempt came to something: anything became
    /// durable, or there was nothing to commit for long.
    pub(crate) fn settle(&self, reports: &mut [StreamReport]) -> bool {
        let counts = std::mem::take(&mut *lock(&self.seen.counts));
        for count in &counts {
            let Some(report) = reports.iter_mut().find(|report| report.stream == count.stream) else { continue };
            report.rows_read += count.rows_read;
            report.bytes_read += count.bytes_read;
            report.rows_written += count.rows;
            report.bytes_written += count.bytes;
            report.checkpoints += count.commits;
            report.rows_published = report.rows_written;
        }
        self.lasted.swap(false, Ordering::Relaxed) || counts.iter().any(|count| count.commits > 0)
    }
}

/// How many retries a follower has whose attempt number `tries` has failed, and which has been in trouble for so long. One that is to
/// have none has none.
pub(crate) fn retries(max_retries: u32, tries: u32, trouble: Duration) -> u32 {
    if max_retries > 0 && trouble < LEAST_PATIENCE { max_retries.max(tries) } else { max_retries }
}

/// Waits until a run is to be dropped where it stands: at once when it is asked to stop, or, while it follows, once it has had time
/// to end by itself.
pub(crate) async fn cut(cancel: &Cancel, follow: Option<&Follow>) {
    cancel.cancelled().await;
    if follow.is_some_and(|follow| lock(&follow.since).is_some()) {
        tokio::time::sleep(GRACE + SLACK).await;
    }
}

/// What was seen of a stream.
struct Count {
    stream: StreamName,
    rows_read: u64,
    bytes_read: u64,
    rows: u64,
    bytes: u64,
    commits: u64,
}

/// Counts on the way to the run's own observer: what is durable stays so, however the attempt ends.
struct Tally {
    inner: Arc<dyn Observer>,
    counts: Mutex<Vec<Count>>,
}

impl Tally {
    fn count(&self, stream: &StreamName, add: impl FnOnce(&mut Count)) {
        let mut counts = lock(&self.counts);
        match counts.iter_mut().find(|count| count.stream == *stream) {
            Some(count) => add(count),
            None => {
                let mut count = Count { stream: stream.clone(), rows_read: 0, bytes_read: 0, rows: 0, bytes: 0, commits: 0 };
                add(&mut count);
                counts.push(count);
            }
        }
    }
}

impl Observer for Tally {
    fn event(&self, event: RunEvent<'_>) {
        match &event {
            RunEvent::Read { stream, rows, bytes } => self.count(stream, |count| {
                count.rows_read += rows;
                count.bytes_read += bytes;
            }),
            RunEvent::Committed { stream, rows, bytes } => self.count(stream, |count| {
                count.rows += rows;
                count.bytes += bytes;
                count.commits += 1;
            }),
            _ => {}
        }
        self.inner.event(event);
    }
}

impl TelemetrySink for Tally {
    fn metric(&self, name: &str, kind: MetricKind, value: f64, _labels: &[(String, String)]) {
        if name == LAG
            && kind == MetricKind::Gauge
            && let Ok(lag) = Duration::try_from_secs_f64(value)
        {
            self.inner.event(RunEvent::Lag { lag });
        }
    }
}

/// A gate that the source and the clock go through, in turns and never at once: they are polled by one task.
#[derive(Clone)]
pub(crate) struct SharedGate(Arc<Mutex<Gate>>);

impl SharedGate {
    pub(crate) fn new(gate: Gate) -> Self {
        Self(Arc::new(Mutex::new(gate)))
    }

    /// Sends a barrier that was left out when it came, once its time has run out. Never ends, but when the next stage has gone, which
    /// the source will find, too.
    pub(crate) async fn pace(&self, out: &EventSender) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let make = || {
                let (decision, position) = lock(&self.0).remembered(Instant::now())?;
                let BarrierDecision { id, commit, last } = decision;
                Some(Barrier { id, commit, last, position: Some(position), transform_state: Vec::new() })
            };
            if out.send_barrier(LOOK_EVERY, make).await == Sent::Closed {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl BarrierGate for SharedGate {
    fn batch(&mut self, stream: u32, rows: u32, bytes: u64) {
        lock(&self.0).batch(stream, rows, bytes);
    }

    fn rowless(&mut self) {
        lock(&self.0).rowless();
    }

    fn barrier(&mut self, position: &Position) -> Option<BarrierDecision> {
        lock(&self.0).barrier(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_outlasts_the_session_that_the_server_keeps() {
        let long = LEAST_PATIENCE;
        let short = long - Duration::from_millis(1);
        assert_eq!([retries(3, 2, short), retries(3, 9, short), retries(3, 9, long)], [3, 9, 3]);
        assert_eq!(retries(0, 1, Duration::ZERO), 0, "it was asked for none");
    }
}
