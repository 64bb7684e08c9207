//! The column that orders a read, what else it is ordered by, and how safe its bound is.

use super::source_changed;
use crate::catalog::{Relation, TableColumn, missing_column};
use crate::read::from_clause;
use crate::types::Kind;
use postgres_wire::{Connection, quote_ident, quote_literal};
use rapidbyte_sdk::{CheckItem, CheckStatus, ConnectorError, Lookback, NullCursorPolicy, SafeBoundary, StreamContext, WriteMode};

/// The table in queries. A bare name in `ORDER BY` means a field of the result, which may be the column's text.
const ALIAS: &str = "_rb";

/// The first version whose `numeric` knows infinity.
const INFINITE_NUMERICS_SINCE: u32 = 140_000;

/// A column by which rows are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderColumn {
    pub(crate) name: String,
    /// The name as SQL, with the table's alias.
    pub(crate) quoted: String,
    /// What literals of it are cast to.
    pub(crate) sql_type: String,
    /// Its text is what the type's output function gives.
    as_output: bool,
}

impl OrderColumn {
    /// The exact text of a value that is not NULL, as SQL.
    pub(crate) fn text(&self) -> String {
        match self.as_output {
            true => format!("pg_catalog.format('%s', {})", self.quoted),
            false => format!("{}::pg_catalog.text", self.quoted),
        }
    }
}

/// How a stream is read incrementally.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    pub(crate) column: OrderColumn,
    pub(crate) nullable: bool,
    /// The table's own primary key, in order, without the cursor column.
    pub(crate) key: Vec<OrderColumn>,
    /// Each row has a place of its own. Otherwise rows of equal cursor can't be told apart.
    pub(crate) keyed: bool,
    pub(crate) boundary: SafeBoundary,
    /// Why rows don't show which transaction wrote them, if they don't.
    hidden: Option<&'static str>,
    /// `FROM` this.
    pub(crate) relation: String,
    kind: Kind,
}

fn order_column(column: &TableColumn) -> Result<OrderColumn, ConnectorError> {
    Ok(OrderColumn {
        name: column.name.clone(),
        quoted: format!("{ALIAS}.{}", quote_ident(&column.name)?),
        sql_type: column.literal_type().to_owned(),
        as_output: column.as_output,
    })
}

fn refused(stream: &StreamContext, code: &str, what: impl std::fmt::Display, hint: impl Into<String>) -> ConnectorError {
    ConnectorError::config(code, format!("stream `{}`: {what}", stream.name)).with_hint(hint)
}

impl Cursor {
    /// Looks the stream's cursor up and refuses what can't be read in order.
    pub(crate) fn of(
        connection: &mut Connection,
        stream: &StreamContext,
        relation: &Relation,
        columns: &[TableColumn],
    ) -> Result<Self, ConnectorError> {
        let Some(wanted) = &stream.cursor_field else {
            return Err(refused(stream, "cursor_field", "an incremental read needs a `cursor_field`", "name the column"));
        };
        let Some(found) = columns.iter().find(|column| column.name == *wanted) else {
            return Err(missing_column(relation, columns, wanted));
        };
        let mut key: Vec<_> = columns.iter().filter_map(|column| Some((column.key_position?, column))).collect();
        key.sort_by_key(|(position, _)| *position);
        let keyed = !key.is_empty() && key.iter().all(|(_, column)| compares(column));
        if !keyed {
            key.clear();
        }
        if !compares(found) {
            return Err(unordered(stream, found));
        }
        let rest = key.into_iter().map(|(_, column)| column).filter(|column| column.name != *wanted);
        let key = rest.map(order_column).collect::<Result<Vec<_>, _>>()?;
        let hidden = horizon_hidden(connection, relation)?;
        let boundary = boundary(hidden, stream, found)?;
        let made = Self {
            column: order_column(found)?,
            nullable: !found.not_null,
            key,
            keyed,
            boundary,
            hidden,
            relation: format!("{} AS {ALIAS}", from_clause(relation)?),
            kind: found.kind.clone(),
        };
        // The server knows which types have an order.
        let sql = format!("SELECT FROM {} ORDER BY {}", made.relation, made.order());
        match connection.describe(&sql) {
            Ok(_) => Ok(made),
            Err(error) if error.sqlstate() == Some("42883") => Err(unordered(stream, found)),
            Err(error) => Err(error.into()),
        }
    }

    /// What rows are ordered by.
    pub(crate) fn order(&self) -> String {
        let columns: Vec<&str> = self.columns().map(|column| column.quoted.as_str()).collect();
        columns.join(", ")
    }

