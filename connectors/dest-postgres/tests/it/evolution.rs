//! Columns that change: every kind of change, under every policy, in every mode of writing, between loads and within one.

use crate::harness::{Pipe, Place, batch, field, position};
use arrow_array::{ArrayRef, Int16Array, Int32Array, Int64Array, RecordBatch, StringArray};
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{
    BackoffClass, ConnectorError, ErrorCategory, ErrorScope, NewColumnPolicy, NullabilityPolicy, Policies, RemovedColumnPolicy,
    SyncMode, TypeChangePolicy, WriteMode,
};
use std::sync::Arc;

type Column = (arrow_schema::Field, ArrayRef);

fn column(name: &str, sql: &str, nullable: bool, array: impl arrow_array::Array + 'static) -> Column {
    let array: ArrayRef = Arc::new(array);
    (field(name, array.data_type().clone(), nullable, &[("type", sql)]), array)
}

fn ids(ids: [i64; 2]) -> Column {
    let array: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    (field("id", array.data_type().clone(), false, &[("type", "bigint"), ("pk_ord", "1")]), array)
}

fn a(values: [Option<i32>; 2]) -> Column {
    column("a", "integer", true, Int32Array::from_iter(values))
}

fn b() -> Column {
    column("b", "integer", false, Int32Array::from_iter_values([3, 4]))
}

/// `id bigint primary key, a integer, b integer not null`.
fn before() -> RecordBatch {
    batch(vec![ids([1, 2]), a([Some(1), None]), b()])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drift {
    Add,
    Drop,
    Rename,
    /// With values that the old type holds.
    Widen,
    /// With one that it does not.
    WidenBeyond,
    Narrow,
    Other,
    OtherBeyond,
    /// There is no exact way from the one type to the other.
    Strange,
    Tighten,
    Loosen,
}

impl Drift {
    const ALL: [Self; 11] = [
        Self::Add,
        Self::Drop,
        Self::Rename,
        Self::Widen,
        Self::WidenBeyond,
        Self::Narrow,
        Self::Other,
        Self::OtherBeyond,
        Self::Strange,
        Self::Tighten,
        Self::Loosen,
    ];

    fn after(self) -> RecordBatch {
        let id = ids([11, 12]);
        let plain = || a([Some(5), Some(6)]);
        let wide = |values: [i64; 2]| column("a", "bigint", true, Int64Array::from_iter_values(values));
        let text = |values: [&str; 2]| column("a", "text", true, StringArray::from_iter_values(values));
        batch(match self {
            Self::Add => vec![id, plain(), b(), column("c", "text", true, StringArray::from(vec!["x", "y"]))],
            Self::Drop => vec![id, plain()],
            Self::Rename => vec![id, column("z", "integer", true, Int32Array::from(vec![5, 6])), b()],
            Self::Widen => vec![id, wide([5, 6]), b()],
            Self::WidenBeyond => vec![id, wide([5, 5_000_000_000]), b()],
            Self::Narrow => vec![id, column("a", "smallint", true, Int16Array::from(vec![5, 6])), b()],
            Self::Other => vec![id, text(["5", "6"]), b()],
            Self::OtherBeyond => vec![id, text(["5", "canary"]), b()],
            Self::Strange => vec![id, column("a", "bytea", true, arrow_array::BinaryArray::from(vec![&b"5"[..], b"6"])), b()],
            Self::Tighten => vec![id, column("a", "integer", false, Int32Array::from(vec![5, 6])), b()],
            Self::Loosen => vec![id, plain(), column("b", "integer", true, Int32Array::from(vec![Some(3), None]))],
        })
    }
}

/// One policy that is not the default one, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Defaults,
    New(NewColumnPolicy),
    RemovedFail,
    Type(TypeChangePolicy),
    NullabilityFail,
}

