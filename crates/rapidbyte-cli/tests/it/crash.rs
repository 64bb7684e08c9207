//! The crash sweep: the process is killed at every registered point, run again, and must have moved every row once.
//!
//! A clean run with the crash binary counts how often each point is hit. Each case then kills another run at one hit of one
//! point, in a fresh place, and goes on with runs that are left alone. CI takes a seeded sample, with each point in it;
//! `cargo xtask prove` takes every hit.

use crate::tables;
use rapidbyte_testkit::{Database, Finished, Postgres, Project, Proof, Seeded, TableHash, crash_binary, is_full};
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// What a sampled sweep may take, once each point has been killed at.
const SAMPLE: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;

/// What must be among the points, by the issue that asks for the sweep.
pub(crate) const MANDATED: &[&str] = &[
    "dest.claim.before",
    "dest.claim.after",
    "dest.staging.before",
    "dest.staging.after",
    "dest.receipt.before",
    "dest.receipt.after",
    "dest.commit.sent",
    "dest.commit.confirmed",
    "dest.publish.before",
    "dest.publish.after",
    "engine.mirror.before",
    "engine.mirror.after",
];
pub(crate) const CONFIRM: &[&str] = &["engine.confirm.before", "engine.confirm.after"];

/// Once these have been reached the load is finished and recorded. Another run would be another load, which `append` adds.
const FINISHED: &[&str] = &["engine.published.noted", "engine.confirm.before", "engine.confirm.after"];

/// A way rows go.
pub(crate) trait Journey {
    fn name(&self) -> &'static str;
    /// Another place to write to, and the pipeline that writes there.
    fn place(&self) -> Box<dyn Place + '_>;
    /// Points that this journey has beyond the mandated ones.
    fn also(&self) -> &'static [&'static str] {
        &[]
    }
    /// Points that must be hit.
    fn points(&self) -> Vec<&'static str> {
        MANDATED.iter().chain(self.also()).copied().collect()
    }
}

pub(crate) trait Place {
    fn pipeline(&self) -> String;
    fn content(&self, project: &Project) -> TableHash;
    fn clear(&self) {}
}

fn run(project: &Project) -> rapidbyte_testkit::Rapidbyte {
    project.run().program(crash_binary()).timeout(Duration::from_secs(120))
}

/// How often each point is hit in a run that nobody disturbs, and what it leaves.
fn count(journey: &dyn Journey) -> (BTreeMap<String, u64>, TableHash) {
    let place = journey.place();
    let project = Project::with_pipeline(&place.pipeline());
    let counts = project.path("counts");
    run(&project).env("RAPIDBYTE_CRASH_COUNTS", &counts).finish().success();
    let mut points = BTreeMap::new();
    for line in fs::read_to_string(&counts).expect("the crash binary counts").lines() {
        *points.entry(line.to_owned()).or_insert(0) += 1;
    }
    let content = place.content(&project);
    place.clear();
    (points, content)
}

/// Kills at one hit of one point, then runs to the end. The error says what is wrong.
fn kill(journey: &dyn Journey, point: &str, hit: u64, expected: &TableHash) -> Result<(), String> {
    let place = journey.place();
    let project = Project::with_pipeline(&place.pipeline());
    let killed = run(&project).env("RAPIDBYTE_CRASH_AT", format!("{point}:{hit}")).finish();
    if killed.signal != Some(SIGKILL) {
        return Err(format!("the point was not reached: {}", killed.told()));
    }
    let check = |finished: &Finished| {
        let content = place.content(&project);
        if &content == expected {
            Ok(())
        } else {
            Err(format!("{content:?} is there, not {expected:?}; the last run: {}", finished.told()))
        }
    };
    if FINISHED.contains(&point) {
        check(&killed)?;
    } else {
        let again = run(&project).finish();
        if again.code != Some(0) {
            return Err(format!("the run after it fails: {}", again.told()));
        }
        check(&again)?;
    }
    place.clear();
    Ok(())
}

