//! What the files hold.

use super::*;
use arrow_array::builder::{Int32Builder, ListBuilder};
use arrow_array::{
    Array, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, DictionaryArray, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int16Array, Int32Array, IntervalMonthDayNanoArray, ListArray, NullArray, Time64MicrosecondArray,
    TimestampMicrosecondArray,
};
use arrow_buffer::{IntervalMonthDayNano, i256};
use flate2::read::GzDecoder;
use rapidbyte_sdk::testing::Emitted;
use rapidbyte_sdk::{DataErrorPolicy, DeadLetter, ErrorCategory, TypeChangePolicy, host_ffi};
use std::io::Read;

/// Every type of the protocol, with extremes; the last row is all NULL.
fn every_type() -> RecordBatch {
    let uuid = [[0x11_u8; 16], [0xfe; 16]];
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append_value([Some(1), None, Some(-3)]);
    list.append_value(Vec::<Option<i32>>::new());
    list.append_null();
    let decimals = Decimal128Array::from(vec![Some(10_i128.pow(38) - 1), Some(-5), None]).with_precision_and_scale(38, 9).unwrap();
    let wide = Decimal256Array::from(vec![Some(i256::from_i128(i128::MAX)), Some(i256::from_i128(-1)), None]);
    let intervals = [Some(IntervalMonthDayNano::new(14, -3, 4_000_005_000)), Some(IntervalMonthDayNano::new(0, 0, 0)), None];
    let bytes: Vec<Option<&[u8]>> = vec![Some(&[0, 255, 10]), Some(b""), None];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("int16", Arc::new(Int16Array::from(vec![Some(i16::MIN), Some(i16::MAX), None]))),
        ("int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), Some(i32::MAX), None]))),
        ("int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), Some(i64::MAX), None]))),
        ("float32", Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NEG_INFINITY), None]))),
        ("float64", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("a,\"b\"\nc\u{1}é"), Some(""), None]))),
        ("bytes", Arc::new(BinaryArray::from(bytes))),
        ("uuid", Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuid.iter().map(Some).chain([None]), 16).unwrap())),
        ("decimal", Arc::new(decimals)),
        ("wide", Arc::new(wide.with_precision_and_scale(76, 2).unwrap())),
        ("date", Arc::new(Date32Array::from(vec![Some(-719_162), Some(2_932_896), None]))),
        ("time", Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), None]))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(1_704_164_645_000_006), None]))),
        ("instant", Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(0), None]).with_timezone("UTC"))),
        ("interval", Arc::new(IntervalMonthDayNanoArray::from(intervals.to_vec()))),
        ("list", Arc::new(list.finish())),
        ("word", Arc::new(DictionaryArray::<arrow_array::types::Int32Type>::from_iter([Some("x"), Some("y"), None]))),
        ("nothing", Arc::new(NullArray::new(3))),
    ];
    let fields = columns.iter().map(|(name, array)| {
        let field = Field::new(*name, array.data_type().clone(), true);
        if *name == "uuid" { field.with_metadata([("ARROW:extension:name".into(), "arrow.uuid".into())].into()) } else { field }
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

fn one(name: &str, array: ArrayRef) -> RecordBatch {
    let id = Arc::new(Int64Array::from_iter_values(0..array.len() as i64)) as ArrayRef;
    let fields = vec![Field::new("id", DataType::Int64, false), Field::new(name, array.data_type().clone(), true)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![id, array]).unwrap()
}

fn pipeline(config: serde_json::Value, batches: Vec<RecordBatch>) -> Pipeline {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.config = config;
    pipeline.data = vec![batches];
    pipeline
}

fn texts(config: serde_json::Value, batches: Vec<RecordBatch>) -> Vec<String> {
    let mut pipeline = pipeline(config, batches);
    pipeline.loaded();
    pipeline.visible().into_values().map(|bytes| String::from_utf8(bytes).unwrap()).collect()
}

#[test]
fn parquet_rows_come_back_as_they_went_in() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let summary = pipeline.loaded();
    assert_eq!(summary.rows, 130);
    assert!(summary.location.ends_with("/public.orders/*.parquet"), "{}", summary.location);
    let names: Vec<String> = pipeline.visible().into_keys().collect();
    assert_eq!(names, ["part-000001-0-000001.parquet", "part-000001-0-000002.parquet", "part-000001-1-000001.parquet"]);
    assert_eq!(read_parquet(&pipeline.root().join("public.orders").join(&names[0])), [rows(0, 40)]);
}

#[test]
fn parquet_holds_every_type_exactly_but_intervals_as_text() {
    for compression in ["snappy", "lz4", "none"] {
        let sent = every_type();
        let mut pipeline = pipeline(serde_json::json!({ "compression": compression }), vec![sent.clone()]);
        pipeline.loaded();
        let found = read_parquet(&pipeline.root().join("public.orders/part-000001-0-000001.parquet")).remove(0);
        for (field, column) in sent.schema().fields().iter().zip(sent.columns()) {
            let stored = found.column_by_name(field.name()).unwrap();
            if field.name() == "interval" {
                let expected = StringArray::from(vec![Some("P14M-3DT4.000005000S"), Some("P0M0DT0.000000000S"), None]);
                assert_eq!(stored.as_ref(), &expected as &dyn Array);
            } else {
                assert_eq!(stored, column, "{}", field.name());
            }
        }
        let schema = found.schema();
        assert_eq!(schema.field_with_name("uuid").unwrap().metadata()["ARROW:extension:name"], "arrow.uuid");
        assert_eq!(schema.field_with_name("interval").unwrap().metadata()["rapidbyte.stored_as"], "interval, ISO 8601");
    }
}

#[test]
fn the_codec_is_the_one_asked_for() {
    let codec = |compression: &str| {
        let mut pipeline = pipeline(serde_json::json!({ "compression": compression }), vec![rows(0, 1000)]);
        pipeline.loaded();
        let file = File::open(pipeline.root().join("public.orders/part-000001-0-000001.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        reader.metadata().row_group(0).column(1).compression().to_string()
    };
    assert_eq!(["snappy", "lz4", "none"].map(codec), ["SNAPPY", "LZ4_RAW", "UNCOMPRESSED"]);
}

#[test]
fn files_and_row_groups_have_the_sizes_asked_for() {
    let mut pipeline = pipeline(serde_json::json!({ "row_group_rows": 300 }), vec![rows(0, 1000)]);
    pipeline.loaded();
    let file = File::open(pipeline.root().join("public.orders/part-000001-0-000001.parquet")).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [300, 300, 300, 100]);

    pipeline.config = serde_json::json!({ "file_bytes": 100_000 });
    pipeline.context.write_mode = WriteMode::Replace;
    pipeline.data = vec![vec![rows(0, 100_000)]];
    pipeline.loaded();
    let names: Vec<String> = pipeline.visible().into_keys().collect();
    assert!(names.len() >= 4, "{names:?}");
    assert!(names.contains(&"part-000002-0-000001-2.parquet".to_owned()), "{names:?}");
    assert_eq!(pipeline.ids(), (0..100_000).collect::<Vec<_>>());
}

#[test]
fn json_lines_are_exact_text() {
    let files = texts(serde_json::json!({ "format": "jsonl" }), vec![every_type()]);
    let expected = concat!(
        r#"{"bool":true,"int16":-32768,"int32":-2147483648,"int64":-9223372036854775808,"float32":0.1,"float64":0.1,"#,
        r#""text":"a,\"b\"\nc\u0001é","bytes":"AP8K","uuid":"11111111-1111-1111-1111-111111111111","#,
        r#""decimal":"99999999999999999999999999999.999999999","wide":"1701411834604692317316873037158841057.27","#,
        r#""date":"0001-01-01","time":"00:00:00.000000","local":"1969-12-31T23:59:59.999999","#,
        r#""instant":"1969-12-31T23:59:59.999999Z","interval":"P14M-3DT4.000005000S","list":[1,null,-3],"word":"x","nothing":null}"#,
        "\n",
        r#"{"bool":false,"int16":32767,"int32":2147483647,"int64":9223372036854775807,"float32":"-Infinity","float64":"NaN","#,
        r#""text":"","bytes":"","uuid":"fefefefe-fefe-fefe-fefe-fefefefefefe","decimal":"-0.000000005","wide":"-0.01","#,
        r#""date":"9999-12-31","time":"23:59:59.999999","local":"2024-01-02T03:04:05.000006","#,
        r#""instant":"1970-01-01T00:00:00.000000Z","interval":"P0M0DT0.000000000S","list":[],"word":"y","nothing":null}"#,
        "\n",
        r#"{"bool":null,"int16":null,"int32":null,"int64":null,"float32":null,"float64":null,"text":null,"bytes":null,"uuid":null,"#,
        r#""decimal":null,"wide":null,"date":null,"time":null,"local":null,"instant":null,"interval":null,"list":null,"word":null,"#,
        r#""nothing":null}"#,
        "\n",
    );
    assert_eq!(files, [expected]);
}

#[test]
fn csv_tells_null_from_empty_text() {
    let text: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a,\"b\"\nc"), Some(""), None, Some("NULL"), Some(" x"), Some("0;1")]));
    let batch = one("text,", text);
    let file = |config: serde_json::Value| texts(config, vec![batch.clone()]).remove(0);
    assert_eq!(
        file(serde_json::json!({ "format": "csv" })),
        "id,\"text,\"\n0,\"a,\"\"b\"\"\nc\"\n1,\"\"\n2,\n3,NULL\n4,\" x\"\n5,0;1\n"
    );
    assert_eq!(
        file(serde_json::json!({ "format": "csv", "csv": { "header": false, "delimiter": ";", "null": "NULL" } })),
        "0;\"a,\"\"b\"\"\nc\"\n1;\"\"\n2;NULL\n3;\"NULL\"\n4;\" x\"\n5;\"0;1\"\n"
    );
}

