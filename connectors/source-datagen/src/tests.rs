use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{ErrorCategory, Generation, parse_config};
use serde_json::json;
use sha2::{Digest, Sha256};

fn config(json: serde_json::Value) -> Config {
    parse_config(&json.to_string()).unwrap()
}

fn source(json: serde_json::Value) -> Datagen {
    Datagen::init(config(json), InitContext::default()).unwrap()
}

fn refusal(json: serde_json::Value) -> ConnectorError {
    match Datagen::init(config(json), InitContext::default()) {
        Ok(_) => panic!("accepted"),
        Err(error) => error,
    }
}

fn context(source: &Datagen) -> StreamContext {
    StreamContext::full_refresh(source.name.clone())
}

fn plan(source: &mut Datagen, stream: StreamContext, max: u32, pinned: Option<Generation>) -> PartitionPlan {
    source.plan_partitions(&PlanRequest { run: run_context(), stream, max_partitions: max, pinned }).unwrap()
}

/// Reads one partition on a fresh host: what was emitted, and the rows.
fn read_share(source: &mut Datagen, stream: StreamContext, partition: Partition, resume: Option<&str>) -> (FakeHost, ReadSummary) {
    let host = FakeHost::install();
    let request = ReadRequest {
        run: run_context(),
        streams: vec![stream],
        partition: Some(partition),
        token: Vec::new(),
        resume: resume.map(|value| Position::new(CursorType::Int64, value)),
        follow: false,
    };
    let summary = source.read(&request, &mut host.source_output()).unwrap();
    (host, summary)
}

fn read_all(json: serde_json::Value) -> Vec<RecordBatch> {
    let mut source = source(json);
    let stream = context(&source);
    let whole = plan(&mut source, stream.clone(), 1, None).partitions.remove(0);
    read_share(&mut source, stream, whole, None).0.batches(0).unwrap()
}

/// A value as tests/independent/canonical.py writes it.
fn canonical(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "\\N".into();
    }
    match array.data_type() {
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Decimal128(..) => array.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Timestamp(..) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
        }
        other => panic!("no canonical text for {other}"),
    }
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let line = |batch: &RecordBatch, row| -> String {
        let values: Vec<String> = batch.columns().iter().map(|column| canonical(column, row)).collect();
        values.join("\t") + "\n"
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row))).collect()
}

fn hash(batches: &[RecordBatch]) -> String {
    Sha256::digest(lines(batches).concat()).iter().map(|byte| format!("{byte:02x}")).collect()
}

// The hashes are what `tests/independent/datagen.py`, which shares no code with this crate, prints.
#[test]
fn orders_are_what_an_independent_program_computes() {
    let batches = read_all(json!({ "seed": 42, "max_events": 1000 }));
    assert_eq!(hash(&batches), "5626034399e6f8bc2b85b97d3f31abf2f90c218fa2cc1d1ccec29ea7eab36a76");
}

#[test]
fn a_sequence_is_what_an_independent_program_computes() {
    let batches = read_all(json!({ "pattern": "sequence", "seed": 7, "max_events": 1000 }));
    assert_eq!(hash(&batches), "ab8580a8738a2ceaae07977129c2dc386793c0734bb826d7b526e36671fca17c");
}

#[test]
fn every_pattern_is_the_same_again_and_differs_by_seed() {
    for pattern in ["sequence", "random", "users", "orders", "events", "metrics", "key_value"] {
        let make = |seed: u64| read_all(json!({ "pattern": pattern, "seed": seed, "max_events": 5000 }));
        let first = make(3);
        assert_eq!(first.iter().map(RecordBatch::num_rows).sum::<usize>(), 5000, "{pattern}");
        assert_eq!(first, make(3), "{pattern}");
        assert_ne!(first, make(4), "{pattern}");
        for (field, column) in first[0].schema().fields().iter().zip(first[0].columns()) {
            assert!(field.is_nullable() || column.null_count() == 0, "{pattern}.{}", field.name());
            assert!(!field.is_nullable() || column.null_count() > 0, "{pattern}.{}", field.name());
        }
    }
}

