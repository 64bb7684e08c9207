//! From an announced schema to the columns of a table, and the codecs that fill them.

use crate::catalog::{self, Known};
use crate::changes;
use crate::config::MissingTypes;
use crate::encode::Codec;
use crate::evolution::{Conversion, Earlier};
use crate::ledger::{Columns, LoadColumn};
use crate::names::{Table, check_column};
use crate::session::Session;
use crate::types::{ColumnType, Encoding, Marks, Wire, looks_like_type, neutral};
use crate::user_types;
use arrow_schema::{DataType, Field, Schema};
use postgres_wire::quote_ident;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, split};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// PostgreSQL's bound on columns.
const MAX_COLUMNS: usize = 1600;

/// How the batches of one schema are written.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    pub(crate) columns: Columns,
    pub(crate) codecs: Vec<Codec>,
    /// Columns whose type is not known here, with that type and the one in its place.
    pub(crate) replaced: Vec<Replaced>,
    /// What is done to batches first.
    pub(crate) conversion: Conversion,
}

/// A column that could not have its type.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    column: String,
    wanted: String,
    sql: String,
}

impl Layout {
    /// The quoted names, with commas.
    pub(crate) fn column_list(&self) -> Result<String, ConnectorError> {
        let quoted: Vec<String> = self.columns.iter().map(|column| quote_ident(&column.name)).collect::<Result<_, _>>()?;
        Ok(quoted.join(", "))
    }

    /// Tells of the columns that could not have their types.
    pub(crate) fn warn(&self, stream: &str) {
        for Replaced { column, wanted, sql } in &self.replaced {
            host_ffi::log(
                LogLevel::Warn,
                "the source's type is not known at the destination, another one takes its place",
                &[("stream", stream), ("column", column), ("source_type", wanted), ("type", sql)],
            );
        }
    }

    /// Columns that could not have their types: each with the type wanted and the one in its place.
    pub(crate) fn replacements(&self) -> Vec<(String, String, String)> {
        self.replaced.iter().map(|one| (one.column.clone(), one.wanted.clone(), one.sql.clone())).collect()
    }

    /// The names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }
}

/// Plans every column of a schema that goes into `target`. Types the source names are used where this server has them or can be
/// given them; else the Arrow type decides. Only batches of changes have columns of ours.
pub(crate) fn plan(
    session: &mut Session,
    schema: &Schema,
    stream: &str,
    target: &Table,
    missing_types: MissingTypes,
    of_changes: bool,
) -> Result<Layout, ConnectorError> {
    if schema.fields().len() > MAX_COLUMNS {
        return Err(ConnectorError::schema(
            "too_many_columns",
            format!("stream `{stream}` has {} columns, PostgreSQL allows {MAX_COLUMNS}", schema.fields().len()),
        )
        .with_hint("leave columns out with `columns:`"));
    }
    let mut seen = HashSet::new();
    let mut marks = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        if !(of_changes && changes::is_own(field.name())) {
            check_column(field.name())?;
        }
        quote_ident(field.name())?;
        if !seen.insert(field.name()) {
            return Err(ConnectorError::schema(
                "duplicate_column",
                format!("stream `{stream}` has two columns `{}`", field.name()),
            ));
        }
        let mut of_field = Marks::of(field).map_err(|encoding| {
            ConnectorError::schema(
                "unknown_encoding",
                format!(
                    "column `{}` of `{stream}` is in an encoding this connector does not know: `{}`",
                    field.name(),
                    encoding.escape_default()
                ),
            )
            .with_hint("update this connector")
        })?;
        if of_changes && field.name() == changes::LSN {
            of_field.pg_type = Some("pg_lsn");
        }
        marks.push(of_field);
    }
    let local = user_types::settle(session, &marks, &target.schema, missing_types, stream)?;
    let wanted: Vec<Vec<String>> = marks
        .iter()
        .map(|marks| {
            let names = [marks.pg_type, marks.base_type].into_iter().flatten();
            names.filter_map(|name| local.of(name)).filter(|name| looks_like_type(name)).collect()
        })
        .collect();
    let mut names: Vec<&str> = wanted.iter().flatten().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let types = catalog::resolve(session, &names)?;
    let mut layout = Layout::default();
    for ((field, marks), names) in schema.fields().iter().zip(&marks).zip(&wanted) {
        let (staged, published, postgres) = choose(field, marks, names, &types, stream)?;
        if let (Some(wanted), true) = (marks.pg_type, !names.contains(&published)) {
            let sql = published.clone();
            layout.replaced.push(Replaced { column: field.name().clone(), wanted: wanted.to_owned(), sql });
        }
        layout.columns.push(LoadColumn {
            name: field.name().clone(),
            staged: staged.sql,
            published,
            // A change tells less than a row, whatever its table says.
            not_null: if of_changes { marks.not_null } else { !field.is_nullable() },
            key: marks.pk_ord,
            key_len: marks.pk_len,
            generated: marks.generated,
            identity: marks.identity,
            partial: false,
            earlier: if of_changes { marks.earlier() } else { Earlier::Null },
        });
        layout.codecs.push(Codec { wire: staged.wire, postgres });
    }
    Ok(layout)
}

/// The column's type in staging, in the target, and whether its values are in PostgreSQL's own form. `names` are those of the
/// source's type here, the best first.
fn choose(
    field: &Field,
    marks: &Marks<'_>,
    names: &[String],
    types: &HashMap<String, Known>,
    stream: &str,
) -> Result<(ColumnType, String, bool), ConnectorError> {
    let is_split = split::is_split(field);
    let takes = |wire: &Wire, postgres| {
        // A struct is written only as what a split column is.
        (is_split || !matches!(field.data_type(), DataType::Struct(_)))
            && Codec { wire: wire.clone(), postgres }.takes(field.data_type())
    };
    for name in names {
        let Some(known) = types.get(name) else { continue };
        let staged = match (marks.encoding, known) {
            (Encoding::Natural, Known { natural: Some(wire), .. }) | (Encoding::Text, Known { text: Some(wire), .. }) => {
                ColumnType::new(name, wire.clone())
            }
            (Encoding::Natural, _) => continue,
            (Encoding::Text, _) => ColumnType::text(),
        };
        if takes(&staged.wire, true) {
            return Ok((staged, name.clone(), true));
        }
    }
    let postgres = marks.pg_type.is_some();
    let whole = split::whole(&Arc::new(field.clone()));
    let general = match marks.encoding {
        Encoding::Text => Some(ColumnType::text()),
        Encoding::Natural => neutral(whole.data_type(), marks.extension),
    };
    let general = general.filter(|general| takes(&general.wire, postgres)).ok_or_else(|| unsupported(field, stream))?;
    let sql = general.sql.clone();
    Ok((general, sql, postgres))
}

fn unsupported(field: &Field, stream: &str) -> ConnectorError {
    ConnectorError::schema(
        "unsupported_type",
        format!(
            "column `{}` of `{stream}` has the Arrow type {}, which no PostgreSQL type here holds exactly",
            field.name(),
            field.data_type()
        ),
    )
    .with_hint("leave the column out with `columns:`, or make it text at the source")
}
