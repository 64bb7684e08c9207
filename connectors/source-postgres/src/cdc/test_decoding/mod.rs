//! The plugin `test_decoding`, for servers that have no publications for us: its lines are made into the messages of `pgoutput`, so
//! that everything behind sees one kind of log.
//!
//! The plugin tells less. It names tables and types instead of telling their numbers, so a table that is renamed under it is not
//! found again; it shows partitions instead of the tables they belong to; and it says only at a transaction's end where that
//! is, so whole transactions are looked at, which takes a function of SQL. The slot tells the changes of all tables.

mod line;

use super::lsn::Lsn;
use super::pgoutput::Malformed;
use crate::catalog::Relation;
use line::{Change, Column, Line, Value};
use postgres_wire::{Connection, quote_literal};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::changes::ChangeOp;
use std::collections::HashMap;

/// The bytes in front of a row's line: the end of the transaction's commit record, when it was committed (microseconds since 2000),
/// and its id.
const HEAD: usize = 24;

/// A change that has its place in the transaction and nothing else: an insert without columns into no table.
const PASSED_OVER: [u8; 8] = [b'I', 0, 0, 0, 0, b'N', 0, 0];

/// A column as the catalog has it now.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    /// The type's name as the plugin writes it.
    kind: String,
    oid: u32,
    typmod: i32,
    identity: bool,
    generated: bool,
}

/// A column as it was announced.
#[derive(Debug, Clone)]
struct Announced {
    name: String,
    /// The type's name as the plugin writes it.
    kind: String,
    identity: bool,
}

/// A stream's table.
struct Table {
    oid: u32,
    known: Vec<Known>,
    announced: Option<Vec<Announced>>,
}

/// Makes messages out of lines.
pub(super) struct Translator {
    /// By schema and name.
    tables: HashMap<(String, String), Table>,
}

fn malformed(what: impl std::fmt::Display) -> ConnectorError {
    ConnectorError::internal("test_decoding", format!("a malformed line in the server's log: {what}"))
}

impl From<Malformed> for ConnectorError {
    fn from(Malformed(what): Malformed) -> Self {
        malformed(what)
    }
}

/// The columns of a table as the plugin speaks of them.
fn look(connection: &mut Connection, oid: u32) -> Result<Vec<Known>, ConnectorError> {
    let rows = connection.query_params(
        "SELECT a.attname, format_type(a.atttypid, NULL), a.atttypid, a.atttypmod, to_jsonb(a) ->> 'attgenerated' = 's',
                c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i
                  WHERE i.indrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND i.indimmediate AND i.indisvalid
                  AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        &[oid.to_string().into()],
    )?;
    let known = |row: &postgres_wire::Row| {
        Ok::<_, ConnectorError>(Known {
            name: row.text(0)?.to_owned(),
            kind: row.text(1)?.to_owned(),
            oid: row.parse(2)?.unwrap_or_default(),
            typmod: row.parse(3)?.unwrap_or(-1),
            generated: row.flag(4)?,
            identity: row.flag(5)?,
        })
    };
    rows.iter().map(known).collect()
}

