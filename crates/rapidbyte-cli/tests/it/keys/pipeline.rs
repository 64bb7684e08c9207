//! The keys of a pipeline.

use super::{Pair, Pipeline, Shown, contract, incremental, pair, reading};
use rapidbyte_testkit::Postgres;

const REFUSED: &str = "is not available yet";

fn differs(key: &str, piece: &'static str, one: Shown<'_>, other: Shown<'_>) -> Pair {
    super::differs(key, &Pipeline::new(), piece, one, other)
}

/// The first so many orders pass.
fn filter(orders: u32) -> String {
    let config = format!("{{ where: [ {{ field: order_id, op: le, value: {orders} }} ] }}");
    format!("transforms:\n  - {{ use: transform-filter, config: {config} }}\n")
}

/// A log that rows are appended to can't be loaded anew.
fn lost_slot() -> Pair {
    let side = |policy: &str, shows: &str| {
        let database = Postgres::shared().database("keys_lost_slot");
        database.sql("CREATE TABLE t (id int PRIMARY KEY)");
        let mut side = Pipeline::new()
            .with("pipeline", format!("keys_lost_slot_{policy}"))
            .with("source", "source-postgres")
            .with("source_config", format!("{{ {} }}\n  on_lost_slot: {policy}", database.config()))
            .with("stream", "name: t, sync_mode: cdc")
            .shows(shows);
        let drops = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        side.asks = Some((database, drops.to_owned()));
        side
    };
    pair("source.on_lost_slot", side("fail", "exit 0"), side("resnapshot", "exit 3"))
}

