//! Reading whole tables.

use crate::PostgresSource;
use crate::catalog::{Relation, TableColumn, columns_of, find_relation, missing_column, missing_table};
use crate::check::{supported, supported_mode};
use crate::decode::{DecodedColumn, Pushed, RowDecoder};
use crate::types::Kind;
use postgres_wire::{Connection, CopyOut, CopyOutError, quote_ident, quote_qualified};
use rapidbyte_sdk::{
    ConnectorError, ErrorScope, ReadPerf, ReadRequest, ReadSummary, SchemaId, SourceOutput, StreamContext, host_ffi,
};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A batch is handed on from here on, whichever comes first.
const BATCH_BYTES: usize = 8 << 20;
const BATCH_ROWS: usize = 65_536;
/// Looked at first when a row is refused for its length.
const FIRST_LOOK: usize = 64 << 10;

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

/// `SELECT …` for a relation's columns.
fn select(relation: &Relation, columns: &[TableColumn]) -> Result<String, ConnectorError> {
    let mut list = Vec::with_capacity(columns.len());
    for column in columns {
        let name = quote_ident(&column.name)?;
        list.push(if column.kind == Kind::Cast { format!("{name}::pg_catalog.text") } else { name });
    }
    // Rows of tables that inherit are those tables' own streams.
    let only = if relation.kind == 'r' { "ONLY " } else { "" };
    Ok(format!("SELECT {} FROM {only}{}", list.join(", "), quote_qualified(&relation.schema, &relation.name)?))
}

pub(crate) fn read(
    source: &mut PostgresSource,
    request: &ReadRequest,
    output: &mut SourceOutput,
) -> Result<ReadSummary, ConnectorError> {
    if request.resume.is_some() || request.follow {
        return Err(ConnectorError::config("not_resumable", "a full refresh can neither be resumed nor followed")
            .with_hint("start the load again"));
    }
    host_ffi::mark("source.read.start");
    let mut perf = ReadPerf::default();
    let started = Instant::now();
    let mut connection = Connection::connect(&source.connect)?;
    supported(&connection)?;
    perf.connect_ns = nanos(started.elapsed());
    let started = Instant::now();
    begin(&mut connection, source, &request.streams)?;
    perf.query_ns += nanos(started.elapsed());
    for (index, stream) in request.streams.iter().enumerate() {
        let index = u32::try_from(index).map_err(|_| ConnectorError::internal("streams", "too many streams in a task"))?;
        let (schema, table) = source.table(&stream.name);
        read_stream(&mut connection, stream, (&source.connect.user, schema, table), index, output, &mut perf)
            .map_err(|error| with_grant(error, &source.connect.user, schema, table))?;
    }
    connection.batch_execute("COMMIT")?;
    connection.close();
    Ok(output.summary(perf))
}

/// A policy that would hide rows is an error from here to the transaction's end, and not a load that lacks them.
const ALL_ROWS: &str = "SET LOCAL row_security = off";

