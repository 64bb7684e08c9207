//! The tables of the ledger, made on first use.

use crate::names::LEDGER;
use crate::session::Session;
use rapidbyte_sdk::ConnectorError;

/// The form of the tables below. A larger number means they were made by a newer connector.
const VERSION: i32 = 1;

/// Held while the ledger or a schema is made, so that two runs that start at once do not trip over each other.
const CREATE_LOCK: i64 = 0x5261_7069_6462_7974;

/// Opaque texts of the protocol are `bytea`: the database's encoding may not know all their characters.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rapidbyte.version (version integer NOT NULL);
CREATE TABLE IF NOT EXISTS _rapidbyte.streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_id uuid NOT NULL,
    namespace text NOT NULL,
    stream text NOT NULL,
    pipeline text NOT NULL,
    target_schema text NOT NULL,
    target_table text NOT NULL,
    source_identity bytea NOT NULL,
    epoch bigint NOT NULL,
    newest_generation bigint NOT NULL DEFAULT 0,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (pipeline_id, namespace, stream)
);
CREATE TABLE IF NOT EXISTS _rapidbyte.generations (
    stream_id bigint NOT NULL REFERENCES _rapidbyte.streams ON DELETE CASCADE,
    number bigint NOT NULL,
    snapshot bytea NOT NULL,
    partitions json NOT NULL,
    write_mode text NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'published')),
    staging text NOT NULL,
    columns json,
    rows bigint,
    location text,
    opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_at timestamptz,
    PRIMARY KEY (stream_id, number)
);
CREATE UNIQUE INDEX IF NOT EXISTS generations_one_open ON _rapidbyte.generations (stream_id) WHERE state = 'open';
CREATE TABLE IF NOT EXISTS _rapidbyte.receipts (
    stream_id bigint NOT NULL,
    generation bigint NOT NULL,
    partition text NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    position_type text,
    position_value bytea,
    rows bigint NOT NULL,
    bytes bigint NOT NULL,
    last boolean NOT NULL,
    transform_state json NOT NULL,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (stream_id, generation, partition),
    FOREIGN KEY (stream_id, generation) REFERENCES _rapidbyte.generations ON DELETE CASCADE
);
INSERT INTO _rapidbyte.version SELECT 1 WHERE NOT EXISTS (SELECT FROM _rapidbyte.version);
";

/// Whether the ledger is there.
pub(crate) fn exists(session: &mut Session) -> Result<bool, ConnectorError> {
    let rows = session.query("SELECT pg_catalog.to_regclass('_rapidbyte.version') IS NOT NULL")?;
    Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
}

/// Makes the ledger if it is not there, and refuses one of a newer connector.
pub(crate) fn ensure(session: &mut Session) -> Result<(), ConnectorError> {
    if !exists(session)? {
        session.transaction(|session| {
            lock_creation(session)?;
            // Not by `IF NOT EXISTS`, for which the server wants the right to make schemas even where it is there.
            ensure_schema(session, LEDGER)?;
            session.run(TABLES)
        })?;
    }
    let rows = session.query("SELECT max(version) FROM _rapidbyte.version")?;
    match rows.first().and_then(|row| row.get(0)).and_then(|text| text.parse::<i32>().ok()) {
        Some(VERSION) => Ok(()),
        Some(newer) if newer > VERSION => Err(ConnectorError::config(
            "ledger_version",
            format!("the schema `_rapidbyte` has version {newer}, this connector knows {VERSION}"),
        )
        .with_hint("use the newer release of Rapidbyte that has written to this database before")),
        _ => Err(ConnectorError::schema("ledger_damaged", "the table `_rapidbyte.version` does not name a known version")
            .with_hint(super::RESTORE)),
    }
}

/// Makes a schema if it is not there; within a transaction.
pub(crate) fn ensure_schema(session: &mut Session, schema: &str) -> Result<(), ConnectorError> {
    let known = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1";
    if session.query_params(known, &[schema.into()])?.is_empty() {
        lock_creation(session)?;
        session.run(&format!("CREATE SCHEMA IF NOT EXISTS {}", postgres_wire::quote_ident(schema)?))?;
    }
    Ok(())
}

fn lock_creation(session: &mut Session) -> Result<(), ConnectorError> {
    session.run(&format!("SELECT pg_catalog.pg_advisory_xact_lock({CREATE_LOCK})"))
}
