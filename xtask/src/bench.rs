//! The benchmarks, against the binary users get.

use crate::bundle::{self, Flavour};
use crate::run::{Failure, Outcome, cargo, guests_dir, must, root, target_dir, works};
use crate::{system, tests};
use std::path::PathBuf;
use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        Some(("instructions", rest)) => return instructions(rest),
        Some(("speeds", [])) => return speeds(),
        _ => {}
    }
    system::for_tests()?;
    let binary = bundle::binary(Flavour::Release)?;
    let postgres = system::postgres_bin().ok_or_else(|| Failure::new("PostgreSQL 15 is not installed"))?;
    must(
        Command::new("python3")
            .arg(root().join("benches/run.py"))
            .arg("--rapidbyte")
            .arg(&binary)
            .arg("--native")
            .arg(native()?)
            .arg("--python")
            .arg(system::python()?)
            .arg("--postgres-bin")
            .arg(&postgres)
            .args(arguments),
    )
}

/// The connectors built for this machine, in one process.
fn native() -> Outcome<PathBuf> {
    must(cargo().current_dir(root().join("connectors")).env("CARGO_TARGET_DIR", guests_dir()).args([
        "build",
        "--release",
        "--locked",
        "--package",
        "dest-postgres",
        "--example",
        "native",
    ]))?;
    Ok(guests_dir().join("release/examples/native"))
}

/// Instruction counts of the hot paths against the baseline.
fn instructions(arguments: &[String]) -> Outcome {
    if !works("valgrind", &["--version"]) {
        system::packages("valgrind", &["valgrind"])?;
    }
    let script = root().join("benches/instructions.py");
    must(Command::new("python3").arg(script).arg("--target-dir").arg(target_dir().join("meters")).args(arguments))
}

/// Seconds of the tests named `speed_of_…`, which are ignored elsewhere since they only measure.
fn speeds() -> Outcome {
    system::for_tests()?;
    let (binary, crashing) = tests::binaries()?;
    let measure = ["--ignored", "--nocapture", "speed_of_"];
    let mut host = cargo();
    host.args(["test", "--release", "--locked", "--workspace", "--test", "it", "--"]).args(measure);
    tests::told(&mut host, &binary, &crashing)?;
    must(&mut host)?;
    let mut connectors = cargo();
    connectors
        .current_dir(root().join("connectors"))
        .env("CARGO_TARGET_DIR", guests_dir())
        .args(["test", "--release", "--locked", "--package", "source-postgres", "--test", "it", "--"])
        .args(measure);
    tests::told(&mut connectors, &binary, &crashing)?;
    must(&mut connectors)
}
