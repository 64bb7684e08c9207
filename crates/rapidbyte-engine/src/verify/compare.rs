//! From digests to keys that differ, and what becomes of them when they are looked at again. No I/O here.

use super::report::{Counts, Difference, FoundKey, Verdict};
use rapidbyte_types::{KeyDigest, RangeDigest};
use std::collections::{BTreeMap, HashMap};

/// The rows of a key on one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    rows: u64,
    digest: String,
}

/// A key on both sides, as of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    key: Option<String>,
    pub(crate) source: Option<Held>,
    pub(crate) destination: Option<Held>,
}

/// Keys by their hashes.
pub(crate) type Pairs = BTreeMap<String, Pair>;

/// Ranges that are not the same on both sides, with the rows of the side that has more.
pub(crate) fn differing(source: &[RangeDigest], destination: &[RangeDigest]) -> Vec<(u32, u64)> {
    let mut sides: BTreeMap<u32, [Option<&RangeDigest>; 2]> = BTreeMap::new();
    for (side, digests) in [source, destination].into_iter().enumerate() {
        for digest in digests {
            sides.entry(digest.range).or_default()[side] = Some(digest);
        }
    }
    let rows = |one: Option<&RangeDigest>| one.map_or(0, |one| one.rows);
    sides
        .into_iter()
        .filter(|(_, [source, destination])| source != destination)
        .map(|(range, [source, destination])| (range, rows(source).max(rows(destination))))
        .collect()
}

/// Puts ranges into groups of about `each` rows, until `all` rows are reached. Says also whether that was all of them.
pub(crate) fn groups(ranges: &[(u32, u64)], each: u64, all: u64) -> (Vec<Vec<u32>>, bool) {
    let (mut groups, mut group, mut filled, mut total) = (Vec::new(), Vec::new(), 0, 0);
    for (range, rows) in ranges {
        if total >= all {
            break;
        }
        if filled > 0 && filled + rows > each {
            groups.push(std::mem::take(&mut group));
            filled = 0;
        }
        group.push(*range);
        filled += rows;
        total += rows;
    }
    if !group.is_empty() {
        groups.push(group);
    }
    let taken: usize = groups.iter().map(Vec::len).sum();
    (groups, taken == ranges.len())
}

/// The keys of both sides, as far as `wanted` says.
pub(crate) fn pairs(source: Vec<KeyDigest>, destination: Vec<KeyDigest>, wanted: impl Fn(&str, &Pair) -> bool) -> Pairs {
    let mut found: HashMap<String, Pair> = HashMap::with_capacity(source.len());
    for KeyDigest { id, key, rows, digest } in source {
        found.insert(id, Pair { key, source: Some(Held { rows, digest }), destination: None });
    }
    for KeyDigest { id, key, rows, digest } in destination {
        let pair = found.entry(id).or_insert(Pair { key: None, source: None, destination: None });
        pair.key = pair.key.take().or(key);
        pair.destination = Some(Held { rows, digest });
    }
    found.into_iter().filter(|(id, pair)| wanted(id, pair)).collect()
}

/// Whether both sides are the same.
pub(crate) fn same(pair: &Pair) -> bool {
    pair.source == pair.destination
}

/// What a second look has decided, and what is still moving.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    /// They stay different.
    pub(crate) settled: Pairs,
    /// They have changed between the looks and still differ.
    pub(crate) moving: Pairs,
    /// They wait for the next run.
    pub(crate) pending: u64,
}

/// Compares a look with the one before. `whole` has the source's rows beyond the position, for streams that have one: a key that
/// is there and was not delivered yet is no difference.
pub(crate) fn judge(before: &Pairs, now: &mut Pairs, whole: Option<&HashMap<String, Held>>) -> Judged {
    let mut judged = Judged::default();
    for (id, earlier) in before {
        let key = earlier.key.clone();
        let pair = now.remove(id).unwrap_or(Pair { key: key.clone(), source: None, destination: None });
        if same(&pair) {
            continue;
        }
        if pair.source.is_none()
            && let Some(later) = whole.and_then(|whole| whole.get(id))
        {
            if pair.destination.as_ref() != Some(later) {
                judged.pending += 1;
            }
            continue;
        }
        let stays = pair.source == earlier.source && pair.destination == earlier.destination;
        let side = if stays { &mut judged.settled } else { &mut judged.moving };
        side.insert(id.clone(), Pair { key: pair.key.or(key), ..pair });
    }
    judged
}

