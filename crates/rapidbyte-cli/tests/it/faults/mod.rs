//! What may go wrong, does: at every point of the work, on every connection, at any instant. `docs/reference/faults.md` has the
//! end states.

mod documents;
mod instants;
mod machines;
mod matrix;
mod memory;
mod network;
mod replace;
mod server;
mod world;
