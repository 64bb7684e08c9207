//! A pipeline's connectors, loaded and with their configuration checked: everything that instances are opened from.

use crate::error::{Cause, EngineError, Stage};
use crate::idle::Idle;
use crate::library::{self, ConnectorLibrary};
use crate::transform_state;
use rapidbyte_config::manifest::{Delivery, Role};
use rapidbyte_config::plan::Compression as PlanCompression;
use rapidbyte_config::{ConfigGrants, ConnectorPlan, PipelinePlan, Redactor, Secrets};
use rapidbyte_runtime::{
    Compression, Connector, DestinationInstance, DigestInstance, DryRunInstance, EventReceiver, EventSender, Grants, HostPattern,
    HostTimings, InstanceLimits, InstanceOptions, LinkOptions, MemoryBudget, MemoryPool, NoState, Runtime, SourceInstance,
    StateAccess, StateMark, StdoutMode, TelemetrySink, TransformInstance, link,
};
use rapidbyte_types::{ConnectorError, DataErrorPolicy, NullCursorPolicy, Policies, StreamContext, SyncMode};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What waits between stages, in all of the process. Four batches of the target size, measured to keep both ends busy.
const CHANNEL_BUDGET: u64 = 32 << 20;

/// What a guest takes at full speed, with a batch in each of its buffers. Guessed: whole runs of wide rows peak at 154 MB with one task
/// of two guests and at 238 MB with two (benches/RESULTS.md), which leaves some room.
pub(crate) const BUSY_GUEST: u64 = 48 << 20;

/// The most memory one guest may take.
const GUEST_MEMORY: usize = 512 << 20;

/// How long a call that moves no data may take, unless it may have to move a table (`publish`) or wait for locks (`claim`).
const CALL_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a call may take that may have to copy a whole table (`publish`).
const CONTROL_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// One connector of a pipeline.
struct Part {
    name: String,
    connector: Arc<Connector>,
    config: ConfigGrants,
    grants: Grants,
}

/// What a pipeline runs with.
pub(crate) struct Kit {
    pipeline: String,
    source: Part,
    transforms: Vec<Part>,
    destination: Part,
    redactor: Arc<Redactor>,
    timings: Arc<HostTimings>,
    budget: MemoryBudget,
    memory: MemoryPool,
    parallelism: u32,
    compression: Compression,
    sources: Arc<Idle<SourceInstance>>,
    destinations: Arc<Idle<DestinationInstance>>,
}

/// What the operator gives to every pipeline.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) runtime: Runtime,
    pub(crate) library: Arc<dyn ConnectorLibrary>,
    pub(crate) env: Arc<BTreeMap<String, String>>,
    pub(crate) allowed_hosts: Option<Vec<HostPattern>>,
}

