//! All tests, with everything they need.

use crate::bundle::{self, Flavour};
use crate::run::{Failure, Outcome, cargo, guests_dir, io, must, root, say, target_dir};
use crate::system;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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
    let mut ahead = filters.is_empty().then(compile_connectors_ahead).transpose()?;
    let tested = must(&mut host);
    if let Some(compiler) = &mut ahead {
        if tested.is_err() {
            // It may have ended already.
            let _ = compiler.kill();
        }
        compiler.wait().map_err(io("could not wait for the compiler"))?;
    }
    tested?;
    say("testing the connectors natively");
    let mut connectors = connectors_tests(cargo());
    connectors.args(filters);
    told(&mut connectors, &binary, &crashing)?;
    must(&mut connectors)?;
    Ok(())
}

/// The connectors' own tests, natively.
fn connectors_tests(mut cargo: Command) -> Command {
    cargo.current_dir(root().join("connectors")).env("CARGO_TARGET_DIR", guests_dir()).args(["test", "--locked", "--workspace"]);
    cargo
}

/// Compiles the connectors' tests while those of the host, which wait for servers half of their time, run. It takes what they leave of
/// the machine, says nothing, and its errors are those of the build that comes after it.
fn compile_connectors_ahead() -> Outcome<Child> {
    let cargo = cargo();
    let mut polite = Command::new("nice");
    polite.args(["-n", "19"]).arg(cargo.get_program());
    for (name, value) in cargo.get_envs() {
        match value {
            Some(value) => polite.env(name, value),
            None => polite.env_remove(name),
        };
    }
    connectors_tests(polite)
        .arg("--no-run")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(io("could not start `nice`"))
}
