//! Decimal numbers as text, exactly: bounds of rules, and columns whose numbers have more digits than an Arrow decimal.

use arrow_buffer::i256;
use std::cmp::Ordering;

/// The longest number that is read. PostgreSQL's longest `numeric` has 147,455 digits.
const MAX_DIGITS: usize = 200_000;

/// A number of any length, or one of the three that are none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Number {
    NegativeInfinity,
    /// Without zeros in front of the whole part and behind the fraction; zero has no sign.
    Finite {
        negative: bool,
        whole: String,
        fraction: String,
    },
    Infinity,
    NaN,
}

impl Number {
    /// Reads plain digits with an optional sign and fraction, `NaN`, `Infinity` and `-Infinity`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "NaN" => return Some(Self::NaN),
            "Infinity" => return Some(Self::Infinity),
            "-Infinity" => return Some(Self::NegativeInfinity),
            _ => {}
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || text.len() > MAX_DIGITS || !plain(whole) || !plain(fraction) {
            return None;
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self::Finite { negative, whole: whole.to_owned(), fraction: fraction.to_owned() })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite { .. } => 1,
            Self::Infinity => 2,
            Self::NaN => 3,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let (
            Self::Finite { negative, whole, fraction },
            Self::Finite { negative: other_negative, whole: other_whole, fraction: other_fraction },
        ) = (self, other)
        else {
            return self.rank().cmp(&other.rank());
        };
        let size =
            || whole.len().cmp(&other_whole.len()).then_with(|| whole.cmp(other_whole)).then_with(|| fraction.cmp(other_fraction));
        match (negative, other_negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => size(),
            (true, true) => size().reverse(),
        }
    }
}

/// A number in units of a scale: the greatest whole number of units not above it, and the least not below it. Both are the
/// same exactly if it has no more digits than the scale. Numbers beyond 256 bits are the last on their side.
pub(super) fn units(text: &str, scale: i8) -> Option<(i256, i256)> {
    let Number::Finite { negative, whole, fraction } = Number::parse(text)? else { return None };
    let mut digits = format!("{whole}{fraction}");
    let missing = isize::from(scale) - isize::try_from(fraction.len()).ok()?;
    let mut rest = false;
    if missing >= 0 {
        digits.push_str(&"0".repeat(missing.unsigned_abs()));
    } else {
        let kept = digits.len().saturating_sub(missing.unsigned_abs());
        rest = digits[kept..].bytes().any(|digit| digit != b'0');
        digits.truncate(kept);
    }
    let digits = digits.trim_start_matches('0');
    let nearer = match digits.len() {
        0 => Some(i256::ZERO),
        // Every number of 76 digits has 256 bits.
        1..=76 => i256::from_string(digits),
        _ => return Some(if negative { (i256::MIN, i256::MIN) } else { (i256::MAX, i256::MAX) }),
    }?;
    let nearer = if negative { -nearer } else { nearer };
    Some(match (rest, negative) {
        (false, _) => (nearer, nearer),
        (true, false) => (nearer, nearer + i256::ONE),
        (true, true) => (nearer - i256::ONE, nearer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_their_order() {
        let ascending = [
            "-Infinity",
            "-100000000000000000000000000000000000001.5",
            "-10",
            "-9.99",
            "-9.9",
            "-1",
            "-0.10",
            "-0.01",
            "0",
            "0.009",
            "0.01",
            "0.0100000000000000000000000000000000000001",
            "1",
            "1.5",
            "2",
            "10",
            "123456789012345678901234567890",
            "Infinity",
            "NaN",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(Number::parse(one).unwrap().cmp(&Number::parse(other).unwrap()), at.cmp(&other_at), "{one} {other}");
            }
        }
        assert_eq!(Number::parse("-0.00"), Number::parse("0"));
        assert_eq!(Number::parse("007.50"), Number::parse("7.5"));
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "-", "+1", "1.", ".5", "1e3", " 1", "1,5", "nan", "--1", "1.2.3", "\u{661}"] {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bounds_between_two_units_have_one_on_each_side() {
        let read = |text, scale| units(text, scale).map(|(below, above)| (below.as_i128(), above.as_i128()));
        for (text, scale, expected) in [
            ("1.5", 1, (15, 15)),
            ("1.5", 3, (1500, 1500)),
            ("1.5", 0, (1, 2)),
            ("-1.5", 0, (-2, -1)),
            ("0.004", 2, (0, 1)),
            ("-0.004", 2, (-1, 0)),
            ("1234", -2, (12, 13)),
            ("1200", -2, (12, 12)),
            ("99", -2, (0, 1)),
            ("-0", 2, (0, 0)),
        ] {
            assert_eq!(read(text, scale), Some(expected), "{text} {scale}");
        }
        assert_eq!(units(&"9".repeat(80), 0), Some((i256::MAX, i256::MAX)));
        assert_eq!(units(&format!("-{}", "9".repeat(80)), 0), Some((i256::MIN, i256::MIN)));
        assert_eq!(units("NaN", 0), None);
    }
}
