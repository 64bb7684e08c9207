//! Dead letters: rows that could not be processed, with each value as exact text beside its type.
//!
//! ```json
//! {"id": {"type": "Int64", "value": "7", "not_null": true},
//!  "note": {"type": "Utf8", "value": null, "metadata": {"rapidbyte.pg.type": "text"}}}
//! ```
//!
//! `type` is the Arrow type, `value` the text that [`super::text`] writes, `metadata` that of the field. A column that is
//! [split] has the type and the JSON text of its struct, so that nothing of it is lost. `not_null` stands only
//! where it is true. A value that is not at hand (a record that was too large to be read) has `omitted` in place of `value`,
//! with a word on why.

use super::split;
use super::text::{ColumnText, TextKind, push_json_string};
use crate::{ConnectorError, DeadLetter, ErrorCategory};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, Fields};
use std::time::{SystemTime, UNIX_EPOCH};

/// Letters between two commits; more end the run.
pub const MAX_LETTERS: usize = 10_000;
/// Bytes of letters that are held until their commit. Guessed: they lie in guest memory.
pub const MAX_LETTER_BYTES: usize = 64 << 20;
/// The longest error text of a letter, in bytes.
pub const MAX_LETTER_MESSAGE: usize = 8 << 10;

/// The columns of a batch, looked at once, for the letters of its rows.
pub struct RowText<'a> {
    columns: Vec<Entry<'a>>,
}

struct Entry<'a> {
    /// `"name":{"type":"…",`
    head: String,
    texts: ColumnText<'a>,
    /// `,"not_null":true,"metadata":{…}}`
    tail: String,
}

/// What stands before and after a value of a column.
fn frame(field: &Field) -> (String, String) {
    let mut head = String::new();
    push_json_string(field.name(), &mut head);
    head.push_str(":{\"type\":");
    push_json_string(&field.data_type().to_string(), &mut head);
    head.push(',');
    let mut tail = String::new();
    if !field.is_nullable() {
        tail.push_str(",\"not_null\":true");
    }
    let mut metadata: Vec<_> = field.metadata().iter().collect();
    metadata.sort();
    for (at, (key, value)) in metadata.iter().enumerate() {
        tail.push_str(if at == 0 { ",\"metadata\":{" } else { "," });
        push_json_string(key, &mut tail);
        tail.push(':');
        push_json_string(value, &mut tail);
    }
    tail.push_str(if metadata.is_empty() { "}" } else { "}}" });
    (head, tail)
}

impl<'a> RowText<'a> {
    /// Looks at the columns. A type without an exact text is an error that names the column.
    pub fn new(batch: &'a RecordBatch) -> Result<Self, ConnectorError> {
        Self::of(batch.schema_ref().fields(), batch.columns())
    }

    /// As [`RowText::new`], of columns that need not fit their fields: a record may hold the NULL that its column may not.
    pub fn of(fields: &Fields, columns: &'a [ArrayRef]) -> Result<Self, ConnectorError> {
        let entry = |(field, array): (&std::sync::Arc<Field>, &'a ArrayRef)| {
            let (head, tail) = frame(field);
            // The members of a split column are told one by one.
            let plain = if split::is_split(field) {
                field.as_ref().clone().with_metadata(Default::default())
            } else {
                field.as_ref().clone()
            };
            Ok(Entry { head, texts: ColumnText::quoting_decimals(&plain, array)?, tail })
        };
        let columns = fields.iter().zip(columns).map(entry).collect::<Result<_, ConnectorError>>()?;
        Ok(Self { columns })
    }

    /// The record of a row.
    pub fn json(&self, row: usize) -> String {
        self.json_with(row, |_| None)
    }

    /// The record of a row in which some columns have another text than their value's, by their place.
    pub fn json_with(&self, row: usize, other: impl Fn(usize) -> Option<String>) -> String {
        let mut out = String::from("{");
        let mut text = String::new();
        for (at, entry) in self.columns.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&entry.head);
            out.push_str("\"value\":");
            match other(at) {
                Some(other) => push_json_string(&other, &mut out),
                None => {
                    text.clear();
                    match entry.texts.write(row, &mut text) {
                        TextKind::Null => out.push_str("null"),
                        TextKind::Bare | TextKind::Quoted => push_json_string(&text, &mut out),
                    }
                }
            }
            out.push_str(&entry.tail);
        }
        out.push('}');
        out
    }
}

/// The record of a row of which only some values are at hand; `value` gives the text of a column, or why it is not there.
pub fn partial_json<'a>(
    fields: impl Iterator<Item = &'a Field>,
    value: impl Fn(usize) -> Result<Option<String>, String>,
) -> String {
    let mut out = String::from("{");
    for (at, field) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        let (head, tail) = frame(field);
        out.push_str(&head);
        match value(at) {
            Ok(Some(text)) => {
                out.push_str("\"value\":");
                push_json_string(&text, &mut out);
            }
            Ok(None) => out.push_str("\"value\":null"),
            Err(why) => {
                out.push_str("\"omitted\":");
                push_json_string(&why, &mut out);
            }
        }
        out.push_str(&tail);
    }
    out.push('}');
    out
}

