use super::*;
use serde_json::json;

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("5432".to_owned()),
        "PW" => Some("s3cret: [x]\n- y".to_owned()),
        "NUM" => Some("12345678".to_owned()),
        "FLAG" => Some("true".to_owned()),
        "EMPTY" => Some(String::new()),
        "BIG" => Some("x".repeat(100 << 10)),
        "HUGE_NUM" => Some("99999999999999999999999".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<(Value, Secrets), ConfigError> {
    let mut secrets = Secrets::new();
    let node = parse(text, &env, &mut secrets)?;
    Ok((node.to_json(), secrets))
}

#[test]
fn scalars_are_typed_after_substitution_and_quotes_keep_text() {
    for (text, expected) in [
        ("a: ${PORT}", json!({"a": 5432})),
        ("a: \"${PORT}\"", json!({"a": "5432"})),
        ("a: '${PORT}'", json!({"a": "5432"})),
        ("a: ${PORT}0", json!({"a": 54320})),
        ("a: x${PORT}", json!({"a": "x5432"})),
        ("a: ${FLAG}", json!({"a": true})),
        ("a: '${FLAG}'", json!({"a": "true"})),
        ("a: ${EMPTY}", json!({"a": null})),
        ("a: '${EMPTY}'", json!({"a": ""})),
        ("a: ${NONE:-7}", json!({"a": 7})),
        ("a: \"${NONE:-7}\"", json!({"a": "7"})),
        ("a: ${NONE:-}", json!({"a": null})),
        ("a: $${PORT}", json!({"a": "${PORT}"})),
        ("a: |\n  ${PORT}\n", json!({"a": "5432\n"})),
        ("a: >-\n  ${PORT}\n", json!({"a": "5432"})),
        ("a: !!str 5", json!({"a": "5"})),
        ("a: [\"${PORT}\", 1]", json!({"a": ["5432", 1]})),
        ("a: {b: \"${PORT}\"}", json!({"a": {"b": "5432"}})),
        ("a: # ${NONE}\n  b: 1", json!({"a": {"b": 1}})),
        ("a: &x {b: 1}\nc: *x", json!({"a": {"b": 1}, "c": {"b": 1}})),
        ("a: &p ${PORT}\nb: *p", json!({"a": 5432, "b": 5432})),
        ("---\na: 1\n...\n", json!({"a": 1})),
        ("\u{feff}a: 1", json!({"a": 1})),
        ("1: x", json!({"1": "x"})),
        ("{\"a\": [1, null]}", json!({"a": [1, null]})),
    ] {
        assert_eq!(read(text).expect(text).0, expected, "{text}");
    }
}

#[test]
fn a_value_cannot_change_the_structure() {
    let (value, _) = read("a: ${PW}\nb: 1").expect("valid");
    assert_eq!(value, json!({"a": "s3cret: [x]\n- y", "b": 1}));
}

#[test]
fn substituted_text_is_secret_and_substituted_numbers_are_not() {
    let (_, secrets) = read("a: ${PW}\nb: ${NUM}\nc: ${NONE:-default}\nd: x-${PORT}\ne: ${FLAG}").expect("valid");
    assert!(secrets.contains("s3cret: [x]\n- y"));
    assert!(secrets.contains("5432"), "part of a text");
    assert_eq!(secrets.len(), 2);
    let (_, secrets) = read("b: '${NUM}'").expect("valid");
    assert!(secrets.contains("12345678"));
}

#[test]
fn refusals_name_kind_and_place() {
    use ConfigErrorKind::*;
    let deep = format!("a: {}{}", "[".repeat(64), "]".repeat(64));
    type Case<'a> = (&'a str, ConfigErrorKind, Option<(usize, usize)>, &'a str);
    let cases: &[Case<'_>] = &[
        ("", Syntax, None, "the file is empty"),
        ("# only a comment", Syntax, None, "the file is empty"),
        ("a: 1\nb: 2\na: 3", DuplicateKey, Some((3, 1)), "the key `a` comes twice"),
        ("x:\n  a: 1\n  'a': 2", DuplicateKey, Some((3, 3)), "the key `a` comes twice"),
        ("a: [1, 2", Syntax, None, "malformed YAML"),
        ("a: b: c", Syntax, None, "malformed YAML"),
        ("a: 1\n---\nb: 2", Syntax, None, "a second document"),
        ("a: ${NONE}", Variable, Some((1, 4)), "the variable `NONE` is not set"),
        ("x:\n  - ok\n  - ${NONE:?ask}", Variable, Some((3, 5)), "ask"),
        ("${PORT}: 1", Variable, Some((1, 1)), "variables are not replaced in keys"),
        ("a: !secret x", Syntax, Some((1, 4)), "tags are not supported"),
        ("a: !!int '5'", Syntax, None, "tags are not supported"),
        ("a: &b [*b]", Syntax, Some((1, 8)), "not complete"),
        ("a: &b {c: 1}\nd:\n  <<: *b", Syntax, Some((3, 3)), "does not merge"),
        ("[a, b]: 1", Syntax, None, "a key must be a word"),
        ("a: ${HUGE_NUM}", InvalidValue, Some((1, 4)), "does not fit into 64 bits"),
        ("a: .inf", InvalidValue, Some((1, 4)), "infinite"),
        (&deep, TooLarge, None, "nested deeper than 64"),
    ];
    for (text, kind, place, message) in cases {
        let error = read(text).expect_err(text);
        assert_eq!(error.kind(), *kind, "{text}: {error}");
        assert!(error.message().contains(message), "{text}: {error}");
        if let Some((line, column)) = *place {
            assert_eq!(error.mark(), Some(Mark { line, column }), "{text}: {error}");
        }
    }
}

#[test]
fn errors_do_not_repeat_substituted_values() {
    let error = read("a: ${HUGE_NUM}").expect_err("too large");
    assert!(!format!("{error} {:?}", error.hint()).contains("999"), "{error}");
}

#[test]
fn a_variable_in_braces_gets_the_advice_to_quote() {
    let error = read("a: { b: ${PORT} }").expect_err("malformed");
    assert!(error.hint().is_some_and(|hint| hint.contains("in quotes")), "{error} {:?}", error.hint());
}

#[test]
fn depth_up_to_the_cap_is_accepted_also_through_aliases() {
    let nested = |depth: usize| format!("a: {}{}", "[".repeat(depth), "]".repeat(depth));
    read(&nested(63)).expect("64 levels with the mapping");
    let through_alias = format!("a: &x {}{}\nb: {}*x{}", "[".repeat(40), "]".repeat(40), "[".repeat(40), "]".repeat(40));
    assert_eq!(read(&through_alias).expect_err("81 levels").kind(), ConfigErrorKind::TooLarge);
}

#[test]
fn bombs_are_refused_before_they_grow() {
    // The classic: ten levels, each ten times the one before.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..10 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    assert_eq!(read(&bomb).expect_err("a bomb").kind(), ConfigErrorKind::TooLarge);
    let variables = format!("a: \"{}\"", "${BIG}".repeat(100));
    assert_eq!(read(&variables).expect_err("a bomb").kind(), ConfigErrorKind::TooLarge);
    let brackets = "[".repeat(500_000);
    assert!(read(&brackets).is_err());
    let scalars = format!("[{}]", "a,".repeat(400_000));
    assert_eq!(read(&scalars).expect_err("many nodes").kind(), ConfigErrorKind::TooLarge);
    assert_eq!(read(&"x".repeat((1 << 20) + 1)).expect_err("large").kind(), ConfigErrorKind::TooLarge);
}

#[test]
fn damaged_documents_never_panic() {
    let text = "a: &x {b: [1, \"${PORT}\", 'q'], c: |\n    block\n  }\nd: *x # end\ne:\n  - f: >-\n      g\n    ? h\n    : i\n";
    let interesting = b"\0\t\n \"'#&*!|>-?:,[]{}%@`$~\xc3\xff";
    for at in 0..text.len() {
        let _ = read(&text[..at]);
        for byte in interesting {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = *byte;
            let _ = read(&String::from_utf8_lossy(&bytes));
            bytes.insert(at, *byte);
            let _ = read(&String::from_utf8_lossy(&bytes));
        }
    }
}
