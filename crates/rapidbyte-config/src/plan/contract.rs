//! Contracts, resolved: policies that can't act on the rules beside them are refused.

use crate::contract::{ColumnContract, Contract, Literal, OnViolation, OtherColumns, Range, TypeName, UnknownType, compile_regex};
use crate::error::{ConfigError, ConfigErrorKind, Mark};
use crate::spec::{ColumnSpec, ContractSpec, Marked, RangeSpec};
use rapidbyte_types::SyncMode;

fn error(kind: ConfigErrorKind, mark: Mark, column: &str, message: impl std::fmt::Display) -> ConfigError {
    ConfigError::new(kind, mark, format!("column `{}` of the contract: {message}", crate::suggest::shown(column)))
}

/// `key` are the columns of the stream's key, as far as the document says.
pub(super) fn resolve(spec: &ContractSpec, mode: SyncMode, key: &[String]) -> Result<Contract, ConfigError> {
    if mode == SyncMode::Cdc {
        // A deleted row is told by its key alone, and a value that was not changed not at all: rules would take both for NULL.
        let message = "a `contract` can't be held against changes";
        return Err(ConfigError::new(ConfigErrorKind::NotAvailable, spec.mark, message)
            .with_hint("leave `contract` out, or use `sync_mode: full_refresh` or `sync_mode: incremental`"));
    }
    let default = spec.on_violation.as_ref().map_or(OnViolation::Fail, |policy| policy.value);
    let other_columns = spec.other_columns.as_ref().map_or(OtherColumns::Allow, |policy| policy.value);
    let columns = spec.columns.iter().map(|one| column(one, default, other_columns, key)).collect::<Result<Vec<_>, _>>()?;
    // A word that every column overrides would be read and ignored.
    if let Some(written) = &spec.on_violation
        && spec.columns.iter().all(|column| column.on_violation.is_some())
    {
        let message = "`on_violation` of the contract has no effect: each column has its own";
        return Err(ConfigError::new(ConfigErrorKind::Conflict, written.mark, message).with_hint("leave it out"));
    }
    Ok(Contract { other_columns, columns })
}

fn column(spec: &ColumnSpec, default: OnViolation, others: OtherColumns, key: &[String]) -> Result<ColumnContract, ConfigError> {
    let conflict = |message: String| error(ConfigErrorKind::Conflict, spec.mark, &spec.name, message);
    if spec.name.is_empty() || spec.name.len() > 1024 || spec.name.contains('\0') {
        return Err(error(ConfigErrorKind::InvalidValue, spec.mark, &spec.name, "this is no name"));
    }
    if spec.name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("_rb_")) {
        return Err(error(
            ConfigErrorKind::InvalidValue,
            spec.mark,
            &spec.name,
            "names that begin with `_rb_` are Rapidbyte's own",
        )
        .with_hint("leave the column out"));
    }
    let data_type = match &spec.data_type {
        None => None,
        Some(written) => Some(written.value.parse::<TypeName>().map_err(|unknown: UnknownType| {
            let message = format!("`type` is `{}`, which is none", written.shown());
            error(ConfigErrorKind::InvalidValue, written.mark, &spec.name, message).with_hint(unknown.to_string())
        })?),
    };
    let flag = |written: &Option<Marked<bool>>| written.as_ref().map(|written| written.value);
    let column = ColumnContract {
        name: spec.name.clone(),
        on_violation: spec.on_violation.as_ref().map_or(default, |policy| policy.value),
        required: flag(&spec.required) == Some(true),
        not_nullable: flag(&spec.nullable) == Some(false),
        not_null: flag(&spec.not_null) == Some(true),
        range: spec.range.as_ref().map(|written| range(written, spec, data_type.as_ref())).transpose()?,
        regex: regex(spec, data_type.as_ref())?,
        one_of: spec.one_of.as_ref().map(|list| list.value.iter().map(Literal::new).collect()),
        data_type,
    };
    if let (Some(list), Some(TypeName::List(_))) = (&spec.one_of, &column.data_type) {
        return Err(error(
            ConfigErrorKind::Conflict,
            list.mark,
            &spec.name,
            "`one_of` compares single values, and the type is a list",
        )
        .with_hint("leave `one_of` out"));
    }
    if column.not_null && column.not_nullable {
        return Err(conflict("`not_null` has no effect beside `nullable: false`".into()).with_hint("keep one of the two"));
    }
    let of_values = column.range.is_some() || column.regex.is_some() || column.one_of.is_some();
    let ruled = column.required || column.data_type.is_some() || column.not_nullable || column.not_null || of_values;
    if !ruled && others == OtherColumns::Allow {
        let message = "it has no rule, and other columns are allowed too".to_owned();
        return Err(conflict(message).with_hint("give it a rule, or leave it out"));
    }
    if let (Some(policy), false) =
        (&spec.on_violation, ruled && (column.data_type.is_some() || column.not_nullable || column.not_null || of_values))
    {
        let message = "`on_violation` has no effect: a required column that is missing always ends the load";
        return Err(error(ConfigErrorKind::Conflict, policy.mark, &spec.name, message).with_hint("leave `on_violation` out"));
    }
    acts(&column, of_values, key).map_err(|(message, hint)| conflict(message).with_hint(hint))?;
    Ok(column)
}

