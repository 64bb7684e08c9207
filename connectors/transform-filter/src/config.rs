//! The configuration as written, and as predicates whose operands fit their operators.

use rapidbyte_sdk::{ConnectorError, Scope};
use serde::Deserialize;
use serde_json::Value;
use std::cmp::Ordering;

/// What a predicate asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// One of a list.
    In,
    /// None of a list.
    NotIn,
    /// Has no value.
    IsNull,
    /// Has a value.
    IsNotNull,
    /// Text that contains another.
    Contains,
    /// Text that begins with another.
    StartsWith,
    /// Text that ends with another.
    EndsWith,
}

impl Operator {
    /// The word as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
            Self::In => "in",
            Self::NotIn => "not_in",
            Self::IsNull => "is_null",
            Self::IsNotNull => "is_not_null",
            Self::Contains => "contains",
            Self::StartsWith => "starts_with",
            Self::EndsWith => "ends_with",
        }
    }
}

/// One predicate as written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicate {
    /// The column.
    pub field: String,
    /// What is asked.
    pub op: Operator,
    /// What to compare with.
    #[serde(default)]
    pub value: Option<Value>,
}

/// How predicates go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// Every one has to hold.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// The `config:` block.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The predicates.
    #[serde(rename = "where")]
    pub predicates: Vec<Predicate>,
    /// How they go together.
    #[serde(default, rename = "match")]
    pub combine: Match,
    /// The streams to filter; all by default.
    #[serde(default)]
    pub streams: Option<Vec<String>>,
}

/// How values are compared with an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    /// Whether an ordering satisfies it. `None` (a float that is not a number) equals nothing.
    pub(crate) fn holds(self, ordering: Option<Ordering>) -> bool {
        match self {
            Self::Eq => ordering == Some(Ordering::Equal),
            Self::Ne => ordering != Some(Ordering::Equal),
            Self::Lt => ordering == Some(Ordering::Less),
            Self::Le => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Self::Gt => ordering == Some(Ordering::Greater),
            Self::Ge => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// How text is looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Anywhere,
    Start,
    End,
}

/// A predicate whose operands fit its operator, and are still JSON: their type is the column's.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    Compare(Comparison, Value),
    /// One of these; `false` = none of these.
    OneOf(Vec<Value>, bool),
    /// Has no value; `false` = has one.
    IsNull(bool),
    Text(Part, String),
}

/// A column and what is asked of it.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) field: String,
    pub(crate) op: Operator,
    pub(crate) test: Test,
}

/// What a configuration comes to.
pub(crate) struct Conditions {
    pub(crate) all: Vec<Condition>,
    pub(crate) combine: Match,
    pub(crate) scope: Scope,
}

/// Values of one list, at most.
const MAX_LISTED: usize = 100_000;

fn bad(field: &str, op: Operator, message: &str) -> ConnectorError {
    ConnectorError::config("predicate", format!("predicate `{}` on `{field}`: {message}", op.as_str()))
}

impl Conditions {
    pub(crate) fn new(config: Config) -> Result<Self, ConnectorError> {
        let Config { predicates, combine, streams } = config;
        if predicates.is_empty() {
            return Err(
                ConnectorError::config("no_predicate", "`where` is empty").with_hint("name a predicate, or remove the transform")
            );
        }
        let all = predicates.into_iter().map(condition).collect::<Result<_, _>>()?;
        Ok(Self { all, combine, scope: Scope::new(streams) })
    }
}

fn condition(predicate: Predicate) -> Result<Condition, ConnectorError> {
    let Predicate { field, op, value } = predicate;
    let one = |value: Option<Value>| match value {
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => Ok(value),
        Some(Value::Null) => Err(bad(&field, op, "nothing compares with null").with_hint("use `is_null` or `is_not_null`")),
        Some(_) => Err(bad(&field, op, "`value` is a list or an object").with_hint("use `in` for a list")),
        None => Err(bad(&field, op, "`value` is missing")),
    };
    let list = |value: Option<Value>| match value {
        Some(Value::Array(values)) if values.is_empty() => Err(bad(&field, op, "the list is empty")),
        Some(Value::Array(values)) if values.len() > MAX_LISTED => Err(bad(&field, op, "the list has more than 100,000 values")),
        Some(Value::Array(values)) => values.into_iter().map(|value| one(Some(value))).collect::<Result<Vec<_>, _>>(),
        _ => Err(bad(&field, op, "`value` is not a list").with_hint("write `value: [a, b]`")),
    };
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) => Ok(text),
        _ => Err(bad(&field, op, "`value` is not text")),
    };
    let none = |value: &Option<Value>| match value {
        Some(_) => Err(bad(&field, op, "`value` has no meaning here").with_hint("remove `value`")),
        None => Ok(()),
    };
    let test = match op {
        Operator::Eq => Test::Compare(Comparison::Eq, one(value)?),
        Operator::Ne => Test::Compare(Comparison::Ne, one(value)?),
        Operator::Lt => Test::Compare(Comparison::Lt, one(value)?),
        Operator::Le => Test::Compare(Comparison::Le, one(value)?),
        Operator::Gt => Test::Compare(Comparison::Gt, one(value)?),
        Operator::Ge => Test::Compare(Comparison::Ge, one(value)?),
        Operator::In => Test::OneOf(list(value)?, true),
        Operator::NotIn => Test::OneOf(list(value)?, false),
        Operator::IsNull | Operator::IsNotNull => {
            none(&value)?;
            Test::IsNull(op == Operator::IsNull)
        }
        Operator::Contains => Test::Text(Part::Anywhere, text(value)?),
        Operator::StartsWith => Test::Text(Part::Start, text(value)?),
        Operator::EndsWith => Test::Text(Part::End, text(value)?),
    };
    Ok(Condition { field, op, test })
}
