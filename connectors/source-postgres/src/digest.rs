//! Digests of a stream's rows, for `verify`: the rows that a run would read, at one snapshot.

use crate::PostgresSource;
use crate::catalog::{Relation, columns_of, find_relation};
use crate::check::supported;
use crate::incremental;
use crate::read::{checked_filter, from_clause, own_names, patient, sees_all_rows, select_columns, with_grant};
use postgres_wire::{Connection, DigestedRows, HeldColumn, described, digest_method, held_columns, key_of, quote_qualified};
use rapidbyte_sdk::{
    ConnectorError, DigestRanges, DigestRequest, KeyDigest, PinRequest, Pinned, Position, RangeDigest, StreamContext, SyncMode,
};

/// The name of a row in queries; conditions of incremental reads use it too.
const ALIAS: &str = "_rb";

/// A stream's rows at one snapshot.
pub(crate) struct View {
    connection: Connection,
    from: String,
    /// Of all rows that runs ever read.
    all: String,
    /// Of those among them that have been delivered.
    delivered: String,
    columns: Vec<HeldColumn>,
    /// Views and filters are other people's words.
    foreign_code: bool,
}

impl View {
    pub(crate) fn let_go(self) {
        self.connection.close();
    }

    /// Runs a query over the rows, in which names mean what they mean to the role where the pipeline's filter needs that.
    fn ask<T>(
        &mut self,
        whole: bool,
        act: impl FnOnce(&DigestedRows<'_>, &mut Connection) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let Self { connection, from, all, delivered, columns, foreign_code } = self;
        let condition = if whole { all } else { delivered };
        let rows = DigestedRows { from, alias: ALIAS, condition, columns };
        if *foreign_code {
            own_names(connection, true)?;
        }
        let found = act(&rows, connection)?;
        if *foreign_code {
            own_names(connection, false)?;
        }
        Ok(found)
    }
}

fn joined(conditions: &[&str]) -> String {
    conditions.iter().filter(|one| !one.is_empty()).copied().collect::<Vec<_>>().join(" AND ")
}

impl PostgresSource {
    fn view(&mut self) -> Result<&mut View, ConnectorError> {
        self.view.as_mut().ok_or_else(|| ConnectorError::internal("not_pinned", "digests were asked for before `pin`"))
    }

    fn fix(&self, stream: &StreamContext, position: Option<&Position>) -> Result<Option<(View, Pinned)>, ConnectorError> {
        let (schema, table) = self.table(&stream.name);
        let mut connection = Connection::connect(&self.connect)?;
        supported(&connection)?;
        connection.batch_execute(&patient(&connection))?;
        let Some(relation) = find_relation(&mut connection, schema, table)? else { return Ok(None) };
        let all = columns_of(&mut connection, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
        let selected = select_columns(stream, &relation, all.clone())?;
        sees_all_rows(&mut connection, &relation, &selected, &self.connect.user)?;
        begin(&mut connection, &relation)?;
        let filter = checked_filter(&mut connection, stream, &relation, &all)?.unwrap_or_default();
        let reads = match stream.sync_mode {
            SyncMode::Incremental => incremental::delivered(&mut connection, stream, &relation, &all, position)?,
            SyncMode::FullRefresh | SyncMode::Cdc => incremental::Delivered::default(),
        };
        let held = held_columns(&mut connection, relation.oid)?;
        let key = key_of(&held);
        let mut columns = Vec::with_capacity(selected.len());
        for column in &selected {
            columns.extend(held.iter().find(|held| held.name == column.name).cloned());
        }
        let pinned = Pinned {
            place: relation.label(),
            columns: described(&columns, connection.server_version()),
            // A key that is not read in full tells nothing apart.
            key: if key.iter().all(|name| columns.iter().any(|column| column.name == *name)) { key } else { Vec::new() },
            estimated_rows: relation.estimated_rows,
            method: digest_method(&mut connection)?,
        };
        let view = View {
            from: format!("{} AS {ALIAS}", from_clause(&relation)?),
            all: joined(&[&filter, &reads.ever]),
            delivered: joined(&[&filter, &reads.ever, &reads.so_far]),
            columns,
            foreign_code: relation.kind == 'v' || !filter.is_empty(),
            connection,
        };
        Ok(Some((view, pinned)))
    }
}

/// Opens the transaction whose snapshot is the view. The lock comes first: a table rewritten between the two would look empty.
fn begin(connection: &mut Connection, relation: &Relation) -> Result<(), ConnectorError> {
    let settings = postgres_wire::settings(true);
    let mut sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}; SET LOCAL row_security = off");
    if relation.can_be_locked() && relation.readable {
        sql.push_str("; LOCK TABLE ");
        sql.push_str(&quote_qualified(&relation.schema, &relation.name)?);
        sql.push_str(" IN ACCESS SHARE MODE");
    }
    Ok(connection.batch_execute(&sql)?)
}

impl DigestRanges for PostgresSource {
    fn pin(&mut self, request: &PinRequest) -> Result<Option<Pinned>, ConnectorError> {
        if let Some(view) = self.view.take() {
            view.let_go();
        }
        let (schema, table) = self.table(&request.stream.name);
        let fixed = self.fix(&request.stream, request.position.as_ref());
        let fixed = fixed.map_err(|error| with_grant(error, &self.connect.user, schema, table))?;
        let Some((view, pinned)) = fixed else { return Ok(None) };
        self.view = Some(view);
        Ok(Some(pinned))
    }

    fn digest(&mut self, request: &DigestRequest) -> Result<Vec<RangeDigest>, ConnectorError> {
        self.view()?.ask(request.whole, |rows, connection| rows.digest(connection, request))
    }

    fn list_keys(&mut self, request: &DigestRequest, ranges: &[u32], max: u32) -> Result<Vec<KeyDigest>, ConnectorError> {
        self.view()?.ask(request.whole, |rows, connection| rows.list_keys(connection, request, ranges, max))
    }
}
