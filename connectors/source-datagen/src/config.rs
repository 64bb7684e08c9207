//! The configuration as written.

use rapidbyte_sdk::ConnectorError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What kind of data is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Ascending ids with a value.
    Sequence,
    /// One column of each common type.
    Random,
    /// People.
    Users,
    /// Orders of a shop.
    #[default]
    Orders,
    /// Events of a web site.
    Events,
    /// Measurements of machines.
    Metrics,
    /// Keys with opaque values.
    KeyValue,
}

impl Pattern {
    /// The word as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Random => "random",
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Events => "events",
            Self::Metrics => "metrics",
            Self::KeyValue => "key_value",
        }
    }
}

/// The type of a custom field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// 64-bit integer.
    Int64,
    /// 64-bit float.
    Float64,
    /// Text.
    Utf8,
    /// True or false.
    Bool,
    /// Microseconds, UTC.
    Timestamp,
    /// `precision` digits, `scale` of them after the point.
    Decimal,
    /// Sixteen bytes.
    Uuid,
}

/// How a custom field's values come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeneratorKind {
    /// Always `value`.
    Constant,
    /// One of `values`.
    Choice,
    /// From `min` to `max`.
    Range,
    /// Anything of the type.
    Random,
    /// `start`, `start + step`, ….
    Sequence,
}

/// A field as written. Which keys go with which generator is checked when the columns are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomField {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FieldType,
    /// How its values come about.
    pub generator: GeneratorKind,
    /// For `constant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// For `choice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
    /// For `range`, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// For `range`, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// For `sequence`, default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<i64>,
    /// For `sequence`, default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i64>,
    /// For `random` text, default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// For `decimal`, default 18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<u8>,
    /// For `decimal`, default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<u8>,
    /// Share of rows without a value, 0 to 100.
    #[serde(default)]
    pub null_percent: u8,
}

/// The `config:` block.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What kind of data is made.
    pub pattern: Pattern,
    /// Equal seeds give equal data.
    pub seed: u64,
    /// Rows per second, 0 = as fast as they are taken.
    pub events_per_second: u64,
    /// Rows in all.
    pub max_events: u64,
    /// The stream's name; the pattern's by default.
    pub stream_name: Option<String>,
    /// The stream's namespace.
    pub namespace: Option<String>,
    /// Columns after the pattern's own.
    pub custom_fields: Vec<CustomField>,
    /// Adds `sequence_number`.
    pub include_sequence: bool,
    /// Adds `generated_at`.
    pub include_timestamp: bool,
    /// The time of row 0, RFC 3339.
    pub start_time: Option<String>,
    /// Time from one row to the next.
    pub interval_ms: Option<u64>,
    /// Rows in a batch, at most.
    pub batch_rows: u32,
    /// Makes the changes of a table instead of its rows.
    pub cdc_mode: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pattern: Pattern::default(),
            seed: 0,
            events_per_second: 0,
            max_events: 1000,
            stream_name: None,
            namespace: None,
            custom_fields: Vec::new(),
            include_sequence: false,
            include_timestamp: false,
            start_time: None,
            interval_ms: None,
            batch_rows: 32_768,
            cdc_mode: false,
        }
    }
}

/// The time of each row: `start + row * interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) start_micros: i64,
    pub(crate) interval_micros: u64,
}

impl Clock {
    /// 2024-01-01T00:00:00Z.
    const DEFAULT_START: i64 = 1_704_067_200_000_000;
    /// The end of the year 9999, past which RFC 3339 has no name for a time.
    pub(crate) const LAST: i64 = 253_402_300_799_999_999;

    /// The clock of a configuration, checked to stay within the year 9999 for all its rows.
    pub(crate) fn of(config: &Config) -> Result<Self, ConnectorError> {
        let start_micros = match &config.start_time {
            Some(text) => parse_time("start_time", text)?,
            None => Self::DEFAULT_START,
        };
        let interval_ms = config.interval_ms.unwrap_or(1000);
        if !(1..=86_400_000).contains(&interval_ms) {
            return Err(ConnectorError::config(
                "interval_ms",
                format!("`interval_ms` is {interval_ms}, not within 1 and 86400000"),
            ));
        }
        let interval_micros = interval_ms * 1000;
        // Eight days of room for times that follow a row's own.
        let end = i128::from(start_micros) + i128::from(config.max_events) * i128::from(interval_micros) + 8 * 86_400_000_000;
        if end > i128::from(Self::LAST) {
            return Err(ConnectorError::config("time_range", format!("row {} would lie after the year 9999", config.max_events))
                .with_hint("lower `interval_ms` or `max_events`"));
        }
        Ok(Self { start_micros, interval_micros })
    }

    #[inline]
    pub(crate) fn at(self, row: u64) -> i64 {
        // Checked by `of` for every row of the configuration.
        self.start_micros + (row * self.interval_micros) as i64
    }
}

/// Microseconds since 1970 of an RFC 3339 time.
pub(crate) fn parse_time(key: &str, text: &str) -> Result<i64, ConnectorError> {
    chrono::DateTime::parse_from_rfc3339(text).map(|time| time.timestamp_micros()).map_err(|_| {
        ConnectorError::config("time_syntax", format!("`{key}` is not an RFC 3339 time"))
            .with_hint("write it as `2024-01-01T00:00:00Z`")
    })
}
