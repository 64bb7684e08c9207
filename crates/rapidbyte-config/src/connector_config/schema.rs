//! The schema itself: what it may be, and how its parts are reached.

use super::extract::{ConfigGrants, extract};
use super::problem::{ConfigProblem, InvalidConfig, describe, type_of, unknown_property};
use crate::suggest::{did_you_mean, listed, shown};
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;

/// A schema whose text is larger than this is refused.
pub const MAX_SCHEMA_BYTES: usize = 256 << 10;

const DRAFT_7: [&str; 2] = ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-07/schema"];

/// References of a schema; the validator follows them by recursion. Guessed: our own have none.
const MAX_REFS: usize = 256;
/// Nesting of a schema, of a chain of references, and of defaults within defaults. Guessed.
const MAX_DEPTH: usize = 64;
/// Subschemas that apply to one value at once. Guessed.
const MAX_BRANCHES: usize = 1024;
/// The same, summed over a schema.
const MAX_TOTAL_BRANCHES: usize = 100_000;
/// Defaults filled into one configuration. Guessed.
const MAX_DEFAULTS: usize = 1000;
/// Memory of one compiled pattern, in bytes. Guessed: ordinary patterns need a few KiB.
const MAX_PATTERN_BYTES: usize = 1 << 20;

pub(super) const SECRET: &str = "x-rapidbyte-secret";
pub(super) const PATH: &str = "x-rapidbyte-path";
pub(super) const HOST: &str = "x-rapidbyte-host";
pub(super) const TLS: &str = "x-rapidbyte-tls";
const MARKS: [&str; 4] = [SECRET, PATH, HOST, TLS];

/// Why a schema can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaError {
    message: String,
}

impl SchemaError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SchemaError {}

/// A connector's schema, checked and ready.
pub struct ConfigSchema {
    root: Value,
    validator: Validator,
}

