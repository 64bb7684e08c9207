//! What may go wrong at a point, on purpose. Compiled in with the feature `crash-points` alone, never into a release.
//!
//! One fault per process: `RAPIDBYTE_CRASH_AT=<point>[:n]` names the hit, `RAPIDBYTE_CRASH_ACT` the act. A point that a guest
//! marks concerns that instance and its sockets; one of the host concerns the next call of any guest, and all sockets. What
//! came to pass is written to the file named by `RAPIDBYTE_CRASH_FIRED`: a sweep whose fault did not fire has shown nothing.

use crate::net::Tamper;
use crate::wit::rapidbyte::connector::net::{NetCode, NetError};
use rapidbyte_types::{ConnectorError, ErrorCategory};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long a point waits for the second writer at most.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL.
    Kill,
    /// The next call of a guest that may fail does.
    Error,
    /// The guest traps; at a point of the host, in its next call.
    Trap,
    /// The sockets are reset; without one, the next to be connected.
    Cut,
    /// The server's end seems to have closed the sockets.
    Close,
    /// Nothing comes or goes any more, and the server is not told: a machine that has vanished.
    Silence,
    /// So many milliseconds before each read and write.
    Slow(u64),
    /// A few bytes at a time.
    Slice,
    /// One bit of what comes next is another.
    Corrupt,
    /// The next connection is refused.
    Refuse,
    /// The server commits, and its answer to the next COMMIT is lost with the connection; at a point behind a COMMIT
    /// (`….sent`), the answer to that one.
    LoseCommit,
    /// What the server says next is lost, and the connection with it. No act of its own.
    LoseAnswer,
    /// The point itself takes so many milliseconds.
    Delay(u64),
    /// Another process gets its turn: the point waits until somebody has made the file `<RAPIDBYTE_CRASH_SECOND>.go`.
    Second,
}

impl Act {
    fn parse(text: &str) -> Option<Self> {
        let (name, number) = text.split_once(':').unwrap_or((text, ""));
        let milliseconds = || number.parse().unwrap_or(200);
        Some(match name {
            "kill" => Self::Kill,
            "error" => Self::Error,
            "trap" => Self::Trap,
            "cut" => Self::Cut,
            "close" => Self::Close,
            "silence" => Self::Silence,
            "slow" => Self::Slow(milliseconds()),
            "slice" => Self::Slice,
            "corrupt" => Self::Corrupt,
            "refuse" => Self::Refuse,
            "lose-commit" => Self::LoseCommit,
            "delay" => Self::Delay(milliseconds()),
            "second" => Self::Second,
            _ => return None,
        })
    }
}

/// Whom an act concerns: one instance, or whoever comes first.
type Whom = Option<u64>;

struct Plan {
    counts: Option<File>,
    fired: Option<File>,
    second: Option<PathBuf>,
    at: Option<(String, u64, Act)>,
    hits: u64,
    /// What waits for its occasion.
    armed: Option<(Whom, Act)>,
    /// The open sockets, with the instance that has each.
    wires: Vec<(u64, Weak<Tamper>)>,
}

static PLAN: OnceLock<Mutex<Plan>> = OnceLock::new();
static INSTANCES: AtomicU64 = AtomicU64::new(1);

fn plan() -> MutexGuard<'static, Plan> {
    PLAN.get_or_init(|| Mutex::new(Plan::from_env())).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number for an instance.
pub(crate) fn instance() -> u64 {
    INSTANCES.fetch_add(1, Ordering::Relaxed)
}

/// What a guest's call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Struck {
    Nothing,
    Error,
    Trap,
}

const FAILED: &str = "the sweep let this call fail";

/// The error of a socket's call that is told to fail.
pub(crate) fn failure() -> NetError {
    crate::net::net_error(NetCode::Other, FAILED)
}

/// The error of any other.
pub(crate) fn failed_call() -> ConnectorError {
    ConnectorError::new(ErrorCategory::TransientNetwork, "struck", FAILED)
}

/// The trap of a guest that is told to.
pub(crate) fn trap() -> wasmtime::Error {
    wasmtime::Error::msg("the sweep let the guest trap")
}

