//! The keys of a pipeline document: one table that the reader, the published JSON Schema and the tests share.

use crate::contract::{OnViolation, OtherColumns};
use rapidbyte_types::{
    DataErrorPolicy, LostSlotPolicy, NewColumnPolicy, NullCursorPolicy, NullabilityPolicy, RemovedColumnPolicy, SyncMode,
    TypeChangePolicy, WriteMode,
};
use serde_json::{Map, Value, json};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A string that is not empty.
    Text,
    /// A string, or `null` for none.
    TextOrNull,
    /// The version of the document's format.
    Version,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or `null` for none.
    WordOrNull(&'static [&'static str]),
    /// A whole number within bounds, both included.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A number of bytes within bounds, both included: an integer, or one with a unit. `kb`, `mb` and `gb` are multiples of
    /// 1024, exactly like `KiB`, `MiB` and `GiB`; case does not matter.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A list of strings, each once, at least one.
    TextList,
    /// `true` or `false`.
    Flag,
    /// A string, a whole number, `true` or `false`; numbers with a fraction are quoted, so that they are exact.
    Scalar,
    /// A list of scalars, each once, at least one.
    ScalarList,
    /// A mapping that only the connector's own schema knows.
    Config,
    /// A mapping whose keys stand in this table.
    Object,
    /// Mappings under names of the document's own choice, whose keys stand in this table.
    NamedObjects {
        /// How many there may be at most; there must be one.
        max: usize,
    },
    /// A list of mappings whose keys stand in this table.
    ObjectList {
        /// How many there must be at least.
        min: usize,
        /// How many there may be at most.
        max: usize,
    },
}

/// One key of a pipeline document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its path; `[]` follows a key whose value is a list of mappings, `{}` one whose value is mappings under names.
    pub path: &'static str,
    /// What it takes.
    pub kind: KeyKind,
    /// Whether it must be there, once the mapping around it is.
    pub required: bool,
    /// What holds when it is absent, as JSON; `None` when that is said in `doc`.
    pub default: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
}

