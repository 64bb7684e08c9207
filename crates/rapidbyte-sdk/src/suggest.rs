//! What may have been meant by a name that does not exist.

use arrow_schema::Schema;

/// Columns listed in a hint, at most.
const LISTED: usize = 20;

/// A hint for a column that a stream does not have: the nearest name, or the names there are.
///
/// ```
/// use arrow_schema::{DataType, Field, Schema};
///
/// let schema = Schema::new(vec![Field::new("email", DataType::Utf8, true)]);
/// assert_eq!(rapidbyte_sdk::suggest::column_hint("emial", &schema), "did you mean `email`?");
/// assert_eq!(rapidbyte_sdk::suggest::column_hint("phone", &schema), "its columns are `email`");
/// ```
pub fn column_hint(wanted: &str, schema: &Schema) -> String {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    if let Some(near) = nearest(wanted, names()) {
        return format!("did you mean `{near}`?");
    }
    let listed: Vec<String> = names().take(LISTED).map(|name| format!("`{name}`")).collect();
    let more = if schema.fields().len() > LISTED { ", …" } else { "" };
    format!("its columns are {}{more}", listed.join(", "))
}

/// The word nearest to `wanted`, when it is near enough to have been meant.
pub fn nearest<'a>(wanted: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances take time by the product of the lengths; nobody means a word this long.
    if wanted.len() > 64 {
        return None;
    }
    let folded: Vec<char> = wanted.to_lowercase().chars().collect();
    words
        .into_iter()
        .filter(|word| word.len() <= 128)
        .map(|word| (distance(&folded, &word.to_lowercase().chars().collect::<Vec<_>>()), word))
        .filter(|(distance, word)| *distance <= 1 + word.chars().count().min(folded.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let words = ["email", "customer_id", "created_at"];
        for (wanted, expected) in
            [("emial", Some("email")), ("EMAIL", Some("email")), ("custmer_id", Some("customer_id")), ("phone", None), ("", None)]
        {
            assert_eq!(nearest(wanted, words), expected, "{wanted}");
        }
        assert_eq!(nearest(&"e".repeat(1000), words), None);
    }
}
