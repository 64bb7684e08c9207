//! Rows of staging into the target: added, or merged by key.

use crate::catalog::{self, Relation};
use crate::changes;
use crate::evolution;
use crate::identity;
use crate::ledger::{self, Columns, LoadColumn};
use crate::names::Table;
use crate::publish::{check_kind, from_text, unknown_object};
use crate::rejects::Rejects;
use crate::session::Session;
use crate::tolerant;
use crate::transfer::Transfer;
use postgres_wire::quote_ident;
use rapidbyte_sdk::{ConnectorError, NewColumnPolicy, StreamContext, SyncMode, WriteMode};

/// The columns by which rows are merged: those of the pipeline, else the source's own key. Empty where nothing is merged.
pub(crate) fn key_of(context: &StreamContext, columns: &Columns) -> Result<Vec<String>, ConnectorError> {
    if context.write_mode != WriteMode::Upsert {
        return Ok(Vec::new());
    }
    if let Some(missing) = context.primary_key.iter().find(|name| columns.iter().all(|column| column.name != **name)) {
        return Err(ConnectorError::schema(
            "missing_key_column",
            format!("stream `{}` has no column `{missing}`, which its `primary_key` names", context.name),
        )
        .with_hint("name columns that are read; `columns:` and transforms may have left it out"));
    }
    if !context.primary_key.is_empty() {
        return Ok(context.primary_key.clone());
    }
    let own = source_key(columns);
    if own.is_empty() {
        let why = match columns.iter().any(|column| column.key.is_some()) {
            true => "of the source's own not all columns are read",
            false => "the source names none",
        };
        return Err(ConnectorError::config(
            "missing_primary_key",
            format!("stream `{}`: `write_mode: upsert` needs a key, and {why}", context.name),
        )
        .with_hint("set `primary_key` on the stream's `destination`, or on the pipeline's"));
    }
    Ok(own)
}

/// The source's own key, in its order. One of which a part is not read is none: rows that differ in that part alone would be one.
pub(crate) fn source_key(columns: &Columns) -> Vec<String> {
    let mut own: Vec<(u32, &LoadColumn)> = columns.iter().filter_map(|column| Some((column.key?, column))).collect();
    own.sort_by_key(|(place, _)| *place);
    let whole = |((place, column), expected): (&(u32, &LoadColumn), u32)| {
        *place == expected && column.key_len.is_none_or(|len| usize::try_from(len) == Ok(own.len()))
    };
    if !own.iter().zip(1..).all(whole) {
        return Vec::new();
    }
    own.into_iter().map(|(_, column)| column.name.clone()).collect()
}

/// Two writers of one table make or change it one after the other.
pub(crate) fn lock_target(session: &mut Session, target: &Table) -> Result<(), ConnectorError> {
    session.query_params(
        "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended($1, 0))",
        &[format!("rapidbyte:{}", target.quoted()?).into()],
    )?;
    Ok(())
}

/// Makes the target, or looks whether the load's rows can go into the one that is there, and brings its columns up to date.
pub(crate) fn ensure_target(session: &mut Session, transfer: &Transfer<'_>) -> Result<(), ConnectorError> {
    let Transfer { columns, target, key, .. } = *transfer;
    lock_target(session, target)?;
    match catalog::relation(session, target)? {
        Some(relation) => {
            refuse_unlogged(target, &relation)?;
            fit(session, transfer, &relation)
        }
        None => create(session, columns, target, key),
    }
}

/// An empty table with the load's columns, and the key as its primary key.
pub(crate) fn create(session: &mut Session, columns: &Columns, target: &Table, key: &[String]) -> Result<(), ConnectorError> {
    ledger::schema::ensure_schema(session, &target.schema)?;
    let mut parts = Vec::with_capacity(columns.len() + 1);
    for column in columns {
        let mut part = format!("{} {}", quote_ident(&column.name)?, column.published);
        if let Some(clause) = identity::clause(column, key, !key.is_empty()) {
            part.push(' ');
            part.push_str(clause);
        } else if column.not_null {
            part.push_str(" NOT NULL");
        }
        parts.push(part);
    }
    if !key.is_empty() {
        parts.push(primary_key(key)?);
    }
    session.run(&format!("CREATE TABLE {} ({})", target.quoted()?, parts.join(",\n")))
}

