use crate::harness::{Pipe, Place, batch, field, orders};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray, Float64Array,
    Int8Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_buffer::{IntervalMonthDayNano, NullBuffer};
use arrow_schema::{DataType, Field};
use rapidbyte_sdk::testing::FakeHost;
use rapidbyte_sdk::{ErrorCategory, ErrorScope, WriteMode, split};
use std::sync::Arc;

fn column(name: &str, marks: &[(&str, &str)], array: impl arrow_array::Array + 'static) -> (Field, ArrayRef) {
    let array: ArrayRef = Arc::new(array);
    (field(name, array.data_type().clone(), true, marks), array)
}

/// A split column: values that fit, and others in their send form.
fn split_numeric(name: &str, fits: Decimal128Array, send: Vec<Option<&[u8]>>) -> (Field, ArrayRef) {
    let texts: StringArray = send.iter().map(|send| send.map(|_| "NaN")).collect();
    let sql = format!("numeric({},{})", fits.precision(), fits.scale());
    let plain = field(name, fits.data_type().clone(), true, &[("type", &sql)]);
    let nulls = NullBuffer::from_iter((0..fits.len()).map(|row| fits.is_valid(row) || send[row].is_some()));
    let children: Vec<ArrayRef> = vec![Arc::new(fits), Arc::new(BinaryArray::from(send)), Arc::new(texts)];
    let array = StructArray::new(split::members(plain.data_type()), children, Some(nulls));
    (split::split(&plain), Arc::new(array))
}

#[test]
fn values_of_another_source_arrive_exactly() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
    let decimal =
        Decimal128Array::from(vec![Some(-12_345_678_901_234_567_890_i128), None]).with_precision_and_scale(38, 5).unwrap();
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), Some(vec![])]);
    pipe.load(&[batch(vec![
        column("a", &[], BooleanArray::from(vec![Some(true), None])),
        column("b", &[], Int8Array::from(vec![Some(-128), None])),
        column("c", &[], UInt64Array::from(vec![Some(u64::MAX), None])),
        column("d", &[], Float64Array::from(vec![Some(0.1), Some(f64::NAN)])),
        column("e", &[], decimal),
        column("f", &[], StringArray::from(vec![Some(""), Some("é\\ \t\n")])),
        column("g", &[], BinaryArray::from(vec![Some(&b"\0\xff"[..]), None])),
        column("h", &[], Date32Array::from(vec![Some(0), Some(-719_162)])),
        column("i", &[], Time64MicrosecondArray::from(vec![Some(86_399_999_999), Some(0)])),
        column("j", &[], TimestampNanosecondArray::from(vec![Some(1_000), None])),
        column("k", &[], TimestampMicrosecondArray::from(vec![Some(-1), None]).with_timezone("Europe/Vienna")),
        column("l", &[], IntervalMonthDayNanoArray::from(vec![Some(IntervalMonthDayNano::new(14, -3, 5_000)), None])),
        column("m", &[], dictionary),
        column("n", &[], list),
    ])]);
    assert_eq!(
        place.value("SELECT string_agg(t::text, ' | ' ORDER BY a) FROM t"),
        "(t,-128,18446744073709551615,0.1,-123456789012345.67890,\"\",\
         \"\\\\x00ff\",1970-01-01,23:59:59.999999,\
         \"1970-01-01 00:00:00.000001\",\"1969-12-31 23:59:59.999999+00\",\
         \"1 year 2 mons -3 days +00:00:00.000005\",x,\"{1,NULL}\") | \
         (,,,NaN,,\"é\\\\ \t\n\",,0001-01-01,00:00:00,,,,,{})"
    );
}

