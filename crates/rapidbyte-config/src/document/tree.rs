//! The tree, built from the parser's events without recursion.

use super::scalar;
use super::variable::substitute;
use crate::error::{ConfigError, ConfigErrorKind, Mark};
use crate::secrets::{MASK, Secrets};
use crate::suggest::shown;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Nesting of a document. Specified.
pub(crate) const MAX_DEPTH: usize = 64;
/// What a document may weigh with its aliases and variables replaced, and copies kept for anchors. Guessed: eight times the
/// file's own cap.
const MAX_WEIGHT: usize = 8 << 20;
/// What a node weighs beside its text, so that many empty ones count as well.
const NODE_WEIGHT: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: NodeValue,
    /// Its text came from the environment, at least in part, and must not be shown.
    pub(crate) from_env: bool,
}

/// What a node holds. Numbers are finite and within 64 bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeValue {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key, where it stands, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) mark: Mark,
    pub(crate) value: Node,
}

impl Node {
    /// The type in words.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.value {
            NodeValue::Null => "nothing",
            NodeValue::Bool(_) => "a boolean",
            NodeValue::Number(_) => "a number",
            NodeValue::Text(_) => "a string",
            NodeValue::List(_) => "a list",
            NodeValue::Map(_) => "a mapping",
        }
    }

    /// A scalar as a message may show it.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            _ if self.from_env => MASK.to_owned(),
            NodeValue::Text(text) => shown(text),
            NodeValue::Number(number) => number.to_string(),
            NodeValue::Bool(value) => value.to_string(),
            NodeValue::Null => "null".to_owned(),
            NodeValue::List(_) | NodeValue::Map(_) => self.type_name().to_owned(),
        }
    }

    /// The same as JSON.
    pub(crate) fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text) => Value::String(text.clone()),
            NodeValue::List(items) => items.iter().map(Self::to_json).collect(),
            NodeValue::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
        }
    }

    /// Levels of nesting, itself included. Bounded by [`MAX_DEPTH`], as every node is.
    fn height(&self) -> usize {
        let below = match &self.value {
            NodeValue::List(items) => items.iter().map(Self::height).max(),
            NodeValue::Map(entries) => entries.iter().map(|entry| entry.value.height()).max(),
            _ => return 0,
        };
        1 + below.unwrap_or(0)
    }

    fn weight(&self) -> usize {
        let inside: usize = match &self.value {
            NodeValue::Text(text) => text.len(),
            NodeValue::List(items) => items.iter().map(Self::weight).sum(),
            NodeValue::Map(entries) => entries.iter().map(|entry| NODE_WEIGHT + entry.key.len() + entry.value.weight()).sum(),
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) => 0,
        };
        NODE_WEIGHT + inside
    }
}

/// Parses one document, replaces its variables, and adds their values to `secrets`.
pub(crate) fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>, secrets: &mut Secrets) -> Result<Node, ConfigError> {
    super::check_size(text.len())?;
    let mut builder = Builder { env, secrets, open: Vec::new(), root: None, anchors: HashMap::new(), weight: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_error(&error, text))?;
        builder.take(event, mark(&span.start))?;
    }
    builder.root.filter(|root| root.value != NodeValue::Null).ok_or_else(|| {
        ConfigError::new(ConfigErrorKind::Syntax, None, "the file is empty").with_hint("write an example with `rapidbyte init`")
    })
}

fn mark(marker: &Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() + 1 }
}

fn scan_error(error: &ScanError, text: &str) -> ConfigError {
    let mark = mark(error.marker());
    let hint = if text.lines().nth(mark.line.saturating_sub(1)).is_some_and(|line| line.contains("${")) {
        "within `{…}` and `[…]` put a variable in quotes: `\"${VAR}\"`"
    } else {
        "check the indentation, colons, quotes and brackets around this place"
    };
    ConfigError::new(ConfigErrorKind::Syntax, mark, format!("malformed YAML: {}", shown(error.info()))).with_hint(hint)
}

/// A list or mapping whose end has not come.
struct Open {
    mark: Mark,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, seen: HashSet<String>, key: Option<(String, Mark)> },
}

