//! One attempt to move one share of a stream: a source instance, the transforms, a destination instance, joined by links.

use crate::contract::Enforcer;
use crate::error::{Cause, EngineError, Stage};
use crate::gate::CheckpointGate;
use crate::guest_state::GuestState;
use crate::kit::Kit;
use crate::letters;
use crate::observe::{Observer, RunEvent};
use crate::peek::Tap;
use crate::transform_state;
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::{
    Acknowledged, Barrier, BarrierDecision, BarrierGate, Event, EventReceiver, EventSender, ReadRequest, StateAccess, StateMark,
    TransformRequest, WriteRequest, WriteStream, mark,
};
use rapidbyte_state::{DurableReceipt, PipelineId, StateStore};
use rapidbyte_types::{
    ConnectorError, DeadLetter, Partition, Position, ReadSummary, Receipt, RunContext, StreamContext, StreamName, SyncMode,
    TransformSummary, WriteSummary,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long the other stages get to say what really went wrong once one says that its neighbour is gone.
const ECHO_GRACE: Duration = Duration::from_secs(5);

/// What is to be moved.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) run: RunContext,
    pub(crate) stream: StreamContext,
    pub(crate) pipeline: PipelineId,
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) partition: Partition,
    pub(crate) token: Vec<u8>,
    /// The newest receipt of this share, to go on from.
    pub(crate) receipt: Option<Receipt>,
}

impl Share {
    /// Its partition never ends: the next run goes on behind the newest receipt.
    fn open_ended(&self) -> bool {
        self.stream.sync_mode == SyncMode::Incremental
    }
}

/// What was moved.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) read: ReadSummary,
    pub(crate) write: WriteSummary,
    pub(crate) transformed: Vec<TransformSummary>,
    /// The share's last receipt; of an open-ended one the newest of this run, if it made any.
    pub(crate) end: Option<Receipt>,
    pub(crate) rows_durable: u64,
    pub(crate) bytes_durable: u64,
    pub(crate) commits: u64,
    /// Rows put into the dead letters.
    pub(crate) letters: u64,
    /// Rows that the stream's contract left out, other than as dead letters.
    pub(crate) discarded: u64,
    pub(crate) peek: Option<String>,
    pub(crate) output_closed: bool,
}

/// Barriers sent as commits and not acknowledged yet, with what each stands for.
type SentBarriers = Arc<Mutex<Vec<(u64, Option<Position>)>>>;

/// Numbers barriers, decides which are commits, and remembers what each stood for until it is acknowledged.
struct Gate {
    checkpoint: CheckpointGate,
    next_id: u64,
    sent: SentBarriers,
    newest: Arc<Mutex<Option<Position>>>,
    ids: Arc<AtomicU64>,
    /// Something came after the newest barrier, and after the newest commit.
    open: Arc<Open>,
    stream: StreamName,
    observer: Arc<dyn Observer>,
}

/// What has come and is not covered yet.
#[derive(Default)]
struct Open {
    /// Rows without a barrier after them.
    rows: AtomicBool,
    /// Rows or barriers that no commit covers.
    window: AtomicBool,
}

impl BarrierGate for Gate {
    fn batch(&mut self, _stream: u32, rows: u32, bytes: u64) {
        self.open.rows.store(true, Ordering::Release);
        self.open.window.store(true, Ordering::Release);
        self.checkpoint.batch(rows.into(), bytes);
        self.observer.event(RunEvent::Read { stream: &self.stream, rows: rows.into(), bytes });
    }

