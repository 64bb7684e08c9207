//! The structural check of Arrow IPC messages from guests.
//!
//! Framing, flatbuffer, offsets and counts are looked at; values are not. Whoever decodes a batch validates it in full.

use arrow_ipc::{DictionaryBatch, Field, MessageHeader, RecordBatch, Type, root_as_message};
use std::collections::BTreeSet;

/// The most columns a schema may have.
pub(crate) const MAX_COLUMNS: usize = 2_000;
/// The most fields of a schema in all, nested ones included. Guessed: room for every column to be a small structure.
const MAX_FIELDS: usize = 20_000;
/// The deepest nesting of a column.
const MAX_DEPTH: usize = 16;
/// The longest schema message. Guessed: 2,000 columns with 2 KiB of metadata each.
pub(crate) const MAX_SCHEMA_BYTES: usize = 4 << 20;

/// Why a message was refused: a lower-case fragment for the guest's author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// What the batches of a schema must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The place of each column's own node among all nodes.
    columns: Vec<usize>,
    nodes: usize,
    buffers: usize,
    dictionaries: BTreeSet<i64>,
}

/// One encapsulated message: its flatbuffer, its body and what follows.
struct Framed<'a> {
    metadata: &'a [u8],
    rest: &'a [u8],
}

fn frame(bytes: &[u8]) -> Result<Framed<'_>, Refusal> {
    let prefix: &[u8; 8] = bytes.first_chunk().ok_or("a message ends within its prefix")?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *prefix;
    if [c0, c1, c2, c3] != [0xff; 4] {
        return Err("a message does not begin with the continuation marker".into());
    }
    let length = i32::from_le_bytes([l0, l1, l2, l3]);
    let length = usize::try_from(length).map_err(|_| Refusal::from("a message's metadata length is negative"))?;
    if length == 0 {
        return Err("an end-of-stream marker stands where a message belongs".into());
    }
    if length % 8 != 0 {
        return Err("a message's metadata is not padded to 8 bytes".into());
    }
    let tail = &bytes[8..];
    if length > tail.len() {
        return Err("a message ends within its metadata".into());
    }
    let (metadata, rest) = tail.split_at(length);
    Ok(Framed { metadata, rest })
}

fn body(length: i64, rest: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let length = usize::try_from(length).map_err(|_| Refusal::from("a message's body length is negative"))?;
    if length > rest.len() {
        return Err(Refusal(format!("a message's body of {length} bytes ends after {}", rest.len())));
    }
    Ok(rest.split_at(length))
}

/// Reads a schema message and learns what its batches must look like.
pub(crate) fn check_schema(bytes: &[u8]) -> Result<Shape, Refusal> {
    if bytes.len() > MAX_SCHEMA_BYTES {
        return Err(Refusal(format!("the schema has {} bytes, more than {MAX_SCHEMA_BYTES}", bytes.len())));
    }
    let framed = frame(bytes)?;
    let message = root_as_message(framed.metadata).map_err(|error| Refusal(format!("the metadata is no message: {error}")))?;
    if message.bodyLength() != 0 || !framed.rest.is_empty() {
        return Err("bytes follow the schema message".into());
    }
    let schema = message.header_as_schema().ok_or("the message is no schema")?;
    if schema.endianness() != arrow_ipc::Endianness::Little {
        return Err("the schema is not little-endian".into());
    }
    let fields = schema.fields().ok_or("the schema has no fields")?;
    if fields.len() > MAX_COLUMNS {
        return Err(Refusal(format!("the schema has {} columns, more than {MAX_COLUMNS}", fields.len())));
    }
    let mut shape = Shape { columns: Vec::with_capacity(fields.len()), nodes: 0, buffers: 0, dictionaries: BTreeSet::new() };
    let mut seen = 0;
    for field in fields {
        shape.columns.push(shape.nodes);
        shape.add(field, 1, true, &mut seen)?;
    }
    Ok(shape)
}

impl Shape {
    /// Without columns there are no rows to carry.
    pub(crate) fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Counts a field's nodes and buffers. Inside a dictionary's values they belong to the dictionary batch and only the
    /// caps are of interest.
    fn add(&mut self, field: Field<'_>, depth: usize, counts: bool, seen: &mut usize) -> Result<(), Refusal> {
        let name = || field.name().unwrap_or("").chars().take(64).collect::<String>();
        if depth > MAX_DEPTH {
            return Err(Refusal(format!("column `{}` is nested deeper than {MAX_DEPTH}", name())));
        }
        *seen += 1;
        if *seen > MAX_FIELDS {
            return Err(Refusal(format!("the schema has more than {MAX_FIELDS} fields")));
        }
        let dictionary = field.dictionary();
        if let Some(dictionary) = dictionary {
            self.dictionaries.insert(dictionary.id());
            if counts {
                self.nodes += 1;
                self.buffers += 2;
            }
        }
        let counts = counts && dictionary.is_none();
        let buffers = match field.type_type() {
            Type::Null => 0,
            Type::Int
            | Type::FloatingPoint
            | Type::Bool
            | Type::Decimal
            | Type::Date
            | Type::Time
            | Type::Timestamp
            | Type::Interval
            | Type::Duration
            | Type::FixedSizeBinary
            | Type::List
            | Type::LargeList
            | Type::Map => 2,
            Type::Binary | Type::LargeBinary | Type::Utf8 | Type::LargeUtf8 => 3,
            Type::Struct_ | Type::FixedSizeList => 1,
            Type::BinaryView | Type::Utf8View | Type::ListView | Type::LargeListView => {
                return Err(Refusal(format!("column `{}` is a view; use the plain layout", name())));
            }
            Type::RunEndEncoded => return Err(Refusal(format!("column `{}` is run-end encoded; use the plain layout", name()))),
            Type::Union => return Err(Refusal(format!("column `{}` is a union, which the protocol does not carry", name()))),
            other => return Err(Refusal(format!("column `{}` has the unknown type {}", name(), other.0))),
        };
        if counts {
            self.nodes += 1;
            self.buffers += buffers;
        }
        for child in field.children().into_iter().flatten() {
            self.add(child, depth + 1, counts, seen)?;
        }
        Ok(())
    }

