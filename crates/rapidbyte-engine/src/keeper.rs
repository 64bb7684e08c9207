//! What the state store holds of a pipeline, for people: looking at it, beginning streams anew, and moving it.

use crate::error::{Cause, EngineError, Stage};
use crate::run::{now_ms, open_state};
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::plan::StatePlan;
use rapidbyte_state::{
    Checkpoint, GenerationRecord, ImportReport, PipelineRecord, ResetRecord, RunRecord, StateExport, StateStore,
};
use rapidbyte_types::{ConnectorError, StreamName};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The command that makes the next run begin a stream anew.
pub fn reset_command(pipeline: &Path, stream: &StreamName) -> String {
    format!("rapidbyte state reset {} --stream {}", quoted(&pipeline.display().to_string()), quoted(&stream.to_string()))
}

/// The command that makes the next run begin every stream of a pipeline anew.
pub(crate) fn reset_all_command(pipeline: &Path) -> String {
    format!("rapidbyte state reset {}", quoted(&pipeline.display().to_string()))
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A pipeline's state store. Its calls block.
pub struct Keeper {
    store: Arc<dyn StateStore>,
    pipeline: String,
}

/// What the store holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperStream {
    /// Its name at the source.
    pub stream: StreamName,
    /// The newest epoch known.
    pub epoch: u64,
    /// The newest loads, newest first.
    pub generations: Vec<GenerationRecord>,
    /// How far each partition of the newest load is.
    pub checkpoints: Vec<Checkpoint>,
    /// When it was asked to begin anew, Unix milliseconds; the next run does.
    pub reset_asked_at_ms: Option<u64>,
}

impl Keeper {
    /// Opens the store of a pipeline, if there is one. None is made.
    ///
    /// # Errors
    /// When there is a file that can't be used.
    pub fn open_existing(plan: &PipelinePlan) -> Result<Option<Self>, EngineError> {
        let StatePlan::Sqlite { path } = &plan.state;
        match path.symlink_metadata() {
            Ok(_) => Self::open(plan).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Opens the store of a pipeline, making it if there is none.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn open(plan: &PipelinePlan) -> Result<Self, EngineError> {
        Ok(Self { store: open_state(&plan.state)?, pipeline: plan.pipeline.clone() })
    }

    /// Where it is.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// Every pipeline in it, or this one, if the store knows it.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn pipelines(&self, all: bool) -> Result<Vec<PipelineRecord>, EngineError> {
        Ok(if all { self.store.pipelines()? } else { self.store.find_pipeline(&self.pipeline)?.into_iter().collect() })
    }

    /// The newest run of a pipeline.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn last_run(&self, pipeline: &PipelineRecord) -> Result<Option<RunRecord>, EngineError> {
        Ok(self.store.recent_runs(Some(pipeline.id), 1)?.pop())
    }

    /// The streams of a pipeline, by name.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn streams(&self, pipeline: &PipelineRecord) -> Result<Vec<KeeperStream>, EngineError> {
        let resets = self.store.resets(pipeline.id)?;
        let mut names: BTreeSet<StreamName> = self.store.streams(pipeline.id)?.into_iter().collect();
        names.extend(resets.iter().map(|reset| reset.stream.clone()));
        let one = |stream: StreamName| {
            Ok(KeeperStream {
                epoch: self.store.epoch(pipeline.id, &stream)?,
                generations: self.store.generations(pipeline.id, &stream)?,
                checkpoints: self.store.checkpoints(pipeline.id, &stream)?,
                reset_asked_at_ms: resets.iter().find(|reset| reset.stream == stream).map(|reset| reset.asked_at_ms),
                stream,
            })
        };
        names.into_iter().map(one).collect()
    }

    /// Notes that the next run begins these streams anew. The open load is given up by that run, at the destination too, in the
    /// step that opens the next one: until then nothing has changed, and what was loaded stays where it is.
    ///
    /// `source_kind` is the source connector's id, for a store that does not know the pipeline yet.
    ///
    /// # Errors
    /// When a run is under way, or the store can't be written.
    pub fn reset(&self, source_kind: &str, streams: &[StreamName]) -> Result<(), EngineError> {
        let now = now_ms();
        let pipeline = self.store.announce_pipeline(&self.pipeline, source_kind, now)?;
        let guard = self.store.lock_run(pipeline.id, "a reset of state")?;
        for stream in streams {
            self.store.ask_reset(&guard, &ResetRecord { stream: stream.clone(), asked_at_ms: now })?;
        }
        Ok(())
    }

    /// Takes out the state of this pipeline, or of all.
    ///
    /// # Errors
    /// When the store does not know the pipeline, or can't be read.
    pub fn export(&self, all: bool) -> Result<StateExport, EngineError> {
        let wanted = match (all, self.store.find_pipeline(&self.pipeline)?) {
            (true, _) => None,
            (false, Some(pipeline)) => Some(pipeline.id),
            (false, None) => return Err(self.unknown()),
        };
        Ok(self.store.export(wanted, now_ms())?)
    }

    /// Puts in state that another store gave out.
    ///
    /// # Errors
    /// When it holds nothing of this pipeline or contradicts what the store knows; nothing has changed then.
    pub fn import(&self, export: &StateExport) -> Result<ImportReport, EngineError> {
        if !export.pipelines().any(|name| name == self.pipeline) {
            let known: Vec<&str> = export.pipelines().collect();
            let error = ConnectorError::config(
                "foreign_state",
                format!("the exported state is of {}, not of pipeline `{}`", listed(&known), self.pipeline),
            )
            .with_hint("name the pipeline file that it was exported from");
            return Err(EngineError::new(Stage::State, Cause::Connector(error)));
        }
        Ok(self.store.import(export)?)
    }

    fn unknown(&self) -> EngineError {
        let message = format!("{} knows no pipeline `{}`", self.store.location(), self.pipeline);
        let error = ConnectorError::config("unknown_pipeline", message).with_hint("run the pipeline first");
        EngineError::new(Stage::State, Cause::Connector(error))
    }
}

fn listed(names: &[&str]) -> String {
    match names {
        [] => "no pipeline".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_one_that_a_shell_can_run() {
        let stream = StreamName::qualified("public", "orders");
        assert_eq!(reset_command(Path::new("p/a.yaml"), &stream), "rapidbyte state reset p/a.yaml --stream public.orders");
        let stream = StreamName::new("it's $odd");
        assert_eq!(
            reset_command(Path::new("my pipe.yaml"), &stream),
            r"rapidbyte state reset 'my pipe.yaml' --stream 'it'\''s $odd'"
        );
    }
}