pub(crate) fn sweep(journey: &dyn Journey, proof: &'static str) {
    let (points, expected) = count(journey);
    let mut demanded = Vec::new();
    for point in journey.points() {
        let hits = points.get(point).copied().unwrap_or_default();
        assert!(hits > 0, "{}: `{point}` is not hit; there are {points:?}", journey.name());
        demanded.push(format!("{point} {hits}"));
    }
    assert!(points.len() >= 12, "{points:?}");
    let seed = Seeded::seed_of_environment();
    let mut random = Seeded::new(seed);
    let mut cases: Vec<(&str, u64)> = Vec::new();
    let mut more: Vec<(&str, u64)> = Vec::new();
    for (point, hits) in &points {
        assert!(*hits > 0);
        let first = random.below(*hits) + 1;
        cases.push((point, first));
        more.extend((1..=*hits).filter(|hit| *hit != first).map(|hit| (point.as_str(), hit)));
    }
    random.shuffle(&mut more);
    let always = cases.len();
    cases.extend(more);
    let total = cases.len();

    let began = Instant::now();
    let (mut done, mut failures) = (0, Vec::new());
    for (point, hit) in cases {
        if !is_full() && done >= always && began.elapsed() > SAMPLE {
            break;
        }
        done += 1;
        if let Err(wrong) = kill(journey, point, hit, &expected) {
            failures.push(format!("kill at {point}:{hit} (seed {seed}): {wrong}"));
        }
    }
    Proof {
        name: proof,
        cases: done,
        failures: failures.len(),
        seed: seed.to_string(),
        detail: format!(
            "{} points, each hit; {done} of {total} kills; {} rows; hits of the points that must be there: {}",
            points.len(),
            expected.rows,
            demanded.join(", ")
        ),
    }
    .record();
    assert!(failures.is_empty(), "{}: {} of {done} kills went wrong:\n{}", journey.name(), failures.len(), failures.join("\n\n"));
}

// ---- generated rows into PostgreSQL: many commits ----

struct Generated;

const GENERATED_ROWS: u64 = 12_000;

fn generated(destination: &str) -> String {
    format!(
        "version: \"1.0\"\npipeline: swept\nsource:\n  use: source-datagen\n\
         \x20 config: {{ pattern: orders, seed: 7, max_events: {GENERATED_ROWS}, batch_rows: 500 }}\n  streams: [ {{ name: orders }} ]\n\
         destination:\n{destination}  write_mode: append\nresources: {{ checkpoint_interval_rows: 1500, max_retries: 0 }}\n"
    )
}

pub(crate) struct InDatabase<'a> {
    pub(crate) destination: Database<'a>,
    pub(crate) pipeline: String,
    pub(crate) table: &'static str,
}

impl Place for InDatabase<'_> {
    fn pipeline(&self) -> String {
        self.pipeline.clone()
    }

    fn content(&self, _: &Project) -> TableHash {
        self.destination.hash(self.table)
    }

    fn clear(&self) {
        self.destination.remove();
    }
}

impl Journey for Generated {
    fn name(&self) -> &'static str {
        "generated rows into PostgreSQL"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        let destination = Postgres::shared().database("swept");
        let pipeline = generated(&format!("  use: dest-postgres\n  config: {{ {} }}\n", destination.config()));
        Box::new(InDatabase { destination, pipeline, table: "orders" })
    }

    fn also(&self) -> &'static [&'static str] {
        CONFIRM
    }
}

#[test]
fn prove_crashes_between_generator_and_postgres_lose_nothing() {
    sweep(&Generated, "kill -9, generated rows into PostgreSQL (append)");
}

// ---- PostgreSQL to PostgreSQL, into a table that is there already: publishing copies rather than renames ----

struct Copied<'a> {
    source: Database<'a>,
}

impl Journey for Copied<'_> {
    fn name(&self) -> &'static str {
        "PostgreSQL to PostgreSQL"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        let destination = Postgres::shared().database("swept_copy");
        destination.sql(&tables::lineitem(0));
        let pipeline = format!(
            "version: \"1.0\"\npipeline: swept\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: public.lineitem }} ]\n\
             destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: append\nresources: {{ max_retries: 0 }}\n",
            self.source.config(),
            destination.config()
        );
        Box::new(InDatabase { destination, pipeline, table: "lineitem" })
    }

    /// The step is there, and tells the source nothing: a snapshot has no position that it would wait for.
    fn also(&self) -> &'static [&'static str] {
        CONFIRM
    }
}

