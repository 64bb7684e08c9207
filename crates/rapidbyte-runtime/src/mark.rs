//! Named points of the work: traced, and the places where crash sweeps kill the process.

/// The longest name of a point.
pub(crate) const MAX_POINT: usize = 64;

/// A named point has been reached (`state.receipt.mirrored`).
///
/// With the feature `crash-points` each hit is appended to the file named by `RAPIDBYTE_CRASH_COUNTS`, one line per hit, and
/// the hit named by `RAPIDBYTE_CRASH_AT=<point>[:n]` kills the process with SIGKILL.
pub fn mark(point: &str) {
    tracing::trace!(target: "rapidbyte::mark", point, "reached");
    #[cfg(feature = "crash-points")]
    sweep::hit(point);
}

#[cfg(feature = "crash-points")]
mod sweep {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::{Mutex, OnceLock, PoisonError};

    struct Sweep {
        counts: Option<File>,
        at: Option<(String, u64)>,
        hits: u64,
    }

    static SWEEP: OnceLock<Mutex<Sweep>> = OnceLock::new();

    pub(super) fn hit(point: &str) {
        let sweep = SWEEP.get_or_init(|| Mutex::new(Sweep::from_env()));
        let mut sweep = sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = &mut sweep.counts {
            // One write call per line, so that a kill never tears a line of another process sharing the file.
            let line = format!("{point}\n");
            if counts.write_all(line.as_bytes()).is_err() {
                tracing::warn!(point, "crash point could not be counted");
            }
        }
        let Some((name, nth)) = &sweep.at else { return };
        if name != point {
            return;
        }
        let nth = *nth;
        sweep.hits += 1;
        if sweep.hits == nth {
            // SAFETY: plain system calls on this process's own id; no memory is shared with them.
            unsafe {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
    }

    impl Sweep {
        fn from_env() -> Self {
            let counts = std::env::var_os("RAPIDBYTE_CRASH_COUNTS")
                .and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
            let at = std::env::var("RAPIDBYTE_CRASH_AT").ok().map(|text| match text.rsplit_once(':') {
                Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1)),
                None => (text, 1),
            });
            Self { counts, at, hits: 0 }
        }
    }
}
