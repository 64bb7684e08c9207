//! From the document as written to the plan.

use super::pattern::{StreamPattern, is_pattern};
use super::{ConnectorPlan, PipelinePlan, Resources, StatePlan, available, contract, reference};
use crate::contract::Contract;
use crate::error::{ConfigError, ConfigErrorKind, Mark};
use crate::spec::{ConnectorSpec, DestinationSpec, Marked, PipelineSpec, ResourcesSpec, StateBackend, StateSpec, StreamSpec};
use rapidbyte_types::{
    Limits, LostSlotPolicy, NoRowFilter, NullCursorPolicy, Policies, RowFilter, SafeBoundary, StreamContext, StreamName, SyncMode,
    UnknownBoundary, WriteMode,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const DEFAULT_STATE_FILE: &str = ".rapidbyte/state.db";
const DEFAULT_PARALLELISM: u64 = 4;
const DEFAULT_MAX_RETRIES: u64 = 3;
/// Guessed: room for the default parallelism with batches of ordinary size.
const DEFAULT_MAX_MEMORY: u64 = 2 << 30;

pub(super) fn resolve(spec: PipelineSpec, origin: &Path, base_dir: &Path) -> Result<PipelinePlan, ConfigError> {
    let PipelineSpec { pipeline, source, on_lost_slot, streams, transforms, destination, state, resources, secrets } = spec;
    let pipeline = pipeline_name(pipeline)?;
    let source = connector(source, base_dir)?;
    let transforms = transforms.into_iter().map(|one| connector(one, base_dir)).collect::<Result<_, _>>()?;
    let limits = limits(&resources)?;
    let policies = policies(&destination);
    available::check("write_mode", destination.write_mode.as_ref(), |mode| mode.as_str())?;
    let mut named = Vec::new();
    let mut patterns = Vec::new();
    let mut contracts = HashMap::new();
    for one in &streams {
        match stream(one, &destination, &limits, &policies)? {
            Selected::Stream(stream, contract) => {
                if let Some(contract) = contract {
                    contracts.insert(stream.name.clone(), contract);
                }
                named.push((stream, one.mark));
            }
            Selected::Pattern(pattern) => patterns.push(pattern),
        }
    }
    let mut all = named.iter().map(|(stream, _)| stream).chain(patterns.iter().map(StreamPattern::template));
    if let Some(key) = &destination.primary_key
        && !all.any(|stream| stream.write_mode == WriteMode::Upsert)
    {
        return Err(key_without_upsert("destination.primary_key", key.mark));
    }
    refuse_twins(&named)?;
    let all = named.iter().map(|(stream, _)| stream).chain(patterns.iter().map(StreamPattern::template));
    let on_lost_slot = lost_slot(on_lost_slot.as_ref(), all)?;
    Ok(PipelinePlan {
        pipeline,
        origin: origin.to_owned(),
        base_dir: base_dir.to_owned(),
        source,
        on_lost_slot,
        streams: named.into_iter().map(|(stream, _)| stream).collect(),
        patterns,
        contracts,
        transforms,
        destination: connector(destination.connector, base_dir)?,
        state: state_plan(state, base_dir)?,
        resources: run_resources(&resources)?,
        secrets,
    })
}

fn error(kind: ConfigErrorKind, mark: Mark, message: impl Into<String>) -> ConfigError {
    ConfigError::new(kind, mark, message)
}

/// The name is a key of the state store and part of file names.
fn pipeline_name(name: Marked<String>) -> Result<String, ConfigError> {
    let good = name.value.len() <= 100
        && name.value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if good {
        return Ok(name.value);
    }
    let message = format!("`pipeline` is `{}`, not a name", name.shown());
    let hint = "begin with a letter or digit and use letters, digits, `_`, `-` and `.`, at most 100";
    Err(error(ConfigErrorKind::InvalidValue, name.mark, message).with_hint(hint))
}

/// A load anew finds what is there already by its key; appended rows would be there twice.
fn lost_slot<'a>(
    written: Option<&Marked<LostSlotPolicy>>,
    streams: impl Iterator<Item = &'a StreamContext>,
) -> Result<LostSlotPolicy, ConfigError> {
    let Some(written) = written.filter(|written| written.value == LostSlotPolicy::Resnapshot) else {
        return Ok(LostSlotPolicy::Fail);
    };
    let mut of_changes = streams.filter(|stream| stream.sync_mode == SyncMode::Cdc).peekable();
    if of_changes.peek().is_none() {
        let message = "`source.on_lost_slot: resnapshot` has no effect without a stream of `sync_mode: cdc`";
        return Err(error(ConfigErrorKind::Conflict, written.mark, message).with_hint("leave `on_lost_slot` out"));
    }
    if of_changes.any(|stream| stream.write_mode != WriteMode::Upsert) {
        let message = "`source.on_lost_slot: resnapshot` would add rows that are there already";
        return Err(error(ConfigErrorKind::Conflict, written.mark, message)
            .with_hint("use `write_mode: upsert` for streams of `sync_mode: cdc`, or `on_lost_slot: fail`"));
    }
    Ok(LostSlotPolicy::Resnapshot)
}

