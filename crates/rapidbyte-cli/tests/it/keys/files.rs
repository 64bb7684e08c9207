//! The keys of `dest-file` and `dest-stdout`.

use super::{Pair, Pipeline, Shown, differs};
use rapidbyte_testkit::Postgres;

pub(super) fn of_dest_file() -> Vec<Pair> {
    // Small batches, so that a file can be closed between two; and a column that is empty.
    let base = Pipeline::new().with(
        "source_config",
        "{ seed: 1, max_events: 100, batch_rows: 10, custom_fields: [ { name: x, type: int64, generator: constant, value: 5, null_percent: 100 } ] }",
    );
    let file = |key: &str, one: Shown<'_>, other: Shown<'_>| {
        let config = |(words, _): Shown<'_>| format!("{{ path: out, {words} }}");
        differs(key, &base, "destination_config", (&config(one), one.1), (&config(other), other.1))
    };
    vec![
        differs(
            "path",
            &base,
            "destination_config",
            ("{ path: alpha, format: jsonl }", "alpha/"),
            ("{ path: beta, format: jsonl }", "beta/"),
        ),
        file("format", ("format: jsonl", "100 lines"), ("format: csv", "101 lines")),
        file("compression", ("compression: snappy", "SNAPPY"), ("compression: none", "UNCOMPRESSED")),
        file(
            "file_bytes",
            ("format: jsonl, file_bytes: 4096", "several files"),
            ("format: jsonl, file_bytes: 1000000", "one file"),
        ),
        file("row_group_rows", ("row_group_rows: 10", "10 row groups"), ("row_group_rows: 100", "has 1 row groups")),
        file(
            "csv.header",
            ("format: csv, csv: { header: true }", "101 lines"),
            ("format: csv, csv: { header: false }", "100 lines"),
        ),
        file(
            "csv.delimiter",
            ("format: csv, csv: { delimiter: \";\" }", ";updated_at;x"),
            ("format: csv, csv: { delimiter: \"|\" }", "|updated_at|x"),
        ),
        unsupported_values(),
        file("csv.null", ("format: csv, csv: { \"null\": NIL }", ",NIL\n"), ("format: csv, csv: { \"null\": NONE }", ",NONE\n")),
    ]
}

/// Only PostgreSQL has a value that no file can hold.
fn unsupported_values() -> Pair {
    let database = Postgres::shared().database("keys_files");
    database.sql("CREATE TABLE t AS SELECT 'infinity'::date AS d");
    let base = Pipeline::new()
        .with("source", "source-postgres")
        .with("source_config", format!("{{ {} }}", database.config()))
        .with("stream", "name: t")
        .with("rest", "resources: { max_retries: 0 }\n");
    let config = |policy: &str| format!("{{ path: out, format: jsonl, unsupported_values: {policy} }}");
    differs(
        "unsupported_values",
        &base,
        "destination_config",
        (&config("null"), "{\"d\":null}"),
        (&config("text"), "{\"d\":\"infinity\"}"),
    )
}

pub(super) fn of_dest_stdout() -> Vec<Pair> {
    let base = Pipeline::new().with("destination", "dest-stdout").with(
        "source_config",
        "{ seed: 1, max_events: 100, custom_fields: [ { name: x, type: utf8, generator: constant, value: abcdefghijkl } ] }",
    );
    let printed = |key: &str, one: Shown<'_>, other: Shown<'_>| {
        let config = |(words, _): Shown<'_>| format!("{{ {words} }}");
        differs(key, &base, "destination_config", (&config(one), one.1), (&config(other), other.1))
    };
    vec![
        printed("format", ("format: json", "{\"order_id\":1,"), ("format: pretty", "order_id ")),
        printed("max_rows", ("format: json, max_rows: 2", "printed 2 lines"), ("format: json, max_rows: 3", "printed 3 lines")),
        printed("max_width", ("max_width: 4", "abc…"), ("max_width: 40", "abcdefghijkl")),
        printed(
            "include_stream",
            ("format: json, include_stream: true", "{\"stream\":\"orders\","),
            ("format: json, include_stream: false", "\n{\"order_id\":1,"),
        ),
    ]
}
