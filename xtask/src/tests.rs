//! All tests, with everything they need.

use crate::bundle::{self, Flavour};
use crate::guest_toolchain::{self, TARGET};
use crate::run::{Failure, Outcome, cargo, guests_dir, must, root, say, target_dir};
use crate::system;
use std::path::Path;
use std::process::Command;

/// What the tests are told through the environment.
pub(crate) fn told(command: &mut Command, binary: &Path, crashing: &Path) -> Outcome {
    let postgres = system::postgres_bin().ok_or_else(|| Failure::new("PostgreSQL 15 is not installed"))?;
    command
        .env("RAPIDBYTE_TEST_BINARY", binary)
        .env("RAPIDBYTE_TEST_CRASH_BINARY", crashing)
        .env("RAPIDBYTE_TEST_CONNECTORS", target_dir().join("connectors"))
        .env("RAPIDBYTE_TEST_FIXTURES", bundle::fixtures_dir())
        .env("RAPIDBYTE_TEST_PYTHON", system::python()?)
        .env("RAPIDBYTE_TEST_POSTGRES_BIN", postgres);
    Ok(())
}

/// Both binaries the tests run: what users get, and the one with crash points.
pub(crate) fn binaries() -> Outcome<(std::path::PathBuf, std::path::PathBuf)> {
    let crashing = bundle::binary(Flavour::CrashPoints)?;
    let binary = bundle::binary(Flavour::Release)?;
    Ok((binary, crashing))
}

pub(crate) fn run(filters: &[String]) -> Outcome {
    system::for_tests()?;
    let (binary, crashing) = binaries()?;
    say("testing the host");
    let mut host = cargo();
    // With the features of the binary that was built last, so that it is not built once more without them.
    host.args(["test", "--release", "--locked", "--workspace", "--features", "rapidbyte-cli/bundled"])
        .env("RAPIDBYTE_BUNDLE_DIR", target_dir().join("connectors"))
        .args(filters);
    told(&mut host, &binary, &crashing)?;
    must(&mut host)?;
    if filters.is_empty() {
        say("testing the crash points themselves");
        must(cargo().args([
            "test",
            "--release",
            "--locked",
            "--package",
            "rapidbyte-runtime",
            "--features",
            "crash-points",
            "--test",
            "crash_points",
        ]))?;
    }
    say("testing the connectors natively");
    let mut connectors = cargo();
    connectors
        .current_dir(root().join("connectors"))
        .env("CARGO_TARGET_DIR", guests_dir())
        .args(["test", "--locked", "--workspace"])
        .args(filters);
    told(&mut connectors, &binary, &crashing)?;
    must(&mut connectors)?;
    if filters.is_empty() {
        say("checking that the SDK stands on its own for the sandbox");
        must(
            guest_toolchain::ensure()?.cargo().current_dir(root().join("connectors")).env("CARGO_TARGET_DIR", guests_dir()).args([
                "check",
                "--locked",
                "--package",
                "rapidbyte-sdk",
                "--target",
                TARGET,
            ]),
        )?;
    }
    Ok(())
}
