//! Every kind of change.

use super::{PLUGINS, Pipeline, Target, logical, server};
use arrow_schema::DataType;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{Position, ReadRequest, Source};
use std::collections::BTreeMap;

fn map(cells: &[(&str, &str)]) -> BTreeMap<String, String> {
    cells.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn changes_say_what_happened_and_in_which_order() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "ops", &["ops", "other_ops"]);
        pipeline.sql(
            "CREATE TABLE ops (id int PRIMARY KEY, v text, big text); ALTER TABLE ops ALTER big SET STORAGE EXTERNAL; CREATE TABLE other_ops (id int PRIMARY KEY);
             INSERT INTO ops VALUES (1, 'loaded', repeat('x', 10000))",
        );
        assert_eq!(pipeline.load()[0].len(), 1);
        pipeline.each(&[
            "BEGIN; INSERT INTO ops VALUES (2, 'two', NULL); INSERT INTO other_ops VALUES (7); UPDATE ops SET v = 'new' WHERE id = 1; COMMIT",
            "UPDATE ops SET id = 3 WHERE id = 2",
            "DELETE FROM ops WHERE id = 3",
        ]);
        let read = pipeline.changes(None);
        assert_eq!(
            read.changes(0),
            [
                map(&[("id", "2"), ("v", "two"), ("_rb_op", "insert"), ("_rb_seq", "1")]),
                map(&[("id", "1"), ("v", "new"), ("_rb_op", "update"), ("_rb_seq", "3"), ("_rb_unchanged", "<big>")]),
                map(&[("id", "3"), ("v", "two"), ("_rb_before_id", "2"), ("_rb_op", "update"), ("_rb_seq", "1")]),
                map(&[("id", "3"), ("_rb_before_id", "3"), ("_rb_op", "delete"), ("_rb_seq", "1")]),
            ]
        );
        assert_eq!(read.changes(1), [map(&[("id", "7"), ("_rb_op", "insert"), ("_rb_seq", "2")])]);
        // The changes of a transaction have one number, which grows with the commits; both streams have the same for the first.
        let places = |stream: u32| -> Vec<u64> {
            let batches = read.host.batches(stream).unwrap();
            let of = |batch: &arrow_array::RecordBatch| {
                let column = batch.column_by_name("_rb_lsn").unwrap();
                let numbers: &arrow_array::UInt64Array = arrow_array::cast::AsArray::as_primitive(column);
                numbers.values().to_vec()
            };
            batches.iter().flat_map(of).collect()
        };
        let (ops, other) = (places(0), places(1));
        assert!(ops[0] == ops[1] && ops[1] < ops[2] && ops[2] < ops[3] && other == [ops[0]], "{ops:?} {other:?}");
        let end = number(&read.end());
        assert!(ops[3] <= end, "a change lies at or before the barrier behind it");
    }
}

#[test]
fn how_a_table_looked_before_its_load_does_not_matter() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "looked", &["looked", "looked_beside"]);
        pipeline.sql(
            "DROP TYPE IF EXISTS looked_mood; CREATE TYPE looked_mood AS ENUM ('glad'); CREATE TABLE looked (id int PRIMARY KEY, v text, mood looked_mood);
             CREATE TABLE looked_beside (id int PRIMARY KEY)",
        );
        let columns = |columns: &[&str]| Some(columns.iter().map(|name| (*name).to_owned()).collect());
        pipeline.streams[0].selected_columns = columns(&["id", "v"]);
        pipeline.load();
        // A type that is dropped, rows that nothing tells apart, and a column that is not there yet.
        pipeline.each(&[
            "INSERT INTO looked VALUES (1, 'old', 'glad'); INSERT INTO looked_beside VALUES (1)",
            "ALTER TABLE looked DROP mood",
            "DROP TYPE looked_mood",
            "INSERT INTO looked VALUES (2, 'old')",
        ]);
        if plugin == "test_decoding" {
            pipeline.each(&["ALTER TABLE looked DROP CONSTRAINT looked_pkey", "DELETE FROM looked WHERE id = 2"]);
            pipeline.each(&["ALTER TABLE looked ADD PRIMARY KEY (id)", "INSERT INTO looked VALUES (2, 'old')"]);
        }
        pipeline.sql("ALTER TABLE looked ADD w int");
        // Loaded anew, as after a reset, on the slot that was there.
        pipeline.loads.clear();
        pipeline.streams[0].selected_columns = columns(&["id", "v", "w"]);
        assert_eq!(pipeline.load().iter().map(Vec::len).collect::<Vec<_>>(), [2, 1], "{plugin}");
        pipeline.sql("INSERT INTO looked VALUES (3, 'new', 7)");
        let read = pipeline.changes(None);
        let expected = map(&[("id", "3"), ("v", "new"), ("w", "7"), ("_rb_op", "insert"), ("_rb_seq", "1")]);
        assert_eq!((read.changes(0), read.changes(1).len()), (vec![expected], 0), "{plugin}");
    }
}