const POLICIES: [Policy; 7] = [
    Policy::Defaults,
    Policy::New(NewColumnPolicy::Ignore),
    Policy::New(NewColumnPolicy::Fail),
    Policy::RemovedFail,
    Policy::Type(TypeChangePolicy::Coerce),
    Policy::Type(TypeChangePolicy::Null),
    Policy::NullabilityFail,
];

impl Policy {
    fn policies(self) -> Policies {
        let mut policies = Policies::default();
        match self {
            Self::Defaults => {}
            Self::New(policy) => policies.new_column = policy,
            Self::RemovedFail => policies.removed_column = RemovedColumnPolicy::Fail,
            Self::Type(policy) => policies.type_change = policy,
            Self::NullabilityFail => policies.nullability_change = NullabilityPolicy::Fail,
        }
        policies
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Append,
    Replace,
    Upsert,
    Incremental,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Another run has the other columns.
    Between,
    /// They come after a commit of the same load.
    AfterCommit,
    /// They come in the middle of a window.
    Within,
}

/// What the table is like afterwards and the rows that came after the change, or the error's code.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Table(&'static str, &'static str),
    Refused(&'static str),
    /// A row's value is at fault, and its column is named.
    Unfit,
}

const SAME: &str = "id bigint!, a integer, b integer!";
/// Another type than the one that is there.
const TYPE: Outcome = Outcome::Refused("type");

fn expected(drift: Drift, policy: Policy) -> Outcome {
    use Drift::*;
    use Outcome::{Refused, Table, Unfit};
    use TypeChangePolicy::{Coerce, Null};
    match (drift, policy) {
        (Add, Policy::New(NewColumnPolicy::Ignore)) => Table(SAME, "(11,5,3) (12,6,4)"),
        (Add | Rename, Policy::New(NewColumnPolicy::Fail)) => Refused("new_column"),
        (Add, _) => Table("id bigint!, a integer, b integer!, c text", "(11,5,3,x) (12,6,4,y)"),
        (Drop | Rename, Policy::RemovedFail) => Refused("removed_column"),
        (Drop | Loosen, Policy::NullabilityFail) => Refused("nullability_change"),
        (Drop, _) => Table("id bigint!, a integer, b integer", "(11,5,) (12,6,)"),
        (Rename, Policy::New(NewColumnPolicy::Ignore)) => Table(SAME, "(11,,3) (12,,4)"),
        (Rename, _) => Table("id bigint!, a integer, b integer!, z integer", "(11,,3,5) (12,,4,6)"),
        (Narrow | Tighten, _) | (Widen | Other, Policy::Type(Coerce | Null)) => Table(SAME, "(11,5,3) (12,6,4)"),
        (WidenBeyond | OtherBeyond, Policy::Type(Coerce)) => Unfit,
        (WidenBeyond | OtherBeyond, Policy::Type(Null)) => Table(SAME, "(11,5,3) (12,,4)"),
        (Strange, Policy::Type(Null)) => Table(SAME, "(11,,3) (12,,4)"),
        (Widen | WidenBeyond | Other | OtherBeyond | Strange, _) => TYPE,
        (Loosen, _) => Table("id bigint!, a integer, b integer", "(11,5,3) (12,6,)"),
    }
}

fn pipe<'a>(place: &'a Place, table: &str, mode: Mode) -> Pipe<'a> {
    let write_mode = match mode {
        Mode::Append | Mode::Incremental => WriteMode::Append,
        Mode::Replace => WriteMode::Replace,
        Mode::Upsert => WriteMode::Upsert,
    };
    let mut pipe = Pipe::new(place, table, write_mode);
    if mode == Mode::Incremental {
        pipe.context.sync_mode = SyncMode::Incremental;
        pipe.context.cursor_field = Some("id".into());
    }
    pipe
}