/// Whether the policy can act on the rules beside it.
fn acts(column: &ColumnContract, of_values: bool, key: &[String]) -> Result<(), (String, &'static str)> {
    const OWN: &str = "give the column an `on_violation` of its own: `fail` or `discard_row`";
    let policy = column.on_violation;
    match policy {
        OnViolation::Fail | OnViolation::DiscardRow => Ok(()),
        OnViolation::Coerce if (of_values || column.not_null) && column.data_type.is_none() && !column.not_nullable => {
            Err(("`coerce` can mend `type` and `nullable` alone, and it has neither".into(), OWN))
        }
        OnViolation::Coerce => Ok(()),
        OnViolation::DiscardColumn if column.not_null => {
            Err(("`discard_column` makes values NULL, which `not_null` forbids".into(), OWN))
        }
        OnViolation::DiscardColumn if column.not_nullable && of_values => {
            Err(("`discard_column` makes values NULL, which `nullable: false` forbids".into(), OWN))
        }
        OnViolation::DiscardColumn if key.contains(&column.name) => {
            Err(("`discard_column` would take a column of the key away".into(), OWN))
        }
        OnViolation::DiscardColumn => Ok(()),
    }
}

fn range(written: &RangeSpec, spec: &ColumnSpec, data_type: Option<&TypeName>) -> Result<Range, ConfigError> {
    let RangeSpec { mark, min, max } = written;
    if min.is_none() && max.is_none() {
        return Err(error(ConfigErrorKind::MissingKey, *mark, &spec.name, "`range` has neither `min` nor `max`")
            .with_hint("give one of the two, or leave `range` out"));
    }
    let unordered = matches!(
        data_type,
        Some(TypeName::Boolean | TypeName::Binary(_) | TypeName::Uuid | TypeName::Interval | TypeName::List(_))
    );
    if let (true, Some(data_type)) = (unordered, data_type) {
        return Err(error(ConfigErrorKind::Conflict, *mark, &spec.name, format!("values of type `{data_type}` have no range"))
            .with_hint("leave `range` out"));
    }
    let literal = |bound: &Option<Marked<String>>| bound.as_ref().map(|bound| Literal::new(&bound.value));
    Ok(Range { min: literal(min), max: literal(max) })
}

