//! `events_per_second`: how many rows to make at once, and when.

use std::time::{Duration, Instant};

/// Batches of a tenth of a second, so that the pace is even and a slow stream still moves.
const TICKS_PER_SECOND: u64 = 10;

/// Holds a stream to its pace. Time lost to a slow destination is not made up for by a burst.
pub(crate) struct Pace {
    per_second: u64,
    due: Option<Instant>,
}

impl Pace {
    /// 0 = no pace.
    pub(crate) fn new(per_second: u64) -> Self {
        Self { per_second, due: None }
    }

    /// The most rows to make at once.
    pub(crate) fn rows_at_once(&self, batch_rows: u64) -> u64 {
        match self.per_second {
            0 => batch_rows,
            pace => (pace / TICKS_PER_SECOND).clamp(1, batch_rows),
        }
    }

    /// Waits until the next `rows` have had their time, so that `n` rows take `n / per_second` seconds.
    pub(crate) fn wait(&mut self, rows: u64) {
        if self.per_second == 0 {
            return;
        }
        let now = Instant::now();
        let due = self.due.unwrap_or(now) + Duration::from_secs_f64(rows as f64 / self.per_second as f64);
        if let Some(wait) = due.checked_duration_since(now) {
            std::thread::sleep(wait);
        }
        // More than a second behind: begin anew rather than catch up.
        self.due = Some(if now.saturating_duration_since(due) > Duration::from_secs(1) { now } else { due });
    }
}
