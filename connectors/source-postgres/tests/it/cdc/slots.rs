//! Slots and publications that fail, each in its own way; what is made is removed again.

use super::{PLUGINS, Pipeline, logical, server};
use postgres_wire::test_server::PostgresServer;
use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};
use rapidbyte_sdk::{CheckItem, CheckStatus, ConnectorError, CursorType, ErrorCategory, Position, ReadRequest, Source};
use std::thread;

fn code(pipeline: &Pipeline<'_>, resume: Option<&Position>) -> (String, String) {
    let Err(error) = pipeline.try_changes(resume, None) else { panic!("changes were read") };
    assert!(error.hint.is_some(), "{error:?}");
    (error.code, error.message)
}

#[test]
fn a_slot_dropped_made_anew_or_moved_is_noticed() {
    let mut pipeline = Pipeline::new(server(), "lost", &["lost"]);
    pipeline.sql("CREATE TABLE lost (id int PRIMARY KEY)");
    pipeline.load();
    let end = pipeline.changes(None).end();
    pipeline.confirm(&end);
    pipeline.sql("INSERT INTO lost VALUES (1)");
    // Somebody consumes it.
    pipeline.sql("SELECT pg_replication_slot_advance('rapidbyte_lost', pg_current_wal_lsn())");
    let (at, message) = code(&pipeline, Some(&end));
    assert!(at == "source_changed" && message.contains("somebody else has moved it"), "{message}");
    assert_eq!(code(&pipeline, None).0, "source_changed");
    // Dropped.
    pipeline.sql("SELECT pg_drop_replication_slot('rapidbyte_lost')");
    let (at, message) = code(&pipeline, Some(&end));
    assert!(at == "source_changed" && message.contains("is gone"), "{message}");
    assert_eq!(pipeline.source().confirm(&end).unwrap_err().code, "source_changed");
    // Made anew by somebody.
    pipeline.sql("SELECT pg_create_logical_replication_slot('rapidbyte_lost', 'pgoutput')");
    assert_eq!(code(&pipeline, Some(&end)).0, "source_changed");
    // With another plugin.
    pipeline.sql("SELECT pg_drop_replication_slot('rapidbyte_lost')");
    pipeline.sql("SELECT pg_create_logical_replication_slot('rapidbyte_lost', 'test_decoding')");
    assert_eq!(code(&pipeline, Some(&end)).0, "slot_plugin");
    // A new load mends it.
    pipeline.sql("SELECT pg_drop_replication_slot('rapidbyte_lost')");
    pipeline.loads.clear();
    assert_eq!(pipeline.load()[0].len(), 1);
    pipeline.sql("INSERT INTO lost VALUES (2)");
    assert_eq!(pipeline.changes(None).changes(0).len(), 1);
}

#[test]
fn a_slot_that_is_dropped_while_it_is_read_is_named() {
    for plugin in PLUGINS {
        let mut pipeline = Pipeline::by(plugin, "vanishing", &["vanishing"]);
        pipeline.sql("CREATE TABLE vanishing (id int PRIMARY KEY)");
        pipeline.load();
        // More log than is looked through at once.
        pipeline.each(&["INSERT INTO vanishing VALUES (1)", "SELECT pg_switch_wal()", "INSERT INTO vanishing VALUES (2)"]);
        pipeline.each(&["SELECT pg_switch_wal()", "INSERT INTO vanishing VALUES (3)"]);
        let token = pipeline.token().unwrap();
        let request = ReadRequest {
            run: run_context(),
            streams: pipeline.streams.clone(),
            partition: None,
            token,
            resume: None,
            follow: false,
        };
        let host = FakeHost::install();
        let sql = format!("SELECT pg_drop_replication_slot('rapidbyte_{}')", pipeline.name);
        let mut is_there = true;
        host.pour_into(move |emitted| {
            if matches!(emitted, Emitted::Barrier(_)) && std::mem::take(&mut is_there) {
                let sql = sql.clone();
                thread::spawn(move || server().connect().batch_execute(&sql).unwrap()).join().unwrap();
            }
            Ok(())
        });
        let error = pipeline.source().read(&request, &mut host.source_output()).map(|_| ()).unwrap_err();
        let gone = format!("replication slot `rapidbyte_{}` is gone", pipeline.name);
        assert!(error.code == "source_changed" && error.message.starts_with(&gone), "{plugin}: {}", error.message);
    }
}

