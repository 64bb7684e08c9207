//! `cdc_mode`: the log of a table that is inserted into, updated and deleted from. Any event can be made without those before it.
//!
//! Events are numbered from 0 and come in blocks of ten: six inserts, three updates, one delete, in an order that is drawn for
//! each block. A key is the number of the event that inserted it. One key of each block is doomed: the block [`LIFE`] further
//! deletes it. Updates choose among the keys of the last [`REACH`] blocks, less those that are gone, so that the row a change
//! finds is found by looking back over as many blocks. The README states this as a specification.

use crate::column::Column;
use crate::random::Draw;
use arrow_array::builder::NullBufferBuilder;
use arrow_array::{Array, ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rapidbyte_sdk::changes::{BEFORE_PREFIX, ChangeOp, change_fields};
use rapidbyte_sdk::{ConnectorError, CursorType, Position};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Events in a block.
const BLOCK: usize = 10;
/// Inserts in a block, whose keys are numbered by their place among them.
const INSERTS: usize = 6;
/// Blocks from the insert of a doomed key to its delete.
const LIFE: u64 = 8;
/// Blocks back to the oldest key that is still updated.
const REACH: u64 = 32;
/// The most bytes of a row of changes beside the table's columns and their before-images.
pub(crate) const OWN_BYTES: u64 = 64;

/// One event: what happens to the row of a key. Row contents are named by the number of the event that wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) op: ChangeOp,
    pub(crate) key: u64,
    /// The content before it; its own number for an insert, which has none.
    pub(crate) before: u64,
}

/// Ten events without what they find.
#[derive(Debug, Clone, Copy)]
struct Block {
    number: u64,
    ops: [ChangeOp; BLOCK],
    keys: [u64; BLOCK],
}

/// The events of a seed, in order. Keeps the blocks that later ones look back at.
pub(crate) struct Changes {
    order: Draw,
    doomed: Draw,
    back: Draw,
    chosen: Draw,
    blocks: VecDeque<Block>,
}

impl Changes {
    /// The events of a draw per label.
    pub(crate) fn new(draw: impl Fn(&str) -> Draw) -> Self {
        Self {
            order: draw("order"),
            doomed: draw("doomed"),
            back: draw("back"),
            chosen: draw("chosen"),
            blocks: VecDeque::with_capacity(REACH as usize + 1),
        }
    }

    /// The event of a number.
    pub(crate) fn at(&mut self, event: u64) -> Change {
        let (number, slot) = (event / BLOCK as u64, (event % BLOCK as u64) as usize);
        self.reach(number);
        // The newest block is the one asked for, and those it looks back at are there.
        let newest = self.blocks[self.blocks.len() - 1];
        let (op, key) = (newest.ops[slot], newest.keys[slot]);
        let before = if op == ChangeOp::Insert { event } else { self.written_before(event, key) };
        Change { op, key, before }
    }

    /// Makes the blocks up to one, and forgets those out of its reach.
    fn reach(&mut self, number: u64) {
        let first = number.saturating_sub(REACH);
        if self.blocks.back().is_some_and(|newest| newest.number > number) {
            self.blocks.clear();
        }
        let next = self.blocks.back().map_or(first, |newest| newest.number + 1).max(first);
        for made in next..=number {
            let block = self.block(made);
            self.blocks.push_back(block);
        }
        while self.blocks.front().is_some_and(|oldest| oldest.number < first) {
            self.blocks.pop_front();
        }
    }

    /// The kinds of a block's events, in order. Those of the first block begin with its inserts, as there is nothing else to change.
    fn ops(&self, number: u64) -> [ChangeOp; BLOCK] {
        let mut ops = [ChangeOp::Insert; BLOCK];
        ops[INSERTS..].fill(ChangeOp::Update);
        if number >= LIFE {
            ops[BLOCK - 1] = ChangeOp::Delete;
        }
        if number > 0 {
            for last in (1..BLOCK).rev() {
                let other = self.order.below(number * BLOCK as u64 + last as u64, last as u64 + 1) as usize;
                ops.swap(last, other);
            }
        }
        ops
    }

