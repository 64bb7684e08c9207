//! What two sides have in common that can be compared. No I/O here.

use super::report::{Converted, LeftOut};
use rapidbyte_types::{ColumnEncoding, ConnectorError, DigestColumn, DigestRequest, Pinned, StreamContext};
use std::collections::BTreeMap;

/// Columns that belong to the protocol and not to the source's rows.
const RESERVED_PREFIX: &str = "_rb_";

/// Rows of a range, roughly. Few enough that a range that differs is soon listed, many enough that ranges are few.
const ROWS_PER_RANGE: u64 = 2048;
/// Guessed: below this number more ranges cost nothing, above it their digests would take longer to send than they save.
const RANGES: std::ops::RangeInclusive<u64> = 64..=16_384;

/// What is compared, and what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) request: DigestRequest,
    pub(crate) left_out: Vec<LeftOut>,
    pub(crate) converted: Vec<Converted>,
    pub(crate) notes: Vec<String>,
}

/// The form in which both sides can digest a column.
fn common<'a>(source: &'a DigestColumn, destination: &DigestColumn) -> Option<&'a str> {
    source.encodings.iter().map(String::as_str).find(|encoding| destination.encodings.iter().any(|other| other == encoding))
}

/// Finds what to compare. `wanted` names columns; empty = all that both sides have. Those of `apart` need not be the same, each for
/// the reason beside it.
pub(crate) fn agree(
    stream: &StreamContext,
    source: &Pinned,
    destination: &Pinned,
    wanted: &[String],
    apart: &[(String, String)],
) -> Result<Agreed, ConnectorError> {
    if source.method != destination.method {
        let message = "the two servers hash rows in different ways, so that their digests can't be compared";
        return Err(ConnectorError::config("hash_differs", message).with_hint(
            "this happens between processors of different byte order; compare with a copy on a server of the same kind",
        ));
    }
    let there: BTreeMap<&str, &DigestColumn> = destination.columns.iter().map(|column| (column.name.as_str(), column)).collect();
    if let Some(unknown) = wanted.iter().find(|name| !source.columns.iter().any(|column| column.name == **name)) {
        let message = format!("column `{unknown}` is not among those that are read of `{}`", source.place);
        return Err(ConnectorError::config("unknown_column", message)
            .with_hint("`rapidbyte discover <PIPELINE>` lists the columns; name some of them with `--columns`"));
    }
    let key = if stream.primary_key.is_empty() { &source.key } else { &stream.primary_key };
    let chosen = |name: &String| wanted.is_empty() || wanted.contains(name) || key.contains(name);
    let (mut columns, mut left_out, mut converted, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for column in &source.columns {
        if !chosen(&column.name) {
            left_out.push(LeftOut { column: column.name.clone(), reason: "not among `--columns`".into() });
            continue;
        }
        let apart = apart.iter().find(|(name, _)| *name == column.name);
        let reason = match (apart, there.get(column.name.as_str())) {
            (Some((_, reason)), _) => reason.clone(),
            (None, None) => format!("`{}` has no such column", destination.place),
            (None, Some(other)) => match common(column, other) {
                Some(encoding) => {
                    if column.encodings.first() != other.encodings.first() {
                        converted.push(Converted {
                            column: column.name.clone(),
                            source_type: column.type_name.clone(),
                            destination_type: other.type_name.clone(),
                            compared_as: encoding.to_owned(),
                        });
                    }
                    columns.push(ColumnEncoding { name: column.name.clone(), encoding: encoding.to_owned() });
                    continue;
                }
                None => format!("its types, `{}` and `{}`, have no form in common", column.type_name, other.type_name),
            },
        };
        if wanted.contains(&column.name) {
            let message = format!("column `{}` can't be compared: {reason}", column.name);
            return Err(ConnectorError::config("not_comparable", message).with_hint("leave it out of `--columns`"));
        }
        left_out.push(LeftOut { column: column.name.clone(), reason });
    }
    let only_there = destination.columns.iter().filter(|column| {
        !column.name.starts_with(RESERVED_PREFIX) && !source.columns.iter().any(|other| other.name == column.name)
    });
    left_out
        .extend(only_there.map(|column| LeftOut { column: column.name.clone(), reason: "only the destination has it".to_owned() }));
    if columns.is_empty() {
        let message = format!("`{}` and `{}` have no column in common that can be compared", source.place, destination.place);
        return Err(ConnectorError::schema("nothing_to_compare", message)
            .with_hint("see that the stream's `destination: { table: … }` is the table that was loaded"));
    }
    let compared = |name: &String| columns.iter().any(|column| column.name == *name);
    let key = match key.iter().find(|name| !compared(name)) {
        None => key.clone(),
        Some(lost) => {
            notes.push(format!("rows are told apart as a whole: key column `{lost}` is not compared"));
            Vec::new()
        }
    };
    if key.is_empty() && notes.is_empty() {
        notes.push("the table has no key: rows that differ are counted and can't be named".to_owned());
    }
    let rows = source.estimated_rows.max(destination.estimated_rows).unwrap_or(0);
    Ok(Agreed { request: DigestRequest { columns, key, ranges: ranges(rows), whole: false }, left_out, converted, notes })
}

/// How many ranges a table of so many rows is cut into.
fn ranges(rows: u64) -> u32 {
    let ranges = (rows / ROWS_PER_RANGE).clamp(*RANGES.start(), *RANGES.end()).next_power_of_two();
    // Within the range above, which is far below `u32::MAX`.
    u32::try_from(ranges).unwrap_or(DigestRequest::MAX_RANGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_types::StreamName;

    fn column(name: &str, encodings: &[&str]) -> DigestColumn {
        DigestColumn {
            name: name.into(),
            type_name: encodings[0].into(),
            encodings: encodings.iter().map(|one| (*one).to_owned()).collect(),
        }
    }

    fn pinned(columns: Vec<DigestColumn>, key: &[&str]) -> Pinned {
        Pinned {
            place: "t".into(),
            columns,
            key: key.iter().map(|one| (*one).to_owned()).collect(),
            estimated_rows: None,
            method: "m".into(),
        }
    }

    fn stream() -> StreamContext {
        StreamContext::full_refresh(StreamName::new("t"))
    }

    #[test]
    fn columns_meet_in_the_first_form_that_both_have() {
        let source = pinned(vec![column("id", &["int4", "int8", "number"]), column("n", &["numeric(5,2)", "number"])], &["id"]);
        let destination = pinned(vec![column("n", &["numeric(9,3)", "number"]), column("id", &["int8", "number"])], &[]);
        let agreed = agree(&stream(), &source, &destination, &[], &[]).unwrap();
        let forms: Vec<&str> = agreed.request.columns.iter().map(|column| column.encoding.as_str()).collect();
        assert_eq!((forms, agreed.request.key), (vec!["int8", "number"], vec!["id".to_owned()]));
        assert_eq!(agreed.converted.len(), 2);
        assert!(agreed.left_out.is_empty() && agreed.notes.is_empty());
    }

    #[test]
    fn what_is_not_compared_is_named() {
        let source = pinned(vec![column("id", &["int4"]), column("a", &["bool"]), column("b", &["text"])], &["id"]);
        let destination = pinned(
            vec![column("id", &["int4"]), column("a", &["text"]), column("mine", &["text"]), column("_rb_deleted_at", &["text"])],
            &[],
        );
        let agreed = agree(&stream(), &source, &destination, &[], &[]).unwrap();
        let names: Vec<&str> = agreed.left_out.iter().map(|one| one.column.as_str()).collect();
        assert_eq!(names, ["a", "b", "mine"]);
        assert_eq!(agree(&stream(), &source, &destination, &["a".into()], &[]).unwrap_err().code, "not_comparable");
        assert_eq!(agree(&stream(), &source, &destination, &["mine".into()], &[]).unwrap_err().code, "unknown_column");
    }

    #[test]
    fn a_key_that_is_not_compared_tells_nothing_apart() {
        let source = pinned(vec![column("id", &["bool"]), column("a", &["text"])], &["id"]);
        let destination = pinned(vec![column("id", &["text"]), column("a", &["text"])], &[]);
        let agreed = agree(&stream(), &source, &destination, &[], &[]).unwrap();
        assert!(agreed.request.key.is_empty());
        assert!(agreed.notes[0].contains("`id`"), "{:?}", agreed.notes);
    }

    #[test]
    fn a_column_that_need_not_be_the_same_is_left_out_with_its_reason() {
        let both = pinned(vec![column("id", &["int4"]), column("a", &["text"])], &["id"]);
        let apart = [("a".to_owned(), "it is another's".to_owned())];
        let agreed = agree(&stream(), &both, &both, &[], &apart).unwrap();
        assert_eq!(agreed.left_out, [LeftOut { column: "a".into(), reason: "it is another's".into() }]);
        assert_eq!(agreed.request.columns.len(), 1);
        let wanted = agree(&stream(), &both, &both, &["a".into()], &apart).unwrap_err();
        assert!(wanted.code == "not_comparable" && wanted.message.contains("another's"), "{wanted:?}");
        let key = agree(&stream(), &both, &both, &[], &[("id".to_owned(), "r".to_owned())]).unwrap();
        assert!(key.request.key.is_empty() && key.notes[0].contains("`id`"), "{:?}", key.notes);
    }

    #[test]
    fn other_hashes_and_nothing_in_common_are_errors() {
        let source = pinned(vec![column("a", &["bool"])], &[]);
        let other = Pinned { method: "other".into(), ..source.clone() };
        assert_eq!(agree(&stream(), &source, &other, &[], &[]).unwrap_err().code, "hash_differs");
        let none = pinned(vec![column("b", &["bool"])], &[]);
        assert_eq!(agree(&stream(), &source, &none, &[], &[]).unwrap_err().code, "nothing_to_compare");
    }

    #[test]
    fn ranges_grow_with_the_table() {
        for (rows, expected) in [(0, 64), (1_000_000, 512), (10_000_000_000, 16_384)] {
            assert_eq!(ranges(rows), expected);
        }
    }
}
