//! PostgreSQL's frontend/backend protocol 3.0 over a socket of the host, blocking, for connectors.
//!
//! Everything the server sends is bounded before it is stored, every read has a deadline, and errors carry the SQLSTATE and a
//! category the engine can act on.

mod config;
mod connection;
mod copy;
mod digest;
mod error;
mod handshake;
mod identifier;
mod insert;
mod params;
mod replication;
mod scram;
mod transport;
mod user_type;
mod words;

#[cfg(all(feature = "test-server", not(target_family = "wasm")))]
pub mod test_server;

pub use config::{ConnectConfig, Secret, SslMode, split_config};
pub use connection::{Column, Connection, Row, TransactionStatus, settings};
pub use copy::{CopyIn, CopyOut, CopyOutError};
pub use digest::{HeldColumn, Rows as DigestedRows, described, held_columns, key_of, method as digest_method};
pub use error::{Error, ServerError};
pub use identifier::{MAX_IDENTIFIER_BYTES, quote_ident, quote_literal, quote_qualified};
pub use insert::InsertIn;
pub use params::Param;
pub use replication::{LogFrame, LogStream};
pub use user_type::{Shape, UserType};
