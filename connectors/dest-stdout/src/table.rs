//! Aligned tables for people.

use crate::printer::{Format, Printed};
use arrow_array::RecordBatch;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::{ColumnText, TextKind};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows whose widths are looked at together; a longer batch becomes several tables of equal heading, so that memory stays
/// bounded. Guessed: far more than anybody reads.
const TABLE_ROWS: usize = 1000;

/// Rows as tables.
pub(crate) struct Tables {
    streams: Vec<String>,
    width: usize,
    /// The stream that was printed last, so that a change of streams is announced.
    current: Option<(u32, u32)>,
}

impl Tables {
    pub(crate) fn new(streams: Vec<String>, width: usize) -> Self {
        Self { streams, width, current: None }
    }
}

impl Format for Tables {
    fn schema(&mut self, stream: u32, schema_id: u32) {
        if self.current.is_some_and(|current| current != (stream, schema_id)) {
            self.current = None;
        }
    }

    fn batch(
        &mut self,
        stream: u32,
        schema_id: u32,
        batch: &RecordBatch,
        out: &mut String,
        sink: &mut dyn FnMut(&mut String) -> Result<Printed, ConnectorError>,
    ) -> Result<Printed, ConnectorError> {
        if self.current != Some((stream, schema_id)) {
            self.current = Some((stream, schema_id));
            let mut name = String::new();
            push_clean(self.streams.get(stream as usize).map_or("", String::as_str), usize::MAX, &mut name);
            out.push_str(&name);
            out.push('\n');
        }
        for from in (0..batch.num_rows()).step_by(TABLE_ROWS) {
            let part = batch.slice(from, TABLE_ROWS.min(batch.num_rows() - from));
            table(&part, self.width, out)?;
            if sink(out)? == Printed::Closed {
                return Ok(Printed::Closed);
            }
        }
        Ok(Printed::Yes)
    }

    fn left_out(&mut self, rows: u64, out: &mut String) {
        out.push_str(&format!("… and {rows} more rows\n"));
    }
}

/// Appends text without anything that could move the cursor, cut to a display width.
fn push_clean(text: &str, width: usize, out: &mut String) {
    let start = out.len();
    let mut used = 0;
    // Where the text is to be cut if it turns out to be too wide: one column before the end, for the ellipsis.
    let mut cut = start;
    for letter in text.chars() {
        let escaped = match letter {
            '\n' => Some("\\n".to_owned()),
            '\r' => Some("\\r".to_owned()),
            '\t' => Some("\\t".to_owned()),
            // Also the marks that turn the direction of text, which can make a value look like another.
            letter
                if letter.is_control()
                    || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                Some(format!("\\u{{{:x}}}", u32::from(letter)))
            }
            _ => None,
        };
        let wide = escaped.as_ref().map_or_else(|| letter.width().unwrap_or(0), String::len);
        if used + wide > width {
            out.truncate(cut);
            out.push('…');
            return;
        }
        match escaped {
            Some(escaped) => out.push_str(&escaped),
            None => out.push(letter),
        }
        used += wide;
        if used < width {
            cut = out.len();
        }
    }
}

fn cell(column: &ColumnText<'_>, row: usize, width: usize, scratch: &mut String) -> String {
    scratch.clear();
    let mut text = String::new();
    match column.write(row, scratch) {
        TextKind::Null => text.push_str("NULL"),
        TextKind::Bare => push_clean(scratch, width, &mut text),
        // Text that looks like a null or like nothing is quoted.
        TextKind::Quoted if scratch == "NULL" || scratch.trim() != scratch || scratch.is_empty() => {
            push_clean(&format!("\"{scratch}\""), width, &mut text);
        }
        TextKind::Quoted => push_clean(scratch, width, &mut text),
    }
    text
}

fn table(batch: &RecordBatch, width: usize, out: &mut String) -> Result<(), ConnectorError> {
    let schema = batch.schema();
    let mut scratch = String::new();
    let mut columns = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let values = ColumnText::new(field, array)?;
        let mut head = String::new();
        push_clean(field.name(), width, &mut head);
        let cells: Vec<String> = (0..batch.num_rows()).map(|row| cell(&values, row, width, &mut scratch)).collect();
        let widest = cells.iter().chain([&head]).map(|text| text.width()).max().unwrap_or(0);
        columns.push((head, cells, widest, field.data_type().is_numeric()));
    }
    let last = columns.len().saturating_sub(1);
    let push = |out: &mut String, at: usize, text: &str, width: usize, right: bool| {
        let gap = " ".repeat(width - text.width());
        out.push_str(if at == 0 { " " } else { " | " });
        if right {
            out.push_str(&gap);
        }
        out.push_str(text);
        // No blanks at the end of a line.
        if !right && at < last {
            out.push_str(&gap);
        }
    };
    for (at, (head, _, width, right)) in columns.iter().enumerate() {
        push(out, at, head, *width, *right);
    }
    out.push('\n');
    for (at, (_, _, width, _)) in columns.iter().enumerate() {
        out.push_str(if at == 0 { "-" } else { "-+-" });
        out.push_str(&"-".repeat(*width));
    }
    out.push_str("-\n");
    for row in 0..batch.num_rows() {
        for (at, (_, cells, width, right)) in columns.iter().enumerate() {
            push(out, at, &cells[row], *width, *right);
        }
        out.push('\n');
    }
    out.push('\n');
    Ok(())
}