/// A letter of now. The message must hold no row value; one that is too long is cut.
pub fn letter(stream: u32, record_json: String, message: &str, category: ErrorCategory) -> DeadLetter {
    let mut end = message.len().min(MAX_LETTER_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let failed_at_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    DeadLetter { stream, record_json, error_message: message[..end].to_owned(), error_category: category, failed_at_ms }
}

/// Counts letters between two commits.
#[derive(Debug, Default, Clone, Copy)]
pub struct LetterCount {
    letters: usize,
    bytes: usize,
}

impl LetterCount {
    /// One more.
    ///
    /// # Errors
    /// When it is one too many: the run ends, as a load that gives up so many rows is not the load that was meant.
    pub fn add(&mut self, letter: &DeadLetter) -> Result<(), ConnectorError> {
        self.letters += 1;
        self.bytes += letter.record_json.len() + letter.error_message.len();
        if self.letters <= MAX_LETTERS && self.bytes <= MAX_LETTER_BYTES {
            return Ok(());
        }
        Err(too_many())
    }
}

/// The error of more letters than a commit may have.
pub fn too_many() -> ConnectorError {
    ConnectorError::data("too_many_dead_letters", "more than 10,000 dead letters, or 64 MiB of them, came between two commits")
        .with_hint("`rapidbyte dlq list` shows those of earlier commits; mend their cause, or commit more often with `resources.checkpoint_interval_rows`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Decimal128Array, Float64Array, Int64Array, StringArray, StructArray};
    use arrow_schema::{DataType, Schema};
    use std::collections::HashMap;
    use std::sync::Arc;

    #[test]
    fn each_value_stands_beside_its_type() {
        let marked = Field::new("note", DataType::Utf8, true).with_metadata(HashMap::from([("k".into(), "a\"b".into())]));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            marked,
            Field::new("x", DataType::Float64, true),
            Field::new("d", DataType::Decimal128(5, 2), true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![7, 8])),
            Arc::new(StringArray::from(vec![Some("\u{0}"), None])),
            Arc::new(Float64Array::from(vec![f64::NAN, 0.1])),
            Arc::new(Decimal128Array::from(vec![150, 5]).with_precision_and_scale(5, 2).unwrap()),
        ];
        let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
        let rows = RowText::new(&batch).unwrap();
        assert_eq!(
            rows.json(0),
            r#"{"id":{"type":"Int64","value":"7","not_null":true},"note":{"type":"Utf8","value":"\u0000","metadata":{"k":"a\"b"}},"x":{"type":"Float64","value":"NaN"},"d":{"type":"Decimal128(5, 2)","value":"1.50"}}"#
        );
        assert!(rows.json(1).contains(r#""note":{"type":"Utf8","value":null,"#));
    }

    #[test]
    fn a_split_value_is_told_with_its_parts() {
        let field = split::split(&Field::new("n", DataType::Int32, true));
        let DataType::Struct(members) = field.data_type() else { panic!() };
        let parts: Vec<ArrayRef> = vec![
            Arc::new(arrow_array::Int32Array::from(vec![None::<i32>])),
            Arc::new(arrow_array::BinaryArray::from(vec![Some(&b"\x01"[..])])),
            Arc::new(StringArray::from(vec![Some("NaN")])),
        ];
        let array: ArrayRef = Arc::new(StructArray::new(members.clone(), parts, None));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap();
        let json = RowText::new(&batch).unwrap().json(0);
        assert!(json.contains(r#""value":"{\"value\":null,\"send\":\"AQ==\",\"text\":\"NaN\"}""#), "{json}");
    }

    #[test]
    fn what_is_not_at_hand_says_so() {
        let fields = [Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)];
        let json = partial_json(fields.iter(), |at| if at == 0 { Ok(Some("1".into())) } else { Err("too large".into()) });
        assert_eq!(json, r#"{"a":{"type":"Int32","value":"1"},"b":{"type":"Utf8","omitted":"too large"}}"#);
    }

    #[test]
    fn the_10_001st_letter_is_refused() {
        let mut count = LetterCount::default();
        let one = letter(0, "{}".into(), &"é".repeat(MAX_LETTER_MESSAGE), ErrorCategory::Data);
        assert!(one.error_message.len() <= MAX_LETTER_MESSAGE);
        let small = DeadLetter { error_message: "x".into(), ..one };
        for _ in 0..MAX_LETTERS {
            count.add(&small).unwrap();
        }
        assert_eq!(count.add(&small).unwrap_err().code, "too_many_dead_letters");
        let large = DeadLetter { record_json: "x".repeat(MAX_LETTER_BYTES), ..small };
        assert!(LetterCount::default().add(&large).is_err());
    }
}
