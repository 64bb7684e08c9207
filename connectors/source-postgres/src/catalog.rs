//! What the server's catalog says of tables and columns.

use crate::types::{BaseType, Element, Kind, oid};
use crate::user_types;
use arrow_schema::Field;
use postgres_wire::{Connection, Error, Row};
use rapidbyte_sdk::{ConnectorError, StreamName, split};
use std::collections::{BTreeSet, HashMap};

/// Tables asked for at once: bounds the answer.
const TABLES_PER_QUERY: usize = 32;

/// A table, view or the like.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    /// `pg_class.relkind`.
    pub(crate) kind: char,
    /// Whether the user may read all of it.
    pub(crate) readable: bool,
    pub(crate) owner: String,
    /// Whether the user may do what its owner may.
    pub(crate) owned: bool,
    /// Whether its policies hold for its owner too.
    pub(crate) forced: bool,
    /// Whether it is a view that reads with the rights of whoever reads it, not of its owner.
    pub(crate) invoker: bool,
    pub(crate) estimated_rows: Option<u64>,
    pub(crate) estimated_bytes: Option<u64>,
}

/// A column, in the table's order.
#[derive(Debug, Clone)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) base: BaseType,
    pub(crate) kind: Kind,
    pub(crate) not_null: bool,
    /// Position in the primary key, from 1.
    pub(crate) key_position: Option<u32>,
    /// Whether the user may read it.
    pub(crate) readable: bool,
    /// `pg_attribute.atttypid`: a domain's own.
    type_oid: u32,
    /// Whether its text is to be what the type's output function gives, as in the server's log, and not what a cast gives: somebody
    /// has made a cast of its type to text, which may show anything.
    pub(crate) as_output: bool,
    metadata: HashMap<String, String>,
}

const RELATIONS: &str = "\
SELECT c.oid, n.nspname, c.relname, c.relkind, has_table_privilege(c.oid, 'SELECT'),
       pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'), c.relforcerowsecurity,
       coalesce((SELECT o.option_value::bool FROM pg_options_to_table(c.reloptions) o WHERE o.option_name = 'security_invoker'), false),
       CASE WHEN c.relkind = 'p' THEN (SELECT sum(greatest(l.reltuples, 0)) FROM pg_partition_tree(c.oid) p JOIN pg_class l ON l.oid = p.relid WHERE p.isleaf)
            WHEN c.relkind IN ('r', 'm') AND (c.reltuples > 0 OR c.reltuples = 0 AND c.relpages > 0) THEN c.reltuples END::bigint,
       CASE WHEN c.relkind = 'p' THEN (SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(c.oid) p WHERE p.isleaf)
            WHEN c.relkind IN ('r', 'm') THEN pg_table_size(c.oid) END::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// Columns with their types, domains followed to their base.
const COLUMNS: &str = "\
WITH RECURSIVE attributes AS (
  SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attidentity, a.attgenerated,
         has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
  FROM pg_attribute a WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
), ";

/// Columns that no table has any more, told by their types alone.
const TYPED: &str = "\
WITH RECURSIVE attributes AS (
  SELECT 0::oid AS attrelid, w.attnum::int2 AS attnum, w.attname::name AS attname, w.atttypid, w.atttypmod, false AS attnotnull,
         '' AS attidentity, '' AS attgenerated, true AS readable
  FROM unnest($1::text[], $2::oid[], $3::int4[]) WITH ORDINALITY AS w(attname, atttypid, atttypmod, attnum)
), ";

