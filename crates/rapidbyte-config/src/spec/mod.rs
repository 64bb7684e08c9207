//! A pipeline as written: typed, each value with its place, nothing filled in.

mod contract;
mod reader;
mod size;

pub use contract::{ColumnSpec, ContractSpec, RangeSpec};
pub use size::parse_size;

use crate::document::{self, Node};
use crate::error::{ConfigError, ConfigErrorKind, Mark};
use crate::plan::Compression;
use crate::secrets::{Secret, Secrets};
use rapidbyte_types::{
    DataErrorPolicy, LostSlotPolicy, NewColumnPolicy, NullCursorPolicy, NullabilityPolicy, RemovedColumnPolicy, SyncMode,
    TypeChangePolicy, WriteMode,
};
use reader::Table;
use serde_json::Value;
use std::fmt;

/// A value and where it was written. `Debug` shows no text: it may have come from the environment.
#[derive(Clone, PartialEq, Eq)]
pub struct Marked<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub mark: Mark,
    /// It came from the environment, at least in part, and must not be shown.
    pub from_env: bool,
}

impl<T> fmt::Debug for Marked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}:{}>", self.mark.line, self.mark.column)
    }
}

impl<T: fmt::Display> Marked<T> {
    /// The value as a message may show it.
    pub fn shown(&self) -> String {
        if self.from_env { crate::secrets::MASK.to_owned() } else { crate::suggest::shown(&self.value.to_string()) }
    }
}

/// A pipeline document.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineSpec {
    /// `pipeline`.
    pub pipeline: Marked<String>,
    /// `source`, without its streams.
    pub source: ConnectorSpec,
    /// `source.on_lost_slot`.
    pub on_lost_slot: Option<Marked<LostSlotPolicy>>,
    /// `source.streams`.
    pub streams: Vec<StreamSpec>,
    /// `transforms`.
    pub transforms: Vec<ConnectorSpec>,
    /// `destination`.
    pub destination: DestinationSpec,
    /// `state`.
    pub state: StateSpec,
    /// `resources`.
    pub resources: ResourcesSpec,
    /// Values that came from variables.
    pub secrets: Secrets,
}

/// A connector with its configuration. `Debug` shows no values.
#[derive(Clone, PartialEq)]
pub struct ConnectorSpec {
    /// `use`.
    pub connector: Marked<String>,
    /// `config`, an empty object when absent.
    pub config: Value,
}

impl fmt::Debug for ConnectorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorSpec").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// One stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    /// Where the stream begins.
    pub mark: Mark,
    /// `name`.
    pub name: Marked<String>,
    /// `namespace`: absent, or given, also as `null`.
    pub namespace: Option<Option<Marked<String>>>,
    /// `exclude`.
    pub exclude: Option<Marked<Vec<String>>>,
    /// `sync_mode`.
    pub sync_mode: Option<Marked<SyncMode>>,
    /// `cursor_field`.
    pub cursor_field: Option<Marked<String>>,
    /// `safe_boundary`.
    pub safe_boundary: Option<Marked<String>>,
    /// `null_cursor`.
    pub null_cursor: Option<Marked<NullCursorPolicy>>,
    /// `columns`.
    pub columns: Option<Marked<Vec<String>>>,
    /// `filter`.
    pub filter: Option<Marked<String>>,
    /// `contract`.
    pub contract: Option<ContractSpec>,
    /// `destination.table`.
    pub table: Option<Marked<String>>,
    /// `destination.write_mode`.
    pub write_mode: Option<Marked<WriteMode>>,
    /// `destination.primary_key`.
    pub primary_key: Option<Marked<Vec<String>>>,
}

/// The destination.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationSpec {
    /// `use` and `config`.
    pub connector: ConnectorSpec,
    /// `write_mode`.
    pub write_mode: Option<Marked<WriteMode>>,
    /// `primary_key`.
    pub primary_key: Option<Marked<Vec<String>>>,
    /// `on_data_error`.
    pub on_data_error: Option<Marked<DataErrorPolicy>>,
    /// `schema_evolution.new_column`.
    pub new_column: Option<Marked<NewColumnPolicy>>,
    /// `schema_evolution.removed_column`.
    pub removed_column: Option<Marked<RemovedColumnPolicy>>,
    /// `schema_evolution.type_change`.
    pub type_change: Option<Marked<TypeChangePolicy>>,
    /// `schema_evolution.nullability_change`.
    pub nullability_change: Option<Marked<NullabilityPolicy>>,
}

/// Kinds of state store a document may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateBackend {
    /// A SQLite file.
    Sqlite,
    /// A PostgreSQL database.
    Postgres,
}

impl StateBackend {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// The state store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateSpec {
    /// `backend`.
    pub backend: Option<Marked<StateBackend>>,
    /// `connection`; it may hold a password once there are stores with one.
    pub connection: Option<Marked<Secret>>,
}

/// The resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourcesSpec {
    /// `parallelism`.
    pub parallelism: Option<Marked<u64>>,
    /// `max_batch_bytes`.
    pub max_batch_bytes: Option<Marked<u64>>,
    /// `max_record_bytes`.
    pub max_record_bytes: Option<Marked<u64>>,
    /// `max_memory`.
    pub max_memory: Option<Marked<u64>>,
    /// `max_inflight_batches`.
    pub max_inflight_batches: Option<Marked<u64>>,
    /// `checkpoint_interval_bytes`.
    pub checkpoint_interval_bytes: Option<Marked<u64>>,
    /// `checkpoint_interval_rows`.
    pub checkpoint_interval_rows: Option<Marked<u64>>,
    /// `checkpoint_interval_seconds`.
    pub checkpoint_interval_seconds: Option<Marked<u64>>,
    /// `max_retries`.
    pub max_retries: Option<Marked<u64>>,
    /// `compression`: absent, or given, also as `null`.
    pub compression: Option<Option<Marked<Compression>>>,
}

