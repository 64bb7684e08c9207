//! The keys of incremental streams and of `upsert`.

use super::{Pair, Pipeline, pair};
use rapidbyte_testkit::Postgres;

/// Keys of a pipeline.
pub(super) fn of_pipeline() -> Vec<Pair> {
    let postgres = Postgres::shared();
    let (source, target) = (postgres.database("keys_news"), postgres.database("keys_news_target"));
    source.sql(
        "CREATE TABLE t AS SELECT i AS id, now() + i * interval '1 min' AS at FROM generate_series(1, 100) i;
         CREATE TABLE holes AS SELECT i AS id, CASE WHEN i > 40 THEN i END AS n FROM generate_series(1, 100) i",
    );
    let news = |stream: &str, table: &str| {
        let merged = format!("destination: {{ table: {table}, write_mode: upsert, primary_key: [id] }}");
        Pipeline::new()
            .with("pipeline", table)
            .with("source", "source-postgres")
            .with("source_config", format!("{{ {} }}", source.config()))
            .with("stream", format!("sync_mode: incremental, {stream}, {merged}"))
            .with("destination", "dest-postgres")
            .with("destination_config", format!("{{ {} }}", target.config()))
    };
    vec![
        pair(
            "source.streams[].safe_boundary",
            news("name: t, cursor_field: at, safe_boundary: lookback(5m)", "again").shows("read 6 ").twice(),
            news("name: t, cursor_field: at, safe_boundary: xact_horizon", "once").shows("read 0 ").twice(),
        ),
        pair(
            "source.streams[].null_cursor",
            news("name: holes, cursor_field: n, null_cursor: skip", "skipped").shows("read 60 "),
            news("name: holes, cursor_field: n, null_cursor: include", "included").shows("read 100 "),
        ),
    ]
}

/// Keys of `dest-postgres` beside those of the connection.
pub(super) fn of_dest_postgres() -> Vec<Pair> {
    let side = |skip: bool, place: &str| {
        let database = Postgres::shared().database("keys_identical");
        let mut side = Pipeline::new()
            .with("source_config", "{ pattern: orders, seed: 1, max_events: 1 }")
            .with("destination", "dest-postgres")
            .with("destination_config", format!("{{ {}, upsert_skip_identical: {skip} }}", database.config()))
            .with("settings", "  write_mode: upsert\n  primary_key: [order_id]\n")
            .shows(place)
            .twice();
        side.asks = Some((database, "SELECT 'place ' || ctid FROM orders".to_owned()));
        side
    };
    vec![pair("upsert_skip_identical", side(true, "place (0,1)"), side(false, "place (0,2)")), load_method()]
}

/// A trigger on each staging table notes by which statement rows come in.
fn load_method() -> Pair {
    let side = |method: &str, shows: &str| {
        let database = Postgres::shared().database("keys_method");
        database.sql(
            "CREATE TABLE public.noted (v text);
             CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO public.noted VALUES ('by ' || split_part(current_query(), ' ', 1)); RETURN NULL; END $$;
             CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ DECLARE made text; BEGIN
                 FOR made IN SELECT object_identity FROM pg_event_trigger_ddl_commands()
                     WHERE object_identity LIKE '%.\\_rb\\_load%' AND object_type = 'table' LOOP
                     EXECUTE 'CREATE TRIGGER notes BEFORE INSERT ON ' || made || ' FOR EACH STATEMENT EXECUTE FUNCTION public.note()';
                 END LOOP; END $$;
             CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.watch()",
        );
        let mut side = Pipeline::new()
            .with("destination", "dest-postgres")
            .with("destination_config", format!("{{ {}, load_method: {method} }}", database.config()))
            .shows(shows);
        side.asks = Some((database, "SELECT string_agg(DISTINCT v, ' ') FROM public.noted".to_owned()));
        side
    };
    pair("load_method", side("copy", "by COPY"), side("insert", "by INSERT"))
}