struct Builder<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    secrets: &'a mut Secrets,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    weight: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, at: Mark) -> Result<(), ConfigError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(syntax(at, "a second document in the file").with_hint("keep one document per file"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag, at, "seq")?;
                self.begin(Open { mark: at, anchor, kind: OpenKind::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag, at, "map")?;
                self.begin(Open { mark: at, anchor, kind: OpenKind::Map { entries: Vec::new(), seen: HashSet::new(), key: None } })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag, at),
            Event::Alias(anchor) => self.alias(anchor, at),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), ConfigError> {
        if self.awaits_key() {
            return Err(syntax(open.mark, "a key must be a word, not a list or mapping"));
        }
        self.check_depth(1, open.mark)?;
        self.weigh(NODE_WEIGHT, open.mark)?;
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, at: Mark) -> Result<(), ConfigError> {
        let Some(Open { mark, anchor, kind }) = self.open.pop() else {
            return Err(syntax(at, "an end without a beginning"));
        };
        let value = match kind {
            OpenKind::List(items) => NodeValue::List(items),
            OpenKind::Map { entries, .. } => NodeValue::Map(entries),
        };
        self.place(Node { mark, value, from_env: false }, anchor)
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        at: Mark,
    ) -> Result<(), ConfigError> {
        let is_text = check_tag(tag, at, "str")?;
        if self.awaits_key() {
            return self.key(text, style, at);
        }
        let out = substitute(text, self.env, MAX_WEIGHT - self.weight).map_err(|error| {
            let kind = if error.too_large { ConfigErrorKind::TooLarge } else { ConfigErrorKind::Variable };
            ConfigError::new(kind, at, error.message).with_hint(error.hint)
        })?;
        self.weigh(NODE_WEIGHT + out.text.len(), at)?;
        let value = if style == ScalarStyle::Plain && !is_text {
            scalar::plain(&out.text).map_err(|scalar::Unrepresentable(message)| {
                ConfigError::new(ConfigErrorKind::InvalidValue, at, message).with_hint("put it in quotes if it is meant as text")
            })?
        } else {
            NodeValue::Text(out.text)
        };
        // A substituted port or switch is no secret, and masking it would spoil every count that looks like it. A secret that
        // looks like a number must be quoted to be a string, and is one then.
        if matches!(value, NodeValue::Text(_)) {
            out.values.iter().for_each(|value| self.secrets.insert(value));
        }
        self.place(Node { mark: at, value, from_env: !out.values.is_empty() }, anchor)
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Mark) -> Result<(), ConfigError> {
        if style == ScalarStyle::Plain && text == "<<" {
            return Err(syntax(at, "`<<` does not merge here").with_hint("write the keys out"));
        }
        if text.contains("${") {
            return Err(ConfigError::new(ConfigErrorKind::Variable, at, "variables are not replaced in keys")
                .with_hint("use a variable in the value"));
        }
        self.weigh(NODE_WEIGHT + text.len(), at)?;
        if let Some(Open { kind: OpenKind::Map { seen, key, .. }, .. }) = self.open.last_mut() {
            if !seen.insert(text.to_owned()) {
                return Err(ConfigError::new(ConfigErrorKind::DuplicateKey, at, format!("the key `{}` comes twice", shown(text)))
                    .with_hint("keep one of the two"));
            }
            *key = Some((text.to_owned(), at));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Mark) -> Result<(), ConfigError> {
        if self.awaits_key() {
            return Err(syntax(at, "an alias can't be a key"));
        }
        // An anchor is known once its value is complete, so that no value can hold itself.
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(syntax(at, "the alias refers to a value that is not complete"));
        };
        let (height, weight) = (node.height(), node.weight());
        self.check_depth(height, at)?;
        self.weigh(weight, at)?;
        // Weighed before it is copied.
        let node = self.anchors[&anchor].clone();
        self.place(Node { mark: at, ..node }, 0)
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), ConfigError> {
        if anchor != 0 {
            self.weigh(node.weight(), node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::List(items)) => items.push(node),
            Some(OpenKind::Map { entries, key, .. }) => {
                let Some((key, mark)) = key.take() else {
                    return Err(syntax(node.mark, "a value without a key"));
                };
                entries.push(Entry { key, mark, value: node });
            }
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: OpenKind::Map { key: None, .. }, .. }))
    }

    fn check_depth(&self, more: usize, at: Mark) -> Result<(), ConfigError> {
        if self.open.len() + more > MAX_DEPTH {
            return Err(ConfigError::new(ConfigErrorKind::TooLarge, at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(())
    }

    fn weigh(&mut self, more: usize, at: Mark) -> Result<(), ConfigError> {
        self.weight = self.weight.saturating_add(more);
        if self.weight > MAX_WEIGHT {
            return Err(ConfigError::new(ConfigErrorKind::TooLarge, at, "the document is too large once its aliases are replaced"));
        }
        Ok(())
    }
}

fn syntax(at: Mark, message: impl Into<String>) -> ConfigError {
    ConfigError::new(ConfigErrorKind::Syntax, at, message)
}

/// Refuses tags but the one that says what is so anyway; whether there was one.
fn check_tag(tag: Option<Cow<'_, Tag>>, at: Mark, allowed: &str) -> Result<bool, ConfigError> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() && tag.suffix == allowed => Ok(true),
        Some(_) => {
            Err(syntax(at, "tags are not supported").with_hint("leave the word with `!` out; quote a value to make it text"))
        }
    }
}

#[cfg(test)]
mod tests;
