//! Rows in Arrow, as both sides of the wire need them: record batches in Arrow IPC, the exact text of any value, columns with
//! values beyond their type, and the records of dead letters.

mod batch;

pub mod letter;
pub mod split;
pub mod text;

pub use batch::{BatchDecoder, BatchEncoder, decode_schema, encode_schema};
