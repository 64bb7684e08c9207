//! Which of a stream's rows are read: one SQL expression.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest filter, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// A predicate over a stream's columns, in the source's own SQL. Its text is one expression that parentheses around it hold
/// together: no statement ends in it, nothing in it is hidden in a comment, quotes and brackets are balanced. Whether names and
/// types fit, only the source can tell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowFilter(String);

impl RowFilter {
    /// The text, without parentheses around it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RowFilter> for String {
    fn from(filter: RowFilter) -> Self {
        filter.0
    }
}

impl TryFrom<String> for RowFilter {
    type Error = NoRowFilter;

    fn try_from(text: String) -> Result<Self, NoRowFilter> {
        text.parse()
    }
}

/// Why a text is no [`RowFilter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRowFilter {
    /// Nothing but blanks.
    Empty,
    /// More than 16 KiB.
    TooLong,
    /// A zero character.
    Nul,
    /// `;`.
    Semicolon,
    /// `--` or `/*`.
    Comment,
    /// `$` outside of quotes: a dollar quote or a parameter.
    Dollar,
    /// A backslash outside of quotes.
    Backslash,
    /// A quote without its end.
    OpenQuote,
    /// A bracket without its end, or an end without its beginning.
    Unbalanced,
}

impl fmt::Display for NoRowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is longer than 16 KiB",
            Self::Nul => "holds a zero character",
            Self::Semicolon => "holds a `;`: it is one expression, as after `WHERE`",
            Self::Comment => "holds a comment (`--` or `/*`)",
            Self::Dollar => "holds a `$` outside of quotes; write texts as 'text' and such names as \"na$me\"",
            Self::Backslash => "holds a backslash outside of quotes",
            Self::OpenQuote => "has a quote that is not closed",
            Self::Unbalanced => "has parentheses or brackets that do not match",
        })
    }
}

impl std::error::Error for NoRowFilter {}

impl FromStr for RowFilter {
    type Err = NoRowFilter;

    fn from_str(text: &str) -> Result<Self, NoRowFilter> {
        let text = text.trim();
        match text.len() {
            0 => return Err(NoRowFilter::Empty),
            MAX_BYTES.. => return Err(NoRowFilter::TooLong),
            _ => scan(text.as_bytes())?,
        }
        Ok(Self(text.to_owned()))
    }
}

/// Walks over the tokens that decide where an expression ends. Every byte that counts is ASCII.
fn scan(text: &[u8]) -> Result<(), NoRowFilter> {
    let (mut at, mut open) = (0, Vec::new());
    while let Some(byte) = text.get(at).copied() {
        let next = text.get(at + 1).copied();
        match (byte, next) {
            (0, _) => return Err(NoRowFilter::Nul),
            (b';', _) => return Err(NoRowFilter::Semicolon),
            (b'-', Some(b'-')) | (b'/', Some(b'*')) => return Err(NoRowFilter::Comment),
            (b'$', _) => return Err(NoRowFilter::Dollar),
            (b'\\', _) => return Err(NoRowFilter::Backslash),
            (b'\'' | b'"', _) => {
                at = quoted(text, at)?;
                continue;
            }
            (b'(', _) => open.push(b')'),
            (b'[', _) => open.push(b']'),
            (b')' | b']', _) => match open.pop() {
                Some(expected) if expected == byte => {}
                _ => return Err(NoRowFilter::Unbalanced),
            },
            _ => {}
        }
        at += 1;
    }
    if open.is_empty() { Ok(()) } else { Err(NoRowFilter::Unbalanced) }
}

/// The place behind a quoted text or name. A backslash escapes in `E'…'` only.
fn quoted(text: &[u8], begin: usize) -> Result<usize, NoRowFilter> {
    let quote = text[begin];
    let prefix = begin.checked_sub(1).map(|before| text[before]);
    let word = begin.checked_sub(2).map(|before| text[before]);
    let in_word = word.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80);
    let escapes = quote == b'\'' && matches!(prefix, Some(b'e' | b'E')) && !in_word;
    let mut at = begin + 1;
    while let Some(byte) = text.get(at).copied() {
        match byte {
            0 => return Err(NoRowFilter::Nul),
            b'\\' if escapes => at += 2,
            _ if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            _ if byte == quote => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err(NoRowFilter::OpenQuote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_filters() {
        let filters = [
            "id > 5",
            "  \"odd \"\"name\"\"; -- ünd\" IS NOT NULL AND note <> 'it''s; -- fine $1 /* )'",
            "tags && ARRAY['a', 'b'] OR (a, b) IN ((1, 2), (3, 4))",
            "note = E'it\\'s )' AND other = e'\\\\'",
            "doc ->> 'k' LIKE 'x\\%' AND a - -1 > 0 AND a/b*2 > 1",
            "EXISTS (SELECT FROM other o WHERE o.id = ref)",
            "m[1] = U&'\\0041'",
        ];
        for text in filters {
            assert_eq!(text.parse::<RowFilter>().as_ref().map(RowFilter::as_str), Ok(text.trim()), "{text}");
        }
    }

    #[test]
    fn what_could_reach_beyond_its_parentheses_is_no_filter() {
        use NoRowFilter as N;
        let cases = [
            ("", N::Empty),
            (" \n\t", N::Empty),
            ("id > 5; DROP TABLE t", N::Semicolon),
            ("id > 5 -- all of it", N::Comment),
            ("id > 5 /* ) */", N::Comment),
            ("a--1", N::Comment),
            ("true) OR (true", N::Unbalanced),
            ("(true", N::Unbalanced),
            ("(a[1)]", N::Unbalanced),
            ("note = 'it''s", N::OpenQuote),
            ("\"name = 1", N::OpenQuote),
            ("note = E'it\\'", N::OpenQuote),
            ("note = $$x$$", N::Dollar),
            ("id = $1", N::Dollar),
            ("id = \\1", N::Backslash),
            ("note = 'a\0b'", N::Nul),
            ("a\0b", N::Nul),
        ];
        for (text, problem) in cases {
            assert_eq!(text.parse::<RowFilter>(), Err(problem), "{text}");
        }
        // The word before a quote is an identifier here, and its backslash ends the text as it stands.
        assert_eq!("note = e_E'\\' AND x = '".parse::<RowFilter>(), Err(N::OpenQuote));
        assert_eq!("x".repeat(MAX_BYTES).parse::<RowFilter>(), Err(N::TooLong));
    }
}
