//! Which barriers become commits.

use rapidbyte_types::Limits;
use std::time::{Duration, Instant};

/// Merges a source's barriers by the checkpoint intervals: the first barrier at or past any of them becomes a commit, the
/// others are left out. With all intervals zero only the end commits.
#[derive(Debug)]
pub(crate) struct CheckpointGate {
    bytes: u64,
    rows: u64,
    every: Duration,
    seen_bytes: u64,
    seen_rows: u64,
    since: Instant,
}

impl CheckpointGate {
    pub(crate) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            bytes: limits.checkpoint_interval_bytes,
            rows: limits.checkpoint_interval_rows,
            every: Duration::from_secs(limits.checkpoint_interval_seconds),
            seen_bytes: 0,
            seen_rows: 0,
            since: now,
        }
    }

    /// A batch went by.
    pub(crate) fn batch(&mut self, rows: u64, bytes: u64) {
        self.seen_rows += rows;
        self.seen_bytes += bytes;
    }

    /// A barrier has come; says whether it is due.
    pub(crate) fn barrier(&mut self, now: Instant) -> bool {
        let due = (self.bytes > 0 && self.seen_bytes >= self.bytes)
            || (self.rows > 0 && self.seen_rows >= self.rows)
            || (!self.every.is_zero() && now.duration_since(self.since) >= self.every);
        if due {
            self.seen_bytes = 0;
            self.seen_rows = 0;
            self.since = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: u64, rows: u64, seconds: u64) -> Limits {
        Limits {
            checkpoint_interval_bytes: bytes,
            checkpoint_interval_rows: rows,
            checkpoint_interval_seconds: seconds,
            ..Limits::default()
        }
    }

    #[test]
    fn each_interval_makes_a_barrier_due_and_starts_anew() {
        for limits in [limits(100, 0, 0), limits(0, 10, 0), limits(0, 0, 1)] {
            let start = Instant::now();
            let mut gate = CheckpointGate::new(&limits, start);
            gate.batch(5, 50);
            assert!(!gate.barrier(start + Duration::from_millis(500)));
            gate.batch(5, 50);
            assert!(gate.barrier(start + Duration::from_millis(1000)));
            gate.batch(5, 50);
            assert!(!gate.barrier(start + Duration::from_millis(1500)));
        }
    }

    #[test]
    fn without_intervals_no_barrier_is_due() {
        let start = Instant::now();
        let mut gate = CheckpointGate::new(&limits(0, 0, 0), start);
        gate.batch(u64::MAX / 2, u64::MAX / 2);
        assert!(!gate.barrier(start + Duration::from_secs(10_000)));
    }
}
