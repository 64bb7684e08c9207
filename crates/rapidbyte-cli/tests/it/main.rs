//! The product as its users get it: these tests run the binary that `cargo xtask test` has built, and link none of it.

mod cancel;
mod cases;
mod checkpoints;
mod contract;
mod crash;
mod dead_letters;
mod evolution;
mod faults;
mod house;
mod incremental;
mod keys;
mod operator;
mod parallel;
mod plan;
mod postgres;
mod readme;
mod record;
mod scaffold;
mod secrets;
mod selection;
mod state;
mod tables;
mod types;
mod upsert;
mod verify;
mod wit_golden;
