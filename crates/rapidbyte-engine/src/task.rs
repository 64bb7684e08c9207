//! One attempt to move one share of a stream: a source instance, the transforms, a destination instance, joined by links.

use crate::commits::{Acks, Gate, Mirrored, ReadCount, SentBarriers, lock, mirror};
use crate::contract::Enforcer;
use crate::error::{Cause, EngineError, Stage};
use crate::follow::{Follow, SharedGate};
use crate::guest_state::GuestState;
use crate::kit::Kit;
use crate::load;
use crate::observe::Observer;
use crate::peek::Tap;
use crate::transform_state;
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::{
    Barrier, Event, EventReceiver, EventSender, GuestError, ReadRequest, SourceInstance, StateAccess, StateMark, TransformRequest,
    WriteRequest, WriteStream, mark,
};
use rapidbyte_state::{PipelineId, StateStore};
use rapidbyte_types::{
    Partition, Position, ReadSummary, Receipt, RunContext, StreamContext, SyncMode, TransformSummary, WriteSummary,
};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long the other stages get to say what really went wrong once one says that its neighbour is gone.
const ECHO_GRACE: Duration = Duration::from_secs(5);

/// One stream of a share.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) stream: StreamContext,
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    /// The newest receipt of this share.
    pub(crate) receipt: Option<Receipt>,
}

/// What is to be moved.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    pub(crate) run: RunContext,
    pub(crate) pipeline: PipelineId,
    /// At least one; several only where their changes are read together.
    pub(crate) members: Vec<Member>,
    pub(crate) partition: Partition,
    pub(crate) token: Vec<u8>,
    /// Where reading goes on.
    pub(crate) resume: Option<Position>,
    /// The read does not end by itself.
    pub(crate) follow: Option<Arc<Follow>>,
}

impl Share {
    /// The first of its streams, whose limits hold for all.
    pub(crate) fn lead(&self) -> &Member {
        &self.members[0]
    }

    /// The changes of its streams are read, out of one log.
    pub(crate) fn of_changes(&self) -> bool {
        self.partition.id == load::CHANGES
    }

    /// Its partition never ends: the next run goes on behind the newest receipt.
    pub(crate) fn open_ended(&self) -> bool {
        self.lead().stream.sync_mode == SyncMode::Incremental || self.of_changes()
    }

    fn streams(&self) -> Vec<StreamContext> {
        self.members.iter().map(|member| member.stream.clone()).collect()
    }
}

/// What was moved.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) read: ReadSummary,
    pub(crate) write: WriteSummary,
    pub(crate) transformed: Vec<TransformSummary>,
    /// What became durable, by the stream's place in the share.
    pub(crate) durable: Mirrored,
    /// Rows and bytes that left the source, by the same place.
    pub(crate) emitted: Vec<(u64, u64)>,
    /// Rows that the stream's contract left out, other than as dead letters.
    pub(crate) discarded: u64,
    pub(crate) peek: Option<String>,
    pub(crate) output_closed: bool,
}

impl Moved {
    /// Rows made durable, of all streams.
    pub(crate) fn rows_durable(&self) -> u64 {
        if self.output_closed { self.write.records } else { self.durable.streams.iter().map(|stream| stream.rows).sum() }
    }

    /// The same in bytes of their payload.
    pub(crate) fn bytes_durable(&self) -> u64 {
        if self.output_closed { self.write.bytes } else { self.durable.streams.iter().map(|stream| stream.bytes).sum() }
    }

    /// Rows put into the dead letters.
    pub(crate) fn letters(&self) -> u64 {
        self.durable.streams.iter().map(|stream| stream.letters).sum()
    }
}

/// Runs a blocking call of the state store off the runtime's own threads.
pub(crate) async fn blocking<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> Result<R, EngineError> {
    tokio::task::spawn_blocking(call)
        .await
        .map_err(|_| EngineError::internal(Stage::State, "state_failed", "the state store gave no answer"))
}

