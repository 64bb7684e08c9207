//! `numeric` in its send form: base-10000 digits.

use super::ValueError;
use arrow_buffer::i256;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const PLUS_INFINITY: u16 = 0xd000;
const MINUS_INFINITY: u16 = 0xf000;
const BASE: u64 = 10_000;

/// Largest scale the server knows.
const MAX_DISPLAY_SCALE: u16 = 16_383;

/// A value as the server sends it.
struct Numeric<'a> {
    digits: &'a [[u8; 2]],
    /// The first digit's place: the value is `0.d1d2… × 10000^(weight + 1)`.
    weight: i32,
    negative: bool,
    scale: u16,
}

enum Parsed<'a> {
    Number(Numeric<'a>),
    Special(&'static str),
}

fn be(bytes: [u8; 2]) -> u16 {
    u16::from_be_bytes(bytes)
}

#[inline]
fn parse(bytes: &[u8]) -> Result<Parsed<'_>, ValueError> {
    let short = ValueError::Malformed("a numeric is cut short");
    let (head, rest) = bytes.split_first_chunk::<8>().ok_or(short)?;
    let [n0, n1, w0, w1, s0, s1, d0, d1] = *head;
    let (digits, odd) = rest.as_chunks::<2>();
    if digits.len() != be([n0, n1]) as usize || !odd.is_empty() {
        return Err(ValueError::Malformed("a numeric's digits don't match their count"));
    }
    let negative = match be([s0, s1]) {
        0 => false,
        NEGATIVE => true,
        NAN => return Ok(Parsed::Special("NaN")),
        PLUS_INFINITY => return Ok(Parsed::Special("Infinity")),
        MINUS_INFINITY => return Ok(Parsed::Special("-Infinity")),
        _ => return Err(ValueError::Malformed("a numeric has an unknown sign")),
    };
    let scale = be([d0, d1]);
    if scale > MAX_DISPLAY_SCALE {
        return Err(ValueError::Malformed("a numeric has an impossible scale"));
    }
    Ok(Parsed::Number(Numeric { digits, weight: i32::from(i16::from_be_bytes([w0, w1])), negative, scale }))
}

/// A digit of base 10000.
#[inline]
fn digit(bytes: [u8; 2]) -> Result<u64, ValueError> {
    let value = u64::from(be(bytes));
    if value < BASE { Ok(value) } else { Err(ValueError::Malformed("a numeric has an impossible digit")) }
}

const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < 20 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

const OUT_OF_RANGE: ValueError = ValueError::Malformed("a numeric is larger than its column's precision");
const FINER: ValueError = ValueError::Malformed("a numeric is finer than its column's scale");

/// The value times `10^scale`, below `limit` = `10^precision`.
#[inline]
pub(super) fn decimal128(bytes: &[u8], scale: i8, limit: i128) -> Result<i128, ValueError> {
    match short(bytes, scale) {
        Some(value) if i128::from(value.unsigned_abs()) < limit => Ok(value.into()),
        _ => long128(bytes, scale, limit),
    }
}

/// The value of at most three groups that end at the point or soon after it, which is most of what tables hold; `None` for
/// any other, and for what must be refused.
#[inline]
fn short(bytes: &[u8], scale: i8) -> Option<i64> {
    let (head, groups) = bytes.split_first_chunk::<8>()?;
    let head = u64::from_be_bytes(*head);
    let (count, weight, sign, display) = (head >> 48, (head >> 32) as i16, (head >> 16) as u16, head as u16);
    let (first, second, third) = match *groups {
        [] => (0, 0, 0),
        [a0, a1] => (0, 0, be([a0, a1])),
        [a0, a1, b0, b1] => (0, be([a0, a1]), be([b0, b1])),
        [a0, a1, b0, b1, c0, c1] => (be([a0, a1]), be([b0, b1]), be([c0, c1])),
        _ => return None,
    };
    let (first, second, third) = (u64::from(first), u64::from(second), u64::from(third));
    let sound = groups.len() as u64 == 2 * count && display <= MAX_DISPLAY_SCALE && first < BASE && second < BASE && third < BASE;
    if !sound || !matches!(sign, 0 | NEGATIVE) {
        return None;
    }
    let value = (first * BASE + second) * BASE + third;
    let power = 4 * (i32::from(weight) + 1 - count as i32) + i32::from(scale);
    let unit = *POWERS.get(power.unsigned_abs() as usize).filter(|_| (-3..=3).contains(&power))?;
    let value = if power >= 0 {
        value * unit
    } else {
        if !value.is_multiple_of(unit) {
            return None;
        }
        value / unit
    };
    let value = value.cast_signed();
    Some(if sign == NEGATIVE { -value } else { value })
}

