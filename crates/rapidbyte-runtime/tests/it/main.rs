//! The sandbox against guests that misbehave, and the paths that data takes through it.

mod flow;
mod handmade;
mod load;
mod net;
mod output;
mod support;
mod tls;
mod traps;
mod wasi;