impl Translator {
    pub(super) fn new<'r>(relations: impl Iterator<Item = &'r Relation>) -> Self {
        let table =
            |of: &Relation| ((of.schema.clone(), of.name.clone()), Table { oid: of.oid, known: Vec::new(), announced: None });
        Self { tables: relations.map(table).collect() }
    }

    /// The statement that shows the transactions up to `upto`: in each row what [`HEAD`] says, and a line. Messages of applications are
    /// left out: one that is in no transaction has no end, and what it holds need not be text. So are the rows of other tables, however
    /// large: a line begins with its table as `format` writes it, looked at up to the first `: `. That may stand in a quoted name, and a
    /// neighbour that begins alike is passed over later. A TRUNCATE, of several tables perhaps, ends without a quote.
    pub(super) fn peek(&self, slot: &str, upto: Lsn) -> Result<String, ConnectorError> {
        let names = self.tables.keys().map(|(schema, name)| Ok(format!("({}, {})", quote_literal(schema)?, quote_literal(name)?)));
        let names = names.collect::<Result<Vec<_>, ConnectorError>>()?.join(", ");
        // Each character of a name may be a quote that is doubled.
        let longest = self.tables.keys().map(|(schema, name)| 2 * (schema.len() + name.len()) + 16).max().unwrap_or_default();
        Ok(format!(
            "COPY (SELECT int8send(w.ended) || int8send(w.at) || int8send(w.xid::text::bigint) || convert_to(w.data, 'UTF8') FROM (
               SELECT d.data, d.xid, d.n, max(CASE WHEN d.data LIKE 'COMMIT%' THEN (d.lsn - '0/0'::pg_lsn)::bigint END) OVER (PARTITION BY d.xid::text) AS ended,
                      max(CASE WHEN d.data LIKE 'COMMIT%' THEN (extract(epoch FROM substring(d.data FROM '\\(at (.+)\\)$')::timestamptz) * 1000000)::bigint
                          - 946684800000000 END) OVER (PARTITION BY d.xid::text) AS at
               FROM pg_logical_slot_peek_changes({}, '{upto}', NULL, 'include-xids', '1', 'include-timestamp', '1', 'skip-empty-xacts', '1')
                    WITH ORDINALITY d(lsn, xid, data, n)
               WHERE d.data NOT LIKE 'message:%' AND (d.data NOT LIKE 'table %'
                  OR split_part(left(d.data, {longest}), ': ', 1)
                     IN (SELECT split_part('table ' || format('%I.%I', o.nspname, o.relname) || ': ', ': ', 1) FROM (VALUES {names}) o(nspname, relname))
                  OR right(d.data, 1) <> '''' AND right(d.data, 40) LIKE '%: TRUNCATE: %')) w
             ORDER BY w.n) TO STDOUT (FORMAT binary)",
            quote_literal(slot)?
        ))
    }

    /// The table of a row of [`Self::peek`] of which the beginning is known.
    pub(super) fn relation_of(&self, head: &[u8]) -> Option<u32> {
        let text = head.get(HEAD..)?.utf8_chunks().next()?.valid();
        Some(self.tables.get(&key(&line::table_of(text)?))?.oid)
    }

    /// The messages that a row of [`Self::peek`] is. Of tables whose changes do not count now nothing is asked: they may look as nobody
    /// knows any more.
    pub(super) fn translate(
        &mut self,
        row: &[u8],
        catalog: &mut Connection,
        counts: impl Fn(u32) -> bool,
    ) -> Result<Vec<Vec<u8>>, ConnectorError> {
        let Some((head, text)) = row.split_first_chunk::<HEAD>() else { return Err(malformed("it is too short")) };
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|index| head[at + index]));
        let (end, time, xid) = (number(0), number(8), number(16));
        let text = std::str::from_utf8(text).map_err(|_| malformed("it is not UTF-8"))?;
        match line::parse(text)? {
            Line::Begin => {
                // Its commit record lies before its end; how far does not matter, as nothing else is committed in between.
                let mut message = vec![b'B'];
                message.extend_from_slice(&end.saturating_sub(1).to_be_bytes());
                message.extend_from_slice(&time.to_be_bytes());
                let xid = u32::try_from(xid).map_err(|_| malformed("a transaction's id is too large"))?;
                message.extend_from_slice(&xid.to_be_bytes());
                Ok(vec![message])
            }
            Line::Commit => {
                let mut message = vec![b'C', 0];
                [end.saturating_sub(1), end, time].iter().for_each(|number| message.extend_from_slice(&number.to_be_bytes()));
                Ok(vec![message])
            }
            Line::Truncate(tables) => {
                let found = |table: &line::Table<'_>| Some(self.tables.get(&key(table))?.oid);
                let oids: Vec<u32> = tables.iter().filter_map(found).collect();
                if oids.is_empty() {
                    return Ok(Vec::new());
                }
                let mut message = vec![b'T'];
                message.extend_from_slice(&(oids.len() as u32).to_be_bytes());
                message.push(0);
                oids.iter().for_each(|oid| message.extend_from_slice(&oid.to_be_bytes()));
                Ok(vec![message])
            }
            Line::Change(change) => {
                let Some(table) = self.tables.get_mut(&key(&change.table)) else { return Ok(Vec::new()) };
                if !counts(table.oid) {
                    return Ok(vec![PASSED_OVER.to_vec()]);
                }
                let relation = table.announce(&change, catalog)?;
                let message = table.message(&change)?;
                Ok(relation.into_iter().chain([message]).collect())
            }
            Line::Other => Ok(Vec::new()),
        }
    }
}

fn key(table: &line::Table<'_>) -> (String, String) {
    (table.schema.clone().into_owned(), table.name.clone().into_owned())
}

impl Table {
    fn known(&self, name: &str, kind: &str) -> Option<&Known> {
        self.known.iter().find(|known| known.name == name && known.kind == kind)
    }

    fn is_generated(&self, name: &str) -> bool {
        self.known.iter().any(|known| known.name == name && known.generated)
    }

    /// Whether the change is of the table as it was announced.
    fn fits(&self, change: &Change<'_>) -> bool {
        let Some(announced) = &self.announced else { return false };
        let told = |row: &&Column<'_>| !self.is_generated(&row.name);
        let whole = change.new.as_ref().is_none_or(|row| {
            let known = announced.iter().map(|column| (column.name.as_str(), column.kind.as_str()));
            known.eq(row.iter().filter(told).map(|column| (&*column.name, column.kind)))
        });
        // Of an old row nothing is told but what identifies it.
        let identifies = |told: &Column<'_>| {
            announced.iter().any(|column| column.identity && column.name == told.name && column.kind == told.kind)
        };
        whole && change.old.iter().flatten().filter(told).all(identifies)
    }

    /// The description of the table, where it is not the one before.
    fn announce(&mut self, change: &Change<'_>, catalog: &mut Connection) -> Result<Option<Vec<u8>>, ConnectorError> {
        // Before the catalog is asked: it may lack columns of a million rows.
        if self.fits(change) {
            return Ok(None);
        }
        let old = change.old.as_deref().unwrap_or_default();
        let told = change.new.as_deref().unwrap_or(old);
        if self.known.is_empty() || told.iter().any(|column| self.known(&column.name, column.kind).is_none()) {
            self.known = look(catalog, self.oid)?;
        }
        let before = self.announced.take();
        let mut columns: Vec<(String, String)> = match (&change.new, &before) {
            (Some(_), _) => Vec::with_capacity(told.len()),
            // A delete tells what identifies its row, without its NULLs. Beside that the table is as it was, or as the catalog has it.
            (None, Some(before)) => before.iter().map(|column| (column.name.clone(), column.kind.clone())).collect(),
            (None, None) => {
                let all = self.known.iter().filter(|known| !known.generated);
                all.map(|known| (known.name.clone(), known.kind.clone())).collect()
            }
        };
        for column in told.iter().filter(|column| !self.is_generated(&column.name)) {
            match columns.iter_mut().find(|(name, _)| *name == column.name) {
                Some((_, kind)) => column.kind.clone_into(kind),
                None => columns.push((column.name.clone().into_owned(), column.kind.to_owned())),
            }
        }
        let before = before.unwrap_or_default();
        let announced = |(name, kind): (String, String)| {
            let identity = old.iter().any(|column| column.name == name)
                // An old row comes without its NULLs: what identified the one before may identify the next.
                || before.iter().any(|column| column.identity && column.name == name && column.kind == kind)
                || self.known.iter().any(|known| known.name == name && known.identity);
            Announced { name, kind, identity }
        };
        let columns = columns.into_iter().map(announced).collect();
        self.describe(change, columns, catalog).map(Some)
    }

    /// The columns as a message of their own, remembered.
    fn describe(
        &mut self,
        change: &Change<'_>,
        columns: Vec<Announced>,
        catalog: &mut Connection,
    ) -> Result<Vec<u8>, ConnectorError> {
        let mut message = vec![b'R'];
        message.extend_from_slice(&self.oid.to_be_bytes());
        for name in [&change.table.schema, &change.table.name] {
            message.extend_from_slice(name.as_bytes());
            message.push(0);
        }
        message.push(b'd');
        message.extend_from_slice(&count(columns.len())?.to_be_bytes());
        for Announced { name, kind, identity } in &columns {
            let (oid, typmod) = match self.known(name, kind) {
                Some(known) => (known.oid, known.typmod),
                // Dropped or changed since: what its type is called must do.
                None => (type_named(catalog, name, kind)?, -1),
            };
            message.push(u8::from(*identity));
            message.extend_from_slice(name.as_bytes());
            message.push(0);
            message.extend_from_slice(&oid.to_be_bytes());
            message.extend_from_slice(&typmod.to_be_bytes());
        }
        self.announced = Some(columns);
        Ok(message)
    }

    fn message(&self, change: &Change<'_>) -> Result<Vec<u8>, ConnectorError> {
        let mut message = vec![match change.op {
            ChangeOp::Insert => b'I',
            ChangeOp::Update => b'U',
            ChangeOp::Delete | ChangeOp::Truncate => b'D',
        }];
        message.extend_from_slice(&self.oid.to_be_bytes());
        if let Some(old) = &change.old {
            message.push(b'K');
            self.row(old, &mut message)?;
        }
        if let Some(new) = &change.new {
            message.push(b'N');
            self.row(new, &mut message)?;
        }
        if change.old.is_none() && change.new.is_none() {
            let message = "the log tells nothing of a row that was changed: the table has no replica identity";
            return Err(ConnectorError::config("replica_identity", message)
                .with_hint("give the table a primary key, or run at the source: `ALTER TABLE … REPLICA IDENTITY FULL`"));
        }
        Ok(message)
    }

    /// A row in the order that was announced. Columns that are not told are NULL.
    fn row(&self, columns: &[Column<'_>], message: &mut Vec<u8>) -> Result<(), ConnectorError> {
        let announced = self.announced.as_deref().unwrap_or_default();
        message.extend_from_slice(&count(announced.len())?.to_be_bytes());
        for Announced { name, .. } in announced {
            match columns.iter().find(|column| column.name == *name).map(|column| &column.value) {
                None | Some(Value::Null) => message.push(b'n'),
                Some(Value::Unchanged) => message.push(b'u'),
                Some(Value::Text(text)) => {
                    message.push(b't');
                    let length = u32::try_from(text.len()).map_err(|_| malformed("a value is larger than 4 GiB"))?;
                    message.extend_from_slice(&length.to_be_bytes());
                    message.extend_from_slice(text.as_bytes());
                }
            }
        }
        Ok(())
    }
}

fn count(columns: usize) -> Result<u16, ConnectorError> {
    u16::try_from(columns).map_err(|_| malformed("a row has more columns than a table can have"))
}

fn type_named(catalog: &mut Connection, column: &str, kind: &str) -> Result<u32, ConnectorError> {
    let rows = catalog.query_params("SELECT to_regtype($1)::oid", &[kind.into()])?;
    let found = rows.first().map(|row| row.parse(0)).transpose()?.flatten();
    found.ok_or_else(|| {
        ConnectorError::schema("schema_changed", format!("column `{column}` had the type `{kind}`, which does not exist any more"))
            .with_hint("load the stream anew")
    })
}
