//! `replace` under the eyes of readers, and what it leaves alone.

use rapidbyte_testkit::{AtLast, Database, Postgres, Project, Proof, is_full};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const ROWS: u64 = 2_000;
/// What one reader asks in one go, each question in a transaction of its own.
const QUESTIONS: usize = 100;

fn pipeline(source: &Database<'_>, destination: &Database<'_>) -> String {
    format!(
        "version: \"1.0\"\npipeline: replaced\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: items }} ]\n\
         destination:\n  use: dest-postgres\n  config: {{ {}, schema: public }}\n  write_mode: replace\n\
         resources: {{ max_batch_bytes: 256kb }}\n",
        source.config(),
        destination.config()
    )
}

fn source(server: &Postgres) -> Database<'_> {
    let source = server.database("replace_source");
    source.sql(&format!(
        "CREATE TABLE items (id int PRIMARY KEY, load int NOT NULL, note text);
         INSERT INTO items SELECT i, 0, repeat('n', 200) || i FROM generate_series(1, {ROWS}) i"
    ));
    source
}

/// A table as a database that is in use has them: with everything that hangs on it.
fn furnish(destination: &Database<'_>) {
    destination.sql(
        r#"DO $$ BEGIN
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'replace owner') THEN
               CREATE ROLE "replace owner"; CREATE ROLE replace_reader; END IF;
           END $$;
           COMMENT ON TABLE items IS 'what is for sale'; COMMENT ON COLUMN items.note IS 'in words';
           ALTER TABLE items ADD COLUMN mine int DEFAULT 7;
           ALTER TABLE items ALTER COLUMN note SET STATISTICS 500, ALTER COLUMN note SET STORAGE EXTERNAL;
           ALTER TABLE items SET (fillfactor = 80, autovacuum_enabled = off);
           CREATE INDEX by_note ON items (lower(note)) WHERE load >= 0;
           CREATE UNIQUE INDEX by_both ON items (load, id) INCLUDE (note);
           ALTER TABLE items ADD CONSTRAINT positive CHECK (id > 0);
           CREATE STATISTICS both_of_items ON id, load FROM items;
           ALTER TABLE items ENABLE ROW LEVEL SECURITY;
           CREATE POLICY readers ON items FOR SELECT TO replace_reader USING (load >= 0);
           CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
           CREATE TRIGGER after_all AFTER INSERT ON items FOR EACH STATEMENT EXECUTE FUNCTION nothing();
           CREATE VIEW totals AS SELECT load, count(*) AS rows FROM items GROUP BY load;
           CREATE VIEW over_totals AS SELECT * FROM totals; CREATE MATERIALIZED VIEW kept AS SELECT id FROM items;
           CREATE PUBLICATION of_items FOR TABLE items;
           GRANT SELECT ON items TO replace_reader; GRANT UPDATE (note) ON items TO replace_reader WITH GRANT OPTION;
           GRANT SELECT ON totals TO replace_reader; GRANT USAGE ON SCHEMA public TO "replace owner";
           ALTER TABLE items OWNER TO "replace owner""#,
    );
}

/// Identity, owner and rights of the table, beyond what a dump tells.
fn identity(destination: &Database<'_>) -> String {
    destination.sql(
        "SELECT c.oid, c.relowner::regrole, c.relacl, (SELECT array_agg((attname, attacl) ORDER BY attnum) FROM pg_attribute
           WHERE attrelid = c.oid AND attacl IS NOT NULL), obj_description(c.oid), (SELECT array_agg(indexrelid ORDER BY 1)
           FROM pg_index WHERE indrelid = c.oid), (SELECT array_agg(oid ORDER BY 1) FROM pg_policy WHERE polrelid = c.oid),
           (SELECT array_agg(oid ORDER BY 1) FROM pg_trigger WHERE tgrelid = c.oid)
         FROM pg_class c WHERE oid = 'items'::regclass",
    )
}

/// Asks until told to stop; each answer must be of one whole load.
fn read(destination: &Database<'_>, stop: &AtomicBool, reads: &AtomicU64) {
    let question = "SELECT count(*), count(DISTINCT id), count(DISTINCT load), (SELECT sum(rows) FROM over_totals) FROM items;\n";
    let whole = format!("{ROWS}|{ROWS}|1|{ROWS}");
    while !stop.load(Ordering::Relaxed) {
        // An error of the server's is a panic here.
        for answer in destination.sql(&question.repeat(QUESTIONS)).lines() {
            assert_eq!(answer, whole, "rows, keys, loads, rows through the view");
            reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn prove_readers_see_no_empty_or_mixed_table_and_all_that_hangs_on_it_stays() {
    let server = Postgres::shared();
    let (source, destination) = (source(server), server.database("replace_destination"));
    let project = Project::with_pipeline(&pipeline(&source, &destination));
    project.run().finish().success();
    furnish(&destination);
    let (dump, known) = (destination.dump_schema(), identity(&destination));
    assert!(dump.contains("POLICY readers") && dump.contains("OWNER TO \"replace owner\""), "{dump}");
    let replaces = if is_full() { 100 } else { 12 };
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let _stop = AtLast::new(|| stop.store(true, Ordering::Relaxed));
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read(&destination, &stop, &reads))).collect();
        for load in 1..=replaces {
            source.sql(&format!("UPDATE items SET load = {load}"));
            project.run().finish().success();
            if readers.iter().any(thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
    });
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads > replaces * 10, "{reads} reads during {replaces} replaces");
    assert_eq!(destination.sql("SELECT DISTINCT load FROM items"), replaces.to_string());
    assert_eq!(source.hash("items"), destination.hash("(SELECT id, load, note FROM items)"));
    assert_eq!(identity(&destination), known);
    assert_eq!(destination.dump_schema(), dump);
    Proof {
        name: "replace under readers; the schema's dump and the rights before and after are equal",
        cases: usize::try_from(reads).unwrap_or(usize::MAX),
        failures: 0,
        seed: "-".into(),
        detail: format!("{reads} reads during {replaces} replaces of {ROWS} rows: 0 errors, 0 empty, 0 mixed"),
    }
    .record();
}
