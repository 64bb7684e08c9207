//! Reading whole tables.

use crate::PostgresSource;
use crate::catalog::{Relation, TableColumn, columns_of, find_relation, missing_column, missing_table};
use crate::cdc;
use crate::decode::{self, DecodedColumn, Pushed, RowDecoder};
use crate::incremental::{self, Marker};
use crate::shares::{self, Share};
use crate::types::Kind;
use postgres_wire::{Connection, CopyOut, CopyOutError, TransactionStatus, quote_ident, quote_qualified};
use rapidbyte_sdk::letter::{letter, partial_json};
use rapidbyte_sdk::{
    ConnectorError, CursorType, DataErrorPolicy, ErrorScope, NoRowFilter, Position, ReadPerf, ReadRequest, ReadSummary, RowFilter,
    SchemaId, SourceOutput, StreamContext, SyncMode, host_ffi,
};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A batch is handed on from here on, whichever comes first.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ROWS: usize = 65_536;
/// Looked at first when a row is refused for its length.
const FIRST_LOOK: usize = 64 << 10;
/// Room for a field after the columns, beyond the largest record.
const TAIL_ROOM: usize = 64 << 10;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The columns a stream asks for, in its order.
pub(crate) fn select_columns(
    stream: &StreamContext,
    relation: &Relation,
    columns: Vec<TableColumn>,
) -> Result<Vec<TableColumn>, ConnectorError> {
    let Some(wanted) = &stream.selected_columns else { return Ok(columns) };
    if wanted.is_empty() {
        return Err(ConnectorError::config("no_columns", format!("stream `{}` selects no columns", stream.name))
            .with_hint("name at least one column, or leave `columns` out to read all"));
    }
    let mut seen = HashSet::new();
    let mut selected = Vec::with_capacity(wanted.len());
    for name in wanted {
        if !seen.insert(name) {
            return Err(ConnectorError::config("repeated_column", format!("stream `{}` selects `{name}` twice", stream.name)));
        }
        match columns.iter().find(|column| column.name == *name) {
            Some(column) => selected.push(column.clone()),
            None => return Err(missing_column(relation, &columns, name)),
        }
    }
    Ok(selected)
}

/// What stands after `FROM` for a relation.
pub(crate) fn from_clause(relation: &Relation) -> Result<String, ConnectorError> {
    // Rows of tables that inherit are those tables' own streams.
    let only = if relation.kind == 'r' { "ONLY " } else { "" };
    Ok(format!("{only}{}", quote_qualified(&relation.schema, &relation.name)?))
}

/// `SELECT …` for a relation's columns, up to its `FROM`.
fn select_list(columns: &[TableColumn]) -> Result<String, ConnectorError> {
    let mut list = Vec::with_capacity(columns.len());
    for column in columns {
        let name = quote_ident(&column.name)?;
        list.push(match column.kind {
            // A row of NULLs alone is no NULL, but `IS NOT NULL` is false for it.
            Kind::Cast if column.as_output => {
                format!("CASE WHEN {name} IS DISTINCT FROM NULL THEN pg_catalog.format('%s', {name}) END")
            }
            Kind::Cast => format!("{name}::pg_catalog.text"),
            _ => name,
        });
    }
    Ok(format!("SELECT {}", list.join(", ")))
}

pub(crate) fn read(
    source: &mut PostgresSource,
    request: &ReadRequest,
    output: &mut SourceOutput,
) -> Result<ReadSummary, ConnectorError> {
    let full = request.streams.iter().any(|stream| stream.sync_mode != SyncMode::Incremental);
    // The load of a stream of changes says at its end where they begin, and there only.
    let complete = request.resume.as_ref().is_some_and(|position| position.kind == CursorType::Lsn);
    if request.follow || (full && request.resume.is_some() && !complete) {
        return Err(ConnectorError::config("not_resumable", "a full refresh can neither be resumed nor followed")
            .with_hint("start the load again"));
    }
    host_ffi::mark("source.read.start");
    let mut perf = ReadPerf::default();
    let mut connection = source.take_session()?;
    perf.connect_ns = nanos(std::mem::take(&mut source.connecting));
    host_ffi::mark("source.read.connected");
    let started = Instant::now();
    let share = shares::of(request)?;
    begin(&mut connection, source, request, share.is_some())?;
    perf.query_ns += nanos(started.elapsed());
    for (index, stream) in request.streams.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_| ConnectorError::internal("streams", "too many streams in a task"))?;
        let (schema, table) = source.table(&stream.name);
        let place = (source.connect.user.as_str(), schema, table);
        let wanted = Wanted { stream, index, share: share.as_ref(), resume: request.resume.as_ref(), token: &request.token };
        read_stream(&mut connection, &wanted, place, output, &mut perf)
            .map_err(|error| with_grant(error, &source.connect.user, schema, table))?;
    }
    connection.batch_execute("COMMIT")?;
    source.session = Some(connection);
    Ok(output.summary(perf))
}

