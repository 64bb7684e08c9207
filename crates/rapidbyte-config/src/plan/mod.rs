//! A pipeline, resolved.

mod available;
mod contract;
mod pattern;
mod reference;
mod resolve;

pub use available::{NotAvailable, not_available};
pub use pattern::{SelectionError, StreamPattern};

use crate::contract::Contract;
use crate::error::ConfigError;
use crate::secrets::Secrets;
use crate::spec::PipelineSpec;
use rapidbyte_types::{LostSlotPolicy, StreamContext, StreamName};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a connector comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ConnectorRef {
    /// Part of this release, by its name without the owner: `source-postgres`.
    Bundled(String),
    /// A component file, joined to the document's directory where it was relative.
    Path(PathBuf),
}

impl fmt::Display for ConnectorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundled(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One connector of a pipeline. `Debug` shows no values of its configuration.
#[derive(Clone, PartialEq)]
pub struct ConnectorPlan {
    /// Where it comes from.
    pub connector: ConnectorRef,
    /// Its configuration as an object, not yet checked against its schema.
    pub config: Value,
}

impl fmt::Debug for ConnectorPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.config.as_object().map(|object| object.keys().collect()).unwrap_or_default();
        f.debug_struct("ConnectorPlan").field("connector", &self.connector).field("config_keys", &keys).finish()
    }
}

/// How frames between stages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// LZ4 frames.
    Lz4,
    /// Zstandard, level 1.
    Zstd,
}

impl Compression {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Where progress is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatePlan {
    /// A SQLite file.
    Sqlite {
        /// The file, joined to the document's directory where it was relative.
        path: PathBuf,
    },
}

/// What the run as a whole may use. The bounds of a stream are in its [`StreamContext`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Tasks at once.
    pub parallelism: u32,
    /// Bytes of memory for guests and channels together.
    pub max_memory: u64,
    /// Retries of a task after its first attempt.
    pub max_retries: u32,
    /// How frames between stages are compressed.
    pub compression: Option<Compression>,
}

/// A pipeline, resolved: no mode or policy is a string, every range is checked, every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelinePlan {
    /// Its name.
    pub pipeline: String,
    /// The document, as it was named.
    pub origin: PathBuf,
    /// The document's directory; relative paths in connector configuration are read from it.
    pub base_dir: PathBuf,
    /// Where rows come from.
    pub source: ConnectorPlan,
    /// What a run does when the source can't go on with a stream's changes.
    pub on_lost_slot: LostSlotPolicy,
    /// What is read and how it is written, in the document's order.
    pub streams: Vec<StreamContext>,
    /// Patterns for further streams, in the document's order. [`PipelinePlan::with_found`] resolves them.
    pub patterns: Vec<StreamPattern>,
    /// What streams are held to, by their name; those without a contract are not there.
    pub contracts: HashMap<StreamName, Arc<Contract>>,
    /// What rows pass through, in order.
    pub transforms: Vec<ConnectorPlan>,
    /// Where rows go.
    pub destination: ConnectorPlan,
    /// Where progress is kept.
    pub state: StatePlan,
    /// What the run may use.
    pub resources: Resources,
    /// Values that came from variables. Values at keys that a connector's schema marks come with
    /// [`crate::ConfigGrants::secrets`] later.
    pub secrets: Secrets,
}

impl PipelinePlan {
    /// Reads and resolves a document.
    ///
    /// # Errors
    /// With the first thing that is wrong, its place and what to do about it.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = crate::document::read_file(path)?;
        Self::from_str(&text, path, env)
    }

    /// Resolves a document's text. `origin` is its path: messages name it, and relative paths are read from its directory.
    ///
    /// # Errors
    /// With the first thing that is wrong, its place and what to do about it.
    pub fn from_str(text: &str, origin: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let name = origin.display().to_string();
        let spec = PipelineSpec::from_str(text, &name, env)?;
        let base_dir = origin.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        resolve::resolve(spec, origin, base_dir).map_err(|error| error.at_origin(&name))
    }
}

#[cfg(test)]
mod tests;