#[test]
fn messages_of_applications_are_no_changes() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "messages", &["messages"]);
        pipeline.sql("CREATE TABLE messages (id int PRIMARY KEY, v text)");
        pipeline.load();
        pipeline.each(&[
            "SELECT pg_logical_emit_message(false, 'beat', 'in no transaction')",
            "SELECT pg_logical_emit_message(true, 'beat', 'in one of its own')",
            r"SELECT pg_logical_emit_message(false, 'beat', '\xff00fe'::bytea)",
            r"BEGIN; INSERT INTO messages VALUES (1, 'message: no'); SELECT pg_logical_emit_message(true, 'box', '\xff'::bytea); COMMIT",
        ]);
        let expected = map(&[("id", "1"), ("v", "message: no"), ("_rb_op", "insert"), ("_rb_seq", "1")]);
        assert_eq!(pipeline.changes(None).changes(0), [expected], "{plugin}");
    }
}

/// A position as a number.
fn number(position: &Position) -> u64 {
    let (high, low) = position.value.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

#[test]
fn every_replica_identity_tells_what_it_can() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "identities", &["by_full", "by_index"]);
        pipeline.sql(
            "CREATE TABLE by_full (id int PRIMARY KEY, v text, big text); ALTER TABLE by_full ALTER big SET STORAGE EXTERNAL; ALTER TABLE by_full REPLICA IDENTITY FULL;
             CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL, v text); CREATE UNIQUE INDEX by_code ON by_index (code);
             ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code",
        );
        pipeline.load();
        let big = "x".repeat(10_000);
        pipeline.each(&[
            &format!("INSERT INTO by_full VALUES (1, 'a', '{big}')"),
            "UPDATE by_full SET v = 'b'",
            "DELETE FROM by_full",
            "INSERT INTO by_index VALUES (1, 'c1', 'a')",
            "UPDATE by_index SET v = 'b'",
            "UPDATE by_index SET code = 'c2'",
            "DELETE FROM by_index",
        ]);
        let read = pipeline.changes(None);
        let full = read.changes(0);
        let old = |v: &'static str| [("_rb_before_id", "1"), ("_rb_before_v", v), ("_rb_before_big", big.as_str())];
        let with = |cells: &[(&str, &str)], old: &[(&str, &str)]| map(&[cells, old].concat());
        let op = |op: &'static str| [("_rb_op", op), ("_rb_seq", "1")];
        assert_eq!(full[0], with(&[("id", "1"), ("v", "a"), ("big", &big)], &op("insert")));
        // The old row tells what the new one leaves out.
        assert_eq!(full[1], with(&[&[("id", "1"), ("v", "b"), ("big", big.as_str())][..], &op("update")].concat(), &old("a")));
        assert_eq!(full[2], with(&[&[("id", "1"), ("v", "b"), ("big", big.as_str())][..], &op("delete")].concat(), &old("b")));
        let index = read.changes(1);
        assert_eq!(index[1], with(&[("id", "1"), ("code", "c1"), ("v", "b")], &op("update")));
        assert_eq!(index[2], with(&[("id", "1"), ("code", "c2"), ("v", "b"), ("_rb_before_code", "c1")], &op("update")));
        assert_eq!(index[3], with(&[("code", "c2"), ("_rb_before_code", "c2")], &op("delete")));
    }
}

#[test]
fn a_truncate_of_several_tables_comes_in_its_place() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "truncates", &["tr_a", "tr_b"]);
        pipeline.sql("CREATE TABLE tr_a (id int PRIMARY KEY); CREATE TABLE tr_b (id int PRIMARY KEY)");
        pipeline.load();
        pipeline.sql(
            "INSERT INTO tr_a VALUES (1), (2); INSERT INTO tr_b VALUES (1); BEGIN; INSERT INTO tr_a VALUES (3); TRUNCATE tr_a, tr_b;
             INSERT INTO tr_a VALUES (9); COMMIT; INSERT INTO tr_b VALUES (8)",
        );
        let read = pipeline.changes(None);
        let mut targets = [Target::default(), Target::default()];
        for (index, target) in targets.iter_mut().enumerate() {
            target.apply(&read, index as u32, &["id"]);
            assert_eq!(*target, Target::now(&pipeline, index));
        }
        let truncates: Vec<_> = read.emitted.iter().filter(|emitted| matches!(emitted, Emitted::Truncate(_))).collect();
        assert_eq!(truncates.len(), 2);
        let Emitted::Truncate(truncate) = truncates[0] else { panic!() };
        assert!(number(truncate.position.as_ref().unwrap()) <= number(&read.end()));
    }
}