/// Brings a table that is there and the load together.
fn fit(session: &mut Session, transfer: &Transfer<'_>, relation: &Relation) -> Result<(), ConnectorError> {
    check_kind(transfer.target, relation)?;
    evolution::evolve(session, transfer, relation)?;
    match transfer.key.is_empty() {
        true => Ok(()),
        false => require_unique(session, transfer.target, transfer.key),
    }
}

/// Receipts outlive a crash of the server, the rows of an unlogged table do not: a load that goes on from its receipt would never
/// bring them again.
pub(crate) fn refuse_unlogged(target: &Table, relation: &Relation) -> Result<(), ConnectorError> {
    if !relation.unlogged {
        return Ok(());
    }
    Err(ConnectorError::config(
        "unlogged_table",
        format!(
            "`{target}` is unlogged: a crash of the server empties it, and an incremental stream would not bring the rows again"
        ),
    )
    .with_hint(format!("as its owner run: `ALTER TABLE {} SET LOGGED`", target.quoted()?)))
}

/// Refuses a target whose key no index keeps unique, with the statement that makes one.
pub(crate) fn require_unique(session: &mut Session, target: &Table, key: &[String]) -> Result<(), ConnectorError> {
    let names = serde_json::to_string(key).map_err(|_| ConnectorError::internal("json", "a key can't be written as JSON"))?;
    let rows = session.query_params(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index AS i
             WHERE i.indrelid = $1::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND i.indpred IS NULL AND i.indexprs IS NULL
                 AND (SELECT pg_catalog.array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\")
                      FROM pg_catalog.pg_attribute AS a
                      WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
                   = (SELECT pg_catalog.array_agg(k.name ORDER BY k.name COLLATE \"C\")
                      FROM pg_catalog.json_array_elements_text($2::json) AS k(name)))",
        &[target.quoted()?.into(), names.into()],
    )?;
    if rows.first().and_then(|row| row.get(0)) == Some("t") {
        return Ok(());
    }
    let key_list = list(key)?;
    Err(ConnectorError::schema(
        "missing_unique_index",
        format!("`{target}` has no unique index on ({key_list}), which `write_mode: upsert` merges by"),
    )
    .with_hint(format!("as its owner run: `CREATE UNIQUE INDEX ON {} ({key_list})`", target.quoted()?)))
}

/// The constraint of a table that is made.
pub(crate) fn primary_key(key: &[String]) -> Result<String, ConnectorError> {
    Ok(format!("PRIMARY KEY ({})", list(key)?))
}

pub(crate) fn list(names: &[String]) -> Result<String, ConnectorError> {
    let quoted: Vec<String> = names.iter().map(|name| quote_ident(name)).collect::<Result<_, _>>()?;
    Ok(quoted.join(", "))
}

/// The column of staging that counts rows as they come; later ones have larger numbers.
pub(crate) const ARRIVAL: &str = "_rb_row";

/// The expression that orders rows of staging as they came. Tables of very many columns, and those of loads that an older version began, don't
/// count them: their places are as near as one can get.
fn arrival(session: &mut Session, staging: &str) -> Result<&'static str, ConnectorError> {
    let rows = session.query_params(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass($1) AND attname = $2 AND NOT attisdropped)",
        &[staging.to_owned().into(), ARRIVAL.into()],
    )?;
    Ok(if rows.first().and_then(|row| row.get(0)) == Some("t") { ARRIVAL } else { "ctid" })
}

