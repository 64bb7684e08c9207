//! A process that runs pipelines for ever: nothing of a run stays behind, however it ends.

use rapidbyte_config::PipelinePlan;
use rapidbyte_engine::{
    AotMode, Cancel, Cause, ConnectorLibrary, Engine, EngineError, EngineOptions, Observer, RunEvent, RunOptions, RunReport,
    Unobserved,
};
use rapidbyte_testkit::{Database, Postgres, Project, connectors, open_files, packed_fixture, threads_of, within};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Runs of a kind before things are counted, when caches and pools fill; and runs that must add nothing.
const WARM: usize = 2;
const RUNS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(30);

struct Packed;

impl ConnectorLibrary for Packed {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn component(&self, name: &str) -> Option<Cow<'static, [u8]>> {
        fs::read(connectors().join(name).join(format!("{}.wasm", name.replace('-', "_")))).ok().map(Cow::Owned)
    }
}

/// Stops the run at a moment of its own.
struct StopAt {
    cancel: Cancel,
    now: fn(&RunEvent<'_>) -> bool,
}

impl Observer for StopAt {
    fn event(&self, event: RunEvent<'_>) {
        if (self.now)(&event) {
            self.cancel.cancel();
        }
    }
}

/// What could be left.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    /// By what they point at, so that a leak has a name.
    descriptors: BTreeMap<String, usize>,
    threads: usize,
    sessions: usize,
    slots: String,
    transactions: String,
    /// Tables of both databases, for staging ones.
    tables: String,
    /// Files of the project, for temporary ones.
    files: usize,
}

/// Databases, a project, and one engine for all runs.
struct Place {
    /// Never dropped: a worker that a guest does not give back would hold the test up instead of failing it.
    tokio: &'static Runtime,
    engine: Engine,
    project: Project,
    source: Database<'static>,
    destination: Database<'static>,
}

impl Place {
    fn new() -> Self {
        let server = Postgres::shared();
        let (source, destination) = (server.database("left_source"), server.database("left_destination"));
        source.sql("CREATE TABLE t AS SELECT i AS id, 'word ' || i AS word FROM generate_series(1, 5000) i");
        destination.sql("CREATE VIEW unfit AS SELECT 1 AS id");
        let project = Project::empty();
        // Threads for blocking calls go soon after their work, so that those which stay can be told.
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_keep_alive(Duration::from_millis(50))
            .enable_all()
            .build()
            .expect("a runtime");
        let tokio: &'static Runtime = Box::leak(Box::new(tokio));
        let engine = Engine::new(EngineOptions {
            aot: AotMode::Cache(project.path("cache")),
            build_id: "leftovers".into(),
            library: Arc::new(Packed),
            env: BTreeMap::new(),
            allowed_hosts: None,
        })
        .expect("an engine");
        Self { tokio, engine, project, source, destination }
    }

    /// A pipeline's plan. Each name is a pipeline of its own.
    fn plan(&self, name: &str, source: &str, stream: &str, destination: &str) -> PipelinePlan {
        let file = format!("{name}.yaml");
        self.project.write(
            &file,
            format!(
                "version: \"1.0\"\npipeline: {name}\nsource:\n  use: {source}\n  streams: [ {{ name: {stream} }} ]\n\
                 destination:\n  use: {destination}\n  write_mode: replace\n\
                 resources: {{ max_retries: 0, parallelism: 2, checkpoint_interval_rows: 500 }}\n"
            ),
        );
        PipelinePlan::load(&self.project.path(&file), &|_| None).expect("a plan")
    }

    fn postgres_source(&self) -> String {
        format!("source-postgres\n  config: {{ {} }}", self.source.config())
    }

    fn postgres_destination(&self) -> String {
        format!("dest-postgres\n  config: {{ {} }}", self.destination.config())
    }