    fn barrier(&mut self, position: &Position) -> Option<BarrierDecision> {
        let moved = lock(&self.newest).replace(position.clone()).as_ref() != Some(position);
        self.open.rows.store(false, Ordering::Release);
        if moved {
            self.open.window.store(true, Ordering::Release);
        }
        if !self.checkpoint.barrier(Instant::now()) {
            return None;
        }
        self.open.window.store(false, Ordering::Release);
        self.next_id += 1;
        self.ids.store(self.next_id, Ordering::Release);
        lock(&self.sent).push((self.next_id, Some(position.clone())));
        Some(BarrierDecision { id: self.next_id, commit: true, last: false })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every critical section is a single assignment or push.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a destination tells of a commit: its receipt, and the rows it has put into its dead-letter table.
struct Word {
    receipt: Receipt,
    letters: Vec<DeadLetter>,
}

/// Takes acknowledgements, checks them against the barriers sent, and hands them to the mirror.
struct Acks {
    sent: SentBarriers,
    seq: u64,
    rows: u64,
    mirror: mpsc::UnboundedSender<Word>,
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
        let mut receipts = receipts.into_iter();
        let (Some(receipt), None) = (receipts.next(), receipts.next()) else {
            return refused(format!("barrier {barrier} of one stream needs one receipt"));
        };
        if receipt.position != position {
            return refused(format!("the receipt of barrier {barrier} has another position than the barrier"));
        }
        if receipt.seq != self.seq + 1 {
            return refused(format!("the receipt of barrier {barrier} has seq {}, expected {}", receipt.seq, self.seq + 1));
        }
        if receipt.rows < self.rows {
            return refused(format!("the receipt of barrier {barrier} counts fewer rows than the one before"));
        }
        self.seq = receipt.seq;
        self.rows = receipt.rows;
        self.mirror.send(Word { receipt, letters }).map_err(|_| ConnectorError::internal("mirror_gone", "the run has ended"))
    }
}

/// What the mirror saw.
#[derive(Default)]
struct Mirrored {
    end: Option<Receipt>,
    rows: u64,
    bytes: u64,
    commits: u64,
    letters: u64,
}

/// Copies receipts and dead letters into the state store in the order of their commits, then lets the source know.
async fn mirror(
    mut words: mpsc::UnboundedReceiver<Word>,
    share: Share,
    state: Arc<dyn StateStore>,
    observer: Arc<dyn Observer>,
    durable: watch::Sender<Option<Position>>,
) -> Result<Mirrored, EngineError> {
    let (mut rows, mut bytes) = share.receipt.as_ref().map_or((0, 0), |receipt| (receipt.rows, receipt.bytes));
    let mut seen = Mirrored::default();
    while let Some(Word { receipt, letters }) = words.recv().await {
        let place = letters::Place {
            pipeline: share.pipeline,
            stream: &share.stream,
            run_id: &share.run.run_id,
            generation: share.generation,
            partition: &share.partition.id,
            seq: receipt.seq,
        };
        seen.letters += letters::keep(&state, &place, letters).await?;
        let proof = DurableReceipt::from_acknowledgement(receipt.clone(), share.pipeline, share.stream.name.clone())?;
        let store = Arc::clone(&state);
        mark("engine.mirror.before");
        blocking(move || store.mirror(&proof)).await??;
        mark("engine.mirror.after");
        durable.send_replace(receipt.position.clone());
        let (more_rows, more_bytes) = (receipt.rows.saturating_sub(rows), receipt.bytes.saturating_sub(bytes));
        observer.event(RunEvent::Committed { stream: &share.stream.name, rows: more_rows, bytes: more_bytes });
        (rows, bytes) = (receipt.rows, receipt.bytes);
        seen.rows += more_rows;
        seen.bytes += more_bytes;
        seen.commits += 1;
        if receipt.last || share.open_ended() {
            seen.end = Some(receipt);
        }
    }
    Ok(seen)
}

/// Runs a blocking call of the state store off the runtime's own threads.
pub(crate) async fn blocking<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> Result<R, EngineError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|_| EngineError::internal(Stage::State, "state_failed", "the state store gave no answer"))
}

enum Ended {
    Read(ReadSummary),
    Held(u64),
    Transformed(TransformSummary),
    Written(WriteSummary, bool),
    Mirrored(Mirrored),
    Peeked(Option<String>),
}

/// Moves a share. The first cause is the error; dropping the future cancels everything that is under way.
pub(crate) async fn run(
    kit: &Arc<Kit>,
    share: Share,
    state: Arc<dyn StateStore>,
    observer: Arc<dyn Observer>,
    contract: Option<Arc<Contract>>,
    peek_rows: usize,
) -> Result<Moved, EngineError> {
    let marks = kit.state_marks();
    let states = transform_state::restore(&marks, share.receipt.as_ref())
        .map_err(|error| EngineError::new(Stage::Plan, Cause::Connector(error)))?;
    let guest_state: Arc<dyn StateAccess> = Arc::new(GuestState::new(share.pipeline, Arc::clone(&state)));
    let mut stages: JoinSet<Result<Ended, EngineError>> = JoinSet::new();
    let (source_out, mut next) = kit.link(&share.stream, false);

    let sent = Arc::new(Mutex::new(Vec::new()));
    let newest = Arc::new(Mutex::new(share.receipt.as_ref().and_then(|receipt| receipt.position.clone())));
    let ids = Arc::new(AtomicU64::new(0));
    let gate = Gate {
        checkpoint: CheckpointGate::new(&share.stream.limits, Instant::now()),
        next_id: 0,
        sent: Arc::clone(&sent),
        newest: Arc::clone(&newest),
        ids: Arc::clone(&ids),
        open: Arc::default(),
        stream: share.stream.name.clone(),
        observer: Arc::clone(&observer),
    };
    let durable = watch::Sender::new(share.receipt.as_ref().and_then(|receipt| receipt.position.clone()));

    stages.spawn(read(
        Arc::clone(kit),
        share.clone(),
        Arc::clone(&guest_state),
        source_out,
        gate,
        durable.subscribe(),
        Arc::clone(&sent),
    ));
    if let Some(contract) = contract {
        let (out, after) = kit.link(&share.stream, true);
        let enforcer = Enforcer::new(0, share.stream.clone(), share.partition.id.clone(), contract);
        stages.spawn(async move { enforcer.run(next, out).await.map(Ended::Held) });
        next = after;
    }
    for (index, (mark, state)) in marks.into_iter().zip(states).enumerate() {
        let (out, after) = kit.link(&share.stream, true);
        let request = TransformRequest { run: share.run.clone(), streams: vec![share.stream.clone()], state };
        let placed = Placed { index, mark, stream: share.stream.clone() };
        stages.spawn(transform(Arc::clone(kit), placed, request, Arc::clone(&guest_state), next, out));
        next = after;
    }
    if peek_rows > 0 {
        let (out, after) = kit.link(&share.stream, true);
        let tap = Tap::new(peek_rows);
        stages.spawn(async move { Ok(Ended::Peeked(tap.pump(next, out).await.table(0))) });
        next = after;
    }
    let (acked, receipts) = mpsc::unbounded_channel();
    let acks = Acks {
        sent,
        seq: share.receipt.as_ref().map_or(0, |receipt| receipt.seq),
        rows: share.receipt.as_ref().map_or(0, |receipt| receipt.rows),
        mirror: acked,
    };
    stages.spawn(write(Arc::clone(kit), share.clone(), guest_state, next, acks));
    let ends = !share.open_ended();
    stages.spawn(async move { mirror(receipts, share, state, observer, durable).await.map(Ended::Mirrored) });

    collect(stages, ends).await
}

