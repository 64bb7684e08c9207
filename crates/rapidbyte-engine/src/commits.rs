//! Between the ends of a task: which barriers become commits, and what is done with their receipts.

use crate::error::EngineError;
use crate::follow;
use crate::gate::CheckpointGate;
use crate::letters;
use crate::observe::{Observer, RunEvent};
use crate::task::{Share, blocking};
use rapidbyte_runtime::{Acknowledged, BarrierDecision, BarrierGate, mark};
use rapidbyte_state::{DurableReceipt, StateStore};
use rapidbyte_types::{ConnectorError, DeadLetter, Position, Receipt, StreamName};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// A run that catches up with a log commits a place of it at least so often, where `checkpoint_interval_seconds` says nothing: sources look
/// through the log from the newest durable place, again and again, and keep it until then. Guessed: rare enough to cost nothing.
const CATCH_UP_EVERY: Duration = Duration::from_secs(10);

/// Barriers sent as commits and not acknowledged yet, with what each stands for.
pub(crate) type SentBarriers = Arc<Mutex<Vec<(u64, Option<Position>)>>>;

/// Numbers barriers, decides which are commits, and remembers what each stood for until it is acknowledged.
pub(crate) struct Gate {
    checkpoint: CheckpointGate,
    next_id: u64,
    sent: SentBarriers,
    pub(crate) newest: Arc<Mutex<Option<Position>>>,
    pub(crate) ids: Arc<AtomicU64>,
    /// Something came after the newest barrier, and after the newest commit.
    pub(crate) open: Arc<Open>,
    /// What has left the source, by the stream's place in the task.
    pub(crate) read: Arc<Vec<ReadCount>>,
    streams: Vec<StreamName>,
    observer: Arc<dyn Observer>,
}

/// Rows and bytes that have left the source.
#[derive(Debug, Default)]
pub(crate) struct ReadCount {
    pub(crate) rows: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

impl Gate {
    pub(crate) fn new(share: &Share, sent: SentBarriers, observer: Arc<dyn Observer>) -> Self {
        let (limits, now) = (&share.lead().stream.limits, Instant::now());
        let checkpoint = match &share.follow {
            Some(_) => CheckpointGate::following(limits, follow::COMMIT_EVERY, now),
            None if share.of_changes() => CheckpointGate::catching_up(limits, CATCH_UP_EVERY, now),
            None => CheckpointGate::new(limits, now),
        };
        Self {
            checkpoint,
            next_id: 0,
            sent,
            newest: Arc::new(Mutex::new(share.resume.clone())),
            ids: Arc::default(),
            open: Arc::default(),
            read: Arc::new(share.members.iter().map(|_| ReadCount::default()).collect()),
            streams: share.members.iter().map(|member| member.stream.name.clone()).collect(),
            observer,
        }
    }
}

/// What has come and is not covered yet.
#[derive(Default)]
pub(crate) struct Open {
    /// Rows, or a change without any, that no barrier came after.
    pub(crate) rows: AtomicBool,
    /// Rows or barriers that no commit covers.
    pub(crate) window: AtomicBool,
}

impl BarrierGate for Gate {
    fn batch(&mut self, stream: u32, rows: u32, bytes: u64) {
        self.open.rows.store(true, Ordering::Release);
        self.open.window.store(true, Ordering::Release);
        self.checkpoint.batch(rows.into(), bytes);
        let index = stream as usize;
        if let (Some(count), Some(name)) = (self.read.get(index), self.streams.get(index)) {
            count.rows.fetch_add(rows.into(), Ordering::Relaxed);
            count.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.observer.event(RunEvent::Read { stream: name, rows: rows.into(), bytes });
        }
    }

    fn rowless(&mut self) {
        self.open.rows.store(true, Ordering::Release);
        self.open.window.store(true, Ordering::Release);
    }

    fn barrier(&mut self, position: &Position) -> Option<BarrierDecision> {
        let moved = lock(&self.newest).replace(position.clone()).as_ref() != Some(position);
        self.open.rows.store(false, Ordering::Release);
        if moved {
            self.open.window.store(true, Ordering::Release);
        }
        self.commit(position, Instant::now())
    }
}

impl Gate {
    /// The newest barrier, if it was left out, nothing came after it, and it is due by now.
    pub(crate) fn remembered(&mut self, now: Instant) -> Option<(BarrierDecision, Position)> {
        if self.open.rows.load(Ordering::Acquire) {
            return None;
        }
        let position = lock(&self.newest).clone()?;
        self.commit(&position, now).map(|decision| (decision, position))
    }