impl KeyInfo {
    /// The path of the mapping it belongs to, empty for the document.
    pub fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The key itself.
    pub fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

const KB: u64 = 1 << 10;
const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;

const fn required(path: &'static str, kind: KeyKind, doc: &'static str) -> KeyInfo {
    KeyInfo { path, kind, required: true, default: None, doc }
}

const fn optional(path: &'static str, kind: KeyKind, default: &'static str, doc: &'static str) -> KeyInfo {
    KeyInfo { path, kind, required: false, default: Some(default), doc }
}

const fn derived(path: &'static str, kind: KeyKind, doc: &'static str) -> KeyInfo {
    KeyInfo { path, kind, required: false, default: None, doc }
}

const CHECKPOINT_DOC: &str = "Zero turns it off; with all three intervals off a task commits once, at its end.";

static KEYS: &[KeyInfo] = &[
    required("version", KeyKind::Version, "The version of this format: `\"1.0\"` or `\"1\"`."),
    required(
        "pipeline",
        KeyKind::Text,
        "The pipeline's name: letters, digits, `_`, `-` and `.`, at most 100. Progress is kept under it.",
    ),
    required("source", KeyKind::Object, "Where rows come from."),
    required(
        "source.use",
        KeyKind::Text,
        "The connector: a bundled one by name (`source-postgres`), or a component file by path (`./my_source.wasm`).",
    ),
    optional("source.config", KeyKind::Config, "{}", "The connector's own configuration; `rapidbyte spec` shows its keys."),
    optional(
        "source.on_lost_slot",
        KeyKind::Word(LostSlotPolicy::WORDS),
        "\"fail\"",
        "What a run does when the changes since a `cdc` stream's load can't be read any more: it ends, or loads the stream anew, which needs \
         `write_mode: upsert`.",
    ),
    required("source.streams", KeyKind::ObjectList { min: 1, max: 10_000 }, "What is read."),
    required(
        "source.streams[].name",
        KeyKind::Text,
        "The stream's name at the source. `schema.table` means the namespace `schema`, unless `namespace` is given. With `*` (any \
         text) or `?` (any character) it is a pattern: all streams that match are read, under these settings.",
    ),
    derived(
        "source.streams[].namespace",
        KeyKind::TextOrNull,
        "The schema, database or group of the stream. When it is given, also as `null`, `name` is taken as it stands.",
    ),
    derived(
        "source.streams[].exclude",
        KeyKind::TextList,
        "Names or patterns that a pattern leaves out; without a dot they match within any namespace.",
    ),
    optional("source.streams[].sync_mode", KeyKind::Word(SyncMode::WORDS), "\"full_refresh\"", "How the stream is read."),
    derived("source.streams[].cursor_field", KeyKind::Text, "The column that orders an `incremental` read; nothing without it."),
    derived(
        "source.streams[].safe_boundary",
        KeyKind::Text,
        "What an `incremental` read does about rows that commit late: `xact_horizon`, `lookback(5m)`, `lookback(1000)` or `none`; as \
         the source finds best when absent.",
    ),
    derived(
        "source.streams[].null_cursor",
        KeyKind::Word(NullCursorPolicy::WORDS),
        "What an `incremental` read does about rows whose cursor is NULL; `fail` when absent.",
    ),
    derived("source.streams[].columns", KeyKind::TextList, "The columns to read, in this order; all of them when absent."),
    derived(
        "source.streams[].filter",
        KeyKind::Text,
        "Which rows to read: one SQL expression of the source's, as after `WHERE`; all rows when absent.",
    ),
    derived(
        "source.streams[].contract",
        KeyKind::Object,
        "What the stream's columns and values are held to before anything else sees them.",
    ),
    optional(
        "source.streams[].contract.on_violation",
        KeyKind::Word(OnViolation::WORDS),
        "\"fail\"",
        "What becomes of what breaks the contract, for columns that do not say it themselves.",
    ),
    optional(
        "source.streams[].contract.other_columns",
        KeyKind::Word(OtherColumns::WORDS),
        "\"allow\"",
        "What becomes of columns that the contract does not name.",
    ),
    required("source.streams[].contract.columns", KeyKind::NamedObjects { max: 2_000 }, "The rules, by the columns' names."),
    derived(
        "source.streams[].contract.columns{}.on_violation",
        KeyKind::Word(OnViolation::WORDS),
        "What becomes of violations in this column; the contract's `on_violation` when absent.",
    ),
    optional("source.streams[].contract.columns{}.required", KeyKind::Flag, "false", "Whether the column must be there."),
    derived(
        "source.streams[].contract.columns{}.type",
        KeyKind::Text,
        "Its type, as `int64`, `utf8`, `decimal(12,2)` or `timestamptz`; any when absent.",
    ),
    optional(
        "source.streams[].contract.columns{}.nullable",
        KeyKind::Flag,
        "true",
        "With `false` the source must declare that the column is never NULL.",
    ),
    optional("source.streams[].contract.columns{}.not_null", KeyKind::Flag, "false", "Whether NULLs break the contract."),
    derived("source.streams[].contract.columns{}.range", KeyKind::Object, "Bounds of the values, both included."),
    derived("source.streams[].contract.columns{}.range.min", KeyKind::Scalar, "The least; none when absent."),
    derived("source.streams[].contract.columns{}.range.max", KeyKind::Scalar, "The greatest; none when absent."),
    derived(
        "source.streams[].contract.columns{}.regex",
        KeyKind::Text,
        "A regular expression that is found in every text; `^` and `$` tie it to the ends.",
    ),
    derived("source.streams[].contract.columns{}.one_of", KeyKind::ScalarList, "The values there may be."),
    derived("source.streams[].destination", KeyKind::Object, "What is different at the destination for this stream."),
    derived(
        "source.streams[].destination.table",
        KeyKind::Text,
        "The table to write, as `table` or `schema.table`; the stream's name without its namespace when absent. For a pattern, `*` \
         stands for each stream's name, as in `raw.*`.",
    ),
    derived(
        "source.streams[].destination.write_mode",
        KeyKind::Word(WriteMode::WORDS),
        "How rows are written; `destination.write_mode` when absent.",
    ),
    derived(
        "source.streams[].destination.primary_key",
        KeyKind::TextList,
        "The key for `upsert`; `destination.primary_key` when absent, else the source's own key.",
    ),
    optional("transforms", KeyKind::ObjectList { min: 0, max: 32 }, "[]", "What rows pass through, in order."),
    required("transforms[].use", KeyKind::Text, "The connector, as in `source.use`."),
    optional("transforms[].config", KeyKind::Config, "{}", "The connector's own configuration."),
    required("destination", KeyKind::Object, "Where rows go."),
    required("destination.use", KeyKind::Text, "The connector, as in `source.use`."),
    optional("destination.config", KeyKind::Config, "{}", "The connector's own configuration."),
    optional("destination.write_mode", KeyKind::Word(WriteMode::WORDS), "\"append\"", "How rows meet those already there."),
    derived(
        "destination.primary_key",
        KeyKind::TextList,
        "The key for `upsert`, in order; each stream's own key at the source when absent.",
    ),
    optional(
        "destination.on_data_error",
        KeyKind::Word(DataErrorPolicy::WORDS),
        "\"fail\"",
        "What happens to a row that can't be processed.",
    ),
    derived("destination.schema_evolution", KeyKind::Object, "What happens when the source's columns change."),
    optional(
        "destination.schema_evolution.new_column",
        KeyKind::Word(NewColumnPolicy::WORDS),
        "\"add\"",
        "A column the destination lacks.",
    ),
    optional(
        "destination.schema_evolution.removed_column",
        KeyKind::Word(RemovedColumnPolicy::WORDS),
        "\"ignore\"",
        "A column the source lacks.",
    ),
    optional(
        "destination.schema_evolution.type_change",
        KeyKind::Word(TypeChangePolicy::WORDS),
        "\"fail\"",
        "A column of another type.",
    ),
    optional(
        "destination.schema_evolution.nullability_change",
        KeyKind::Word(NullabilityPolicy::WORDS),
        "\"allow\"",
        "A column that has become nullable.",
    ),
    derived("state", KeyKind::Object, "Where progress is kept."),
    optional("state.backend", KeyKind::Word(&["sqlite", "postgres"]), "\"sqlite\"", "The kind of store."),
    optional(
        "state.connection",
        KeyKind::Text,
        "\".rapidbyte/state.db\"",
        "The SQLite file; a relative path is read from the document's directory.",
    ),
    derived("resources", KeyKind::Object, "What the run may use."),
    optional(
        "resources.parallelism",
        KeyKind::Integer { min: 1, max: 64 },
        "4",
        "Tasks at once; fewer where `max_memory` has no room for so many.",
    ),
    optional(
        "resources.max_batch_bytes",
        KeyKind::Size { min: 64 * KB, max: 256 * MB },
        "\"64mb\"",
        "The largest batch between two stages.",
    ),
    derived(
        "resources.max_record_bytes",
        KeyKind::Size { min: KB, max: 64 * MB },
        "The largest record; `16mb` when absent, or `max_batch_bytes` where that is less.",
    ),
    optional(
        "resources.max_memory",
        KeyKind::Size { min: 64 * MB, max: 1024 * GB },
        "\"2gb\"",
        "Memory of the run: connectors and what waits between them. A task counts for 48 MB for each connector in it.",
    ),
    optional(
        "resources.max_inflight_batches",
        KeyKind::Integer { min: 1, max: 1024 },
        "16",
        "Batches that may wait between two stages.",
    ),
    optional("resources.checkpoint_interval_bytes", KeyKind::Size { min: 0, max: 1024 * GB }, "\"64mb\"", CHECKPOINT_DOC),
    optional("resources.checkpoint_interval_rows", KeyKind::Integer { min: 0, max: 1_000_000_000_000 }, "0", CHECKPOINT_DOC),
    optional("resources.checkpoint_interval_seconds", KeyKind::Integer { min: 0, max: 604_800 }, "0", CHECKPOINT_DOC),
    optional("resources.max_retries", KeyKind::Integer { min: 0, max: 100 }, "3", "Retries of a task after its first attempt."),
    optional(
        "resources.compression",
        KeyKind::WordOrNull(&["lz4", "zstd"]),
        "null",
        "How batches that wait between two stages are compressed.",
    ),
];

/// Every key of a pipeline document, parents before children, in the document's order.
pub fn keys() -> &'static [KeyInfo] {
    KEYS
}