#[test]
fn values_stay_within_the_declared_width() {
    for pattern in ["sequence", "random", "users", "orders", "events", "metrics", "key_value"] {
        let mut source = source(json!({ "pattern": pattern, "max_events": 1000 }));
        let stream = context(&source);
        let whole = plan(&mut source, stream.clone(), 1, None).partitions.remove(0);
        let (host, _) = read_share(&mut source, stream, whole, None);
        for batch in host.batches(0).unwrap() {
            for (column, array) in source.columns.iter().zip(batch.columns()) {
                if let Some(texts) = array.as_string_opt::<i32>() {
                    assert!(texts.iter().flatten().all(|text| text.len() + 4 <= column.max_bytes), "{}", column.field.name());
                }
            }
        }
    }
}

#[test]
fn reading_goes_on_at_any_barrier_with_the_same_rows() {
    let json = json!({ "max_events": 1000, "batch_rows": 96 });
    let whole = lines(&read_all(json.clone()));
    let mut source = source(json);
    let stream = context(&source);
    let share = plan(&mut source, stream.clone(), 1, None).partitions.remove(0);
    let (host, summary) = read_share(&mut source, stream.clone(), share.clone(), None);
    let barriers: Vec<Position> =
        host.emitted().into_iter().filter_map(|what| if let Emitted::Barrier(at) = what { Some(at) } else { None }).collect();
    assert_eq!(barriers.len(), 11);
    assert_eq!((summary.records, summary.batches_emitted, summary.checkpoint_count), (1000, 11, 11));
    assert_eq!(barriers[10].value, "1000");
    for at in &barriers {
        let (host, _) = read_share(&mut source, stream.clone(), share.clone(), Some(&at.value));
        assert_eq!(lines(&host.batches(0).unwrap()), whole[at.value.parse::<usize>().unwrap()..]);
    }
    assert_eq!(host.marks()[..2], ["source.read.start", "source.batch.emitted"]);
}

/// Reads the changes on a fresh host.
fn read_changes(json: serde_json::Value, resume: Option<Position>) -> FakeHost {
    let mut source = source(json);
    let stream = StreamContext { sync_mode: SyncMode::Cdc, ..context(&source) };
    let host = FakeHost::install();
    let request =
        ReadRequest { run: run_context(), streams: vec![stream], partition: None, token: Vec::new(), resume, follow: false };
    source.read(&request, &mut host.source_output()).unwrap();
    host
}

#[test]
fn changes_show_rows_before_and_after() {
    let json = json!({ "cdc_mode": true, "seed": 3, "max_events": 2_000, "batch_rows": 100 });
    let host = read_changes(json.clone(), None);
    let batches = host.batches(0).unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2_000);
    let columns = read_all(json!({ "max_events": 1 }))[0].num_columns();
    let mut rows: std::collections::BTreeMap<String, String> = Default::default();
    let mut place = 0;
    for batch in &batches {
        assert!(batch.num_rows() <= 100);
        let image = |from: usize, row| -> String {
            (from..from + columns).map(|at| canonical(batch.column(at), row)).collect::<Vec<_>>().join("\t")
        };
        let [ops, lsns, seqs] = ["_rb_op", "_rb_lsn", "_rb_seq"].map(|name| batch.column_by_name(name).unwrap());
        for row in 0..batch.num_rows() {
            place += 1;
            assert_eq!(lsns.as_primitive::<arrow_array::types::UInt64Type>().value(row), place);
            assert_eq!(seqs.as_primitive::<Int64Type>().value(row), 1);
            let (shown, before) = (image(0, row), image(columns, row));
            let key = canonical(batch.column(0), row);
            let found = match ops.as_string::<i32>().value(row) {
                "insert" => rows.insert(key, shown),
                "update" => rows.insert(key, shown),
                "delete" => {
                    assert_eq!(shown, before);
                    rows.remove(&key)
                }
                other => panic!("{other}"),
            };
            // An insert finds nothing, and its before-image is NULL throughout.
            assert_eq!(found.unwrap_or_else(|| vec!["\\N"; columns].join("\t")), before, "change {place}");
        }
    }
    assert_eq!(rows.len(), 1_200 - (200 - 8));
    // From any barrier on, the very same changes come.
    let barrier = |what| if let Emitted::Barrier(at) = what { Some(at) } else { None };
    let barriers: Vec<Position> = host.emitted().into_iter().filter_map(barrier).collect();
    assert_eq!(barriers.last().map(|at| at.value.as_str()), Some("0/7D0"));
    let rest = read_changes(json.clone(), Some(barriers[6].clone())).batches(0).unwrap();
    assert_eq!(rest, batches[7..]);
    assert_eq!(read_changes(json, barriers.last().cloned()).batches(0).unwrap(), []);
}

