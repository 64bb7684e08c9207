//! What is wrong with a connector's configuration, without its values.

use crate::suggest::{did_you_mean, listed, nearest, shown};
use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;
use std::fmt;

/// More than this would not be read.
const MAX_PROBLEMS: usize = 50;

/// One thing wrong with a connector's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The JSON pointer of the value, empty for the whole.
    pub pointer: String,
    /// What is wrong; never the value.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ConfigProblem {
    pub(super) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), hint: None }
    }

    #[must_use]
    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}`: {}", self.pointer, self.message) }
    }
}

/// Everything wrong with a connector's configuration; at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidConfig {
    problems: Vec<ConfigProblem>,
}

impl InvalidConfig {
    pub(super) fn new(mut problems: Vec<ConfigProblem>) -> Self {
        problems.truncate(MAX_PROBLEMS);
        Self { problems }
    }

    /// Each problem, in the order of the schema.
    pub fn problems(&self) -> &[ConfigProblem] {
        &self.problems
    }

    /// The first advice there is.
    pub fn hint(&self) -> Option<&str> {
        self.problems.iter().find_map(|problem| problem.hint.as_deref())
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}

/// The problems behind one error of the validator. `root` is the schema, for the names of known properties.
pub(super) fn describe(error: &ValidationError<'_>, root: &Value) -> Vec<ConfigProblem> {
    let pointer = error.instance_path().as_str().to_owned();
    let instance = error.instance().as_ref();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let parent = error.schema_path().as_str().rsplit_once('/').map_or("", |(parent, _)| parent);
            let known = property_names(root.pointer(parent));
            unexpected.iter().map(|key| unknown_property(&pointer, key, &known)).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let written: Vec<&str> = instance.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
            // A required key that is there under a misspelt name is reported by its unknown name already.
            let hint = match nearest(name, written) {
                Some(near) => format!("is `{}` meant to be `{}`?", shown(near), shown(name)),
                None => format!("add `{}`", shown(name)),
            };
            vec![ConfigProblem::new(pointer, format!("missing `{}`", shown(name))).with_hint(Some(hint))]
        }
        ValidationErrorKind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(one) => one.to_string(),
                TypeKind::Multiple(set) => set.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or "),
            };
            let scalar = matches!(instance, Value::Number(_) | Value::Bool(_) | Value::Null);
            let hint = (scalar && expected.contains("string")).then(|| "put the value in quotes".to_owned());
            let hint =
                hint.or_else(|| (instance.is_string() && !expected.contains("string")).then(|| "leave the quotes out".to_owned()));
            vec![ConfigProblem::new(pointer, format!("expected {expected}, found {}", type_of(instance))).with_hint(hint)]
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> = options.as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
            let hint = instance.as_str().and_then(|found| did_you_mean(found, words.iter().copied()));
            let all: Vec<String> = options
                .as_array()
                .map(|all| all.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect())
                .unwrap_or_default();
            let message = format!("not one of: {}", shown_list(&all));
            vec![ConfigProblem::new(pointer, message).with_hint(hint)]
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let forms: Vec<String> = context
                .iter()
                .filter_map(|errors| errors.first())
                .flat_map(|error| describe_leaf(error, root))
                .map(|problem| problem.to_string())
                .take(4)
                .collect();
            let hint = (!forms.is_empty()).then(|| format!("one of these has to hold: {}", forms.join(" / ")));
            vec![ConfigProblem::new(pointer, "matches none of the allowed forms").with_hint(hint)]
        }
        _ => describe_leaf(error, root),
    }
}

/// Like [`describe`], one level deep: forms within forms are named and not explored.
fn describe_leaf(error: &ValidationError<'_>, root: &Value) -> Vec<ConfigProblem> {
    let message = match error.kind() {
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            "matches none of the allowed forms".to_owned()
        }
        ValidationErrorKind::AdditionalProperties { .. }
        | ValidationErrorKind::Required { .. }
        | ValidationErrorKind::Type { .. }
        | ValidationErrorKind::Enum { .. } => return describe(error, root),
        ValidationErrorKind::Constant { expected_value } => format!("must be `{}`", shown(&expected_value.to_string())),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        ValidationErrorKind::MinLength { limit: 1 } => "must not be empty".to_owned(),
        ValidationErrorKind::MinLength { limit } => format!("must have at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("must have at least {limit} items"),
        ValidationErrorKind::MaxItems { limit } => format!("must have at most {limit} items"),
        ValidationErrorKind::MinProperties { limit } => format!("must have at least {limit} keys"),
        ValidationErrorKind::MaxProperties { limit } => format!("must have at most {limit} keys"),
        ValidationErrorKind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        ValidationErrorKind::Pattern { pattern } => format!("must match `{}`", shown(pattern)),
        ValidationErrorKind::Format { format } => format!("must be a `{}`", shown(format)),
        ValidationErrorKind::UniqueItems => "must not name an item twice".to_owned(),
        ValidationErrorKind::OneOfMultipleValid { .. } => "matches several forms that exclude each other".to_owned(),
        ValidationErrorKind::FalseSchema => "must be left out".to_owned(),
        ValidationErrorKind::Not { .. } => "has a form that is not allowed".to_owned(),
        other => format!("does not satisfy `{}`", other.keyword()),
    };
    vec![ConfigProblem::new(error.instance_path().as_str(), message)]
}

pub(super) fn unknown_property(pointer: &str, key: &str, known: &[&str]) -> ConfigProblem {
    let hint = did_you_mean(key, known.iter().copied()).unwrap_or_else(|| match known {
        [] => "the connector takes no configuration here".to_owned(),
        known => format!("known keys: {}", listed(known.iter().copied().take(40))),
    });
    ConfigProblem::new(pointer, format!("unknown key `{}`", shown(key))).with_hint(Some(hint))
}

fn property_names(schema: Option<&Value>) -> Vec<&str> {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    properties.map(|properties| properties.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn shown_list(all: &[String]) -> String {
    all.iter().take(20).map(|one| format!("`{}`", shown(one))).collect::<Vec<_>>().join(", ")
}

pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
