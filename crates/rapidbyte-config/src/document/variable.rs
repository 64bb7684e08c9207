//! `${VAR}` and its forms, within one scalar.
//!
//! | written | means |
//! |---|---|
//! | `${VAR}` | the value; unset is an error, empty is not |
//! | `${VAR:-text}` | the value, or `text` when unset or empty |
//! | `${VAR:?text}` | the value; unset or empty is an error that says `text` |
//! | `$${` | `${` itself |
//!
//! Any other `$` stands for itself. A value is never looked through again for variables.

use crate::suggest::shown;

/// A scalar's text with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Substituted {
    pub(super) text: String,
    /// Values that came from the environment.
    pub(super) values: Vec<String>,
    /// Whether there was any reference, also one that ended in its default.
    pub(super) any: bool,
}

/// Why a reference can't be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VariableError {
    pub(super) message: String,
    pub(super) hint: String,
    pub(super) too_large: bool,
}

fn malformed(message: impl Into<String>) -> VariableError {
    VariableError {
        message: message.into(),
        hint: "the forms are `${VAR}`, `${VAR:-default}`, `${VAR:?message}`; `$${` stands for `${` itself".to_owned(),
        too_large: false,
    }
}

/// Replaces the variables of a scalar; the outcome may have at most `cap` bytes.
pub(super) fn substitute(text: &str, env: &dyn Fn(&str) -> Option<String>, cap: usize) -> Result<Substituted, VariableError> {
    let mut out = Substituted { text: String::with_capacity(text.len()), values: Vec::new(), any: false };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.text.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let end = after.find('}').ok_or_else(|| malformed("`${` without `}`"))?;
            out.any = true;
            match reference(&after[..end], env)? {
                Replacement::Value(value) => {
                    out.text.push_str(&value);
                    out.values.push(value);
                }
                Replacement::Default(value) => out.text.push_str(value),
            }
            if out.text.len() > cap {
                return Err(VariableError {
                    message: "the document is too large once its variables are replaced".to_owned(),
                    hint: "shorten the values".to_owned(),
                    too_large: true,
                });
            }
            rest = &after[end + 1..];
        } else {
            out.text.push('$');
            rest = &rest[1..];
        }
    }
    out.text.push_str(rest);
    Ok(out)
}

enum Replacement<'t> {
    Value(String),
    Default(&'t str),
}

fn reference<'t>(body: &'t str, env: &dyn Fn(&str) -> Option<String>) -> Result<Replacement<'t>, VariableError> {
    let name_end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(body.len());
    let (name, operation) = body.split_at(name_end);
    if !is_variable_name(name) {
        return Err(malformed(format!("`${{{}}}` does not name a variable", shown(body))));
    }
    if operation.contains("${") {
        return Err(malformed(format!("the text after `${{{name}` holds another variable, which is not supported")));
    }
    let value = env(name);
    let full = value.clone().filter(|value| !value.is_empty());
    if operation.is_empty() {
        return value.map(Replacement::Value).ok_or_else(|| VariableError {
            message: format!("the variable `{name}` is not set"),
            hint: format!("set it, or give a default: `${{{name}:-default}}`"),
            too_large: false,
        });
    }
    if let Some(default) = operation.strip_prefix(":-") {
        return Ok(full.map_or(Replacement::Default(default), Replacement::Value));
    }
    if let Some(message) = operation.strip_prefix(":?") {
        return full.map(Replacement::Value).ok_or_else(|| VariableError {
            message: match message.trim() {
                "" => format!("the variable `{name}` is not set or empty"),
                message => format!("the variable `{name}` is not set or empty: {}", shown(message)),
            },
            hint: format!("set `{name}`"),
            too_large: false,
        });
    }
    Err(malformed(format!("`{}` after `${{{name}` is not a form of reference", shown(operation))))
}

/// Whether the text can name a variable.
pub(crate) fn is_variable_name(name: &str) -> bool {
    name.len() <= 256
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("va".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${A}: [x]".to_owned()),
            "_B2" => Some("ü".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn every_form_is_replaced() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "va"),
            ("x${A}y${_B2}z", "xvayüz"),
            ("${EMPTY}", ""),
            ("${NONE:-d}", "d"),
            ("${NONE:-}", ""),
            ("${EMPTY:-d}", "d"),
            ("${A:-d}", "va"),
            ("${NONE:-a:-b:?c}", "a:-b:?c"),
            ("${A:?needed}", "va"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$A $ $$ {A}", "$A $ $$ {A}"),
            ("cost$", "cost$"),
            ("${TRICK}", "${A}: [x]"),
            ("ü${A}ü", "üvaü"),
        ] {
            assert_eq!(substitute(text, &env, 1000).expect(text).text, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_refused() {
        for (text, message) in [
            ("${NONE}", "the variable `NONE` is not set"),
            ("${NONE:?set it}", "the variable `NONE` is not set or empty: set it"),
            ("${EMPTY:?}", "the variable `EMPTY` is not set or empty"),
            ("${A", "`${` without `}`"),
            ("${}", "`${}` does not name a variable"),
            ("${1A}", "`${1A}` does not name a variable"),
            ("${A B}", "` B` after `${A` is not a form of reference"),
            ("${A-d}", "`-d` after `${A` is not a form of reference"),
            ("${A:+d}", "`:+d` after `${A` is not a form of reference"),
            ("${A:-${B}}", "the text after `${A` holds another variable, which is not supported"),
        ] {
            assert_eq!(substitute(text, &env, 1000).expect_err(text).message, message, "{text}");
        }
    }

    #[test]
    fn only_values_of_the_environment_are_kept_as_values() {
        let out = substitute("${A} ${NONE:-dd} ${A:-x}", &env, 1000).expect("valid");
        assert_eq!(out.values, ["va", "va"]);
        assert!(out.any);
        assert!(!substitute("$${A}", &env, 1000).expect("valid").any);
    }

    #[test]
    fn growth_is_capped() {
        assert!(substitute(&"${A}".repeat(100), &env, 100).expect_err("200 bytes").too_large);
    }
}
