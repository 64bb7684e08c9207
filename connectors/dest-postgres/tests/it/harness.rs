//! One server for the tests that run at a time, a database for each.

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use dest_postgres::PostgresDestination;
use postgres_wire::Connection;
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{FakeHost, run_context};
use rapidbyte_sdk::{
    ClaimRequest, ClaimStream, ClaimedStream, ConnectorError, Destination, Generation, InitContext, Partition, Position,
    PrepareRequest, PublishRequest, PublishSummary, RunContext, StreamContext, StreamName, WriteMode, WriteRequest, WriteStream,
    WriteSummary,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The server of the tests that run now; it goes when the last of them ends.
fn server() -> Arc<PostgresServer> {
    static RUNNING: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = running.upgrade() {
        return server;
    }
    let server = Arc::new(PostgresServer::start());
    // The same password, hashed once and not 4,096 times: in a test without optimisation each of some ten thousand logins would
    // take a tenth of a second.
    let quick = "SCRAM-SHA-256$1:cmFwaWRieXRlLXRlc3RzIQ==$5OTmHAcBpFEux05FhRCUbLX99CLQqioqvFafC5vtkSg=:eWWA6+w93NGRfTQRp9FYPTz4I6hKn7cZ1xWf5DhYZ9I=";
    server.connect().batch_execute(&format!("ALTER ROLE app PASSWORD '{quick}'")).expect("the password is set");
    *running = Arc::downgrade(&server);
    server
}

/// A server and a fresh database in it.
pub(crate) struct Place {
    pub(crate) server: Arc<PostgresServer>,
    pub(crate) database: String,
    /// The role that connectors log in as, with the server's one password.
    pub(crate) user: &'static str,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let database = format!("Odd \"db\" {}", COUNT.fetch_add(1, Ordering::Relaxed));
        server
            .connect()
            .batch_execute(&format!("CREATE DATABASE {}", postgres_wire::quote_ident(&database).unwrap()))
            .expect("a database");
        Self { server, database, user: "app" }
    }

    /// A session beside the connector's.
    pub(crate) fn sql(&self) -> Connection {
        self.server.connect_to(&self.database)
    }

    pub(crate) fn run(&self, sql: &str) {
        self.sql().batch_execute(sql).expect("the statement runs");
    }

    /// Runs the statement that a hint has in backticks, the last if it gives a choice.
    pub(crate) fn run_hint(&self, hint: &str) {
        let statement =
            |piece: &&str| ["GRANT ", "CREATE ", "ALTER ", "DELETE ", "DROP "].iter().any(|verb| piece.starts_with(verb));
        let quoted = hint.split('`').skip(1).step_by(2);
        self.run(quoted.filter(statement).last().unwrap_or_else(|| panic!("no statement in the hint: {hint}")));
    }

    /// The first value of the first row.
    pub(crate) fn value(&self, sql: &str) -> String {
        let rows = self.sql().query(sql).expect("the query runs");
        rows.first().and_then(|row| row.get(0)).unwrap_or("NULL").to_owned()
    }

    pub(crate) fn config(&self, schema: &str) -> serde_json::Value {
        let mut config = self.server.config_json(&self.database);
        config["schema"] = schema.into();
        config["user"] = self.user.into();
        config
    }

    pub(crate) fn destination(&self) -> PostgresDestination {
        self.destination_in("public", &serde_json::Value::Null)
    }

    pub(crate) fn destination_in(&self, schema: &str, extra: &serde_json::Value) -> PostgresDestination {
        let mut config = self.config(schema);
        for (key, value) in extra.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        PostgresDestination::init(config, InitContext::default()).expect("the configuration is right")
    }
}

/// One pipeline with one stream; each call is made on an instance of its own, as the host does.
pub(crate) struct Pipe<'a> {
    pub(crate) place: &'a Place,
    pub(crate) run: RunContext,
    pub(crate) context: StreamContext,
    pub(crate) schema: String,
    /// Keys of the configuration beside those of the place.
    pub(crate) extra: serde_json::Value,
    pub(crate) epoch: u64,
}

impl<'a> Pipe<'a> {
    pub(crate) fn new(place: &'a Place, table: &str, write_mode: WriteMode) -> Self {
        let mut context = StreamContext::full_refresh(StreamName::qualified("public", table));
        context.write_mode = write_mode;
        Self { place, run: run_context(), context, schema: "public".into(), extra: serde_json::Value::Null, epoch: 0 }
    }

    pub(crate) fn destination(&self) -> PostgresDestination {
        self.place.destination_in(&self.schema, &self.extra)
    }

    pub(crate) fn try_claim(&self, identity: &str, known_epoch: u64) -> Result<ClaimedStream, ConnectorError> {
        let stream = ClaimStream { context: self.context.clone(), known_epoch, source_identity: identity.into() };
        let request = ClaimRequest { run: self.run.clone(), streams: vec![stream] };
        Ok(self.destination().claim(&request)?.remove(0))
    }

