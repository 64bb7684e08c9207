//! Reading what is new.

use super::cursor::{Cursor, OrderColumn, literal};
use super::horizon::{Goal, Now};
use super::leaves::Leaves;
use super::marker::Marker;
use super::place::Place;
use super::source_changed;
use crate::read::{Run, TableRead, own_names};
use postgres_wire::{Connection, Row};
use rapidbyte_sdk::{
    ConnectorError, NullCursorPolicy, Position, ReadPerf, SafeBoundary, SourceOutput, StreamContext, WriteMode, host_ffi,
};

/// One stream on its way.
struct Reader<'a, 't> {
    connection: &'a mut Connection,
    table: &'a TableRead<'t>,
    cursor: &'a Cursor,
    run: Run<'a>,
    output: &'a mut SourceOutput,
    perf: &'a mut ReadPerf,
}

/// Reads the rows that are new since `resume`, and ends with a barrier after the last of them.
pub(crate) fn read_stream(
    connection: &mut Connection,
    table: &TableRead<'_>,
    resume: Option<&Position>,
    output: &mut SourceOutput,
    perf: &mut ReadPerf,
) -> Result<(), ConnectorError> {
    let stream = table.stream;
    let cursor = Cursor::of(connection, stream, table.relation, table.all)?;
    let cursor_type = &cursor.column.sql_type;
    let place = match resume {
        Some(position) => Place::read(stream, position, cursor_type)?,
        None => Place::start(cursor_type),
    };
    let run = table.announce(connection, output)?;
    let mut reader = Reader { connection, table, cursor: &cursor, run, output, perf };
    match cursor.boundary {
        SafeBoundary::XactHorizon => reader.by_horizon(place),
        SafeBoundary::Lookback(_) | SafeBoundary::None => reader.by_bound(place),
    }
}

impl Reader<'_, '_> {
    fn stream(&self) -> &StreamContext {
        self.table.stream
    }

    /// Rows whose transactions are new.
    fn by_horizon(&mut self, mut place: Place) -> Result<(), ConnectorError> {
        let now = Now::ask(self.connection, self.table.relation.oid)?;
        self.begin_anew_elsewhere(&mut place, now)?;
        let leaves = Leaves::ask(self.connection, self.table.relation)?;
        self.refuse_rewritten(&place, now, leaves.as_ref())?;
        if place.done.is_none() && place.goal.is_none() {
            (place.file, place.leaves) = (now.file, leaves.clone());
        }
        if let Some(goal) = place.goal.clone() {
            // What the interrupted run had still to read, as far as it is still there.
            let cond = join(vec![goal.within(self.stream(), now)?, self.not_done(&place, now)?]);
            let edge = self.old_bound(&place)?;
            self.pass(&mut place, &cond, &edge)?;
            place.reached();
            self.barrier(&place)?;
        }
        let Goal { set, cut } = Goal::of(self.connection, self.cursor, now)?;
        let mut cond = vec![self.not_done(&place, now)?];
        if cut {
            cond.push(set.within(self.stream(), now)?);
        }
        place.goal = Some(set);
        let edge = self.old_bound(&place)?;
        self.pass(&mut place, &join(cond), &edge)?;
        place.reached();
        (place.file, place.leaves) = (now.file, leaves);
        self.barrier(&place)
    }

    /// A standby that was promoted, or a server that was restored, may lack transactions that were delivered and give their ids to
    /// others, whose rows would then count as delivered. Nothing tells these ids: all rows are read again. Appended they would be
    /// there twice.
    fn begin_anew_elsewhere(&self, place: &mut Place, now: Now) -> Result<(), ConnectorError> {
        let before = std::mem::replace(&mut place.timeline, now.timeline);
        if before.is_none() || now.timeline.is_none() || before == now.timeline {
            return Ok(());
        }
        let what = "the server was promoted or restored since the last run, and may have given the ids of transactions twice";
        if self.stream().write_mode == WriteMode::Append {
            return Err(source_changed(self.stream(), what).with_hint(
                "if it lost no transaction at that, run once with `safe_boundary: none`, which goes on behind the largest cursor; else \
                 empty the target",
            ));
        }
        let message = format!("{what}: the stream is read from the start, and merged by key");
        host_ffi::log(host_ffi::LogLevel::Warn, &message, &[("stream", &self.stream().name.to_string())]);
        place.begin_anew();
        Ok(())
    }

    /// What finished runs have not delivered.
    fn not_done(&self, place: &Place, now: Now) -> Result<String, ConnectorError> {
        place.done.as_ref().map_or(Ok(String::new()), |done| done.beyond(self.stream(), now))
    }

    /// Runs under another boundary have left no transactions, only how far they came.
    fn old_bound(&self, place: &Place) -> Result<String, ConnectorError> {
        let column = &self.cursor.column;
        match (&place.done, &place.at, &place.bound) {
            (None, None, Some(bound)) => Ok(format!("{} > {}", column.quoted, literal(column, bound)?)),
            _ => Ok(String::new()),
        }
    }

