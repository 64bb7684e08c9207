//! The interface every backend implements.

use crate::checkpoint::{Checkpoint, DurableReceipt, Mirrored};
use crate::dead_letter::{DeadLetterEntry, DeadLetterSummary, ReplayRecord};
use crate::error::StateError;
use crate::generation::GenerationRecord;
use crate::key_value::KeyValueScope;
use crate::pipeline::{PipelineId, PipelineRecord};
use crate::portable::{ImportReport, StateExport};
use crate::reset::ResetRecord;
use crate::run::{RunGuard, RunOutcome, RunRecord, StreamResult};
use rapidbyte_types::StreamName;
use std::fmt;

/// Where pipelines, runs and progress are remembered.
///
/// Each call is one transaction: it happened whole or not at all, and once it returns `Ok` it survives the death of the process
/// and, except for those below, a power cut. Calls block, at most for some seconds while another process writes.
///
/// Some calls write what the destination holds anyway, or what the end of the run settles: [`announce_pipeline`],
/// [`resolve_pipeline`], [`begin_run`], [`record_stream`], [`advance_epoch`], [`mirror`], and [`record_generation`] of one that is
/// published. They survive a power cut once any later call that is not among them has written something; before it, none that
/// came after them is there without them.
///
/// [`announce_pipeline`]: Self::announce_pipeline
/// [`resolve_pipeline`]: Self::resolve_pipeline
/// [`begin_run`]: Self::begin_run
/// [`record_stream`]: Self::record_stream
/// [`advance_epoch`]: Self::advance_epoch
/// [`mirror`]: Self::mirror
/// [`record_generation`]: Self::record_generation
///
/// Any call may fail with `Corrupt`, `ReadOnly`, `Full`, `Locked`, `Io` or `Sql`; other kinds are named per call. Names and
/// other text above their bounds are `Limit`, a pipeline the store does not know is `NotFound`.
///
/// A run goes: [`resolve_pipeline`](Self::resolve_pipeline), [`lock_run`](Self::lock_run), [`begin_run`](Self::begin_run);
/// per stream [`epoch`](Self::epoch), the claim at the destination, [`advance_epoch`](Self::advance_epoch),
/// [`record_generation`](Self::record_generation), [`mirror`](Self::mirror) at each acknowledgement,
/// [`record_stream`](Self::record_stream); at the end [`finish_run`](Self::finish_run).
pub trait StateStore: Send + Sync + fmt::Debug {
    /// Where the store is, for people.
    fn location(&self) -> String;

    /// Proves that the store works: looks it over, then writes, reads back and deletes a probe.
    fn check(&self) -> Result<(), StateError>;

    // ---- pipelines ----

    /// The pipeline of this name, made on first sight without knowing its source's data yet: a run that can't reach its source is
    /// a run all the same. Its id is derived from the name and the `source_kind` (the connector), so that it is the same on every
    /// machine and after this store was lost.
    fn announce_pipeline(&self, name: &str, source_kind: &str, now_ms: u64) -> Result<PipelineRecord, StateError>;

    /// The pipeline of this name, with its source's data named: made on first sight, completed if it was only announced.
    ///
    /// # Errors
    ///
    /// `IdentityMismatch` if the pipeline began with another source.
    fn resolve_pipeline(&self, name: &str, source_identity: &str, now_ms: u64) -> Result<PipelineRecord, StateError>;

    /// The pipeline of this name, if there is one.
    fn find_pipeline(&self, name: &str) -> Result<Option<PipelineRecord>, StateError>;

    /// Every pipeline, by name.
    fn pipelines(&self) -> Result<Vec<PipelineRecord>, StateError>;

    // ---- runs ----

    /// Takes the right to run a pipeline until the guard is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// `Locked` while another run holds it, in this process or another; the message says which.
    fn lock_run(&self, pipeline: PipelineId, run_id: &str) -> Result<RunGuard, StateError>;

    /// Records the guard's run as running. Runs of the pipeline still marked so have no holder any more: they become
    /// `interrupted`, and their ids are returned, oldest first.
    ///
    /// # Errors
    ///
    /// `Conflict` if a run of this id has been recorded before.
    fn begin_run(&self, guard: &RunGuard, now_ms: u64) -> Result<Vec<String>, StateError>;

    /// Records how the guard's run ended.
    ///
    /// # Errors
    ///
    /// `NotFound` if it never began, `Conflict` if it has ended already, `Limit` for an outcome of `running`.
    fn finish_run(&self, guard: &RunGuard, outcome: &RunOutcome) -> Result<(), StateError>;

    /// Records what the guard's run did for a stream, in place of what was recorded for it before.
    ///
    /// # Errors
    ///
    /// `NotFound` if the run never began.
    fn record_stream(&self, guard: &RunGuard, result: &StreamResult) -> Result<(), StateError>;

    /// The newest runs of one pipeline or of all, newest first.
    fn recent_runs(&self, pipeline: Option<PipelineId>, limit: u32) -> Result<Vec<RunRecord>, StateError>;

    /// One run.
    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StateError>;

    /// What a run did for its streams, by name.
    fn stream_results(&self, run_id: &str) -> Result<Vec<StreamResult>, StateError>;

    // ---- ownership ----

    /// The streams that have been claimed for a pipeline, in order.
    fn streams(&self, pipeline: PipelineId) -> Result<Vec<StreamName>, StateError>;

    /// The newest epoch known for a stream, 0 if none.
    fn epoch(&self, pipeline: PipelineId, stream: &StreamName) -> Result<u64, StateError>;

