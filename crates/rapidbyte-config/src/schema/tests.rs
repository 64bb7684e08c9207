use super::*;
use std::collections::HashSet;
use std::path::Path;

#[test]
fn the_published_schema_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/pipeline.schema.json");
    let generated = pipeline_schema();
    if std::env::var_os("RAPIDBYTE_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(&path, &generated).expect("written");
    }
    let published = std::fs::read_to_string(&path).expect("checked in");
    assert!(
        published == generated,
        "docs/reference/pipeline.schema.json is stale: run `RAPIDBYTE_UPDATE_GOLDEN=1 cargo test -p rapidbyte-config schema`"
    );
}

#[test]
fn every_key_has_a_parent_of_the_right_kind_and_parses_its_default() {
    let mut seen = HashSet::new();
    for key in keys() {
        assert!(seen.insert(key.path), "{} twice", key.path);
        assert!(!key.doc.is_empty() && key.doc.ends_with('.'), "{}", key.path);
        if let Some(default) = key.default {
            serde_json::from_str::<Value>(default).expect(key.path);
            assert!(!key.required, "{}", key.path);
        }
        let of = |suffix| key.parent().strip_suffix(suffix);
        let (parent, is_list, is_map) = match (of("[]"), of("{}")) {
            (Some(parent), _) => (parent, true, false),
            (_, Some(parent)) => (parent, false, true),
            _ => (key.parent(), false, false),
        };
        if !parent.is_empty() {
            let parent = keys().iter().find(|other| other.path == parent).expect(key.path);
            assert_eq!(matches!(parent.kind, KeyKind::ObjectList { .. }), is_list, "{}", key.path);
            assert_eq!(matches!(parent.kind, KeyKind::NamedObjects { .. }), is_map, "{}", key.path);
            assert_eq!(matches!(parent.kind, KeyKind::Object), !is_list && !is_map, "{}", key.path);
        }
    }
}

#[test]
fn the_schema_is_draft_7_and_agrees_with_the_reader() {
    let schema: Value = serde_json::from_str(&pipeline_schema()).expect("JSON");
    let validator = jsonschema::draft7::new(&schema).expect("Draft 7");
    let minimal = json!({
        "version": "1.0", "pipeline": "p",
        "source": { "use": "source-datagen", "streams": [{ "name": "users" }] },
        "destination": { "use": "dest-file" },
    });
    assert!(validator.is_valid(&minimal));
    for (pointer, key, value, valid) in [
        ("", "version", json!("2"), false),
        ("", "version", json!("1"), true),
        ("", "nope", json!(1), false),
        ("", "resources", json!({ "parallelism": 64, "compression": null, "max_batch_bytes": "64MiB" }), true),
        ("", "resources", json!({ "parallelism": 65 }), false),
        ("", "resources", json!({ "parallelism": "${N}" }), true),
        ("", "resources", json!({ "parallelism": "4" }), false),
        ("", "resources", json!({ "max_batch_bytes": "64m" }), false),
        ("", "resources", json!({ "compression": "gzip" }), false),
        ("/source/streams/0", "sync_mode", json!("full_refresh"), true),
        ("/source/streams/0", "sync_mode", json!("full"), false),
        ("/source/streams/0", "namespace", json!(null), true),
        ("/source/streams/0", "columns", json!([]), false),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "type": "int64", "required": true } } }), true),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "range": { "min": 0, "max": "1.5" } } } }), true),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "range": { "max": 1.5 } } } }), false),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "one_of": [1, "a", true] } } }), true),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "one_of": [] } } }), false),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "not_null": "yes" } } }), false),
        ("/source/streams/0", "contract", json!({ "columns": { "id": { "no_rule": true } } }), false),
        ("/source/streams/0", "contract", json!({ "columns": {} }), false),
        ("/source/streams/0", "contract", json!({ "other_columns": "fail" }), false),
        ("/source", "streams", json!([]), false),
        ("/destination", "config", json!({ "anything": { "goes": 1 } }), true),
    ] {
        let mut document = minimal.clone();
        document.pointer_mut(pointer).expect("there")[key] = value.clone();
        assert_eq!(validator.is_valid(&document), valid, "{pointer}/{key} = {value}");
        // YAML contains JSON, so that the reader can be asked the same. Variables are set to what fits.
        let read = crate::spec::PipelineSpec::from_str(&document.to_string().replace("\"${N}\"", "4"), "p", &|_| None);
        assert_eq!(read.is_ok(), valid, "{pointer}/{key} = {value}: {read:?}");
    }
}
