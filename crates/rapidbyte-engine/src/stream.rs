//! One stream of a run: from its claim to its publication, with retries.

use crate::claim::claim;
use crate::error::{Cause, EngineError, Stage};
use crate::follow::Follow;
use crate::keeper::reset_command;
use crate::kit::Kit;
use crate::letters;
use crate::load::{self, Claimed, Fingerprint, Noted, OpenPrint, RESERVED_PREFIX, Start};
use crate::observe::{Observer, RunEvent};
use crate::report::{StreamReport, Timings};
use crate::retry;
use crate::shares::{self, Ends};
use crate::task::{Member, Moved, Share, blocking};
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::{NoState, PartitionPlan, PlanRequest, PrepareRequest, PublishRequest, SourceInstance, StateAccess, mark};
use rapidbyte_state::{GenerationRecord, GenerationState, PipelineId, StateStore};
use rapidbyte_types::{
    CommitState, ConnectorError, ErrorCategory, Generation, Partition, Position, PublishSummary, Receipt, RunContext,
    StreamContext, StreamName, SyncMode,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The snapshot of a generation that stands for a load given up. No fingerprint is in front of it, so no run goes on with it.
const GIVEN_UP: &str = "_rb_given_up";

/// What every stream of a run shares.
pub(crate) struct Run {
    pub(crate) kit: Arc<Kit>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) context: RunContext,
    pub(crate) pipeline: PipelineId,
    pub(crate) source_identity: String,
    /// The pipeline file as it was named, for hints.
    pub(crate) origin: PathBuf,
    /// One permit for each task that may run.
    pub(crate) tasks: Arc<Semaphore>,
    pub(crate) max_retries: u32,
    pub(crate) peek_rows: usize,
    /// Streams whose changes can't be gone on with are loaded anew.
    pub(crate) resnapshot: bool,
    /// Its changes are followed until it is asked to stop.
    pub(crate) follow: Option<Arc<Follow>>,
    /// What streams are held to, by their name.
    pub(crate) contracts: HashMap<StreamName, Arc<Contract>>,
    /// What connectors spent, summed as tasks end.
    pub(crate) spent: Mutex<Timings>,
}

/// Moves a stream; tries again what did not finish, as the error's kind allows.
pub(crate) async fn load(run: &Arc<Run>, stream: StreamContext, first_claim: Claimed) -> Result<(StreamReport, bool), EngineError> {
    let mut claimed = first_claim;
    let newest_before = claimed.newest_generation;
    let mut first: Option<String> = None;
    // Of all attempts, if it holds a snapshot: a retry goes on at that.
    let mut planner = None;
    let mut report = StreamReport::of(&stream.name);
    loop {
        let attempt = report.attempts;
        let attempt = Attempt { run, stream: &stream, attempt, newest_before };
        let error = match attempt.go(claimed, &mut planner, &mut report).await {
            Ok(output_closed) => return Ok((report, output_closed)),
            Err(error) => error.in_stream(&stream.name),
        };
        let mut failed = error;
        // A failed claim is a failed attempt too: the loop goes on until one succeeds or no retry makes sense.
        claimed = loop {
            failed.attempts = report.attempts;
            failed.first = first.clone().filter(|first| *first != failed.message());
            first = first.or_else(|| Some(failed.message()));
            let Some(wait) = retry::wait_for(&failed, report.attempts, run.max_retries) else { return Err(failed) };
            run.observer.event(RunEvent::Retrying { stream: &stream.name, attempt: report.attempts, wait, error: &failed });
            run.kit.forget_idle();
            tokio::time::sleep(wait).await;
            report.attempts += 1;
            let context = RunContext { attempt: report.attempts, ..run.context.clone() };
            let again =
                claim(&run.kit, &run.state, &context, run.pipeline, &run.source_identity, std::slice::from_ref(&stream)).await;
            match again.map(|mut claims| claims.pop()) {
                Ok(Some(claimed)) => break claimed,
                Ok(None) => failed = EngineError::internal(Stage::Engine, "claim_empty", "a claim of one stream gave none"),
                Err(error) => failed = error.in_stream(&stream.name),
            }
        };
    }
}

