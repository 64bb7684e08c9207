//! How a load is named and split.

use crate::config::{Config, CustomField, Pattern};
use crate::patterns::SPECIFICATION;
use rapidbyte_sdk::{ConnectorError, CursorType, Partition, Position};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Fewer rows are not worth a partition of their own. Guessed: a tenth of a second of work.
const MIN_PARTITION_ROWS: u64 = 100_000;

/// A share of the rows, as it travels in a partition's description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    from: u64,
    to: u64,
}

impl Share {
    fn all(config: &Config) -> Self {
        Self { from: 0, to: config.max_events }
    }

    /// Reads a partition's description back.
    pub(crate) fn of(partition: Option<&Partition>, config: &Config) -> Result<Self, ConnectorError> {
        let share = match partition {
            Some(partition) if !partition.spec.is_empty() => serde_json::from_slice(&partition.spec).ok(),
            Some(_) => Some(Self::all(config)),
            None => None,
        };
        share.filter(|share| share.from <= share.to && share.to <= config.max_events).ok_or_else(|| {
            ConnectorError::internal("partition", "the partition was not planned by this source with this configuration")
        })
    }

    /// The rows that are left after a resume position, which names the next row.
    pub(crate) fn after(self, resume: Option<&Position>) -> Result<Range<u64>, ConnectorError> {
        let Some(position) = resume else { return Ok(self.from..self.to) };
        let next = (position.kind == CursorType::Int64).then(|| position.value.parse::<u64>().ok()).flatten();
        match next {
            Some(next) if (self.from..=self.to).contains(&next) => Ok(next..self.to),
            _ => Err(ConnectorError::internal("position", "the position to resume from lies outside of the partition")),
        }
    }
}

/// Splits the rows into equal shares.
pub(crate) fn partitions(config: &Config, max_partitions: u32) -> Vec<Partition> {
    // A paced stream is one stream: several would each have a part of the pace.
    let useful = if config.events_per_second > 0 { 1 } else { config.max_events / MIN_PARTITION_ROWS };
    let count = useful.min(u64::from(max_partitions)).max(1);
    let edge = |at: u64| (u128::from(config.max_events) * u128::from(at) / u128::from(count)) as u64;
    (0..count)
        .map(|at| {
            let share = Share { from: edge(at), to: edge(at + 1) };
            Partition { id: at.to_string(), spec: serde_json::to_vec(&share).expect("numbers serialise") }
        })
        .collect()
}

/// Everything the values depend on. Stream names, pace and batch size are left out: changing them continues the same load.
#[derive(Serialize)]
struct Content<'a> {
    specification: u32,
    pattern: Pattern,
    seed: u64,
    /// A log that gets longer is the same log.
    max_events: Option<u64>,
    include_sequence: bool,
    include_timestamp: bool,
    start_micros: i64,
    interval_micros: u64,
    custom_fields: &'a [CustomField],
    columns: Option<&'a [String]>,
}

/// The name of the data that a configuration makes, restricted to some columns.
pub(crate) fn snapshot(config: &Config, clock: crate::config::Clock, columns: Option<&[String]>) -> String {
    let content = Content {
        specification: SPECIFICATION,
        pattern: config.pattern,
        seed: config.seed,
        max_events: (!config.cdc_mode).then_some(config.max_events),
        include_sequence: config.include_sequence,
        include_timestamp: config.include_timestamp,
        start_micros: clock.start_micros,
        interval_micros: clock.interval_micros,
        custom_fields: &config.custom_fields,
        columns,
    };
    let text = serde_json::to_vec(&content).expect("a configuration serialises");
    let mut name = String::from("datagen:");
    for byte in Sha256::digest(&text) {
        name.push_str(&format!("{byte:02x}"));
    }
    name
}
