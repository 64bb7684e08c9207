//! Connectors that have a name: those inside the binary, and those in the directory that `RAPIDBYTE_CONNECTORS_DIR` names.

use crate::environment::{CONNECTORS_DIR, Environment};
use crate::failure::{Failure, Outcome};
use rapidbyte_config::manifest::{self, MAX_COMPONENT_BYTES, Manifest};
use rapidbyte_engine::ConnectorLibrary;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Name and packed component of each bundled connector.
type Bundled = &'static [(&'static str, &'static [u8])];

mod bundled {
    include!(concat!(env!("OUT_DIR"), "/bundled.rs"));
}

/// Where a connector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Inside the binary.
    Bundled(&'static [u8]),
    /// A packed component file.
    File(PathBuf),
}

impl Place {
    /// A component file, or the directory it is packed in.
    pub(crate) fn at(path: &Path) -> Self {
        let file = if path.is_dir() { component_in(path) } else { None };
        Self::File(file.unwrap_or_else(|| path.to_owned()))
    }

    /// In words.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Bundled(_) => "bundled".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn bytes(&self) -> Outcome<Cow<'static, [u8]>> {
        match self {
            Self::Bundled(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File(path) => read_component(path).map(Cow::Owned).map_err(|error| Failure::file("read", path, error)),
        }
    }
}

/// The connectors that can be used by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connectors {
    places: BTreeMap<String, Place>,
}

impl Connectors {
    /// Those of this binary and of the environment's directory; the latter win.
    ///
    /// # Errors
    /// When the directory is named and can't be read.
    pub(crate) fn of(environment: &Environment) -> Outcome<Self> {
        let mut all = Self::bundled(bundled::CONNECTORS);
        if let Some(dir) = environment.get(CONNECTORS_DIR) {
            all.add_dir(Path::new(dir))?;
        }
        Ok(all)
    }

    fn bundled(bundled: Bundled) -> Self {
        Self { places: bundled.iter().map(|(name, bytes)| ((*name).to_owned(), Place::Bundled(bytes))).collect() }
    }

    fn add_dir(&mut self, dir: &Path) -> Outcome {
        let failed = |error| Failure::File {
            doing: "read",
            path: dir.to_owned(),
            error,
            hint: Some(format!("`{}` names a directory with one directory per connector", CONNECTORS_DIR.name)),
        };
        for entry in fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Some(file) = component_in(&entry.path()) {
                self.places.insert(name, Place::File(file));
            }
        }
        Ok(())
    }

    /// Each name and its place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.places.iter().map(|(name, place)| (name.as_str(), place))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The place of a connector as the command line names it: one with a name, or a component file.
    ///
    /// # Errors
    /// When there is none; the hint lists what there is.
    pub(crate) fn find(&self, name: &str) -> Outcome<Place> {
        if let Some(place) = self.places.get(name) {
            return Ok(place.clone());
        }
        if name.contains('/') || name.ends_with(".wasm") {
            return Ok(Place::at(Path::new(name)));
        }
        let hint = if self.is_empty() {
            format!("this build carries no connectors: set `{}`, or name a component file (`./{name}.wasm`)", CONNECTORS_DIR.name)
        } else {
            let names: Vec<String> = self.places.keys().map(|name| format!("`{name}`")).collect();
            format!("known connectors: {}; a component file is named by its path (`./{name}.wasm`)", names.join(", "))
        };
        Err(Failure::UnknownConnector { name: name.to_owned(), hint })
    }
}

impl ConnectorLibrary for Connectors {
    fn names(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    fn component(&self, name: &str) -> Option<Cow<'static, [u8]>> {
        match self.places.get(name)?.bytes() {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                tracing::warn!(connector = name, "the component file can't be read");
                None
            }
        }
    }
}

/// The manifest of a packed component, checked against the component and, for a file, against the manifest beside it.
///
/// # Errors
/// When the file can't be read, is not a packed component, or disagrees with itself.
pub(crate) fn manifest_of(name: &str, place: &Place) -> Outcome<Manifest> {
    let bytes = place.bytes()?;
    let beside = match place {
        Place::Bundled(_) => None,
        Place::File(path) => read_capped(&path.with_file_name("manifest.json"), manifest::MAX_MANIFEST_BYTES).ok(),
    };
    manifest::verify(&bytes, beside.as_deref()).map_err(|error| Failure::Connector { name: name.to_owned(), error })
}

/// The manifest as it stands in a component, for those who only want to know its marks.
pub(crate) fn manifest_unverified(place: &Place) -> Option<Manifest> {
    let bytes = place.bytes().ok()?;
    Manifest::parse(manifest::unpack(&bytes).ok()?.manifest?).ok()
}

/// Reads a component file, up to the size that is accepted.
pub(crate) fn read_component(path: &Path) -> io::Result<Vec<u8>> {
    read_capped(path, MAX_COMPONENT_BYTES)
}