impl Kit {
    /// Loads and checks everything; reaches no server. Blocks while components are compiled.
    pub(crate) fn load(operator: &Operator, plan: &PipelinePlan) -> Result<Self, EngineError> {
        let mut secrets = plan.secrets.clone();
        // Side by side: most of it is checking code that has been compiled, over all its bytes.
        let wanted = std::iter::once(&plan.source).chain(&plan.transforms).chain(std::iter::once(&plan.destination));
        let mut loaded = std::thread::scope(|scope| {
            let threads: Vec<_> = wanted.map(|of| scope.spawn(move || load(operator, of))).collect();
            let loaded: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(lost()))).collect();
            loaded.into_iter()
        });
        let mut part = |of, role| part(operator, plan, of, role, loaded.next().unwrap_or_else(|| Err(lost())), &mut secrets);
        let source = part(&plan.source, Role::Source)?;
        let transforms = plan.transforms.iter().map(|of| part(of, Role::Transform)).collect::<Result<Vec<_>, _>>()?;
        let destination = part(&plan.destination, Role::Destination)?;
        let patterns = plan.patterns.iter().map(|pattern| pattern.template().clone());
        let streams = plan.streams.iter().cloned().chain(patterns).collect::<Vec<_>>();
        able(&source, &destination, &streams)?;
        carries_changes(&transforms, &destination, &streams)?;
        follows_policy(&source, &transforms, &destination, &streams)?;
        let memory = plan.resources.max_memory;
        let budget = CHANNEL_BUDGET.min(memory / 4);
        let wanted = plan.resources.parallelism;
        let parallelism = tasks_within(memory - budget, transforms.len(), wanted);
        if parallelism < wanted {
            tracing::info!(tasks = parallelism, wanted, "`resources.max_memory` has room for fewer tasks at once");
        }
        let (sources, destinations) = (Arc::<Idle<SourceInstance>>::default(), Arc::<Idle<DestinationInstance>>::default());
        let pool = MemoryPool::new(usize::try_from(memory - budget).unwrap_or(usize::MAX));
        let spare = (Arc::downgrade(&sources), Arc::downgrade(&destinations));
        pool.set_spare(move || {
            if let (Some(sources), Some(destinations)) = (spare.0.upgrade(), spare.1.upgrade()) {
                sources.forget();
                destinations.forget();
            }
        });
        Ok(Self {
            pipeline: plan.pipeline.clone(),
            source,
            transforms,
            destination,
            redactor: Arc::new(secrets.redactor()),
            timings: Arc::new(HostTimings::default()),
            budget: MemoryBudget::new(usize::try_from(budget).unwrap_or(usize::MAX)),
            memory: pool,
            parallelism,
            compression: match plan.resources.compression {
                None => Compression::None,
                Some(PlanCompression::Lz4) => Compression::Lz4,
                Some(PlanCompression::Zstd) => Compression::Zstd,
            },
            sources,
            destinations,
        })
    }

    /// How many tasks run at once, and into how many shares a table is cut at most: `resources.parallelism`, or as many as
    /// `resources.max_memory` has room for.
    pub(crate) fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// From here on instances are kept for the next call: of each end as many as tasks may run at once.
    pub(crate) fn keep_idle(&self) {
        self.sources.keep_up_to(self.parallelism as usize);
        self.destinations.keep_up_to(self.parallelism as usize);
    }

    /// Keeps a source whose call has ended well, and which holds nothing at its server.
    pub(crate) async fn give_source(&self, source: SourceInstance) {
        self.sources.give(source).await;
    }

    /// Keeps a destination whose call has ended well.
    pub(crate) async fn give_destination(&self, destination: DestinationInstance) {
        self.destinations.give(destination).await;
    }

    /// Gives up what is kept: another attempt does not begin on an instance from before the error.
    pub(crate) fn forget_idle(&self) {
        self.sources.forget();
        self.destinations.forget();
    }

    /// Closes what is kept, but for so many of each end.
    pub(crate) async fn close_idle(&self, sources: usize, destinations: usize) {
        tokio::join!(self.sources.close_down_to(sources), self.destinations.close_down_to(destinations));
    }

    pub(crate) fn redactor(&self) -> &Arc<Redactor> {
        &self.redactor
    }

    pub(crate) fn timings(&self) -> &Arc<HostTimings> {
        &self.timings
    }

    pub(crate) fn source_name(&self) -> &str {
        &self.source.name
    }

    /// The source connector's id, whatever it is configured to read.
    pub(crate) fn source_kind(&self) -> &str {
        &self.source.connector.manifest().id
    }

    /// Whether the source's manifest names an ability.
    pub(crate) fn source_has(&self, feature: &str) -> bool {
        self.source.connector.manifest().has_feature(feature)
    }

    pub(crate) fn destination_name(&self) -> &str {
        &self.destination.name
    }

    pub(crate) fn transform_name(&self, index: usize) -> &str {
        self.transforms.get(index).map_or("", |part| part.name.as_str())
    }

    /// Whether the destination follows policies for columns that change.
    pub(crate) fn evolves(&self) -> bool {
        let role = &self.destination.connector.manifest().roles.destination;
        role.as_ref().is_some_and(|role| role.features.iter().any(|feature| feature == "schema_evolution"))
    }

    pub(crate) fn transforms(&self) -> usize {
        self.transforms.len()
    }

    /// What stands before the state of each transform, by place; `None` for those without state.
    pub(crate) fn state_marks(&self) -> Vec<Option<StateMark>> {
        let ids: Vec<&str> = self.transforms.iter().map(|part| part.connector.manifest().id.as_str()).collect();
        let mark = |(place, part): (usize, &Part)| {
            let stateful = part.connector.manifest().is_stateful();
            stateful.then(|| transform_state::mark(&ids, place, &part.config.guest_config.to_string()))
        };
        self.transforms.iter().enumerate().map(mark).collect()
    }

    /// The name of a transform that has to see all rows of a stream in one order, if there is one.
    pub(crate) fn stateful(&self) -> Option<&str> {
        self.transforms.iter().find(|part| part.connector.manifest().is_stateful()).map(|part| part.name.as_str())
    }

    /// Whether the destination has no atomic act.
    pub(crate) fn at_least_once(&self) -> bool {
        let role = &self.destination.connector.manifest().roles.destination;
        role.as_ref().is_some_and(|role| role.delivery == Delivery::AtLeastOnce)
    }

    /// What has a part in a load's rows, for its fingerprint: the configuration of both ends without secrets, so that a new
    /// password is not a new load; each transform's checksum and whole configuration, whose salts change values.
    pub(crate) fn prints(&self) -> Vec<(String, String)> {
        let end = |part: &Part| {
            let mut config = part.config.guest_config.clone();
            blot(&mut config, &part.config);
            let places = part.config.paths.iter().map(|path| path.host_path.display().to_string()).collect::<Vec<_>>().join("\n");
            (part.connector.manifest().id.clone(), format!("{config}\n{places}"))
        };
        let transform = |part: &Part| (part.connector.digest().to_owned(), part.config.guest_config.to_string());
        let ends = [end(&self.source), end(&self.destination)];
        ends.into_iter().chain(self.transforms.iter().map(transform)).collect()
    }

    /// A name for the source's data, for sources that have none of their own: the connector, and the hosts and directories its
    /// configuration names. Other keys may change without the data becoming another's.
    pub(crate) fn derived_identity(&self) -> String {
        let mut places: Vec<String> = self.source.config.hosts.clone();
        places.extend(self.source.config.paths.iter().map(|path| path.host_path.display().to_string()));
        let mut hash = Sha256::new();
        for place in &places {
            hash.update((place.len() as u64).to_le_bytes());
            hash.update(place.as_bytes());
        }
        let digest: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{}:{digest}", self.source.connector.manifest().id)
    }

    /// A link between two stages of a task.
    pub(crate) fn link(&self, stream: &StreamContext, fed_by_transform: bool) -> (EventSender, EventReceiver) {
        let mut options = LinkOptions::new(self.budget.clone(), Arc::clone(&self.timings));
        options.max_batches = stream.limits.max_inflight_batches as usize;
        options.compression = self.compression;
        options.fed_by_transform = fed_by_transform;
        link(options)
    }

    fn options(&self, part: &Part, stream: Option<&StreamContext>, state: &Arc<dyn StateAccess>) -> InstanceOptions {
        let mut options = InstanceOptions::new(part.config.guest_config.to_string(), part.grants.clone());
        options.pipeline = Some(self.pipeline.clone());
        options.stream = stream.map_or_else(String::new, |stream| stream.name.to_string());
        options.redactor = Arc::clone(&self.redactor);
        options.timings = Arc::clone(&self.timings);
        options.state = Arc::clone(state);
        options.limits = InstanceLimits {
            memory: GUEST_MEMORY,
            total_memory: Some(self.memory.clone()),
            call_timeout: Some(CALL_TIMEOUT),
            ..InstanceLimits::default()
        };
        if let Some(stream) = stream {
            options.limits.max_batch_bytes = usize::try_from(stream.limits.max_batch_bytes).unwrap_or(usize::MAX);
        }
        options
    }

    /// A source for a task or, without a stream, for a call that is not about one: an idle one, or a fresh one.
    pub(crate) async fn open_source(
        &self,
        stream: Option<&StreamContext>,
        state: &Arc<dyn StateAccess>,
    ) -> Result<SourceInstance, EngineError> {
        let options = self.options(&self.source, stream, state);
        if let Some(idle) = self.sources.take(&options) {
            return Ok(idle);
        }
        SourceInstance::open(&self.source.connector, &options)
            .await
            .map_err(|error| EngineError::guest(Stage::Source, error).in_connector(&self.source.name))
    }

    /// A source that follows, whose metrics somebody wants.
    pub(crate) async fn open_follower(
        &self,
        stream: &StreamContext,
        state: &Arc<dyn StateAccess>,
        telemetry: Arc<dyn TelemetrySink>,
    ) -> Result<SourceInstance, EngineError> {
        let mut options = self.options(&self.source, Some(stream), state);
        options.telemetry = telemetry;
        SourceInstance::open(&self.source.connector, &options)
            .await
            .map_err(|error| EngineError::guest(Stage::Source, error).in_connector(&self.source.name))
    }

    /// A transform for a task or a visit.
    pub(crate) async fn open_transform(
        &self,
        index: usize,
        stream: Option<&StreamContext>,
        state: &Arc<dyn StateAccess>,
    ) -> Result<TransformInstance, EngineError> {
        let part = &self.transforms[index];
        TransformInstance::open(&part.connector, &self.options(part, stream, state))
            .await
            .map_err(|error| EngineError::guest(Stage::Transform(index as u32), error).in_connector(&part.name))
    }

    /// A destination that writes: an idle one, or a fresh one.
    pub(crate) async fn open_writer(
        &self,
        stream: &StreamContext,
        state: &Arc<dyn StateAccess>,
    ) -> Result<DestinationInstance, EngineError> {
        self.destination_with(self.options(&self.destination, Some(stream), state)).await
    }

    /// A destination that claims, prepares and publishes: an idle one, or a fresh one. These calls may have to wait for locks or
    /// move a table.
    pub(crate) async fn open_controller(&self) -> Result<DestinationInstance, EngineError> {
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        let mut options = self.options(&self.destination, None, &state);
        options.limits.call_timeout = Some(CONTROL_TIMEOUT);
        self.destination_with(options).await
    }

    /// A destination for a visit.
    pub(crate) async fn open_destination(&self) -> Result<DestinationInstance, EngineError> {
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        DestinationInstance::open(&self.destination.connector, &self.options(&self.destination, None, &state))
            .await
            .map_err(|error| EngineError::guest(Stage::Destination, error).in_connector(&self.destination.name))
    }

    /// The end that does not digest its rows, if there is one.
    pub(crate) fn without_digests(&self) -> Option<(Stage, &str)> {
        let ends = [(Stage::Source, &self.source), (Stage::Destination, &self.destination)];
        ends.into_iter().find(|(_, part)| !part.connector.digests_ranges()).map(|(stage, part)| (stage, part.name.as_str()))
    }

    /// Whether a transform's manifest names an ability.
    pub(crate) fn transform_has(&self, index: usize, feature: &str) -> bool {
        self.transforms.get(index).is_some_and(|part| part.connector.manifest().has_feature(feature))
    }

    /// An end that digests its rows. It may have to go through a whole table.
    pub(crate) async fn open_digests(&self, role: Role, stream: &StreamContext) -> Result<DigestInstance, EngineError> {
        let (part, stage) = match role {
            Role::Source => (&self.source, Stage::Source),
            _ => (&self.destination, Stage::Destination),
        };
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        let mut options = self.options(part, Some(stream), &state);
        options.limits.call_timeout = Some(CONTROL_TIMEOUT);
        DigestInstance::open(&part.connector, &options)
            .await
            .map_err(|error| EngineError::guest(stage, error).in_connector(&part.name))
    }

    /// Whether the destination tells what a run would do.
    pub(crate) fn plans(&self) -> bool {
        self.destination.connector.dry_runs()
    }

    /// A destination that tells what a run would do.
    pub(crate) async fn open_dry_run(&self) -> Result<DryRunInstance, EngineError> {
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        DryRunInstance::open(&self.destination.connector, &self.options(&self.destination, None, &state))
            .await
            .map_err(|error| EngineError::guest(Stage::Destination, error).in_connector(&self.destination.name))
    }

    /// Each can write, so its standard output is this process's.
    async fn destination_with(&self, mut options: InstanceOptions) -> Result<DestinationInstance, EngineError> {
        if let Some(idle) = self.destinations.take(&options) {
            return Ok(idle);
        }
        options.stdout = StdoutMode::Inherit;
        DestinationInstance::open(&self.destination.connector, &options)
            .await
            .map_err(|error| EngineError::guest(Stage::Destination, error).in_connector(&self.destination.name))
    }
}

