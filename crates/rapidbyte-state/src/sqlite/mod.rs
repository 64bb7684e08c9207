//! The store of one machine: a single SQLite file.

mod checksum;
mod dead_letters;
mod file;
mod key_values;
mod lock;
mod pipelines;
mod portable;
mod progress;
mod replays;
mod resets;
mod rows;
mod runs;
mod schema;
mod store;
mod verify;

pub use store::SqliteStore;
