//! From an announced schema to the columns of a table, and the codecs that fill them.

use crate::catalog;
use crate::encode::Codec;
use crate::ledger::{Columns, LoadColumn};
use crate::names::check_column;
use crate::session::Session;
use crate::types::{ColumnType, Encoding, Marks, Wire, looks_like_type, neutral};
use arrow_schema::{Field, Schema};
use postgres_wire::quote_ident;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use std::collections::{HashMap, HashSet};

/// PostgreSQL's bound on columns.
const MAX_COLUMNS: usize = 1600;

/// How the batches of one schema are written.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) columns: Columns,
    pub(crate) codecs: Vec<Codec>,
}

impl Layout {
    /// The quoted names, with commas.
    pub(crate) fn column_list(&self) -> Result<String, ConnectorError> {
        let quoted: Vec<String> = self.columns.iter().map(|column| quote_ident(&column.name)).collect::<Result<_, _>>()?;
        Ok(quoted.join(", "))
    }

    /// The names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }
}

/// Plans every column of a schema. Types the source names are used where this server has them; else the Arrow type decides.
pub(crate) fn plan(session: &mut Session, schema: &Schema, stream: &str) -> Result<Layout, ConnectorError> {
    if schema.fields().len() > MAX_COLUMNS {
        return Err(ConnectorError::schema(
            "too_many_columns",
            format!("stream `{stream}` has {} columns, PostgreSQL allows {MAX_COLUMNS}", schema.fields().len()),
        )
        .with_hint("leave columns out with `columns:`"));
    }
    let mut seen = HashSet::new();
    let mut marks = Vec::with_capacity(schema.fields().len());
    let mut names = Vec::new();
    for field in schema.fields() {
        check_column(field.name())?;
        quote_ident(field.name())?;
        if !seen.insert(field.name()) {
            return Err(ConnectorError::schema(
                "duplicate_column",
                format!("stream `{stream}` has two columns `{}`", field.name()),
            ));
        }
        let of_field = Marks::of(field).map_err(|encoding| {
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
        names.extend([of_field.pg_type, of_field.base_type].into_iter().flatten().filter(|name| looks_like_type(name)));
        marks.push(of_field);
    }
    names.sort_unstable();
    names.dedup();
    let types = catalog::resolve(session, &names)?;
    let mut layout = Layout { columns: Vec::with_capacity(marks.len()), codecs: Vec::with_capacity(marks.len()) };
    for (field, marks) in schema.fields().iter().zip(&marks) {
        let (staged, published, postgres) = choose(field, marks, &types, stream)?;
        layout.columns.push(LoadColumn {
            name: field.name().clone(),
            staged: staged.sql,
            published,
            not_null: !field.is_nullable(),
            key: marks.pk_ord,
            generated: marks.generated,
        });
        layout.codecs.push(Codec { wire: staged.wire, postgres });
    }
    Ok(layout)
}

/// The column's type in staging, in the target, and whether its values are in PostgreSQL's own form.
fn choose(
    field: &Field,
    marks: &Marks<'_>,
    types: &HashMap<String, Option<ColumnType>>,
    stream: &str,
) -> Result<(ColumnType, String, bool), ConnectorError> {
    for name in [marks.pg_type, marks.base_type].into_iter().flatten() {
        let Some(found) = types.get(name) else { continue };
        let candidate = match (marks.encoding, found) {
            (Encoding::Natural, Some(natural)) => Some((natural.clone(), natural.sql.clone())),
            (Encoding::Natural, None) => None,
            (Encoding::Text, _) => Some((ColumnType::text(), name.to_owned())),
            (Encoding::Send, _) => Some((ColumnType::new(name, Wire::Raw), name.to_owned())),
        };
        if let Some((staged, published)) = candidate
            && (Codec { wire: staged.wire.clone(), postgres: true }).takes(field.data_type())
        {
            return Ok((staged, published, true));
        }
    }
    if marks.encoding == Encoding::Send {
        return Err(unsupported(field, stream));
    }
    let general = match marks.encoding {
        Encoding::Text => Some(ColumnType::text()),
        _ => neutral(field.data_type(), marks.extension),
    };
    let postgres = marks.pg_type.is_some();
    let general = general
        .filter(|general| Codec { wire: general.wire.clone(), postgres }.takes(field.data_type()))
        .ok_or_else(|| unsupported(field, stream))?;
    if let Some(wanted) = marks.pg_type {
        host_ffi::log(
            LogLevel::Warn,
            "the source's type is not known at the destination, another one takes its place",
            &[("stream", stream), ("column", field.name()), ("source_type", wanted), ("type", &general.sql)],
        );
    }
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
