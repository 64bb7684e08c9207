//! What the host acts on, taken out of a checked configuration.

use super::GRANTS_ROOT;
use super::problem::ConfigProblem;
use super::schema::{ConfigSchema, HOST, PATH, SECRET, TLS, child_schemas};
use crate::manifest::FsMode;
use crate::secrets::Secret;
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// A directory of the host that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathGrant {
    /// The JSON pointer of the value.
    pub pointer: String,
    /// The directory on the host, joined to the document's directory where it was relative.
    pub host_path: PathBuf,
    /// Where the guest sees it; this is what its configuration says.
    pub guest_path: String,
    /// How it may be used.
    pub mode: FsMode,
}

/// Files for TLS that only the host reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates to trust, PEM.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// The client's key, PEM.
    pub key: Option<PathBuf>,
}

/// A checked configuration and what it asks of the host. `Debug` shows no values.
#[derive(Clone, PartialEq)]
pub struct ConfigGrants {
    /// Values at keys marked as secret.
    pub secrets: Vec<Secret>,
    /// Directories to grant.
    pub paths: Vec<PathGrant>,
    /// Hosts the guest may dial, when its manifest asks for hosts from the configuration.
    pub hosts: Vec<String>,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// What the guest gets: defaults filled in, directories as it sees them, TLS files taken out.
    pub guest_config: Value,
}

impl fmt::Debug for ConfigGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigGrants")
            .field("secrets", &self.secrets.len())
            .field("paths", &self.paths.len())
            .field("hosts", &self.hosts.len())
            .finish_non_exhaustive()
    }
}

pub(super) fn extract(schema: &ConfigSchema, config: Value, base_dir: &Path) -> Result<ConfigGrants, Vec<ConfigProblem>> {
    let mut secrets = Vec::new();
    collect_secrets(schema, &config, &schema.applying(schema.as_json()), &mut secrets);
    let mut walk = Walk { schema, base_dir, paths: Vec::new(), hosts: Vec::new(), tls: TlsFiles::default(), problems: Vec::new() };
    let mut guest_config = config;
    walk.children(&mut guest_config, &schema.applying(schema.as_json()), "");
    let Walk { paths, hosts, tls, problems, .. } = walk;
    if tls.cert.is_some() != tls.key.is_some() {
        let mut problems = problems;
        problems.push(ConfigProblem::new("", "a client certificate and its key come together, and one of them is missing"));
        return Err(problems);
    }
    if problems.is_empty() { Ok(ConfigGrants { secrets, paths, hosts, tls, guest_config }) } else { Err(problems) }
}

/// Every scalar at or below a marked key, in whatever branch the mark stands.
pub(super) fn collect_secrets(schema: &ConfigSchema, value: &Value, applying: &[&Map<String, Value>], found: &mut Vec<Secret>) {
    if applying.iter().any(|schema| schema.contains_key(SECRET)) {
        scalars(value, found);
        return;
    }
    let mut below = |child: &Value, schemas: Vec<&Value>| {
        let applying: Vec<_> = schemas.into_iter().flat_map(|child| schema.applying(child)).collect();
        if !applying.is_empty() {
            collect_secrets(schema, child, &applying, found);
        }
    };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, child)| below(child, child_schemas(applying, key))),
        Value::Array(items) => items.iter().for_each(|item| below(item, item_schemas(applying))),
        _ => {}
    }
}

fn scalars(value: &Value, found: &mut Vec<Secret>) {
    let mut add = |text: String| {
        let secret = Secret::new(text);
        if !found.contains(&secret) {
            found.push(secret);
        }
    };
    match value {
        Value::String(text) => add(text.clone()),
        Value::Number(number) => add(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| scalars(item, found)),
        Value::Object(object) => object.values().for_each(|item| scalars(item, found)),
        Value::Null | Value::Bool(_) => {}
    }
}

fn item_schemas<'s>(applying: &[&'s Map<String, Value>]) -> Vec<&'s Value> {
    applying.iter().filter_map(|schema| schema.get("items")).filter(|items| items.is_object()).collect()
}

