//! Columns with values beyond their Arrow type: what fits goes on as it is, anything else in its send form beside its text.

use super::column::{Bytes, ColumnBuilder, FinishError};
use super::{ValueError, numeric};
use crate::types::Kind;
use arrow_array::{ArrayRef, BinaryArray, StringArray, StructArray};
use arrow_buffer::{NullBuffer, NullBufferBuilder};
use arrow_schema::{ArrowError, Fields};
use rapidbyte_sdk::split::members;
use rapidbyte_sdk::text::{ColumnText, TextKind, push_date, push_micros};
use std::sync::Arc;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const EPOCH_DAYS: i64 = 10_957;
const DAY_MICROS: i64 = 86_400_000_000;
const MAX_DIMENSIONS: usize = 6;

/// A split column under construction.
pub(super) struct SplitValues {
    kind: Kind,
    fields: Fields,
    value: ColumnBuilder,
    send: Bytes,
    text: Bytes,
    /// Where `send` and `text` hold the value.
    beyond: NullBufferBuilder,
}

impl SplitValues {
    pub(super) fn new(kind: &Kind, rows: usize) -> Self {
        Self {
            kind: kind.clone(),
            fields: members(&kind.data_type()),
            value: ColumnBuilder::new(kind, rows),
            send: Bytes::with_capacity(rows, 0),
            text: Bytes::with_capacity(rows, 0),
            beyond: NullBufferBuilder::new(rows),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ValueError> {
        let rows = self.value.len();
        match self.value.push(bytes) {
            Ok(()) => self.beyond.append_null(),
            Err(ValueError::Beyond) => {
                self.value.truncate(rows);
                self.value.push_null()?;
                self.send.data.extend_from_slice(bytes);
                write_text(&self.kind, bytes, &mut self.text.data)?;
                self.beyond.append_non_null();
            }
            Err(malformed) => return Err(malformed),
        }
        self.send.end()?;
        self.text.end()
    }

    pub(super) fn push_null(&mut self) -> Result<(), ValueError> {
        self.value.push_null()?;
        self.beyond.append_null();
        self.send.end()?;
        self.text.end()
    }

    pub(super) fn expanded_bytes(&self) -> usize {
        self.value.expanded_bytes() + self.text.data.len()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.value.truncate(rows);
        self.send.truncate(rows);
        self.text.truncate(rows);
        if self.beyond.len() > rows {
            self.beyond.truncate(rows);
        }
    }

    pub(super) fn finish(&mut self, nulls: Option<NullBuffer>) -> Result<ArrayRef, FinishError> {
        // A builder without a single null gives no buffer: then every value lies beyond.
        let beyond = self.beyond.finish();
        let value = self.value.finish(true)?;
        let (offsets, data) = self.send.take();
        let send = BinaryArray::new(offsets, data, beyond.clone());
        let (offsets, data) = self.text.take();
        let text = StringArray::try_new(offsets, data, beyond).map_err(|_: ArrowError| FinishError::NotUtf8)?;
        Ok(Arc::new(StructArray::new(self.fields.clone(), vec![value, Arc::new(send), Arc::new(text)], nulls)))
    }
}

fn cut() -> ValueError {
    ValueError::Malformed("a value is cut short")
}

fn split_i32(bytes: &[u8]) -> Result<(i32, &[u8]), ValueError> {
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
    Ok((i32::from_be_bytes(*head), rest))
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| cut())
}

/// The exact text of any value of a kind that can be split, in the words of the SDK; arrays as PostgreSQL writes them.
fn write_text(kind: &Kind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let mut text = String::new();
    match kind {
        Kind::Decimal128 { .. } | Kind::Decimal256 { .. } => return numeric::text(bytes, out),
        Kind::Timestamp | Kind::TimestampTz => match i64::from_be_bytes(fixed(bytes)?) {
            i64::MAX => text.push_str("infinity"),
            i64::MIN => text.push_str("-infinity"),
            micros => {
                let zoned = *kind == Kind::TimestampTz;
                push_micros(micros.div_euclid(DAY_MICROS) + EPOCH_DAYS, micros.rem_euclid(DAY_MICROS), zoned, &mut text);
            }
        },
        Kind::Date => match i32::from_be_bytes(fixed(bytes)?) {
            i32::MAX => text.push_str("infinity"),
            i32::MIN => text.push_str("-infinity"),
            days => push_date(i64::from(days) + EPOCH_DAYS, &mut text),
        },
        Kind::Interval => {
            let (micros, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
            let (days, rest) = split_i32(rest)?;
            let (months, _) = split_i32(rest)?;
            let micros = i64::from_be_bytes(*micros);
            text = match (micros, days, months) {
                (i64::MAX, i32::MAX, i32::MAX) => "infinity".into(),
                (i64::MIN, i32::MIN, i32::MIN) => "-infinity".into(),
                _ => {
                    let sign = if micros < 0 { "-" } else { "" };
                    let (seconds, parts) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
                    format!("P{months}M{days}DT{sign}{seconds}.{parts:06}000S")
                }
            };
        }
        Kind::List { element, .. } => return write_array(element, bytes, out),
        // The rest of the elements: as an array of one.
        other => {
            let mut one = ColumnBuilder::new(other, 1);
            one.push(bytes)?;
            let array = one.finish(true).map_err(|_| ValueError::Malformed("a text is not valid UTF-8"))?;
            let texts =
                ColumnText::new(&other.item_field(), &array).map_err(|_| ValueError::Malformed("an element has no text"))?;
            if texts.write(0, &mut text) == TextKind::Null {
                return Err(cut());
            }
        }
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// `{{1,2},{3,NULL}}`, with `[0:1]={…}` where a dimension does not begin at 1.
fn write_array(element: &Kind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (dimensions, rest) = split_i32(bytes)?;
    let (_flags, rest) = split_i32(rest)?;
    let (_oid, mut rest) = split_i32(rest)?;
    let dimensions = usize::try_from(dimensions)
        .ok()
        .filter(|count| (1..=MAX_DIMENSIONS).contains(count))
        .ok_or(ValueError::Malformed("an array has an impossible number of dimensions"))?;
    let (mut sizes, mut bounds, mut odd) = (Vec::with_capacity(dimensions), String::new(), false);
    for _ in 0..dimensions {
        let (size, after) = split_i32(rest)?;
        let (lower, after) = split_i32(after)?;
        rest = after;
        odd |= lower != 1;
        bounds.push_str(&format!("[{lower}:{}]", i64::from(lower) + i64::from(size) - 1));
        sizes.push(usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(cut)?);
    }
    // Each element has a length of four bytes.
    let count = sizes.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
    if count.is_none_or(|count| count > rest.len() / 4) {
        return Err(cut());
    }
    if odd {
        out.extend_from_slice(bounds.as_bytes());
        out.push(b'=');
    }
    let rest = write_dimension(element, &sizes, rest, out)?;
    if rest.is_empty() { Ok(()) } else { Err(ValueError::Malformed("an array's elements don't match their count")) }
}

fn write_dimension<'a>(element: &Kind, sizes: &[usize], mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ValueError> {
    let Some((size, inner)) = sizes.split_first() else { return write_element(element, rest, out) };
    out.push(b'{');
    for at in 0..*size {
        if at > 0 {
            out.push(b',');
        }
        rest = write_dimension(element, inner, rest, out)?;
    }
    out.push(b'}');
    Ok(rest)
}

fn write_element<'a>(element: &Kind, bytes: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], ValueError> {
    let (length, rest) = split_i32(bytes)?;
    let Ok(length) = usize::try_from(length) else {
        out.extend_from_slice(b"NULL");
        return Ok(rest);
    };
    let (value, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
    let mut text = Vec::new();
    write_text(element, value, &mut text)?;
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | b'{' | b'}' | b',') || byte.is_ascii_whitespace() || *byte == 0x0b;
    if !text.is_empty() && !text.eq_ignore_ascii_case(b"NULL") && !text.iter().any(special) {
        out.extend_from_slice(&text);
        return Ok(rest);
    }
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::oid;

    fn text(kind: &Kind, bytes: &[u8]) -> Result<String, ValueError> {
        let mut out = Vec::new();
        write_text(kind, bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    /// An array in its send form.
    fn array(bounds: &[(i32, i32)], elements: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = (bounds.len() as i32).to_be_bytes().to_vec();
        bytes.extend(0_i32.to_be_bytes());
        bytes.extend(oid::TEXT.to_be_bytes());
        for (size, lower) in bounds {
            bytes.extend(size.to_be_bytes());
            bytes.extend(lower.to_be_bytes());
        }
        for element in elements {
            bytes.extend(element.map_or(-1, |value| value.len() as i32).to_be_bytes());
            bytes.extend(element.unwrap_or_default());
        }
        bytes
    }

    #[test]
    fn moments_and_spans_are_written_beyond_their_arrow_types() {
        let last = 9_223_371_331_199_999_999_i64.to_be_bytes();
        assert_eq!(text(&Kind::Timestamp, &last).unwrap(), "+294276-12-31T23:59:59.999999");
        assert_eq!(text(&Kind::TimestampTz, &last).unwrap(), "+294276-12-31T23:59:59.999999Z");
        let interval = |micros: i64, days: i32, months: i32| {
            let bytes = [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat();
            text(&Kind::Interval, &bytes).unwrap()
        };
        assert_eq!(interval(i64::MAX, -1, 14), "P14M-1DT9223372036854.775807000S");
        assert_eq!(interval(i64::MIN, 0, 0), "P0M0DT-9223372036854.775808000S");
        assert_eq!(interval(i64::MAX, i32::MAX, i32::MAX), "infinity");
    }

    #[test]
    fn arrays_are_written_as_the_server_does() {
        let list = Kind::List { element: Box::new(Kind::Text), element_oid: oid::TEXT };
        let two = array(&[(2, 1), (2, 1)], &[Some(b"a"), Some(b"b c"), None, Some(b"NULL")]);
        assert_eq!(text(&list, &two).unwrap(), r#"{{a,"b c"},{NULL,"NULL"}}"#);
        let shifted = array(&[(2, 0)], &[Some(b""), Some(b"\"\\")]);
        assert_eq!(text(&list, &shifted).unwrap(), r#"[0:1]={"","\"\\"}"#);
        let moments = Kind::List { element: Box::new(Kind::Timestamp), element_oid: oid::TIMESTAMP };
        let one = array(&[(1, 2)], &[Some(&i64::MIN.to_be_bytes())]);
        assert_eq!(text(&moments, &one).unwrap(), "[2:2]={-infinity}");
        let integers = Kind::List { element: Box::new(Kind::Int4), element_oid: oid::INT4 };
        assert_eq!(text(&integers, &array(&[(1, 1), (1, 1)], &[Some(&7_i32.to_be_bytes())])).unwrap(), "{{7}}");
    }

    #[test]
    fn lying_dimensions_are_refused_before_anything_is_made() {
        let list = Kind::List { element: Box::new(Kind::Text), element_oid: oid::TEXT };
        for bounds in [&[(i32::MAX, 1); 6][..], &[(0, 1), (2, 1)], &[(-1, 1)], &[(1, 1); 7], &[(2, 1)]] {
            assert!(matches!(text(&list, &array(bounds, &[Some(b"a")])), Err(ValueError::Malformed(_))), "{bounds:?}");
        }
    }
}