/// The keys directly in the mapping at `path`; `""` is the document, `source.streams[]` one of its streams.
pub fn children(path: &str) -> impl Iterator<Item = &'static KeyInfo> {
    KEYS.iter().filter(move |key| key.parent() == path)
}

/// The published JSON Schema (Draft 7) of a pipeline document, as text.
pub fn pipeline_schema() -> String {
    let mut schema = object_schema("");
    let mut head = Map::new();
    head.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    head.insert("title".to_owned(), json!("Rapidbyte pipeline"));
    head.append(&mut schema);
    head.insert(
        "definitions".to_owned(),
        json!({
            "variable": {
                "description": "A value with a variable, `${VAR}`, `${VAR:-default}` or `${VAR:?message}`.",
                "type": "string",
                "pattern": "\\$\\{[A-Za-z_][A-Za-z0-9_]*(:[-?][^}]*)?\\}"
            },
            "size": {
                "description": "Bytes with a unit; `kb`, `mb` and `gb` are multiples of 1024, like `KiB`, `MiB` and `GiB`.",
                "type": "string",
                "pattern": "^[0-9]+ ?([kKmMgG][iI]?[bB])?$"
            }
        }),
    );
    // Serialising can't fail for a tree of JSON values.
    serde_json::to_string_pretty(&Value::Object(head)).map(|text| text + "\n").unwrap_or_default()
}

