//! Sets of transactions whose rows have been delivered.

use super::{Cursor, source_changed};
use postgres_wire::Connection;
use rapidbyte_sdk::{ConnectorError, StreamContext};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Bytes of a set's list in a position. Two of them, cursor and key share the 64 KiB.
const MAX_LIST: usize = 20 << 10;
/// Ids asked for at once: more than ever fit the list.
const MAX_IDS: usize = MAX_LIST / 2;
/// `age()` counts no further, and no table may have unfrozen rows that are older.
const MAX_AGE: u64 = i32::MAX as u64 - 1;

/// All transactions below `h`, and some above. Ids are 64 bits wide: they never come again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct XidSet {
    h: u64,
    #[serde(with = "list")]
    also: Vec<u64>,
}

/// What the server's transaction shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Transactions below it have ended.
    xmin: u64,
    /// The id from which `age()` counts backwards.
    latest: u64,
    /// The table's file; none for partitioned tables.
    pub(crate) file: Option<u32>,
    /// The server's timeline; none where it does not show it. After a promotion or a restore it is another, and ids that were given
    /// before may be given again.
    pub(crate) timeline: Option<u32>,
}

/// What a run will have delivered when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) set: XidSet,
    /// The snapshot shows more than that: what is beyond the set waits for the next run.
    pub(crate) cut: bool,
}

impl Now {
    /// Asks within the transaction that reads.
    pub(crate) fn ask(connection: &mut Connection, oid: u32) -> Result<Self, ConnectorError> {
        // The older names give numbers instead of `xid8`, on every version.
        let sql = format!(
            "SELECT pg_catalog.txid_snapshot_xmin(s), pg_catalog.txid_snapshot_xmax(s), pg_catalog.age('3'::pg_catalog.xid),
                 pg_catalog.pg_relation_filenode({oid}),
                 CASE WHEN pg_catalog.has_function_privilege('pg_catalog.pg_walfile_name(pg_lsn)', 'EXECUTE')
                     AND pg_catalog.has_function_privilege('pg_catalog.pg_current_wal_insert_lsn()', 'EXECUTE')
                 THEN pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END
             FROM (SELECT pg_catalog.txid_current_snapshot() AS s) AS q"
        );
        let rows = connection.query(&sql)?;
        let row = rows.first().ok_or_else(|| ConnectorError::internal("snapshot", "the server shows no snapshot"))?;
        let missing = || ConnectorError::internal("snapshot", "the server shows a snapshot without numbers");
        let (xmin, xmax) = (row.parse::<u64>(0)?.ok_or_else(missing)?, row.parse::<u64>(1)?.ok_or_else(missing)?);
        let age_of_three = row.parse::<i32>(2)?.ok_or_else(missing)?;
        let latest = widened(age_of_three.cast_unsigned().wrapping_add(3), xmax);
        let timeline = row.get(4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        Ok(Self { xmin, latest, file: row.parse(3)?, timeline })
    }

    /// How far back an id lies; `None` if `age()` can't tell any more, or it lies ahead.
    fn age(self, xid: u64) -> Option<u64> {
        self.latest.checked_sub(xid).filter(|age| *age <= MAX_AGE)
    }
}

/// The first number at or after `from` whose lower half is `low`.
fn widened(low: u32, from: u64) -> u64 {
    from + u64::from(low.wrapping_sub(from as u32))
}

impl XidSet {
    fn lost(&self, stream: &StreamContext, now: Now) -> ConnectorError {
        let what = if self.h > now.latest {
            "the server has been set back to an older state"
        } else {
            "more than two billion transactions have passed since the last run"
        };
        source_changed(stream, what)
    }

    fn list(&self) -> String {
        let mut list = String::new();
        for xid in &self.also {
            let comma = if list.is_empty() { "" } else { "," };
            // Writing to a string can't fail.
            let _ = write!(list, "{comma}{}", *xid as u32);
        }
        list
    }

    /// The rows of these transactions, as SQL. What is too old for `age()`, or has no transaction, belongs to them.
    pub(crate) fn within(&self, stream: &StreamContext, now: Now) -> Result<String, ConnectorError> {
        let age = now.age(self.h).ok_or_else(|| self.lost(stream, now))?;
        let older = format!("pg_catalog.age(xmin) > {age} OR pg_catalog.age(xmin) < 0");
        Ok(match self.also.is_empty() {
            true => format!("({older})"),
            false => format!("({older} OR xmin = ANY ('{{{}}}'::pg_catalog.xid[]))", self.list()),
        })
    }

