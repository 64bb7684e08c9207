//! Names and text in SQL.

use rapidbyte_sdk::ConnectorError;

/// The server cuts longer names off (`NAMEDATALEN` - 1).
pub const MAX_IDENTIFIER_BYTES: usize = 63;

/// The name between double quotes, so that it means exactly itself. A name the server would refuse or cut off is refused.
pub fn quote_ident(name: &str) -> Result<String, ConnectorError> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.contains('\0') {
        "contains a NUL character".to_owned()
    } else if name.len() > MAX_IDENTIFIER_BYTES {
        format!("has {} bytes, PostgreSQL allows {MAX_IDENTIFIER_BYTES}", name.len())
    } else {
        return Ok(format!("\"{}\"", name.replace('"', "\"\"")));
    };
    Err(ConnectorError::config("bad_identifier", format!("the name `{}` {problem}", name.escape_default())))
}

/// `schema.name`, both quoted.
pub fn quote_qualified(schema: &str, name: &str) -> Result<String, ConnectorError> {
    Ok(format!("{}.{}", quote_ident(schema)?, quote_ident(name)?))
}

/// The text as a string literal that means exactly itself under either setting of `standard_conforming_strings`.
pub fn quote_literal(text: &str) -> Result<String, ConnectorError> {
    if text.contains('\0') {
        return Err(ConnectorError::config("bad_literal", "a text with a NUL character can't be sent to PostgreSQL"));
    }
    let quoted = text.replace('\'', "''");
    Ok(if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a quoted identifier back, as the server's scanner does.
    fn read_ident(quoted: &str) -> Option<String> {
        let inner = quoted.strip_prefix('"')?.strip_suffix('"')?;
        let mut out = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            if c == '"' && chars.next() != Some('"') {
                return None;
            }
            out.push(c);
        }
        Some(out)
    }

    fn read_literal(quoted: &str) -> Option<String> {
        let (escaped, body) = match quoted.strip_prefix(" E") {
            Some(body) => (true, body),
            None => (false, quoted),
        };
        let inner = body.strip_prefix('\'')?.strip_suffix('\'')?;
        let mut out = String::new();
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                '\'' if chars.next() != Some('\'') => return None,
                '\\' if escaped && chars.next() != Some('\\') => return None,
                '\\' if !escaped => return None,
                c => out.push(c),
            }
        }
        Some(out)
    }

    /// Names from an alphabet of everything that has ever broken quoting.
    fn hostile_names() -> impl Iterator<Item = String> {
        const ALPHABET: [&str; 16] =
            ["\"", "'", "\\", "a", "Z", " ", ";", "--", "/*", "é", "😀", "\n", "\t", "$$", "%", "\u{202e}"];
        let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
        (0..20_000).map(move |_| {
            let mut name = String::new();
            loop {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let pick = ALPHABET[(seed >> 33) as usize % ALPHABET.len()];
                if name.len() + pick.len() > MAX_IDENTIFIER_BYTES || (!name.is_empty() && (seed >> 60) == 0) {
                    return name;
                }
                name.push_str(pick);
            }
        })
    }

    #[test]
    fn any_name_survives_quoting() {
        for name in hostile_names() {
            assert_eq!(read_ident(&quote_ident(&name).unwrap()).as_deref(), Some(name.as_str()));
        }
    }

    #[test]
    fn any_text_survives_quoting() {
        for text in hostile_names() {
            assert_eq!(read_literal(&quote_literal(&text).unwrap()).as_deref(), Some(text.as_str()));
        }
    }

    #[test]
    fn names_the_server_would_change_are_refused() {
        assert!(quote_ident(&"x".repeat(63)).is_ok());
        for name in ["", "a\0b", &"x".repeat(64), &"é".repeat(32)] {
            assert!(quote_ident(name).is_err());
        }
        assert!(quote_literal("a\0b").is_err());
        assert_eq!(quote_qualified("S\"x", "t").unwrap(), "\"S\"\"x\".\"t\"");
    }
}
