//! What is to be done for a stream, from what the destination says and what the state store noted. No I/O here.
//!
//! Source: `docs/design/protocol.md`, §5.

use rapidbyte_types::{CursorType, Generation, Position, Receipt, StreamContext, SyncMode};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Partition ids that belong to the host.
pub(crate) const RESERVED_PREFIX: &str = "_rb_";

/// The partition of a stream's changes, beside those of its load.
pub(crate) const CHANGES: &str = "_rb_changes";

/// What the claim returned for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) epoch: u64,
    pub(crate) newest_generation: u64,
    pub(crate) generation: Option<Generation>,
    pub(crate) receipts: Vec<Receipt>,
    /// Where a person finds the rows.
    pub(crate) location: String,
}

/// What the state store noted last for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) generation: u64,
    pub(crate) open: bool,
    /// Made in the way the pipeline says now.
    pub(crate) same_way: bool,
}

/// How a full refresh begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// The load was published and its end not recorded.
    RecordEnd { generation: u64 },
    /// Every partition is durable.
    Publish { generation: u64 },
    /// Ask the source, which may go on with `pinned`.
    Plan { pinned: Option<Generation>, next: u64 },
}

/// A stream that is to begin anew, as if its open load had never been: the next generation takes its place.
pub(crate) fn given_up(claimed: Claimed, noted: Option<Noted>) -> (Claimed, Option<Noted>) {
    let open = claimed.generation.map_or(0, |open| open.number);
    let claimed = Claimed {
        epoch: claimed.epoch,
        newest_generation: claimed.newest_generation.max(open),
        generation: None,
        receipts: Vec::new(),
        location: claimed.location,
    };
    (claimed, noted.map(|noted| Noted { open: false, ..noted }))
}

/// The table of protocol.md §5, for full refreshes.
pub(crate) fn start(claimed: &Claimed, noted: Option<Noted>, fingerprint: &Fingerprint) -> Start {
    let next = claimed.newest_generation.max(noted.map_or(0, |noted| noted.generation)) + 1;
    let Some(open) = &claimed.generation else {
        return match noted {
            Some(Noted { generation, open: true, same_way: true }) if generation == claimed.newest_generation && generation > 0 => {
                Start::RecordEnd { generation }
            }
            _ => Start::Plan { pinned: None, next },
        };
    };
    let complete = |id: &str| claimed.receipts.iter().any(|r| r.generation == open.number && r.partition == id && r.last);
    if !open.partitions.is_empty() && open.partitions.iter().all(|partition| complete(&partition.id)) {
        // A complete load is published as it is, unless it was made in another way than the pipeline now says.
        return match fingerprint.strip(&open.snapshot) {
            Some(_) => Start::Publish { generation: open.number },
            None => Start::Plan { pinned: None, next },
        };
    }
    let pinned = fingerprint.strip(&open.snapshot).map(|snapshot| Generation { snapshot: snapshot.to_owned(), ..open.clone() });
    Start::Plan { pinned, next }
}

/// Whether another run has published a load since this one claimed the stream first, when `before` was the newest generation.
/// An attempt that comes back after that would be a second load of rows that are there already.
pub(crate) fn loaded_by_another(claimed: &Claimed, before: u64, noted: Option<Noted>) -> bool {
    // Ours are noted before they are published.
    let ours = noted.map_or(0, |noted| noted.generation);
    claimed.generation.is_none() && claimed.newest_generation > before.max(ours)
}

/// What stands before the snapshot's name of an open-ended load. Fingerprints begin with a digit or letter.
const OPEN_ENDED: &str = "~";

/// Why a stream's load can't be gone on with in the way the pipeline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// The open generation is an incremental one, the pipeline asks for a full refresh.
    Incremental,
    /// Write mode, key, columns, filter or target are other ones.
    OtherWay,
}

/// How an open-ended load is gone on with, or begins: what the source may go on with, and the number of a new generation.
/// An unfinished full refresh gives way, as nothing of it is visible; an open-ended load never does.
pub(crate) fn start_open_ended(
    claimed: &Claimed,
    noted: Option<Noted>,
    print: &OpenPrint,
) -> Result<(Option<Generation>, u64), Stuck> {
    let next = claimed.newest_generation.max(noted.map_or(0, |noted| noted.generation)) + 1;
    match &claimed.generation {
        Some(open) if open.snapshot.starts_with(OPEN_ENDED) => match print.strip(&open.snapshot) {
            Some(snapshot) => {
                Ok((Some(Generation { snapshot: snapshot.to_owned(), partitions: of_the_source(open), ..open.clone() }), next))
            }
            None => Err(Stuck::OtherWay),
        },
        _ => Ok((None, next)),
    }
}

