//! What a run would do at a destination. The words are explained in `wit/v2/dry-run.wit`.

use serde::Serialize;

/// What kind of thing would happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectKind {
    /// Something is made.
    Create,
    /// Something that is there is changed.
    Alter,
    /// How rows are written.
    Write,
    /// What a policy does about columns that differ.
    Policy,
    /// The run would end with this error.
    Refusal,
}

impl EffectKind {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Alter => "alter",
            Self::Write => "write",
            Self::Policy => "policy",
            Self::Refusal => "refusal",
        }
    }
}

/// One thing that would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// What kind of thing.
    pub kind: EffectKind,
    /// In words.
    pub message: String,
    /// The exact statement that would run.
    pub sql: Option<String>,
    /// What to do about a refusal.
    pub hint: Option<String>,
}

/// What would happen to the target of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedTarget {
    /// The target in words.
    pub place: String,
    /// Whether it is there.
    pub exists: bool,
    /// A guess at its rows.
    pub rows: Option<u64>,
    /// What would happen, in order.
    pub effects: Vec<Effect>,
}
