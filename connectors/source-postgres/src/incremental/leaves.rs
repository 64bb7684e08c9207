//! The partitions that hold a table's rows, and the files these lie in.

use crate::catalog::Relation;
use postgres_wire::Connection;
use rapidbyte_sdk::ConnectorError;
use serde::{Deserialize, Serialize};

/// More partitions than that are not named in a position: it has 64 KiB for everything.
const MAX_NAMED: usize = 250;

/// The partitions of a table at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leaves {
    /// Of all of them with their files: FNV-1a.
    digest: u64,
    /// Their OIDs, ascending, each with its file; none where they are too many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Vec<(u32, u32)>>,
}

impl Leaves {
    /// Asks within the transaction that reads, whose lock keeps the files; nothing for a table that holds its rows itself.
    pub(crate) fn ask(connection: &mut Connection, relation: &Relation) -> Result<Option<Self>, ConnectorError> {
        if relation.kind != 'p' {
            return Ok(None);
        }
        let rows = connection.query(&format!(
            "SELECT l.relid::pg_catalog.oid, pg_catalog.pg_relation_filenode(l.relid) FROM pg_catalog.pg_partition_tree({}) AS l
             WHERE l.isleaf ORDER BY 1",
            relation.oid
        ))?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            all.push((row.parse::<u32>(0)?.unwrap_or_default(), row.parse::<u32>(1)?.unwrap_or_default()));
        }
        Ok(Some(Self::of(&all)))
    }

    fn of(all: &[(u32, u32)]) -> Self {
        let bytes = all.iter().flat_map(|(oid, file)| [oid.to_be_bytes(), file.to_be_bytes()].concat());
        let digest = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { digest, files: (all.len() <= MAX_NAMED).then(|| all.to_vec()) }
    }

    /// Whether a partition that is still there lies in another file now. Those that came or went tell nothing of a rewrite; where they are
    /// not named, any difference may be one.
    pub(crate) fn rewritten(&self, now: &Self) -> bool {
        match (&self.files, &now.files) {
            (Some(then), Some(now)) => {
                then.iter().any(|(oid, file)| now.binary_search_by_key(oid, |(oid, _)| *oid).is_ok_and(|at| now[at].1 != *file))
            }
            _ => self.digest != now.digest,
        }
    }

    /// The rows of these partitions, as SQL; nothing where they are not named.
    pub(crate) fn rows(&self) -> Option<String> {
        let oids: Vec<String> = self.files.as_ref()?.iter().map(|(oid, _)| oid.to_string()).collect();
        Some(format!("tableoid = ANY ('{{{}}}'::pg_catalog.oid[])", oids.join(",")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_while_there_is_room() {
        let all: Vec<(u32, u32)> = (0..=MAX_NAMED as u32).map(|i| (u32::MAX - 1000 + i, u32::MAX - i)).collect();
        let named = Leaves::of(&all[..MAX_NAMED]);
        let text = serde_json::to_string(&named).unwrap();
        assert!(text.len() < 6 << 10, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Leaves>(&text).unwrap(), named);
        let unnamed = Leaves::of(&all);
        assert_eq!(unnamed.rows(), None);
        assert_eq!(serde_json::from_str::<Leaves>(&serde_json::to_string(&unnamed).unwrap()).unwrap(), unnamed);
        assert_eq!(Leaves::of(&[(7, 7), (9, 10)]).rows().as_deref(), Some("tableoid = ANY ('{7,9}'::pg_catalog.oid[])"));
        assert_ne!(Leaves::of(&[(7, 7), (9, 10)]), Leaves::of(&[(7, 10), (9, 7)]));
    }

    #[test]
    fn only_a_partition_that_stayed_is_written_anew() {
        let then = Leaves::of(&[(7, 7), (9, 10)]);
        for (now, rewritten) in [
            (&[(7, 7), (9, 10)][..], false),
            (&[(7, 7), (9, 10), (11, 11)], false),
            (&[(9, 10), (11, 11)], false),
            (&[], false),
            (&[(7, 7), (9, 12)], true),
            (&[(5, 5), (7, 8)], true),
        ] {
            assert_eq!(then.rewritten(&Leaves::of(now)), rewritten, "{now:?}");
        }
        let many: Vec<(u32, u32)> = (0..=MAX_NAMED as u32).map(|i| (i, i)).collect();
        assert!(!Leaves::of(&many).rewritten(&Leaves::of(&many)));
        assert!(Leaves::of(&many).rewritten(&Leaves::of(&many[1..])));
    }
}
