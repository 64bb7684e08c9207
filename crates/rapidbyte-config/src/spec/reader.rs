//! One mapping of a document, read by the key table.

use super::size::{parse_size, show_size};
use super::{Marked, error};
use crate::document::{Entry, Node, NodeValue};
use crate::error::{ConfigError, ConfigErrorKind, Mark};
use crate::schema::{KeyInfo, KeyKind, children};
use crate::suggest::{did_you_mean, listed, shown};
use rapidbyte_types::UnknownWord;
use serde_json::Value;
use std::str::FromStr;

/// A mapping whose keys are all known.
pub(super) struct Table<'n> {
    node: &'n Node,
    entries: &'n [Entry],
    path: String,
}

/// A key that is there and not `null`, and what the table says of it.
struct Found<'n> {
    info: &'static KeyInfo,
    node: &'n Node,
}

impl<'n> Table<'n> {
    /// Opens the mapping at `path` of the key table; a key that is not in the table is refused.
    pub(super) fn open(node: &'n Node, path: &str) -> Result<Self, ConfigError> {
        let place = if path.is_empty() { "the document".to_owned() } else { format!("`{path}`") };
        let NodeValue::Map(entries) = &node.value else {
            return Err(error(
                ConfigErrorKind::WrongType,
                node.mark,
                format!("{place} must be a mapping, found {}", node.type_name()),
            ));
        };
        for entry in entries {
            if !children(path).any(|key| key.name() == entry.key) {
                let names = || children(path).map(KeyInfo::name);
                let hint = did_you_mean(&entry.key, names()).unwrap_or_else(|| format!("known keys: {}", listed(names())));
                let message = format!("unknown key `{}` in {place}", shown(&entry.key));
                return Err(error(ConfigErrorKind::UnknownKey, entry.mark, message).with_hint(hint));
            }
        }
        Ok(Self { node, entries, path: path.to_owned() })
    }

    pub(super) fn mark(&self) -> Mark {
        self.node.mark
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn entry(&self, key: &str) -> (&'static KeyInfo, Option<&'n Node>) {
        let info = children(&self.path).find(|info| info.name() == key).expect("every key that is read is in the table");
        (info, self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value))
    }

    pub(super) fn is_null(&self, key: &str) -> bool {
        self.entry(key).1.is_some_and(|node| node.value == NodeValue::Null)
    }