/// A policy that would hide rows is an error from here to the transaction's end, and not a load that lacks them.
const ALL_ROWS: &str = "SET LOCAL row_security = off";

/// Settings of a session that may have to wait within its transaction, for the destination or for other readers: the server must
/// not end it for that, and must notice within a minute when its client is gone, since its snapshot holds vacuum back. Names of
/// types come with their schema.
pub(crate) fn patient(connection: &Connection) -> String {
    let since_17 = if connection.server_version() >= 170_000 { "; SET transaction_timeout = 0" } else { "" };
    format!(
        "SET search_path = pg_catalog; SET idle_in_transaction_session_timeout = 0; SET tcp_keepalives_idle = 30; \
         SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3{since_17}"
    )
}

/// Opens the transaction all of the read happens in. Tables are locked before it takes its snapshot: one that is truncated or
/// rewritten between the two would look empty. A share is read at the planner's snapshot, whose lock holds already.
fn begin(connection: &mut Connection, source: &PostgresSource, request: &ReadRequest, shared: bool) -> Result<(), ConnectorError> {
    connection.batch_execute(&patient(connection))?;
    if shared {
        let [stream] = request.streams.as_slice() else {
            return Err(ConnectorError::internal("streams", "a share is of one stream"));
        };
        shares::join(connection, request, stream)?;
    }
    let (mut snapshot, mut sql) = (None, ALL_ROWS.to_owned());
    for stream in &request.streams {
        let (schema, table) = source.table(&stream.name);
        let relation = find_relation(connection, schema, table)?;
        if let (SyncMode::Cdc, Some(relation)) = (stream.sync_mode, &relation) {
            let id = cdc::snapshot_of(&request.token, relation.oid)?;
            snapshot = Some((stream, id));
        }
        match relation {
            // Rights on single columns don't suffice for a lock.
            Some(relation) if relation.can_be_locked() && relation.readable => {
                sql.push_str("; LOCK TABLE ");
                sql.push_str(&quote_qualified(schema, table)?);
                sql.push_str(" IN ACCESS SHARE MODE");
            }
            Some(_) => {}
            None => return Err(missing_table(connection, schema, table)),
        }
    }
    // Where a snapshot is taken over, that begins the transaction; of a share it had to come first of all.
    match snapshot {
        Some((stream, id)) => shares::import(connection, &id, stream)?,
        None if shared => {}
        None => sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {sql}"),
    }
    Ok(connection.batch_execute(&sql)?)
}

/// A refusal gets the statement that mends it.
pub(crate) fn with_grant(error: ConnectorError, user: &str, schema: &str, table: &str) -> ConnectorError {
    if error.code != "permission_denied" {
        return error;
    }
    match (quote_qualified(schema, table), quote_ident(user)) {
        (Ok(table), Ok(user)) => error.with_hint(format!("as its owner run: `GRANT SELECT ON {table} TO {user}`")),
        _ => error,
    }
}

/// Where row-level security stands in the way, the error gets the statement that mends it. A view's tables are read with the
/// rights of its owner.
fn with_bypass(error: ConnectorError, user: &str, relation: &Relation) -> ConnectorError {
    if error.code != "row_security" {
        return error;
    }
    let reader = if relation.kind == 'v' && !relation.invoker { &relation.owner } else { user };
    let (Ok(role), Ok(table)) = (quote_ident(reader), quote_qualified(&relation.schema, &relation.name)) else { return error };
    let bypass = format!("as a superuser run: `ALTER ROLE {role} BYPASSRLS`");
    let hint = match (relation.kind, relation.owned, relation.forced) {
        ('v', ..) => format!("{bypass}; for views over other views, name the innermost one's owner"),
        (_, true, _) => format!("as its owner run: `ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY`; or {bypass}"),
        (_, false, false) => format!("{bypass}; or set `user` to the table's owner, `{}`", relation.owner),
        (_, false, true) => bypass,
    };
    let mut made = error.with_hint(hint);
    made.message = format!("row-level security would hide rows of `{}` from `{reader}`: {}", relation.label(), made.message);
    made
}

