//! Dates, times and intervals.

use super::bad;
use crate::decode::ValueError;

const DAY_MICROS: i64 = 86_400_000_000;

/// Days from 2000-01-01 to a day of the proleptic Gregorian calendar; year 0 is 1 BC.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the day that is sometimes missing is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 730_425
}

fn number(text: &str) -> Result<i64, ValueError> {
    match text.len() {
        1..=9 if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().map_err(|_| bad("a date or time is malformed")),
        _ => Err(bad("a date or time is malformed")),
    }
}

/// `YYYY-MM-DD`, perhaps before Christ.
fn calendar(text: &str, bc: bool) -> Result<i64, ValueError> {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(bad("a date is malformed"));
    };
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year == 0 {
        return Err(bad("a date is malformed"));
    }
    Ok(days(if bc { 1 - year } else { year }, month, day))
}

/// Digits after a point, as microseconds.
fn micros(text: &str) -> Result<i64, ValueError> {
    if text.len() > 6 {
        return Err(bad("a time is finer than a microsecond"));
    }
    Ok(number(text)? * 10_i64.pow(6 - text.len() as u32))
}

/// `HH:MM:SS`, perhaps with a fraction; hours without a bound.
fn clock(text: &str) -> Result<i64, ValueError> {
    let (whole, fraction) = text.split_once('.').map_or((text, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut parts = whole.split(':');
    let (Some(hours), Some(minutes), Some(seconds), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(bad("a time is malformed"));
    };
    let (minutes, seconds) = (number(minutes)?, number(seconds)?);
    if minutes > 59 || seconds > 60 {
        return Err(bad("a time is malformed"));
    }
    // Hours of an interval may have ten digits.
    let hours: i64 = if hours.len() <= 10 && hours.bytes().all(|byte| byte.is_ascii_digit()) {
        hours.parse().map_err(|_| bad("a time is malformed"))?
    } else {
        return Err(bad("a time is malformed"));
    };
    let whole = (hours * 3600 + minutes * 60 + seconds).checked_mul(1_000_000).ok_or(bad("a time is too long"))?;
    whole.checked_add(fraction.map_or(Ok(0), micros)?).ok_or(bad("a time is too long"))
}

/// `date`: days since 2000.
pub(super) fn date(text: &str) -> Result<i32, ValueError> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (text, bc) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    i32::try_from(calendar(text, bc)?).map_err(|_| bad("a date is malformed"))
}

/// `time`: microseconds since midnight.
pub(super) fn time(text: &str) -> Result<i64, ValueError> {
    clock(text)
}

/// `timestamp`, or `timestamptz` in UTC: microseconds since 2000.
pub(super) fn timestamp(text: &str) -> Result<i64, ValueError> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, bc) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let (day, time) = text.split_once(' ').ok_or(bad("a timestamp is malformed"))?;
    let time = time.strip_suffix("+00").unwrap_or(time);
    let of_days = calendar(day, bc)?.checked_mul(DAY_MICROS).ok_or(bad("a timestamp is malformed"))?;
    of_days.checked_add(clock(time)?).ok_or(bad("a timestamp is malformed"))
}

/// `interval`: `1 year 2 mons -3 days -04:05:06.7`, each part with a sign of its own.
pub(super) fn interval(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    let malformed = || bad("an interval is malformed");
    let (mut months, mut days, mut micros) = (0_i64, 0_i64, 0_i64);
    let infinite = match text {
        "infinity" => Some((i64::MAX, i32::MAX)),
        "-infinity" => Some((i64::MIN, i32::MIN)),
        _ => None,
    };
    if let Some((micros, part)) = infinite {
        out.extend_from_slice(&micros.to_be_bytes());
        out.extend_from_slice(&part.to_be_bytes());
        out.extend_from_slice(&part.to_be_bytes());
        return Ok(());
    }
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        let (negative, digits) = match word.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, word.strip_prefix('+').unwrap_or(word)),
        };
        if digits.contains(':') {
            micros = match clock(digits) {
                Ok(time) if negative => -time,
                Ok(time) => time,
                // The smallest value has no positive twin.
                Err(_) if negative && digits == "2562047788:00:54.775808" => i64::MIN,
                Err(error) => return Err(error),
            };
            continue;
        }
        let count = if digits.len() <= 10 && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            digits.parse::<i64>().map_err(|_| malformed())?
        } else {
            return Err(malformed());
        };
        let count = if negative { -count } else { count };
        match words.next() {
            Some("year" | "years") => months += count * 12,
            Some("mon" | "mons") => months += count,
            Some("day" | "days") => days += count,
            _ => return Err(malformed()),
        }
    }
    out.extend_from_slice(&micros.to_be_bytes());
    out.extend_from_slice(&i32::try_from(days).map_err(|_| malformed())?.to_be_bytes());
    out.extend_from_slice(&i32::try_from(months).map_err(|_| malformed())?.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_2000() {
        for (text, day) in [
            ("2000-01-01", 0),
            ("1999-12-31", -1),
            ("1970-01-01", -10_957),
            ("2000-02-29", 59),
            ("2024-03-01", 8_826),
            ("0001-01-01", -730_119),
            ("0001-12-31 BC", -730_120),
            ("4714-11-24 BC", -2_451_545),
            ("5874897-12-31", 2_145_031_948),
            ("infinity", i32::MAX),
        ] {
            assert_eq!(date(text), Ok(day), "{text}");
        }
        for text in ["", "2000-13-01", "2000-00-01", "2000-01", "x", "2000-01-01-01", "0000-01-01"] {
            assert!(date(text).is_err(), "{text}");
        }
    }

    #[test]
    fn timestamps_keep_their_microseconds() {
        for (text, micros) in [
            ("2000-01-01 00:00:00", 0),
            ("2000-01-01 00:00:00.000001+00", 1),
            ("1999-12-31 23:59:59.5", -500_000),
            ("4714-11-24 00:00:00 BC", -211_813_488_000_000_000),
            ("294276-12-31 23:59:59.999999", 9_223_371_331_199_999_999),
            ("-infinity", i64::MIN),
        ] {
            assert_eq!(timestamp(text), Ok(micros), "{text}");
        }
        assert_eq!(time("24:00:00"), Ok(DAY_MICROS));
        for text in ["2000-01-01", "2000-01-01 1:2", "2000-01-01 00:00:00.1234567", "2000-01-01 00:61:00"] {
            assert!(timestamp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn intervals_have_three_parts() {
        let cases = [
            ("1 year 2 mons -3 days +04:05:06.000001", (14_706_000_001, -3, 14)),
            ("-1 years -2 mons +3 days -04:05:06", (-14_706_000_000, 3, -14)),
            ("00:00:00", (0, 0, 0)),
            ("1 day", (0, 1, 0)),
            ("2562047788:00:54.775807", (i64::MAX, 0, 0)),
            ("-2562047788:00:54.775808", (i64::MIN, 0, 0)),
            ("178956970 years 7 mons", (0, 0, 2_147_483_647)),
        ];
        for (text, (micros, days, months)) in cases {
            let mut out = Vec::new();
            interval(text, &mut out).unwrap();
            let wanted = [&i64::to_be_bytes(micros)[..], &i32::to_be_bytes(days), &i32::to_be_bytes(months)].concat();
            assert_eq!(out, wanted, "{text}");
        }
        for text in ["", "1", "1 week", "x days", "1 year 2"] {
            assert!(interval(text, &mut Vec::new()).is_err(), "{text}");
        }
    }
}