pub(super) fn pairs() -> Vec<Pair> {
    let base = Pipeline::new;
    let postgres = Postgres::shared();
    let wide = postgres.database("keys_wide");
    wide.sql("CREATE TABLE wide AS SELECT 1 AS id, repeat('x', 100000) AS text");
    let evolved = |key: &str, columns: &str, one: Shown<'_>, other: Shown<'_>| {
        let side = |(word, shows): Shown<'_>| {
            let database = postgres.database("keys_evolved");
            database.sql(&format!("CREATE TABLE orders ({columns})"));
            let mut side = base()
                .with("stream", "name: orders, columns: [order_id, status]")
                .with("destination", "dest-postgres")
                .with("destination_config", format!("{{ {} }}", database.config()))
                .with("settings", format!("  schema_evolution: {{ {key}: \"{word}\" }}\n"))
                .shows(shows);
            let sql = "SELECT 'columns ' || string_agg(attname, ',' ORDER BY attnum) || ';' FROM pg_attribute
                       WHERE attrelid = 'orders'::regclass AND attnum > 0";
            side.asks = Some((database, sql.to_owned()));
            side
        };
        pair(&format!("destination.schema_evolution.{key}"), side(one), side(other))
    };
    let resources = |text: &str| base().with("rest", format!("resources: {{ {text} }}\n"));
    let many =
        |text: &str| resources(text).with("source_config", "{ pattern: orders, seed: 1, max_events: 20000, batch_rows: 1000 }");
    let large = |text: &str| {
        resources(text).with("source_config", "{ pattern: sequence, max_events: 600000 }").with("stream", "name: sequence")
    };
    let paced =
        |text: &str| resources(text).with("source_config", "{ max_events: 2500, events_per_second: 1000, batch_rows: 100 }");
    let printed = |text: &str| many(text).with("destination", "dest-stdout").with("destination_config", "{ format: json }");
    // One row of 24 MiB passes both guests, and each holds it more than once.
    let huge = postgres.database("keys_huge");
    huge.sql("CREATE TABLE huge AS SELECT 1 AS id, repeat('x', 24000000) AS text");
    let server = |text: &str, config: String, table: &str| {
        resources(text)
            .with("source", "source-postgres")
            .with("source_config", format!("{{ {config} }}"))
            .with("stream", format!("name: public.{table}"))
    };
    let from_wide = |text: &str| server(text, wide.config(), "wide");
    let hungry = |text: &str| server(&format!("max_record_bytes: 32mb, {text}"), huge.config(), "huge");
    let unreachable =
        |retries: u32| server(&format!("max_retries: {retries}"), "host: 127.0.0.1, port: 1, user: u, database: d".to_owned(), "t");
    let eternal = postgres.database("keys_eternal");
    eternal.sql("CREATE TABLE t AS SELECT d FROM (VALUES ('infinity'::date), ('2024-01-01')) AS v(d)");
    // One row of two is not for files.
    let unfit =
        |policy: &str| server("max_retries: 0", eternal.config(), "t").with("settings", format!("  on_data_error: {policy}\n"));
    let written = |mode: &str| format!("name: orders, destination: {{ write_mode: {mode} }}");
    let mut all = vec![
        differs("version", "version", ("\"1\"", "exit 0"), ("\"3\"", "exit 3")),
        differs("pipeline", "pipeline", ("first", "pipeline first"), ("second", "pipeline second")),
        differs("source.use", "source", ("source-datagen", "read 100"), ("source-none", "exit 3")),
        differs("source.config", "source_config", ("{ max_events: 5 }", "read 5 "), ("{ max_events: 7 }", "read 7 ")),
        lost_slot(),
        differs("source.streams[].name", "stream", ("name: orders", "exit 0"), ("name: others", "others")),
        pair(
            "source.streams[].namespace",
            base()
                .with("source_config", "{ namespace: sales }")
                .with("stream", "name: orders, namespace: sales")
                .shows("stream sales.orders"),
            base().with("stream", "name: orders, namespace: null").shows("stream orders"),
        ),
        differs(
            "source.streams[].sync_mode",
            "stream",
            ("name: orders, sync_mode: full_refresh", "exit 0"),
            ("name: orders, sync_mode: cdc", "in sync mode `cdc`"),
        ),
        differs(
            "source.streams[].cursor_field",
            "stream",
            ("name: orders", "exit 0"),
            ("name: orders, cursor_field: order_id", "cursor_field"),
        ),
        differs(
            "source.streams[].columns",
            "stream",
            ("name: orders, columns: [status, order_id]", "columns status,order_id;"),
            ("name: orders, columns: [order_id]", "columns order_id;"),
        ),
        differs(
            "source.streams[].destination.table",
            "stream",
            ("name: orders, destination: { table: first }", "out/first"),
            ("name: orders, destination: { table: second }", "out/second"),
        ),
        pair(
            "source.streams[].destination.write_mode",
            base().with("stream", written("append")).shows("200 lines").twice(),
            base().with("stream", written("replace")).shows("100 lines").twice(),
        ),
        differs(
            "source.streams[].destination.primary_key",
            "stream",
            ("name: orders", "exit 0"),
            ("name: orders, destination: { primary_key: [order_id] }", "primary_key"),
        ),
        differs(
            "transforms[].use",
            "transforms",
            (&filter(3), "3 lines"),
            ("transforms:\n  - { use: transform-mask, config: { fields: [status] } }\n", "100 lines"),
        ),
        differs("transforms[].config", "transforms", (&filter(3), "3 lines"), (&filter(4), "4 lines")),
        pair("destination.use", base().shows("100 lines"), base().with("destination", "dest-none").shows("exit 3")),
        differs(
            "destination.config",
            "destination_config",
            ("{ path: alpha, format: jsonl }", "alpha/"),
            ("{ path: beta, format: jsonl }", "beta/"),
        ),
        pair(
            "destination.write_mode",
            base().with("settings", "  write_mode: append\n").shows("200 lines").twice(),
            base().with("settings", "  write_mode: replace\n").shows("100 lines").twice(),
        ),
        differs("destination.primary_key", "settings", ("", "exit 0"), ("  primary_key: [order_id]\n", "primary_key")),
        pair("destination.on_data_error", unfit("fail").shows("exit 7"), unfit("skip").shows("exit 20")),
        evolved("new_column", "order_id bigint", ("add", "columns order_id,status;"), ("ignore", "columns order_id;")),
        evolved(
            "removed_column",
            "order_id bigint, status text, gone text",
            ("ignore", "exit 0"),
            ("fail", "is gone from the source"),
        ),
        evolved("type_change", "order_id bigint, status integer", ("null", "exit 0"), ("fail", "the source's is `text`")),
        evolved(
            "nullability_change",
            "order_id bigint, status text, gone text NOT NULL",
            ("allow", "exit 0"),
            ("fail", "is NOT NULL, and the source does not have it any more"),
        ),
        differs("state.backend", "rest", ("state: { backend: sqlite }\n", "exit 0"), ("state: { backend: postgres }\n", REFUSED)),
        differs(
            "state.connection",
            "rest",
            ("state: { connection: here.db }\n", "state here.db"),
            ("state: { connection: below/there.db }\n", "state below/there.db"),
        ),
        pair(
            "resources.parallelism",
            large("parallelism: 1").shows("partitions 1;"),
            large("parallelism: 3").shows("partitions 3;"),
        ),
        pair(
            "resources.max_batch_bytes",
            many("parallelism: 1, checkpoint_interval_rows: 1, max_batch_bytes: 64mb").shows("checkpoints 21;"),
            many("parallelism: 1, checkpoint_interval_rows: 1, max_batch_bytes: 64kb").shows("checkpoints many;"),
        ),
        pair(
            "resources.max_record_bytes",
            from_wide("max_record_bytes: 1mb").shows("exit 0"),
            from_wide("max_record_bytes: 4kb").shows("max_record_bytes"),
        ),
        pair("resources.max_memory", hungry("max_memory: 2gb").shows("exit 0"), hungry("max_memory: 64mb").shows("max_memory")),
        pair(
            "resources.max_inflight_batches",
            printed("parallelism: 1, max_inflight_batches: 1").shows("waited early").unread(),
            printed("parallelism: 1, max_inflight_batches: 100").shows("waited late").unread(),
        ),
        pair(
            "resources.checkpoint_interval_rows",
            many("parallelism: 1, checkpoint_interval_rows: 5000").shows("checkpoints 5;"),
            many("parallelism: 1").shows("checkpoints 1;"),
        ),
        pair(
            "resources.checkpoint_interval_bytes",
            many("parallelism: 1, checkpoint_interval_bytes: 100kb").shows("checkpoints 21;"),
            many("parallelism: 1, checkpoint_interval_bytes: 0").shows("checkpoints 1;"),
        ),
        pair(
            "resources.checkpoint_interval_seconds",
            paced("parallelism: 1, checkpoint_interval_seconds: 1").shows("checkpoints 3;"),
            paced("parallelism: 1").shows("checkpoints 1;"),
        ),
        pair("resources.max_retries", unreachable(0).shows("attempts 1;"), unreachable(2).shows("attempts 3;")),
        pair(
            "resources.compression",
            many("compression: null").shows("not compressed"),
            many("compression: zstd").shows("compressed to "),
        ),
    ];
    all.extend(contract::of_pipeline());
    all.extend(incremental::of_pipeline());
    all.extend(reading::of_pipeline());
    all
}
