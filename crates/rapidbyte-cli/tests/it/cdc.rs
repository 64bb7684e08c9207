//! Changes of PostgreSQL's log: from the load to the last change nothing is lost, repeated or bent, whatever dies.

use rapidbyte_testkit::{Database, Finished, Postgres, Project, Proof, Seeded, crash_binary, is_full};
use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

/// A pipeline over tables of `public`; its slot has its name.
pub(crate) fn pipeline(
    name: &str,
    source: &Database<'_>,
    destination: &Database<'_>,
    tables: &[&str],
    mode: &str,
    rest: &str,
) -> String {
    let streams: Vec<String> = tables.iter().map(|table| format!("    - {{ name: {table}, sync_mode: cdc }}\n")).collect();
    format!(
        "version: \"1.0\"\npipeline: {name}\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams:\n{}\
         destination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: {mode}\n{rest}",
        source.config(),
        streams.concat(),
        destination.config()
    )
}

/// Rows that a run made durable, of all streams.
#[track_caller]
fn moved(run: &Finished) -> u64 {
    let report = run.at("/report/streams");
    report.as_array().expect("streams").iter().map(|stream| stream["rows_written"].as_u64().expect("a count")).sum()
}

#[track_caller]
pub(crate) fn run(project: &Project) -> u64 {
    moved(&project.run().finish().success())
}

pub(crate) fn slot_of(name: &str) -> String {
    format!("rapidbyte_{name}")
}

/// What the slot has let go, and what the destination has; the one never lies beyond the other.
pub(crate) fn assert_nothing_let_go(source: &Database<'_>, destination: &Database<'_>, name: &str, began: &str) {
    let confirmed =
        source.sql(&format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{}'", slot_of(name)));
    let durable = if destination.sql("SELECT to_regclass('_rapidbyte.receipts') IS NOT NULL") == "t" {
        destination.sql(
            "SELECT coalesce(min(convert_from(position_value, 'UTF8')::pg_lsn)::text, '') FROM _rapidbyte.receipts
             WHERE partition = '_rb_changes'",
        )
    } else {
        String::new()
    };
    let durable = if durable.is_empty() { began.to_owned() } else { durable };
    if confirmed.is_empty() || durable.is_empty() {
        return;
    }
    let holds = source.sql(&format!("SELECT '{confirmed}'::pg_lsn <= '{durable}'::pg_lsn"));
    assert_eq!(holds, "t", "the slot has let go up to {confirmed}, and the destination has {durable}");
}

pub(crate) fn drop_slot(source: &Database<'_>, name: &str) {
    let slot = slot_of(name);
    source.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active;
         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    ));
}

#[test]
fn a_load_and_every_change_after_it_arrive_once() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("cdc_source"), server.database("cdc_destination"));
    source.sql(
        "CREATE TABLE items (id int PRIMARY KEY, note text NOT NULL, big text, n numeric);
         ALTER TABLE items ALTER big SET STORAGE EXTERNAL;
         INSERT INTO items SELECT i, 'n' || i, repeat('x', 3000), i / 7.0 FROM generate_series(1, 500) i;
         CREATE TABLE pairs (a int, b text, v jsonb, PRIMARY KEY (a, b));
         INSERT INTO pairs SELECT i, 'b', '{\"i\": 1}' FROM generate_series(1, 50) i",
    );
    let yaml = pipeline("cdc_once", &source, &destination, &["items", "pairs"], "upsert", "");
    let project = Project::with_pipeline(&yaml);
    assert_eq!(run(&project), 550);
    let same = || {
        assert_eq!(source.hash("items"), destination.hash("items"));
        assert_eq!(source.hash("pairs"), destination.hash("pairs"));
        assert_nothing_let_go(&source, &destination, "cdc_once", "");
    };
    same();
    source.sql(
        "BEGIN; UPDATE items SET note = 'u' WHERE id <= 10; DELETE FROM items WHERE id > 490; UPDATE pairs SET b = 'c' WHERE a < 5; COMMIT;
         UPDATE items SET id = 1000 + id WHERE id = 20;
         BEGIN; INSERT INTO items VALUES (600, 'gone', NULL, 'NaN'); ROLLBACK;
         BEGIN; SAVEPOINT s; INSERT INTO items VALUES (601, 'gone', NULL, 1); ROLLBACK TO s; INSERT INTO items VALUES (602, 'kept', NULL, 'NaN'); COMMIT",
    );
    // 10 updates, 10 deletes, 4 keys changed, one more, one insert.
    let changed = project.run().finish().success();
    assert_eq!(moved(&changed), 26);
    let places = ["/report/streams/0/location", "/report/streams/1/location"].map(|pointer| changed.at(pointer));
    assert_eq!(places, ["public.items", "public.pairs"], "with the schema, as after a load");
    same();
    source.sql("TRUNCATE pairs; INSERT INTO pairs VALUES (7, 'z', 'null')");
    assert_eq!(run(&project), 1);
    same();
    assert_eq!(run(&project), 0);
    // What is remembered here is a mirror.
    fs::remove_dir_all(project.path(".rapidbyte")).expect("the state is there");
    source.sql("UPDATE items SET n = 1");
    assert_eq!(run(&project), 491);
    same();
    let confirmed =
        source.sql("SELECT confirmed_flush_lsn > restart_lsn FROM pg_replication_slots WHERE slot_name = 'rapidbyte_cdc_once'");
    assert_eq!(confirmed, "t");
    // Another mode, or key, would be another table.
    project.write("pipeline.yaml", yaml.replace("write_mode: upsert", "write_mode: append"));
    let refused = project.run().finish();
    assert_eq!(refused.at("/error/code"), "mode_changed", "{}", refused.told());
    project.write("pipeline.yaml", yaml.replace("sync_mode: cdc", "sync_mode: full_refresh"));
    let refused = project.run().finish();
    assert_eq!(refused.at("/error/code"), "mode_changed", "{}", refused.told());
    // Given up, nothing is left but the rows.
    project.write("pipeline.yaml", yaml);
    project.rapidbyte(&["teardown", "pipeline.yaml"]).finish().exit(2);
    for _ in 0..2 {
        project.rapidbyte(&["teardown", "pipeline.yaml", "--yes"]).finish().success();
    }
    let left = "SELECT (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()) + (SELECT count(*) FROM pg_publication)";
    assert_eq!((source.sql(left), destination.sql("SELECT count(*) FROM _rapidbyte.streams")), ("0".to_owned(), "0".to_owned()));
    assert_eq!(source.hash("items"), destination.hash("items"));
}

