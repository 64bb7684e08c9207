//! Where components come from.

use crate::error::{Cause, EngineError, Stage};
use rapidbyte_config::ConnectorRef;
use rapidbyte_config::manifest::Manifest;
use rapidbyte_types::ConnectorError;
use std::borrow::Cow;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest component read from disk. The first-party ones have 1 to 5 MB.
const MAX_COMPONENT: u64 = 128 << 20;

/// The connectors that come with the program.
pub trait ConnectorLibrary: Send + Sync {
    /// Their names, such as `source-postgres`.
    fn names(&self) -> Vec<String>;
    /// A packed component: the manifest is its last custom section.
    fn component(&self, name: &str) -> Option<Cow<'static, [u8]>>;
}

/// A component's bytes, with the manifest that lies beside it on disk.
pub(crate) struct Found {
    pub(crate) packed: Cow<'static, [u8]>,
    pub(crate) beside: Option<Vec<u8>>,
}

pub(crate) fn find(library: &dyn ConnectorLibrary, wanted: &ConnectorRef) -> Result<Found, EngineError> {
    match wanted {
        ConnectorRef::Bundled(name) => match library.component(name) {
            Some(packed) => Ok(Found { packed, beside: None }),
            None => Err(unknown(name, &library.names())),
        },
        ConnectorRef::Path(path) => from_disk(path),
    }
}

fn unknown(name: &str, known: &[String]) -> EngineError {
    let hint = if known.is_empty() {
        "this binary carries no connectors; build it with `cargo xtask build`, or name a file: `use: ./my_connector.wasm`"
            .to_owned()
    } else {
        format!("one of: {}; or a file: `use: ./my_connector.wasm`", known.join(", "))
    };
    let error = ConnectorError::config("unknown_connector", format!("there is no connector `{name}`")).with_hint(hint);
    EngineError::new(Stage::Load, Cause::Connector(error))
}

fn from_disk(path: &Path) -> Result<Found, EngineError> {
    let (component, beside) =
        if path.is_dir() { in_directory(path)? } else { (path.to_path_buf(), path.with_file_name("manifest.json")) };
    let packed = read(&component)?;
    let beside = if beside.is_file() { Some(read(&beside)?) } else { None };
    Ok(Found { packed: packed.into(), beside })
}

/// A directory holds `manifest.json`, which names the component beside it.
fn in_directory(dir: &Path) -> Result<(PathBuf, PathBuf), EngineError> {
    let manifest_file = dir.join("manifest.json");
    let manifest = Manifest::parse(&read(&manifest_file)?).map_err(|error| {
        let hint = error.hint().unwrap_or("compare it with `rapidbyte spec` of a bundled connector").to_owned();
        let error = ConnectorError::config("manifest", format!("{}: {error}", manifest_file.display())).with_hint(hint);
        EngineError::new(Stage::Load, Cause::Connector(error))
    })?;
    Ok((dir.join(&manifest.artifact.entry_point), manifest_file))
}

fn read(path: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |error: std::io::Error| {
        let error = ConnectorError::config("connector_file", format!("can't read {}: {error}", path.display()))
            .with_hint("a path in `use:` is read from the directory of the pipeline file");
        EngineError::new(Stage::Load, Cause::Connector(error))
    };
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MAX_COMPONENT + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_COMPONENT {
        return Err(failed(std::io::Error::other(format!("it is larger than {} MiB", MAX_COMPONENT >> 20))));
    }
    Ok(bytes)
}
