//! Rows and bytes so far, per stream, and whose turn it is to be reported.

use rapidbyte_types::StreamName;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How far a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) started: Instant,
    pub(crate) rows_read: u64,
    pub(crate) bytes_read: u64,
    pub(crate) rows_written: u64,
    pub(crate) bytes_written: u64,
    reported: Instant,
}

/// How far each stream is.
#[derive(Debug)]
pub(crate) struct Tallies {
    streams: HashMap<StreamName, Tally>,
    every: Duration,
    /// Of a run that follows: how far what is durable is behind the source.
    pub(crate) lag: Option<Duration>,
}

impl Tallies {
    /// Reports of one stream are at least `every` apart.
    pub(crate) fn new(every: Duration) -> Self {
        Self { streams: HashMap::new(), every, lag: None }
    }

    fn of(&mut self, stream: &StreamName, now: Instant) -> &mut Tally {
        let fresh = Tally { started: now, rows_read: 0, bytes_read: 0, rows_written: 0, bytes_written: 0, reported: now };
        self.streams.entry(stream.clone()).or_insert(fresh)
    }

    /// A stream begins.
    pub(crate) fn begin(&mut self, stream: &StreamName, now: Instant) {
        self.of(stream, now);
    }

    /// A batch was read; the tally if it is time to say so.
    pub(crate) fn read(&mut self, stream: &StreamName, rows: u64, bytes: u64, now: Instant) -> Option<Tally> {
        let every = self.every;
        let tally = self.of(stream, now);
        tally.rows_read = tally.rows_read.saturating_add(rows);
        tally.bytes_read = tally.bytes_read.saturating_add(bytes);
        tally.due(now, every)
    }

    /// A commit is durable; the tally if it is time to say so.
    pub(crate) fn committed(&mut self, stream: &StreamName, rows: u64, bytes: u64, now: Instant) -> Option<Tally> {
        let every = self.every;
        let tally = self.of(stream, now);
        tally.rows_written = tally.rows_written.saturating_add(rows);
        tally.bytes_written = tally.bytes_written.saturating_add(bytes);
        tally.due(now, every)
    }

    /// Rows of a load that is published now. A destination that does not keep rows counts none; what it took was committed.
    pub(crate) fn of_load(&self, stream: &StreamName, published: u64) -> u64 {
        self.streams.get(stream).map_or(published, |tally| published.max(tally.rows_written))
    }

    /// Rows and bytes read from all streams.
    pub(crate) fn total(&self) -> (u64, u64) {
        self.streams
            .values()
            .fold((0, 0), |(rows, bytes), tally| (rows.saturating_add(tally.rows_read), bytes.saturating_add(tally.bytes_read)))
    }
}

impl Tally {
    fn due(&mut self, now: Instant, every: Duration) -> Option<Self> {
        if now.duration_since(self.reported) < every {
            return None;
        }
        self.reported = now;
        Some(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_batches_make_few_reports() {
        let start = Instant::now();
        let stream = StreamName::new("orders");
        let mut tallies = Tallies::new(Duration::from_secs(1));
        tallies.begin(&stream, start);
        let reports: Vec<u64> = (1..=25)
            .filter_map(|i| tallies.read(&stream, 10, 100, start + Duration::from_millis(i * 100)))
            .map(|tally| tally.rows_read)
            .collect();
        assert_eq!(reports, [100, 200]);
        assert_eq!(tallies.total(), (250, 2500));
    }

    #[test]
    fn streams_are_counted_apart() {
        let now = Instant::now();
        let (a, b) = (StreamName::new("a"), StreamName::new("b"));
        let mut tallies = Tallies::new(Duration::ZERO);
        assert_eq!(tallies.committed(&a, 1, 2, now).map(|tally| tally.rows_written), Some(1));
        assert_eq!(tallies.committed(&b, 5, 6, now).map(|tally| tally.bytes_written), Some(6));
        assert_eq!((tallies.of_load(&a, 0), tallies.of_load(&a, 9)), (1, 9));
    }
}
