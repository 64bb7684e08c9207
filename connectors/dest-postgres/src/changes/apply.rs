//! A window of changes, merged into the table by key.
//!
//! Most windows are applied as sets: the last change of each key is what counts. Where a change leaves values out, or moves a row to
//! another key, what counts is spread over several changes, and they are applied one after the other, as they were made, by one
//! statement that the server runs. So is a window whose set meets a unique index on its way that no single change meets.

use super::target::{DELETED_AT, delete};
use crate::config::Deletes;
use crate::identity;
use crate::merge::{self, Insertion};
use crate::names::Table;
use crate::publish::from_text;
use crate::session::Session;
use crate::tolerant;
use crate::transfer::Transfer;
use postgres_wire::{quote_ident, quote_literal};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::changes::{BEFORE_PREFIX, COMMIT_TIME, LSN, OP, SEQ, UNCHANGED};

/// The error of a change whose row is not there, as our statement raises it.
const MISSING_ROW: &str = "RB001";

/// The error of a row whose unique key another one has.
const UNIQUE_VIOLATION: &str = "23505";

/// A column of the key: its quoted name, its value as the target has it; its old value in a change, as it is staged and as the target has it.
struct KeyPart {
    name: String,
    value: String,
    staged: String,
    old: String,
}

struct Apply<'a> {
    insertion: Insertion<'a>,
    key: Vec<KeyPart>,
    /// Quoted names beside the key, and as SQL's texts.
    rest: Vec<(String, String)>,
    deletes: Deletes,
}

/// Applies what is staged.
pub(crate) fn apply(session: &mut Session, transfer: &Transfer<'_>, deletes: Deletes) -> Result<(), ConnectorError> {
    let own = super::own(transfer.columns);
    let transfer = Transfer { columns: &own, ..*transfer };
    let insertion = Insertion::plan(session, &transfer, false)?;
    // Whatever the source says of its columns: staging takes NULLs, and a delete without a key would go past every row.
    merge::refuse_null_keys(session, &Transfer { columns: &super::all_nullable(&own), ..transfer })?;
    let mut parts = Vec::with_capacity(transfer.key.len());
    for name in transfer.key {
        let quoted = quote_ident(name)?;
        let before = quote_ident(&format!("{BEFORE_PREFIX}{name}"))?;
        let column = own.iter().find(|column| column.name == *name);
        // The log tells the old key where it is another one, all of it or nothing.
        let sql = column.map_or("text", |column| column.staged.as_str());
        let staged = format!("coalesce({before}::{sql}, {quoted})");
        let in_target = |value: &str| match column.filter(|column| column.staged != column.published) {
            Some(column) => from_text(value, &column.published),
            None => value.to_owned(),
        };
        parts.push(KeyPart { value: in_target(&quoted), old: in_target(&staged), name: quoted, staged });
    }
    let mut rest = Vec::new();
    for column in insertion.columns.iter().filter(|name| !transfer.key.contains(name)) {
        rest.push((quote_ident(column)?, quote_literal(column)?));
    }
    let apply = Apply { insertion, key: parts, rest, deletes };
    apply.run(session)?;
    if apply.insertion.numbered {
        identity::advance(session, transfer.target, &apply.insertion.staging)?;
    }
    Ok(())
}

/// The table was emptied at the source.
pub(crate) fn empty(session: &mut Session, target: &Table, deletes: Deletes) -> Result<(), ConnectorError> {
    // Readers of the old rows must not be disturbed, as they would be by a TRUNCATE.
    delete(session, target, deletes, "true")
}

/// The condition that two lists of values are not the same, bit by bit: a key may be spelled anew and stay equal.
fn differ(left: &str, right: &str) -> String {
    format!("pg_catalog.record_image_ne(ROW({left}), ROW({right}))")
}

