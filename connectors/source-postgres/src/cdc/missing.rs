//! What rows show of a column that was added after they were written, which the log does not tell.
//!
//! `ADD COLUMN … DEFAULT` with a constant leaves a table's rows as they are: the catalog has the value that they show
//! (`pg_attribute.attmissingval`). With any other default the table is rewritten, and nothing tells the values. A table that is rewritten
//! later loses the first kind too: its rows have the value then, and the catalog forgets it.

use crate::catalog::{Relation, TableColumn};
use postgres_wire::{Connection, Row};
use rapidbyte_sdk::ConnectorError;
use std::collections::{HashMap, HashSet};

/// Bytes of such values in one schema, at most; the host takes schemas of 4 MiB.
const MAX_BYTES: usize = 1 << 20;

/// The field metadata with the value that earlier rows show, as the type's output function writes it.
const MISSING: &str = "missing";
/// The field metadata that says: earlier rows may show values, and nothing tells them.
const UNTOLD: &str = "untold";

/// The columns of a table with the values that the catalog has, and the files its rows are in. A partitioned table's values are those of
/// its partitions. `array_to_string` gives the one element as the output function writes it, without an array's quotes.
const COLUMNS: &str = "\
WITH stores AS (
  SELECT c.oid, pg_relation_filenode(c.oid) AS file FROM pg_class c
  WHERE c.relkind = 'r' AND (c.oid = $1::oid OR c.oid IN (SELECT p.relid FROM pg_partition_tree($1::oid::regclass) p WHERE p.isleaf))
)
SELECT a.attname, a.atttypid, a.atttypmod, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL, m.count,
       CASE WHEN m.count = 1 AND m.bytes <= $2::bigint THEN m.value END,
       (SELECT string_agg(s.oid || ':' || coalesce(s.file, 0), ' ' ORDER BY s.oid) FROM stores s),
       EXISTS (SELECT FROM stores s WHERE s.file IS DISTINCT FROM s.oid)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
CROSS JOIN LATERAL (
  SELECT count(DISTINCT v.value) AS count, max(v.value) AS value, max(octet_length(v.value)) AS bytes
  FROM stores s JOIN pg_attribute b ON b.attrelid = s.oid AND b.attname = a.attname AND b.atthasmissing
  CROSS JOIN LATERAL array_to_string(b.attmissingval, '') AS v(value)
) m
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped";

/// A column as the catalog has it now.
struct Found {
    type_oid: u32,
    typmod: i32,
    has_default: bool,
    /// How many different values partitions have; 0 if the catalog has none.
    values: u32,
    /// The one there is, if it is not too large.
    value: Option<String>,
}

/// What was seen of a table before.
struct Seen {
    names: HashSet<String>,
    files: String,
}

/// What the catalog says of earlier rows of one table, from look to look.
#[derive(Default)]
pub(super) struct EarlierRows {
    seen: Option<Seen>,
}

fn found(row: &Row) -> Result<(String, Found), ConnectorError> {
    let found = Found {
        type_oid: row.parse(1)?.unwrap_or_default(),
        typmod: row.parse(2)?.unwrap_or(-1),
        has_default: row.flag(3)?,
        values: row.parse(4)?.unwrap_or_default(),
        value: row.get(5).map(str::to_owned),
    };
    Ok((row.text(0)?.to_owned(), found))
}

impl EarlierRows {
    /// Notes with each column what rows show that were there before it. Of one that is not there any more, or of another type, nothing is
    /// known.
    pub(super) fn note(
        &mut self,
        catalog: &mut Connection,
        relation: &Relation,
        columns: &mut [TableColumn],
    ) -> Result<(), ConnectorError> {
        let limit = i64::try_from(MAX_BYTES).unwrap_or(i64::MAX);
        let rows = catalog.query_params(COLUMNS, &[relation.oid.to_string().into(), limit.into()])?;
        let Some(first) = rows.first() else { return Ok(()) };
        let files = first.get(6).unwrap_or_default().to_owned();
        let ever_rewritten = first.flag(7)?;
        let now: HashMap<String, Found> = rows.iter().map(found).collect::<Result<_, _>>()?;
        let mut room = MAX_BYTES;
        // The last ones are the newest, and those that a destination may lack.
        for column in columns.iter_mut().rev() {
            let Some(found) = now.get(&column.name).filter(|found| found.is(column)) else {
                column.note(UNTOLD, "true");
                continue;
            };
            match &found.value {
                Some(value) if value.len() <= room => {
                    room -= value.len();
                    column.note(MISSING, value);
                }
                None if found.values == 0 && !self.may_be_filled(column, found, &files, ever_rewritten) => {}
                _ => column.note(UNTOLD, "true"),
            }
        }
        self.seen = Some(Seen { names: now.into_keys().collect(), files });
        Ok(())
    }

    /// Whether earlier rows may have been given values when the column came. Known is whether the table was rewritten since it was seen
    /// without the column; else whether it ever was, which it had to be, and whether there is a default.
    fn may_be_filled(&self, column: &TableColumn, found: &Found, files: &str, ever_rewritten: bool) -> bool {
        match self.seen.as_ref().filter(|seen| !seen.names.contains(&column.name)) {
            Some(seen) => seen.files != files,
            None => ever_rewritten && found.has_default,
        }
    }
}

impl Found {
    /// Whether it is the column that the log speaks of. A domain's modifier is part of the domain.
    fn is(&self, column: &TableColumn) -> bool {
        self.type_oid == column.type_oid() && (column.is_domain() || self.typmod == column.base.typmod)
    }
}
