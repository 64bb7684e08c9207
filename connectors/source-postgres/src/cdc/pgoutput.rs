//! Messages of the plugin `pgoutput`, protocol 1: parsed in place, every length checked before it is believed.
//!
//! Transactions in progress (protocol 2) and prepared ones (protocol 3) come only where they are asked for, and are not: rows of
//! a transaction that may still be rolled back could not be handed on, and would have to be kept here. The server keeps them on
//! its disk instead. Such messages are refused by name.

use super::lsn::Lsn;

/// Columns of a table, at most: the server allows 1,600.
const MAX_COLUMNS: usize = 1_664;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

fn malformed<T>(what: &str) -> Result<T, Malformed> {
    Err(Malformed(what.to_owned()))
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message<'a> {
    /// A transaction begins; all of it follows.
    Begin {
        /// Where its commit record begins.
        commit: Lsn,
        /// Microseconds since 2000.
        commit_time: i64,
        xid: u32,
    },
    /// It has ended.
    Commit {
        /// Where its commit record ends.
        end: Lsn,
    },
    /// A table as the rows that follow have it; again after every change.
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        /// The old key where it was changed, or the whole old row under REPLICA IDENTITY FULL.
        old: Option<Tuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: Tuple<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// Nothing that concerns rows: origins, names of types, messages of applications.
    Other,
}

/// A table as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) oid: u32,
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<RelationColumn>,
}

/// Its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub(crate) identity: bool,
    pub(crate) name: String,
    /// `pg_attribute.atttypid`: a domain's own.
    pub(crate) type_oid: u32,
    pub(crate) typmod: i32,
}

/// The values of a row, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple<'a> {
    count: usize,
    bytes: &'a [u8],
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Null,
    /// A large value that the update left alone; it is not sent.
    Unchanged,
    Text(&'a [u8]),
    /// Its send form.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// The values, in the order of the relation's columns.
    pub(crate) fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        let mut rest = Reader { bytes: self.bytes };
        // Parsed once already: nothing can be missing here.
        (0..self.count).map_while(move |_| rest.cell().ok())
    }
}

/// Takes bytes off the front.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else { return malformed("it is shorter than its contents") };
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return malformed("it is shorter than its contents");
        };
        self.bytes = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let Some(end) = self.bytes.iter().position(|byte| *byte == 0) else { return malformed("a name does not end") };
        let taken = self.take(end + 1)?;
        std::str::from_utf8(&taken[..end]).or_else(|_| malformed("a name is not valid UTF-8"))
    }

    fn cell(&mut self) -> Result<Cell<'a>, Malformed> {
        Ok(match self.u8()? {
            b'n' => Cell::Null,
            b'u' => Cell::Unchanged,
            kind @ (b't' | b'b') => {
                let length = self.u32()? as usize;
                let value = self.take(length)?;
                if kind == b't' { Cell::Text(value) } else { Cell::Binary(value) }
            }
            other => return malformed(&format!("a value of unknown kind {:?}", char::from(other))),
        })
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        let count = usize::from(self.u16()?);
        if count > MAX_COLUMNS {
            return malformed("a row has more columns than a table can have");
        }
        let bytes = self.bytes;
        for _ in 0..count {
            self.cell()?;
        }
        Ok(Tuple { count, bytes: &bytes[..bytes.len() - self.bytes.len()] })
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let oid = self.u32()?;
        // The server leaves the name of `pg_catalog` out.
        let schema = match self.text()? {
            "" => "pg_catalog",
            schema => schema,
        };
        let (schema, name) = (schema.to_owned(), self.text()?.to_owned());
        // The replica identity's kind: what of it counts is which columns are flagged, and what comes with the rows.
        self.u8()?;
        let count = usize::from(self.u16()?);
        if count > MAX_COLUMNS {
            return malformed("a relation has more columns than a table can have");
        }
        let mut columns = Vec::with_capacity(count);
        for _ in 0..count {
            let identity = self.u8()? & 1 == 1;
            let name = self.text()?.to_owned();
            let (type_oid, typmod) = (self.u32()?, self.u32()?.cast_signed());
            columns.push(RelationColumn { identity, name, type_oid, typmod });
        }
        Ok(Relation { oid, schema, name, columns })
    }
}