/// How the rows of staging come into a target that is there.
pub(crate) struct Insertion<'a> {
    pub(crate) transfer: Transfer<'a>,
    pub(crate) into: String,
    /// The target's own rows.
    pub(crate) rows: String,
    pub(crate) from: String,
    pub(crate) names: String,
    pub(crate) staging: String,
    /// What orders the rows of staging as they came.
    pub(crate) arrival: &'static str,
    /// The columns that are written.
    pub(crate) columns: Vec<String>,
    /// The quoted key, and what is done with a row whose key is there.
    pub(crate) merged: Option<(String, String)>,
    /// It has identity columns.
    pub(crate) numbered: bool,
    /// The statement that lets its deferred constraints be checked at once; empty if it has none.
    pub(crate) checks: String,
    /// Columns of the key that may be empty in staging.
    pub(crate) nullable_key: Vec<String>,
}

impl<'a> Insertion<'a> {
    /// Looks at the target and brings its columns up to date.
    pub(crate) fn plan(session: &mut Session, transfer: &Transfer<'a>, skip_identical: bool) -> Result<Self, ConnectorError> {
        let Transfer { context, load, columns, target, key } = *transfer;
        let Some(relation) = catalog::relation(session, target)? else {
            return Err(ConnectorError::schema("missing_table", format!("`{target}` is gone"))
                .with_hint("run again: the next run makes it; rows of earlier runs are gone with it"));
        };
        fit(session, transfer, &relation)?;
        let (mut into, mut from) = (Vec::new(), Vec::new());
        for column in columns {
            let left_out = match relation.columns.iter().find(|known| known.name == column.name) {
                Some(known) => known.generated,
                None => context.policies.new_column == NewColumnPolicy::Ignore && !changes::is_own(&column.name),
            };
            if left_out {
                continue;
            }
            let name = quote_ident(&column.name)?;
            from.push(if column.staged == column.published {
                name.clone()
            } else {
                format!("{} AS {name}", from_text(&name, &column.published))
            });
            into.push((column.name.as_str(), name));
        }
        let names: Vec<&str> = into.iter().map(|(_, name)| name.as_str()).collect();
        let columns_of = if names.is_empty() { String::new() } else { format!(" ({}) OVERRIDING SYSTEM VALUE", names.join(", ")) };
        let merged = match key.is_empty() {
            true => None,
            false => {
                let beside: Vec<&str> =
                    into.iter().map(|(name, _)| *name).filter(|name| key.iter().all(|part| part != name)).collect();
                identity::refuse_updates(target, &relation, &beside)?;
                let marks = relation.columns.iter().any(|known| known.name == changes::DELETED_AT);
                let revived = (marks && context.sync_mode == SyncMode::Cdc).then_some(changes::DELETED_AT);
                let spelled = |name: &String| relation.columns.iter().any(|known| known.name == *name && known.has_spellings);
                let fixed: Vec<&str> = key.iter().filter(|name| !spelled(name)).map(String::as_str).collect();
                // Beside the key there may be nothing that could have changed.
                let skip_identical = skip_identical || beside.is_empty();
                Some((list(key)?, conflict_action(&into, &fixed, skip_identical, revived)))
            }
        };
        let nullable = |name: &&String| !columns.iter().any(|column| column.name == **name && column.not_null);
        Ok(Self {
            transfer: *transfer,
            into: format!("{}{}{columns_of}", target.quoted()?, if merged.is_some() { " AS _rb" } else { "" }),
            rows: target.own_rows(relation.kind)?,
            from: from.join(", "),
            names: names.join(", "),
            staging: load.staging.quoted()?,
            arrival: if key.is_empty() { "ctid" } else { arrival(session, &load.staging.quoted()?)? },
            columns: into.iter().map(|(name, _)| (*name).to_owned()).collect(),
            numbered: relation.columns.iter().any(|known| known.identity.is_some()),
            checks: own_checks(session, target)?,
            merged,
            nullable_key: key.iter().filter(nullable).cloned().collect(),
        })
    }

    /// Puts the rows of staging into the target.
    pub(crate) fn run(&self, session: &mut Session, rejects: &mut Rejects) -> Result<Inserted, ConnectorError> {
        let inserted = if rejects.tolerant() {
            tolerant::insert(session, self, rejects)?
        } else {
            refuse_null_keys(session, &self.transfer)?;
            let rows = session.execute(&self.sql(""), &[]).map_err(|error| self.named(error))?;
            Inserted { rows, fallen: 0 }
        };
        if self.numbered {
            identity::advance(session, self.transfer.target, &self.staging)?;
        }
        Ok(inserted)
    }

