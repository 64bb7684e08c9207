//! Lines of the plugin `test_decoding`: what happened to the rows of a table, as text.
//!
//! Source: `contrib/test_decoding/test_decoding.c`. A line is `table <schema>.<name>: <kind>:` and then the columns, each as
//! `<name>[<type>]:<value>`, names quoted as identifiers, values as literals. Old rows come without their NULLs.

use super::super::pgoutput::Malformed;
use rapidbyte_sdk::changes::ChangeOp;
use std::borrow::Cow;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Begin,
    Commit,
    Change(Change<'a>),
    /// Tables that were emptied together.
    Truncate(Vec<Table<'a>>),
    /// Messages of applications.
    Other,
}

/// A table's schema and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table<'a> {
    pub(super) schema: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change<'a> {
    pub(super) table: Table<'a>,
    pub(super) op: ChangeOp,
    /// Of an update whose key changed or whose table tells all of its rows, and of a delete; none where the log tells nothing.
    pub(super) old: Option<Vec<Column<'a>>>,
    pub(super) new: Option<Vec<Column<'a>>>,
}

/// A column and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column<'a> {
    pub(super) name: Cow<'a, str>,
    /// The type's name as the server writes it, without a modifier.
    pub(super) kind: &'a str,
    pub(super) value: Value<'a>,
}

/// A column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    /// A large value that the update left alone.
    Unchanged,
    /// The type's text.
    Text(Cow<'a, str>),
}

fn malformed<T>(what: &str) -> Result<T, Malformed> {
    Err(Malformed(what.to_owned()))
}

/// Parses one line.
pub(super) fn parse(line: &str) -> Result<Line<'_>, Malformed> {
    let word_of = |word: &str| line.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    if word_of("BEGIN") {
        return Ok(Line::Begin);
    }
    if word_of("COMMIT") {
        return Ok(Line::Commit);
    }
    let Some(rest) = line.strip_prefix("table ") else { return Ok(Line::Other) };
    let mut reader = Reader { rest };
    let mut tables = vec![reader.table()?];
    while reader.eat(", ") {
        tables.push(reader.table()?);
    }
    reader.expect(": ")?;
    if reader.eat("TRUNCATE:") {
        return Ok(Line::Truncate(tables));
    }
    let op = if reader.eat("INSERT:") {
        ChangeOp::Insert
    } else if reader.eat("UPDATE:") {
        ChangeOp::Update
    } else if reader.eat("DELETE:") {
        ChangeOp::Delete
    } else {
        return malformed("a change of unknown kind");
    };
    let (Some(table), true) = (tables.pop(), tables.is_empty()) else { return malformed("a row of several tables") };
    let mut change = Change { table, op, old: None, new: None };
    if reader.eat(" (no-tuple-data)") {
        return if reader.rest.is_empty() { Ok(Line::Change(change)) } else { malformed("text after a change") };
    }
    if op == ChangeOp::Update && reader.eat(" old-key:") {
        change.old = Some(reader.columns()?);
        reader.expect(" new-tuple:")?;
    }
    let columns = reader.columns()?;
    if !reader.rest.is_empty() {
        return malformed("text after a change");
    }
    match op {
        ChangeOp::Delete => change.old = Some(columns),
        _ => change.new = Some(columns),
    }
    Ok(Line::Change(change))
}

/// The table of a row's line of which the beginning is known.
pub(super) fn table_of(head: &str) -> Option<Table<'_>> {
    Reader { rest: head.strip_prefix("table ")? }.table().ok()
}

