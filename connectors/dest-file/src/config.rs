//! The `config:` block.

use rapidbyte_sdk::ConnectorError;
use serde::Deserialize;
use std::path::PathBuf;

/// Reached by few row groups of a warehouse's usual size; the same figure DuckDB writes.
const ROW_GROUP_ROWS: usize = 122_880;
const FILE_BYTES: u64 = 256 << 20;

/// The `config:` block as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    path: String,
    #[serde(default)]
    format: FormatName,
    compression: Option<CompressionName>,
    #[serde(default = "file_bytes")]
    file_bytes: u64,
    row_group_rows: Option<usize>,
    csv: Option<CsvOptions>,
    #[serde(default, deserialize_with = "or_null")]
    unsupported_values: UnsupportedValues,
}

/// YAML reads the bare word `null` as nothing at all.
fn or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<UnsupportedValues, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(UnsupportedValues::Null))
}

/// What becomes of values that files can't hold: infinite dates, `24:00:00`, `NaN` decimals and their like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnsupportedValues {
    /// The row is a data error.
    #[default]
    Fail,
    /// NULL.
    Null,
    /// Columns that may hold such values are text.
    Text,
    /// The nearest value that the file can hold; without one the row is a data error.
    Clamp,
}

fn file_bytes() -> u64 {
    FILE_BYTES
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    #[default]
    Parquet,
    Jsonl,
    Csv,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CompressionName {
    Snappy,
    Lz4,
    Gzip,
    None,
}

/// How CSV is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    pub(crate) header: bool,
    pub(crate) delimiter: Delimiter,
    pub(crate) null: String,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { header: true, delimiter: Delimiter::Comma, null: String::new() }
    }
}

/// Bytes that no number, date or base64 text contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Delimiter {
    #[serde(rename = ",")]
    Comma,
    #[serde(rename = ";")]
    Semicolon,
    #[serde(rename = "\t")]
    Tab,
    #[serde(rename = "|")]
    Pipe,
}

impl Delimiter {
    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }
}

/// How Parquet pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParquetCodec {
    Snappy,
    Lz4,
    None,
}

/// What files look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet { codec: ParquetCodec, row_group_rows: usize },
    Jsonl { gzip: bool },
    Csv { gzip: bool, options: CsvOptions },
}

impl Format {
    /// The end of a file's name.
    pub(crate) fn extension(&self) -> &'static str {
        match self {
            Self::Parquet { .. } => "parquet",
            Self::Jsonl { gzip: false } => "jsonl",
            Self::Jsonl { gzip: true } => "jsonl.gz",
            Self::Csv { gzip: false, .. } => "csv",
            Self::Csv { gzip: true, .. } => "csv.gz",
        }
    }
}

/// The configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) root: PathBuf,
    pub(crate) format: Format,
    pub(crate) file_bytes: u64,
    pub(crate) unsupported_values: UnsupportedValues,
}