struct Walk<'a> {
    schema: &'a ConfigSchema,
    base_dir: &'a Path,
    paths: Vec<PathGrant>,
    hosts: Vec<String>,
    tls: TlsFiles,
    problems: Vec<ConfigProblem>,
}

impl<'a> Walk<'a> {
    fn children(&mut self, value: &mut Value, applying: &[&'a Map<String, Value>], pointer: &str) {
        match value {
            Value::Object(object) => {
                let keys: Vec<String> = object.keys().cloned().collect();
                for key in keys {
                    let schemas = self.applying(child_schemas(applying, &key));
                    let Some(child) = object.get_mut(&key) else { continue };
                    let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                    if self.value(child, &schemas, &pointer) == Fate::HostOnly {
                        // Keeps the order of the rest.
                        object.shift_remove(&key);
                    }
                }
            }
            Value::Array(items) => {
                let schemas = self.applying(item_schemas(applying));
                let mut i = 0;
                items.retain_mut(|item| {
                    let pointer = format!("{pointer}/{i}");
                    i += 1;
                    self.value(item, &schemas, &pointer) == Fate::Guest
                });
            }
            _ => {}
        }
    }

    fn applying(&self, schemas: Vec<&'a Value>) -> Vec<&'a Map<String, Value>> {
        schemas.into_iter().flat_map(|schema| self.schema.applying(schema)).collect()
    }

    fn value(&mut self, value: &mut Value, applying: &[&'a Map<String, Value>], pointer: &str) -> Fate {
        let mark = |name: &str| applying.iter().find_map(|schema| schema.get(name));
        let Value::String(text) = value else {
            self.children(value, applying, pointer);
            return Fate::Guest;
        };
        if let Some(kind) = mark(TLS).and_then(Value::as_str) {
            if let Some(file) = self.host_path(text, pointer) {
                let slot = match kind {
                    "ca" => &mut self.tls.ca,
                    "cert" => &mut self.tls.cert,
                    _ => &mut self.tls.key,
                };
                if slot.replace(file).is_some() {
                    self.problems.push(ConfigProblem::new(pointer, format!("a second file for TLS `{kind}`")));
                }
            }
            return Fate::HostOnly;
        }
        if mark(PATH).is_some() {
            // Where branches disagree, the narrower grant holds.
            let writable = applying.iter().filter_map(|schema| schema.get(PATH)).all(|mode| mode == "read-write");
            let mode = if writable { FsMode::ReadWrite } else { FsMode::Read };
            if let Some(host_path) = self.host_path(text, pointer) {
                let guest_path = self.guest_path(pointer);
                text.clone_from(&guest_path);
                self.paths.push(PathGrant { pointer: pointer.to_owned(), host_path, guest_path, mode });
            }
        }
        if mark(HOST).is_some() && !self.hosts.contains(text) {
            if text.trim().is_empty() {
                self.problems.push(ConfigProblem::new(pointer, "the host's name is empty"));
            }
            self.hosts.push(text.clone());
        }
        Fate::Guest
    }

    fn host_path(&mut self, text: &str, pointer: &str) -> Option<PathBuf> {
        if text.is_empty() || text.contains('\0') {
            self.problems
                .push(ConfigProblem::new(pointer, "not a path").with_hint(Some("name a path, or leave the key out".to_owned())));
            return None;
        }
        // `./out` beside `./pipeline.yaml` is `./out`, not `././out`: people read these paths.
        Some(self.base_dir.join(text).components().collect())
    }

    /// `/grants/` and the value's place, with a number where two places would share a name.
    fn guest_path(&self, pointer: &str) -> String {
        let name: String = pointer[1..].chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let plain = format!("{GRANTS_ROOT}/{name}");
        let taken = |path: &str| self.paths.iter().any(|grant| grant.guest_path == path);
        if !taken(&plain) {
            return plain;
        }
        (2..).map(|n| format!("{plain}.{n}")).find(|path| !taken(path)).expect("fewer grants than numbers")
    }
}

/// Who gets a value.
#[derive(PartialEq, Eq)]
enum Fate {
    Guest,
    HostOnly,
}