    /// A key without a value is as good as absent where it may be absent.
    fn get(&self, key: &str) -> Result<Option<Found<'n>>, ConfigError> {
        let (info, node) = self.entry(key);
        match node {
            Some(node) if node.value != NodeValue::Null => Ok(Some(Found { info, node })),
            node if info.required => {
                let what = if node.is_some() { "is empty" } else { "is missing" };
                let mark = node.map_or(self.node.mark, |node| node.mark);
                let error = error(ConfigErrorKind::MissingKey, mark, format!("`{}` {what}", self.path_of(key)));
                Err(error.with_hint(format!("add `{key}`: {}", info.doc)))
            }
            _ => Ok(None),
        }
    }

    fn wrong_type(&self, found: &Found<'_>, expected: &str) -> ConfigError {
        let message = format!("`{}` must be {expected}, found {}", self.path_of(found.info.name()), found.node.type_name());
        error(ConfigErrorKind::WrongType, found.node.mark, message)
    }

    fn invalid(&self, found: &Found<'_>, message: &str) -> ConfigError {
        error(ConfigErrorKind::InvalidValue, found.node.mark, format!("`{}` {message}", self.path_of(found.info.name())))
    }

    fn text_of(&self, found: &Found<'n>) -> Result<Marked<String>, ConfigError> {
        match &found.node.value {
            NodeValue::Text(text) if text.trim().is_empty() => Err(self.invalid(found, "is empty")),
            NodeValue::Text(text) if text.contains('\0') => Err(self.invalid(found, "holds a zero character")),
            NodeValue::Text(text) => Ok(marked(text.clone(), found.node)),
            NodeValue::List(_) | NodeValue::Map(_) => Err(self.wrong_type(found, "a string")),
            _ => Err(self.wrong_type(found, "a string").with_hint("put the value in quotes")),
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<Marked<String>>, ConfigError> {
        self.get(key)?.map(|found| self.text_of(&found)).transpose()
    }

    /// Absent, or given, also as `null`.
    pub(super) fn text_or_null(&self, key: &str) -> Result<Option<Option<Marked<String>>>, ConfigError> {
        if self.is_null(key) { Ok(Some(None)) } else { Ok(self.text(key)?.map(Some)) }
    }

    pub(super) fn required_text(&self, key: &str) -> Result<Marked<String>, ConfigError> {
        self.required(key).and_then(|found| self.text_of(&found))
    }

    fn required(&self, key: &str) -> Result<Found<'n>, ConfigError> {
        let found = self.get(key)?;
        Ok(found.expect("a required key that is absent was refused"))
    }

    pub(super) fn version(&self, key: &str) -> Result<(), ConfigError> {
        let found = self.required(key)?;
        let known = match &found.node.value {
            NodeValue::Text(text) => text == "1.0" || text == "1",
            // Unquoted, both are numbers.
            NodeValue::Number(number) => number.as_f64() == Some(1.0),
            _ => return Err(self.wrong_type(&found, "a string")),
        };
        if known {
            return Ok(());
        }
        let message = format!("is `{}`, which this version can't read", found.node.shown());
        Err(self.invalid(&found, &message).with_hint("write `version: \"1.0\"`"))
    }

    pub(super) fn word<T: FromStr<Err = UnknownWord>>(&self, key: &str) -> Result<Option<Marked<T>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(None) };
        let word = self.known_word(&found)?;
        let value = word.value.parse().map_err(|unknown: UnknownWord| self.invalid(&found, &unknown.to_string()))?;
        Ok(Some(Marked { value, mark: word.mark, from_env: word.from_env }))
    }

    pub(super) fn word_as<T: Copy>(&self, key: &str, meanings: &[(&str, T)]) -> Result<Option<Marked<T>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(None) };
        let word = self.known_word(&found)?;
        let meaning = meanings.iter().find(|(name, _)| *name == word.value);
        let (_, value) = meaning.ok_or_else(|| self.invalid(&found, "has no meaning"))?;
        Ok(Some(Marked { value: *value, mark: word.mark, from_env: word.from_env }))
    }

    fn known_word(&self, found: &Found<'n>) -> Result<Marked<&'static str>, ConfigError> {
        let (KeyKind::Word(words) | KeyKind::WordOrNull(words)) = found.info.kind else {
            return Err(self.invalid(found, "is not a key that takes a word"));
        };
        let null = if matches!(found.info.kind, KeyKind::WordOrNull(_)) { " or `null`" } else { "" };
        let NodeValue::Text(text) = &found.node.value else {
            return Err(self.wrong_type(found, &format!("one of {}{null}", listed(words.iter().copied()))));
        };
        if let Some(word) = words.iter().find(|word| *word == text) {
            return Ok(marked(*word, found.node));
        }
        let message = format!("is `{}`, expected one of: {}{null}", found.node.shown(), listed(words.iter().copied()));
        Err(self.invalid(found, &message).with_hint_opt(did_you_mean(text, words.iter().copied())))
    }

    /// A whole number or a number of bytes, within the table's bounds.
    pub(super) fn number(&self, key: &str) -> Result<Option<Marked<u64>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(None) };
        let (min, max, is_size) = match found.info.kind {
            KeyKind::Integer { min, max } => (min, max, false),
            KeyKind::Size { min, max } => (min, max, true),
            _ => return Err(self.invalid(&found, "is not a key that takes a number")),
        };
        let show = |number: u64| if is_size { show_size(number) } else { number.to_string() };
        let value = match &found.node.value {
            NodeValue::Number(number) => match number.as_u64() {
                Some(number) => number,
                None if number.as_i64().is_some() => {
                    return Err(self.invalid(&found, &format!("must be within {} and {}", show(min), show(max))));
                }
                None => return Err(self.invalid(&found, "must be a whole number")),
            },
            NodeValue::Text(text) if is_size => parse_size(text).ok_or_else(|| {
                self.invalid(&found, &format!("is `{}`, not a number of bytes", found.node.shown()))
                    .with_hint("write an integer, or one with `kb`, `mb` or `gb` (multiples of 1024), as in `64mb`")
            })?,
            NodeValue::Text(_) => {
                return Err(self.wrong_type(&found, "a whole number").with_hint("write digits without quotes"));
            }
            _ => return Err(self.wrong_type(&found, if is_size { "a number of bytes" } else { "a whole number" })),
        };
        if !(min..=max).contains(&value) {
            let message = format!("is {}, not within {} and {}", found.shown_number(show(value)), show(min), show(max));
            return Err(self.invalid(&found, &message));
        }
        Ok(Some(marked(value, found.node)))
    }

    pub(super) fn text_list(&self, key: &str) -> Result<Option<Marked<Vec<String>>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(None) };
        self.items(key, &found, "strings", Self::text_of).map(Some)
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<Marked<bool>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(None) };
        match found.node.value {
            NodeValue::Bool(value) => Ok(Some(marked(value, found.node))),
            _ => Err(self.wrong_type(&found, "`true` or `false`")),
        }
    }

    /// A single value as exact text.
    fn exact(&self, found: &Found<'_>) -> Result<Marked<String>, ConfigError> {
        let text = match &found.node.value {
            NodeValue::Text(text) if text.contains('\0') => return Err(self.invalid(found, "holds a zero character")),
            NodeValue::Text(text) => text.clone(),
            NodeValue::Bool(value) => value.to_string(),
            NodeValue::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            // By now it is the nearest double, which may be another number than the one that was written.
            NodeValue::Number(_) => {
                return Err(self
                    .invalid(found, "has a fraction or an exponent, and would not be taken exactly")
                    .with_hint("put the value in quotes"));
            }
            _ => return Err(self.wrong_type(found, "a single value")),
        };
        Ok(marked(text, found.node))
    }

    pub(super) fn scalar(&self, key: &str) -> Result<Option<Marked<String>>, ConfigError> {
        self.get(key)?.map(|found| self.exact(&found)).transpose()
    }

    pub(super) fn scalar_list(&self, key: &str) -> Result<Option<Marked<Vec<String>>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(None) };
        self.items(key, &found, "values", Self::exact).map(Some)
    }

    /// A list with at least one item, each once.
    fn items(
        &self,
        key: &str,
        found: &Found<'n>,
        what: &str,
        read: impl Fn(&Self, &Found<'n>) -> Result<Marked<String>, ConfigError>,
    ) -> Result<Marked<Vec<String>>, ConfigError> {
        let NodeValue::List(items) = &found.node.value else {
            return Err(self.wrong_type(found, &format!("a list of {what}")).with_hint(format!("write `{key}: [a, b]`")));
        };
        if items.is_empty() {
            return Err(self.invalid(found, "is an empty list").with_hint("name at least one, or leave the key out"));
        }
        let mut texts = Vec::with_capacity(items.len());
        let mut seen = std::collections::HashSet::new();
        for node in items {
            let text = read(self, &Found { info: found.info, node })?;
            if !seen.insert(text.value.clone()) {
                let message = format!("`{}` names `{}` twice", self.path_of(key), text.shown());
                return Err(error(ConfigErrorKind::InvalidValue, node.mark, message));
            }
            texts.push(text.value);
        }
        let from_env = items.iter().any(|node| node.from_env);
        Ok(Marked { value: texts, mark: found.node.mark, from_env })
    }

    pub(super) fn config(&self, key: &str) -> Result<Value, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(Value::Object(serde_json::Map::new())) };
        match &found.node.value {
            NodeValue::Map(_) => Ok(found.node.to_json()),
            _ => Err(self.wrong_type(&found, "a mapping")),
        }
    }

    pub(super) fn object(&self, key: &str) -> Result<Option<Table<'n>>, ConfigError> {
        self.get(key)?.map(|found| Table::open(found.node, &self.path_of(key))).transpose()
    }

    pub(super) fn required_object(&self, key: &str) -> Result<Table<'n>, ConfigError> {
        self.required(key).and_then(|found| Table::open(found.node, &self.path_of(key)))
    }

    /// Mappings under names of the document's own choice.
    pub(super) fn named_objects(&self, key: &str) -> Result<Vec<(String, Table<'n>)>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(Vec::new()) };
        let NodeValue::Map(entries) = &found.node.value else { return Err(self.wrong_type(&found, "a mapping")) };
        if let KeyKind::NamedObjects { max } = found.info.kind
            && !(1..=max).contains(&entries.len())
        {
            return Err(self.invalid(&found, &format!("has {} entries, not within 1 and {max}", entries.len())));
        }
        let path = format!("{}{{}}", self.path_of(key));
        entries.iter().map(|entry| Ok((entry.key.clone(), Table::open(&entry.value, &path)?))).collect()
    }

    pub(super) fn objects(&self, key: &str) -> Result<Vec<Table<'n>>, ConfigError> {
        let Some(found) = self.get(key)? else { return Ok(Vec::new()) };
        let NodeValue::List(items) = &found.node.value else {
            return Err(self.wrong_type(&found, "a list").with_hint("begin each item with `- `"));
        };
        if let KeyKind::ObjectList { min, max } = found.info.kind
            && !(min..=max).contains(&items.len())
        {
            return Err(self.invalid(&found, &format!("has {} items, not within {min} and {max}", items.len())));
        }
        let path = format!("{}[]", self.path_of(key));
        items.iter().map(|item| Table::open(item, &path)).collect()
    }
}

impl Found<'_> {
    fn shown_number(&self, number: String) -> String {
        if self.node.from_env { crate::secrets::MASK.to_owned() } else { number }
    }
}

fn marked<T>(value: T, node: &Node) -> Marked<T> {
    Marked { value, mark: node.mark, from_env: node.from_env }
}
