//! Looking at one stream on both sides, and again at what differs.

use super::VerifyOptions;
use super::agree::{Agreed, agree};
use super::compare::{self, Pairs};
use super::report::{Counts, StreamVerdict, Verdict};
use crate::contract::Comparable;
use crate::error::{Cause, EngineError, Stage};
use crate::kit::Kit;
use rapidbyte_config::manifest::Role;
use rapidbyte_runtime::{DigestInstance, GuestError};
use rapidbyte_types::{ConnectorError, DigestRequest, KeyDigest, PinRequest, Pinned, Position, StreamContext, SyncMode, WriteMode};
use std::time::{Duration, Instant};

/// Keys listed in one call.
const KEYS_PER_CALL: u32 = 100_000;
/// Rows of the ranges listed in one call: with room for rows that come meanwhile.
const ROWS_PER_CALL: u64 = 50_000;
/// Rows of ranges that differ, beyond which no more ranges are listed.
const ROWS_LISTED: u64 = 200_000;
/// Between one look at keys that differ and the next. Guessed: a row that is written often changes within the last of them.
const WAITS: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_millis(1000)];

/// What is said where a contract may be the reason.
const LEFT_OUT: &str = "the contract may have left these rows out (`on_violation: discard_row`), which can't be told from rows that were lost: \
                        a `filter` of the stream with the same rules would leave them out of the comparison";

/// Both sides of a stream.
struct Sides<'a> {
    kit: &'a Kit,
    stream: &'a StreamContext,
    position: Option<&'a Position>,
    source: DigestInstance,
    destination: DigestInstance,
}

/// Fails with the source's error first: it is the one that does not depend on an earlier run.
fn both<S, D>(kit: &Kit, source: Result<S, GuestError>, destination: Result<D, GuestError>) -> Result<(S, D), EngineError> {
    let source = source.map_err(|error| EngineError::guest(Stage::Source, error).in_connector(kit.source_name()))?;
    let destination =
        destination.map_err(|error| EngineError::guest(Stage::Destination, error).in_connector(kit.destination_name()))?;
    Ok((source, destination))
}

impl<'a> Sides<'a> {
    async fn open(kit: &'a Kit, stream: &'a StreamContext, position: Option<&'a Position>) -> Result<Self, EngineError> {
        let (source, destination) =
            tokio::join!(kit.open_digests(Role::Source, stream), kit.open_digests(Role::Destination, stream));
        Ok(Self { kit, stream, position, source: source?, destination: destination? })
    }

    /// One snapshot of each side, taken at about the same time.
    async fn pin(&mut self) -> Result<(Option<Pinned>, Option<Pinned>), EngineError> {
        let request = |position: Option<&Position>| PinRequest { stream: self.stream.clone(), position: position.cloned() };
        let (ours, theirs) = (request(self.position), request(None));
        let (source, destination) = tokio::join!(self.source.pin(ours), self.destination.pin(theirs));
        both(self.kit, source, destination)
    }

    /// The keys of some ranges on both sides; nothing when there are too many of them.
    async fn list(
        &mut self,
        request: &DigestRequest,
        ranges: &[u32],
    ) -> Result<Option<(Vec<KeyDigest>, Vec<KeyDigest>)>, EngineError> {
        let (source, destination) = tokio::join!(
            self.source.list_keys(request, ranges, KEYS_PER_CALL),
            self.destination.list_keys(request, ranges, KEYS_PER_CALL)
        );
        let (source, destination) = both(self.kit, source, destination)?;
        Ok((!full(&source) && !full(&destination)).then_some((source, destination)))
    }

    /// The source's keys of some ranges, beyond the position too.
    async fn whole(&mut self, request: &DigestRequest, ranges: &[u32]) -> Result<Option<Vec<KeyDigest>>, EngineError> {
        let request = DigestRequest { whole: true, ..request.clone() };
        let found = self.source.list_keys(&request, ranges, KEYS_PER_CALL).await;
        let (found, ()) = both(self.kit, found, Ok(()))?;
        Ok((!full(&found)).then_some(found))
    }

    async fn close(self) -> Result<(), EngineError> {
        let (source, destination) = tokio::join!(self.source.close(), self.destination.close());
        both(self.kit, source, destination).map(drop)
    }
}

fn full(keys: &[KeyDigest]) -> bool {
    keys.len() >= KEYS_PER_CALL as usize
}

/// Ranges that are listed together, with their keys that differ.
struct Group {
    ranges: Vec<u32>,
    keys: Pairs,
}

