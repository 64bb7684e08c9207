//! Every value arrives as it was.

use crate::incremental::{self, incremental};
use crate::render::{rows, sql};
use crate::{read, server, source, stream};
use arrow_array::RecordBatch;
use postgres_wire::quote_ident;
use rapidbyte_sdk::testing::Emitted;
use rapidbyte_sdk::{SafeBoundary, Source, StreamContext, split};

/// The batches of a stream, and the same rows as the server shows them, compared batch by batch in the table's own order.
fn assert_equal_to_server(table: &str, select: Option<&[&str]>) -> Vec<RecordBatch> {
    let mut context = stream(table);
    context.selected_columns = select.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let (host, summary) = read(server(), context).unwrap();
    let batches = host.batches(0).unwrap();
    assert_eq!(summary.records as usize, batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    let mut connection = server().connect();
    let mut at = 0;
    for batch in &batches {
        let columns: Vec<String> = batch.schema().fields().iter().map(|field| sql(field)).collect();
        let query = format!(
            "SET extra_float_digits = 3; SELECT {} FROM {} OFFSET {at} LIMIT {}",
            columns.join(", "),
            quote_ident(table).unwrap(),
            batch.num_rows()
        );
        let expected = connection.query(&query).unwrap();
        let got = rows(std::slice::from_ref(batch));
        assert_eq!(expected.len(), got.len());
        for (expected, got) in expected.iter().zip(&got) {
            for (index, field) in batch.schema().fields().iter().enumerate() {
                assert_eq!(
                    got[index].as_deref(),
                    expected.get(index),
                    "table {table}, column {}, row with first column {:?}",
                    field.name(),
                    got[0]
                );
            }
        }
        at += batch.num_rows();
    }
    let count = connection.query(&format!("SELECT count(*) FROM ONLY {}", quote_ident(table).unwrap())).unwrap();
    assert_eq!(count[0].get(0), Some(at.to_string().as_str()));
    batches
}

#[test]
fn every_type_arrives_as_it_was() {
    assert_equal_to_server("wide", None);
}

#[test]
fn every_extreme_arrives_as_it_was() {
    let batches = assert_equal_to_server("edge", None);
    assert_eq!(batches.len(), 1, "nothing here lies beyond its type");
}

#[test]
fn values_beyond_their_arrow_type_arrive_as_they_were() {
    let batches = assert_equal_to_server("beyond", None);
    let (first, last) = (batches.first().unwrap().schema(), batches.last().unwrap().schema());
    let splits =
        ["c_numeric", "c_timestamp", "c_timestamptz", "c_int_arr", "c_text_arr", "c_numeric_76", "c_interval", "c_numeric_arr"];
    for field in first.fields() {
        let later = last.field_with_name(field.name()).unwrap();
        let wide = splits.contains(&field.name().as_str());
        assert_eq!(split::is_split(later), wide, "{}", field.name());
        assert!(split::may_split(field) || !wide, "{} says beforehand that it may be split", field.name());
        assert_eq!(later.metadata()["rapidbyte.pg.type"], field.metadata()["rapidbyte.pg.type"]);
    }
}

#[test]
fn casts_to_text_that_users_have_made_are_not_asked() {
    let mut sql = server().connect();
    for (of, create) in
        [("pin", "CREATE TYPE pin AS (v text);"), ("rank", "CREATE TYPE rank AS ENUM ('low', 'high');"), ("lseg", "")]
    {
        sql.batch_execute(&format!(
            "{create} CREATE FUNCTION shown({of}) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '(none)' $$;
             CREATE CAST ({of} AS text) WITH FUNCTION shown({of})"
        ))
        .unwrap();
    }
    sql.batch_execute(
        "CREATE DOMAIN locked AS pin; CREATE TABLE cast_away (id int PRIMARY KEY, p pin, d locked, r rank NOT NULL, l lseg);
         INSERT INTO cast_away VALUES (1, ROW('1,2'), ROW(NULL), 'low', '[(0,0),(1,1)]'), (2, NULL, NULL, 'high', NULL)",
    )
    .unwrap();
    let shown = |row: &[Option<&str>]| row.iter().map(|cell| cell.map(str::to_owned)).collect::<Vec<_>>();
    let first = shown(&[Some("1"), Some("(\"1,2\")"), Some("()"), Some("low"), Some("[(0,0),(1,1)]")]);
    let second = shown(&[Some("2"), None, None, Some("high"), None]);
    let (host, _) = read(server(), stream("cast_away")).unwrap();
    assert_eq!(rows(&host.batches(0).unwrap()), [first.clone(), second.clone()]);
    // A position names values that are values still.
    let mut context = incremental("cast_away", "r");
    context.safe_boundary = Some(SafeBoundary::None);
    let read = incremental::read(&context, None);
    assert_eq!(read.rows(), [first, second]);
    assert!(incremental::read(&context, Some(&read.end())).rows().is_empty());
}

#[test]
fn hostile_names_are_read() {
    let batches = assert_equal_to_server("Odd \"names\"; --", None);
    assert_eq!(batches[0].num_columns(), 3);
    assert_equal_to_server("Odd \"names\"; --", Some(&["ü😀", "a \"b\" \\ '"]));
}

#[test]
fn columns_come_in_the_order_asked_for() {
    let batches = assert_equal_to_server("wide", Some(&["c_text", "id", "c_inet"]));
    let schema = batches[0].schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["c_text", "id", "c_inet"]);
}

