//! Memory is bounded by the configuration, and not by what is moved: long tables, large cells, many columns, many streams.

use rapidbyte_testkit::{Database, Finished, Postgres, Project, Proof, is_full};
use std::time::Duration;

/// What the process may take beyond `max_memory`: its own code, that of the connectors, the state store.
const BESIDE: u64 = 64;
const LIMIT: Duration = Duration::from_secs(3_600);

fn project(source: &Database<'_>, destination: &Database<'_>, streams: &str, megabytes: u64, rest: &str) -> Project {
    Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: bounded\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n{streams}\n\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: append\n\
         resources: {{ max_memory: {megabytes}mb{rest} }}\n",
        source.config(),
        destination.config()
    ))
}

/// The peak in MiB, which must be within the budget.
#[track_caller]
fn assert_within(run: &Finished, megabytes: u64) -> u64 {
    let peak = run.peak_memory >> 20;
    assert!(peak > 0, "the meter has seen nothing");
    assert!(peak <= megabytes + BESIDE, "peak {peak} MiB with `max_memory: {megabytes}mb`");
    peak
}

fn record(name: &'static str, detail: String) {
    Proof { name, cases: 1, failures: 0, seed: "-".into(), detail }.record();
}

#[test]
fn prove_a_long_table_moves_within_its_memory() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("long_source"), server.database("long_destination"));
    let rows = if is_full() { 5_000_000 } else { 200_000 };
    source.sql(&format!("CREATE TABLE long AS SELECT i AS id, repeat(md5(i::text), 31) AS v FROM generate_series(1, {rows}) i"));
    let megabytes = 256;
    let project = project(&source, &destination, "    - { name: long }", megabytes, "");
    let run = project.run().timeout(LIMIT).finish().success();
    let peak = assert_within(&run, megabytes);
    assert_eq!(source.hash("long"), destination.hash("long"));
    let size = source.sql("SELECT pg_table_size('long') >> 20");
    record("memory: a long table", format!("{size} MiB in {rows} rows, peak {peak} MiB of {megabytes} + {BESIDE}"));
}

#[test]
fn prove_large_cells_move_within_their_memory() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("large_source"), server.database("large_destination"));
    // A row of 64 MiB, the most that a record may have.
    let cells = if is_full() { 8 } else { 2 };
    source.sql(&format!(
        "CREATE TABLE large (id int PRIMARY KEY, v text); ALTER TABLE large ALTER v SET STORAGE EXTERNAL;
         INSERT INTO large SELECT i, repeat(chr(96 + i), (64 << 20) - 100) FROM generate_series(1, {cells}) i"
    ));
    let megabytes = 1_024;
    let rest = ", max_record_bytes: 64mb, max_batch_bytes: 80mb";
    let project = project(&source, &destination, "    - { name: large }", megabytes, rest);
    let run = project.run().timeout(LIMIT).finish().success();
    let peak = assert_within(&run, megabytes);
    assert_eq!(source.hash("large"), destination.hash("large"));
    record("memory: cells of 64 MiB", format!("{cells} cells, peak {peak} MiB of {megabytes} + {BESIDE}"));
}

#[test]
fn prove_a_cell_that_is_too_large_is_refused_by_name_within_the_memory() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("huge_source"), server.database("huge_destination"));
    let bytes = if is_full() { 1_000_000_000 } else { 100_000_000 };
    source.sql(&format!(
        "CREATE TABLE huge (id int PRIMARY KEY, small text, v text); ALTER TABLE huge ALTER v SET STORAGE EXTERNAL;
         INSERT INTO huge VALUES (1, 'a', 'b'), (2, 'a', repeat('x', {bytes}))"
    ));
    let megabytes = 256;
    let run = project(&source, &destination, "    - { name: huge }", megabytes, "").run().timeout(LIMIT).finish().exit(7);
    let peak = assert_within(&run, megabytes);
    assert_eq!(run.at("/error/code"), "record_too_large", "{}", run.told());
    let cause = run.at("/error/cause");
    let cause = cause.as_str().unwrap_or_default();
    assert!(cause.contains("`huge`") && cause.contains("column `v`") && cause.contains("key `id` = 2"), "{cause}");
    assert!(!destination.has("huge"));
    record("memory: a cell that is too large", format!("{bytes} bytes refused by name, peak {peak} MiB of {megabytes} + {BESIDE}"));
}

#[test]
fn prove_many_columns_move_within_their_memory() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("wide_source"), server.database("wide_destination"));
    let columns: Vec<String> = (0..1_600).map(|i| format!("c{i} int")).collect();
    let rows = if is_full() { 20_000 } else { 1_000 };
    let values: Vec<String> = (0..1_600).map(|i| format!("(i * 31 + {i}) % 1000")).collect();
    source.sql(&format!(
        "CREATE TABLE wide ({}); INSERT INTO wide SELECT {} FROM generate_series(1, {rows}) i",
        columns.join(", "),
        values.join(", ")
    ));
    let megabytes = 384;
    let run = project(&source, &destination, "    - { name: wide }", megabytes, "").run().timeout(LIMIT).finish().success();
    let peak = assert_within(&run, megabytes);
    assert_eq!(source.hash("wide"), destination.hash("wide"));
    record("memory: 1,600 columns", format!("{rows} rows, peak {peak} MiB of {megabytes} + {BESIDE}"));
}

#[test]
fn prove_many_streams_move_within_their_memory() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("many_source"), server.database("many_destination"));
    let count = if is_full() { 500 } else { 40 };
    source.sql(&format!(
        "DO $$ BEGIN FOR i IN 1..{count} LOOP
           EXECUTE format('CREATE TABLE many_%s AS SELECT g AS id, repeat(md5(g::text), 10) AS v FROM generate_series(1, 200 + %s) g', i, i);
         END LOOP; END $$"
    ));
    let streams: Vec<String> = (1..=count).map(|i| format!("    - {{ name: many_{i} }}")).collect();
    let megabytes = 512;
    let run = project(&source, &destination, &streams.join("\n"), megabytes, "").run().timeout(LIMIT).finish().success();
    let peak = assert_within(&run, megabytes);
    for i in [1, count / 2, count] {
        assert_eq!(source.hash(&format!("many_{i}")), destination.hash(&format!("many_{i}")));
    }
    let there = destination.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'many\\_%' AND relkind = 'r'");
    assert_eq!(there, count.to_string());
    record("memory: many streams", format!("{count} streams, peak {peak} MiB of {megabytes} + {BESIDE}"));
}
