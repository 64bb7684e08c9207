//! `numeric` in its send format: digit groups of base 10,000, the first with weight `weight`.
//!
//! Layout: field length (i32), group count, weight, sign, display scale (i16 each), groups (i16 each).

use super::cell::CellFault;
use arrow_buffer::i256;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITY: u16 = 0xd000;
const NEGATIVE_INFINITY: u16 = 0xf000;

/// Digits after the point that PostgreSQL can display.
const MAX_DISPLAY_SCALE: usize = 16_383;
/// Digits before the point that PostgreSQL can hold.
const MAX_INTEGER_DIGITS: usize = 131_072;

const POWERS: [u64; 4] = [1, 10, 100, 1000];
/// Two groups hold every number below.
const TWO_GROUPS: u64 = 100_000_000;

/// Room for the longest field of [`Short`]: length, head, five groups, rounded up.
pub(super) const SHORT_FIELD: usize = 24;

/// Writes numbers of one scale by 64-bit arithmetic alone, which is all that WebAssembly does without a function call.
pub(super) struct Short {
    /// What fills the last group.
    pad: u64,
    fraction_groups: i16,
    scale: u16,
}

impl Short {
    /// For this scale; `None` where the long way is needed.
    pub(super) fn new(scale: i8) -> Option<Self> {
        let scale = u16::try_from(scale).ok()?;
        let fraction_groups = scale.div_ceil(4);
        Some(Self { pad: POWERS[usize::from(fraction_groups * 4 - scale)], fraction_groups: fraction_groups as i16, scale })
    }

    /// A whole field and its length; `None` where the long way is needed.
    #[inline]
    pub(super) fn field(&self, value: i128) -> Option<([u8; SHORT_FIELD], usize)> {
        let small = value as i64;
        if i128::from(small) != value {
            return None;
        }
        let rest = small.unsigned_abs().checked_mul(self.pad)?;
        let mut field = [0_u8; SHORT_FIELD];
        let (places, count) = if rest < TWO_GROUPS {
            let rest = rest as u32;
            let (high, low) = (rest / 10_000, rest % 10_000);
            let places = if high == 0 { u16::from(low != 0) } else { 2 };
            let groups = if high == 0 { low << 16 } else { high << 16 | low };
            field[12..16].copy_from_slice(&groups.to_be_bytes());
            // Groups of zeros at the end are not sent.
            (places, if high != 0 && low == 0 { 1 } else { places })
        } else {
            groups(rest, &mut field)
        };
        let weight = if count == 0 { 0 } else { places as i16 - self.fraction_groups - 1 };
        let sign = if small < 0 { NEGATIVE } else { POSITIVE };
        let head = u64::from(count) << 48 | u64::from(weight.cast_unsigned()) << 32 | u64::from(sign) << 16 | u64::from(self.scale);
        field[..4].copy_from_slice(&(8 + 2 * u32::from(count)).to_be_bytes());
        field[4..12].copy_from_slice(&head.to_be_bytes());
        Some((field, 12 + 2 * usize::from(count)))
    }
}

/// The groups of a number with more than two: how many it has, and how many of them are sent.
fn groups(mut rest: u64, field: &mut [u8; SHORT_FIELD]) -> (u16, u16) {
    /// From here on a number has one more group. Five hold every number of 64 bits.
    const STEPS: [u64; 2] = [1_000_000_000_000, 10_000_000_000_000_000];
    let places = 3 + STEPS.iter().map(|step| u16::from(rest >= *step)).sum::<u16>();
    for slot in field[12..12 + 2 * usize::from(places)].chunks_exact_mut(2).rev() {
        slot.copy_from_slice(&((rest % 10_000) as u16).to_be_bytes());
        rest /= 10_000;
    }
    let sent = field[12..12 + 2 * usize::from(places)].chunks_exact(2).rposition(|group| group != [0, 0]);
    (places, sent.map_or(0, |last| last as u16 + 1))
}

