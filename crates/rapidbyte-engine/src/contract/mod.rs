//! Contracts of streams, enforced at the boundary of their source: `docs/reference/contracts.md`.
//!
//! A schema is held to the contract when it is announced, before a row is moved, and again whenever it changes; each batch
//! before a transform or the destination sees it. Batches are decoded for streams with a contract alone, and go on as they came
//! where nothing in them is changed.

mod apply;
mod bind;
mod cast;
mod effects;
#[cfg(test)]
mod fixture;
mod kinds;
mod look;
mod moment;
mod number;
mod rule;
mod stage;
mod weight;

pub(crate) use effects::Comparable;
pub(crate) use look::{held_to, item, look};
pub(crate) use stage::Enforcer;