#[test]
fn a_server_restored_to_an_earlier_time_is_noticed() {
    let mut pipeline = Pipeline::new(server(), "restored", &["restored"]);
    pipeline.sql("CREATE TABLE restored (id int PRIMARY KEY)");
    pipeline.load();
    let (at, message) = code(&pipeline, Some(&Position::new(CursorType::Lsn, "FFFF/0")));
    assert!(at == "source_changed" && message.contains("restored to an earlier time"), "{message}");
    let name = pipeline.loads[0].snapshot.clone();
    for (from, to, word) in [
        (":00000001:", ":00000002:", "timeline"),
        ("cdc1:", "cdc1:1", "another server"),
        (":rapidbyte_restored:", ":other:", "`other`"),
    ] {
        pipeline.loads[0].snapshot = name.replacen(from, to, 1);
        let (at, message) = code(&pipeline, None);
        assert!(at == "source_changed" && message.contains(word), "{message}");
    }
    pipeline.loads[0].snapshot = "run:1/1".into();
    assert_eq!(code(&pipeline, None).0, "source_changed");
    pipeline.loads[0].snapshot = name;
    pipeline.sql("DROP TABLE restored; CREATE TABLE restored (id int PRIMARY KEY)");
    let (at, message) = code(&pipeline, None);
    assert!(at == "source_changed" && message.contains("dropped and made again"), "{message}");
}

#[test]
fn a_slot_that_kept_too_much_is_lost_and_says_so() {
    let server = logical(&["max_slot_wal_keep_size=16MB", "min_wal_size=32MB", "max_wal_size=32MB"]);
    let mut pipeline = Pipeline::new(&server, "kept", &["kept"]);
    pipeline.sql("CREATE TABLE kept (id int PRIMARY KEY, v text)");
    pipeline.load();
    let end = pipeline.changes(None).end();
    for _ in 0..4 {
        pipeline.sql("INSERT INTO kept SELECT i, repeat('x', 500) FROM generate_series(1, 40000) i");
        pipeline.sql("DELETE FROM kept");
        pipeline.sql("SELECT pg_switch_wal()");
        pipeline.sql("CHECKPOINT");
    }
    assert_eq!(pipeline.ask("SELECT wal_status FROM pg_replication_slots"), "lost");
    let (at, message) = code(&pipeline, Some(&end));
    assert!(at == "source_changed" && message.contains("is lost"), "{message}");
    let items = pipeline.source().validate(&pipeline.streams).unwrap();
    let slot = find(&items, "replication slot");
    assert_eq!(slot.status, CheckStatus::Failed);
    assert!(slot.hint.as_deref().unwrap().contains("SELECT pg_drop_replication_slot('rapidbyte_kept')"), "{slot:?}");
    // A load anew makes it again by itself.
    pipeline.loads.clear();
    pipeline.load();
    assert_ne!(pipeline.ask("SELECT wal_status FROM pg_replication_slots"), "lost");
    pipeline.changes(None);
    // Removing it twice does no harm.
    pipeline.source().teardown(&run_context(), &pipeline.streams).unwrap();
    pipeline.source().teardown(&run_context(), &pipeline.streams).unwrap();
    pipeline.loads.clear();
    pipeline.load();
    pipeline.changes(None);
}

