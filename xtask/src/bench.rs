//! The benchmarks, against the binary users get.

use crate::bundle::{self, Flavour};
use crate::run::{Failure, Outcome, must, root};
use crate::system;
use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    system::for_tests()?;
    let binary = bundle::binary(Flavour::Release)?;
    let postgres = system::postgres_bin().ok_or_else(|| Failure::new("PostgreSQL 15 is not installed"))?;
    must(
        Command::new("python3")
            .arg(root().join("benches/run.py"))
            .arg("--rapidbyte")
            .arg(&binary)
            .arg("--postgres-bin")
            .arg(&postgres)
            .args(arguments),
    )
}
