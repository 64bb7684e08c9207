//! Values that files can't hold, by declared policy.

use super::*;
use arrow_array::{
    Array, BinaryArray, Date32Array, Decimal128Array, IntervalMonthDayNanoArray, ListArray, StructArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{IntervalMonthDayNano, NullBuffer};
use rapidbyte_sdk::text::ColumnText;
use rapidbyte_sdk::{DataErrorPolicy, split};

/// A column as a source announces it at first, and as it comes after a value that did not fit.
fn halves(name: &str, value: ArrayRef, beyond: &[Option<&str>]) -> (Field, ArrayRef) {
    let whole = split::mark(&Field::new(name, value.data_type().clone(), false));
    let nulls = NullBuffer::from_iter((0..value.len()).map(|row| value.is_valid(row) || beyond[row].is_some()));
    let send: BinaryArray = beyond.iter().map(|text| text.map(str::as_bytes)).collect();
    let children: Vec<ArrayRef> = vec![value, Arc::new(send), Arc::new(StringArray::from(beyond.to_vec()))];
    let array = StructArray::new(split::members(whole.data_type()), children, (nulls.null_count() > 0).then_some(nulls));
    (split::split(&whole), Arc::new(array))
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn plain(name: &str, array: ArrayRef) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), false), array)
}

/// Four rows: the last value of the first batch and the first of the second fit, the others do not.
fn data() -> Vec<RecordBatch> {
    let decimal =
        |values: Vec<Option<i128>>| -> ArrayRef { Arc::new(Decimal128Array::from(values).with_precision_and_scale(5, 2).unwrap()) };
    let interval = |values: Vec<Option<IntervalMonthDayNano>>| -> ArrayRef { Arc::new(IntervalMonthDayNanoArray::from(values)) };
    let list = |values: Vec<Option<Vec<Option<i32>>>>| -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>(values))
    };
    let whole = |name: &str, array: ArrayRef| {
        let (field, array) = plain(name, array);
        (split::mark(&field), array)
    };
    let instants =
        |values: Vec<Option<i64>>| -> ArrayRef { Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) };
    let span = Some(IntervalMonthDayNano::new(1, 2, 3000));
    let first = batch(vec![
        plain("id", Arc::new(Int64Array::from(vec![0]))),
        plain("date", Arc::new(Date32Array::from(vec![1]))),
        plain("time", Arc::new(Time64MicrosecondArray::from(vec![1]))),
        whole("instant", instants(vec![Some(1)])),
        whole("decimal", decimal(vec![Some(150)])),
        whole("interval", interval(vec![span])),
        whole("list", list(vec![Some(vec![Some(1), None])])),
    ]);
    let second = batch(vec![
        plain("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        plain("date", Arc::new(Date32Array::from(vec![2, i32::MAX, i32::MIN]))),
        plain("time", Arc::new(Time64MicrosecondArray::from(vec![2, 86_400_000_000, 0]))),
        halves("instant", instants(vec![Some(2), None, Some(i64::MIN)]), &[None, Some("+294276-12-31T23:59:59.999999Z"), None]),
        halves("decimal", decimal(vec![Some(275), None, None]), &[None, Some("Infinity"), Some("-Infinity")]),
        halves("interval", interval(vec![span, None, span]), &[None, Some("P0M0DT9223372036854.775807000S"), None]),
        halves("list", list(vec![Some(vec![]), None, Some(vec![])]), &[None, Some("[0:0]={7}"), None]),
    ]);
    vec![first, second]
}

fn pipeline(format: &str, policy: &str, data: Vec<RecordBatch>) -> Pipeline {
    let mut made = Pipeline::new(WriteMode::Append);
    made.config = serde_json::json!({ "format": format, "unsupported_values": policy });
    made.data = vec![data];
    made
}

/// The rows of a Parquet load as text, without their ids.
fn rows(pipeline: &Pipeline) -> Vec<String> {
    let mut found = Vec::new();
    for name in pipeline.visible().keys() {
        for batch in read_parquet(&pipeline.root().join("public.orders").join(name)) {
            let schema = batch.schema();
            let columns: Vec<ColumnText<'_>> =
                schema.fields().iter().zip(batch.columns()).map(|(field, array)| ColumnText::new(field, array).unwrap()).collect();
            found.extend((0..batch.num_rows()).map(|row| {
                let mut line = String::new();
                for column in &columns[1..] {
                    column.write_json(row, &mut line);
                    line.push(' ');
                }
                line
            }));
        }
    }
    found
}

/// All but lists: an array of another shape has no nearest one.
fn without_lists() -> Vec<RecordBatch> {
    data().iter().map(|batch| batch.project(&[0, 1, 2, 3, 4, 5]).unwrap()).collect()
}

