//! Every run is recorded, however it ends.

use rapidbyte_testkit::{Project, python};
use std::process::Command;

/// Status and error code of each run in the project's state store, oldest first.
fn runs(project: &Project) -> String {
    let script = "import sqlite3; print(*sqlite3.connect('.rapidbyte/state.db').execute(\"SELECT status || ' ' || coalesce(error_code, '-') FROM runs ORDER BY started_at_ms\").fetchall())";
    let output =
        Command::new(python()).args(["-c", script]).current_dir(project.dir()).output().expect("the tests' Python can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_run_that_can_not_reach_its_source_is_recorded_and_the_next_one_too() {
    let pipeline = |source: &str| {
        format!(
            "version: \"1.0\"\npipeline: recorded\nsource: {source}\ndestination: {{ use: dest-file, config: {{ path: out, format: jsonl }} }}\nresources: {{ max_retries: 0 }}\n"
        )
    };
    let unreachable =
        "{ use: source-postgres, config: { host: 127.0.0.1, port: 1, user: u, database: d }, streams: [ { name: t } ] }";
    let project = Project::with_pipeline(&pipeline(unreachable));
    project.run().finish().exit(6);
    assert_eq!(runs(&project), "('failed connection_refused',)");
    // The pipeline was only announced: a source that answers may still become its source.
    project.write("pipeline.yaml", pipeline("{ use: source-datagen, config: { max_events: 10 }, streams: [ { name: orders } ] }"));
    project.run().finish().success();
    assert_eq!(runs(&project), "('failed connection_refused',) ('succeeded -',)");
}
