//! State as a document: taken out of one store and put into another.
//!
//! The document carries what runs go on from: pipelines, epochs, generations, checkpoints, resets that were asked for, and
//! connectors' key-values. The history of runs and the dead letters stay behind: the first is of no use elsewhere, the
//! second hold rows, and the destination's table has them all.

use crate::error::{ErrorKind, StateError};
use rapidbyte_types::{Position, StreamName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What the first key of every document says.
const FORMAT: &str = "rapidbyte-state";
/// The version this build writes, and the newest it reads.
const VERSION: u32 = 1;
/// The largest document taken in; far above any state in use, it keeps a wrong file from filling the memory.
pub const MAX_EXPORT_BYTES: usize = 1 << 30;

/// State taken out of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateExport {
    /// Unix milliseconds.
    pub(crate) exported_at_ms: u64,
    pub(crate) pipelines: Vec<PortablePipeline>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortablePipeline {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) source_identity: String,
    pub(crate) created_at_ms: u64,
    pub(crate) streams: Vec<PortableStream>,
    pub(crate) key_values: Vec<PortableValue>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortableStream {
    pub(crate) stream: StreamName,
    pub(crate) epoch: u64,
    pub(crate) generations: Vec<PortableGeneration>,
    pub(crate) checkpoints: Vec<PortableCheckpoint>,
    pub(crate) reset_asked_at_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortableGeneration {
    pub(crate) number: u64,
    pub(crate) snapshot: String,
    pub(crate) state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortableCheckpoint {
    pub(crate) generation: u64,
    pub(crate) partition: String,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    pub(crate) position: Option<Position>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) last: bool,
    pub(crate) committed_at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortableValue {
    pub(crate) scope: String,
    pub(crate) key: String,
    /// In hexadecimal.
    pub(crate) value: String,
}

/// The document as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    /// SHA-256 of `state` as compact JSON in this order of keys: the layout of the file does not matter, its content does.
    sha256: String,
    state: StateExport,
}

/// What is looked at before anything else, whatever the rest is.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u32>,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Streams whose progress was taken from the document, with their pipeline's name.
    pub taken: Vec<(String, StreamName)>,
    /// Streams of which the store knew as much or more, and that were left as they were.
    pub kept: Vec<(String, StreamName)>,
}

impl StateExport {
    /// The names of the pipelines in it, in order.
    pub fn pipelines(&self) -> impl Iterator<Item = &str> {
        self.pipelines.iter().map(|pipeline| pipeline.name.as_str())
    }

    /// How many streams there are in it.
    pub fn streams(&self) -> usize {
        self.pipelines.iter().map(|pipeline| pipeline.streams.len()).sum()
    }

    /// The document, for people and for [`Self::from_json`].
    pub fn to_json(&self) -> String {
        let document = Document { format: FORMAT.into(), version: VERSION, sha256: self.digest(), state: self.clone() };
        let mut text = serde_json::to_string_pretty(&document).expect("numbers and strings are always JSON");
        text.push('\n');
        text
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// `NotOurs` for anything else, `TooNew` for one of a newer version, `Corrupt` for one whose content is not what was written.
    pub fn from_json(text: &str) -> Result<Self, StateError> {
        let hint = "give a file that `rapidbyte state export` has written";
        let foreign =
            |what: &str| StateError::new(ErrorKind::NotOurs, format!("the file is not an exported state: {what}")).with_hint(hint);
        let corrupt = |what: &str| {
            StateError::new(ErrorKind::Corrupt, format!("the exported state is damaged: {what}"))
                .with_hint("export it again; nothing has been imported")
        };
        let head: Head = serde_json::from_str(text).map_err(|error| match text.trim_start().starts_with('{') {
            true if text.contains(FORMAT) => corrupt("it is not whole JSON").with_source(error),
            _ => foreign("it is not a JSON object").with_source(error),
        })?;
        if head.format.as_deref() != Some(FORMAT) {
            return Err(foreign("it does not say that it is one"));
        }
        match head.version {
            Some(version @ 1..) if version > VERSION => {
                let message = format!("the exported state has version {version}, this rapidbyte knows up to {VERSION}");
                return Err(StateError::new(ErrorKind::TooNew, message).with_hint("use the newer version of rapidbyte"));
            }
            Some(VERSION) => {}
            _ => return Err(corrupt("it has no version")),
        }
        let document: Document =
            serde_json::from_str(text).map_err(|error| corrupt("its content is not complete").with_source(error))?;
        if document.state.digest() != document.sha256 {
            return Err(corrupt("its content does not match its checksum"));
        }
        Ok(document.state)
    }

    fn digest(&self) -> String {
        let compact = serde_json::to_string(self).expect("numbers and strings are always JSON");
        hex(&Sha256::digest(compact.as_bytes()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = text.as_bytes().iter().map(digit).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
