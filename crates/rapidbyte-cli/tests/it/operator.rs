//! What whoever runs the binary decides, whatever a pipeline says.

use rapidbyte_testkit::{Postgres, Project};

#[test]
fn only_allowed_hosts_are_dialled() {
    let server = Postgres::shared();
    let database = server.database("operator");
    database.sql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 10) i");
    let config = database.config();
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: operator\nsource:\n  use: source-postgres\n  config: {{ {config} }}\n  streams: [ {{ name: public.t }} ]\n\
         destination:\n  use: dest-file\n  config: {{ path: out, format: jsonl }}\n"
    ));
    let run = |hosts: &str| project.run().env("RAPIDBYTE_ALLOWED_HOSTS", hosts).finish();

    let refused = run("db.example.com,127.0.0.1:1");
    assert_eq!(refused.code, Some(5), "{}", refused.told());
    assert!(
        refused.stdout.contains("the operator does not allow") && refused.stdout.contains("RAPIDBYTE_ALLOWED_HOSTS"),
        "{}",
        refused.told()
    );
    let unclear = run("");
    assert_eq!(unclear.code, Some(2), "{}", unclear.told());
    assert!(unclear.stdout.contains("RAPIDBYTE_ALLOWED_HOSTS") && unclear.stdout.contains("leave it unset"), "{}", unclear.told());
    let allowed = run("db.example.com,127.0.0.1");
    assert_eq!(allowed.code, Some(0), "{}", allowed.told());
}