fn regex(spec: &ColumnSpec, data_type: Option<&TypeName>) -> Result<Option<Literal>, ConfigError> {
    let Some(written) = &spec.regex else { return Ok(None) };
    if let Some(data_type) = data_type.filter(|data_type| **data_type != TypeName::Utf8) {
        let message = format!("`regex` reads text, and the type is `{data_type}`");
        return Err(error(ConfigErrorKind::Conflict, written.mark, &spec.name, message).with_hint("leave `regex` out"));
    }
    let expression = Literal::new(&written.value);
    match compile_regex(&expression) {
        Ok(_) => Ok(Some(expression)),
        Err(regex::Error::CompiledTooBig(_)) => {
            Err(error(ConfigErrorKind::TooLarge, written.mark, &spec.name, "`regex` is too large once compiled")
                .with_hint("repeat less: a count such as `{1000}` multiplies what it stands behind"))
        }
        // The crate's own words repeat the expression, which may come from the environment.
        Err(_) => Err(error(ConfigErrorKind::InvalidValue, written.mark, &spec.name, "`regex` is no regular expression")
            .with_hint("the syntax is that of RE2 and Rust's `regex`: no look-around, no back-references")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PipelinePlan;
    use std::path::Path;

    fn load(stream: &str, contract: &str) -> Result<PipelinePlan, ConfigError> {
        let text = format!(
            "version: \"1\"\npipeline: p\nsource:\n  use: source-datagen\n  streams:\n    - {{ name: s{stream}, contract: {contract} }}\ndestination: {{ use: dest-postgres }}\n"
        );
        PipelinePlan::from_str(&text, Path::new("p.yaml"), &|name| (name == "WORD").then(|| "canary-word".to_owned()))
    }

    fn one(stream: &str, columns: &str) -> Result<ColumnContract, ConfigError> {
        let plan = load(stream, &format!("{{ columns: {{ {columns} }} }}"))?;
        let contract = plan.contracts.values().next().expect("a contract");
        Ok(contract.columns[0].clone())
    }

    #[test]
    fn rules_are_read_as_they_stand() {
        let plan = load(
            "",
            "{ on_violation: discard_row, other_columns: fail, columns: { id: { type: int64, required: true, nullable: false }, \
             amount: { type: \"decimal(12,2)\", range: { min: 0, max: \"100000.00\" }, on_violation: coerce }, \
             \"odd, name\": { one_of: [new, 7, true, \"\"] }, note: { not_null: true, regex: \"^x\" }, free: {} } }",
        )
        .expect("valid");
        let contract = &plan.contracts[&plan.streams[0].name];
        assert_eq!(contract.other_columns, OtherColumns::Fail);
        let names: Vec<_> = contract.columns.iter().map(|column| (column.name.as_str(), column.on_violation.as_str())).collect();
        let row = "discard_row";
        assert_eq!(names, [("id", row), ("amount", "coerce"), ("odd, name", row), ("note", row), ("free", row)]);
        let id = &contract.columns[0];
        assert_eq!((id.data_type.clone(), id.required, id.not_nullable, id.not_null), (Some(TypeName::Int(64)), true, true, false));
        let range = contract.columns[1].range.as_ref().expect("a range");
        assert_eq!((range.min.as_ref(), range.max.as_ref()), (Some(&Literal::new("0")), Some(&Literal::new("100000.00"))));
        let words = contract.columns[2].one_of.as_ref().expect("a list");
        assert_eq!(words.iter().map(Literal::as_str).collect::<Vec<_>>(), ["new", "7", "true", ""]);
        assert!(contract.columns[3].not_null && contract.columns[3].regex.is_some());
    }

    #[test]
    fn a_pattern_gives_its_contract_to_each_of_its_streams() {
        let text = "version: \"1\"\npipeline: p\nsource:\n  use: source-postgres\n  streams:\n    - { name: \"public.*\", contract: { columns: { id: { required: true } } } }\n    - { name: public.plain }\ndestination: { use: dest-postgres }\n";
        let plan = PipelinePlan::from_str(text, Path::new("p.yaml"), &|_| None).expect("valid");
        let found = ["a", "b", "plain"].map(|name| rapidbyte_types::StreamName::qualified("public", name));
        let plan = plan.with_found(&found).expect("resolved");
        let held: Vec<bool> = found.iter().map(|name| plan.contracts.contains_key(name)).collect();
        assert_eq!(held, [true, true, false], "a stream that is named keeps its own settings");
    }

    #[test]
    fn policies_that_can_not_act_are_refused() {
        for (columns, words) in [
            ("a: { range: { min: 1 }, on_violation: coerce }", "`coerce` can mend `type` and `nullable` alone"),
            ("a: { not_null: true, on_violation: coerce }", "`coerce` can mend"),
            ("a: { not_null: true, on_violation: discard_column }", "which `not_null` forbids"),
            ("a: { nullable: false, one_of: [1], on_violation: discard_column }", "which `nullable: false` forbids"),
            ("a: { nullable: false, not_null: true }", "`not_null` has no effect"),
            ("a: { required: true, on_violation: discard_row }", "`on_violation` has no effect"),
            ("a: {}", "it has no rule"),
            ("a: { required: false }", "it has no rule"),
            ("a: { range: {} }", "neither `min` nor `max`"),
            ("a: { range: { min: 1.5 } }", "would not be taken exactly"),
            ("a: { type: int }", "`type` is `int`, which is none"),
            ("a: { type: boolean, range: { min: 0 } }", "have no range"),
            ("a: { type: int64, regex: x }", "`regex` reads text"),
            ("a: { regex: \"(\" }", "is no regular expression"),
            ("a: { regex: \"a{1000}{1000}\" }", "too large once compiled"),
            ("a: { type: list(int8), one_of: [1] }", "the type is a list"),
            ("a: { one_of: [1, \"1\"] }", "names `1` twice"),
            ("_rb_lsn: { not_null: true }", "Rapidbyte's own"),
        ] {
            let error = one("", columns).expect_err(columns);
            assert!(
                error.message().contains(words) && error.hint().is_some() | error.message().contains("twice"),
                "{columns}: {error}"
            );
            assert!(error.mark().is_some(), "{columns}");
        }
        let key = ", destination: { write_mode: upsert, primary_key: [a] }";
        let error = one(key, "a: { one_of: [1], on_violation: discard_column }").expect_err("a key");
        assert!(error.message().contains("a column of the key"), "{error}");
        let error = load("", "{ on_violation: coerce, columns: { a: { one_of: [1], on_violation: fail } } }").expect_err("idle");
        assert!(error.message().contains("each column has its own"), "{error}");
        // Each policy acts on something.
        for columns in [
            "a: { type: int64, range: { min: 1 }, on_violation: coerce }",
            "a: { nullable: false, on_violation: coerce }",
            "a: { nullable: false, on_violation: discard_column }",
            "a: { type: int64, on_violation: discard_row }",
            "a: { one_of: [1], on_violation: discard_column }",
        ] {
            one("", columns).expect(columns);
        }
        load("", "{ other_columns: fail, columns: { a: {} } }").expect("a column that may be there");
    }

    #[test]
    fn changes_are_not_held_to_a_contract() {
        let spec = ContractSpec { mark: Mark { line: 1, column: 1 }, on_violation: None, other_columns: None, columns: Vec::new() };
        let error = resolve(&spec, SyncMode::Cdc, &[]).expect_err("not available");
        assert_eq!(error.kind(), ConfigErrorKind::NotAvailable);
    }

    #[test]
    fn no_error_repeats_a_value_of_the_environment() {
        for columns in [
            "a: { type: \"${WORD}\" }",
            "a: { regex: \"(${WORD}\" }",
            "a: { one_of: [\"${WORD}\", \"${WORD}\"] }",
            "a: { on_violation: \"${WORD}\", not_null: true }",
            "a: { required: \"${WORD}\" }",
        ] {
            let error = one("", columns).expect_err(columns);
            assert!(!format!("{error} {:?} {error:?}", error.hint()).contains("canary"), "{columns}: {error}");
        }
    }
}