#[test]
fn generated_changes_are_merged_and_a_log_that_grows_goes_on() {
    let server = Postgres::shared();
    let destination = server.database("generated_changes");
    let yaml = |name: &str, events: u64, mode: &str| {
        format!(
            "version: \"1.0\"\npipeline: {name}\nsource:\n  use: source-datagen\n  config: {{ cdc_mode: true, seed: 5, max_events: {events}, stream_name: {name} }}\n  \
             streams:\n    - {{ name: {name}, sync_mode: cdc }}\ndestination:\n  use: dest-postgres\n  config: {{ {} }}\n  write_mode: {mode}\n{}",
            destination.config(),
            if mode == "upsert" { "  primary_key: [order_id]\n" } else { "" }
        )
    };
    let at_once = Project::with_pipeline(&yaml("at_once", 3_000, "upsert"));
    assert_eq!(run(&at_once), 3_000);
    // Six inserts of ten, and a delete of ten from the 80th change on.
    assert_eq!(destination.sql("SELECT count(*) FROM at_once"), "1508");
    let in_parts = Project::with_pipeline(&yaml("in_parts", 1_004, "upsert"));
    assert_eq!(run(&in_parts), 1_004);
    in_parts.write("pipeline.yaml", yaml("in_parts", 3_000, "upsert"));
    assert_eq!(run(&in_parts), 1_996);
    assert_eq!(run(&in_parts), 0);
    assert_eq!(destination.hash("at_once"), destination.hash("in_parts"));
    // The log itself tells the same table.
    let log = Project::with_pipeline(&yaml("log", 3_000, "append"));
    assert_eq!(run(&log), 3_000);
    let newest = "SELECT sum(amount), count(*) FROM (SELECT DISTINCT ON (order_id) * FROM log ORDER BY order_id, _rb_lsn DESC) l WHERE _rb_op <> 'delete'";
    assert_eq!(destination.sql(newest), destination.sql("SELECT sum(amount), count(*) FROM at_once"));
    let mix = "SELECT string_agg(_rb_op || ' ' || n, ' ' ORDER BY _rb_op) FROM (SELECT _rb_op, count(*) n FROM log GROUP BY 1) l";
    assert_eq!(destination.sql(mix), "delete 292 insert 1800 update 908");
}