impl fmt::Debug for ConfigSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigSchema").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ConfigSchema {
    /// Checks a schema: Draft 7, at most [`MAX_SCHEMA_BYTES`], references only into itself, well-formed marks.
    ///
    /// # Errors
    /// When it can't be used, with the place in it.
    pub fn parse(schema: &Value) -> Result<Self, SchemaError> {
        let Value::Object(object) = schema else {
            return Err(SchemaError::new(format!("expected an object, found {}", type_of(schema))));
        };
        match object.get("$schema").and_then(Value::as_str) {
            Some(draft) if DRAFT_7.contains(&draft) => {}
            Some(other) => {
                return Err(SchemaError::new(format!("`$schema` is `{}`, expected `{}`", shown(other), DRAFT_7[0])));
            }
            None => return Err(SchemaError::new(format!("`$schema` is missing, expected `{}`", DRAFT_7[0]))),
        }
        if depth_exceeds(schema, MAX_DEPTH) {
            return Err(SchemaError::new(format!("nested deeper than {MAX_DEPTH}")));
        }
        // Serialising can't fail for a tree of JSON values.
        let size = serde_json::to_vec(schema).map_or(usize::MAX, |text| text.len());
        if size > MAX_SCHEMA_BYTES {
            return Err(SchemaError::new(format!("{size} bytes, more than {MAX_SCHEMA_BYTES}")));
        }
        Survey { root: schema, refs: 0, branches: 0 }.visit(schema, "", true)?;
        let validator = jsonschema::options()
            .with_draft(Draft::Draft7)
            .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES))
            .build(schema)
            .map_err(|error| SchemaError::new(format!("not a valid schema: {}", shown(&error.to_string()))))?;
        let this = Self { root: schema.clone(), validator };
        let mut nothing = Value::Object(Map::new());
        this.apply_defaults(&mut nothing)
            .map_err(|problem| SchemaError::new(format!("`default` values can't be filled in: {problem}")))?;
        Ok(this)
    }

    /// Checks a configuration, fills in defaults, and takes out what the host acts on. Relative paths in it are read from
    /// `base_dir`, the directory of the pipeline document.
    ///
    /// # Errors
    /// With everything that is wrong, never with a value.
    pub fn check(&self, config: &Value, base_dir: &Path) -> Result<ConfigGrants, InvalidConfig> {
        if !config.is_object() {
            let message = format!("expected an object, found {}", type_of(config));
            return Err(InvalidConfig::new(vec![ConfigProblem::new("", message)]));
        }
        let mut config = config.clone();
        self.apply_defaults(&mut config).map_err(|problem| InvalidConfig::new(vec![problem]))?;
        let mut problems = self.unknown_top_level_keys(&config);
        for error in self.validator.iter_errors(&config) {
            for problem in describe(&error, &self.root) {
                if !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
        }
        if !problems.is_empty() {
            return Err(InvalidConfig::new(problems));
        }
        extract(self, config, base_dir).map_err(InvalidConfig::new)
    }

    /// The secret values of a configuration that may be invalid, so that messages about it can be scrubbed.
    pub fn secrets(&self, config: &Value) -> Vec<crate::secrets::Secret> {
        let mut found = Vec::new();
        super::extract::collect_secrets(self, config, &self.applying(&self.root), &mut found);
        found
    }

    /// The schema as it stands in the manifest.
    pub fn as_json(&self) -> &Value {
        &self.root
    }

    /// A key that nobody reads must not be accepted, also where the schema's author forgot to say so.
    fn unknown_top_level_keys(&self, config: &Value) -> Vec<ConfigProblem> {
        let schemas = self.applying(&self.root);
        let decided = ["additionalProperties", "patternProperties"];
        if schemas.iter().any(|schema| decided.iter().any(|keyword| schema.contains_key(*keyword))) {
            return Vec::new();
        }
        let known: Vec<&str> = schemas
            .iter()
            .filter_map(|schema| schema.get("properties")?.as_object())
            .flat_map(Map::keys)
            .map(String::as_str)
            .collect();
        let keys = config.as_object().into_iter().flat_map(Map::keys);
        keys.filter(|key| !known.contains(&key.as_str())).map(|key| unknown_property("", key, &known)).collect()
    }

    fn apply_defaults(&self, config: &mut Value) -> Result<(), ConfigProblem> {
        self.fill(config, &[&self.root], &mut 0, 0)
    }

    fn fill(&self, value: &mut Value, schemas: &[&Value], filled: &mut usize, depth: usize) -> Result<(), ConfigProblem> {
        let applying: Vec<&Map<String, Value>> = schemas.iter().flat_map(|schema| self.always_applying(schema)).collect();
        if depth > MAX_DEPTH {
            return Err(ConfigProblem::new("", format!("nested deeper than {MAX_DEPTH}")));
        }
        match value {
            Value::Object(object) => {
                for (key, property) in applying.iter().filter_map(|schema| schema.get("properties")?.as_object()).flatten() {
                    if object.contains_key(key) {
                        continue;
                    }
                    if let Some(default) = self.always_applying(property).iter().find_map(|schema| schema.get("default")) {
                        *filled += 1;
                        if *filled > MAX_DEFAULTS {
                            return Err(ConfigProblem::new("", format!("more than {MAX_DEFAULTS} defaults")));
                        }
                        object.insert(key.clone(), default.clone());
                    }
                }
                for (key, child) in object.iter_mut() {
                    let schemas = child_schemas(&applying, key);
                    if !schemas.is_empty() {
                        self.fill(child, &schemas, filled, depth + 1)?;
                    }
                }
            }
            Value::Array(items) => {
                let schemas: Vec<&Value> = applying.iter().filter_map(|schema| schema.get("items")).collect();
                for item in items.iter_mut().filter(|_| !schemas.is_empty()) {
                    self.fill(item, &schemas, filled, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Every object schema that applies to the same value as `schema`, whichever branch is taken.
    pub(super) fn applying<'s>(&'s self, schema: &'s Value) -> Vec<&'s Map<String, Value>> {
        let mut found = Vec::new();
        reach(&self.root, schema, &same_value, &mut |object| found.push(object), 0);
        found
    }

    /// Every object schema that applies to the same value as `schema` without a condition.
    fn always_applying<'s>(&'s self, schema: &'s Value) -> Vec<&'s Map<String, Value>> {
        let mut found = Vec::new();
        let edges = |object: &'s Map<String, Value>| keyword_schemas(object, &["allOf"], &[]);
        reach(&self.root, schema, &edges, &mut |object| found.push(object), 0);
        found
    }
}

/// The schemas for one key of an object.
pub(super) fn child_schemas<'s>(applying: &[&'s Map<String, Value>], key: &str) -> Vec<&'s Value> {
    applying
        .iter()
        .filter_map(|schema| {
            let named = schema.get("properties").and_then(|properties| properties.get(key));
            named.or_else(|| schema.get("additionalProperties"))
        })
        .collect()
}

/// Schemas under keywords that hold a list of them, and under keywords that hold one.
fn keyword_schemas<'s>(object: &'s Map<String, Value>, lists: &[&str], single: &[&str]) -> Vec<&'s Value> {
    let listed = lists.iter().filter_map(|keyword| object.get(*keyword)?.as_array()).flatten();
    listed.chain(single.iter().filter_map(|keyword| object.get(*keyword))).collect()
}

