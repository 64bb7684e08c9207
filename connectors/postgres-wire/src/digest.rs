//! Digests of rows, computed by the server. The encoding and its reasons are in `docs/design/verify.md`.
//!
//! A row is `record_send` of its values in fixed built-in types, hashed by the server's 64-bit hash under two seeds; a range's
//! digest is the sums of these over its rows. Only sums cross the network.

use crate::connection::{Connection, Row};
use crate::error::Error;
use crate::identifier::quote_ident;
use rapidbyte_sdk::{ColumnEncoding, ConnectorError, DigestColumn, DigestRequest, KeyDigest, RangeDigest};

/// Characters of a key that are shown.
const SHOWN_KEY: u32 = 1024;
/// The first OID of types that are not built in.
const FIRST_MADE: u32 = 16_384;
/// The first version with `trim_scale`.
const TRIMS_SINCE: u32 = 130_000;

/// Seeds of the row's two hashes and of the key's two. Any four different numbers would do.
const ROW_SEEDS: [u32; 2] = [1, 2];
const KEY_SEEDS: [u32; 2] = [3, 4];

/// A column as its table declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldColumn {
    /// Its name.
    pub name: String,
    /// `format_type()` as declared.
    sql_type: String,
    /// The type, domains followed to their base.
    base: u32,
    /// `format_type()` of the base, with its modifier.
    base_type: String,
    /// Its place in the primary key, from 1.
    pub key_position: Option<u32>,
}

/// The columns of a relation, in order. The session's search path must be `pg_catalog`, so that names of types are whole.
pub fn held_columns(connection: &mut Connection, relation: u32) -> Result<Vec<HeldColumn>, Error> {
    let sql = "\
WITH RECURSIVE base(attnum, oid, typmod) AS (
  SELECT a.attnum, a.atttypid, a.atttypmod FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid WHERE t.typtype = 'd'
)
SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), t.oid, pg_catalog.format_type(t.oid, b.typmod),
  (SELECT k.position FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
   WHERE i.indrelid = a.attrelid AND i.indisprimary AND k.attnum = a.attnum AND k.position <= i.indnkeyatts)
FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.oid AND t.typtype <> 'd'
JOIN pg_catalog.pg_attribute a ON a.attrelid = $1::oid AND a.attnum = b.attnum
ORDER BY a.attnum";
    let column = |row: &Row| {
        Ok(HeldColumn {
            name: row.text(0)?.to_owned(),
            sql_type: row.text(1)?.to_owned(),
            base: row.parse(2)?.unwrap_or_default(),
            base_type: row.text(3)?.to_owned(),
            key_position: row.parse(4)?,
        })
    };
    connection.query_params(sql, &[relation.to_string().into()])?.iter().map(column).collect()
}

/// The columns of the primary key, in its order.
pub fn key_of(columns: &[HeldColumn]) -> Vec<String> {
    let mut key: Vec<(u32, &str)> =
        columns.iter().filter_map(|column| Some((column.key_position?, column.name.as_str()))).collect();
    key.sort_unstable();
    key.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Built-in types whose send form is the same for equal values on every server, by OID: their name as an encoding and as SQL.
/// Arrays are not among them: the form tells whether one was ever stored with NULLs.
fn natural(oid: u32) -> Option<&'static str> {
    Some(match oid {
        16 => "bool",
        17 => "bytea",
        18 => "\"char\"",
        20 => "int8",
        21 => "int2",
        23 => "int4",
        26 => "oid",
        114 => "json",
        700 => "float4",
        701 => "float8",
        790 => "money",
        1042 => "bpchar",
        1082 => "date",
        1083 => "time",
        1114 => "timestamp",
        1184 => "timestamptz",
        1186 => "interval",
        1266 => "timetz",
        1700 => "numeric",
        2950 => "uuid",
        3802 => "jsonb",
        _ => return None,
    })
}

impl HeldColumn {
    /// The forms in which its values can be digested, its own first. The others are those of types to which a load converts it
    /// without a change of value.
    fn encodings(&self, server_version: u32) -> Vec<String> {
        let Some(name) = natural(self.base) else { return vec!["text".to_owned()] };
        let (own, others): (&str, &[&str]) = match name {
            // A scale or a padding is part of the value, and depends on what the column declares.
            "numeric" => (&self.base_type, &["number", "text"]),
            "bpchar" => (&self.base_type, &["unpadded"]),
            "int2" => (name, &["int4", "int8", "number", "text"]),
            "int4" => (name, &["int8", "number", "text"]),
            "int8" => (name, &["number", "text"]),
            "float4" => (name, &["float8"]),
            "uuid" => (name, &["text"]),
            _ => (name, &[]),
        };
        let known = |other: &&&str| **other != "number" || server_version >= TRIMS_SINCE;
        std::iter::once(own).chain(others.iter().filter(known).copied()).map(str::to_owned).collect()
    }