    /// Moves a stream's epoch from `expected` (0 = none yet) to `next`, which must be greater.
    ///
    /// # Errors
    ///
    /// `Fenced` if the epoch is not `expected` any more: someone else has claimed the stream. `Limit` if `next` is not beyond
    /// `expected`.
    fn advance_epoch(&self, pipeline: PipelineId, stream: &StreamName, expected: u64, next: u64) -> Result<(), StateError>;

    // ---- progress ----

    /// Copies a durable receipt. Doing it twice is the same as once.
    ///
    /// An epoch beyond the stored one is taken over: the destination is the truth, and this store may have been lost.
    ///
    /// # Errors
    ///
    /// `Fenced` if the receipt's holder has been overtaken. `Conflict` if the store holds another receipt for the same
    /// generation, partition and seq.
    fn mirror(&self, receipt: &DurableReceipt) -> Result<Mirrored, StateError>;

    /// How far each partition of the stream's newest generation is, by partition id.
    fn checkpoints(&self, pipeline: PipelineId, stream: &StreamName) -> Result<Vec<Checkpoint>, StateError>;

    /// How far each stream of a pipeline is, by stream and partition.
    fn pipeline_checkpoints(&self, pipeline: PipelineId) -> Result<Vec<Checkpoint>, StateError>;

    /// Copies that a generation has been prepared (`open`) or published. Checkpoints of older generations are let go.
    ///
    /// # Errors
    ///
    /// `Fenced` if `epoch` has been overtaken. `Conflict` if the generation is known with another snapshot.
    fn record_generation(
        &self,
        pipeline: PipelineId,
        stream: &StreamName,
        epoch: u64,
        generation: &GenerationRecord,
    ) -> Result<Mirrored, StateError>;

    /// The newest generations of a stream: at most the open one and the one published before it, newest first.
    fn generations(&self, pipeline: PipelineId, stream: &StreamName) -> Result<Vec<GenerationRecord>, StateError>;

    /// Notes that the next run is to begin a stream anew. The note goes when that run has recorded its open generation.
    ///
    /// The guard keeps runs out meanwhile: none goes on with what is given up.
    ///
    /// # Errors
    ///
    /// `NotFound` if the store does not know the guard's pipeline.
    fn ask_reset(&self, guard: &RunGuard, reset: &ResetRecord) -> Result<(), StateError>;

    /// The streams of a pipeline that are to begin anew.
    fn resets(&self, pipeline: PipelineId) -> Result<Vec<ResetRecord>, StateError>;

    // ---- moving ----

    /// Takes out what runs go on from, of one pipeline or of all.
    fn export(&self, pipeline: Option<PipelineId>, now_ms: u64) -> Result<StateExport, StateError>;

    /// Puts in what another store gave out, all or nothing. Nothing moves backward: a stream that this store knows by the same
    /// epoch or a newer one stays as it is.
    ///
    /// # Errors
    ///
    /// `IdentityMismatch` or `Conflict` if a pipeline of this name, or with this id, is another one here; `Locked` while one of
    /// them runs.
    fn import(&self, export: &StateExport) -> Result<ImportReport, StateError>;

    // ---- dead letters ----

    /// Keeps dead letters, all or none; returns how many were new. One that comes again takes the place of the old. To be
    /// called once the receipt they went with is durable.
    fn add_dead_letters(&self, letters: &[DeadLetterEntry]) -> Result<u64, StateError>;

    /// Dead letters in order of arrival, those with an id beyond `after`.
    fn dead_letters(
        &self,
        pipeline: PipelineId,
        stream: Option<&StreamName>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StateError>;

    /// One dead letter whole, by its id.
    fn dead_letter(&self, id: u64) -> Result<Option<DeadLetterEntry>, StateError>;

    /// How many dead letters there are.
    fn count_dead_letters(&self, pipeline: PipelineId, stream: Option<&StreamName>) -> Result<u64, StateError>;

    /// Notes a replay with the letters it writes, each with its record as it is written, before anything is done for it.
    ///
    /// # Errors
    ///
    /// `Conflict` if a letter is not of the stream, or belongs to a replay already.
    fn begin_replay(&self, replay: &ReplayRecord, letters: &[(u64, String)], now_ms: u64) -> Result<(), StateError>;

    /// Notes the load that a replay opens, before it is opened.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such replay under way.
    fn note_replay_generation(&self, replay: &str, generation: u64) -> Result<(), StateError>;

    /// Notes that a replay's rows are in their place: its letters are replayed from here on.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such replay under way.
    fn finish_replay(&self, replay: &str, now_ms: u64) -> Result<(), StateError>;

    /// Replays under way or interrupted, oldest first.
    fn open_replays(&self, pipeline: PipelineId) -> Result<Vec<ReplayRecord>, StateError>;

    /// The letters of a replay and the records that it writes, by the letters' ids.
    fn replay_letters(&self, replay: &str) -> Result<Vec<(u64, String)>, StateError>;

    // ---- key-values ----

    /// A value, if there is one.
    fn key_value_get(&self, pipeline: PipelineId, scope: &KeyValueScope, key: &str) -> Result<Option<Vec<u8>>, StateError>;

    /// Sets a value.
    ///
    /// # Errors
    ///
    /// `Limit` above 256 bytes of key, 1 MiB of value or 1024 keys in the scope.
    fn key_value_put(&self, pipeline: PipelineId, scope: &KeyValueScope, key: &str, value: &[u8]) -> Result<(), StateError>;

    /// Sets a value (`None` deletes it) if the present one equals `expected` (`None`: there is none); says whether it did.
    ///
    /// # Errors
    ///
    /// As for [`key_value_put`](Self::key_value_put).
    fn key_value_cas(
        &self,
        pipeline: PipelineId,
        scope: &KeyValueScope,
        key: &str,
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<bool, StateError>;
}
