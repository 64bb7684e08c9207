//! What a network does to connections: each of the two, in each phase. The end states stand in `docs/reference/faults.md`.

use rapidbyte_testkit::{Authority, Database, Fault, Finished, Postgres, PostgresOptions, Project, Proof, crash_binary, is_full};
use std::sync::OnceLock;
use std::time::Duration;

const ROWS: u32 = 1_200;
/// What `connect_timeout_seconds` and `idle_timeout_seconds` are set to.
const TIMEOUT: u64 = 2;
/// No run hangs: beyond the silence that has to be waited for, there are the retry and what the claim gives a writer that may be
/// gone.
const MOST: Duration = Duration::from_secs(TIMEOUT + 5);

/// How the table is read: by one reader, found by a pattern, in shares of one snapshot, behind a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Whole,
    Found,
    Shared,
    Behind,
}

/// A phase: the connection's side, its name, and a point within it with the hit that is meant.
const PHASES: [(&str, &str, Way, &str, u64); 21] = [
    ("source", "connecting, to ask who it is", Way::Whole, "net.source-postgres.connecting", 1),
    ("source", "login, to ask who it is", Way::Whole, "net.source-postgres.encrypted", 1),
    ("source", "discovery", Way::Found, "source.discover.start", 1),
    ("source", "connecting, to plan", Way::Shared, "net.source-postgres.connecting", 2),
    ("source", "planning, before the snapshot", Way::Shared, "source.snapshot.before", 1),
    ("source", "planning, the snapshot exported", Way::Shared, "source.snapshot.exported", 1),
    ("source", "the plan made, its snapshot held", Way::Shared, "engine.prepare.after", 1),
    ("source", "connecting, to read", Way::Shared, "net.source-postgres.connecting", 3),
    ("source", "login, to read", Way::Shared, "net.source-postgres.encrypted", 3),
    ("source", "reading, the snapshot joined", Way::Shared, "source.read.connected", 2),
    ("source", "COPY, its begin", Way::Whole, "source.copy.before", 1),
    ("source", "COPY, its middle", Way::Whole, "source.batch.emitted", 2),
    ("source", "COPY, its end", Way::Whole, "source.copy.after", 1),
    ("source", "closing", Way::Behind, "engine.confirm.after", 1),
    ("destination", "connecting, to claim", Way::Whole, "net.dest-postgres.connecting", 1),
    ("destination", "login, to claim", Way::Whole, "net.dest-postgres.encrypted", 1),
    ("destination", "connecting, to write", Way::Shared, "net.dest-postgres.connecting", 2),
    ("destination", "COPY", Way::Whole, "dest.staging.after", 1),
    ("destination", "commit, unsent", Way::Whole, "dest.receipt.after", 1),
    ("destination", "commit, sent", Way::Whole, "dest.commit.sent", 1),
    ("destination", "publication, unsent", Way::Whole, "dest.letters.after", 1),
];
const ACTS: [&str; 7] = ["cut", "close", "silence", "slow:20", "slice", "corrupt", "refuse"];

struct Wire {
    source: Database<'static>,
    destination: Database<'static>,
}

/// A server of its own, with TLS, because nothing but TLS can notice changed bytes; all it is told is in its log.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let authority = Authority::new("the network's");
        let settings = vec!["log_statement = 'all'".to_owned(), "log_line_prefix = 'db=%d '".to_owned()];
        Postgres::start(PostgresOptions { settings, ..PostgresOptions::default() }.with_tls(&authority))
    })
}

impl Wire {
    fn new() -> Self {
        let (source, destination) = (server().database("wire_source"), server().database("wire_destination"));
        source.sql(&format!(
            "CREATE TABLE items (id int PRIMARY KEY, v text);
             INSERT INTO items SELECT i, repeat('v', 300) || i FROM generate_series(1, {ROWS}) i"
        ));
        Self { source, destination }
    }

    fn project(&self, case: usize, way: Way) -> Project {
        match way {
            Way::Whole => self.with(case, "[ { name: items } ]", "", ", parallelism: 1"),
            Way::Found => self.with(case, "[ { name: \"public.ite*\" } ]", "", ", parallelism: 1"),
            Way::Shared => self.with(case, "[ { name: items } ]", ", split_above_bytes: 8192", ", parallelism: 2"),
            Way::Behind => self.with(case, "[ { name: items, sync_mode: incremental, cursor_field: id } ]", "", ", parallelism: 1"),
        }
    }