#[test]
fn a_csv_number_that_equals_the_null_text_is_quoted() {
    let files = texts(
        serde_json::json!({ "format": "csv", "csv": { "null": "1" } }),
        vec![one("n", Arc::new(Int32Array::from(vec![Some(1), None])))],
    );
    assert_eq!(files, ["id,n\n0,\"1\"\n\"1\",1\n"]);
}

#[test]
fn a_single_nullable_csv_column_needs_a_word_for_null() {
    let schema = Schema::new(vec![Field::new("only", DataType::Utf8, true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![Some("a"), None]))]).unwrap();
    let mut refused = pipeline(serde_json::json!({ "format": "csv" }), vec![batch.clone()]);
    assert_eq!(refused.load(&FakeHost::install()).unwrap_err().code, "csv_null_line");
    assert_eq!(texts(serde_json::json!({ "format": "csv", "csv": { "null": "NULL" } }), vec![batch]), ["only\na\nNULL\n"]);
}

#[test]
fn text_files_can_be_gzipped() {
    let mut pipeline = pipeline(serde_json::json!({ "format": "jsonl", "compression": "gzip" }), vec![rows(1, 3)]);
    pipeline.loaded();
    let (name, bytes) = pipeline.visible().pop_first().unwrap();
    assert_eq!(name, "part-000001-0-000001.jsonl.gz");
    let mut text = String::new();
    GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"id\":1,\"name\":\"name 1\"}\n{\"id\":2,\"name\":\"name 2\"}\n");
}

