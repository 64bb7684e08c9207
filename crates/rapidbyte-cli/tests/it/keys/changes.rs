//! The keys of changes: where they are read from, and what becomes of rows that were deleted.

use super::{Pair, Pipeline, Side, pair};
use rapidbyte_testkit::{Database, Postgres};

/// A pipeline over the changes of a table `t`.
fn changes(name: &str, source: &Database<'static>, more: &str, destination: &str) -> Pipeline {
    Pipeline::new()
        .with("pipeline", name)
        .with("source", "source-postgres")
        .with("source_config", format!("{{ {}{more} }}", source.config()))
        .with("stream", "name: t, sync_mode: cdc")
        .with("destination", "dest-postgres")
        .with("destination_config", destination)
}

/// Keys of `source-postgres` beside those of the connection.
pub(super) fn of_source_postgres() -> Vec<Pair> {
    let server = Postgres::shared();
    let named = |key: &str, what: &str, names: [&str; 2]| {
        let sides = names.map(|name| -> Side {
            let (source, target) = (server.database("keys_changes"), server.database("keys_changed"));
            source.sql("CREATE TABLE t (id int PRIMARY KEY)");
            let mut side = changes(name, &source, &format!(", {key}: {name}_named"), &format!("{{ {} }}", target.config()))
                .shows(format!("{what} {name}_named;"));
            let asks = "SELECT 'slot ' || slot_name || ';' FROM pg_replication_slots WHERE database = current_database();
                        SELECT 'publication ' || pubname || ';' FROM pg_publication;
                        SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
            side.asks = Some((source, asks.to_owned()));
            side
        });
        let [one, other] = sides;
        pair(key, one, other)
    };
    let told = |plugin: &str, shows: &str| {
        let (source, target) = (server.database("keys_changes"), server.database("keys_changed"));
        source.sql("CREATE TABLE t (id int PRIMARY KEY)");
        let mut side =
            changes(&format!("by_{plugin}"), &source, &format!(", plugin: {plugin}"), &format!("{{ {} }}", target.config()))
                .shows(shows);
        let asks = "SELECT plugin || ' ' || (SELECT count(*) FROM pg_publication) || ';' FROM pg_replication_slots WHERE database = current_database();
                    SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        side.asks = Some((source, asks.to_owned()));
        side
    };
    // The slot keeps more than the least budget, and less than the largest.
    let lagging = |name: &str, budget: u64, policy: &str, shows: &str| {
        let (source, target) = (server.database("keys_changes"), server.database("keys_changed"));
        source.sql(&format!(
            "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION rapidbyte_{name} FOR TABLE ONLY t;
             CREATE TABLE noise (v text); ALTER TABLE noise ALTER v SET STORAGE EXTERNAL"
        ));
        source.sql(&format!("SELECT pg_create_logical_replication_slot('rapidbyte_{name}', 'pgoutput')"));
        source.sql("INSERT INTO noise SELECT repeat('x', 8000) FROM generate_series(1, 9000)");
        let more = format!(", max_slot_lag_bytes: {budget}, on_slot_lag: {policy}");
        let mut side = changes(name, &source, &more, &format!("{{ {} }}", target.config())).shows(shows);
        let asks = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        side.asks = Some((source, asks.to_owned()));
        side
    };
    let (least, largest) = (64 << 20, 1 << 50);
    vec![
        pair(
            "max_slot_lag_bytes",
            lagging("lag_least", least, "drop_slot", "exit 7"),
            lagging("lag_most", largest, "drop_slot", "exit 0"),
        ),
        pair("on_slot_lag", lagging("lag_warn", least, "warn", "exit 0"), lagging("lag_drop", least, "drop_slot", "exit 7")),
        pair("plugin", told("pgoutput", "pgoutput 1;"), told("test_decoding", "test_decoding 0;")),
        named("replication_slot", "slot", ["ka", "kb"]),
        named("slot_name", "slot", ["kc", "kd"]),
        named("publication_name", "publication", ["ke", "kf"]),
        named("publication", "publication", ["kg", "kh"]),
    ]
}

/// Keys of `dest-postgres` beside those of the connection.
pub(super) fn of_dest_postgres() -> Vec<Pair> {
    let side = |deletes: &str, shows: &str| {
        let database = Postgres::shared().database("keys_deletes");
        database.sql("CREATE TABLE t (id int PRIMARY KEY)");
        let config = format!("{{ {}, schema: kept, deletes: {deletes} }}", database.config());
        let mut side =
            changes(&format!("deletes_{deletes}"), &database, "", &config).with("settings", "  write_mode: upsert\n").shows(shows);
        let asks = "SELECT 'columns ' || string_agg(attname, ' ' ORDER BY attnum) || ';' FROM pg_attribute
                    WHERE attrelid = 'kept.t'::regclass AND attnum > 0 AND NOT attisdropped;
                    SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        side.asks = Some((database, asks.to_owned()));
        side
    };
    vec![pair("deletes", side("hard", "columns id;"), side("soft", "columns id _rb_deleted_at;"))]
}
