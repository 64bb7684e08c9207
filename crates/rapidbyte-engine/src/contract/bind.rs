//! A contract held against a schema: what is wrong with it before a row is moved, and what is to be done with each batch.

use super::cast::Cast;
use super::kinds::{matches, shown, target};
use super::rule::{Rule, Test};
use arrow_schema::{Field, FieldRef, Schema, SchemaRef};
use rapidbyte_config::contract::{ColumnContract, Contract, OnViolation, OtherColumns, TypeName};
use rapidbyte_types::arrow::split;
use rapidbyte_types::{ConnectorError, ErrorCategory, StreamName};
use std::collections::HashMap;
use std::sync::Arc;

/// The metadata of a field that tells its place in the source's key, from 1.
pub(super) const KEY_ORDINAL: &str = "rapidbyte.pg.pk_ord";
/// And how many columns the key has: those that are there may not be all.
pub(super) const KEY_LENGTH: &str = "rapidbyte.pg.pk_len";
/// The metadata of a field that is NOT NULL at the source.
const NOT_NULL: &str = "rapidbyte.pg.notnull";
/// What the names of Rapidbyte's own columns begin with; no contract holds them to anything.
const RESERVED_PREFIX: &str = "_rb_";

/// How a column breaks `nullable`.
const NOT_DECLARED: &str = "the source does not declare it NOT NULL";

/// A column that passes, and what is asked of it.
pub(super) struct Column {
    /// Its place in the source's schema.
    pub(super) source: usize,
    /// As the source announced it.
    pub(super) from: FieldRef,
    /// As it goes on.
    pub(super) field: FieldRef,
    pub(super) cast: Option<Cast>,
    /// The rule that NULLs break.
    pub(super) no_nulls: Option<Rule>,
    pub(super) tests: Vec<(Rule, Test)>,
    pub(super) policy: OnViolation,
}

/// A contract for the batches of one schema.
pub(crate) struct Bound {
    /// What goes on.
    pub(super) schema: SchemaRef,
    /// In the order of `schema`.
    pub(super) columns: Vec<Column>,
    /// Columns of the key, by name.
    pub(super) key: Vec<String>,
    /// Batches without violations may go on as they came.
    pub(super) unchanged: bool,
    /// Columns that are left out.
    pub(super) left_out: Vec<LeftOut>,
    /// Columns that the contract names and the stream does not have.
    pub(super) absent: Vec<String>,
}

/// A column that does not go on.
pub(super) struct LeftOut {
    pub(super) name: String,
    /// What it does not fulfil, and the policy.
    pub(super) why: String,
}

fn broken(name: &str, rule: &str, message: impl std::fmt::Display) -> ConnectorError {
    let message = format!("column `{name}` breaks `{rule}` of the contract: {message}");
    ConnectorError::new(ErrorCategory::Schema, "contract_violation", message)
}

/// What becomes of a column.
enum Fate {
    Pass(Box<Column>),
    /// With the reason.
    LeftOut(String),
}

impl Bound {
    /// Holds a schema to a contract. `key` are the key's columns as far as the pipeline says; else the source's own.
    ///
    /// # Errors
    /// `contract_violation` for what the contract does not allow, `contract_unusable` for rules that make no sense for the
    /// columns there are.
    pub(crate) fn new(contract: &Contract, stream: &StreamName, key: &[String], schema: &Schema) -> Result<Self, ConnectorError> {
        let rules: HashMap<&str, &ColumnContract> = contract.columns.iter().map(|column| (column.name.as_str(), column)).collect();
        let mut absent = Vec::new();
        for column in contract.columns.iter().filter(|column| schema.field_with_name(&column.name).is_err()) {
            if column.required {
                let error = broken(&column.name, "required", format_args!("`{stream}` has no such column"));
                return Err(error.with_hint("put it back at the source, or take `required` out of the contract"));
            }
            absent.push(column.name.clone());
        }
        let (mut columns, mut left_out) = (Vec::with_capacity(schema.fields().len()), Vec::new());
        for (source, field) in schema.fields().iter().enumerate() {
            let fate = match rules.get(field.name().as_str()) {
                _ if field.name().starts_with(RESERVED_PREFIX) => passing(source, field),
                Some(rules) => held(source, field, rules)?,
                None => other(source, field, contract.other_columns)?,
            };
            match fate {
                Fate::Pass(column) => columns.push(*column),
                Fate::LeftOut(why) => left_out.push(LeftOut { name: field.name().clone(), why }),
            }
        }
        if columns.is_empty() {
            let message = format!("the contract leaves no column of `{stream}`");
            return Err(ConnectorError::config("contract_unusable", message).with_hint("name the columns that are to pass"));
        }
        let fields: Vec<FieldRef> = columns.iter().map(|column| Arc::clone(&column.field)).collect();
        let same = left_out.is_empty() && fields.iter().zip(schema.fields()).all(|(field, from)| field == from);
        Ok(Self {
            schema: Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())),
            key: if key.is_empty() { own_key(schema) } else { key.to_vec() },
            // Dictionaries are told by id and once: batches as they came and batches made anew would not know of each other's.
            unchanged: same && !schema.fields().iter().any(|field| has_dictionary(field)),
            columns,
            left_out,
            absent,
        })
    }
}

