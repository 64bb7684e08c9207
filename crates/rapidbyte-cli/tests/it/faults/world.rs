//! Small tables in every mode, a schema and a pipeline of their own for each case, so that one server carries thousands.

use rapidbyte_testkit::{Database, Postgres, Project, Rapidbyte, TableHash, crash_binary};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How rows are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A full refresh into a table that it makes.
    Append,
    /// A full refresh over old rows.
    Replace,
    /// A full refresh merged into stale rows by key.
    Upsert,
    /// Rows behind a cursor, appended at each of several commits.
    Incremental,
}

impl Mode {
    pub(super) const ALL: [Self; 4] = [Self::Append, Self::Replace, Self::Upsert, Self::Incremental];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::Upsert => "upsert",
            Self::Incremental => "incremental",
        }
    }
}

const ROWS: u32 = 1_200;
/// No run of these tables takes as long, whatever goes wrong in it.
const LIMIT: Duration = Duration::from_secs(90);
const TABLE: &str = "CREATE TABLE {schema}.items (id int PRIMARY KEY, n int NOT NULL, v text, w numeric)";

/// A source with rows, and a destination.
pub(super) struct World {
    source: Database<'static>,
    destination: Database<'static>,
    pub(super) expected: TableHash,
    places: AtomicU32,
}

impl World {
    pub(super) fn new() -> Self {
        let server = Postgres::shared();
        let (source, destination) = (server.database("faults_source"), server.database("faults_destination"));
        source.sql(&format!(
            "{}; INSERT INTO items SELECT i, i / 7, repeat('v', 300) || i, i / 3.0 FROM generate_series(1, {ROWS}) i",
            TABLE.replace("{schema}.", "")
        ));
        let expected = source.hash("items");
        Self { source, destination, expected, places: AtomicU32::new(0) }
    }

    /// Another place to write to.
    pub(super) fn place(&self, mode: Mode) -> Place<'_> {
        let schema = format!("p{}", self.places.fetch_add(1, Ordering::Relaxed));
        let table = TABLE.replace("{schema}", &schema);
        // Rows that a source no longer has, or has in another form.
        let old = match mode {
            Mode::Append | Mode::Incremental => String::new(),
            Mode::Replace => format!("{table}; INSERT INTO {schema}.items SELECT i, 0, 'old', NULL FROM generate_series(-9, 50) i"),
            Mode::Upsert => format!("{table}; INSERT INTO {schema}.items SELECT i, 0, 'old', NULL FROM generate_series(1, 50) i"),
        };
        self.destination.sql(&format!("CREATE SCHEMA {schema}; {old}"));
        Place { world: self, mode, schema }
    }
}

/// Where one case writes.
pub(super) struct Place<'a> {
    world: &'a World,
    mode: Mode,
    schema: String,
}

impl Place<'_> {
    /// The pipeline that writes here.
    pub(super) fn pipeline(&self) -> String {
        let Self { world, mode, schema } = self;
        let (reading, writing) = match mode {
            Mode::Append => ("", "append"),
            Mode::Replace => ("", "replace"),
            Mode::Upsert => ("", "upsert"),
            Mode::Incremental => (", sync_mode: incremental, cursor_field: n", "append"),
        };
        format!(
            "version: \"1.0\"\npipeline: {schema}\nsource:\n  use: source-postgres\n  config: {{ {} }}\n  streams: [ {{ name: items{reading} }} ]\n\
             destination:\n  use: dest-postgres\n  config: {{ {}, schema: {schema} }}\n  write_mode: {writing}\n\
             resources: {{ checkpoint_interval_rows: 1, max_batch_bytes: 256kb }}\n",
            world.source.config(),
            world.destination.config(),
        )
    }

    pub(super) fn project(&self) -> Project {
        Project::with_pipeline(&self.pipeline())
    }

    /// Whether the destination holds the source's rows, in `append` as often as they were loaded.
    pub(super) fn check(&self, loads: usize) -> Result<(), String> {
        let Self { world, mode, schema } = self;
        let loads = if *mode == Mode::Append { loads } else { 1 };
        let expected = world.source.hash(&format!("(SELECT items.* FROM items, generate_series(1, {loads}))"));
        let found = world.destination.hash(&format!("{schema}.items"));
        if found == expected { Ok(()) } else { Err(format!("{found:?} is there, not {expected:?} ({loads} loads)")) }
    }

    /// Whether the destination holds the source's rows once.
    pub(super) fn holds_once(&self) -> bool {
        self.world.destination.has(&format!("{}.items", self.schema))
            && self.world.destination.hash(&format!("{}.items", self.schema)) == self.world.expected
    }

    /// Asks or does something at the destination; `{schema}` stands for the place's own, `{receipts}` for the receipts of its
    /// newest generation.
    pub(super) fn sql(&self, sql: &str) -> String {
        let receipts = format!(
            "(SELECT r.* FROM _rapidbyte.receipts r JOIN _rapidbyte.streams s ON s.id = r.stream_id AND s.newest_generation = r.generation
              WHERE s.pipeline = '{}') AS newest",
            self.schema
        );
        self.world.destination.sql(&sql.replace("{schema}", &self.schema).replace("{receipts}", &receipts))
    }

    pub(super) fn clear(&self) {
        // What a run left behind in the ledger goes with the database.
        self.world.destination.sql(&format!("DROP SCHEMA {} CASCADE", self.schema));
    }
}

/// A run by the binary with crash points.
pub(super) fn run(project: &Project) -> Rapidbyte {
    project.run().program(crash_binary()).timeout(LIMIT)
}

/// Every point that a run reaches, in the order of its hits.
pub(super) fn hits(project: &Project) -> Vec<String> {
    let text = fs::read_to_string(project.path("counts")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The points of a run that nobody disturbs, each with the places of its hits in the whole.
pub(super) fn undisturbed(world: &World, mode: Mode) -> (Vec<String>, BTreeMap<String, Vec<usize>>) {
    let place = world.place(mode);
    let project = place.project();
    run(&project).env("RAPIDBYTE_CRASH_COUNTS", project.path("counts")).finish().success();
    place.check(1).expect("an undisturbed run moves every row");
    let all = hits(&project);
    let mut points: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, point) in all.iter().enumerate() {
        points.entry(point.clone()).or_default().push(at);
    }
    place.clear();
    (all, points)
}