/// What is told of them. Casts that came with the server have smaller OIDs than those of users and extensions (`FirstNormalObjectId`).
const DESCRIBED: &str = "\
resolved AS (
  SELECT a.attrelid, a.attnum, a.atttypid AS oid, a.atttypmod AS typmod FROM attributes a
  UNION ALL
  SELECT r.attrelid, r.attnum, t.typbasetype, t.typtypmod
  FROM resolved r JOIN pg_type t ON t.oid = r.oid WHERE t.typtype = 'd'
)
SELECT a.attrelid, a.attname, a.attnotnull, a.attidentity, a.attgenerated,
       format_type(a.atttypid, a.atttypmod), t.typname, tn.nspname, t.typtype,
       b.oid, r.typmod, b.typname, b.typtype,
       CASE WHEN b.typlen = -1 AND b.typsend = 'array_send'::regproc THEN b.typelem END,
       format_type(b.oid, r.typmod),
       (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = b.oid),
       (SELECT k.position FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
        WHERE i.indrelid = a.attrelid AND i.indisprimary AND k.attnum = a.attnum AND k.position <= i.indnkeyatts),
       a.readable, a.atttypid, e.typname, e.typtype,
       EXISTS (SELECT FROM pg_cast c WHERE c.castsource = b.oid AND c.casttarget = 'text'::regtype AND c.oid >= 16384)
FROM resolved r
JOIN attributes a ON a.attrelid = r.attrelid AND a.attnum = r.attnum
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_type b ON b.oid = r.oid AND b.typtype <> 'd'
LEFT JOIN pg_type e ON e.oid = b.typelem AND b.typelem <> 0
ORDER BY a.attrelid, a.attnum";

fn relation(row: &Row) -> Result<Relation, Error> {
    Ok(Relation {
        oid: row.parse(0)?.unwrap_or_default(),
        schema: row.text(1)?.to_owned(),
        name: row.text(2)?.to_owned(),
        kind: row.text(3)?.chars().next().unwrap_or('r'),
        readable: row.flag(4)?,
        owner: row.text(5)?.to_owned(),
        owned: row.flag(6)?,
        forced: row.flag(7)?,
        invoker: row.flag(8)?,
        estimated_rows: row.parse(9)?,
        estimated_bytes: row.parse(10)?,
    })
}

fn column(row: &Row) -> Result<TableColumn, Error> {
    let element: Option<u32> = row.parse(13)?;
    let base = BaseType {
        oid: row.parse(9)?.unwrap_or_default(),
        typmod: row.parse(10)?.unwrap_or(-1),
        name: row.text(11)?.to_owned(),
        class: row.text(12)?.to_owned(),
        element: match element {
            Some(oid) => Some(Element { oid, name: row.text(19)?.to_owned(), class: row.text(20)?.to_owned() }),
            None => None,
        },
    };
    let kind = Kind::of(&base);
    let not_null = row.flag(2)?;
    let mut metadata = HashMap::new();
    let mut note = |key: &str, value: &str| metadata.insert(format!("rapidbyte.pg.{key}"), value.to_owned());
    note("type", row.text(5)?);
    note("typname", row.text(6)?);
    note("nspname", row.text(7)?);
    let class = row.text(8)?;
    note("typtype", class);
    if class == "d" {
        note("base_type", row.text(14)?);
    }
    if let Some(labels) = row.get(15) {
        note("enum_labels", labels);
    }
    if not_null {
        note("notnull", "true");
    }
    let key_position: Option<u32> = row.parse(16)?;
    if let Some(position) = key_position {
        note("pk_ord", &position.to_string());
    }
    for (key, index) in [("identity", 3), ("generated", 4)] {
        if let Some(value) = row.get(index).filter(|value| !value.is_empty()) {
            note(key, value);
        }
    }
    if let Some(encoding) = kind.encoding() {
        note("encoding", encoding);
    }
    if let Some(extension) = kind.extension() {
        metadata.insert("ARROW:extension:name".into(), extension.into());
    }
    Ok(TableColumn {
        name: row.text(1)?.to_owned(),
        base,
        kind,
        not_null,
        key_position,
        readable: row.flag(17)?,
        type_oid: row.parse(18)?.unwrap_or_default(),
        as_output: row.flag(21)?,
        metadata,
    })
}

impl TableColumn {
    /// The type that a literal of it is cast to; for domains their base, whose checks have been passed already.
    pub(crate) fn literal_type(&self) -> &str {
        let named = |key: &str| self.metadata.get(key).map(String::as_str);
        named("rapidbyte.pg.base_type").or_else(|| named("rapidbyte.pg.type")).unwrap_or("text")
    }

