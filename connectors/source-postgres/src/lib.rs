//! The PostgreSQL source: whole tables by binary COPY, decoded straight into Arrow.

mod catalog;
mod cdc;
mod check;
mod decode;
mod digest;
mod discover;
mod incremental;
mod read;
mod shares;
mod types;
mod user_types;

use catalog::{columns_of, find_relation, missing_table};
use incremental::Cursor;
use postgres_wire::{ConnectConfig, Connection, split_config};
use rapidbyte_sdk::{
    CheckItem, ConnectorError, CursorType, DiscoveredStream, InitContext, PartitionPlan, PlanRequest, Position, ReadRequest,
    ReadSummary, RunContext, Source, SourceOutput, StreamContext, StreamName, SyncMode, host_ffi,
};
use serde::Deserialize;
use std::time::{Duration, Instant};

rapidbyte_sdk::connector_main!(source, PostgresSource, digest_ranges);

/// The keys of the configuration that are not about the connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceConfig {
    #[serde(default = "default_schema")]
    schema: String,
    #[serde(default, alias = "slot_name")]
    replication_slot: Option<String>,
    #[serde(default, alias = "publication")]
    publication_name: Option<String>,
    #[serde(default)]
    plugin: cdc::Plugin,
    #[serde(default)]
    max_slot_lag_bytes: Option<u64>,
    #[serde(default)]
    on_slot_lag: Option<cdc::SlotLagPolicy>,
    #[serde(default = "default_split")]
    split_above_bytes: u64,
}

fn default_schema() -> String {
    "public".to_owned()
}

/// Guessed: below it the shares' fixed costs, and their memory, are not worth it.
fn default_split() -> u64 {
    1 << 30
}

/// Reads tables of a PostgreSQL database.
pub struct PostgresSource {
    connect: ConnectConfig,
    config: SourceConfig,
    /// What the slot may keep of the server's log.
    budget: Option<cdc::Budget>,
    /// For everything but what is pinned.
    session: Option<Connection>,
    /// An earlier call has used it.
    used: bool,
    /// How long it took to connect, as far as no read has told it.
    connecting: Duration,
    /// The pipeline it serves.
    pipeline: Option<String>,
    planner: cdc::Planner,
    /// Snapshots that the shares of planned streams are read at.
    held: Vec<shares::Held>,
    /// The rows that are digested.
    view: Option<digest::View>,
}

impl PostgresSource {
    /// What changes are read from.
    fn cdc_names(&self) -> Result<cdc::Names, ConnectorError> {
        let SourceConfig { replication_slot, publication_name, plugin, .. } = &self.config;
        let config = cdc::CdcConfig { plugin: *plugin, slot: replication_slot.clone(), publication: publication_name.clone() };
        config.names(self.pipeline.as_deref())
    }

    /// A call begins. What it needs of a session is not what an earlier one, of another stream perhaps, has left in it.
    fn begin_call(&mut self) {
        self.used = true;
    }

    /// The session, made when it is first needed.
    fn session(&mut self) -> Result<&mut Connection, ConnectorError> {
        let connection = self.take_session()?;
        Ok(self.session.insert(connection))
    }

    /// The same, to read in it. Whoever has done so puts it back; after an error it is gone, with whatever was under way.
    fn take_session(&mut self) -> Result<Connection, ConnectorError> {
        // Names of types then come with their schema.
        const NAMES: &str = "SET search_path = pg_catalog";
        let used = std::mem::take(&mut self.used);
        if let Some(mut connection) = self.session.take()
            && (if used { connection.renew(NAMES) } else { !connection.is_broken() })
        {
            return Ok(connection);
        }
        let started = Instant::now();
        let mut connection = Connection::connect(&self.connect)?;
        check::supported(&connection)?;
        connection.batch_execute(NAMES)?;
        self.connecting += started.elapsed();
        Ok(connection)
    }

