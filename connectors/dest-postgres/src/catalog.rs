//! What the server's catalogs say of types and tables.

use crate::identity::Identity;
use crate::names::Table;
use crate::session::Session;
use crate::types::Wire;
use postgres_wire::{Row, quote_literal};
use rapidbyte_sdk::ConnectorError;
use std::collections::HashMap;

fn field(row: &Row, index: usize) -> Result<&str, ConnectorError> {
    Ok(row.text(index)?)
}

/// How values of a type of this server can be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// From Arrow values.
    pub(crate) natural: Option<Wire>,
    /// From texts; otherwise the server has to cast them.
    pub(crate) text: Option<Wire>,
}

/// The types of this server with the given names; names that mean nothing here are absent. Names must have passed
/// [`crate::types::looks_like_type`].
///
/// A domain's values travel like those of the type it is made of.
pub(crate) fn resolve(session: &mut Session, names: &[&str]) -> Result<HashMap<String, Known>, ConnectorError> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let mut values = String::new();
    for name in names {
        if !values.is_empty() {
            values.push_str(", ");
        }
        values.push('(');
        values.push_str(&quote_literal(name)?);
        values.push(')');
    }
    let sql = format!(
        "WITH RECURSIVE asked(name) AS (VALUES {values}),
         base(name, oid) AS (
             SELECT name, pg_catalog.to_regtype(name)::oid FROM asked
             UNION
             SELECT b.name, t.typbasetype FROM base AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.oid WHERE t.typtype = 'd'
         )
         SELECT b.name, n.nspname, t.typname, t.typtype, t.typreceive <> 0, e.oid, en.nspname, e.typname, e.typtype
         FROM base AS b
         JOIN pg_catalog.pg_type AS t ON t.oid = b.oid AND t.typtype <> 'd'
         JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
         LEFT JOIN (pg_catalog.pg_type AS e JOIN pg_catalog.pg_namespace AS en ON en.oid = e.typnamespace)
             ON e.oid = t.typelem AND t.typcategory = 'A' AND t.typlen = -1"
    );
    let mut found = HashMap::new();
    for row in session.query(&sql)? {
        let name = field(&row, 0)?;
        let (namespace, typname, class) = (field(&row, 1)?, field(&row, 2)?, field(&row, 3)?);
        let mut known = Known::default();
        match row.parse::<u32>(5)? {
            Some(oid) => {
                let element = natural(field(&row, 6)?, field(&row, 7)?, field(&row, 8)?);
                known.natural = element.map(|element| Wire::Array { element: Box::new(element), oid });
            }
            None => {
                known.natural = natural(namespace, typname, class);
                if row.flag(4)? {
                    known.text = of_text(namespace, typname, class);
                }
            }
        }
        found.insert(name.to_owned(), known);
    }
    Ok(found)
}

fn natural(namespace: &str, typname: &str, class: &str) -> Option<Wire> {
    match (class, namespace, typname) {
        ("e", ..) | ("b", _, "citext") => Some(Wire::Text),
        ("b", "pg_catalog", _) => Wire::of_builtin(typname),
        _ => None,
    }
}

fn of_text(namespace: &str, typname: &str, class: &str) -> Option<Wire> {
    match (class, namespace, typname) {
        // Of the extension `ltree`.
        ("b", _, "ltree" | "lquery" | "ltxtquery") => Some(Wire::VersionedText(1)),
        ("b", "pg_catalog", _) => Wire::of_text(typname),
        _ => None,
    }
}

/// Runs queries while `format_type` writes the schema of every type outside of `pg_catalog`: it leaves it out for all types on
/// the search path, so that a name would mean different things.
pub(crate) fn with_full_names<T>(
    session: &mut Session,
    act: impl FnOnce(&mut Session) -> Result<T, ConnectorError>,
) -> Result<T, ConnectorError> {
    let path = session
        .query("SELECT pg_catalog.current_setting('search_path'), pg_catalog.set_config('search_path', 'pg_catalog', false)")?;
    let path = path.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned();
    // A failed statement has ended the transaction, and the setting with it.
    let done = act(session)?;
    session.query_params("SELECT pg_catalog.set_config('search_path', $1, false)", &[(&path).into()])?;
    Ok(done)
}

/// `relkind` of the `pg_class` row `c`, and `h` for a table whose rows are in tables that inherit from it and are nobody else's: a hypertable
/// of TimescaleDB.
pub(crate) const KIND: &str = "\
CASE WHEN c.relkind = 'r' AND (
    EXISTS (SELECT FROM pg_catalog.pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgname = 'ts_insert_blocker')
    OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS k ON k.oid = i.inhrelid
        JOIN pg_catalog.pg_namespace AS s ON s.oid = k.relnamespace WHERE i.inhparent = c.oid AND s.nspname = '_timescaledb_internal')
) THEN 'h' ELSE c.relkind::pg_catalog.text END";

