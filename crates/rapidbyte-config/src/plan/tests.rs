use super::*;
use crate::error::ConfigErrorKind::{self, *};
use rapidbyte_types::{Limits, Lookback, NullCursorPolicy, Policies, SafeBoundary, StreamName, SyncMode, WriteMode};

const MINIMAL: &str = "\
version: \"1.0\"
pipeline: p
source:
  use: source-datagen
  streams:
    - name: users
destination:
  use: dest-file
";

fn env(name: &str) -> Option<String> {
    match name {
        "PG_PASSWORD" => Some("canary-3141592".to_owned()),
        "N" => Some("8".to_owned()),
        "WORD" => Some("canary-word".to_owned()),
        _ => None,
    }
}

fn load(text: &str) -> Result<PipelinePlan, ConfigError> {
    PipelinePlan::from_str(text, Path::new("dir/pipeline.yaml"), &env)
}

/// The minimal document with one line replaced, or more lines added at its end.
fn with(old: &str, new: &str) -> String {
    if old.is_empty() {
        return format!("{MINIMAL}{new}");
    }
    assert!(MINIMAL.contains(old), "{old}");
    MINIMAL.replace(old, new)
}

#[test]
fn the_least_document_gets_every_default() {
    let plan = load(MINIMAL).expect("valid");
    assert_eq!(plan.pipeline, "p");
    assert_eq!(plan.base_dir, Path::new("dir"));
    assert_eq!(
        plan.source,
        ConnectorPlan { connector: ConnectorRef::Bundled("source-datagen".into()), config: serde_json::json!({}) }
    );
    assert_eq!(plan.streams, [StreamContext::full_refresh(StreamName::new("users"))]);
    assert!(plan.transforms.is_empty());
    assert_eq!(plan.state, StatePlan::Sqlite { path: "dir/.rapidbyte/state.db".into() });
    assert_eq!(plan.resources, Resources { parallelism: 4, max_memory: 2 << 30, max_retries: 3, compression: None });
    assert!(plan.secrets.is_empty());
}

/// What the key table says of defaults is what the plan does.
#[test]
fn published_defaults_are_the_plans_defaults() {
    let mut document: serde_json::Value = serde_json::json!({
        "version": "1", "pipeline": "p",
        "source": { "use": "source-datagen", "streams": [{ "name": "users" }] },
        "destination": { "use": "dest-file", "schema_evolution": {} },
        "state": {}, "resources": {},
    });
    for key in crate::schema::keys() {
        let Some(default) = key.default else { continue };
        let pointer = format!("/{}", key.parent().replace("[]", ".0").replace('.', "/"));
        let pointer = if key.parent().is_empty() { "" } else { pointer.as_str() };
        let Some(parent) = document.pointer_mut(pointer) else { continue };
        parent[key.name()] = serde_json::from_str(default).expect("JSON");
    }
    assert_eq!(load(&document.to_string()).expect("valid"), load(MINIMAL).expect("valid"));
    assert_eq!(document["resources"].as_object().expect("filled").len(), 9, "all but max_record_bytes");
}