fn same_value(object: &Map<String, Value>) -> Vec<&Value> {
    let mut found = keyword_schemas(object, &["allOf", "anyOf", "oneOf"], &["if", "then", "else"]);
    if let Some(dependencies) = object.get("dependencies").and_then(Value::as_object) {
        found.extend(dependencies.values().filter(|value| value.is_object()));
    }
    found
}

/// Walks `$ref` and `edges`; [`Survey`] has made sure that this ends.
fn reach<'s>(
    root: &'s Value,
    schema: &'s Value,
    edges: &impl Fn(&'s Map<String, Value>) -> Vec<&'s Value>,
    found: &mut impl FnMut(&'s Map<String, Value>),
    depth: usize,
) {
    let Value::Object(object) = schema else { return };
    if depth > MAX_DEPTH {
        return;
    }
    found(object);
    if let Some(target) = object.get("$ref").and_then(Value::as_str).and_then(|reference| resolve(root, reference)) {
        reach(root, target, edges, found, depth + 1);
    }
    for next in edges(object) {
        reach(root, next, edges, found, depth + 1);
    }
}

fn resolve<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    root.pointer(reference.strip_prefix('#')?)
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|item| depth_exceeds(item, left - 1)),
        Value::Object(object) => left == 0 || object.values().any(|item| depth_exceeds(item, left - 1)),
        _ => false,
    }
}

/// One look at every subschema before anything else relies on it.
struct Survey<'s> {
    root: &'s Value,
    refs: usize,
    branches: usize,
}

