//! [`SqliteStore`]: each call of the trait as one transaction on one connection.

use super::{dead_letters, file, key_values, lock, pipelines, portable, progress, replays, resets, runs, schema, verify};
use crate::checkpoint::{Checkpoint, DurableReceipt, Mirrored};
use crate::dead_letter::{DeadLetterEntry, DeadLetterSummary, ReplayRecord};
use crate::error::{ErrorKind, StateError};
use crate::generation::{GenerationRecord, GenerationState};
use crate::key_value::KeyValueScope;
use crate::pipeline::{PipelineId, PipelineRecord};
use crate::portable::{ImportReport, StateExport};
use crate::reset::ResetRecord;
use crate::run::{RunGuard, RunOutcome, RunRecord, StreamResult};
use crate::store::StateStore;
use rapidbyte_types::StreamName;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// The state of one machine, in one SQLite file.
///
/// The file is private to its user (0600), written through a write-ahead log, and looked over before anything in it is believed.
/// The log is synced at each call whose loss would change what the next run does; what came before such a call is synced with it.
/// Several processes may have it open; pipelines are kept to one run at a time by lock files beside it.
pub struct SqliteStore {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the state file at `path`, making it and its folder if they are not there.
    ///
    /// # Errors
    ///
    /// `NotOurs` for another kind of file, `Corrupt` for a damaged or empty one, `TooNew` for one of a newer version,
    /// `ReadOnly`, `Full` or `Io` where the file system is in the way. A refused file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StateError> {
        let path = path.as_ref();
        let (connection, path) = file::open(path).map_err(|error| error.at(path))?;
        Ok(Self { path, connection: Mutex::new(connection) })
    }

    /// The state file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic within a call has rolled its transaction back: the connection is as good as before.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T, StateError>) -> Result<T, StateError> {
        let mut connection = self.connection();
        let read = || {
            // One snapshot for calls that look twice.
            let view = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            body(&view)
        };
        read().map_err(|error| error.at(&self.path))
    }

    fn write<T>(&self, body: impl FnOnce(&Transaction<'_>) -> Result<T, StateError>) -> Result<T, StateError> {
        written(&mut self.connection(), "FULL", body).map_err(|error| error.at(&self.path))
    }

    /// The same for what a later call will sync with its own: a sync takes longer than the rest of the call.
    fn write_ahead<T>(&self, body: impl FnOnce(&Transaction<'_>) -> Result<T, StateError>) -> Result<T, StateError> {
        written(&mut self.connection(), "NORMAL", body).map_err(|error| error.at(&self.path))
    }

    fn probe(&self) -> Result<(), StateError> {
        let id = Uuid::new_v4().to_string();
        let value = Uuid::new_v4().into_bytes();
        self.write(|tx| {
            tx.execute("INSERT INTO probe (id, value) VALUES (?1, ?2)", params![id, value])?;
            Ok(())
        })?;
        let found: Vec<u8> =
            self.read(|view| Ok(view.query_row("SELECT value FROM probe WHERE id = ?1", [&id], |row| row.get(0))?))?;
        self.write(|tx| {
            tx.execute("DELETE FROM probe WHERE id = ?1", [&id])?;
            Ok(())
        })?;
        if found == value {
            return Ok(());
        }
        Err(StateError::new(ErrorKind::Corrupt, "the state file gave back something else than was written").at(&self.path))
    }
}

/// Runs `body` in a transaction. Each says anew how it is synced: under `NORMAL` what it appends to the log is not, and stands there
/// in front of what a later one syncs. The log's checksums are chained, so that what is lost is always its end.
fn written<T>(
    connection: &mut Connection,
    synchronous: &str,
    body: impl FnOnce(&Transaction<'_>) -> Result<T, StateError>,
) -> Result<T, StateError> {
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Immediate: what is compared is read under the write lock.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = body(&tx)?;
    tx.commit()?;
    Ok(value)
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl StateStore for SqliteStore {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn check(&self) -> Result<(), StateError> {
        verify::all(&self.connection(), schema::latest()).map_err(|error| error.or_damage().at(&self.path))?;
        self.probe()
    }

    fn announce_pipeline(&self, name: &str, source_kind: &str, now_ms: u64) -> Result<PipelineRecord, StateError> {
        self.write_ahead(|tx| pipelines::announce(tx, name, source_kind, now_ms))
    }

    fn resolve_pipeline(&self, name: &str, source_identity: &str, now_ms: u64) -> Result<PipelineRecord, StateError> {
        self.write_ahead(|tx| pipelines::resolve(tx, name, source_identity, now_ms))
    }

    fn find_pipeline(&self, name: &str) -> Result<Option<PipelineRecord>, StateError> {
        self.read(|view| pipelines::find(view, name))
    }

    fn pipelines(&self) -> Result<Vec<PipelineRecord>, StateError> {
        self.read(pipelines::all)
    }

    fn lock_run(&self, pipeline: PipelineId, run_id: &str) -> Result<RunGuard, StateError> {
        runs::check_run_id(run_id)?;
        self.read(|view| pipelines::require(view, pipeline))?;
        let held = lock::take(&self.path, pipeline, run_id)?;
        Ok(RunGuard::new(pipeline, run_id.to_owned(), Box::new(held)))
    }

    fn begin_run(&self, guard: &RunGuard, now_ms: u64) -> Result<Vec<String>, StateError> {
        self.write_ahead(|tx| runs::begin(tx, guard, now_ms))
    }

    fn finish_run(&self, guard: &RunGuard, outcome: &RunOutcome) -> Result<(), StateError> {
        self.write(|tx| runs::finish(tx, guard, outcome))
    }

    fn record_stream(&self, guard: &RunGuard, result: &StreamResult) -> Result<(), StateError> {
        self.write_ahead(|tx| runs::record_stream(tx, guard, result))
    }

    fn recent_runs(&self, pipeline: Option<PipelineId>, limit: u32) -> Result<Vec<RunRecord>, StateError> {
        self.read(|view| runs::recent(view, pipeline, limit))
    }

    fn run(&self, run_id: &str) -> Result<Option<RunRecord>, StateError> {
        self.read(|view| runs::one(view, run_id))
    }

    fn stream_results(&self, run_id: &str) -> Result<Vec<StreamResult>, StateError> {
        self.read(|view| runs::results(view, run_id))
    }

    fn streams(&self, pipeline: PipelineId) -> Result<Vec<StreamName>, StateError> {
        self.read(|view| progress::streams(view, pipeline))
    }

    fn epoch(&self, pipeline: PipelineId, stream: &StreamName) -> Result<u64, StateError> {
        self.read(|view| progress::epoch(view, pipeline, stream))
    }

    fn advance_epoch(&self, pipeline: PipelineId, stream: &StreamName, expected: u64, next: u64) -> Result<(), StateError> {
        self.write_ahead(|tx| progress::advance_epoch(tx, pipeline, stream, expected, next))
    }

    fn mirror(&self, receipt: &DurableReceipt) -> Result<Mirrored, StateError> {
        self.write_ahead(|tx| progress::mirror(tx, receipt))
    }

    fn checkpoints(&self, pipeline: PipelineId, stream: &StreamName) -> Result<Vec<Checkpoint>, StateError> {
        self.read(|view| progress::checkpoints(view, pipeline, stream))
    }

    fn pipeline_checkpoints(&self, pipeline: PipelineId) -> Result<Vec<Checkpoint>, StateError> {
        self.read(|view| progress::pipeline_checkpoints(view, pipeline))
    }

    fn record_generation(
        &self,
        pipeline: PipelineId,
        stream: &StreamName,
        epoch: u64,
        generation: &GenerationRecord,
    ) -> Result<Mirrored, StateError> {
        let record = |tx: &Transaction<'_>| progress::record_generation(tx, pipeline, stream, epoch, generation);
        // That it is open must be known before it is published.
        if generation.state == GenerationState::Open { self.write(record) } else { self.write_ahead(record) }
    }

    fn generations(&self, pipeline: PipelineId, stream: &StreamName) -> Result<Vec<GenerationRecord>, StateError> {
        self.read(|view| progress::generations(view, pipeline, stream))
    }

    fn ask_reset(&self, guard: &RunGuard, reset: &ResetRecord) -> Result<(), StateError> {
        self.write(|tx| resets::ask(tx, guard.pipeline(), reset))
    }

    fn resets(&self, pipeline: PipelineId) -> Result<Vec<ResetRecord>, StateError> {
        self.read(|view| resets::all(view, pipeline))
    }

    fn export(&self, pipeline: Option<PipelineId>, now_ms: u64) -> Result<StateExport, StateError> {
        self.read(|view| portable::export(view, pipeline, now_ms))
    }

    fn import(&self, export: &StateExport) -> Result<ImportReport, StateError> {
        let mut held = Vec::new();
        for pipeline in &export.pipelines {
            if let Some(known) = self.find_pipeline(&pipeline.name)? {
                held.push(lock::take(&self.path, known.id, "an import of state")?);
            }
        }
        self.write(|tx| portable::import(tx, export))
    }

    fn add_dead_letters(&self, letters: &[DeadLetterEntry]) -> Result<u64, StateError> {
        self.write(|tx| dead_letters::add(tx, letters))
    }

    fn dead_letters(
        &self,
        pipeline: PipelineId,
        stream: Option<&StreamName>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<DeadLetterSummary>, StateError> {
        self.read(|view| dead_letters::list(view, pipeline, stream, after, limit))
    }

    fn dead_letter(&self, id: u64) -> Result<Option<DeadLetterEntry>, StateError> {
        self.read(|view| dead_letters::one(view, id))
    }

    fn count_dead_letters(&self, pipeline: PipelineId, stream: Option<&StreamName>) -> Result<u64, StateError> {
        self.read(|view| dead_letters::count(view, pipeline, stream))
    }

    fn begin_replay(&self, replay: &ReplayRecord, letters: &[(u64, String)], now_ms: u64) -> Result<(), StateError> {
        self.write(|tx| replays::begin(tx, replay, letters, now_ms))
    }

    fn note_replay_generation(&self, replay: &str, generation: u64) -> Result<(), StateError> {
        self.write(|tx| replays::note_generation(tx, replay, generation))
    }

    fn finish_replay(&self, replay: &str, now_ms: u64) -> Result<(), StateError> {
        self.write(|tx| replays::finish(tx, replay, now_ms))
    }

    fn open_replays(&self, pipeline: PipelineId) -> Result<Vec<ReplayRecord>, StateError> {
        self.read(|view| replays::open(view, pipeline))
    }

    fn replay_letters(&self, replay: &str) -> Result<Vec<(u64, String)>, StateError> {
        self.read(|view| replays::letters(view, replay))
    }

    fn key_value_get(&self, pipeline: PipelineId, scope: &KeyValueScope, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.read(|view| key_values::get(view, pipeline, scope, key))
    }

    fn key_value_put(&self, pipeline: PipelineId, scope: &KeyValueScope, key: &str, value: &[u8]) -> Result<(), StateError> {
        self.write(|tx| key_values::put(tx, pipeline, scope, key, value))
    }

    fn key_value_cas(
        &self,
        pipeline: PipelineId,
        scope: &KeyValueScope,
        key: &str,
        expected: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<bool, StateError> {
        self.write(|tx| key_values::cas(tx, pipeline, scope, key, expected, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyValueScope;

    #[test]
    fn a_full_disk_is_said_to_be_full_and_loses_nothing() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let store = SqliteStore::open(folder.path().join("state.db")).expect("opens");
        let id = store.resolve_pipeline("sales", "source:1", 1).expect("resolves").id;
        store.key_value_put(id, &KeyValueScope::Pipeline, "k", b"before").expect("puts");
        let pages: u32 = store.connection().query_row("PRAGMA page_count", [], |row| row.get(0)).expect("reads");
        let _: u32 = store
            .connection()
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))
            .expect("leaves no room");
        let refused = store.key_value_put(id, &KeyValueScope::Pipeline, "k", &[7; 100_000]).expect_err("there is no room");
        assert_eq!(refused.kind(), ErrorKind::Full, "{refused:?}");
        assert!(refused.hint().is_some() && refused.path().is_some());
        let kept = store.key_value_get(id, &KeyValueScope::Pipeline, "k").expect("gets");
        assert_eq!(kept, Some(b"before".to_vec()));
        store.check().expect("the file is whole");
    }

    #[test]
    fn a_commit_is_synced_unless_a_later_one_syncs_it() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let store = SqliteStore::open(folder.path().join("state.db")).expect("opens");
        fn pragma(connection: &Connection, name: &str) -> i64 {
            connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).expect("reads")
        }
        let held = |name: &str| pragma(&store.connection(), name);
        assert_eq!((held("synchronous"), held("foreign_keys"), held("busy_timeout")), (2, 1, 5_000));
        assert_eq!(store.write(|tx| Ok(pragma(tx, "synchronous"))).expect("writes"), 2);
        assert_eq!(store.write_ahead(|tx| Ok(pragma(tx, "synchronous"))).expect("writes"), 1);
        let failed = store.write_ahead(|_| Err::<(), _>(StateError::new(ErrorKind::Limit, "no")));
        assert_eq!(failed.expect_err("fails").kind(), ErrorKind::Limit);
        assert_eq!(store.write(|tx| Ok(pragma(tx, "synchronous"))).expect("writes"), 2);
    }

    /// Which calls are synced, by the level that each leaves behind.
    #[test]
    fn what_decides_what_the_next_run_does_is_synced() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let store = SqliteStore::open(folder.path().join("state.db")).expect("opens");
        let level = || -> i64 { store.connection().query_row("PRAGMA synchronous", [], |row| row.get(0)).expect("reads") };
        let (stream, print) = (StreamName::new("s"), |state| GenerationRecord { number: 1, snapshot: "a".into(), state });
        let pipeline = store.announce_pipeline("sales", "source", 1).expect("announces").id;
        assert_eq!(level(), 1);
        store.advance_epoch(pipeline, &stream, 0, 1).expect("advances");
        assert_eq!(level(), 1);
        store.record_generation(pipeline, &stream, 1, &print(GenerationState::Open)).expect("records");
        assert_eq!(level(), 2, "that it is open is known before it is published");
        store.record_generation(pipeline, &stream, 1, &print(GenerationState::Published)).expect("records");
        assert_eq!(level(), 1);
        let guard = store.lock_run(pipeline, "run").expect("locks");
        let reset = ResetRecord { stream, asked_at_ms: 1 };
        store.ask_reset(&guard, &reset).expect("asks");
        assert_eq!(level(), 2);
        store.add_dead_letters(&[]).expect("adds");
        assert_eq!(level(), 2);
    }

    #[test]
    fn the_store_can_be_shared_as_a_trait_object() {
        fn shareable<T: Send + Sync + 'static>() {}
        shareable::<SqliteStore>();
        shareable::<Box<dyn StateStore>>();
        shareable::<crate::RunGuard>();
    }
}
