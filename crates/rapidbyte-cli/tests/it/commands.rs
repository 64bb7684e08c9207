//! Commands that move nothing, as a newcomer types them.

use crate::state::prints;
use rapidbyte_testkit::{Postgres, Project, connectors, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

/// What every build for users carries.
const BUNDLED: [&str; 8] = [
    "dest-file",
    "dest-postgres",
    "dest-stdout",
    "source-datagen",
    "source-postgres",
    "transform-filter",
    "transform-mask",
    "transform-row-number",
];

/// The columns that `discover` tells of a stream: name, type on the way, type at the source, whether it may be NULL.
fn columns(stream: &Value) -> Vec<(String, String, Option<String>, bool)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let column = |column: &Value| {
        let (name, of) = (text(&column["name"]), text(&column["type"]));
        let nullable = column["nullable"].as_bool().expect("whether it may be NULL");
        (name.expect("a name"), of.expect("a type"), text(&column["source_type"]), nullable)
    };
    stream["columns"].as_array().expect("columns").iter().map(column).collect()
}

#[test]
fn what_init_prints_is_checked_and_runs_as_it_is() {
    let project = Project::empty();
    let first = project.rapidbyte(&["init"]).finish().success();
    assert_eq!(first.stderr, "");
    project.write("pipeline.yaml", &first.stdout);
    prints(&project.rapidbyte(&["check", "pipeline.yaml"]).finish().success(), "is ready to run");
    assert_eq!(project.run().finish().success().at("/report/streams/0/rows_published"), 1000);
    // As JSON it is the same text.
    assert_eq!(project.rapidbyte(&["init", "--output", "json"]).finish().success().at("/pipeline"), first.stdout);
    project.rapidbyte(&["init", "--source", "dest-file"]).finish().exit(2).says("`dest-file` can't be used as a source");
}

#[test]
fn what_init_prints_for_databases_needs_their_names_alone() {
    let database = Postgres::shared().database("initial");
    database.sql("CREATE TABLE my_table AS SELECT i AS id FROM generate_series(1, 10) i");
    let project = Project::empty();
    let printed = project.rapidbyte(&["init", "--source", "source-postgres", "--destination", "dest-postgres"]).finish().success();
    let mut yaml = printed.stdout;
    for (written, here) in [
        ("host: localhost ", "host: 127.0.0.1 ".to_owned()),
        ("# port: 5432 ", format!("port: {} ", database.server().port())),
        ("user: change_me ", format!("user: {} ", database.server().user())),
        ("# password: ", format!("password: {} ", json!(database.server().password()))),
        ("database: change_me ", format!("database: {} ", database.name())),
    ] {
        assert_eq!(yaml.matches(written).count(), 2, "`{written}` at either end of {yaml}");
        yaml = yaml.replace(written, &here);
    }
    // Elsewhere than where it comes from.
    yaml = yaml.replacen("    # schema: public             # The", "    schema: copied # The", 1);
    project.write("pipeline.yaml", &yaml);
    prints(&project.rapidbyte(&["check", "pipeline.yaml"]).finish().success(), "is ready to run");
    project.run().finish().success();
    assert_eq!(database.hash("copied.my_table"), database.hash("public.my_table"));
}

#[test]
fn every_bundled_connector_is_listed_and_tells_what_it_takes() {
    let packed: BTreeSet<String> = fs::read_dir(connectors())
        .expect("the packed connectors")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(packed, BUNDLED.map(str::to_owned).into());
    let project = Project::empty();
    let listed = project.rapidbyte(&["connectors"]).finish().success();
    let documents = project.rapidbyte(&["connectors", "--output", "json"]).finish().success().at("/connectors");
    let documents = documents.as_array().expect("a list");
    assert_eq!(documents.iter().map(|document| document["name"].as_str().expect("a name")).collect::<Vec<_>>(), BUNDLED);
    for document in documents {
        let name = document["name"].as_str().expect("a name");
        let text = fs::read_to_string(root().join("connectors").join(name).join("manifest.json")).expect("a manifest");
        let manifest: Value = serde_json::from_str(&text).expect("JSON");
        let (role, _) = manifest["roles"].as_object().and_then(|roles| roles.iter().next()).expect("a role");
        assert_eq!((&document["from"], &document["roles"]), (&json!("bundled"), &json!([role])), "{name}");
        let line = listed.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("`{name}` is not listed: {}", listed.told()));
        for part in [role.as_str(), manifest["version"].as_str().expect("a version"), "bundled"] {
            assert!(line.split_whitespace().any(|word| word == part), "no `{part}` in: {line}");
        }
        // The schema that a pipeline is held to is the one in the connector's folder.
        let told = project.rapidbyte(&["spec", name, "--output", "json"]).finish().success();
        assert_eq!(told.at("/config_schema"), manifest["config_schema"], "{name}");
        let told = project.rapidbyte(&["spec", name]).finish().success();
        for key in manifest["config_schema"]["properties"].as_object().expect("keys").keys() {
            assert!(told.stdout.lines().any(|line| line.split_whitespace().next() == Some(key)), "`{key}`: {}", told.told());
        }
    }
    let told = project.rapidbyte(&["spec", "source-postgres"]).finish().success().stdout;
    for (key, takes, default) in
        [("port", "integer, 1 to 65535", "5432"), ("password", "string, secret", ""), ("host", "string, host", "(required)")]
    {
        let line = told.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap_or_default();
        assert!(line.contains(takes) && line.contains(default), "{key}: {told}");
    }
    project.rapidbyte(&["spec", "source-nothing"]).finish().exit(3).says("there is no connector `source-nothing`");
}

