//! A run: everything from the plan to the report.

use crate::cancel::Cancel;
use crate::changes;
use crate::claim::claim;
use crate::error::{Cause, EngineError, Stage};
use crate::follow::{self, Follow};
use crate::kit::{Kit, Operator};
use crate::load::Claimed;
use crate::observe::{Observer, RunEvent};
use crate::replay;
use crate::report::{RunReport, StreamReport, Timings};
use crate::retry;
use crate::select;
use crate::stream::{self, Run};
use crate::task::blocking;
use rapidbyte_config::plan::StatePlan;
use rapidbyte_config::{PipelinePlan, StreamPattern};
use rapidbyte_runtime::{NoState, StateAccess};
use rapidbyte_state::{
    PipelineId, RunError, RunGuard, RunOutcome, RunStatus, RunTotals, SqliteStore, StateStore, StreamResult, StreamStatus,
};
use rapidbyte_types::{DataErrorPolicy, LostSlotPolicy, RunContext, StreamContext, StreamName, SyncMode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How a run is done.
pub struct RunOptions {
    /// Who may ask it to stop.
    pub cancel: Cancel,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Goes on with the changes of its streams, all of them `sync_mode: cdc`, until it is asked to stop. That is its good end once
    /// the loads are done; what is durable by then is in the report.
    pub follow: bool,
    /// Rows of each stream to show; 0 = none.
    pub peek_rows: usize,
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(crate) fn open_state(plan: &StatePlan) -> Result<Arc<dyn StateStore>, EngineError> {
    match plan {
        StatePlan::Sqlite { path } => Ok(Arc::new(SqliteStore::open(path)?)),
    }
}

/// The kit, loaded off the async threads because components may have to be compiled.
pub(crate) async fn load_kit(operator: &Operator, plan: &PipelinePlan) -> Result<Arc<Kit>, EngineError> {
    let (operator, plan) = (operator.clone(), plan.clone());
    Ok(Arc::new(blocking(move || Kit::load(&operator, &plan)).await??))
}

/// What must be there for a run to be one: from here on, however it ends, it is recorded.
pub(crate) struct Begun {
    pub(crate) kit: Arc<Kit>,
    pub(crate) state: Arc<dyn StateStore>,
    guard: RunGuard,
    pub(crate) pipeline: PipelineId,
    pub(crate) context: RunContext,
}

pub(crate) async fn run(operator: &Operator, plan: &PipelinePlan, options: RunOptions) -> Result<RunReport, EngineError> {
    let started = Instant::now();
    let RunOptions { cancel, observer, follow, peek_rows } = options;
    if follow {
        follow::refuse(plan)?;
    }
    let cancelled = || EngineError::new(Stage::Engine, Cause::Cancelled);
    let begun = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(cancelled()),
        begun = begin(operator, plan) => begun?,
    };
    let settled = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(cancelled()),
        settled = settle(&begun, plan, follow) => settled,
    };
    let (source_identity, streams, contracts) = match settled {
        Ok((identity, PipelinePlan { streams, contracts, .. })) => (Ok(identity), streams, contracts),
        Err(error) => (Err(error), Vec::new(), HashMap::new()),
    };
    let follow = follow.then(|| Arc::new(Follow::new(cancel.clone(), Arc::clone(&observer))));
    let run = Arc::new(Run {
        kit: Arc::clone(&begun.kit),
        state: Arc::clone(&begun.state),
        observer: Arc::clone(&observer),
        context: begun.context.clone(),
        pipeline: begun.pipeline,
        source_identity: source_identity.as_ref().cloned().unwrap_or_default(),
        origin: plan.origin.clone(),
        tasks: Arc::new(Semaphore::new(begun.kit.parallelism() as usize)),
        max_retries: plan.resources.max_retries,
        peek_rows,
        resnapshot: plan.on_lost_slot == LostSlotPolicy::Resnapshot,
        follow,
        contracts,
        spent: Mutex::new(Timings::default()),
    });
    let results = match source_identity {
        Err(error) => Err(error),
        Ok(_) => {
            observer.event(RunEvent::Started { run_id: &begun.context.run_id, pipeline: &plan.pipeline, streams: streams.len() });
            tokio::select! {
                biased;
                () = follow::cut(&cancel, run.follow.as_deref()) => Err(cancelled()),
                results = async {
                    replay::go_on(&begun, plan, &observer).await?;
                    move_streams(&run, &streams).await
                } => results,
            }
        }
    };
    let timings = timings(&run);
    finish(begun, timings, plan, results, started).await
}

