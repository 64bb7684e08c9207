//! The keys of what is read: which streams, which rows, in how many shares.

use super::{Pair, Pipeline, differs, pair};
use rapidbyte_testkit::Postgres;

/// Keys of a pipeline.
pub(super) fn of_pipeline() -> Vec<Pair> {
    let source = Postgres::shared().database("keys_chosen");
    source.sql(
        "CREATE TABLE a AS SELECT i AS id FROM generate_series(1, 100) i; CREATE TABLE b AS SELECT i AS id FROM generate_series(1, 30) i",
    );
    let base = Pipeline::new().with("source", "source-postgres").with("source_config", format!("{{ {} }}", source.config()));
    vec![
        differs(
            "source.streams[].exclude",
            &base,
            "stream",
            ("name: 'public.*', exclude: [a]", "stream public.b;"),
            ("name: 'public.*', exclude: [b]", "stream public.a;"),
        ),
        differs(
            "source.streams[].filter",
            &base,
            "stream",
            ("name: public.a, filter: id > 90", "read 10 "),
            ("name: public.a, filter: id > 80", "read 20 "),
        ),
    ]
}

/// Keys of `source-postgres` beside those of the connection.
pub(super) fn of_source_postgres() -> Vec<Pair> {
    let source = Postgres::shared().database("keys_split");
    source.sql("CREATE TABLE t AS SELECT i AS id, repeat('x', 100) AS note FROM generate_series(1, 3000) i");
    let side = |bytes: u64, shows: &str| {
        Pipeline::new()
            .with("source", "source-postgres")
            .with("source_config", format!("{{ {}, split_above_bytes: {bytes} }}", source.config()))
            .with("stream", "name: public.t")
            .with("rest", "resources: { parallelism: 3 }\n")
            .shows(shows)
    };
    vec![pair("split_above_bytes", side(8192, "partitions 3;"), side(100_000_000, "partitions 1;"))]
}
