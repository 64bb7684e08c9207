//! Change data capture: the initial load with an exact cut, then the changes of the server's log.
//!
//! The design stands in `docs/design/cdc.md`.

mod changes;
mod check;
mod config;
mod cut;
mod feed;
mod follow;
mod guard;
mod lsn;
mod missing;
mod pgoutput;
mod plan;
mod publication;
mod read;
mod slot;
mod table;
mod test_decoding;
mod text;
mod writers;

pub(crate) use check::check;
pub(crate) use config::{CdcConfig, Names, Plugin};
pub(crate) use guard::{Budget, SlotLagPolicy};
pub(crate) use plan::{Planner, begins_at, plan, snapshot_of};
pub(crate) use read::read;
pub(crate) use slot::{confirm, teardown};

use crate::catalog::TableColumn;
use rapidbyte_sdk::{ConnectorError, StreamContext, changes as words};

/// The server's log cannot be gone on with; what the pipeline does then is the host's to decide.
fn source_changed(what: impl Into<String>, hint: impl Into<String>) -> ConnectorError {
    ConnectorError::data("source_changed", what).with_hint(hint)
}

/// The columns of a table whose changes the log tells, none of them with a name of ours. The log leaves generated columns out.
pub(crate) fn logged_columns(stream: &StreamContext, columns: Vec<TableColumn>) -> Result<Vec<TableColumn>, ConnectorError> {
    let wanted = |name: &str| stream.selected_columns.as_ref().is_none_or(|wanted| wanted.iter().any(|column| column == name));
    for column in columns.iter().filter(|column| wanted(&column.name)) {
        if words::is_reserved(&column.name) {
            let message = format!("stream `{}`: column `{}` has a name that Rapidbyte keeps for itself", stream.name, column.name);
            return Err(
                ConnectorError::schema("reserved_column", message).with_hint("rename the column, or leave it out with `columns`")
            );
        }
        if column.generated() && stream.selected_columns.is_some() {
            let message = format!("stream `{}`: the log does not tell generated columns, `{}` is one", stream.name, column.name);
            return Err(ConnectorError::schema("generated_column", message).with_hint("leave the column out of `columns`"));
        }
    }
    let mut logged: Vec<TableColumn> = columns.into_iter().filter(|column| !column.generated()).collect();
    logged.iter_mut().for_each(|column| column.as_output |= column.has_own_cast());
    Ok(logged)
}
