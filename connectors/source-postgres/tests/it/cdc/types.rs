//! The same rows give the same Arrow, whether they are loaded or come as changes.

use super::{Pipeline, server};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{Field, Schema};
use rapidbyte_sdk::changes::{BEFORE_PREFIX, is_reserved};
use rapidbyte_sdk::{Generation, Source, split};
use std::collections::HashMap;
use std::sync::Arc;

const EVERY_TYPE: &str = include_str!("../../../../../tests/types/every_type.sql");

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Where each row is, by its first column.
fn places(batches: &[RecordBatch]) -> HashMap<i64, (usize, usize)> {
    let ids = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches
        .iter()
        .enumerate()
        .flat_map(|(at, batch)| ids(batch).into_iter().enumerate().map(move |(row, id)| (id, (at, row))))
        .collect()
}

/// A value as Arrow; of a column that is split the member that holds it, with its text.
fn cell(array: &ArrayRef, row: usize) -> (ArrayRef, Option<ArrayRef>) {
    match split::parts(array) {
        Some(parts) if array.is_valid(row) && parts.send.is_valid(row) => {
            (parts.send.slice(row, 1).into_array(), Some(parts.text.slice(row, 1).into_array()))
        }
        Some(parts) => (parts.value.slice(row, 1), None),
        None => (array.slice(row, 1), None),
    }
}

trait IntoArray {
    fn into_array(self) -> ArrayRef;
}

impl<T: Array + 'static> IntoArray for T {
    fn into_array(self) -> ArrayRef {
        Arc::new(self)
    }
}

/// A schema without what only changes can tell: rows that were there before a column.
fn without_earlier(batch: &RecordBatch) -> Schema {
    let strip = |field: &Arc<Field>| {
        let mut metadata = field.metadata().clone();
        metadata.retain(|key, _| !["rapidbyte.pg.missing", "rapidbyte.pg.untold"].contains(&key.as_str()));
        field.as_ref().clone().with_metadata(metadata)
    };
    Schema::new(batch.schema().fields().iter().map(strip).collect::<Vec<_>>())
}

/// The same fields at first, whether NULL may come apart, and the same columns split at the end.
fn assert_same_fields(changes: &[RecordBatch], loaded: &[RecordBatch]) {
    let (first, last) = (without_earlier(&changes[0]), without_earlier(changes.last().unwrap()));
    for (index, field) in loaded[0].schema().fields().iter().enumerate() {
        let other = first.field(index).clone();
        if !split::is_split(field) && !split::is_split(&other) {
            assert_eq!(other.with_nullable(field.is_nullable()), **field, "column {}", field.name());
        }
        let end = loaded.last().unwrap().schema().field(index).clone();
        assert_eq!(last.field(index).clone().with_nullable(end.is_nullable()), end, "column {}", field.name());
    }
    let own = loaded[0].num_columns();
    let rest: Vec<String> = first.fields()[own..].iter().map(|field| field.name().clone()).collect();
    assert!(rest.iter().all(|name| is_reserved(name)) && rest.contains(&format!("{BEFORE_PREFIX}id")), "{rest:?}");
}

/// Loads `copy` and reads the inserts that filled it; both must be the same.
fn assert_same_both_ways(pipeline: &mut Pipeline<'_>, columns: Option<Vec<String>>) -> usize {
    pipeline.streams[0].selected_columns = columns;
    pipeline.load();
    let shown: Vec<String> = pipeline
        .ask("SELECT json_agg(attname ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'copy'::regclass AND attnum > 0 AND attgenerated = ''")
        .parse::<serde_json::Value>()
        .map(|names| serde_json::from_value(names).unwrap())
        .unwrap();
    let list = shown.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    pipeline.sql(&format!("INSERT INTO copy ({list}) OVERRIDING SYSTEM VALUE SELECT {list} FROM every_type ORDER BY id"));
    let read = pipeline.changes(None);
    let changes = read.host.batches(0).unwrap();
    // Another pipeline loads the rows that came as changes here.
    let mut other = Pipeline::new(pipeline.server, &format!("{}_loaded", pipeline.name), &["copy"]);
    other.streams = pipeline.streams.clone();
    let mut planner = other.source();
    let plan = planner.plan_partitions(&other.request(0, 1)).unwrap();
    other.loads = vec![Generation { number: 1, snapshot: plan.snapshot, partitions: plan.partitions }];
    let loaded = other.load_batches(0, &plan.token);
    planner.close().unwrap();
    assert_same_fields(&changes, &loaded);
    let changed: HashMap<i64, (usize, usize)> = places(&changes);
    let mut compared = 0;
    for (id, (batch, row)) in places(&loaded) {
        let (load, (other, of)) = (&loaded[batch], changed[&id]);
        let change = &changes[other];
        for (index, field) in load.schema().fields().iter().enumerate() {
            let (a, b) = (cell(change.column(index), of), cell(load.column(index), row));
            assert!(a == b, "column {} of row {id}: {a:?} as a change, {b:?} as loaded", field.name());
            compared += 1;
        }
    }
    assert_eq!(changed.len(), changes.iter().map(RecordBatch::num_rows).sum::<usize>());
    assert_eq!(changed.len(), loaded.iter().map(RecordBatch::num_rows).sum::<usize>());
    pipeline.sql("TRUNCATE copy");
    compared
}

#[test]
fn snapshot_and_changes_give_identical_arrow_for_every_type() {
    let server = server();
    let mut pipeline = Pipeline::new(server, "types", &["copy"]);
    let rows = EVERY_TYPE.replace(":rows", "200");
    pipeline.sql(&format!("{rows}; CREATE TABLE copy (LIKE every_type INCLUDING ALL)"));
    // All of them: some have no send form of ours, so that values come as text.
    let compared = assert_same_both_ways(&mut pipeline, None);
    assert!(compared > 50_000, "{compared} values were compared");
    let mut lines = Pipeline { plugin: "test_decoding", ..Pipeline::new(server, "types_lines", &["copy"]) };
    assert_eq!(assert_same_both_ways(&mut lines, None), compared);
    // Only those whose send form we read.
    let plain = pipeline.ask(
        "SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
         LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
         WHERE a.attrelid = 'copy'::regclass AND a.attnum > 0 AND a.attgenerated = ''
         AND coalesce(e.typname, t.typname) IN ('bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'money', 'text', 'varchar',
             'bpchar', 'name', 'char', 'citext', 'bytea', 'uuid', 'json', 'jsonb', 'date', 'time', 'timestamp', 'timestamptz', 'mood', 'oid', 'interval')
         AND NOT (e.typname IN ('interval', 'oid')) IS TRUE",
    );
    let names: Vec<String> = serde_json::from_str(&plain).unwrap();
    assert!(names.len() > 50, "{names:?}");
    let mut binary = Pipeline::new(server, "types_binary", &["copy"]);
    assert_same_both_ways(&mut binary, Some(names));
}