#[test]
fn a_change_log_tells_what_happened_in_order() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("log_source"), server.database("log_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL); INSERT INTO t VALUES (1, 'a')");
    let project = Project::with_pipeline(&pipeline("cdc_log", &source, &destination, &["t"], "append", ""));
    assert_eq!(run(&project), 1);
    source.sql(
        "BEGIN; INSERT INTO t VALUES (2, 'b'); UPDATE t SET id = 3 WHERE id = 1; COMMIT; DELETE FROM t WHERE id = 2; TRUNCATE t",
    );
    run(&project);
    let log = "SELECT string_agg(concat_ws(',', _rb_op, id, v, _rb_before_id), ' ' ORDER BY _rb_lsn NULLS FIRST, _rb_seq) FROM t";
    assert_eq!(destination.sql(log), "insert,1,a insert,2,b update,3,a,1 delete,2,2 truncate");
    assert_eq!(destination.sql("SELECT bool_and(_rb_commit_time > now() - interval '1 hour') FROM t WHERE _rb_op = 'delete'"), "t");
    assert_eq!(run(&project), 0);
    drop_slot(&source, "cdc_log");
}

#[test]
fn tables_come_and_go_without_touching_the_others() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("grow_source"), server.database("grow_destination"));
    source.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)");
    let yaml = |tables: &[&str]| pipeline("cdc_grow", &source, &destination, tables, "upsert", "");
    let project = Project::with_pipeline(&yaml(&["a"]));
    assert_eq!(run(&project), 1);
    source.sql("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
    project.write("pipeline.yaml", yaml(&["a", "b"]));
    assert_eq!(run(&project), 3);
    source.sql("INSERT INTO a VALUES (3); INSERT INTO b VALUES (3)");
    project.write("pipeline.yaml", yaml(&["b"]));
    assert_eq!(run(&project), 1);
    assert_eq!((source.hash("b"), destination.sql("SELECT count(*) FROM a")), (destination.hash("b"), "2".to_owned()));
    let members = source.sql("SELECT string_agg(tablename, ',') FROM pg_publication_tables WHERE pubname = 'rapidbyte_cdc_grow'");
    assert_eq!(members, "b");
    drop_slot(&source, "cdc_grow");
}

