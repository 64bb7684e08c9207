//! One budget of bytes for everything that waits between stages.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The grain of the budget; a semaphore counts in `u32`.
const GRAIN: usize = 1 << 10;

/// Bytes that may wait in all links of the process together.
///
/// A batch larger than the whole budget passes when nothing else waits.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    grains: Arc<Semaphore>,
    total: u32,
}

/// Bytes held; given back when dropped.
#[derive(Debug)]
pub(crate) struct Held(Option<OwnedSemaphorePermit>);

impl Default for MemoryBudget {
    /// 32 MiB: four batches of the target size (measured to be enough to keep both ends busy).
    fn default() -> Self {
        Self::new(32 << 20)
    }
}

impl MemoryBudget {
    /// A budget of so many bytes, at least 1 KiB.
    pub fn new(bytes: usize) -> Self {
        let total = u32::try_from((bytes / GRAIN).clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize))).unwrap_or(u32::MAX);
        Self { grains: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Bytes that are free now.
    pub fn available(&self) -> usize {
        self.grains.available_permits() * GRAIN
    }

    fn grains_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX).min(self.total)
    }

    pub(crate) async fn hold(&self, bytes: usize) -> Held {
        // The semaphore is never closed.
        Held(Arc::clone(&self.grains).acquire_many_owned(self.grains_of(bytes)).await.ok())
    }

    pub(crate) fn try_hold(&self, bytes: usize) -> Option<Held> {
        Arc::clone(&self.grains).try_acquire_many_owned(self.grains_of(bytes)).ok().map(|permit| Held(Some(permit)))
    }
}

impl Held {
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// Gives back all but what `bytes` need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        let Some(permit) = &mut self.0 else { return };
        let surplus = permit.num_permits().saturating_sub(bytes.div_ceil(GRAIN));
        drop(permit.split(surplus));
    }
}
