//! Every table gives back what was put into it, over a close and re-open.

use crate::fixture::{Fixture, dump, fill, letter, orders, outcome, pipeline};
use rapidbyte_state::*;
use rapidbyte_types::{CursorType, Position, StreamName};

#[test]
fn a_new_file_is_made_private_in_a_private_folder() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("deep/er/state.db");
    let store = SqliteStore::open(&path).expect("opens");
    let guard = store.lock_run(pipeline(&store), "run-1").expect("locks");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("has one")), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path.parent().expect("has one")).expect("lists") {
        let entry = entry.expect("an entry");
        assert_eq!(mode(&entry.path()), 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().expect("UTF-8"));
    }
    names.sort();
    let lock = format!("state.db.{}.lock", guard.pipeline());
    let mut expected = vec!["state.db".to_owned(), "state.db-shm".into(), "state.db-wal".into(), lock];
    expected.sort();
    assert_eq!(names, expected);
}

#[test]
fn an_announced_pipeline_gets_its_source_once() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let announced = store.announce_pipeline("sales", "owner/source", 1_000).expect("announces");
    assert_eq!(announced.source_identity, "");
    assert_eq!(store.announce_pipeline("sales", "owner/source", 2_000).expect("announces"), announced);
    let resolved = store.resolve_pipeline("sales", "source:1", 3_000).expect("resolves");
    assert_eq!((resolved.id, resolved.source_identity.as_str()), (announced.id, "source:1"));
    assert_eq!(fixture.store().find_pipeline("sales").expect("reads").as_ref(), Some(&resolved));
    let other = store.resolve_pipeline("sales", "source:2", 4_000).expect_err("another source");
    assert_eq!(other.kind(), ErrorKind::IdentityMismatch);
    // The same name and connector have the same id in a store that knows nothing.
    let elsewhere = Fixture::new().store().announce_pipeline("sales", "owner/source", 9_000).expect("announces");
    assert_eq!(elsewhere.id, announced.id);
}

#[test]
fn what_was_kept_is_there_after_a_reopen() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fill(&store);
    let before = dump(&store).expect("reads");
    drop(store);
    assert_eq!(dump(&fixture.store()).expect("reads"), before);
    // A second store beside an open one sees the same.
    let (one, two) = (fixture.store(), fixture.store());
    assert_eq!(dump(&one).expect("reads"), before);
    assert_eq!(dump(&two).expect("reads"), before);
}

#[test]
fn a_pipeline_keeps_its_id_and_its_source() {
    let fixture = Fixture::new();
    let first = fixture.store().resolve_pipeline("sales", "source:1", 5).expect("resolves");
    assert_eq!((first.name.as_str(), first.source_identity.as_str(), first.created_at_ms), ("sales", "source:1", 5));
    let store = fixture.store();
    assert_eq!(store.resolve_pipeline("sales", "source:1", 9).expect("resolves"), first);
    assert_eq!(store.find_pipeline("sales").expect("reads"), Some(first.clone()));
    assert_eq!(store.find_pipeline("sale").expect("reads"), None);
    let refused = store.resolve_pipeline("sales", "source:2", 9).expect_err("another source");
    assert_eq!(refused.kind(), ErrorKind::IdentityMismatch);
    assert!(refused.hint().is_some_and(|hint| hint.contains("another name")), "{refused:?}");
    assert!(!format!("{refused:?}{refused}").contains("source:2"), "an identity may name a host");
    let other = store.resolve_pipeline("sales2", "source:2", 9).expect("resolves");
    assert_ne!(other.id, first.id);
    assert_eq!(store.pipelines().expect("reads"), [first, other]);
}

