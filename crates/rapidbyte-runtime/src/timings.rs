//! Where the host's time goes, summed over every instance that shares one [`HostTimings`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters shared by the instances and links of a run.
#[derive(Debug, Default)]
pub struct HostTimings {
    vm_setup: AtomicU64,
    emit_batch: AtomicU64,
    next_batch: AtomicU64,
    compress: AtomicU64,
    decompress: AtomicU64,
}

/// One of the host's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    VmSetup,
    EmitBatch,
    NextBatch,
    Compress,
    Decompress,
}

/// What [`HostTimings`] holds at one moment, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimingsSnapshot {
    /// Making stores and instances.
    pub vm_setup_ns: u64,
    /// Inside `emit-batch`: the structural check, compression and waiting for room.
    pub emit_batch_ns: u64,
    /// Inside `next-event`: waiting for an event, and decompression.
    pub next_batch_ns: u64,
    /// Compressing frames.
    pub compress_ns: u64,
    /// Decompressing frames.
    pub decompress_ns: u64,
}

impl HostTimings {
    /// The sums so far.
    pub fn snapshot(&self) -> TimingsSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TimingsSnapshot {
            vm_setup_ns: read(&self.vm_setup),
            emit_batch_ns: read(&self.emit_batch),
            next_batch_ns: read(&self.next_batch),
            compress_ns: read(&self.compress),
            decompress_ns: read(&self.decompress),
        }
    }

    pub(crate) fn add(&self, step: Step, spent: Duration) {
        let counter = match step {
            Step::VmSetup => &self.vm_setup,
            Step::EmitBatch => &self.emit_batch,
            Step::NextBatch => &self.next_batch,
            Step::Compress => &self.compress,
            Step::Decompress => &self.decompress,
        };
        counter.fetch_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Adds the time until the returned guard is dropped, also when the future that holds it is.
    pub(crate) fn span(&self, step: Step) -> Span<'_> {
        Span { timings: self, step, started: Instant::now() }
    }
}

pub(crate) struct Span<'a> {
    timings: &'a HostTimings,
    step: Step,
    started: Instant,
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        self.timings.add(self.step, self.started.elapsed());
    }
}