/// Loads both batches; the second under the policy.
fn run(pipe: &mut Pipe<'_>, mode: Mode, when: When, policy: Policy, after: &RecordBatch) -> Result<(), ConnectorError> {
    let ends = mode != Mode::Incremental;
    let at = |text: &str| (!ends).then(|| position(text));
    pipe.claim();
    pipe.prepare(1, "s1", &["0"]);
    let host = FakeHost::install();
    if when == When::Between {
        host.feed(0, 1, &[before()]).unwrap();
        host.feed_commit(1, ends, at("one"));
        pipe.write(&host, 1, "0", 0, 0).expect("the first load");
        if ends {
            pipe.publish(1);
        }
        pipe.context.policies = policy.policies();
        let claimed = pipe.claim();
        let (generation, seq) = if ends { (2, 0) } else { (1, claimed.receipts[0].seq) };
        pipe.prepare(generation, if ends { "s2" } else { "s1" }, &["0"]);
        drop(host);
        let host = FakeHost::install();
        host.feed(0, 1, std::slice::from_ref(after)).unwrap();
        host.feed_commit(1, ends, at("two"));
        pipe.write(&host, generation, "0", seq, 0)?;
        return if ends { pipe.try_publish(generation).map(drop) } else { Ok(()) };
    }
    pipe.context.policies = policy.policies();
    host.feed(0, 1, &[before()]).unwrap();
    if when == When::AfterCommit {
        host.feed_commit(1, false, at("one"));
    }
    host.feed(0, 2, std::slice::from_ref(after)).unwrap();
    host.feed_commit(2, ends, at("two"));
    pipe.write(&host, 1, "0", 0, 0)?;
    if ends { pipe.try_publish(1).map(drop) } else { Ok(()) }
}

fn shape(place: &Place, table: &str) -> String {
    place.value(&format!(
        "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN '!' ELSE '' END, ', '
             ORDER BY attnum) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    ))
}

/// Whether a policy has a say in what becomes of a change.
fn concerns(policy: Policy, drift: Drift) -> bool {
    match policy {
        Policy::Type(_) => !matches!(drift, Drift::Add | Drift::Drop | Drift::Rename | Drift::Tighten | Drift::Loosen),
        Policy::Defaults => true,
        other => expected(drift, other) != expected(drift, Policy::Defaults),
    }
}

