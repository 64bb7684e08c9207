//! The destination against a PostgreSQL server of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says so by a panic")]

mod harness;

mod changes;
mod dead_letters;
mod earlier_rows;
mod every_type;
mod evolution;
mod fencing;
mod identity;
mod insert;
mod life_cycle;
mod names;
mod outcome_unknown;
mod replace;
mod targets;
mod types;
mod upsert;
mod vanished;