    fn run(&self, plan: &PipelinePlan, options: RunOptions) -> Result<RunReport, EngineError> {
        // Waited for outside of tokio, whose clocks stand still when guests hold all its workers.
        let (engine, moved) = (self.engine.clone(), plan.clone());
        let (sender, answer) = mpsc::channel();
        self.tokio.spawn(async move { sender.send(engine.run(&moved, options).await) });
        answer.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("a run of `{}` does not end", plan.pipeline))
    }

    fn held(&self) -> Held {
        let me = std::process::id();
        let mut descriptors = BTreeMap::new();
        for target in open_files(me).expect("our own files") {
            // A socket's number says nothing.
            let kind = target.split(":[").next().unwrap_or_default().to_owned();
            *descriptors.entry(kind).or_insert(0) += 1;
        }
        let tables = "SELECT string_agg(schemaname || '.' || tablename, ' ' ORDER BY schemaname, tablename) FROM pg_tables
                      WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        Held {
            descriptors,
            threads: threads_of(me).expect("our own threads"),
            sessions: self.source.sessions() + self.destination.sessions(),
            slots: self.source.sql("SELECT count(*) FROM pg_replication_slots"),
            transactions: self.source.sql("SELECT count(*) FROM pg_prepared_xacts"),
            tables: format!("{} and {}", self.source.sql(tables), self.destination.sql(tables)),
            files: files(self.project.dir()),
        }
    }

    /// Does something again and again; afterwards nothing more is held than before, once servers have noticed who is gone.
    fn again(&self, what: &str, mut act: impl FnMut()) {
        (0..WARM).for_each(|_| act());
        let quiet = || {
            within(PATIENCE, &format!("{what}: sessions to end"), || {
                (self.source.sessions() + self.destination.sessions() == 0).then_some(())
            });
            // The last threads for blocking calls.
            std::thread::sleep(Duration::from_millis(200));
            self.held()
        };
        let before = quiet();
        (0..RUNS).for_each(|_| act());
        let mut last = None;
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            let now = quiet();
            if now == before {
                return;
            }
            last = Some(now);
        }
        panic!("{what}: {RUNS} runs left something behind\nbefore {before:#?}\nafter {last:#?}");
    }
}

/// Files below a directory. Left out is what `dest-file` keeps on purpose: its newest manifests, and replaced loads for a minute.
fn files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let kept = |path: &Path| path.ends_with("_rapidbyte") || path.ends_with("_generations");
    entries.map(|entry| entry.path()).filter(|path| !kept(path)).map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

fn unwatched() -> RunOptions {
    RunOptions { cancel: Cancel::new(), observer: Arc::new(Unobserved), follow: false, peek_rows: 0 }
}

fn stopped(now: fn(&RunEvent<'_>) -> bool) -> RunOptions {
    let cancel = Cancel::new();
    RunOptions { cancel: cancel.clone(), observer: Arc::new(StopAt { cancel, now }), follow: false, peek_rows: 0 }
}

/// One test, because a process has one set of descriptors.
#[test]
fn nothing_is_left_of_runs_that_succeed_fail_or_are_stopped() {
    let place = Place::new();
    let (postgres, files) = (place.postgres_destination(), "dest-file\n  config: { path: out }");
    let slow = "source-datagen\n  config: { pattern: sequence, max_events: 1000000, events_per_second: 5000, batch_rows: 100 }";
    let spin = packed_fixture("probe-spin").display().to_string();

    let moved = place.plan("moved", &place.postgres_source(), "public.t", &postgres);
    let written = place.plan("written", &place.postgres_source(), "public.t", files);
    place.again("success", || {
        for plan in [&moved, &written] {
            let report = place.run(plan, unwatched()).expect("it succeeds");
            assert_eq!(report.streams[0].rows_published, 5000);
        }
    });

    let fail = |plan: &PipelinePlan, code: &str| {
        let error = place.run(plan, unwatched()).expect_err("it fails");
        assert_eq!(error.code(), code, "{error}");
    };
    let missing = place.plan("missing", &place.postgres_source(), "public.nothing", &postgres);
    let unfit = place.plan("unfit", &place.postgres_source(), "public.t, destination: { table: unfit }", &postgres);
    let refused = place.plan("refused", &place.postgres_source().replace("user: keeper", "user: stranger"), "public.t", &postgres);
    place.again("failure", || {
        fail(&missing, "missing_table");
        fail(&unfit, "not_a_table");
        fail(&refused, "auth");
    });

    let stop = |plan: &PipelinePlan, now: fn(&RunEvent<'_>) -> bool| {
        let error = place.run(plan, stopped(now)).expect_err("it is stopped");
        assert!(matches!(error.cause, Cause::Cancelled), "{error}");
    };
    let halfway = place.plan("halfway", slow, "sequence", &postgres);
    let halfway_files = place.plan("halfway_files", slow, "sequence", files);
    place.again("stopped at a commit", || {
        stop(&halfway, |event| matches!(event, RunEvent::Committed { .. }));
    });
    place.again("stopped while it reads", || {
        stop(&moved, |event| matches!(event, RunEvent::Read { .. }));
        stop(&halfway_files, |event| matches!(event, RunEvent::Read { .. }));
        // A run that is whole leaves no more than the first one did.
        place.run(&moved, unwatched()).expect("it goes on");
    });
    let spinning = place.plan("spinning", &spin, "none", &postgres);
    place.again("stopped in an endless loop", || stop(&spinning, |event| matches!(event, RunEvent::Planned { .. })));

    place.again("dropped", || {
        let run = place.engine.run(&halfway, unwatched());
        place.tokio.block_on(async { tokio::time::timeout(Duration::from_millis(150), run).await.expect_err("it takes longer") });
    });
}