/// Digests of keys by their hashes.
pub(crate) fn held(keys: Vec<KeyDigest>) -> HashMap<String, Held> {
    keys.into_iter().map(|KeyDigest { id, rows, digest, .. }| (id, Held { rows, digest })).collect()
}

fn rows(side: Option<&Held>) -> u64 {
    side.map_or(0, |held| held.rows)
}

/// Adds keys to the counts, and to the list as far as it has room.
pub(crate) fn count(pairs: &Pairs, moving: bool, keyed: bool, counts: &mut Counts, keys: &mut Vec<FoundKey>, most: usize) {
    for pair in pairs.values() {
        let (source, destination) = (rows(pair.source.as_ref()), rows(pair.destination.as_ref()));
        let difference = match (&pair.source, &pair.destination) {
            _ if moving => Difference::Unsettled,
            (Some(_), None) => Difference::Missing,
            (None, Some(_)) => Difference::Extra,
            (Some(_), Some(_)) | (None, None) => Difference::Different,
        };
        match (difference, keyed) {
            (Difference::Unsettled, _) => counts.unsettled += 1,
            // Without a key each distinct row is one, and what differs is how often it is there.
            (_, false) => {
                counts.missing += source.saturating_sub(destination);
                counts.extra += destination.saturating_sub(source);
            }
            (Difference::Missing, true) => counts.missing += 1,
            (Difference::Extra, true) => counts.extra += 1,
            (Difference::Different, true) => counts.different += 1,
        }
        if let (Some(key), true) = (&pair.key, keys.len() < most) {
            keys.push(FoundKey { difference, key: key.clone(), source_rows: source, destination_rows: destination });
        }
    }
}

/// The verdict over counts.
pub(crate) fn verdict(counts: &Counts, complete: bool) -> Verdict {
    let Counts { missing, extra, different, unsettled, pending: _ } = *counts;
    match (missing + extra + different > 0, unsettled > 0 || !complete) {
        (true, _) => Verdict::Different,
        (false, true) => Verdict::Unsettled,
        (false, false) => Verdict::Equal,
    }
}

