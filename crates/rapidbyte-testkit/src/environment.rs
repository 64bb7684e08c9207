//! Where `cargo xtask test` put things.

use std::path::{Path, PathBuf};
use std::process::Command;

#[track_caller]
fn named(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(value) => PathBuf::from(value),
        None => {
            panic!("`{variable}` is not set: run this through `cargo xtask test`, which builds and installs what the tests need")
        }
    }
}

/// The binary users get.
#[track_caller]
pub fn binary() -> PathBuf {
    named("RAPIDBYTE_TEST_BINARY")
}

/// The binary with crash points compiled in.
#[track_caller]
pub fn crash_binary() -> PathBuf {
    named("RAPIDBYTE_TEST_CRASH_BINARY")
}

/// The packed connectors, one directory each.
#[track_caller]
pub fn connectors() -> PathBuf {
    named("RAPIDBYTE_TEST_CONNECTORS")
}

/// The component file of a connector that is packed for tests only.
#[track_caller]
pub fn packed_fixture(name: &str) -> PathBuf {
    component(&named("RAPIDBYTE_TEST_FIXTURES"), name)
}

/// The component file of a packed connector.
#[track_caller]
pub fn packed_connector(name: &str) -> PathBuf {
    component(&connectors(), name)
}

fn component(dir: &Path, name: &str) -> PathBuf {
    let file = dir.join(name).join(format!("{}.wasm", name.replace('-', "_")));
    assert!(file.is_file(), "there is no packed connector {}", file.display());
    file
}

/// A Python with foreign readers of Parquet.
#[track_caller]
pub fn python() -> PathBuf {
    named("RAPIDBYTE_TEST_PYTHON")
}

/// The directory of PostgreSQL's programs.
#[track_caller]
pub fn postgres_bin() -> PathBuf {
    named("RAPIDBYTE_TEST_POSTGRES_BIN")
}

/// The checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Whether this process may do everything, which PostgreSQL refuses to run under, and which no file permission stops.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