/// How a stream of changes begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangesStart {
    /// What the source may go on with.
    pub(crate) pinned: Option<Generation>,
    /// The number of another load.
    pub(crate) next: u64,
    /// Every planned partition has its last receipt: only changes are to be read.
    pub(crate) loaded: bool,
}

/// How the load of a stream of changes is gone on with, or begins. One that was begun in another way gives way while it is not
/// complete, as nothing of it is visible.
pub(crate) fn start_changes(claimed: &Claimed, noted: Option<Noted>, print: &OpenPrint) -> Result<ChangesStart, Stuck> {
    let next = claimed.newest_generation.max(noted.map_or(0, |noted| noted.generation)) + 1;
    let anew = ChangesStart { pinned: None, next, loaded: false };
    let Some(open) = claimed.generation.as_ref().filter(|open| is_open_ended(open)) else { return Ok(anew) };
    let partitions = of_the_source(open);
    let complete = |id: &str| claimed.receipts.iter().any(|r| r.generation == open.number && r.partition == id && r.last);
    let loaded = !partitions.is_empty() && partitions.iter().all(|partition| complete(&partition.id));
    match print.strip(&open.snapshot) {
        Some(snapshot) => {
            let pinned = Generation { number: open.number, snapshot: snapshot.to_owned(), partitions };
            Ok(ChangesStart { pinned: Some(pinned), next, loaded })
        }
        // Incremental loads have no last receipts, and their rows are visible.
        None if loaded || claimed.receipts.iter().any(|r| r.generation == open.number && !r.last) => Err(Stuck::OtherWay),
        None => Ok(anew),
    }
}

/// Where the changes of several streams are gone on from: the least of what their receipts say. A stream without a receipt for
/// changes stands where its load says that changes begin; `None` if no stream has one.
///
/// # Errors
/// The positions' type, if they can't be compared.
pub(crate) fn least_position<'a>(receipts: impl Iterator<Item = (&'a [Receipt], u64)>) -> Result<Option<Position>, CursorType> {
    let mut least: Option<Position> = None;
    let mut begun = false;
    for (receipts, generation) in receipts {
        let changes = newest_receipt(receipts, generation, CHANGES);
        begun |= changes.is_some();
        let load = || receipts.iter().find(|r| r.generation == generation && r.last && r.position.is_some());
        let Some(position) = changes.or_else(load).and_then(|receipt| receipt.position.as_ref()) else { continue };
        least = match least {
            Some(known) if known == *position => Some(known),
            Some(known) => {
                let (a, b) = known.lsn().zip(position.lsn()).ok_or(position.kind)?;
                Some(if a <= b { known } else { position.clone() })
            }
            None => Some(position.clone()),
        };
    }
    Ok(least.filter(|_| begun))
}

/// Partitions that the source has planned: those of replays are the host's own.
fn of_the_source(generation: &Generation) -> Vec<rapidbyte_types::Partition> {
    generation.partitions.iter().filter(|partition| !partition.id.starts_with(RESERVED_PREFIX)).cloned().collect()
}

/// Whether an open generation is open-ended.
pub(crate) fn is_open_ended(generation: &Generation) -> bool {
    generation.snapshot.starts_with(OPEN_ENDED)
}

/// Names what must not change while an open-ended load goes on: where rows go, how, and which columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenPrint(String);

impl OpenPrint {
    pub(crate) fn new(stream: &StreamContext) -> Self {
        // No connector has a part in it: a new version of a transform is no reason to load everything again.
        let mut keyed = vec![("key".to_owned(), stream.primary_key.join("\u{0}"))];
        if stream.sync_mode == SyncMode::Cdc {
            keyed.push(("sync_mode".to_owned(), stream.sync_mode.as_str().to_owned()));
        }
        Self(format!("{OPEN_ENDED}{}/", Fingerprint::new(stream, &keyed).0))
    }

    /// The name under which the destination keeps the generation.
    pub(crate) fn stamp(&self, snapshot: &str) -> String {
        format!("{}{snapshot}", self.0)
    }

    fn strip<'a>(&self, stamped: &'a str) -> Option<&'a str> {
        stamped.strip_prefix(&self.0)
    }
}