/// Opens the transaction all of the read happens in. Tables are locked before it takes its snapshot: one that is truncated or
/// rewritten between the two would look empty.
fn begin(connection: &mut Connection, source: &PostgresSource, streams: &[StreamContext]) -> Result<(), ConnectorError> {
    // Names of types then come with their schema.
    connection.batch_execute("SET search_path = pg_catalog")?;
    let mut sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {ALL_ROWS}");
    for stream in streams {
        supported_mode(stream)?;
        let (schema, table) = source.table(&stream.name);
        match find_relation(connection, schema, table)? {
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
    Ok(connection.batch_execute(&sql)?)
}

/// A refusal gets the statement that mends it.
fn with_grant(error: ConnectorError, user: &str, schema: &str, table: &str) -> ConnectorError {
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

/// Refuses a relation whose rows a policy would hide.
pub(crate) fn sees_all_rows(
    connection: &mut Connection,
    relation: &Relation,
    columns: &[TableColumn],
    user: &str,
) -> Result<(), ConnectorError> {
    let select = select(relation, columns)?;
    connection.batch_execute(&format!("BEGIN READ ONLY; {ALL_ROWS}"))?;
    let described = connection.describe(&select);
    connection.batch_execute("ROLLBACK")?;
    described.map(drop).map_err(|error| with_bypass(error.into(), user, relation))
}

fn read_stream(
    connection: &mut Connection,
    stream: &StreamContext,
    (user, schema, table): (&str, &str, &str),
    index: u32,
    output: &mut SourceOutput,
    perf: &mut ReadPerf,
) -> Result<(), ConnectorError> {
    let started = Instant::now();
    let Some(relation) = find_relation(connection, schema, table)? else {
        return Err(missing_table(connection, schema, table));
    };
    let columns = columns_of(connection, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
    let columns = select_columns(stream, &relation, columns)?;
    let select = select(&relation, &columns)?;
    check_types(connection, &select, &relation, &columns).map_err(|error| with_bypass(error, user, &relation))?;

    let max_record = usize::try_from(stream.limits.max_record_bytes).unwrap_or(usize::MAX);
    // Field lengths, count and header come on top of the values.
    let framing = 64 + 4 * columns.len();
    let decoded = columns.iter().map(|column| DecodedColumn { kind: column.kind.clone(), field: column.field() }).collect();
    let decoder = RowDecoder::new(stream.name.to_string(), decoded, max_record.saturating_add(framing));
    let schema_id = output.schema(index, decoder.schema().clone())?;
    // Views of other people may need settings of their own; elsewhere names of objects (`regclass` and its like) keep their schemas.
    let foreign_code = relation.kind == 'v';
    if foreign_code {
        connection.batch_execute("RESET search_path; RESET jit")?;
    }
    let copy = connection.copy_out(&format!("COPY ({select}) TO STDOUT (FORMAT binary)"), max_record.saturating_add(framing))?;
    perf.query_ns += nanos(started.elapsed());

    let max_batch = usize::try_from(stream.limits.max_batch_bytes).unwrap_or(usize::MAX);
    let target = BATCH_BYTES.min(max_batch / 2).max(1);
    let mut run = Run { stream, columns: &columns, index, schema_id, decoder, emitting: Duration::ZERO, target };
    run.drain(copy, output, perf)?;
    if foreign_code {
        connection.batch_execute("SET search_path = pg_catalog; SET jit = off")?;
    }
    Ok(())
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

/// One COPY on its way.
struct Run<'a> {
    stream: &'a StreamContext,
    columns: &'a [TableColumn],
    index: u32,
    schema_id: SchemaId,
    decoder: RowDecoder,
    emitting: Duration,
    target: usize,
}

impl Run<'_> {
    fn drain(&mut self, mut copy: CopyOut<'_>, output: &mut SourceOutput, perf: &mut ReadPerf) -> Result<(), ConnectorError> {
        let started = Instant::now();
        let waited = copy.waited();
        loop {
            let mut payload = match copy.next_payload() {
                Ok(Some(payload)) => payload,
                Ok(None) => break,
                Err(CopyOutError::Wire(error)) => return Err(error.into()),
                Err(CopyOutError::TooLong { length }) => return Err(self.too_long(&mut copy, length)),
            };
            while let Pushed::Split { column, taken } = self.decoder.push(payload)? {
                self.emit(output)?;
                self.decoder.split(column);
                let name = self.columns[column].name.as_str();
                host_ffi::log(
                    host_ffi::LogLevel::Info,
                    "a value does not fit its Arrow type; the column goes on split into values that fit and others",
                    &[("stream", &self.stream.name.to_string()), ("column", name)],
                );
                self.schema_id = output.schema(self.index, self.decoder.schema().clone())?;
                payload = &payload[taken..];
            }
            if self.decoder.rows() >= BATCH_ROWS || self.decoder.bytes() >= self.target {
                self.emit(output)?;
            }
        }
        self.decoder.end()?;
        self.emit(output)?;
        let fetching = copy.waited().saturating_sub(waited);
        perf.fetch_ns += nanos(fetching);
        perf.encode_ns += nanos(started.elapsed().saturating_sub(fetching).saturating_sub(self.emitting));
        Ok(())
    }

    fn emit(&mut self, output: &mut SourceOutput) -> Result<(), ConnectorError> {
        let Some(batch) = self.decoder.take_batch()? else { return Ok(()) };
        let started = Instant::now();
        output.batch(self.schema_id, &batch)?;
        self.emitting += started.elapsed();
        host_ffi::mark("source.batch.emitted");
        Ok(())
    }

    /// Names the row that is larger than `max_record_bytes`, and its large column as far as the row's first bytes tell.
    fn too_long(&self, copy: &mut CopyOut<'_>, length: usize) -> ConnectorError {
        let limit = usize::try_from(self.stream.limits.max_record_bytes).unwrap_or(usize::MAX);
        let mut look = FIRST_LOOK.min(length);
        let (mut large, mut before) = (String::new(), Vec::new());
        while let Ok(head) = copy.refused_head(look) {
            if let Some((column, found)) = self.decoder.find_large(head, limit) {
                large = format!(", column `{}`", self.columns[column].name);
                before = found;
                break;
            }
            if look >= limit.min(length) {
                break;
            }
            look = look.saturating_mul(4).min(limit).min(length);
        }
        let mut place = format!("{large}, row {} of the read", self.decoder.next_row());
        for (index, column) in self.columns.iter().enumerate().filter(|(_, column)| column.key_position.is_some()) {
            place.push_str(&format!(", key `{}`", column.name));
            let value = before.get(index).and_then(Option::as_deref);
            if let Some(text) = value.and_then(|value| key_text(&column.kind, value)) {
                place.push_str(&format!(" = {text}"));
            }
        }
        ConnectorError::data(
            "record_too_large",
            format!("stream `{}`{place}: a record of {length} bytes is larger than `max_record_bytes` ({limit})", self.stream.name),
        )
        .with_scope(ErrorScope::Record)
        .with_hint("raise `resources.max_record_bytes` (up to 64mb), or leave the column out with `columns`")
    }
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
