//! Numbers of bytes.

/// Reads a number of bytes: digits, then optionally `kb`, `mb`, `gb` or `kib`, `mib`, `gib` in any case. All six are multiples
/// of 1024. There are no fractions.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.parse().ok()?;
    let factor = match unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase().as_str() {
        "" if unit.is_empty() => 1,
        "kb" | "kib" => 1 << 10,
        "mb" | "mib" => 1 << 20,
        "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A number of bytes as documents write it.
pub(crate) fn show_size(bytes: u64) -> String {
    for (unit, factor) in [("gb", 1u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_multiples_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1048576", Some(1 << 20)),
            ("64mb", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("64 MB", Some(64 << 20)),
            ("512kb", Some(512 << 10)),
            ("512KiB", Some(512 << 10)),
            ("1gb", Some(1 << 30)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("mb", None),
            ("64m", None),
            ("64b", None),
            ("64tb", None),
            ("1.5mb", None),
            ("-1mb", None),
            ("+1mb", None),
            ("64  mb", None),
            ("64 ", None),
            (" 64mb", None),
            ("64mbx", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("17179869184gb", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn shown_sizes_read_back() {
        for bytes in [0, 1, 1023, 1024, 1025, 64 << 20, 3 << 30, (1 << 30) + 1] {
            assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
    }
}
