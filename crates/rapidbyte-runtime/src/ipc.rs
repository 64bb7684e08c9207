//! The structural check of Arrow IPC messages from guests.
//!
//! Framing, flatbuffer, offsets and counts are looked at; values are not. Whoever decodes a batch validates it in full.

mod known;

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
        if !known::is_known(field) {
            return Err(Refusal(format!("column `{}` is of a type with an impossible width, unit or number of children", name())));
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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        ArrayRef, BooleanArray, DictionaryArray, Int32Array, ListArray, NullArray, RecordBatch, StringArray, StringViewArray,
        StructArray, types::Int32Type,
    };
    use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
    use arrow_schema::{DataType, Field as ArrowField, Schema};
    use flatbuffers::FlatBufferBuilder;
    use std::sync::Arc;

    /// The schema message, and the messages of the batch.
    fn messages(batch: &RecordBatch) -> (Vec<u8>, Vec<u8>) {
        let mut writer =
            StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), IpcWriteOptions::default()).expect("a writer");
        let schema = writer.get_ref().clone();
        writer.write(batch).expect("written");
        let rest = writer.get_ref()[schema.len()..].to_vec();
        (schema, rest)
    }

    fn every_layout() -> RecordBatch {
        let ints: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3)]));
        let text: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("ccc")]));
        let list: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]));
        let inner = vec![
            (Arc::new(ArrowField::new("x", DataType::Int32, true)), Arc::clone(&ints)),
            (Arc::new(ArrowField::new("y", DataType::Utf8, true)), Arc::clone(&text)),
        ];
        let nested: ArrayRef = Arc::new(StructArray::from(inner));
        let words: DictionaryArray<Int32Type> = vec!["p", "q", "p"].into_iter().collect();
        RecordBatch::try_from_iter_with_nullable([
            ("flag", Arc::new(BooleanArray::from(vec![true, false, true])) as ArrayRef, true),
            ("ints", ints, true),
            ("text", text, true),
            ("list", list, true),
            ("nested", nested, true),
            ("words", Arc::new(words), true),
            ("nothing", Arc::new(NullArray::new(3)), true),
        ])
        .expect("a batch")
    }

    #[test]
    fn batches_of_every_layout_pass() {
        let (schema, batch) = messages(&every_layout());
        let shape = check_schema(&schema).expect("a schema");
        shape.check_batch(&batch, 3).expect("a batch");
        assert!(shape.check_batch(&batch, 2).is_err());
        let (other, _) = messages(&every_layout().project(&[0, 1]).expect("two columns"));
        let other = check_schema(&other).expect("a schema");
        assert!(other.check_batch(&batch, 3).is_err(), "a batch of another schema");
    }

    #[test]
    fn no_change_of_a_byte_makes_the_check_panic() {
        let (schema, batch) = messages(&every_layout());
        let shape = check_schema(&schema).expect("a schema");
        for at in 0..schema.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = schema.clone();
                changed[at] = value;
                if let Ok(shape) = check_schema(&changed) {
                    let _ = shape.check_batch(&batch, 3);
                    // What has passed is decoded by others.
                    let framed = frame(&changed).expect("framed");
                    let message = root_as_message(framed.metadata).expect("a message");
                    let _ = arrow_ipc::convert::fb_to_schema(message.header_as_schema().expect("a schema"));
                }
            }
        }
        for at in 0..batch.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = batch.clone();
                changed[at] = value;
                let _ = shape.check_batch(&changed, 3);
            }
        }
        for end in 0..batch.len() {
            assert!(shape.check_batch(&batch[..end], 3).is_err(), "cut at {end}");
        }
        for end in 0..schema.len() {
            assert!(check_schema(&schema[..end]).is_err(), "cut at {end}");
        }
    }

    fn schema_of(fields: Vec<ArrowField>) -> Result<Shape, Refusal> {
        let writer = StreamWriter::try_new(Vec::new(), &Schema::new(fields)).expect("a writer");
        check_schema(writer.get_ref())
    }

    #[test]
    fn layouts_and_sizes_beyond_the_protocol_are_refused() {
        let wide = |count| (0..count).map(|n| ArrowField::new(format!("c{n}"), DataType::Int8, true)).collect::<Vec<_>>();
        assert!(schema_of(wide(MAX_COLUMNS)).is_ok());
        assert!(schema_of(wide(MAX_COLUMNS + 1)).is_err());
        assert!(!schema_of(Vec::new()).expect("no columns").has_columns());
        let deep = |depth| {
            let leaf = ArrowField::new("leaf", DataType::Int8, true);
            (1..depth).fold(leaf, |inner, _| ArrowField::new("list", DataType::List(Arc::new(inner)), true))
        };
        assert!(schema_of(vec![deep(MAX_DEPTH)]).is_ok());
        assert!(schema_of(vec![deep(MAX_DEPTH + 1)]).is_err());
        let item = Arc::new(ArrowField::new("item", DataType::Int8, true));
        for kind in [DataType::Utf8View, DataType::BinaryView, DataType::ListView(Arc::clone(&item)), DataType::LargeListView(item)]
        {
            assert!(schema_of(vec![ArrowField::new("view", kind, true)]).is_err());
        }
        let view = RecordBatch::try_from_iter([("v", Arc::new(StringViewArray::from(vec!["a"])) as ArrayRef)]).expect("a batch");
        let (_, batch) = messages(&view);
        let plain = schema_of(vec![ArrowField::new("v", DataType::Utf8, true)]).expect("a schema");
        assert!(plain.check_batch(&batch, 1).is_err());
    }

    /// A message by hand: one column of eight-byte integers.
    fn by_hand(
        nodes: &[(i64, i64)],
        buffers: &[(i64, i64)],
        compressed: bool,
        body_length: i64,
        body: &[u8],
        rows: i64,
    ) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let nodes: Vec<_> = nodes.iter().map(|(length, nulls)| arrow_ipc::FieldNode::new(*length, *nulls)).collect();
        let nodes = builder.create_vector(&nodes);
        let buffers: Vec<_> = buffers.iter().map(|(offset, length)| arrow_ipc::Buffer::new(*offset, *length)).collect();
        let buffers = builder.create_vector(&buffers);
        let compression = compressed.then(|| {
            let mut compression = arrow_ipc::BodyCompressionBuilder::new(&mut builder);
            compression.add_codec(arrow_ipc::CompressionType::LZ4_FRAME);
            compression.finish()
        });
        let mut batch = arrow_ipc::RecordBatchBuilder::new(&mut builder);
        batch.add_length(rows);
        batch.add_nodes(nodes);
        batch.add_buffers(buffers);
        if let Some(compression) = compression {
            batch.add_compression(compression);
        }
        let batch = batch.finish();
        let mut message = arrow_ipc::MessageBuilder::new(&mut builder);
        message.add_version(arrow_ipc::MetadataVersion::V5);
        message.add_header_type(MessageHeader::RecordBatch);
        message.add_bodyLength(body_length);
        message.add_header(batch.as_union_value());
        let message = message.finish();
        builder.finish(message, None);
        let mut metadata = builder.finished_data().to_vec();
        metadata.resize(metadata.len().next_multiple_of(8), 0);
        let length = i32::try_from(metadata.len()).expect("small");
        [&[0xff; 4][..], &length.to_le_bytes(), &metadata, body].concat()
    }

    #[test]
    fn messages_no_writer_makes_are_refused() {
        let shape = schema_of(vec![ArrowField::new("n", DataType::Int64, true)]).expect("a schema");
        let body = [0; 16];
        let good = by_hand(&[(2, 0)], &[(0, 0), (0, 16)], false, 16, &body, 2);
        shape.check_batch(&good, 2).expect("the good one");
        for (what, bytes) in [
            ("compressed", by_hand(&[(2, 0)], &[(0, 0), (0, 16)], true, 16, &body, 2)),
            ("past the body", by_hand(&[(2, 0)], &[(0, 0), (8, 16)], false, 16, &body, 2)),
            ("negative offset", by_hand(&[(2, 0)], &[(0, 0), (-8, 16)], false, 16, &body, 2)),
            ("negative length", by_hand(&[(2, 0)], &[(0, 0), (0, -16)], false, 16, &body, 2)),
            ("offset that wraps", by_hand(&[(2, 0)], &[(0, 0), (i64::MAX, 16)], false, 16, &body, 2)),
            ("more nulls than rows", by_hand(&[(2, 3)], &[(0, 0), (0, 16)], false, 16, &body, 2)),
            ("negative nulls", by_hand(&[(2, -1)], &[(0, 0), (0, 16)], false, 16, &body, 2)),
            ("a shorter column", by_hand(&[(1, 0)], &[(0, 0), (0, 16)], false, 16, &body, 2)),
            ("another node", by_hand(&[(2, 0), (2, 0)], &[(0, 0), (0, 16)], false, 16, &body, 2)),
            ("a buffer less", by_hand(&[(2, 0)], &[(0, 16)], false, 16, &body, 2)),
            ("no nodes", by_hand(&[], &[(0, 0), (0, 16)], false, 16, &body, 2)),
            ("a longer body", by_hand(&[(2, 0)], &[(0, 0), (0, 16)], false, 24, &body, 2)),
            ("a negative body", by_hand(&[(2, 0)], &[(0, 0), (0, 16)], false, -16, &body, 2)),
            ("negative rows", by_hand(&[(2, 0)], &[(0, 0), (0, 16)], false, 16, &body, -2)),
            ("rows past u32", by_hand(&[(2, 0)], &[(0, 0), (0, 16)], false, 16, &body, (1 << 32) + 2)),
        ] {
            assert!(shape.check_batch(&bytes, 2).is_err(), "{what}");
        }
    }
}