/// Compares one stream, as far as its contract leaves both sides the same.
pub(crate) async fn compare(
    kit: &Kit,
    stream: &StreamContext,
    contract: &Comparable,
    position: Option<&Position>,
    options: &VerifyOptions,
) -> Result<StreamVerdict, EngineError> {
    let started = Instant::now();
    let mut sides = Sides::open(kit, stream, position).await?;
    let (source, destination) = sides.pin().await?;
    let Some(source) = source else {
        let error = ConnectorError::schema("missing_table", format!("table `{}` does not exist at the source", stream.name))
            .with_hint("`rapidbyte discover <PIPELINE>` lists what can be read");
        return Err(EngineError::new(Stage::Source, Cause::Connector(error)).in_connector(kit.source_name()));
    };
    let mut verdict = StreamVerdict {
        stream: stream.name.clone(),
        verdict: Verdict::Equal,
        source: source.place.clone(),
        destination: stream.target.to_string(),
        source_rows: 0,
        destination_rows: 0,
        key: Vec::new(),
        counts: Counts::default(),
        complete: true,
        keys: Vec::new(),
        columns: Vec::new(),
        left_out: Vec::new(),
        converted: Vec::new(),
        notes: Vec::new(),
        duration: Duration::ZERO,
    };
    let Some(destination) = destination else {
        verdict.verdict = Verdict::Different;
        verdict.complete = false;
        verdict.notes.push("the destination has no such table: run the pipeline first".to_owned());
        sides.close().await?;
        verdict.duration = started.elapsed();
        return Ok(verdict);
    };
    verdict.destination.clone_from(&destination.place);
    let Agreed { request, left_out, converted, notes } = agree(stream, &source, &destination, &options.columns, &contract.apart)
        .map_err(|error| EngineError::new(Stage::Plan, Cause::Connector(error)))?;
    let (ours, theirs) = tokio::join!(sides.source.digest(&request), sides.destination.digest(&request));
    let (ours, theirs) = both(kit, ours, theirs)?;
    verdict.source_rows = ours.iter().map(|range| range.rows).sum();
    verdict.destination_rows = theirs.iter().map(|range| range.rows).sum();
    verdict.columns = request.columns.iter().map(|column| column.name.clone()).collect();
    (verdict.left_out, verdict.converted, verdict.notes) = (left_out, converted, notes);
    let differing = compare::differing(&ours, &theirs);
    if !differing.is_empty() {
        let (groups, all) = compare::groups(&differing, ROWS_PER_CALL, ROWS_LISTED);
        verdict.complete = all;
        settle(&mut sides, &request, groups, &mut verdict, options.keys).await?;
        if !verdict.complete {
            verdict.notes.push("more rows differ than are looked at one by one: the counts are the least".to_owned());
        }
    }
    sides.close().await?;
    verdict.key = request.key;
    verdict.verdict = compare::verdict(&verdict.counts, verdict.complete);
    let versions = stream.sync_mode == SyncMode::Incremental || stream.write_mode == WriteMode::Upsert;
    if contract.fewer_rows && compare::may_be_left_out(&verdict.counts, versions) {
        verdict.verdict = Verdict::Unsettled;
        verdict.notes.push(LEFT_OUT.to_owned());
    }
    verdict.duration = started.elapsed();
    Ok(verdict)
}

/// Finds the keys that differ in some ranges, and looks at them until they have shown whether they stay so.
async fn settle(
    sides: &mut Sides<'_>,
    request: &DigestRequest,
    groups: Vec<Vec<u32>>,
    verdict: &mut StreamVerdict,
    most: usize,
) -> Result<(), EngineError> {
    let keyed = !request.key.is_empty();
    let mut open = Vec::with_capacity(groups.len());
    for ranges in groups {
        match sides.list(request, &ranges).await? {
            Some((source, destination)) => {
                let keys = compare::pairs(source, destination, |_, pair| !compare::same(pair));
                open.push(Group { ranges, keys });
            }
            None => verdict.complete = false,
        }
    }
    for wait in WAITS {
        open.retain(|group| !group.keys.is_empty());
        if open.is_empty() {
            break;
        }
        tokio::time::sleep(wait).await;
        let (Some(_), Some(_)) = sides.pin().await? else { break };
        for group in &mut open {
            let whole = match sides.position {
                Some(_) => match sides.whole(request, &group.ranges).await? {
                    Some(whole) => Some(compare::held(whole)),
                    None => continue,
                },
                None => None,
            };
            let Some((source, destination)) = sides.list(request, &group.ranges).await? else { continue };
            let before = std::mem::take(&mut group.keys);
            let mut now = compare::pairs(source, destination, |id, _| before.contains_key(id));
            let judged = compare::judge(&before, &mut now, whole.as_ref());
            verdict.counts.pending += judged.pending;
            compare::count(&judged.settled, false, keyed, &mut verdict.counts, &mut verdict.keys, most);
            group.keys = judged.moving;
        }
    }
    for group in &open {
        compare::count(&group.keys, true, keyed, &mut verdict.counts, &mut verdict.keys, most);
    }
    Ok(())
}