/// A point has been reached, by a guest or by the host. Says whether the guest traps.
pub(crate) fn hit(point: &str, whom: Whom) -> Struck {
    let mut plan = plan();
    if let Some(counts) = &mut plan.counts {
        // One write call per line, so that a kill never tears a line of another process sharing the file.
        if counts.write_all(format!("{point}\n").as_bytes()).is_err() {
            tracing::warn!(point, "crash point could not be counted");
        }
    }
    let Some((name, nth, act)) = &plan.at else { return Struck::Nothing };
    if name != point {
        return Struck::Nothing;
    }
    let (nth, act) = (*nth, *act);
    plan.hits += 1;
    if plan.hits != nth {
        return Struck::Nothing;
    }
    match act {
        Act::Kill => {
            plan.fire("kill");
            // SAFETY: plain system calls on this process's own id; no memory is shared with them.
            unsafe {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
        }
        Act::Trap if whom.is_some() => {
            plan.fire("trap");
            return Struck::Trap;
        }
        Act::Error | Act::Trap | Act::Refuse => plan.armed = Some((whom, act)),
        Act::LoseCommit if !point.ends_with(".sent") => plan.armed = Some((whom, act)),
        Act::LoseCommit | Act::LoseAnswer | Act::Cut | Act::Close | Act::Silence | Act::Slow(_) | Act::Slice | Act::Corrupt => {
            let act = if act == Act::LoseCommit { Act::LoseAnswer } else { act };
            let tampers: Vec<_> = plan.wires.iter().filter(|(of, _)| whom.is_none_or(|whom| whom == *of)).collect();
            let tampers: Vec<_> = tampers.into_iter().filter_map(|(_, tamper)| tamper.upgrade()).collect();
            if tampers.is_empty() {
                plan.armed = Some((whom, act));
            }
            for tamper in tampers {
                tamper.set(act);
                plan.fire("socket");
            }
        }
        Act::Delay(milliseconds) => {
            plan.fire("delay");
            drop(plan);
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        Act::Second => {
            plan.fire("second");
            let Some(reached) = plan.second.clone() else { return Struck::Nothing };
            drop(plan);
            let go = reached.with_extension("go");
            let end = Instant::now() + LONGEST_WAIT;
            if std::fs::write(&reached, "").is_err() {
                tracing::warn!(point, "the second writer could not be called");
            }
            while !go.exists() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    Struck::Nothing
}

/// A call that may fail begins: into a guest, or of a guest into the host.
pub(crate) fn strike(of: u64) -> Struck {
    let mut plan = plan();
    match plan.armed {
        Some((whom, act @ (Act::Error | Act::Trap))) if whom.is_none_or(|whom| whom == of) => {
            plan.armed = None;
            plan.fire(if act == Act::Error { "error" } else { "trap" });
            if act == Act::Error { Struck::Error } else { Struck::Trap }
        }
        _ => Struck::Nothing,
    }
}

/// A guest is about to connect. Says whether it is refused.
pub(crate) fn connecting(of: u64) -> bool {
    let mut plan = plan();
    let refused = matches!(plan.armed, Some((whom, Act::Refuse)) if whom.is_none_or(|whom| whom == of));
    if refused {
        plan.armed = None;
        plan.fire("refuse");
    }
    refused
}

/// A guest has connected.
pub(crate) fn connected(of: u64, tamper: &Arc<Tamper>) {
    let mut plan = plan();
    plan.wires.retain(|(_, tamper)| tamper.strong_count() > 0);
    plan.wires.push((of, Arc::downgrade(tamper)));
    // A socket that was to be disturbed and did not exist yet; the instance of a point may be gone, so any will do.
    if let Some((_, act @ (Act::Cut | Act::Close | Act::Silence | Act::Slow(_) | Act::Slice | Act::Corrupt))) = plan.armed {
        plan.armed = None;
        tamper.set(act);
        plan.fire("socket");
    }
}

/// A guest sends these bytes. Says whether the answer to them is to be lost.
pub(crate) fn sends(bytes: &[u8]) -> bool {
    // A simple query of this one word: tag, length, text, NUL.
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    if bytes != COMMIT {
        return false;
    }
    let mut plan = plan();
    let lost = matches!(plan.armed, Some((_, Act::LoseCommit)));
    if lost {
        plan.armed = None;
        plan.fire("lose-commit");
    }
    lost
}

impl Plan {
    fn from_env() -> Self {
        let file = |variable: &str| {
            std::env::var_os(variable).and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok())
        };
        let act = std::env::var("RAPIDBYTE_CRASH_ACT").map_or(Some(Act::Kill), |text| Act::parse(&text));
        let at = std::env::var("RAPIDBYTE_CRASH_AT").ok().zip(act).map(|(text, act)| match text.rsplit_once(':') {
            Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(1), act),
            None => (text, 1, act),
        });
        Self {
            counts: file("RAPIDBYTE_CRASH_COUNTS"),
            fired: file("RAPIDBYTE_CRASH_FIRED"),
            second: std::env::var_os("RAPIDBYTE_CRASH_SECOND").map(PathBuf::from),
            at,
            hits: 0,
            armed: None,
            wires: Vec::new(),
        }
    }

    fn fire(&mut self, what: &str) {
        if let Some(fired) = &mut self.fired
            && fired.write_all(format!("{what}\n").as_bytes()).is_err()
        {
            tracing::warn!(what, "a fault could not be noted");
        }
    }
}
