//! The rows of a binary COPY.
//!
//! A stream is a header, rows (a field count, then length and bytes of each field) and a trailer. PostgreSQL puts one row into
//! each message; a row that is cut by the end of a payload is put together all the same.

mod run;

pub(crate) use run::Run;
pub(super) use run::{ColumnFields, FieldValue};

use super::ValueError;
use super::column::{ColumnBuilder, FinishError};
use crate::types::Kind;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};
use rapidbyte_sdk::letter::partial_json;
use rapidbyte_sdk::text::ColumnText;
use rapidbyte_sdk::{ConnectorError, split};
use std::sync::Arc;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
pub(crate) const HEADER: usize = 19;
/// Rows a column makes room for before the first batch shows what is needed.
const FIRST_CAPACITY: usize = 1024;

/// A column as the decoder needs it.
pub(crate) struct DecodedColumn {
    pub(crate) kind: Kind,
    /// The field as announced while the column travels as `kind`.
    pub(crate) field: Field,
}

/// Why decoding stopped.
enum Stop {
    /// The payload ends within the row.
    Incomplete,
    /// A value needs its column split.
    Beyond(usize),
    Failed(ConnectorError),
}

enum State {
    Header,
    Rows,
    Done,
}

/// The code of a value that can't be decoded.
const BAD_VALUE: &str = "bad_value";

/// Where the row at the beginning ends; `None` if it is cut.
fn row_length(bytes: &[u8]) -> Option<usize> {
    let count = i16::from_be_bytes(bytes.get(..2)?.try_into().ok()?);
    let mut at = 2;
    for _ in 0..count {
        let length = i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        at += 4 + usize::try_from(length).unwrap_or(0);
        if at > bytes.len() {
            return None;
        }
    }
    Some(at)
}

/// What a payload led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// All of it was taken.
    All,
    /// Take the batch, then [`RowDecoder::split`] this column, announce the schema again, and push the rest.
    Split {
        column: usize,
        /// Bytes of the payload that were taken.
        taken: usize,
    },
}

/// Decodes the rows of one stream.
pub(crate) struct RowDecoder {
    stream: String,
    columns: Vec<DecodedColumn>,
    builders: Vec<ColumnBuilder>,
    schema: SchemaRef,
    expanding: Vec<usize>,
    row_width: usize,
    rows: usize,
    rows_before: u64,
    wire_bytes: usize,
    carry: Vec<u8>,
    max_record: usize,
    /// Rows that can't be decoded are passed over.
    refusing: bool,
    refused: Vec<(ConnectorError, String)>,
    state: State,
    fields: run::Fields,
    /// How many fields follow the columns, and are no part of the batches.
    tail: usize,
    /// Those of the last row, and room for the next one's.
    tails: [Tail; 2],
}

/// The fields after the columns of one row; `None` = NULL.
pub(crate) type Tail = Vec<Option<Vec<u8>>>;