#[test]
fn partitions_come_as_their_root() {
    let mut pipeline = Pipeline::new(server(), "roots", &["root"]);
    pipeline.sql(
        "CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE root_1 PARTITION OF root FOR VALUES FROM (0) TO (10);
         CREATE TABLE root_2 (v text, extra int, id int NOT NULL PRIMARY KEY); ALTER TABLE root_2 DROP COLUMN extra;
         ALTER TABLE root ATTACH PARTITION root_2 FOR VALUES FROM (10) TO (20); INSERT INTO root VALUES (1, 'a'), (11, 'b')",
    );
    let mut target = Target::of(pipeline.load().remove(0));
    assert_eq!(target.rows.len(), 2);
    // The last update moves a row from one partition to the other.
    pipeline.sql(
        "INSERT INTO root VALUES (2, 'c'), (12, 'd'); UPDATE root SET v = 'e' WHERE id = 11; UPDATE root SET id = 13 WHERE id = 2;
         DELETE FROM root WHERE id = 1; CREATE TABLE root_3 PARTITION OF root FOR VALUES FROM (20) TO (30); INSERT INTO root VALUES (21, 'new')",
    );
    target.apply(&pipeline.changes(None), 0, &["id", "v"]);
    assert_eq!(target, Target::now(&pipeline, 0));
}

#[test]
fn partitioned_tables_are_refused_where_the_log_does_not_tell_their_name() {
    let pipeline = Pipeline::by("test_decoding", "leaves", &["leafy"]);
    pipeline.sql("CREATE TABLE leafy (id int PRIMARY KEY) PARTITION BY RANGE (id)");
    let error = pipeline.source().plan_partitions(&pipeline.request(0, 4)).map(|_| ()).unwrap_err();
    assert_eq!(error.code, "unsupported_table");
    // Nor can the log be followed, whose transactions say at their end where they are.
    let mut plain = Pipeline::by("test_decoding", "unfollowed", &["unfollowed"]);
    plain.sql("CREATE TABLE unfollowed (id int PRIMARY KEY)");
    plain.load();
    let host = FakeHost::install();
    let request = ReadRequest {
        run: run_context(),
        streams: plain.streams.clone(),
        partition: None,
        token: plain.token().unwrap(),
        resume: None,
        follow: true,
    };
    let error = plain.source().read(&request, &mut host.source_output()).map(|_| ()).unwrap_err();
    assert_eq!(error.code, "unsupported_plugin");
}

#[test]
fn changed_tables_are_followed_and_announced_again() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "ddl", &["evolving"]);
        pipeline
            .sql("DROP TYPE IF EXISTS hue; CREATE TYPE hue AS ENUM ('red'); CREATE TABLE evolving (id int PRIMARY KEY, v text)");
        pipeline.load();
        // Each state of the table is gone when the changes are read; the second has a column of a type without a send form of ours.
        pipeline.each(&[
            "INSERT INTO evolving VALUES (1, 'a')",
            "ALTER TABLE evolving ADD COLUMN n numeric(9,2) DEFAULT 1.5",
            "INSERT INTO evolving VALUES (2, 'b', 2)",
            "ALTER TABLE evolving ADD COLUMN net inet, ADD COLUMN h hue",
            "INSERT INTO evolving VALUES (3, 'c', 3, '10.0.0.1', 'red')",
            "ALTER TABLE evolving DROP COLUMN net, DROP COLUMN n",
            "ALTER TABLE evolving RENAME COLUMN v TO w",
            "INSERT INTO evolving VALUES (4, 'd', 'red')",
        ]);
        let read = pipeline.changes(None);
        let own = |cells: &[(&str, &str)]| map(&[cells, &[("_rb_op", "insert"), ("_rb_seq", "1")]].concat());
        assert_eq!(
            read.changes(0),
            [
                own(&[("id", "1"), ("v", "a")]),
                own(&[("id", "2"), ("v", "b"), ("n", "2.00")]),
                own(&[("id", "3"), ("v", "c"), ("n", "3.00"), ("net", "10.0.0.1/32"), ("h", "red")]),
                own(&[("id", "4"), ("w", "d"), ("h", "red")]),
            ]
        );
        let ids: Vec<u32> = read
            .emitted
            .iter()
            .filter_map(|emitted| if let Emitted::Schema { schema_id, .. } = emitted { Some(*schema_id) } else { None })
            .collect();
        assert_eq!(ids, [0, 1, 2, 3]);
        // A column that was asked for by name and is gone ends the run.
        pipeline.streams[0].selected_columns = Some(vec!["id".into(), "v".into()]);
        let Err(error) = pipeline.try_changes(Some(&read.end()), None) else { panic!("the column is gone") };
        assert_eq!(error.code, "missing_column");
    }
}

