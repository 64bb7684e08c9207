//! How much memory a guest may take, alone and together with the others.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wasmtime::ResourceLimiter;

/// The bounds of one instance.
#[derive(Debug, Clone)]
pub struct InstanceLimits {
    /// Linear memory, in bytes.
    pub memory: usize,
    /// Memory of all instances together.
    pub total_memory: Option<MemoryPool>,
    /// The largest batch; also bounds what one call may carry out of the guest.
    pub max_batch_bytes: usize,
    /// The wall-clock budget of each call that moves no data (`open`, `check`, `claim`, …).
    pub call_timeout: Option<Duration>,
    /// The wall-clock budget of `read`, `write` and `transform`.
    pub stream_timeout: Option<Duration>,
    /// Sockets open at once.
    pub max_sockets: usize,
}

impl Default for InstanceLimits {
    /// 512 MiB of memory, batches of 64 MiB, ten minutes for a call without data, no bound on one with data, 64 sockets.
    fn default() -> Self {
        Self {
            memory: 512 << 20,
            total_memory: None,
            max_batch_bytes: 64 << 20,
            call_timeout: Some(Duration::from_secs(600)),
            stream_timeout: None,
            max_sockets: 64,
        }
    }
}

/// Memory that all instances of a run share.
#[derive(Debug, Clone)]
pub struct MemoryPool(Arc<Pool>);

struct Pool {
    used: AtomicUsize,
    limit: usize,
    spare: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("used", &self.used).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl MemoryPool {
    /// A pool of so many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Pool { used: AtomicUsize::new(0), limit, spare: OnceLock::new() }))
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Names what is called before a guest is refused memory: it may drop instances that nobody uses, and must not wait. The first
    /// one named counts.
    pub fn set_spare(&self, spare: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.spare.set(Box::new(spare));
    }

    fn take(&self, bytes: usize) -> bool {
        self.take_now(bytes)
            || self.0.spare.get().is_some_and(|spare| {
                spare();
                self.take_now(bytes)
            })
    }

    fn take_now(&self, bytes: usize) -> bool {
        self.0
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= self.0.limit))
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Counts an instance's memory and tables; gives the pool its part back when dropped with the store.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    /// Elements of all tables.
    elements: usize,
    pool: Option<MemoryPool>,
    refused: bool,
}

/// A component has a handful of core modules; each may have one memory and a table or two.
const MAX_CORE_INSTANCES: usize = 64;
/// Of all tables together. They lie in the host's memory, eight bytes each, and the pool does not know of them. A large
/// connector has some ten thousand, one for each function whose address is taken.
const MAX_TABLE_ELEMENTS: usize = 1 << 20;

impl Limiter {
    pub(crate) fn new(limits: &InstanceLimits) -> Self {
        Self { limit: limits.memory, used: 0, elements: 0, pool: limits.total_memory.clone(), refused: false }
    }

    /// Bytes taken so far. Memory of a guest never shrinks.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether the guest has been refused memory: a panic after that is not its own fault.
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let fits = self.used.checked_add(more).is_some_and(|sum| sum <= self.limit)
            && self.pool.as_ref().is_none_or(|pool| pool.take(more));
        if fits {
            self.used += more;
        } else {
            self.refused = true;
        }
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.checked_add(desired.saturating_sub(current)).filter(|sum| *sum <= MAX_TABLE_ELEMENTS);
        self.elements = elements.unwrap_or(self.elements);
        Ok(elements.is_some())
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_CORE_INSTANCES
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(self.used);
        }
    }
}
