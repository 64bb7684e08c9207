//! What becomes of a value.

use arrow_array::Array;
use arrow_array::{ArrayRef, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field};
use hmac::{Hmac, KeyInit, Mac};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::text::{ColumnText, TextKind};
use sha2::Sha256;
use std::sync::Arc;

/// A method, ready.
#[derive(Clone)]
pub(crate) enum Method {
    /// This text in place of every value.
    Redact(String),
    /// HMAC-SHA-256 in hexadecimal digits. Holds the key's state, so that the key itself is gone.
    Hash(Box<Hmac<Sha256>>),
    /// Some characters stay, the others become `*`.
    Partial { first: usize, last: usize },
}

impl Method {
    pub(crate) fn hash(key: &[u8]) -> Self {
        Self::Hash(Box::new(Hmac::new_from_slice(key).expect("HMAC takes a key of any length")))
    }

    /// The field after masking: text, as nullable as before, and without metadata, which told of the former type.
    pub(crate) fn field(&self, field: &Field) -> Field {
        Field::new(field.name(), DataType::Utf8, field.is_nullable())
    }

    /// The masked column; nulls stay.
    pub(crate) fn apply(&self, field: &Field, array: &ArrayRef) -> Result<ArrayRef, ConnectorError> {
        let texts = ColumnText::new(field, array)?;
        let (mut bytes, mut offsets) = (Vec::new(), vec![0_i32]);
        let mut value = String::new();
        for row in 0..array.len() {
            value.clear();
            if texts.write(row, &mut value) != TextKind::Null {
                self.mask(&value, &mut bytes);
            }
            offsets.push(i32::try_from(bytes.len()).map_err(|_| {
                ConnectorError::data("batch_too_large", format!("column `{}` has more than 2 GiB of text in a batch", field.name()))
                    .with_hint("lower `max_batch_bytes`")
            })?);
        }
        let nulls = array.logical_nulls().filter(|nulls| nulls.null_count() > 0);
        StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes), nulls)
            .map(|array| Arc::new(array) as ArrayRef)
            .map_err(|error| ConnectorError::internal("mask", format!("column `{}` could not be masked: {error}", field.name())))
    }

    fn mask(&self, value: &str, out: &mut Vec<u8>) {
        match self {
            Self::Redact(with) => out.extend_from_slice(with.as_bytes()),
            Self::Hash(hmac) => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut hmac = (**hmac).clone();
                hmac.update(value.as_bytes());
                for byte in hmac.finalize().into_bytes() {
                    out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
                }
            }
            Self::Partial { first, last } => {
                let length = value.chars().count();
                // A value that is no longer than what would be kept would be shown whole.
                let (first, last) = if length <= first + last { (0, 0) } else { (*first, *last) };
                let mut letter_bytes = [0; 4];
                for (at, letter) in value.chars().enumerate() {
                    let kept = if at < first || at >= length - last { letter } else { '*' };
                    out.extend_from_slice(kept.encode_utf8(&mut letter_bytes).as_bytes());
                }
            }
        }
    }
}