const DATES: [&str; 2] = ["\"1970-01-02\" \"00:00:00.000001\" ", "\"1970-01-03\" \"00:00:00.000002\" "];
const SPAN: &str = "\"P1M2DT0.000003000S\"";
const LONG: &str = "\"P0M0DT9223372036854.775807000S\"";

#[test]
fn null_leaves_out_the_value_and_keeps_the_row() {
    let mut pipeline = pipeline("parquet", "null", data());
    pipeline.loaded();
    assert_eq!(
        rows(&pipeline),
        [
            format!("{}\"1970-01-01T00:00:00.000001Z\" 1.50 {SPAN} [1,null] ", DATES[0]),
            format!("{}\"1970-01-01T00:00:00.000002Z\" 2.75 {SPAN} [] ", DATES[1]),
            format!("null null null null {LONG} null "),
            format!("null \"00:00:00.000000\" null null {SPAN} [] "),
        ]
    );
}

#[test]
fn text_keeps_every_value() {
    let mut pipeline = pipeline("parquet", "text", data());
    pipeline.loaded();
    assert_eq!(
        rows(&pipeline),
        [
            format!("{}\"1970-01-01T00:00:00.000001Z\" \"1.50\" {SPAN} \"{{1,NULL}}\" ", DATES[0]),
            format!("{}\"1970-01-01T00:00:00.000002Z\" \"2.75\" {SPAN} \"{{}}\" ", DATES[1]),
            format!("\"infinity\" \"24:00:00.000000\" \"+294276-12-31T23:59:59.999999Z\" \"Infinity\" {LONG} \"[0:0]={{7}}\" "),
            format!("\"-infinity\" \"00:00:00.000000\" \"-infinity\" \"-Infinity\" {SPAN} \"{{}}\" "),
        ]
    );
}

#[test]
fn clamp_takes_the_nearest_value() {
    let mut pipeline = pipeline("parquet", "clamp", without_lists());
    pipeline.loaded();
    assert_eq!(
        rows(&pipeline)[2..],
        [
            format!("\"+5881580-07-10\" \"23:59:59.999999\" \"+294247-01-10T04:00:54.775806Z\" 999.99 {LONG} "),
            format!("\"-5877641-06-24\" \"00:00:00.000000\" \"-290308-12-21T19:59:05.224193Z\" -999.99 {SPAN} "),
        ]
    );
    // What is nearest to `NaN`, or to an array of another shape?
    for bad in [data().remove(1).project(&[0, 6]).unwrap(), {
        let nan = halves("decimal", data()[0].column(4).clone(), &[Some("NaN")]);
        batch(vec![plain("id", Arc::new(Int64Array::from(vec![1]))), nan])
    }] {
        let error = self::pipeline("parquet", "clamp", vec![bad]).load(&FakeHost::install()).unwrap_err();
        assert!(error.code == "unfit_value" && error.message.contains("without a nearest"), "{error}");
    }
}

#[test]
fn text_formats_follow_the_same_policies() {
    let csv = |policy: &str, data: Vec<RecordBatch>| {
        let mut pipeline = pipeline("csv", policy, data);
        pipeline.loaded();
        pipeline.visible().values().map(|bytes| String::from_utf8(bytes.clone()).unwrap()).collect::<String>()
    };
    let text = csv("text", data());
    assert!(text.contains("2,infinity,24:00:00.000000,+294276-12-31T23:59:59.999999Z,Infinity,"), "{text}");
    let null = csv("null", data());
    assert!(null.contains("\n2,,,,,P0M0DT9223372036854.775807000S,\n"), "{null}");
    let clamp = csv("clamp", without_lists());
    assert!(clamp.contains("2,9999-12-31,23:59:59.999999,9999-12-31T23:59:59.999999Z,999.99,"), "{clamp}");
    assert!(clamp.contains("3,0001-01-01,00:00:00.000000,0001-01-01T00:00:00.000000Z,-999.99,"), "{clamp}");
}

#[test]
fn values_that_do_not_fit_their_column_are_data_errors() {
    for column in 3..7 {
        let only: Vec<RecordBatch> = data().iter().map(|batch| batch.project(&[0, column]).unwrap()).collect();
        let name = only[0].schema().field(1).name().clone();
        let mut failing = pipeline("parquet", "fail", only.clone());
        let loaded = failing.load(&FakeHost::install());
        if name == "interval" {
            loaded.unwrap();
            continue;
        }
        let error = loaded.unwrap_err();
        assert!(error.code == "unfit_value" && error.message.contains(&format!("`{name}`")), "{error}");
        assert!(error.hint.unwrap().contains("unsupported_values"));
        let mut skipping = pipeline("parquet", "fail", only);
        skipping.context.policies.on_data_error = DataErrorPolicy::Dlq;
        let host = FakeHost::install();
        skipping.load(&host).unwrap();
        assert_eq!(skipping.ids()[..2], [0, 1]);
        assert!(format!("{:?}", host.emitted()).contains("value"), "the letter shows the value");
    }
}
