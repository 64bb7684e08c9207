//! No setting is read and ignored: every key of the published schemas has a pair of runs that differ.
//!
//! What a run shows is put into one text: exit code, counts, what was written and where, or the error. A pair is two pipelines,
//! each with a piece that its text must have and the other's must not.

use rapidbyte_testkit::{Finished, Postgres, Project, Rapidbyte, connectors, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// A pipeline, and a piece of what its run must show.
struct Side {
    yaml: String,
    shows: &'static str,
    runs: u32,
}

struct Pair {
    key: &'static str,
    sides: [Side; 2],
}

/// A pipeline in pieces: what differs replaces a piece.
#[derive(Clone)]
struct Pipeline(BTreeMap<&'static str, String>);

impl Pipeline {
    fn new() -> Self {
        let pieces = [
            ("version", "\"1.0\""),
            ("pipeline", "keys"),
            ("source", "source-datagen"),
            ("source_config", "{ pattern: orders, seed: 1, max_events: 100 }"),
            ("stream", "name: orders"),
            ("transforms", ""),
            ("destination", "dest-file"),
            ("destination_config", "{ path: out, format: jsonl }"),
            ("settings", ""),
            ("rest", ""),
        ];
        Self(pieces.into_iter().map(|(name, text)| (name, text.to_owned())).collect())
    }

    fn with(mut self, piece: &'static str, text: impl Into<String>) -> Self {
        assert!(self.0.insert(piece, text.into()).is_some(), "{piece} is a piece");
        self
    }

    fn shows(&self, shows: &'static str) -> Side {
        Side { yaml: self.yaml(), shows, runs: 1 }
    }

    fn yaml(&self) -> String {
        let piece = |name: &str| self.0[name].as_str();
        format!(
            "version: {}\npipeline: {}\nsource:\n  use: {}\n  config: {}\n  streams:\n    - {{ {} }}\n{}destination:\n  use: {}\n  config: {}\n{}{}",
            piece("version"),
            piece("pipeline"),
            piece("source"),
            piece("source_config"),
            piece("stream"),
            piece("transforms"),
            piece("destination"),
            piece("destination_config"),
            piece("settings"),
            piece("rest"),
        )
    }
}

impl Side {
    fn twice(mut self) -> Self {
        self.runs = 2;
        self
    }
}

const REFUSED: &str = "is not available yet";

fn pair(key: &'static str, one: Side, other: Side) -> Pair {
    Pair { key, sides: [one, other] }
}

/// A pair that differs in one piece.
fn differs(key: &'static str, piece: &'static str, one: (&str, &'static str), other: (&str, &'static str)) -> Pair {
    let base = Pipeline::new();
    pair(key, base.clone().with(piece, one.0).shows(one.1), base.with(piece, other.0).shows(other.1))
}

/// A setting of `destination` with a word that works and one that is refused.
fn not_yet(key: &'static str, works: &str, refused: &str) -> Pair {
    differs(key, "settings", (&format!("  {works}\n"), "exit 0"), (&format!("  {refused}\n"), REFUSED))
}

fn pairs() -> Vec<Pair> {
    let base = Pipeline::new;
    let postgres = Postgres::shared();
    let wide = postgres.database("keys_wide");
    wide.sql("CREATE TABLE wide AS SELECT 1 AS id, repeat('x', 100000) AS text");
    let from_wide = |rest: &str| {
        base()
            .with("source", "source-postgres")
            .with("source_config", format!("{{ {} }}", wide.config()))
            .with("stream", "name: public.wide")
            .with("rest", rest)
    };
    let evolution = |text: &str| format!("schema_evolution: {{ {text} }}");
    let resources = |text: &str| base().with("rest", format!("resources: {{ {text} }}\n"));
    let many =
        |text: &str| resources(text).with("source_config", "{ pattern: orders, seed: 1, max_events: 20000, batch_rows: 1000 }");
    let large = |text: &str| {
        resources(text).with("source_config", "{ pattern: sequence, max_events: 600000 }").with("stream", "name: sequence")
    };
    // One row of 24 MiB passes both guests, and each holds it more than once.
    let huge = postgres.database("keys_huge");
    huge.sql("CREATE TABLE huge AS SELECT 1 AS id, repeat('x', 24000000) AS text");
    let hungry = |text: &str| {
        resources(&format!("max_record_bytes: 32mb, {text}"))
            .with("source", "source-postgres")
            .with("source_config", format!("{{ {} }}", huge.config()))
            .with("stream", "name: public.huge")
    };
    let unreachable = |retries: u32| {
        resources(&format!("max_retries: {retries}"))
            .with("source", "source-postgres")
            .with("source_config", "{ host: 127.0.0.1, port: 1, user: u, database: d }")
            .with("stream", "name: public.t")
    };
    let written = |mode: &str| format!("name: orders, destination: {{ write_mode: {mode} }}");
    vec![
        differs("version", "version", ("\"1\"", "exit 0"), ("\"3\"", "exit 3")),
        differs("pipeline", "pipeline", ("first", "pipeline first"), ("second", "pipeline second")),
        differs("source.use", "source", ("source-datagen", "read 100"), ("source-none", "exit 3")),
        differs("source.config", "source_config", ("{ max_events: 5 }", "read 5 "), ("{ max_events: 7 }", "read 7 ")),
        differs("source.streams[].name", "stream", ("name: orders", "exit 0"), ("name: others", "others")),
        pair(
            "source.streams[].namespace",
            base()
                .with("source_config", "{ namespace: sales }")
                .with("stream", "name: orders, namespace: sales")
                .shows("stream sales.orders"),
            base().with("stream", "name: orders, namespace: null").shows("stream orders"),
        ),
        differs(
            "source.streams[].sync_mode",
            "stream",
            ("name: orders, sync_mode: full_refresh", "exit 0"),
            ("name: orders, sync_mode: cdc", REFUSED),
        ),
        differs(
            "source.streams[].cursor_field",
            "stream",
            ("name: orders", "exit 0"),
            ("name: orders, cursor_field: order_id", "cursor_field"),
        ),
        differs(
            "source.streams[].columns",
            "stream",
            ("name: orders, columns: [status, order_id]", "columns status,order_id;"),
            ("name: orders, columns: [order_id]", "columns order_id;"),
        ),
        differs(
            "source.streams[].destination.table",
            "stream",
            ("name: orders, destination: { table: first }", "out/first"),
            ("name: orders, destination: { table: second }", "out/second"),
        ),
        pair(
            "source.streams[].destination.write_mode",
            base().with("stream", written("append")).shows("200 lines").twice(),
            base().with("stream", written("replace")).shows("100 lines").twice(),
        ),
        differs(
            "source.streams[].destination.primary_key",
            "stream",
            ("name: orders", "exit 0"),
            ("name: orders, destination: { primary_key: [order_id] }", "primary_key"),
        ),
        differs(
            "transforms[].use",
            "transforms",
            (
                "transforms:\n  - { use: transform-filter, config: { where: [ { field: order_id, op: le, value: 3 } ] } }\n",
                "3 lines",
            ),
            ("transforms:\n  - { use: transform-mask, config: { fields: [status] } }\n", "100 lines"),
        ),
        differs(
            "transforms[].config",
            "transforms",
            (
                "transforms:\n  - { use: transform-filter, config: { where: [ { field: order_id, op: le, value: 3 } ] } }\n",
                "3 lines",
            ),
            (
                "transforms:\n  - { use: transform-filter, config: { where: [ { field: order_id, op: le, value: 4 } ] } }\n",
                "4 lines",
            ),
        ),
        pair("destination.use", base().shows("100 lines"), base().with("destination", "dest-none").shows("exit 3")),
        differs(
            "destination.config",
            "destination_config",
            ("{ path: alpha, format: jsonl }", "alpha/"),
            ("{ path: beta, format: jsonl }", "beta/"),
        ),
        pair(
            "destination.write_mode",
            base().with("settings", "  write_mode: append\n").shows("200 lines").twice(),
            base().with("settings", "  write_mode: replace\n").shows("100 lines").twice(),
        ),
        differs("destination.primary_key", "settings", ("", "exit 0"), ("  primary_key: [order_id]\n", "primary_key")),
        not_yet("destination.on_data_error", "on_data_error: fail", "on_data_error: skip"),
        not_yet("destination.schema_evolution.new_column", &evolution("new_column: add"), &evolution("new_column: fail")),
        not_yet(
            "destination.schema_evolution.removed_column",
            &evolution("removed_column: ignore"),
            &evolution("removed_column: fail"),
        ),
        not_yet("destination.schema_evolution.type_change", &evolution("type_change: fail"), &evolution("type_change: coerce")),
        not_yet(
            "destination.schema_evolution.nullability_change",
            &evolution("nullability_change: allow"),
            &evolution("nullability_change: fail"),
        ),
        differs("state.backend", "rest", ("state: { backend: sqlite }\n", "exit 0"), ("state: { backend: postgres }\n", REFUSED)),
        differs(
            "state.connection",
            "rest",
            ("state: { connection: here.db }\n", "state here.db"),
            ("state: { connection: below/there.db }\n", "state below/there.db"),
        ),
        pair(
            "resources.parallelism",
            large("parallelism: 1").shows("partitions 1;"),
            large("parallelism: 3").shows("partitions 3;"),
        ),
        pair(
            "resources.max_batch_bytes",
            many("parallelism: 1, checkpoint_interval_rows: 1, max_batch_bytes: 64mb").shows("checkpoints 21;"),
            many("parallelism: 1, checkpoint_interval_rows: 1, max_batch_bytes: 64kb").shows("checkpoints many;"),
        ),
        pair(
            "resources.max_record_bytes",
            from_wide("resources: { max_record_bytes: 1mb }\n").shows("exit 0"),
            from_wide("resources: { max_record_bytes: 4kb }\n").shows("max_record_bytes"),
        ),
        pair("resources.max_memory", hungry("max_memory: 2gb").shows("exit 0"), hungry("max_memory: 64mb").shows("max_memory")),
        pair(
            "resources.max_inflight_batches",
            many("parallelism: 1, max_inflight_batches: 1")
                .with("destination", "dest-stdout")
                .with("destination_config", "{ format: json }")
                .shows("waited early"),
            many("parallelism: 1, max_inflight_batches: 100")
                .with("destination", "dest-stdout")
                .with("destination_config", "{ format: json }")
                .shows("waited late"),
        ),
        pair(
            "resources.checkpoint_interval_rows",
            many("parallelism: 1, checkpoint_interval_rows: 5000").shows("checkpoints 5;"),
            many("parallelism: 1").shows("checkpoints 1;"),
        ),
        pair(
            "resources.checkpoint_interval_bytes",
            many("parallelism: 1, checkpoint_interval_bytes: 100kb").shows("checkpoints 21;"),
            many("parallelism: 1, checkpoint_interval_bytes: 0").shows("checkpoints 1;"),
        ),
        pair(
            "resources.checkpoint_interval_seconds",
            resources("parallelism: 1, checkpoint_interval_seconds: 1")
                .with("source_config", "{ max_events: 2500, events_per_second: 1000, batch_rows: 100 }")
                .shows("checkpoints 3;"),
            resources("parallelism: 1")
                .with("source_config", "{ max_events: 2500, events_per_second: 1000, batch_rows: 100 }")
                .shows("checkpoints 1;"),
        ),
        pair("resources.max_retries", unreachable(0).shows("attempts 1;"), unreachable(2).shows("attempts 3;")),
        pair(
            "resources.compression",
            many("compression: null").shows("not compressed"),
            many("compression: zstd").shows("compressed to "),
        ),
    ]
}

/// What a run shows, as text.
fn shown(project: &Project, run: &Finished) -> String {
    let mut text = format!("exit {}\n", run.code.unwrap_or(-1));
    let document: Value = run.stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let report = &document["report"];
    if report.is_object() {
        let _ = writeln!(text, "pipeline {}", report["pipeline"].as_str().unwrap_or_default());
        let packed = report["timings_ns"]["compress"].as_u64().unwrap_or_default();
        text.push_str(if packed > 0 { "compressed to less\n" } else { "not compressed\n" });
    }
    for stream in report["streams"].as_array().into_iter().flatten() {
        let number = |key: &str| stream[key].as_u64().unwrap_or_default();
        let checkpoints = number("checkpoints");
        let _ = writeln!(
            text,
            "stream {}; read {} ; written {}; checkpoints {}; partitions {};",
            stream["stream"].as_str().unwrap_or_default(),
            number("rows_read"),
            number("rows_written"),
            if checkpoints > 25 { "many".to_owned() } else { checkpoints.to_string() },
            number("partitions")
        );
    }
    let error = &document["error"];
    if error.is_object() {
        let _ = writeln!(text, "attempts {};\n{} {} {}", error["attempts"], error["message"], error["cause"], error["hint"]);
    }
    let marks = run.stderr.lines().filter(|line| line.contains("source.batch.emitted")).count();
    if marks > 0 {
        text.push_str(if marks < 12 { "waited early\n" } else { "waited late\n" });
    }
    files(project.dir(), project.dir(), &mut text);
    text
}

/// Folders with visible files: how many lines, and the first one's keys.
fn files(root: &Path, dir: &Path, text: &mut String) {
    let mut lines = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let below = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if path.is_dir() && !name.starts_with(['_', '.']) {
            files(root, &path, text);
        } else if name.ends_with(".jsonl") || name.ends_with(".csv") {
            lines.extend(fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned));
        } else if name.ends_with(".db") {
            let _ = writeln!(text, "state {below}");
        }
    }
    if let Some(first) = lines.first() {
        let below = dir.strip_prefix(root).unwrap_or(dir).display();
        let keys = serde_json::from_str::<Value>(first).ok();
        let keys = keys
            .as_ref()
            .and_then(Value::as_object)
            .map(|keys| keys.keys().cloned().collect::<Vec<_>>().join(","))
            .unwrap_or_default();
        let _ = writeln!(text, "{below}/ has {} lines; columns {keys};", lines.len());
    }
}