/// Moves rows that no source reads: the events, then the partition's last commit.
pub(crate) async fn run_events(
    kit: &Arc<Kit>,
    share: Share,
    state: Arc<dyn StateStore>,
    observer: Arc<dyn Observer>,
    events: Vec<Event>,
) -> Result<Moved, EngineError> {
    let guest_state: Arc<dyn StateAccess> = Arc::new(GuestState::new(share.pipeline, Arc::clone(&state)));
    let mut stages: JoinSet<Result<Ended, EngineError>> = JoinSet::new();
    let (out, next) = kit.link(&share.stream, false);
    let sent = Arc::new(Mutex::new(vec![(1, None)]));
    stages.spawn(async move {
        let last = Barrier { id: 1, commit: true, last: true, position: None, transform_state: Vec::new() };
        for event in events.into_iter().chain([Event::Barrier(last), Event::End]) {
            out.send(event).await.map_err(|error| EngineError::guest(Stage::Engine, error.into()))?;
        }
        Ok(Ended::Read(ReadSummary::default()))
    });
    let (acked, receipts) = mpsc::unbounded_channel();
    let acks = Acks {
        sent,
        seq: share.receipt.as_ref().map_or(0, |receipt| receipt.seq),
        rows: share.receipt.as_ref().map_or(0, |receipt| receipt.rows),
        mirror: acked,
    };
    stages.spawn(write(Arc::clone(kit), share.clone(), guest_state, next, acks));
    let durable = watch::Sender::new(None);
    stages.spawn(async move { mirror(receipts, share, state, observer, durable).await.map(Ended::Mirrored) });
    collect(stages, true).await
}

/// Waits for every stage. Once one has failed, the others get a moment to say whether it was only an echo of theirs.
async fn collect(mut stages: JoinSet<Result<Ended, EngineError>>, ends: bool) -> Result<Moved, EngineError> {
    let mut moved = Moved::default();
    let mut echo: Option<EngineError> = None;
    loop {
        let joined = if echo.is_some() {
            tokio::time::timeout(ECHO_GRACE, stages.join_next()).await.unwrap_or_default()
        } else {
            stages.join_next().await
        };
        let Some(joined) = joined else { break };
        let ended =
            joined.unwrap_or_else(|_| Err(EngineError::internal(Stage::Engine, "stage_lost", "a stage ended without a word")));
        match ended {
            Ok(Ended::Read(summary)) => moved.read = summary,
            Ok(Ended::Held(discarded)) => moved.discarded = discarded,
            Ok(Ended::Transformed(summary)) => moved.transformed.push(summary),
            Ok(Ended::Written(summary, closed)) => {
                moved.write = summary;
                moved.output_closed = closed;
                if closed {
                    moved.rows_durable = summary.records;
                    moved.bytes_durable = summary.bytes;
                    // Whoever read the output has gone: the stages before would only find a closed link.
                    return Ok(moved);
                }
            }
            Ok(Ended::Mirrored(seen)) => {
                moved.rows_durable = seen.rows;
                moved.bytes_durable = seen.bytes;
                moved.commits = seen.commits;
                moved.letters = seen.letters;
                moved.end = seen.end;
            }
            Ok(Ended::Peeked(table)) => moved.peek = table,
            Err(error) if error.is_echo() => echo = echo.or(Some(error)),
            Err(error) => {
                // Nothing of this task may still be at work when its stream is claimed anew.
                stages.shutdown().await;
                return Err(error);
            }
        }
    }
    match echo {
        Some(error) => Err(error),
        None if ends && moved.end.is_none() => Err(EngineError::internal(
            Stage::Destination,
            "no_last_receipt",
            "the destination ended without acknowledging the end of the share",
        )),
        None => Ok(moved),
    }
}

