//! `connectors pack`: a built component and its manifest become one file.

use super::Context;
use crate::args::PackArgs;
use crate::bundle::{read_capped, read_component};
use crate::failure::{Failure, Outcome};
use rapidbyte_config::manifest::{self, MAX_MANIFEST_BYTES, Manifest};
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cargo puts components.
const BUILT: &str = "target/wasm32-wasip2/release";

pub(crate) fn run(context: &Context, args: &PackArgs) -> Outcome {
    let component = pack(args)?;
    if context.printer.is_json() {
        return context
            .printer
            .json(&json!({ "status": "succeeded", "exit_code": 0, "component": component.display().to_string() }));
    }
    context.printer.data(&format!("{}\n", component.display()))
}

fn pack(args: &PackArgs) -> Outcome<PathBuf> {
    let manifest_file = args.project.join("manifest.json");
    let json = read_capped(&manifest_file, MAX_MANIFEST_BYTES).map_err(|error| Failure::File {
        doing: "read",
        path: manifest_file.clone(),
        error,
        hint: Some("name the connector's project: `rapidbyte connectors pack <DIR>`".to_owned()),
    })?;
    let wrong = |path: &Path| {
        let name = path.display().to_string();
        move |error| Failure::Connector { name, error }
    };
    let manifest = Manifest::parse(&json).map_err(wrong(&manifest_file))?;
    let entry_point = &manifest.artifact.entry_point;
    let wasm_file = args.wasm.clone().unwrap_or_else(|| args.project.join(BUILT).join(entry_point));
    let wasm = read_component(&wasm_file).map_err(|error| Failure::File {
        doing: "read",
        path: wasm_file.clone(),
        error,
        hint: Some("build it first with `cargo build --release --target wasm32-wasip2`, or name it with `--wasm`".to_owned()),
    })?;
    let packed = manifest::pack(&wasm, &json).map_err(wrong(&wasm_file))?;
    let out = args.out.clone().unwrap_or_else(|| args.project.join("dist"));
    fs::create_dir_all(&out).map_err(|error| Failure::file("create", &out, error))?;
    let component = out.join(entry_point);
    if same_file(&component, &wasm_file) {
        return Err(Failure::usage(
            format!("`{}` would be written over itself", component.display()),
            "name another directory with `--out`",
        ));
    }
    for (path, bytes) in [(&component, &packed.wasm), (&out.join("manifest.json"), &packed.manifest_json)] {
        replace(path, bytes).map_err(|error| Failure::file("write", path, error))?;
    }
    Ok(component)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Writes beside and renames, so that a run that reads the file meanwhile sees the old or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::{EMPTY_COMPONENT, manifest_json};
    use crate::exit::ExitCode;

    fn project() -> (tempfile::TempDir, PackArgs) {
        let dir = tempfile::tempdir().expect("directory");
        fs::write(dir.path().join("manifest.json"), manifest_json("source-a")).expect("written");
        let args = PackArgs { project: dir.path().to_owned(), wasm: None, out: None };
        (dir, args)
    }

    #[test]
    fn what_is_packed_can_be_verified() {
        let (dir, args) = project();
        fs::create_dir_all(dir.path().join(BUILT)).expect("directory");
        fs::write(dir.path().join(BUILT).join("source_a.wasm"), EMPTY_COMPONENT).expect("written");
        let component = pack(&args).expect("packed");
        assert_eq!(component, dir.path().join("dist/source_a.wasm"));
        let beside = fs::read(dir.path().join("dist/manifest.json")).expect("read");
        let manifest = manifest::verify(&fs::read(&component).expect("read"), Some(&beside)).expect("verified");
        assert!(manifest.artifact.checksum.is_some());
        assert_eq!(pack(&args).expect("packed again"), component);
    }

    #[test]
    fn what_is_missing_is_named() {
        let (_dir, args) = project();
        let failure = pack(&args).expect_err("no component");
        assert_eq!(failure.exit_code(), ExitCode::File);
        assert!(failure.words().expect("words").hint.expect("hint").contains("cargo build"));
    }

    #[test]
    fn the_component_is_not_written_over() {
        let (dir, mut args) = project();
        let wasm = dir.path().join("source_a.wasm");
        fs::write(&wasm, EMPTY_COMPONENT).expect("written");
        (args.wasm, args.out) = (Some(wasm.clone()), Some(dir.path().to_owned()));
        assert_eq!(pack(&args).expect_err("refused").exit_code(), ExitCode::Usage);
        assert_eq!(fs::read(&wasm).expect("read"), EMPTY_COMPONENT);
    }
}