fn long128(bytes: &[u8], scale: i8, limit: i128) -> Result<i128, ValueError> {
    let Parsed::Number(number) = parse(bytes)? else { return Err(ValueError::Beyond) };
    // The last digit's power of ten, in units of 10^-scale.
    let count = number.digits.len() as i32;
    let power = 4 * (number.weight + 1 - count) + i32::from(scale);
    // Four digits and a shift by less than 10^3 stay within 64 bits, which is most of what tables hold.
    if count <= 4 && (-3..=3).contains(&power) {
        let mut value = 0;
        for bytes in number.digits {
            value = value * BASE + digit(*bytes)?;
        }
        let shift = POWERS[power.unsigned_abs() as usize];
        let value = if power >= 0 {
            value * shift
        } else {
            if value % shift != 0 {
                return Err(FINER);
            }
            value / shift
        };
        let value = i128::from(value);
        if value >= limit {
            return Err(OUT_OF_RANGE);
        }
        return Ok(if number.negative { -value } else { value });
    }
    let mut value = 0_i128;
    steps(&number, scale, |factor, digit| {
        let grown = value.checked_mul(i128::from(factor)).and_then(|value| value.checked_add(i128::from(digit)));
        value = grown.filter(|value| *value < limit).ok_or(OUT_OF_RANGE)?;
        Ok(())
    })?;
    Ok(if number.negative { -value } else { value })
}

/// As [`decimal128`], with more room.
pub(super) fn decimal256(bytes: &[u8], scale: i8, limit: i256) -> Result<i256, ValueError> {
    let Parsed::Number(number) = parse(bytes)? else { return Err(ValueError::Beyond) };
    let wide = |small: u64| i256::from_i128(i128::from(small));
    let mut value = i256::ZERO;
    steps(&number, scale, |factor, digit| {
        let grown = value.checked_mul(wide(factor)).and_then(|value| value.checked_add(wide(digit)));
        value = grown.filter(|value| *value < limit).ok_or(OUT_OF_RANGE)?;
        Ok(())
    })?;
    Ok(if number.negative { value.wrapping_neg() } else { value })
}

/// Builds the value times `10^scale` from the left: each step multiplies by the first number and adds the second. No
/// intermediate value is larger than the result.
fn steps(number: &Numeric<'_>, scale: i8, mut step: impl FnMut(u64, u64) -> Result<(), ValueError>) -> Result<(), ValueError> {
    let mut power = 4 * (number.weight + 1) + i32::from(scale);
    let mut nothing = true;
    for bytes in number.digits {
        let digit = digit(*bytes)?;
        power -= 4;
        nothing &= digit == 0;
        match power {
            0.. => step(BASE, digit)?,
            -3..=-1 => {
                let unit = POWERS[power.unsigned_abs() as usize];
                if digit % unit != 0 {
                    return Err(FINER);
                }
                step(BASE / unit, digit / unit)?;
            }
            _ if digit != 0 => return Err(FINER),
            _ => {}
        }
    }
    if !nothing {
        for _ in 0..power {
            step(10, 0)?;
        }
    }
    Ok(())
}