    /// The rows of all other transactions, as SQL.
    pub(crate) fn beyond(&self, stream: &StreamContext, now: Now) -> Result<String, ConnectorError> {
        let age = now.age(self.h).ok_or_else(|| self.lost(stream, now))?;
        let newer = format!("pg_catalog.age(xmin) BETWEEN 0 AND {age}");
        Ok(match self.also.is_empty() {
            true => newer,
            false => format!("{newer} AND NOT xmin = ANY ('{{{}}}'::pg_catalog.xid[])", self.list()),
        })
    }
}

impl Goal {
    /// The transactions whose rows the snapshot shows in a table.
    pub(crate) fn of(connection: &mut Connection, cursor: &Cursor, now: Now) -> Result<Self, ConnectorError> {
        let mut set = XidSet { h: now.xmin, also: Vec::new() };
        if now.latest == now.xmin {
            return Ok(Self { set, cut: false });
        }
        let age = now.age(now.xmin).unwrap_or(MAX_AGE);
        // Of rows, not of the snapshot: a snapshot does not tell to which transaction in flight a subtransaction belongs.
        let rows = connection.query(&format!(
            "SELECT pg_catalog.age(x) FROM (SELECT DISTINCT xmin AS x FROM {} WHERE pg_catalog.age(xmin) BETWEEN 0 AND {age}) AS s
             ORDER BY 1 DESC LIMIT {}",
            cursor.relation,
            MAX_IDS + 1
        ))?;
        let mut seen = Vec::with_capacity(rows.len());
        for row in &rows {
            seen.push(now.latest - row.parse::<u64>(0)?.unwrap_or_default().min(now.latest));
        }
        let cut = set.take(&seen);
        Ok(Self { set, cut })
    }
}

impl XidSet {
    /// Takes ids in ascending order, as far as they fit a position; says whether some did not.
    fn take(&mut self, seen: &[u64]) -> bool {
        let (mut length, mut before) = (0, self.h);
        for xid in seen {
            length += 1 + digits(xid - before);
            if length > MAX_LIST {
                return true;
            }
            self.also.push(*xid);
            before = *xid;
        }
        false
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// Ascending ids as the differences between them, the first from 0.
mod list {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::fmt::Write as _;

    pub(super) fn serialize<S: Serializer>(ids: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        let (mut text, mut before) = (String::new(), 0);
        for id in ids {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a string can't fail.
            let _ = write!(text, "{comma}{}", id - before);
            before = *id;
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut before = 0_u64;
        text.split(',')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let difference = part.parse::<u64>().map_err(D::Error::custom)?;
                before = before.checked_add(difference).ok_or_else(|| D::Error::custom("an id beyond 64 bits"))?;
                Ok(before)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_sdk::StreamName;

    fn stream() -> StreamContext {
        StreamContext::full_refresh(StreamName::new("t"))
    }

    #[test]
    fn ids_keep_their_upper_half() {
        let epoch = 7 << 32;
        assert_eq!(widened(100, epoch + 90), epoch + 100);
        assert_eq!(widened(90, epoch + 90), epoch + 90);
        // Between the two questions the counter has passed the end of 32 bits.
        assert_eq!(widened(5, epoch - 3), epoch + 5);
    }

    #[test]
    fn rows_are_told_by_their_age() {
        let now = Now { xmin: 0, latest: (1 << 32) + 10, file: None, timeline: None };
        let set = XidSet { h: (1 << 32) - 20, also: vec![(1 << 32) - 18, (1 << 32) + 3] };
        let beyond = set.beyond(&stream(), now).unwrap();
        assert_eq!(beyond, "pg_catalog.age(xmin) BETWEEN 0 AND 30 AND NOT xmin = ANY ('{4294967278,3}'::pg_catalog.xid[])");
        let within = set.within(&stream(), now).unwrap();
        assert!(within.starts_with("(pg_catalog.age(xmin) > 30 OR pg_catalog.age(xmin) < 0 OR xmin = ANY ("), "{within}");
    }

    #[test]
    fn a_horizon_that_can_not_be_told_any_more_is_no_horizon() {
        let set = |h: u64| XidSet { h, also: Vec::new() };
        let now = Now { xmin: 0, latest: 5 << 31, file: None, timeline: None };
        assert!(set((4 << 31) + 2).beyond(&stream(), now).is_ok());
        assert_eq!(set(4 << 31).beyond(&stream(), now).unwrap_err().code, "source_changed");
        assert_eq!(set((5 << 31) + 1).within(&stream(), now).unwrap_err().code, "source_changed");
    }

    #[test]
    fn a_list_reads_back_and_stays_within_its_room() {
        let mut set = XidSet { h: 1 << 40, also: Vec::new() };
        let far: Vec<u64> = (1..20_000).map(|i| (1_u64 << 40) + i * 1_000_003).collect();
        assert!(set.take(&far));
        let json = serde_json::to_string(&set).unwrap();
        assert!(json.len() < MAX_LIST + 64, "{}", json.len());
        assert!(set.also.len() > 1_000);
        assert_eq!(serde_json::from_str::<XidSet>(&json).unwrap(), set);
        let mut small = XidSet { h: 10, also: Vec::new() };
        assert!(!small.take(&[11, 12, 19]));
        assert_eq!(serde_json::to_string(&small).unwrap(), r#"{"h":10,"also":"11,1,7"}"#);
        assert!(serde_json::from_str::<XidSet>(r#"{"h":10,"also":"1,x"}"#).is_err());
    }
}
