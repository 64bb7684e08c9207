//! `acknowledge`: a destination's word that a barrier is durable.

use super::{HostState, out_of_place};
use crate::link::Barrier;
use crate::requests::WriteStream;
use crate::wit::rapidbyte::connector::acknowledge::Host;
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types::{ConnectorError, DataErrorPolicy, DeadLetter, ErrorCategory, Receipt, StreamContext};
use std::collections::VecDeque;

/// Dead letters of one commit.
const MAX_LETTERS: usize = 10_000;

/// Where acknowledgements go. Called in the order of the barriers, once for each.
pub trait Acknowledged: Send {
    /// The barrier is durable; the receipts say how. An error is handed to the destination.
    ///
    /// `letters` are the rows that this commit has put into the destination's dead-letter table: first those that came to it
    /// as events since the commit before, in their order, then those it reported itself.
    ///
    /// # Errors
    /// When the receipts contradict what is known.
    fn acknowledged(&mut self, barrier: u64, receipts: Vec<Receipt>, letters: Vec<DeadLetter>) -> Result<(), ConnectorError>;
}

struct Expected {
    id: u64,
    last: bool,
    transform_state: Vec<(u32, Vec<u8>)>,
    /// Letters that came between the commit before and this one.
    arrived: Vec<DeadLetter>,
}

/// Refuses letters where the pipeline does not ask for them: to give a row up then is to lose it against the declared policy.
fn asked_for(stream: &StreamContext) -> Result<(), ConnectorError> {
    let policy = stream.policies.on_data_error;
    if policy == DataErrorPolicy::Dlq {
        return Ok(());
    }
    let message = format!("rows of `{}` were given up as dead letters, and `on_data_error` is `{policy}`", stream.name);
    Err(ConnectorError::data("rows_given_up", message)
        .with_hint("set `on_data_error: dlq` on the destination, or mend what makes the rows fail"))
}

/// The error of more letters than a commit may have.
fn too_many_letters() -> ConnectorError {
    ConnectorError::data("too_many_dead_letters", format!("more than {MAX_LETTERS} dead letters came between two commits"))
        .with_hint("mend the cause that the newest letters name, or commit more often with `resources.checkpoint_interval_rows`")
}

/// The state of one `write`.
pub(crate) struct AckState {
    streams: Vec<WriteStream>,
    expected: VecDeque<Expected>,
    /// Came since the newest barrier.
    arrived: Vec<DeadLetter>,
    /// Reported by the destination for the acknowledgement that comes next.
    letters: Vec<DeadLetter>,
    sink: Box<dyn Acknowledged>,
}

impl AckState {
    pub(crate) fn new(streams: Vec<WriteStream>, sink: Box<dyn Acknowledged>) -> Self {
        Self { streams, expected: VecDeque::new(), arrived: Vec::new(), letters: Vec::new(), sink }
    }

    /// Commits not acknowledged yet.
    pub(crate) fn open(&self) -> usize {
        self.expected.len()
    }

    pub(crate) fn expect(&mut self, barrier: &Barrier) {
        let Barrier { id, last, transform_state, .. } = barrier;
        let arrived = std::mem::take(&mut self.arrived);
        self.expected.push_back(Expected { id: *id, last: *last, transform_state: transform_state.clone(), arrived });
    }

    /// Refuses letters of streams that are not in the task, or whose policy is another.
    fn wanted(&self, streams: impl Iterator<Item = u32>) -> Result<(), ConnectorError> {
        for index in streams {
            let Some(stream) = self.streams.get(index as usize) else {
                return Err(ConnectorError::internal("unknown_stream", format!("stream {index} is not in this task")));
            };
            asked_for(&stream.context)?;
        }
        Ok(())
    }

    /// Letters of earlier stages are on their way to the destination.
    pub(crate) fn arrive(&mut self, letters: &[DeadLetter]) -> Result<(), ConnectorError> {
        self.wanted(letters.iter().map(|letter| letter.stream))?;
        if self.arrived.len() + letters.len() > MAX_LETTERS {
            return Err(too_many_letters());
        }
        self.arrived.extend_from_slice(letters);
        Ok(())
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
        let own = std::mem::take(&mut self.letters);
        let mut letters = self.expected.pop_front().map_or_else(Vec::new, |expected| expected.arrived);
        letters.extend(own);
        if letters.len() > MAX_LETTERS {
            return Err(too_many_letters());
        }
        self.sink.acknowledged(id, receipts, letters)
    }

    fn keep(&mut self, letters: Vec<wit::DeadLetter>) -> Result<(), ConnectorError> {
        self.wanted(letters.iter().map(|letter| letter.stream))?;
        if self.letters.len() + letters.len() > MAX_LETTERS {
            return Err(too_many_letters());
        }
        self.letters.extend(letters.into_iter().map(DeadLetter::from));
        Ok(())
    }
}

/// The state of one `publish`.
pub(crate) struct PublishState {
    stream: StreamContext,
    letters: Vec<DeadLetter>,
}

impl PublishState {
    pub(crate) fn new(stream: StreamContext) -> Self {
        Self { stream, letters: Vec::new() }
    }

    pub(crate) fn into_letters(self) -> Vec<DeadLetter> {
        self.letters
    }

    fn keep(&mut self, letters: Vec<wit::DeadLetter>) -> Result<(), ConnectorError> {
        asked_for(&self.stream)?;
        if self.letters.len() + letters.len() > MAX_LETTERS {
            return Err(too_many_letters());
        }
        self.letters.extend(letters.into_iter().map(DeadLetter::from));
        Ok(())
    }
}

impl Host for HostState {
    async fn report_dead_letters(&mut self, letters: Vec<wit::DeadLetter>) -> wasmtime::Result<Result<(), wit::ConnectorError>> {
        if let Some(published) = &mut self.published {
            return Ok(published.keep(letters).map_err(Into::into));
        }
        let Some(acks) = &mut self.acks else { return Ok(Err(out_of_place("report-dead-letters", "write` or `publish").into())) };
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