    fn with(&self, case: usize, streams: &str, reading: &str, rest: &str) -> Project {
        let timeouts = format!("sslmode: require, connect_timeout_seconds: {TIMEOUT}, idle_timeout_seconds: {TIMEOUT}");
        Project::with_pipeline(&format!(
            "version: \"1.0\"\npipeline: wire_{case}\nsource:\n  use: source-postgres\n  config: {{ {}, {timeouts}{reading} }}\n  streams: {streams}\n\
             destination:\n  use: dest-postgres\n  config: {{ {}, {timeouts}, schema: wire_{case} }}\n  write_mode: append\n\
             resources: {{ max_batch_bytes: 256kb{rest} }}\n",
            self.source.config(),
            self.destination.config(),
        ))
    }
}

/// Whether the act can be done at the point at all.
fn fits(point: &str, act: &str) -> bool {
    // A connection can be refused only while it is made.
    act != "refuse" || point.ends_with(".connecting")
}

fn disturb(wire: &Wire, case: usize, way: Way, point: &str, hit: u64, act: &str) -> Result<Finished, String> {
    let project = wire.project(case, way);
    let run = Fault::new(point, hit, act).arm(project.run(), &project).timeout(Duration::from_secs(120)).finish();
    if Fault::fired(&project).is_empty() {
        return Err(format!("the fault did not come to pass: {}", run.told()));
    }
    // Changed bytes in a TLS handshake look like a server that speaks it badly, which no retry mends.
    let refused = act == "corrupt" && point.ends_with(".connecting");
    if refused && run.code != Some(0) {
        let run_again = project.run().finish();
        if run_again.code != Some(0) {
            return Err(format!("the run after it fails: {}", run_again.told()));
        }
    } else if run.code != Some(0) {
        return Err(format!("the run does not survive it: {}", run.told()));
    }
    let (there, wanted) = (wire.destination.hash(&format!("wire_{case}.items")), wire.source.hash("items"));
    if there != wanted {
        return Err(format!("{there:?} is there, not {wanted:?}: {}", run.told()));
    }
    Ok(run)
}

#[test]
fn prove_networks_that_misbehave_lose_and_repeat_nothing() {
    let wire = Wire::new();
    // The first run of a binary compiles its connectors, which is not what is measured.
    wire.project(903, Way::Whole).run().program(crash_binary()).finish().success();
    let (mut failures, mut cases, mut longest) = (Vec::new(), 0, Duration::ZERO);
    for (at, (side, phase, way, point, hit)) in PHASES.into_iter().enumerate() {
        for (nth, act) in ACTS.into_iter().enumerate() {
            // CI takes every other one, so that each phase and each act has its turn.
            if !fits(point, act) || (!is_full() && (at + nth) % 2 != 0) {
                continue;
            }
            cases += 1;
            match disturb(&wire, at * ACTS.len() + nth, way, point, hit, act) {
                // What is slow is not what hangs.
                Ok(run) if run.duration > MOST && !matches!(act, "slow:20" | "slice") => {
                    failures.push(format!("{act} at the {side}, {phase}: it took {:?}", run.duration))
                }
                Ok(run) => longest = longest.max(run.duration),
                Err(wrong) => failures.push(format!("{act} at the {side}, {phase}: {wrong}")),
            }
        }
    }
    Proof {
        name: "networks that misbehave, on both connections in each phase",
        cases,
        failures: failures.len(),
        seed: "-".into(),
        detail: format!(
            "{} phases × {{{}}}; timeouts of {TIMEOUT} s, the longest run {:.1} s",
            PHASES.len(),
            ACTS.join(", "),
            longest.as_secs_f32()
        ),
    }
    .record();
    assert!(failures.is_empty(), "{} of {cases} went wrong:\n{}", failures.len(), failures.join("\n\n"));
}

