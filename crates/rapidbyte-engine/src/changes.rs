//! The streams of a run whose changes are read out of one log: their loads first, then one task for the changes of all.
//!
//! Source: `docs/design/protocol.md`, §6.6.

use crate::claim::claim;
use crate::error::{Cause, EngineError, Stage};
use crate::follow;
use crate::keeper::reset_all_command;
use crate::load::{self, CHANGES, ChangesStart, Claimed, Fingerprint, OpenPrint};
use crate::observe::RunEvent;
use crate::report::StreamReport;
use crate::retry;
use crate::shares;
use crate::stream::{Attempt, Load, Run, check_plan};
use crate::task::{self, Member, Share};
use rapidbyte_runtime::{NoState, PartitionPlan, PlanRequest, SourceInstance, StateAccess};
use rapidbyte_types::{ConnectorError, Generation, Partition, RunContext, StreamContext};
use std::sync::Arc;
use std::time::Instant;

/// A failure of all the streams, and the one that it belongs to.
pub(crate) struct Failed {
    pub(crate) error: EngineError,
    /// Its place among the streams.
    pub(crate) at: usize,
}

/// The code of an error that says that changes can't be gone on with.
const SOURCE_CHANGED: &str = "source_changed";

/// The code of [`held_up`].
pub(crate) const HELD_UP: &str = "held_up";

/// The error of the streams that stand still because another one failed.
pub(crate) fn held_up(failed: &StreamContext) -> EngineError {
    let message = format!("its changes are read together with those of `{}`, which failed", failed.name);
    let error = ConnectorError::config(HELD_UP, message).with_hint("mend what that stream's error names, and run again");
    EngineError::new(Stage::Engine, Cause::Connector(error))
}

/// Moves the streams; tries again what did not finish, as the error's kind allows. Says whether the reader of the output went away.
pub(crate) async fn load(
    run: &Arc<Run>,
    streams: &[StreamContext],
    first_claims: Vec<Claimed>,
) -> Result<(Vec<StreamReport>, bool), Failed> {
    let mut claims = first_claims;
    let newest: Vec<u64> = claims.iter().map(|claimed| claimed.newest_generation).collect();
    let mut reports: Vec<StreamReport> = streams.iter().map(|stream| StreamReport::of(&stream.name)).collect();
    let mut planner = None;
    let mut first: Option<String> = None;
    let mut attempt = 1;
    // A tail that has moved on begins to count anew: attempts before that are forgiven.
    let mut forgiven = 0;
    // When the first of those that count failed.
    let mut troubled: Option<Instant> = None;
    let mut anew = Anew::new(run.resnapshot, streams.len());
    loop {
        let group = Group { run, streams, newest: &newest, attempt };
        let ended = group.go(claims, &mut anew, &mut planner, &mut reports).await;
        if run.follow.as_ref().is_some_and(|follow| follow.settle(&mut reports)) {
            forgiven = attempt - 1;
            first = None;
            troubled = None;
            anew.spent = false;
        }
        let mut failed = match ended {
            Ok(output_closed) => return Ok((reports, output_closed)),
            Err(error) => error,
        };
        // A failed claim is a failed attempt too.
        claims = loop {
            let tries = attempt - forgiven;
            if anew.takes(&failed, streams) {
                planner = None;
                run.kit.forget_idle();
                let context = RunContext { attempt, ..run.context.clone() };
                match claim(&run.kit, &run.state, &context, run.pipeline, &run.source_identity, streams).await {
                    Ok(claims) => break claims,
                    Err(error) => failed = error,
                }
            }
            failed.attempts = tries;
            failed.first = first.clone().filter(|first| *first != failed.message());
            first = first.or_else(|| Some(failed.message()));
            let at = failed.stream.as_ref().and_then(|name| streams.iter().position(|stream| stream.name == *name)).unwrap_or(0);
            let trouble = troubled.get_or_insert_with(Instant::now).elapsed();
            let retries = match run.follow {
                Some(_) => follow::retries(run.max_retries, tries, trouble),
                None => run.max_retries,
            };
            let Some(wait) = retry::wait_for(&failed, tries, retries) else { return Err(Failed { error: failed, at }) };
            let wait = if run.follow.is_some() { wait.min(follow::LONGEST_WAIT) } else { wait };
            run.observer.event(RunEvent::Retrying { stream: &streams[at].name, attempt: tries, wait, error: &failed });
            run.kit.forget_idle();
            tokio::time::sleep(wait).await;
            attempt += 1;
            reports.iter_mut().for_each(|report| report.attempts = attempt);
            let context = RunContext { attempt, ..run.context.clone() };
            match claim(&run.kit, &run.state, &context, run.pipeline, &run.source_identity, streams).await {
                Ok(claims) => break claims,
                Err(error) => failed = error,
            }
        };
    }
}