#[test]
fn everything_that_is_written_reaches_the_plan() {
    let plan = load(
        r#"
version: "1"
pipeline: pg_to_pg
source:
  use: rapidbyte/source-postgres
  config: { host: localhost, port: 5432, user: app, password: "${PG_PASSWORD}", database: mydb }
  streams:
    - { name: public.users, sync_mode: full_refresh, columns: [id, name, email] }
    - { name: a.b, namespace: sales, destination: { table: raw.sales_ab, write_mode: append } }
    - { name: c.d, namespace: null }
transforms:
  - use: ./transforms/mask.wasm
    config: { fields: [email] }
  - use: transform-filter
destination:
  use: /opt/dest.wasm
  config: { schema: raw }
  write_mode: replace
  on_data_error: fail
  schema_evolution: { new_column: add, removed_column: ignore, type_change: fail, nullability_change: allow }
state: { backend: sqlite, connection: /var/lib/rapidbyte/state.db }
resources:
  parallelism: ${N}
  max_batch_bytes: 8MiB
  max_record_bytes: 512kb
  max_memory: 1gb
  max_inflight_batches: 2
  checkpoint_interval_bytes: 1048576
  checkpoint_interval_rows: 10
  checkpoint_interval_seconds: 60
  max_retries: 0
  compression: zstd
"#,
    )
    .expect("valid");
    let limits = Limits {
        max_batch_bytes: 8 << 20,
        max_record_bytes: 512 << 10,
        max_inflight_batches: 2,
        max_parallel_requests: 1,
        checkpoint_interval_bytes: 1 << 20,
        checkpoint_interval_rows: 10,
        checkpoint_interval_seconds: 60,
    };
    let stream = |name: StreamName, target: StreamName, write_mode| StreamContext {
        target,
        write_mode,
        limits: limits.clone(),
        policies: Policies::default(),
        ..StreamContext::full_refresh(name)
    };
    assert_eq!(
        plan.streams,
        [
            StreamContext {
                selected_columns: Some(vec!["id".into(), "name".into(), "email".into()]),
                ..stream(StreamName::qualified("public", "users"), StreamName::new("users"), WriteMode::Replace)
            },
            stream(StreamName::qualified("sales", "a.b"), StreamName::qualified("raw", "sales_ab"), WriteMode::Append),
            stream(StreamName::new("c.d"), StreamName::new("c.d"), WriteMode::Replace),
        ]
    );
    assert_eq!(plan.source.connector, ConnectorRef::Bundled("source-postgres".into()));
    assert_eq!(plan.source.config["password"], "canary-3141592");
    assert_eq!(plan.source.config["port"], 5432);
    assert_eq!(plan.transforms[0].connector, ConnectorRef::Path("dir/./transforms/mask.wasm".into()));
    assert_eq!(plan.transforms[1].connector, ConnectorRef::Bundled("transform-filter".into()));
    assert_eq!(plan.destination.connector, ConnectorRef::Path("/opt/dest.wasm".into()));
    assert_eq!(plan.state, StatePlan::Sqlite { path: "/var/lib/rapidbyte/state.db".into() });
    let resources = Resources { parallelism: 8, max_memory: 1 << 30, max_retries: 0, compression: Some(Compression::Zstd) };
    assert_eq!(plan.resources, resources);
    assert!(plan.secrets.contains("canary-3141592"));
    assert!(!format!("{plan:?}").contains("canary"), "{plan:?}");
}

#[test]
fn an_example_of_every_part_is_read() {
    let text = r#"
version: "1.0"
pipeline: pg_to_pg
source:
  use: source-postgres
  config: { host: localhost, port: 5432, user: app, password: "${PG_PASSWORD}", database: mydb }
  streams:
    - { name: users, sync_mode: incremental, cursor_field: updated_at, columns: [id, name, email, updated_at] }
transforms:                                       # optional, zero or more
  - use: transform-mask
    config: { fields: [email] }
destination:
  use: dest-postgres
  config: { host: warehouse.internal, port: 5432, user: loader, database: analytics, schema: raw }
  write_mode: upsert                              # append | replace | upsert
  primary_key: [id]
  on_data_error: dlq                              # skip | fail | dlq
  schema_evolution: { new_column: add, removed_column: ignore, type_change: coerce, nullability_change: allow }
state: { backend: sqlite, connection: /var/lib/rapidbyte/state.db }   # default: a per-project file
resources: { parallelism: 4, max_batch_bytes: 64mb, compression: lz4 }
"#;
    let spec = PipelineSpec::from_str(text, "p.yaml", &env).expect("every key is known");
    assert_eq!(spec.streams[0].sync_mode.as_ref().map(|mode| mode.value), Some(SyncMode::Incremental));
    let plan = load(text).expect("every word is available");
    assert_eq!((plan.streams[0].sync_mode, plan.streams[0].write_mode), (SyncMode::Incremental, WriteMode::Upsert));
    assert_eq!(plan.streams[0].primary_key, ["id"]);
    assert_eq!(plan.streams[0].policies.on_data_error, rapidbyte_types::DataErrorPolicy::Dlq);
}