/// Values that PostgreSQL knows and files do not, each with a good row before and after.
fn unfit() -> Vec<RecordBatch> {
    let date = |bad| Arc::new(Date32Array::from(vec![1, bad, 2])) as ArrayRef;
    let timestamp = |bad| Arc::new(TimestampMicrosecondArray::from(vec![1, bad, 2])) as ArrayRef;
    let dates = ListArray::from_iter_primitive::<arrow_array::types::Date32Type, _, _>([
        Some(vec![Some(1)]),
        Some(vec![None, Some(i32::MAX)]),
        None,
    ]);
    vec![
        one("bad", date(i32::MAX)),
        one("bad", date(i32::MIN)),
        one("bad", timestamp(i64::MAX)),
        one("bad", timestamp(i64::MIN)),
        one("bad", Arc::new(Time64MicrosecondArray::from(vec![0, 86_400_000_000, 1]))),
        one("bad", Arc::new(dates)),
    ]
}

#[test]
fn values_that_no_file_can_hold_are_refused_by_column() {
    for format in ["parquet", "jsonl", "csv"] {
        for batch in unfit() {
            let mut pipeline = pipeline(serde_json::json!({ "format": format }), vec![batch]);
            let error = pipeline.load(&FakeHost::install()).unwrap_err();
            assert_eq!((error.code.as_str(), error.category), ("unfit_value", ErrorCategory::Data));
            assert!(error.message.contains("`bad`") && error.hint.is_some(), "{error}");
            assert!(pipeline.visible().is_empty());
        }
    }
}

