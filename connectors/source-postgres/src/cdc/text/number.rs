//! Exact numbers.

use super::bad;
use crate::decode::ValueError;

/// Digits before and after the point, at most: more than the server's own 131,072 and 16,383.
const MAX_DIGITS: usize = 150_000;

/// `numeric`: sign, digits, perhaps a point and digits. The send form has base-10000 digits, none of them zero at either end.
pub(super) fn numeric(text: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let special = match text {
        b"NaN" => Some(0xc000_u16),
        b"Infinity" => Some(0xd000),
        b"-Infinity" => Some(0xf000),
        _ => None,
    };
    if let Some(sign) = special {
        out.extend_from_slice(&[0, 0, 0, 0]);
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        return Ok(());
    }
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((digits, &[][..]), |at| (&digits[..at], &digits[at + 1..]));
    if whole.is_empty() || digits.len() > MAX_DIGITS || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(bad("a text is no exact number"));
    }
    let scale = u16::try_from(fraction.len()).map_err(|_| bad("a number has too many digits after its point"))?;
    // Groups of four, counted from the point.
    let lead = (4 - whole.len() % 4) % 4;
    let groups = whole.len().div_ceil(4) + fraction.len().div_ceil(4);
    let at = |index: usize| -> u16 {
        let digit = match index.checked_sub(lead) {
            None => None,
            Some(place) if place < whole.len() => whole.get(place),
            Some(place) => fraction.get(place - whole.len()),
        };
        digit.map_or(0, |digit| u16::from(digit - b'0'))
    };
    let values: Vec<u16> = (0..groups).map(|group| (0..4).fold(0, |value, digit| value * 10 + at(group * 4 + digit))).collect();
    let first = values.iter().position(|value| *value != 0);
    let last = values.iter().rposition(|value| *value != 0);
    let (kept, weight) = match (first, last) {
        (Some(first), Some(last)) => (&values[first..=last], whole.len().div_ceil(4) as i64 - 1 - first as i64),
        _ => (&[][..], 0),
    };
    let count = u16::try_from(kept.len()).map_err(|_| bad("a number has too many digits"))?;
    let weight = i16::try_from(weight).map_err(|_| bad("a number has too many digits"))?;
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&if negative && count > 0 { 0x4000_u16 } else { 0 }.to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    kept.iter().for_each(|value| out.extend_from_slice(&value.to_be_bytes()));
    Ok(())
}

/// `money` in the locale C: `$1,234.50`, `-$0.05`.
pub(super) fn money(text: &[u8]) -> Result<i64, ValueError> {
    let negative = text.first() == Some(&b'-');
    let mut value = 0_i64;
    let mut digits = 0;
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                // Built downwards: the smallest value has no positive twin.
                let shifted = value.checked_mul(10).and_then(|value| value.checked_sub(i64::from(byte - b'0')));
                value = shifted.ok_or(bad("an amount of money is too large"))?;
                digits += 1;
            }
            b'$' | b',' | b'.' | b'-' => {}
            _ => return Err(bad("an amount of money is not written as in the locale C")),
        }
    }
    if digits < 3 || text.get(text.len().wrapping_sub(3)) != Some(&b'.') {
        return Err(bad("an amount of money is not written as in the locale C"));
    }
    if negative { Ok(value) } else { value.checked_neg().ok_or(bad("an amount of money is too large")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::numeric_text;

    #[test]
    fn numbers_read_back_as_they_were_written() {
        for text in [
            "0",
            "0.000",
            "1",
            "-1",
            "10000",
            "9999",
            "12345678901234567890.0000000001",
            "-0.00010000",
            "0.1",
            "100000000",
            "1.10",
            "99999999999999999999999999999999999999.99999",
            "0.00000000000000000001",
            "NaN",
            "Infinity",
            "-Infinity",
            "20000.0000",
        ] {
            let mut sent = Vec::new();
            numeric(text.as_bytes(), &mut sent).unwrap();
            let mut shown = Vec::new();
            numeric_text(&sent, &mut shown).unwrap();
            assert_eq!(std::str::from_utf8(&shown).unwrap(), text);
        }
    }

    #[test]
    fn the_send_form_is_the_servers() {
        // Captured: `SELECT numeric_send(…)`.
        for (text, sent) in [
            ("12345.678", &b"\0\x03\0\x01\0\0\0\x03\0\x01\x09\x29\x1a\x7c"[..]),
            ("-0.0001", b"\0\x01\xff\xff\x40\0\0\x04\0\x01"),
            ("0", b"\0\0\0\0\0\0\0\0"),
            ("1000000", b"\0\x01\0\x01\0\0\0\0\0\x64"),
        ] {
            let mut out = Vec::new();
            numeric(text.as_bytes(), &mut out).unwrap();
            assert_eq!(out, sent, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "-", ".", "1e5", "1.2.3", "--1", " 1", "+1", ".5", "1a"] {
            assert!(numeric(text.as_bytes(), &mut Vec::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn money_is_counted_in_hundredths() {
        for (text, value) in [
            ("$0.00", 0),
            ("$1,234.50", 123_450),
            ("-$0.05", -5),
            ("$92,233,720,368,547,758.07", i64::MAX),
            ("-$92,233,720,368,547,758.08", i64::MIN),
        ] {
            assert_eq!(money(text.as_bytes()), Ok(value), "{text}");
        }
        for text in ["", "$1", "1.234,50 €", "$92,233,720,368,547,758.08"] {
            assert!(money(text.as_bytes()).is_err(), "{text}");
        }
    }
}