    /// The statement for the rows of a clause, which is empty or begins with ` WHERE`.
    pub(crate) fn sql(&self, clause: &str) -> String {
        let Self { into, from, names, staging, arrival, .. } = self;
        match &self.merged {
            None => format!("INSERT INTO {into} SELECT {from} FROM {staging}{clause}"),
            // One statement must not meet a key twice: the last one wins.
            Some((key, action)) => format!(
                "INSERT INTO {into}
                 SELECT {names} FROM (SELECT DISTINCT ON ({key}) {from} FROM {staging}{clause} ORDER BY {key}, {arrival} DESC) AS last
                 ON CONFLICT ({key}) {action}"
            ),
        }
    }

    /// NULL equals nothing: such rows would be added by every run.
    pub(crate) fn null_key(&self, name: &str) -> ConnectorError {
        null_key(self.transfer.target, name)
    }

    /// An error of the statement, without what it may tell of a row.
    pub(crate) fn named(&self, error: ConnectorError) -> ConnectorError {
        unknown_object(error, self.transfer.columns)
    }

    /// Of these rows of staging, those after which no row of the same key has come: a row must not overwrite a later one.
    pub(crate) fn newest_of_their_key(&self, session: &mut Session, places: Vec<String>) -> Result<Vec<String>, ConnectorError> {
        let Some((key, _)) = self.merged.as_ref().filter(|_| !places.is_empty()) else { return Ok(places) };
        let Self { staging, arrival, .. } = self;
        let sql = format!(
            "SELECT ctid FROM (SELECT ctid, row_number() OVER (PARTITION BY {key} ORDER BY {arrival} DESC) AS place
                               FROM {staging}) AS all_rows
             WHERE place = 1 AND {} ORDER BY ctid",
            crate::tolerant::at(&places)
        );
        session.query(&sql)?.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
    }
}

/// Deferred constraints of the target's own: at COMMIT it would be too late to find the row that breaks one. Those of other tables
/// that refer to it are not meant: their rows may wait for ours.
fn own_checks(session: &mut Session, target: &Table) -> Result<String, ConnectorError> {
    let rows = session.query_params(
        "SELECT n.nspname, c.conname FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace
         WHERE c.conrelid = $1::regclass AND c.condeferrable ORDER BY c.conname",
        &[target.quoted()?.into()],
    )?;
    let names: Vec<String> = rows
        .iter()
        .map(|row| Table { schema: row.text(0)?.to_owned(), name: row.text(1)?.to_owned() }.quoted())
        .collect::<Result<_, _>>()?;
    Ok(if names.is_empty() { String::new() } else { format!("SET CONSTRAINTS {} IMMEDIATE", names.join(", ")) })
}

/// What is done with a row whose key is there.
///
/// `fixed` are columns of the key of which equal values are the same. To write one locks the row as if its key changed, against those who
/// refer to it, and takes the right to update it; of others it can't be known before whether it has to be written.
/// `revived` is the column that marks rows as deleted: one that has come is not.
fn conflict_action(into: &[(&str, String)], fixed: &[&str], skip_identical: bool, revived: Option<&str>) -> String {
    let rest: Vec<&str> = into.iter().filter(|(name, _)| !fixed.contains(name)).map(|(_, quoted)| quoted.as_str()).collect();
    let set = rest.iter().map(|name| format!("{name} = excluded.{name}")).chain(revived.map(|name| format!("{name} = NULL")));
    let set: Vec<String> = set.collect();
    if set.is_empty() {
        return "DO NOTHING".to_owned();
    }
    let changed = if skip_identical && revived.is_none() {
        let side = |of: &str| rest.iter().map(|name| format!("{of}.{name}")).collect::<Vec<_>>().join(", ");
        // Bit by bit, which every type knows; equality is not known by all, and takes 1.0 for 1.00.
        format!(" WHERE pg_catalog.record_image_ne(ROW({}), ROW({}))", side("_rb"), side("excluded"))
    } else {
        String::new()
    };
    format!("DO UPDATE SET {}{changed}", set.join(", "))
}