#[test]
fn text_refuses_years_that_parquet_can_hold() {
    for days in [-719_163, 2_932_897] {
        let batch = one("bad", Arc::new(Date32Array::from(vec![days])));
        pipeline(serde_json::json!({}), vec![batch.clone()]).loaded();
        let error = pipeline(serde_json::json!({ "format": "csv" }), vec![batch]).load(&FakeHost::install()).unwrap_err();
        assert_eq!(error.code, "unfit_value");
    }
}

#[test]
fn unfit_rows_are_skipped_or_kept_as_dead_letters() {
    for policy in [DataErrorPolicy::Skip, DataErrorPolicy::Dlq] {
        let mut pipeline = pipeline(serde_json::json!({}), vec![unfit().remove(0)]);
        pipeline.context.policies.on_data_error = policy;
        let host = FakeHost::install();
        assert_eq!(pipeline.load(&host).unwrap().rows, 2);
        assert_eq!(pipeline.ids(), [0, 2]);
        let letters: Vec<Emitted> = host.emitted();
        let path = pipeline.root().join("_dead_letters/public.orders/part-000001-0-000001.letters.jsonl");
        if policy == DataErrorPolicy::Skip {
            assert!(letters.is_empty() && !path.exists());
            continue;
        }
        let [Emitted::DeadLetters(reported)] = letters.as_slice() else { panic!("{letters:?}") };
        // The exact text of the largest day, which PostgreSQL takes for infinity.
        assert!(reported[0].record_json.ends_with(r#""bad":{"type":"Date32","value":"+5881580-07-11"}}"#), "{reported:?}");
        let line: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(line["record"]["bad"]["value"], "+5881580-07-11");
        assert_eq!(line["error_category"], "data");
    }
}

#[test]
fn dead_letters_of_earlier_stages_are_committed_with_the_rows() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.data = vec![vec![]];
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 1).unwrap();
    let host = FakeHost::install();
    host.feed_event(host_ffi::RawEvent::DeadLetters(vec![DeadLetter {
        stream: 0,
        record_json: "{}".into(),
        error_message: "no".into(),
        error_category: ErrorCategory::Data,
        failed_at_ms: 5,
    }]));
    pipeline.write(&host, &claimed, 1, 0).unwrap();
    assert!(host.emitted().is_empty(), "the host knows them already");
    pipeline.publish(claimed.epoch, 1).unwrap();
    let text =
        std::fs::read_to_string(pipeline.root().join("_dead_letters/public.orders/part-000001-0-000001.letters.jsonl")).unwrap();
    assert_eq!(text, "{\"record\":{},\"error_message\":\"no\",\"error_category\":\"data\",\"failed_at_ms\":5}\n");
}

