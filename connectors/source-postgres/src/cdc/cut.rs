//! Where the initial load ends and the changes begin, transaction by transaction.
//!
//! The load's snapshot names the transactions it sees; a transaction of the log is left out exactly if the snapshot saw it. Whatever
//! it saw was in the log before it looked, so behind that place nothing needs to be asked, and ids of 32 bits suffice.

use super::lsn::Lsn;
use std::fmt;
use std::str::FromStr;

/// The snapshot of a load, seen from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The log's end before the snapshot was taken: what the snapshot does not see has its commit record beyond.
    pub(crate) low: Lsn,
    /// The log's end after it was taken: what it sees has its commit record before.
    pub(crate) high: Lsn,
    /// The first id that was still to be given.
    next: u64,
    /// Ids below `next` in flight then, ascending.
    in_flight: Vec<u64>,
    /// As the server wrote it.
    text: String,
}

/// A text that is no cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotACut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.low, self.high, self.text)
    }
}

impl FromStr for Cut {
    type Err = NotACut;

    fn from_str(text: &str) -> Result<Self, NotACut> {
        let mut parts = text.splitn(3, ':');
        let mut place = || parts.next().and_then(|part| part.parse::<Lsn>().ok()).ok_or(NotACut);
        let (low, high) = (place()?, place()?);
        Self::new(low, high, parts.next().ok_or(NotACut)?)
    }
}

impl Cut {
    /// `snapshot` is what `txid_current_snapshot()` says (`pg_current_snapshot()` came with version 13): `xmin:xmax:xip,xip,…`.
    pub(crate) fn new(low: Lsn, high: Lsn, snapshot: &str) -> Result<Self, NotACut> {
        let mut parts = snapshot.split(':');
        let (Some(_), Some(next), Some(list), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(NotACut);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NotACut);
        let mut in_flight: Vec<u64> = list.split(',').filter(|id| !id.is_empty()).map(number).collect::<Result<_, _>>()?;
        in_flight.sort_unstable();
        Ok(Self { low, high, next: number(next)?, in_flight, text: snapshot.to_owned() })
    }

    /// Whether the load has seen a transaction, so that its changes are left out.
    pub(crate) fn has_seen(&self, commit: Lsn, xid: u32) -> bool {
        if commit >= self.high {
            return false;
        }
        // The id closest to the snapshot's own: transactions committed before it began less than 2^31 ids before it.
        let behind = (self.next as u32).wrapping_sub(xid).cast_signed();
        let full = self.next.wrapping_sub_signed(i64::from(behind));
        full < self.next && self.in_flight.binary_search(&full).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(snapshot: &str) -> Cut {
        Cut::new(Lsn(100), Lsn(200), snapshot).unwrap()
    }

    #[test]
    fn only_what_was_committed_then_is_seen() {
        let cut = cut("730:740:731,735");
        for (commit, xid, seen) in [
            (150, 729, true),
            (150, 730, true),
            (150, 731, false),
            (150, 735, false),
            (150, 739, true),
            (150, 740, false),
            (150, 900, false),
            (200, 729, false),
        ] {
            assert_eq!(cut.has_seen(Lsn(commit), xid), seen, "{xid} at {commit}");
        }
    }

    #[test]
    fn ids_are_told_apart_across_their_wrap() {
        let next = (3_u64 << 32) + 5;
        let cut = cut(&format!("{}:{next}:{}", next - 20, next - 10));
        assert!(cut.has_seen(Lsn(1), 4) && cut.has_seen(Lsn(1), u32::MAX) && !cut.has_seen(Lsn(1), 5));
        assert!(!cut.has_seen(Lsn(1), (next - 10) as u32));
        // Long after: the same bits, another transaction.
        assert!(!cut.has_seen(Lsn(201), 4));
    }

    #[test]
    fn cuts_read_back() {
        let cut = cut("730:740:731,735");
        assert_eq!(cut.to_string().parse(), Ok(cut.clone()));
        for text in ["", "0/1:0/2", "0/1:0/2:1:2", "0/1:x:1:2:", "0/1:0/2:1:2:x", "0/1:0/2:1:2:3:4"] {
            assert_eq!(text.parse::<Cut>(), Err(NotACut), "{text}");
        }
    }
}