    /// Cursor and key.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &OrderColumn> {
        std::iter::once(&self.column).chain(&self.key)
    }

    /// The rows after those at `at`: cursor and key.
    pub(crate) fn after(&self, stream: &StreamContext, at: &[String]) -> Result<String, ConnectorError> {
        if at.len() != 1 + self.key.len() && at.len() != 1 {
            return Err(source_changed(stream, "its position has another key than the table"));
        }
        let columns: Vec<&OrderColumn> = self.columns().take(at.len()).collect();
        let names: Vec<&str> = columns.iter().map(|column| column.quoted.as_str()).collect();
        let values =
            columns.iter().zip(at).map(|(column, text)| literal(column, text)).collect::<Result<Vec<_>, ConnectorError>>()?;
        Ok(format!("({}) > ({})", names.join(", "), values.join(", ")))
    }

    /// Those values of the cursor's type behind which no other one comes, as texts.
    pub(crate) fn endless(&self, server_version: u32) -> &'static [&'static str] {
        match self.kind {
            Kind::Date | Kind::Timestamp | Kind::TimestampTz => &["infinity"],
            Kind::Float4 | Kind::Float8 => &["Infinity", "NaN"],
            Kind::NumericText if server_version >= INFINITE_NUMERICS_SINCE => &["Infinity", "NaN"],
            Kind::Decimal128 { .. } | Kind::Decimal256 { .. } | Kind::NumericText => &["NaN"],
            _ => &[],
        }
    }

    /// The rows no further behind a bound than the lookback.
    pub(crate) fn looking_back(&self, bound: &str, lookback: Lookback) -> Result<String, ConnectorError> {
        let (name, value) = (&self.column.quoted, literal(&self.column, bound)?);
        let whole = matches!(self.kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
        Ok(match lookback {
            Lookback::Seconds(seconds) => format!("{name} >= {value} - interval '{seconds} seconds'"),
            // In the column's own type, so that an index on it can be used.
            Lookback::Values(values) if whole => {
                let edge = bound.parse::<i64>().unwrap_or(i64::MIN).saturating_sub_unsigned(values);
                let least = match self.kind {
                    Kind::Int2 => i16::MIN.into(),
                    Kind::Int4 => i32::MIN.into(),
                    _ => i64::MIN,
                };
                format!("{name} >= '{}'::{}", edge.max(least), self.column.sql_type)
            }
            Lookback::Values(values) => format!("{name} >= {value} - {values}"),
        })
    }
}

/// Whether `>` means for its type what `ORDER BY` does, whatever the search path: operators of types that were added to the
/// server are found by their schema only, and their values would be compared as another type's.
fn compares(column: &TableColumn) -> bool {
    const FIRST_ADDED_OID: u32 = 16_384;
    column.base.class == "e" || column.base.oid < FIRST_ADDED_OID
}

fn unordered(stream: &StreamContext, column: &TableColumn) -> ConnectorError {
    let what = format!("rows can't be read in the order of column `{}` of type `{}`", column.name, column.literal_type());
    refused(stream, "cursor_type", what, "name another `cursor_field`; `rapidbyte discover` lists columns that are fit")
}

/// A value's exact text as SQL.
pub(crate) fn literal(column: &OrderColumn, text: &str) -> Result<String, ConnectorError> {
    Ok(format!("{}::{}", quote_literal(text)?, column.sql_type))
}

/// What the stream asks for, or what the server allows; refuses what would repeat or lose rows without having been asked for.
fn boundary(hidden: Option<&'static str>, stream: &StreamContext, column: &TableColumn) -> Result<SafeBoundary, ConnectorError> {
    let chosen = stream.safe_boundary.unwrap_or(SafeBoundary::XactHorizon);
    let unsure = match stream.write_mode {
        WriteMode::Append => "set `safe_boundary: none`, which misses rows that commit behind the bound",
        WriteMode::Replace | WriteMode::Upsert => "set `safe_boundary: lookback(5m)`, longer than your longest transaction",
    };
    match chosen {
        SafeBoundary::XactHorizon => {
            if let Some(why) = hidden {
                let what = format!("late commits can't be seen here: {why}");
                return Err(refused(stream, "no_xact_horizon", what, unsure));
            }
        }
        SafeBoundary::Lookback(_) if stream.write_mode == WriteMode::Append => {
            let what = "a `lookback` reads rows again, which `write_mode: append` would add again";
            return Err(refused(stream, "lookback_append", what, "use `write_mode: upsert`, or another `safe_boundary`"));
        }
        SafeBoundary::Lookback(lookback) => {
            let of_time = matches!(column.kind, Kind::Date | Kind::Timestamp | Kind::TimestampTz);
            let number = matches!(
                column.kind,
                Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Decimal128 { .. } | Kind::Decimal256 { .. } | Kind::NumericText
            );
            let hint = match (lookback, of_time, number) {
                (Lookback::Seconds(_), true, _) | (Lookback::Values(_), _, true) => None,
                (_, true, _) => Some("say how long, as in `lookback(5m)`"),
                (_, _, true) => Some("say how much less than the bound, as in `lookback(1000)`"),
                _ => Some("use `safe_boundary: xact_horizon` or `none`, or a cursor that is a time or a number"),
            };
            if let Some(hint) = hint {
                let what =
                    format!("`safe_boundary: {chosen}` does not fit column `{}` of type `{}`", column.name, column.literal_type());
                return Err(refused(stream, "lookback_type", what, hint));
            }
        }
        SafeBoundary::None => {
            if stream.null_cursor == NullCursorPolicy::Include && !column.not_null {
                let what = "with `safe_boundary: none` rows without a cursor can't be told from those read before";
                let hint = "set `null_cursor` to `fail` or `skip`, or use `safe_boundary: xact_horizon`";
                return Err(refused(stream, "null_cursor", what, hint));
            }
        }
    }
    Ok(chosen)
}

