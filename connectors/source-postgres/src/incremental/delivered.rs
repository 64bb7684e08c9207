//! Which rows earlier runs have delivered.

use super::cursor::{Cursor, literal};
use super::horizon::Now;
use super::place::Place;
use super::source_changed;
use crate::catalog::{Relation, TableColumn};
use postgres_wire::Connection;
use rapidbyte_sdk::{ConnectorError, NullCursorPolicy, Position, SafeBoundary, StreamContext};

/// Conditions, under the cursor's alias for the table; empty = all rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Rows that runs read at some time: those without a cursor may be none.
    pub(crate) ever: String,
    /// Those among them that lie at or before the position.
    pub(crate) so_far: String,
}

/// What lies at or before a position of this stream, asked within the transaction that will look at it. Without a position
/// nothing has been delivered.
pub(crate) fn delivered(
    connection: &mut Connection,
    stream: &StreamContext,
    relation: &Relation,
    columns: &[TableColumn],
    position: Option<&Position>,
) -> Result<Delivered, ConnectorError> {
    let cursor = Cursor::of(connection, stream, relation, columns)?;
    let name = &cursor.column.quoted;
    let skips = cursor.nullable && stream.null_cursor == NullCursorPolicy::Skip;
    let ever = if skips { format!("{name} IS NOT NULL") } else { String::new() };
    let Some(position) = position else { return Ok(Delivered { ever, so_far: "false".into() }) };
    let place = Place::read(stream, position, &cursor.column.sql_type)?;
    let so_far = match (&cursor.boundary, &place.done, &place.bound) {
        (SafeBoundary::XactHorizon, Some(done), _) => {
            let now = Now::ask(connection, relation.oid)?;
            if place.timeline.is_some() && now.timeline.is_some() && place.timeline != now.timeline {
                let what = "the server was promoted or restored since the last run, so that what was delivered can't be told";
                return Err(source_changed(stream, what).with_hint("run the pipeline, then verify"));
            }
            done.within(stream, now)?
        }
        (_, _, Some(bound)) => {
            let within = format!("{name} <= {}", literal(&cursor.column, bound)?);
            // Rows of the same cursor as the last one read, with larger keys, are still to come.
            let within = match &place.at {
                Some(at) if cursor.boundary == SafeBoundary::None => format!("{within} AND NOT {}", cursor.after(stream, at)?),
                _ => within,
            };
            if cursor.nullable && !skips { format!("({within} OR {name} IS NULL)") } else { format!("({within})") }
        }
        (_, _, None) if cursor.nullable && !skips => format!("{name} IS NULL"),
        (_, _, None) => "false".into(),
    };
    Ok(Delivered { ever, so_far })
}