/// How many tasks, each with a source, its transforms and a destination at full speed, find room in so much memory; one always does.
fn tasks_within(memory: u64, transforms: usize, wanted: u32) -> u32 {
    let task = BUSY_GUEST.saturating_mul(transforms as u64 + 2);
    u32::try_from(memory / task).unwrap_or(u32::MAX).clamp(1, wanted.max(1))
}

/// Takes secrets out of a configuration.
fn blot(value: &mut serde_json::Value, config: &ConfigGrants) {
    match value {
        serde_json::Value::String(text) if config.secrets.iter().any(|secret| secret.expose() == text) => "***".clone_into(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| blot(item, config)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| blot(field, config)),
        _ => {}
    }
}

/// Finds a connector and makes it ready to be instantiated.
fn load(operator: &Operator, wanted: &ConnectorPlan) -> Result<Arc<Connector>, EngineError> {
    let found = library::find(&*operator.library, &wanted.connector)?;
    let loaded = operator.runtime.load(&found.packed, found.beside.as_deref());
    loaded.map_err(|error| EngineError::new(Stage::Load, Cause::Host(error)))
}

fn lost() -> EngineError {
    EngineError::internal(Stage::Load, "load_lost", "the loading of a connector ended without a word")
}

fn part(
    operator: &Operator,
    plan: &PipelinePlan,
    wanted: &ConnectorPlan,
    role: Role,
    loaded: Result<Arc<Connector>, EngineError>,
    secrets: &mut Secrets,
) -> Result<Part, EngineError> {
    let name = wanted.connector.to_string();
    let at = |error: EngineError| error.in_connector(&name);
    let connector = loaded.map_err(at)?;
    let manifest = connector.manifest();
    if connector.role() != role {
        let error =
            ConnectorError::config("wrong_role", format!("`{name}` is a {}, it can't be used as a {role}", connector.role()))
                .with_hint("`rapidbyte connectors` lists what each connector is");
        return Err(EngineError::new(Stage::Load, Cause::Connector(error)));
    }
    let wrong = |message: String, hint: Option<String>| {
        let mut error = ConnectorError::config("connector_config", message);
        error.hint = hint.or_else(|| Some(format!("`rapidbyte spec {name}` lists its keys")));
        at(EngineError::new(Stage::Plan, Cause::Connector(error)))
    };
    let schema = manifest.config_schema().map_err(|error| wrong(error.to_string(), None))?;
    secrets.extend(&schema.secrets(&wanted.config));
    let config = schema
        .check(&wanted.config, &plan.base_dir)
        .map_err(|error| wrong(format!("the configuration is not valid: {error}"), error.hint().map(str::to_owned)))?;
    let env = |variable: &str| operator.env.get(variable).cloned();
    let grants = Grants::new(manifest, &config, env, operator.allowed_hosts.clone())
        .map_err(|error| at(EngineError::new(Stage::Load, Cause::Host(error))))?;
    Ok(Part { name, connector, config, grants })
}

