use super::*;
use std::collections::HashSet;
use std::path::Path;

/// Compares a checked-in file with what it should hold, and writes it anew where `RAPIDBYTE_UPDATE_GOLDEN` is set.
fn golden(file: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(file);
    if std::env::var_os("RAPIDBYTE_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        std::fs::write(&path, generated).expect("written");
    }
    let published = std::fs::read_to_string(&path).expect("checked in");
    assert!(
        published == generated,
        "docs/reference/{file} is stale: run `RAPIDBYTE_UPDATE_GOLDEN=1 cargo test -p rapidbyte-config schema`"
    );
}

#[test]
fn the_published_schema_is_the_generated_one() {
    golden("pipeline.schema.json", &pipeline_schema());
}

#[test]
fn the_page_of_keys_is_the_generated_one() {
    let mut page = PAGE.to_owned();
    let mut section = None;
    for key in keys() {
        if matches!(key.kind, KeyKind::Object | KeyKind::ObjectList { .. } | KeyKind::NamedObjects { .. }) {
            continue;
        }
        if section != Some(key.parent()) {
            section = Some(key.parent());
            let (title, about) =
                match keys().iter().find(|parent| parent.path == key.parent().trim_end_matches(['[', ']', '{', '}'])) {
                    Some(parent) => (format!("`{}`", key.parent()), parent.doc),
                    None => ("The document".to_owned(), ""),
                };
            page += &format!("\n## {title}\n\n{about}\n\n| Key | Takes | Default | |\n|---|---|---|---|\n");
        }
        let default = match (key.default, key.required) {
            (_, true) => "needed".to_owned(),
            (Some(default), false) => format!("`{}`", default.trim_matches('"')),
            (None, false) => String::new(),
        };
        page += &format!("| `{}` | {} | {default} | {} |\n", key.name(), takes(key.kind), key.doc.replace('|', "\\|"));
    }
    golden("pipeline.md", &page.replace("\n\n\n\n", "\n\n"));
}

const PAGE: &str = "# The pipeline file

<!-- Made from the code by a test of rapidbyte-config; `RAPIDBYTE_UPDATE_GOLDEN=1` writes it anew. -->

One YAML document. `rapidbyte init` prints a commented example, `rapidbyte check` looks a file over before anything moves, and editors can use the
[JSON Schema](pipeline.schema.json). A key that isn't known is an error, with the nearest one that is.

Text may hold variables of the environment: `${VAR}`, `${VAR:-default}`, `${VAR:?message}`. They are put in after the YAML is read, so that a value
can't change the document around it; `$${` stands for `${` itself. Sizes are whole numbers of bytes, alone or with a unit: `kb`, `mb` and `gb` are
multiples of 1024, like `KiB`, `MiB` and `GiB`.
";

/// What a key takes, for people.
fn takes(kind: KeyKind) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match kind {
        KeyKind::Text => "text".to_owned(),
        KeyKind::TextOrNull => "text or `null`".to_owned(),
        KeyKind::Version => "`\"1.0\"`, `\"1\"`".to_owned(),
        KeyKind::Word(all) => words(all),
        KeyKind::WordOrNull(all) => format!("{}, `null`", words(all)),
        KeyKind::Integer { min, max } => format!("{min} to {max}"),
        KeyKind::Size { min, max } => format!("{} to {}", size(min), size(max)),
        KeyKind::TextList => "a list of texts".to_owned(),
        KeyKind::Flag => "`true`, `false`".to_owned(),
        KeyKind::Scalar => "text, a whole number, `true` or `false`".to_owned(),
        KeyKind::ScalarList => "a list of them".to_owned(),
        KeyKind::Config => "a mapping".to_owned(),
        KeyKind::Object | KeyKind::ObjectList { .. } | KeyKind::NamedObjects { .. } => String::new(),
    }
}

/// Bytes in the largest unit that divides them.
fn size(bytes: u64) -> String {
    ["", "kb", "mb", "gb"]
        .iter()
        .enumerate()
        .rev()
        .map(|(at, unit)| (1_u64 << (10 * at), unit))
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
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
