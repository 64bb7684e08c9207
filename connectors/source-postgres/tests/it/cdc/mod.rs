//! Changes: identical Arrow by both ways, every kind of change, the handover under a writer, slots that fail.

mod changes;
mod follow;
mod handover;
mod missing;
mod slots;
mod types;

use crate::render::rows;
use arrow_array::RecordBatch;
use postgres_wire::Connection;
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::changes::{BEFORE_PREFIX, OP, UNCHANGED};
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{
    ConnectorError, Generation, InitContext, PartitionPlan, PlanRequest, Position, ReadRequest, Source, StreamContext, StreamName,
    SyncMode, WriteMode,
};
use source_postgres::PostgresSource;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One server whose log tells changes, for every test that leaves it as it is.
pub(crate) fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<Stopped> = OnceLock::new();
    struct Stopped(PostgresServer);
    &SERVER
        .get_or_init(|| {
            let server = logical(&[]);
            server.stop_with_process();
            Stopped(server)
        })
        .0
}

/// A server of a test's own.
pub(crate) fn logical(more: &[&str]) -> PostgresServer {
    PostgresServer::start_with(&[&["wal_level=logical", "max_replication_slots=120", "max_wal_senders=10"], more].concat())
}

/// What tells the log at the server.
pub(crate) const PLUGINS: [&str; 2] = ["pgoutput", "test_decoding"];

/// A pipeline over some tables of a database.
pub(crate) struct Pipeline<'s> {
    pub(crate) server: &'s PostgresServer,
    pub(crate) name: String,
    pub(crate) plugin: &'static str,
    pub(crate) streams: Vec<StreamContext>,
    /// The initial load of each stream, as the destination keeps it.
    pub(crate) loads: Vec<Generation>,
}

/// What one read of changes put out.
pub(crate) struct Read {
    pub(crate) host: FakeHost,
    pub(crate) emitted: Vec<Emitted>,
}

impl Read {
    /// The barriers, in order.
    pub(crate) fn barriers(&self) -> Vec<Position> {
        let positions = self.emitted.iter().filter_map(|emitted| match emitted {
            Emitted::Barrier(position) => Some(position.clone()),
            _ => None,
        });
        positions.collect()
    }

    pub(crate) fn end(&self) -> Position {
        assert!(matches!(self.emitted.last(), Some(Emitted::Barrier(_))), "rows after the last barrier");
        self.barriers().pop().unwrap()
    }

    /// The changes of a stream as maps from column to text, without columns that are NULL.
    pub(crate) fn changes(&self, stream: u32) -> Vec<BTreeMap<String, String>> {
        let mut all = Vec::new();
        for batch in self.host.batches(stream).unwrap() {
            let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
            // Numbers that only order changes have tests of their own.
            let shown: Vec<usize> =
                (0..names.len()).filter(|at| !["_rb_lsn", "_rb_commit_time"].contains(&names[*at].as_str())).collect();
            for row in rows(&[batch.project(&shown).unwrap()]) {
                let cells = shown.iter().zip(row).filter_map(|(at, cell)| Some((names[*at].clone(), cell?)));
                all.push(cells.collect());
            }
        }
        all
    }
}

pub(crate) fn stream(table: &str) -> StreamContext {
    let mut context = StreamContext::full_refresh(StreamName::qualified("public", table));
    context.sync_mode = SyncMode::Cdc;
    context.write_mode = WriteMode::Upsert;
    context
}

impl<'s> Pipeline<'s> {
    pub(crate) fn new(server: &'s PostgresServer, name: &str, tables: &[&str]) -> Self {
        let streams = tables.iter().map(|table| stream(table)).collect();
        Self { server, name: name.into(), plugin: PLUGINS[0], streams, loads: Vec::new() }
    }

    /// A pipeline by that plugin over tables that are not there yet, or not any more.
    pub(crate) fn by(plugin: &'static str, name: &str, tables: &[&str]) -> Self {
        let pipeline = Self { plugin, ..Self::new(server(), &format!("{name}_{plugin}"), tables) };
        pipeline.sql(&format!("DROP TABLE IF EXISTS {}", tables.join(", ")));
        pipeline
    }

    pub(crate) fn source(&self) -> PostgresSource {
        let context = InitContext { pipeline: Some(self.name.clone()), blob: None };
        let mut config = self.server.config_json("app");
        config["plugin"] = self.plugin.into();
        PostgresSource::init(config, context).unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) -> Connection {
        let mut connection = self.server.connect();
        connection.batch_execute(sql).unwrap();
        connection
    }

    /// Statements that are a transaction each.
    pub(crate) fn each(&self, statements: &[&str]) {
        let mut connection = self.server.connect();
        statements.iter().for_each(|sql| connection.batch_execute(sql).unwrap());
    }

    /// What a query gives.
    pub(crate) fn ask(&self, sql: &str) -> String {
        self.server.connect().query(sql).unwrap().first().and_then(|row| row.get(0)).unwrap_or("NULL").to_owned()
    }

    pub(crate) fn request(&self, index: usize, max_partitions: u32) -> PlanRequest {
        PlanRequest {
            run: run_context(),
            stream: self.streams[index].clone(),
            max_partitions,
            pinned: self.loads.get(index).cloned(),
        }
    }

    /// Plans and reads the initial load of each stream; gives the rows of each.
    pub(crate) fn load(&mut self) -> Vec<Vec<Vec<Option<String>>>> {
        let mut planner = self.source();
        let plans: Vec<PartitionPlan> =
            (0..self.streams.len()).map(|index| planner.plan_partitions(&self.request(index, 4)).unwrap()).collect();
        self.loads = plans.iter().map(generation).collect();
        let token = plans.last().unwrap().token.clone();
        let loads = (0..self.streams.len()).map(|index| self.read_load(index, &token)).collect();
        planner.close().unwrap();
        loads
    }

