//! Puts connectors, templates and the SDK's sources into the binary.

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
    println!("cargo::rustc-env=RAPIDBYTE_BUILD_TARGET={}", env::var("TARGET")?);
    fs::write(out.join("bundled.rs"), bundled(&root)?)?;
    fs::write(out.join("scaffold.rs"), scaffold(&root)?)?;
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

/// Paths and texts of the files a scaffolded project is made of; `templates/README.md` says how.
fn scaffold(root: &Path) -> Result<String, Fault> {
    let mut text =
        String::from("/// A project per role: path below `templates/`, text.\npub(super) static TEMPLATES: super::Files = &[\n");
    for role in ["source", "destination", "transform"] {
        let folder = format!("connector-{role}");
        embed(&mut text, &root.join("templates").join(&folder), &format!("{folder}/"))?;
    }
    text.push_str("];\n/// What every project carries: its path, text.\npub(super) static SHARED: super::Files = &[\n");
    embed_file(&mut text, &root.join("connectors/Cargo.lock"), "Cargo.lock")?;
    embed_file(&mut text, &root.join("templates/vendor/Cargo.toml"), "vendor/Cargo.toml")?;
    for path in ["crates/rapidbyte-sdk", "crates/rapidbyte-types"] {
        embed_file(&mut text, &root.join(path).join("Cargo.toml"), &format!("vendor/{path}/Cargo.toml"))?;
        embed(&mut text, &root.join(path).join("src"), &format!("vendor/{path}/src/"))?;
    }
    embed(&mut text, &root.join("wit/v2"), "vendor/wit/v2/")?;
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
