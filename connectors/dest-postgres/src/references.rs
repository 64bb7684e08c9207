//! Foreign keys that point at a table whose rows are to be replaced.
//!
//! `replace` deletes every row and adds the new ones in the same transaction. A key without an action stands that, where its check can
//! wait for the end of both. One that cascades would delete rows of another table for good.

use crate::names::Table;
use crate::session::Session;
use postgres_wire::quote_ident;
use rapidbyte_sdk::ConnectorError;

/// A foreign key of another table.
struct Reference {
    table: Table,
    constraint: String,
    /// What it does when a row is deleted, as `pg_constraint.confdeltype` says.
    action: char,
    deferrable: bool,
}

/// The foreign keys of a target.
pub(crate) struct References {
    target: Table,
    all: Vec<Reference>,
}

impl References {
    /// Looks them up. A key of the table to itself is none: all of its rows go at once.
    pub(crate) fn of(session: &mut Session, target: &Table) -> Result<Self, ConnectorError> {
        let rows = session.query_params(
            "SELECT n.nspname, r.relname, c.conname, c.confdeltype, c.condeferrable
             FROM pg_catalog.pg_constraint AS c
             JOIN pg_catalog.pg_class AS r ON r.oid = c.conrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
             WHERE c.contype = 'f' AND c.confrelid = $1::regclass AND c.conrelid <> c.confrelid AND NOT r.relispartition
             ORDER BY n.nspname, r.relname, c.conname",
            &[target.quoted()?.into()],
        )?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            all.push(Reference {
                table: Table { schema: row.text(0)?.to_owned(), name: row.text(1)?.to_owned() },
                constraint: row.text(2)?.to_owned(),
                action: row.text(3)?.chars().next().unwrap_or('a'),
                deferrable: row.flag(4)?,
            });
        }
        Ok(Self { target: target.clone(), all })
    }

    /// Refuses keys that would change other tables with the rows.
    pub(crate) fn refuse_actions(&self) -> Result<(), ConnectorError> {
        let Some(reference) = self.all.iter().find(|reference| matches!(reference.action, 'c' | 'n' | 'd')) else { return Ok(()) };
        let does = match reference.action {
            'c' => "ON DELETE CASCADE would delete its rows",
            'n' => "ON DELETE SET NULL would empty its columns",
            _ => "ON DELETE SET DEFAULT would change its columns",
        };
        let Reference { table, constraint, .. } = reference;
        let message = format!(
            "`{}` is referenced by `{table}`, whose constraint `{constraint}` with {does} when `replace` deletes",
            self.target
        );
        Err(ConnectorError::config("referenced_table", message).with_hint(format!(
            "use `write_mode: upsert`, or drop the constraint: `ALTER TABLE {} DROP CONSTRAINT {}`",
            table.quoted()?,
            quote_ident(constraint)?
        )))
    }

    /// Lets the checks wait that can, until [`Self::check`].
    pub(crate) fn defer(&self, session: &mut Session) -> Result<(), ConnectorError> {
        self.set(session, "DEFERRED")
    }

    /// Makes up for the checks that have waited.
    pub(crate) fn check(&self, session: &mut Session) -> Result<(), ConnectorError> {
        self.set(session, "IMMEDIATE").map_err(|error| self.explain(error))
    }

    fn set(&self, session: &mut Session, when: &str) -> Result<(), ConnectorError> {
        let deferrable = self.all.iter().filter(|reference| reference.deferrable);
        let names: Vec<String> = deferrable
            .map(|Reference { table, constraint, .. }| Table { schema: table.schema.clone(), name: constraint.clone() }.quoted())
            .collect::<Result<_, _>>()?;
        if names.is_empty() {
            return Ok(());
        }
        session.run(&format!("SET CONSTRAINTS {} {when}", names.join(", ")))
    }

    /// The error of a DELETE, or of a check that has waited, in words that help.
    pub(crate) fn explain(&self, error: ConnectorError) -> ConnectorError {
        let violated = error.details.as_deref().is_some_and(|details| details.contains("\"23503\""));
        let fixed = self.all.iter().find(|reference| !reference.deferrable).or_else(|| self.all.first());
        let Some(Reference { table, constraint, action, deferrable }) = fixed.filter(|_| violated) else { return error };
        let (Ok(quoted), Ok(name)) = (table.quoted(), quote_ident(constraint)) else { return error };
        let hint = if *deferrable {
            format!("load the rows that `{table}` refers to, or delete those that refer to rows which are gone at the source")
        } else if *action == 'r' {
            format!("use `write_mode: upsert`, or drop the constraint: `ALTER TABLE {quoted} DROP CONSTRAINT {name}`")
        } else {
            format!(
                "use `write_mode: upsert`, or let the check wait for the new rows: `ALTER TABLE {quoted} ALTER CONSTRAINT {name} DEFERRABLE`"
            )
        };
        let message = format!(
            "rows of `{}` are referenced by `{table}` (constraint `{constraint}`), so `replace` can't delete them; nothing was changed",
            self.target
        );
        ConnectorError::config("referenced_rows", message).with_hint(hint)
    }
}