    pub(crate) fn read_load(&self, index: usize, token: &[u8]) -> Vec<Vec<Option<String>>> {
        rows(&self.load_batches(index, token))
    }

    /// The initial load as Arrow.
    pub(crate) fn load_batches(&self, index: usize, token: &[u8]) -> Vec<RecordBatch> {
        self.load_from(index, token, None).host.batches(0).unwrap()
    }

    /// The initial load, or what comes of it behind a position.
    pub(crate) fn load_from(&self, index: usize, token: &[u8], resume: Option<&Position>) -> Read {
        let host = FakeHost::install();
        let mut output = host.source_output();
        let request = ReadRequest {
            run: run_context(),
            streams: vec![self.streams[index].clone()],
            partition: Some(self.loads[index].partitions[0].clone()),
            token: token.to_vec(),
            resume: resume.cloned(),
            follow: false,
        };
        self.source().read(&request, &mut output).unwrap();
        Read { emitted: host.emitted(), host }
    }

    /// The plan for reading changes, on an instance of its own.
    pub(crate) fn token(&self) -> Result<Vec<u8>, ConnectorError> {
        let mut planner = self.source();
        let mut token = Vec::new();
        for (index, load) in self.loads.iter().enumerate() {
            let plan = planner.plan_partitions(&self.request(index, 0))?;
            assert_eq!((&plan.snapshot, &plan.partitions), (&load.snapshot, &load.partitions));
            token = plan.token;
        }
        planner.close()?;
        Ok(token)
    }

    /// Reads changes; `durable` is where the destination stands while it happens.
    pub(crate) fn try_changes(&self, resume: Option<&Position>, durable: Option<&Position>) -> Result<Read, ConnectorError> {
        let token = self.token()?;
        let host = FakeHost::install();
        if let Some(durable) = durable {
            host.set_durable(durable.clone());
        }
        let mut output = host.source_output();
        let request = ReadRequest {
            run: run_context(),
            streams: self.streams.clone(),
            partition: None,
            token,
            resume: resume.cloned(),
            follow: false,
        };
        self.source().read(&request, &mut output)?;
        Ok(Read { emitted: host.emitted(), host })
    }

    pub(crate) fn changes(&self, resume: Option<&Position>) -> Read {
        self.try_changes(resume, None).unwrap()
    }

    pub(crate) fn confirm(&self, position: &Position) {
        self.source().confirm(position).unwrap();
    }
}

/// A planned load, as a destination keeps it.
pub(crate) fn generation(plan: &PartitionPlan) -> Generation {
    Generation { number: 1, snapshot: plan.snapshot.clone(), partitions: plan.partitions.clone() }
}

/// A destination that merges by the first column.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) rows: BTreeMap<String, Vec<Option<String>>>,
}

impl Target {
    pub(crate) fn of(rows: Vec<Vec<Option<String>>>) -> Self {
        Self { rows: rows.into_iter().map(|row| (row[0].clone().unwrap(), row)).collect() }
    }

    /// What the server holds, read as a whole.
    pub(crate) fn now(pipeline: &Pipeline<'_>, index: usize) -> Self {
        let mut context = pipeline.streams[index].clone();
        context.sync_mode = SyncMode::FullRefresh;
        let (host, _) = crate::read(pipeline.server, context).unwrap();
        Self::of(rows(&host.batches(0).unwrap()))
    }

    /// Applies what was read, strictly: an insert of a row that is there, or a change of one that is not, is an error of the source.
    pub(crate) fn apply(&mut self, read: &Read, stream: u32, columns: &[&str]) {
        let mut batches = read.host.batches(stream).unwrap().into_iter();
        for emitted in &read.emitted {
            match emitted {
                Emitted::Truncate(truncate) if truncate.stream == stream => self.rows.clear(),
                Emitted::Batch { stream: of, .. } if *of == stream => {
                    let batch = batches.next().unwrap();
                    let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
                    let place = |name: &str| names.iter().position(|known| known == name);
                    let shown = batch.project(&(0..place("_rb_lsn").unwrap()).collect::<Vec<_>>()).unwrap();
                    let unchanged = rows(&[batch.project(&[place(UNCHANGED).unwrap()]).unwrap()]);
                    for (row, unchanged) in rows(&[shown]).into_iter().zip(unchanged) {
                        let cell = |name: &str| place(name).and_then(|at| row[at].clone());
                        let before = cell(&format!("{BEFORE_PREFIX}{}", columns[0]));
                        let key = cell(columns[0]).unwrap();
                        let old = before.unwrap_or_else(|| key.clone());
                        let mut new: Vec<Option<String>> = columns.iter().map(|name| cell(name)).collect();
                        match cell(OP).unwrap().as_str() {
                            "insert" => assert!(!self.rows.contains_key(&key), "{key} is inserted twice"),
                            "update" => {
                                let was = self.rows.remove(&old).unwrap_or_else(|| panic!("{old} is updated and is not there"));
                                for name in unchanged[0].iter().flat_map(|list| list.split(',')) {
                                    let at = columns.iter().position(|column| format!("<{column}>") == name).unwrap();
                                    new[at] = was[at].clone();
                                }
                            }
                            "delete" => {
                                assert!(self.rows.remove(&old).is_some(), "{old} is deleted and is not there");
                                continue;
                            }
                            other => panic!("{other}"),
                        }
                        self.rows.insert(key, new);
                    }
                }
                _ => {}
            }
        }
    }
}
