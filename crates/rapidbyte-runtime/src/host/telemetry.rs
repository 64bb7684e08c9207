//! `telemetry`: words for people and meters, capped and redacted.

use super::HostState;
use crate::convert::cut;
use crate::mark::MAX_POINT;
#[cfg(not(feature = "crash-points"))]
use crate::mark::mark;
use crate::wit::rapidbyte::connector::telemetry as wit_telemetry;
use rapidbyte_config::Redactor;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use wit_telemetry::LogLevel;

const MAX_LINE: usize = 8 << 10;
const MAX_FIELDS: usize = 32;
const MAX_FIELD: usize = 1 << 10;
/// Lines a guest may write at once, and per second after that. Guessed: more is a loop, not a story.
const BURST: f64 = 200.0;
const PER_SECOND: f64 = 100.0;
const MAX_METRICS: usize = 256;
const MAX_METRIC_NAME: usize = 128;
const MAX_LABELS: usize = 8;

/// How a metric's values add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// They are summed.
    Counter,
    /// The newest counts.
    Gauge,
    /// They are spread over buckets.
    Histogram,
}

/// Where a guest's metrics go.
pub trait TelemetrySink: Send + Sync {
    /// One value. Names and labels are capped and redacted.
    fn metric(&self, name: &str, kind: MetricKind, value: f64, labels: &[(String, String)]);
}

/// Metrics go nowhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTelemetry;

impl TelemetrySink for NoTelemetry {
    fn metric(&self, _name: &str, _kind: MetricKind, _value: f64, _labels: &[(String, String)]) {}
}

/// Who a guest's lines are from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    pub(crate) connector: String,
    pub(crate) pipeline: String,
    pub(crate) stream: String,
}

/// The state of one instance.
pub(crate) struct TelemetryState {
    labels: Labels,
    redactor: Arc<Redactor>,
    sink: Arc<dyn TelemetrySink>,
    tokens: f64,
    filled: Instant,
    dropped: u64,
    metrics: HashSet<String>,
}

impl TelemetryState {
    pub(crate) fn new(labels: Labels, redactor: Arc<Redactor>, sink: Arc<dyn TelemetrySink>) -> Self {
        Self { labels, redactor, sink, tokens: BURST, filled: Instant::now(), dropped: 0, metrics: HashSet::new() }
    }

    /// From here on the guest speaks of another stream.
    pub(crate) fn turn_to(&mut self, stream: &str) {
        self.report_dropped();
        self.labels.stream.replace_range(.., stream);
    }

    /// The connector's id, behind its last slash.
    #[cfg(feature = "crash-points")]
    pub(crate) fn connector(&self) -> &str {
        self.labels.connector.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn redact(&self, text: String, max: usize) -> String {
        // Redacted before it is cut to size, for half a secret is not recognised; cut roughly before that, for time's sake.
        cut(self.redactor.redact(&cut(text, max.saturating_mul(4))).into_owned(), max)
    }

    fn may_speak(&mut self) -> bool {
        let now = Instant::now();
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * PER_SECOND).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            self.dropped += 1;
            return false;
        }
        self.tokens -= 1.0;
        true
    }

    fn report_dropped(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            let Labels { connector, pipeline, stream } = &self.labels;
            tracing::warn!(target: "rapidbyte::connector", connector, pipeline, stream, dropped, "log lines were dropped: too many");
        }
    }

    fn log(&mut self, level: LogLevel, message: String, fields: Vec<(String, String)>) {
        if !self.may_speak() {
            return;
        }
        self.report_dropped();
        let message = self.redact(message, MAX_LINE);
        let mut shown = String::new();
        for (key, value) in fields.into_iter().take(MAX_FIELDS) {
            let room = MAX_LINE.saturating_sub(shown.len());
            if room == 0 {
                break;
            }
            let pair = format!("{}={:?}", cut(key, 64), self.redact(value, MAX_FIELD));
            if !shown.is_empty() {
                shown.push(' ');
            }
            shown.push_str(&cut(pair, room));
        }
        let Labels { connector, pipeline, stream } = &self.labels;
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(target: "rapidbyte::connector", connector, pipeline, stream, fields = shown, "{message}")
            };
        }
        match level {
            LogLevel::Error => say!(error),
            LogLevel::Warn => say!(warn),
            LogLevel::Info => say!(info),
            LogLevel::Debug => say!(debug),
            LogLevel::Trace => say!(trace),
        }
    }

    fn metric(&mut self, name: String, kind: wit_telemetry::MetricKind, value: f64, labels: Vec<(String, String)>) {
        let fine = !name.is_empty()
            && name.len() <= MAX_METRIC_NAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:".contains(&b));
        if !fine || (!self.metrics.contains(&name) && self.metrics.len() >= MAX_METRICS) {
            self.dropped += 1;
            return;
        }
        let labels: Vec<_> =
            labels.into_iter().take(MAX_LABELS).map(|(key, value)| (cut(key, 64), self.redact(value, 256))).collect();
        let kind = match kind {
            wit_telemetry::MetricKind::Counter => MetricKind::Counter,
            wit_telemetry::MetricKind::Gauge => MetricKind::Gauge,
            wit_telemetry::MetricKind::Histogram => MetricKind::Histogram,
        };
        self.sink.metric(&name, kind, value, &labels);
        self.metrics.insert(name);
    }
}

impl Drop for TelemetryState {
    fn drop(&mut self) {
        self.report_dropped();
    }
}

impl wit_telemetry::Host for HostState {
    async fn log(&mut self, level: LogLevel, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.telemetry.log(level, message, fields);
        Ok(())
    }

    async fn metric(
        &mut self,
        name: String,
        kind: wit_telemetry::MetricKind,
        value: f64,
        labels: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.telemetry.metric(name, kind, value, labels);
        Ok(())
    }

    async fn mark(&mut self, point: String) -> wasmtime::Result<()> {
        let fine = !point.is_empty()
            && point.len() <= MAX_POINT
            && point.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if fine {
            #[cfg(not(feature = "crash-points"))]
            mark(&point);
            #[cfg(feature = "crash-points")]
            if crate::fault::hit(&point, Some(self.instance)) == crate::fault::Struck::Trap {
                return Err(crate::fault::trap());
            }
        } else {
            self.telemetry.dropped += 1;
        }
        Ok(())
    }
}