#[test]
fn a_delete_is_told_under_the_shape_that_its_row_had() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "shapes", &["shaped", "shaped_key"]);
        pipeline.sql(
            "CREATE TABLE shaped (id int PRIMARY KEY, v text); ALTER TABLE shaped REPLICA IDENTITY FULL;
             CREATE TABLE shaped_key (id int PRIMARY KEY, v text)",
        );
        pipeline.load();
        pipeline.each(&[
            "INSERT INTO shaped VALUES (1, 'a'); INSERT INTO shaped_key VALUES (1, 'a')",
            "ALTER TABLE shaped ADD w text DEFAULT 'x'; ALTER TABLE shaped_key ALTER id TYPE text USING 'k' || id",
            "DELETE FROM shaped; DELETE FROM shaped_key",
            // Some of it is not in the catalog any more when the log is read.
            "ALTER TABLE shaped ADD y int DEFAULT 7",
            "INSERT INTO shaped VALUES (2, 'b', 'y', 8)",
            "ALTER TABLE shaped DROP w, ADD z int DEFAULT 9",
            "DELETE FROM shaped",
            "ALTER TABLE shaped DROP y",
        ]);
        let read = pipeline.changes(None);
        let rows: Vec<String> = [0, 1]
            .iter()
            .flat_map(|stream| read.changes(*stream))
            .map(|row| {
                let own = row.iter().filter(|(name, _)| *name != "_rb_seq");
                own.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
            })
            .collect();
        let expected = [
            "_rb_op=insert id=1 v=a",
            "_rb_before_id=1 _rb_before_v=a _rb_before_w=x _rb_op=delete id=1 v=a w=x",
            "_rb_op=insert id=2 v=b w=y y=8",
            "_rb_before_id=2 _rb_before_v=b _rb_before_y=8 _rb_before_z=9 _rb_op=delete id=2 v=b y=8 z=9",
            "_rb_op=insert id=1 v=a",
            "_rb_before_id=k1 _rb_op=delete id=k1",
        ];
        assert_eq!(rows, expected, "{plugin}");
    }
}

#[test]
fn a_key_column_with_another_type_was_in_the_key_before() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "retyped", &["retyped"]);
        pipeline.sql("CREATE TABLE retyped (part text, id int, v text, PRIMARY KEY (id, part))");
        pipeline.load();
        pipeline.each(&[
            "INSERT INTO retyped VALUES ('a', 1, 'old')",
            "ALTER TABLE retyped ALTER id TYPE bigint",
            "INSERT INTO retyped VALUES ('b', 2, 'new')",
        ]);
        let batches = pipeline.changes(None).host.batches(0).unwrap();
        let types: Vec<_> = batches.iter().map(|batch| batch.schema().field(1).data_type().clone()).collect();
        assert_eq!(types, [DataType::Int32, DataType::Int64], "{plugin}");
        for batch in batches {
            let schema = batch.schema();
            let marks = |name: &str| {
                let field = schema.field_with_name(name).unwrap();
                ["pk_ord", "pk_len", "notnull"].map(|key| field.metadata().get(&format!("rapidbyte.pg.{key}")).cloned())
            };
            assert_eq!(marks("id"), [Some("1".into()), Some("2".into()), Some("true".into())], "{plugin}");
            assert_eq!(marks("part"), [Some("2".into()), Some("2".into()), Some("true".into())], "{plugin}");
            assert_eq!(marks("v"), [None, None, None], "{plugin}");
            // Merging by it needs its old value.
            assert_eq!(marks("_rb_before_id"), [None, None, None], "{plugin}");
        }
    }
}

