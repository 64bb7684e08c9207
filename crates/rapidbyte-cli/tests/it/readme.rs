//! What the README promises first: generated orders become Parquet that a foreign reader agrees about.

use rapidbyte_testkit::{Project, python, root};
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
