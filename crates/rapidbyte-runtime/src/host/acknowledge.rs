//! `acknowledge`: a destination's word that a barrier is durable.

use super::{HostState, out_of_place};
use crate::link::Barrier;
use crate::requests::WriteStream;
use crate::wit::rapidbyte::connector::acknowledge::Host;
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types::{ConnectorError, DeadLetter, ErrorCategory, Receipt};
use std::collections::VecDeque;

/// Dead letters of one commit.
const MAX_LETTERS: usize = 10_000;

/// Where acknowledgements go. Called in the order of the barriers, once for each.
pub trait Acknowledged: Send {
    /// The barrier is durable; the receipts say how. An error is handed to the destination.
    ///
    /// # Errors
    /// When the receipts contradict what is known.
    fn acknowledged(&mut self, barrier: u64, receipts: Vec<Receipt>) -> Result<(), ConnectorError>;

    /// Rows the destination itself has put into its dead-letter table with this barrier's commit. Called right after
    /// [`Self::acknowledged`], and only if it went well.
    fn dead_letters(&mut self, barrier: u64, letters: Vec<DeadLetter>) {
        let _ = (barrier, letters);
    }
}

struct Expected {
    id: u64,
    last: bool,
    transform_state: Vec<(u32, Vec<u8>)>,
}

/// The state of one `write`.
pub(crate) struct AckState {
    streams: Vec<WriteStream>,
    expected: VecDeque<Expected>,
    letters: Vec<DeadLetter>,
    sink: Box<dyn Acknowledged>,
}

impl AckState {
    pub(crate) fn new(streams: Vec<WriteStream>, sink: Box<dyn Acknowledged>) -> Self {
        Self { streams, expected: VecDeque::new(), letters: Vec::new(), sink }
    }

    /// Commits not acknowledged yet.
    pub(crate) fn open(&self) -> usize {
        self.expected.len()
    }

    pub(crate) fn expect(&mut self, barrier: &Barrier) {
        let Barrier { id, last, transform_state, .. } = barrier;
        self.expected.push_back(Expected { id: *id, last: *last, transform_state: transform_state.clone() });
    }

    fn take(&mut self, id: u64, receipts: Vec<Receipt>) -> Result<(), ConnectorError> {
        let refused = |code: &str, message: String| ConnectorError::internal(code, message);
        let Some(expected) = self.expected.front() else {
            return Err(refused("unknown_barrier", format!("barrier {id} asked for no commit, or is acknowledged already")));
        };
        if expected.id != id {
            return Err(refused("barrier_order", format!("barrier {id} was acknowledged, {} comes first", expected.id)));
        }
        if receipts.is_empty() {
            return Err(refused("receipt_missing", format!("barrier {id} was acknowledged without a receipt")));
        }
        let mut seen = vec![false; self.streams.len()];
        for receipt in &receipts {
            let index = receipt.stream as usize;
            let Some(stream) = self.streams.get(index) else {
                return Err(refused("receipt_mismatch", format!("a receipt names stream {index}, which is not in this task")));
            };
            if std::mem::replace(&mut seen[index], true) {
                return Err(refused("receipt_mismatch", format!("stream {index} has two receipts for one commit")));
            }
            let same = receipt.generation == stream.generation
                && receipt.partition == stream.partition
                && receipt.epoch == stream.epoch
                && receipt.last == expected.last
                && receipt.seq > 0;
            if !same {
                return Err(refused(
                    "receipt_mismatch",
                    format!("the receipt of stream {index} is not of this task's generation, partition, epoch and barrier"),
                ));
            }
            // Rows and states belong together: reading on with other states would make other rows. Behind `last` nobody reads on.
            if !expected.last && receipt.transform_state != expected.transform_state {
                return Err(refused("receipt_mismatch", format!("the receipt of stream {index} has other transform states")));
            }
        }
        // Whatever the sink says, these letters belong to this acknowledgement and to no later one.
        let letters = std::mem::take(&mut self.letters);
        self.sink.acknowledged(id, receipts)?;
        self.expected.pop_front();
        if !letters.is_empty() {
            self.sink.dead_letters(id, letters);
        }
        Ok(())
    }

    fn keep(&mut self, letters: Vec<wit::DeadLetter>) -> Result<(), ConnectorError> {
        let refused = |code: &str, message: String| ConnectorError::internal(code, message);
        if self.letters.len() + letters.len() > MAX_LETTERS {
            return Err(refused("too_many_dead_letters", format!("at most {MAX_LETTERS} dead letters belong to one commit")));
        }
        if let Some(letter) = letters.iter().find(|letter| letter.stream as usize >= self.streams.len()) {
            return Err(refused("unknown_stream", format!("stream {} is not in this task", letter.stream)));
        }
        self.letters.extend(letters.into_iter().map(DeadLetter::from));
        Ok(())
    }
}

impl Host for HostState {
    async fn report_dead_letters(&mut self, letters: Vec<wit::DeadLetter>) -> wasmtime::Result<Result<(), wit::ConnectorError>> {
        let Some(acks) = &mut self.acks else { return Ok(Err(out_of_place("report-dead-letters", "write").into())) };
        Ok(acks.keep(letters).map_err(Into::into))
    }

    async fn acknowledge(
        &mut self,
        barrier_id: u64,
        receipts: Vec<wit::Receipt>,
    ) -> wasmtime::Result<Result<(), wit::ConnectorError>> {
        if let Some(error) = self.struck()? {
            return Ok(Err(ConnectorError::new(ErrorCategory::TransientNetwork, "struck", error.message).into()));
        }
        let Some(acks) = &mut self.acks else { return Ok(Err(out_of_place("acknowledge", "write").into())) };
        Ok(acks.take(barrier_id, crate::convert::all(receipts)).map_err(Into::into))
    }
}