#[test]
fn the_catalog_is_asked_once_for_each_shape() {
    // Each statement is in the server's log before it is carried out.
    let server = logical(&["log_statement=all"]);
    let mut pipeline = Pipeline { plugin: "test_decoding", ..Pipeline::new(&server, "asked", &["asked"]) };
    pipeline.sql("CREATE TABLE asked (id int PRIMARY KEY, v text, gone text)");
    pipeline.load();
    pipeline.each(&[
        "INSERT INTO asked SELECT i, 'a', 'b' FROM generate_series(1, 100) i",
        "ALTER TABLE asked DROP gone",
        "INSERT INTO asked SELECT i, 'a' FROM generate_series(101, 200) i",
    ]);
    assert_eq!(pipeline.changes(None).changes(0).len(), 200);
    let log = std::fs::read_to_string(server.directory().join("log")).unwrap();
    assert!(log.contains("pg_logical_slot_peek_changes"));
    assert_eq!(log.matches("format_type(a.atttypid, NULL)").count(), 1, "the second shape is known from the first look");
}

#[test]
fn an_old_row_without_its_nulls_is_no_other_shape() {
    for plugin in PLUGINS {
        for rename in ["", "ALTER TABLE nulled RENAME a TO c; ALTER TABLE nulled RENAME b TO d"] {
            let mut pipeline = Pipeline::by(plugin, "nulled", &["nulled"]);
            pipeline.name += if rename.is_empty() { "" } else { "_renamed" };
            pipeline.sql(
                "CREATE TABLE nulled (id int PRIMARY KEY, a text, b text); ALTER TABLE nulled REPLICA IDENTITY FULL;
                 INSERT INTO nulled VALUES (1, 'x', NULL)",
            );
            pipeline.load();
            let swap = ["UPDATE nulled SET a = NULL, b = 'y'", "UPDATE nulled SET a = 'x', b = NULL"];
            pipeline.sql(&format!("BEGIN; {}; COMMIT", [swap; 1_000].concat().join("; ")));
            // Only the rows themselves tell now what identified them.
            pipeline.sql(&format!("ALTER TABLE nulled REPLICA IDENTITY DEFAULT; {rename}"));
            let read = pipeline.changes(None);
            let schemas = read.emitted.iter().filter(|emitted| matches!(emitted, Emitted::Schema { .. })).count();
            assert!((1..=3).contains(&schemas), "{plugin}: {schemas} schemas");
            let changes = read.changes(0);
            assert_eq!(changes.len(), 2_000, "{plugin}");
            let was = [("_rb_op", "update"), ("_rb_before_id", "1"), ("id", "1")];
            let last = [&was[..], &[("_rb_before_b", "y"), ("a", "x"), ("_rb_seq", "2000")]].concat();
            let before = [&was[..], &[("_rb_before_a", "x"), ("b", "y"), ("_rb_seq", "1999")]].concat();
            assert_eq!(changes[1_998..], [map(&before), map(&last)], "{plugin}");
        }
    }
}

#[test]
fn large_transactions_are_split_into_batches_and_barriers_stand_at_their_ends() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "large", &["large_a", "large_b"]);
        pipeline.sql("CREATE TABLE large_a (id int PRIMARY KEY, v text); CREATE TABLE large_b (id int PRIMARY KEY)");
        pipeline.load();
        pipeline.sql(
            "BEGIN; INSERT INTO large_a SELECT i, 'v' || i FROM generate_series(1, 25000) i; SAVEPOINT s; INSERT INTO large_b VALUES (0); ROLLBACK TO s;
             SAVEPOINT t; INSERT INTO large_b SELECT i FROM generate_series(1, 3000) i; COMMIT; INSERT INTO large_b VALUES (3001)",
        );
        let read = pipeline.changes(None);
        let mut since = 0;
        for emitted in &read.emitted {
            match emitted {
                Emitted::Batch { rows, .. } => {
                    assert!(*rows <= 10_000);
                    since += rows;
                }
                Emitted::Barrier(_) => {
                    assert!([28_000, 28_001, 1, 0].contains(&since), "a barrier after {since} rows");
                    since = 0;
                }
                _ => {}
            }
        }
        assert!(read.emitted.iter().filter(|emitted| matches!(emitted, Emitted::Batch { .. })).count() >= 3);
        for (index, columns) in [&["id", "v"][..], &["id"]].iter().enumerate() {
            let mut target = Target::default();
            target.apply(&read, index as u32, columns);
            assert_eq!(target, Target::now(&pipeline, index));
        }
    }
}