#[test]
fn incremental_keys_are_read_and_refused_where_they_mean_nothing() {
    let stream = |line: &str| with("    - name: users\n", &format!("    - {{ name: users, {line} }}\n"));
    let plan = load(&stream("sync_mode: incremental, cursor_field: at, safe_boundary: lookback(5m), null_cursor: skip"));
    let stream_of = plan.expect("valid").streams.remove(0);
    assert_eq!(stream_of.safe_boundary, Some(SafeBoundary::Lookback(Lookback::Seconds(300))));
    assert_eq!(stream_of.null_cursor, NullCursorPolicy::Skip);
    for (line, message, hint) in [
        ("safe_boundary: none", "`safe_boundary` has no effect with `sync_mode: full_refresh`", "leave `safe_boundary` out"),
        ("null_cursor: skip", "`null_cursor` has no effect", "leave `null_cursor` out"),
        ("sync_mode: incremental, cursor_field: at, safe_boundary: lookback(5w)", "`safe_boundary` is `lookback(5w)`, which", ""),
        ("sync_mode: incremental, cursor_field: at, destination: { write_mode: replace }", "in the place of everything", "upsert"),
        ("sync_mode: incremental", "needs a `cursor_field`", "name the column"),
    ] {
        let error = load(&stream(line)).expect_err(line);
        assert!(error.to_string().contains(message), "{line}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{line}: {:?}", error.hint());
    }
}

#[test]
fn a_load_anew_needs_changes_and_a_key() {
    let with_policy = |stream: &str, policy: &str| {
        let line = format!("  on_lost_slot: {policy}\n  streams:\n    - {{ name: users, {stream} }}\n");
        with("  streams:\n    - name: users\n", &line)
    };
    let upsert = "sync_mode: cdc, destination: { write_mode: upsert }";
    assert_eq!(load(&with_policy(upsert, "resnapshot")).expect("valid").on_lost_slot, LostSlotPolicy::Resnapshot);
    assert_eq!(load(&with_policy("sync_mode: cdc", "fail")).expect("valid").on_lost_slot, LostSlotPolicy::Fail);
    for (stream, message) in [("sync_mode: cdc", "would add rows"), ("columns: [id]", "has no effect")] {
        let error = load(&with_policy(stream, "resnapshot")).expect_err(stream);
        assert!(error.to_string().contains(message) && error.hint().is_some(), "{error}");
    }
}

