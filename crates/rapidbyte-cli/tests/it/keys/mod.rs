//! No setting is read and ignored: every key of the published schemas has a pair of runs that differ.
//!
//! What a run shows is put into one text: exit code, counts, what was written and where, or the error. A pair is two pipelines,
//! each with a piece that its text must have and the other's must not. Keys of the pipeline are those of its published schema,
//! keys of a connector those of the schema in its manifest: one without a pair fails its test, and so does a pair without a key.

mod changes;
mod connectors;
mod contract;
mod datagen;
mod files;
mod incremental;
mod pipeline;
mod postgres;
mod reading;
mod shown;
mod transforms;

use rapidbyte_testkit::{Database, Finished, Project, Rapidbyte, binary, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A pipeline, and a piece of what its run must show.
struct Side {
    yaml: String,
    shows: String,
    runs: u32,
    /// Nobody reads standard output for a while: only so much can be under way.
    unread: bool,
    /// What is asked of a server afterwards; the answer is shown too.
    asks: Option<(Database<'static>, String)>,
}

impl Side {
    fn twice(mut self) -> Self {
        self.runs = 2;
        self
    }

    fn unread(mut self) -> Self {
        self.unread = true;
        self
    }

    /// Runs it in a fresh place.
    fn run(&self) -> String {
        let project = Project::with_pipeline(&self.yaml);
        let mut text = String::new();
        for _ in 0..self.runs {
            let finished = if self.unread { unread(&project) } else { project.run().finish() };
            text = shown::of(&project, &finished);
        }
        if let Some((database, sql)) = &self.asks {
            text.push_str(&format!("the server says {}\n", database.sql(sql)));
        }
        text
    }
}

fn unread(project: &Project) -> Finished {
    let line = format!("'{}' run pipeline.yaml --log-level trace | sleep 2", binary().display());
    Rapidbyte::new(project.dir()).program("/bin/sh".into()).args(&["-c", &line]).finish()
}

struct Pair {
    key: String,
    sides: [Side; 2],
}

fn pair(key: &str, one: Side, other: Side) -> Pair {
    Pair { key: key.to_owned(), sides: [one, other] }
}

/// A pipeline in pieces: what differs replaces a piece.
#[derive(Clone)]
struct Pipeline(BTreeMap<&'static str, String>);

impl Pipeline {
    fn new() -> Self {
        let pieces = [
            ("version", "\"1.0\""),
            ("pipeline", "keys"),
            ("source", "source-datagen"),
            ("source_config", "{ pattern: orders, seed: 1, max_events: 100 }"),
            ("stream", "name: orders"),
            ("transforms", ""),
            ("destination", "dest-file"),
            ("destination_config", "{ path: out, format: jsonl }"),
            ("settings", ""),
            ("rest", ""),
        ];
        Self(pieces.into_iter().map(|(name, text)| (name, text.to_owned())).collect())
    }

    fn with(mut self, piece: &'static str, text: impl Into<String>) -> Self {
        assert!(self.0.insert(piece, text.into()).is_some(), "{piece} is a piece");
        self
    }

    fn shows(&self, shows: impl Into<String>) -> Side {
        Side { yaml: self.yaml(), shows: shows.into(), runs: 1, unread: false, asks: None }
    }

    fn yaml(&self) -> String {
        let piece = |name: &str| self.0[name].as_str();
        format!(
            "version: {}\npipeline: {}\nsource:\n  use: {}\n  config: {}\n  streams:\n    - {{ {} }}\n{}destination:\n  use: {}\n  config: {}\n{}{}",
            piece("version"),
            piece("pipeline"),
            piece("source"),
            piece("source_config"),
            piece("stream"),
            piece("transforms"),
            piece("destination"),
            piece("destination_config"),
            piece("settings"),
            piece("rest"),
        )
    }
}

/// The words of one side, and the piece that its run must show.
type Shown<'a> = (&'a str, &'a str);

/// A pair that differs in one piece.
fn differs(key: &str, base: &Pipeline, piece: &'static str, one: Shown<'_>, other: Shown<'_>) -> Pair {
    let side = |(words, shows): Shown<'_>| base.clone().with(piece, words).shows(shows);
    pair(key, side(one), side(other))
}

/// The paths of a JSON Schema's keys that have no keys below them.
fn leaves(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let before = found.len();
        leaves(root, below, &path, found);
        if found.len() == before {
            found.insert(path);
        }
    }
    if schema["items"].is_object() {
        leaves(root, &schema["items"], &format!("{path}[]"), found);
    }
    if schema["additionalProperties"].is_object() {
        leaves(root, &schema["additionalProperties"], &format!("{path}{{}}"), found);
    }
    for branches in ["allOf", "anyOf", "oneOf"] {
        for branch in schema[branches].as_array().into_iter().flatten() {
            leaves(root, branch, path, found);
        }
    }
    if let Some(place) = schema["$ref"].as_str() {
        let target = place.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        leaves(root, target.unwrap_or_else(|| panic!("`{place}` leads nowhere")), path, found);
    }
    for unknown in ["patternProperties", "if", "then", "else", "dependencies"] {
        assert!(schema[unknown].is_null(), "`{unknown}` at `{path}` may hold keys that this test would not see");
    }
}

/// Every key of a schema has a pair, every pair a key, and the sides of each pair differ.
fn check(schema: &Value, pairs: &[Pair]) {
    let mut published = BTreeSet::new();
    leaves(schema, schema, "", &mut published);
    let shown: BTreeSet<_> = pairs.iter().map(|pair| pair.key.clone()).collect();
    assert_eq!(published, shown, "keys of the schema (left), and keys with a pair of runs that differ (right)");
    let mut wrong = Vec::new();
    for Pair { key, sides: [one, other] } in pairs {
        let texts = [one.run(), other.run()];
        for (text, other_text, side) in [(&texts[0], &texts[1], one), (&texts[1], &texts[0], other)] {
            if !text.contains(&side.shows) || other_text.contains(&side.shows) {
                wrong.push(format!(
                    "`{key}`: `{}` should be shown by the first and not by the second.\n--- pipeline\n{}--- first\n{text}--- second\n{other_text}",
                    side.shows, side.yaml
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} sides are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_key_of_a_pipeline_has_an_effect_or_is_refused() {
    let text = fs::read_to_string(root().join("docs/reference/pipeline.schema.json")).expect("the published schema");
    check(&serde_json::from_str(&text).expect("a schema is JSON"), &pipeline::pairs());
}

#[test]
fn keys_are_found_wherever_a_schema_has_them() {
    let schema = serde_json::json!({
        "properties": {
            "plain": { "type": "string" },
            "object": { "properties": { "inner": {} } },
            "list": { "items": { "properties": { "entry": {} } } },
            "map": { "additionalProperties": { "properties": { "named": {} } } },
            "words": { "items": { "type": "string" } },
            "shared": { "$ref": "#/definitions/shared" },
            "either": { "oneOf": [ { "type": "string" }, { "properties": { "branch": {} } } ] },
        },
        "anyOf": [ { "properties": { "beside": {} } } ],
        "definitions": { "shared": { "properties": { "pointed": {} } } },
    });
    let mut found = BTreeSet::new();
    leaves(&schema, &schema, "", &mut found);
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        ["beside", "either.branch", "list[].entry", "map{}.named", "object.inner", "plain", "shared.pointed", "words"]
    );
}