fn own_key(schema: &Schema) -> Vec<String> {
    let place = |field: &FieldRef| Some((field.metadata().get(KEY_ORDINAL)?.parse::<u32>().ok()?, field.name().clone()));
    let mut key: Vec<(u32, String)> = schema.fields().iter().filter_map(place).collect();
    key.sort();
    key.into_iter().map(|(_, name)| name).collect()
}

fn has_dictionary(field: &Field) -> bool {
    use arrow_schema::DataType::{Dictionary, FixedSizeList, LargeList, List, Map, Struct};
    match field.data_type() {
        Dictionary(..) => true,
        List(item) | LargeList(item) | FixedSizeList(item, _) | Map(item, _) => has_dictionary(item),
        Struct(members) => members.iter().any(|member| has_dictionary(member)),
        _ => false,
    }
}

fn left_out(why: std::fmt::Arguments<'_>) -> Fate {
    Fate::LeftOut(format!("{why} (`on_violation: {}`)", OnViolation::DiscardColumn.as_str()))
}

fn passing(source: usize, field: &FieldRef) -> Fate {
    Fate::Pass(Box::new(Column {
        source,
        from: Arc::clone(field),
        field: Arc::clone(field),
        cast: None,
        no_nulls: None,
        tests: Vec::new(),
        policy: OnViolation::Fail,
    }))
}

fn other(source: usize, field: &FieldRef, policy: OtherColumns) -> Result<Fate, ConnectorError> {
    match policy {
        OtherColumns::Allow => Ok(passing(source, field)),
        OtherColumns::DiscardColumn => {
            Ok(Fate::LeftOut(format!("the contract does not name it (`other_columns: {}`)", policy.as_str())))
        }
        OtherColumns::Fail => {
            let message = "the contract does not name it, and allows no others";
            Err(broken(field.name(), "other_columns", message)
                .with_hint("add the column to the contract, or set `other_columns: allow` or `other_columns: discard_column`"))
        }
    }
}

/// Holds a column to its rules.
fn held(source: usize, from: &FieldRef, rules: &ColumnContract) -> Result<Fate, ConnectorError> {
    let policy = rules.on_violation;
    let whole = split::whole(from);
    let mut field = Arc::clone(from);
    let mut cast = None;
    if let Some(name) = rules.data_type.as_ref().filter(|name| !matches(name, &whole)) {
        match policy {
            OnViolation::DiscardColumn => {
                return Ok(left_out(format_args!("it is {}, not `{name}`", shown(&whole))));
            }
            OnViolation::Fail => {
                let message = format_args!("it is {}, not `{name}`", shown(&whole)).to_string();
                let hint = "mend the contract or the source; `on_violation: coerce` casts, where that is exact";
                return Err(broken(from.name(), "type", message).with_hint(hint));
            }
            OnViolation::Coerce | OnViolation::DiscardRow => {
                let (made, to) = casting(from.name(), &whole, name)?;
                (cast, field) = (Some(made), Arc::new(to));
            }
        }
    }
    let mut no_nulls = rules.not_null.then_some(Rule::NotNull);
    if rules.not_nullable && from.is_nullable() {
        match policy {
            OnViolation::DiscardColumn => return Ok(left_out(format_args!("{NOT_DECLARED}"))),
            OnViolation::Fail => {
                let hint = "declare it there; or use `not_null: true`, which looks at the values alone";
                return Err(broken(from.name(), "nullable", NOT_DECLARED).with_hint(hint));
            }
            OnViolation::Coerce | OnViolation::DiscardRow => {
                field = Arc::new(field.as_ref().clone().with_nullable(false));
                no_nulls = Some(Rule::Nullable);
            }
        }
    }
    let tested = split::whole(&field);
    let mut tests = Vec::new();
    if let Some(range) = &rules.range {
        tests.push((Rule::Range, Test::range(&tested, range)?));
    }
    if let Some(expression) = &rules.regex {
        tests.push((Rule::Regex, Test::regex(&tested, expression)?));
    }
    if let Some(list) = &rules.one_of {
        tests.push((Rule::OneOf, Test::one_of(&tested, list)?));
    }
    if policy == OnViolation::DiscardColumn && !tests.is_empty() {
        if from.metadata().contains_key(KEY_ORDINAL) {
            let message =
                format!("column `{}` of the contract: it is in the key, where `discard_column` may put no NULL", from.name());
            return Err(
                ConnectorError::config("contract_unusable", message).with_hint("give it `on_violation: fail` or `discard_row`")
            );
        }
        let mut metadata = field.metadata().clone();
        metadata.remove(NOT_NULL);
        field = Arc::new(field.as_ref().clone().with_nullable(true).with_metadata(metadata));
    }
    Ok(Fate::Pass(Box::new(Column { source, from: Arc::clone(from), field, cast, no_nulls, tests, policy })))
}