    fn commit(&mut self, position: &Position, now: Instant) -> Option<BarrierDecision> {
        let waiting = lock(&self.sent).len();
        if !self.checkpoint.barrier(self.open.window.load(Ordering::Acquire), waiting, now) {
            return None;
        }
        self.open.window.store(false, Ordering::Release);
        self.next_id += 1;
        self.ids.store(self.next_id, Ordering::Release);
        lock(&self.sent).push((self.next_id, Some(position.clone())));
        Some(BarrierDecision { id: self.next_id, commit: true, last: false })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every critical section is a single assignment or push.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a destination tells of a commit: a receipt for each stream, and the rows it has put into its dead-letter table.
pub(crate) struct Word {
    receipts: Vec<Receipt>,
    letters: Vec<DeadLetter>,
}

/// The newest receipt of a stream, as far as the next one has to go with it.
struct Known {
    seq: u64,
    rows: u64,
}

/// Takes acknowledgements, checks them against the barriers sent, and hands them to the mirror.
pub(crate) struct Acks {
    sent: SentBarriers,
    known: Vec<Known>,
    mirror: mpsc::UnboundedSender<Word>,
}

impl Acks {
    pub(crate) fn new(share: &Share, sent: SentBarriers, mirror: mpsc::UnboundedSender<Word>) -> Self {
        let known = share.members.iter().map(|member| {
            let (seq, rows) = member.receipt.as_ref().map_or((0, 0), |receipt| (receipt.seq, receipt.rows));
            Known { seq, rows }
        });
        Self { sent, known: known.collect(), mirror }
    }
}

impl Acknowledged for Acks {
    fn acknowledged(&mut self, barrier: u64, receipts: Vec<Receipt>, letters: Vec<DeadLetter>) -> Result<(), ConnectorError> {
        let refused = |message: String| Err(ConnectorError::internal("receipt_mismatch", message));
        let mut sent = lock(&self.sent);
        let Some(at) = sent.iter().position(|(id, _)| *id == barrier) else {
            return refused(format!("barrier {barrier} was never sent"));
        };
        let (_, position) = sent.remove(at);
        drop(sent);
        // Whoever calls has seen that no stream has two.
        if receipts.len() != self.known.len() {
            return refused(format!("barrier {barrier} of {} streams has {} receipts", self.known.len(), receipts.len()));
        }
        for receipt in &receipts {
            let Some(known) = self.known.get_mut(receipt.stream as usize) else {
                return refused(format!("a receipt of barrier {barrier} names stream {}", receipt.stream));
            };
            if receipt.position != position {
                return refused(format!("the receipt of barrier {barrier} has another position than the barrier"));
            }
            if receipt.seq != known.seq + 1 {
                return refused(format!("the receipt of barrier {barrier} has seq {}, expected {}", receipt.seq, known.seq + 1));
            }
            if receipt.rows < known.rows {
                return refused(format!("the receipt of barrier {barrier} counts fewer rows than the one before"));
            }
            *known = Known { seq: receipt.seq, rows: receipt.rows };
        }
        self.mirror.send(Word { receipts, letters }).map_err(|_| ConnectorError::internal("mirror_gone", "the run has ended"))
    }
}

/// What of one stream became durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durable {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) letters: u64,
}

/// What the mirror saw.
#[derive(Debug, Default)]
pub(crate) struct Mirrored {
    /// By the stream's place in the task.
    pub(crate) streams: Vec<Durable>,
    pub(crate) commits: u64,
    /// The share is complete.
    pub(crate) ended: bool,
    /// Of the newest commit, where it is one to go on from.
    pub(crate) position: Option<Position>,
}

/// Copies receipts and dead letters into the state store in the order of their commits, then lets the source know.
pub(crate) async fn mirror(
    mut words: mpsc::UnboundedReceiver<Word>,
    share: Share,
    state: Arc<dyn StateStore>,
    observer: Arc<dyn Observer>,
    durable: watch::Sender<Option<Position>>,
) -> Result<Mirrored, EngineError> {
    let counts = share.members.iter().map(|member| member.receipt.as_ref().map_or((0, 0), |receipt| (receipt.rows, receipt.bytes)));
    let mut counts: Vec<(u64, u64)> = counts.collect();
    let mut seen = Mirrored { streams: vec![Durable::default(); share.members.len()], ..Mirrored::default() };
    while let Some(Word { receipts, mut letters }) = words.recv().await {
        let mut position = None;
        for receipt in receipts {
            let index = receipt.stream as usize;
            let (Some(member), Some(count), Some(total)) =
                (share.members.get(index), counts.get_mut(index), seen.streams.get_mut(index))
            else {
                continue;
            };
            let of_stream = letters.extract_if(.., |letter| letter.stream == receipt.stream).collect();
            let place = letters::Place {
                pipeline: share.pipeline,
                stream: &member.stream,
                run_id: &share.run.run_id,
                generation: member.generation,
                partition: &share.partition.id,
                seq: receipt.seq,
            };
            total.letters += letters::keep(&state, &place, of_stream).await?;
            let proof = DurableReceipt::from_acknowledgement(receipt.clone(), share.pipeline, member.stream.name.clone())?;
            let store = Arc::clone(&state);
            mark("engine.mirror.before");
            blocking(move || store.mirror(&proof)).await??;
            mark("engine.mirror.after");
            let (more_rows, more_bytes) = (receipt.rows.saturating_sub(count.0), receipt.bytes.saturating_sub(count.1));
            observer.event(RunEvent::Committed { stream: &member.stream.name, rows: more_rows, bytes: more_bytes });
            *count = (receipt.rows, receipt.bytes);
            total.rows += more_rows;
            total.bytes += more_bytes;
            seen.ended |= receipt.last;
            position = receipt.position;
        }
        seen.commits += 1;
        if seen.ended || share.open_ended() {
            seen.position.clone_from(&position);
        }
        // Every stream of the task has it.
        durable.send_replace(position);
    }
    Ok(seen)
}
