//! The source against a real server, through the SDK's fake host.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cdc;
mod dead_letters;
mod filters;
mod incremental;
mod kinds;
mod late_commits;
mod promotion;
mod refusals;
mod render;
mod shares;
mod speed;
mod values;

use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{FakeHost, run_context};
use rapidbyte_sdk::{
    ConnectorError, InitContext, Partition, ReadRequest, ReadSummary, RunContext, Source, StreamContext, StreamName,
};
use source_postgres::PostgresSource;
use std::sync::OnceLock;

const TABLES: &str = include_str!("tables.sql");

/// One server with the tables for every test; it goes when the process ends.
pub(crate) fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<Stopped> = OnceLock::new();
    struct Stopped(PostgresServer);
    // Statics are never dropped: the server is stopped by its own watch on this process instead.
    &SERVER
        .get_or_init(|| {
            let server = PostgresServer::start();
            server.connect().batch_execute(TABLES).expect("the tables are made");
            server.stop_with_process();
            Stopped(server)
        })
        .0
}

pub(crate) fn source(server: &PostgresServer) -> PostgresSource {
    PostgresSource::init(server.config_json("app"), InitContext::default()).expect("the configuration is right")
}

pub(crate) fn stream(name: &str) -> StreamContext {
    StreamContext::full_refresh(StreamName::qualified("public", name))
}

pub(crate) fn request(stream: StreamContext) -> ReadRequest {
    ReadRequest {
        run: RunContext { ..run_context() },
        streams: vec![stream],
        partition: Some(Partition { id: "0".into(), spec: Vec::new() }),
        token: Vec::new(),
        resume: None,
        follow: false,
    }
}

/// Reads a stream whole into a fresh host.
pub(crate) fn read(server: &PostgresServer, stream: StreamContext) -> Result<(FakeHost, ReadSummary), ConnectorError> {
    let host = FakeHost::install();
    let mut output = host.source_output();
    let summary = source(server).read(&request(stream), &mut output)?;
    Ok((host, summary))
}