impl<'s> Survey<'s> {
    /// `reached` is false below keywords where marks are not read.
    fn visit(&mut self, schema: &'s Value, at: &str, reached: bool) -> Result<(), SchemaError> {
        let Value::Object(object) = schema else { return Ok(()) };
        let place = if at.is_empty() { "the root".to_owned() } else { format!("`{}`", shown(at)) };
        if !at.is_empty() && (object.contains_key("$id") || object.contains_key("$schema")) {
            return Err(SchemaError::new(format!("`$id` or `$schema` at {place}: only the root may have them")));
        }
        if let Some(reference) = object.get("$ref") {
            self.refs += 1;
            let target = reference.as_str().and_then(|reference| resolve(self.root, reference));
            if target.is_none() || self.refs > MAX_REFS {
                return Err(SchemaError::new(format!("`$ref` at {place}: at most {MAX_REFS}, each `#/…` into the schema itself")));
            }
        }
        self.check_branches(schema, &place)?;
        check_marks(object, &place, reached)?;
        for (keyword, value) in object {
            let below = |step: &str| format!("{at}/{keyword}/{step}");
            match keyword.as_str() {
                "properties" | "definitions" | "dependencies" | "patternProperties" => {
                    let reached = reached && keyword != "patternProperties";
                    for (name, child) in value.as_object().into_iter().flatten() {
                        self.visit(child, &below(name), reached)?;
                    }
                }
                "allOf" | "anyOf" | "oneOf" => {
                    for (i, child) in value.as_array().into_iter().flatten().enumerate() {
                        self.visit(child, &below(&i.to_string()), reached)?;
                    }
                }
                "items" => {
                    self.visit(value, &format!("{at}/items"), reached)?;
                    for (i, child) in value.as_array().into_iter().flatten().enumerate() {
                        self.visit(child, &below(&i.to_string()), false)?;
                    }
                }
                "if" | "then" | "else" | "additionalProperties" => self.visit(value, &format!("{at}/{keyword}"), reached)?,
                "not" | "contains" | "propertyNames" | "additionalItems" => self.visit(value, &format!("{at}/{keyword}"), false)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Refuses references that never end and branches that multiply.
    fn check_branches(&mut self, schema: &'s Value, place: &str) -> Result<(), SchemaError> {
        let mut count = 0;
        if !self.count(schema, &mut count, 0) {
            return Err(SchemaError::new(format!("the schema at {place} refers to itself without end or has too many branches")));
        }
        self.branches += count;
        if self.branches > MAX_TOTAL_BRANCHES {
            return Err(SchemaError::new("the schema has too many branches"));
        }
        Ok(())
    }

    fn count(&self, schema: &'s Value, count: &mut usize, depth: usize) -> bool {
        let Value::Object(object) = schema else { return true };
        *count += 1;
        if depth > MAX_DEPTH || *count > MAX_BRANCHES {
            return false;
        }
        let target = object.get("$ref").and_then(Value::as_str).and_then(|reference| resolve(self.root, reference));
        let next = same_value(object).into_iter().chain(object.get("not")).chain(target);
        next.into_iter().all(|next| self.count(next, count, depth + 1))
    }
}

fn check_marks(object: &Map<String, Value>, place: &str, reached: bool) -> Result<(), SchemaError> {
    for (keyword, value) in object.iter().filter(|(keyword, _)| keyword.starts_with("x-rapidbyte-")) {
        let allowed: &[&str] = match keyword.as_str() {
            SECRET | HOST => &[],
            PATH => &["read", "read-write"],
            TLS => &["ca", "cert", "key"],
            other => {
                let hint = did_you_mean(other, MARKS).unwrap_or_else(|| format!("known: {}", listed(MARKS)));
                return Err(SchemaError::new(format!("unknown mark `{}` at {place}: {hint}", shown(other))));
            }
        };
        let good =
            if allowed.is_empty() { *value == Value::Bool(true) } else { value.as_str().is_some_and(|v| allowed.contains(&v)) };
        if !good {
            let expected =
                if allowed.is_empty() { "`true`".to_owned() } else { format!("one of: {}", listed(allowed.iter().copied())) };
            return Err(SchemaError::new(format!("`{keyword}` at {place} takes {expected}")));
        }
        if !reached {
            return Err(SchemaError::new(format!("`{keyword}` at {place}: marks are not read there, use `properties` or `items`")));
        }
        let is_text = match object.get("type") {
            Some(Value::String(kind)) => kind == "string",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "string"),
            // Behind a `$ref` or in a branch the type stands elsewhere.
            _ => true,
        };
        if !is_text && keyword != SECRET {
            return Err(SchemaError::new(format!("`{keyword}` at {place} marks a value that is not a string")));
        }
    }
    if [PATH, HOST, TLS].iter().filter(|mark| object.contains_key(**mark)).count() > 1 {
        return Err(SchemaError::new(format!("the schema at {place} has marks that exclude each other")));
    }
    Ok(())
}
