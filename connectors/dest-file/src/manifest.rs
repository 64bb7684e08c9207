//! One manifest: everything known of a stream after one step.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rapidbyte_sdk::{ConnectorError, Generation, Partition, Receipt, StreamName, WriteMode};
use serde::{Deserialize, Serialize};

/// A reader refuses a later format rather than lose what it does not know.
pub(crate) const FORMAT: u32 = 1;

/// A step in the life of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Claim,
    Prepare,
    Commit,
    /// The open generation can't be completed.
    Spoil,
    Publish,
    Teardown,
}

/// The state of a stream. The manifest with the highest number holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) number: u64,
    /// Tells this manifest from one that another writer would have put under the same number.
    pub(crate) token: String,
    /// The token of the manifest this one follows.
    pub(crate) parent: Option<String>,
    pub(crate) step: Step,
    pub(crate) written_at_ms: u64,
    pub(crate) stream: StreamName,
    pub(crate) pipeline_id: String,
    pub(crate) pipeline: String,
    pub(crate) source_identity: String,
    pub(crate) epoch: u64,
    pub(crate) newest_generation: u64,
    pub(crate) open: Option<OpenGeneration>,
    pub(crate) published: Option<Published>,
    /// Directories that readers may still have open.
    pub(crate) retired: Vec<Retired>,
}

/// A directory that was visible until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retired {
    pub(crate) directory: String,
    pub(crate) at_ms: u64,
}

/// A load that is not visible yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenGeneration {
    pub(crate) number: u64,
    pub(crate) snapshot: String,
    pub(crate) write_mode: WriteMode,
    pub(crate) partitions: Vec<StoredPartition>,
    /// The newest of each partition.
    pub(crate) receipts: Vec<StoredReceipt>,
    pub(crate) files: Vec<StagedFile>,
    /// As the first commit with rows found them.
    pub(crate) columns: Option<Vec<Column>>,
    /// A part has come whose columns do not go with those committed. The next claim gives the generation up.
    #[serde(default)]
    pub(crate) spoiled: bool,
    /// Changes up to this place of the log are in files that count. The newest receipt may stand before it: streams are committed
    /// one after the other, and after a crash in between all of them go on from the one that is furthest behind.
    #[serde(default)]
    pub(crate) applied: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredPartition {
    pub(crate) id: String,
    #[serde(with = "base64_bytes")]
    pub(crate) spec: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredReceipt {
    pub(crate) receipt: Receipt,
    pub(crate) transform_state: Vec<StoredState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredState {
    pub(crate) transform: u32,
    #[serde(with = "base64_bytes")]
    pub(crate) state: Vec<u8>,
}

/// What a staged file becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FileKind {
    Data,
    DeadLetters,
}

/// A durable file under [`crate::names::STAGING`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StagedFile {
    pub(crate) kind: FileKind,
    /// The directory below the stream's staging folder.
    pub(crate) directory: String,
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// A column as files of the generation have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) nullable: bool,
}

/// The load that readers see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) number: u64,
    pub(crate) rows: u64,
    /// Below the stream's folder in [`crate::names::GENERATIONS`].
    pub(crate) directory: String,
    pub(crate) columns: Option<Vec<Column>>,
}

impl OpenGeneration {
    pub(crate) fn new(generation: &Generation, write_mode: WriteMode) -> Self {
        let mut open = Self {
            number: generation.number,
            snapshot: generation.snapshot.clone(),
            write_mode,
            partitions: Vec::new(),
            receipts: Vec::new(),
            files: Vec::new(),
            columns: None,
            spoiled: false,
            applied: 0,
        };
        open.add_partitions(&generation.partitions);
        open
    }

    pub(crate) fn add_partitions(&mut self, partitions: &[Partition]) {
        for Partition { id, spec } in partitions {
            if !self.partitions.iter().any(|known| known.id == *id) {
                self.partitions.push(StoredPartition { id: id.clone(), spec: spec.clone() });
            }
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        let partitions = self.partitions.iter().map(|p| Partition { id: p.id.clone(), spec: p.spec.clone() }).collect();
        Generation { number: self.number, snapshot: self.snapshot.clone(), partitions }
    }

    pub(crate) fn receipt(&self, partition: &str) -> Option<&Receipt> {
        self.receipts.iter().map(|stored| &stored.receipt).find(|receipt| receipt.partition == partition)
    }

    pub(crate) fn set_receipt(&mut self, receipt: &Receipt) {
        let mut receipt = receipt.clone();
        let state = std::mem::take(&mut receipt.transform_state);
        let transform_state = state.into_iter().map(|(transform, state)| StoredState { transform, state }).collect();
        self.receipts.retain(|stored| stored.receipt.partition != receipt.partition);
        self.receipts.push(StoredReceipt { receipt, transform_state });
    }

    /// The first planned partition without its last receipt.
    pub(crate) fn unfinished(&self) -> Option<&str> {
        let finished = |id: &str| self.receipt(id).is_some_and(|receipt| receipt.last);
        self.partitions.iter().map(|partition| partition.id.as_str()).find(|id| !finished(id))
    }
}

impl StoredReceipt {
    pub(crate) fn restore(&self, stream: u32) -> Receipt {
        let transform_state = self.transform_state.iter().map(|stored| (stored.transform, stored.state.clone())).collect();
        Receipt { stream, transform_state, ..self.receipt.clone() }
    }
}

impl Manifest {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ConnectorError> {
        let broken = |error: serde_json::Error| ConnectorError::internal("manifest_encode", error.to_string());
        let mut bytes = serde_json::to_vec_pretty(self).map_err(broken)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(crate) fn decode(path: &str, bytes: &[u8]) -> Result<Self, ConnectorError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |error: serde_json::Error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            ConnectorError::data("manifest_damaged", format!("`{path}` is not a manifest ({place})")).with_hint(format!(
                "restore `{path}` from a backup, or remove the stream's folders below `path` and load the stream again"
            ))
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.format != FORMAT {
            let message = format!("`{path}` has format {}, and this version knows {FORMAT}", head.format);
            return Err(ConnectorError::config("manifest_format", message).with_hint("update the connector `dest-file`"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }
}

mod base64_bytes {
    use super::{Engine, STANDARD};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