/// One field for `value * 10^-scale`.
pub(super) fn write_i128(out: &mut Vec<u8>, value: i128, scale: i8) -> Result<(), CellFault> {
    if let Some((field, length)) = Short::new(scale).and_then(|short| short.field(value)) {
        // A copy of fixed length, cut afterwards: one of a length known only now is a call into the host in WebAssembly.
        let end = out.len() + length;
        out.extend_from_slice(&field);
        out.truncate(end);
        return Ok(());
    }
    write_digits(out, value < 0, value.unsigned_abs().to_string().as_bytes(), scale)
}

/// One field for `value * 10^-scale`.
pub(super) fn write_i256(out: &mut Vec<u8>, value: i256, scale: i8) -> Result<(), CellFault> {
    if let Some(narrow) = value.to_i128() {
        return write_i128(out, narrow, scale);
    }
    let text = value.to_string();
    let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_str()), |digits| (true, digits));
    write_digits(out, negative, digits.as_bytes(), scale)
}

/// One field for the decimal digits of an integer, times `10^-scale`.
fn write_digits(out: &mut Vec<u8>, negative: bool, digits: &[u8], scale: i8) -> Result<(), CellFault> {
    if scale < 0 {
        let mut shifted = digits.to_vec();
        if digits != b"0" {
            shifted.resize(digits.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return write_parts(out, negative, &shifted, b"");
    }
    let scale = usize::from(scale.unsigned_abs());
    if digits.len() > scale {
        let (integer, fraction) = digits.split_at(digits.len() - scale);
        return write_parts(out, negative, integer, fraction);
    }
    let mut fraction = vec![b'0'; scale - digits.len()];
    fraction.extend_from_slice(digits);
    write_parts(out, negative, b"", &fraction)
}

fn write_special(out: &mut Vec<u8>, sign: u16) {
    out.extend_from_slice(&8_i32.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&[0; 2]);
}

/// One field for a number in text, as PostgreSQL writes it: digits, a point, an exponent, `NaN`, `Infinity`.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) -> Result<(), CellFault> {
    let special = match text {
        "NaN" => Some(NAN),
        "Infinity" => Some(INFINITY),
        "-Infinity" => Some(NEGATIVE_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        write_special(out, sign);
        return Ok(());
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| CellFault::NotANumber)?),
        None => (unsigned, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (integer.is_empty() && fraction.is_empty()) || !digits(integer) || !digits(fraction) {
        return Err(CellFault::NotANumber);
    }
    if exponent == 0 {
        return write_parts(out, negative, integer.as_bytes(), fraction.as_bytes());
    }
    // The exponent is bounded before it is spelled out in zeros.
    let places = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX);
    if places > MAX_INTEGER_DIGITS {
        return Err(CellFault::OutOfRange);
    }
    let mut all = [integer.as_bytes(), fraction.as_bytes()].concat();
    let mut point = integer.len();
    if exponent > 0 {
        point += places;
        if all.len() < point {
            all.resize(point, b'0');
        }
    } else if places > point {
        let mut padded = vec![b'0'; places - point];
        padded.extend_from_slice(&all);
        all = padded;
        point = 0;
    } else {
        point -= places;
    }
    let (integer, fraction) = all.split_at(point);
    write_parts(out, negative, integer, fraction)
}

/// One field for ASCII digits before and after the point.
fn write_parts(out: &mut Vec<u8>, negative: bool, integer: &[u8], fraction: &[u8]) -> Result<(), CellFault> {
    let leading = integer.iter().take_while(|digit| **digit == b'0').count();
    let integer = &integer[leading..];
    if integer.len() > MAX_INTEGER_DIGITS || fraction.len() > MAX_DISPLAY_SCALE {
        return Err(CellFault::OutOfRange);
    }
    let head = integer.len() % 4;
    let mut groups: Vec<u16> = Vec::with_capacity(integer.len() / 4 + fraction.len() / 4 + 2);
    let group = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    if head > 0 {
        groups.push(group(&integer[..head]));
    }
    groups.extend(integer[head..].chunks(4).map(group));
    let integer_groups = groups.len() as i32;
    groups.extend(fraction.chunks(4).map(|part| group(part) * POWERS[4 - part.len()] as u16));
    let first = groups.iter().take_while(|group| **group == 0).count();
    let kept = groups.iter().rposition(|group| *group != 0).map_or(first, |last| last + 1);
    let sent = groups.get(first..kept).unwrap_or_default();
    let weight = if sent.is_empty() { 0 } else { integer_groups - 1 - first as i32 };
    out.extend_from_slice(&(8 + 2 * sent.len() as i32).to_be_bytes());
    out.extend_from_slice(&(sent.len() as i16).to_be_bytes());
    out.extend_from_slice(&(weight as i16).to_be_bytes());
    let sign = if negative && !sent.is_empty() { NEGATIVE } else { POSITIVE };
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(fraction.len() as i16).to_be_bytes());
    for group in sent {
        out.extend_from_slice(&group.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weight, sign, display scale and groups of a field.
    fn field(bytes: &[u8]) -> (i16, u16, i16, Vec<u16>) {
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(i32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize, bytes.len() - 4);
        assert_eq!(usize::from(word(4)) * 2 + 12, bytes.len());
        (word(6) as i16, word(8), word(10) as i16, (12..bytes.len()).step_by(2).map(word).collect())
    }

    fn of_text(text: &str) -> (i16, u16, i16, Vec<u16>) {
        let mut out = Vec::new();
        write_text(&mut out, text).unwrap();
        field(&out)
    }

    #[test]
    fn numbers_are_laid_out_as_the_server_does() {
        assert_eq!(of_text("0"), (0, POSITIVE, 0, vec![]));
        assert_eq!(of_text("-0.00"), (0, POSITIVE, 2, vec![]));
        assert_eq!(of_text("1"), (0, POSITIVE, 0, vec![1]));
        assert_eq!(of_text("-12345.678"), (1, NEGATIVE, 3, vec![1, 2345, 6780]));
        assert_eq!(of_text("0.00001"), (-2, POSITIVE, 5, vec![1000]));
        assert_eq!(of_text("100000000"), (2, POSITIVE, 0, vec![1]));
        assert_eq!(of_text("1e3"), (0, POSITIVE, 0, vec![1000]));
        assert_eq!(of_text("1.5e-3"), (-1, POSITIVE, 4, vec![15]));
        assert_eq!(of_text("NaN"), (0, NAN, 0, vec![]));
        assert_eq!(of_text("-Infinity"), (0, NEGATIVE_INFINITY, 0, vec![]));
    }

    #[test]
    fn the_short_way_and_the_long_way_agree() {
        let values =
            [0_i128, 1, -1, 9_999, 10_000, -10_001, 123_456_789, 990_000, i128::from(u64::MAX / 1000), 18_446_744_073_709_551];
        for value in values {
            for scale in 0..=20_i8 {
                let (mut short, mut long) = (Vec::new(), Vec::new());
                write_i128(&mut short, value, scale).unwrap();
                write_digits(&mut long, value < 0, value.unsigned_abs().to_string().as_bytes(), scale).unwrap();
                assert_eq!(short, long, "{value} with scale {scale}");
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "1e", "1e999999999", "0x10", " 1", "nan"] {
            assert!(write_text(&mut Vec::new(), text).is_err(), "`{text}` was accepted");
        }
    }

    #[test]
    fn a_negative_scale_is_spelled_out() {
        let mut out = Vec::new();
        write_i128(&mut out, 12, -3).unwrap();
        assert_eq!(field(&out), (1, POSITIVE, 0, vec![1, 2000]));
    }
}
