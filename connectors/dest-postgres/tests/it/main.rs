//! The destination against a PostgreSQL server of the test's own.

mod harness;

mod fencing;
mod life_cycle;
mod outcome_unknown;
mod replace;
mod types;