#[test]
fn a_longer_log_is_the_same_log() {
    let planned = |events: u64, seed: u64| {
        let mut source = source(json!({ "cdc_mode": true, "max_events": events, "seed": seed }));
        let stream = StreamContext { sync_mode: SyncMode::Cdc, ..context(&source) };
        plan(&mut source, stream, 4, None)
    };
    assert_eq!(planned(10, 1), planned(1_000_000, 1));
    assert_ne!(planned(10, 1), planned(10, 2));
    // Neither a table without a log nor a log without its table.
    for (cdc_mode, mode) in [(true, SyncMode::FullRefresh), (false, SyncMode::Cdc)] {
        let mut source = source(json!({ "cdc_mode": cdc_mode }));
        let stream = StreamContext { sync_mode: mode, ..context(&source) };
        let request = PlanRequest { run: run_context(), stream, max_partitions: 1, pinned: None };
        assert_eq!(source.plan_partitions(&request).unwrap_err().code, "sync_mode");
    }
}

#[test]
fn partitions_are_disjoint_and_whole() {
    let json = json!({ "pattern": "sequence", "max_events": 1_000_003_u64 });
    let mut source = source(json.clone());
    let stream = context(&source);
    let planned = plan(&mut source, stream.clone(), 7, None);
    assert_eq!(planned.partitions.iter().map(|share| share.id.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5", "6"]);
    let mut rows = Vec::new();
    for share in planned.partitions {
        rows.extend(lines(&read_share(&mut source, stream.clone(), share, None).0.batches(0).unwrap()));
    }
    assert!(rows == lines(&read_all(json)), "the shares together differ from the whole");
}

#[test]
fn small_and_paced_streams_are_not_split() {
    for json in [json!({ "max_events": 199_999 }), json!({ "max_events": 10_000_000, "events_per_second": 10 })] {
        let mut source = source(json);
        let stream = context(&source);
        let planned = plan(&mut source, stream, 8, None);
        assert_eq!(planned.partitions.len(), 1);
        assert_eq!(planned.partitions[0].id, "0");
    }
}

#[test]
fn a_pinned_load_goes_on_while_its_data_is_the_same() {
    let pin = |planned: PartitionPlan| Generation { number: 1, snapshot: planned.snapshot, partitions: planned.partitions };
    let mut before = source(json!({ "max_events": 1_000_000 }));
    let stream = context(&before);
    let planned = plan(&mut before, stream.clone(), 2, None);
    // Another pace, another batch size and more partitions don't change what was pinned.
    let mut paced = source(json!({ "max_events": 1_000_000, "batch_rows": 10, "events_per_second": 5 }));
    assert_eq!(plan(&mut paced, stream.clone(), 9, Some(pin(planned.clone()))), planned);
    for other in [json!({ "max_events": 1_000_001 }), json!({ "max_events": 1_000_000, "seed": 1 })] {
        let mut other = source(other);
        let anew = plan(&mut other, stream.clone(), 4, Some(pin(planned.clone())));
        assert_ne!(anew.snapshot, planned.snapshot);
        assert_eq!(anew.partitions.len(), 4);
    }
    let narrowed = StreamContext { selected_columns: Some(vec!["amount".into()]), ..stream };
    assert_ne!(plan(&mut before, narrowed, 2, Some(pin(planned.clone()))).snapshot, planned.snapshot);
}

#[test]
fn selected_columns_come_in_the_order_asked() {
    let mut source = source(json!({ "max_events": 10 }));
    let all = read_all(json!({ "max_events": 10 }));
    let stream = StreamContext { selected_columns: Some(vec!["amount".into(), "order_id".into()]), ..context(&source) };
    let share = plan(&mut source, stream.clone(), 1, None).partitions.remove(0);
    let batches = read_share(&mut source, stream, share, None).0.batches(0).unwrap();
    let names: Vec<String> = batches[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["amount", "order_id"]);
    assert_eq!(batches[0].column(0), all[0].column_by_name("amount").unwrap());
}

#[test]
fn wrong_streams_and_columns_are_named() {
    let mut source = source(json!({}));
    let stream = context(&source);
    let selecting = |names: &[&str]| StreamContext {
        selected_columns: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        ..stream.clone()
    };
    let other = StreamContext::full_refresh(StreamName::new("users"));
    let incremental = StreamContext { sync_mode: SyncMode::Incremental, ..stream.clone() };
    let codes: Vec<String> = [other, incremental, selecting(&["nope"]), selecting(&["amount", "amount"]), selecting(&[])]
        .iter()
        .map(|stream| source.selected(stream).err().unwrap().code)
        .collect();
    assert_eq!(codes, ["unknown_stream", "sync_mode", "unknown_column", "duplicate_column", "no_columns"]);
    let items = source.validate(&[selecting(&["nope"]), stream]).unwrap();
    assert_eq!(items.iter().map(|item| item.status).collect::<Vec<_>>(), [CheckStatus::Failed, CheckStatus::Ok]);
}

#[test]
fn a_batch_stays_below_its_limit() {
    let mut source = source(json!({ "max_events": 5000 }));
    let mut stream = context(&source);
    stream.limits.max_batch_bytes = 32 << 10;
    let share = plan(&mut source, stream.clone(), 1, None).partitions.remove(0);
    let (host, summary) = read_share(&mut source, stream, share, None);
    assert!(summary.batches_emitted > 10);
    for what in host.emitted() {
        if let Emitted::Batch { ipc, .. } = what {
            assert!(ipc.len() <= 32 << 10, "a batch has {} bytes", ipc.len());
        }
    }
}

/// Within five in a hundred. A machine that is busy may stop the clock's reader now and then, but not each time.
#[test]
fn the_pace_is_kept() {
    for (per_second, rows) in [(2000, 3000), (10, 15)] {
        let expected = f64::from(rows) / f64::from(per_second);
        let near = |seconds: &f64| (seconds / expected - 1.0).abs() <= 0.05;
        let run = || {
            let started = Instant::now();
            read_all(json!({ "max_events": rows, "events_per_second": per_second }));
            started.elapsed().as_secs_f64()
        };
        let taken: Vec<f64> = (0..3).map(|_| run()).collect();
        assert!(taken.iter().any(near), "{rows} rows at {per_second}/s took {taken:?} s, not {expected}");
        assert!(taken.iter().all(|seconds| *seconds >= expected * 0.95), "never faster: {taken:?}");
    }
}

#[test]
fn nothing_is_a_stream_too() {
    let mut source = source(json!({ "max_events": 0 }));
    let stream = context(&source);
    let share = plan(&mut source, stream.clone(), 4, None).partitions.remove(0);
    let (host, summary) = read_share(&mut source, stream, share, None);
    assert_eq!(summary.records, 0);
    assert!(matches!(host.emitted().as_slice(), [Emitted::Schema { .. }]));
}

#[test]
fn extra_columns_follow_the_patterns_own() {
    let batches = read_all(json!({
        "pattern": "sequence", "max_events": 200, "include_sequence": true, "include_timestamp": true,
        "start_time": "2020-01-01T01:00:00+01:00", "interval_ms": 60000,
        "custom_fields": [
            { "name": "tenant", "type": "utf8", "generator": "constant", "value": "acme" },
            { "name": "tier", "type": "int64", "generator": "choice", "values": [1, 2, 3] },
            { "name": "score", "type": "float64", "generator": "range", "min": -1, "max": 1 },
            { "name": "price", "type": "decimal", "precision": 6, "scale": 2, "generator": "range", "min": "-1.50", "max": 3 },
            { "name": "note", "type": "utf8", "generator": "random", "length": 30, "null_percent": 50 },
            { "name": "step", "type": "int64", "generator": "sequence", "start": 10, "step": -2 },
            { "name": "ref", "type": "uuid", "generator": "random" },
            { "name": "day", "type": "timestamp", "generator": "constant", "value": "2024-02-29T12:00:00Z" },
            { "name": "ok", "type": "bool", "generator": "random" }
        ]
    }));
    let batch = &batches[0];
    assert_eq!(batch.num_columns(), 13);
    let text = |name: &str, row| canonical(batch.column_by_name(name).unwrap(), row);
    assert_eq!(text("sequence_number", 7), "7");
    assert_eq!(text("generated_at", 2), "2020-01-01T00:02:00.000000Z");
    assert_eq!(
        (text("tenant", 0), text("step", 3), text("day", 5)),
        ("acme".into(), "4".into(), "2024-02-29T12:00:00.000000Z".into())
    );
    let prices = batch.column_by_name("price").unwrap().as_primitive::<Decimal128Type>();
    assert!(prices.iter().flatten().all(|price| (-150..=300).contains(&price)));
    let notes = batch.column_by_name("note").unwrap();
    assert!((60..140).contains(&notes.null_count()));
    assert!(notes.as_string::<i32>().iter().flatten().all(|note| note.len() == 30));
    let ids = batch.column_by_name("ref").unwrap().as_fixed_size_binary();
    assert!(ids.iter().flatten().all(|id| id[6] >> 4 == 4 && id[8] >> 6 == 2));
}

#[test]
fn senseless_settings_are_refused() {
    let field = |field: serde_json::Value| json!({ "custom_fields": [field] });
    for (json, code) in [
        (json!({ "pattern": "sequence", "start_time": "2020-01-01T00:00:00Z" }), "unused_time"),
        (json!({ "start_time": "yesterday" }), "time_syntax"),
        (json!({ "max_events": 1_000_000_000_000_u64 }), "time_range"),
        (json!({ "max_events": u64::MAX }), "time_range"),
        (json!({ "interval_ms": 0 }), "interval_ms"),
        (json!({ "batch_rows": 0 }), "batch_rows"),
        (field(json!({ "name": "amount", "type": "int64", "generator": "sequence" })), "custom_field"),
        (field(json!({ "name": "_rb_op", "type": "int64", "generator": "sequence" })), "custom_field"),
        (field(json!({ "name": "a", "type": "int64", "generator": "range", "min": 1 })), "custom_field"),
        (field(json!({ "name": "a", "type": "int64", "generator": "range", "min": 2, "max": 1 })), "custom_field"),
        (field(json!({ "name": "a", "type": "int64", "generator": "sequence", "value": 1 })), "custom_field"),
        (field(json!({ "name": "a", "type": "bool", "generator": "range", "min": 1, "max": 2 })), "custom_field"),
        (field(json!({ "name": "a", "type": "decimal", "generator": "constant", "value": 1.5 })), "custom_field"),
        (field(json!({ "name": "a", "type": "decimal", "scale": 1, "generator": "constant", "value": "1.55" })), "custom_field"),
        (
            field(json!({ "name": "a", "type": "decimal", "precision": 2, "scale": 0, "generator": "constant", "value": 100 })),
            "custom_field",
        ),
        (field(json!({ "name": "a", "type": "uuid", "generator": "constant", "value": "x" })), "custom_field"),
        (field(json!({ "name": "a", "type": "int64", "generator": "sequence", "null_percent": 101 })), "custom_field"),
    ] {
        let error = refusal(json.clone());
        assert_eq!((error.code.as_str(), error.category), (code, ErrorCategory::Config), "{json}: {}", error.message);
    }
    assert!(parse_config::<Config>(&json!({ "cdc": true }).to_string()).is_err());
}

#[test]
fn the_manifest_and_the_configuration_agree() {
    let manifest: serde_json::Value = serde_json::from_str(include_str!("../manifest.json")).unwrap();
    let schema = &manifest["config_schema"]["properties"];
    let mut filled = serde_json::Map::new();
    for (key, property) in schema.as_object().unwrap() {
        if let Some(default) = property.get("default") {
            filled.insert(key.clone(), default.clone());
        }
    }
    assert_eq!(config(serde_json::Value::Object(filled)), Config::default());
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn positions_and_partitions_of_others_are_refused() {
    let mut source = source(json!({ "max_events": 100 }));
    let host = FakeHost::install();
    let request = ReadRequest {
        run: run_context(),
        streams: vec![context(&source)],
        partition: Some(Partition { id: "0".into(), spec: br#"{"from":0,"to":100}"#.to_vec() }),
        token: Vec::new(),
        resume: None,
        follow: false,
    };
    let mut code = |change: &dyn Fn(&mut ReadRequest)| {
        let mut changed = request.clone();
        change(&mut changed);
        source.read(&changed, &mut host.source_output()).err().map(|error| error.code)
    };
    assert_eq!(code(&|_| ()), None);
    assert_eq!(code(&|r| r.partition = None).as_deref(), Some("partition"));
    assert_eq!(
        code(&|r| r.partition = Some(Partition { id: "0".into(), spec: br#"{"from":0,"to":101}"#.to_vec() })).as_deref(),
        Some("partition")
    );
    assert_eq!(code(&|r| r.resume = Some(Position::new(CursorType::Int64, "101"))).as_deref(), Some("position"));
    assert_eq!(code(&|r| r.resume = Some(Position::new(CursorType::Utf8, "1"))).as_deref(), Some("position"));
}