#[test]
fn a_run_is_recorded_from_begin_to_end() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let guard = store.lock_run(id, "run-1").expect("locks");
    assert_eq!(store.finish_run(&guard, &outcome(RunStatus::Failed)).expect_err("not begun").kind(), ErrorKind::NotFound);
    assert_eq!(store.begin_run(&guard, 1_000).expect("begins"), Vec::<String>::new());
    assert_eq!(store.begin_run(&guard, 1_000).expect_err("twice").kind(), ErrorKind::Conflict);
    let running = store.run("run-1").expect("reads").expect("is there");
    assert_eq!((running.status, running.started_at_ms, running.finished_at_ms), (RunStatus::Running, 1_000, None));

    let mut result = StreamResult {
        stream: orders(),
        status: StreamStatus::Failed,
        rows: 1,
        bytes: 2,
        partitions: 3,
        skipped: 4,
        dead_letters: 5,
    };
    store.record_stream(&guard, &result).expect("records");
    result.status = StreamStatus::Succeeded;
    result.rows = 10;
    store.record_stream(&guard, &result).expect("records again");
    assert_eq!(store.stream_results("run-1").expect("reads"), [result]);

    assert_eq!(store.finish_run(&guard, &outcome(RunStatus::Running)).expect_err("no end").kind(), ErrorKind::Limit);
    let mut ended = outcome(RunStatus::Failed);
    ended.error.as_mut().expect("has one").message = "é".repeat(20_000);
    store.finish_run(&guard, &ended).expect("finishes");
    assert_eq!(store.finish_run(&guard, &ended).expect_err("twice").kind(), ErrorKind::Conflict);
    let found = store.run("run-1").expect("reads").expect("is there");
    ended.error.as_mut().expect("has one").message = "é".repeat(8 << 10);
    let expected = RunRecord {
        run_id: "run-1".into(),
        pipeline: id,
        status: RunStatus::Failed,
        started_at_ms: 1_000,
        finished_at_ms: Some(5_000),
        duration_ms: Some(4_000),
        error: ended.error,
        totals: ended.totals,
        timings_json: ended.timings_json,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_run_that_never_ended_is_found_interrupted() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let other = store.resolve_pipeline("other", "source:2", 1).expect("resolves").id;
    let elsewhere = store.lock_run(other, "run-other").expect("locks");
    store.begin_run(&elsewhere, 1).expect("begins");
    for run in ["run-1", "run-2"] {
        let guard = store.lock_run(id, run).expect("locks");
        store.begin_run(&guard, 1).expect("begins");
    }
    let guard = store.lock_run(id, "run-3").expect("locks");
    assert_eq!(store.begin_run(&guard, 2).expect("begins"), ["run-2"]);
    let runs = store.recent_runs(Some(id), 10).expect("reads");
    let statuses: Vec<_> = runs.iter().map(|run| (run.run_id.as_str(), run.status.as_str())).collect();
    assert_eq!(statuses, [("run-3", "running"), ("run-2", "interrupted"), ("run-1", "interrupted")]);
    assert_eq!(store.run("run-other").expect("reads").expect("is there").status, RunStatus::Running);
    let newest: Vec<_> = store.recent_runs(None, 2).expect("reads").into_iter().map(|run| run.run_id).collect();
    assert_eq!(newest, ["run-3", "run-2"]);
}

#[test]
fn every_cursor_type_and_value_reads_back_exactly() {
    let fixture = Fixture::new();
    let id = pipeline(&fixture.store());
    let values =
        ["-9223372036854775808", "1e400", "", "0.10", "2024-01-01T00:00:00.123456789Z", "null\0\u{10ffff}'\"", "0/16B3748"];
    let mut seq = 0;
    for &kind in CursorType::ALL {
        for value in values {
            seq += 1;
            let mut receipt = crate::fixture::receipt(1, "0", 1, seq);
            receipt.position = Some(Position::new(kind, value));
            receipt.rows = i64::MAX as u64;
            fixture.store().mirror(&crate::fixture::acknowledged(id, receipt.clone())).expect("mirrors");
            let found = fixture.store().checkpoints(id, &orders()).expect("reads");
            assert_eq!(found.len(), 1);
            assert_eq!((&found[0].position, found[0].rows), (&receipt.position, receipt.rows));
        }
    }
}