/// The lines about a database in what the server has logged since `from`.
fn logged(from: usize, database: &Database<'_>, words: &[&str]) -> usize {
    let (log, whose) = (server().log(), format!("db={} ", database.name()));
    log[from..].lines().filter(|line| line.starts_with(&whose) && words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn retries_repeat_only_what_did_not_finish() {
    let wire = Wire::new();
    wire.source.sql("CREATE TABLE others AS SELECT * FROM items; CREATE TABLE last AS SELECT * FROM items");
    let project = wire.with(900, "[ { name: items }, { name: others }, { name: last } ]", "", ", parallelism: 1");
    let from = server().log().len();
    // The second stream's COPY is cut.
    let run = Fault::new("dest.staging.after", 2, "cut").arm(project.run(), &project).finish().success();
    assert_eq!(Fault::fired(&project), ["socket"]);
    let attempts: Vec<_> = (0..3).map(|stream| run.at(&format!("/report/streams/{stream}/attempts"))).collect();
    let mut sorted: Vec<u64> = attempts.iter().filter_map(serde_json::Value::as_u64).collect();
    sorted.sort_unstable();
    assert_eq!(sorted, [1, 1, 2], "one stream is tried again: {attempts:?}");
    let mut reads: Vec<usize> = ["items", "others", "last"]
        .iter()
        .map(|table| logged(from, &wire.source, &["statement: COPY (", &format!("\"{table}\"")]))
        .collect();
    assert_eq!(reads.iter().sum::<usize>(), 4, "COPYs out: {reads:?}");
    reads.sort_unstable();
    assert_eq!(reads, [1, 1, 2], "one stream is read again");
    assert_eq!(logged(from, &wire.destination, &["statement: COPY ", "FROM STDIN"]), 4, "and written again");
    for table in ["items", "others", "last"] {
        assert_eq!(wire.destination.hash(&format!("wire_900.{table}")), wire.source.hash(table));
    }
}

#[test]
fn only_what_may_pass_is_tried_again_and_the_message_has_the_attempts_and_the_first_cause() {
    let wire = Wire::new();
    wire.source.sql("CREATE TABLE twice AS SELECT 1 AS id FROM generate_series(1, 2)");
    wire.destination.sql("CREATE SCHEMA wire_901; CREATE TABLE wire_901.twice (id int PRIMARY KEY)");
    let project = wire.project(901, Way::Whole);
    let yaml = std::fs::read_to_string(project.path("pipeline.yaml")).expect("the pipeline");
    let from = server().log().len();
    project.write("pipeline.yaml", yaml.replacen("a password with", "another password with", 1));
    let run = project.run().finish().exit(4);
    assert_eq!(
        (run.at("/error/attempts").as_u64(), logged(from, &wire.source, &["password authentication failed"])),
        (Some(1), 1),
        "{}",
        run.told()
    );

    project.write("pipeline.yaml", yaml.replace("name: items", "name: nowhere"));
    assert_eq!(project.run().finish().exit(8).at("/error/attempts"), 1);
    project.write("pipeline.yaml", yaml.replace("name: items", "name: twice"));
    assert_eq!(project.run().finish().exit(7).at("/error/attempts"), 1);

    // A server that ends the first attempt, and is full when the next ones come.
    let user = "CREATE ROLE crowded LOGIN SUPERUSER PASSWORD 'crowded' CONNECTION LIMIT 100";
    wire.destination.sql(user);
    let config = format!("user: crowded, password: crowded, database: {}", wire.destination.name());
    let crowded = yaml.replace(&wire.destination.login(), &config).replace("parallelism: 1", "parallelism: 1, max_retries: 2");
    project.write("pipeline.yaml", crowded);
    let waiting = Fault::new("dest.staging.after", 1, "second").arm(project.run(), &project).start();
    rapidbyte_testkit::within(Duration::from_secs(60), "the stream to begin", || Fault::reached(&project).exists().then_some(()));
    wire.destination.sql(
        "ALTER ROLE crowded NOSUPERUSER CONNECTION LIMIT 0;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crowded'",
    );
    Fault::go(&project);
    let run = waiting.finish().exit(6);
    assert_eq!(run.at("/error/code"), "too_many_connections", "{}", run.told());
    assert_eq!(run.at("/error/attempts"), 3);
    let first = run.at("/error/first_attempt");
    // The server's word, or, if the connection was gone before it could be read, that it was.
    let lost = ["terminating connection", "sending to the server", "waiting for the server"];
    assert!(first.as_str().is_some_and(|first| lost.iter().any(|words| first.contains(words))), "{first}");
    assert!(run.at("/error/message").as_str().is_some_and(|text| text.contains("after 3 attempts")), "{}", run.told());
    assert!(run.at("/error/hint").as_str().is_some_and(|hint| hint.contains("max_connections")), "{}", run.told());
    wire.destination.sql("ALTER ROLE crowded SUPERUSER CONNECTION LIMIT 10");
    project.run().finish().success();
    assert_eq!(wire.destination.hash("wire_901.items"), wire.source.hash("items"));
}