/// Streams whose changes can't be gone on with, and that are to be loaded anew, where the pipeline says so.
struct Anew {
    allowed: bool,
    /// It was done, and no change has become durable since: done again it would come to nothing again.
    spent: bool,
    /// By the stream's place, until its new load is prepared.
    streams: Vec<bool>,
}

impl Anew {
    fn new(allowed: bool, streams: usize) -> Self {
        Self { allowed, spent: false, streams: vec![false; streams] }
    }

    /// Whether streams that can't be gone on with are loaded anew now.
    fn may(&self) -> bool {
        self.allowed && !self.spent
    }

    /// Whether the failure is mended by loading anew: those that were found when they were planned, or all of them, where the log
    /// itself turned out not to go back far enough.
    fn takes(&mut self, failed: &EngineError, streams: &[StreamContext]) -> bool {
        if !self.may() || failed.code() != SOURCE_CHANGED {
            return false;
        }
        self.spent = true;
        if !self.streams.contains(&true) {
            self.streams.fill(true);
        }
        for (stream, _) in streams.iter().zip(&self.streams).filter(|(_, anew)| **anew) {
            tracing::warn!(stream = %stream.name, error = %failed, "its changes can't be gone on with, and it is loaded anew");
        }
        true
    }
}

/// One attempt at all the streams.
struct Group<'a> {
    run: &'a Arc<Run>,
    streams: &'a [StreamContext],
    /// The newest generation of each when this run claimed it first.
    newest: &'a [u64],
    attempt: u32,
}

/// A stream with everything decided.
struct Planned {
    load: Load,
    /// Its load is complete.
    loaded: bool,
}

impl Planned {
    /// Whether changes have been made durable: then the load is visible.
    fn has_changes(&self) -> bool {
        load::newest_receipt(&self.load.receipts, self.load.generation.number, CHANGES).is_some()
    }
}

