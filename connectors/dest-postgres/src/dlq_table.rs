//! The table of dead letters, written in the transaction of the receipt or the publication they belong to.

use crate::catalog;
use crate::fault;
use crate::ledger::{self, stored};
use crate::merge::lock_target;
use crate::names::Table;
use crate::session::Session;
use postgres_wire::{Row, quote_ident};
use rapidbyte_sdk::text::push_micros;
use rapidbyte_sdk::{ConnectorError, DeadLetter, RunContext};

/// The partition under which letters of a publication stand, and their commit.
const PUBLISH: (&str, u64) = ("_rb_publish", 1);

/// What the letters belong to.
pub(crate) struct Place<'a> {
    pub(crate) run: &'a RunContext,
    /// The stream's name at the source.
    pub(crate) stream: &'a str,
    pub(crate) generation: u64,
    pub(crate) partition: &'a str,
    pub(crate) seq: u64,
}

impl<'a> Place<'a> {
    /// A publication.
    pub(crate) fn publication(run: &'a RunContext, stream: &'a str, generation: u64) -> Self {
        Self { run, stream, generation, partition: PUBLISH.0, seq: PUBLISH.1 }
    }
}

const COLUMNS: &str = "pipeline text NOT NULL,
    pipeline_id uuid NOT NULL,
    run_id text NOT NULL,
    stream_name text NOT NULL,
    generation bigint NOT NULL,
    partition text NOT NULL,
    seq bigint NOT NULL,
    ordinal bigint NOT NULL,
    record_json json NOT NULL,
    error_message text NOT NULL,
    error_category text NOT NULL,
    failed_at timestamptz NOT NULL";

const NAMES: &str = "pipeline, pipeline_id, run_id, stream_name, generation, partition, seq, ordinal, record_json, error_message, \
                     error_category, failed_at";

/// Writes the letters of one commit; makes the table if it is not there. To be called within the commit's transaction.
pub(crate) fn write<'a>(
    session: &mut Session,
    table: &Table,
    place: &Place<'_>,
    letters: impl Iterator<Item = &'a DeadLetter>,
) -> Result<(), ConnectorError> {
    let mut letters = letters.peekable();
    if letters.peek().is_none() {
        return Ok(());
    }
    ensure(session, table)?;
    let utf8 = session.query("SELECT pg_catalog.current_setting('server_encoding')")?;
    let ascii = utf8.first().and_then(|row| row.get(0)) != Some("UTF8");
    let sql = format!("COPY {} ({NAMES}) FROM STDIN (FORMAT text)", table.quoted()?);
    let mut copy = session.copy_in(&sql).map_err(fault::from_server)?;
    let mut line = String::new();
    for (ordinal, letter) in letters.enumerate() {
        line.clear();
        let (generation, seq) = (stored(place.generation)?.to_string(), stored(place.seq)?.to_string());
        let record = if ascii { in_ascii(&letter.record_json) } else { letter.record_json.clone() };
        let mut failed_at = String::new();
        let ms = i64::try_from(letter.failed_at_ms).unwrap_or(0);
        push_micros(ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) * 1000, true, &mut failed_at);
        let fields: [&str; 12] = [
            &place.run.pipeline,
            &place.run.pipeline_id,
            &place.run.run_id,
            place.stream,
            &generation,
            place.partition,
            &seq,
            &ordinal.to_string(),
            &record,
            &letter.error_message,
            letter.error_category.as_str(),
            &failed_at,
        ];
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                line.push('\t');
            }
            push_copy_text(field, &mut line);
        }
        line.push('\n');
        copy.write(line.as_bytes()).map_err(fault::from_server)?;
    }
    copy.finish().map_err(fault::from_server).map(|_| ())
}

/// Makes the table, one writer after the other.
fn ensure(session: &mut Session, table: &Table) -> Result<(), ConnectorError> {
    if catalog::relation(session, table)?.is_some() {
        return Ok(());
    }
    lock_target(session, table)?;
    if catalog::relation(session, table)?.is_some() {
        return Ok(());
    }
    ledger::schema::ensure_schema(session, &table.schema)?;
    let quoted = table.quoted()?;
    session.run(&format!(
        "CREATE TABLE {quoted} ({COLUMNS});
         CREATE INDEX ON {quoted} (pipeline_id, stream_name, generation, partition, seq, ordinal);
         COMMENT ON TABLE {quoted} IS 'Rows that could not be written, by Rapidbyte.'"
    ))
}

/// The letters of a publication that has happened, in their order.
pub(crate) fn of_publication(
    session: &mut Session,
    table: &Table,
    run: &RunContext,
    stream: &str,
    generation: u64,
) -> Result<Vec<DeadLetter>, ConnectorError> {
    if catalog::relation(session, table)?.is_none() {
        return Ok(Vec::new());
    }
    let rows = session.query_params(
        &format!(
            "SELECT record_json::text, error_message, error_category, (extract(epoch FROM failed_at) * 1000)::bigint FROM {}
             WHERE pipeline_id = $1 AND stream_name = $2 AND generation = $3 AND partition = $4 AND seq = $5 ORDER BY ordinal",
            table.quoted()?
        ),
        &[(&run.pipeline_id).into(), stream.into(), stored(generation)?.into(), PUBLISH.0.into(), stored(PUBLISH.1)?.into()],
    )?;
    let read = |row: &Row| {
        Ok(DeadLetter {
            stream: 0,
            record_json: row.text(0)?.to_owned(),
            error_message: row.text(1)?.to_owned(),
            error_category: row.text(2)?.parse().map_err(|_| damaged(table))?,
            failed_at_ms: row.text(3)?.parse().map_err(|_| damaged(table))?,
        })
    };
    rows.iter().map(read).collect()
}

fn damaged(table: &Table) -> ConnectorError {
    ConnectorError::schema("dlq_table", format!("`{table}` holds a dead letter that can't be read"))
        .with_hint(format!("rename the table with `ALTER TABLE {} RENAME TO …`", quote_ident(&table.name).unwrap_or_default()))
}

/// A field of COPY in text form.
fn push_copy_text(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            // Only an escape within a JSON text can stand for one; in a message it has no place.
            '\0' => {}
            c => out.push(c),
        }
    }
}

/// JSON with escapes for what the database's encoding may not know.
fn in_ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_field() {
        let mut out = String::new();
        push_copy_text("a\tb\nc\\.\r\\N", &mut out);
        assert_eq!(out, "a\\tb\\nc\\\\.\\r\\\\N");
        assert_eq!(in_ascii("é😀\\u0000"), "\\u00e9\\ud83d\\ude00\\u0000");
    }
}
