//! Places in the server's log.

use rapidbyte_sdk::{ConnectorError, CursorType, Position};
use std::fmt;
use std::str::FromStr;

/// A byte of the log. Positions of changes are ends of records: a transaction lies before a position if its commit record begins
/// before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Lsn(pub(crate) u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A text that is no place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnLsn;

impl FromStr for Lsn {
    type Err = NotAnLsn;

    /// Two halves of up to eight hexadecimal digits, as the server writes them.
    fn from_str(text: &str) -> Result<Self, NotAnLsn> {
        let half = |part: &str| match part.len() {
            1..=8 if part.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(part, 16).map_err(|_| NotAnLsn),
            _ => Err(NotAnLsn),
        };
        let (high, low) = text.split_once('/').ok_or(NotAnLsn)?;
        Ok(Self(half(high)? << 32 | half(low)?))
    }
}

impl Lsn {
    /// As the position of a barrier.
    pub(crate) fn position(self) -> Position {
        Position::new(CursorType::Lsn, self.to_string())
    }

    /// What a position of ours says.
    pub(crate) fn of(position: &Position) -> Result<Self, ConnectorError> {
        let place = position.lsn().map(Self);
        place.ok_or_else(|| {
            ConnectorError::data("source_changed", "a position of changes was written by something else than this connector")
                .with_hint("give the pipeline another name, so that it begins anew")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_and_order_as_numbers() {
        for (text, number) in [("0/0", 0), ("16/B374D848", 0x16_B374_D848), ("FFFFFFFF/FFFFFFFF", u64::MAX), ("1/A", 0x1_0000_000A)]
        {
            assert_eq!(text.parse(), Ok(Lsn(number)));
            assert_eq!(Lsn(number).to_string(), text);
            assert_eq!(Lsn::of(&Lsn(number).position()).unwrap(), Lsn(number));
        }
        assert!("9/0".parse::<Lsn>().unwrap() < "10/0".parse::<Lsn>().unwrap());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "/", "1", "1/", "/1", "1/2/3", "+1/2", "123456789/0", "g/0", " 1/2", "1/-2"] {
            assert_eq!(text.parse::<Lsn>(), Err(NotAnLsn), "{text}");
        }
        assert_eq!(Lsn::of(&Position::new(CursorType::Json, "1/2")).unwrap_err().code, "source_changed");
    }
}