impl Group<'_> {
    /// The attempt as one stream of it knows it.
    fn one(&self, at: usize) -> Attempt<'_> {
        Attempt { run: self.run, stream: &self.streams[at], attempt: self.attempt, newest_before: self.newest[at] }
    }

    async fn go(
        &self,
        claims: Vec<Claimed>,
        anew: &mut Anew,
        planner: &mut Option<SourceInstance>,
        reports: &mut [StreamReport],
    ) -> Result<bool, EngineError> {
        if let Some(held) = self.streams.iter().find(|stream| self.run.contracts.contains_key(&stream.name)) {
            let message = "a contract would take a change for a row: it can't be used with `sync_mode: cdc`";
            let error =
                ConnectorError::config("unsupported_mode", message).with_hint("leave the contract out, or use another `sync_mode`");
            return Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&held.name));
        }
        let mut starts = Vec::with_capacity(claims.len());
        let mut held = Vec::with_capacity(claims.len());
        for (at, claimed) in claims.into_iter().enumerate() {
            let (start, claimed) =
                self.start(at, claimed, anew.streams[at]).await.map_err(|error| error.in_stream(&self.streams[at].name))?;
            starts.push(start);
            held.push(claimed);
        }
        // A load that begins may make a slot, and then those that are loaded can't be gone on with any more.
        if anew.may() || starts.iter().any(|start| !start.loaded) {
            self.find_lost(planner, &starts, anew).await?;
        }
        let plans = self.plan(planner, &starts).await?;
        let planned = self.prepare(starts, plans, held, reports).await?;
        anew.streams.fill(false);
        let shares = planned.iter().enumerate().flat_map(|(at, planned)| {
            let all = if planned.loaded { Vec::new() } else { self.one(at).shares(&planned.load) };
            all.into_iter().map(move |share| (at, share))
        });
        let ends = shares::move_all(self.run, self.attempt, shares.collect(), reports).await?;
        if ends.output_closed {
            return Ok(true);
        }
        // It must not hold a snapshot while changes are read.
        self.close(planner).await;
        for (at, planned) in planned.iter().enumerate().filter(|(_, planned)| !planned.has_changes()) {
            let Load { generation, epoch, .. } = &planned.load;
            let published = self.one(at).publish(generation.number, *epoch, &generation.snapshot, &mut reports[at]).await;
            published.map_err(|error| error.in_stream(&self.streams[at].name))?;
        }
        self.changes(planned, reports).await
    }

    /// How a stream begins, from what the destination says and what was noted.
    async fn start(&self, at: usize, claimed: Claimed, anew: bool) -> Result<(ChangesStart, Claimed), EngineError> {
        let (one, stream) = (self.one(at), &self.streams[at]);
        // Whatever a full refresh would say of it is not asked here.
        let mut noted = one.noted(&Fingerprint::new(stream, &[])).await?;
        let mut claimed = claimed;
        if anew || one.to_begin_anew().await? {
            (claimed, noted) = load::given_up(claimed, noted);
        }
        let start = load::start_changes(&claimed, noted, &OpenPrint::new(stream)).map_err(|why| one.stuck(why))?;
        Ok((start, claimed))
    }

    /// Plans all streams on one instance: the one of the attempt before, which holds what its plan pinned, or a fresh one.
    async fn plan(&self, held: &mut Option<SourceInstance>, starts: &[ChangesStart]) -> Result<Vec<PartitionPlan>, EngineError> {
        self.plan_from(held, 0, starts).await
    }

    /// The same for some of them, from a place on.
    async fn plan_from(
        &self,
        held: &mut Option<SourceInstance>,
        from: usize,
        starts: &[ChangesStart],
    ) -> Result<Vec<PartitionPlan>, EngineError> {
        if let Some(mut planner) = held.take() {
            match self.plan_on(&mut planner, from, starts).await {
                Ok(plans) => {
                    *held = Some(planner);
                    return Ok(plans);
                }
                Err(error) => tracing::debug!(error = %error, "the planner is replaced"),
            }
        }
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        let mut planner = self.run.kit.open_source(self.streams.first(), &state).await?;
        let plans = self.plan_on(&mut planner, from, starts).await?;
        *held = Some(planner);
        Ok(plans)
    }

    /// Asks for each stream whose load is complete whether its changes can be gone on with, before any is loaded: that may make a
    /// slot which the others would take for theirs. The first of them that can't is the error, and nothing was changed at either end.
    async fn find_lost(
        &self,
        planner: &mut Option<SourceInstance>,
        starts: &[ChangesStart],
        anew: &mut Anew,
    ) -> Result<(), EngineError> {
        let mut first = None;
        for at in (0..starts.len()).filter(|at| starts[*at].loaded) {
            let one = std::slice::from_ref(&starts[at]);
            match self.plan_from(planner, at, one).await {
                Ok(_) => {}
                Err(error) if error.code() == SOURCE_CHANGED => {
                    anew.streams[at] = anew.may();
                    first = first.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        first.map_or(Ok(()), Err)
    }

    async fn plan_on(
        &self,
        planner: &mut SourceInstance,
        from: usize,
        starts: &[ChangesStart],
    ) -> Result<Vec<PartitionPlan>, EngineError> {
        let mut plans = Vec::with_capacity(starts.len());
        for (at, (stream, start)) in self.streams.iter().skip(from).zip(starts).enumerate() {
            let one = self.one(from + at);
            let request = PlanRequest {
                run: one.context(),
                stream: stream.clone(),
                // None is left to be read.
                max_partitions: if start.loaded { 0 } else { self.run.kit.parallelism() },
                pinned: start.pinned.clone(),
            };
            let plan = planner.plan_partitions(request).await.map_err(|error| of_source(&one, one.source_error(error)))?;
            check_plan(&plan).map_err(|error| error.in_connector(self.run.kit.source_name()).in_stream(&stream.name))?;
            if start.loaded && start.pinned.as_ref().is_none_or(|pinned| pinned.snapshot != plan.snapshot) {
                let error = ConnectorError::data(SOURCE_CHANGED, "the changes since the stream's load can't be read any more");
                let error = EngineError::new(Stage::Source, Cause::Connector(error)).in_connector(self.run.kit.source_name());
                return Err(of_source(&one, error));
            }
            plans.push(plan);
        }
        Ok(plans)
    }

    async fn prepare(
        &self,
        starts: Vec<ChangesStart>,
        plans: Vec<PartitionPlan>,
        claims: Vec<Claimed>,
        reports: &mut [StreamReport],
    ) -> Result<Vec<Planned>, EngineError> {
        // The newest token speaks of all streams.
        let token = plans.last().map(|plan| plan.token.clone()).unwrap_or_default();
        let mut planned = Vec::with_capacity(plans.len());
        for (at, ((start, plan), claimed)) in starts.into_iter().zip(plans).zip(claims).enumerate() {
            let stream = &self.streams[at];
            let pinned = start.pinned.filter(|pinned| pinned.snapshot == plan.snapshot);
            let resumed = pinned.is_some();
            let load = Load {
                generation: Generation {
                    number: pinned.map_or(start.next, |pinned| pinned.number),
                    snapshot: OpenPrint::new(stream).stamp(&plan.snapshot),
                    partitions: plan.partitions,
                },
                token: token.clone(),
                epoch: claimed.epoch,
                receipts: claimed.receipts,
            };
            let one = self.one(at);
            one.prepare(&load).await.map_err(|error| error.in_stream(&stream.name))?;
            let report = &mut reports[at];
            report.partitions = load.generation.partitions.len() as u64 + 1;
            report.location = claimed.location;
            report.resumed |= resumed && !start.loaded;
            let left = if start.loaded { 1 } else { one.shares(&load).len() + 1 };
            self.run.observer.event(RunEvent::Planned { stream: &stream.name, partitions: left, resumed: report.resumed });
            planned.push(Planned { load, loaded: start.loaded });
        }
        Ok(planned)
    }

    /// Moves the changes of all streams, from the least of their receipts on.
    async fn changes(&self, planned: Vec<Planned>, reports: &mut [StreamReport]) -> Result<bool, EngineError> {
        let run = self.run;
        // The cut of a load made in this run lies behind every receipt that was there before it.
        let places = planned.iter().map(|planned| (planned.load.receipts.as_slice(), planned.load.generation.number));
        let resume = load::least_position(places).map_err(|kind| {
            let message = format!("the changes of several streams can't be gone on with from positions of type `{kind}`");
            EngineError::internal(Stage::Source, "protocol_violation", message).in_connector(run.kit.source_name())
        })?;
        let member = |(stream, Planned { load, .. }): (&StreamContext, &Planned)| Member {
            stream: stream.clone(),
            epoch: load.epoch,
            generation: load.generation.number,
            receipt: load::newest_receipt(&load.receipts, load.generation.number, CHANGES).cloned(),
        };
        let share = Share {
            run: self.one(0).context(),
            pipeline: run.pipeline,
            members: self.streams.iter().zip(&planned).map(member).collect(),
            partition: Partition { id: CHANGES.to_owned(), spec: Vec::new() },
            token: planned.first().map(|planned| planned.load.token.clone()).unwrap_or_default(),
            resume,
            follow: run.follow.clone(),
        };
        // The one task that is left may go on for long. A source that follows is opened for it.
        run.kit.close_idle(usize::from(run.follow.is_none()), 1).await;
        let permit = run.tasks.acquire().await;
        let _permit = permit.map_err(|_| EngineError::internal(Stage::Engine, "tasks_closed", "the run has ended"))?;
        let observer = run.follow.as_ref().map_or_else(|| Arc::clone(&run.observer), |follow| follow.observer());
        if let Some(follow) = &run.follow {
            follow.set_under_way(true);
            run.observer.event(RunEvent::Following);
        }
        let moved = task::run(&run.kit, share, Arc::clone(&run.state), observer, None, 0).await;
        if let (Some(follow), Err(_)) = (&run.follow, &moved) {
            follow.set_under_way(false);
        }
        let moved = moved.map_err(|mut error| {
            tell_reset(&reset_all_command(&run.origin), &mut error);
            error
        })?;
        run.spend(&moved);
        if run.follow.is_some() {
            // What was seen to become durable counts, and is added where the attempt ends.
            return Ok(moved.output_closed);
        }
        for (at, report) in reports.iter_mut().enumerate() {
            report.add_of(&moved, at);
            report.rows_published = report.rows_written;
        }
        Ok(moved.output_closed)
    }

    /// Ends the planner, and with it whatever it pins at the source.
    async fn close(&self, planner: &mut Option<SourceInstance>) {
        let Some(planner) = planner.take() else { return };
        if let Err(error) = planner.close().await {
            tracing::warn!(error = %error, "the source did not close cleanly");
        }
    }
}

/// Names the stream, and the way out where the log can't be gone on with.
fn of_source(one: &Attempt<'_>, error: EngineError) -> EngineError {
    let mut error = error.in_stream(&one.stream.name);
    tell_reset(&one.reset_command(), &mut error);
    error
}

/// Adds the command that loads anew what can't be gone on with.
fn tell_reset(command: &str, error: &mut EngineError) {
    if let Cause::Connector(error) = &mut error.cause
        && error.code == SOURCE_CHANGED
    {
        let own = error.hint.take().map_or_else(String::new, |hint| format!("{hint}: "));
        error.hint = Some(format!("{own}`{command}`, then run again"));
    }
}
