//! A transform with a state: whatever is killed and whenever, its numbers are those of a run that nobody disturbs.

use crate::crash::{CONFIRM, InDatabase, InFolder, Journey, MANDATED, Place, changes, sweep};
use crate::incremental::pipeline;
use rapidbyte_testkit::{Database, Finished, Postgres, Project, Proof, Seeded, is_full};
use std::thread;
use std::time::{Duration, Instant};

const ROWS: u64 = 12_000;
const EVERY: &str = "checkpoint_interval_rows: 1500";
const NUMBERED: &str = "transforms:\n  - { use: transform-filter, config: { where: [ { field: order_id, op: gt, value: 10 } ] } }\n\
                        \x20 - { use: transform-row-number, config: { key: [status] } }\n\
                        \x20 - { use: transform-row-number, config: { column: whole } }\n";

/// Generated rows, with a commit at every eighth or twelfth part of them.
fn generated(destination: &str, rows: u64, resources: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: numbered\nsource:\n  use: source-datagen\n\
         \x20 config: {{ pattern: orders, seed: 7, max_events: {rows}, batch_rows: 500 }}\n  streams: [ {{ name: orders }} ]\n\
         {NUMBERED}destination:\n{destination}  write_mode: append\n\
         resources: {{ max_retries: 0, {resources} }}\n"
    )
}

struct Generated;

impl Journey for Generated {
    fn name(&self) -> &'static str {
        "numbered rows into PostgreSQL"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        let destination = Postgres::shared().database("numbered");
        let pipeline = generated(&format!("  use: dest-postgres\n  config: {{ {} }}\n", destination.config()), ROWS, EVERY);
        Box::new(InDatabase { destination, pipeline, table: "orders" })
    }

    fn points(&self) -> Vec<&'static str> {
        MANDATED.iter().chain(CONFIRM).copied().collect()
    }
}

#[test]
fn prove_crashes_keep_the_state_of_transforms_in_postgres() {
    sweep(&Generated, "kill -9, rows numbered by a stateful transform into PostgreSQL");
}

struct Filed;

impl Journey for Filed {
    fn name(&self) -> &'static str {
        "numbered rows into files"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        Box::new(InFolder { pipeline: generated("  use: dest-file\n  config: { path: out, format: jsonl }\n", ROWS, EVERY) })
    }

    fn points(&self) -> Vec<&'static str> {
        MANDATED.iter().chain(CONFIRM).copied().collect()
    }
}

#[test]
fn prove_crashes_keep_the_state_of_transforms_in_files() {
    sweep(&Filed, "kill -9, rows numbered by a stateful transform into JSONL files");
}

/// An incremental stream, which goes on counting over all runs.
struct Changed<'a> {
    source: Database<'a>,
}

impl Journey for Changed<'_> {
    fn name(&self) -> &'static str {
        "numbered rows of an incremental stream"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        let destination = Postgres::shared().database("numbered_changes");
        let rest = "  write_mode: append\nresources: { checkpoint_interval_rows: 1, max_batch_bytes: 4mb, max_retries: 0 }\n\
                    transforms: [ { use: transform-row-number, config: { column: place } } ]\n";
        let stream = "name: changes, cursor_field: n, null_cursor: include";
        let pipeline = pipeline(&self.source, &destination, stream, rest);
        Box::new(InDatabase { destination, pipeline, table: "changes" })
    }

    fn points(&self) -> Vec<&'static str> {
        let shared = MANDATED.iter().filter(|point| !point.contains("publish")).copied();
        shared.chain(["dest.merge.before", "dest.merge.after"]).chain(CONFIRM.iter().copied()).collect()
    }
}

#[test]
fn prove_crashes_keep_the_state_of_transforms_of_incremental_streams() {
    sweep(
        &Changed { source: changes(Postgres::shared()) },
        "kill -9, rows of an incremental stream numbered by a stateful transform",
    );
}

/// Every key counted from 1 without a gap, and the whole stream too.
const GAPLESS: &str =
    "SELECT count(*) || ' rows, ' || count(*) FILTER (WHERE whole BETWEEN 1 AND n) || ' ' || count(DISTINCT whole) || ', '
    || count(*) FILTER (WHERE row_number BETWEEN 1 AND of_key) || ' ' || count(DISTINCT (status, row_number))
    FROM (SELECT *, count(*) OVER () AS n, count(*) OVER (PARTITION BY status) AS of_key FROM orders) AS o";