fn casting(name: &str, whole: &Field, to: &TypeName) -> Result<(Cast, Field), ConnectorError> {
    let made = target(to, whole).and_then(|field| Some((Cast::new(whole, field.clone())?, field)));
    made.ok_or_else(|| {
        let message = format_args!("it is {}, from which there is no exact way to `{to}`", shown(whole)).to_string();
        broken(name, "type", message)
            .with_hint("mend the contract or the source; `on_violation: discard_column` leaves the column out")
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{contract, error, field};
    use super::*;
    use arrow_schema::DataType;

    fn schema() -> Schema {
        let id = field("id", DataType::Int64, false, &[(KEY_ORDINAL, "1"), (NOT_NULL, "true")]);
        let note = field("note", DataType::Utf8, true, &[]);
        Schema::new(vec![id, note, field("_rb_lsn", DataType::UInt64, false, &[])])
    }

    fn bound(yaml: &str) -> Result<Bound, ConnectorError> {
        Bound::new(&contract(yaml), &StreamName::new("s"), &[], &schema())
    }

    #[test]
    fn a_schema_that_fits_goes_on_as_it_came() {
        let bound = bound(
            "{ other_columns: fail, columns: { id: { type: int64, required: true, nullable: false }, note: { not_null: true } } }",
        )
        .unwrap();
        assert!(bound.unchanged && *bound.schema == schema());
        assert_eq!(bound.key, ["id"]);
    }

    #[test]
    fn a_schema_that_does_not_fit_is_told_before_a_row_is_moved() {
        for (yaml, words) in [
            (
                "{ columns: { gone: { required: true } } }",
                "column `gone` breaks `required` of the contract: `s` has no such column",
            ),
            ("{ columns: { id: { type: int32 } } }", "column `id` breaks `type` of the contract: it is `int64`, not `int32`"),
            ("{ columns: { note: { nullable: false } } }", "column `note` breaks `nullable`"),
            ("{ other_columns: fail, columns: { id: {} } }", "column `note` breaks `other_columns`"),
            ("{ columns: { note: { type: binary, on_violation: coerce } } }", "no exact way to `binary`"),
            ("{ columns: { note: { type: interval, on_violation: discard_row } } }", "no exact way"),
            // Whatever the policy, nothing can take the place of a column that is not there.
            ("{ on_violation: discard_row, columns: { gone: { required: true, not_null: true } } }", "breaks `required`"),
        ] {
            let error = bound(yaml).err().expect(yaml);
            assert!(error.message.contains(words), "{yaml}: {}", error.message);
            assert_eq!((error.category, error.code.as_str()), (ErrorCategory::Schema, "contract_violation"), "{yaml}");
            assert!(error.hint.is_some());
        }
        let unusable = error(bound("{ columns: { id: { one_of: [1], on_violation: discard_column } } }"));
        assert!(unusable.code == "contract_unusable" && unusable.message.contains("in the key"), "{unusable:?}");
        let nothing = Bound::new(
            &contract("{ other_columns: discard_column, columns: { x: {} } }"),
            &StreamName::new("s"),
            &[],
            &Schema::new(vec![field("a", DataType::Int8, true, &[])]),
        );
        assert_eq!(error(nothing).code, "contract_unusable");
    }

    #[test]
    fn columns_are_left_out_cast_or_declared_by_policy() {
        let names = |bound: &Bound| bound.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let others = bound("{ other_columns: discard_column, columns: { note: {} } }").unwrap();
        assert_eq!(names(&others), ["note", "_rb_lsn"]);
        for rule in ["type: int64", "nullable: false"] {
            let yaml = format!("{{ columns: {{ note: {{ {rule}, on_violation: discard_column }} }} }}");
            assert_eq!(names(&bound(&yaml).unwrap()), ["id", "_rb_lsn"], "{rule}");
        }
        for policy in ["coerce", "discard_row"] {
            let yaml = format!("{{ columns: {{ note: {{ type: int32, nullable: false, on_violation: {policy} }} }} }}");
            let cast = bound(&yaml).unwrap();
            assert_eq!(*cast.schema.field(1), field("note", DataType::Int32, false, &[]));
            assert!(!cast.unchanged);
        }
        let nulled = Schema::new(vec![field("a", DataType::Int8, false, &[(NOT_NULL, "true")])]);
        let contract = contract("{ columns: { a: { one_of: [1], on_violation: discard_column } } }");
        let nulled = Bound::new(&contract, &StreamName::new("s"), &[], &nulled).unwrap();
        assert_eq!(*nulled.schema.field(0), field("a", DataType::Int8, true, &[]), "it may be NULL from now on");
    }
}
