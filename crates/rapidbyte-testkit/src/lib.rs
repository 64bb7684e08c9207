//! What the tests of the whole product need: a database server of their own, a runner of the binary as users get it, meters
//! of processes, a watcher for secrets, and the record of long proofs.
//!
//! `cargo xtask test` builds the binaries, installs what is missing, and says where things are through the environment. Nothing here
//! is linked with the product: tests see what a user sees.
//!
//! These are helpers of tests: they panic, naming their caller, rather than return errors.

mod canary;
mod command;
mod deadline;
mod environment;
mod fault;
mod postgres;
mod process;
mod project;
mod proof;
mod random;
mod tls;

pub use canary::Canary;
pub use command::{Finished, Rapidbyte, Running};
pub use deadline::{AtLast, within, within_polled};
pub use environment::{binary, connectors, crash_binary, is_root, packed_connector, packed_fixture, postgres_bin, python, root};
pub use fault::Fault;
pub use postgres::{Database, Postgres, PostgresOptions, Stop, TableHash};
pub use process::{children_of, exists, open_files, peak_memory_of_tree, signal, threads_of};
pub use project::Project;
pub use proof::{Proof, is_full};
pub use random::Seeded;
pub use tls::Authority;