/// Records how a replay ended, whatever way, and makes the report.
pub(crate) async fn finish_replay_run(
    begun: Begun,
    plan: &PipelinePlan,
    results: Result<Vec<StreamReport>, EngineError>,
    started: Instant,
) -> Result<RunReport, EngineError> {
    let results = results.map(|reports| reports.into_iter().map(|report| (report.stream.clone(), Ok((report, false)))).collect());
    finish(begun, Timings::default(), plan, results, started).await
}

pub(crate) async fn begin(operator: &Operator, plan: &PipelinePlan) -> Result<Begun, EngineError> {
    let kit = load_kit(operator, plan).await?;
    kit.keep_idle();
    let state_plan = plan.state.clone();
    let state = blocking(move || open_state(&state_plan)).await??;
    let run_id = uuid::Uuid::new_v4().to_string();
    let (store, name, kind, id) = (Arc::clone(&state), plan.pipeline.clone(), kit.source_kind().to_owned(), run_id.clone());
    let (guard, pipeline, interrupted) = blocking(move || {
        let record = store.announce_pipeline(&name, &kind, now_ms())?;
        let guard = store.lock_run(record.id, &id)?;
        let interrupted = store.begin_run(&guard, now_ms())?;
        Ok::<_, rapidbyte_state::StateError>((guard, record.id, interrupted))
    })
    .await??;
    for run in &interrupted {
        tracing::info!(run = %run, "an earlier run was interrupted; going on from what it made durable");
    }
    let context = RunContext { pipeline_id: pipeline.to_string(), pipeline: plan.pipeline.clone(), run_id, attempt: 1 };
    Ok(Begun { kit, state, guard, pipeline, context })
}

/// Asks the source what data it leads to, and which streams the plan's patterns stand for: the plan with streams alone.
async fn settle(begun: &Begun, plan: &PipelinePlan, follow: bool) -> Result<(String, PipelinePlan), EngineError> {
    if follow {
        follow::able(&begun.kit)?;
    }
    let identity = settle_identity(begun, plan).await?;
    let selection = retry::again(plan.resources.max_retries, || select::select(&begun.kit, plan)).await?;
    for (pattern, exclusion) in &selection.idle {
        tracing::warn!(pattern = %pattern, exclude = %exclusion, "an exclusion leaves no stream out");
    }
    Ok((identity, selection.plan))
}

/// Asks the source what data it leads to, and holds the pipeline to it.
async fn settle_identity(begun: &Begun, plan: &PipelinePlan) -> Result<String, EngineError> {
    let identity = retry::again(plan.resources.max_retries, || identify(&begun.kit)).await?;
    let (store, name, given) = (Arc::clone(&begun.state), plan.pipeline.clone(), identity.clone());
    blocking(move || store.resolve_pipeline(&name, &given, now_ms())).await??;
    Ok(identity)
}

/// Asks the source what data it leads to.
pub(crate) async fn identify(kit: &Arc<Kit>) -> Result<String, EngineError> {
    let state: Arc<dyn StateAccess> = Arc::new(NoState);
    let fail = |error| EngineError::guest(Stage::Source, error).in_connector(kit.source_name());
    let mut source = kit.open_source(None, &state).await?;
    let identity = source.identity().await.map_err(fail)?;
    kit.give_source(source).await;
    Ok(identity.unwrap_or_else(|| kit.derived_identity()))
}

