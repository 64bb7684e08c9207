//! One stream of changes: its table as the log has it, and the rows on their way.

use super::changes::{Change, ChangeRows, LoggedColumn, Taken, Transaction};
use super::cut::Cut;
use super::logged_columns;
use super::missing::EarlierRows;
use super::pgoutput::{Relation as Logged, RelationColumn};
use crate::catalog::{Relation, TableColumn, columns_of, columns_typed};
use crate::read::select_columns;
use postgres_wire::Connection;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, SchemaId, SourceOutput, StreamContext};

/// The rows waiting, and the schema they go under once it was announced.
struct Shape {
    logged: Logged,
    rows: ChangeRows,
    schema_id: Option<SchemaId>,
}

pub(super) struct Table<'a> {
    /// The stream's place in the task.
    index: u32,
    pub(super) stream: &'a StreamContext,
    pub(super) relation: Relation,
    pub(super) cut: Cut,
    columns: Vec<TableColumn>,
    earlier: EarlierRows,
    shape: Option<Shape>,
    /// What the log said last of the table, until a change comes that is taken in: how older ones look does not matter.
    told: Option<Logged>,
}

/// Whether the catalog's column is the one the log speaks of.
fn same(column: &TableColumn, logged: &RelationColumn) -> bool {
    // A domain's modifier is part of the domain.
    column.name == logged.name
        && column.type_oid() == logged.type_oid
        && (column.is_domain() || column.base.typmod == logged.typmod)
}

impl<'a> Table<'a> {
    pub(super) fn new(
        index: u32,
        stream: &'a StreamContext,
        relation: Relation,
        columns: Vec<TableColumn>,
        cut: Cut,
    ) -> Result<Self, ConnectorError> {
        let columns = logged_columns(stream, columns)?;
        // An unknown column is refused before anything is read.
        select_columns(stream, &relation, columns.clone())?;
        Ok(Self { index, stream, relation, cut, columns, earlier: EarlierRows::default(), shape: None, told: None })
    }

    /// The columns that are read.
    pub(super) fn selected(&self) -> Result<Vec<TableColumn>, ConnectorError> {
        select_columns(self.stream, &self.relation, self.columns.clone())
    }

    /// The table is from here on as the log says.
    pub(super) fn tell(&mut self, logged: Logged) {
        self.told = Some(logged);
    }

    /// Makes ready for a change of the table as the log said last that it is.
    pub(super) fn reshape(&mut self, catalog: &mut Connection, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        let Some(logged) = self.told.take() else { return Ok(()) };
        if self.shape.as_ref().is_some_and(|shape| shape.logged == logged) {
            return Ok(());
        }
        self.flush(output)?;
        let known = |columns: &[TableColumn]| logged.columns.iter().all(|wanted| columns.iter().any(|column| same(column, wanted)));
        if !known(&self.columns) {
            // A change of the table since we looked.
            let now = columns_of(catalog, &[self.relation.oid])?.remove(&self.relation.oid).unwrap_or_default();
            self.columns = logged_columns(self.stream, now)?;
        }
        let mut columns = Vec::with_capacity(logged.columns.len());
        let mut unknown = Vec::new();
        for wanted in &logged.columns {
            match self.columns.iter().find(|column| same(column, wanted)) {
                Some(column) => columns.push(column.clone()),
                None => unknown.push((wanted.name.clone(), wanted.type_oid, wanted.typmod)),
            }
        }
        if !unknown.is_empty() {
            // The table has changed again since, and the catalog shows the newest state only: the types tell enough, and a column that
            // was given another type is where it was in the key.
            let mut typed = columns_typed(catalog, &unknown)?;
            for column in &mut typed {
                if let Some(now) = self.columns.iter().find(|now| now.name == column.name) {
                    column.stand_for(now);
                }
            }
            columns.extend(typed);
            columns = logged_columns(self.stream, columns)?;
        }
        let place = |column: &TableColumn| logged.columns.iter().position(|wanted| same(column, wanted));
        columns.sort_by_key(|column| place(column));
        let missing = logged.columns.len() - columns.len();
        if missing > 0 {
            let message = format!("`{}` had {missing} columns of types that do not exist any more", self.relation.label());
            return Err(ConnectorError::schema("schema_changed", message).with_hint("load the stream anew"));
        }
        let mut selected = select_columns(self.stream, &self.relation, columns)?;
        self.earlier.note(catalog, &self.relation, &mut selected)?;
        let columns: Vec<LoggedColumn> = selected
            .into_iter()
            .filter_map(|column| {
                let place = place(&column)?;
                Some(LoggedColumn { identity: logged.columns[place].identity, place, column })
            })
            .collect();
        self.shape = Some(Shape { rows: ChangeRows::new(self.stream, columns)?, logged, schema_id: None });
        Ok(())
    }

    /// Takes a change in.
    pub(super) fn push(
        &mut self,
        change: &Change<'_>,
        seq: i64,
        of: &Transaction,
        output: &mut SourceOutput,
    ) -> Result<(), ConnectorError> {
        loop {
            let name = &self.stream.name;
            let Some(shape) = &mut self.shape else {
                return Err(ConnectorError::internal(
                    "pgoutput",
                    format!("stream `{name}`: a row came before its table's description"),
                ));
            };
            match shape.rows.push(change, seq, of)? {
                Taken::Yes => return Ok(()),
                Taken::Split(column) => {
                    self.flush(output)?;
                    let name = self.stream.name.to_string();
                    if let Some(shape) = &mut self.shape {
                        shape.rows.split(column);
                        shape.schema_id = None;
                        host_ffi::log(
                            LogLevel::Info,
                            "a value does not fit its Arrow type; the column goes on split into values that fit and others",
                            &[("stream", &name), ("column", shape.rows.name(column))],
                        );
                    }
                }
            }
        }
    }

    /// Hands the waiting rows on.
    pub(super) fn flush(&mut self, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        let Some(shape) = &mut self.shape else { return Ok(()) };
        let Some(batch) = shape.rows.take_batch()? else { return Ok(()) };
        let id = match shape.schema_id {
            Some(id) => id,
            None => *shape.schema_id.insert(output.schema(self.index, shape.rows.schema().clone())?),
        };
        output.batch(id, &batch)?;
        host_ffi::mark("source.batch.emitted");
        Ok(())
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Whether a column has no send form of ours.
    pub(super) fn needs_text(&self) -> bool {
        self.shape.as_ref().is_some_and(|shape| shape.rows.needs_text())
    }
}
