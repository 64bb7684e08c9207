//! Decimal numbers in text, exactly.

use std::cmp::Ordering;

/// A decimal number of any size: `±0.digits × 10^point`, with neither leading nor trailing zeros in its digits; zero has none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Number {
    negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Number {
    /// Reads digits with a sign, a point and an exponent, as sources and floats write them.
    pub fn read(text: &str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (unsigned, 0),
        };
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if integer.is_empty() || !integer.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let all = [integer.as_bytes(), fraction.as_bytes()].concat();
        let leading = all.iter().take_while(|digit| **digit == b'0').count();
        let kept = all.iter().rposition(|digit| *digit != b'0').map_or(leading, |last| last + 1);
        let digits = all.get(leading..kept).unwrap_or_default().to_vec();
        let point = if digits.is_empty() { 0 } else { integer.len() as i64 - leading as i64 + i64::from(exponent) };
        Some(Self { negative: negative && !digits.is_empty(), digits, point })
    }

    /// The same, if the text is as plain as a column of numbers would write it: no sign but `-`, no exponent, no zeros in front.
    pub fn read_plain(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let (integer, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(integer, rest)| (integer, Some(rest)));
        let plain = (integer == "0" || !integer.starts_with('0')) && fraction != Some("") && !unsigned.contains(['e', 'E']);
        Self::read(text).filter(|number| plain && !(number.digits.is_empty() && text.starts_with('-')))
    }

    /// Digits after the point that it needs.
    pub fn scale(&self) -> i64 {
        (self.digits.len() as i64 - self.point).max(0)
    }

    /// Whether `numeric(precision, scale)` holds it.
    pub fn is_within(&self, precision: i64, scale: i64) -> bool {
        self.digits.len() as i64 - self.point <= scale && (self.digits.is_empty() || self.point <= precision - scale)
    }

    /// As an integer, if it is one of at most 64 bits.
    pub fn integer(&self) -> Option<i64> {
        if self.scale() > 0 || self.point > 19 {
            return None;
        }
        let mut value: i128 = 0;
        for place in 0..self.point {
            let digit = usize::try_from(place).ok().and_then(|place| self.digits.get(place)).map_or(0, |digit| digit - b'0');
            value = value * 10 + i128::from(digit);
        }
        i64::try_from(if self.negative { -value } else { value }).ok()
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| {
            if number.digits.is_empty() {
                0
            } else if number.negative {
                -1
            } else {
                1
            }
        };
        let size = |a: &Self, b: &Self| a.point.cmp(&b.point).then_with(|| a.digits.cmp(&b.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            1 => size(self, other),
            -1 => size(other, self),
            _ => Ordering::Equal,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::read(text).unwrap_or_else(|| panic!("`{text}` is a number"))
    }

    #[test]
    fn spellings_of_one_number_are_equal() {
        for (one, other) in [("1.50", "1.5"), ("0.0", "-0"), ("1e3", "1000"), ("-12.5e-1", "-1.25"), ("0.001", "1e-3")] {
            assert_eq!(number(one), number(other), "{one} {other}");
        }
        assert_ne!(number("1"), number("10"));
        assert_ne!(number("1"), number("-1"));
    }

    #[test]
    fn integers_are_whole_and_within_64_bits() {
        assert_eq!(number("-9223372036854775808").integer(), Some(i64::MIN));
        assert_eq!(number("9223372036854775808").integer(), None);
        assert_eq!(number("1.20e1").integer(), Some(12));
        assert_eq!(number("1.5").integer(), None);
        assert_eq!(number("1e400").integer(), None);
        assert_eq!(number("0.00").integer(), Some(0));
    }

    #[test]
    fn digits_on_both_sides_of_the_point_are_counted() {
        assert!(number("123.45").is_within(5, 2));
        assert!(!number("1234.5").is_within(5, 2));
        assert!(!number("1.234").is_within(5, 2));
        assert!(number("1.230").is_within(5, 2));
        assert!(number("0").is_within(2, 2));
        // Servers from 15 on know a scale beyond the precision, and a negative one.
        assert!(number("0.00012").is_within(2, 5));
        assert!(!number("0.001").is_within(2, 5));
        assert!(number("12300").is_within(3, -2));
        assert!(!number("12310").is_within(3, -2));
    }

    #[test]
    fn only_plain_text_is_a_number_on_its_own() {
        for plain in ["0", "-1", "10.50", "0.5"] {
            assert!(Number::read_plain(plain).is_some(), "{plain}");
        }
        for other in ["", " 1", "01", "+1", "1e3", "1.", ".5", "-0", "-0.0", "1_000", "NaN"] {
            assert!(Number::read_plain(other).is_none(), "{other}");
        }
    }

    #[test]
    fn numbers_are_in_order() {
        let sorted = ["-100", "-20", "-0.5", "0", "0.05", "0.5", "3", "20", "100.1", "100.11"];
        for pair in sorted.windows(2) {
            assert!(number(pair[0]) < number(pair[1]), "{pair:?}");
        }
    }
}
