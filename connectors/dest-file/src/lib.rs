//! Writes streams as Parquet, JSON lines or CSV into a folder that the host grants.
//!
//! What a reader sees of a stream is one symbolic link to a complete directory; it moves in one rename. What has been
//! committed is told by numbered manifests, each created by a hard link that fails where the number exists already.
//! `README.md` holds the layout and the promises.

mod changes;
mod config;
mod control;
mod destination;
mod disk;
mod evolution;
mod folder;
mod format;
mod letters;
mod manifest;
mod names;
mod publish;
mod write;

#[cfg(test)]
mod tests;

pub use config::{Config, CsvOptions};
pub use destination::DestFile;

rapidbyte_sdk::connector_main!(destination, DestFile);
