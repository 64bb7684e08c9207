//! Streams and what both ends need to know of them.

use crate::incremental::{NullCursorPolicy, SafeBoundary};
use crate::words::{
    CursorType, DataErrorPolicy, NewColumnPolicy, NullabilityPolicy, RemovedColumnPolicy, SyncMode, TypeChangePolicy, WriteMode,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a stream: a table in a schema, a topic, an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamName {
    /// The schema, database or group; absent where the source has none.
    pub namespace: Option<String>,
    /// The name within it.
    pub name: String,
}

impl StreamName {
    /// A name without a namespace.
    pub fn new(name: impl Into<String>) -> Self {
        Self { namespace: None, name: name.into() }
    }

    /// A name within a namespace.
    pub fn qualified(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A place in a stream from which reading can go on: exact canonical text, at most [`crate::MAX_POSITION_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// How `value` is read and compared.
    #[serde(rename = "type")]
    pub kind: CursorType,
    /// The exact text.
    pub value: String,
}

impl Position {
    /// A position of the given type.
    pub fn new(kind: CursorType, value: impl Into<String>) -> Self {
        Self { kind, value: value.into() }
    }

    /// The byte of the log that a position of type `lsn` names: two halves of up to eight hexadecimal digits, as in `16/B374D848`.
    /// `None` for positions of other types, and for what is no such text.
    pub fn lsn(&self) -> Option<u64> {
        let half = |part: &str| match part.len() {
            1..=8 if part.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let (high, low) = self.value.split_once('/').filter(|_| self.kind == CursorType::Lsn)?;
        Some(half(high)? << 32 | half(low)?)
    }
}

/// The bounds a stream runs under. A zero checkpoint interval means "no such limit".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A batch larger than this is refused by the host.
    pub max_batch_bytes: u64,
    /// A record larger than this is refused before it is read.
    pub max_record_bytes: u64,
    /// Batches that may wait between two stages.
    pub max_inflight_batches: u32,
    /// Requests a connector may have under way at once.
    pub max_parallel_requests: u32,
    /// Bytes after which a barrier becomes a commit.
    pub checkpoint_interval_bytes: u64,
    /// Rows after which a barrier becomes a commit.
    pub checkpoint_interval_rows: u64,
    /// Seconds after which a barrier becomes a commit.
    pub checkpoint_interval_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch_bytes: 64 << 20,
            max_record_bytes: 16 << 20,
            max_inflight_batches: 16,
            max_parallel_requests: 1,
            checkpoint_interval_bytes: 64 << 20,
            checkpoint_interval_rows: 0,
            checkpoint_interval_seconds: 0,
        }
    }
}

/// What happens when data or schema are not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// A row that can't be processed.
    pub on_data_error: DataErrorPolicy,
    /// A column the destination lacks.
    pub new_column: NewColumnPolicy,
    /// A column the source lacks.
    pub removed_column: RemovedColumnPolicy,
    /// A column of another type.
    pub type_change: TypeChangePolicy,
    /// A column that has become nullable.
    pub nullability_change: NullabilityPolicy,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            on_data_error: DataErrorPolicy::Fail,
            new_column: NewColumnPolicy::Add,
            removed_column: RemovedColumnPolicy::Ignore,
            type_change: TypeChangePolicy::Fail,
            nullability_change: NullabilityPolicy::Allow,
        }
    }
}

/// Everything both ends need to know of one stream of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamContext {
    /// The name at the source.
    pub name: StreamName,
    /// The name at the destination.
    pub target: StreamName,
    /// How it is read.
    pub sync_mode: SyncMode,
    /// How it is written.
    pub write_mode: WriteMode,
    /// The column that orders an incremental read.
    pub cursor_field: Option<String>,
    /// How an incremental read keeps from missing rows that commit late; `None` = as the source finds best.
    pub safe_boundary: Option<SafeBoundary>,
    /// What an incremental read does about rows whose cursor is NULL.
    pub null_cursor: NullCursorPolicy,
    /// Which rows are read, as a [`crate::RowFilter`] in the source's own SQL; `None` = all. Whoever runs it checks it again.
    pub filter: Option<String>,
    /// The key for upserts, in order; empty = the source's own.
    pub primary_key: Vec<String>,
    /// `None` = every column, else exactly these, in this order.
    pub selected_columns: Option<Vec<String>>,
    /// Its bounds.
    pub limits: Limits,
    /// Its policies.
    pub policies: Policies,
}

impl StreamContext {
    /// The key under which [`StreamContext::safe_boundary`] crosses the boundary, among the extensions.
    pub const SAFE_BOUNDARY: &'static str = "rapidbyte.safe_boundary";
    /// The same for [`StreamContext::null_cursor`].
    pub const NULL_CURSOR: &'static str = "rapidbyte.null_cursor";

    /// The same for [`StreamContext::filter`].
    pub const FILTER: &'static str = "rapidbyte.filter";

    /// A full refresh appended under the source's own name, with default bounds and policies.
    pub fn full_refresh(name: StreamName) -> Self {
        Self {
            target: name.clone(),
            name,
            sync_mode: SyncMode::FullRefresh,
            write_mode: WriteMode::Append,
            cursor_field: None,
            safe_boundary: None,
            null_cursor: NullCursorPolicy::Fail,
            filter: None,
            primary_key: Vec::new(),
            selected_columns: None,
            limits: Limits::default(),
            policies: Policies::default(),
        }
    }

    /// The first of some columns that is not among those which are read, as far as the pipeline selects any.
    pub fn unselected<'a>(&self, columns: impl IntoIterator<Item = &'a String>) -> Option<&'a String> {
        let selected = self.selected_columns.as_ref()?;
        columns.into_iter().find(|column| !selected.contains(column))
    }
}

/// Who is running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunContext {
    /// A UUID that survives a rename of the pipeline.
    pub pipeline_id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// A UUID of this run.
    pub run_id: String,
    /// Counts from 1 within a run.
    pub attempt: u32,
}