#[test]
fn generated_streams_are_discovered() {
    let project = Project::with_pipeline(
        "version: \"1.0\"\npipeline: seen\nsource:\n  use: source-datagen\n  config: { pattern: sequence, namespace: made, max_events: 1234 }\n\
         \x20 streams: [ { name: made.sequence } ]\ndestination: { use: dest-file, config: { path: out } }\n",
    );
    let streams = project.rapidbyte(&["discover", "pipeline.yaml", "--output", "json"]).finish().success().at("/streams");
    assert_eq!(streams.as_array().map(Vec::len), Some(1), "{streams}");
    let stream = &streams[0];
    assert_eq!((&stream["namespace"], &stream["name"]), (&json!("made"), &json!("sequence")));
    assert_eq!((&stream["primary_key"], &stream["estimated_rows"]), (&json!(["id"]), &json!(1234)));
    assert_eq!(columns(stream)[0], ("id".into(), "Int64".into(), None, false));
    let shown = project.rapidbyte(&["discover", "pipeline.yaml"]).finish().success();
    for part in ["made.sequence", "about 1,234 rows", "key id", "\n1 stream\n"] {
        prints(&shown, part);
    }
    assert!(!project.path("out").exists() && !project.path(".rapidbyte").exists(), "nothing is written");
}

#[test]
fn tables_are_discovered_with_columns_types_and_keys() {
    let database = Postgres::shared().database("discovered");
    database.sql(
        "CREATE TABLE lines (order_id bigint, line int, price numeric(12,2) NOT NULL, note varchar(20), tags text[], PRIMARY KEY (order_id, line));
         CREATE TABLE keyless (at timestamptz); CREATE VIEW cheap AS SELECT order_id FROM lines WHERE price < 1;
         CREATE SCHEMA sales; CREATE TABLE sales.leads (id int PRIMARY KEY);",
    );
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: seen\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: lines }} ]\n\
         destination: {{ use: dest-file, config: {{ path: out }} }}\n",
        database.config()
    ));
    let streams = project.rapidbyte(&["discover", "pipeline.yaml", "--output", "json"]).finish().success().at("/streams");
    let streams = streams.as_array().expect("a list").clone();
    let told = |stream: &Value| {
        let word = |key: &str| stream[key].as_str().expect("a word").to_owned();
        (format!("{}.{}", word("namespace"), word("name")), word("kind"), stream["primary_key"].clone())
    };
    let mut all: Vec<_> = streams.iter().map(told).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("public.cheap", "view", json!([])),
        ("public.keyless", "table", json!([])),
        ("public.lines", "table", json!(["order_id", "line"])),
        ("sales.leads", "table", json!(["id"])),
    ];
    assert_eq!(all, expected.map(|(name, kind, key)| (name.to_owned(), kind.to_owned(), key)));
    let lines = streams.iter().find(|stream| stream["name"] == "lines").expect("the table");
    let expected = [
        ("order_id", "Int64", "bigint", false),
        ("line", "Int32", "integer", false),
        ("price", "Decimal128(12, 2)", "numeric(12,2)", false),
        ("note", "Utf8", "character varying(20)", true),
        ("tags", "List(Utf8)", "text[]", true),
    ];
    assert_eq!(
        columns(lines),
        expected.map(|(name, of, source, nullable)| (name.to_owned(), of.to_owned(), Some(source.to_owned()), nullable))
    );
    let shown = project.rapidbyte(&["discover", "pipeline.yaml"]).finish().success();
    for part in ["public.lines – table", "key order_id, line", "numeric(12,2)", "sales.leads – table", "\n4 streams\n"] {
        prints(&shown, part);
    }
}