    /// After a statement that writes every row anew, every row is of a new transaction. For `upsert` that is work; appended it
    /// would be there twice.
    fn refuse_rewritten(&mut self, place: &Place, now: Now, leaves: Option<&Leaves>) -> Result<(), ConnectorError> {
        // What an interrupted run was to deliver has been delivered in part.
        let Some(known) = place.goal.as_ref().or(place.done.as_ref()) else { return Ok(()) };
        let rewritten = match (&place.leaves, leaves) {
            (Some(then), Some(now)) => then.rewritten(now),
            // A position from before partitions were noted.
            (None, Some(_)) => false,
            (_, None) => place.file != now.file,
        };
        if !rewritten || self.stream().write_mode != WriteMode::Append {
            return Ok(());
        }
        let older = known.within(self.stream(), now)?;
        // Partitions that came since prove nothing: their rows may all be new, or older than the partition.
        let there = place.leaves.as_ref().and_then(Leaves::rows).unwrap_or_else(|| "true".into());
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {relation} WHERE {there}) AND NOT EXISTS (SELECT FROM {relation} WHERE {there} AND {older})",
            relation = self.cursor.relation
        );
        if !self.says(&sql)? {
            return Ok(());
        }
        Err(source_changed(self.stream(), "the table was rewritten or refilled, and every row would be appended again").with_hint(
            "if its rows are the same ones, run once with `safe_boundary: none`, which goes on behind the largest cursor; if they are \
             new, empty the target",
        ))
    }

    /// Every row that comes after one whose cursor is `infinity` would lie behind the bound, and never be read.
    fn refuse_endless(&mut self) -> Result<(), ConnectorError> {
        let column = &self.cursor.column;
        let endless = self.cursor.endless(self.connection.server_version());
        let values: Vec<String> = endless.iter().map(|text| literal(column, text)).collect::<Result<_, _>>()?;
        if values.is_empty() {
            return Ok(());
        }
        let cond =
            join(vec![self.table.filter.clone().unwrap_or_default(), format!("{} IN ({})", column.quoted, values.join(", "))]);
        if !self.says(&format!("SELECT EXISTS (SELECT FROM {} WHERE {cond})", self.cursor.relation))? {
            return Ok(());
        }
        let message = format!(
            "stream `{}`: there are rows whose cursor `{}` is {}: every later row would lie behind them and be missed",
            self.stream().name,
            self.cursor.column.name,
            endless.join(" or ")
        );
        Err(ConnectorError::data("endless_cursor", message)
            .with_hint("use `safe_boundary: xact_horizon`, or leave these rows out with `filter:`"))
    }

    /// Rows behind the bound.
    fn by_bound(&mut self, mut place: Place) -> Result<(), ConnectorError> {
        self.refuse_endless()?;
        let mut edge = String::new();
        let column = &self.cursor.column;
        match self.cursor.boundary {
            SafeBoundary::Lookback(lookback) => {
                // In the middle of an interrupted read too: late commits fall behind there as well.
                if let Some(from) = place.at.as_ref().and_then(|at| at.first()).or(place.bound.as_ref()) {
                    edge = self.cursor.looking_back(from, lookback)?;
                }
                place.at = None;
                place.nulls = false;
            }
            // Where the horizon was the boundary before, `at` may lie behind what was delivered.
            SafeBoundary::None | SafeBoundary::XactHorizon => {
                if let (Some(bound), true) = (&place.bound, place.done.is_some() || place.at.is_none()) {
                    edge = format!("{} > {}", column.quoted, literal(column, bound)?);
                }
            }
        }
        (place.done, place.goal, place.timeline) = (None, None, None);
        let last = self.pass(&mut place, "", &edge)?;
        place.reached();
        // What comes next begins behind cursor and key, so that equal cursors with larger keys are still read.
        if self.cursor.boundary == SafeBoundary::None {
            place.at = last;
        }
        self.barrier(&place)
    }

    /// Reads the rows for which `cond` holds and that lie beyond the place; those with a cursor only where `edge` holds too. Gives
    /// cursor and key of the last one, or where the place was.
    fn pass(&mut self, place: &mut Place, cond: &str, edge: &str) -> Result<Option<Vec<String>>, ConnectorError> {
        let name = self.cursor.column.quoted.clone();
        let filter = self.table.filter.clone().unwrap_or_default();
        let null = join(vec![cond.to_owned(), filter.clone(), format!("{name} IS NULL")]);
        let mut cond = vec![cond.to_owned(), filter, edge.to_owned()];
        if self.cursor.nullable {
            self.null_rows(place, &null)?;
            cond.push(format!("{name} IS NOT NULL"));
        }
        if let Some(at) = &place.at {
            cond.push(self.cursor.after(self.stream(), at)?);
        }
        let mut tail: Vec<String> = self.cursor.columns().map(OrderColumn::text).collect();
        let keyed = self.cursor.keyed;
        if !keyed {
            tail.push(format!("(pg_catalog.lag({name}) OVER (ORDER BY {name}) IS DISTINCT FROM {name})::pg_catalog.text"));
        }
        let mut base = place.clone();
        base.nulls = true;
        self.run.mark_with(Some(Marker::new(base, keyed)));
        let last = self.copy(&join(cond), &tail)?;
        self.run.mark_with(None);
        if let Some(last) = &last {
            self.raise_bound(place, &last[0])?;
        }
        Ok(last.or_else(|| place.at.clone()))
    }

    /// Rows without a cursor, by policy.
    fn null_rows(&mut self, place: &mut Place, cond: &str) -> Result<(), ConnectorError> {
        let (relation, stream) = (&self.cursor.relation, self.stream().name.clone());
        match self.stream().null_cursor {
            NullCursorPolicy::Fail => {
                if !self.says(&format!("SELECT EXISTS (SELECT FROM {relation} WHERE {cond})"))? {
                    return Ok(());
                }
                let message = format!("stream `{stream}`: there are rows whose cursor `{}` is NULL", self.cursor.column.name);
                Err(ConnectorError::data("null_cursor", message)
                    .with_hint("set `null_cursor: include` or `null_cursor: skip` on the stream, or give the rows a value"))
            }
            NullCursorPolicy::Skip => {
                let rows = self.ask(&format!("SELECT count(*) FROM {relation} WHERE {cond}"))?;
                let skipped = rows.first().map(|row| row.parse::<u64>(0)).transpose()?.flatten().unwrap_or(0);
                self.output.skipped(skipped);
                Ok(())
            }
            NullCursorPolicy::Include if place.nulls => Ok(()),
            NullCursorPolicy::Include => {
                self.copy(cond, &[])?;
                place.nulls = true;
                // A lookback reads these rows again anyway.
                if !matches!(self.cursor.boundary, SafeBoundary::Lookback(_)) {
                    self.barrier(place)?;
                }
                Ok(())
            }
        }
    }

    /// Copies rows out in the cursor's order, with further fields that are no columns of the stream.
    fn copy(&mut self, cond: &str, tail: &[String]) -> Result<Option<Vec<String>>, ConnectorError> {
        let cond = if cond.is_empty() { String::new() } else { format!(" WHERE {cond}") };
        let fields: String = tail.iter().map(|field| format!(", {field}")).collect();
        let sql = format!("{}{fields} FROM {}{cond} ORDER BY {}", self.table.list, self.cursor.relation, self.cursor.order());
        self.run.copy(self.connection, &sql, tail.len(), self.output, self.perf)
    }

    /// The bound becomes what was read last, unless it lies beyond that.
    fn raise_bound(&mut self, place: &mut Place, read: &str) -> Result<(), ConnectorError> {
        if let Some(bound) = &place.bound {
            // Compared as the column's values are: its collation may be its own.
            let column = &self.cursor.column;
            let sql = format!(
                "SELECT max_of.bound < max_of.read FROM (SELECT (SELECT {name} FROM {relation} WHERE false UNION ALL SELECT {bound}) AS bound,
                     (SELECT {name} FROM {relation} WHERE false UNION ALL SELECT {read}) AS read) AS max_of",
                name = column.quoted,
                relation = self.cursor.relation,
                bound = literal(column, bound)?,
                read = literal(column, read)?,
            );
            if !self.says(&sql)? {
                return Ok(());
            }
        }
        place.bound = Some(read.to_owned());
        Ok(())
    }

    /// Asks about rows; names in the stream's filter mean what they mean to the role.
    fn ask(&mut self, sql: &str) -> Result<Vec<Row>, ConnectorError> {
        if self.table.filter.is_none() {
            return Ok(self.connection.query(sql)?);
        }
        own_names(self.connection, true)?;
        let rows = self.connection.query(sql)?;
        own_names(self.connection, false)?;
        Ok(rows)
    }

    fn says(&mut self, sql: &str) -> Result<bool, ConnectorError> {
        let rows = self.ask(sql)?;
        Ok(rows.first().and_then(|row| row.get(0)) == Some("t"))
    }

    fn barrier(&mut self, place: &Place) -> Result<(), ConnectorError> {
        let mut place = place.clone();
        if self.cursor.boundary == SafeBoundary::XactHorizon {
            place.trim();
        }
        let position = place.position().ok_or_else(|| {
            let what = format!("stream `{}`: a value of cursor `{}` is too long", self.stream().name, self.cursor.column.name);
            ConnectorError::data("cursor_too_long", what)
                .with_hint("use `safe_boundary: xact_horizon`, which keeps no value between runs, or another `cursor_field`")
        })?;
        self.output.barrier(&position)
    }
}

/// Conditions that must all hold; empty ones always do.
fn join(conditions: Vec<String>) -> String {
    let all: Vec<String> = conditions.into_iter().filter(|cond| !cond.is_empty()).collect();
    all.join(" AND ")
}
