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
    /// Only what has come is committed, and by the clock only while no commit is under way: a slow destination gets fewer and
    /// larger ones.
    follows: bool,
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
            follows: false,
            seen_bytes: 0,
            seen_rows: 0,
            since: now,
        }
    }

    /// For changes that are read up to an end: a place of the log is committed after `at_most`, also where hardly a row came with it. With
    /// all intervals off only the end commits, as everywhere.
    pub(crate) fn catching_up(limits: &Limits, at_most: Duration, now: Instant) -> Self {
        let made = Self::new(limits, now);
        let off = made.bytes == 0 && made.rows == 0;
        let every = if made.every.is_zero() && !off { at_most } else { made.every };
        Self { every, ..made }
    }

    /// For a read that does not end: what has come waits no longer than `at_most`, where the intervals say nothing of time.
    pub(crate) fn following(limits: &Limits, at_most: Duration, now: Instant) -> Self {
        let made = Self::new(limits, now);
        let every = if made.every.is_zero() { at_most } else { made.every };
        // What comes first is committed at once.
        let since = now.checked_sub(every).unwrap_or(now);
        Self { every, follows: true, since, ..made }
    }

    /// A batch went by.
    pub(crate) fn batch(&mut self, rows: u64, bytes: u64) {
        self.seen_rows += rows;
        self.seen_bytes += bytes;
    }

    /// A barrier has come, or is looked at again; says whether it is due. `open`: something has come since the last commit. `waiting`:
    /// commits that are under way.
    pub(crate) fn barrier(&mut self, open: bool, waiting: usize, now: Instant) -> bool {
        let by_size = (self.bytes > 0 && self.seen_bytes >= self.bytes) || (self.rows > 0 && self.seen_rows >= self.rows);
        let by_time = !self.every.is_zero() && now.duration_since(self.since) >= self.every;
        let due = if self.follows { open && (by_size || (by_time && waiting == 0)) } else { by_size || by_time };
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
            assert!(!gate.barrier(true, 0, start + Duration::from_millis(500)));
            gate.batch(5, 50);
            assert!(gate.barrier(true, 0, start + Duration::from_millis(1000)));
            gate.batch(5, 50);
            assert!(!gate.barrier(true, 0, start + Duration::from_millis(1500)));
        }
    }

    #[test]
    fn without_intervals_no_barrier_is_due() {
        let start = Instant::now();
        let mut gate = CheckpointGate::new(&limits(0, 0, 0), start);
        gate.batch(u64::MAX / 2, u64::MAX / 2);
        assert!(!gate.barrier(true, 0, start + Duration::from_secs(10_000)));
    }

    #[test]
    fn a_log_without_rows_is_committed_after_a_while() {
        let start = Instant::now();
        let mut gate = CheckpointGate::catching_up(&limits(100, 0, 0), Duration::from_secs(10), start);
        assert!(!gate.barrier(true, 0, start + Duration::from_secs(9)));
        assert!(gate.barrier(true, 0, start + Duration::from_secs(10)));
        gate.batch(1, 100);
        assert!(gate.barrier(true, 0, start + Duration::from_secs(11)), "the other intervals hold as well");
        let mut slow = CheckpointGate::catching_up(&limits(0, 0, 60), Duration::from_secs(10), start);
        assert!(!slow.barrier(true, 0, start + Duration::from_secs(59)), "the pipeline's own word counts");
        let mut off = CheckpointGate::catching_up(&limits(0, 0, 0), Duration::from_secs(10), start);
        assert!(!off.barrier(true, 0, start + Duration::from_secs(3600)));
    }

    #[test]
    fn what_is_followed_is_committed_soon_and_one_at_a_time() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut gate = CheckpointGate::following(&limits(0, 10, 0), second, start);
        assert!(gate.barrier(true, 0, start), "what comes first waits for nothing");
        assert!(!gate.barrier(true, 0, start + second / 2));
        assert!(!gate.barrier(false, 0, start + second), "nothing has come");
        assert!(!gate.barrier(true, 1, start + second), "one is under way");
        gate.batch(10, 1);
        assert!(gate.barrier(true, 1, start + second), "so many rows wait for nobody");
        let mut slow = CheckpointGate::following(&limits(0, 0, 5), second, start);
        assert!(slow.barrier(true, 0, start));
        assert!(!slow.barrier(true, 0, start + second * 2));
        assert!(slow.barrier(true, 0, start + second * 5));
    }
}