pub(crate) fn read_capped(path: &Path, cap: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is accepted, so that whoever looks at it sees that it is too much.
    fs::File::open(path)?.take(cap as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The component file in a connector's directory: the only one, or the one that its manifest names.
fn component_in(dir: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    let mut components: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")).collect();
    if components.len() > 1 {
        let json = read_capped(&dir.join("manifest.json"), manifest::MAX_MANIFEST_BYTES).ok()?;
        let entry_point = Manifest::parse(&json).ok()?.artifact.entry_point;
        components.retain(|path| path.file_name().is_some_and(|name| name == entry_point.as_str()));
    }
    components.pop()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::exit::ExitCode;

    /// The smallest component: a header and nothing else.
    pub(crate) const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    pub(crate) fn manifest_json(name: &str) -> String {
        let role = match name.split('-').next() {
            Some("dest") => r#""destination": { "supported_write_modes": ["append", "replace"] }"#,
            Some("transform") => r#""transform": {}"#,
            _ => r#""source": { "supported_sync_modes": ["full_refresh"], "features": ["partitions"] }"#,
        };
        format!(
            r#"{{ "manifest_version": "1.0", "id": "rapidbyte/{name}", "name": "N", "version": "0.1.0", "description": "Made for tests",
            "author": "A", "license": "Apache-2.0", "protocol_version": "2",
            "artifact": {{ "entry_point": "{}.wasm", "min_memory_mb": 32 }},
            "permissions": {{ "network": {{ "tls": "optional", "allowed_domains": ["*.example.org"], "allow_runtime_config_domains": true }} }},
            "roles": {{ {role} }},
            "config_schema": {{ "$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": false,
              "required": ["host", "password", "path"],
              "properties": {{
                "host": {{ "type": "string", "description": "the server", "x-rapidbyte-host": true }},
                "port": {{ "type": "integer", "minimum": 1, "maximum": 65535, "default": 5432 }},
                "password": {{ "type": "string", "minLength": 1, "x-rapidbyte-secret": true }},
                "path": {{ "type": "string", "description": "a folder", "x-rapidbyte-path": "read-write" }},
                "format": {{ "enum": ["parquet", "csv"], "default": "parquet" }},
                "fields": {{ "type": "array", "items": {{ "type": "object", "additionalProperties": false, "required": ["name"],
                  "properties": {{ "name": {{ "type": "string", "description": "a column" }} }} }} }}
              }} }} }}"#,
            name.replace('-', "_")
        )
    }

    pub(crate) fn packed(name: &str) -> manifest::Packed {
        manifest::pack(EMPTY_COMPONENT, manifest_json(name).as_bytes()).expect("packed")
    }

    fn put(dir: &Path, name: &str) {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).expect("directory");
        fs::write(dir.join("x.wasm"), packed(name).wasm).expect("written");
        fs::write(dir.join("manifest.json"), packed(name).manifest_json).expect("written");
    }

    pub(crate) fn connectors_in(dir: &Path, names: &[&str]) -> Connectors {
        for name in names {
            put(dir, name);
        }
        let dir = dir.to_str().expect("UTF-8");
        Connectors::of(&Environment::of(&[("RAPIDBYTE_CONNECTORS_DIR", dir)])).expect("connectors")
    }

    #[test]
    fn a_directory_of_packed_connectors_is_a_library() {
        let dir = tempfile::tempdir().expect("directory");
        fs::create_dir(dir.path().join("empty")).expect("directory");
        let connectors = connectors_in(dir.path(), &["source-a", "dest-b"]);
        assert!(connectors.names().contains(&"source-a".to_owned()));
        assert!(!connectors.names().contains(&"empty".to_owned()));
        assert_eq!(connectors.component("source-a").as_deref(), Some(packed("source-a").wasm.as_slice()));
        assert_eq!(connectors.component("../source-a"), None);
        let place = connectors.find("dest-b").expect("found");
        assert_eq!(manifest_of("dest-b", &place).expect("manifest").id, "rapidbyte/dest-b");
    }

    #[test]
    fn a_directory_takes_a_bundled_connectors_place() {
        let dir = tempfile::tempdir().expect("directory");
        put(dir.path(), "source-a");
        let mut connectors = Connectors::bundled(&[("source-a", b"old"), ("source-b", b"b")]);
        connectors.add_dir(dir.path()).expect("read");
        assert_ne!(connectors.component("source-a").as_deref(), Some(b"old".as_slice()));
        assert_eq!(connectors.component("source-b").as_deref(), Some(b"b".as_slice()));
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let failure = Connectors::bundled(&[("source-a", b"")]).find("source-x").expect_err("unknown");
        assert_eq!(failure.exit_code(), ExitCode::Config);
        assert!(failure.words().expect("words").hint.expect("hint").contains("`source-a`"));
        assert!(matches!(Connectors::default().find("./x.wasm"), Ok(Place::File(_))));
    }

    #[test]
    fn a_missing_directory_is_refused() {
        let environment = Environment::of(&[("RAPIDBYTE_CONNECTORS_DIR", "/does/not/exist")]);
        assert_eq!(Connectors::of(&environment).expect_err("refused").exit_code(), ExitCode::File);
    }

    #[test]
    fn a_manifest_that_disagrees_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        put(dir.path(), "source-a");
        let file = dir.path().join("source-a/x.wasm");
        fs::write(dir.path().join("source-a/manifest.json"), manifest_json("source-a")).expect("written");
        let failure = manifest_of("source-a", &Place::File(file.clone())).expect_err("refused");
        assert_eq!(failure.exit_code(), ExitCode::Connector);
        fs::write(&file, "text").expect("written");
        assert_eq!(manifest_of("x", &Place::File(file)).expect_err("refused").exit_code(), ExitCode::Connector);
    }
}
