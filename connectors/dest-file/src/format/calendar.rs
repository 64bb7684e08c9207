//! Dates and times as text: the proleptic Gregorian calendar, as Arrow and PostgreSQL count it.

use std::io::Write;

pub(super) const SECONDS_OF_DAY: i64 = 86_400;
/// 0001-01-01 and 9999-12-31: what RFC 3339 can say, without its year 0, which has no day before it.
pub(super) const FIRST_DAY: i64 = -719_162;
pub(super) const LAST_DAY: i64 = 2_932_896;

/// `YYYY-MM-DD` of a day counted from 1970-01-01.
pub(super) fn write_date(days: i64, out: &mut Vec<u8>) {
    // Days to civil, after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    put(out, format_args!("{year:04}-{month:02}-{day:02}"));
}

/// `hh:mm:ss` and so many digits of a fraction.
pub(super) fn write_time(seconds: i64, fraction: i64, digits: usize, out: &mut Vec<u8>) {
    put(out, format_args!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60));
    if digits > 0 {
        put(out, format_args!(".{fraction:0digits$}"));
    }
}

/// RFC 3339, without an offset where the column has none.
pub(super) fn write_timestamp(value: i64, digits: usize, utc: bool, out: &mut Vec<u8>) {
    let per_second = 10_i64.pow(digits as u32);
    let seconds = value.div_euclid(per_second);
    write_date(seconds.div_euclid(SECONDS_OF_DAY), out);
    out.push(b'T');
    write_time(seconds.rem_euclid(SECONDS_OF_DAY), value.rem_euclid(per_second), digits, out);
    if utc {
        out.push(b'Z');
    }
}

/// ISO 8601: months, days and a time, each with its own sign.
pub(super) fn write_interval(months: i64, days: i64, nanoseconds: i128, out: &mut Vec<u8>) {
    out.push(b'P');
    if months != 0 {
        put(out, format_args!("{months}M"));
    }
    if days != 0 {
        put(out, format_args!("{days}D"));
    }
    if nanoseconds != 0 || (months == 0 && days == 0) {
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let (whole, fraction) = (nanoseconds.unsigned_abs() / 1_000_000_000, nanoseconds.unsigned_abs() % 1_000_000_000);
        put(out, format_args!("T{sign}{whole}"));
        if fraction != 0 {
            let text = format!("{fraction:09}");
            put(out, format_args!(".{}", text.trim_end_matches('0')));
        }
        out.push(b'S');
    }
}

pub(super) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_over_the_whole_range() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (-25_509, "1900-02-28"),
            (-25_508, "1900-03-01"),
            (FIRST_DAY, "0001-01-01"),
            (LAST_DAY, "9999-12-31"),
        ] {
            assert_eq!(text(|out| write_date(days, out)), expected);
        }
    }

    #[test]
    fn timestamps_keep_their_microseconds() {
        for (value, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_704_164_645_000_006, "2024-01-02T03:04:05.000006Z"),
        ] {
            assert_eq!(text(|out| write_timestamp(value, 6, true, out)), expected);
        }
        assert_eq!(text(|out| write_timestamp(86_399, 0, false, out)), "1970-01-01T23:59:59");
    }

    #[test]
    fn intervals_are_exact() {
        for (months, days, nanoseconds, expected) in [
            (0, 0, 0, "PT0S"),
            (14, -3, 0, "P14M-3D"),
            (0, 0, -1_500_000_000, "PT-1.5S"),
            (-1, 1, 1_000, "P-1M1DT0.000001S"),
        ] {
            assert_eq!(text(|out| write_interval(months, days, nanoseconds, out)), expected);
        }
    }
}
