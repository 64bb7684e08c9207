//! Parquet.

use super::sink::Sink;
use super::types::is_interval;
use crate::config::ParquetCodec;
use arrow_array::{Array, ArrayRef, RecordBatch, builder::StringBuilder};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::{ColumnText, TextKind};
use std::io::{self, Write};
use std::sync::Arc;

/// A row group is buffered in guest memory until it is complete; guessed to stay well below the default limit of 512 MiB.
const MAX_GROUP_BYTES: usize = 96 << 20;

/// A Parquet file that is being written.
pub(crate) struct ParquetFile {
    writer: ArrowWriter<Sink>,
    schema: SchemaRef,
    path: String,
}

/// The same columns, intervals as text.
fn stored(schema: &Schema) -> Schema {
    let stored = |field: &Arc<Field>| {
        if !is_interval(field.data_type()) {
            return field.clone();
        }
        let mut metadata = field.metadata().clone();
        metadata.insert("rapidbyte.stored_as".into(), "interval, ISO 8601".into());
        Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable()).with_metadata(metadata))
    };
    Schema::new_with_metadata(schema.fields().iter().map(stored).collect::<Vec<_>>(), schema.metadata().clone())
}

impl ParquetFile {
    pub(super) fn new(codec: ParquetCodec, row_group_rows: usize, schema: &Schema, sink: Sink) -> Result<Self, ConnectorError> {
        let path = sink.path().to_owned();
        let compression = match codec {
            ParquetCodec::Snappy => Compression::SNAPPY,
            ParquetCodec::Lz4 => Compression::LZ4_RAW,
            ParquetCodec::None => Compression::UNCOMPRESSED,
        };
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(row_group_rows))
            .set_created_by(concat!("rapidbyte dest-file ", env!("CARGO_PKG_VERSION")).into())
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties);
        let schema = Arc::new(stored(schema));
        let writer = ArrowWriter::try_new_with_options(sink, schema.clone(), options).map_err(|error| failed(&path, error))?;
        Ok(Self { writer, schema, path })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ConnectorError> {
        let column = |(field, column): (&Arc<Field>, &ArrayRef)| {
            if is_interval(column.data_type()) { texts(field, column) } else { Ok(column.clone()) }
        };
        let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(column).collect::<Result<_, _>>()?;
        let stored = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|error| ConnectorError::internal("batch_shape", error.to_string()))?;
        self.writer.write(&stored).map_err(|error| failed(&self.path, error))?;
        if self.writer.in_progress_size() > MAX_GROUP_BYTES {
            self.writer.flush().map_err(|error| failed(&self.path, error))?;
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    pub(super) fn finish(self) -> Result<Sink, ConnectorError> {
        let Self { writer, path, .. } = self;
        let mut sink = writer.into_inner().map_err(|error| failed(&path, error))?;
        sink.flush().map_err(|error| crate::disk::failed("write the file", &path, error))?;
        Ok(sink)
    }
}

fn texts(field: &Field, column: &ArrayRef) -> Result<ArrayRef, ConnectorError> {
    let texts = ColumnText::new(field, column)?;
    let mut builder = StringBuilder::with_capacity(column.len(), column.len() * 12);
    let mut text = String::new();
    for row in 0..column.len() {
        text.clear();
        match texts.write(row, &mut text) {
            TextKind::Null => builder.append_null(),
            TextKind::Bare | TextKind::Quoted => builder.append_value(&text),
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// A full disk arrives wrapped in the format's own error.
fn failed(path: &str, error: ParquetError) -> ConnectorError {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => crate::disk::failed("write the file", path, *error),
            Err(other) => ConnectorError::internal("parquet", format!("could not write Parquet: {other}")),
        },
        other => ConnectorError::internal("parquet", format!("could not write Parquet: {other}")),
    }
}