#[test]
fn stream_names_never_run_into_each_other() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let names = [
        StreamName::new("a.b"),
        StreamName::qualified("a", "b"),
        StreamName::qualified("", "a.b"),
        StreamName::qualified("a.", "b"),
        StreamName::new("a\",\"b"),
        StreamName::new("[null,\"a.b\"]"),
    ];
    for (n, name) in names.iter().enumerate() {
        store.advance_epoch(id, name, 0, n as u64 + 1).expect("advances");
    }
    for (n, name) in names.iter().enumerate() {
        assert_eq!(store.epoch(id, name).expect("reads"), n as u64 + 1, "{name:?}");
    }
}

#[test]
fn letters_are_replayed_once() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    store.add_dead_letters(&[letter(id, 1, 0, "a"), letter(id, 1, 1, "b")]).expect("adds");
    let ids: Vec<u64> = store.dead_letters(id, None, 0, 10).expect("lists").iter().map(|each| each.id).collect();
    let replay = |name: &str| ReplayRecord { id: name.into(), pipeline: id, stream: orders(), generation: None };
    store.begin_replay(&replay("one"), &[(ids[0], "edited".into())], 5).expect("begins");
    // A letter has one replay; what can't begin whole leaves nothing.
    let again = store.begin_replay(&replay("two"), &[(ids[1], "b".into()), (ids[0], "a".into())], 6);
    assert_eq!(again.expect_err("is on its way").kind(), ErrorKind::Conflict);
    store.note_replay_generation("one", 7).expect("notes");
    assert_eq!(store.open_replays(id).expect("reads"), [ReplayRecord { generation: Some(7), ..replay("one") }]);
    assert_eq!(store.replay_letters("one").expect("reads"), [(ids[0], "edited".to_owned())]);
    let replayed =
        || -> Vec<bool> { store.dead_letters(id, None, 0, 10).expect("lists").iter().map(|each| each.replayed).collect() };
    assert_eq!(replayed(), [false, false]);
    store.finish_replay("one", 9).expect("finishes");
    assert_eq!((replayed(), store.open_replays(id).expect("reads")), (vec![true, false], vec![]));
    assert_eq!(store.finish_replay("one", 9).expect_err("has ended").kind(), ErrorKind::NotFound);
    store.begin_replay(&replay("two"), &[(ids[1], "b".into())], 6).expect("the other is free");
}

#[test]
fn dead_letters_come_once() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let first = [letter(id, 1, 0, "a"), letter(id, 1, 1, "b")];
    assert_eq!(store.add_dead_letters(&first).expect("adds"), 2);
    assert_eq!(store.add_dead_letters(&first).expect("adds"), 0);
    let again = [letter(id, 1, 1, "c"), letter(id, 2, 0, "d")];
    assert_eq!(store.add_dead_letters(&again).expect("adds"), 1);
    let listed = store.dead_letters(id, None, 0, 10).expect("lists");
    let records: Vec<_> = listed
        .iter()
        .map(|each| store.dead_letter(each.id).expect("reads").expect("is there"))
        .inspect(|each| assert_eq!(each.letter.error_message, "numeric overflow"))
        .map(|each| (each.key.seq, each.key.ordinal, each.letter.record_json))
        .collect();
    assert_eq!(records, [(1, 0, "a".into()), (1, 1, "c".into()), (2, 0, "d".into())]);
    assert_eq!(store.dead_letters(id, None, listed[0].id, 1).expect("lists"), listed[1..2]);
    assert_eq!(store.count_dead_letters(id, Some(&orders())).expect("counts"), 3);
    assert_eq!(store.count_dead_letters(id, Some(&StreamName::new("orders"))).expect("counts"), 0);
    assert_eq!(store.dead_letters(id, Some(&StreamName::new("orders")), 0, 9).expect("lists"), []);
    // All or none.
    let mut too_long = letter(id, 3, 1, "");
    too_long.letter.record_json = "x".repeat(MAX_DEAD_LETTER_BYTES + 1);
    let refused = store.add_dead_letters(&[letter(id, 3, 0, "e"), too_long]).expect_err("too long");
    assert_eq!(refused.kind(), ErrorKind::Limit);
    assert_eq!(store.count_dead_letters(id, None).expect("counts"), 3);
}

