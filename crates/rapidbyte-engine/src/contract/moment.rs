//! Dates and times as people write them, exactly.

use crate::replay::values;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A day since 1970: `2024-02-29`.
pub(super) fn day(text: &str) -> Option<i64> {
    values::date(text)
}

/// A time of day in parts of a second: `13:37`, `13:37:00`, `13:37:00.5`. Finer digits than the parts must be zeros.
pub(super) fn of_day(text: &str, digits: usize) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let fraction = match fraction {
        None => "",
        Some("") => return None,
        Some(fraction) => fraction,
    };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = if whole.matches(':').count() == 1 && fraction.is_empty() { format!("{whole}:00") } else { whole.to_owned() };
    let kept = fraction.get(..digits).unwrap_or(fraction);
    if fraction[kept.len()..].bytes().any(|digit| digit != b'0') {
        return None;
    }
    let exact = if digits == 0 { seconds } else { format!("{seconds}.{kept:0<digits$}") };
    values::time(&exact, digits)
}

/// A moment in parts of a second since 1970: a day, `T` or a blank, and a time; with `Z` or an offset exactly where moments are
/// instants. Without a zone the time may be left out.
pub(super) fn moment(text: &str, digits: usize, zoned: bool) -> Option<i64> {
    let (text, offset) = if zoned { zone(text)? } else { (text, 0) };
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, of_day(time, digits)?),
        None if !zoned => (text, 0),
        None => return None,
    };
    let unit = 10_i128.pow(u32::try_from(digits).ok()?);
    let total = (i128::from(day(date)?) * i128::from(DAY) - i128::from(offset)) * unit + i128::from(time);
    i64::try_from(total).ok()
}

/// Splits off `Z`, `+01`, `+01:30` or `+0130`; the offset in seconds.
fn zone(text: &str) -> Option<(&str, i64)> {
    if let Some(rest) = text.strip_suffix('Z') {
        return Some((rest, 0));
    }
    let time = text.find(['T', ' '])?;
    let at = time + text[time..].rfind(['+', '-'])?;
    let (rest, offset) = text.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let digits: String = offset[1..].chars().filter(|c| *c != ':').collect();
    let shaped =
        matches!(offset.len(), 3 | 5) && digits.len() + 1 == offset.len() || offset.len() == 6 && offset.as_bytes()[3] == b':';
    if !shaped || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| digits.get(range).map_or(Some(0), |part| part.parse::<i64>().ok());
    let (hours, minutes) = (part(0..2)?, part(2..4)?);
    (hours <= 18 && minutes < 60).then_some((rest, sign * (hours * 3600 + minutes * 60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_the_forms_people_write() {
        let noon = 19_723 * DAY + 12 * 3600;
        for (text, digits, zoned, expected) in [
            ("2024-01-01", 0, false, Some(19_723 * DAY)),
            ("2024-01-01T12:00:00", 0, false, Some(noon)),
            ("2024-01-01 12:00", 0, false, Some(noon)),
            ("2024-01-01 12:00:00.5", 3, false, Some(noon * 1000 + 500)),
            ("2024-01-01 12:00:00.500000", 3, false, Some(noon * 1000 + 500)),
            ("2024-01-01 12:00:00.500001", 3, false, None),
            ("2024-01-01T12:00:00Z", 0, true, Some(noon)),
            ("2024-01-01T14:00:00+02", 0, true, Some(noon)),
            ("2024-01-01 06:30:00-05:30", 0, true, Some(noon)),
            ("2024-01-01 13:00:00+0100", 0, true, Some(noon)),
            ("2024-01-01", 0, true, None),
            ("2024-01-01T12:00:00", 0, true, None),
            ("2024-01-01T12:00:00Z", 0, false, None),
            ("2024-01-01T12:00:00+1", 0, true, None),
            ("2024-01-01T12:00:00+25:00", 0, true, None),
            ("2024-01-01T25:00:00", 0, false, None),
            ("2024-02-30", 0, false, None),
            ("yesterday", 0, false, None),
            ("2024-01-01T12:00:00.", 0, false, None),
            ("2024-01-01T12:00:00+é", 0, true, None),
        ] {
            assert_eq!(moment(text, digits, zoned), expected, "{text}");
        }
    }
}
