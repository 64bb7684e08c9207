//! What the README promises: generated orders become Parquet that a foreign reader agrees about, and tables move.

use rapidbyte_testkit::{Postgres, Project, python, root};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

fn script(name: &str, arguments: &[&str]) -> Value {
    let output = Command::new(python())
        .arg("-B")
        .arg(root().join("tests/independent").join(name))
        .args(arguments)
        .output()
        .expect("the tests' Python can be started");
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

fn content(of: &Value) -> (Value, Value) {
    assert!(of["count"].is_u64() && of["sha256"].is_string(), "{of}");
    (of["count"].clone(), of["sha256"].clone())
}

fn read_by(reader: &str, dir: &Path) -> (Value, Value) {
    content(&script("parquet_hash.py", &[dir.to_str().expect("UTF-8"), "--reader", reader]))
}

#[test]
fn the_first_pipeline_writes_parquet_that_foreign_readers_agree_about() {
    let example = fs::read_to_string(root().join("examples/orders-to-parquet.yaml")).expect("the example");
    let project = Project::with_pipeline(&example);
    let expected = content(&script("datagen.py", &["--pattern", "orders", "--seed", "42", "--rows", "100000"]));

    let run = project.rapidbyte(&["run", "pipeline.yaml", "--peek", "5"]).finish().success();
    assert!(run.stdout.contains("order_id"), "the peek shows rows: {}", run.told());
    assert!(run.stderr.contains("100,000"), "the summary counts rows: {}", run.told());
    assert_eq!(read_by("pyarrow", &project.path("output/orders")), expected, "pyarrow");
    assert_eq!(read_by("duckdb", &project.path("output/orders")), expected, "duckdb");
    assert!(project.path(".rapidbyte/state.db").is_file(), "progress is kept beside the pipeline");

    // `replace`: a second run leaves the same rows, once.
    let again = project.run().finish().success();
    assert_eq!(again.at("/report/streams/0/rows_published"), 100_000);
    assert_eq!(read_by("pyarrow", &project.path("output/orders")), expected, "after a second run");
}

#[test]
fn the_pipeline_that_moves_tables_is_one_that_does() {
    let server = Postgres::shared();
    let (shop, analytics) = (server.database("shop"), server.database("analytics"));
    shop.sql(
        "CREATE TABLE orders AS SELECT i AS id, i % 7 AS customer, i * 1.25 AS total FROM generate_series(1, 2000) i;
         CREATE TABLE customers AS SELECT i AS id, 'name ' || i AS name, 'city ' || i % 3 AS city, 'not asked for' AS note
         FROM generate_series(1, 7) i;",
    );
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let mut yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of YAML").to_owned();
    // Where the servers are, and nothing else. The passwords come from the variables it names.
    let here = format!("host: 127.0.0.1, port: {}", server.port());
    for (written, here) in [
        ("host: localhost", &here),
        ("host: warehouse.internal", &here),
        ("user: app", &format!("user: {}", server.user())),
        ("user: loader", &format!("user: {}", server.user())),
        ("database: shop", &format!("database: {}", shop.name())),
        ("database: analytics", &format!("database: {}", analytics.name())),
    ] {
        assert_eq!(yaml.matches(written).count(), 1, "`{written}` in {yaml}");
        yaml = yaml.replace(written, here);
    }
    let project = Project::with_pipeline(&yaml);
    for command in ["check", "run"] {
        let line = format!("rapidbyte {command} pipeline.yaml");
        assert!(readme.contains(&line), "the README does not say `{line}`");
        let typed = project.rapidbyte(&[command, "pipeline.yaml"]);
        typed.env("PG_PASSWORD", server.password()).env("WAREHOUSE_PASSWORD", server.password()).finish().success();
    }
    assert_eq!(analytics.hash("raw.orders"), shop.hash("orders"));
    assert_eq!(analytics.hash("raw.customers"), shop.hash("(SELECT id, name, city FROM customers)"));
}