/// The stream's filter as a condition, in parentheses that hold it together.
fn filter_condition(stream: &StreamContext) -> Result<Option<String>, ConnectorError> {
    let Some(text) = &stream.filter else { return Ok(None) };
    let filter: RowFilter = text.parse().map_err(|no: NoRowFilter| {
        ConnectorError::config("filter", format!("stream `{}`: `filter` {no}", stream.name))
            .with_hint("write one SQL expression that is true for the rows to read")
    })?;
    Ok(Some(format!("({filter})")))
}

/// Takes the filter in, after the server has said whether it is a condition over the relation's columns.
pub(crate) fn checked_filter(
    connection: &mut Connection,
    stream: &StreamContext,
    relation: &Relation,
    columns: &[TableColumn],
) -> Result<Option<String>, ConnectorError> {
    let Some(condition) = filter_condition(stream)? else { return Ok(None) };
    let sql = format!("SELECT FROM {} WHERE {condition}", from_clause(relation)?);
    own_names(connection, true)?;
    let described = connection.describe(&sql);
    if connection.transaction() != TransactionStatus::Failed && !connection.is_broken() {
        own_names(connection, false)?;
    }
    let Err(error) = described else { return Ok(Some(condition)) };
    let code = error.sqlstate().unwrap_or_default().to_owned();
    // Rights, policies and lost connections are not the filter's fault.
    if !matches!(code.get(..2), Some("42" | "22" | "0A" | "54")) || code == "42501" {
        return Err(error.into());
    }
    let mut shown: Vec<String> = columns.iter().take(20).map(|column| format!("`{}`", column.name)).collect();
    if columns.len() > 20 {
        shown.push("…".into());
    }
    let hint = match code.as_str() {
        "42703" => format!("`{}` has: {}; quote names that are not all lower case", relation.label(), shown.join(", ")),
        "42883" => {
            "cast one side to the other's type, and name the schema of functions that `search_path` does not hold".to_owned()
        }
        "42804" => "the filter must be true or false, as in `status = 'open'`".to_owned(),
        _ => "try it as `SELECT … WHERE (<filter>)` at the server; columns are named without their table".to_owned(),
    };
    let what = format!("stream `{}`: the server refuses `filter`: {error}", stream.name);
    Err(ConnectorError::config("filter", what).with_hint(hint))
}

/// Views, foreign tables and filters are other people's words: names in them mean what they mean to the role. Elsewhere names of
/// objects (`regclass` and its like) keep their schemas.
pub(crate) fn own_names(connection: &mut Connection, of_the_role: bool) -> Result<(), ConnectorError> {
    Ok(connection.batch_execute(if of_the_role {
        "RESET search_path; RESET jit"
    } else {
        "SET search_path = pg_catalog; SET jit = off"
    })?)
}

/// Refuses a relation whose rows a policy would hide.
pub(crate) fn sees_all_rows(
    connection: &mut Connection,
    relation: &Relation,
    columns: &[TableColumn],
    user: &str,
) -> Result<(), ConnectorError> {
    let select = format!("{} FROM {}", select_list(columns)?, from_clause(relation)?);
    connection.batch_execute(&format!("BEGIN READ ONLY; {ALL_ROWS}"))?;
    let described = connection.describe(&select);
    connection.batch_execute("ROLLBACK")?;
    described.map(drop).map_err(|error| with_bypass(error.into(), user, relation))
}

/// What is read of a stream.
struct Wanted<'w> {
    stream: &'w StreamContext,
    /// The stream's place in the task.
    index: u32,
    share: Option<&'w Share>,
    resume: Option<&'w Position>,
    /// The plan's.
    token: &'w [u8],
}