#[test]
fn a_changed_publication_is_noticed() {
    let mut pipeline = Pipeline::new(server(), "published", &["published", "published_too"]);
    pipeline.sql("CREATE TABLE published (id int PRIMARY KEY); CREATE TABLE published_too (id int PRIMARY KEY)");
    pipeline.load();
    let end = pipeline.changes(None).end();
    let name = "rapidbyte_published";
    for (breaking, mending, expected) in [
        (
            format!("ALTER PUBLICATION {name} DROP TABLE published"),
            format!("ALTER PUBLICATION {name} ADD TABLE published"),
            "source_changed",
        ),
        (
            format!("ALTER PUBLICATION {name} SET (publish = 'insert')"),
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')"),
            "publication",
        ),
        (
            format!("ALTER PUBLICATION {name} SET TABLE published WHERE (id > 5), published_too"),
            format!("ALTER PUBLICATION {name} SET TABLE published, published_too"),
            "publication",
        ),
    ] {
        pipeline.sql(&breaking);
        assert_eq!(code(&pipeline, Some(&end)).0, expected, "{breaking}");
        pipeline.sql(&mending);
        pipeline.changes(Some(&end));
    }
    // Dropped and made again: some changes were made while it was not there.
    pipeline.sql(&format!("DROP PUBLICATION {name}"));
    pipeline.sql("INSERT INTO published VALUES (1)");
    assert_eq!(code(&pipeline, Some(&end)).0, "source_changed");
    pipeline.sql(&format!("CREATE PUBLICATION {name} FOR TABLE published, published_too"));
    let (at, message) = code(&pipeline, Some(&end));
    assert!(at == "source_changed" && message.contains("was not there when"), "{message}");
}

#[test]
fn a_parent_that_leaves_the_publication_leaves_its_children_there() {
    for (name, more) in [("heirs", ""), ("heirs_alone", "CREATE TABLE heir_alone (PRIMARY KEY (id)) INHERITS (heir_parent)")] {
        let mut pipeline = Pipeline::new(server(), name, &["heir_parent", "heir"]);
        pipeline.sql(&format!(
            "DROP TABLE IF EXISTS heir_parent CASCADE; CREATE TABLE heir_parent (id int PRIMARY KEY);
             CREATE TABLE heir (PRIMARY KEY (id)) INHERITS (heir_parent); {more}"
        ));
        let published = format!("FROM pg_publication_tables WHERE pubname = 'rapidbyte_{name}'");
        let members =
            || server().connect().query(&format!("SELECT string_agg(tablename, ' ' ORDER BY tablename) {published}")).unwrap();
        pipeline.load();
        assert_eq!(members()[0].get(0), Some("heir heir_parent"));
        // The hint's statement takes the parent out and in again.
        pipeline.sql(&format!("ALTER PUBLICATION rapidbyte_{name} SET TABLE ONLY heir_parent WHERE (id > 5), ONLY heir"));
        let error = pipeline.token().unwrap_err();
        pipeline.sql(error.hint.as_deref().unwrap().split('`').nth(1).unwrap());
        assert_eq!(members()[0].get(0), Some("heir heir_parent"));
        let end = pipeline.changes(None).end();
        pipeline.streams.remove(0);
        pipeline.loads.remove(0);
        pipeline.sql("INSERT INTO heir VALUES (1)");
        assert_eq!(pipeline.changes(Some(&end)).changes(0).len(), 1);
        assert_eq!(members()[0].get(0), Some("heir"));
    }
}

#[test]
fn teardown_removes_what_was_made_and_nothing_else() {
    let mut pipeline = Pipeline::new(server(), "torn", &["torn"]);
    pipeline.sql("CREATE TABLE torn (id int PRIMARY KEY)");
    let there = |pipeline: &Pipeline<'_>| {
        let slots = pipeline.ask("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'rapidbyte_torn'");
        (slots, pipeline.ask("SELECT count(*) FROM pg_publication WHERE pubname = 'rapidbyte_torn'"))
    };
    pipeline.load();
    assert_eq!(there(&pipeline), ("1".into(), "1".into()));
    for _ in 0..2 {
        pipeline.source().teardown(&run_context(), &pipeline.streams).unwrap();
        assert_eq!(there(&pipeline), ("0".into(), "0".into()));
    }
    // A publication of somebody else stays.
    pipeline.sql("CREATE PUBLICATION rapidbyte_torn FOR TABLE torn");
    pipeline.loads.clear();
    pipeline.load();
    pipeline.source().teardown(&run_context(), &pipeline.streams).unwrap();
    assert_eq!(there(&pipeline), ("0".into(), "1".into()));
}

/// Plans all streams by one planner.
fn plan_all(pipeline: &Pipeline<'_>) -> Result<(), ConnectorError> {
    let mut planner = pipeline.source();
    let planned = (0..pipeline.streams.len()).try_for_each(|index| planner.plan_partitions(&pipeline.request(index, 1)).map(drop));
    planner.close()?;
    planned
}