/// A relation at the destination.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// [`KIND`].
    pub(crate) kind: char,
    /// A crash of the server empties it.
    pub(crate) unlogged: bool,
    pub(crate) columns: Vec<RelationColumn>,
}

/// One of its columns.
#[derive(Debug, Clone)]
pub(crate) struct RelationColumn {
    pub(crate) name: String,
    /// `format_type()` with every type outside of `pg_catalog` qualified.
    pub(crate) sql_type: String,
    pub(crate) not_null: bool,
    /// It is filled when an INSERT leaves it out.
    pub(crate) has_default: bool,
    /// Computed by the server; an INSERT may not name it.
    pub(crate) generated: bool,
    pub(crate) in_primary_key: bool,
    /// Values of its type may be equal and yet not the same, as 1.0 and 1.00.
    pub(crate) has_spellings: bool,
    /// Numbered by the server.
    pub(crate) identity: Option<Identity>,
}

/// Whether a trigger or rule may keep rows that are deleted: of the table, or of one of its partitions.
pub(crate) fn may_keep_rows(session: &mut Session, table: &Table) -> Result<bool, ConnectorError> {
    // 11 is FOR EACH ROW BEFORE DELETE in `pg_trigger.tgtype`, '4' is DELETE in `pg_rewrite.ev_type`.
    holds(
        session,
        table,
        "EXISTS (SELECT FROM (SELECT c.oid UNION SELECT p.relid::oid FROM pg_catalog.pg_partition_tree(c.oid) AS p) AS own(oid)
             JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = own.oid
             WHERE (t.tgtype & 11) = 11 AND t.tgenabled <> 'D')
         OR EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid AND r.ev_type = '4')",
    )
}

/// Whether rows go along with a row of the same table that they refer to.
pub(crate) fn cascades_to_itself(session: &mut Session, table: &Table) -> Result<bool, ConnectorError> {
    holds(
        session,
        table,
        "EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
             WHERE k.contype = 'f' AND k.conrelid = c.oid AND k.confrelid = c.oid AND k.confdeltype = 'c')",
    )
}

/// Whether a condition on the table's `pg_class` row `c` holds; it does not where there is no such table.
fn holds(session: &mut Session, table: &Table, condition: &str) -> Result<bool, ConnectorError> {
    let rows = session.query_params(
        &format!(
            "SELECT {condition} FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2"
        ),
        &[(&table.schema).into(), (&table.name).into()],
    )?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

/// The relation of this name; `None` if there is none, or no right to see it.
pub(crate) fn relation(session: &mut Session, table: &Table) -> Result<Option<Relation>, ConnectorError> {
    let rows = session.query_params(
        &format!(
            "SELECT c.oid, {KIND}, c.relpersistence = 'u' FROM pg_catalog.pg_class AS c
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2"
        ),
        &[(&table.schema).into(), (&table.name).into()],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let kind = field(row, 1)?.chars().next().unwrap_or('?');
    let (oid, unlogged) = (field(row, 0)?.to_owned(), row.flag(2)?);
    let columns = with_full_names(session, |session| {
        session.query_params(
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
                 a.atthasdef OR a.attidentity <> '', a.attgenerated <> '',
                 coalesce(i.indkey::int2[] @> ARRAY[a.attnum], false), a.attidentity,
                 NOT (t.typtype = 'e' OR t.typnamespace = 'pg_catalog'::regnamespace AND (
                     t.typname IN ('bit', 'bool', 'bytea', 'char', 'cidr', 'date', 'inet', 'int2', 'int4', 'int8', 'macaddr', 'macaddr8', 'money',
                         'oid', 'pg_lsn', 'time', 'timestamp', 'timestamptz', 'uuid', 'varbit', 'xid')
                     OR t.typname IN ('name', 'text', 'varchar') AND coalesce(o.collisdeterministic, true)))
             FROM pg_catalog.pg_attribute AS a
             JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
             LEFT JOIN pg_catalog.pg_collation AS o ON o.oid = a.attcollation
             LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid = a.attrelid AND i.indisprimary
             WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            &[oid.into()],
        )
    })?;
    let columns = columns
        .iter()
        .map(|row| {
            Ok(RelationColumn {
                name: field(row, 0)?.to_owned(),
                sql_type: field(row, 1)?.to_owned(),
                not_null: row.flag(2)?,
                has_default: row.flag(3)?,
                generated: row.flag(4)?,
                in_primary_key: row.flag(5)?,
                identity: row.get(6).and_then(Identity::of),
                has_spellings: row.flag(7)?,
            })
        })
        .collect::<Result<_, ConnectorError>>()?;
    Ok(Some(Relation { kind, unlogged, columns }))
}