    /// Whether a cast to text may show another text than the type's output function: a cast of users, or that of `xml`, which keeps
    /// the name of an encoding.
    pub(crate) fn has_own_cast(&self) -> bool {
        self.kind == Kind::Cast && (self.base.oid == oid::XML || user_types::is_made(self.base.oid))
    }

    /// Whether the server computes it from others.
    pub(crate) fn generated(&self) -> bool {
        self.metadata.contains_key("rapidbyte.pg.generated")
    }

    /// `pg_attribute.atttypid`: a domain's own.
    pub(crate) fn type_oid(&self) -> u32 {
        self.type_oid
    }

    /// Whether its type is a domain.
    pub(crate) fn is_domain(&self) -> bool {
        self.type_oid != self.base.oid
    }

    /// Takes over what the table says of the column as it is now, with another type: its place in the key, and whether it may be NULL.
    pub(crate) fn stand_for(&mut self, now: &Self) {
        (self.not_null, self.key_position) = (now.not_null, now.key_position);
        for key in ["notnull", "pk_ord", "pk_len"].map(|key| format!("rapidbyte.pg.{key}")) {
            if let Some(value) = now.metadata.get(&key) {
                self.metadata.insert(key, value.clone());
            }
        }
    }

    /// Notes something beside what the catalog said, under `rapidbyte.pg.`.
    pub(crate) fn note(&mut self, key: &str, value: &str) {
        self.metadata.insert(format!("rapidbyte.pg.{key}"), value.to_owned());
    }

    /// The Arrow field it becomes.
    pub(crate) fn field(&self) -> Field {
        let field = Field::new(&self.name, self.kind.data_type(), !self.not_null).with_metadata(self.metadata.clone());
        if self.kind.may_split() { split::mark(&field) } else { field }
    }
}

impl Relation {
    /// The kind in words.
    pub(crate) fn kind_word(&self) -> &'static str {
        match self.kind {
            'p' => "partitioned table",
            'v' => "view",
            'm' => "materialized view",
            'f' => "foreign table",
            _ => "table",
        }
    }

    /// Whether `LOCK TABLE` takes it.
    pub(crate) fn can_be_locked(&self) -> bool {
        matches!(self.kind, 'r' | 'p')
    }

    /// `schema.name` for messages.
    pub(crate) fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// All that can be loaded: partitions come with their parent.
pub(crate) fn readable_relations(connection: &mut Connection) -> Result<Vec<Relation>, Error> {
    let sql = format!(
        "{RELATIONS} AND NOT c.relispartition AND c.relpersistence <> 't'
         AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
         AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
         ORDER BY n.nspname, c.relname"
    );
    connection.query(&sql)?.iter().map(relation).collect()
}

/// One relation by its name.
pub(crate) fn find_relation(connection: &mut Connection, schema: &str, name: &str) -> Result<Option<Relation>, Error> {
    let sql = format!("{RELATIONS} AND n.nspname = $1 AND c.relname = $2");
    connection.query_params(&sql, &[schema.into(), name.into()])?.first().map(relation).transpose()
}

/// Columns of relations, by relation.
pub(crate) fn columns_of(connection: &mut Connection, oids: &[u32]) -> Result<HashMap<u32, Vec<TableColumn>>, Error> {
    let mut found: HashMap<u32, Vec<TableColumn>> = HashMap::new();
    for some in oids.chunks(TABLES_PER_QUERY) {
        let list = some.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        for row in connection.query_params(&format!("{COLUMNS}{DESCRIBED}"), &[format!("{{{list}}}").into()])? {
            let oid = row.parse(0)?.unwrap_or_default();
            found.entry(oid).or_default().push(column(&row)?);
        }
    }
    for columns in found.values_mut() {
        let parts = columns.iter().filter(|column| column.key_position.is_some()).count().to_string();
        for column in columns.iter_mut().filter(|column| column.key_position.is_some()) {
            // Whoever sees some of the columns can tell whether these are all of the key.
            column.metadata.insert("rapidbyte.pg.pk_len".into(), parts.clone());
        }
    }
    describe_types(connection, found.values_mut().flatten().collect())?;
    Ok(found)
}