#[test]
fn columns_that_change_between_loads_follow_the_policies() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    pipeline.loaded();
    pipeline.data = vec![vec![one("name", Arc::new(Int32Array::from(vec![1])))]];
    let error = pipeline.load(&FakeHost::install()).unwrap_err();
    assert_eq!(error.code, "type_change");
    assert_eq!(pipeline.ids().len(), 130);
    pipeline.snapshot = "replaced".into();
    pipeline.context.write_mode = WriteMode::Replace;
    pipeline.loaded();
    assert_eq!(pipeline.ids(), [0]);
    pipeline.context.policies.type_change = TypeChangePolicy::Coerce;
    assert_eq!(pipeline.load(&FakeHost::install()).unwrap_err().code, "type_change_policy");
}

#[test]
fn an_empty_stream_is_one_file_with_its_columns() {
    let mut pipeline = Pipeline::new(WriteMode::Replace);
    pipeline.loaded();
    pipeline.data = vec![vec![]];
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 2).unwrap();
    let host = FakeHost::install();
    let ipc = rapidbyte_sdk::encode_schema(&rows(0, 0).schema()).unwrap();
    host.feed_event(host_ffi::RawEvent::Schema { stream: 0, schema_id: 0, ipc });
    pipeline.write(&host, &claimed, 2, 0).unwrap();
    pipeline.publish(claimed.epoch, 2).unwrap();
    let names: Vec<String> = pipeline.visible().into_keys().collect();
    assert_eq!(names, ["part-000002-0-000001.parquet"]);
    let file = File::open(pipeline.root().join("public.orders").join(&names[0])).unwrap();
    assert_eq!(ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().fields(), rows(0, 0).schema().fields());
    assert!(pipeline.ids().is_empty());
}

#[test]
fn hostile_names_stay_below_the_folder() {
    for name in ["../../etc", "a/b", "..", "_staging", &"long".repeat(100)] {
        let mut pipeline = Pipeline::new(WriteMode::Append);
        pipeline.context.target = StreamName::new(name);
        pipeline.loaded();
        let top: Vec<String> = tree(pipeline.root()).into_iter().filter(|path| !path.contains('/')).collect();
        assert_eq!(top.len(), 4, "{top:?}");
        assert!(std::fs::read_dir(pipeline.root().join(crate::names::folder(&pipeline.context.target))).unwrap().count() == 3);
    }
}

#[test]
fn checking_leaves_nothing_behind() {
    let pipeline = Pipeline::new(WriteMode::Append);
    let mut upsert = pipeline.context.clone();
    upsert.write_mode = WriteMode::Upsert;
    let items = pipeline.connector().validate(&[pipeline.context.clone(), upsert]).unwrap();
    let words: Vec<&str> = items.iter().map(|item| item.status.as_str()).collect();
    assert_eq!(words, ["ok", "ok", "failed"]);
    assert_eq!(tree(pipeline.root()), Vec::<String>::new());
    std::fs::remove_dir(pipeline.root()).unwrap();
    let items = pipeline.connector().validate(&[]).unwrap();
    assert_eq!((items[0].status.as_str(), items[0].hint.is_some()), ("failed", true));
    std::fs::create_dir(pipeline.root()).unwrap();
}

#[test]
fn times_are_told() {
    let mut pipeline = Pipeline::new(WriteMode::Append);
    let claimed = pipeline.claim().unwrap();
    pipeline.prepare(claimed.epoch, 1).unwrap();
    let summary = pipeline.write(&FakeHost::install(), &claimed, 1, 0).unwrap();
    assert_eq!((summary.records, summary.batches_written, summary.checkpoint_count), (100, 2, 3));
    assert!(summary.perf.decode_ns > 0 && summary.perf.flush_ns > 0 && summary.perf.commit_ns > 0, "{:?}", summary.perf);
}