/// The relation whose rows a message carries, from the message's first bytes: for errors about messages that were not read whole.
pub(crate) fn relation_of(head: &[u8]) -> Option<u32> {
    match head {
        [b'I' | b'U' | b'D', rest @ ..] => Some(u32::from_be_bytes(*rest.first_chunk()?)),
        _ => None,
    }
}

/// Parses one message, which must be all of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader { bytes };
    let kind = reader.u8()?;
    let message = match kind {
        b'B' => {
            let (commit, commit_time) = (Lsn(reader.u64()?), reader.u64()?.cast_signed());
            Message::Begin { commit, commit_time, xid: reader.u32()? }
        }
        b'C' => {
            reader.array::<9>()?;
            let end = Lsn(reader.u64()?);
            reader.u64()?;
            Message::Commit { end }
        }
        b'R' => Message::Relation(reader.relation()?),
        b'I' => {
            let relation = reader.u32()?;
            match reader.u8()? {
                b'N' => Message::Insert { relation, new: reader.tuple()? },
                _ => return malformed("an insert without its row"),
            }
        }
        b'U' => {
            let relation = reader.u32()?;
            let mut part = reader.u8()?;
            let mut old = None;
            if matches!(part, b'K' | b'O') {
                old = Some(reader.tuple()?);
                part = reader.u8()?;
            }
            match part {
                b'N' => Message::Update { relation, old, new: reader.tuple()? },
                _ => return malformed("an update without its row"),
            }
        }
        b'D' => {
            let relation = reader.u32()?;
            match reader.u8()? {
                b'K' | b'O' => Message::Delete { relation, old: reader.tuple()? },
                _ => return malformed("a delete without its key"),
            }
        }
        b'T' => {
            let count = reader.u32()? as usize;
            reader.u8()?;
            let (ids, []) = reader.bytes.as_chunks::<4>() else { return malformed("a truncate's tables don't match their count") };
            if ids.len() != count {
                return malformed("a truncate's tables don't match their count");
            }
            reader.bytes = &[];
            Message::Truncate { relations: ids.iter().map(|id| u32::from_be_bytes(*id)).collect() }
        }
        b'O' | b'Y' | b'M' => return Ok(Message::Other),
        b'S' | b'E' | b'c' | b'A' => return malformed("a transaction in progress, which was not asked for"),
        b'b' | b'P' | b'K' | b'r' | b'p' => return malformed("a prepared transaction, which was not asked for"),
        other => return malformed(&format!("unknown type {:?}", char::from(other))),
    };
    if reader.bytes.is_empty() { Ok(message) } else { malformed("it is longer than its contents") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from PostgreSQL 15: a table `t (id int primary key, v text)`, then an update of the key and a truncate.
    fn captured() -> Vec<Vec<u8>> {
        let mut relation = b"R\0\0\x40\x01public\0t\0d\0\x02".to_vec();
        relation.extend_from_slice(b"\x01id\0\0\0\0\x17\xff\xff\xff\xff");
        relation.extend_from_slice(b"\x00v\0\0\0\0\x19\xff\xff\xff\xff");
        vec![
            b"B\0\0\0\0\x01\x52\xd3\x90\0\x02\xa1\xb2\xc3\xd4\xe5\xf6\0\0\x02\xdf".to_vec(),
            relation,
            b"I\0\0\x40\x01N\0\x02b\0\0\0\x04\0\0\0\x01t\0\0\0\x01a".to_vec(),
            b"U\0\0\x40\x01K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x012u".to_vec(),
            b"U\0\0\x40\x01N\0\x02t\0\0\0\x012n".to_vec(),
            b"D\0\0\x40\x01K\0\x02t\0\0\0\x012n".to_vec(),
            b"T\0\0\0\x02\0\0\0\x40\x01\0\0\x40\x07".to_vec(),
            b"C\0\0\0\0\0\x01\x52\xd3\x90\0\0\0\0\x01\x52\xd3\xc0\0\x02\xa1\xb2\xc3\xd4\xe5\xf6".to_vec(),
        ]
    }

    #[test]
    fn messages_say_what_happened() {
        let all = captured();
        let parsed: Vec<Message<'_>> = all.iter().map(|bytes| parse(bytes).unwrap()).collect();
        assert!(matches!(parsed[0], Message::Begin { commit: Lsn(0x152_d390), xid: 735, .. }));
        let Message::Relation(relation) = &parsed[1] else { panic!("{:?}", parsed[1]) };
        assert_eq!((relation.oid, relation.schema.as_str(), relation.name.as_str()), (0x4001, "public", "t"));
        let id = RelationColumn { identity: true, name: "id".into(), type_oid: 23, typmod: -1 };
        assert_eq!((&relation.columns[0], relation.columns[1].identity), (&id, false));
        let cells = |tuple: &Tuple<'static>| tuple.cells().collect::<Vec<_>>();
        let Message::Insert { new, .. } = parse(b"I\0\0\x40\x01N\0\x02b\0\0\0\x04\0\0\0\x01t\0\0\0\x01a").unwrap() else {
            panic!()
        };
        assert_eq!(cells(&new), [Cell::Binary(&[0, 0, 0, 1]), Cell::Text(b"a")]);
        let Message::Update { old: Some(old), new, .. } = parsed[3].clone() else { panic!("{:?}", parsed[3]) };
        assert_eq!(old.cells().collect::<Vec<_>>(), [Cell::Text(b"1"), Cell::Null]);
        assert_eq!(new.cells().collect::<Vec<_>>(), [Cell::Text(b"2"), Cell::Unchanged]);
        assert!(matches!(parsed[4], Message::Update { old: None, .. }));
        assert!(matches!(parsed[5], Message::Delete { relation: 0x4001, .. }));
        assert_eq!(parsed[6], Message::Truncate { relations: vec![0x4001, 0x4007] });
        assert_eq!(parsed[7], Message::Commit { end: Lsn(0x152_d3c0) });
        assert_eq!(relation_of(&all[5][..5]), Some(0x4001));
        assert_eq!(relation_of(b"B\0\0\0\0"), None);
    }

    #[test]
    fn messages_cut_or_lengthened_are_refused() {
        for whole in captured() {
            for length in 0..whole.len() {
                assert!(parse(&whole[..length]).is_err(), "{:?} cut at {length}", char::from(whole[0]));
            }
            let longer = [whole.as_slice(), b"n"].concat();
            assert!(parse(&longer).is_err(), "{:?} with a byte more", char::from(whole[0]));
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused_by_name() {
        for (kind, word) in [(b'S', "in progress"), (b'b', "prepared"), (b'x', "unknown type 'x'")] {
            assert!(parse(&[kind, 0, 0]).unwrap_err().0.contains(word));
        }
    }

    /// Bytes changed at random, seeded: nothing panics, and nothing is believed that is not there.
    #[test]
    fn hostile_bytes_never_panic() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 11).unwrap_or(0) % below
        };
        let all = captured();
        let mut taken = 0;
        for _ in 0..200_000 {
            let mut bytes = all[random(all.len())].clone();
            for _ in 0..=random(4) {
                match random(3) {
                    0 => {
                        let at = random(bytes.len());
                        bytes[at] = random(256) as u8;
                    }
                    1 => bytes.truncate(1 + random(bytes.len())),
                    _ => bytes.extend((0..random(8)).map(|at| at as u8)),
                }
            }
            if let Ok(Message::Insert { new, .. } | Message::Update { new, .. }) = parse(&bytes) {
                taken += 1;
                assert_eq!(new.cells().count(), new.count);
                let held: usize = new
                    .cells()
                    .map(|cell| match cell {
                        Cell::Text(value) | Cell::Binary(value) => value.len() + 5,
                        Cell::Null | Cell::Unchanged => 1,
                    })
                    .sum();
                assert!(held < bytes.len());
            }
        }
        assert!(taken > 1_000, "the property was looked at {taken} times");
    }
}