impl Apply<'_> {
    fn target(&self) -> &Table {
        self.insertion.transfer.target
    }

    fn run(&self, session: &mut Session) -> Result<(), ConnectorError> {
        if !self.is_plain(session)? {
            return self.one_by_one(session);
        }
        match tolerant::attempt(session, |session| self.as_set(session))? {
            Ok(()) => Ok(()),
            Err(error) if error.code == UNIQUE_VIOLATION => self.one_by_one(session),
            Err(error) => Err(error),
        }
    }

    /// The names of the key, each with what is before and after it.
    fn each(&self, one: impl Fn(&KeyPart) -> String, between: &str) -> String {
        self.key.iter().map(one).collect::<Vec<_>>().join(between)
    }

    /// Whether no change leaves values out or moves a row, and none comes before the delete of a row that is kept: it would be seen in it.
    fn is_plain(&self, session: &mut Session) -> Result<bool, ConnectorError> {
        let (op, unchanged) = (quote_ident(OP)?, quote_ident(UNCHANGED)?);
        let (old, new) = (self.each(|part| part.staged.clone(), ", "), self.each(|part| part.name.clone(), ", "));
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} WHERE {unchanged} IS NOT NULL OR ({op} = 'update' AND {}))",
            self.insertion.staging,
            differ(&old, &new)
        );
        let mut is_told = |sql: &str| Ok::<_, ConnectorError>(session.query(sql)?.first().and_then(|row| row.get(0)) == Some("t"));
        if is_told(&sql)? {
            return Ok(false);
        }
        if self.deletes == Deletes::Hard {
            return Ok(true);
        }
        // As texts, two spellings of one key would be two.
        let keys = self.each(|part| part.value.clone(), ", ");
        Ok(!is_told(&format!(
            "SELECT EXISTS (SELECT FROM {} GROUP BY {keys} HAVING count(*) > 1 AND bool_or({op} = 'delete'))",
            self.insertion.staging
        ))?)
    }

    fn as_set(&self, session: &mut Session) -> Result<(), ConnectorError> {
        let (op, time) = (quote_ident(OP)?, quote_ident(COMMIT_TIME)?);
        let Insertion { into, rows: target, from, names, staging, merged, .. } = &self.insertion;
        let keys = self.each(|part| part.name.clone(), ", ");
        // Rows of one transaction may lie anywhere in staging: their own place counts, not where the server has put them.
        let (lsn, seq) = (quote_ident(LSN)?, quote_ident(SEQ)?);
        let last = format!(
            "(SELECT DISTINCT ON ({keys}) {from}, {op}, {time} FROM {staging} ORDER BY {keys}, {lsn} DESC, {seq} DESC) AS _rb_last"
        );
        let same = self.each(|KeyPart { name, .. }| format!("_rb.{name} = _rb_last.{name}"), " AND ");
        session.run(&match self.deletes {
            Deletes::Hard => format!("DELETE FROM {target} AS _rb USING {last} WHERE _rb_last.{op} = 'delete' AND {same}"),
            Deletes::Soft => format!(
                "UPDATE {target} AS _rb SET {mark} = coalesce(_rb_last.{time}, pg_catalog.clock_timestamp()) FROM {last}
                 WHERE _rb_last.{op} = 'delete' AND _rb.{mark} IS NULL AND {same}",
                mark = quote_ident(DELETED_AT)?
            ),
        })?;
        let action = merged.as_ref().map_or("DO NOTHING", |(_, action)| action.as_str());
        session.run(&format!(
            "INSERT INTO {into} SELECT {names} FROM {last} WHERE _rb_last.{op} <> 'delete' ON CONFLICT ({keys}) {action}"
        ))
    }

    fn one_by_one(&self, session: &mut Session) -> Result<(), ConnectorError> {
        let body = self.body()?;
        session.run(&format!("DO {}", quote_literal(&body)?)).map_err(|error| self.explain(error))
    }

    /// The server's own program for a window. Its one variable has a name that no column may have.
    fn body(&self) -> Result<String, ConnectorError> {
        let (op, time, unchanged) = (quote_ident(OP)?, quote_ident(COMMIT_TIME)?, quote_ident(UNCHANGED)?);
        let Insertion { into, rows: target, from, staging, merged, .. } = &self.insertion;
        let old = |index: usize| format!("_rb_old_{index}");
        let olds: Vec<String> = self.key.iter().enumerate().map(|(i, part)| format!("{} AS {}", part.old, old(i))).collect();
        let same: Vec<String> =
            self.key.iter().enumerate().map(|(i, part)| format!("_rb.{} = _rb_row.{}", part.name, old(i))).collect();
        let same = same.join(" AND ");
        let before: Vec<String> = (0..self.key.len()).map(|i| format!("_rb_row.{}", old(i))).collect();
        let moved = differ(&before.join(", "), &self.each(|part| format!("_rb_row.{}", part.name), ", "));
        let value = |name: &String| Ok(format!("_rb_row.{}", quote_ident(name)?));
        let values: Vec<String> = self.insertion.columns.iter().map(value).collect::<Result<_, ConnectorError>>()?;
        let action = merged.as_ref().map_or("DO NOTHING", |(_, action)| action.as_str());
        let keys = self.each(|part| part.name.clone(), ", ");
        let insert = format!("INSERT INTO {into} VALUES ({}) ON CONFLICT ({keys}) {action};", values.join(", "));
        let mut set: Vec<String> = self
            .rest
            .iter()
            .map(|(name, text)| {
                format!("{name} = CASE WHEN {text} = ANY (_rb_row.{unchanged}) THEN _rb.{name} ELSE _rb_row.{name} END")
            })
            .collect();
        let (removal, room) = match self.deletes {
            Deletes::Hard => (format!("DELETE FROM {target} AS _rb WHERE {same};"), String::new()),
            Deletes::Soft => {
                let mark = quote_ident(DELETED_AT)?;
                set.push(format!("{mark} = NULL"));
                let removal = format!(
                    "UPDATE {target} AS _rb SET {mark} = coalesce(_rb_row.{time}, pg_catalog.clock_timestamp())
                     WHERE _rb.{mark} IS NULL AND {same};"
                );
                // A deleted row is kept until another one takes its key. One whose key is spelled anew takes its own.
                let there = self.each(|part| format!("_rb.{0} = _rb_row.{0}", part.name), " AND ");
                let room = format!("DELETE FROM {target} AS _rb WHERE _rb.{mark} IS NOT NULL AND {there} AND NOT ({same});");
                (removal, room)
            }
        };
        let moving: Vec<String> = self.key.iter().map(|part| format!("{0} = _rb_row.{0}", part.name)).chain(set.clone()).collect();
        let stay = if set.is_empty() {
            format!("PERFORM FROM {target} AS _rb WHERE {same};")
        } else {
            format!("UPDATE {target} AS _rb SET {} WHERE {same};", set.join(", "))
        };
        Ok(format!(
            "#variable_conflict use_column
             DECLARE
                 _rb_row record;
             BEGIN
                 FOR _rb_row IN SELECT {from}, {olds}, {op}, {time}, coalesce({unchanged}, '{{}}') AS {unchanged}
                         FROM {staging} ORDER BY {lsn}, {seq} LOOP
                     IF _rb_row.{op} = 'delete' THEN
                         {removal}
                     ELSIF _rb_row.{op} = 'insert' THEN
                         {insert}
                     ELSE
                         IF {moved} THEN
                             {room}
                             UPDATE {target} AS _rb SET {moving} WHERE {same};
                         ELSE
                             {stay}
                         END IF;
                         IF NOT FOUND THEN
                             IF pg_catalog.cardinality(_rb_row.{unchanged}) > 0 THEN
                                 RAISE EXCEPTION USING ERRCODE = '{MISSING_ROW}', MESSAGE = 'a changed row is not there';
                             END IF;
                             {insert}
                         END IF;
                     END IF;
                 END LOOP;
             END",
            lsn = quote_ident(LSN)?,
            seq = quote_ident(SEQ)?,
            olds = olds.join(", "),
            moving = moving.join(", "),
        ))
    }

    fn explain(&self, error: ConnectorError) -> ConnectorError {
        if error.code != MISSING_ROW {
            return error;
        }
        let message = format!("`{}` lacks a row that was changed, and the change does not tell all of it", self.target());
        ConnectorError::data("missing_row", message).with_hint(
            "somebody else has deleted rows at the destination: load the stream from the start with `rapidbyte state reset`",
        )
    }
}