/// Refuses a policy for rows that fail where a connector on their way would not follow it.
fn follows_policy(source: &Part, transforms: &[Part], destination: &Part, streams: &[StreamContext]) -> Result<(), EngineError> {
    for stream in streams {
        let policy = stream.policies.on_data_error;
        let feature = match policy {
            DataErrorPolicy::Fail => continue,
            DataErrorPolicy::Skip => "skip_rows",
            DataErrorPolicy::Dlq => "dead_letters",
        };
        let mut parts = std::iter::once(source).chain(transforms).chain(std::iter::once(destination));
        if let Some(part) = parts.find(|part| !part.connector.manifest().has_feature(feature)) {
            let error =
                ConnectorError::config("unsupported_policy", format!("`{}` does not follow `on_data_error: {policy}`", part.name))
                    .with_hint("use `on_data_error: fail`");
            return Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&stream.name));
        }
    }
    Ok(())
}

/// Refuses streams of changes where a connector on their way would take a change for a row, or give one up.
fn carries_changes(transforms: &[Part], destination: &Part, streams: &[StreamContext]) -> Result<(), EngineError> {
    let Some(stream) = streams.iter().find(|stream| stream.sync_mode == SyncMode::Cdc) else { return Ok(()) };
    let refused = |code: &str, message: String, hint: &str| {
        let error = ConnectorError::config(code, message).with_hint(hint);
        Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&stream.name))
    };
    if !destination.connector.manifest().has_feature("changes") {
        let message = format!("`{}` can't write `sync_mode: cdc`", destination.name);
        return refused("unsupported_mode", message, "use `sync_mode: full_refresh` or `sync_mode: incremental`");
    }
    if let Some(transform) = transforms.first() {
        let message = format!("`{}` would take a change for a row: transforms can't be used with `sync_mode: cdc`", transform.name);
        return refused("unsupported_mode", message, "leave the transforms out, or use another `sync_mode`");
    }
    let policy = stream.policies.on_data_error;
    if policy != DataErrorPolicy::Fail {
        let message = format!(
            "a change that is left out spoils all later ones of its row: `on_data_error: {policy}` can't be used with `sync_mode: cdc`"
        );
        return refused("unsupported_policy", message, "use `on_data_error: fail`");
    }
    Ok(())
}

