//! What whoever runs the binary decides, whatever a pipeline says.

use rapidbyte_testkit::{Postgres, Project, packed_fixture};
use std::fs;
use std::path::PathBuf;

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

#[test]
fn compiled_connectors_are_kept_unless_the_operator_says_no() {
    // One small component at both ends. That it is no destination is found out once it is compiled.
    let probe = packed_fixture("probe-spin");
    let project = Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: kept\nsource: {{ use: {0}, streams: [ {{ name: none }} ] }}\ndestination: {{ use: {0} }}\n",
        probe.display()
    ));
    let cache = project.path("cache");
    fs::create_dir(&cache).expect("a directory can be made");
    let load = |kept: Option<&str>| {
        let run = project.run().env("RAPIDBYTE_CACHE_DIR", &cache);
        let run = if let Some(kept) = kept { run.env("RAPIDBYTE_WASMTIME_AOT", kept) } else { run }.finish();
        assert!(run.stdout.contains("can't be used as a destination"), "{}", run.told());
        run
    };
    let compiled = || -> Vec<PathBuf> {
        let files = fs::read_dir(cache.join("compiled")).into_iter().flatten().flatten().map(|entry| entry.path());
        files.filter(|path| path.extension().is_some_and(|kind| kind == "cwasm")).collect()
    };

    load(Some("0"));
    assert_eq!(fs::read_dir(&cache).expect("it is there").count(), 0, "nothing is written");
    load(None);
    let [file] = compiled().try_into().expect("one component, kept once");
    // Nor is what is there read: nobody notices that it is damaged.
    let whole = fs::read(&file).expect("it is ours");
    fs::write(&file, &whole[..100]).expect("it is ours");
    assert!(!load(Some("0")).stderr.contains("compiling again"));
    assert_eq!(fs::read(&file).expect("it is ours").len(), 100, "nor is it mended");
    load(Some("1")).says("compiling again");
    assert_eq!(fs::read(&file).expect("it is ours").len(), whole.len());
    assert!(project.run().env("RAPIDBYTE_WASMTIME_AOT", "off").finish().exit(2).stdout.contains("takes `0` or `1`"));
}
