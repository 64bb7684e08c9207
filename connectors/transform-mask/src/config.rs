//! The configuration as written, and as methods by column.

use crate::method::Method;
use rapidbyte_sdk::{ConnectorError, Scope};
use serde::Deserialize;
use std::fmt;

/// How a column is masked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// A fixed text.
    #[default]
    Redact,
    /// A keyed hash.
    Hash,
    /// Some characters stay.
    Partial,
}

/// The key of the hash. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Salt(String);

impl Salt {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A column with a method of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The column.
    pub field: String,
    /// How it is masked.
    pub method: MethodName,
    /// For `redact`.
    pub with: Option<String>,
    /// For `partial`.
    pub keep_first: Option<u32>,
    /// For `partial`.
    pub keep_last: Option<u32>,
}

/// The `config:` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Columns that share the method below.
    pub fields: Vec<String>,
    /// How `fields` are masked.
    pub method: Option<MethodName>,
    /// For `redact`; rules without their own take it too.
    pub with: Option<String>,
    /// For `hash`.
    pub salt: Option<Salt>,
    /// For `partial` of `fields`.
    pub keep_first: Option<u32>,
    /// For `partial` of `fields`.
    pub keep_last: Option<u32>,
    /// Columns with a method of their own.
    pub rules: Vec<Rule>,
    /// The streams to mask; all by default.
    pub streams: Option<Vec<String>>,
}

/// Columns and their methods.
pub(crate) struct Masks {
    pub(crate) columns: Vec<(String, Method)>,
    pub(crate) scope: Scope,
}

fn bad(code: &str, message: String, hint: &str) -> ConnectorError {
    ConnectorError::config(code, message).with_hint(hint)
}

impl Masks {
    /// Checks the configuration: every key in it has an effect.
    pub(crate) fn new(config: Config) -> Result<Self, ConnectorError> {
        let Config { fields, method, with, salt, keep_first, keep_last, rules, streams } = config;
        if fields.is_empty() && rules.is_empty() {
            return Err(bad("no_fields", "no column is named".into(), "name columns under `fields` or `rules`"));
        }
        if fields.is_empty() && (method.is_some() || keep_first.is_some() || keep_last.is_some()) {
            return Err(bad(
                "unused_key",
                "`method`, `keep_first` and `keep_last` apply to `fields`, which is empty".into(),
                "put them into the rules",
            ));
        }
        let shared =
            fields.into_iter().map(|field| Rule { field, method: method.unwrap_or_default(), with: None, keep_first, keep_last });
        let rules: Vec<Rule> = shared.chain(rules).collect();
        let any = |method| rules.iter().any(|rule| rule.method == method);
        if salt.is_some() && !any(MethodName::Hash) {
            return Err(bad("unused_key", "`salt` is set and no column is hashed".into(), "remove `salt`, or set `method: hash`"));
        }
        if with.is_some() && !rules.iter().any(|rule| rule.method == MethodName::Redact && rule.with.is_none()) {
            return Err(bad("unused_key", "`with` is set and no column would take it".into(), "remove `with`"));
        }
        let mut columns: Vec<(String, Method)> = Vec::new();
        for rule in rules {
            if rule.field.starts_with("_rb_") {
                return Err(bad(
                    "reserved_column",
                    format!("column `{}` is the protocol's own", rule.field),
                    "name another column",
                ));
            }
            if columns.iter().any(|(field, _)| *field == rule.field) {
                return Err(bad("duplicate_field", format!("column `{}` is masked twice", rule.field), "name it once"));
            }
            columns.push((rule.field.clone(), method_of(&rule, with.as_deref(), salt.as_ref())?));
        }
        Ok(Self { columns, scope: Scope::new(streams) })
    }
}

fn method_of(rule: &Rule, with: Option<&str>, salt: Option<&Salt>) -> Result<Method, ConnectorError> {
    let Rule { field, method, with: own, keep_first, keep_last } = rule;
    if own.is_some() && *method != MethodName::Redact {
        return Err(bad("unused_key", format!("column `{field}`: `with` belongs to method `redact`"), "remove `with`"));
    }
    if (keep_first.is_some() || keep_last.is_some()) && *method != MethodName::Partial {
        return Err(bad(
            "unused_key",
            format!("column `{field}`: `keep_first` and `keep_last` belong to method `partial`"),
            "remove them, or set `method: partial`",
        ));
    }
    match method {
        MethodName::Redact => Ok(Method::Redact(own.as_deref().or(with).unwrap_or("***").to_owned())),
        MethodName::Hash => {
            let salt = salt.ok_or_else(|| {
                bad("missing_salt", format!("column `{field}`: method `hash` needs a `salt`"), "set `salt: \"${MASK_SALT}\"`")
            })?;
            // A short key could be found by trying, and with it every value behind a hash.
            if salt.as_bytes().len() < 8 {
                return Err(bad("short_salt", "`salt` has fewer than 8 bytes".into(), "take 16 random characters or more"));
            }
            Ok(Method::hash(salt.as_bytes()))
        }
        MethodName::Partial => {
            let (first, last) = (keep_first.unwrap_or(0) as usize, keep_last.unwrap_or(0) as usize);
            if first + last == 0 {
                return Err(bad(
                    "nothing_kept",
                    format!("column `{field}`: method `partial` keeps no character"),
                    "set `keep_first` or `keep_last`, or use `redact`",
                ));
            }
            Ok(Method::Partial { first, last })
        }
    }
}