    /// The column's value as SQL in one of its encodings, under an alias for its table.
    fn expression(&self, alias: &str, encoding: &str, server_version: u32) -> Result<String, ConnectorError> {
        if !self.encodings(server_version).iter().any(|known| known == encoding) {
            let message = format!("column `{}` of type `{}` has no encoding `{encoding}`", self.name, self.sql_type);
            return Err(ConnectorError::internal("encoding", message));
        }
        let value = format!("{alias}.{}", quote_ident(&self.name)?);
        Ok(match (natural(self.base), encoding) {
            // Of users' types the output function, and no cast of theirs. A row of NULLs alone is no NULL.
            (None, _) if self.base >= FIRST_MADE => {
                format!("CASE WHEN {value} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {value}) END")
            }
            (None, _) | (_, "text" | "unpadded") => format!("{value}::pg_catalog.text"),
            (_, "number") => format!("pg_catalog.trim_scale({value}::pg_catalog.numeric)"),
            (_, "int4") => format!("{value}::pg_catalog.int4"),
            (_, "int8") => format!("{value}::pg_catalog.int8"),
            (_, "float8") => format!("{value}::pg_catalog.float8"),
            // From a domain to its base; elsewhere this does nothing.
            (Some(own), _) => format!("{value}::pg_catalog.{own}"),
        })
    }
}

/// How columns look to the other side.
pub fn described(columns: &[HeldColumn], server_version: u32) -> Vec<DigestColumn> {
    let describe = |column: &HeldColumn| DigestColumn {
        name: column.name.clone(),
        type_name: column.sql_type.clone(),
        encodings: column.encodings(server_version),
    };
    columns.iter().map(describe).collect()
}

/// Names how this server hashes: what its functions make of fixed bytes and values. Equal names on two servers are the proof
/// that their hashes compare; it fails between processors of different byte order, for one.
pub fn method(connection: &mut Connection) -> Result<String, Error> {
    let sql = "\
SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.string_agg(
         pg_catalog.hash_array_extended(ARRAY[bytes], seed)::pg_catalog.text, ',' ORDER BY bytes, seed), 'UTF8')), 'hex')
FROM (SELECT pg_catalog.decode(pg_catalog.repeat('01fe7f', n), 'hex') AS bytes FROM pg_catalog.generate_series(0, 40) AS n
      UNION ALL
      SELECT pg_catalog.record_send(ROW(true, 1::int2, 2::int4, 3::int8, 1.5::float4, '-0'::float8, 1.50::numeric, 'x'::text,
        'y'::bpchar, '\\x01'::bytea, date '2000-01-01', timestamp '1999-12-31 23:59:59.5', interval '1 month 2 days 3 us', NULL::uuid,
        '{\"a\": 1.0}'::jsonb))) AS probe,
  pg_catalog.generate_series(1, 4) AS seed";
    let rows = connection.query(sql)?;
    let hash = rows.first().and_then(|row| row.get(0)).unwrap_or_default();
    Ok(format!("postgres-1:{hash}"))
}

/// Rows to be digested.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    /// What stands after `FROM`.
    pub from: &'a str,
    /// The name that `from` gives to a row.
    pub alias: &'a str,
    /// A condition; empty = all rows.
    pub condition: &'a str,
    /// The columns that can be asked for.
    pub columns: &'a [HeldColumn],
}

