//! What an incremental read does about rows that commit late, and about rows without a cursor.

use crate::words::words;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

words! {
    /// What happens to rows whose cursor is NULL.
    NullCursorPolicy ("null cursor policy") {
        /// The run ends before it reads a row.
        Fail = "fail",
        /// They are left out and counted.
        Skip = "skip",
        /// They are read, before all others.
        Include = "include",
    }
}

/// How far behind the bound of the run before an incremental read begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lookback {
    /// For cursors that are dates or times.
    Seconds(u64),
    /// For cursors that are numbers: so much less than the bound.
    Values(u64),
}

/// How an incremental read keeps from missing rows that commit behind the largest cursor seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SafeBoundary {
    /// By the transactions that were in flight.
    XactHorizon,
    /// By reading a stretch before the bound again.
    Lookback(Lookback),
    /// Not at all.
    None,
}

/// A text that is no [`SafeBoundary`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownBoundary;

impl fmt::Display for UnknownBoundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "is no safe boundary, expected `xact_horizon`, `none`, `lookback(5m)` (with `s`, `m`, `h` or `d`) or `lookback(1000)`",
        )
    }
}

impl std::error::Error for UnknownBoundary {}

/// The units of a lookback, the largest first.
const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// No lookback is longer: a century.
const MAX_SECONDS: u64 = 36_525 * 86_400;

impl FromStr for SafeBoundary {
    type Err = UnknownBoundary;

    fn from_str(text: &str) -> Result<Self, UnknownBoundary> {
        match text {
            "xact_horizon" => return Ok(Self::XactHorizon),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let amount = text.strip_prefix("lookback(").and_then(|rest| rest.strip_suffix(')')).ok_or(UnknownBoundary)?;
        let number = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => digits.parse::<u64>().ok().filter(|number| *number > 0),
            false => None,
        };
        for (unit, seconds) in UNITS {
            if let Some(digits) = amount.strip_suffix(unit) {
                let seconds = number(digits).and_then(|count| count.checked_mul(seconds)).filter(|seconds| *seconds <= MAX_SECONDS);
                return seconds.map(|seconds| Self::Lookback(Lookback::Seconds(seconds))).ok_or(UnknownBoundary);
            }
        }
        number(amount)
            .filter(|values| i64::try_from(*values).is_ok())
            .map(|values| Self::Lookback(Lookback::Values(values)))
            .ok_or(UnknownBoundary)
    }
}

impl fmt::Display for SafeBoundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::XactHorizon => f.write_str("xact_horizon"),
            Self::None => f.write_str("none"),
            Self::Lookback(Lookback::Values(values)) => write!(f, "lookback({values})"),
            Self::Lookback(Lookback::Seconds(seconds)) => {
                let unit = UNITS.iter().find(|(_, size)| seconds.is_multiple_of(*size));
                let (unit, size) = unit.copied().unwrap_or(("s", 1));
                write!(f, "lookback({}{unit})", seconds / size)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_read_back_as_themselves() {
        for text in ["xact_horizon", "none", "lookback(5m)", "lookback(90s)", "lookback(2d)", "lookback(1000)", "lookback(1h)"] {
            assert_eq!(text.parse::<SafeBoundary>().map(|boundary| boundary.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("lookback(120s)".parse(), Ok(SafeBoundary::Lookback(Lookback::Seconds(120))));
    }

    #[test]
    fn what_is_no_boundary_is_refused() {
        let wrong = ["", "lookback", "lookback()", "lookback(0)", "lookback(0s)", "lookback(5 m)", "lookback(-5m)", "lookback(5w)"];
        let more = ["lookback(99999999999999999999)", "lookback(9223372036854775808)", "lookback(40000d)", "None", "lookback(+5)"];
        for text in wrong.into_iter().chain(more) {
            assert_eq!(text.parse::<SafeBoundary>(), Err(UnknownBoundary), "{text}");
        }
    }
}
