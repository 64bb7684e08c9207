//! The state store from outside: what it keeps, what it refuses, and what it does with damaged files.

mod damage;
mod fixture;
mod keeping;
mod locking;
mod moving;
mod progress;
mod refusal;