/// A policy for changed columns that the destination's manifest does not say it follows, with its word and the usual one.
fn unfollowed(policies: &Policies, follows: impl Fn(&str) -> bool) -> Option<(&'static str, &'static str, &'static str)> {
    let usual = Policies::default();
    let (evolution, types) = (follows("schema_evolution"), follows("type_coercion"));
    let all = [
        ("new_column", policies.new_column.as_str(), usual.new_column.as_str(), evolution),
        ("removed_column", policies.removed_column.as_str(), usual.removed_column.as_str(), evolution),
        ("type_change", policies.type_change.as_str(), usual.type_change.as_str(), types),
        ("nullability_change", policies.nullability_change.as_str(), usual.nullability_change.as_str(), evolution),
    ];
    let (key, word, usual, _) = all.into_iter().find(|(_, word, usual, followed)| word != usual && !followed)?;
    Some((key, word, usual))
}

/// Refuses modes and policies that a connector's manifest does not list.
fn able(source: &Part, destination: &Part, streams: &[StreamContext]) -> Result<(), EngineError> {
    for stream in streams {
        let (reads, writes) = (source.connector.manifest(), destination.connector.manifest());
        let refused = |part: &Part, key: &str, mode: &str, known: Vec<&str>| {
            let error = ConnectorError::config("unsupported_mode", format!("`{}` does not support `{key}: {mode}`", part.name))
                .with_hint(format!("it supports: {}", known.join(", ")));
            Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&stream.name))
        };
        if !reads.supports_sync_mode(stream.sync_mode) {
            let known = reads.roles.source.iter().flat_map(|role| role.supported_sync_modes.iter().map(|mode| mode.as_str()));
            return refused(source, "sync_mode", stream.sync_mode.as_str(), known.collect());
        }
        let has = |features: Option<&Vec<String>>, feature: &str| features.is_some_and(|all| all.iter().any(|one| one == feature));
        let source_has = |feature| has(reads.roles.source.as_ref().map(|role| &role.features), feature);
        let keys = [
            ("safe_boundary", stream.safe_boundary.is_some()),
            ("null_cursor", stream.null_cursor != NullCursorPolicy::Fail),
            ("filter", stream.filter.is_some()),
        ];
        if let Some((key, _)) = keys.into_iter().find(|(key, set)| *set && !source_has(key)) {
            let error = ConnectorError::config("unsupported_key", format!("`{}` does not know `{key}`", source.name))
                .with_hint(format!("leave `{key}` out"));
            return Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&stream.name));
        }
        if stream.sync_mode == SyncMode::Incremental
            && !has(writes.roles.destination.as_ref().map(|role| &role.features), "open_ended")
        {
            let message = format!("`{}` keeps no place from which an incremental load could go on", destination.name);
            let error = ConnectorError::config("unsupported_mode", message).with_hint("use `sync_mode: full_refresh`");
            return Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&stream.name));
        }
        let follows = |feature: &str| has(writes.roles.destination.as_ref().map(|role| &role.features), feature);
        if let Some((key, word, usual)) = unfollowed(&stream.policies, follows) {
            let message = format!("`{}` can't follow `{key}: {word}`", destination.name);
            let error = ConnectorError::config("unsupported_policy", message)
                .with_hint(format!("set `{key}: {usual}` under `schema_evolution`, or leave it out"));
            return Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&stream.name));
        }
        if !writes.supports_write_mode(stream.write_mode) {
            let known =
                writes.roles.destination.iter().flat_map(|role| role.supported_write_modes.iter().map(|mode| mode.as_str()));
            return refused(destination, "write_mode", stream.write_mode.as_str(), known.collect());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{BUSY_GUEST, tasks_within};

    #[test]
    fn tasks_follow_the_memory() {
        let task = 2 * BUSY_GUEST;
        assert_eq!(tasks_within(64 * task, 0, 4), 4);
        assert_eq!(tasks_within(4 * task - 1, 0, 4), 3);
        assert_eq!(tasks_within(4 * task, 2, 4), 2, "each transform is a guest more");
        assert_eq!(tasks_within(1, 9, 4), 1);
    }
}