impl Config {
    pub(crate) fn settings(self) -> Result<Settings, ConnectorError> {
        let Self { path, format, compression, file_bytes, row_group_rows, csv, unsupported_values } = self;
        if path.is_empty() {
            return Err(ConnectorError::config("path_missing", "`path` is empty").with_hint("set `path` to a folder"));
        }
        if row_group_rows.is_some() && format != FormatName::Parquet {
            return Err(ConnectorError::config("row_group_rows_format", "`row_group_rows` is for format `parquet` only")
                .with_hint("remove `row_group_rows`, or set `format: parquet`"));
        }
        if csv.is_some() && format != FormatName::Csv {
            return Err(ConnectorError::config("csv_format", "`csv` is for format `csv` only")
                .with_hint("remove `csv`, or set `format: csv`"));
        }
        let gzip = || match compression {
            None | Some(CompressionName::None) => Ok(false),
            Some(CompressionName::Gzip) => Ok(true),
            Some(CompressionName::Snappy | CompressionName::Lz4) => {
                Err(ConnectorError::config("compression_format", "text files can't be compressed that way")
                    .with_hint("set `compression` to `none` or `gzip`, or `format` to `parquet`"))
            }
        };
        let format = match format {
            FormatName::Parquet => {
                let codec = match compression {
                    None | Some(CompressionName::Snappy) => ParquetCodec::Snappy,
                    Some(CompressionName::Lz4) => ParquetCodec::Lz4,
                    Some(CompressionName::None) => ParquetCodec::None,
                    Some(CompressionName::Gzip) => {
                        return Err(ConnectorError::config("compression_format", "Parquet files are not written with `gzip`")
                            .with_hint("set `compression` to `snappy`, `lz4` or `none`"));
                    }
                };
                Format::Parquet { codec, row_group_rows: row_group_rows.unwrap_or(ROW_GROUP_ROWS).max(1) }
            }
            FormatName::Jsonl => Format::Jsonl { gzip: gzip()? },
            FormatName::Csv => {
                let options = csv.unwrap_or_default();
                if options.null.bytes().any(|byte| byte == options.delimiter.byte() || matches!(byte, b'"' | b'\r' | b'\n')) {
                    return Err(ConnectorError::config("csv_null", "`csv.null` holds a delimiter, a quote or a line end")
                        .with_hint("set `csv.null` to a plain word, such as `NULL`"));
                }
                Format::Csv { gzip: gzip()?, options }
            }
        };
        Ok(Settings { root: PathBuf::from(path), format, file_bytes, unsupported_values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Result<Settings, ConnectorError> {
        rapidbyte_sdk::parse_config::<Config>(json)?.settings()
    }

    #[test]
    fn defaults_are_parquet_with_snappy() {
        let found = settings(r#"{"path": "out"}"#).unwrap();
        assert_eq!(found.format, Format::Parquet { codec: ParquetCodec::Snappy, row_group_rows: 122_880 });
        assert_eq!(found.file_bytes, 256 << 20);
    }

    #[test]
    fn the_policy_null_is_taken_with_and_without_quotes() {
        for (json, policy) in [
            (r#"{"path": "p"}"#, UnsupportedValues::Fail),
            (r#"{"path": "p", "unsupported_values": "null"}"#, UnsupportedValues::Null),
            (r#"{"path": "p", "unsupported_values": null}"#, UnsupportedValues::Null),
            (r#"{"path": "p", "unsupported_values": "clamp"}"#, UnsupportedValues::Clamp),
        ] {
            assert_eq!(settings(json).unwrap().unsupported_values, policy, "{json}");
        }
    }

    #[test]
    fn settings_that_would_have_no_effect_are_refused() {
        for (json, code) in [
            (r#"{"path": ""}"#, "path_missing"),
            (r#"{"path": "p", "format": "csv", "row_group_rows": 5}"#, "row_group_rows_format"),
            (r#"{"path": "p", "csv": {"header": false}}"#, "csv_format"),
            (r#"{"path": "p", "format": "jsonl", "compression": "snappy"}"#, "compression_format"),
            (r#"{"path": "p", "compression": "gzip"}"#, "compression_format"),
            (r#"{"path": "p", "format": "csv", "csv": {"null": "a,b"}}"#, "csv_null"),
            (r#"{"path": "p", "other": 1}"#, "config_shape"),
        ] {
            let error = settings(json).unwrap_err();
            assert_eq!((error.code.as_str(), error.hint.is_some()), (code, true), "{json}");
        }
    }

    #[test]
    fn each_format_has_its_extension() {
        for (json, extension) in [
            (r#"{"path": "p", "compression": "lz4"}"#, "parquet"),
            (r#"{"path": "p", "format": "jsonl"}"#, "jsonl"),
            (r#"{"path": "p", "format": "jsonl", "compression": "gzip"}"#, "jsonl.gz"),
            (r#"{"path": "p", "format": "csv", "compression": "none"}"#, "csv"),
            (r#"{"path": "p", "format": "csv", "compression": "gzip"}"#, "csv.gz"),
        ] {
            assert_eq!(settings(json).unwrap().format.extension(), extension);
        }
    }
}