fn assert_tried_again(error: &ConnectorError, code: &str) {
    assert_eq!((error.category, error.code.as_str()), (ErrorCategory::TransientDb, code), "{error:?}");
    assert!(error.retryable && error.safe_to_retry && error.hint.is_some(), "{error:?}");
}

#[test]
fn more_new_tables_than_sessions_come_by_several_attempts() {
    let server = logical(&[]);
    let names: Vec<String> = (0..40).map(|number| format!("many_{number}")).collect();
    let pipeline = Pipeline::new(&server, "many", &names.iter().map(String::as_str).collect::<Vec<_>>());
    pipeline.sql(&names.iter().map(|name| format!("CREATE TABLE {name} (id int PRIMARY KEY);")).collect::<String>());
    assert_tried_again(&plan_all(&pipeline).unwrap_err(), "publication_grows");
    assert_eq!(pipeline.ask("SELECT count(*) FROM pg_publication_tables"), "33");
    plan_all(&pipeline).unwrap();
    assert_eq!(pipeline.ask("SELECT count(*) FROM pg_publication_tables"), "40");
}

#[test]
fn a_table_that_is_emptied_behind_the_snapshot_is_planned_again() {
    let pipeline = Pipeline::new(server(), "emptied", &["emptied_a", "emptied_b"]);
    pipeline.sql(
        "CREATE TABLE emptied_a (id int PRIMARY KEY); CREATE TABLE emptied_b (id int PRIMARY KEY); INSERT INTO emptied_b VALUES (1);
         CREATE PUBLICATION rapidbyte_emptied FOR TABLE emptied_a, emptied_b",
    );
    let mut planner = pipeline.source();
    planner.plan_partitions(&pipeline.request(0, 1)).unwrap();
    pipeline.sql("TRUNCATE emptied_b");
    assert_tried_again(&planner.plan_partitions(&pipeline.request(1, 1)).unwrap_err(), "table_rewritten");
    planner.close().unwrap();
    plan_all(&pipeline).unwrap();
}

fn find<'i>(items: &'i [CheckItem], name: &str) -> &'i CheckItem {
    items.iter().find(|item| item.name == name).unwrap_or_else(|| panic!("no item `{name}` in {items:?}"))
}

#[test]
fn check_finds_what_is_missing_and_its_hints_work() {
    let server = PostgresServer::start_with(&["max_replication_slots=1"]);
    let pipeline = Pipeline::new(&server, "looked", &["keyless"]);
    pipeline.sql("CREATE TABLE keyless (id int)");
    let look = |user: &str| {
        let mut config = server.config_json("app");
        config["user"] = user.into();
        let context = rapidbyte_sdk::InitContext { pipeline: Some("looked".into()), blob: None };
        let mut source = source_postgres::PostgresSource::init(config, context).unwrap();
        source.validate(&pipeline.streams).unwrap()
    };
    let items = look("app");
    assert_eq!(find(&items, "wal_level").status, CheckStatus::Failed);
    assert_eq!(find(&items, "replication role").status, CheckStatus::Ok);
    assert_eq!(find(&items, "max_slot_wal_keep_size").status, CheckStatus::Warning);
    let publication = find(&items, "publication");
    assert!(publication.status == CheckStatus::Failed && publication.message.contains("no primary key"), "{publication:?}");
    run_hints(&pipeline, publication);
    assert_eq!(find(&look("app"), "publication").status, CheckStatus::Ok);
    // A user without rights.
    pipeline.sql("CREATE ROLE reader LOGIN PASSWORD 'secret'; GRANT SELECT ON keyless TO reader");
    let items = look("reader");
    for name in ["replication role", "publication"] {
        let item = find(&items, name);
        assert_eq!(item.status, CheckStatus::Failed, "{item:?}");
        run_hints(&pipeline, item);
        assert_eq!(find(&look("reader"), name).status, CheckStatus::Ok);
    }
    assert!(!items.iter().any(|item| item.name == "stream `public.keyless`" && item.status == CheckStatus::Failed), "{items:?}");
    // Streams that are not read by their changes are not asked about it.
    let mut plain = pipeline.streams.clone();
    plain[0].sync_mode = rapidbyte_sdk::SyncMode::FullRefresh;
    assert_eq!(pipeline.source().validate(&plain).unwrap().len(), 2);
}