    /// The keys that a block inserts: the numbers of its inserts.
    fn inserted(&self, number: u64) -> [u64; INSERTS] {
        let mut keys = [0; INSERTS];
        let places = self.ops(number).into_iter().enumerate().filter(|(_, op)| *op == ChangeOp::Insert);
        for (key, (slot, _)) in keys.iter_mut().zip(places) {
            *key = number * BLOCK as u64 + slot as u64;
        }
        keys
    }

    fn doomed(&self, number: u64) -> usize {
        self.doomed.below(number, INSERTS as u64) as usize
    }

    fn block(&self, number: u64) -> Block {
        let ops = self.ops(number);
        let keys = std::array::from_fn(|slot| {
            let event = number * BLOCK as u64 + slot as u64;
            match ops[slot] {
                ChangeOp::Update => self.updated(number, event),
                ChangeOp::Delete => self.inserted(number - LIFE)[self.doomed(number - LIFE)],
                ChangeOp::Insert | ChangeOp::Truncate => event,
            }
        });
        Block { number, ops, keys }
    }

    /// A key of an earlier block that lives to the end of this one; in the first block, one of its own.
    fn updated(&self, number: u64, event: u64) -> u64 {
        let of = if number == 0 { 0 } else { number - 1 - self.back.below(event, number.min(REACH)) };
        let keys = self.inserted(of);
        if of + LIFE > number {
            return keys[self.chosen.below(event, INSERTS as u64) as usize];
        }
        let place = self.chosen.below(event, INSERTS as u64 - 1) as usize;
        keys[place + usize::from(place >= self.doomed(of))]
    }

    /// The last event before one that wrote the row of a key.
    fn written_before(&self, event: u64, key: u64) -> u64 {
        let recent = self.blocks.iter().rev().flat_map(|block| {
            let numbered = block.keys.iter().enumerate().rev();
            numbered.map(|(slot, key)| (block.number * BLOCK as u64 + slot as u64, *key))
        });
        let mut earlier = recent.skip_while(|(number, _)| *number >= event);
        earlier.find(|(_, of)| *of == key).map_or(key, |(number, _)| number)
    }
}

/// The place behind an event in the log, as the position of a barrier. The change itself has this number as its `_rb_lsn`.
pub(crate) fn position(events: u64) -> Position {
    Position::new(CursorType::Lsn, format!("{:X}/{:X}", events >> 32, events & 0xffff_ffff))
}

/// The event that comes first after a position.
pub(crate) fn next_event(resume: Option<&Position>) -> Result<u64, ConnectorError> {
    let Some(position) = resume else { return Ok(0) };
    position.lsn().ok_or_else(|| {
        ConnectorError::data("source_changed", "a position of changes was written by something else than this connector")
            .with_hint("give the pipeline another name, so that it begins anew")
    })
}

/// The fields of a batch of changes: the table's, their before-images, the change's own.
pub(crate) fn schema_of(columns: &[&Column]) -> SchemaRef {
    let told = columns.iter().map(|column| column.field.clone().with_nullable(true));
    let before = columns.iter().map(|column| {
        let name = format!("{BEFORE_PREFIX}{}", column.field.name());
        column.field.clone().with_name(name).with_nullable(true)
    });
    Arc::new(Schema::new(told.chain(before).chain(change_fields()).collect::<Vec<_>>()))
}