impl Run {
    /// Adds what the connectors of a share spent.
    pub(crate) fn spend(&self, moved: &Moved) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.add_read(&moved.read.perf);
        spent.add_write(&moved.write.perf);
    }
}

pub(crate) struct Attempt<'a> {
    pub(crate) run: &'a Arc<Run>,
    pub(crate) stream: &'a StreamContext,
    pub(crate) attempt: u32,
    /// The newest generation when this run claimed the stream first.
    pub(crate) newest_before: u64,
}

/// A load with everything decided.
pub(crate) struct Load {
    pub(crate) generation: Generation,
    pub(crate) token: Vec<u8>,
    pub(crate) epoch: u64,
    pub(crate) receipts: Vec<Receipt>,
}

impl Attempt<'_> {
    pub(crate) fn context(&self) -> RunContext {
        RunContext { attempt: self.attempt, ..self.run.context.clone() }
    }

    /// What has a part in the rows: the connectors, and the contract.
    fn prints(&self) -> Vec<(String, String)> {
        let contract = self.run.contracts.get(&self.stream.name).map(|contract| ("contract".to_owned(), contract.print()));
        self.run.kit.prints().into_iter().chain(contract).collect()
    }

    pub(crate) fn source_error(&self, error: rapidbyte_runtime::GuestError) -> EngineError {
        EngineError::guest(Stage::Source, error).in_connector(self.run.kit.source_name())
    }

    fn destination_error(&self, error: rapidbyte_runtime::GuestError) -> EngineError {
        EngineError::guest(Stage::Destination, error).in_connector(self.run.kit.destination_name())
    }

    /// One attempt; says whether the reader of the output went away.
    async fn go(
        &self,
        claimed: Claimed,
        planner: &mut Option<SourceInstance>,
        report: &mut StreamReport,
    ) -> Result<bool, EngineError> {
        let run = self.run;
        let fingerprint = Fingerprint::new(self.stream, &self.prints());
        let mut noted = self.noted(&fingerprint).await?;
        let mut claimed = claimed;
        let overtaken = load::loaded_by_another(&claimed, self.newest_before, noted);
        if self.to_begin_anew().await? {
            (claimed, noted) = load::given_up(claimed, noted);
        }
        if self.open_ended() {
            return self.go_on_open_ended(claimed, noted, planner, report).await;
        }
        if claimed.generation.as_ref().is_some_and(load::is_open_ended) {
            return Err(self.stuck(load::Stuck::Incremental));
        }
        if overtaken {
            let message = format!("another run has claimed the stream `{}` and loaded it", self.stream.name);
            let error = ConnectorError::new(ErrorCategory::Permission, "fenced", message)
                .with_hint("nothing needs to be done: what that run published is there, and this one added nothing");
            return Err(EngineError::new(Stage::Engine, Cause::Connector(error)));
        }
        let start = load::start(&claimed, noted, &fingerprint);
        match start {
            Start::RecordEnd { generation } | Start::Publish { generation } => {
                report.resumed = true;
                let partitions = claimed.generation.as_ref().map_or(0, |generation| generation.partitions.len());
                report.partitions = partitions as u64;
                run.observer.event(RunEvent::Planned { stream: &self.stream.name, partitions: 0, resumed: true });
                let snapshot = claimed.generation.map_or_else(String::new, |generation| generation.snapshot);
                if let Start::Publish { .. } = start {
                    // Another state store may have prepared it: the note must stand before the rows are visible.
                    self.note(generation, claimed.epoch, &snapshot, GenerationState::Open).await?;
                }
                self.publish(generation, claimed.epoch, &snapshot, report).await?;
                Ok(false)
            }
            Start::Plan { pinned, next } => self.plan_and_move(claimed, (pinned, next), &fingerprint, planner, report).await,
        }
    }

    pub(crate) async fn noted(&self, fingerprint: &Fingerprint) -> Result<Option<Noted>, EngineError> {
        let (store, pipeline, name) = (Arc::clone(&self.run.state), self.run.pipeline, self.stream.name.clone());
        let generations = blocking(move || store.generations(pipeline, &name)).await??;
        Ok(generations.first().map(|of| Noted {
            generation: of.number,
            open: of.state == GenerationState::Open,
            same_way: fingerprint.strip(&of.snapshot).is_some(),
        }))
    }

    /// Whether somebody has asked for that. The note goes with the record of the generation that begins.
    pub(crate) async fn to_begin_anew(&self) -> Result<bool, EngineError> {
        let (store, pipeline) = (Arc::clone(&self.run.state), self.run.pipeline);
        let resets = blocking(move || store.resets(pipeline)).await??;
        Ok(resets.iter().any(|reset| reset.stream == self.stream.name))
    }

    fn open_ended(&self) -> bool {
        self.stream.sync_mode == SyncMode::Incremental
    }

    pub(crate) fn reset_command(&self) -> String {
        reset_command(&self.run.origin, &self.stream.name)
    }

    /// An open-ended load is never discarded without a word from the user.
    pub(crate) fn stuck(&self, why: load::Stuck) -> EngineError {
        let message = match why {
            load::Stuck::Incremental => {
                "the stream's load goes on with each run so far, and can't become a full refresh on its way"
            }
            load::Stuck::OtherWay => {
                "the stream's load was begun with another `sync_mode`, `write_mode`, key, target, `filter` or other `columns`"
            }
        };
        let error = ConnectorError::config("mode_changed", message)
            .with_hint(format!("say it as it was; or load the stream from the start after `{}`", self.reset_command()));
        EngineError::new(Stage::Plan, Cause::Connector(error))
    }

    /// Where a load can't be gone on with, the command that begins it anew.
    fn with_way_back(&self, mut error: EngineError) -> EngineError {
        if let Cause::Connector(cause) = &mut error.cause
            && matches!(cause.code.as_str(), "transforms_changed" | "source_changed")
        {
            let hint = cause.hint.take().map_or_else(String::new, |hint| format!("{hint}; "));
            cause.hint = Some(format!("{hint}or load the stream from the start after `{}`", self.reset_command()));
        }
        error
    }

    /// Moves what is new. There is nothing to publish: each commit is visible.
    async fn go_on_open_ended(
        &self,
        claimed: Claimed,
        noted: Option<Noted>,
        planner: &mut Option<SourceInstance>,
        report: &mut StreamReport,
    ) -> Result<bool, EngineError> {
        let run = self.run;
        let print = OpenPrint::new(self.stream);
        let (pinned, next) = load::start_open_ended(&claimed, noted, &print).map_err(|why| self.stuck(why))?;
        report.location.clone_from(&claimed.location);
        let plan = self.plan(pinned.clone(), planner).await?;
        if let Some(pinned) = &pinned
            && pinned.snapshot != plan.snapshot
        {
            let message = "the table, its cursor column, its key or one of their types is not what the load was begun with";
            let error = ConnectorError::data("source_changed", message).with_hint(format!(
                "set `cursor_field` back if it was changed; or load the stream from the start after `{}`",
                self.reset_command()
            ));
            return Err(EngineError::new(Stage::Source, Cause::Connector(error)).in_connector(run.kit.source_name()));
        }
        if plan.partitions.len() != 1 {
            let message = format!("an incremental stream has one partition, and the plan has {}", plan.partitions.len());
            return Err(EngineError::internal(Stage::Source, "protocol_violation", message).in_connector(run.kit.source_name()));
        }
        let load = Load {
            generation: Generation {
                number: pinned.map_or(next, |pinned| pinned.number),
                snapshot: print.stamp(&plan.snapshot),
                partitions: plan.partitions,
            },
            token: plan.token,
            epoch: claimed.epoch,
            receipts: claimed.receipts,
        };
        // The note first: each commit is visible, and a load that was to begin anew must not do so twice.
        self.prepare(&load).await?;
        let shares = self.shares(&load);
        report.partitions = shares.len() as u64;
        run.observer.event(RunEvent::Planned { stream: &self.stream.name, partitions: shares.len(), resumed: false });
        let ends = self.move_shares(shares, report).await.map_err(|error| self.with_way_back(error))?;
        report.rows_published = report.rows_written;
        if ends.output_closed {
            return Ok(true);
        }
        self.confirm(planner, common(&ends, &load)).await?;
        Ok(false)
    }

    /// Asks the source how the stream is read, on the planner of the attempt before if there was one: it holds what the plan pins.
    /// After an error it is not asked again. What it was connected to may be what failed, so a fresh one is asked in its place.
    async fn plan(&self, pinned: Option<Generation>, held: &mut Option<SourceInstance>) -> Result<PartitionPlan, EngineError> {
        let run = self.run;
        // A transform with a state has to see all rows in one order.
        let max_partitions = if run.kit.stateful().is_some() { 1 } else { run.kit.parallelism() };
        let request = || PlanRequest { run: self.context(), stream: self.stream.clone(), max_partitions, pinned: pinned.clone() };
        let mut planned = None;
        if let Some(mut planner) = held.take() {
            match planner.plan_partitions(request()).await {
                Ok(plan) => planned = Some((planner, plan)),
                Err(error) => tracing::debug!(stream = %self.stream.name, error = %error, "the planner is replaced"),
            }
        }
        let (planner, plan) = match planned {
            Some(planned) => planned,
            None => {
                let state: Arc<dyn StateAccess> = Arc::new(NoState);
                let mut planner = run.kit.open_source(Some(self.stream), &state).await?;
                let plan = planner.plan_partitions(request()).await.map_err(|error| self.source_error(error))?;
                (planner, plan)
            }
        };
        check_plan(&plan).map_err(|error| error.in_connector(run.kit.source_name()))?;
        if let (Some(transform), true) = (run.kit.stateful(), plan.partitions.len() > 1) {
            let message = format!(
                "`{transform}` keeps a state and needs the stream as one partition, and the plan has {}",
                plan.partitions.len()
            );
            return Err(EngineError::internal(Stage::Source, "protocol_violation", message).in_connector(run.kit.source_name()));
        }
        if plan.token.is_empty() {
            // It pins nothing that a reader could need.
            run.kit.give_source(planner).await;
        } else {
            *held = Some(planner);
        }
        Ok(plan)
    }

    async fn plan_and_move(
        &self,
        claimed: Claimed,
        (pinned, next): (Option<Generation>, u64),
        fingerprint: &Fingerprint,
        planner: &mut Option<SourceInstance>,
        report: &mut StreamReport,
    ) -> Result<bool, EngineError> {
        let run = self.run;
        let plan = self.plan(pinned.clone(), planner).await?;
        let resumed = pinned.as_ref().filter(|pinned| pinned.snapshot == plan.snapshot);
        let number = resumed.map_or(next, |pinned| pinned.number);
        let load = Load {
            generation: Generation { number, snapshot: fingerprint.stamp(&plan.snapshot), partitions: plan.partitions },
            token: plan.token,
            epoch: claimed.epoch,
            receipts: claimed.receipts,
        };
        report.resumed |= resumed.is_some();
        self.open_generation(&load).await?;

        let shares = self.shares(&load);
        report.partitions = load.generation.partitions.len() as u64;
        run.observer.event(RunEvent::Planned { stream: &self.stream.name, partitions: shares.len(), resumed: resumed.is_some() });
        let ends = self.move_noted(&load, shares, report).await?;
        if ends.output_closed {
            return Ok(true);
        }
        let position = common(&ends, &load);
        if position.is_none() {
            // All of the snapshot is durable, and to publish a large table takes long: the source's server need not wait for it.
            self.close(planner).await;
        }
        self.publish(number, load.epoch, &load.generation.snapshot, report).await?;
        if let Err(error) = self.confirm(planner, position).await {
            // The load is finished: to try all of it again would be another load, which `append` would add.
            tracing::warn!(stream = %self.stream.name, error = %error, "the source could not be told that its rows are durable");
        }
        Ok(false)
    }

    pub(crate) async fn prepare(&self, load: &Load) -> Result<(), EngineError> {
        self.open_generation(load).await?;
        self.note_open(load).await
    }

    /// Opens the load's generation at the destination, or goes on with it.
    async fn open_generation(&self, load: &Load) -> Result<(), EngineError> {
        let run = self.run;
        let mut controller = run.kit.open_controller().await?;
        let request = PrepareRequest {
            run: self.context(),
            context: self.stream.clone(),
            epoch: load.epoch,
            generation: load.generation.clone(),
        };
        mark("engine.prepare.before");
        controller.prepare(request).await.map_err(|error| self.destination_error(error))?;
        mark("engine.prepare.after");
        run.kit.give_destination(controller).await;
        Ok(())
    }

    async fn note_open(&self, load: &Load) -> Result<(), EngineError> {
        self.note(load.generation.number, load.epoch, &load.generation.snapshot, GenerationState::Open).await
    }

    async fn note(&self, number: u64, epoch: u64, snapshot: &str, state: GenerationState) -> Result<(), EngineError> {
        let (store, pipeline, name) = (Arc::clone(&self.run.state), self.run.pipeline, self.stream.name.clone());
        let record = GenerationRecord { number, snapshot: snapshot.to_owned(), state };
        blocking(move || store.record_generation(pipeline, &name, epoch, &record)).await??;
        Ok(())
    }

    /// Partitions without their last receipt.
    pub(crate) fn shares(&self, load: &Load) -> Vec<Share> {
        let number = load.generation.number;
        let share = |partition: &Partition| {
            let receipt = load::newest_receipt(&load.receipts, number, &partition.id).cloned();
            Share {
                run: self.context(),
                pipeline: self.run.pipeline,
                resume: receipt.as_ref().and_then(|receipt| receipt.position.clone()),
                members: vec![Member { stream: self.stream.clone(), epoch: load.epoch, generation: number, receipt }],
                partition: partition.clone(),
                token: load.token.clone(),
                follow: None,
            }
        };
        let unfinished = |share: &Share| !share.lead().receipt.as_ref().is_some_and(|receipt| receipt.last);
        load.generation.partitions.iter().map(share).filter(unfinished).collect()
    }

    async fn move_shares(&self, shares: Vec<Share>, report: &mut StreamReport) -> Result<Ends, EngineError> {
        let shares = shares.into_iter().map(|share| (0, share)).collect();
        shares::move_all(self.run, self.attempt, shares, std::slice::from_mut(report)).await
    }

    /// Moves the shares of a full refresh just opened, and meanwhile notes that it is open: what is synced to disk for that need not
    /// hold rows up, which nobody sees yet. The note stands when this ends well, so before anything is published.
    async fn move_noted(&self, load: &Load, shares: Vec<Share>, report: &mut StreamReport) -> Result<Ends, EngineError> {
        let (moved, noted) = tokio::join!(self.move_shares(shares, report), self.note_open(load));
        let moved = moved?;
        noted?;
        Ok(moved)
    }

    pub(crate) async fn publish(
        &self,
        generation: u64,
        epoch: u64,
        snapshot: &str,
        report: &mut StreamReport,
    ) -> Result<(), EngineError> {
        let run = self.run;
        let mut controller = run.kit.open_controller().await?;
        let request = PublishRequest { run: self.context(), context: self.stream.clone(), epoch, generation };
        mark("engine.publish.before");
        let published = controller.publish(request).await.map_err(|error| self.destination_error(error));
        let (PublishSummary { rows, records_skipped, location }, letters) = match published {
            Ok(published) => published,
            Err(error) => {
                self.give_up_if_spoiled(&error, generation, epoch).await;
                return Err(error);
            }
        };
        mark("engine.publish.after");
        run.kit.give_destination(controller).await;
        let place = letters::Place {
            pipeline: run.pipeline,
            stream: self.stream,
            run_id: &run.context.run_id,
            generation,
            partition: letters::PUBLISH_PARTITION,
            seq: letters::PUBLISH_SEQ,
        };
        report.dead_letters += letters::keep(&run.state, &place, letters).await?;
        report.rows_skipped += records_skipped;
        let snapshot = if snapshot.is_empty() { self.noted_snapshot(generation).await? } else { snapshot.to_owned() };
        // The load of a stream of changes is visible now, and goes on.
        let state = if self.stream.sync_mode == SyncMode::Cdc { GenerationState::Open } else { GenerationState::Published };
        self.note(generation, epoch, &snapshot, state).await?;
        mark("engine.published.noted");
        run.observer.event(RunEvent::Published { stream: &self.stream.name, rows, location: &location });
        report.rows_published = rows;
        report.location = location;
        Ok(())
    }

    /// A complete load whose rows the destination refuses would be offered to it again by every run to come. Its generation is
    /// replaced by one that nothing can go on with, so that the next run reads what has been mended at the source.
    async fn give_up_if_spoiled(&self, error: &EngineError, generation: u64, epoch: u64) {
        let spoiled = matches!(&error.cause, Cause::Connector(error)
            if matches!(error.category, ErrorCategory::Data | ErrorCategory::Schema)
                && error.commit_state == CommitState::BeforeCommit
                && !error.retryable);
        if !spoiled {
            return;
        }
        let empty = Load {
            generation: Generation {
                number: generation + 1,
                snapshot: GIVEN_UP.to_owned(),
                partitions: vec![Partition { id: "0".into(), spec: Vec::new() }],
            },
            token: Vec::new(),
            epoch,
            receipts: Vec::new(),
        };
        if let Err(again) = self.prepare(&empty).await {
            tracing::warn!(stream = %self.stream.name, error = %again, "the load that can't be published could not be given up");
        }
    }

    async fn noted_snapshot(&self, generation: u64) -> Result<String, EngineError> {
        let (store, pipeline, name) = (Arc::clone(&self.run.state), self.run.pipeline, self.stream.name.clone());
        let generations = blocking(move || store.generations(pipeline, &name)).await??;
        Ok(generations.into_iter().find(|of| of.number == generation).map(|of| of.snapshot).unwrap_or_default())
    }

    /// Tells the source what is durable, and lets it go. The points stand around the step also where there is no position to tell,
    /// as after the full refresh of a table: a process that dies there must leave a finished load all the same.
    async fn confirm(&self, planner: &mut Option<SourceInstance>, position: Option<Position>) -> Result<(), EngineError> {
        mark("engine.confirm.before");
        if let Some(position) = position {
            match planner.as_mut() {
                Some(planner) => planner.confirm(position).await.map_err(|error| self.source_error(error))?,
                None => self.confirm_on_any(position).await?,
            }
        }
        mark("engine.confirm.after");
        self.close(planner).await;
        Ok(())
    }

    async fn confirm_on_any(&self, position: Position) -> Result<(), EngineError> {
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        let mut source = self.run.kit.open_source(Some(self.stream), &state).await?;
        source.confirm(position).await.map_err(|error| self.source_error(error))?;
        self.run.kit.give_source(source).await;
        Ok(())
    }

    /// Ends a planner that holds something, and with it whatever it pins at the source.
    async fn close(&self, planner: &mut Option<SourceInstance>) {
        let Some(planner) = planner.take() else { return };
        if let Err(error) = planner.close().await {
            // The rows are durable; a source that can't say goodbye takes nothing away from that.
            tracing::warn!(stream = %self.stream.name, error = %error, "the source did not close cleanly");
        }
    }
}

/// What may be let go at the source, where the shares have one position in common.
fn common(ends: &Ends, load: &Load) -> Option<Position> {
    let one = load.generation.partitions.len() == 1;
    ends.position.clone().filter(|_| one)
}

/// Refuses a plan without partitions, or with one of the host's own.
pub(crate) fn check_plan(plan: &PartitionPlan) -> Result<(), EngineError> {
    if !plan.partitions.is_empty() && plan.partitions.iter().all(|partition| !partition.id.starts_with(RESERVED_PREFIX)) {
        return Ok(());
    }
    let message = format!("the plan has no partitions, or one whose id begins with `{RESERVED_PREFIX}`");
    Err(EngineError::internal(Stage::Source, "protocol_violation", message))
}