async fn read(
    kit: Arc<Kit>,
    share: Share,
    guest_state: Arc<dyn StateAccess>,
    out: EventSender,
    gate: Gate,
    durable: watch::Receiver<Option<Position>>,
    sent: SentBarriers,
) -> Result<Ended, EngineError> {
    let fail = |error| EngineError::guest(Stage::Source, error).in_connector(kit.source_name());
    let (newest, ids, open) = (Arc::clone(&gate.newest), Arc::clone(&gate.ids), Arc::clone(&gate.open));
    let mut source = kit.open_source(Some(&share.stream), &guest_state).await?;
    let request = ReadRequest {
        run: share.run.clone(),
        streams: vec![share.stream.clone()],
        partition: Some(share.partition.clone()),
        token: share.token.clone(),
        resume: share.receipt.as_ref().and_then(|receipt| receipt.position.clone()),
        follow: false,
    };
    let summary = source.read(request, out.clone(), Box::new(gate), durable).await.map_err(fail)?;
    if share.open_ended() && open.rows.load(Ordering::Acquire) {
        let message = "the source ended without a barrier after its last rows, so that nothing says where the next run goes on";
        return Err(EngineError::internal(Stage::Source, "missing_barrier", message).in_connector(kit.source_name()));
    }
    let mut events = vec![Event::End];
    if !share.open_ended() || open.window.load(Ordering::Acquire) {
        let id = ids.load(Ordering::Acquire) + 1;
        let position = lock(&newest).clone();
        lock(&sent).push((id, position.clone()));
        let last = !share.open_ended();
        events.insert(0, Event::Barrier(Barrier { id, commit: true, last, position, transform_state: Vec::new() }));
    }
    for event in events {
        out.send(event).await.map_err(|error| EngineError::guest(Stage::Source, error.into()))?;
    }
    source.close().await.map_err(fail)?;
    Ok(Ended::Read(summary))
}

/// A transform at its place in the pipeline.
struct Placed {
    index: usize,
    /// What stands before its state, if it keeps one.
    mark: Option<StateMark>,
    stream: StreamContext,
}

async fn transform(
    kit: Arc<Kit>,
    placed: Placed,
    request: TransformRequest,
    guest_state: Arc<dyn StateAccess>,
    input: EventReceiver,
    out: EventSender,
) -> Result<Ended, EngineError> {
    let Placed { index, mark, stream } = placed;
    let stage = Stage::Transform(index as u32);
    let fail = |error| EngineError::guest(stage, error).in_connector(kit.transform_name(index));
    let mut transform = kit.open_transform(index, Some(&stream), &guest_state).await?;
    let summary = transform.transform(request, index as u32, mark, input, out.clone()).await.map_err(fail)?;
    out.send(Event::End).await.map_err(|error| EngineError::guest(stage, error.into()))?;
    transform.close().await.map_err(fail)?;
    Ok(Ended::Transformed(summary))
}

async fn write(
    kit: Arc<Kit>,
    share: Share,
    guest_state: Arc<dyn StateAccess>,
    input: EventReceiver,
    acks: Acks,
) -> Result<Ended, EngineError> {
    let fail = |error| EngineError::guest(Stage::Destination, error).in_connector(kit.destination_name());
    let mut destination = kit.open_writer(&share.stream, &guest_state).await?;
    let (seq, rows, bytes) = share.receipt.as_ref().map_or((0, 0, 0), |receipt| (receipt.seq, receipt.rows, receipt.bytes));
    let stream = WriteStream {
        context: share.stream.clone(),
        epoch: share.epoch,
        generation: share.generation,
        partition: share.partition.id.clone(),
        seq,
        rows,
        bytes,
    };
    let request = WriteRequest { run: share.run.clone(), streams: vec![stream] };
    let written = destination.write(request, input, Box::new(acks)).await;
    if destination.output_closed() {
        // Whoever read the output wants no more of it. However the connector took that, the run ends well.
        return Ok(Ended::Written(written.unwrap_or_default(), true));
    }
    let summary = written.map_err(fail)?;
    destination.close().await.map_err(fail)?;
    Ok(Ended::Written(summary, false))
}
