//! Values that must not be seen: the type that hides one, the set of them, and the scrubber of text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Values shorter than this are not replaced in text: they would be found in every second word.
pub const MIN_SECRET_BYTES: usize = 4;

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// A string without `Display`, whose `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value. Every call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The secrets of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeSet<Secret>);

impl Secrets {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value; one shorter than [`MIN_SECRET_BYTES`] is left out.
    pub fn insert(&mut self, value: &str) {
        if value.len() >= MIN_SECRET_BYTES {
            self.0.insert(Secret::new(value));
        }
    }

    /// Adds many.
    pub fn extend<'a>(&mut self, secrets: impl IntoIterator<Item = &'a Secret>) {
        for secret in secrets {
            self.insert(secret.expose());
        }
    }

    /// Whether the value is in the set.
    pub fn contains(&self, value: &str) -> bool {
        self.0.contains(&Secret::new(value))
    }

    /// Every secret, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scrubber for these.
    pub fn redactor(&self) -> Redactor {
        Redactor::new(self)
    }
}

/// Replaces every known secret in a text by `***`: as it is, line by line, escaped as in JSON or `Debug` output,
/// percent-encoded, and inside base64.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret within another does not leave the rest standing.
    needles: Vec<String>,
    /// Which bytes a needle can begin with.
    first: Vec<bool>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("needles", &self.needles.len()).finish()
    }
}

impl Redactor {
    /// The scrubber for a set of secrets.
    pub fn new(secrets: &Secrets) -> Self {
        let mut needles = BTreeSet::new();
        for secret in secrets.iter() {
            let value = secret.expose();
            add_forms(value, &mut needles);
            if value.contains('\n') {
                // A key in several lines is logged line by line; lines of a few bytes say nothing.
                for line in value.lines().map(str::trim).filter(|line| line.len() >= 8) {
                    add_forms(line, &mut needles);
                }
            }
        }
        let mut needles: Vec<String> = needles.into_iter().filter(|needle| needle.len() >= MIN_SECRET_BYTES).collect();
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
        let mut first = vec![false; 256];
        for needle in &needles {
            first[usize::from(needle.as_bytes()[0])] = true;
        }
        Self { needles, first }
    }

    /// The text without secrets.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.needles.is_empty() {
            return Cow::Borrowed(text);
        }
        let bytes = text.as_bytes();
        let mut out = String::new();
        let (mut kept, mut at) = (0, 0);
        while at < bytes.len() {
            let needle = if self.first[usize::from(bytes[at])] {
                self.needles.iter().find(|needle| bytes[at..].starts_with(needle.as_bytes()))
            } else {
                None
            };
            match needle {
                // A match of whole UTF-8 text begins and ends between characters.
                Some(needle) => {
                    out.push_str(&text[kept..at]);
                    out.push_str(MASK);
                    at += needle.len();
                    kept = at;
                }
                None => at += 1,
            }
        }
        if kept == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[kept..]);
        Cow::Owned(out)
    }
}

fn add_forms(value: &str, needles: &mut BTreeSet<String>) {
    needles.insert(value.to_owned());
    if let Ok(json) = serde_json::to_string(value) {
        needles.insert(json[1..json.len() - 1].to_owned());
    }
    let debug = format!("{value:?}");
    needles.insert(debug[1..debug.len() - 1].to_owned());
    // SQL literals double the quote.
    needles.insert(value.replace('\'', "''"));
    for keep in [is_unreserved as fn(u8) -> bool, is_unreserved_or_sub_delim] {
        let encoded = percent_encoded(value, keep);
        needles.insert(encoded.to_lowercase_hex());
        needles.insert(encoded.upper.replace("%20", "+"));
        needles.insert(encoded.upper);
    }
    for offset in 0..3 {
        let inner = base64_inner(value.as_bytes(), offset);
        needles.insert(inner.replace('+', "-").replace('/', "_"));
        needles.insert(inner);
    }
}

struct PercentEncoded {
    upper: String,
}