/// A stream's report, and whether the reader of the output went away.
type Loaded = Result<(StreamReport, bool), EngineError>;
type StreamOutcome = (StreamName, Loaded);

/// Moves every stream, as many at once as tasks may run. One that fails does not stop the others.
async fn move_streams(run: &Arc<Run>, streams: &[StreamContext]) -> Result<Vec<StreamOutcome>, EngineError> {
    let claim = || claim(&run.kit, &run.state, &run.context, run.pipeline, &run.source_identity, streams);
    let claims = retry::again(run.max_retries, claim).await?;
    let width = Arc::new(Semaphore::new(run.kit.parallelism() as usize));
    let mut loads: JoinSet<Vec<(usize, Loaded)>> = JoinSet::new();
    let mut of_changes = Vec::new();
    for (index, (stream, claimed)) in streams.iter().cloned().zip(claims).enumerate() {
        if stream.sync_mode == SyncMode::Cdc {
            of_changes.push((index, stream, claimed));
            continue;
        }
        let (run, width) = (Arc::clone(run), Arc::clone(&width));
        loads.spawn(async move {
            // The semaphore is never closed.
            let _turn = width.acquire_owned().await.ok();
            vec![(index, stream::load(&run, stream, claimed).await)]
        });
    }
    if !of_changes.is_empty() {
        let run = Arc::clone(run);
        loads.spawn(async move { move_changes(&run, of_changes).await });
    }
    let mut outcomes: Vec<Option<Loaded>> = streams.iter().map(|_| None).collect();
    while let Some(joined) = loads.join_next().await {
        let Ok(ended) = joined else { continue };
        for (index, outcome) in ended {
            if let Err(error) = &outcome {
                run.observer.event(RunEvent::Failed { stream: &streams[index].name, error });
            }
            if let Some(slot) = outcomes.get_mut(index) {
                *slot = Some(outcome);
            }
        }
    }
    let lost = || EngineError::internal(Stage::Engine, "stream_lost", "a stream ended without a word");
    Ok(streams
        .iter()
        .zip(outcomes)
        .map(|(stream, outcome)| (stream.name.clone(), outcome.unwrap_or_else(|| Err(lost()))))
        .collect())
}

/// Moves the streams whose changes are read together. A failure of one holds the others up.
async fn move_changes(run: &Arc<Run>, of_changes: Vec<(usize, StreamContext, Claimed)>) -> Vec<(usize, Loaded)> {
    let (places, rest): (Vec<usize>, Vec<_>) =
        of_changes.into_iter().map(|(index, stream, claimed)| (index, (stream, claimed))).unzip();
    let (streams, claims): (Vec<StreamContext>, Vec<Claimed>) = rest.into_iter().unzip();
    match changes::load(run, &streams, claims).await {
        Ok((reports, closed)) => places.into_iter().zip(reports.into_iter().map(|report| Ok((report, closed)))).collect(),
        Err(failed) => {
            let mut error = Some(failed.error);
            let mut one = |at: usize| {
                let own = if at == failed.at { error.take() } else { None };
                Err(own.unwrap_or_else(|| changes::held_up(&streams[failed.at]).in_stream(&streams[at].name)))
            };
            places.into_iter().enumerate().map(|(at, index)| (index, one(at))).collect()
        }
    }
}

