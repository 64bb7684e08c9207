//! The engine as a program that embeds it has it: many runs in one process, with real connectors.

mod leftovers;