impl Rows<'_> {
    fn expressions<'r>(
        &self,
        wanted: impl Iterator<Item = &'r ColumnEncoding>,
        version: u32,
    ) -> Result<Vec<String>, ConnectorError> {
        let expression = |wanted: &ColumnEncoding| {
            let held = self.columns.iter().find(|column| column.name == wanted.name);
            let held = held.ok_or_else(|| {
                ConnectorError::schema("missing_column", format!("column `{}` is gone", wanted.name)).with_hint("verify again")
            })?;
            held.expression(self.alias, &wanted.encoding, version)
        };
        wanted.map(expression).collect()
    }

    /// The hashes of each row and of its key, and what else is asked of the key. `of_key` is a condition on the key's array.
    fn hashed(&self, request: &DigestRequest, version: u32, named: bool, of_key: &str) -> Result<String, ConnectorError> {
        let columns = self.expressions(request.columns.iter(), version)?;
        if columns.is_empty() {
            return Err(ConnectorError::internal("no_columns", "there are no columns to digest"));
        }
        let of = |name: &String| {
            let found = request.columns.iter().find(|column| column.name == *name);
            found.ok_or_else(|| ConnectorError::internal("key", format!("key column `{name}` is not digested")))
        };
        let key = request.key.iter().map(of).collect::<Result<Vec<_>, _>>()?;
        let key = self.expressions(key.into_iter(), version)?;
        let packed = |values: &[String]| format!("ARRAY[pg_catalog.record_send(ROW({}))]", values.join(", "));
        let row = packed(&columns);
        let name = match named && !key.is_empty() {
            true => format!(
                "pg_catalog.left(pg_catalog.jsonb_build_array({})::pg_catalog.text, {SHOWN_KEY})",
                key.iter().map(|value| format!("({value})::pg_catalog.text")).collect::<Vec<_>>().join(", ")
            ),
            false => "NULL::pg_catalog.text".to_owned(),
        };
        let key = if key.is_empty() { row.clone() } else { packed(&key) };
        let hash = |of: &str, seed: u32| format!("pg_catalog.hash_array_extended({of}, {seed})");
        let mut conditions = Vec::new();
        if !self.condition.is_empty() {
            conditions.push(format!("({})", self.condition));
        }
        if !of_key.is_empty() {
            conditions.push(of_key.replace("$key", &hash(&key, KEY_SEEDS[0])));
        }
        let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        // `OFFSET 0` keeps the server from packing each row once per hash.
        Ok(format!(
            "SELECT {k1} AS k1, {k2} AS k2, {h1} AS h1, {h2} AS h2, packed.name
             FROM (SELECT {row} AS row_bytes, {key} AS key_bytes, {name} AS name FROM {from}{condition} OFFSET 0) AS packed",
            k1 = hash("packed.key_bytes", KEY_SEEDS[0]),
            k2 = hash("packed.key_bytes", KEY_SEEDS[1]),
            h1 = hash("packed.row_bytes", ROW_SEEDS[0]),
            h2 = hash("packed.row_bytes", ROW_SEEDS[1]),
            from = self.from,
        ))
    }

    /// The digests of all ranges that have rows.
    pub fn digest(&self, connection: &mut Connection, request: &DigestRequest) -> Result<Vec<RangeDigest>, ConnectorError> {
        let mask = mask(request)?;
        let hashed = self.hashed(request, connection.server_version(), false, "")?;
        let sql = format!(
            "SELECT (hashed.k1 & {mask})::pg_catalog.int4, count(*), sum(hashed.h1), sum(hashed.h2) FROM ({hashed}) AS hashed GROUP BY 1"
        );
        let range = |row: &Row| {
            Ok(RangeDigest {
                range: row.parse(0)?.unwrap_or_default(),
                rows: row.parse(1)?.unwrap_or_default(),
                digest: format!("{}:{}", row.text(2)?, row.text(3)?),
            })
        };
        connection.query(&sql)?.iter().map(range).collect()
    }

    /// The keys of some ranges, each with the digest of its rows.
    pub fn list_keys(
        &self,
        connection: &mut Connection,
        request: &DigestRequest,
        ranges: &[u32],
        max: u32,
    ) -> Result<Vec<KeyDigest>, ConnectorError> {
        let mask = mask(request)?;
        let list = ranges.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let wanted = format!("($key & {mask}) = ANY ('{{{list}}}'::pg_catalog.int8[])");
        let hashed = self.hashed(request, connection.server_version(), true, &wanted)?;
        let sql = format!(
            "SELECT hashed.k1, hashed.k2, min(hashed.name COLLATE pg_catalog.\"C\"), count(*), sum(hashed.h1), sum(hashed.h2)
             FROM ({hashed}) AS hashed GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {max}"
        );
        let key = |row: &Row| {
            Ok(KeyDigest {
                id: format!("{}:{}", row.text(0)?, row.text(1)?),
                key: row.get(2).map(str::to_owned),
                rows: row.parse(3)?.unwrap_or_default(),
                digest: format!("{}:{}", row.text(4)?, row.text(5)?),
            })
        };
        connection.query(&sql)?.iter().map(key).collect()
    }
}

/// What the lowest bits of a hash are taken out with.
fn mask(request: &DigestRequest) -> Result<u32, ConnectorError> {
    if request.ranges.is_power_of_two() && request.ranges <= DigestRequest::MAX_RANGES {
        return Ok(request.ranges - 1);
    }
    Err(ConnectorError::internal("ranges", format!("{} is no number of ranges", request.ranges)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(base: u32, base_type: &str) -> HeldColumn {
        HeldColumn { name: "c".into(), sql_type: "t".into(), base, base_type: base_type.into(), key_position: None }
    }

    #[test]
    fn a_column_has_its_own_encoding_first() {
        for (column, first) in [
            (column(23, "integer"), "int4"),
            (column(1700, "numeric(10,2)"), "numeric(10,2)"),
            (column(1042, "character(5)"), "character(5)"),
            (column(1043, "character varying(5)"), "text"),
            (column(1007, "integer[]"), "text"),
            (column(20_000, "public.mood"), "text"),
        ] {
            assert_eq!(column.encodings(150_000)[0], first);
        }
    }

    #[test]
    fn encodings_become_sql_and_nothing_else_does() {
        let number = column(23, "integer");
        assert_eq!(number.expression("t", "int8", 150_000).unwrap(), "t.\"c\"::pg_catalog.int8");
        assert!(number.expression("t", "int8) FROM secrets --", 150_000).is_err());
        assert!(number.expression("t", "number", 120_000).is_err());
        assert_eq!(column(1700, "numeric(4,1)").expression("t", "numeric(4,1)", 150_000).unwrap(), "t.\"c\"::pg_catalog.numeric");
    }

    #[test]
    fn only_powers_of_two_are_ranges() {
        let request = |ranges| DigestRequest { columns: Vec::new(), key: Vec::new(), ranges, whole: false };
        assert_eq!(mask(&request(1)).unwrap(), 0);
        assert_eq!(mask(&request(1 << 16)).unwrap(), 65_535);
        for no in [0, 3, 1 << 17] {
            assert!(mask(&request(no)).is_err());
        }
    }
}