    pub(crate) fn claim(&mut self) -> ClaimedStream {
        let claimed = self.try_claim("source", 0).expect("the claim succeeds");
        self.epoch = claimed.epoch;
        claimed
    }

    pub(crate) fn try_prepare(&self, number: u64, snapshot: &str, partitions: &[&str]) -> Result<(), ConnectorError> {
        let partitions = partitions.iter().map(|id| Partition { id: (*id).into(), spec: vec![0, 255, 7] }).collect();
        let generation = Generation { number, snapshot: snapshot.into(), partitions };
        let request = PrepareRequest { run: self.run.clone(), context: self.context.clone(), epoch: self.epoch, generation };
        self.destination().prepare(&request)
    }

    pub(crate) fn prepare(&self, number: u64, snapshot: &str, partitions: &[&str]) {
        self.try_prepare(number, snapshot, partitions).expect("the generation is opened");
    }

    pub(crate) fn write_request(&self, generation: u64, partition: &str, seq: u64, rows: u64) -> WriteRequest {
        let stream = WriteStream {
            context: self.context.clone(),
            epoch: self.epoch,
            generation,
            partition: partition.into(),
            seq,
            rows,
            bytes: 0,
        };
        WriteRequest { run: self.run.clone(), streams: vec![stream] }
    }

    /// Writes what was fed to the host.
    pub(crate) fn write(
        &self,
        host: &FakeHost,
        generation: u64,
        partition: &str,
        seq: u64,
        rows: u64,
    ) -> Result<WriteSummary, ConnectorError> {
        self.destination().write(&self.write_request(generation, partition, seq, rows), &mut host.input())
    }

    pub(crate) fn try_publish(&self, generation: u64) -> Result<PublishSummary, ConnectorError> {
        let request = PublishRequest { run: self.run.clone(), context: self.context.clone(), epoch: self.epoch, generation };
        self.destination().publish(&request)
    }

    pub(crate) fn publish(&self, generation: u64) -> PublishSummary {
        self.try_publish(generation).expect("the generation is published")
    }

    /// The code of the error with which such a load ends, wherever it does.
    pub(crate) fn load_fails(&mut self, batches: &[RecordBatch]) -> String {
        let generation = self.claim().newest_generation + 1;
        self.prepare(generation, &format!("snapshot {generation}"), &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, batches).unwrap();
        host.feed_commit(1, true, None);
        let written = self.write(&host, generation, "0", 0, 0).map(|_| ());
        written.and_then(|()| self.try_publish(generation).map(|_| ())).expect_err("the load fails").code
    }

    /// The first half of such a load: ten orders, under a commit that is not its partition's last.
    pub(crate) fn begin(&mut self) {
        self.claim();
        self.prepare(1, "s", &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, &[orders(0..10)]).unwrap();
        host.feed_commit(1, false, Some(position("9")));
        self.write(&host, 1, "0", 0, 0).expect("the rows are written");
    }

    /// A whole load of one partition: claim, prepare, write in one commit, publish.
    pub(crate) fn load(&mut self, batches: &[RecordBatch]) -> PublishSummary {
        let newest = self.claim().newest_generation;
        let generation = newest + 1;
        self.prepare(generation, &format!("snapshot {generation}"), &["0"]);
        let host = FakeHost::install();
        host.feed(0, 1, batches).unwrap();
        host.feed_commit(1, true, None);
        self.write(&host, generation, "0", 0, 0).expect("the rows are written");
        self.publish(generation)
    }
}

pub(crate) fn position(value: &str) -> Position {
    Position::new(rapidbyte_sdk::CursorType::Utf8, value)
}

/// A field with the marks of the PostgreSQL source.
pub(crate) fn field(name: &str, data_type: DataType, nullable: bool, marks: &[(&str, &str)]) -> Field {
    let metadata: HashMap<String, String> =
        marks.iter().map(|(key, value)| (format!("rapidbyte.pg.{key}"), (*value).to_owned())).collect();
    Field::new(name, data_type, nullable).with_metadata(metadata)
}

pub(crate) fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns fit their schema")
}

/// Orders with ids in a range: `id bigint primary key, note text`.
pub(crate) fn orders(ids: std::ops::Range<i64>) -> RecordBatch {
    let notes: StringArray = ids.clone().map(|id| (id % 3 != 0).then(|| format!("note {id}"))).collect();
    batch(vec![
        (field("id", DataType::Int64, false, &[("type", "bigint"), ("pk_ord", "1")]), Arc::new(Int64Array::from_iter_values(ids))),
        (field("note", DataType::Utf8, true, &[("type", "text")]), Arc::new(notes)),
    ])
}
