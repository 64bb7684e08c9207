//! `rapidbyte state`: looking at what is remembered, beginning anew, and carrying it elsewhere.

use crate::incremental::pipeline;
use rapidbyte_testkit::{Database, Finished, Postgres, Project};
use std::fs;

const EVENTS: &str =
    "CREATE TABLE events (id int PRIMARY KEY, n int NOT NULL); INSERT INTO events SELECT i, i FROM generate_series(1, 100) i";

fn databases(name: &str) -> (Database<'static>, Database<'static>) {
    let server = Postgres::shared();
    let (source, destination) = (server.database(&format!("{name}_source")), server.database(&format!("{name}_destination")));
    source.sql(EVENTS);
    (source, destination)
}

/// Insists on words on standard output.
#[track_caller]
pub(crate) fn prints(run: &Finished, words: &str) {
    assert!(run.stdout.contains(words), "no `{words}` is printed: {}", run.told());
}

#[track_caller]
fn moved(run: Finished) -> u64 {
    run.success().at("/report/streams/0/rows_written").as_u64().expect("a count")
}

#[track_caller]
fn reset(project: &Project) -> Finished {
    project.rapidbyte(&["state", "reset", "pipeline.yaml", "--stream", "events", "--output", "json"]).finish().success()
}

#[test]
fn what_is_remembered_is_shown() {
    let (source, destination) = databases("shown_state");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "name: events, cursor_field: n", ""));
    let show = |more: &[&str]| project.rapidbyte(&[&["state", "show", "pipeline.yaml"], more].concat()).finish().success();
    // Looking makes no file.
    show(&[]).says("has no state yet");
    assert!(!project.path(".rapidbyte").exists());
    assert_eq!(moved(project.run().finish()), 100);
    let shown = show(&["--output", "json"]);
    let at = |pointer: &str| shown.at(&format!("/pipelines/0{pointer}"));
    assert_eq!(
        (at("/name"), at("/last_run/status"), at("/last_run/rows_written")),
        ("news".into(), "succeeded".into(), 100.into())
    );
    assert_eq!(
        (at("/streams/0/name"), at("/streams/0/namespace"), at("/streams/0/epoch")),
        ("events".into(), "public".into(), 1.into())
    );
    assert_eq!((at("/streams/0/generations/0/number"), at("/streams/0/generations/0/state")), (1.into(), "open".into()));
    let position = at("/streams/0/checkpoints/0/position");
    assert_eq!(position["type"], "json");
    assert!(position["value"].as_str().is_some_and(|value| value.contains("\"100\"")), "{position}");
    let text = show(&[]).stdout;
    for part in ["news", "last run  succeeded", "public.events", "open", "json {"] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    reset(&project);
    prints(&show(&[]), "begins anew");
    assert!(show(&["--output", "json"]).at("/pipelines/0/streams/0/reset_asked_at_ms").is_u64());
}

#[test]
fn a_reset_stream_is_loaded_from_the_start_wherever_it_goes() {
    let (source, destination) = databases("reset_state");
    let count = || destination.sql("SELECT count(*) || ' ' || count(DISTINCT id) FROM events");
    // What was appended stays, and every row comes again.
    let append = pipeline(&source, &destination, "name: events, cursor_field: n", "");
    let project = Project::with_pipeline(&append);
    assert_eq!(moved(project.run().finish()), 100);
    let said = project.rapidbyte(&["state", "reset", "pipeline.yaml"]).finish().success();
    assert!(said.stdout.contains("public.events begins anew: the next run adds every row again"), "{}", said.told());
    assert_eq!(count(), "100 100", "a reset alone changes nothing at the destination");
    assert_eq!(moved(project.run().finish()), 100);
    assert_eq!(count(), "200 100");
    assert_eq!(moved(project.run().finish()), 0);
    // With a state store that was lost: the destination's open load is given up all the same, and another mode may take its place.
    destination.sql("TRUNCATE events");
    fs::remove_dir_all(project.path(".rapidbyte")).expect("the state is there");
    project.write("pipeline.yaml", append.replace("sync_mode: incremental, name: events, cursor_field: n", "name: events"));
    assert_eq!(project.run().finish().at("/error/code"), "mode_changed");
    fs::remove_dir_all(project.path(".rapidbyte")).expect("the state is there");
    reset(&project);
    assert_eq!(moved(project.run().finish()), 100);
    assert_eq!(count(), "100 100");
    // And back, merging.
    let upsert = pipeline(&source, &destination, "name: events, cursor_field: n, destination: { write_mode: upsert }", "");
    project.write("pipeline.yaml", &upsert);
    destination.sql("DELETE FROM events WHERE id > 50; ALTER TABLE events ADD PRIMARY KEY (id)");
    assert_eq!(moved(project.run().finish()), 100);
    reset(&project);
    destination.sql("UPDATE events SET n = 0");
    assert_eq!(moved(project.run().finish()), 100);
    assert_eq!(source.hash("events"), destination.hash("events"));
}