#[test]
fn columns_of_a_postgres_source_are_the_very_same() {
    let place = Place::new();
    place.run("CREATE TYPE public.mood AS ENUM ('fine', 'sad'); CREATE DOMAIN public.posint AS integer CHECK (VALUE > 0)");
    let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
    let numeric = Decimal128Array::from(vec![Some(1_250), None]).with_precision_and_scale(15, 2).unwrap();
    let uuid = FixedSizeBinaryArray::try_from_iter(vec![[7_u8; 16], [0; 16]].into_iter()).unwrap();
    let raw_nan: &[u8] = &[0, 0, 0, 0, 0xc0, 0, 0, 0];
    let made = batch(vec![
        column("a", &[("type", "numeric(15,2)")], numeric),
        column("b", &[("type", "numeric")], StringArray::from(vec!["NaN", "0.100"])),
        column("c", &[("type", "character(4)")], StringArray::from(vec!["x   ", "abcd"])),
        column("d", &[("type", "jsonb")], StringArray::from(vec!["{\"a\": 1}", "null"])),
        column("e", &[("type", "uuid")], uuid),
        column("f", &[("type", "public.mood"), ("typtype", "e")], StringArray::from(vec!["sad", "fine"])),
        column("g", &[("type", "public.posint"), ("base_type", "integer")], Int32Array::from(vec![5, 6])),
        column("h", &[("type", "date")], Date32Array::from(vec![i32::MAX, i32::MIN])),
        column(
            "i",
            &[("type", "timestamp with time zone")],
            TimestampMicrosecondArray::from(vec![i64::MIN, 0]).with_timezone("UTC"),
        ),
        column("j", &[("type", "inet"), ("encoding", "text")], StringArray::from(vec!["10.0.0.1/8", "::1"])),
        column("k", &[("type", "public.nowhere"), ("typtype", "e")], StringArray::from(vec!["p", "q"])),
        column("l", &[("type", "public.gone"), ("base_type", "smallint")], arrow_array::Int16Array::from(vec![1, 2])),
        split_numeric(
            "m",
            Decimal128Array::from(vec![None, None]).with_precision_and_scale(5, 1).unwrap(),
            vec![Some(raw_nan), None],
        ),
        column("n", &[("type", "bit varying(5)"), ("encoding", "text")], StringArray::from(vec!["101", ""])),
        column("o", &[("type", "time without time zone")], Time64MicrosecondArray::from(vec![86_400_000_000, 0])),
        column("p", &[("type", "oid")], arrow_array::UInt32Array::from(vec![u32::MAX, 0])),
        column("q", &[("type", "\"char\""), ("encoding", "text")], StringArray::from(vec!["c", ""])),
    ]);
    let host = FakeHost::install();
    for _ in 0..2 {
        // Into a table of its own making, then into the same table.
        pipe.load(std::slice::from_ref(&made));
    }
    drop(host);
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = 't'::regclass AND attnum > 0";
    assert_eq!(
        place.value(types),
        "numeric(15,2), numeric, character(4), jsonb, uuid, mood, posint, date, timestamp with time zone, inet, text, smallint, \
         numeric(5,1), bit varying(5), time without time zone, oid, \"char\""
    );
    assert_eq!(
        place.value("SELECT count(*) || ' ' || count(DISTINCT t) FROM t AS t(a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q)").as_str(),
        "4 2"
    );
    assert_eq!(
        place.value("SELECT string_agg(DISTINCT t::text, ' | ') FROM t"),
        "(,0.100,abcd,null,00000000-0000-0000-0000-000000000000,\
         fine,6,-infinity,\"1970-01-01 00:00:00+00\",::1,q,2,,\"\",00:00:00,0,\"\") | \
         (12.50,NaN,\"x   \",\"{\"\"a\"\": 1}\",07070707-0707-0707-0707-070707070707,\
         sad,5,infinity,-infinity,10.0.0.1/8,p,1,NaN,101,24:00:00,4294967295,c)"
    );
}

#[test]
fn a_value_that_does_not_fit_names_its_column_and_row_and_never_itself() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let attempt = |made| {
        let host = FakeHost::install();
        host.feed(0, 1, &[made]).unwrap();
        host.feed_commit(1, true, None);
        let error = pipe.write(&host, 1, "0", 0, 0).unwrap_err();
        assert!(host.checkpoints().is_empty());
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert!(error.hint.is_some());
        error
    };
    let error = attempt(batch(vec![column("word", &[], StringArray::from(vec!["fine", "canary\0"]))]));
    assert_eq!((error.code.as_str(), error.category, error.scope), ("nul_in_text", ErrorCategory::Data, ErrorScope::Record));
    assert!(error.message.contains("`public.t`") && error.message.contains("`word`") && error.message.contains("row 2"), "{error}");
    pipe.prepare(2, "s2", &["0"]);
    let attempt = |generation: u64, made| {
        let host = FakeHost::install();
        host.feed(0, 1, &[made]).unwrap();
        host.feed_commit(1, true, None);
        pipe.write(&host, generation, "0", 0, 0).unwrap_err()
    };
    let error = attempt(2, batch(vec![column("at", &[], TimestampNanosecondArray::from(vec![1]))]));
    assert_eq!(error.code, "value_not_exact");
    pipe.prepare(3, "s3", &["0"]);
    let error = attempt(3, batch(vec![column("word", &[("type", "character varying(3)")], StringArray::from(vec!["canary"]))]));
    assert_eq!(error.category, ErrorCategory::Data);
    assert!(error.message.contains("word") && error.message.contains("public.t") && !error.message.contains("canary"), "{error}");
}