/// Why rows don't show which transaction wrote them, if they don't.
fn horizon_hidden(connection: &mut Connection, relation: &Relation) -> Result<Option<&'static str>, ConnectorError> {
    if !matches!(relation.kind, 'r' | 'p') {
        return Ok(Some("only tables show the transactions that wrote their rows"));
    }
    if !relation.readable {
        return Ok(Some("rights on single columns don't show the transactions that wrote the rows"));
    }
    let rows = connection.query_params(
        "SELECT pg_catalog.pg_is_in_recovery(), EXISTS (SELECT FROM pg_catalog.pg_partition_tree($1::oid) AS p
             JOIN pg_catalog.pg_class AS c ON c.oid = p.relid WHERE c.relkind = 'f')",
        &[relation.oid.to_string().into()],
    )?;
    let said = |index: usize| rows.first().and_then(|row| row.get(index)) == Some("t");
    Ok(match (said(0), said(1)) {
        (true, _) => Some("the server is a standby"),
        (_, true) => Some("one of its partitions is a foreign table"),
        _ => None,
    })
}

/// Names what must stay as it is for an incremental load to go on: table, cursor, key and their types, and the filter.
pub(crate) fn snapshot(stream: &StreamContext, relation: &Relation, cursor: &Cursor) -> String {
    let columns: Vec<(&str, &str)> = cursor.columns().map(|column| (column.name.as_str(), column.sql_type.as_str())).collect();
    match &stream.filter {
        // Rows that another filter left out were passed by, and nothing would bring them back.
        Some(filter) => serde_json::json!({ "table": relation.oid, "order": columns, "filter": filter }).to_string(),
        None => serde_json::json!({ "table": relation.oid, "order": columns }).to_string(),
    }
}

/// Whether the cursor's values are numbers of a sequence.
fn of_a_sequence(connection: &mut Connection, relation: &Relation, cursor: &Cursor) -> Result<bool, ConnectorError> {
    let sql = "SELECT a.attidentity <> '' OR coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false)
         FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = $1::oid AND a.attname = $2";
    let rows = connection.query_params(sql, &[relation.oid.to_string().into(), cursor.column.name.as_str().into()])?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

/// What `check` says of an incremental stream.
pub(crate) fn check(
    connection: &mut Connection,
    stream: &StreamContext,
    relation: &Relation,
    cursor: &Cursor,
) -> Result<CheckItem, ConnectorError> {
    let by = format!("incremental by `{}`, `safe_boundary: {}`", cursor.column.name, cursor.boundary);
    let taken = "a sequence gives its numbers before their rows commit";
    let why = match cursor.hidden {
        Some(why) => format!("; late commits can't be seen here: {why}"),
        None => String::new(),
    };
    let (status, message, hint) = match cursor.boundary {
        SafeBoundary::XactHorizon => (
            CheckStatus::Ok,
            format!("{by}: rows that commit late are found by their transactions; each run scans `{}`", relation.label()),
            None,
        ),
        SafeBoundary::Lookback(lookback) => {
            let hint = match (of_a_sequence(connection, relation, cursor)?, lookback) {
                (true, Lookback::Values(_)) => {
                    Some(format!("{taken}: look back further than your longest transaction lets others get ahead"))
                }
                _ => None,
            };
            (CheckStatus::Ok, format!("{by}: a row that commits later than that allows is missed{why}"), hint)
        }
        SafeBoundary::None => {
            let late = if of_a_sequence(connection, relation, cursor)? { format!(", and {taken}") } else { String::new() };
            let hint = match cursor.hidden {
                Some(_) => "use `safe_boundary: lookback(…)` with `write_mode: upsert`",
                None => "use `safe_boundary: xact_horizon`, or `lookback(…)` with `write_mode: upsert`",
            };
            let message = format!("{by}: a row that commits behind a larger cursor is missed{late}{why}");
            (CheckStatus::Warning, message, Some(hint.to_owned()))
        }
    };
    Ok(CheckItem { name: format!("stream `{}`", stream.name), status, message, hint })
}
