//! Rows given up since the last commit, by the stream's `on_data_error`.

use rapidbyte_sdk::letter::{LetterCount, letter};
use rapidbyte_sdk::{ConnectorError, DataErrorPolicy, DeadLetter, ErrorCategory};

/// Rows of one stream that can't be written.
#[derive(Debug)]
pub(crate) struct Rejects {
    stream: u32,
    policy: DataErrorPolicy,
    arrived: Vec<DeadLetter>,
    own: Vec<DeadLetter>,
    count: LetterCount,
    skipped: u64,
}

/// The code of more letters than a commit may have.
const TOO_MANY: &str = "too_many_dead_letters";

/// Whether an error is a row's own: the same statement without that row may go through.
pub(crate) fn of_a_row(error: &ConnectorError) -> bool {
    error.category == ErrorCategory::Data && error.code != TOO_MANY
}

impl Rejects {
    /// `stream` is the place in the request.
    pub(crate) fn new(stream: u32, policy: DataErrorPolicy) -> Self {
        Self { stream, policy, arrived: Vec::new(), own: Vec::new(), count: LetterCount::default(), skipped: 0 }
    }

    /// Whether rows that fail are left out, and do not fail the others.
    pub(crate) fn tolerant(&self) -> bool {
        self.policy != DataErrorPolicy::Fail
    }

    /// Whether rows that fail are kept.
    pub(crate) fn keeps(&self) -> bool {
        self.policy == DataErrorPolicy::Dlq
    }

    /// One that an earlier stage gave up.
    pub(crate) fn arrived(&mut self, letter: DeadLetter) -> Result<(), ConnectorError> {
        self.count.add(&letter)?;
        self.arrived.push(letter);
        Ok(())
    }

    /// One that we give up; its record is asked for only if it is kept.
    pub(crate) fn add(
        &mut self,
        error: &ConnectorError,
        record: impl FnOnce() -> Result<String, ConnectorError>,
    ) -> Result<(), ConnectorError> {
        if !self.keeps() {
            self.skipped += 1;
            return Ok(());
        }
        let letter = letter(self.stream, record()?, &error.message, error.category);
        self.count.add(&letter)?;
        self.own.push(letter);
        Ok(())
    }

    /// All, in the order of their ordinals.
    pub(crate) fn letters(&self) -> impl Iterator<Item = &DeadLetter> {
        self.arrived.iter().chain(&self.own)
    }

    /// Those the host does not know of yet.
    pub(crate) fn own(&self) -> &[DeadLetter] {
        &self.own
    }

    /// Rows left out without a letter.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// They are durable.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.stream, self.policy);
    }
}
