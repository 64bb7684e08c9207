//! One file per command.

pub(crate) mod check;
pub(crate) mod connectors;
pub(crate) mod discover;
pub(crate) mod dlq;
pub(crate) mod init;
pub(crate) mod pack;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod scaffold;
pub(crate) mod spec;
pub(crate) mod state;
pub(crate) mod streams;
pub(crate) mod teardown;
pub(crate) mod verify;

use crate::bundle::{self, Connectors, Place};
use crate::environment::{CACHE_DIR, Environment, WASMTIME_AOT};
use crate::failure::{Failure, Outcome};
use crate::printer::Printer;
use crate::redaction;
use crate::signals::Signals;
use rapidbyte_config::{ConnectorRef, PipelinePlan, Secret};
use rapidbyte_engine::{AotMode, Engine, EngineOptions};
use std::path::Path;
use std::sync::Arc;

/// Names this build: compiled connectors of another are not used.
const BUILD_ID: &str = concat!("rapidbyte ", env!("CARGO_PKG_VERSION"), " ", env!("RAPIDBYTE_BUILD_TARGET"));

/// Compiled connectors have a directory of their own in the cache, because it must be private.
const COMPILED: &str = "compiled";

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
        learn_marked(&plan, &connectors, &self.environment);
        let engine = self.engine(&connectors)?;
        Ok(Loaded { plan, engine, signals: Signals::install(self.printer.is_json())?, connectors })
    }

    fn engine(&self, connectors: &Arc<Connectors>) -> Outcome<Engine> {
        let aot = self
            .environment
            .aot()
            .map_err(|what| Failure::usage(what, "`0` turns the cache of compiled connectors off; leave it unset to use it"))?;
        let allowed_hosts = self.environment.allowed_hosts().map_err(|what| {
            Failure::usage(
                what,
                "list hosts, as in `db.example.com,*.internal:5432`; leave it unset to allow all that a pipeline names",
            )
        })?;
        let start = |aot| {
            let (library, env, allowed_hosts) = (connectors.clone(), self.environment.all().clone(), allowed_hosts.clone());
            Engine::new(EngineOptions { aot, build_id: BUILD_ID.to_owned(), library, env, allowed_hosts })
        };
        let dir = self.environment.cache_dir().filter(|_| aot).map(|dir| dir.join(COMPILED));
        let Some(dir) = dir else { return Ok(start(AotMode::Off)?) };
        match start(AotMode::Cache(dir.clone())) {
            Err(error) if self.environment.get(CACHE_DIR).is_some() => Err(Failure::usage(
                format!("`{}` can't be used: {}", CACHE_DIR.name, error.message()),
                format!("name a directory of your own, or set `{}=0` to do without", WASMTIME_AOT.name),
            )),
            // A default that does not work here costs time at each start, and nothing else.
            Err(error) => {
                tracing::warn!(directory = %dir.display(), error = error.message(), "compiled connectors can't be kept");
                Ok(start(AotMode::Off)?)
            }
            started => Ok(started?),
        }
    }
}

/// Learns the values at keys that a connector's schema marks as secret, and those of the variables that its manifest picks.
fn learn_marked(plan: &PipelinePlan, connectors: &Connectors, environment: &Environment) {
    for connector in plan.transforms.iter().chain([&plan.source, &plan.destination]) {
        let Some(place) = place_of(&connector.connector, connectors) else { continue };
        // What can't be read here is reported by the engine; it then holds no value of the configuration.
        let Some(manifest) = bundle::manifest_unverified(&place) else { continue };
        let picked = manifest.permissions.env.allowed_vars.iter().filter_map(|name| environment.substitute(name));
        redaction::learn(picked.map(Secret::new).collect::<Vec<_>>().iter());
        if let Ok(schema) = manifest.config_schema() {
            redaction::learn(schema.secrets(&connector.config).iter());
        }
    }
}

/// Where the connector of a pipeline is.
pub(crate) fn place_of(connector: &ConnectorRef, connectors: &Connectors) -> Option<Place> {
    match connector {
        ConnectorRef::Bundled(name) => connectors.find(name).ok(),
        ConnectorRef::Path(path) => Some(Place::at(path)),
    }
}
