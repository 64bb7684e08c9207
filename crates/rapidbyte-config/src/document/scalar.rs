//! The type of a plain scalar, by the core schema of YAML 1.2.

use super::NodeValue;
use serde_json::Number;

/// Why a scalar has no value. Messages must not repeat it: it may come from the environment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unrepresentable(pub(super) &'static str);

/// The value of a plain scalar.
pub(super) fn plain(text: &str) -> Result<NodeValue, Unrepresentable> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(NodeValue::Null),
        "true" | "True" | "TRUE" => return Ok(NodeValue::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(NodeValue::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Err(Unrepresentable("not a number is not a value here")),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Err(Unrepresentable("an infinite number is not a value here"));
    }
    let too_large = Unrepresentable("the number does not fit into 64 bits");
    if is_digits(unsigned) {
        return integer(text.strip_prefix('+').unwrap_or(text)).ok_or(too_large);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return u64::from_str_radix(digits, radix).map(|n| NodeValue::Number(n.into())).map_err(|_| too_large);
        }
    }
    if is_float(unsigned) {
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        return number.map(NodeValue::Number).ok_or(Unrepresentable("the number is too large"));
    }
    Ok(NodeValue::Text(text.to_owned()))
}

fn integer(text: &str) -> Option<NodeValue> {
    let number = text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from));
    number.ok().map(NodeValue::Number)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// `.5`, `1.`, `1.5`, each with an optional exponent, or `1e5`.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let exponent_ok = exponent.is_none_or(|exponent| is_digits(exponent.strip_prefix(['-', '+']).unwrap_or(exponent)));
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => is_digits(fraction),
        Some((whole, fraction)) => is_digits(whole) && (fraction.is_empty() || is_digits(fraction)),
        None => is_digits(mantissa),
    };
    mantissa_ok && exponent_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        let number = |json: &str| NodeValue::Number(serde_json::from_str(json).expect("number"));
        let text = |text: &str| NodeValue::Text(text.to_owned());
        for (written, expected) in [
            ("", NodeValue::Null),
            ("~", NodeValue::Null),
            ("NULL", NodeValue::Null),
            ("nUll", text("nUll")),
            ("true", NodeValue::Bool(true)),
            ("FALSE", NodeValue::Bool(false)),
            ("yes", text("yes")),
            ("on", text("on")),
            ("0", number("0")),
            ("-17", number("-17")),
            ("+17", number("17")),
            ("0123", number("123")),
            ("0x1F", number("31")),
            ("0o17", number("15")),
            ("-0x1F", text("-0x1F")),
            ("18446744073709551615", number("18446744073709551615")),
            ("-9223372036854775808", number("-9223372036854775808")),
            ("1.5", number("1.5")),
            (".5", number("0.5")),
            ("1.", number("1.0")),
            ("1e3", number("1000.0")),
            ("-1.5E-3", number("-0.0015")),
            ("1_000", text("1_000")),
            ("1:30", text("1:30")),
            (".", text(".")),
            ("e5", text("e5")),
            ("-", text("-")),
            ("+", text("+")),
            ("1.2.3", text("1.2.3")),
            ("2024-01-01", text("2024-01-01")),
            ("0x", text("0x")),
            ("infinity", text("infinity")),
            ("nan", text("nan")),
        ] {
            assert_eq!(plain(written), Ok(expected), "{written}");
        }
        for written in ["18446744073709551616", "-9223372036854775809", "0x1ffffffffffffffff", "1e999", ".inf", "-.INF", ".nan"] {
            assert!(plain(written).is_err(), "{written}");
        }
    }
}
