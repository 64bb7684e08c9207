//! Plans and runs pipelines: loads, tasks, checkpoints, retries.
//!
//! A library: it prints nothing, reads no environment, and can be embedded anywhere a tokio runtime is. The program around it
//! brings the connectors, watches through an [`Observer`], and may stop a run through a [`Cancel`].
//!
//! ```no_run
//! use rapidbyte_config::PipelinePlan;
//! use rapidbyte_engine::{AotMode, Cancel, ConnectorLibrary, Engine, EngineOptions, RunOptions, Unobserved};
//! use std::borrow::Cow;
//! use std::sync::Arc;
//!
//! /// Connectors named by path need no library.
//! struct NoLibrary;
//!
//! impl ConnectorLibrary for NoLibrary {
//!     fn names(&self) -> Vec<String> {
//!         Vec::new()
//!     }
//!     fn component(&self, _name: &str) -> Option<Cow<'static, [u8]>> {
//!         None
//!     }
//! }
//!
//! # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(EngineOptions {
//!     aot: AotMode::Off,
//!     build_id: "my-program 1.0".into(),
//!     library: Arc::new(NoLibrary),
//!     env: Default::default(),
//!     allowed_hosts: None,
//! })?;
//! let plan = PipelinePlan::load("pipeline.yaml".as_ref(), &|name| std::env::var(name).ok())?;
//! let options = RunOptions { cancel: Cancel::new(), observer: Arc::new(Unobserved), follow: false, peek_rows: 0 };
//! let report = engine.run(&plan, options).await?;
//! println!("{} streams in {:?}", report.streams.len(), report.duration);
//! # Ok(())
//! # }
//! ```

mod cancel;
mod changes;
mod claim;
mod commits;
mod contract;
mod error;
mod follow;
mod gate;
mod guest_state;
mod idle;
mod inspect;
mod keeper;
mod kit;
mod letters;
mod library;
mod listing;
mod load;
mod observe;
mod peek;
mod plan;
mod replay;
mod report;
mod retry;
mod run;
mod select;
mod shares;
mod stream;
mod task;
mod teardown;
mod transform_state;
mod verify;

pub use cancel::Cancel;
pub use error::{Cause, EngineError, Stage};
pub use inspect::{CheckLine, CheckReport, ColumnInfo, StreamInfo};
pub use keeper::{Keeper, KeeperStream, reset_command};
pub use library::ConnectorLibrary;
pub use observe::{Observer, RunEvent, Unobserved};
pub use plan::{PlanFinding, PlanReport, StreamPlan};
pub use rapidbyte_runtime::{AotMode, HostPattern, HostPatternError};
pub use replay::ReplayOptions;
pub use report::{RunReport, StreamReport, Timings};
pub use retry::{RetryPolicy, policy, wait_before_retry};
pub use run::RunOptions;
pub use verify::{Converted, Counts, Difference, FoundKey, LeftOut, StreamVerdict, Verdict, VerifyOptions, VerifyReport};

use crate::kit::Operator;
use rapidbyte_config::manifest::{Manifest, verify};
use rapidbyte_config::{ConnectorRef, PipelinePlan};
use rapidbyte_runtime::{Runtime, RuntimeOptions};
use rapidbyte_types::ConnectorError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the program around the engine gives it.
pub struct EngineOptions {
    /// Whether compiled components are kept on disk.
    pub aot: AotMode,
    /// Names the program's build; components compiled by another are compiled again.
    pub build_id: String,
    /// The connectors that come with the program.
    pub library: Arc<dyn ConnectorLibrary>,
    /// Variables that a connector's manifest may pick from.
    pub env: BTreeMap<String, String>,
    /// The hosts that connectors may dial at most, whatever manifest and configuration name; `None` = any of those.
    pub allowed_hosts: Option<Vec<HostPattern>>,
}

/// The engine of a process. Clones share it.
#[derive(Clone)]
pub struct Engine {
    operator: Operator,
}