/// Runs a side in a fresh place.
fn run(key: &str, side: &Side) -> String {
    let project = Project::with_pipeline(&side.yaml);
    let mut last = String::new();
    for _ in 0..side.runs {
        let command = project.run();
        let finished = if key == "resources.max_inflight_batches" { unread(&project) } else { command.finish() };
        last = shown(&project, &finished);
    }
    last
}

/// A run whose standard output nobody reads, for a while: only so much can be under way.
fn unread(project: &Project) -> Finished {
    let line = format!("'{}' run pipeline.yaml --log-level trace | sleep 2", rapidbyte_testkit::binary().display());
    Rapidbyte::new(project.dir()).program("/bin/sh".into()).args(&["-c", &line]).finish()
}

/// The paths of a JSON Schema's keys that have no keys below them.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if below["properties"].is_object() {
            leaves(below, &path, found);
        } else if below["items"]["properties"].is_object() {
            leaves(&below["items"], &format!("{path}[]"), found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn every_key_of_a_pipeline_has_an_effect_or_is_refused() {
    let text = fs::read_to_string(root().join("docs/reference/pipeline.schema.json")).expect("the published schema");
    let mut published = BTreeSet::new();
    leaves(&serde_json::from_str(&text).expect("a schema is JSON"), "", &mut published);
    let pairs = pairs();
    let shown: BTreeSet<_> = pairs.iter().map(|pair| pair.key.to_owned()).collect();
    assert_eq!(published, shown, "keys of the published schema (left), and keys with a pair of runs that differ (right)");
    check(&pairs);
}

fn check(pairs: &[Pair]) {
    let mut wrong = Vec::new();
    for Pair { key, sides: [one, other] } in pairs {
        let texts = [run(key, one), run(key, other)];
        for (text, other_text, side) in [(&texts[0], &texts[1], one), (&texts[1], &texts[0], other)] {
            if !text.contains(side.shows) || other_text.contains(side.shows) {
                wrong.push(format!(
                    "`{key}`: `{}` should be shown by the first and not by the second.\n--- pipeline\n{}--- first\n{text}--- second\n{other_text}",
                    side.shows, side.yaml
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} sides are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

// ---- the connectors' own keys ----

/// A connector's configuration, and what it shows.
type Shown<'a> = (&'a str, &'static str);

fn datagen(key: &'static str, one: Shown<'_>, other: Shown<'_>) -> Pair {
    let side = |of: Shown<'_>| Pipeline::new().with("source_config", format!("{{ {} }}", of.0)).shows(of.1);
    pair(key, side(one), side(other))
}

fn file(key: &'static str, one: Shown<'_>, other: Shown<'_>) -> Pair {
    let side = |of: Shown<'_>| Pipeline::new().with("destination_config", format!("{{ {} }}", of.0)).shows(of.1);
    pair(key, side(one), side(other))
}

fn transform(key: &'static str, name: &str, one: Shown<'_>, other: Shown<'_>) -> Pair {
    let side = |of: Shown<'_>| {
        Pipeline::new().with("transforms", format!("transforms:\n  - {{ use: {name}, config: {{ {} }} }}\n", of.0)).shows(of.1)
    };
    pair(key, side(one), side(other))
}

/// Keys of servers are the same for source and destination; each side is tried where a mistake shows.
fn server(destination: bool, text: &str) -> Pipeline {
    let base = Pipeline::new();
    if destination {
        base.with("destination", "dest-postgres").with("destination_config", format!("{{ {text} }}"))
    } else {
        base.with("source", "source-postgres").with("source_config", format!("{{ {text} }}")).with("stream", "name: t")
    }
}

#[test]
fn every_connector_that_has_keys_is_described() {
    // The keys themselves are tried by each connector's own tests; here: that none is undocumented, and that one more is refused.
    for entry in fs::read_dir(connectors()).expect("the packed connectors").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let manifest: Value =
            serde_json::from_str(&fs::read_to_string(entry.path().join("manifest.json")).expect("a manifest")).expect("JSON");
        let schema = &manifest["config_schema"];
        assert_eq!(schema["additionalProperties"], false, "{name} takes keys that it does not know");
        for (key, about) in schema["properties"].as_object().expect("properties") {
            assert!(about["description"].is_string(), "{name}: `{key}` is not described");
        }
    }
}

#[test]
fn keys_of_the_connectors_have_an_effect() {
    let postgres = Postgres::shared();
    let database = postgres.database("keys_server");
    database.sql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 100) i; CREATE SCHEMA apart; CREATE TABLE apart.t AS SELECT i AS id FROM generate_series(1, 7) i;");
    let custom = |of: &str| format!("custom_fields: [ {{ name: extra, type: utf8, generator: constant, value: {of} }} ]");
    let extra = custom("one");
    let mut pairs = vec![
        datagen(
            "source-datagen:pattern",
            ("pattern: orders, stream_name: orders", "order_id"),
            ("pattern: sequence, stream_name: orders", "columns id,value;"),
        ),
        datagen("source-datagen:max_events", ("max_events: 5", "read 5 "), ("max_events: 6", "read 6 ")),
        datagen("source-datagen:stream_name", ("stream_name: orders", "exit 0"), ("stream_name: named", "named")),
        datagen("source-datagen:namespace", ("namespace: a", "a.orders"), ("pattern: orders", "stream orders;")),
        datagen(
            "source-datagen:include_sequence",
            ("include_sequence: true", "sequence_number"),
            ("include_sequence: false", "updated_at;"),
        ),
        datagen(
            "source-datagen:include_timestamp",
            ("include_timestamp: true", "generated_at"),
            ("include_timestamp: false", "updated_at;"),
        ),
        datagen("source-datagen:custom_fields", (&extra, "extra"), ("pattern: orders", "updated_at;")),
        file("dest-file:path", ("path: alpha, format: jsonl", "alpha/"), ("path: beta, format: jsonl", "beta/")),
        file("dest-file:format", ("path: out, format: jsonl", "100 lines"), ("path: out, format: csv", "101 lines")),
        file(
            "dest-file:csv.header",
            ("path: out, format: csv, csv: { header: true }", "101 lines"),
            ("path: out, format: csv, csv: { header: false }", "100 lines"),
        ),
        transform(
            "transform-filter:where",
            "transform-filter",
            ("where: [ { field: order_id, op: le, value: 3 } ]", "3 lines"),
            ("where: [ { field: order_id, op: le, value: 9 } ]", "9 lines"),
        ),
        transform(
            "transform-filter:match",
            "transform-filter",
            ("match: all, where: [ { field: order_id, op: le, value: 3 }, { field: order_id, op: ge, value: 3 } ]", "has 1 lines"),
            ("match: any, where: [ { field: order_id, op: le, value: 3 }, { field: order_id, op: ge, value: 3 } ]", "100 lines"),
        ),
        transform(
            "transform-filter:streams",
            "transform-filter",
            ("streams: [orders], where: [ { field: order_id, op: le, value: 3 } ]", "3 lines"),
            ("streams: [others], where: [ { field: order_id, op: le, value: 3 } ]", "100 lines"),
        ),
        transform("transform-mask:fields", "transform-mask", ("fields: [status]", "exit 0"), ("fields: [nothing]", "nothing")),
    ];
    let config = database.config();
    for destination in [false, true] {
        let side = |text: String, shows| server(destination, &text).shows(shows);
        let changed = |from: &str, to: &str| {
            assert!(config.contains(from), "{config}");
            config.replacen(from, to, 1)
        };
        let port = format!("port: {}", postgres.port());
        for (key, text, shows) in [
            ("host", changed("127.0.0.1", "host.invalid"), "host.invalid"),
            ("port", changed(&port, "port: 1"), "exit 6"),
            ("user", changed("keeper", "stranger"), "exit 4"),
            ("database", changed(database.name(), "no_such_database"), "no_such_database"),
            ("sslmode", format!("{config}, sslmode: require"), "sslmode"),
            ("sslrootcert", format!("{config}, sslrootcert: nowhere.pem"), "nowhere.pem"),
        ] {
            pairs.push(pair(key, side(config.clone(), "exit 0"), {
                let mut other = side(text, shows);
                other.yaml.push_str("resources: { max_retries: 0 }\n");
                other
            }));
        }
    }
    pairs.push(pair(
        "schema",
        server(false, &config).shows("read 100 "),
        server(false, &format!("{config}, schema: apart")).shows("read 7 "),
    ));
    check(&pairs);
}