    /// Schema and table of a stream.
    fn table<'a>(&'a self, name: &'a StreamName) -> (&'a str, &'a str) {
        (name.namespace.as_deref().unwrap_or(&self.config.schema), &name.name)
    }
}

impl Source for PostgresSource {
    // Two parts, each of which refuses keys it does not know.
    type Config = serde_json::Value;

    fn init(config: serde_json::Value, context: InitContext) -> Result<Self, ConnectorError> {
        let (connect, config) = split_config::<SourceConfig>(config)?;
        let budget = cdc::Budget::of(config.max_slot_lag_bytes, config.on_slot_lag)?;
        let pipeline = context.pipeline;
        Ok(Self {
            connect,
            config,
            budget,
            session: None,
            used: false,
            connecting: Duration::ZERO,
            pipeline,
            planner: cdc::Planner::default(),
            held: Vec::new(),
            view: None,
        })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        self.begin_call();
        Ok(check::check(self, streams))
    }

    fn identity(&mut self) -> Result<Option<String>, ConnectorError> {
        self.begin_call();
        let place = format!("{}:{}", self.connect.host, self.connect.port);
        let session = self.session()?;
        let database = session.query("SELECT oid, datname FROM pg_database WHERE datname = current_database()")?;
        let oid = database.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned();
        // Not every server shows its control file to everybody.
        let system = match session.query("SELECT system_identifier FROM pg_control_system()") {
            Ok(rows) => rows.first().and_then(|row| row.get(0)).map(str::to_owned),
            Err(error) if error.server().is_some() => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(match system {
            Some(system) => format!("postgres:{system}:{oid}"),
            None => format!("postgres:{place}:{oid}"),
        }))
    }

    fn discover(&mut self) -> Result<Vec<DiscoveredStream>, ConnectorError> {
        self.begin_call();
        let session = self.session()?;
        host_ffi::mark("source.discover.start");
        discover::discover(session)
    }

    fn plan_partitions(&mut self, request: &PlanRequest) -> Result<PartitionPlan, ConnectorError> {
        self.begin_call();
        if request.stream.sync_mode == SyncMode::Cdc {
            return cdc::plan(self, request);
        }
        if request.stream.sync_mode != SyncMode::Incremental {
            return shares::plan(self, request);
        }
        let (schema, table) = self.table(&request.stream.name);
        let (schema, table) = (schema.to_owned(), table.to_owned());
        let session = self.session()?;
        let Some(relation) = find_relation(session, &schema, &table)? else {
            return Err(missing_table(session, &schema, &table));
        };
        let columns = columns_of(session, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
        let cursor = Cursor::of(session, &request.stream, &relation, &columns)?;
        Ok(PartitionPlan::single(incremental::snapshot(&request.stream, &relation, &cursor)))
    }

    fn read(&mut self, request: &ReadRequest, output: &mut SourceOutput) -> Result<ReadSummary, ConnectorError> {
        self.begin_call();
        let changes = request.partition.is_none() && request.streams.iter().any(|stream| stream.sync_mode == SyncMode::Cdc);
        if changes { cdc::read(self, request, output) } else { read::read(self, request, output) }
    }

    fn confirm(&mut self, position: &Position) -> Result<(), ConnectorError> {
        self.begin_call();
        // Other positions hold nothing back at the server.
        if position.kind == CursorType::Lsn { cdc::confirm(self, position) } else { Ok(()) }
    }

    fn teardown(&mut self, _: &RunContext, streams: &[StreamContext]) -> Result<(), ConnectorError> {
        self.begin_call();
        cdc::teardown(self, streams)
    }

    fn close(&mut self) -> Result<(), ConnectorError> {
        self.held.drain(..).for_each(shares::Held::let_go);
        if let Some(view) = self.view.take() {
            view.let_go();
        }
        if let Some(session) = self.session.take() {
            session.close();
        }
        std::mem::take(&mut self.planner).close();
        Ok(())
    }
}
