//! Beginning anew, and carrying state from one store to another.

use crate::fixture::{Fixture, acknowledged, fill, orders, pipeline, receipt};
use rapidbyte_state::*;
use rapidbyte_types::StreamName;

/// What runs go on from.
fn progress(store: &dyn StateStore) -> String {
    let mut text = String::new();
    for pipeline in store.pipelines().expect("reads") {
        text.push_str(&format!("{pipeline:?}\n{:?}\n", store.resets(pipeline.id).expect("reads")));
        for stream in store.streams(pipeline.id).expect("reads") {
            let epoch = store.epoch(pipeline.id, &stream).expect("reads");
            let generations = store.generations(pipeline.id, &stream).expect("reads");
            let checkpoints = store.checkpoints(pipeline.id, &stream).expect("reads");
            text.push_str(&format!("{stream:?} {epoch} {generations:?} {checkpoints:?}\n"));
        }
        for n in 0..20 {
            let value = store.key_value_get(pipeline.id, &KeyValueScope::Pipeline, &format!("key-{n}")).expect("reads");
            text.push_str(&format!("{value:?}\n"));
        }
    }
    text
}

fn exported() -> (String, String) {
    let fixture = Fixture::new();
    let store = fixture.store();
    fill(&store);
    (store.export(None, 9_000).expect("exports").to_json(), progress(&store))
}

#[test]
fn a_reset_lasts_until_the_next_load_has_begun() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let reset = ResetRecord { stream: orders(), asked_at_ms: 5 };
    {
        let guard = store.lock_run(id, "reset").expect("locks");
        store.ask_reset(&guard, &reset).expect("asks");
        store.ask_reset(&guard, &reset).expect("asks again");
    }
    store.advance_epoch(id, &orders(), 0, 1).expect("advances");
    assert_eq!(store.resets(id).expect("reads"), [reset]);
    let open = GenerationRecord { number: 4, snapshot: "s".into(), state: GenerationState::Open };
    store.record_generation(id, &StreamName::new("other"), 1, &open).expect("records");
    assert_eq!(store.resets(id).expect("reads").len(), 1);
    store.record_generation(id, &orders(), 1, &open).expect("records");
    assert!(store.resets(id).expect("reads").is_empty());
}

#[test]
fn what_was_exported_is_imported_whole() {
    let (json, expected) = exported();
    let fixture = Fixture::new();
    let store = fixture.store();
    let export = StateExport::from_json(&json).expect("whole");
    assert_eq!((export.pipelines().collect::<Vec<_>>(), export.streams()), (vec!["other", "sales"], 3));
    let report = store.import(&export).expect("imports");
    assert_eq!((report.taken.len(), report.kept.len()), (3, 0));
    assert_eq!(progress(&store), expected);
    store.check().expect("sound");
    // Again: nothing is newer.
    let report = store.import(&export).expect("imports");
    assert_eq!((report.taken.len(), report.kept.len()), (0, 3));
    assert_eq!(progress(&store), expected);
    // The layout of the file does not matter.
    let compact = serde_json::from_str::<serde_json::Value>(&json).expect("JSON").to_string();
    assert_eq!(StateExport::from_json(&compact).expect("whole"), export);
}

#[test]
fn nothing_moves_backward() {
    let (json, _) = exported();
    let export = StateExport::from_json(&json).expect("whole");
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    store.advance_epoch(id, &orders(), 0, 8).expect("advances");
    store.mirror(&acknowledged(id, receipt(9, "0", 8, 2))).expect("mirrors");
    let report = store.import(&export).expect("imports");
    assert_eq!((report.taken.len(), report.kept), (2, vec![("sales".to_owned(), orders())]));
    assert_eq!(store.epoch(id, &orders()).expect("reads"), 8);
    assert_eq!(store.checkpoints(id, &orders()).expect("reads")[0].generation, 9);
    // A newer document is taken in the place of what is known, all of it.
    let newer = store.export(Some(id), 1).expect("exports");
    let other = Fixture::new();
    let other = other.store();
    other.import(&export).expect("imports");
    other.import(&newer).expect("imports");
    assert_eq!(other.checkpoints(id, &orders()).expect("reads"), store.checkpoints(id, &orders()).expect("reads"));
    assert!(other.generations(id, &orders()).expect("reads").is_empty());
}

#[test]
fn what_is_damaged_or_foreign_is_refused() {
    let (json, _) = exported();
    let refused = |text: &str| StateExport::from_json(text).expect_err("refused").kind();
    for foreign in ["", "x", "[]", "{}", "{\"format\": \"other\"}", "{\"version\": 1}", "\u{0}"] {
        assert_eq!(refused(foreign), ErrorKind::NotOurs, "{foreign:?}");
    }
    assert_eq!(refused(&json.replacen("\"version\": 1", "\"version\": 2", 1)), ErrorKind::TooNew);
    assert_eq!(refused(&json.replacen("\"version\": 1", "\"version\": 0", 1)), ErrorKind::Corrupt);
    for (was, is) in
        [("\"epoch\": 7", "\"epoch\": 8"), ("public", "publlc"), ("\"rows\": 400", "\"rows\": 401"), ("sales", "salts")]
    {
        assert!(json.contains(was), "{was}");
        assert_eq!(refused(&json.replacen(was, is, 1)), ErrorKind::Corrupt, "{was}");
    }
    // Cut off anywhere; one character less anywhere. White space does not count.
    let whole = StateExport::from_json(&json).expect("whole");
    let end = json.trim_end().len();
    for cut in (1..end).step_by(97) {
        refused(&json[..cut]);
        if json.is_char_boundary(cut + 1) {
            let without = format!("{}{}", &json[..cut], &json[cut + 1..]);
            if let Ok(same) = StateExport::from_json(&without) {
                assert_eq!(same, whole, "without the character at {cut}");
            }
        }
    }
}

#[test]
fn another_pipeline_or_a_running_one_is_refused_and_nothing_changes() {
    let (json, _) = exported();
    let export = StateExport::from_json(&json).expect("whole");
    let fixture = Fixture::new();
    let store = fixture.store();
    // The same name, but another source.
    store.resolve_pipeline("sales", "source:other", 1).expect("resolves");
    let before = progress(&store);
    assert_eq!(store.import(&export).expect_err("refused").kind(), ErrorKind::IdentityMismatch);
    assert_eq!(progress(&store), before, "not even the pipeline that would fit");

    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let guard = store.lock_run(id, "run").expect("locks");
    assert_eq!(store.import(&export).expect_err("refused").kind(), ErrorKind::Locked);
    drop(guard);
    store.import(&export).expect("imports");
}