#[test]
fn prove_crashes_between_postgres_and_postgres_lose_nothing() {
    let source = Postgres::shared().database("swept_source");
    // The whole proof moves the million rows of the first tables; the sample a part of them.
    source.sql(&tables::lineitem(if is_full() { 1_000_000 } else { 60_000 }));
    sweep(&Copied { source }, "kill -9, PostgreSQL to PostgreSQL (append)");
}

// ---- generated rows into files ----

struct Filed;

/// Rows in JSONL files.
pub(crate) struct InFolder {
    pub(crate) pipeline: String,
}

impl Place for InFolder {
    fn pipeline(&self) -> String {
        self.pipeline.clone()
    }

    fn content(&self, project: &Project) -> TableHash {
        let mut lines = Vec::new();
        collect(&project.path("out"), &mut lines);
        lines.sort_unstable();
        TableHash { rows: lines.len() as u64, hash: hash_of(&lines) }
    }
}

/// The lines of the files that readers see: not those below folders whose names begin with `_` or `.`.
fn collect(dir: &std::path::Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(['_', '.']) {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), lines);
        } else {
            let text = fs::read_to_string(entry.path()).expect("JSON lines are text");
            assert!(text.is_empty() || text.ends_with('\n'), "{name} is torn");
            lines.extend(text.lines().map(str::to_owned));
        }
    }
}

/// FNV-1a over the lines.
fn hash_of(lines: &[String]) -> String {
    let bytes = lines.iter().flat_map(|line| line.bytes().chain([b'\n']));
    format!("{:016x}", bytes.fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)))
}

impl Journey for Filed {
    fn name(&self) -> &'static str {
        "generated rows into files"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        Box::new(InFolder { pipeline: generated("  use: dest-file\n  config: { path: out, format: jsonl }\n") })
    }

    fn also(&self) -> &'static [&'static str] {
        CONFIRM
    }
}

#[test]
fn prove_crashes_between_generator_and_files_lose_nothing() {
    sweep(&Filed, "kill -9, generated rows into JSONL files (append)");
}

// ---- incremental streams: three runs' worth of changes, each of which may die ----

/// How rows are written, and into what.
struct Changes<'a> {
    source: Database<'a>,
    mode: &'static str,
}

const CHANGED_ROWS: u32 = 6_000;

/// Equal cursors, NULL cursors and a key; more than one batch.
pub(crate) fn changes(server: &Postgres) -> Database<'_> {
    let source = server.database("swept_changes");
    source.sql(&format!(
        "CREATE TABLE changes (id int PRIMARY KEY, n int, v text);
         INSERT INTO changes SELECT i, CASE WHEN i % 50 > 0 THEN i / 7 END, repeat('v', 900) || i FROM generate_series(1, {CHANGED_ROWS}) i"
    ));
    source
}

impl Journey for Changes<'_> {
    fn name(&self) -> &'static str {
        "incremental, PostgreSQL to PostgreSQL"
    }

    fn place(&self) -> Box<dyn Place + '_> {
        let destination = Postgres::shared().database("swept_incremental");
        let pipeline = format!(
            "version: \"1.0\"\npipeline: swept\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n\
             \x20   - {{ name: changes, sync_mode: incremental, cursor_field: n, null_cursor: include }}\n\
             destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: {}\n\
             resources: {{ checkpoint_interval_rows: 1, max_batch_bytes: 4mb, max_retries: 0 }}\n",
            self.source.config(),
            destination.config(),
            self.mode
        );
        Box::new(InDatabase { destination, pipeline, table: "changes" })
    }

    fn points(&self) -> Vec<&'static str> {
        let shared = MANDATED.iter().filter(|point| !point.contains("publish")).copied();
        shared.chain(["dest.merge.before", "dest.merge.after"]).chain(CONFIRM.iter().copied()).collect()
    }
}

#[test]
fn prove_crashes_of_incremental_upserts_lose_nothing() {
    sweep(
        &Changes { source: changes(Postgres::shared()), mode: "upsert" },
        "kill -9, PostgreSQL to PostgreSQL (incremental, upsert)",
    );
}

#[test]
fn prove_crashes_of_incremental_appends_lose_and_repeat_nothing() {
    sweep(
        &Changes { source: changes(Postgres::shared()), mode: "append" },
        "kill -9, PostgreSQL to PostgreSQL (incremental, append)",
    );
}