fn connector(spec: ConnectorSpec, base_dir: &Path) -> Result<ConnectorPlan, ConfigError> {
    let ConnectorSpec { connector, config } = spec;
    Ok(ConnectorPlan { connector: reference::read(&connector, base_dir)?, config })
}

fn value<T: Copy>(written: Option<&Marked<T>>, default: T) -> T {
    written.map_or(default, |written| written.value)
}

/// The reader has checked each number against the key table; this is where the width of a field is.
fn narrow(written: Option<&Marked<u64>>, default: u64) -> Result<u32, ConfigError> {
    let number = value(written, default);
    u32::try_from(number)
        .map_err(|_| ConfigError::new(ConfigErrorKind::InvalidValue, written.map(|w| w.mark), "the number is too large"))
}

fn limits(spec: &ResourcesSpec) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    let max_batch_bytes = value(spec.max_batch_bytes.as_ref(), default.max_batch_bytes);
    let max_record_bytes = match &spec.max_record_bytes {
        Some(record) if record.value > max_batch_bytes => {
            let message =
                "`resources.max_record_bytes` is more than `resources.max_batch_bytes`, so that such a record fits nowhere";
            return Err(error(ConfigErrorKind::Conflict, record.mark, message)
                .with_hint("raise `max_batch_bytes` or lower `max_record_bytes`"));
        }
        Some(record) => record.value,
        None => default.max_record_bytes.min(max_batch_bytes),
    };
    Ok(Limits {
        max_batch_bytes,
        max_record_bytes,
        max_inflight_batches: narrow(spec.max_inflight_batches.as_ref(), default.max_inflight_batches.into())?,
        max_parallel_requests: default.max_parallel_requests,
        checkpoint_interval_bytes: value(spec.checkpoint_interval_bytes.as_ref(), default.checkpoint_interval_bytes),
        checkpoint_interval_rows: value(spec.checkpoint_interval_rows.as_ref(), default.checkpoint_interval_rows),
        checkpoint_interval_seconds: value(spec.checkpoint_interval_seconds.as_ref(), default.checkpoint_interval_seconds),
    })
}

fn run_resources(spec: &ResourcesSpec) -> Result<Resources, ConfigError> {
    Ok(Resources {
        parallelism: narrow(spec.parallelism.as_ref(), DEFAULT_PARALLELISM)?,
        max_memory: value(spec.max_memory.as_ref(), DEFAULT_MAX_MEMORY),
        max_retries: narrow(spec.max_retries.as_ref(), DEFAULT_MAX_RETRIES)?,
        compression: spec.compression.as_ref().and_then(Option::as_ref).map(|compression| compression.value),
    })
}

fn policies(spec: &DestinationSpec) -> Policies {
    let DestinationSpec {
        connector: _,
        write_mode: _,
        primary_key: _,
        on_data_error,
        new_column,
        removed_column,
        type_change,
        nullability_change,
    } = spec;
    let default = Policies::default();
    Policies {
        on_data_error: value(on_data_error.as_ref(), default.on_data_error),
        new_column: value(new_column.as_ref(), default.new_column),
        removed_column: value(removed_column.as_ref(), default.removed_column),
        type_change: value(type_change.as_ref(), default.type_change),
        nullability_change: value(nullability_change.as_ref(), default.nullability_change),
    }
}

/// What an entry of `streams` stands for.
enum Selected {
    Stream(StreamContext, Option<Arc<Contract>>),
    Pattern(StreamPattern),
}

