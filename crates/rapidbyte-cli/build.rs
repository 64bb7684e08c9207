//! Puts connectors, templates and the SDK's sources into the binary.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let package = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = package.join("../..").canonicalize()?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RAPIDBYTE_BUNDLE_DIR");
    fs::write(out.join("bundled.rs"), bundled(&root)?)?;
    fs::write(out.join("scaffold.rs"), scaffold(&root, &out)?)?;
    Ok(())
}

/// Name and bytes of each connector to be bundled.
fn bundled(root: &Path) -> Result<String, Fault> {
    let mut text = String::from("pub(super) static CONNECTORS: super::Bundled = &[\n");
    if env::var_os("CARGO_FEATURE_BUNDLED").is_some() {
        let dir = env::var_os("RAPIDBYTE_BUNDLE_DIR").ok_or(
            "the feature `bundled` needs RAPIDBYTE_BUNDLE_DIR, a directory with one directory per packed connector; \
             `cargo xtask build` makes it",
        )?;
        // Cargo runs this in the package; a relative directory is meant from the repository.
        let dir = root.join(dir);
        let wrong = |error: &dyn std::fmt::Display| format!("RAPIDBYTE_BUNDLE_DIR: `{}`: {error}", dir.display());
        println!("cargo::rerun-if-changed={}", dir.display());
        let mut found = 0;
        for entry in sorted(&dir).map_err(|error| wrong(&error))? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !entry.is_dir() {
                continue;
            }
            for file in sorted(&entry)?.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "wasm")) {
                println!("cargo::rerun-if-changed={}", file.display());
                writeln!(text, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())?;
                found += 1;
            }
        }
        if found == 0 {
            return Err(wrong(&"there is no `<name>/<component>.wasm` in it; `cargo xtask build` fills it").into());
        }
    }
    text.push_str("];\n");
    Ok(text)
}

/// Paths and texts of the files a scaffolded project is made of.
fn scaffold(root: &Path, out: &Path) -> Result<String, Fault> {
    let mut text = String::from("/// Templates: path below `templates/`, text.\npub(super) static TEMPLATES: super::Files = &[\n");
    embed(&mut text, &root.join("templates"), "")?;
    text.push_str("];\n/// What every project carries: path below `vendor/rapidbyte/`, text.\npub(super) static VENDORED: super::Files = &[\n");
    let crates = ["crates/rapidbyte-sdk", "crates/rapidbyte-types"];
    for path in crates {
        // Tests of these crates are theirs; a stranger's project needs what builds.
        embed_file(&mut text, &root.join(path).join("Cargo.toml"), &format!("{path}/Cargo.toml"))?;
        embed(&mut text, &root.join(path).join("src"), &format!("{path}/src/"))?;
    }
    embed(&mut text, &root.join("wit/v2"), "wit/v2/")?;
    let manifests = crates.iter().map(|path| fs::read_to_string(root.join(path).join("Cargo.toml")));
    let workspace = out.join("vendored-workspace.toml");
    fs::write(&workspace, vendored_workspace(&root.join("Cargo.toml"), &manifests.collect::<Result<Vec<_>, _>>()?)?)?;
    embed_file(&mut text, &workspace, "Cargo.toml")?;
    for licence in ["LICENSE"] {
        if root.join(licence).is_file() {
            embed_file(&mut text, &root.join(licence), licence)?;
        }
    }
    text.push_str("];\n");
    Ok(text)
}

fn embed(text: &mut String, dir: &Path, prefix: &str) -> Result<(), Fault> {
    println!("cargo::rerun-if-changed={}", dir.display());
    for path in sorted(dir).map_err(|error| format!("{}: {error}", dir.display()))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" {
                embed(text, &path, &format!("{prefix}{name}/"))?;
            }
        } else {
            embed_file(text, &path, &format!("{prefix}{name}"))?;
        }
    }
    Ok(())
}

fn embed_file(text: &mut String, path: &Path, name: &str) -> Result<(), Fault> {
    println!("cargo::rerun-if-changed={}", path.display());
    writeln!(text, "    ({name:?}, include_str!({:?})),", path.display().to_string())?;
    Ok(())
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>, std::io::Error> {
    let mut paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// A workspace of the vendored crates alone, with the versions and lints of this one.
fn vendored_workspace(file: &Path, members: &[String]) -> Result<String, Fault> {
    println!("cargo::rerun-if-changed={}", file.display());
    let used: BTreeSet<&str> = members
        .iter()
        .flat_map(|manifest| manifest.lines())
        .filter(|line| line.contains("workspace = true"))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .collect();
    let mut text = String::from(
        "# The SDK a connector is built with, as it was when the project was made. Third-party crates come from the registry.\n\
         [workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n",
    );
    let mut section = String::new();
    for line in fs::read_to_string(file)?.lines() {
        if line.starts_with('[') {
            section = line.trim().to_owned();
            let kept = section == "[workspace.package]" || section == "[workspace.dependencies]" || section.starts_with("[workspace.lints");
            if kept {
                write!(text, "\n{line}\n")?;
            }
            continue;
        }
        let key = line.split([' ', '=', '.']).next().unwrap_or_default();
        let kept = match section.as_str() {
            "[workspace.package]" => true,
            "[workspace.dependencies]" => used.contains(key),
            section => section.starts_with("[workspace.lints"),
        };
        if kept && !key.is_empty() && !line.starts_with('#') {
            if line.matches(['[', '{']).count() != line.matches([']', '}']).count() {
                return Err(format!("{}: write `{key}` on one line: scaffolding copies it", file.display()).into());
            }
            writeln!(text, "{line}")?;
        }
    }
    Ok(text)
}
