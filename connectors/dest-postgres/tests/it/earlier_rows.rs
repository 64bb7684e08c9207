//! Columns that come with the changes of a log: what rows show that were there before them.

use crate::changes::{Change, changed, loaded, lsn, row};
use crate::harness::{Pipe, Place, field};
use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field};
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{NewColumnPolicy, WriteMode};
use serde_json::Value;
use std::sync::Arc;

const ODD: &str = "it's \\ \"x\" {,}";
const TOLD: &[(&str, &str)] = &[("type", "text"), ("missing", ODD)];
const UNTOLD: &[(&str, &str)] = &[("type", "text"), ("untold", "true")];
const PLAIN: &[(&str, &str)] = &[("type", "text")];
/// What the warning says.
const WARNING: &str = "what earlier rows have in it at the source is not told";

/// The keys of the rows of a batch, and its columns beside those that there were.
type Batch<'a> = (&'a [i64], Vec<(Field, ArrayRef)>);

fn column(name: &str, marks: &[(&str, &str)], values: &[Option<&str>]) -> (Field, ArrayRef) {
    (field(name, DataType::Utf8, true, marks), Arc::new(StringArray::from(values.to_vec())))
}

/// Windows of a pipeline, one after the other.
struct Windows<'a> {
    pipe: Pipe<'a>,
    seq: u64,
}

impl<'a> Windows<'a> {
    fn new(place: &'a Place, mode: WriteMode) -> Self {
        Self { pipe: loaded(place, mode, Value::Null, &[row(1, "a", "A")]), seq: 0 }
    }

    /// Inserts rows in one window, in batches of their own shape; gives what was logged, or the error.
    fn insert(&mut self, batches: Vec<Batch<'_>>) -> Result<String, rapidbyte_sdk::ConnectorError> {
        let host = FakeHost::install();
        let at = (self.seq + 1) * 10;
        for (schema_id, (ids, more)) in (1..).zip(batches) {
            let place = |id: i64| (at, i64::from(schema_id) * 100 + id);
            let changes: Vec<Change> = ids.iter().map(|id| Change::insert(place(*id), *id, "n", "B")).collect();
            host.feed(0, schema_id, &[changed(&changes, more, true)]).unwrap();
        }
        host.feed_commit(1, false, Some(lsn(at + 5)));
        self.pipe.write(&host, 1, "_rb_changes", self.seq, 0)?;
        self.seq += 1;
        Ok(host.logs().join("\n"))
    }
}

fn shown(place: &Place, column: &str) -> String {
    place.value(&format!("SELECT string_agg(id || coalesce({column}::text, '-'), ' ' ORDER BY id) FROM items"))
}

#[test]
fn rows_of_a_mirror_show_the_constant_and_no_others() {
    for mode in [WriteMode::Upsert, WriteMode::Append] {
        let place = Place::new();
        let mut windows = Windows::new(&place, mode);
        let mixed = vec![(&[2][..], Vec::new()), (&[3, 4], vec![column("more", TOLD, &[Some("m"), None])])];
        assert!(!windows.insert(mixed).unwrap().contains(WARNING));
        let old = if mode == WriteMode::Upsert { ODD } else { "-" };
        assert_eq!(shown(&place, "more"), format!("1{old} 2{old} 3m 4-"), "{mode}");
        // Nothing was written for it, and nothing is left that would fill a column that an INSERT leaves out.
        let marks =
            "SELECT concat(atthasmissing, atthasdef) FROM pg_attribute WHERE attrelid = 'items'::regclass AND attname = 'more'";
        assert_eq!(place.value(marks), if mode == WriteMode::Upsert { "tf" } else { "ff" }, "{mode}");
        // Told again, of a column that is there, it changes nothing.
        windows.insert(vec![(&[5], vec![column("more", &[("type", "text"), ("missing", "z")], &[None])])]).unwrap();
        assert_eq!(shown(&place, "more"), format!("1{old} 2{old} 3m 4- 5-"), "{mode}");
    }
}

