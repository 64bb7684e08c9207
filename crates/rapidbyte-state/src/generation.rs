//! Loads as the store remembers them.

use std::fmt;

/// How a generation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GenerationState {
    /// Being loaded, not visible.
    Open,
    /// Visible and closed.
    Published,
}

impl GenerationState {
    /// Every state, in the order they are passed through.
    pub const ALL: &'static [Self] = &[Self::Open, Self::Published];

    /// The state as a stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Published => "published",
        }
    }
}

impl fmt::Display for GenerationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One load of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationRecord {
    /// Ascending per stream, from 1.
    pub number: u64,
    /// Names the data pinned.
    pub snapshot: String,
    /// How it stands.
    pub state: GenerationState,
}