#[test]
fn refusals_say_what_where_and_what_to_do() {
    let resource = |line: &str| with("", &format!("resources:\n  {line}\n"));
    let stream = |line: &str| with("    - name: users\n", &format!("    - name: users\n      {line}\n"));
    let destination = |line: &str| with("  use: dest-file\n", &format!("  use: dest-file\n  {line}\n"));
    let twins = |second: &str| with("    - name: users\n", &format!("    - name: public.users\n    - {second}\n"));
    let cases: &[(String, ConfigErrorKind, &str, &str)] = &[
        // Keys.
        (
            with("pipeline: p", "pipelin: p"),
            UnknownKey,
            "dir/pipeline.yaml:2:1: unknown key `pipelin` in the document",
            "did you mean `pipeline`?",
        ),
        (
            stream("syncmode: full_refresh"),
            UnknownKey,
            "dir/pipeline.yaml:7:7: unknown key `syncmode` in `source.streams[]`",
            "did you mean `sync_mode`?",
        ),
        (resource("paralelism: 4"), UnknownKey, "10:3: unknown key `paralelism` in `resources`", "did you mean `parallelism`?"),
        (destination("schema_evolution: { newcolumn: add }"), UnknownKey, "`newcolumn`", "did you mean `new_column`?"),
        (destination("zzz: 1"), UnknownKey, "`zzz`", "known keys: `use`, `config`"),
        (with("pipeline: p\n", ""), MissingKey, "1:1: `pipeline` is missing", "add `pipeline`"),
        (with("version: \"1.0\"\n", ""), MissingKey, "`version` is missing", "add `version`"),
        (with("pipeline: p", "pipeline:"), MissingKey, "2:9: `pipeline` is empty", "add `pipeline`"),
        (with("  use: dest-file\n", "  config: {}\n"), MissingKey, "`destination.use` is missing", "add `use`"),
        (with("    - name: users\n", "    - columns: [a]\n"), MissingKey, "`source.streams[].name` is missing", "add `name`"),
        (with("    - name: users\n", ""), MissingKey, "`source.streams` is empty", "add `streams`"),
        // Types.
        (with("pipeline: p", "pipeline: 5"), WrongType, "`pipeline` must be a string, found a number", "in quotes"),
        (
            with("    - name: users\n", "      name: users\n"),
            WrongType,
            "`source.streams` must be a list, found a mapping",
            "begin each item",
        ),
        (with("    - name: users\n", "    - users\n"), WrongType, "`source.streams[]` must be a mapping, found a string", ""),
        (resource("parallelism: \"4\""), WrongType, "must be a whole number, found a string", "without quotes"),
        (resource("parallelism: 1.5"), InvalidValue, "must be a whole number", ""),
        (stream("columns: id"), WrongType, "must be a list of strings", "[a, b]"),
        (destination("config: [a]"), WrongType, "`destination.config` must be a mapping, found a list", ""),
        ("- a\n".to_owned(), WrongType, "the document must be a mapping", ""),
        // Values.
        (with("\"1.0\"", "\"2.0\""), InvalidValue, "1:10: `version` is `2.0`, which this version can't read", "version: \"1.0\""),
        (with("pipeline: p", "pipeline: a/b"), InvalidValue, "`pipeline` is `a/b`, not a name", "letters"),
        (with("pipeline: p", "pipeline: .."), InvalidValue, "not a name", "letters"),
        (stream("sync_mode: full"), InvalidValue, "is `full`, expected one of: `full_refresh`", ""),
        (
            destination("write_mode: apend"),
            InvalidValue,
            "is `apend`, expected one of: `append`, `replace`, `upsert`",
            "did you mean `append`?",
        ),
        (resource("compression: gzip"), InvalidValue, "expected one of: `lz4`, `zstd` or `null`", ""),
        (resource("parallelism: 0"), InvalidValue, "is 0, not within 1 and 64", ""),
        (resource("parallelism: 65"), InvalidValue, "is 65, not within 1 and 64", ""),
        (resource("parallelism: -1"), InvalidValue, "must be within 1 and 64", ""),
        (resource("max_inflight_batches: 1025"), InvalidValue, "not within 1 and 1024", ""),
        (resource("max_record_bytes: 65mb"), InvalidValue, "is 65mb, not within 1kb and 64mb", ""),
        (resource("max_batch_bytes: 1gb"), InvalidValue, "not within 64kb and 256mb", ""),
        (resource("max_batch_bytes: 64m"), InvalidValue, "is `64m`, not a number of bytes", "as in `64mb`"),
        (resource("max_memory: 1mb"), InvalidValue, "not within 64mb and 1024gb", ""),
        (resource("max_retries: 101"), InvalidValue, "not within 0 and 100", ""),
        (stream("columns: []"), InvalidValue, "is an empty list", "leave the key out"),
        (stream("columns: [a, b, a]"), InvalidValue, "7:23: `source.streams[].columns` names `a` twice", ""),
        (stream("columns: [a, \"\"]"), InvalidValue, "is empty", ""),
        (with("name: users", "name: a.b.c"), InvalidValue, "`a.b.c` is not `name` or `namespace.name`", "give `namespace`"),
        (with("name: users", "name: .users"), InvalidValue, "`.users` is not", ""),
        (stream("destination: { table: a.b.c }"), InvalidValue, "`a.b.c` is not", "schema.table"),
        (with("source-datagen", "acme/source"), InvalidValue, "4:8: `acme/source` is neither", "source-postgres"),
        (with("source-datagen", "Source"), InvalidValue, "neither the name of a bundled connector nor a path", "./my_source.wasm"),
        (with("", "state: { connection: \"postgres://u:p@h/db\" }\n"), InvalidValue, "is a URL, not a file", "state.db"),
        // Settings that contradict each other or have no effect.
        (stream("cursor_field: id"), Conflict, "`cursor_field` has no effect with `sync_mode: full_refresh`", "leave"),
        (
            destination("primary_key: [id]"),
            Conflict,
            "`destination.primary_key` has no effect without `write_mode: upsert`",
            "leave",
        ),
        (stream("destination: { primary_key: [id] }"), Conflict, "`primary_key` has no effect", "leave"),
        (twins("{ name: users, namespace: public }"), Conflict, "7:7: a stream comes twice: the first is at 6:7", "keep one"),
        (twins("name: sales.users"), Conflict, "write to the same table: the first is at 6:7", "destination: { table: … }"),
        (twins("{ name: x, destination: { table: users } }"), Conflict, "write to the same table", ""),
        (resource("{ max_batch_bytes: 1mb, max_record_bytes: 2mb }"), Conflict, "fits nowhere", "raise"),
        // Variables and structure.
        (with("pipeline: p", "pipeline: ${NOPE}"), Variable, "2:11: the variable `NOPE` is not set", "set it"),
        (with("pipeline: p", "pipeline: ${NOPE:?name it}"), Variable, "name it", "set `NOPE`"),
        (with("", "pipeline: q\n"), DuplicateKey, "9:1: the key `pipeline` comes twice", "keep one"),
        (with("pipeline: p", "pipeline: [p"), Syntax, "malformed YAML", ""),
        (String::new(), Syntax, "dir/pipeline.yaml: the file is empty", "rapidbyte init"),
    ];
    for (text, kind, message, hint) in cases {
        let error = load(text).expect_err(text);
        assert_eq!(error.kind(), *kind, "{error}\n{text}");
        assert!(error.to_string().contains(message), "{error}\nexpected {message}\n{text}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{error} {:?}\nexpected {hint}\n{text}", error.hint());
        assert_eq!(error.origin(), "dir/pipeline.yaml");
    }
}

