//! From Arrow batches to bytes of a file.

mod csv;
mod fit;
mod jsonl;
mod parquet;
mod sink;
mod text;
mod types;
mod values;

pub(crate) use fit::{fit, stored};
pub(crate) use sink::Sink;
pub(crate) use types::check_schema;
pub(crate) use values::Unfit;

use crate::config::Format;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use rapidbyte_sdk::ConnectorError;
use std::io;

/// Writes the batches of one schema into one file.
pub(crate) enum Encoder {
    Parquet(Box<parquet::ParquetFile>),
    Jsonl(jsonl::JsonlFile),
    Csv(csv::CsvFile),
}

impl Encoder {
    pub(crate) fn new(format: &Format, schema: &SchemaRef, sink: Sink) -> Result<Self, ConnectorError> {
        Ok(match format {
            Format::Parquet { codec, row_group_rows } => {
                Self::Parquet(Box::new(parquet::ParquetFile::new(*codec, *row_group_rows, schema, sink)?))
            }
            Format::Jsonl { gzip } => Self::Jsonl(jsonl::JsonlFile::new(*gzip, schema, sink)),
            Format::Csv { gzip, options } => Self::Csv(csv::CsvFile::new(*gzip, options, schema, sink)?),
        })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), ConnectorError> {
        match self {
            Self::Parquet(file) => file.write(batch),
            Self::Jsonl(file) => file.write(batch),
            Self::Csv(file) => file.write(batch),
        }
    }

    /// The size the file would have if it ended now, about.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Parquet(file) => file.bytes(),
            Self::Jsonl(file) => file.bytes(),
            Self::Csv(file) => file.bytes(),
        }
    }

    /// Writes what is left and gives the file back.
    pub(crate) fn finish(self) -> Result<Sink, ConnectorError> {
        match self {
            Self::Parquet(file) => file.finish(),
            Self::Jsonl(file) => file.finish(),
            Self::Csv(file) => file.finish(),
        }
    }
}

/// Text, perhaps compressed.
enum TextOut {
    Plain(Sink),
    Gzip(flate2::write::GzEncoder<Sink>),
}

impl TextOut {
    fn new(gzip: bool, sink: Sink) -> Self {
        if gzip { Self::Gzip(flate2::write::GzEncoder::new(sink, flate2::Compression::default())) } else { Self::Plain(sink) }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ConnectorError> {
        let (written, path) = match self {
            Self::Plain(sink) => (io::Write::write_all(sink, bytes), sink.path().to_owned()),
            Self::Gzip(gzip) => (io::Write::write_all(gzip, bytes), gzip.get_ref().path().to_owned()),
        };
        written.map_err(|error| crate::disk::failed("write the file", &path, error))
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Plain(sink) => sink.bytes(),
            Self::Gzip(gzip) => gzip.get_ref().bytes(),
        }
    }

    fn finish(self) -> Result<Sink, ConnectorError> {
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(gzip) => {
                let path = gzip.get_ref().path().to_owned();
                gzip.finish().map_err(|error| crate::disk::failed("write the file", &path, error))
            }
        }
    }
}
