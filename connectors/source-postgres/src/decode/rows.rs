//! The rows of a binary COPY.
//!
//! A stream is a header, rows (a field count, then length and bytes of each field) and a trailer. PostgreSQL puts one row into
//! each message; a row that is cut by the end of a payload is put together all the same.

use super::ValueError;
use super::column::{ColumnBuilder, FinishError};
use crate::types::Kind;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Field, Schema, SchemaRef};
use rapidbyte_sdk::ConnectorError;
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
    /// A value needs its column widened.
    Widen(usize),
    Failed(ConnectorError),
}

enum State {
    Header,
    Rows,
    Done,
}

/// What a payload led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// All of it was taken.
    All,
    /// Take the batch, then [`RowDecoder::widen`] this column, announce the schema again, and push the rest.
    Widen {
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
    state: State,
}

fn schema_of(columns: &[DecodedColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field.clone()).collect::<Vec<_>>()))
}

impl RowDecoder {
    pub(crate) fn new(stream: String, columns: Vec<DecodedColumn>, max_record: usize) -> Self {
        let builders = columns.iter().map(|column| ColumnBuilder::new(&column.kind, FIRST_CAPACITY.min(65_536 / columns.len().max(1))));
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
            state: State::Header,
            columns,
        };
        made.find_expanding();
        made
    }

    fn find_expanding(&mut self) {
        let expands = |kind: &Kind| match kind {
            Kind::NumericText => true,
            Kind::List { element, .. } => **element == Kind::NumericText,
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

    /// Bytes waiting for a batch, as they will lie in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let expanded: usize = self.expanding.iter().map(|index| self.builders[*index].expanded_bytes()).sum();
        self.wire_bytes + self.rows * self.row_width + expanded
    }

    /// Whether the header is still to come.
    pub(crate) fn at_header(&self) -> bool {
        matches!(self.state, State::Header)
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
            Pushed::Widen { column, taken } => {
                if taken < carried {
                    self.carry = joined[taken..carried].to_vec();
                }
                Pushed::Widen { column, taken: taken.saturating_sub(carried) }
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
                    return match stop {
                        Stop::Incomplete => self.keep(&payload[at..]),
                        Stop::Widen(column) => Ok(Pushed::Widen { column, taken: at }),
                        Stop::Failed(error) => Err(error),
                    };
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
        if usize::try_from(count).ok() != Some(self.builders.len()) {
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
                Err(ValueError::Widen) => return Err(Stop::Widen(index)),
                Err(ValueError::Malformed(what)) => return Err(Stop::Failed(self.bad_value(index, what))),
            }
        }
        self.rows += 1;
        Ok(at)
    }

    fn bad_value(&self, index: usize, what: &str) -> ConnectorError {
        let row = self.rows_before + self.rows as u64 + 1;
        let column = self.columns[index].field.name();
        ConnectorError::data("bad_value", format!("stream `{}`, column `{column}`, row {row} of the read: {what}", self.stream))
            .with_hint("if the column's type was changed while it was read, run again")
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

    /// Lets a column travel in PostgreSQL's own form from here on. Its waiting rows must have been taken.
    pub(crate) fn widen(&mut self, column: usize) {
        let widened = &mut self.columns[column];
        widened.kind = Kind::Send;
        let mut metadata = widened.field.metadata().clone();
        metadata.insert("rapidbyte.pg.encoding".into(), "send".into());
        metadata.remove("ARROW:extension:name");
        widened.field =
            Field::new(widened.field.name(), Kind::Send.data_type(), widened.field.is_nullable()).with_metadata(metadata);
        self.builders[column] = ColumnBuilder::new(&Kind::Send, FIRST_CAPACITY);
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
