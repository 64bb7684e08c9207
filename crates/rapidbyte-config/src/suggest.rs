//! "did you mean".

/// The allowed word nearest to `found`, when it is near enough to have been meant.
pub(crate) fn nearest<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances are quadratic in length; nobody means a word this long.
    if found.len() > 64 {
        return None;
    }
    let folded = found.to_lowercase().replace('-', "_");
    allowed
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&folded, &word.to_lowercase().replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= 1 + word.chars().count().min(found.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The hint that goes with an unknown word.
pub(crate) fn did_you_mean<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(found, allowed).map(|word| format!("did you mean `{word}`?"))
}

/// Words in backticks, separated by commas.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// A foreign word as it may appear in a message: short, without control characters.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out: String = text.chars().take(LONGEST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let keys = ["sync_mode", "cursor_field", "columns", "name"];
        for (found, expected) in [
            ("syncmode", Some("sync_mode")),
            ("sync-mode", Some("sync_mode")),
            ("SYNC_MODE", Some("sync_mode")),
            ("colums", Some("columns")),
            ("nmae", Some("name")),
            ("password", None),
            ("x", None),
        ] {
            assert_eq!(nearest(found, keys), expected, "{found}");
        }
        assert_eq!(nearest(&"n".repeat(100_000), keys), None);
    }

    #[test]
    fn shown_text_is_short_and_printable() {
        assert_eq!(shown("a\x1b[31mb"), "a\u{fffd}[31mb");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 81);
    }
}