#[test]
fn drift_between_runs_follows_the_default_policies() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
    let ids = |name: &str| column(name, &[("type", "bigint")], Int64Array::from(vec![1, 2]));
    pipe.load(&[batch(vec![ids("a"), ids("b")])]);
    // One new, one gone.
    pipe.load(&[batch(vec![ids("a"), ids("c")])]);
    assert_eq!(place.value("SELECT count(a) || ' ' || count(b) || ' ' || count(c) FROM t"), "4 2 2");
    // Narrower is fine, wider is not.
    pipe.load(&[batch(vec![column("a", &[("type", "integer")], Int32Array::from(vec![1, 2]))])]);
    pipe.claim();
    pipe.prepare(4, "s", &["0"]);
    let host = FakeHost::install();
    host.feed(0, 1, &[batch(vec![column("a", &[("type", "text")], StringArray::from(vec!["1", "2"]))])]).unwrap();
    host.feed_commit(1, true, None);
    let text = || column("a", &[("type", "text")], StringArray::from(vec!["1", "2"]));
    // It is found out before anything is moved.
    let error = pipe.write(&host, 4, "0", 0, 0).unwrap_err();
    assert_eq!((error.code.as_str(), error.category), ("type_mismatch", ErrorCategory::Schema));
    place.run_hint(&error.hint.unwrap());
    let host = FakeHost::install();
    host.feed(0, 1, &[batch(vec![text()])]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 4, "0", 0, 0).unwrap();
    assert_eq!(pipe.publish(4).rows, 2);
    assert_eq!(place.value("SELECT count(*) FROM t"), "8");
}

#[test]
fn a_column_may_be_split_in_the_middle() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    let nan: &[u8] = &[0, 0, 0, 0, 0xc0, 0, 0, 0];
    let host = FakeHost::install();
    let natural = Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap();
    host.feed(0, 1, &[batch(vec![column("a", &[("type", "numeric(5,2)")], natural)])]).unwrap();
    let fits = Decimal128Array::from(vec![None, Some(275)]).with_precision_and_scale(5, 2).unwrap();
    host.feed(0, 2, &[batch(vec![split_numeric("a", fits, vec![Some(nan), None])])]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    pipe.publish(1);
    assert_eq!(place.value("SELECT string_agg(a::text, ' ' ORDER BY a) FROM t"), "1.50 2.75 NaN");
}

#[test]
fn columns_that_mean_something_else_are_refused() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "t", WriteMode::Append);
    pipe.claim();
    pipe.prepare(1, "s", &["0"]);
    for (name, code) in [("_rb_op", "reserved_column"), (&*"x".repeat(64), "bad_identifier")] {
        let host = FakeHost::install();
        host.feed(0, 1, &[batch(vec![column(name, &[], Int64Array::from(vec![1]))])]).unwrap();
        assert_eq!(pipe.write(&host, 1, "0", 0, 0).unwrap_err().code, code);
    }
    let inner = Field::new("x", DataType::Int32, true);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Struct(vec![inner].into()), true)));
    let host = FakeHost::install();
    host.feed(0, 1, &[batch(vec![(field("s", list.clone(), true, &[]), arrow_array::new_empty_array(&list))])]).unwrap();
    let error = pipe.write(&host, 1, "0", 0, 0).unwrap_err();
    assert_eq!(error.code, "unsupported_type");
    assert!(error.message.contains("`s`"));
    // A type from outside is not SQL.
    let host = FakeHost::install();
    let evil = "text); DROP TABLE _rapidbyte.streams CASCADE; --";
    host.feed(0, 1, &[batch(vec![column("a", &[("type", evil)], StringArray::from(vec!["v"]))])]).unwrap();
    host.feed_commit(1, true, None);
    pipe.write(&host, 1, "0", 0, 0).unwrap();
    assert_eq!(pipe.publish(1).rows, 1);
}

#[test]
fn a_wide_table_and_a_large_value_pass() {
    let place = Place::new();
    let mut pipe = Pipe::new(&place, "wide", WriteMode::Append);
    let columns = (0..1600).map(|number| column(&format!("c{number}"), &[], Int8Array::from(vec![Some(1), None]))).collect();
    pipe.load(&[batch(columns)]);
    assert_eq!(place.value("SELECT sum(c1599) FROM wide"), "1");
    let mut pipe = Pipe::new(&place, "large", WriteMode::Append);
    let text = "x".repeat(20 << 20);
    pipe.load(&[
        batch(vec![column("a", &[], StringArray::from(vec![text.as_str()]))]),
        batch(vec![column("a", &[], StringArray::from(vec!["y"]))]),
    ]);
    assert_eq!(place.value("SELECT max(length(a)) || ' ' || count(*) FROM large"), format!("{} 2", 20 << 20));
    pipe.load(&[orders(0..0)]);
}