/// A batch of events. `time` says when one was committed, in microseconds.
pub(crate) fn make_batch(
    schema: &SchemaRef,
    columns: &[&Column],
    primary_key: &str,
    changes: &mut Changes,
    events: Range<u64>,
    time: impl Fn(u64) -> i64,
) -> Result<RecordBatch, ConnectorError> {
    let made: Vec<Change> = events.clone().map(|event| changes.at(event)).collect();
    let keys: Vec<u64> = made.iter().map(|change| change.key).collect();
    // A delete shows the row that is gone.
    let shown: Vec<u64> = made
        .iter()
        .zip(events.clone())
        .map(|(change, event)| if change.op == ChangeOp::Delete { change.before } else { event })
        .collect();
    let before: Vec<u64> = made.iter().map(|change| change.before).collect();
    let mut known = NullBufferBuilder::new(made.len());
    made.iter().for_each(|change| known.append(change.op != ChangeOp::Insert));
    let known = known.finish();
    let image = |column: &&Column, contents: &[u64]| column.make(if column.field.name() == primary_key { &keys } else { contents });
    let mut arrays: Vec<ArrayRef> = columns.iter().map(|column| image(column, &shown)).collect();
    arrays.extend(columns.iter().map(|column| {
        let all = image(column, &before);
        let nulls = arrow_buffer::NullBuffer::union(all.nulls(), known.as_ref());
        crate::column::masked(&all, nulls)
    }));
    let [.., unchanged] = change_fields();
    let DataType::List(item) = unchanged.data_type() else {
        return Err(ConnectorError::internal("fields", "the unchanged columns are no list"));
    };
    let item: Arc<Field> = Arc::clone(item);
    let own: [ArrayRef; 5] = [
        Arc::new(StringArray::from_iter_values(made.iter().map(|change| change.op.as_str()))),
        Arc::new(UInt64Array::from_iter_values(events.clone().map(|event| event + 1))),
        Arc::new(Int64Array::from_iter_values(made.iter().map(|_| 1))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(events.map(time)).with_timezone("UTC")),
        Arc::new(ListArray::new_null(item, made.len())),
    ];
    arrays.extend(own);
    RecordBatch::try_new(schema.clone(), arrays)
        .map_err(|error| ConnectorError::internal("batch", format!("a batch could not be made: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn changes(seed: u64) -> Changes {
        Changes::new(|label| Draw::new(seed, label))
    }

    #[test]
    fn only_live_rows_are_touched_and_each_change_knows_what_it_finds() {
        for seed in 0..20 {
            let mut log = changes(seed);
            let mut rows: HashMap<u64, u64> = HashMap::new();
            let mut counts = [0_u64; 3];
            for event in 0..20_000 {
                let Change { op, key, before } = log.at(event);
                match op {
                    ChangeOp::Insert => {
                        counts[0] += 1;
                        assert_eq!(rows.insert(key, event), None, "event {event}");
                    }
                    ChangeOp::Update => {
                        counts[1] += 1;
                        assert_eq!(rows.insert(key, event), Some(before), "event {event}");
                    }
                    ChangeOp::Delete => {
                        counts[2] += 1;
                        assert_eq!(rows.remove(&key), Some(before), "event {event}");
                    }
                    ChangeOp::Truncate => panic!("event {event}"),
                }
            }
            // The first eight blocks have nobody to delete.
            assert_eq!(counts, [12_000, 6_008, 1_992]);
        }
    }

    #[test]
    fn any_event_is_the_same_without_those_before_it() {
        let mut in_order = changes(7);
        let all: Vec<Change> = (0..3_000).map(|event| in_order.at(event)).collect();
        for event in [2_999, 5, 1_234, 0, 319, 320, 321, 2_000] {
            assert_eq!(changes(7).at(event), all[event as usize], "event {event}");
            assert_eq!(in_order.at(event), all[event as usize], "event {event}, going back");
        }
        let others: Vec<Change> = (0..3_000).map(|event| changes(8).at(event)).collect();
        assert_ne!(all, others);
    }

    #[test]
    fn positions_are_places_behind_events() {
        assert_eq!(position(0).value, "0/0");
        assert_eq!(position(0x1_0000_000a).value, "1/A");
        assert_eq!(next_event(Some(&position(77))).unwrap(), 77);
        assert_eq!(next_event(None).unwrap(), 0);
        assert_eq!(next_event(Some(&Position::new(CursorType::Int64, "77"))).unwrap_err().code, "source_changed");
    }
}
