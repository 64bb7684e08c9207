//! Where Rapidbyte remembers: pipelines, runs, epochs, checkpoints, generations, dead letters and connectors' key-values.
//!
//! The destination is the truth; what stands here about progress is a copy of its receipts, so that losing this store costs
//! time and never rows. Three rules follow, and the types hold them:
//!
//! - **Progress moves on nothing but a durable receipt.** [`StateStore::mirror`] takes a [`DurableReceipt`], which is built
//!   from a receipt that the destination acknowledged or gave back at a claim, and from nothing else.
//! - **Nothing moves backward.** Epochs advance by compare-and-swap, checkpoints by (generation, seq), and a writer whose epoch
//!   has been overtaken is [`ErrorKind::Fenced`].
//! - **A damaged store is refused, never guessed at.** Rows carry checksums and tables a ledger of them; whatever does not
//!   agree is [`ErrorKind::Corrupt`].
//!
//! No secrets belong here. The store writes what it is given: messages, hints, dead letters and key-values must have been
//! redacted by the caller.
//!
//! [`StateStore`] is the interface, [`SqliteStore`] the implementation for one machine. Calls block; from async code make them
//! on a thread that may.
//!
//! ```
//! use rapidbyte_state::{DurableReceipt, Mirrored, SqliteStore, StateStore};
//! use rapidbyte_types::{CursorType, Position, Receipt, StreamName};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("state.db");
//! let store = SqliteStore::open(path)?;
//! let pipeline = store.resolve_pipeline("sales", "sha256:of-the-source", 1_700_000_000_000)?;
//! let guard = store.lock_run(pipeline.id, "0b0f6a3e-run")?;
//! let interrupted = store.begin_run(&guard, 1_700_000_000_001)?;
//! assert!(interrupted.is_empty());
//!
//! let orders = StreamName::qualified("public", "orders");
//! let known = store.epoch(pipeline.id, &orders)?;
//! let claimed = known + 1; // by the destination, which may know a higher one
//! store.advance_epoch(pipeline.id, &orders, known, claimed)?;
//!
//! # let acknowledged = Receipt { stream: 0, generation: 1, partition: "0".into(), epoch: claimed, seq: 1,
//! #     position: Some(Position::new(CursorType::Int64, "41")), rows: 41, bytes: 4_100, last: false,
//! #     transform_state: Vec::new(), committed_at_ms: 1_700_000_000_002 };
//! // `acknowledged` is the receipt of a commit at the destination.
//! let durable = DurableReceipt::from_acknowledgement(acknowledged, pipeline.id, orders.clone())?;
//! assert_eq!(store.mirror(&durable)?, Mirrored::Advanced);
//! assert_eq!(store.mirror(&durable)?, Mirrored::AlreadyThere);
//! assert_eq!(store.checkpoints(pipeline.id, &orders)?[0].rows, 41);
//! # Ok(())
//! # }
//! ```

mod checkpoint;
mod dead_letter;
mod error;
mod generation;
mod key_value;
mod pipeline;
mod portable;
mod reset;
mod run;
mod sqlite;
mod store;

pub use checkpoint::{Checkpoint, DurableReceipt, Mirrored};
pub use dead_letter::{DeadLetterEntry, DeadLetterKey, DeadLetterSummary, MAX_DEAD_LETTER_BYTES, ReplayRecord};
pub use error::{ErrorKind, StateError};
pub use generation::{GenerationRecord, GenerationState};
pub use key_value::{KeyValueScope, MAX_KEY_BYTES, MAX_KEYS_PER_SCOPE, MAX_VALUE_BYTES};
pub use pipeline::{MAX_NAME_BYTES, PipelineId, PipelineRecord};
pub use portable::{ImportReport, MAX_EXPORT_BYTES, StateExport};
pub use reset::ResetRecord;
pub use run::{RunError, RunGuard, RunOutcome, RunRecord, RunStatus, RunTotals, StreamResult, StreamStatus};
pub use sqlite::SqliteStore;
pub use store::StateStore;
