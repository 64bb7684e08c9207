//! One stream of a task: its staging table, its windows, its receipts.

use crate::catalog;
use crate::changes;
use crate::config::OwnConfig;
use crate::dlq_table::{self, Place};
use crate::evolution::{self, Earlier, Ground, Refusal};
use crate::fault;
use crate::layout::Layout;
use crate::ledger::{self, Columns, Hold, Load, Owner, Progress};
use crate::merge;
use crate::names::{Table, target_of};
use crate::publish::check_kind;
use crate::rejects::Rejects;
use crate::session::Session;
use crate::transfer::Transfer;
use arrow_schema::Schema;
use postgres_wire::quote_ident;
use rapidbyte_sdk::{Barrier, ConnectorError, Position, Receipt, RunContext, SyncMode, WriteMode, WriteStream, host_ffi};
use std::collections::HashMap;

/// One stream of the task.
pub(crate) struct Share<'a> {
    pub(crate) run: &'a RunContext,
    pub(crate) request: &'a WriteStream,
    pub(crate) own: &'a OwnConfig,
    pub(crate) owner: Owner,
    pub(crate) staging: Option<Table>,
    pub(crate) layouts: HashMap<u32, Layout>,
    /// Of the newest receipt.
    pub(crate) seq: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Since then.
    pub(crate) window_rows: u64,
    pub(crate) window_bytes: u64,
    /// Of those, rows that wait in staging.
    pub(crate) staged_rows: u64,
    /// Changes up to here are in the table.
    pub(crate) applied: u64,
    /// The place of the newest change in the log.
    pub(crate) newest: (u64, i64),
    pub(crate) rejects: Rejects,
}

/// Advisory lock, with a stream's number: its staging table is being made.
const STAGING_LOCK: i64 = 0x5261_7069_0000_0000;

