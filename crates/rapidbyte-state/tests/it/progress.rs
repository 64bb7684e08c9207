//! Progress moves forward only, on proof only, and for the newest owner only.

use crate::fixture::{Fixture, acknowledged, orders, pipeline, receipt};
use rapidbyte_state::*;
use rapidbyte_types::{MAX_POSITION_BYTES, Receipt};
use std::sync::Barrier;

fn generation(number: u64, state: GenerationState) -> GenerationRecord {
    GenerationRecord { number, snapshot: format!("snapshot-{number}"), state }
}

#[test]
fn an_epoch_moves_by_comparison_and_never_backward() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    assert_eq!(store.epoch(id, &orders()).expect("reads"), 0);
    store.advance_epoch(id, &orders(), 0, 3).expect("advances");
    for (expected, next, kind) in [
        (0, 1, ErrorKind::Fenced),
        (0, 9, ErrorKind::Fenced),
        (3, 3, ErrorKind::Limit),
        (3, 2, ErrorKind::Limit),
        (4, 5, ErrorKind::Fenced),
    ] {
        let refused = store.advance_epoch(id, &orders(), expected, next).expect_err("refused");
        assert_eq!(refused.kind(), kind, "{expected} to {next}");
        assert_eq!(store.epoch(id, &orders()).expect("reads"), 3);
    }
    store.advance_epoch(id, &orders(), 3, 4).expect("advances");
    assert_eq!(fixture.store().epoch(id, &orders()).expect("reads"), 4);
}

#[test]
fn of_many_claimants_one_wins_each_epoch() {
    const CLAIMANTS: usize = 8;
    const ROUNDS: u64 = 12;
    let fixture = Fixture::new();
    let id = pipeline(&fixture.store());
    let barrier = Barrier::new(CLAIMANTS);
    let claims: Vec<Result<(), ErrorKind>> = std::thread::scope(|scope| {
        let claim = || {
            // A connection each, as processes would have. Nothing is asserted in here: the others wait at the barrier.
            let store = fixture.store();
            let mut claims = Vec::new();
            for round in 0..ROUNDS {
                barrier.wait();
                claims.push(store.advance_epoch(id, &orders(), round, round + 1).map_err(|error| error.kind()));
            }
            claims
        };
        let claimants: Vec<_> = (0..CLAIMANTS).map(|_| scope.spawn(claim)).collect();
        claimants.into_iter().flat_map(|claimant| claimant.join().expect("ends")).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = claims.into_iter().partition(Result::is_ok);
    assert_eq!(won.len() as u64, ROUNDS);
    assert!(lost.iter().all(|claim| *claim == Err(ErrorKind::Fenced)), "{lost:?}");
    assert_eq!(fixture.store().epoch(id, &orders()).expect("reads"), ROUNDS);
}

#[test]
fn a_checkpoint_moves_forward_only() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let mirror = |receipt: Receipt| store.mirror(&acknowledged(id, receipt)).expect("mirrors");
    let seq = || store.checkpoints(id, &orders()).expect("reads").iter().map(|each| each.seq).collect::<Vec<_>>();
    assert_eq!(mirror(receipt(1, "0", 1, 5)), Mirrored::Advanced);
    assert_eq!(mirror(receipt(1, "0", 1, 5)), Mirrored::AlreadyThere);
    assert_eq!(mirror(receipt(1, "0", 1, 4)), Mirrored::Behind);
    assert_eq!(seq(), [5]);
    assert_eq!(mirror(receipt(1, "0", 1, 6)), Mirrored::Advanced);
    assert_eq!(mirror(receipt(1, "1", 1, 2)), Mirrored::Advanced);
    assert_eq!(seq(), [6, 2]);
    // The next generation starts over; the one before is not gone back to.
    assert_eq!(mirror(receipt(2, "0", 1, 1)), Mirrored::Advanced);
    assert_eq!(mirror(receipt(1, "0", 1, 7)), Mirrored::Behind);
    assert_eq!(mirror(receipt(1, "2", 1, 1)), Mirrored::Behind);
    assert_eq!(seq(), [1]);
    let all = store.pipeline_checkpoints(id).expect("reads");
    assert_eq!(all, store.checkpoints(id, &orders()).expect("reads"));
}

#[test]
fn two_receipts_of_one_seq_are_a_conflict() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    store.mirror(&acknowledged(id, receipt(1, "0", 1, 5))).expect("mirrors");
    let before = store.checkpoints(id, &orders()).expect("reads");
    let mut other = receipt(1, "0", 1, 5);
    other.rows += 1;
    let refused = store.mirror(&acknowledged(id, other)).expect_err("another one");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.hint().is_some());
    assert_eq!(store.checkpoints(id, &orders()).expect("reads"), before);
}

#[test]
fn an_overtaken_writer_is_fenced_and_changes_nothing() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    store.advance_epoch(id, &orders(), 0, 1).expect("advances");
    store.mirror(&acknowledged(id, receipt(1, "0", 1, 1))).expect("mirrors");
    store.advance_epoch(id, &orders(), 1, 2).expect("advances");
    let before = store.checkpoints(id, &orders()).expect("reads");
    let refused = store.mirror(&acknowledged(id, receipt(1, "0", 1, 2))).expect_err("overtaken");
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    let refused = store.record_generation(id, &orders(), 1, &generation(2, GenerationState::Open)).expect_err("overtaken");
    assert_eq!(refused.kind(), ErrorKind::Fenced);
    assert_eq!(store.checkpoints(id, &orders()).expect("reads"), before);
    assert_eq!(store.generations(id, &orders()).expect("reads"), []);

    // The same receipt, found at the destination by the new owner, is a fact.
    let found = DurableReceipt::read_back(receipt(1, "0", 1, 2), id, orders(), 2).expect("possible");
    assert_eq!(store.mirror(&found).expect("mirrors"), Mirrored::Advanced);
    let kept = store.checkpoints(id, &orders()).expect("reads");
    assert_eq!((kept[0].seq, kept[0].epoch), (2, 1));
}