/// Whether a contract that leaves rows out may be the reason of all that differs. A key that it has left out can be there as an
/// earlier run wrote it, where rows are written over or beside those of that run: `versions` says so.
pub(crate) fn may_be_left_out(counts: &Counts, versions: bool) -> bool {
    counts.extra == 0 && (counts.different == 0 || versions) && counts.missing + counts.different > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(range: u32, rows: u64, digest: &str) -> RangeDigest {
        RangeDigest { range, rows, digest: digest.into() }
    }

    fn key(id: &str, rows: u64, digest: &str) -> KeyDigest {
        KeyDigest { id: id.into(), key: Some(format!("[\"{id}\"]")), rows, digest: digest.into() }
    }

    #[test]
    fn ranges_differ_by_rows_digest_or_absence() {
        let source = [range(0, 5, "a"), range(1, 5, "b"), range(3, 2, "d")];
        let destination = [range(0, 5, "a"), range(1, 5, "x"), range(2, 7, "c")];
        assert_eq!(differing(&source, &destination), [(1, 5), (2, 7), (3, 2)]);
    }

    #[test]
    fn groups_are_filled_and_bounded() {
        let ranges = [(0, 40), (1, 40), (2, 40), (3, 40)];
        assert_eq!(groups(&ranges, 90, 1000), (vec![vec![0, 1], vec![2, 3]], true));
        assert_eq!(groups(&ranges, 90, 100), (vec![vec![0, 1], vec![2]], false));
        assert_eq!(groups(&[(7, 5000)], 90, 100), (vec![vec![7]], true));
    }

    fn differing_pairs(source: Vec<KeyDigest>, destination: Vec<KeyDigest>) -> Pairs {
        pairs(source, destination, |_, pair| !same(pair))
    }

    #[test]
    fn what_stays_is_different_and_what_moves_is_not() {
        let before = differing_pairs(
            vec![key("same", 1, "s"), key("gone", 1, "g"), key("changed", 1, "c1"), key("stays", 1, "x"), key("mended", 1, "m")],
            vec![key("same", 1, "s"), key("extra", 1, "e"), key("changed", 1, "c0"), key("stays", 1, "y"), key("mended", 1, "n")],
        );
        assert_eq!(before.len(), 5);
        let mut now = pairs(
            vec![key("gone", 1, "g"), key("changed", 1, "c2"), key("stays", 1, "x"), key("mended", 1, "n")],
            vec![key("extra", 1, "e"), key("changed", 1, "c0"), key("stays", 1, "y"), key("mended", 1, "n")],
            |id, _| before.contains_key(id),
        );
        let judged = judge(&before, &mut now, None);
        assert_eq!(judged.settled.keys().collect::<Vec<_>>(), ["extra", "gone", "stays"]);
        assert_eq!(judged.moving.keys().collect::<Vec<_>>(), ["changed"]);
        let (mut counts, mut keys) = (Counts::default(), Vec::new());
        count(&judged.settled, false, true, &mut counts, &mut keys, 2);
        assert_eq!((counts.missing, counts.extra, counts.different, keys.len()), (1, 1, 1, 2));
        assert_eq!(verdict(&counts, true), Verdict::Different);
        let mut counts = Counts::default();
        count(&judged.moving, true, true, &mut counts, &mut keys, 2);
        assert_eq!((counts.unsettled, verdict(&counts, true)), (1, Verdict::Unsettled));
    }

    #[test]
    fn keys_that_lie_beyond_the_position_wait() {
        let before = differing_pairs(vec![], vec![key("later", 1, "old"), key("deleted", 1, "d")]);
        let mut now = before.clone();
        let judged = judge(&before, &mut now, Some(&held(vec![key("later", 1, "new")])));
        assert_eq!((judged.pending, judged.settled.keys().collect::<Vec<_>>()), (1, vec![&"deleted".to_owned()]));
    }

    #[test]
    fn rows_without_a_key_are_counted_by_how_often_they_are_there() {
        let found = differing_pairs(vec![key("a", 3, "a3"), key("b", 1, "b1")], vec![key("a", 1, "a1"), key("b", 4, "b4")]);
        let (mut counts, mut keys) = (Counts::default(), Vec::new());
        count(&found, false, false, &mut counts, &mut keys, 0);
        assert_eq!((counts.missing, counts.extra, counts.different), (2, 3, 0));
    }

    #[test]
    fn rows_left_out_are_missing_or_of_an_earlier_run() {
        let counts = |missing, extra, different| Counts { missing, extra, different, ..Counts::default() };
        for (found, replaced, merged) in [
            (counts(1, 0, 0), true, true),
            (counts(0, 0, 1), false, true),
            (counts(1, 0, 1), false, true),
            (counts(1, 1, 0), false, false),
            (counts(0, 1, 0), false, false),
            (counts(0, 0, 0), false, false),
        ] {
            assert_eq!((may_be_left_out(&found, false), may_be_left_out(&found, true)), (replaced, merged), "{found:?}");
        }
    }

    #[test]
    fn what_was_not_looked_at_is_not_settled() {
        assert_eq!(verdict(&Counts::default(), true), Verdict::Equal);
        assert_eq!(verdict(&Counts::default(), false), Verdict::Unsettled);
        assert_eq!(verdict(&Counts { missing: 1, ..Counts::default() }, false), Verdict::Different);
        assert_eq!(verdict(&Counts { pending: 9, ..Counts::default() }, true), Verdict::Equal);
    }
}
