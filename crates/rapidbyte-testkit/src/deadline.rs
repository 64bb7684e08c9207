//! Waiting with an end.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// Waits until `look` finds something.
///
/// # Panics
/// When it has found nothing in time; the message says what was waited for, and the place is the caller's.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    within_polled(limit, POLL, what, look)
}

/// As [`within`], looking less often: for what is costly to look at.
///
/// # Panics
/// As [`within`].
#[track_caller]
pub fn within_polled<T>(limit: Duration, poll: Duration, what: &str, look: impl FnMut() -> Option<T>) -> T {
    within_told(limit, poll, || what.to_owned(), look)
}

/// As [`within_polled`], for a message that is known only at the end.
#[track_caller]
pub(crate) fn within_told<T>(
    limit: Duration,
    poll: Duration,
    what: impl FnOnce() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        if Instant::now() >= end {
            panic!("waited {limit:?} for {}", what());
        }
        thread::sleep(poll);
    }
}

/// Does something when it is dropped, whichever way a test gets there: a thread that waits in a scope must be let go also when
/// the test panics, or the scope waits for it for ever.
pub struct AtLast<F: FnMut()>(F);

impl<F: FnMut()> AtLast<F> {
    /// To be kept in a variable within the scope.
    #[must_use]
    pub fn new(act: F) -> Self {
        Self(act)
    }
}

impl<F: FnMut()> Drop for AtLast<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