/// Adds what types of users are made of.
fn describe_types(connection: &mut Connection, columns: Vec<&mut TableColumn>) -> Result<(), Error> {
    let made: BTreeSet<u32> = columns.iter().map(|column| column.type_oid).filter(|oid| user_types::is_made(*oid)).collect();
    let described = user_types::describe(connection, &made)?;
    for column in columns {
        if let Some(types) = described.get(&column.type_oid) {
            column.metadata.insert("rapidbyte.pg.types".into(), types.clone());
        }
    }
    Ok(())
}

/// Columns by name, type and modifier, as a log of the past tells them. One whose type does not exist any more is left out.
pub(crate) fn columns_typed(connection: &mut Connection, wanted: &[(String, u32, i32)]) -> Result<Vec<TableColumn>, Error> {
    let array = |items: Vec<String>| format!("{{{}}}", items.join(","));
    let quote = |name: &String| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
    let names = array(wanted.iter().map(|(name, ..)| quote(name)).collect());
    let oids = array(wanted.iter().map(|(_, oid, _)| oid.to_string()).collect());
    let typmods = array(wanted.iter().map(|(.., typmod)| typmod.to_string()).collect());
    let rows = connection.query_params(&format!("{TYPED}{DESCRIBED}"), &[names.into(), oids.into(), typmods.into()])?;
    let mut columns: Vec<TableColumn> = rows.iter().map(column).collect::<Result<_, _>>()?;
    describe_types(connection, columns.iter_mut().collect())?;
    Ok(columns)
}

/// The names that a person may have meant.
pub(crate) fn table_names(connection: &mut Connection) -> Result<Vec<StreamName>, Error> {
    let relations = readable_relations(connection)?;
    Ok(relations.into_iter().map(|relation| StreamName::qualified(relation.schema, relation.name)).collect())
}

/// The error for a stream whose table is not there, with what may have been meant.
pub(crate) fn missing_table(connection: &mut Connection, schema: &str, name: &str) -> ConnectorError {
    let names = table_names(connection).unwrap_or_default();
    let wanted = format!("{schema}.{name}");
    let near = names.iter().map(ToString::to_string).filter_map(|known| {
        let distance = distance(&known, &wanted).min(distance(known.rsplit('.').next().unwrap_or_default(), name) + 1);
        (distance <= 1 + wanted.len() / 4).then_some((distance, known))
    });
    let hint = match near.min() {
        Some((_, known)) => format!("did you mean `{known}`?"),
        None if names.is_empty() => {
            "the user can read no table of this database: check `database` and the user's grants".to_owned()
        }
        None => "`rapidbyte discover <PIPELINE>` lists what can be read".to_owned(),
    };
    ConnectorError::schema("missing_table", format!("table `{wanted}` does not exist")).with_hint(hint)
}

/// The error for a column that is not there.
pub(crate) fn missing_column(relation: &Relation, columns: &[TableColumn], wanted: &str) -> ConnectorError {
    let near = columns.iter().map(|column| (distance(&column.name, wanted), &column.name)).min();
    let hint = match near {
        Some((distance, name)) if distance <= 1 + wanted.len() / 4 => format!("did you mean `{name}`?"),
        _ => {
            let names: Vec<String> = columns.iter().take(20).map(|column| format!("`{}`", column.name)).collect();
            format!("it has: {}{}", names.join(", "), if columns.len() > 20 { ", …" } else { "" })
        }
    };
    ConnectorError::schema("missing_column", format!("column `{wanted}` does not exist in `{}`", relation.label())).with_hint(hint)
}

/// How many single-character edits lie between two names, letter case aside.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.to_lowercase().chars().take(128).collect();
    let right: Vec<char> = right.to_lowercase().chars().take(128).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_count_edits() {
        for (left, right, edits) in [("users", "users", 0), ("users", "Userz", 1), ("", "abc", 3), ("orders", "order", 1)] {
            assert_eq!(distance(left, right), edits);
        }
    }
}