impl Engine {
    /// Starts the sandbox.
    ///
    /// # Errors
    /// When the machine or the cache directory does not allow it.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let EngineOptions { aot, build_id, library, env, allowed_hosts } = options;
        let runtime =
            Runtime::new(RuntimeOptions { aot, build_id }).map_err(|error| EngineError::new(Stage::Load, Cause::Host(error)))?;
        Ok(Self { operator: Operator { runtime, library, env: Arc::new(env), allowed_hosts } })
    }

    /// Moves a pipeline's streams. Dropping the future stops it where it stands, which is safe at any instant.
    ///
    /// # Errors
    /// With the first cause; streams that did not fail have been moved all the same.
    pub async fn run(&self, plan: &PipelinePlan, options: RunOptions) -> Result<RunReport, EngineError> {
        run::run(&self.operator, plan, options).await
    }

    /// Writes dead letters into their destination again, each once, whatever dies and whenever: an interrupted replay is gone on
    /// with by the next one, and by the next run. Reaches no source.
    ///
    /// # Errors
    /// When a record can't be written, or a load of its stream is not finished.
    pub async fn replay(&self, plan: &PipelinePlan, options: ReplayOptions) -> Result<RunReport, EngineError> {
        replay::run(&self.operator, plan, options).await
    }

    /// Opens the state store of a pipeline, for what it remembers. It is made if it is not there.
    ///
    /// # Errors
    /// When it can't be used.
    pub fn state(&self, plan: &PipelinePlan) -> Result<Arc<dyn rapidbyte_state::StateStore>, EngineError> {
        run::open_state(&plan.state)
    }

    /// Looks at everything a run needs and changes nothing but the state store's own file.
    pub async fn check(&self, plan: &PipelinePlan) -> CheckReport {
        inspect::check(&self.operator, plan).await
    }

    /// Lists what a pipeline's source has.
    ///
    /// # Errors
    /// When the source can't be reached.
    pub async fn discover(&self, plan: &PipelinePlan) -> Result<Vec<StreamInfo>, EngineError> {
        inspect::discover(&self.operator, plan).await
    }

    /// Tells what a run would do. Writes nothing.
    ///
    /// # Errors
    /// When a side can't be reached. What would end the run is part of the report.
    pub async fn plan(&self, plan: &PipelinePlan) -> Result<PlanReport, EngineError> {
        plan::plan(&self.operator, plan).await
    }

    /// Compares what the source has with what the destination has. Writes nothing.
    ///
    /// # Errors
    /// When a side can't be read, or the two are not meant to be the same. Rows that differ are no error.
    pub async fn verify(&self, plan: &PipelinePlan, options: VerifyOptions) -> Result<VerifyReport, EngineError> {
        verify::verify(&self.operator, plan, options).await
    }

    /// Removes what a pipeline has left beside the data: progress at the destination, replication slots and publications at the
    /// source. Tables and their rows stay. Done twice it is the same.
    ///
    /// # Errors
    /// When a run is under way, or an end can't be reached.
    pub async fn teardown(&self, plan: &PipelinePlan) -> Result<Vec<rapidbyte_types::StreamName>, EngineError> {
        teardown::teardown(&self.operator, plan).await
    }

    /// A connector's manifest, after checking the component's bytes against it.
    ///
    /// # Errors
    /// When there is no such connector, or the two disagree.
    pub fn manifest(&self, connector: &ConnectorRef) -> Result<Manifest, EngineError> {
        let found = library::find(&*self.operator.library, connector)?;
        verify(&found.packed, found.beside.as_deref()).map_err(|error| {
            let hint = error.hint().map(str::to_owned);
            let mut made = ConnectorError::config("manifest", error.to_string());
            made.hint = hint;
            EngineError::new(Stage::Load, Cause::Connector(made)).in_connector(&connector.to_string())
        })
    }

    /// The names of the connectors that come with the program.
    pub fn connectors(&self) -> Vec<String> {
        self.operator.library.names()
    }
}