impl PercentEncoded {
    fn to_lowercase_hex(&self) -> String {
        let mut hex = 0;
        self.upper
            .chars()
            .map(|c| {
                if c == '%' {
                    hex = 2;
                    return c;
                }
                if hex > 0 {
                    hex -= 1;
                    return c.to_ascii_lowercase();
                }
                c
            })
            .collect()
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn is_unreserved_or_sub_delim(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@/?".contains(&byte)
}

fn percent_encoded(value: &str, keep: fn(u8) -> bool) -> PercentEncoded {
    let mut upper = String::with_capacity(value.len());
    for byte in value.bytes() {
        if keep(byte) {
            upper.push(char::from(byte));
        } else {
            upper.push_str(&format!("%{byte:02X}"));
        }
    }
    PercentEncoded { upper }
}

/// The base64 characters that depend on `value` alone when it stands `offset` bytes (mod 3) into an encoded text; this
/// finds a password inside `user:password` as well.
fn base64_inner(value: &[u8], offset: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = (offset * 8, (offset + value.len()) * 8);
    let padded: Vec<u8> = std::iter::repeat_n(0, offset).chain(value.iter().copied()).collect();
    // Whole sextets between the first and the last bit of the value.
    (bits.0.div_ceil(6)..bits.1 / 6)
        .map(|sextet| {
            let bit = sextet * 6;
            let pair = u16::from(padded[bit / 8]) << 8 | u16::from(*padded.get(bit / 8 + 1).unwrap_or(&0));
            char::from(ALPHABET[usize::from(pair >> (10 - bit % 8) & 63)])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let mut secrets = Secrets::new();
        for value in values {
            secrets.insert(value);
        }
        secrets.redactor()
    }

    #[test]
    fn every_form_of_a_secret_is_replaced() {
        let redactor = redactor(&["p@ss wörd/+'\"x"]);
        for text in [
            "p@ss wörd/+'\"x",
            "p%40ss%20w%C3%B6rd%2F%2B%27%22x",
            "p%40ss%20w%c3%b6rd%2f%2b%27%22x",
            "p%40ss+w%C3%B6rd%2F%2B%27%22x",
            r#"p@ss wörd/+'\"x"#,
            "p@ss wörd/+''\"x",
        ] {
            assert_eq!(redactor.redact(&format!("a {text} b")), "a *** b", "{text}");
        }
    }

    #[test]
    fn a_secret_inside_base64_is_replaced() {
        let redactor = redactor(&["hunter2-hunter2"]);
        // `printf 'user:hunter2-hunter2' | base64` and the two other alignments.
        for text in ["dXNlcjpodW50ZXIyLWh1bnRlcjI=", "dXNlcmE6aHVudGVyMi1odW50ZXIy", "dXNlcmFiOmh1bnRlcjItaHVudGVyMg=="] {
            let out = redactor.redact(text).into_owned();
            assert!(out.contains("***"), "{text} -> {out}");
            assert!(out.len() < 18, "{text} -> {out}");
        }
    }

    #[test]
    fn lines_of_a_long_secret_are_replaced_one_by_one() {
        let redactor = redactor(&["-----BEGIN KEY-----\nQUJDREVGRw\n}\n-----END KEY-----"]);
        assert_eq!(redactor.redact("line QUJDREVGRw and }"), "line *** and }");
    }

    #[test]
    fn the_longest_secret_wins_and_neighbours_stay() {
        let redactor = redactor(&["abcd", "abcdefgh"]);
        assert_eq!(redactor.redact("xabcdefghyabcdz"), "x***y***z");
        assert_eq!(redactor.redact("äöü €"), "äöü €");
        assert!(matches!(redactor.redact("nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn short_values_are_not_secrets() {
        assert_eq!(redactor(&["abc", ""]).redact("abc abc"), "abc abc");
        assert!(redactor(&["abc"]).needles.is_empty());
    }

    #[test]
    fn debug_shows_nothing() {
        let mut secrets = Secrets::new();
        secrets.insert("canary-1234");
        let shown = format!("{:?} {:?} {:?}", Secret::new("canary-1234"), secrets, secrets.redactor());
        assert!(!shown.contains("canary"), "{shown}");
    }
}