impl<'a> Share<'a> {
    pub(crate) fn new(run: &'a RunContext, own: &'a OwnConfig, request: &'a WriteStream, index: u32) -> Self {
        Self {
            run,
            request,
            own,
            owner: Owner::new(run, &request.context, request.epoch),
            staging: None,
            layouts: HashMap::new(),
            seq: request.seq,
            rows: request.rows,
            bytes: request.bytes,
            window_rows: 0,
            window_bytes: 0,
            staged_rows: 0,
            applied: 0,
            newest: (0, 0),
            rejects: Rejects::new(index, request.context.policies.on_data_error),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.owner.stream
    }

    /// Finds or makes the staging table, and gives it what a schema needs; within a transaction. Gives the way of the schema's
    /// batches into what is there.
    pub(crate) fn ensure_staging(
        &mut self,
        session: &mut Session,
        natural: &Layout,
        schema: &Schema,
        hold: Hold,
    ) -> Result<Layout, Refusal> {
        let stream = ledger::check_epoch(session, &self.owner, hold)?;
        let generation = self.request.generation;
        let load = ledger::open_load(session, &self.owner, stream, generation)?;
        let target = target_of(&self.request.context, &self.own.schema)?;
        let relation = catalog::relation(session, &target)?.filter(|relation| check_kind(&target, relation).is_ok());
        let settle = |session: &mut Session, staging: Option<&Columns>| {
            let ground = Ground { context: &self.request.context, target: &target, relation: relation.as_ref(), staging };
            evolution::settle(session, natural, schema, &ground)
        };
        if self.of_changes() || (self.open_ended() && !self.in_window()) {
            let mut layout = settle(session, None)?;
            if self.of_changes() && self.request.context.write_mode == WriteMode::Upsert {
                let before = ledger::columns(session, stream, generation)?;
                let now: Vec<&str> = natural.columns.iter().map(|column| column.name.as_str()).collect();
                evolution::weigh(&mut layout.columns, &now, before.as_ref());
            } else {
                // A log of changes has no earlier rows, and each commit of others brings all that it changes.
                layout.columns.iter_mut().for_each(|column| column.earlier = Earlier::Null);
            }
            // The columns are others from here on.
            self.merge_window(session)?;
            self.begin_open_ended(session, stream, &load, &layout)?;
            self.staging = Some(load.staging);
            return Ok(layout);
        }
        let staging = load.staging;
        let mut known = ledger::columns(session, stream, generation)?;
        let mut layout = settle(session, known.as_ref())?;
        if known.as_ref().is_none_or(|columns| !evolution::changes(columns, &layout).is_empty()) {
            // Writers of other partitions see the same schema at the same time: the first one makes the table.
            session.query_params("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[(STAGING_LOCK ^ stream).into()])?;
            known = ledger::columns(session, stream, generation)?;
            layout = settle(session, known.as_ref())?;
        }
        match known {
            Some(mut columns) => {
                let made = evolution::changes(&columns, &layout);
                if !made.is_empty() {
                    evolution::alter(session, &staging, &mut columns, made)?;
                    ledger::set_columns(session, stream, generation, &columns)?;
                }
            }
            None => {
                let numbered = self.request.context.write_mode == WriteMode::Upsert;
                session.run(&create_statement("TABLE", &staging, &layout.columns, numbered)?)?;
                ledger::set_columns(session, stream, generation, &layout.columns)?;
            }
        }
        self.staging = Some(staging);
        Ok(layout)
    }

    /// Columns that do not go with rows the load has would stand in the way of every attempt to go on with it, also once the
    /// source has been mended: the next run begins another load. The refusal is the error to report, whatever becomes of this.
    pub(crate) fn spoil(&self, session: &mut Session, mut error: ConnectorError) -> ConnectorError {
        session.roll_back();
        let spoiled = session.transaction(|session| {
            let stream = ledger::check_epoch(session, &self.owner, Hold::Share)?;
            ledger::spoil(session, stream, self.request.generation)
        });
        if spoiled.is_ok() {
            let hint = error.hint.unwrap_or_default();
            error.hint = Some(format!("{hint}; the next run loads the stream anew"));
        }
        error
    }

    /// Each commit goes into the target itself.
    pub(crate) fn open_ended(&self) -> bool {
        self.request.context.sync_mode == SyncMode::Incremental || self.of_changes()
    }

    /// What comes is changes of rows that are there.
    pub(crate) fn of_changes(&self) -> bool {
        self.request.context.sync_mode == SyncMode::Cdc && self.request.partition == changes::PARTITION
    }

    /// Rows wait in staging.
    pub(crate) fn in_window(&self) -> bool {
        self.staged_rows > 0
    }

    /// Makes staging and target ready for windows of this layout. Between windows staging is empty, so that another layout needs
    /// no change of the old table.
    pub(crate) fn begin_open_ended(
        &self,
        session: &mut Session,
        stream: i64,
        load: &Load,
        layout: &Layout,
    ) -> Result<(), ConnectorError> {
        let generation = self.request.generation;
        let context = &self.request.context;
        let key = merge::key_of(context, &layout.columns)?;
        let target = target_of(context, &self.own.schema)?;
        ledger::drop_staging(session, &load.staging)?;
        let merged = self.of_changes() && context.write_mode == WriteMode::Upsert;
        let staged = if self.of_changes() { changes::all_nullable(&layout.columns) } else { layout.columns.clone() };
        // Not logged: at every commit it is empty. Emptied so often, it has nothing for a vacuum to do.
        let numbered = context.write_mode == WriteMode::Upsert && !self.of_changes();
        let table = create_statement("UNLOGGED TABLE", &load.staging, &staged, numbered)?;
        session.run(&format!("{table} WITH (autovacuum_enabled = off)"))?;
        ledger::set_columns(session, stream, generation, if merged { &layout.columns } else { &staged })?;
        if self.of_changes() {
            if merged {
                changes::require_before(&layout.columns, &key, self.name())?;
            }
            changes::ensure_target(session, &target, context.write_mode, self.own.deletes)?;
        }
        let written = if merged { changes::own(&layout.columns) } else { staged };
        merge::ensure_target(session, &Transfer { context, load, columns: &written, target: &target, key: &key })
    }

    /// The stream was emptied at the source.
    pub(crate) fn truncate(&mut self, session: &mut Session, position: &Position) -> Result<(), ConnectorError> {
        let place = changes::place(position)?;
        if place <= self.applied {
            return Ok(());
        }
        self.merge_window(session)?;
        ledger::check_epoch(session, &self.owner, Hold::No)?;
        let target = target_of(&self.request.context, &self.own.schema)?;
        if self.request.context.write_mode == WriteMode::Upsert {
            return changes::empty(session, &target, self.own.deletes).map_err(|error| fault::of_stream(error, self.name()));
        }
        // The event names its transaction and no place in it: the next one that no change has.
        self.newest = if self.newest.0 == place { (place, self.newest.1 + 1) } else { (place, 1) };
        changes::log_truncate(session, &target, self.newest).map_err(|error| fault::of_stream(error, self.name()))?;
        self.window_rows += 1;
        Ok(())
    }

    /// Puts the window's rows into the target, in the transaction of their receipt.
    pub(crate) fn merge_window(&mut self, session: &mut Session) -> Result<(), ConnectorError> {
        if !self.open_ended() || !self.in_window() {
            return Ok(());
        }
        let stream = ledger::check_epoch(session, &self.owner, Hold::Share)?;
        let load = ledger::open_load(session, &self.owner, stream, self.request.generation)?;
        let columns = ledger::columns(session, stream, self.request.generation)?
            .ok_or_else(|| ConnectorError::internal("missing_schema", "rows came before their schema"))?;
        let key = merge::key_of(&self.request.context, &columns)?;
        let target = target_of(&self.request.context, &self.own.schema)?;
        host_ffi::mark("dest.merge.before");
        let context = &self.request.context;
        let transfer = Transfer { context, load: &load, columns: &columns, target: &target, key: &key };
        if self.of_changes() && context.write_mode == WriteMode::Upsert {
            changes::apply(session, &transfer, self.own.deletes).map_err(|error| fault::of_stream(error, &self.owner.stream))?;
            return self.end_merge(session, &load);
        }
        let inserted = merge::Insertion::plan(session, &transfer, self.own.upsert_skip_identical)
            .and_then(|insertion| insertion.run(session, &mut self.rejects))
            .map_err(|error| fault::of_stream(error, &self.owner.stream))?;
        self.window_rows -= inserted.fallen.min(self.window_rows);
        if key.is_empty() {
            let staged = self.staged_rows - inserted.fallen.min(self.staged_rows);
            merge::took_all(&target, staged, inserted.rows).map_err(|error| fault::of_stream(error, self.name()))?;
        }
        self.end_merge(session, &load)
    }

    pub(crate) fn end_merge(&mut self, session: &mut Session, load: &Load) -> Result<(), ConnectorError> {
        session.run(&format!("TRUNCATE {}", load.staging.quoted()?))?;
        self.staged_rows = 0;
        host_ffi::mark("dest.merge.after");
        Ok(())
    }

    pub(crate) fn write_receipt(&self, session: &mut Session, index: usize, barrier: &Barrier) -> Result<Receipt, ConnectorError> {
        let stream = ledger::check_epoch(session, &self.owner, Hold::Share)?;
        ledger::open_load(session, &self.owner, stream, self.request.generation)?;
        let progress = Progress {
            generation: self.request.generation,
            partition: &self.request.partition,
            seq: self.seq + 1,
            rows: self.rows + self.window_rows,
            bytes: self.bytes + self.window_bytes,
            last: barrier.last,
            position: barrier.position.as_ref(),
            transform_state: &barrier.transform_state,
        };
        let committed_at_ms = ledger::write_receipt(session, &self.owner, stream, &progress)?;
        Ok(Receipt {
            stream: u32::try_from(index).unwrap_or(u32::MAX),
            generation: progress.generation,
            partition: self.request.partition.clone(),
            epoch: self.owner.epoch,
            seq: progress.seq,
            position: barrier.position.clone(),
            rows: progress.rows,
            bytes: progress.bytes,
            last: barrier.last,
            transform_state: barrier.transform_state.clone(),
            committed_at_ms,
        })
    }

    /// The window is durable.
    pub(crate) fn settle(&mut self) {
        self.seq += 1;
        self.rows += std::mem::take(&mut self.window_rows);
        self.bytes += std::mem::take(&mut self.window_bytes);
        self.rejects.clear();
    }

    /// Writes the rows given up since the last commit, in the transaction of their receipt.
    pub(crate) fn write_letters(&self, session: &mut Session) -> Result<(), ConnectorError> {
        if self.rejects.letters().next().is_none() {
            return Ok(());
        }
        let place = Place {
            run: self.run,
            stream: &self.owner.stream,
            generation: self.request.generation,
            partition: &self.request.partition,
            seq: self.seq + 1,
        };
        host_ffi::mark("dest.letters.before");
        dlq_table::write(session, &self.own.letters_table(), &place, self.rejects.letters())
            .map_err(|error| fault::of_stream(error, &self.owner.stream))?;
        host_ffi::mark("dest.letters.after");
        Ok(())
    }
}

/// A staging table. `numbered` gives it a column that counts its rows as they come: their places in the table don't tell, since the
/// server puts a later, shorter row where an earlier page has room for it.
fn create_statement(kind: &str, table: &Table, columns: &Columns, numbered: bool) -> Result<String, ConnectorError> {
    let mut parts = Vec::with_capacity(columns.len() + 1);
    for column in columns {
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        parts.push(format!("{} {}{not_null}", quote_ident(&column.name)?, column.staged));
    }
    if numbered && columns.len() <= MOST_NUMBERED {
        parts.push(format!("{} bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)", merge::ARRIVAL));
    }
    Ok(format!("CREATE {kind} {} ({})", table.quoted()?, parts.join(",\n")))
}

/// The most columns beside which there is room for one that counts rows: a table has at most 1,600, and a load may bring more.
const MOST_NUMBERED: usize = 1_500;
