//! Dates and times in text, exactly.

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    (digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days since 1970 of a day in the proleptic Gregorian calendar, if there is such a day (Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    Some(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
}

/// `2024-02-29`, and with a sign years of other than four digits.
pub(super) fn date(text: &str) -> Option<i64> {
    let (sign, unsigned) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (0, text),
    };
    let mut parts = unsigned.split('-');
    let year = number(parts.next()?, if sign == 0 { 4..=4 } else { 4..=6 })?;
    let (month, day) = (number(parts.next()?, 2..=2)?, number(parts.next()?, 2..=2)?);
    match parts.next() {
        None => days(if sign < 0 { -year } else { year }, month, day),
        Some(_) => None,
    }
}

/// Microseconds of `hh:mm:ss` with up to six digits of a second; `24:00:00` is the end of the day.
pub(super) fn time(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut parts = clock.split(':');
    let hours = number(parts.next()?, 2..=2)?;
    let (minutes, seconds) = (number(parts.next()?, 2..=2)?, number(parts.next()?, 2..=2)?);
    // Finer digits fit if they say nothing.
    let fraction = match fraction {
        None => 0,
        Some(digits) if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) => return None,
        Some(digits) if digits.bytes().skip(6).any(|byte| byte != b'0') => return None,
        Some(digits) => {
            digits.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |sum, byte| sum * 10 + i64::from(byte - b'0'))
        }
    };
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    let fits = parts.next().is_none() && minutes < 60 && seconds < 60 && micros <= DAY_MICROS;
    fits.then_some(micros)
}

/// Microseconds since 1970 of a date and a time, with `T` or a space between, and an offset exactly where one is expected.
pub(super) fn timestamp(text: &str, zoned: bool) -> Option<i64> {
    let at = text.find(['T', ' '])?;
    let (day, rest) = (date(&text[..at])?, &text[at + 1..]);
    let (clock, offset) = match rest.find(['Z', '+', '-']) {
        Some(at) => (&rest[..at], Some(&rest[at..])),
        None => (rest, None),
    };
    let offset = match (offset, zoned) {
        (None, false) => 0,
        (Some("Z"), true) => 0,
        (Some(offset), true) => {
            let sign = if offset.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = offset[1..].split_once(':').unwrap_or((&offset[1..], "00"));
            let (hours, minutes) = (number(hours, 2..=2)?, number(minutes, 2..=2)?);
            if hours > 15 || minutes > 59 {
                return None;
            }
            sign * (hours * 60 + minutes) * 60_000_000
        }
        _ => return None,
    };
    let micros = i128::from(day) * i128::from(DAY_MICROS) + i128::from(time(clock)?) - i128::from(offset);
    i64::try_from(micros).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_sdk::text::{push_date, push_micros};

    #[test]
    fn days_are_read_as_they_are_written() {
        for day in [0, 1, -1, 59, 60, 365, 10_957, 11_016, -719_468, -719_469, -800_000, 2_932_896, 2_932_897, 20_000_000] {
            let mut text = String::new();
            push_date(day, &mut text);
            assert_eq!(date(&text), Some(day), "{text}");
            text.clear();
            push_micros(day, 86_399_999_999, true, &mut text);
            assert_eq!(timestamp(&text, true), Some(day * DAY_MICROS + 86_399_999_999), "{text}");
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for text in
            ["2023-02-29", "2024-13-01", "2024-00-01", "2024-01-32", "24-01-01", "2024-1-1", "2024-01-01 ", "", "12024-01-01"]
        {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_exact() {
        assert_eq!(time("00:00:01.5"), Some(1_500_000));
        assert_eq!(time("24:00:00"), Some(DAY_MICROS));
        assert_eq!(time("00:00:00.000001000"), Some(1));
        for text in ["24:00:01", "00:60:00", "00:00:60", "00:00", "00:00:00.", "00:00:00.0000001", "0:00:00", "00:00:00Z"] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn an_offset_is_there_where_it_is_expected_only() {
        assert_eq!(timestamp("1970-01-01T01:00:00+01", true), Some(0));
        assert_eq!(timestamp("1970-01-01 00:00:00-00:30", true), Some(1_800_000_000));
        assert_eq!(timestamp("1970-01-01 00:00:00", false), Some(0));
        assert_eq!(timestamp("1970-01-01 00:00:00", true), None);
        assert_eq!(timestamp("1970-01-01 00:00:00Z", false), None);
    }
}