impl PipelineSpec {
    /// Reads a document's text; `origin` names it in messages.
    ///
    /// # Errors
    /// With the first thing that is wrong, its place and what to do about it.
    pub fn from_str(text: &str, origin: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut secrets = Secrets::new();
        let read = |secrets: &mut Secrets| {
            let root = document::parse(text, env, secrets)?;
            Self::read(&root)
        };
        let spec = read(&mut secrets).map_err(|error| error.at_origin(origin))?;
        Ok(Self { secrets, ..spec })
    }

    fn read(root: &Node) -> Result<Self, ConfigError> {
        let table = Table::open(root, "")?;
        table.version("version")?;
        let pipeline = table.required_text("pipeline")?;
        let source = table.required_object("source")?;
        let streams = source.objects("streams")?.iter().map(read_stream).collect::<Result<_, _>>()?;
        let transforms = table.objects("transforms")?.iter().map(read_connector).collect::<Result<_, _>>()?;
        let destination = table.required_object("destination")?;
        let spec = Self {
            pipeline,
            source: read_connector(&source)?,
            on_lost_slot: source.word("on_lost_slot")?,
            streams,
            transforms,
            destination: read_destination(&destination)?,
            state: table.object("state")?.map(|state| read_state(&state)).transpose()?.unwrap_or_default(),
            resources: table.object("resources")?.map(|table| read_resources(&table)).transpose()?.unwrap_or_default(),
            secrets: Secrets::new(),
        };
        Ok(spec)
    }
}

fn read_connector(table: &Table<'_>) -> Result<ConnectorSpec, ConfigError> {
    Ok(ConnectorSpec { connector: table.required_text("use")?, config: table.config("config")? })
}

fn read_stream(table: &Table<'_>) -> Result<StreamSpec, ConfigError> {
    let destination = table.object("destination")?;
    let destination = destination.as_ref();
    Ok(StreamSpec {
        mark: table.mark(),
        name: table.required_text("name")?,
        namespace: table.text_or_null("namespace")?,
        exclude: table.text_list("exclude")?,
        sync_mode: table.word("sync_mode")?,
        cursor_field: table.text("cursor_field")?,
        safe_boundary: table.text("safe_boundary")?,
        null_cursor: table.word("null_cursor")?,
        columns: table.text_list("columns")?,
        filter: table.text("filter")?,
        contract: table.object("contract")?.map(|table| contract::read(&table)).transpose()?,
        table: destination.map(|table| table.text("table")).transpose()?.flatten(),
        write_mode: destination.map(|table| table.word("write_mode")).transpose()?.flatten(),
        primary_key: destination.map(|table| table.text_list("primary_key")).transpose()?.flatten(),
    })
}

fn read_destination(table: &Table<'_>) -> Result<DestinationSpec, ConfigError> {
    let evolution = table.object("schema_evolution")?;
    let evolution = evolution.as_ref();
    Ok(DestinationSpec {
        connector: read_connector(table)?,
        write_mode: table.word("write_mode")?,
        primary_key: table.text_list("primary_key")?,
        on_data_error: table.word("on_data_error")?,
        new_column: evolution.map(|table| table.word("new_column")).transpose()?.flatten(),
        removed_column: evolution.map(|table| table.word("removed_column")).transpose()?.flatten(),
        type_change: evolution.map(|table| table.word("type_change")).transpose()?.flatten(),
        nullability_change: evolution.map(|table| table.word("nullability_change")).transpose()?.flatten(),
    })
}

fn read_state(table: &Table<'_>) -> Result<StateSpec, ConfigError> {
    let connection = table.text("connection")?;
    Ok(StateSpec {
        backend: table.word_as("backend", &[("sqlite", StateBackend::Sqlite), ("postgres", StateBackend::Postgres)])?,
        connection: connection.map(|Marked { value, mark, from_env }| Marked { value: Secret::new(value), mark, from_env }),
    })
}

fn read_resources(table: &Table<'_>) -> Result<ResourcesSpec, ConfigError> {
    let compression = if table.is_null("compression") {
        Some(None)
    } else {
        table.word_as("compression", &[("lz4", Compression::Lz4), ("zstd", Compression::Zstd)])?.map(Some)
    };
    Ok(ResourcesSpec {
        parallelism: table.number("parallelism")?,
        max_batch_bytes: table.number("max_batch_bytes")?,
        max_record_bytes: table.number("max_record_bytes")?,
        max_memory: table.number("max_memory")?,
        max_inflight_batches: table.number("max_inflight_batches")?,
        checkpoint_interval_bytes: table.number("checkpoint_interval_bytes")?,
        checkpoint_interval_rows: table.number("checkpoint_interval_rows")?,
        checkpoint_interval_seconds: table.number("checkpoint_interval_seconds")?,
        max_retries: table.number("max_retries")?,
        compression,
    })
}

fn error(kind: ConfigErrorKind, mark: Mark, message: impl Into<String>) -> ConfigError {
    ConfigError::new(kind, mark, message)
}