fn read_stream(
    connection: &mut Connection,
    &Wanted { stream, index, share, resume, token }: &Wanted<'_>,
    (user, schema, table): (&str, &str, &str),
    output: &mut SourceOutput,
    perf: &mut ReadPerf,
) -> Result<(), ConnectorError> {
    let started = Instant::now();
    let Some(relation) = find_relation(connection, schema, table)? else {
        return Err(missing_table(connection, schema, table));
    };
    let columns = columns_of(connection, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
    let columns = if stream.sync_mode == SyncMode::Cdc { cdc::logged_columns(stream, columns)? } else { columns };
    let selected = select_columns(stream, &relation, columns.clone())?;
    let filter = checked_filter(connection, stream, &relation, &columns)?;
    let list = select_list(&selected)?;
    let table = TableRead { stream, user, relation: &relation, all: &columns, selected: &selected, list, filter, index };
    if stream.sync_mode == SyncMode::Incremental {
        perf.query_ns += nanos(started.elapsed());
        return incremental::read_stream(connection, &table, resume, output, perf);
    }
    let mut run = table.announce(connection, output)?;
    perf.query_ns += nanos(started.elapsed());
    if stream.sync_mode == SyncMode::Cdc && resume.is_some() {
        return Ok(());
    }
    let froms = match share {
        Some(share) => shares::froms(connection, share)?,
        None => vec![(from_clause(&relation)?, None)],
    };
    for (from, condition) in froms {
        let conditions: Vec<String> = condition.into_iter().chain(table.filter.clone()).collect();
        let filtered = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        run.copy(connection, &format!("{} FROM {from}{filtered}", table.list), 0, output, perf)?;
    }
    // Behind a barrier of our own it would be chance whether its commit comes first.
    host_ffi::mark("source.copy.after");
    if stream.sync_mode == SyncMode::Cdc {
        output.barrier(&cdc::begins_at(token, relation.oid)?)?;
    }
    Ok(())
}

/// A table and what is wanted of it.
pub(crate) struct TableRead<'t> {
    pub(crate) stream: &'t StreamContext,
    user: &'t str,
    pub(crate) relation: &'t Relation,
    /// Its columns.
    pub(crate) all: &'t [TableColumn],
    /// Those that are read, in their order.
    pub(crate) selected: &'t [TableColumn],
    /// `SELECT …` of those.
    pub(crate) list: String,
    /// The condition that rows must meet to be read.
    pub(crate) filter: Option<String>,
    /// The stream's place in the task.
    pub(crate) index: u32,
}

impl<'t> TableRead<'t> {
    fn decoder(&self, tail: usize) -> RowDecoder {
        let decoded =
            self.selected.iter().map(|column| DecodedColumn { kind: column.kind.clone(), field: column.field() }).collect();
        let mut decoder = RowDecoder::with_tail(self.stream.name.to_string(), decoded, tail, self.largest(tail));
        if self.stream.policies.on_data_error != DataErrorPolicy::Fail {
            decoder.refuse_rows();
        }
        decoder
    }

    /// The most bytes a row may have on the wire.
    fn largest(&self, tail: usize) -> usize {
        let max_record = usize::try_from(self.stream.limits.max_record_bytes).unwrap_or(usize::MAX);
        // Field lengths, count and header come on top of the values.
        max_record.saturating_add(64 + 4 * self.selected.len() + TAIL_ROOM * tail)
    }

    /// Announces the schema.
    pub(crate) fn announce(&self, connection: &mut Connection, output: &mut SourceOutput) -> Result<Run<'_>, ConnectorError> {
        let select = format!("{} FROM {}", self.list, from_clause(self.relation)?);
        check_types(connection, &select, self.relation, self.selected)
            .map_err(|error| with_bypass(error, self.user, self.relation))?;
        let decoder = self.decoder(0);
        let schema_id = output.schema(self.index, decoder.schema().clone())?;
        let max_batch = usize::try_from(self.stream.limits.max_batch_bytes).unwrap_or(usize::MAX);
        let target = BATCH_BYTES.min(max_batch / 2).max(1);
        Ok(Run { table: self, schema_id, decoder, split: Vec::new(), emitting: Duration::ZERO, target, marker: None })
    }
}

/// Checks that the server will send what the columns promise: a view's types can change without a lock of ours noticing.
fn check_types(
    connection: &mut Connection,
    select: &str,
    relation: &Relation,
    columns: &[TableColumn],
) -> Result<(), ConnectorError> {
    let described = connection.describe(select)?;
    let changed = |name: &str| {
        ConnectorError::schema("schema_changed", format!("column `{name}` of `{}` changed its type just now", relation.label()))
            .with_hint("run again")
    };
    if described.len() != columns.len() {
        return Err(changed("*"));
    }
    for (described, column) in described.iter().zip(columns) {
        if described.type_oid != column.kind.expected_oid(&column.base) {
            return Err(changed(&column.name));
        }
    }
    Ok(())
}

