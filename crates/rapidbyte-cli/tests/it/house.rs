//! The house's own rules: who may depend on whom, what every connector brings, and what may not stand in a file.

use rapidbyte_testkit::root;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our own crates each crate may depend on. What only its tests use stands in [`FOR_TESTS`].
const EDGES: &[(&str, &[&str])] = &[
    ("rapidbyte-types", &[]),
    ("rapidbyte-config", &["rapidbyte-types"]),
    ("rapidbyte-state", &["rapidbyte-types"]),
    ("rapidbyte-sdk", &["rapidbyte-types"]),
    ("rapidbyte-runtime", &["rapidbyte-types", "rapidbyte-config"]),
    ("rapidbyte-engine", &["rapidbyte-types", "rapidbyte-config", "rapidbyte-state", "rapidbyte-runtime"]),
    ("rapidbyte-cli", &["rapidbyte-types", "rapidbyte-config", "rapidbyte-state", "rapidbyte-runtime", "rapidbyte-engine"]),
    ("rapidbyte-testkit", &["rapidbyte-types"]),
    ("xtask", &["rapidbyte-config"]),
];
const FOR_TESTS: &[&str] = &["rapidbyte-testkit"];

/// Dependencies that one crate alone may name, by the beginning of their names.
const OWNERS: &[(&str, &str)] = &[
    ("wasmtime", "rapidbyte-runtime"),
    ("rustls", "rapidbyte-runtime"),
    ("rusqlite", "rapidbyte-state"),
    ("tokio-postgres", "rapidbyte-state"),
    ("postgres", "rapidbyte-state"),
    ("sqlx", "rapidbyte-state"),
    ("clap", "rapidbyte-cli"),
    ("indicatif", "rapidbyte-cli"),
    ("console", "rapidbyte-cli"),
    ("crossterm", "rapidbyte-cli"),
];

struct Package {
    name: String,
    dir: PathBuf,
    /// Name and kind (`null`, `dev`, `build`) of each dependency.
    dependencies: Vec<(String, Option<String>)>,
}

fn packages(workspace: &Path) -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace)
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = document["packages"].as_array().expect("packages");
    list.iter()
        .map(|package| Package {
            name: text(&package["name"]),
            dir: PathBuf::from(text(&package["manifest_path"])).parent().expect("a directory").to_path_buf(),
            dependencies: package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .map(|of| (text(&of["name"]), of["kind"].as_str().map(str::to_owned)))
                .collect(),
        })
        .collect()
}

#[test]
fn dependencies_point_one_way() {
    let edges: BTreeMap<_, _> = EDGES.iter().copied().collect();
    let host = packages(&root());
    let ours: BTreeSet<_> = host.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(ours, edges.keys().copied().collect(), "crates of the workspace and of this table");
    let mut wrong = Vec::new();
    for package in &host {
        for (name, kind) in &package.dependencies {
            let for_tests = kind.as_deref() == Some("dev");
            let allowed =
                edges[package.name.as_str()].contains(&name.as_str()) || (for_tests && FOR_TESTS.contains(&name.as_str()));
            if ours.contains(name.as_str()) && !allowed {
                wrong.push(format!("{} depends on {name}", package.name));
            }
            for (beginning, owner) in OWNERS {
                let named = name == beginning || name.strip_prefix(beginning).is_some_and(|rest| rest.starts_with(['-', '_']));
                // `rustls-pki-types` is data without code of its own.
                if named && package.name != *owner && !for_tests && name != "rustls-pki-types" {
                    wrong.push(format!("{} names {name}, which is {owner}'s", package.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn connectors_see_the_sdk_and_nothing_else() {
    let host: BTreeSet<_> = packages(&root()).into_iter().map(|package| package.name).collect();
    let guests = packages(&root().join("connectors"));
    assert!(guests.len() >= 7, "{}", guests.len());
    for package in &guests {
        let seen =
            package.dependencies.iter().filter(|(name, _)| host.contains(name) && name != "rapidbyte-sdk").collect::<Vec<_>>();
        assert!(seen.is_empty(), "{} sees {seen:?}", package.name);
    }
}

#[test]
fn every_connector_has_its_papers() {
    let mut found = 0;
    for package in packages(&root().join("connectors")) {
        let Ok(json) = fs::read_to_string(package.dir.join("manifest.json")) else {
            assert!(
                !["source-", "dest-", "transform-"].iter().any(|role| package.name.starts_with(role)),
                "{} has no manifest.json",
                package.name
            );
            continue;
        };
        found += 1;
        let manifest: Value = serde_json::from_str(&json).expect("a manifest is JSON");
        assert_eq!(manifest["id"], format!("rapidbyte/{}", package.name));
        assert_eq!(manifest["protocol_version"], "2");
        let properties = manifest["config_schema"]["properties"].as_object().expect("properties");
        let readme = fs::read_to_string(package.dir.join("README.md")).unwrap_or_default();
        assert!(!readme.is_empty(), "{} has no README.md", package.name);
        // A fixture of the tests explains itself; what people use explains every key.
        for key in properties.keys().filter(|_| !package.name.starts_with("probe-")) {
            assert!(readme.contains(&format!("`{key}`")), "{}: README.md does not explain `{key}`", package.name);
        }
    }
    assert!(found >= 7, "{found} connectors");
}

#[test]
fn the_engine_prints_nothing_and_reads_no_environment() {
    for file in sources(&root().join("crates/rapidbyte-engine/src")) {
        let text = fs::read_to_string(&file).expect("a source is text");
        for word in ["std::env", "env::var", "println!", "eprintln!", "print!(", "io::stdout", "io::stderr"] {
            let used = text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| line.contains(word));
            assert!(!used, "{} uses `{word}`", file.display());
        }
    }
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file may stand among those that are searched.
    let words = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["fa", "rm-"].concat(), ["/ho", "me/user"].concat()];
    let mut seen = 0;
    for file in sources(&root()) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        seen += 1;
        for word in &words {
            assert!(!text.contains(word.as_str()), "{} contains `{word}`", file.display());
        }
    }
    assert!(seen > 200, "only {seen} files were looked at");
}

/// The files below a directory that people write.
fn sources(dir: &Path) -> Vec<PathBuf> {
    const MADE: &[&str] = &["target", ".git", "demo", "results", ".rapidbyte", "node_modules", "__pycache__"];
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        let name = entry.file_name();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !MADE.iter().any(|made| name == *made) => found.extend(sources(&entry.path())),
            Ok(kind) if kind.is_file() && name != "Cargo.lock" => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    found
}