/// Appends the value's exact text, as the server would write it.
pub(crate) fn text(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ValueError> {
    let number = match parse(bytes)? {
        Parsed::Special(word) => {
            out.extend_from_slice(word.as_bytes());
            return Ok(());
        }
        Parsed::Number(number) => number,
    };
    let start = out.len();
    match write(&number, out) {
        Ok(()) => Ok(()),
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn push_group(group: u64, out: &mut Vec<u8>) {
    for power in [1000, 100, 10, 1] {
        out.push(b'0' + (group / power % 10) as u8);
    }
}

fn write(number: &Numeric<'_>, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let group = |place: i32| match usize::try_from(place).ok().and_then(|place| number.digits.get(place)) {
        Some(bytes) => digit(*bytes),
        None => Ok(0),
    };
    if number.negative {
        out.push(b'-');
    }
    if number.weight < 0 {
        out.push(b'0');
    } else {
        let whole = out.len();
        for place in 0..=number.weight {
            push_group(group(place)?, out);
        }
        let zeros = out[whole..].iter().take_while(|byte| **byte == b'0').count().min(out.len() - whole - 1);
        out.drain(whole..whole + zeros);
    }
    if number.scale > 0 {
        out.push(b'.');
        let fraction = out.len();
        let mut place = number.weight + 1;
        while out.len() - fraction < number.scale as usize {
            push_group(group(place)?, out);
            place += 1;
        }
        out.truncate(fraction + number.scale as usize);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let mut bytes = (digits.len() as u16).to_be_bytes().to_vec();
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        bytes
    }

    fn as_text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        text(bytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_the_servers() {
        for (bytes, expected) in [
            (wire(0, 0, 0, &[]), "0"),
            (wire(0, 0, 2, &[]), "0.00"),
            (wire(0, 0, 2, &[1, 5000]), "1.50"),
            (wire(1, NEGATIVE, 2, &[10, 4000, 5500]), "-104000.55"),
            (wire(-1, 0, 4, &[1]), "0.0001"),
            (wire(-2, 0, 9, &[1230]), "0.000012300"),
            (wire(2, 0, 0, &[1]), "100000000"),
            (wire(0, NAN, 0, &[]), "NaN"),
            (wire(0, MINUS_INFINITY, 0, &[]), "-Infinity"),
        ] {
            assert_eq!(as_text(&bytes), expected);
        }
        assert_eq!(as_text(&wire(i16::MAX, 0, 0, &[1])).len(), 131_069);
    }

    #[test]
    fn decimals_are_exact() {
        let limit = 10_i128.pow(38);
        let nines = [9, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9000];
        for (bytes, scale, expected) in [
            (wire(1, 0, 2, &[10, 4000, 5500]), 2, 10_400_055),
            (wire(1, NEGATIVE, 2, &[10, 4000, 5500]), 2, -10_400_055),
            (wire(0, 0, 2, &[]), 2, 0),
            (wire(-1, 0, 2, &[500]), 2, 5),
            (wire(2, 0, 0, &[1]), 0, 100_000_000),
            (wire(7, 0, 9, &nines), 9, limit - 1),
            (wire(5, 0, 9, &[1]), 9, 100_000_000_000_000_000_000_000_000_000),
        ] {
            assert_eq!(decimal128(&bytes, scale, limit), Ok(expected));
            assert_eq!(decimal256(&bytes, scale, i256::from_i128(limit)), Ok(i256::from_i128(expected)));
        }
    }

    #[test]
    fn what_does_not_fit_is_told_apart_from_what_is_broken() {
        let limit = 10_i128.pow(5);
        assert_eq!(decimal128(&wire(0, NAN, 0, &[]), 2, limit), Err(ValueError::Beyond));
        assert_eq!(decimal128(&wire(1, 0, 2, &[10, 0, 0]), 2, limit), Err(OUT_OF_RANGE));
        assert_eq!(decimal128(&wire(-1, 0, 4, &[1]), 2, limit), Err(FINER));
        assert_eq!(decimal128(&wire(i16::MAX, 0, 0, &[1]), 2, limit), Err(OUT_OF_RANGE));
        for bytes in
            [&b""[..], b"\0\x01\0\0\0\0\0\0", &wire(0, 0, 0, &[10_000]), &wire(0, 0x1234, 0, &[]), &wire(0, 0, 0x7fff, &[])]
        {
            assert!(matches!(decimal128(bytes, 2, limit), Err(ValueError::Malformed(_))));
            assert!(matches!(text(bytes, &mut Vec::new()), Err(ValueError::Malformed(_))));
        }
    }
}