#[test]
fn several_columns_may_have_come_between_two_changes() {
    let place = Place::new();
    let mut windows = Windows::new(&place, WriteMode::Upsert);
    let number = (
        field("n", DataType::Int64, true, &[("type", "bigint"), ("missing", "-7")]),
        Arc::new(Int64Array::from(vec![8])) as ArrayRef,
    );
    let more = vec![column("more", TOLD, &[None]), column("none", PLAIN, &[None]), number];
    assert!(!windows.insert(vec![(&[2], more)]).unwrap().contains(WARNING));
    assert_eq!(
        [shown(&place, "more"), shown(&place, "none"), shown(&place, "n")],
        [format!("1{ODD} 2-").as_str(), "1- 2-", "1-7 28"]
    );
}

#[test]
fn a_column_that_may_be_another_one_renamed_gets_null_and_a_word() {
    let place = Place::new();
    let mut windows = Windows::new(&place, WriteMode::Upsert);
    windows.insert(vec![(&[2], vec![column("old", PLAIN, &[Some("o")])])]).unwrap();
    // Its values are what the log has told under the old name.
    let told = windows.insert(vec![(&[3], vec![column("new", TOLD, &[Some("p")])])]).unwrap();
    assert!(told.contains(WARNING), "{told}");
    assert_eq!(shown(&place, "new"), "1- 2- 3p");
    let told = windows.insert(vec![(&[4], vec![column("new", TOLD, &[None]), column("u", UNTOLD, &[None])])]).unwrap();
    assert!(told.contains(WARNING), "{told}");
    assert_eq!(shown(&place, "u"), "1- 2- 3- 4-");
}

#[test]
fn a_column_that_was_left_out_or_dropped_here_was_there_before() {
    let place = Place::new();
    let mut windows = Windows::new(&place, WriteMode::Upsert);
    windows.pipe.context.policies.new_column = NewColumnPolicy::Fail;
    let refused = windows.insert(vec![(&[2], vec![column("more", TOLD, &[Some("m")])])]).unwrap_err();
    assert!(refused.hint.unwrap().contains("with the default that it came with"));
    windows.pipe.context.policies.new_column = NewColumnPolicy::Ignore;
    windows.insert(vec![(&[2], vec![column("more", TOLD, &[Some("m")])])]).unwrap();
    windows.pipe.context.policies.new_column = NewColumnPolicy::Add;
    let told = windows.insert(vec![(&[3], vec![column("more", TOLD, &[Some("m")])])]).unwrap();
    assert!(told.contains(WARNING), "{told}");
    assert_eq!(shown(&place, "more"), "1- 2- 3m");
    place.run("ALTER TABLE items DROP more");
    let told = windows.insert(vec![(&[4], vec![column("more", TOLD, &[None])])]).unwrap();
    assert!(told.contains(WARNING), "{told}");
    assert_eq!(shown(&place, "more"), "1- 2- 3- 4-");
}

#[test]
fn a_constant_that_is_no_value_here_ends_the_window_and_the_hint_helps() {
    let place = Place::new();
    place.run("CREATE DOMAIN short AS text CHECK (length(value) < 3)");
    let mut windows = Windows::new(&place, WriteMode::Upsert);
    let marks: &[(&str, &str)] = &[("type", "public.short"), ("base_type", "text"), ("missing", "canary")];
    let error = windows.insert(vec![(&[2], vec![column("more", marks, &[Some("m")])])]).unwrap_err();
    assert_eq!(error.code, "unfit_constant", "{}", error.message);
    assert!(error.message.contains("`more`") && error.message.contains("public.short"), "{}", error.message);
    assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    assert_eq!(place.value("SELECT count(*) FROM items"), "1");
    place.run_hint(&error.hint.unwrap());
    windows.insert(vec![(&[2], vec![column("more", marks, &[Some("m")])])]).unwrap();
    assert_eq!(shown(&place, "more"), "1- 2m");
}