/// The newest receipt of each partition of a generation.
pub(crate) fn newest_receipt<'a>(receipts: &'a [Receipt], generation: u64, partition: &str) -> Option<&'a Receipt> {
    receipts.iter().filter(|r| r.generation == generation && r.partition == partition).max_by_key(|r| r.seq)
}

/// Names how rows are made and where they go: the connectors' configuration, and the columns. Put in front of a snapshot's name,
/// it keeps a resume from mixing rows that were made in two ways, and from publishing what the pipeline no longer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(String);

impl Fingerprint {
    /// `made_by` are checksum and configuration of each connector that has a part in the rows. Secrets may be among them: only a
    /// digest is kept.
    pub(crate) fn new(stream: &StreamContext, made_by: &[(String, String)]) -> Self {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        for (checksum, config) in made_by {
            part(checksum);
            part(config);
        }
        part("columns");
        for column in stream.selected_columns.iter().flatten() {
            part(column);
        }
        if let Some(filter) = &stream.filter {
            part("filter");
            part(filter);
        }
        part(stream.write_mode.as_str());
        part(&stream.target.to_string());
        let mut text = String::with_capacity(16);
        for byte in hash.finalize().iter().take(8) {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The name under which the destination keeps the generation.
    pub(crate) fn stamp(&self, snapshot: &str) -> String {
        format!("{}/{snapshot}", self.0)
    }

    /// The source's own name, if the generation was made in this way.
    pub(crate) fn strip<'a>(&self, stamped: &'a str) -> Option<&'a str> {
        stamped.strip_prefix(&self.0)?.strip_prefix('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_types::{Partition, StreamName};

    fn print() -> Fingerprint {
        Fingerprint::new(&StreamContext::full_refresh(StreamName::new("s")), &[])
    }

    fn generation(number: u64, snapshot: &str) -> Generation {
        let partition = |id: &str| Partition { id: id.into(), spec: Vec::new() };
        Generation { number, snapshot: print().stamp(snapshot), partitions: vec![partition("0"), partition("1")] }
    }

    fn receipt(partition: &str, seq: u64, last: bool) -> Receipt {
        Receipt {
            stream: 0,
            generation: 3,
            partition: partition.into(),
            epoch: 1,
            seq,
            position: None,
            rows: 1,
            bytes: 1,
            last,
            transform_state: Vec::new(),
            committed_at_ms: 1,
        }
    }

    fn claimed(newest: u64, generation: Option<Generation>, receipts: Vec<Receipt>) -> Claimed {
        Claimed { epoch: 9, newest_generation: newest, generation, receipts, location: "here".into() }
    }

    #[test]
    fn a_first_run_plans_generation_one() {
        assert_eq!(start(&claimed(0, None, vec![]), None, &print()), Start::Plan { pinned: None, next: 1 });
    }

    #[test]
    fn a_new_run_plans_the_next_generation() {
        let noted = Some(Noted { generation: 3, open: false, same_way: true });
        assert_eq!(start(&claimed(3, None, vec![]), noted, &print()), Start::Plan { pinned: None, next: 4 });
    }

    #[test]
    fn a_published_load_whose_end_was_not_recorded_is_recorded_and_not_loaded_again() {
        let noted = Some(Noted { generation: 3, open: true, same_way: true });
        assert_eq!(start(&claimed(3, None, vec![]), noted, &print()), Start::RecordEnd { generation: 3 });
    }

    #[test]
    fn a_published_load_made_in_another_way_is_not_this_one() {
        let noted = Some(Noted { generation: 3, open: true, same_way: false });
        assert_eq!(start(&claimed(3, None, vec![]), noted, &print()), Start::Plan { pinned: None, next: 4 });
    }

    #[test]
    fn a_note_older_than_the_destination_means_a_new_load() {
        let noted = Some(Noted { generation: 2, open: true, same_way: true });
        assert_eq!(start(&claimed(3, None, vec![]), noted, &print()), Start::Plan { pinned: None, next: 4 });
    }

    #[test]
    fn a_complete_load_is_published_without_asking_the_source() {
        let receipts = vec![receipt("0", 4, true), receipt("1", 2, true)];
        assert_eq!(start(&claimed(3, Some(generation(3, "a")), receipts), None, &print()), Start::Publish { generation: 3 });
    }

    #[test]
    fn an_unfinished_load_is_offered_to_the_source_under_its_own_name() {
        let receipts = vec![receipt("0", 4, true), receipt("1", 2, false)];
        let Start::Plan { pinned: Some(pinned), next: 4 } = start(&claimed(3, Some(generation(3, "a")), receipts), None, &print())
        else {
            panic!("expected a plan with the open generation pinned");
        };
        assert_eq!((pinned.number, pinned.snapshot.as_str()), (3, "a"));
    }

    #[test]
    fn a_load_made_in_another_way_is_not_gone_on_with() {
        let mut stream = StreamContext::full_refresh(StreamName::new("s"));
        stream.selected_columns = Some(vec!["id".into()]);
        let other = Fingerprint::new(&stream, &[]);
        let receipts = vec![receipt("0", 4, true), receipt("1", 2, true)];
        assert_eq!(start(&claimed(3, Some(generation(3, "a")), receipts), None, &other), Start::Plan { pinned: None, next: 4 });
        let masked = Fingerprint::new(&StreamContext::full_refresh(StreamName::new("s")), &[("sha".into(), "{}".into())]);
        assert_eq!(masked.strip(&print().stamp("a")), None);
    }

    #[test]
    fn an_open_ended_load_is_gone_on_with_and_never_discarded() {
        let mut stream = StreamContext::full_refresh(StreamName::new("s"));
        stream.sync_mode = rapidbyte_types::SyncMode::Incremental;
        let print = OpenPrint::new(&stream);
        assert_eq!(start_open_ended(&claimed(0, None, vec![]), None, &print), Ok((None, 1)));
        // The source never sees the partitions of replays.
        let partition = |id: &str| Partition { id: id.into(), spec: Vec::new() };
        let open =
            Generation { number: 1, snapshot: print.stamp("a"), partitions: vec![partition("0"), partition("_rb_replay:u")] };
        let (pinned, _) = start_open_ended(&claimed(1, Some(open), vec![]), None, &print).unwrap();
        assert_eq!(pinned.unwrap().partitions, vec![partition("0")]);
        let open = Generation { number: 3, snapshot: print.stamp("a"), partitions: Vec::new() };
        assert!(is_open_ended(&open));
        let (pinned, next) = start_open_ended(&claimed(3, Some(open.clone()), vec![]), None, &print).expect("the same way");
        assert_eq!((pinned.expect("gone on with").snapshot.as_str(), next), ("a", 4));
        stream.write_mode = rapidbyte_types::WriteMode::Upsert;
        let other = OpenPrint::new(&stream);
        assert_eq!(start_open_ended(&claimed(3, Some(open), vec![]), None, &other), Err(Stuck::OtherWay));
        stream.primary_key = vec!["id".into()];
        assert_ne!(OpenPrint::new(&stream), other);
        let unfiltered = OpenPrint::new(&stream);
        stream.filter = Some("id > 5".into());
        assert_ne!(OpenPrint::new(&stream), unfiltered);
        // A full refresh that was not finished gives way.
        assert!(!is_open_ended(&generation(3, "a")));
        assert_eq!(start_open_ended(&claimed(3, Some(generation(3, "a")), vec![]), None, &other), Ok((None, 4)));
    }

    #[test]
    fn a_load_of_changes_is_gone_on_with_by_how_far_it_is() {
        let mut stream = StreamContext::full_refresh(StreamName::new("s"));
        stream.sync_mode = SyncMode::Cdc;
        let print = OpenPrint::new(&stream);
        let partition = |id: &str| Partition { id: id.into(), spec: Vec::new() };
        let open = Generation { number: 3, snapshot: print.stamp("a"), partitions: vec![partition("0")] };
        let start = |receipts| start_changes(&claimed(3, Some(open.clone()), receipts), None, &print).map(|start| start.loaded);
        assert_eq!(start(vec![]), Ok(false));
        assert_eq!(start(vec![receipt("0", 1, false)]), Ok(false));
        assert_eq!(start(vec![receipt("0", 2, true), receipt(CHANGES, 7, false)]), Ok(true));
        let anew = ChangesStart { pinned: None, next: 4, loaded: false };
        assert_eq!(start_changes(&claimed(3, None, vec![]), None, &print), Ok(anew.clone()));
        // A full refresh that was not finished gives way, and so does a load of changes made in another way; a complete one, and
        // an incremental one, never do.
        assert_eq!(start_changes(&claimed(3, Some(generation(3, "a")), vec![]), None, &print), Ok(anew.clone()));
        stream.write_mode = rapidbyte_types::WriteMode::Upsert;
        let other = OpenPrint::new(&stream);
        assert_eq!(start_changes(&claimed(3, Some(open.clone()), vec![]), None, &other), Ok(anew));
        let complete = claimed(3, Some(open), vec![receipt("0", 2, true)]);
        assert_eq!(start_changes(&complete, None, &other), Err(Stuck::OtherWay));
        stream.sync_mode = SyncMode::Incremental;
        let incremental = Generation { number: 3, snapshot: OpenPrint::new(&stream).stamp("a"), partitions: vec![partition("0")] };
        let begun = claimed(3, Some(incremental), vec![receipt("0", 2, false)]);
        assert_eq!(start_changes(&begun, None, &other), Err(Stuck::OtherWay));
    }

    #[test]
    fn changes_go_on_from_the_least_receipt() {
        let at = |partition: &str, last, lsn: &str| Receipt {
            position: Some(Position::new(CursorType::Lsn, lsn)),
            ..receipt(partition, 1, last)
        };
        let least = |streams: &[&[Receipt]]| {
            least_position(streams.iter().map(|receipts| (*receipts, 3))).map(|position| position.map(|position| position.value))
        };
        let (early, late) = ([at("0", true, "0/9"), at(CHANGES, false, "9/0")], [at("0", true, "0/9"), at(CHANGES, false, "10/0")]);
        assert_eq!(least(&[&late, &early]), Ok(Some("9/0".into())));
        // One that was added, and one whose first commit was lost to a crash.
        assert_eq!(least(&[&late, &[at("0", true, "11/0")]]), Ok(Some("10/0".into())));
        assert_eq!(least(&[&late, &[at("0", true, "1/0")]]), Ok(Some("1/0".into())));
        // No stream has begun: the source knows where its changes begin.
        assert_eq!(least(&[&[at("0", true, "1/0")], &[]]), Ok(None));
        let mut odd = at(CHANGES, false, "9/0");
        odd.position = Some(Position::new(CursorType::Utf8, "x"));
        assert_eq!(least(&[&[odd.clone()], &[odd.clone()]]), Ok(Some("x".into())));
        assert_eq!(least(&[&late, &[odd]]), Err(CursorType::Utf8));
    }

    #[test]
    fn a_stream_that_is_reset_begins_the_next_generation() {
        let mut stream = StreamContext::full_refresh(StreamName::new("s"));
        stream.sync_mode = rapidbyte_types::SyncMode::Incremental;
        let open = Generation { number: 3, snapshot: OpenPrint::new(&stream).stamp("a"), partitions: Vec::new() };
        let (reset, noted) = given_up(claimed(3, Some(open), vec![receipt("0", 4, false)]), None);
        assert_eq!(start_open_ended(&reset, noted, &OpenPrint::new(&stream)), Ok((None, 4)));
        // The mode may change with it.
        assert_eq!(start(&reset, noted, &print()), Start::Plan { pinned: None, next: 4 });
        // A complete load is not published any more, and a published one not taken for this one.
        let receipts = vec![receipt("0", 4, true), receipt("1", 2, true)];
        let (reset, noted) = given_up(claimed(3, Some(generation(3, "a")), receipts), None);
        assert_eq!(start(&reset, noted, &print()), Start::Plan { pinned: None, next: 4 });
        let noted = Some(Noted { generation: 3, open: true, same_way: true });
        let (reset, noted) = given_up(claimed(3, None, vec![]), noted);
        assert_eq!(start(&reset, noted, &print()), Start::Plan { pinned: None, next: 4 });
    }

    #[test]
    fn a_load_of_another_run_is_told_from_our_own() {
        let noted = |generation, open| Some(Noted { generation, open, same_way: true });
        // Ours was published, or is the newest still; or a store that lost its notes finds what was there before.
        assert!(!loaded_by_another(&claimed(3, None, vec![]), 2, noted(3, true)));
        assert!(!loaded_by_another(&claimed(3, None, vec![]), 2, noted(3, false)));
        assert!(!loaded_by_another(&claimed(3, None, vec![]), 3, None));
        // Another one came and is done, or is under way still: then ours may go on, and fences it.
        assert!(loaded_by_another(&claimed(4, None, vec![]), 2, noted(3, true)));
        assert!(loaded_by_another(&claimed(1, None, vec![]), 0, None));
        assert!(!loaded_by_another(&claimed(4, Some(generation(4, "a")), vec![]), 2, noted(3, true)));
    }

    #[test]
    fn the_newest_receipt_counts() {
        let receipts = [receipt("0", 1, false), receipt("0", 3, false), receipt("0", 2, false), receipt("1", 9, true)];
        assert_eq!(newest_receipt(&receipts, 3, "0").map(|r| r.seq), Some(3));
        assert_eq!(newest_receipt(&receipts, 2, "0"), None);
    }
}