/// Runs the first statement of an item's hint.
fn run_hints(pipeline: &Pipeline<'_>, item: &CheckItem) {
    let hint = item.hint.as_deref().unwrap();
    let statement = hint.split('`').nth(1).unwrap();
    pipeline.sql(statement);
}

#[test]
fn tables_whose_updates_would_fail_are_not_published() {
    let pipeline = Pipeline::new(server(), "nothing", &["none_key", "none_identity", "none_view", "none_at_once"]);
    pipeline.sql(
        "CREATE TABLE none_key (id int); CREATE TABLE none_identity (id int PRIMARY KEY); ALTER TABLE none_identity REPLICA IDENTITY NOTHING;
         CREATE VIEW none_view AS SELECT 1 AS id; CREATE TABLE none_at_once (id int PRIMARY KEY DEFERRABLE)",
    );
    let plan = |index: usize| pipeline.source().plan_partitions(&pipeline.request(index, 4)).unwrap_err();
    for (index, expected) in [(0, "replica_identity"), (1, "replica_identity"), (2, "not_a_table"), (3, "replica_identity")] {
        assert_eq!(plan(index).code, expected);
    }
    // The application goes on.
    pipeline.sql(
        "INSERT INTO none_key VALUES (1); UPDATE none_key SET id = 2; DELETE FROM none_key; UPDATE none_identity SET id = 1;
              INSERT INTO none_at_once VALUES (1); UPDATE none_at_once SET id = 2; DELETE FROM none_at_once",
    );
    assert_eq!(pipeline.ask("SELECT count(*) FROM pg_publication WHERE pubname = 'rapidbyte_nothing'"), "0");
}

#[test]
fn a_partition_beside_the_root_that_its_changes_come_as_is_refused() {
    let server = logical(&[]);
    for (name, tables) in [("root_first", ["nested", "nested_1"]), ("root_last", ["nested_1", "nested"])] {
        let pipeline = Pipeline::new(&server, name, &tables);
        pipeline.sql(
            "DROP TABLE IF EXISTS nested; CREATE TABLE nested (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE nested_1 PARTITION OF nested FOR VALUES FROM (0) TO (10)",
        );
        let items = pipeline.source().validate(&pipeline.streams).unwrap();
        let item = find(&items, "publication");
        assert!(item.status == CheckStatus::Failed && item.message.contains("both are streams"), "{item:?}");
        let error = plan_all(&pipeline).unwrap_err();
        assert_eq!(error.code, "nested_streams");
        assert!(error.message.starts_with("`public.nested_1` is a partition of `public.nested`"), "{}", error.message);
    }
    // Alone, where a publication sends its changes as the root's.
    let mut pipeline = Pipeline::new(&server, "under", &["nested_1"]);
    for of in ["TABLE nested", "ALL TABLES"] {
        pipeline.sql(&format!(
            "DROP PUBLICATION IF EXISTS rapidbyte_under; CREATE PUBLICATION rapidbyte_under FOR {of} WITH (publish_via_partition_root = true)"
        ));
        let items = pipeline.source().validate(&pipeline.streams).unwrap();
        assert_eq!(find(&items, "publication").status, CheckStatus::Failed, "{of}");
        let error = plan_all(&pipeline).unwrap_err();
        assert_eq!(error.code, "publication", "{of}");
        assert!(error.message.contains("`public.nested_1` as those of `public.nested`"), "{}", error.message);
        // The hint's statement mends it.
        pipeline.sql(error.hint.as_deref().unwrap().rsplit('`').nth(1).unwrap());
        pipeline.loads.clear();
        pipeline.load();
        pipeline.sql("INSERT INTO nested SELECT coalesce(max(id) + 1, 0) FROM nested");
        let read = pipeline.changes(None);
        assert_eq!(read.changes(0).len(), 1, "{of}");
        pipeline.confirm(&read.end());
    }
}