fn stream(spec: &StreamSpec, destination: &DestinationSpec, limits: &Limits, policies: &Policies) -> Result<Selected, ConfigError> {
    available::check("sync_mode", spec.sync_mode.as_ref(), |mode| mode.as_str())?;
    available::check("write_mode", spec.write_mode.as_ref(), |mode| mode.as_str())?;
    let pattern = spec.namespace.is_none() && is_pattern(&spec.name.value);
    if let (false, Some(exclude)) = (pattern, &spec.exclude) {
        let message = "`exclude` has no effect without a pattern";
        return Err(error(ConfigErrorKind::Conflict, exclude.mark, message)
            .with_hint("leave `exclude` out, or write a `name` with `*`, as in `public.*`"));
    }
    let name = match &spec.namespace {
        _ if pattern => StreamName::new(spec.name.value.clone()),
        Some(namespace) => {
            StreamName { namespace: namespace.as_ref().map(|namespace| namespace.value.clone()), name: spec.name.value.clone() }
        }
        None => split_name(&spec.name, "give `namespace` on its own, and `name` is taken as it stands")?,
    };
    let table = spec.table.as_ref().map(|table| split_name(table, "a table is `table` or `schema.table`")).transpose()?;
    if let (true, Some(table), Some(written)) = (pattern, &table, &spec.table)
        && (!table.name.contains('*') || table.namespace.as_deref().is_some_and(is_pattern))
    {
        let message = "all streams of a pattern would be written to one table";
        return Err(error(ConfigErrorKind::Conflict, written.mark, message)
            .with_hint("let `*` stand for the stream's name, as in `table: \"raw.*\"`, or leave `table` out"));
    }
    let target = table.clone().unwrap_or_else(|| StreamName::new(name.name.clone()));
    let sync_mode = value(spec.sync_mode.as_ref(), SyncMode::FullRefresh);
    let unread = [
        ("safe_boundary", spec.safe_boundary.as_ref().map(|key| key.mark)),
        ("null_cursor", spec.null_cursor.as_ref().map(|key| key.mark)),
    ];
    if let (Some((key, mark)), true) =
        (unread.into_iter().find_map(|(key, mark)| Some((key, mark?))), sync_mode != SyncMode::Incremental)
    {
        let message = format!("`{key}` has no effect with `sync_mode: {sync_mode}`");
        return Err(error(ConfigErrorKind::Conflict, mark, message).with_hint(format!("leave `{key}` out")));
    }
    if let (SyncMode::Cdc, Some(filter)) = (sync_mode, &spec.filter) {
        let message =
            "`filter` can't be used with `sync_mode: cdc`: a row that comes to meet it, or no longer does, would be missed";
        return Err(error(ConfigErrorKind::Conflict, filter.mark, message).with_hint("leave `filter` out"));
    }
    let safe_boundary = spec.safe_boundary.as_ref().map(boundary).transpose()?;
    match &spec.cursor_field {
        Some(cursor) if sync_mode != SyncMode::Incremental => {
            let message = format!("`cursor_field` has no effect with `sync_mode: {sync_mode}`");
            return Err(error(ConfigErrorKind::Conflict, cursor.mark, message).with_hint("leave `cursor_field` out"));
        }
        None if sync_mode == SyncMode::Incremental => {
            let message = "`sync_mode: incremental` needs a `cursor_field`";
            return Err(error(ConfigErrorKind::MissingKey, spec.mark, message)
                .with_hint("name the column whose value grows with every change"));
        }
        _ => {}
    }
    let write_mode = value(spec.write_mode.as_ref().or(destination.write_mode.as_ref()), WriteMode::Append);
    if sync_mode != SyncMode::FullRefresh && write_mode == WriteMode::Replace {
        let message =
            format!("`sync_mode: {sync_mode}` reads what is new, which `write_mode: replace` would put in the place of everything");
        let mark = spec.write_mode.as_ref().or(destination.write_mode.as_ref()).map_or(spec.mark, |mode| mode.mark);
        return Err(error(ConfigErrorKind::Conflict, mark, message).with_hint("use `write_mode: append` or `write_mode: upsert`"));
    }
    let primary_key = match (write_mode, &spec.primary_key, &destination.primary_key) {
        (WriteMode::Upsert, Some(key), _) | (WriteMode::Upsert, None, Some(key)) => key.value.clone(),
        // The source's own key; the destination refuses a stream that has none.
        (WriteMode::Upsert, None, None) => Vec::new(),
        (WriteMode::Append | WriteMode::Replace, Some(key), _) => return Err(key_without_upsert("primary_key", key.mark)),
        (WriteMode::Append | WriteMode::Replace, None, _) => Vec::new(),
    };
    let context = StreamContext {
        name,
        target,
        sync_mode,
        write_mode,
        cursor_field: spec.cursor_field.as_ref().map(|cursor| cursor.value.clone()),
        safe_boundary,
        null_cursor: value(spec.null_cursor.as_ref(), NullCursorPolicy::Fail),
        primary_key,
        filter: spec.filter.as_ref().map(filter).transpose()?.map(String::from),
        selected_columns: spec.columns.as_ref().map(|columns| columns.value.clone()),
        limits: limits.clone(),
        policies: policies.clone(),
    };
    let contract = spec.contract.as_ref().map(|written| contract::resolve(written, sync_mode, &context.primary_key));
    let contract = contract.transpose()?.map(Arc::new);
    if !pattern {
        return Ok(Selected::Stream(context, contract));
    }
    let exclude = spec.exclude.as_ref().map_or(&[][..], |exclude| &exclude.value);
    let made = StreamPattern::new(&spec.name.value, exclude, context, table, contract);
    made.map(Selected::Pattern).ok_or_else(|| {
        error(ConfigErrorKind::InvalidValue, spec.name.mark, format!("`{}` is not a pattern for names", spec.name.shown()))
            .with_hint("patterns, also in `exclude`, are `name` or `namespace.name`, with `*` and `?`")
    })
}

