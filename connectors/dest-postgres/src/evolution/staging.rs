//! A staging table that lacks what a later schema of its load has.

use crate::layout::Layout;
use crate::ledger::{Columns, LoadColumn};
use crate::names::Table;
use crate::session::Session;
use postgres_wire::quote_ident;
use rapidbyte_sdk::ConnectorError;

/// What a staging table lacks for a layout.
pub(crate) enum Change {
    Add(LoadColumn),
    /// A column that some rows will not have.
    Loosen(String),
}

/// The way from the staging table's columns to those of a settled layout.
pub(crate) fn changes(columns: &Columns, layout: &Layout) -> Vec<Change> {
    let mut made = Vec::new();
    for wanted in &layout.columns {
        match columns.iter().find(|column| column.name == wanted.name) {
            None => made.push(Change::Add(LoadColumn { not_null: false, ..wanted.clone() })),
            Some(known) if known.not_null && !wanted.not_null => made.push(Change::Loosen(known.name.clone())),
            Some(_) => {}
        }
    }
    let dropped = columns.iter().filter(|known| known.not_null && layout.columns.iter().all(|wanted| wanted.name != known.name));
    made.extend(dropped.map(|known| Change::Loosen(known.name.clone())));
    made
}

pub(crate) fn alter(
    session: &mut Session,
    table: &Table,
    columns: &mut Columns,
    changes: Vec<Change>,
) -> Result<(), ConnectorError> {
    for change in changes {
        let action = match change {
            Change::Add(column) => {
                let action = format!("ADD COLUMN {} {}", quote_ident(&column.name)?, column.staged);
                columns.push(column);
                action
            }
            Change::Loosen(name) => {
                let action = format!("ALTER COLUMN {} DROP NOT NULL", quote_ident(&name)?);
                columns.iter_mut().filter(|column| column.name == name).for_each(|column| column.not_null = false);
                action
            }
        };
        session.run(&format!("ALTER TABLE {} {action}", table.quoted()?))?;
    }
    Ok(())
}
