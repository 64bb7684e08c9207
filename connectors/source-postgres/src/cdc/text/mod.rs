//! Values as text, into the send form of their types: so that both go through the same decoder and become the same Arrow.
//!
//! The texts are those of a session with `DateStyle = ISO, YMD`, `IntervalStyle = postgres`, `TimeZone = UTC`,
//! `extra_float_digits = 3`, `bytea_output = hex` and `lc_monetary = C`, which every session of ours has.

mod array;
mod number;
mod time;

use crate::decode::ValueError;
use crate::types::{Kind, oid};

fn bad(what: &'static str) -> ValueError {
    ValueError::Malformed(what)
}

fn ascii(text: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(text).map_err(|_| bad("a text is not valid UTF-8"))
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Result<T, ValueError> {
    ascii(text)?.parse().map_err(|_| bad("a text is no number of its type"))
}

fn hex(byte: u8) -> Result<u8, ValueError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(bad("a text is not hexadecimal")),
    }
}

fn push_hex(digits: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let (pairs, []) = digits.as_chunks::<2>() else { return Err(bad("a hexadecimal text has an odd length")) };
    for [high, low] in pairs {
        out.push(hex(*high)? << 4 | hex(*low)?);
    }
    Ok(())
}

/// Appends the send form of a value of a kind. `type_oid` is the base type's.
pub(super) fn send_form(kind: &Kind, type_oid: u32, text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    match kind {
        Kind::Bool => out.push(match text {
            b"t" | b"true" => 1,
            b"f" | b"false" => 0,
            _ => return Err(bad("a text is no boolean")),
        }),
        Kind::Int2 => out.extend_from_slice(&parsed::<i16>(text)?.to_be_bytes()),
        Kind::Int4 => out.extend_from_slice(&parsed::<i32>(text)?.to_be_bytes()),
        Kind::Int8 => out.extend_from_slice(&parsed::<i64>(text)?.to_be_bytes()),
        Kind::Float4 => out.extend_from_slice(&parsed::<f32>(text)?.to_be_bytes()),
        Kind::Float8 => out.extend_from_slice(&parsed::<f64>(text)?.to_be_bytes()),
        Kind::Oid => out.extend_from_slice(&parsed::<u32>(text)?.to_be_bytes()),
        Kind::Decimal128 { .. } | Kind::Decimal256 { .. } | Kind::NumericText => number::numeric(text, out)?,
        Kind::Money => out.extend_from_slice(&number::money(text)?.to_be_bytes()),
        Kind::Char => out.push(match text {
            [] => 0,
            [byte] => *byte,
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'] => (a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'),
            _ => return Err(bad("a text is not one byte")),
        }),
        Kind::Text | Kind::Json => out.extend_from_slice(text),
        Kind::Cast => {
            out.extend_from_slice(text);
            // A cast shows the length of the network where the output leaves that of a single host out.
            if type_oid == oid::INET && !text.contains(&b'/') {
                out.extend_from_slice(if text.contains(&b':') { b"/128" } else { b"/32" });
            }
        }
        Kind::Jsonb => {
            out.push(1);
            out.extend_from_slice(text);
        }
        Kind::Bytea => match text.strip_prefix(b"\\x") {
            Some(digits) => push_hex(digits, out)?,
            None => return Err(bad("a bytea is not in its hexadecimal form")),
        },
        Kind::Uuid => {
            let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
            push_hex(&digits, out)?;
        }
        Kind::Date => out.extend_from_slice(&time::date(ascii(text)?)?.to_be_bytes()),
        Kind::Time => out.extend_from_slice(&time::time(ascii(text)?)?.to_be_bytes()),
        Kind::Timestamp | Kind::TimestampTz => out.extend_from_slice(&time::timestamp(ascii(text)?)?.to_be_bytes()),
        Kind::Interval => time::interval(ascii(text)?, out)?,
        Kind::List { element, element_oid } => array::array(element, *element_oid, text, out)?,
        Kind::Split(kind) => send_form(kind, type_oid, text, out)?,
    }
    Ok(())
}
