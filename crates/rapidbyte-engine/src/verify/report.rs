//! What a comparison has found.

use rapidbyte_types::StreamName;
use serde::Serialize;
use std::time::Duration;

/// How a comparison ended. In order of what a user must know first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every row that was compared is the same on both sides.
    Equal,
    /// Rows differ that were changing while they were looked at, or were too many to be looked at.
    Unsettled,
    /// Rows differ, and stayed so when they were looked at again.
    Different,
}

impl Verdict {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Unsettled => "unsettled",
            Self::Different => "different",
        }
    }
}

/// In which way a key is not the same on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// The destination lacks it.
    Missing,
    /// The source lacks it.
    Extra,
    /// Both have it, with other values or another number of rows.
    Different,
    /// It was changing.
    Unsettled,
}

impl Difference {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Different => "different",
            Self::Unsettled => "unsettled",
        }
    }
}

/// A key that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundKey {
    /// In which way.
    pub difference: Difference,
    /// A JSON array with the text of each key column.
    pub key: String,
    /// Rows of this key at the source.
    pub source_rows: u64,
    /// Rows of this key at the destination.
    pub destination_rows: u64,
}

/// A column that was not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Its name.
    pub column: String,
    /// Why.
    pub reason: String,
}

/// A column whose types differ and whose values were compared in a common form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Its name.
    pub column: String,
    /// Its type at the source.
    pub source_type: String,
    /// Its type at the destination.
    pub destination_type: String,
    /// The form.
    pub compared_as: String,
}

/// How many keys are not the same; rows, where there is no key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// The destination lacks them.
    pub missing: u64,
    /// The source lacks them.
    pub extra: u64,
    /// Both have them, not the same.
    pub different: u64,
    /// They were changing.
    pub unsettled: u64,
    /// They were changed at the source after the position up to which the stream is loaded, and wait for the next run.
    pub pending: u64,
}

/// The comparison of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamVerdict {
    /// The stream.
    pub stream: StreamName,
    /// How it ended.
    pub verdict: Verdict,
    /// The table at the source.
    pub source: String,
    /// The table at the destination.
    pub destination: String,
    /// Rows that were compared at the source.
    pub source_rows: u64,
    /// Rows at the destination.
    pub destination_rows: u64,
    /// What tells rows apart; empty = rows as a whole do.
    pub key: Vec<String>,
    /// How many differ.
    pub counts: Counts,
    /// Whether all rows that differ were looked at; otherwise the counts are the least.
    pub complete: bool,
    /// Some of the keys that differ.
    pub keys: Vec<FoundKey>,
    /// Columns that were compared.
    pub columns: Vec<String>,
    /// Columns that were not.
    pub left_out: Vec<LeftOut>,
    /// Columns that were compared in a common form.
    pub converted: Vec<Converted>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// How long it took.
    #[serde(skip)]
    pub duration: Duration,
}

/// The comparison of a pipeline's streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The pipeline.
    pub pipeline: String,
    /// Its streams, in order.
    pub streams: Vec<StreamVerdict>,
    /// How long it took.
    pub duration: Duration,
}

impl VerifyReport {
    /// The worst of the streams' verdicts.
    pub fn verdict(&self) -> Verdict {
        self.streams.iter().map(|stream| stream.verdict).max().unwrap_or(Verdict::Equal)
    }
}
