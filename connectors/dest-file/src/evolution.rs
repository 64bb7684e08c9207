//! Columns that change between loads, or within one: each change follows its declared policy.

use crate::changes;
use crate::manifest::{Column, Manifest};
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use rapidbyte_sdk::{
    ConnectorError, NewColumnPolicy, NullabilityPolicy, Policies, RemovedColumnPolicy, StreamName, TypeChangePolicy, WriteMode,
};
use std::sync::Arc;

/// A schema as it is written: some of its columns may be left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Evolved {
    pub(crate) schema: SchemaRef,
    /// `None` = all.
    kept: Option<Vec<usize>>,
}

impl Evolved {
    /// Nothing is left out.
    pub(crate) fn whole(schema: SchemaRef) -> Self {
        Self { schema, kept: None }
    }

    pub(crate) fn apply(&self, batch: RecordBatch) -> Result<RecordBatch, ConnectorError> {
        match &self.kept {
            None => Ok(batch),
            Some(kept) => batch.project(kept).map_err(|error| ConnectorError::internal("projection", error.to_string())),
        }
    }
}

/// Files keep the types they were written with, so nothing can be coerced or nulled later.
pub(crate) fn supported_policies(policies: &Policies) -> Result<(), ConnectorError> {
    if policies.type_change == TypeChangePolicy::Fail {
        return Ok(());
    }
    let message = format!("files can't follow `type_change: {}`", policies.type_change);
    Err(ConnectorError::config("type_change_policy", message).with_hint("set `schema_evolution: { type_change: fail }`"))
}

/// The columns that new files must fit: those of the open load, else of the visible files if more are put beside them.
pub(crate) fn known(manifest: &Manifest) -> Option<Vec<Column>> {
    let open = manifest.open.as_ref()?;
    if open.columns.is_some() {
        return open.columns.clone();
    }
    match open.write_mode {
        WriteMode::Append => manifest.published.as_ref()?.columns.clone(),
        WriteMode::Replace | WriteMode::Upsert => None,
    }
}

/// The code of two parts of a load that disagree on a column.
pub(crate) const TYPE_MISMATCH: &str = "type_mismatch";
/// What helps then.
pub(crate) const ONE_TYPE: &str = "give the column one type at the source, or leave it out with `columns`";

/// Adds columns that are new to those known. Writers that began before either had told its columns may differ: the second one
/// to tell is refused.
pub(crate) fn merge(stream: &StreamName, known: &mut Option<Vec<Column>>, columns: &[Column]) -> Result<(), ConnectorError> {
    if columns.is_empty() {
        return Ok(());
    }
    let known = known.get_or_insert_default();
    for column in columns {
        match known.iter().find(|other| other.name == column.name) {
            None => known.push(column.clone()),
            Some(other) if other.data_type != column.data_type => {
                let message = format!(
                    "stream `{stream}`: column `{}` is `{}` in one part of the load and `{}` in another",
                    column.name, other.data_type, column.data_type
                );
                return Err(ConnectorError::schema(TYPE_MISMATCH, message).with_hint(ONE_TYPE));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

pub(crate) fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &Arc<arrow_schema::Field>| Column {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
    };
    schema.fields().iter().map(column).collect()
}

/// The schema as it may be written beside files with the known columns.
pub(crate) fn evolve(
    stream: &str,
    known: Option<&[Column]>,
    schema: &SchemaRef,
    policies: &Policies,
) -> Result<Evolved, ConnectorError> {
    let Some(known) = known else { return Ok(Evolved { schema: schema.clone(), kept: None }) };
    let refuse = |code: &str, what: String, policy: &str| {
        Err(ConnectorError::schema(code, format!("stream `{stream}`: {what}"))
            .with_hint(format!("{policy} `write_mode: replace`, or write to another `path`")))
    };
    let mut kept = Vec::new();
    for (i, column) in columns(schema).into_iter().enumerate() {
        match known.iter().find(|other| other.name == column.name) {
            None if changes::is_own(&column.name) => kept.push(i),
            None => match policies.new_column {
                NewColumnPolicy::Add => kept.push(i),
                NewColumnPolicy::Ignore => {}
                NewColumnPolicy::Fail => {
                    return refuse("new_column", format!("column `{}` is new", column.name), "set `new_column: add`, or");
                }
            },
            Some(other) if other.data_type != column.data_type => {
                let what = format!("column `{}` has changed from `{}` to `{}`", column.name, other.data_type, column.data_type);
                return refuse("type_change", what, "use");
            }
            Some(other) => {
                if column.nullable && !other.nullable && policies.nullability_change == NullabilityPolicy::Fail {
                    let what = format!("column `{}` has become nullable", column.name);
                    return refuse("nullability_change", what, "set `nullability_change: allow`, or");
                }
                kept.push(i);
            }
        }
    }
    if policies.removed_column == RemovedColumnPolicy::Fail
        && let Some(gone) =
            known.iter().find(|column| !changes::is_own(&column.name) && schema.field_with_name(&column.name).is_err())
    {
        return refuse("removed_column", format!("column `{}` is gone", gone.name), "set `removed_column: ignore`, or");
    }
    if kept.len() == schema.fields().len() {
        return Ok(Evolved { schema: schema.clone(), kept: None });
    }
    let projected = schema.project(&kept).map_err(|error| ConnectorError::internal("projection", error.to_string()))?;
    Ok(Evolved { schema: Arc::new(projected), kept: Some(kept) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::{DataType, Field};

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields: Vec<Field> = fields.iter().map(|(name, kind, nullable)| Field::new(*name, kind.clone(), *nullable)).collect();
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn each_change_follows_its_policy() {
        let known = columns(&schema(&[("id", DataType::Int64, false), ("name", DataType::Utf8, true)]));
        let added = schema(&[("id", DataType::Int64, false), ("name", DataType::Utf8, true), ("age", DataType::Int32, true)]);
        let removed = schema(&[("id", DataType::Int64, false)]);
        let retyped = schema(&[("id", DataType::Utf8, false), ("name", DataType::Utf8, true)]);
        let nullable = schema(&[("id", DataType::Int64, true), ("name", DataType::Utf8, true)]);
        let run = |schema: &SchemaRef, policies: &Policies| {
            evolve("s", Some(&known), schema, policies).map(|evolved| evolved.schema.fields().len()).map_err(|error| error.code)
        };
        let default = Policies::default();
        assert_eq!(run(&added, &default), Ok(3));
        assert_eq!(run(&added, &Policies { new_column: NewColumnPolicy::Ignore, ..default.clone() }), Ok(2));
        assert_eq!(run(&added, &Policies { new_column: NewColumnPolicy::Fail, ..default.clone() }), Err("new_column".into()));
        assert_eq!(run(&removed, &default), Ok(1));
        let policies = Policies { removed_column: RemovedColumnPolicy::Fail, ..default.clone() };
        assert_eq!(run(&removed, &policies), Err("removed_column".into()));
        assert_eq!(run(&retyped, &default), Err("type_change".into()));
        assert_eq!(run(&nullable, &default), Ok(2));
        let policies = Policies { nullability_change: NullabilityPolicy::Fail, ..default.clone() };
        assert_eq!(run(&nullable, &policies), Err("nullability_change".into()));
        assert!(supported_policies(&Policies { type_change: TypeChangePolicy::Coerce, ..default.clone() }).is_err());
        assert!(supported_policies(&default).is_ok());
    }
}