#[test]
fn every_word_that_is_not_available_is_refused_by_name_with_a_hint_that_works() {
    for line in not_available() {
        let super::NotAvailable { key, word, hint } = line;
        let document = |word: &str| match *key {
            "sync_mode" => with("    - name: users\n", &format!("    - name: users\n      sync_mode: {word}\n")),
            "write_mode" => with("  use: dest-file\n", &format!("  use: dest-file\n  {key}: {word}\n")),
            "backend" => with("", &format!("state: {{ backend: {word}, connection: x.db }}\n")),
            other => panic!("`{other}` has no document here"),
        };
        let error = load(&document(word)).expect_err(word);
        assert_eq!(error.kind(), ConfigErrorKind::NotAvailable);
        assert_eq!(error.message(), format!("`{key}: {word}` is not available yet"));
        assert_eq!(error.hint(), Some(*hint));
        assert!(error.mark().is_some());
        let works = hint.split('`').nth(1).and_then(|advice| advice.split(": ").nth(1)).expect("a hint names a setting");
        load(&document(works)).expect(hint);
    }
}

/// A value from the environment is not repeated, wherever it stands.
#[test]
fn no_error_repeats_a_substituted_value() {
    for key in crate::schema::keys() {
        let value = match key.kind {
            crate::schema::KeyKind::TextList => "[\"${WORD}\", \"${WORD}\"]",
            _ => "${WORD}",
        };
        let line = format!("{}: {value}", key.name());
        let text = match key.path {
            path if path.starts_with("source.streams[].destination.") => with(
                "    - name: users\n",
                &format!(
                    "    - name: users\n      destination: {{ {} }}\n",
                    line.replace("${WORD}", "'${WORD}'").replace("\"'", "'").replace("'\"", "'")
                ),
            ),
            path if path.starts_with("destination.schema_evolution.") => {
                with("  use: dest-file\n", &format!("  use: dest-file\n  schema_evolution:\n    {line}\n"))
            }
            path => match path.split_once('.') {
                Some((table @ ("state" | "resources"), _)) => with("", &format!("{table}:\n  {line}\n")),
                Some(("destination", "use")) => with("dest-file", "${WORD}/x"),
                Some(("destination", _)) => with("  use: dest-file\n", &format!("  use: dest-file\n  {line}\n")),
                Some(("source", "use")) => with("source-datagen", "${WORD}/x"),
                Some(("source", "streams[].name")) => with("name: users", "name: .${WORD}."),
                Some(("source", rest)) if rest.starts_with("streams[].") => {
                    with("    - name: users\n", &format!("    - name: users\n      {line}\n"))
                }
                _ => continue,
            },
        };
        match load(&text) {
            Ok(plan) => assert!(plan.secrets.contains("canary-word"), "{text}"),
            Err(error) => {
                let shown = format!("{error} {:?} {error:?}", error.hint());
                assert!(!shown.contains("canary"), "{shown}\n{text}");
            }
        }
    }
    let spec = PipelineSpec::from_str(&with("name: users", "name: ${WORD}"), "p", &env).expect("valid");
    assert!(!format!("{spec:?}").contains("canary"), "{spec:?}");
}

