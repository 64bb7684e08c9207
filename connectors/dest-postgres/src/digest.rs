//! Digests of a target's rows, for `verify`.

use crate::PostgresDestination;
use crate::catalog::KIND;
use crate::changes::DELETED_AT;
use crate::fault::from_server;
use crate::names::target_of;
use postgres_wire::{Connection, DigestedRows, HeldColumn, described, digest_method, held_columns, key_of, quote_ident};
use rapidbyte_sdk::{
    ConnectorError, DigestRanges, DigestRequest, KeyDigest, PinRequest, Pinned, RangeDigest, StreamContext, SyncMode, WriteMode,
};

/// The name of a row in queries.
const ALIAS: &str = "_rb";

/// A target's rows at one snapshot.
pub(crate) struct View {
    connection: Connection,
    table: String,
    /// The same where its rows are meant.
    rows: String,
    columns: Vec<HeldColumn>,
    /// Of a log of versions the newest row of each key counts: the cursor that says which one that is.
    newest_by: Option<String>,
    /// Which rows are there; empty = all. Those that are marked as deleted are kept for people and not there any more.
    present: String,
}

impl View {
    pub(crate) fn let_go(self) {
        self.connection.close();
    }

    /// What stands after `FROM` for a request.
    fn from(&self, request: &DigestRequest) -> Result<String, ConnectorError> {
        let rows = &self.rows;
        let Some(cursor) = self.newest_by.as_ref().filter(|_| !request.key.is_empty()) else {
            return Ok(format!("{rows} AS {ALIAS}"));
        };
        let key = request.key.iter().map(|name| quote_ident(name)).collect::<Result<Vec<_>, _>>()?.join(", ");
        let cursor = quote_ident(cursor)?;
        Ok(format!("(SELECT DISTINCT ON ({key}) * FROM {rows} ORDER BY {key}, {cursor} DESC NULLS LAST) AS {ALIAS}"))
    }

    fn ask<T>(
        &mut self,
        request: &DigestRequest,
        act: impl FnOnce(&DigestedRows<'_>, &mut Connection) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let from = self.from(request)?;
        let Self { connection, columns, present, .. } = self;
        act(&DigestedRows { from: &from, alias: ALIAS, condition: present, columns }, connection)
    }
}

/// What the catalog says of the target: its number, its rows, whether a lock can keep it as it is, and its kind.
fn of_target() -> String {
    format!(
        "SELECT c.oid, CASE WHEN c.reltuples >= 0 THEN c.reltuples::pg_catalog.int8 END,
             c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'), {KIND}
         FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    )
}

impl PostgresDestination {
    fn view(&mut self) -> Result<&mut View, ConnectorError> {
        self.view.as_mut().ok_or_else(|| ConnectorError::internal("not_pinned", "digests were asked for before `pin`"))
    }

    fn fix(&self, stream: &StreamContext) -> Result<Option<(View, Pinned)>, ConnectorError> {
        let target = target_of(stream, &self.own.schema)?;
        let table = target.quoted()?;
        let mut connection = Connection::connect(&self.connect)?;
        let lock_timeout = self.own.lock_timeout_seconds;
        let since_17 = if connection.server_version() >= 170_000 { "; SET transaction_timeout = 0" } else { "" };
        connection.batch_execute(&format!(
            "SET search_path = pg_catalog; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '{lock_timeout}s'{since_17}"
        ))?;
        let found = connection.query_params(&of_target(), &[(&target.schema).into(), (&target.name).into()])?;
        let Some(row) = found.first() else { return Ok(None) };
        let rows = target.own_rows(row.text(3)?.chars().next().unwrap_or('?'))?;
        // The lock comes before the snapshot: a table that is replaced between the two would look empty.
        let lock = if row.flag(2)? { format!("; LOCK TABLE {rows} IN ACCESS SHARE MODE") } else { String::new() };
        let settings = postgres_wire::settings(true);
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}; SET LOCAL row_security = off{lock}");
        connection.batch_execute(&begin).map_err(from_server)?;
        let columns = held_columns(&mut connection, row.parse(0)?.unwrap_or_default())?;
        let pinned = Pinned {
            place: target.to_string(),
            columns: described(&columns, connection.server_version()),
            key: key_of(&columns),
            estimated_rows: row.parse(1)?,
            method: digest_method(&mut connection)?,
        };
        let log = stream.sync_mode == SyncMode::Incremental && stream.write_mode == WriteMode::Append;
        let newest_by = stream.cursor_field.clone().filter(|cursor| log && columns.iter().any(|column| column.name == *cursor));
        let marked = stream.sync_mode == SyncMode::Cdc && columns.iter().any(|column| column.name == DELETED_AT);
        let present = if marked { format!("{ALIAS}.{} IS NULL", quote_ident(DELETED_AT)?) } else { String::new() };
        Ok(Some((View { connection, table, rows, columns, newest_by, present }, pinned)))
    }
}

/// A refusal gets the statement that mends it.
fn with_grant(error: ConnectorError, user: &str, table: &str) -> ConnectorError {
    match (error.code.as_str(), quote_ident(user)) {
        ("permission_denied", Ok(user)) => error.with_hint(format!("as its owner run: `GRANT SELECT ON {table} TO {user}`")),
        _ => error,
    }
}

impl DigestRanges for PostgresDestination {
    fn pin(&mut self, request: &PinRequest) -> Result<Option<Pinned>, ConnectorError> {
        if let Some(view) = self.view.take() {
            view.let_go();
        }
        let Some((view, pinned)) = self.fix(&request.stream)? else { return Ok(None) };
        self.view = Some(view);
        Ok(Some(pinned))
    }

    fn digest(&mut self, request: &DigestRequest) -> Result<Vec<RangeDigest>, ConnectorError> {
        let user = self.connect.user.clone();
        let view = self.view()?;
        let table = view.table.clone();
        view.ask(request, |rows, connection| rows.digest(connection, request)).map_err(|error| with_grant(error, &user, &table))
    }

    fn list_keys(&mut self, request: &DigestRequest, ranges: &[u32], max: u32) -> Result<Vec<KeyDigest>, ConnectorError> {
        self.view()?.ask(request, |rows, connection| rows.list_keys(connection, request, ranges, max))
    }
}