#[test]
fn tables_of_every_kind_are_read() {
    for table in ["a_view", "a_matview", "no_rows", "keyed", "base", "inheritor"] {
        assert_equal_to_server(table, None);
    }
    let (host, summary) = read(server(), stream("parent")).unwrap();
    assert_eq!((summary.records, host.batches(0).unwrap().len()), (200, 1));
    // An empty table still announces its columns.
    let (host, summary) = read(server(), stream("no_rows")).unwrap();
    assert!(matches!(&host.emitted()[..], [Emitted::Schema { .. }]));
    assert_eq!(summary.records, 0);
}

#[test]
fn fields_tell_what_the_column_was() {
    let (host, _) = read(server(), stream("keyed")).unwrap();
    let schema = host.batches(0).unwrap()[0].schema();
    let note = |column: &str, key: &str| {
        schema.field_with_name(column).unwrap().metadata().get(&format!("rapidbyte.pg.{key}")).cloned().unwrap_or_default()
    };
    assert_eq!((note("a", "pk_ord"), note("b", "pk_ord"), note("i", "pk_ord")), ("1".into(), "2".into(), String::new()));
    assert_eq!((note("a", "pk_len"), note("b", "pk_len"), note("i", "pk_len")), ("2".into(), "2".into(), String::new()));
    assert_eq!((note("g", "generated"), note("i", "identity"), note("a", "notnull")), ("s".into(), "a".into(), "true".into()));
    assert!(!schema.field_with_name("a").unwrap().is_nullable() && schema.field_with_name("g").unwrap().is_nullable());
    let (host, _) = read(server(), stream("edge")).unwrap();
    let schema = host.batches(0).unwrap()[0].schema();
    let note = |column: &str, key: &str| {
        schema.field_with_name(column).unwrap().metadata().get(&format!("rapidbyte.pg.{key}")).cloned().unwrap_or_default()
    };
    assert_eq!(note("c_char", "type"), "character(5)");
    assert_eq!((note("c_enum", "type"), note("c_enum", "typtype")), ("public.mood".into(), "e".into()));
    assert_eq!(note("c_enum", "enum_labels"), r#"["sad", "ok", "happy \"quoted\""]"#);
    assert_eq!((note("c_price", "type"), note("c_price", "base_type")), ("public.special_price".into(), "numeric(12,3)".into()));
    assert_eq!((note("c_inet", "encoding"), note("c_text", "encoding")), ("text".into(), String::new()));
}

#[test]
fn fields_tell_what_their_types_are_made_of() {
    let (host, _) = read(server(), stream("edge")).unwrap();
    let schema = host.batches(0).unwrap()[0].schema();
    let types = |column: &str| schema.field_with_name(column).unwrap().metadata().get("rapidbyte.pg.types").cloned();
    assert_eq!(types("c_text"), None);
    let mood = r#"[{"name":"public.mood","typname":"mood","shape":{"kind":"enum","labels":["sad","ok","happy \"quoted\""]}}]"#;
    assert_eq!((types("c_enum").as_deref(), types("c_enum_arr").as_deref()), (Some(mood), Some(mood)));
    let pair = r#"[{"name":"public.pair","typname":"pair","shape":{"kind":"composite","fields":[["a","integer"],["b","text"]]}}]"#;
    assert_eq!(types("c_pair").as_deref(), Some(pair));
    // What a type is made of comes before it.
    let price = types("c_price").unwrap();
    assert!(
        price.starts_with(r#"[{"name":"public.price""#) && price.contains(r#""shape":{"kind":"domain","base":"numeric(12,3)"}"#),
        "{price}"
    );
    assert!(price.ends_with(r#""base":"public.price"}}]"#), "{price}");
}

#[test]
fn discover_announces_what_read_gives() {
    let mut source = source(server());
    let found = source.discover().unwrap();
    let names: Vec<String> = found.iter().map(|stream| stream.name.to_string()).collect();
    for name in ["public.wide", "public.parent", "public.a_view", "public.a_matview", "public.Odd \"names\"; --"] {
        assert!(names.iter().any(|known| known == name), "{name} is missing in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("child_") || name.contains("pg_catalog")));
    let keyed = found.iter().find(|stream| stream.name.name == "keyed").unwrap();
    assert_eq!(keyed.primary_key, ["a", "b"]);
    let wide = found.iter().find(|stream| stream.name.name == "wide").unwrap();
    assert_eq!(wide.estimated_rows, Some(3000));
    assert!(wide.estimated_bytes.unwrap() > 1_000_000 && wide.cursor_candidates.contains(&"c_timestamptz".to_owned()));
    let parent = found.iter().find(|stream| stream.name.name == "parent").unwrap();
    assert_eq!((parent.kind.as_str(), parent.estimated_rows), ("partitioned table", Some(200)));
    for stream in found {
        let (host, _) = read(server(), StreamContext::full_refresh(stream.name.clone())).unwrap();
        let announced = host.emitted().into_iter().find_map(|emitted| match emitted {
            Emitted::Schema { ipc, .. } => Some(rapidbyte_sdk::decode_schema(&ipc).unwrap()),
            _ => None,
        });
        assert_eq!(announced.as_ref(), Some(stream.schema.as_ref()), "{}", stream.name);
    }
}