#[test]
fn a_record_is_never_larger_than_a_batch_by_default() {
    let plan = load(&with("", "resources: { max_batch_bytes: 1mb }\n")).expect("valid");
    assert_eq!(plan.streams[0].limits.max_record_bytes, 1 << 20);
    let plan = load(MINIMAL).expect("valid");
    assert_eq!(plan.streams[0].limits.max_record_bytes, 16 << 20);
}

#[test]
fn references_are_bundled_names_or_paths() {
    let base = Path::new("/base");
    for (text, expected) in [
        ("source-postgres", Some(ConnectorRef::Bundled("source-postgres".into()))),
        ("rapidbyte/source-postgres", Some(ConnectorRef::Bundled("source-postgres".into()))),
        ("./x.wasm", Some(ConnectorRef::Path("/base/./x.wasm".into()))),
        ("./target/dir", Some(ConnectorRef::Path("/base/./target/dir".into()))),
        ("../x.wasm", Some(ConnectorRef::Path("/base/../x.wasm".into()))),
        ("/abs/x.wasm", Some(ConnectorRef::Path("/abs/x.wasm".into()))),
        ("sub/x.wasm", Some(ConnectorRef::Path("/base/sub/x.wasm".into()))),
        ("x.wasm", Some(ConnectorRef::Path("/base/x.wasm".into()))),
        ("acme/source-x", None),
        ("rapidbyte/", None),
        ("rapidbyte/a/b", None),
        ("Source", None),
        ("https://x/y", None),
        ("-x", None),
    ] {
        assert_eq!(ConnectorRef::parse(text, base), expected, "{text}");
    }
}

#[test]
fn files_are_read_with_their_own_errors() {
    let dir = tempfile::tempdir().expect("a folder");
    let load = |name: &str| PipelinePlan::load(&dir.path().join(name), &env);
    std::fs::write(dir.path().join("good.yaml"), MINIMAL).expect("written");
    std::fs::write(dir.path().join("latin1.yaml"), b"pipeline: \xe9").expect("written");
    std::fs::write(dir.path().join("large.yaml"), vec![b'#'; (1 << 20) + 1]).expect("written");
    assert_eq!(load("good.yaml").expect("valid").base_dir, dir.path());
    assert_eq!(load("none.yaml").expect_err("absent").kind(), Io);
    assert_eq!(load(".").expect_err("a folder").kind(), Io);
    assert_eq!(load("latin1.yaml").expect_err("not UTF-8").kind(), Syntax);
    assert_eq!(load("large.yaml").expect_err("too large").kind(), TooLarge);
}