#[test]
fn key_values_are_scoped_compared_and_bounded() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let whole = KeyValueScope::Pipeline;
    let stream = KeyValueScope::Stream("pipeline".into());
    store.key_value_put(id, &whole, "k", b"1").expect("puts");
    assert_eq!(store.key_value_get(id, &whole, "k").expect("gets"), Some(b"1".to_vec()));
    assert_eq!(store.key_value_get(id, &stream, "k").expect("gets"), None);
    let cas = |expected: Option<&[u8]>, value: Option<&[u8]>| store.key_value_cas(id, &stream, "k", expected, value);
    assert!(!cas(Some(b""), Some(b"x")).expect("compares"), "nothing is not empty");
    assert!(cas(None, Some(b"")).expect("compares"));
    assert!(!cas(None, Some(b"x")).expect("compares"), "empty is not nothing");
    assert!(cas(Some(b""), Some(b"x")).expect("compares"));
    assert!(!cas(Some(b"y"), None).expect("compares"));
    assert!(cas(Some(b"x"), None).expect("compares"));
    assert_eq!(store.key_value_get(id, &stream, "k").expect("gets"), None);
    assert_eq!(store.key_value_get(id, &whole, "k").expect("gets"), Some(b"1".to_vec()));

    store.key_value_put(id, &whole, &"k".repeat(MAX_KEY_BYTES), &vec![7; MAX_VALUE_BYTES]).expect("as long as may be");
    let limits = [
        store.key_value_put(id, &whole, &"k".repeat(MAX_KEY_BYTES + 1), b""),
        store.key_value_put(id, &whole, "", b""),
        store.key_value_put(id, &whole, "k", &vec![7; MAX_VALUE_BYTES + 1]),
        store.key_value_cas(id, &whole, "k", Some(b"1"), Some(&vec![7; MAX_VALUE_BYTES + 1])).map(|_| ()),
    ];
    for limit in limits {
        assert_eq!(limit.expect_err("beyond the bound").kind(), ErrorKind::Limit);
    }
    assert_eq!(store.key_value_get(id, &whole, "k").expect("gets"), Some(b"1".to_vec()));
}

#[test]
fn a_scope_holds_so_many_keys_and_no_more() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let scope = KeyValueScope::Stream("s".into());
    for n in 0..MAX_KEYS_PER_SCOPE {
        store.key_value_put(id, &scope, &n.to_string(), b"v").expect("puts");
    }
    assert_eq!(store.key_value_put(id, &scope, "one more", b"v").expect_err("full").kind(), ErrorKind::Limit);
    let cas = store.key_value_cas(id, &scope, "one more", None, Some(b"v"));
    assert_eq!(cas.expect_err("full").kind(), ErrorKind::Limit);
    store.key_value_put(id, &scope, "5", b"another").expect("a key that is there can be set");
    store.key_value_put(id, &KeyValueScope::Pipeline, "elsewhere", b"v").expect("another scope has room");
    assert!(store.key_value_cas(id, &scope, "5", Some(b"another"), None).expect("deletes"));
    store.key_value_put(id, &scope, "one more", b"v").expect("there is room again");
}

#[test]
fn a_pipeline_nobody_made_is_not_found() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let stranger: PipelineId = "00000000-0000-4000-8000-000000000000".parse().expect("a UUID");
    let generation = GenerationRecord { number: 1, snapshot: "s".into(), state: GenerationState::Open };
    let refused = [
        store.lock_run(stranger, "run-1").map(|_| ()),
        store.advance_epoch(stranger, &orders(), 0, 1),
        store.mirror(&crate::fixture::acknowledged(stranger, crate::fixture::receipt(1, "0", 1, 1))).map(|_| ()),
        store.record_generation(stranger, &orders(), 1, &generation).map(|_| ()),
        store.add_dead_letters(&[letter(stranger, 1, 0, "a")]).map(|_| ()),
        store.key_value_put(stranger, &KeyValueScope::Pipeline, "k", b""),
    ];
    for each in refused {
        assert_eq!(each.expect_err("refused").kind(), ErrorKind::NotFound);
    }
}