    /// Looks at the messages of one `emit-batch`: dictionary batches, then one record batch with the claimed rows.
    pub(crate) fn check_batch(&self, bytes: &[u8], rows: u32) -> Result<(), Refusal> {
        let mut at = bytes;
        loop {
            let framed = frame(at)?;
            let message =
                root_as_message(framed.metadata).map_err(|error| Refusal(format!("the metadata is no message: {error}")))?;
            let (body, rest) = body(message.bodyLength(), framed.rest)?;
            match message.header_type() {
                MessageHeader::DictionaryBatch => {
                    let dictionary = message.header_as_dictionary_batch().ok_or("the dictionary batch has no header")?;
                    self.check_dictionary(dictionary, body)?;
                    if rest.is_empty() {
                        return Err("no record batch follows the dictionaries".into());
                    }
                    at = rest;
                }
                MessageHeader::RecordBatch => {
                    let batch = message.header_as_record_batch().ok_or("the record batch has no header")?;
                    if !rest.is_empty() {
                        return Err(Refusal(format!("{} bytes follow the record batch", rest.len())));
                    }
                    return self.check_record_batch(batch, body, rows);
                }
                MessageHeader::Schema => return Err("a schema stands where a batch belongs; use `emit-schema`".into()),
                other => return Err(Refusal(format!("a message of kind {} stands where a batch belongs", other.0))),
            }
        }
    }

    fn check_dictionary(&self, dictionary: DictionaryBatch<'_>, body: &[u8]) -> Result<(), Refusal> {
        if !self.dictionaries.contains(&dictionary.id()) {
            return Err(Refusal(format!("dictionary {} is not in the schema", dictionary.id())));
        }
        if dictionary.isDelta() {
            return Err("a dictionary batch is a delta; send whole dictionaries".into());
        }
        let data = dictionary.data().ok_or("a dictionary batch has no data")?;
        check_layout(data, body)
    }

    fn check_record_batch(&self, batch: RecordBatch<'_>, body: &[u8], rows: u32) -> Result<(), Refusal> {
        if batch.length() != i64::from(rows) {
            return Err(Refusal(format!("the batch holds {} rows, {rows} were claimed", batch.length())));
        }
        check_layout(batch, body)?;
        let nodes = batch.nodes().map_or(0, |nodes| nodes.len());
        let buffers = batch.buffers().map_or(0, |buffers| buffers.len());
        if nodes != self.nodes || buffers != self.buffers {
            return Err(Refusal(format!(
                "the batch has {nodes} nodes and {buffers} buffers, its schema asks for {} and {}",
                self.nodes, self.buffers
            )));
        }
        let nodes = batch.nodes().ok_or("the batch has no nodes")?;
        for &column in &self.columns {
            if nodes.get(column).length() != i64::from(rows) {
                return Err(Refusal(format!("a column holds {} rows, {rows} were claimed", nodes.get(column).length())));
            }
        }
        Ok(())
    }
}

fn check_layout(batch: RecordBatch<'_>, body: &[u8]) -> Result<(), Refusal> {
    if batch.compression().is_some() {
        return Err("the body is compressed; the host compresses where it is asked to".into());
    }
    if batch.variadicBufferCounts().is_some_and(|counts| !counts.is_empty()) {
        return Err("the batch has view buffers; use the plain layout".into());
    }
    for node in batch.nodes().into_iter().flatten() {
        let (length, nulls) = (node.length(), node.null_count());
        if length < 0 || nulls < 0 || nulls > length {
            return Err(Refusal(format!("a node claims {length} values and {nulls} nulls")));
        }
    }
    let end = i64::try_from(body.len()).map_err(|_| Refusal::from("the body is too long"))?;
    for buffer in batch.buffers().into_iter().flatten() {
        let (offset, length) = (buffer.offset(), buffer.length());
        if offset < 0 || length < 0 || offset.checked_add(length).is_none_or(|last| last > end) {
            return Err(Refusal(format!("a buffer at {offset} with {length} bytes lies outside the body of {end}")));
        }
    }
    Ok(())
}