/// Records how the run ended, whatever way, and makes the report.
async fn finish(
    begun: Begun,
    timings: Timings,
    plan: &PipelinePlan,
    results: Result<Vec<StreamOutcome>, EngineError>,
    started: Instant,
) -> Result<RunReport, EngineError> {
    let mut report = RunReport {
        run_id: begun.context.run_id.clone(),
        pipeline: plan.pipeline.clone(),
        streams: Vec::new(),
        duration: started.elapsed(),
        timings_ns: timings,
        output_closed: false,
        rows_dropped: 0,
    };
    if results.is_ok() {
        begun.kit.close_idle(0, 0).await;
    }
    let mut recorded = Vec::new();
    // One policy for all streams, those that a pattern stands for among them.
    let mut templates = plan.streams.iter().chain(plan.patterns.iter().map(StreamPattern::template));
    let skips = templates.any(|one| one.policies.on_data_error == DataErrorPolicy::Skip);
    let (mut first_error, mut held_up) = (None, None);
    match results {
        Ok(outcomes) => {
            for (stream, outcome) in outcomes {
                recorded.push(result_of(&stream, &outcome));
                match outcome {
                    Ok((stream, closed)) => {
                        report.output_closed |= closed;
                        report.rows_dropped += if skips { stream.rows_skipped } else { stream.rows_discarded };
                        report.streams.push(stream);
                    }
                    // What was held up names the stream that failed, whose own error comes first.
                    Err(error) if error.code() == changes::HELD_UP => held_up = held_up.or(Some(error)),
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
        }
        Err(error) => first_error = Some(error),
    }
    let first_error = first_error.or(held_up);
    let outcome = RunOutcome {
        status: match &first_error {
            None => RunStatus::Succeeded,
            Some(error) if matches!(error.cause, Cause::Cancelled) => RunStatus::Cancelled,
            Some(_) => RunStatus::Failed,
        },
        error: first_error.as_ref().filter(|error| !matches!(error.cause, Cause::Cancelled)).map(|error| {
            let clean = |text: &str| begun.kit.redactor().redact(text).into_owned();
            RunError {
                category: error.category(),
                code: clean(error.code()),
                message: clean(&error.to_string()),
                hint: error.hint().as_deref().map(clean),
            }
        }),
        totals: totals(&report.streams),
        finished_at_ms: now_ms(),
        duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
        timings_json: serde_json::to_string(&report.timings_ns).ok(),
    };
    let Begun { state, guard, .. } = begun;
    let written = blocking(move || {
        for result in &recorded {
            state.record_stream(&guard, result)?;
        }
        state.finish_run(&guard, &outcome)
    })
    .await
    .and_then(|done| done.map_err(EngineError::from));
    // The first cause is what went wrong with the rows; a record that could not be written comes after it.
    match (first_error, written) {
        (Some(error), _) | (None, Err(error)) => Err(error),
        (None, Ok(())) => Ok(report),
    }
}

fn totals(streams: &[StreamReport]) -> RunTotals {
    let mut totals = RunTotals::default();
    for stream in streams {
        totals.rows_read += stream.rows_read;
        totals.bytes_read += stream.bytes_read;
        totals.rows_written += stream.rows_written;
        totals.bytes_written += stream.bytes_written;
    }
    totals
}

fn result_of(stream: &StreamName, outcome: &Loaded) -> StreamResult {
    match outcome {
        Ok((report, _)) => StreamResult {
            stream: stream.clone(),
            status: StreamStatus::Succeeded,
            rows: report.rows_written,
            bytes: report.bytes_written,
            partitions: report.partitions,
            skipped: report.rows_skipped,
            dead_letters: report.dead_letters,
        },
        Err(_) => StreamResult {
            stream: stream.clone(),
            status: StreamStatus::Failed,
            rows: 0,
            bytes: 0,
            partitions: 0,
            skipped: 0,
            dead_letters: 0,
        },
    }
}

fn timings(run: &Run) -> Timings {
    let mut timings = *run.spent.lock().unwrap_or_else(PoisonError::into_inner);
    let host = run.kit.timings().snapshot();
    timings.vm_setup = host.vm_setup_ns;
    timings.emit_batch = host.emit_batch_ns;
    timings.next_batch = host.next_batch_ns;
    timings.compress = host.compress_ns;
    timings.decompress = host.decompress_ns;
    timings
}
