//! Statements that may meet rows which the server refuses: tried whole, and where that fails in halves, until only the bad rows
//! are left out. Each try stands behind a savepoint, so that a failed one leaves nothing.

use crate::config::LoadMethod;
use crate::encode::{EncodeFault, Rows};
use crate::evolution::Converted;
use crate::fault;
use crate::feed::{Feed, SendFault};
use crate::layout::Layout;
use crate::merge::{Inserted, Insertion};
use crate::names::Table;
use crate::rejects::{Rejects, of_a_row};
use crate::session::Session;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field};
use postgres_wire::quote_ident;
use rapidbyte_sdk::letter::{RowText, partial_json};
use rapidbyte_sdk::{ConnectorError, WritePerf};
use std::cell::OnceCell;
use std::ops::Range;
use std::time::Instant;

const SAVE: &str = "SAVEPOINT _rb_rows";
const KEEP: &str = "RELEASE SAVEPOINT _rb_rows";
const UNDO: &str = "ROLLBACK TO SAVEPOINT _rb_rows; RELEASE SAVEPOINT _rb_rows";

/// Undoes a try that failed for its rows' sake and gives why; any other error ends the call.
fn settle(session: &mut Session, tried: Result<(), ConnectorError>) -> Result<Result<(), ConnectorError>, ConnectorError> {
    match tried {
        Ok(()) => Ok(Ok(())),
        Err(error) if of_a_row(&error) => {
            session.run(UNDO)?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// Runs `act` behind a savepoint; an error of a row's own is given back with nothing of the act left.
pub(crate) fn attempt<T>(
    session: &mut Session,
    act: impl FnOnce(&mut Session) -> Result<T, ConnectorError>,
) -> Result<Result<T, ConnectorError>, ConnectorError> {
    session.run(SAVE)?;
    match act(session) {
        Ok(value) => {
            session.run(KEEP)?;
            Ok(Ok(value))
        }
        Err(error) => Ok(Err(settle(session, Err(error))?.err().unwrap_or_else(|| {
            // `settle` gives an error back for an error.
            ConnectorError::internal("savepoint", "a failed try has no error")
        }))),
    }
}

// ---- into staging ----

/// How rows reach the staging table.
pub(crate) struct Way<'w> {
    pub(crate) method: LoadMethod,
    pub(crate) staging: &'w Table,
    pub(crate) layout: &'w Layout,
    pub(crate) buffer: &'w mut Vec<u8>,
    /// A value that can't be carried, in words.
    pub(crate) words: &'w dyn Fn(&EncodeFault) -> ConnectorError,
}

/// Hands a batch on; gives the rows that went through. Those that can't be encoded, or that the server refuses, fall out.
pub(crate) fn feed_batch(
    session: &mut Session,
    way: Way<'_>,
    batch: &RecordBatch,
    rejects: &mut Rejects,
    perf: &mut WritePerf,
) -> Result<u64, ConnectorError> {
    let Way { method, staging, layout, buffer, words } = way;
    let texts = OnceCell::new();
    let record = |row: usize| -> Result<String, ConnectorError> {
        if texts.get().is_none() {
            let _ = texts.set(RowText::new(batch)?);
        }
        Ok(texts.get().map_or_else(String::new, |texts| texts.json(row)))
    };
    // The rows between those that can't be encoded, in their order: the first lies on top.
    let mut todo: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    let started = Instant::now();
    let Converted { batch: made, mut misfits } = layout.conversion.convert(batch).map_err(|fault| words(&fault))?;
    let mut rows = Rows::new(&made, &layout.codecs).map_err(|fault| words(&fault))?;
    let mut scratch = Vec::new();
    while let Some((row, written)) = rows.one(&mut scratch) {
        scratch.clear();
        match misfits.remove(&row).map_or(written, Err) {
            Ok(()) => {}
            Err(fault @ EncodeFault::Cell { .. }) => {
                rejects.add(&words(&fault), || record(row))?;
                todo.push(from..row);
                from = row + 1;
            }
            Err(fault @ EncodeFault::Column(_)) => return Err(words(&fault)),
        }
    }
    perf.decode_ns += nanos(started);
    todo.push(from..batch.num_rows());
    todo.reverse();
    let mut kept = 0;
    while let Some(range) = todo.pop() {
        if range.is_empty() {
            continue;
        }
        let piece = made.slice(range.start, range.len());
        let fed = attempt(session, |session| {
            let mut feed = Feed::start(session, method, staging, layout, buffer, perf).map_err(fault::from_server)?;
            feed.converted(&piece, layout, perf).map_err(|failed| match failed {
                SendFault::Encode(fault) => words(&fault),
                SendFault::Server(error) => fault::from_server(error),
            })?;
            feed.finish(perf).map_err(fault::from_server)
        })?;
        match fed {
            Ok(taken) if taken == range.len() as u64 => kept += taken,
            Ok(taken) => {
                let message = format!("{} rows were sent and the server took {taken}", range.len());
                return Err(ConnectorError::internal("copy_count", message));
            }
            Err(error) if range.len() == 1 => rejects.add(&error, || record(range.start))?,
            Err(_) => todo.extend(halves(&range)),
        }
    }
    Ok(kept)
}

/// The second half lies deeper: rows are tried in their order.
fn halves(range: &Range<usize>) -> [Range<usize>; 2] {
    let middle = range.start + range.len() / 2;
    [middle..range.end, range.start..middle]
}

fn nanos(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

// ---- from staging into the target ----

/// A row of staging that the target refuses.
struct Fallen {
    ctid: String,
    error: ConnectorError,
}

/// The code of a row whose key in another table is missing: a row of the same load may bring it.
const FOREIGN_KEY: &str = "23503";

/// Puts the rows of staging into the target.
pub(crate) fn insert(session: &mut Session, insertion: &Insertion<'_>, rejects: &mut Rejects) -> Result<Inserted, ConnectorError> {
    let staging = &insertion.staging;
    let mut fallen = Vec::new();
    let mut whole = Vec::new();
    for name in &insertion.nullable_key {
        let quoted = quote_ident(name)?;
        for row in session.query(&format!("SELECT ctid FROM {staging} WHERE {quoted} IS NULL ORDER BY ctid"))? {
            fallen.push(Fallen { ctid: row.text(0)?.to_owned(), error: insertion.null_key(name) });
        }
        whole.push(format!("{quoted} IS NOT NULL"));
    }
    // A row without several of its key's columns is one row.
    fallen.sort_by(|a: &Fallen, b| a.ctid.cmp(&b.ctid));
    fallen.dedup_by(|a, b| a.ctid == b.ctid);
    let mut work = Work { insertion, whole: whole.join(" AND "), fallen, rows: 0 };
    if work.try_rows(session, "")?.is_err() {
        work.by_blocks(session)?;
        work.again(session)?;
    }
    let Work { fallen, rows, .. } = work;
    report(session, insertion, &fallen, rejects)?;
    Ok(Inserted { rows, fallen: fallen.len() as u64 })
}

struct Work<'a> {
    insertion: &'a Insertion<'a>,
    /// What every row must satisfy; empty = nothing.
    whole: String,
    fallen: Vec<Fallen>,
    /// Rows added or changed.
    rows: u64,
}

impl Work<'_> {
    /// One try, of the rows that satisfy `which`.
    fn try_rows(&mut self, session: &mut Session, which: &str) -> Result<Result<(), ConnectorError>, ConnectorError> {
        let both: Vec<&str> = [self.whole.as_str(), which].into_iter().filter(|part| !part.is_empty()).collect();
        let clause = if both.is_empty() { String::new() } else { format!(" WHERE {}", both.join(" AND ")) };
        let insertion = self.insertion;
        let tried = attempt(session, |session| {
            let rows = session.execute(&insertion.sql(&clause), &[]).map_err(|error| insertion.named(error))?;
            if !insertion.checks.is_empty() {
                session.run(&insertion.checks)?;
            }
            Ok(rows)
        })?;
        Ok(tried.map(|rows| self.rows += rows))
    }

    /// Halves the blocks of staging; ranges of row places are read without a look at the rest.
    fn by_blocks(&mut self, session: &mut Session) -> Result<(), ConnectorError> {
        let sql = format!(
            "SELECT pg_catalog.pg_relation_size('{}') / pg_catalog.current_setting('block_size')::bigint",
            self.insertion.staging.replace('\'', "''")
        );
        let blocks = session.query(&sql)?.first().map_or(Ok(0), |row| row.text(0).map(|text| text.parse().unwrap_or(0)))?;
        let mut todo = std::iter::once(0..blocks).collect::<Vec<_>>();
        while let Some(range) = todo.pop() {
            if range.is_empty() {
                continue;
            }
            let which = format!("ctid >= '({},0)'::tid AND ctid < '({},0)'::tid", range.start, range.end);
            if self.try_rows(session, &which)?.is_ok() {
                continue;
            }
            if range.len() == 1 {
                self.by_rows(session, &which)?;
            } else {
                todo.extend(halves(&range));
            }
        }
        Ok(())
    }

    fn by_rows(&mut self, session: &mut Session, which: &str) -> Result<(), ConnectorError> {
        let whole = if self.whole.is_empty() { String::new() } else { format!(" AND {}", self.whole) };
        let rows = session.query(&format!("SELECT ctid FROM {} WHERE {which}{whole} ORDER BY ctid", self.insertion.staging))?;
        let places: Vec<String> = rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect::<Result<_, ConnectorError>>()?;
        let mut todo = std::iter::once(0..places.len()).collect::<Vec<_>>();
        while let Some(range) = todo.pop() {
            if range.is_empty() {
                continue;
            }
            let Err(error) = self.try_rows(session, &at(&places[range.clone()]))? else { continue };
            if range.len() == 1 {
                self.fallen.push(Fallen { ctid: places[range.start].clone(), error });
            } else {
                todo.extend(halves(&range));
            }
        }
        Ok(())
    }

    /// Rows that lack a key which another row of the load has brought meanwhile go in after all.
    fn again(&mut self, session: &mut Session) -> Result<(), ConnectorError> {
        loop {
            let waiting: Vec<String> =
                self.fallen.iter().filter(|row| row.error.code == FOREIGN_KEY).map(|row| row.ctid.clone()).collect();
            let mut rescued = Vec::new();
            for ctid in self.insertion.newest_of_their_key(session, waiting)? {
                if self.try_rows(session, &at(std::slice::from_ref(&ctid)))?.is_ok() {
                    rescued.push(ctid);
                }
            }
            if rescued.is_empty() {
                return Ok(());
            }
            self.fallen.retain(|row| !rescued.contains(&row.ctid));
        }
    }
}

/// The rows at these places.
pub(crate) fn at(places: &[String]) -> String {
    let quoted: Vec<String> = places.iter().map(|place| format!("\"{place}\"")).collect();
    format!("ctid = ANY ('{{{}}}'::tid[])", quoted.join(","))
}

/// Rows whose texts are asked for at once.
const TEXTS: usize = 64;

/// Gives fallen rows up, each with its values as the server writes them.
fn report(
    session: &mut Session,
    insertion: &Insertion<'_>,
    fallen: &[Fallen],
    rejects: &mut Rejects,
) -> Result<(), ConnectorError> {
    let (staging, columns) = (&insertion.staging, insertion.transfer.columns);
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| {
            let mut metadata: std::collections::HashMap<String, String> = [
                ("rapidbyte.pg.type".to_owned(), column.published.clone()),
                ("rapidbyte.pg.encoding".to_owned(), "text".to_owned()),
            ]
            .into();
            if let Some(place) = column.key {
                metadata.insert("rapidbyte.pg.pk_ord".into(), place.to_string());
                metadata.extend(column.key_len.map(|len| ("rapidbyte.pg.pk_len".to_owned(), len.to_string())));
            }
            if column.generated {
                metadata.insert("rapidbyte.pg.generated".into(), "stored".into());
            }
            Field::new(&column.name, DataType::Utf8, !column.not_null).with_metadata(metadata)
        })
        .collect();
    let texts: Vec<String> =
        columns.iter().map(|column| Ok(format!("{}::text", quote_ident(&column.name)?))).collect::<Result<_, ConnectorError>>()?;
    for some in fallen.chunks(TEXTS) {
        if !rejects.keeps() {
            some.iter().try_for_each(|row| rejects.add(&row.error, || Ok(String::new())))?;
            continue;
        }
        let places: Vec<String> = some.iter().map(|row| row.ctid.clone()).collect();
        let list = std::iter::once("ctid::text").chain(texts.iter().map(String::as_str)).collect::<Vec<_>>().join(", ");
        let found = session.query(&format!("SELECT {list} FROM {staging} WHERE {}", at(&places)))?;
        for row in some {
            let values = found.iter().find(|values| values.get(0) == Some(row.ctid.as_str()));
            rejects.add(&row.error, || {
                let values = values.ok_or_else(|| ConnectorError::internal("lost_row", "a staged row is gone"))?;
                Ok(partial_json(fields.iter(), |index| Ok(values.get(index + 1).map(str::to_owned))))
            })?;
        }
    }
    Ok(())
}
