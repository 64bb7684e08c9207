//! One file per command.

pub(crate) mod check;
pub(crate) mod connectors;
pub(crate) mod discover;
pub(crate) mod init;
pub(crate) mod pack;
pub(crate) mod run;
pub(crate) mod scaffold;
pub(crate) mod spec;

use crate::bundle::{self, Connectors, Place};
use crate::environment::Environment;
use crate::failure::{Failure, Outcome};
use crate::printer::Printer;
use crate::redaction;
use crate::signals::Signals;
use rapidbyte_config::{ConnectorRef, PipelinePlan};
use rapidbyte_engine::{Engine, EngineOptions};
use rapidbyte_runtime::AotMode;
use std::path::Path;
use std::sync::Arc;

/// What every command may use.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) printer: Printer,
    /// How often `-v` was given.
    pub(crate) verbose: u8,
    /// Whether standard error is a terminal that can be moved in.
    pub(crate) can_move: bool,
}

/// A pipeline ready to be worked with.
pub(crate) struct Loaded {
    pub(crate) plan: PipelinePlan,
    pub(crate) engine: Engine,
    pub(crate) signals: Signals,
    pub(crate) connectors: Arc<Connectors>,
}

impl Context {
    /// Reads a pipeline and starts the engine. From here on its secrets are redacted.
    ///
    /// # Errors
    /// When the file is wrong or the engine can't start.
    pub(crate) fn load(&self, pipeline: &Path) -> Outcome<Loaded> {
        let plan = PipelinePlan::load(pipeline, &|name| self.environment.substitute(name))?;
        redaction::learn(plan.secrets.iter());
        let connectors = Arc::new(Connectors::of(&self.environment)?);
        learn_marked(&plan, &connectors);
        let aot = match (self.aot()?, self.environment.cache_dir()) {
            (true, Some(dir)) => AotMode::Cache(dir),
            (true, None) | (false, _) => AotMode::Off,
        };
        let engine = Engine::new(EngineOptions {
            aot,
            library: connectors.clone(),
            env: self.environment.all().clone(),
            cache_dir: self.environment.cache_dir(),
        })?;
        Ok(Loaded { plan, engine, signals: Signals::install(self.printer.is_json())?, connectors })
    }

    fn aot(&self) -> Outcome<bool> {
        self.environment.aot().map_err(|what| Failure::usage(what, "leave it unset, or see `docs/reference/environment.md`"))
    }
}

/// Learns the values at keys that a connector's schema marks as secret.
fn learn_marked(plan: &PipelinePlan, connectors: &Connectors) {
    for connector in plan.transforms.iter().chain([&plan.source, &plan.destination]) {
        let Some(place) = place_of(&connector.connector, connectors) else { continue };
        // What can't be read here is reported by the engine; it then holds no value of the configuration.
        let schema = bundle::manifest_unverified(&place).and_then(|manifest| manifest.config_schema().ok());
        if let Some(schema) = schema {
            redaction::learn(schema.secrets(&connector.config).iter());
        }
    }
}

/// Where the connector of a pipeline is.
pub(crate) fn place_of(connector: &ConnectorRef, connectors: &Connectors) -> Option<Place> {
    match connector {
        ConnectorRef::Bundled(name) => connectors.find(name).ok(),
        ConnectorRef::Path(path) => Some(Place::File(path.clone())),
    }
}
