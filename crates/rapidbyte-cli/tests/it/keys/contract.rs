//! The keys of contracts.

use super::{Pair, Pipeline, differs, pair};
use rapidbyte_testkit::Postgres;

/// Keys of a pipeline.
pub(super) fn of_pipeline() -> Vec<Pair> {
    let source = Postgres::shared().database("keys_contract");
    source.sql("CREATE TABLE t AS SELECT i AS id, CASE WHEN i <> 3 THEN 'n' || i END AS note FROM generate_series(1, 10) i");
    let base = Pipeline::new().with("source", "source-postgres").with("source_config", format!("{{ {} }}", source.config()));
    let of = |key: &str, one: (&str, &str), other: (&str, &str)| {
        let stream = |contract: &str| format!("name: public.t, contract: {{ {contract} }}");
        let (one, other) = ((&*stream(one.0), one.1), (&*stream(other.0), other.1));
        differs(&format!("source.streams[].contract.{key}"), &base, "stream", one, other)
    };
    // Rules of the column `id`; a row that breaks one is left out, so that the lines that are written count it.
    let id = |key: &str, one: (&str, &str), other: (&str, &str)| {
        let rules = |rules: &str| format!("on_violation: discard_row, columns: {{ id: {{ {rules} }} }}");
        of(&format!("columns{{}}.{key}"), (&rules(one.0), one.1), (&rules(other.0), other.1))
    };
    let unset = base.clone().with("stream", "name: public.t");
    let dropped = base.clone().with("stream", "name: public.t, contract: { other_columns: discard_column, columns: { id: {} } }");
    vec![
        of(
            "on_violation",
            ("on_violation: fail, columns: { note: { not_null: true } }", "exit 7"),
            ("on_violation: discard_row, columns: { note: { not_null: true } }", "exit 20"),
        ),
        pair("source.streams[].contract.other_columns", unset.shows("columns id,note;"), dropped.shows("columns id;")),
        of(
            "columns{}.on_violation",
            ("columns: { note: { type: int64, on_violation: discard_column } }", "columns id;"),
            ("columns: { note: { type: int64, on_violation: fail } }", "exit 8"),
        ),
        of(
            "columns{}.required",
            ("other_columns: discard_column, columns: { id: {}, gone: { required: false } }", "exit 0"),
            ("other_columns: discard_column, columns: { id: {}, gone: { required: true } }", "`gone` breaks `required`"),
        ),
        of("columns{}.type", ("columns: { id: { type: int32 } }", "exit 0"), ("columns: { id: { type: int16 } }", "not `int16`")),
        of(
            "columns{}.nullable",
            ("other_columns: discard_column, columns: { note: { nullable: true } }", "exit 0"),
            ("other_columns: discard_column, columns: { note: { nullable: false } }", "`note` breaks `nullable`"),
        ),
        of(
            "columns{}.not_null",
            ("other_columns: discard_column, columns: { note: { not_null: false } }", "exit 0"),
            ("other_columns: discard_column, columns: { note: { not_null: true } }", "rule `not_null`"),
        ),
        id("range.min", ("range: { min: 3 }", "8 lines"), ("range: { min: 5 }", "6 lines")),
        id("range.max", ("range: { max: 3 }", "3 lines"), ("range: { max: 5 }", "5 lines")),
        of(
            "columns{}.regex",
            ("on_violation: discard_row, columns: { note: { regex: '^n[12]$' } }", "3 lines"),
            ("on_violation: discard_row, columns: { note: { regex: '^n' } }", "10 lines"),
        ),
        id("one_of", ("one_of: [1, 2]", "2 lines"), ("one_of: [1, 2, 7]", "3 lines")),
    ]
}