/// The rows of a table on their way, by one COPY or several.
pub(crate) struct Run<'a> {
    table: &'a TableRead<'a>,
    schema_id: SchemaId,
    decoder: RowDecoder,
    /// Columns that go on split.
    split: Vec<usize>,
    emitting: Duration,
    target: usize,
    marker: Option<Marker>,
}

impl Run<'_> {
    /// Puts barriers between the batches from here on, or no more.
    pub(crate) fn mark_with(&mut self, marker: Option<Marker>) {
        self.marker = marker;
    }

    /// Copies the rows of a query out, each with `tail` fields after its columns. With a marker: cursor and key of the last row.
    pub(crate) fn copy(
        &mut self,
        connection: &mut Connection,
        query: &str,
        tail: usize,
        output: &mut SourceOutput,
        perf: &mut ReadPerf,
    ) -> Result<Option<Vec<String>>, ConnectorError> {
        let started = Instant::now();
        self.decoder = self.table.decoder(tail);
        self.split.iter().for_each(|column| self.decoder.split(*column));
        self.emitting = Duration::ZERO;
        let foreign_code = self.table.relation.kind == 'v' || self.table.filter.is_some();
        if foreign_code {
            own_names(connection, true)?;
        }
        host_ffi::mark("source.copy.before");
        let copy = connection.copy_out(&format!("COPY ({query}) TO STDOUT (FORMAT binary)"), self.table.largest(tail))?;
        perf.query_ns += nanos(started.elapsed());
        self.drain(copy, output, perf)?;
        if foreign_code {
            own_names(connection, false)?;
        }
        Ok(self.marker.as_ref().and_then(|marker| marker.end(&self.decoder)))
    }

    fn drain(&mut self, mut copy: CopyOut<'_>, output: &mut SourceOutput, perf: &mut ReadPerf) -> Result<(), ConnectorError> {
        let started = Instant::now();
        let waited = copy.waited();
        let mut one_by_one = 0_usize;
        loop {
            if one_by_one == 0 && self.marker.is_none() {
                match self.decoder.push_run(copy.arrived(), self.target, BATCH_ROWS) {
                    decode::Run::Taken(0) => {}
                    decode::Run::Taken(bytes) => {
                        copy.pass(bytes);
                        self.emit_full(output)?;
                        continue;
                    }
                    decode::Run::OneByOne(rows) => one_by_one = rows,
                }
            }
            one_by_one = one_by_one.saturating_sub(1);
            let mut payload = match copy.next_payload() {
                Ok(Some(payload)) => payload,
                Ok(None) => break,
                Err(CopyOutError::Wire(error)) => return Err(error.into()),
                Err(CopyOutError::TooLong { length }) => {
                    let (error, record) = self.too_long(&mut copy, length);
                    if self.table.stream.policies.on_data_error == DataErrorPolicy::Fail {
                        return Err(error);
                    }
                    copy.skip_refused(length)?;
                    self.decoder.pass_header();
                    self.give_up(&error, record, output)?;
                    continue;
                }
            };
            let before = self.decoder.rows();
            while let Pushed::Split { column, taken } = self.decoder.push(payload)? {
                self.emit(output)?;
                self.decoder.split(column);
                self.split.push(column);
                let name = self.table.selected[column].name.as_str();
                host_ffi::log(
                    host_ffi::LogLevel::Info,
                    "a value does not fit its Arrow type; the column goes on split into values that fit and others",
                    &[("stream", &self.table.stream.name.to_string()), ("column", name)],
                );
                self.schema_id = output.schema(self.table.index, self.decoder.schema().clone())?;
                payload = &payload[taken..];
            }
            for (error, record) in self.decoder.take_refused() {
                self.give_up(&error, record, output)?;
            }
            self.decoded(before, output)?;
            self.emit_full(output)?;
        }
        self.decoder.end()?;
        self.emit(output)?;
        let fetching = copy.waited().saturating_sub(waited);
        perf.fetch_ns += nanos(fetching);
        perf.encode_ns += nanos(started.elapsed().saturating_sub(fetching).saturating_sub(self.emitting));
        Ok(())
    }

    /// Hands the batch on once it is large enough.
    fn emit_full(&mut self, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        if self.decoder.rows() >= BATCH_ROWS || self.decoder.bytes() >= self.target {
            self.emit(output)?;
            if let Some(marker) = &mut self.marker {
                marker.emitted(&self.decoder, output)?;
            }
        }
        Ok(())
    }

    /// Puts a barrier in front of the row just decoded, if one is wanted there.
    fn decoded(&mut self, before: usize, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        let Some(marker) = &mut self.marker else { return Ok(()) };
        // After a batch in between, what came before the row is no longer known.
        let grown = self.decoder.rows().checked_sub(before).unwrap_or(usize::MAX);
        let Some(at) = marker.boundary(&self.decoder, grown) else { return Ok(()) };
        let Some(batch) = self.decoder.take_batch()? else { return Ok(()) };
        let earlier = batch.num_rows() - 1;
        output.batch(self.schema_id, &batch.slice(0, earlier))?;
        marker.barrier(at, output)?;
        output.batch(self.schema_id, &batch.slice(earlier, 1))
    }

    fn emit(&mut self, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        let Some(batch) = self.decoder.take_batch()? else { return Ok(()) };
        let started = Instant::now();
        output.batch(self.schema_id, &batch)?;
        self.emitting += started.elapsed();
        host_ffi::mark("source.batch.emitted");
        Ok(())
    }

    /// Leaves a row out by the stream's policy.
    fn give_up(&self, error: &ConnectorError, record: String, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        match self.table.stream.policies.on_data_error {
            DataErrorPolicy::Dlq => output.dead_letters(&[letter(self.table.index, record, &error.message, error.category)]),
            DataErrorPolicy::Skip | DataErrorPolicy::Fail => {
                output.skipped(1);
                Ok(())
            }
        }
    }

    /// Names the row that is larger than `max_record_bytes`, and its large column as far as the row's first bytes tell. Gives also
    /// what of it is known.
    fn too_long(&self, copy: &mut CopyOut<'_>, length: usize) -> (ConnectorError, String) {
        let limit = usize::try_from(self.table.stream.limits.max_record_bytes).unwrap_or(usize::MAX);
        let mut look = FIRST_LOOK.min(length);
        let (mut large, mut before) = (String::new(), Vec::new());
        while let Ok(head) = copy.refused_head(look) {
            if let Some((column, found)) = self.decoder.find_large(head, limit) {
                large = format!(", column `{}`", self.table.selected[column].name);
                before = found;
                break;
            }
            if look >= limit.min(length) {
                break;
            }
            look = look.saturating_mul(4).min(limit).min(length);
        }
        let mut place = format!("{large}, row {} of the read", self.decoder.next_row());
        for (index, column) in self.table.selected.iter().enumerate().filter(|(_, column)| column.key_position.is_some()) {
            place.push_str(&format!(", key `{}`", column.name));
            let value = before.get(index).and_then(Option::as_deref);
            if let Some(text) = value.and_then(|value| key_text(&column.kind, value)) {
                place.push_str(&format!(" = {text}"));
            }
        }
        let record = partial_json(self.decoder.schema().fields().iter().map(AsRef::as_ref), |index| match before.get(index) {
            Some(None) => Ok(None),
            Some(Some(value)) => self.decoder.text_of(index, value).map(Some).ok_or_else(not_read),
            None => Err(not_read()),
        });
        let error = ConnectorError::data(
            "record_too_large",
            format!(
                "stream `{}`{place}: a record of {length} bytes is larger than `max_record_bytes` ({limit})",
                self.table.stream.name
            ),
        )
        .with_scope(ErrorScope::Record)
        .with_hint("raise `resources.max_record_bytes` (up to 64mb), or leave the column out with `columns`");
        (error, record)
    }
}

/// In place of a value of a record that was too large to be read.
fn not_read() -> String {
    "not read: the record is larger than `max_record_bytes`".to_owned()
}

/// A key's value in words, for types whose values only number rows. Any other key, an e-mail address say, may be personal.
fn key_text(kind: &Kind, value: &[u8]) -> Option<String> {
    match kind {
        Kind::Int2 => Some(i16::from_be_bytes(value.try_into().ok()?).to_string()),
        Kind::Int4 => Some(i32::from_be_bytes(value.try_into().ok()?).to_string()),
        Kind::Int8 => Some(i64::from_be_bytes(value.try_into().ok()?).to_string()),
        Kind::Uuid => Some(value.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => None,
    }
}
