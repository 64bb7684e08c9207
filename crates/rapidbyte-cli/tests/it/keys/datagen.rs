//! The keys of `source-datagen`.

use super::{Pair, Pipeline, Shown, differs, pair};

/// Every batch is a commit, so that batches can be counted.
fn counted() -> Pipeline {
    Pipeline::new().with("rest", "resources: { parallelism: 1, checkpoint_interval_rows: 1 }\n")
}

pub(super) fn pairs() -> Vec<Pair> {
    let base = Pipeline::new();
    let config = |key: &str, base: &Pipeline, one: Shown<'_>, other: Shown<'_>| {
        let braced = |(words, _): Shown<'_>| format!("{{ {words} }}");
        differs(key, base, "source_config", (&braced(one), one.1), (&braced(other), other.1))
    };
    let plain = |key: &str, one: Shown<'_>, other: Shown<'_>| config(key, &base, one, other);
    let timed = |text: &str| format!("max_events: 100, include_timestamp: true, {text}");
    let mut pairs = vec![
        plain(
            "pattern",
            ("pattern: orders, stream_name: orders", "order_id"),
            ("pattern: sequence, stream_name: orders", ",value;"),
        ),
        plain("seed", ("seed: 1", SEED_1), ("seed: 2", SEED_2)),
        config(
            "events_per_second",
            &counted(),
            ("max_events: 100, events_per_second: 100", "checkpoints 11;"),
            ("max_events: 100, events_per_second: 200", "checkpoints 6;"),
        ),
        plain("cdc_mode", ("cdc_mode: true", "can't be read in sync mode"), ("cdc_mode: false", "exit 0")),
        plain("max_events", ("max_events: 5", "read 5 "), ("max_events: 6", "read 6 ")),
        plain("stream_name", ("stream_name: orders", "exit 0"), ("stream_name: named", "named")),
        pair(
            "namespace",
            base.clone()
                .with("source_config", "{ namespace: a }")
                .with("stream", "name: orders, namespace: a")
                .shows("stream a.orders;"),
            base.clone()
                .with("source_config", "{ namespace: b }")
                .with("stream", "name: orders, namespace: b")
                .shows("stream b.orders;"),
        ),
        plain("include_sequence", ("include_sequence: true", "sequence_number"), ("include_sequence: false", "updated_at;")),
        plain("include_timestamp", ("include_timestamp: true", "generated_at"), ("include_timestamp: false", "updated_at;")),
        plain(
            "start_time",
            (&timed("start_time: \"2031-05-06T00:00:00Z\""), "\"generated_at\":\"2031-05-06T00:00:00"),
            (&timed("start_time: \"2032-05-06T00:00:00Z\""), "\"generated_at\":\"2032-05-06T00:00:00"),
        ),
        plain(
            "interval_ms",
            (&timed("interval_ms: 1000"), "\"generated_at\":\"2024-01-01T00:01:39"),
            (&timed("interval_ms: 60000"), "\"generated_at\":\"2024-01-01T01:39:00"),
        ),
        config(
            "batch_rows",
            &counted(),
            ("max_events: 100, batch_rows: 10", "checkpoints 11;"),
            ("max_events: 100, batch_rows: 50", "checkpoints 3;"),
        ),
    ];
    pairs.extend(CUSTOM.iter().map(|(key, one, other)| {
        let field = |(words, _): Shown<'_>| format!("max_events: 100, custom_fields: [ {{ {words} }} ]");
        plain(&format!("custom_fields[].{key}"), (&field(*one), one.1), (&field(*other), other.1))
    }));
    pairs
}

/// The first order of each seed, as `tests/independent/datagen.py` makes it.
const SEED_1: &str = "{\"order_id\":1,\"customer_id\":85109,";
const SEED_2: &str = "{\"order_id\":1,\"customer_id\":32285,";

/// Each key of a custom field, with two fields that differ in it alone. The field is the last of its row.
const CUSTOM: &[(&str, Shown<'static>, Shown<'static>)] = &[
    (
        "name",
        ("name: one, type: int64, generator: sequence", ",one;"),
        ("name: other, type: int64, generator: sequence", ",other;"),
    ),
    (
        "type",
        ("name: x, type: int64, generator: constant, value: 7", "\"x\":7}"),
        ("name: x, type: float64, generator: constant, value: 7", "\"x\":7.0}"),
    ),
    (
        "generator",
        ("name: x, type: int64, generator: sequence", "\"x\":99}"),
        ("name: x, type: int64, generator: random", "can't be made by this generator"),
    ),
    (
        "value",
        ("name: x, type: int64, generator: constant, value: 5", "\"x\":5}"),
        ("name: x, type: int64, generator: constant, value: 6", "\"x\":6}"),
    ),
    (
        "values",
        ("name: x, type: int64, generator: choice, values: [5]", "\"x\":5}"),
        ("name: x, type: int64, generator: choice, values: [6]", "\"x\":6}"),
    ),
    (
        "min",
        ("name: x, type: int64, generator: range, min: 5, max: 5", "\"x\":5}"),
        ("name: x, type: int64, generator: range, min: 6, max: 5", "`min` is greater than `max`"),
    ),
    (
        "max",
        ("name: x, type: int64, generator: range, min: 5, max: 5", "\"x\":5}"),
        ("name: x, type: int64, generator: range, min: 5, max: 4", "`min` is greater than `max`"),
    ),
    (
        "start",
        ("name: x, type: int64, generator: sequence, start: 1000", "\"x\":1000}"),
        ("name: x, type: int64, generator: sequence, start: 2000", "\"x\":2000}"),
    ),
    (
        "step",
        ("name: x, type: int64, generator: sequence, step: 1", "\"x\":99}"),
        ("name: x, type: int64, generator: sequence, step: 3", "\"x\":297}"),
    ),
    (
        "length",
        ("name: x, type: utf8, generator: random, length: 3", "\"x\":\"nrt\"}"),
        ("name: x, type: utf8, generator: random, length: 5", "\"x\":\"nrtgs\"}"),
    ),
    (
        "precision",
        ("name: x, type: decimal, generator: constant, value: \"123.45\", precision: 5", "exit 0"),
        ("name: x, type: decimal, generator: constant, value: \"123.45\", precision: 4", "does not fit decimal(4, 2)"),
    ),
    (
        "scale",
        ("name: x, type: decimal, generator: constant, value: \"1.5\", scale: 1", "\"x\":\"1.5\"}"),
        ("name: x, type: decimal, generator: constant, value: \"1.5\", scale: 3", "\"x\":\"1.500\"}"),
    ),
    (
        "null_percent",
        ("name: x, type: int64, generator: constant, value: 5, null_percent: 0", "\"x\":5}"),
        ("name: x, type: int64, generator: constant, value: 5, null_percent: 100", "\"x\":null}"),
    ),
];