#[test]
fn a_lost_slot_is_told_and_a_reset_finds_what_was_missed() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("lost_source"), server.database("lost_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i");
    let project = Project::with_pipeline(&pipeline("cdc_lost", &source, &destination, &["t"], "upsert", ""));
    assert_eq!(run(&project), 20);
    source.sql("INSERT INTO t VALUES (30, 'v')");
    assert_eq!(run(&project), 1);
    drop_slot(&source, "cdc_lost");
    source.sql("DELETE FROM t WHERE id < 5; INSERT INTO t VALUES (40, 'w')");
    let lost = project.run().finish();
    assert_eq!(lost.at("/error/code"), "source_changed", "{}", lost.told());
    let hint = lost.at("/error/hint").as_str().expect("a hint").to_owned();
    // Nothing has changed, at either end.
    assert_eq!(destination.sql("SELECT count(*) FROM t"), "21");
    // Nor where a new stream comes first, whose load would make a slot.
    source.sql("CREATE TABLE added (id int PRIMARY KEY); INSERT INTO added VALUES (1)");
    let yaml = |tables: &[&str]| pipeline("cdc_lost", &source, &destination, tables, "upsert", "");
    project.write("pipeline.yaml", yaml(&["added", "t"]));
    assert_eq!(project.run().finish().at("/error/code"), "source_changed");
    project.write("pipeline.yaml", yaml(&["t"]));
    assert_eq!(source.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rapidbyte_cdc_lost'"), "0");
    assert_eq!(destination.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'added'"), "0");
    let command = hint.split('`').find_map(|part| part.strip_prefix("rapidbyte ")).unwrap_or_else(|| panic!("no command: {hint}"));
    project.rapidbyte(&command.split(' ').collect::<Vec<_>>()).finish().success();
    assert_eq!(run(&project), 18);
    assert_eq!(source.hash("t"), destination.hash("t"));
    source.sql("DELETE FROM t WHERE id = 40");
    assert_eq!(run(&project), 1);
    assert_eq!(source.hash("t"), destination.hash("t"));
    drop_slot(&source, "cdc_lost");
}

#[test]
fn what_would_bend_changes_is_refused() {
    let server = Postgres::shared();
    let (source, destination) = (server.database("bend_source"), server.database("bend_destination"));
    source.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE bare (v text)");
    let yaml = pipeline("cdc_bend", &source, &destination, &["t"], "upsert", "");
    let project = Project::with_pipeline(&yaml);
    let refused = |yaml: String, words: &str| {
        project.write("pipeline.yaml", yaml);
        let told = project.run().finish().exit(3).told();
        assert!(told.contains(words), "no `{words}` in: {told}");
    };
    refused(yaml.replace("write_mode: upsert", "write_mode: replace"), "would put in the place of everything");
    refused(yaml.replace("sync_mode: cdc", "sync_mode: cdc, filter: \"id > 1\""), "`filter` can't be used");
    refused(format!("{yaml}  on_data_error: skip\n"), "a change that is left out");
    refused(format!("{yaml}transforms: [ {{ use: transform-mask, config: {{ fields: [id] }} }} ]\n"), "transforms can't be used");
    let stdout = yaml.split("destination:").next().expect("a source").to_owned() + "destination:\n  use: dest-stdout\n";
    refused(stdout, "can't write `sync_mode: cdc`");
    project.write("pipeline.yaml", yaml.replace("name: t,", "name: bare,"));
    let bare = project.run().finish();
    assert_eq!(bare.at("/error/code"), "replica_identity", "{}", bare.told());
    assert_eq!(source.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rapidbyte_cdc_bend'"), "0");
}

/// Two tables, and a procedure that changes them until it is told to stop: every kind of change, in transactions of several
/// statements over both, with savepoints, some of them rolled back.
pub(crate) const MIXED: &str = "
CREATE TABLE live (id int PRIMARY KEY, v text NOT NULL, big text, w int);
ALTER TABLE live ALTER big SET STORAGE EXTERNAL;
CREATE TABLE side (a int, b int, v text, PRIMARY KEY (a, b));
CREATE TABLE stop (stop int);
INSERT INTO live SELECT i, 'v' || i, repeat('y', 2500), 0 FROM generate_series(1, 2000) i;
INSERT INTO side SELECT i, i, 's' FROM generate_series(1, 500) i;
CREATE PROCEDURE write_mixed(w int) LANGUAGE plpgsql AS $$
DECLARE k int; n int := 0; low int := w * 10000; pick float;
BEGIN
    -- A TRUNCATE that waits for a load would make the load wait for it.
    PERFORM set_config('lock_timeout', '200ms', false);
    LOOP
        EXIT WHEN EXISTS (SELECT FROM stop);
        n := n + 1;
        FOR i IN 0..(random() * 4)::int LOOP
            k := low + (random() * 300)::int;
            pick := random();
            BEGIN
                IF pick < 0.35 THEN
                    INSERT INTO live VALUES (k, 'i' || n, repeat('z', (random() * 4000)::int), w)
                        ON CONFLICT (id) DO UPDATE SET v = 'c' || n;
                ELSIF pick < 0.6 THEN UPDATE live SET v = 'u' || n WHERE id BETWEEN k AND k + 5;
                ELSIF pick < 0.7 THEN UPDATE live SET id = low + 400 + (random() * 300)::int WHERE id = k;
                ELSIF pick < 0.8 THEN DELETE FROM live WHERE id BETWEEN k AND k + 2;
                ELSIF pick < 0.9 THEN INSERT INTO side VALUES (k, n % 7, 'x' || n) ON CONFLICT (a, b) DO UPDATE SET b = side.b + 10;
                ELSIF pick < 0.97 THEN UPDATE side SET v = 'y' || n, b = b + 1 WHERE a = k;
                ELSIF pick < 0.971 THEN TRUNCATE side;
                ELSE RAISE division_by_zero;
                END IF;
            EXCEPTION WHEN division_by_zero OR unique_violation OR deadlock_detected OR lock_not_available THEN NULL;
            END;
        END LOOP;
        IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
        PERFORM pg_sleep(0.002);
    END LOOP;
END $$;";

/// Points at which a run of changes dies, with how often each is hit in one.
fn points(project: &Project) -> BTreeMap<String, u64> {
    let mut points = BTreeMap::new();
    let counts = project.path("counts");
    project.run().program(crash_binary()).env("RAPIDBYTE_CRASH_COUNTS", &counts).finish().success();
    for line in fs::read_to_string(&counts).expect("the crash binary counts").lines() {
        *points.entry(line.to_owned()).or_insert(0) += 1;
    }
    points
}

/// Lets the writers end, whichever way the test does.
pub(crate) struct Stop<'d>(pub(crate) &'d Database<'static>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.sql("INSERT INTO stop VALUES (1)");
    }
}

