//! The benchmarks, against the binary users get.

use crate::bundle::{self, Flavour};
use crate::run::{Failure, Outcome, must, root, target_dir, works};
use crate::system;
use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let Some(("instructions", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return instructions(rest);
    }
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

/// Instruction counts of the hot paths against the baseline.
fn instructions(arguments: &[String]) -> Outcome {
    if !works("valgrind", &["--version"]) {
        system::packages("valgrind", &["valgrind"])?;
    }
    let script = root().join("benches/instructions.py");
    must(Command::new("python3").arg(script).arg("--target-dir").arg(target_dir().join("meters")).args(arguments))
}