#[test]
fn values_beyond_their_type_and_records_beyond_the_limit() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "limits", &["limited"]);
        pipeline.sql("CREATE TABLE limited (id int PRIMARY KEY, n numeric(9,2), v text)");
        pipeline.load();
        pipeline.sql("INSERT INTO limited VALUES (1, 1, 'a'), (2, 'NaN', 'b'), (3, 3, 'c')");
        let read = pipeline.changes(None);
        let shown: Vec<String> = read.changes(0).iter().map(|row| row["n"].clone()).collect();
        assert_eq!(shown, ["1.00", "send 00000000c0000000", "3.00"]);
        pipeline.sql("INSERT INTO limited VALUES (4, 4, repeat('x', 2000000))");
        pipeline.streams[0].limits.max_record_bytes = 1 << 20;
        let Err(error) = pipeline.try_changes(Some(&read.end()), None) else { panic!("the record should have been refused") };
        assert_eq!(error.code, "record_too_large");
        assert!(error.message.starts_with("stream `public.limited`: a change of 2000"), "{}", error.message);
    }
}

#[test]
fn neighbours_and_texts_do_not_make_a_record_larger() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline { plugin, ..Pipeline::new(server(), &format!("beside_{plugin}"), &["Big \"one\": x.y"]) };
        // The last column's type has no send form of ours, so that all values come as text.
        pipeline.sql(
            r#"DROP TABLE IF EXISTS "Big ""one"": x.y", big_neighbour; CREATE TABLE big_neighbour (id int PRIMARY KEY, v text);
               CREATE TABLE "Big ""one"": x.y" (id int PRIMARY KEY, b bytea, net inet)"#,
        );
        pipeline.load();
        pipeline.streams[0].limits.max_record_bytes = 1 << 20;
        let insert = |id: u32, size: u32| {
            format!(r#"INSERT INTO "Big ""one"": x.y" VALUES ({id}, decode(repeat('ab', {size}), 'hex'), '10.0.0.{id}')"#)
        };
        pipeline.each(&[
            "INSERT INTO big_neighbour VALUES (1, repeat('x', 4000000)), (2, ': TRUNCATE: cascade')",
            r#"TRUNCATE big_neighbour, "Big ""one"": x.y""#,
            &insert(1, 700_000),
        ]);
        let read = pipeline.changes(None);
        let truncates = read.emitted.iter().filter(|emitted| matches!(emitted, Emitted::Truncate(_))).count();
        assert_eq!((truncates, read.changes(0).len()), (1, 1), "{plugin}");
        assert!(read.changes(0)[0]["b"].len() >= 700_000);
        // Too large as a value, and too large as a message.
        let mut end = read.end();
        for (id, size) in [(2, 1_100_000), (3, 3_000_000)] {
            pipeline.sql(&insert(id, size));
            let Err(error) = pipeline.try_changes(Some(&end), None) else { panic!("{size} bytes were taken") };
            assert_eq!(error.code, "record_too_large");
            let named = format!("stream `{}`: a change of ", pipeline.streams[0].name);
            assert!(error.message.starts_with(&named), "{plugin}: {}", error.message);
            pipeline.streams[0].limits.max_record_bytes = 16 << 20;
            end = pipeline.changes(Some(&end)).end();
            pipeline.streams[0].limits.max_record_bytes = 1 << 20;
        }
    }
}

#[test]
fn reserved_names_and_generated_columns_are_refused_by_name() {
    let pipeline = Pipeline::new(server(), "reserved", &["reserving", "generating"]);
    pipeline.sql(
        "CREATE TABLE reserving (id int PRIMARY KEY, _rb_op text); CREATE TABLE generating (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id + 1) STORED)",
    );
    let plan = |pipeline: &Pipeline<'_>, index: usize| {
        pipeline.source().plan_partitions(&pipeline.request(index, 4)).map(|_| ()).unwrap_err()
    };
    assert_eq!(plan(&pipeline, 0).code, "reserved_column");
    let mut pipeline = Pipeline { streams: pipeline.streams.clone(), ..Pipeline::new(server(), "reserved", &[]) };
    pipeline.streams[1].selected_columns = Some(vec!["id".into(), "g".into()]);
    assert_eq!(plan(&pipeline, 1).code, "generated_column");
    // Nothing was made for streams that were refused.
    assert_eq!(pipeline.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rapidbyte_reserved'"), "0");
}
