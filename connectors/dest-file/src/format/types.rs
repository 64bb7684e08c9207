//! Which columns each format can hold without bending a value.

use crate::config::Format;
use arrow_schema::{DataType, Schema, TimeUnit};
use rapidbyte_sdk::ConnectorError;

/// Parquet knows no type for it, so intervals become exact ISO 8601 text there too.
pub(super) fn is_interval(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_))
}

/// Refuses a schema with a column that the format can't hold.
pub(crate) fn check_schema(stream: &str, schema: &Schema, format: &Format) -> Result<(), ConnectorError> {
    let mut names = std::collections::HashSet::new();
    for field in schema.fields() {
        if !names.insert(field.name()) {
            let message = format!("stream `{stream}` has two columns `{}`", field.name());
            return Err(ConnectorError::schema("duplicate_column", message).with_hint("select or rename the columns at the source"));
        }
        let refused = match format {
            Format::Parquet { .. } => !is_interval(field.data_type()) && !parquet_holds(field.data_type()),
            Format::Jsonl { .. } | Format::Csv { .. } => !text_holds(field.data_type()),
        };
        if refused {
            let message = format!(
                "stream `{stream}`: column `{}` has type `{}`, which `{}` files can't hold",
                field.name(),
                field.data_type(),
                format.extension(),
            );
            return Err(ConnectorError::schema("unsupported_type", message)
                .with_hint("leave the column out with `columns`, or convert it at the source"));
        }
    }
    if schema.fields().is_empty() {
        return Err(ConnectorError::schema("no_columns", format!("stream `{stream}` has no columns")));
    }
    if let (Format::Csv { options, .. }, [only]) = (format, schema.fields().as_ref())
        && options.null.is_empty()
        && only.is_nullable()
    {
        let message = format!("stream `{stream}` has one column, and a NULL in it would be an empty line, which readers skip");
        return Err(ConnectorError::schema("csv_null_line", message).with_hint("set `csv: { null: NULL }`"));
    }
    Ok(())
}

fn parquet_holds(data_type: &DataType) -> bool {
    match data_type {
        // Parquet has no seconds: they would come back as bare integers.
        DataType::Timestamp(TimeUnit::Second, _) | DataType::Time32(TimeUnit::Second) => false,
        DataType::Interval(_) => false,
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale >= 0,
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| parquet_holds(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) => parquet_holds(field.data_type()),
        DataType::Dictionary(_, value) => matches!(**value, DataType::Utf8 | DataType::LargeUtf8),
        other => flat(other),
    }
}

fn text_holds(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| text_holds(field.data_type())),
        DataType::List(field) | DataType::LargeList(field) => text_holds(field.data_type()),
        DataType::Dictionary(_, value) => matches!(**value, DataType::Utf8 | DataType::LargeUtf8),
        other => flat(other),
    }
}

fn flat(data_type: &DataType) -> bool {
    use DataType as T;
    matches!(
        data_type,
        T::Null
            | T::Boolean
            | T::Int8
            | T::Int16
            | T::Int32
            | T::Int64
            | T::UInt8
            | T::UInt16
            | T::UInt32
            | T::UInt64
            | T::Float32
            | T::Float64
            | T::Utf8
            | T::LargeUtf8
            | T::Binary
            | T::LargeBinary
            | T::FixedSizeBinary(_)
            | T::Date32
            | T::Time32(_)
            | T::Time64(_)
            | T::Timestamp(..)
            | T::Decimal128(..)
            | T::Decimal256(..)
            | T::Interval(_)
    )
}
