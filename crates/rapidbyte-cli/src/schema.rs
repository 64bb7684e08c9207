//! A connector's configuration schema, as a list of keys: what people read, and what examples are made from.

use serde_json::{Map, Value};

/// One key of a connector's configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key<'s> {
    /// Its path: `host`, `custom_fields[].name`.
    pub(crate) path: String,
    /// Its schema.
    pub(crate) schema: &'s Map<String, Value>,
    pub(crate) required: bool,
}

/// How deep keys are shown; a schema may refer to itself.
const DEPTH: usize = 4;

/// The keys of a schema, required ones first, then in the schema's order; those of nested objects follow their parent.
pub(crate) fn keys(root: &Value) -> Vec<Key<'_>> {
    let mut found = Vec::new();
    collect(root, root, "", 0, &mut found);
    found
}

fn collect<'s>(root: &'s Value, schema: &'s Value, prefix: &str, depth: usize, found: &mut Vec<Key<'s>>) {
    let Some(properties) = resolve(root, schema).and_then(|schema| schema.get("properties")).and_then(Value::as_object) else {
        return;
    };
    if depth >= DEPTH {
        return;
    }
    let required: Vec<&str> = resolve(root, schema)
        .and_then(|schema| schema.get("required"))
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    for first in [true, false] {
        for (name, schema) in properties.iter().filter(|(name, _)| required.contains(&name.as_str()) == first) {
            let Some(object) = resolve(root, schema) else { continue };
            let path = format!("{prefix}{name}");
            found.push(Key { path: path.clone(), schema: object, required: first });
            collect(root, schema, &format!("{path}."), depth + 1, found);
            if let Some(items) = object.get("items") {
                collect(root, items, &format!("{path}[]."), depth + 1, found);
            }
        }
    }
}

/// The schema behind a local reference.
fn resolve<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Map<String, Value>> {
    let object = schema.as_object()?;
    match object.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.strip_prefix('#')?)?.as_object(),
        None => Some(object),
    }
}

impl Key<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.schema.get(name).and_then(Value::as_str)
    }

    pub(crate) fn description(&self) -> &str {
        self.text("description").unwrap_or_default()
    }

    pub(crate) fn is_secret(&self) -> bool {
        self.schema.get("x-rapidbyte-secret").and_then(Value::as_bool) == Some(true)
    }

    pub(crate) fn is_host(&self) -> bool {
        self.schema.get("x-rapidbyte-host").and_then(Value::as_bool) == Some(true)
    }

    pub(crate) fn is_path(&self) -> bool {
        self.schema.contains_key("x-rapidbyte-path")
    }

    pub(crate) fn default(&self) -> Option<&Value> {
        self.schema.get("default")
    }

    /// What it takes: `integer, 1 to 65535`, `one of: parquet, csv`.
    pub(crate) fn takes(&self) -> String {
        if let Some(options) = self.schema.get("enum").and_then(Value::as_array) {
            // Where the word `null` is one of them, YAML's own null is taken for it.
            let named = options.iter().any(|option| option == "null");
            let words: Vec<String> = options.iter().filter(|option| !(named && option.is_null())).map(plain).collect();
            return format!("one of: {}", words.join(", "));
        }
        if let Some(constant) = self.schema.get("const") {
            return plain(constant);
        }
        let mut takes = match self.schema.get("type") {
            Some(Value::String(one)) => one.clone(),
            Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ if self.schema.contains_key("anyOf") || self.schema.contains_key("oneOf") => "one of several forms".to_owned(),
            _ => "any".to_owned(),
        };
        let number = |name: &str| self.schema.get(name).filter(|value| value.is_number());
        match (number("minimum"), number("maximum")) {
            (Some(min), Some(max)) => takes.push_str(&format!(", {min} to {max}")),
            (Some(min), None) => takes.push_str(&format!(", at least {min}")),
            (None, Some(max)) => takes.push_str(&format!(", at most {max}")),
            (None, None) => {}
        }
        for (mark, words) in [("x-rapidbyte-secret", "secret"), ("x-rapidbyte-host", "host"), ("x-rapidbyte-tls", "file")] {
            if self.schema.contains_key(mark) {
                takes.push_str(&format!(", {words}"));
            }
        }
        if let Some(mode) = self.text("x-rapidbyte-path") {
            takes.push_str(&format!(", directory ({mode})"));
        }
        takes
    }
}

/// A value as people write it: text without quotes.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::tests::manifest_json;

    fn schema() -> Value {
        let manifest: Value = serde_json::from_str(&manifest_json("source-a")).expect("JSON");
        manifest["config_schema"].clone()
    }

    #[test]
    fn required_keys_come_first_and_children_follow_parents() {
        let schema = schema();
        let keys = keys(&schema);
        let paths: Vec<&str> = keys.iter().map(|key| key.path.as_str()).collect();
        assert_eq!(paths, ["host", "password", "path", "port", "format", "fields", "fields[].name"]);
        assert!(keys[0].required && !keys[3].required);
    }

    #[test]
    fn what_a_key_takes_is_said() {
        let schema = schema();
        let takes: Vec<String> = keys(&schema).iter().map(Key::takes).collect();
        assert_eq!(takes[0], "string, host");
        assert_eq!(takes[1], "string, secret");
        assert_eq!(takes[2], "string, directory (read-write)");
        assert_eq!(takes[3], "integer, 1 to 65535");
        assert_eq!(takes[4], "one of: parquet, csv");
    }

    #[test]
    fn a_word_is_said_once() {
        let schema =
            serde_json::json!({ "properties": { "of": { "enum": ["fail", "null", null] }, "or": { "enum": ["a", null] } } });
        let takes: Vec<String> = keys(&schema).iter().map(Key::takes).collect();
        assert_eq!(takes, ["one of: fail, null", "one of: a, null"]);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = serde_json::json!({
            "properties": { "a": { "$ref": "#/definitions/a" } },
            "definitions": { "a": { "properties": { "a": { "$ref": "#/definitions/a" } } } }
        });
        assert_eq!(keys(&schema).len(), DEPTH);
    }
}
