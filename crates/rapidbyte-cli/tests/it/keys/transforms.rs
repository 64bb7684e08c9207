//! The keys of the transforms.

use super::{Pair, Pipeline, Shown, differs};

fn transform(name: &str, key: &str, one: Shown<'_>, other: Shown<'_>) -> Pair {
    let base = Pipeline::new().with(
        "source_config",
        "{ seed: 1, max_events: 100, include_sequence: true, custom_fields: [ { name: x, type: utf8, generator: constant, value: secret text } ] }",
    );
    let config = |(words, _): Shown<'_>| format!("transforms:\n  - {{ use: {name}, config: {{ {words} }} }}\n");
    differs(key, &base, "transforms", (&config(one), one.1), (&config(other), other.1))
}

pub(super) fn of_filter() -> Vec<Pair> {
    let filter = |key: &str, one: Shown<'_>, other: Shown<'_>| transform("transform-filter", key, one, other);
    let both = "where: [ { field: order_id, op: le, value: 3 }, { field: order_id, op: ge, value: 3 } ]";
    let few = "where: [ { field: order_id, op: le, value: 3 } ]";
    vec![
        // Orders are numbered from 1, rows from 0.
        filter("where[].field", (few, "has 3 lines"), ("where: [ { field: sequence_number, op: le, value: 3 } ]", "has 4 lines")),
        filter("where[].op", (few, "has 3 lines"), ("where: [ { field: order_id, op: ge, value: 3 } ]", "has 98 lines")),
        filter("where[].value", (few, "has 3 lines"), ("where: [ { field: order_id, op: le, value: 9 } ]", "has 9 lines")),
        filter("match", (&format!("match: all, {both}"), "has 1 lines"), (&format!("match: any, {both}"), "has 100 lines")),
        filter(
            "streams",
            (&format!("streams: [orders], {few}"), "has 3 lines"),
            (&format!("streams: [others], {few}"), "has 100 lines"),
        ),
    ]
}

pub(super) fn of_mask() -> Vec<Pair> {
    let mask = |key: &str, one: Shown<'_>, other: Shown<'_>| transform("transform-mask", key, one, other);
    vec![
        mask("fields", ("fields: [x]", "\"x\":\"***\""), ("fields: [status]", "\"x\":\"secret text\"")),
        mask(
            "method",
            ("fields: [x], keep_first: 2, method: partial", "\"x\":\"se*********\""),
            ("fields: [x], keep_first: 2, method: redact", "belong to method `partial`"),
        ),
        mask("with", ("fields: [x], with: gone", "\"x\":\"gone\""), ("fields: [x], with: away", "\"x\":\"away\"")),
        // HMAC-SHA-256 of `secret text`, by another implementation.
        mask(
            "salt",
            ("fields: [x], method: hash, salt: first salt", "d2fd355515a779d1fff4162a02ab7006dfbe58cd29b54a421199c7e73a1764f7"),
            ("fields: [x], method: hash, salt: other salt", "8f281dde0dfa26451a82379240f7baf3eab9844026382ed6b38bedfe1a8f6567"),
        ),
        mask(
            "keep_first",
            ("fields: [x], method: partial, keep_first: 2", "\"x\":\"se*********\""),
            ("fields: [x], method: partial, keep_first: 3", "\"x\":\"sec********\""),
        ),
        mask(
            "keep_last",
            ("fields: [x], method: partial, keep_last: 2", "\"x\":\"*********xt\""),
            ("fields: [x], method: partial, keep_last: 3", "\"x\":\"********ext\""),
        ),
        mask(
            "rules[].field",
            ("rules: [ { field: x, method: redact } ]", "\"x\":\"***\""),
            ("rules: [ { field: status, method: redact } ]", "\"x\":\"secret text\""),
        ),
        mask(
            "rules[].method",
            ("rules: [ { field: x, method: partial, keep_first: 2 } ]", "\"x\":\"se*********\""),
            ("rules: [ { field: x, method: redact, keep_first: 2 } ]", "belong to method `partial`"),
        ),
        mask(
            "rules[].with",
            ("rules: [ { field: x, method: redact, with: gone } ]", "\"x\":\"gone\""),
            ("rules: [ { field: x, method: redact, with: away } ]", "\"x\":\"away\""),
        ),
        mask(
            "rules[].keep_first",
            ("rules: [ { field: x, method: partial, keep_first: 2 } ]", "\"x\":\"se*********\""),
            ("rules: [ { field: x, method: partial, keep_first: 3 } ]", "\"x\":\"sec********\""),
        ),
        mask(
            "rules[].keep_last",
            ("rules: [ { field: x, method: partial, keep_last: 2 } ]", "\"x\":\"*********xt\""),
            ("rules: [ { field: x, method: partial, keep_last: 3 } ]", "\"x\":\"********ext\""),
        ),
        mask(
            "streams",
            ("streams: [orders], fields: [x]", "\"x\":\"***\""),
            ("streams: [others], fields: [x]", "\"x\":\"secret text\""),
        ),
    ]
}

pub(super) fn of_row_number() -> Vec<Pair> {
    let number = |key: &str, one: Shown<'_>, other: Shown<'_>| transform("transform-row-number", key, one, other);
    vec![
        number("column", ("column: n", "\"n\":100"), ("column: m", "\"m\":100")),
        number("key", ("key: [x]", "\"row_number\":100"), ("key: [absent]", "has no column `absent`")),
        number("streams", ("streams: [orders]", "\"row_number\":100"), ("streams: [others]", "\"secret text\"}")),
    ]
}