#[test]
fn a_reset_load_of_files_leaves_what_was_published() {
    let (source, _) = databases("reset_files");
    let yaml = format!(
        "version: \"1.0\"\npipeline: filed\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n\
         \x20   - {{ name: events, sync_mode: incremental, cursor_field: n }}\n\
         destination:\n  use: dest-file\n  config: {{ path: out, format: jsonl }}\n",
        source.config()
    );
    let project = Project::with_pipeline(&yaml);
    assert_eq!(moved(project.run().finish()), 100);
    reset(&project);
    assert_eq!(moved(project.run().finish()), 100);
    let files = fs::read_dir(project.path("out/events")).expect("the stream's folder").flatten();
    assert_eq!(files.map(|file| fs::read_to_string(file.path()).expect("text").lines().count()).sum::<usize>(), 200);
    assert_eq!(moved(project.run().finish()), 0);
}

#[test]
fn a_reset_waits_for_no_run_and_names_no_stranger() {
    let (source, destination) = databases("refused_reset");
    let project = Project::with_pipeline(&pipeline(&source, &destination, "name: events, cursor_field: n", ""));
    project
        .rapidbyte(&["state", "reset", "pipeline.yaml", "--stream", "orders"])
        .finish()
        .exit(2)
        .says("no stream `orders`")
        .says("`public.events`");
    assert!(!project.path(".rapidbyte").exists());
    source.sql("INSERT INTO events SELECT i, i FROM generate_series(101, 200) i");
    // A run that waits for the table.
    source.sql("CREATE TABLE go (go int)");
    let holder = "BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE;
         DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM go); PERFORM pg_sleep(0.02); END LOOP; END $$; COMMIT";
    std::thread::scope(|scope| {
        let go = rapidbyte_testkit::AtLast::new(|| drop(source.sql("INSERT INTO go VALUES (1)")));
        let held = scope.spawn(|| source.sql(holder));
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = to_regclass('events')";
        let limit = std::time::Duration::from_secs(30);
        rapidbyte_testkit::within(limit, "the lock", || (source.sql(locked) == "1").then_some(()));
        let run = project.run().start();
        rapidbyte_testkit::within(limit, "the run to wait", || (source.sql(waits) != "0").then_some(()));
        project.rapidbyte(&["state", "reset", "pipeline.yaml"]).finish().exit(10).says("another run");
        drop(go);
        held.join().expect("the holder commits");
        assert_eq!(moved(run.finish()), 200);
    });
}

#[test]
fn state_is_carried_to_another_machine_and_foreign_state_refused() {
    let (source, destination) = databases("carried_state");
    let yaml = pipeline(&source, &destination, "name: events, cursor_field: n", "");
    let here = Project::with_pipeline(&yaml);
    let there = Project::with_pipeline(&yaml);
    let export = |project: &Project| project.rapidbyte(&["state", "export", "pipeline.yaml", "state.json"]).finish();
    export(&here).exit(2).says("has no state yet");
    assert_eq!(moved(here.run().finish()), 100);
    export(&here).success();
    export(&here).exit(13).says("exists");
    let document = fs::read_to_string(here.path("state.json")).expect("a document");
    let import = || there.rapidbyte(&["state", "import", "pipeline.yaml", "state.json"]).finish();
    // Damaged, foreign, of another pipeline: refused, and nothing is taken.
    there.write("state.json", document.replacen("\"rows\": 100", "\"rows\": 999", 1));
    import().exit(9).says("does not match its checksum");
    there.write("state.json", "{\"pipelines\": []}");
    import().exit(9).says("not an exported state");
    there.write("state.json", &document);
    there.write("pipeline.yaml", yaml.replace("pipeline: news", "pipeline: olds"));
    import().exit(3).says("not of pipeline `olds`");
    there.rapidbyte(&["state", "show", "pipeline.yaml"]).finish().success().says("olds");
    there.write("pipeline.yaml", &yaml);
    prints(&import().success(), "taken in");
    assert_eq!(moved(there.run().finish()), 0);
    source.sql("INSERT INTO events VALUES (101, 101)");
    assert_eq!(moved(there.run().finish()), 1);
    // What it has learned since is newer.
    prints(&import().success(), "left as it is");
    assert_eq!(moved(there.run().finish()), 0);
    assert_eq!(source.hash("events"), destination.hash("events"));
}