/// The writer goes on while the pipeline is killed at point after point, from before the first load on.
fn survives_kills(mode: &'static str, name: &'static str, kills: usize) {
    let server = Postgres::shared();
    let (source, destination) = (server.database("kill_source"), server.database("kill_destination"));
    source.sql(MIXED);
    let rest = "resources: { checkpoint_interval_rows: 300 }\n";
    let yaml = pipeline(name, &source, &destination, &["live", "side"], mode, rest);
    // How often each point is hit: in a first run of the same at a place of its own, and in one that has changes only.
    let (counted, elsewhere) = (format!("{name}_count"), server.database("kill_count"));
    let counting = Project::with_pipeline(&pipeline(&counted, &source, &elsewhere, &["live", "side"], mode, rest));
    let of_load = points(&counting);
    source.sql("UPDATE live SET w = 1");
    let of_changes = points(&counting);
    drop_slot(&source, &counted);
    for point in ["dest.commit.sent", "dest.merge.after", "engine.mirror.before", "engine.confirm.before", "source.slot.advanced"] {
        assert!(of_changes.contains_key(point), "`{point}` is not hit; there are {of_changes:?}");
    }
    let seed = Seeded::seed_of_environment();
    let mut random = Seeded::new(seed);
    let project = Project::with_pipeline(&yaml);
    let (mut died, mut runs) = (0, 0);
    thread::scope(|scope| {
        for writer in 1..=2 {
            let source = &source;
            scope.spawn(move || source.sql(&format!("CALL write_mixed({writer})")));
        }
        let _stop = Stop(&source);
        let mut began = String::new();
        // Not each run comes to its point: one that finds nothing new, or goes on with a load, hits others than were counted.
        while died < kills {
            assert!(runs < kills * 4, "{died} of {runs} runs died");
            let points = if runs < 3 { &of_load } else { &of_changes };
            runs += 1;
            let at = usize::try_from(random.below(points.len() as u64)).expect("below a length");
            let (point, hits) = points.iter().nth(at).expect("a point");
            let hit = random.below((*hits).min(2)) + 1;
            let killed = project
                .run()
                .program(crash_binary())
                .env("RAPIDBYTE_CRASH_AT", format!("{point}:{hit}"))
                .timeout(Duration::from_secs(120))
                .finish();
            assert!(killed.signal.is_some() || killed.code == Some(0), "after a kill, at {point}:{hit}: {}", killed.told());
            died += usize::from(killed.signal.is_some());
            if began.is_empty() {
                let slot = slot_of(name);
                began = source.sql(&format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"));
            }
            assert_nothing_let_go(&source, &destination, name, &began);
        }
    });
    run(&project);
    let detail = check(&source, &destination, mode);
    assert_eq!(run(&project), 0);
    drop_slot(&source, name);
    Proof {
        name: if mode == "upsert" {
            "kills beside a mixed writer, changes merged"
        } else {
            "kills beside a mixed writer, changes as a log"
        },
        cases: kills,
        failures: 0,
        seed: seed.to_string(),
        detail,
    }
    .record();
}

/// Compares what is there. A log is played back, strictly: no change may come twice, none may be missing.
pub(crate) fn check(source: &Database<'_>, destination: &Database<'_>, mode: &str) -> String {
    if mode == "upsert" {
        assert_eq!(source.hash("live"), destination.hash("live"));
        assert_eq!(source.hash("side"), destination.hash("side"));
        return format!("{} rows", source.hash("live").rows);
    }
    let twice =
        "SELECT count(*) FROM (SELECT FROM live WHERE _rb_lsn IS NOT NULL GROUP BY _rb_lsn, _rb_seq HAVING count(*) > 1) AS twice";
    assert_eq!(destination.sql(twice), "0");
    destination.sql(
        "CREATE TABLE played (id int PRIMARY KEY, v text NOT NULL, big text, w int);
         DO $$ DECLARE c record; n int; BEGIN
         FOR c IN SELECT * FROM live ORDER BY _rb_lsn NULLS FIRST, _rb_seq LOOP
             IF c._rb_op = 'insert' THEN INSERT INTO played VALUES (c.id, c.v, c.big, c.w);
             ELSIF c._rb_op = 'delete' THEN DELETE FROM played WHERE id = c.id; GET DIAGNOSTICS n = ROW_COUNT; ASSERT n = 1;
             ELSE UPDATE played SET id = c.id, v = c.v, w = c.w,
                     big = CASE WHEN 'big' = ANY (c._rb_unchanged) THEN big ELSE c.big END WHERE id = coalesce(c._rb_before_id, c.id);
                 GET DIAGNOSTICS n = ROW_COUNT; ASSERT n = 1;
             END IF;
         END LOOP; END $$",
    );
    assert_eq!(source.hash("live"), destination.hash("played"));
    format!("{} changes", destination.hash("live").rows)
}

#[test]
fn prove_merged_changes_survive_kills() {
    survives_kills("upsert", "cdc_kill", if is_full() { 200 } else { 10 });
}

#[test]
fn prove_a_change_log_survives_kills() {
    survives_kills("append", "cdc_kill_log", if is_full() { 200 } else { 8 });
}