#[test]
fn prove_kills_at_random_instants_leave_no_gap_in_the_numbers() {
    let server = Postgres::shared();
    let seed = Seeded::seed_of_environment();
    let mut random = Seeded::new(seed);
    let pipeline = |destination: &Database<'_>| {
        let destination = format!("  use: dest-postgres\n  config: {{ {} }}\n", destination.config());
        // More than one partition's worth, were there no state.
        generated(&destination, 240_000, "checkpoint_interval_rows: 20000, parallelism: 3")
    };
    let undisturbed = server.database("numbered_calm");
    let project = Project::with_pipeline(&pipeline(&undisturbed));
    let began = Instant::now();
    let run = project.run().finish().success();
    let length = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    assert_eq!(run.at("/report/streams/0/partitions"), 1, "a transform with a state sees the stream as one");
    let expected = undisturbed.hash("orders");
    assert_eq!(undisturbed.sql(GAPLESS), "239990 rows, 239990 239990, 239990 239990");

    let (mut kills, mut wrong) = (0, Vec::new());
    for round in 0..if is_full() { 40 } else { 3 } {
        let place = server.database("numbered_killed");
        let project = Project::with_pipeline(&pipeline(&place));
        for _ in 0..4 {
            if place.has("orders") {
                // It is published: another run might be another load, which `append` adds.
                break;
            }
            let wait = Duration::from_millis(random.below(length));
            let mut run = project.run().start();
            thread::sleep(wait);
            run.signal("KILL");
            kills += usize::from(run.finish().code != Some(0));
        }
        if !place.has("orders") {
            project.run().finish().success();
        }
        if place.hash("orders") != expected {
            wrong.push(format!("round {round} (seed {seed}): {}", place.sql(GAPLESS)));
        }
        place.remove();
    }
    Proof {
        name: "kill -9 at random instants, rows numbered by a stateful transform",
        cases: kills,
        failures: wrong.len(),
        seed: seed.to_string(),
        detail: format!("240,000 rows; {kills} kills"),
    }
    .record();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn refused(run: &Finished) {
    assert_eq!(run.at("/error")["code"], "transforms_changed", "{}", run.told());
    let hint = run.at("/error/hint");
    assert!(hint.as_str().is_some_and(|hint| hint.contains("rapidbyte state reset pipeline.yaml --stream public.t")), "{hint}");
}

#[test]
fn a_changed_list_of_transforms_is_not_gone_on_with() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("list_source"), server.database("list_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, k text); INSERT INTO t SELECT i, i % 2 FROM generate_series(1, 10) i");
    let yaml = |transforms: &str| {
        let rest = format!("  write_mode: append\ntransforms: [ {transforms} ]\n");
        pipeline(&source, &destination, "name: t, cursor_field: id", &rest)
    };
    let number = "{ use: transform-row-number, config: { key: [k] } }";
    let filter =
        |below: u32| format!("{{ use: transform-filter, config: {{ where: [ {{ field: id, op: lt, value: {below} }} ] }} }}");
    let project = Project::with_pipeline(&yaml(&format!("{}, {number}", filter(100))));
    project.run().finish().success();
    source.sql("INSERT INTO t SELECT i, i % 2 FROM generate_series(11, 20) i");
    for changed in [
        number.to_owned(),
        format!("{number}, {}", filter(100)),
        format!("{}, {}", filter(100), number.replace("key: [k]", "key: [id]")),
        filter(100),
        format!("{}, {number}, {}", filter(100), number.replace("key: [k]", "column: other")),
    ] {
        project.write("pipeline.yaml", yaml(&changed));
        refused(&project.run().finish());
    }
    // Another condition of the filter leaves the numbers what they are.
    project.write("pipeline.yaml", yaml(&format!("{}, {number}", filter(1000))));
    project.run().finish().success();
    let numbers = "SELECT string_agg(row_number::text, ' ' ORDER BY row_number) FROM t WHERE k = '1'";
    assert_eq!(destination.sql(numbers), "1 2 3 4 5 6 7 8 9 10");
    // The hint's way.
    project.write("pipeline.yaml", yaml(number));
    refused(&project.run().finish());
    destination.sql("TRUNCATE t");
    project.rapidbyte(&["state", "reset", "pipeline.yaml", "--stream", "public.t"]).finish().success();
    project.run().finish().success();
    assert_eq!(destination.sql("SELECT count(*) FROM t"), "20");
}