#[test]
fn an_epoch_the_store_had_not_heard_of_is_taken_over() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    store.mirror(&acknowledged(id, receipt(1, "0", 9, 1))).expect("mirrors");
    assert_eq!(store.epoch(id, &orders()).expect("reads"), 9);
    let refused = store.mirror(&acknowledged(id, receipt(1, "0", 8, 2))).expect_err("older");
    assert_eq!(refused.kind(), ErrorKind::Fenced);
}

#[test]
fn a_generation_is_opened_then_published_then_followed() {
    use GenerationState::{Open, Published};
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let record = |number, state| store.record_generation(id, &orders(), 1, &generation(number, state)).expect("records");
    let known = || {
        let found = store.generations(id, &orders()).expect("reads");
        found.iter().map(|each| (each.number, each.state)).collect::<Vec<_>>()
    };
    assert_eq!(record(1, Open), Mirrored::Advanced);
    assert_eq!(record(1, Open), Mirrored::AlreadyThere);
    store.mirror(&acknowledged(id, receipt(1, "0", 1, 1))).expect("mirrors");
    assert_eq!(record(1, Published), Mirrored::Advanced);
    assert_eq!(record(1, Published), Mirrored::AlreadyThere);
    assert_eq!(record(1, Open), Mirrored::Behind);
    assert_eq!(known(), [(1, Published)]);
    assert_eq!(store.checkpoints(id, &orders()).expect("reads").len(), 1);
    // The next one is opened, lost, opened again under another number: what was discarded leaves no trace.
    assert_eq!(record(2, Open), Mirrored::Advanced);
    assert_eq!(store.checkpoints(id, &orders()).expect("reads"), [], "the checkpoints of a closed load are let go");
    store.mirror(&acknowledged(id, receipt(2, "0", 1, 1))).expect("mirrors");
    assert_eq!(record(3, Open), Mirrored::Advanced);
    assert_eq!(known(), [(3, Open), (1, Published)]);
    assert_eq!(store.checkpoints(id, &orders()).expect("reads"), []);
    assert_eq!(store.mirror(&acknowledged(id, receipt(2, "0", 1, 2))).expect("mirrors"), Mirrored::Behind);
    assert_eq!(record(2, Published), Mirrored::Behind);
    assert_eq!(record(3, Published), Mirrored::Advanced);
    assert_eq!(known(), [(3, Published)]);

    let mut other = generation(3, Published);
    other.snapshot = "another".into();
    let refused = store.record_generation(id, &orders(), 1, &other).expect_err("another snapshot");
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}

#[test]
fn a_receipt_that_cannot_be_true_is_no_proof() {
    let fixture = Fixture::new();
    let id = pipeline(&fixture.store());
    let spoilt = |spoil: fn(&mut Receipt)| {
        let mut receipt = receipt(1, "0", 1, 1);
        spoil(&mut receipt);
        DurableReceipt::from_acknowledgement(receipt, id, orders()).map(|_| ()).map_err(|error| error.kind())
    };
    let long = |receipt: &mut Receipt, bytes| receipt.position.as_mut().expect("has one").value = "9".repeat(bytes);
    assert_eq!(spoilt(|_| ()), Ok(()));
    assert_eq!(spoilt(|receipt| (receipt.position, receipt.last) = (None, true)), Ok(()));
    for (what, found) in [
        ("generation", spoilt(|receipt| receipt.generation = 0)),
        ("epoch", spoilt(|receipt| receipt.epoch = 0)),
        ("seq", spoilt(|receipt| receipt.seq = 0)),
        ("partition", spoilt(|receipt| receipt.partition.clear())),
        ("partition", spoilt(|receipt| receipt.partition = "p".repeat(MAX_NAME_BYTES + 1))),
        ("position", spoilt(|receipt| receipt.position = None)),
    ] {
        assert_eq!(found, Err(ErrorKind::Limit), "{what}");
    }
    for (bytes, fits) in [(MAX_POSITION_BYTES, true), (MAX_POSITION_BYTES + 1, false)] {
        let mut receipt = receipt(1, "0", 1, 1);
        long(&mut receipt, bytes);
        assert_eq!(DurableReceipt::from_acknowledgement(receipt, id, orders()).is_ok(), fits, "{bytes} bytes");
    }
    let beyond = DurableReceipt::read_back(receipt(1, "0", 3, 1), id, orders(), 2).expect_err("from the future");
    assert_eq!(beyond.kind(), ErrorKind::Limit);
    // Numbers the file can't hold are refused whole.
    let store = fixture.store();
    let mut huge = receipt(1, "0", 1, 1);
    huge.rows = u64::MAX;
    assert_eq!(store.mirror(&acknowledged(id, huge)).expect_err("too many").kind(), ErrorKind::Limit);
    assert_eq!(store.epoch(id, &orders()).expect("reads"), 0);
}