/// What came of an insertion.
pub(crate) struct Inserted {
    /// Rows added or changed.
    pub(crate) rows: u64,
    /// Rows of staging that fell out; none where a row that fails is an error.
    pub(crate) fallen: u64,
}

/// Refuses an insertion that did not take every row: nothing of the server's says so, and no row is lost in silence.
pub(crate) fn took_all(target: &Table, came: u64, inserted: u64) -> Result<(), ConnectorError> {
    if came == inserted {
        return Ok(());
    }
    Err(ConnectorError::config("rows_left_out", format!("a trigger or rule of `{target}` let {inserted} of {came} rows in"))
        .with_hint("let the trigger return the rows of this role, or name a table without it with `destination: { table: … }`"))
}

/// Whether staging has a key more than once.
pub(crate) fn has_twins(session: &mut Session, transfer: &Transfer<'_>) -> Result<bool, ConnectorError> {
    let (staging, key) = (transfer.load.staging.quoted()?, list(transfer.key)?);
    let sql = format!("SELECT EXISTS (SELECT FROM {staging} GROUP BY {key} HAVING count(*) > 1)");
    Ok(session.query(&sql)?.first().and_then(|row| row.get(0)) == Some("t"))
}

/// NULL equals nothing: such rows would be added by every run.
pub(crate) fn refuse_null_keys(session: &mut Session, transfer: &Transfer<'_>) -> Result<(), ConnectorError> {
    let Transfer { load, columns, target, key, .. } = *transfer;
    let staging = load.staging.quoted()?;
    let may_be_null = |name: &&String| !columns.iter().any(|column| column.name == **name && column.not_null);
    let parts = key.iter().filter(may_be_null).map(|name| Ok(format!("{} IS NULL", quote_ident(name)?)));
    let parts = parts.collect::<Result<Vec<_>, ConnectorError>>()?;
    if parts.is_empty() {
        return Ok(());
    }
    let mut is_there = |condition: &str| {
        let rows = session.query(&format!("SELECT EXISTS (SELECT FROM {staging} WHERE {condition})"))?;
        Ok::<_, ConnectorError>(rows.first().and_then(|row| row.get(0)) == Some("t"))
    };
    // One look at all of staging; which column it is only matters then.
    if is_there(&parts.join(" OR "))? {
        for (name, part) in key.iter().filter(may_be_null).zip(&parts) {
            if is_there(part)? {
                return Err(null_key(target, name));
            }
        }
    }
    Ok(())
}

fn null_key(target: &Table, name: &str) -> ConnectorError {
    ConnectorError::data("null_key", format!("rows for `{target}` have no value in the key column `{name}`"))
        .with_hint("choose a `primary_key` without NULLs, or mend the rows at the source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_which_a_part_is_not_there_is_none() {
        let column = |name: &str, key: Option<(u32, Option<u32>)>| LoadColumn {
            not_null: true,
            key: key.map(|(place, _)| place),
            key_len: key.and_then(|(_, len)| len),
            ..LoadColumn::plain(name, "integer")
        };
        let (first, second) = (column("a", Some((1, Some(2)))), column("b", Some((2, Some(2)))));
        let other = column("v", None);
        assert_eq!(source_key(&vec![second.clone(), other.clone(), first.clone()]), ["a", "b"]);
        assert!(source_key(&vec![first, other.clone()]).is_empty(), "the last part is missing");
        assert!(source_key(&vec![second, other.clone()]).is_empty(), "the first part is missing");
        // Loads that an older version began do not know the length.
        assert_eq!(source_key(&vec![column("a", Some((1, None))), other.clone()]), ["a"]);
        assert!(source_key(&vec![other]).is_empty());
    }
}