fn filter(written: &Marked<String>) -> Result<RowFilter, ConfigError> {
    written.value.parse().map_err(|no: NoRowFilter| {
        error(ConfigErrorKind::InvalidValue, written.mark, format!("`filter` {no}"))
            .with_hint("write one SQL expression that is true for the rows to read, as in `status = 'open'`")
    })
}

fn boundary(written: &Marked<String>) -> Result<SafeBoundary, ConfigError> {
    written.value.parse().map_err(|unknown: UnknownBoundary| {
        error(ConfigErrorKind::InvalidValue, written.mark, format!("`safe_boundary` is `{}`, which {unknown}", written.shown()))
    })
}

fn key_without_upsert(key: &str, mark: Mark) -> ConfigError {
    error(ConfigErrorKind::Conflict, mark, format!("`{key}` has no effect without `write_mode: upsert`"))
        .with_hint("leave `primary_key` out")
}

/// `name` or `namespace.name`.
fn split_name(written: &Marked<String>, hint: &str) -> Result<StreamName, ConfigError> {
    let mut parts = written.value.split('.');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) if !name.is_empty() => Ok(StreamName::new(name)),
        (Some(namespace), Some(name), None) if !namespace.is_empty() && !name.is_empty() => {
            Ok(StreamName::qualified(namespace, name))
        }
        _ => {
            let message = format!("`{}` is not `name` or `namespace.name`", written.shown());
            Err(error(ConfigErrorKind::InvalidValue, written.mark, message).with_hint(hint))
        }
    }
}

/// Two streams that read the same, or write to the same place, would spoil each other's progress.
fn refuse_twins(streams: &[(StreamContext, Mark)]) -> Result<(), ConfigError> {
    let mut names = HashMap::new();
    let mut targets = HashMap::new();
    for (stream, mark) in streams {
        if let Some(first) = names.insert(&stream.name, mark) {
            let message = format!("a stream comes twice: the first is at {}:{}", first.line, first.column);
            return Err(error(ConfigErrorKind::Conflict, *mark, message).with_hint("keep one of the two"));
        }
        if let Some(first) = targets.insert(&stream.target, mark) {
            let message = format!("two streams write to the same table: the first is at {}:{}", first.line, first.column);
            return Err(
                error(ConfigErrorKind::Conflict, *mark, message).with_hint("give one of them its own `destination: { table: … }`")
            );
        }
    }
    Ok(())
}

fn state_plan(spec: StateSpec, base_dir: &Path) -> Result<StatePlan, ConfigError> {
    let StateSpec { backend, connection } = spec;
    available::check("backend", backend.as_ref(), |backend| backend.as_str())?;
    let Some(connection) = connection else {
        return match value(backend.as_ref(), StateBackend::Sqlite) {
            StateBackend::Sqlite => Ok(StatePlan::Sqlite { path: base_dir.join(DEFAULT_STATE_FILE) }),
            StateBackend::Postgres => {
                let mark = backend.map(|backend| backend.mark);
                Err(ConfigError::new(ConfigErrorKind::MissingKey, mark, "`backend: postgres` needs a `connection`"))
            }
        };
    };
    // A URL would otherwise become a file of that name.
    if connection.value.expose().contains("://") {
        return Err(error(ConfigErrorKind::InvalidValue, connection.mark, "`state.connection` is a URL, not a file")
            .with_hint("name a file, as `state.db`"));
    }
    Ok(StatePlan::Sqlite { path: base_dir.join(connection.value.expose()) })
}
