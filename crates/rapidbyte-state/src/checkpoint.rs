//! Progress, and the proof it takes to move it.

use crate::error::{ErrorKind, StateError};
use crate::pipeline::{PipelineId, check_length, check_name};
use rapidbyte_types::{MAX_POSITION_BYTES, Position, Receipt, StreamName};

/// Proof that everything up to a receipt's position is durable at the destination.
///
/// There are two ways to one: [`Self::from_acknowledgement`] for what a destination has just committed, and
/// [`Self::read_back`] for what it gave back at a claim. The engine calls each in one place. Nothing else may build one, which
/// is why the fields are private and there is no `Default` and no deserialisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableReceipt {
    pipeline: PipelineId,
    stream: StreamName,
    holder_epoch: u64,
    receipt: Receipt,
}

impl DurableReceipt {
    /// For a receipt that the destination has acknowledged as committed, called where the acknowledgement arrives.
    ///
    /// `stream` is the name at the source that the receipt's index stands for. The receipt's own epoch is the writer's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] for a receipt that can't be true: a generation, epoch or seq of zero, an empty or endless name, a
    /// position above 64 KiB, or none although the partition goes on.
    pub fn from_acknowledgement(receipt: Receipt, pipeline: PipelineId, stream: StreamName) -> Result<Self, StateError> {
        let holder_epoch = receipt.epoch;
        Self::checked(receipt, pipeline, stream, holder_epoch)
    }

    /// For a receipt that the destination gave back when `claimed_epoch` was claimed, called where the claim returns.
    ///
    /// Whoever wrote it, it is durable, and it is the claimant who vouches for it. So a commit whose mirror was lost to a crash
    /// is made up for by the next owner.
    ///
    /// # Errors
    ///
    /// As for [`Self::from_acknowledgement`], and for a receipt from an epoch beyond the claimed one.
    pub fn read_back(receipt: Receipt, pipeline: PipelineId, stream: StreamName, claimed_epoch: u64) -> Result<Self, StateError> {
        if receipt.epoch > claimed_epoch {
            let message = format!("the receipt's epoch {} lies beyond the claimed {claimed_epoch}", receipt.epoch);
            return Err(StateError::new(ErrorKind::Limit, message));
        }
        Self::checked(receipt, pipeline, stream, claimed_epoch)
    }

    fn checked(receipt: Receipt, pipeline: PipelineId, stream: StreamName, holder_epoch: u64) -> Result<Self, StateError> {
        for (what, number) in [("generation", receipt.generation), ("epoch", receipt.epoch), ("seq", receipt.seq)] {
            if number == 0 {
                return Err(StateError::new(ErrorKind::Limit, format!("the receipt's {what} is 0, they count from 1")));
            }
        }
        check_name("partition id", &receipt.partition)?;
        check_stream(&stream)?;
        match &receipt.position {
            Some(position) => check_length("position", position.value.len(), MAX_POSITION_BYTES)?,
            None if receipt.last => {}
            None => return Err(StateError::new(ErrorKind::Limit, "the receipt has no position although its partition goes on")),
        }
        Ok(Self { pipeline, stream, holder_epoch, receipt })
    }

    /// Whose progress.
    pub fn pipeline(&self) -> PipelineId {
        self.pipeline
    }

    /// Of which stream.
    pub fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// The epoch of the one who vouches for it.
    pub fn holder_epoch(&self) -> u64 {
        self.holder_epoch
    }

    /// The receipt itself.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }
}

/// Refuses stream names that are empty or endless.
pub(crate) fn check_stream(stream: &StreamName) -> Result<(), StateError> {
    check_name("stream name", &stream.name)?;
    match &stream.namespace {
        Some(namespace) => check_length("stream namespace", namespace.len(), crate::pipeline::MAX_NAME_BYTES),
        None => Ok(()),
    }
}

/// How far one partition of one generation is known to be durable. A receipt as kept; transforms' state stays with the
/// destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose progress.
    pub pipeline: PipelineId,
    /// Of which stream, by its name at the source.
    pub stream: StreamName,
    /// The load it belongs to.
    pub generation: u64,
    /// The share it belongs to.
    pub partition: String,
    /// Who wrote it.
    pub epoch: u64,
    /// Ascending per generation and partition, from 1.
    pub seq: u64,
    /// Where reading goes on.
    pub position: Option<Position>,
    /// Rows of this partition so far.
    pub rows: u64,
    /// Payload bytes of this partition so far.
    pub bytes: u64,
    /// The partition is complete.
    pub last: bool,
    /// Unix milliseconds at the destination.
    pub committed_at_ms: u64,
}

/// What became of something mirrored. None of the three is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// The store has moved forward.
    Advanced,
    /// It knew already.
    AlreadyThere,
    /// It knows something newer and has not moved. Expected only after the destination was set back to an older copy.
    Behind,
}