enum Ended {
    Read(ReadSummary, Vec<(u64, u64)>),
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
    let states = transform_state::restore(&marks, share.lead().receipt.as_ref())
        .map_err(|error| EngineError::new(Stage::Plan, Cause::Connector(error)))?;
    let guest_state: Arc<dyn StateAccess> = Arc::new(GuestState::new(share.pipeline, Arc::clone(&state)));
    let mut stages: JoinSet<Result<Ended, EngineError>> = JoinSet::new();
    let (source_out, mut next) = kit.link(&share.lead().stream, false);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate::new(&share, Arc::clone(&sent), Arc::clone(&observer));
    let durable = watch::Sender::new(share.resume.clone());

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
        let (out, after) = kit.link(&share.lead().stream, true);
        let enforcer = Enforcer::new(0, share.lead().stream.clone(), share.partition.id.clone(), contract);
        stages.spawn(async move { enforcer.run(next, out).await.map(Ended::Held) });
        next = after;
    }
    for (index, (mark, state)) in marks.into_iter().zip(states).enumerate() {
        let (out, after) = kit.link(&share.lead().stream, true);
        let request = TransformRequest { run: share.run.clone(), streams: share.streams(), state };
        let placed = Placed { index, mark, stream: share.lead().stream.clone() };
        stages.spawn(transform(Arc::clone(kit), placed, request, Arc::clone(&guest_state), next, out));
        next = after;
    }
    if peek_rows > 0 {
        let (out, after) = kit.link(&share.lead().stream, true);
        let tap = Tap::new(peek_rows);
        stages.spawn(async move { Ok(Ended::Peeked(tap.pump(next, out).await.table(0))) });
        next = after;
    }
    let (acked, receipts) = mpsc::unbounded_channel();
    let acks = Acks::new(&share, sent, acked);
    stages.spawn(write(Arc::clone(kit), share.clone(), guest_state, next, acks));
    let ends = !share.open_ended();
    let follow = share.follow.clone();
    stages.spawn(async move { mirror(receipts, share, state, observer, durable).await.map(Ended::Mirrored) });

    let Some(follow) = follow else { return collect(stages, ends).await };
    tokio::select! {
        moved = collect(stages, ends) => moved,
        // What is not durable by now comes again in the next run.
        () = follow.overdue() => Ok(Moved::default()),
    }
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
    let (out, next) = kit.link(&share.lead().stream, false);
    let sent = Arc::new(Mutex::new(vec![(1, None)]));
    stages.spawn(async move {
        let last = Barrier { id: 1, commit: true, last: true, position: None, transform_state: Vec::new() };
        for event in events.into_iter().chain([Event::Barrier(last), Event::End]) {
            out.send(event).await.map_err(|error| EngineError::guest(Stage::Engine, error.into()))?;
        }
        Ok(Ended::Read(ReadSummary::default(), Vec::new()))
    });
    let (acked, receipts) = mpsc::unbounded_channel();
    let acks = Acks::new(&share, sent, acked);
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
            Ok(Ended::Read(summary, emitted)) => {
                moved.read = summary;
                moved.emitted = emitted;
            }
            Ok(Ended::Transformed(summary)) => moved.transformed.push(summary),
            Ok(Ended::Written(summary, closed)) => {
                moved.write = summary;
                moved.output_closed = closed;
                if closed {
                    // Whoever read the output has gone: the stages before would only find a closed link.
                    return Ok(moved);
                }
            }
            Ok(Ended::Mirrored(seen)) => moved.durable = seen,
            Ok(Ended::Held(discarded)) => moved.discarded = discarded,
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
        None if ends && !moved.durable.ended => Err(EngineError::internal(
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
    let (newest, ids, open, read) =
        (Arc::clone(&gate.newest), Arc::clone(&gate.ids), Arc::clone(&gate.open), Arc::clone(&gate.read));
    let mut source = match &share.follow {
        Some(follow) => kit.open_follower(&share.lead().stream, &guest_state, follow.telemetry()).await?,
        None => kit.open_source(Some(&share.lead().stream), &guest_state).await?,
    };
    let request = ReadRequest {
        run: share.run.clone(),
        streams: share.streams(),
        partition: (!share.of_changes()).then(|| share.partition.clone()),
        token: share.token.clone(),
        resume: share.resume.clone(),
        follow: share.follow.is_some(),
    };
    let settled = durable.clone();
    let summary = match &share.follow {
        None => Some(source.read(request, out.clone(), Box::new(gate), durable).await.map_err(fail)?),
        Some(follow) => {
            let gate = SharedGate::new(gate);
            tokio::select! {
                biased;
                () = follow.stopped() => None,
                summary = source.read(request, out.clone(), Box::new(gate.clone()), durable) => Some(summary.map_err(fail)?),
                never = gate.pace(&out) => match never {},
            }
        }
    };
    let stopped = summary.is_none();
    // Rows after the newest barrier can't be committed; what was stopped among them reads them again.
    if !stopped && share.open_ended() && open.rows.load(Ordering::Acquire) {
        let message = "the source ended without a barrier after its last rows, so that nothing says where the next run goes on";
        return Err(EngineError::internal(Stage::Source, "missing_barrier", message).in_connector(kit.source_name()));
    }
    let mut events = vec![Event::End];
    let is_marked = !open.rows.load(Ordering::Acquire);
    if !share.open_ended() || (is_marked && open.window.load(Ordering::Acquire)) {
        let id = ids.load(Ordering::Acquire) + 1;
        let position = lock(&newest).clone();
        lock(&sent).push((id, position.clone()));
        let last = !share.open_ended();
        events.insert(0, Event::Barrier(Barrier { id, commit: true, last, position, transform_state: Vec::new() }));
    }
    for event in events {
        out.send(event).await.map_err(|error| EngineError::guest(Stage::Source, error.into()))?;
    }
    let emitted = |count: &ReadCount| (count.rows.load(Ordering::Relaxed), count.bytes.load(Ordering::Relaxed));
    let emitted: Vec<(u64, u64)> = read.iter().map(emitted).collect();
    let Some(summary) = summary else { return Ok(Ended::Read(ReadSummary::default(), emitted)) };
    if share.of_changes() {
        let end = lock(&newest).clone();
        confirm(&mut source, end, settled).await.map_err(fail)?;
    }
    if share.follow.is_some() {
        // Its metrics are this run's.
        source.close().await.map_err(fail)?;
    } else {
        kit.give_source(source).await;
    }
    Ok(Ended::Read(summary, emitted))
}

/// Tells the source what may be let go, once every stream of the share has a receipt for it.
async fn confirm(
    source: &mut SourceInstance,
    end: Option<Position>,
    mut durable: watch::Receiver<Option<Position>>,
) -> Result<(), GuestError> {
    // Whoever should have made it durable has failed: that is the error to report.
    let Ok(position) = durable.wait_for(|position| *position == end).await.map(|position| position.clone()) else { return Ok(()) };
    if let Some(position) = position {
        mark("engine.confirm.before");
        source.confirm(position).await?;
        mark("engine.confirm.after");
    }
    Ok(())
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
    let mut destination = kit.open_writer(&share.lead().stream, &guest_state).await?;
    let stream = |member: &Member| {
        let receipt = member.receipt.as_ref();
        let (seq, rows, bytes) = receipt.map_or((0, 0, 0), |receipt| (receipt.seq, receipt.rows, receipt.bytes));
        WriteStream {
            context: member.stream.clone(),
            epoch: member.epoch,
            generation: member.generation,
            partition: share.partition.id.clone(),
            seq,
            rows,
            bytes,
        }
    };
    let request = WriteRequest { run: share.run.clone(), streams: share.members.iter().map(stream).collect() };
    let written = destination.write(request, input, Box::new(acks)).await;
    if destination.output_closed() {
        // Whoever read the output wants no more of it. However the connector took that, the run ends well.
        return Ok(Ended::Written(written.unwrap_or_default(), true));
    }
    let summary = written.map_err(fail)?;
    kit.give_destination(destination).await;
    Ok(Ended::Written(summary, false))
}