fn schema_of(columns: &[DecodedColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
}

impl RowDecoder {
    /// For rows of these columns, each followed by `tail` more fields.
    pub(crate) fn with_tail(stream: String, columns: Vec<DecodedColumn>, tail: usize, max_record: usize) -> Self {
        let builders =
            columns.iter().map(|column| ColumnBuilder::new(&column.kind, FIRST_CAPACITY.min(65_536 / columns.len().max(1))));
        let mut made = Self {
            stream,
            builders: builders.collect(),
            schema: schema_of(&columns),
            expanding: Vec::new(),
            row_width: columns.iter().map(|column| column.kind.fixed_width()).sum(),
            rows: 0,
            rows_before: 0,
            wire_bytes: 0,
            carry: Vec::new(),
            max_record,
            refusing: false,
            refused: Vec::new(),
            state: State::Header,
            fields: run::Fields::default(),
            tail,
            tails: [Vec::new(), Vec::new()],
            columns,
        };
        made.find_expanding();
        made
    }

    fn find_expanding(&mut self) {
        let expands = |kind: &Kind| match kind {
            Kind::NumericText => true,
            Kind::List { element, .. } => **element == Kind::NumericText,
            Kind::Split(_) => true,
            _ => false,
        };
        self.expanding = (0..self.columns.len()).filter(|index| expands(&self.columns[*index].kind)).collect();
    }

    /// The schema of the batches from here on.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows waiting for a batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of the row that comes next, from 1.
    pub(crate) fn next_row(&self) -> u64 {
        self.rows_before + self.rows as u64 + 1
    }

    /// Bytes waiting for a batch, as they will lie in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let expanded: usize = self.expanding.iter().map(|index| self.builders[*index].expanded_bytes()).sum();
        let framing = self.rows * (2 + 4 * self.columns.len());
        self.wire_bytes.saturating_sub(framing) + self.rows * self.row_width + expanded
    }

    /// Whether the header is still to come.
    pub(crate) fn at_header(&self) -> bool {
        matches!(self.state, State::Header)
    }

    /// The fields after the columns of the last row decoded, whether it waits or was taken.
    pub(crate) fn last_tail(&self) -> Option<&[Option<Vec<u8>>]> {
        (self.rows_before + self.rows as u64 > 0).then_some(self.tails[0].as_slice())
    }

    /// Takes a payload in.
    pub(crate) fn push(&mut self, payload: &[u8]) -> Result<Pushed, ConnectorError> {
        if self.carry.is_empty() {
            return self.consume(payload);
        }
        let carried = self.carry.len();
        let mut joined = std::mem::take(&mut self.carry);
        joined.extend_from_slice(payload);
        let pushed = self.consume(&joined)?;
        Ok(match pushed {
            Pushed::All => Pushed::All,
            // What was carried belongs to the row that stops here or to one before it; keep what of it is not yet taken.
            Pushed::Split { column, taken } => {
                if taken < carried {
                    self.carry = joined[taken..carried].to_vec();
                }
                Pushed::Split { column, taken: taken.saturating_sub(carried) }
            }
        })
    }

    fn consume(&mut self, payload: &[u8]) -> Result<Pushed, ConnectorError> {
        let mut at = 0;
        if let State::Header = self.state {
            let Some(length) = self.header(payload)? else {
                return self.keep(payload);
            };
            at = length;
            self.state = State::Rows;
        }
        while at < payload.len() {
            match self.row(&payload[at..]) {
                Ok(length) => {
                    at += length;
                    self.wire_bytes += length;
                }
                Err(stop) => {
                    self.builders.iter_mut().for_each(|builder| builder.truncate(self.rows));
                    match stop {
                        Stop::Incomplete => return self.keep(&payload[at..]),
                        Stop::Beyond(column) => return Ok(Pushed::Split { column, taken: at }),
                        Stop::Failed(error) if self.refusing && error.code == BAD_VALUE => {
                            // Whether the rest of the row is there is not known yet.
                            let Some(length) = row_length(&payload[at..]) else { return self.keep(&payload[at..]) };
                            let record = self.record_of(&payload[at..at + length]);
                            self.refused.push((error, record));
                            at += length;
                        }
                        Stop::Failed(error) => return Err(error),
                    }
                }
            }
        }
        Ok(Pushed::All)
    }

    fn keep(&mut self, rest: &[u8]) -> Result<Pushed, ConnectorError> {
        if rest.len() > self.max_record {
            return Err(self.malformed("a row does not end within `max_record_bytes`"));
        }
        self.carry.extend_from_slice(rest);
        Ok(Pushed::All)
    }

    fn malformed(&self, what: &str) -> ConnectorError {
        ConnectorError::internal("copy_format", format!("stream `{}`: COPY data from the server: {what}", self.stream))
    }

    /// The header's length; `None` while it is cut.
    fn header(&self, payload: &[u8]) -> Result<Option<usize>, ConnectorError> {
        let Some((head, _)) = payload.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [signature @ .., f0, f1, f2, f3, _, _, _, _] = head;
        if signature != SIGNATURE {
            return Err(self.malformed("no binary COPY header"));
        }
        // The upper half of the flags changes the format.
        if u32::from_be_bytes([*f0, *f1, *f2, *f3]) >> 16 != 0 {
            return Err(self.malformed("an unknown format flag"));
        }
        let extension = u32::from_be_bytes([head[15], head[16], head[17], head[18]]) as usize;
        if extension > self.max_record {
            return Err(self.malformed("a header of unreasonable length"));
        }
        Ok((payload.len() >= HEADER + extension).then_some(HEADER + extension))
    }

    /// Decodes one row; gives its length.
    #[inline]
    fn row(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        if let State::Done = self.state {
            return Err(Stop::Failed(self.malformed("data after the trailer")));
        }
        let (count, _) = bytes.split_first_chunk::<2>().ok_or(Stop::Incomplete)?;
        let count = i16::from_be_bytes(*count);
        if usize::try_from(count).ok() != Some(self.builders.len() + self.tail) {
            if count == -1 {
                self.state = State::Done;
                return Ok(2);
            }
            return Err(Stop::Failed(self.malformed("a row with another number of columns")));
        }
        let mut at = 2;
        for (index, builder) in self.builders.iter_mut().enumerate() {
            let (length, rest) = bytes[at..].split_first_chunk::<4>().ok_or(Stop::Incomplete)?;
            let length = i32::from_be_bytes(*length);
            at += 4;
            let pushed = if length >= 0 {
                let value = rest.get(..length.cast_unsigned() as usize).ok_or(Stop::Incomplete)?;
                at += value.len();
                builder.push(value)
            } else if length == -1 {
                builder.push_null()
            } else {
                Err(ValueError::Malformed("a field has an impossible length"))
            };
            match pushed {
                Ok(()) => {}
                Err(ValueError::Beyond) => return Err(Stop::Beyond(index)),
                Err(ValueError::Malformed(what)) => return Err(Stop::Failed(self.bad_value(index, what))),
            }
        }
        if self.tail > 0 {
            at = self.take_tail(bytes, at)?;
        }
        self.rows += 1;
        Ok(at)
    }

    /// Keeps the fields after the columns; gives where the row ends.
    fn take_tail(&mut self, bytes: &[u8], mut at: usize) -> Result<usize, Stop> {
        // A row that is cut here must not spoil what is known of the one before.
        let [last, next] = &mut self.tails;
        next.resize(self.tail, None);
        for slot in next.iter_mut() {
            let (length, rest) = bytes[at..].split_first_chunk::<4>().ok_or(Stop::Incomplete)?;
            at += 4;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                *slot = None;
                continue;
            };
            let value = rest.get(..length).ok_or(Stop::Incomplete)?;
            let text = slot.get_or_insert_default();
            text.clear();
            text.extend_from_slice(value);
            at += length;
        }
        std::mem::swap(last, next);
        Ok(at)
    }

    fn bad_value(&self, index: usize, what: &str) -> ConnectorError {
        let row = self.next_row();
        let column = self.columns[index].field.name();
        ConnectorError::data(BAD_VALUE, format!("stream `{}`, column `{column}`, row {row} of the read: {what}", self.stream))
            .with_hint("if the column's type was changed while it was read, run again")
    }

    /// Passes over rows of which a value can't be decoded, from here on.
    pub(crate) fn refuse_rows(&mut self) {
        self.refusing = true;
    }

    /// Rows passed over since the last call: why, and the record of each.
    pub(crate) fn take_refused(&mut self) -> Vec<(ConnectorError, String)> {
        std::mem::take(&mut self.refused)
    }

    /// The message with the header has been passed over with the row that it held.
    pub(crate) fn pass_header(&mut self) {
        if self.at_header() {
            self.state = State::Rows;
        }
    }

    /// The record of a row for the dead letters: the values that can be decoded, and a word in place of the others.
    fn record_of(&self, row: &[u8]) -> String {
        let (mut at, mut values) = (2, Vec::with_capacity(self.columns.len()));
        for _ in &self.columns {
            let length = row.get(at..at + 4).and_then(|length| length.try_into().ok()).map_or(-1, i32::from_be_bytes);
            at += 4;
            let value = usize::try_from(length).ok().and_then(|length| row.get(at..at + length));
            at += value.map_or(0, <[u8]>::len);
            values.push(value);
        }
        let text = |index: usize| {
            let Some(value) = values.get(index).copied().flatten() else { return Ok(None) };
            self.text_of(index, value).map(Some).ok_or_else(|| "the value can't be decoded".to_owned())
        };
        partial_json(self.columns.iter().map(|column| &column.field), text)
    }

    /// The exact text of one value.
    pub(crate) fn text_of(&self, index: usize, value: &[u8]) -> Option<String> {
        let DecodedColumn { kind, field } = &self.columns[index];
        let mut builder = ColumnBuilder::new(kind, 1);
        builder.push(value).ok()?;
        let array = builder.finish(true).ok()?;
        // The members of a split column are told one by one.
        let plain = Field::new(field.name(), field.data_type().clone(), true);
        let texts = ColumnText::quoting_decimals(if split::is_split(field) { &plain } else { field }, &array).ok()?;
        let mut text = String::new();
        texts.write(0, &mut text);
        Some(text)
    }

    /// The waiting rows as a batch; none when there are none.
    pub(crate) fn take_batch(&mut self) -> Result<Option<RecordBatch>, ConnectorError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.builders.len());
        for (index, builder) in self.builders.iter_mut().enumerate() {
            let field = &self.columns[index].field;
            let array = builder.finish(field.is_nullable()).map_err(|error| {
                let (code, what, hint) = match error {
                    FinishError::NotUtf8 => (
                        "not_utf8",
                        "a text is not valid UTF-8",
                        "the database's encoding is probably SQL_ASCII: leave the column out, or convert it in a view",
                    ),
                    FinishError::UnexpectedNull => {
                        ("unexpected_null", "a NULL in a NOT NULL column", "the table was changed while it was read: run again")
                    }
                };
                ConnectorError::data(code, format!("stream `{}`, column `{}`: {what}", self.stream, field.name())).with_hint(hint)
            })?;
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .map_err(|error| ConnectorError::internal("arrow", format!("stream `{}`: {error}", self.stream)))?;
        self.rows_before += self.rows as u64;
        self.rows = 0;
        self.wire_bytes = 0;
        Ok(Some(batch))
    }

    /// Lets a column travel split from here on. Its waiting rows must have been taken.
    pub(crate) fn split(&mut self, column: usize) {
        let changed = &mut self.columns[column];
        changed.field = split::split(&changed.field);
        changed.kind = Kind::Split(Box::new(changed.kind.clone()));
        self.builders[column] = ColumnBuilder::new(&changed.kind, FIRST_CAPACITY);
        self.row_width = self.columns.iter().map(|column| column.kind.fixed_width()).sum();
        self.schema = schema_of(&self.columns);
        self.find_expanding();
    }

    /// Checks that the stream ended where a stream may end.
    pub(crate) fn end(&self) -> Result<(), ConnectorError> {
        match self.state {
            State::Done if self.carry.is_empty() => Ok(()),
            _ => Err(self.malformed("it ends without its trailer")),
        }
    }

    /// The column whose value makes a row larger than `limit`, found in the row's first bytes; and the texts of the values
    /// before it that lie whole in those bytes.
    pub(crate) fn find_large(&self, head: &[u8], limit: usize) -> Option<(usize, Vec<Option<Vec<u8>>>)> {
        let mut at = if self.at_header() { HEADER + 2 } else { 2 };
        let start = at;
        let mut before = Vec::new();
        for index in 0..self.builders.len() {
            let length = i32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?);
            at += 4;
            let Ok(length) = usize::try_from(length) else {
                before.push(None);
                continue;
            };
            if at - start + length > limit {
                return Some((index, before));
            }
            before.push(head.get(at..at + length).map(<[u8]>::to_vec));
            at += length;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::oid;
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
    use arrow_schema::DataType;

    /// Captured from PostgreSQL 15: `COPY (SELECT 1::int4, 'a'::text, NULL::numeric(5,2), ARRAY[1,NULL]) TO STDOUT (FORMAT binary)`.
    const CAPTURED: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\x04\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xff\
        \0\0\0\x20\0\0\0\x01\0\0\0\x01\0\0\0\x17\0\0\0\x02\0\0\0\x01\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff\xff\xff";

    fn kinds() -> Vec<Kind> {
        vec![
            Kind::Int4,
            Kind::Text,
            Kind::Decimal128 { precision: 5, scale: 2 },
            Kind::List { element: Box::new(Kind::Int4), element_oid: oid::INT4 },
        ]
    }

    fn decoder(kinds: Vec<Kind>) -> RowDecoder {
        let columns = kinds.into_iter().enumerate().map(|(index, kind)| {
            let field = Field::new(format!("c{index}"), kind.data_type(), true);
            DecodedColumn { kind, field }
        });
        RowDecoder::with_tail("s.t".into(), columns.collect(), 0, 1 << 20)
    }

    #[test]
    fn captured_bytes_become_a_row() {
        let mut decoder = decoder(kinds());
        assert_eq!(decoder.push(CAPTURED).unwrap(), Pushed::All);
        decoder.end().unwrap();
        let batch = decoder.take_batch().unwrap().unwrap();
        assert_eq!(batch.num_rows(), 1);
        assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(0), 1);
        assert_eq!(batch.column(1).as_string::<i32>().value(0), "a");
        assert!(batch.column(2).is_null(0));
        let list = batch.column(3).as_list::<i32>().value(0);
        assert_eq!((list.len(), list.as_primitive::<Int32Type>().value(0), list.is_null(1)), (2, 1, true));
    }

    #[test]
    fn fields_after_the_columns_are_kept_and_no_part_of_the_batch() {
        let columns = vec![DecodedColumn { kind: Kind::Int4, field: Field::new("c", DataType::Int32, true) }];
        let mut decoder = RowDecoder::with_tail("s.t".into(), columns, 2, 1 << 20);
        let row = |value: i32, tail: &[u8]| {
            let mut bytes = b"\0\x03\0\0\0\x04".to_vec();
            bytes.extend_from_slice(&value.to_be_bytes());
            bytes.extend_from_slice(&(tail.len() as i32).to_be_bytes());
            bytes.extend_from_slice(tail);
            bytes.extend_from_slice(&(-1_i32).to_be_bytes());
            bytes
        };
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[0; 8]);
        assert_eq!(decoder.last_tail(), None);
        decoder.push(&header).unwrap();
        for (value, tail) in [(1, "one"), (2, ""), (3, "three")] {
            decoder.push(&row(value, tail.as_bytes())).unwrap();
        }
        let batch = decoder.take_batch().unwrap().unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (3, 1));
        assert_eq!(decoder.last_tail().unwrap(), [Some(b"three".to_vec()), None]);
        // A row cut within its tail is put together.
        let whole = row(4, b"four");
        decoder.push(&whole[..whole.len() - 6]).unwrap();
        assert_eq!(decoder.last_tail().unwrap(), [Some(b"three".to_vec()), None]);
        decoder.push(&whole[whole.len() - 6..]).unwrap();
        assert_eq!(decoder.last_tail().unwrap(), [Some(b"four".to_vec()), None]);
        assert_eq!(decoder.take_batch().unwrap().unwrap().column(0).as_primitive::<Int32Type>().value(0), 4);
    }

    #[test]
    fn rows_may_be_cut_anywhere() {
        let mut whole = CAPTURED[..CAPTURED.len() - 2].to_vec();
        for _ in 0..3 {
            whole.extend_from_slice(&CAPTURED[HEADER..CAPTURED.len() - 2]);
        }
        whole.extend_from_slice(b"\xff\xff");
        for size in 1..whole.len() {
            let mut decoder = decoder(kinds());
            for part in whole.chunks(size) {
                assert_eq!(decoder.push(part).unwrap(), Pushed::All);
            }
            decoder.end().unwrap();
            assert_eq!(decoder.take_batch().unwrap().unwrap().num_rows(), 4, "pieces of {size}");
        }
    }

    #[test]
    fn streams_that_end_early_are_errors() {
        for length in 0..CAPTURED.len() {
            let mut decoder = decoder(kinds());
            let pushed = decoder.push(&CAPTURED[..length]);
            assert!(pushed.is_err() || decoder.end().is_err(), "a stream cut at {length} was accepted");
        }
    }

    /// Each kind with one value, so that every decoder meets damaged bytes.
    fn one_of_each() -> (Vec<Kind>, Vec<u8>) {
        let numeric: &[u8] = b"\0\x03\0\x01\0\0\0\x02\0\x0a\x0f\xa0\x15\x7c";
        let array = |oid: u32, value: &[u8]| {
            let mut bytes = b"\0\0\0\x01\0\0\0\0".to_vec();
            bytes.extend(oid.to_be_bytes());
            bytes.extend(b"\0\0\0\x01\0\0\0\x01");
            bytes.extend((value.len() as u32).to_be_bytes());
            bytes.extend(value);
            bytes
        };
        let list = |element, element_oid| Kind::List { element: Box::new(element), element_oid };
        let fields: Vec<(Kind, Vec<u8>)> = vec![
            (Kind::Bool, vec![1]),
            (Kind::Int2, vec![0, 7]),
            (Kind::Int8, vec![0, 0, 0, 0, 0, 0, 0, 9]),
            (Kind::Float4, vec![0x7f, 0xc0, 0, 0]),
            (Kind::Float8, vec![0x7f, 0xf0, 0, 0, 0, 0, 0, 0]),
            (Kind::Oid, vec![0, 0, 0, 1]),
            (Kind::Decimal128 { precision: 15, scale: 2 }, numeric.to_vec()),
            (Kind::Decimal256 { precision: 60, scale: 2 }, numeric.to_vec()),
            (Kind::NumericText, numeric.to_vec()),
            (Kind::Text, "ü€😀".into()),
            (Kind::Jsonb, b"\x01{}".to_vec()),
            (Kind::Bytea, vec![0, 255]),
            (Kind::Uuid, vec![5; 16]),
            (Kind::Date, vec![0, 0, 1, 0]),
            (Kind::Time, vec![0, 0, 0, 1, 0, 0, 0, 0]),
            (Kind::Timestamp, vec![0, 2, 0, 0, 0, 0, 0, 0]),
            (Kind::TimestampTz, vec![0, 2, 0, 0, 0, 0, 0, 0]),
            (Kind::Interval, vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]),
            (list(Kind::Text, oid::TEXT), array(oid::TEXT, b"x")),
            (list(Kind::NumericText, oid::NUMERIC), array(oid::NUMERIC, numeric)),
        ];
        let mut bytes = CAPTURED[..HEADER].to_vec();
        let mut row = (fields.len() as u16).to_be_bytes().to_vec();
        for (_, value) in &fields {
            row.extend((value.len() as u32).to_be_bytes());
            row.extend(value);
        }
        bytes.extend(row.repeat(2));
        bytes.extend(b"\xff\xff");
        (fields.into_iter().map(|(kind, _)| kind).collect(), bytes)
    }

    /// Runs a whole stream the way `read` does; damaged data must end in an error or in well-formed batches.
    fn run(kinds: &[Kind], bytes: &[u8], piece: usize) -> Result<usize, ConnectorError> {
        let mut decoder = decoder(kinds.to_vec());
        let mut rows = 0;
        for mut part in bytes.chunks(piece) {
            let mut splits = 0;
            while let Pushed::Split { column, taken } = decoder.push(part)? {
                rows += decoder.take_batch()?.map_or(0, |batch| batch.num_rows());
                decoder.split(column);
                splits += 1;
                assert!(splits <= kinds.len(), "a column is split once");
                part = &part[taken..];
            }
        }
        decoder.end()?;
        Ok(rows + decoder.take_batch()?.map_or(0, |batch| batch.num_rows()))
    }

    #[test]
    fn damaged_streams_never_panic() {
        let (kinds, bytes) = one_of_each();
        assert_eq!(run(&kinds, &bytes, usize::MAX).unwrap(), 2);
        let mut accepted = 0;
        for index in 0..bytes.len() {
            for flip in [0x01, 0x80, 0x7f, 0xff] {
                let mut damaged = bytes.clone();
                damaged[index] ^= flip;
                for piece in [usize::MAX, 37] {
                    accepted += usize::from(run(&kinds, &damaged, piece).is_ok());
                }
            }
            assert!(run(&kinds, &bytes[..index], usize::MAX).is_err());
        }
        assert!(accepted > 0, "a flipped bit in an integer is another integer");
        // Random damage, several bytes at once.
        let mut seed: u64 = 42;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut damaged = bytes.clone();
            for _ in 0..1 + random() % 8 {
                let index = random() % damaged.len();
                damaged[index] = random() as u8;
            }
            let _ = run(&kinds, &damaged, 1 + random() % 64);
        }
    }

    #[test]
    fn a_value_outside_its_arrow_type_splits_only_its_column() {
        let kinds = vec![Kind::Int8, Kind::Timestamp, Kind::Decimal128 { precision: 5, scale: 2 }];
        let mut bytes = CAPTURED[..HEADER].to_vec();
        let mut row = |id: i64, micros: i64, numeric: &[u8]| {
            bytes.extend(b"\0\x03\0\0\0\x08");
            bytes.extend(id.to_be_bytes());
            bytes.extend(b"\0\0\0\x08");
            bytes.extend(micros.to_be_bytes());
            bytes.extend((numeric.len() as u32).to_be_bytes());
            bytes.extend(numeric);
        };
        let nan = b"\0\0\0\0\xc0\0\0\0";
        let one = b"\0\x01\0\0\0\0\0\x02\0\x01";
        row(1, i64::MAX, one);
        row(2, i64::MAX - 1, one);
        row(3, 5, nan);
        bytes.extend(b"\xff\xff");
        for piece in [usize::MAX, 1, 7] {
            let mut decoder = decoder(kinds.clone());
            let mut batches = Vec::new();
            for mut part in bytes.chunks(piece) {
                while let Pushed::Split { column, taken } = decoder.push(part).unwrap() {
                    batches.extend(decoder.take_batch().unwrap());
                    decoder.split(column);
                    part = &part[taken..];
                }
            }
            decoder.end().unwrap();
            batches.extend(decoder.take_batch().unwrap());
            let ids: Vec<i64> =
                batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
            assert_eq!(ids, [1, 2, 3]);
            assert_eq!(batches[0].column(1).as_primitive::<TimestampMicrosecondType>().value(0), i64::MAX);
            let parts = |batch: usize, column: usize| split::parts(batches[batch].column(column).as_ref()).unwrap();
            let late = parts(1, 1);
            assert_eq!((late.send.value(0), late.value.is_null(0)), (&(i64::MAX - 1).to_be_bytes()[..], true));
            assert_eq!(late.text.value(0), "+294277-01-09T04:00:54.775806");
            // What fits is where it belongs, also afterwards.
            let five = parts(2, 1);
            assert_eq!(five.value.as_primitive::<TimestampMicrosecondType>().value(0), 946_684_800_000_005);
            assert!(five.send.is_null(0) && five.text.is_null(0));
            assert_eq!((parts(2, 2).send.value(0), parts(2, 2).text.value(0)), (&nan[..], "NaN"));
            assert!(split::is_split(batches[2].schema().field(2)) && !split::is_split(batches[1].schema().field(2)));
        }
    }

    #[test]
    fn the_large_column_is_found_by_its_length() {
        let decoder = decoder(vec![Kind::Int4, Kind::Text, Kind::Text]);
        let mut head = vec![0; HEADER];
        head.extend(b"\0\x03\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\x10\0\0\0some");
        let (column, before) = decoder.find_large(&head, 1 << 20).unwrap();
        assert_eq!((column, before), (2, vec![Some(vec![0, 0, 0, 7]), None]));
        assert!(decoder.find_large(&head[..HEADER + 8], 1 << 20).is_none());
    }
}
