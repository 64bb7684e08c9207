//! Columns that a table of merged changes lacks: what its rows, which were there before them, show.
//!
//! The log carries nothing for such rows. The source tells the constant that they show, if it knows it; but it tells it of each column that
//! ever came so, also of one that was given another name since and whose values the log has told under the old one. So it counts only for a column
//! that came to what this destination has seen of the stream.

use super::refusal;
use crate::changes;
use crate::ledger::{Columns, LoadColumn};
use crate::names::Table;
use crate::session::Session;
use postgres_wire::{quote_ident, quote_literal};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::host_ffi::{self, LogLevel};

/// What rows show of a column that came after them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// NULL, as far as anybody says.
    #[default]
    Null,
    /// This value, as the source's type writes it.
    Value(String),
    /// Values perhaps, and nobody tells them.
    Untold,
}

/// Whether a column was added, and not renamed, since the stream had the columns `before`. `now` are all columns of the stream, both in
/// the table's order, in which new columns are the last. If all that were there before still are, and stand in front of it, then it can't be
/// one of them under another name.
fn is_added(name: &str, now: &[&str], before: &Columns) -> bool {
    let mut own = before.iter().filter(|column| !changes::is_own(&column.name)).peekable();
    let Some(place) = now.iter().position(|known| *known == name) else { return false };
    own.peek().is_some() && own.all(|column| !column.partial && now[..place].contains(&column.name.as_str()))
}

/// Keeps what the source tells of earlier rows where it counts. `columns` are to be written, `now` are all that were announced.
pub(crate) fn weigh(columns: &mut Columns, now: &[&str], before: Option<&Columns>) {
    for column in columns {
        column.earlier = match (std::mem::take(&mut column.earlier), before) {
            (told, Some(before)) if is_added(&column.name, now, before) => told,
            (Earlier::Null, None) => Earlier::Null,
            _ => Earlier::Untold,
        };
    }
}

/// Adds a column to a table. Its rows get what they show at the source, without being written.
pub(super) fn add(session: &mut Session, target: &Table, column: &LoadColumn) -> Result<(), ConnectorError> {
    let (quoted, name) = (target.quoted()?, quote_ident(&column.name)?);
    let plain = format!("ALTER TABLE {quoted} ADD COLUMN {name} {}", column.published);
    match &column.earlier {
        Earlier::Null => session.run(&plain),
        Earlier::Value(value) => {
            // As an assignment, which cuts nothing; a cast would.
            let filled = format!("{plain} DEFAULT {}", quote_literal(value)?);
            session.run(&filled).map_err(|error| explain(error, target, column, &plain))?;
            session.run(&format!("ALTER TABLE {quoted} ALTER COLUMN {name} DROP DEFAULT"))
        }
        Earlier::Untold => {
            host_ffi::log(
                LogLevel::Warn,
                "a column is new, and what earlier rows have in it at the source is not told (it may be renamed, or have a default that gave \
                 each row its value): they get NULL; `rapidbyte state reset` loads them anew",
                &[("table", &target.to_string()), ("column", &column.name)],
            );
            session.run(&plain)
        }
    }
}

/// The constant may be no value of the type here: a name of an object that is not there, a value that a domain's check refuses.
fn explain(error: ConnectorError, target: &Table, column: &LoadColumn, plain: &str) -> ConnectorError {
    if !["22", "23"].iter().any(|class| error.code.starts_with(class))
        && !["42P01", "42704", "42883"].contains(&error.code.as_str())
    {
        return error;
    }
    let message = format!(
        "column `{}` is new, and the value that earlier rows have in it at the source is none of `{}` in `{target}` ({})",
        column.name, column.published, error.code
    );
    refusal("unfit_constant", message, format!("add the column, and let its rows have what they shall: `{plain}`; then run again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &[&str], partial: bool) -> Columns {
        names.iter().map(|name| LoadColumn { partial, ..LoadColumn::plain(name, "text") }).collect()
    }

    #[test]
    fn only_what_comes_behind_all_that_was_there_was_added() {
        for (before, now, added) in [
            (&["id", "a"][..], &["id", "a", "c"][..], true),
            (&["id", "a"], &["id", "a", "b", "c"], true),
            (&["id", "_rb_before_id", "_rb_op"], &["id", "c"], true),
            // Renamed; or dropped and added, which looks the same.
            (&["id", "a"], &["id", "c"], false),
            (&["id", "a", "b"], &["id", "c", "b"], false),
            // Renamed, and another one added under its old name.
            (&["id", "a"], &["id", "c", "a"], false),
            // `b` renamed, then `a` to `b`.
            (&["id", "a", "b"], &["id", "b", "c"], false),
            // It was there: somebody has dropped it at the destination.
            (&["id", "a", "c"], &["id", "a", "c"], false),
            (&[], &["id", "c"], false),
        ] {
            assert_eq!(is_added("c", now, &columns(before, false)), added, "{before:?} {now:?}");
        }
        assert!(!is_added("c", &["id", "a", "c"], &columns(&["id", "a"], true)), "`c` may be one that was left out before");
    }

    #[test]
    fn what_is_told_counts_for_added_columns() {
        let told = || {
            let mut told = columns(&["id", "c", "d"], false);
            told[1].earlier = Earlier::Value("7".into());
            told
        };
        let weighed = |now: &[&str], before: Option<&[&str]>| {
            let mut columns = told();
            let before = before.map(|names| self::columns(names, false));
            weigh(&mut columns, now, before.as_ref());
            columns.into_iter().skip(1).map(|column| column.earlier).collect::<Vec<_>>()
        };
        let value = || Earlier::Value("7".into());
        assert_eq!(weighed(&["id", "c", "d"], Some(&["id"])), [value(), Earlier::Null]);
        assert_eq!(weighed(&["id", "c", "d"], Some(&["id", "a"])), [Earlier::Untold, Earlier::Untold]);
        assert_eq!(weighed(&["id", "c", "d"], None), [Earlier::Untold, Earlier::Null]);
    }
}