fn object_schema(path: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut needed = Vec::new();
    for key in children(path) {
        let mut schema = Map::new();
        schema.insert("description".to_owned(), json!(key.doc));
        if let Some(default) = key.default {
            schema.insert("default".to_owned(), serde_json::from_str(default).unwrap_or(Value::Null));
        }
        schema.append(&mut value_schema(key));
        properties.insert(key.name().to_owned(), Value::Object(schema));
        if key.required {
            needed.push(key.name());
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("additionalProperties".to_owned(), json!(false));
    if !needed.is_empty() {
        schema.insert("required".to_owned(), json!(needed));
    }
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

fn value_schema(key: &KeyInfo) -> Map<String, Value> {
    let variable = json!({ "$ref": "#/definitions/variable" });
    let schema = match key.kind {
        KeyKind::Text => json!({ "type": "string", "minLength": 1 }),
        KeyKind::TextOrNull => json!({ "type": ["string", "null"], "minLength": 1 }),
        KeyKind::Version => json!({ "enum": ["1.0", "1", 1] }),
        KeyKind::Word(words) => json!({ "anyOf": [{ "enum": words }, variable] }),
        KeyKind::WordOrNull(words) => {
            let all: Vec<Option<&str>> = words.iter().copied().map(Some).chain([None]).collect();
            json!({ "anyOf": [{ "enum": all }, variable] })
        }
        KeyKind::Integer { min, max } => json!({ "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, variable] }),
        KeyKind::Size { min, max } => json!({
            "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, { "$ref": "#/definitions/size" }, variable]
        }),
        KeyKind::TextList => {
            json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": { "type": "string", "minLength": 1 } })
        }
        KeyKind::Flag => json!({ "anyOf": [{ "type": "boolean" }, variable] }),
        KeyKind::Scalar => json!({ "type": ["string", "integer", "boolean"] }),
        KeyKind::ScalarList => json!({
            "type": "array", "minItems": 1, "uniqueItems": true, "items": { "type": ["string", "integer", "boolean"] }
        }),
        KeyKind::NamedObjects { max } => json!({
            "type": "object", "minProperties": 1, "maxProperties": max,
            "additionalProperties": object_schema(&format!("{}{{}}", key.path))
        }),
        KeyKind::Config => json!({ "type": ["object", "null"] }),
        KeyKind::Object => return object_schema(key.path),
        KeyKind::ObjectList { min, max } => {
            json!({ "type": "array", "minItems": min, "maxItems": max, "items": object_schema(&format!("{}[]", key.path)) })
        }
    };
    match schema {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
