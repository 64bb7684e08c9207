//! Named points of the work: traced, and the places where sweeps let something go wrong.

/// The longest name of a point.
pub(crate) const MAX_POINT: usize = 64;

/// A named point has been reached (`state.receipt.mirrored`).
///
/// With the feature `crash-points` each hit is appended to the file named by `RAPIDBYTE_CRASH_COUNTS`, one line per hit, and at
/// the hit named by `RAPIDBYTE_CRASH_AT=<point>[:n]` happens what `RAPIDBYTE_CRASH_ACT` says (`docs/reference/faults.md`):
/// without it the process is killed with SIGKILL.
pub fn mark(point: &str) {
    tracing::trace!(target: "rapidbyte::mark", point, "reached");
    #[cfg(feature = "crash-points")]
    crate::fault::hit(point, None);
}
