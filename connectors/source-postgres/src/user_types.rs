//! Types that are not PostgreSQL's own, described so that a destination can make them: enums, domains, composite types, ranges.

use postgres_wire::{Connection, Error, Row, Shape, UserType};
use rapidbyte_sdk::ConnectorError;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The first OID that is given to objects of users (`FirstNormalObjectId`).
const FIRST_MADE: u32 = 16_384;
/// Types a column may be made of, at most: bounds its description.
const MAX_TYPES: usize = 256;

/// Whether a type was made by a user or an extension.
pub(crate) fn is_made(oid: u32) -> bool {
    oid >= FIRST_MADE
}

/// One type of the catalog.
struct Found {
    described: Option<UserType>,
    /// What must be there before it.
    needs: Vec<u32>,
}

/// Every type reached from some, through arrays, domains, composite types and ranges. Multiranges exist from 14 on; asking through
/// JSON works before, too.
const REACHED: &str = "\
WITH RECURSIVE reached(oid) AS (
  SELECT unnest($1::oid[])
  UNION
  SELECT x.oid FROM reached r JOIN pg_type t ON t.oid = r.oid CROSS JOIN LATERAL (
    SELECT t.typelem WHERE t.typtype = 'b' AND t.typlen = -1 AND t.typelem <> 0
    UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT a.atttypid FROM pg_attribute a
              WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT g.rngsubtype FROM pg_range g WHERE g.rngtypid = t.oid
    UNION ALL SELECT g.rngtypid FROM pg_range g WHERE (to_jsonb(g) ->> 'rngmultitypid')::oid = t.oid) AS x(oid)
)
SELECT t.oid, format_type(t.oid, NULL), n.nspname, t.typname, t.typtype,
       (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'),
       CASE WHEN t.typtype = 'b' AND t.typlen = -1 THEN nullif(t.typelem, 0) END,
       nullif(t.typbasetype, 0), format_type(nullif(t.typbasetype, 0), t.typtypmod),
       (SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = t.oid),
       (SELECT json_agg(json_build_array(a.attname, format_type(a.atttypid, a.atttypmod), a.atttypid::text) ORDER BY a.attnum)
        FROM pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
       (SELECT c.relkind FROM pg_class c WHERE c.oid = t.typrelid),
       g.rngsubtype, format_type(g.rngsubtype, NULL),
       (SELECT m.typname FROM pg_type m WHERE m.oid = (to_jsonb(g) ->> 'rngmultitypid')::oid),
       o.rngtypid, format_type(o.rngtypid, NULL)
FROM reached r JOIN pg_type t ON t.oid = r.oid JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_range g ON g.rngtypid = t.oid
LEFT JOIN pg_range o ON t.typtype = 'm' AND (to_jsonb(o) ->> 'rngmultitypid')::oid = t.oid";

fn json<T: serde::de::DeserializeOwned + Default>(row: &Row, index: usize) -> Result<T, Error> {
    let parse = |text: &str| {
        serde_json::from_str(text).map_err(|_| ConnectorError::internal("json", "a catalog query gave malformed JSON").into())
    };
    row.get(index).map_or(Ok(T::default()), parse)
}

fn found(row: &Row) -> Result<(u32, Found), Error> {
    let oid: u32 = row.parse(0)?.unwrap_or_default();
    let element: Option<u32> = row.parse(6)?;
    // Arrays come with their elements.
    if !is_made(oid) || element.is_some() {
        return Ok((oid, Found { described: None, needs: element.into_iter().collect() }));
    }
    let mut needs = Vec::new();
    let shape = match (row.text(4)?, row.get(5), row.get(11)) {
        (_, Some(extension), _) => Shape::Extension { extension: extension.to_owned() },
        ("e", ..) => Shape::Enum { labels: json(row, 9)? },
        ("d", ..) => {
            needs.extend(row.parse::<u32>(7)?);
            Shape::Domain { base: row.text(8)?.to_owned() }
        }
        ("c", _, Some("c")) => {
            let fields: Vec<(String, String, String)> = json(row, 10)?;
            needs.extend(fields.iter().filter_map(|(_, _, oid)| oid.parse::<u32>().ok()));
            Shape::Composite { fields: fields.into_iter().map(|(name, of, _)| (name, of)).collect() }
        }
        ("r", ..) => {
            needs.extend(row.parse::<u32>(12)?);
            Shape::Range { subtype: row.text(13)?.to_owned(), multirange: row.get(14).map(str::to_owned) }
        }
        ("m", ..) if row.get(15).is_some() => {
            needs.extend(row.parse::<u32>(15)?);
            Shape::Multirange { range: row.text(16)?.to_owned() }
        }
        _ => Shape::Other,
    };
    let described = UserType { name: row.text(1)?.to_owned(), typname: row.text(3)?.to_owned(), shape };
    Ok((oid, Found { described: Some(described), needs }))
}

/// Adds what a type needs, then the type.
fn collect(oid: u32, all: &BTreeMap<u32, Found>, seen: &mut HashSet<u32>, into: &mut Vec<UserType>) {
    let Some(found) = all.get(&oid) else { return };
    if seen.len() >= MAX_TYPES || !seen.insert(oid) {
        return;
    }
    for needed in &found.needs {
        collect(*needed, all, seen, into);
    }
    into.extend(found.described.clone());
}

/// The description of each type: a JSON list of the types it is made of, each after those it needs. Asked for under
/// `search_path = pg_catalog`, so that names carry their schemas.
pub(crate) fn describe(connection: &mut Connection, oids: &BTreeSet<u32>) -> Result<HashMap<u32, String>, Error> {
    if oids.is_empty() {
        return Ok(HashMap::new());
    }
    let list = oids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let rows = connection.query_params(REACHED, &[format!("{{{list}}}").into()])?;
    let all: BTreeMap<u32, Found> = rows.iter().map(found).collect::<Result<_, _>>()?;
    let mut made = HashMap::new();
    for oid in oids {
        let mut types = Vec::new();
        collect(*oid, &all, &mut HashSet::new(), &mut types);
        let text = UserType::write_all(&types).ok_or_else(|| ConnectorError::internal("json", "types can't be written as JSON"))?;
        made.insert(*oid, text);
    }
    Ok(made)
}
