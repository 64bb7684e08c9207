//! Connectors, packed; and the binary that carries them.

use crate::guest_toolchain::{self, TARGET};
use crate::run::{Failure, Outcome, cargo, guests_dir, io, must, root, say, target_dir};
use rapidbyte_config::manifest;
use std::fs;
use std::path::{Path, PathBuf};

/// Which binary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// What users run.
    Release,
    /// The same with crash points compiled in.
    CrashPoints,
}

/// Every connector of the tree.
fn names() -> Outcome<Vec<String>> {
    let dir = root().join("connectors");
    let mut names: Vec<String> = fs::read_dir(&dir)
        .map_err(io("could not read connectors/"))?
        .flatten()
        .filter(|entry| entry.path().join("manifest.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

/// Builds every connector for the sandbox and packs it: `<target>/connectors/<name>/{manifest.json,<entry point>}`.
pub(crate) fn connectors() -> Outcome<PathBuf> {
    let guest = guest_toolchain::ensure()?;
    say("building the connectors for the sandbox");
    let built = guests_dir();
    must(guest.cargo().current_dir(root().join("connectors")).env("CARGO_TARGET_DIR", &built).env_remove("RUSTFLAGS").args([
        "build",
        "--release",
        "--locked",
        "--target",
        TARGET,
    ]))?;
    let packed = target_dir().join("connectors");
    for name in names()? {
        let into = if name.starts_with("probe-") { fixtures_dir() } else { packed.clone() };
        let file = format!("{}.wasm", name.replace('-', "_"));
        pack(
            &built.join(TARGET).join("release").join(&file),
            &root().join("connectors").join(&name).join("manifest.json"),
            &into.join(&name),
        )?;
    }
    Ok(packed)
}

/// Where the tests' own connectors are packed: those named `probe-…`, which are not bundled.
pub(crate) fn fixtures_dir() -> PathBuf {
    target_dir().join("fixtures")
}

fn pack(component: &Path, manifest_file: &Path, into: &Path) -> Outcome {
    let shown = manifest_file.display();
    let wasm = fs::read(component).map_err(io(format_args!("could not read {}", component.display())))?;
    let json = fs::read(manifest_file).map_err(io(format_args!("could not read {shown}")))?;
    let packed = manifest::pack(&wasm, &json).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
    let entry = manifest::Manifest::parse(&packed.manifest_json)
        .map_err(|error| Failure::new(format!("{shown}: {error}")))?
        .artifact
        .entry_point;
    fs::create_dir_all(into).map_err(io(format_args!("could not make {}", into.display())))?;
    // Unchanged files keep their time, so that the binary is not linked again for nothing.
    for (name, bytes) in [(entry.as_str(), &packed.wasm), ("manifest.json", &packed.manifest_json)] {
        let path = into.join(name);
        if fs::read(&path).ok().as_deref() != Some(bytes.as_slice()) {
            fs::write(&path, bytes).map_err(io(format_args!("could not write {}", path.display())))?;
        }
    }
    Ok(())
}

/// Builds the binary with the connectors inside; its path.
pub(crate) fn binary(flavour: Flavour) -> Outcome<PathBuf> {
    let connectors = connectors()?;
    say("building rapidbyte (the first time takes some minutes: it compiles the sandbox)");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--package", "rapidbyte-cli"]).env("RAPIDBYTE_BUNDLE_DIR", &connectors);
    match flavour {
        Flavour::Release => must(build.args(["--features", "bundled"]))?,
        Flavour::CrashPoints => must(build.args(["--features", "bundled,crash-points"]))?,
    }
    let built = target_dir().join("release/rapidbyte");
    let kept = match flavour {
        Flavour::Release => target_dir().join("bin/rapidbyte"),
        Flavour::CrashPoints => target_dir().join("bin/rapidbyte-crash-points"),
    };
    fs::create_dir_all(target_dir().join("bin")).map_err(io("could not make the bin directory"))?;
    // A running binary can't be overwritten, but its name can be given to another.
    let fresh = kept.with_extension("new");
    fs::copy(&built, &fresh).and_then(|_| fs::rename(&fresh, &kept)).map_err(io("could not copy the binary"))?;
    Ok(kept)
}