/// Every change under every policy that has a say in it; with `all`, under the others too, where it is as by default.
fn matrix(mode: Mode, all: bool) {
    let place = Place::new();
    let (mut wrong, mut tables) = (Vec::new(), 0);
    for when in [When::Between, When::AfterCommit, When::Within] {
        for drift in Drift::ALL {
            for policy in POLICIES.into_iter().filter(|policy| all || concerns(*policy, drift)) {
                let case = format!("{mode:?} {when:?} {drift:?} {policy:?}");
                tables += 1;
                let table = format!("t{tables}");
                let mut pipe = pipe(&place, &table, mode);
                let ran = run(&mut pipe, mode, when, policy, &drift.after());
                let expected = expected(drift, policy);
                let found = match &ran {
                    Ok(()) => {
                        let rows = format!("SELECT string_agg(t::text, ' ' ORDER BY id) FROM {table} AS t WHERE id > 10");
                        format!("{} {}", shape(&place, &table), place.value(&rows))
                    }
                    Err(error) => {
                        assert!(!format!("{error:?}").contains("canary"), "{case}: {error:?}");
                        assert!(error.hint.is_some(), "{case}: {error}");
                        assert!(!error.retryable, "{case}: {error}");
                        format!("{} {:?} {:?}", error.code, error.category, error.scope)
                    }
                };
                let within_load = when == When::Within || (when == When::AfterCommit && mode != Mode::Incremental);
                let wanted = match expected {
                    Outcome::Table(shape, rows) => format!("{shape} {rows}"),
                    Outcome::Refused("type") if within_load => {
                        format!("type_change {:?} {:?}", ErrorCategory::Schema, ErrorScope::Stream)
                    }
                    Outcome::Refused("type") => format!("type_mismatch {:?} {:?}", ErrorCategory::Schema, ErrorScope::Stream),
                    Outcome::Refused(code) => format!("{code} {:?} {:?}", ErrorCategory::Schema, ErrorScope::Stream),
                    Outcome::Unfit => format!("value_does_not_fit {:?} {:?}", ErrorCategory::Data, ErrorScope::Record),
                };
                if found != wanted {
                    wrong.push(format!("{case}\n  found  {found}\n  wanted {wanted}\n  {ran:?}"));
                }
                if let Err(error) = ran
                    && error.category == ErrorCategory::Data
                {
                    assert!(error.message.contains("`a`") && error.message.contains(&table), "{case}: {error}");
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_change_follows_every_policy_when_rows_are_appended() {
    matrix(Mode::Append, true);
}

#[test]
fn every_change_follows_every_policy_when_rows_are_replaced() {
    matrix(Mode::Replace, false);
}

#[test]
fn every_change_follows_every_policy_when_rows_are_merged() {
    matrix(Mode::Upsert, false);
}

#[test]
fn every_change_follows_every_policy_in_an_incremental_stream() {
    matrix(Mode::Incremental, false);
}

#[test]
fn statements_of_hints_mend_what_was_refused() {
    let place = Place::new();
    let cases = [
        (Drift::Add, Policy::New(NewColumnPolicy::Fail)),
        (Drift::Widen, Policy::Defaults),
        (Drift::Other, Policy::Defaults),
        (Drift::Loosen, Policy::NullabilityFail),
        (Drift::Drop, Policy::NullabilityFail),
    ];
    for mode in [Mode::Append, Mode::Replace, Mode::Upsert, Mode::Incremental] {
        for (drift, policy) in cases {
            let table = format!("{mode:?}_{drift:?}").to_lowercase();
            let mut pipe = pipe(&place, &table, mode);
            let error = run(&mut pipe, mode, When::Between, policy, &drift.after()).unwrap_err();
            place.run_hint(&error.hint.unwrap());
            let claimed = pipe.claim();
            let host = FakeHost::install();
            host.feed(0, 1, &[drift.after()]).unwrap();
            let generation = claimed.generation.unwrap().number;
            let ends = mode != Mode::Incremental;
            host.feed_commit(1, ends, (!ends).then(|| position("two")));
            pipe.write(&host, generation, "0", claimed.receipts.first().map_or(0, |receipt| receipt.seq), 0).unwrap();
            if ends {
                pipe.publish(generation);
            }
            assert_eq!(place.value(&format!("SELECT count(*) FROM {table} WHERE id > 10")), "2", "{table}");
        }
    }
}

#[test]
fn a_load_that_can_not_be_gone_on_with_gives_way_to_another() {
    let refused = [
        (Drift::Other, Policy::Defaults, "type_change"),
        (Drift::Add, Policy::New(NewColumnPolicy::Fail), "new_column"),
        (Drift::Drop, Policy::RemovedFail, "removed_column"),
        (Drift::Loosen, Policy::NullabilityFail, "nullability_change"),
    ];
    for mode in [Mode::Append, Mode::Replace, Mode::Upsert] {
        for (drift, policy, code) in refused {
            let place = Place::new();
            let mut pipe = pipe(&place, "t", mode);
            pipe.context.policies = policy.policies();
            pipe.claim();
            pipe.prepare(1, "s", &["0"]);
            let host = FakeHost::install();
            host.feed(0, 1, &[before()]).unwrap();
            host.feed_commit(1, false, Some(position("one")));
            pipe.write(&host, 1, "0", 0, 0).unwrap();
            // The run is interrupted; the next one goes on with it, and the columns have changed.
            let claimed = pipe.claim();
            assert_eq!(claimed.generation.unwrap().snapshot, "s");
            pipe.prepare(1, "s", &["0"]);
            drop(host);
            let host = FakeHost::install();
            host.feed(0, 1, &[drift.after()]).unwrap();
            host.feed_commit(1, true, None);
            let error = pipe.write(&host, 1, "0", 1, 2).unwrap_err();
            assert_eq!(error.code, code, "{mode:?} {drift:?}");
            assert!(error.hint.unwrap().contains("loads the stream anew"));
            // It is not offered again, so that the next run loads the stream as it is now.
            let claimed = pipe.claim();
            assert_ne!(claimed.generation.unwrap().snapshot, "s");
            pipe.prepare(2, "s", &["0"]);
            drop(host);
            let host = FakeHost::install();
            host.feed(0, 1, &[drift.after()]).unwrap();
            host.feed_commit(1, true, None);
            pipe.write(&host, 2, "0", 0, 0).unwrap();
            assert_eq!(pipe.publish(2).rows, 2);
        }
    }
}

#[test]
fn a_converted_load_is_gone_on_with_in_the_same_way() {
    let place = Place::new();
    let mut pipe = pipe(&place, "t", Mode::Replace);
    pipe.load(&[before()]);
    pipe.context.policies.type_change = TypeChangePolicy::Coerce;
    pipe.claim();
    pipe.prepare(2, "s", &["0", "1"]);
    for (partition, seq, last) in [("0", 0, false), ("1", 0, true), ("0", 1, true)] {
        let host = FakeHost::install();
        host.feed(0, 1, &[Drift::Other.after()]).unwrap();
        host.feed_commit(1, last, (!last).then(|| position("p")));
        pipe.write(&host, 2, partition, seq, 2 * seq).unwrap();
    }
    // The rows of a replaced table have a key, so that they come once here.
    assert_eq!(pipe.try_publish(2).unwrap_err().category, ErrorCategory::Data);
    place.run("ALTER TABLE t DROP CONSTRAINT IF EXISTS t_pkey");
    let key = place.value("SELECT conname FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'p'");
    if key != "NULL" {
        place.run(&format!("ALTER TABLE t DROP CONSTRAINT \"{key}\""));
    }
    assert_eq!(pipe.publish(2).rows, 6);
    assert_eq!(place.value("SELECT count(*) || ' ' || sum(a) || ' ' || pg_typeof(min(a)) FROM t"), "6 33 integer");
}

#[test]
fn keys_and_columns_that_must_not_be_empty_never_get_null_for_a_value() {
    let place = Place::new();
    for (mode, nullability, drifted) in [(Mode::Upsert, "allow", "id"), (Mode::Append, "fail", "b")] {
        let mut pipe = pipe(&place, &format!("t_{drifted}"), mode);
        pipe.load(&[before()]);
        pipe.context.policies.type_change = TypeChangePolicy::Null;
        pipe.context.policies.nullability_change = nullability.parse().unwrap();
        pipe.claim();
        pipe.prepare(2, "s2", &["0"]);
        let text = |name: &str| {
            let array: ArrayRef = Arc::new(StringArray::from(vec!["7", "seven"]));
            let marks: &[(&str, &str)] = if name == "id" { &[("type", "text"), ("pk_ord", "1")] } else { &[("type", "text")] };
            (field(name, array.data_type().clone(), false, marks), array)
        };
        let rows =
            if drifted == "id" { vec![text("id"), a([None, None]), b()] } else { vec![ids([7, 8]), a([None, None]), text("b")] };
        let host = FakeHost::install();
        host.feed(0, 1, &[batch(rows)]).unwrap();
        host.feed_commit(1, true, None);
        let error = pipe.write(&host, 2, "0", 0, 0).unwrap_err();
        assert_eq!((error.code.as_str(), error.scope), ("value_does_not_fit", ErrorScope::Record));
        assert!(error.message.contains(&format!("`{drifted}` in row 2")), "{error}");
    }
}

#[test]
fn a_table_that_changes_while_it_is_loaded_is_looked_at_again() {
    let place = Place::new();
    let mut pipe = pipe(&place, "t", Mode::Append);
    pipe.load(&[before()]);
    pipe.context.policies.type_change = TypeChangePolicy::Coerce;
    pipe.claim();
    pipe.prepare(2, "s2", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[before()]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 2, "0", 0, 0).unwrap();
    place.run("ALTER TABLE t ALTER COLUMN a TYPE smallint; ALTER TABLE t ADD COLUMN own int NOT NULL DEFAULT 7");
    let error = pipe.try_publish(2).unwrap_err();
    assert_eq!(error.code, "type_mismatch");
    place.run_hint(&error.hint.unwrap());
    assert_eq!(pipe.publish(2).rows, 2);
    assert_eq!(place.value("SELECT sum(own) FROM t"), "28");
    // What the server fills by itself has never come from the source.
    pipe.context.policies.removed_column = RemovedColumnPolicy::Fail;
    pipe.load(&[before()]);
    place.run("ALTER TABLE t ALTER COLUMN own DROP DEFAULT");
    pipe.claim();
    pipe.prepare(4, "s4", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[before()]).unwrap();
    assert_eq!(pipe.write(&host, 4, "0", 0, 0).unwrap_err().code, "removed_column");
}

#[test]
fn text_becomes_the_enum_that_is_there_where_it_is_a_label() {
    let place = Place::new();
    place.run("CREATE TYPE mood AS ENUM ('fine', 'sad'); CREATE TABLE t (id bigint, m mood)");
    let mut pipe = pipe(&place, "t", Mode::Append);
    pipe.context.policies.type_change = TypeChangePolicy::Null;
    pipe.load(&[batch(vec![ids([1, 2]), column("m", "text", true, StringArray::from(vec!["sad", "glad"]))])]);
    assert_eq!(place.value("SELECT string_agg(t::text, ' ' ORDER BY id) FROM t"), "(1,sad) (2,)");
}

#[test]
fn a_lock_of_another_session_ends_the_attempt_in_time() {
    let place = Place::new();
    // A statement that waits longer than any test would be ended by the server with another code.
    for mode in [Mode::Append, Mode::Replace, Mode::Upsert, Mode::Incremental] {
        let table = format!("{mode:?}").to_lowercase();
        let mut pipe = pipe(&place, &table, mode);
        pipe.extra = serde_json::json!({ "lock_timeout_seconds": 1, "statement_timeout_seconds": 300 });
        let mut other = place.sql();
        let ran = run(&mut pipe, mode, When::Between, Policy::Defaults, &Drift::Tighten.after());
        ran.unwrap();
        other.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE")).unwrap();
        // A reader is enough to hold up a change of columns, and does not hold up rows.
        let claimed = pipe.claim();
        let ends = mode != Mode::Incremental;
        let (generation, seq) = if ends { (3, 0) } else { (1, claimed.receipts[0].seq) };
        pipe.prepare(generation, if ends { "s3" } else { "s1" }, &["0"]);
        let attempt = |pipe: &Pipe<'_>, drift: Drift| {
            let host = FakeHost::install();
            host.feed(0, 1, &[drift.after()]).unwrap();
            host.feed_commit(1, ends, (!ends).then(|| position("three")));
            pipe.write(&host, generation, "0", seq, 0)?;
            if ends { pipe.try_publish(generation).map(drop) } else { Ok(()) }
        };
        let error = attempt(&pipe, Drift::Add).unwrap_err();
        assert_eq!(
            (error.category, error.retryable, error.backoff),
            (ErrorCategory::TransientDb, true, BackoffClass::Normal),
            "{error}"
        );
        assert!(error.hint.as_ref().is_some_and(|hint| hint.contains("pg_locks")), "{error}");
        assert!(error.message.contains(&table) || error.message.contains("lock"), "{error}");
        other.batch_execute("COMMIT").unwrap();
        if ends {
            pipe.publish(generation);
        } else {
            attempt(&pipe, Drift::Add).unwrap();
        }
        assert_eq!(place.value(&format!("SELECT count(c) FROM {table}")), "2");
    }
}