/// Takes text off the front.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, word: &str) -> bool {
        self.rest.strip_prefix(word).map(|rest| self.rest = rest).is_some()
    }

    fn expect(&mut self, word: &str) -> Result<(), Malformed> {
        if self.eat(word) { Ok(()) } else { malformed(&format!("`{word}` is missing")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a str, Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else { return malformed("it is cut within a character") };
        self.rest = rest;
        Ok(taken)
    }

    fn table(&mut self) -> Result<Table<'a>, Malformed> {
        let schema = self.identifier()?;
        self.expect(".")?;
        Ok(Table { schema, name: self.identifier()? })
    }

    /// A name, in double quotes where it is not all lower-case letters, digits and underscores.
    fn identifier(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if self.rest.starts_with('"') {
            return self.quoted('"');
        }
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte >= 0x80;
        let end = self.rest.bytes().position(|byte| !plain(byte)).unwrap_or(self.rest.len());
        if end == 0 { malformed("a name is missing") } else { Ok(Cow::Borrowed(self.take(end)?)) }
    }

    /// Text between quotes, each of which is doubled within.
    fn quoted(&mut self, quote: char) -> Result<Cow<'a, str>, Malformed> {
        self.take(1)?;
        let mut found: Option<String> = None;
        loop {
            let Some(end) = self.rest.find(quote) else { return malformed("a quotation does not end") };
            let part = self.take(end)?;
            self.take(1)?;
            let doubled = self.rest.starts_with(quote);
            if !doubled {
                return Ok(match found {
                    Some(mut text) => {
                        text.push_str(part);
                        Cow::Owned(text)
                    }
                    None => Cow::Borrowed(part),
                });
            }
            self.take(1)?;
            let text = found.get_or_insert_default();
            text.push_str(part);
            text.push(quote);
        }
    }

    fn columns(&mut self) -> Result<Vec<Column<'a>>, Malformed> {
        let mut columns = Vec::new();
        // The word that divides two rows is no name: one with a dash would be in quotes.
        while self.rest.starts_with(' ') && !self.rest.starts_with(" new-tuple:") {
            self.take(1)?;
            let name = self.identifier()?;
            self.expect("[")?;
            let kind = self.kind()?;
            self.expect("]:")?;
            columns.push(Column { name, kind, value: self.value()? });
        }
        Ok(columns)
    }

    /// A type's name, up to the bracket that closes it: arrays have brackets of their own, and quotes may hold any.
    fn kind(&mut self) -> Result<&'a str, Malformed> {
        let (mut depth, mut quoted) = (0_u32, false);
        for (at, byte) in self.rest.bytes().enumerate() {
            match byte {
                b'"' => quoted = !quoted,
                b'[' if !quoted => depth += 1,
                b']' if !quoted && depth == 0 => return self.take(at),
                b']' if !quoted => depth -= 1,
                _ => {}
            }
        }
        malformed("a type does not end")
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        if self.rest.starts_with('\'') {
            return Ok(Value::Text(self.quoted('\'')?));
        }
        if self.rest.starts_with("B'") {
            self.take(1)?;
            return Ok(Value::Text(self.quoted('\'')?));
        }
        let end = self.rest.find(' ').unwrap_or(self.rest.len());
        Ok(match self.take(end)? {
            "null" => Value::Null,
            "unchanged-toast-datum" => Value::Unchanged,
            "" => return malformed("a value is missing"),
            // The type's own text.
            "true" => Value::Text(Cow::Borrowed("t")),
            "false" => Value::Text(Cow::Borrowed("f")),
            other => Value::Text(Cow::Borrowed(other)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(line: &str) -> Change<'_> {
        match parse(line) {
            Ok(Line::Change(change)) => change,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn shown(columns: &Option<Vec<Column<'_>>>) -> String {
        let one = |column: &Column<'_>| {
            let value = match &column.value {
                Value::Null => "NULL".to_owned(),
                Value::Unchanged => "UNCHANGED".to_owned(),
                Value::Text(text) => format!("<{text}>"),
            };
            format!("{}/{}={value}", column.name, column.kind)
        };
        columns.as_ref().map_or("none".into(), |columns| columns.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn rows_are_read_as_the_plugin_writes_them() {
        let line = "table public.t: INSERT: id[integer]:1 name[character varying]:'it''s' n[numeric]:NaN b[boolean]:true bits[bit]:B'101' \
                    tags[text[]]:'{\"a b\",c}' none[text]:null empty[text]:''";
        let found = change(line);
        assert_eq!((found.table.schema.as_ref(), found.table.name.as_ref(), found.op), ("public", "t", ChangeOp::Insert));
        assert_eq!(
            shown(&found.new),
            "id/integer=<1> name/character varying=<it's> n/numeric=<NaN> b/boolean=<t> bits/bit=<101> tags/text[]=<{\"a b\",c}> \
             none/text=NULL empty/text=<>"
        );
        assert_eq!(shown(&found.old), "none");
        let found =
            change("table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 big[text]:unchanged-toast-datum");
        assert_eq!(
            (shown(&found.old).as_str(), shown(&found.new).as_str()),
            ("id/integer=<1>", "id/integer=<2> big/text=UNCHANGED")
        );
        let found = change("table public.t: DELETE: id[integer]:-1");
        assert_eq!((shown(&found.old).as_str(), shown(&found.new).as_str()), ("id/integer=<-1>", "none"));
        let found = change("table public.t: DELETE: (no-tuple-data)");
        assert_eq!((found.old, found.new), (None, None));
    }

    #[test]
    fn names_and_texts_may_hold_anything() {
        let line = "table \"Sch.e\"\"ma\".\"a: b\": UPDATE: \"new-tuple\"[\"my]type\"]:'x new-tuple: y[z]:1' \"k \"[integer]:1";
        let found = change(line);
        assert_eq!((found.table.schema.as_ref(), found.table.name.as_ref()), ("Sch.e\"ma", "a: b"));
        assert_eq!(shown(&found.new), "new-tuple/\"my]type\"=<x new-tuple: y[z]:1> k /integer=<1>");
        assert_eq!(shown(&change("table public.größe: INSERT: ä[text]:'\n''\\'").new), "ä/text=<\n'\\>");
    }

    #[test]
    fn transactions_truncates_and_messages_are_told_apart() {
        assert_eq!(parse("BEGIN 767"), Ok(Line::Begin));
        assert_eq!(parse("COMMIT 767 (at 2024-01-01 00:00:00+00)"), Ok(Line::Commit));
        assert_eq!(parse("message: transactional: 1 prefix: p, sz: 5 content:BEGIN"), Ok(Line::Other));
        let Ok(Line::Truncate(tables)) = parse("table public.a, public.\"B\": TRUNCATE: restart_seqs cascade") else { panic!() };
        assert_eq!(tables.iter().map(|table| table.name.as_ref()).collect::<Vec<_>>(), ["a", "B"]);
    }

    #[test]
    fn what_is_no_line_of_the_plugin_is_refused() {
        let whole = "table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 v[text]:'a''b'";
        for length in 1..whole.len() {
            // A line that is cut behind a value is a shorter row.
            if let Ok(Line::Change(found)) = parse(&whole[..length]) {
                assert!(
                    [":2", "'a'", "UPDATE:", "new-tuple:"].iter().any(|end| whole[..length].ends_with(end)),
                    "{length}: {found:?}"
                );
            }
        }
        for line in [
            "table public.t: MERGE: id[integer]:1",
            "table .t: INSERT: id[integer]:1",
            "table public.t, public.u: INSERT: id[integer]:1",
            "table public.t: INSERT: id[integer]:1 v",
            "table public.t: INSERT: id[integer:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