fn chosen(streams: &str, found: &[(&str, &str)]) -> Result<Vec<StreamContext>, crate::SelectionError> {
    let plan = load(&with("    - name: users\n", streams)).expect("valid");
    let found: Vec<StreamName> = found.iter().map(|(namespace, name)| StreamName::qualified(*namespace, *name)).collect();
    plan.with_found(&found).map(|plan| plan.streams)
}

#[test]
fn patterns_become_the_streams_they_match() {
    let found = [("public", "a"), ("public", "b.c"), ("public", "B"), ("sales", "a")];
    let names = |streams: &str| {
        let streams = chosen(streams, &found).expect("chosen");
        streams.into_iter().map(|stream| (stream.name.to_string(), stream.target.to_string())).collect::<Vec<_>>()
    };
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, target)| ((*name).to_owned(), (*target).to_owned())).collect::<Vec<_>>();
    assert_eq!(names("    - name: 'public.*'\n"), pairs(&[("public.a", "a"), ("public.b.c", "b.c"), ("public.B", "B")]));
    assert_eq!(
        names(
            "    - name: 'public.*'\n      exclude: ['b*', sales.a]\n    - { name: '?ales.*', destination: { table: 'raw.s_*' } }\n"
        ),
        pairs(&[("public.a", "a"), ("public.B", "B"), ("sales.a", "raw.s_a")])
    );
    // One that is named comes first, with its own settings.
    let streams = chosen("    - name: 'public.?'\n      columns: [x]\n    - name: public.B\n", &found).expect("chosen");
    assert_eq!(streams.len(), 2);
    assert_eq!((streams[0].name.name.as_str(), &streams[0].selected_columns), ("B", &None));
    assert_eq!(streams[1].selected_columns, Some(vec!["x".to_owned()]));
}

#[test]
fn patterns_that_can_not_be_resolved_say_why() {
    let found = [("public", "a"), ("public", "b"), ("sales", "a")];
    let cases = [
        ("    - name: 'pulbic.*'\n", "matches none of the source's 3 streams", "`public`, `sales`"),
        ("    - name: '*'\n", "matches none", "`public.*`"),
        ("    - name: 'public.*'\n      exclude: ['?']\n", "matches none", "leaves all 2"),
        ("    - name: 'public.*'\n    - name: '*.b'\n", "matched by `public.*` and by `*.b`", "exclude"),
        ("    - name: 'public.*'\n    - name: b\n", "may be `public.b`", "public.b"),
        ("    - name: '*.*'\n", "would both be written to `a`", "raw.*"),
    ];
    for (streams, message, hint) in cases {
        let error = chosen(streams, &found).expect_err(streams);
        assert!(error.message.contains(message), "{streams}: {error}");
        assert!(error.hint.contains(hint), "{streams}: {}", error.hint);
    }
    for (streams, message) in [
        ("    - name: users\n      exclude: [a]\n", "no effect without a pattern"),
        ("    - { name: 'public.*', destination: { table: one } }\n", "would be written to one table"),
        ("    - name: 'public.*'\n      exclude: ['.a']\n", "not a pattern"),
        ("    - name: users\n      filter: 'id > 5; DROP TABLE users'\n", "`filter` holds a `;`"),
    ] {
        let error = load(&with("    - name: users\n", streams)).expect_err(streams);
        assert!(error.to_string().contains(message), "{streams}: {error}");
        assert!(error.hint().is_some(), "{streams}");
    }
    // Written with its namespace apart, a name is a name.
    let plan = load(&with("    - name: users\n", "    - { namespace: public, name: 'a*?' }\n")).expect("valid");
    assert_eq!((plan.streams[0].name.name.as_str(), plan.patterns.len()), ("a*?", 0));
}
