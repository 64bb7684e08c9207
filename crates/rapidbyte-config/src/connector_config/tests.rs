use super::*;
use crate::manifest::FsMode;
use serde_json::{Value, json};
use std::path::Path;

fn schema(mut body: Value) -> Value {
    body["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    body
}

fn check(body: Value, config: Value) -> Result<ConfigGrants, InvalidConfig> {
    ConfigSchema::parse(&schema(body)).expect("a schema").check(&config, Path::new("/base"))
}

fn postgres() -> Value {
    json!({
        "type": "object",
        "required": ["host", "user", "password"],
        "additionalProperties": false,
        "properties": {
            "host": { "type": "string", "minLength": 1, "x-rapidbyte-host": true },
            "port": { "type": "integer", "minimum": 1, "maximum": 65535, "default": 5432 },
            "user": { "type": "string" },
            "password": { "type": "string", "x-rapidbyte-secret": true },
            "sslmode": { "enum": ["disable", "prefer", "require"], "default": "prefer" },
            "sslrootcert": { "type": "string", "x-rapidbyte-tls": "ca" },
            "sslcert": { "type": "string", "x-rapidbyte-tls": "cert" },
            "sslkey": { "type": "string", "x-rapidbyte-tls": "key" },
            "spool": { "type": "string", "x-rapidbyte-path": "read-write", "default": "./spool" },
            "seeds": { "type": "array", "items": { "$ref": "#/definitions/seed" } },
        },
        "definitions": { "seed": { "type": "string", "x-rapidbyte-path": "read" } },
    })
}

#[test]
fn marks_become_grants_and_the_guest_sees_only_its_part() {
    let grants = check(
        postgres(),
        json!({
            "host": "db.example.com", "user": "u", "password": "hunter22",
            "sslrootcert": "certs/ca.pem", "sslcert": "/etc/c.pem", "sslkey": "k.pem",
            "seeds": ["a", "/b"],
        }),
    )
    .expect("valid");
    let secrets: Vec<&str> = grants.secrets.iter().map(crate::Secret::expose).collect();
    assert_eq!(secrets, ["hunter22"]);
    assert_eq!(grants.hosts, ["db.example.com"]);
    let tls = TlsFiles { ca: Some("/base/certs/ca.pem".into()), cert: Some("/etc/c.pem".into()), key: Some("/base/k.pem".into()) };
    assert_eq!(grants.tls, tls);
    let grant = |pointer: &str, host: &str, guest: &str, mode| PathGrant {
        pointer: pointer.into(),
        host_path: host.into(),
        guest_path: guest.into(),
        mode,
    };
    assert_eq!(
        grants.paths,
        [
            grant("/seeds/0", "/base/a", "/grants/seeds-0", FsMode::Read),
            grant("/seeds/1", "/b", "/grants/seeds-1", FsMode::Read),
            grant("/spool", "/base/./spool", "/grants/spool", FsMode::ReadWrite),
        ]
    );
    assert_eq!(
        grants.guest_config,
        json!({
            "host": "db.example.com", "user": "u", "password": "hunter22",
            "seeds": ["/grants/seeds-0", "/grants/seeds-1"],
            "port": 5432, "sslmode": "prefer", "spool": "/grants/spool",
        })
    );
    assert!(!format!("{grants:?}").contains("hunter22"));
}

#[test]
fn every_problem_is_reported_without_values() {
    let error = check(
        postgres(),
        json!({ "host": "", "pasword": "canary-pw", "port": 70000, "sslmode": "requird", "user": 7, "seeds": ["a", false] }),
    )
    .expect_err("invalid");
    let problems: Vec<(&str, &str, Option<&str>)> = error
        .problems()
        .iter()
        .map(|problem| (problem.pointer.as_str(), problem.message.as_str(), problem.hint.as_deref()))
        .collect();
    for expected in [
        ("", "unknown key `pasword`", Some("did you mean `password`?")),
        ("", "missing `password`", Some("is `pasword` meant to be `password`?")),
        ("/host", "must not be empty", None),
        ("/port", "must be at most 65535", None),
        ("/sslmode", "not one of: `disable`, `prefer`, `require`", Some("did you mean `require`?")),
        ("/user", "expected string, found number", Some("put the value in quotes")),
        ("/seeds/1", "expected string, found boolean", Some("put the value in quotes")),
    ] {
        assert!(problems.contains(&expected), "{expected:?} not in {problems:#?}");
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
    assert!(error.hint().is_some());
}

/// Whatever the schema says, a value must not come back in an error.
#[test]
fn no_error_repeats_a_value() {
    let canary = "canary-7777";
    for rule in [
        json!({ "type": "integer" }),
        json!({ "enum": ["a"] }),
        json!({ "const": "a" }),
        json!({ "pattern": "^x$" }),
        json!({ "maxLength": 1 }),
        json!({ "minLength": 100 }),
        json!({ "format": "ipv4" }),
        json!({ "not": { "type": "string" } }),
        json!({ "anyOf": [{ "type": "integer" }, { "enum": ["b"] }] }),
        json!({ "oneOf": [{ "type": "integer" }, { "pattern": "^y" }] }),
        json!({ "oneOf": [{ "type": "string" }, { "minLength": 1 }] }),
        json!({ "allOf": [{ "const": 1 }] }),
        json!({ "if": { "type": "string" }, "then": { "maxLength": 2 } }),
        json!(false),
        json!({ "type": "array" }),
        json!({ "type": "object", "x-rapidbyte-secret": true }),
    ] {
        let body = json!({ "properties": { "v": rule.clone() } });
        let error = check(body, json!({ "v": canary })).expect_err(&rule.to_string());
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(!shown.contains("canary"), "{rule}: {shown}");
        assert!(shown.contains("/v"), "{rule}: {shown}");
    }
    for (rule, value) in [
        (json!({ "uniqueItems": true }), json!([canary, canary])),
        (json!({ "contains": { "type": "integer" } }), json!([canary])),
        (json!({ "maxItems": 1 }), json!([canary, 1])),
        (json!({ "items": [{}], "additionalItems": false }), json!([1, canary])),
        (json!({ "minProperties": 2 }), json!({ "k": canary })),
        (json!({ "required": ["z"] }), json!({ "k": canary })),
        (json!({ "dependencies": { "k": ["z"] } }), json!({ "k": canary })),
        (json!({ "propertyNames": { "maxLength": 0 } }), json!({ "k": canary })),
        (json!({ "additionalProperties": { "type": "integer" } }), json!({ "k": canary })),
    ] {
        let error = check(json!({ "properties": { "v": rule.clone() } }), json!({ "v": value })).expect_err(&rule.to_string());
        let shown = format!("{error} {error:?} {:?}", error.hint());
        assert!(!shown.contains("canary"), "{rule}: {shown}");
    }
}

#[test]
fn a_key_that_nobody_reads_is_refused_even_if_the_schema_forgets_to() {
    let open = json!({ "properties": { "fields": { "type": "array" } } });
    let error = check(open, json!({ "feilds": [] })).expect_err("unknown");
    assert_eq!(error.problems()[0].hint.as_deref(), Some("did you mean `fields`?"));
    let error = check(json!({}), json!({ "x": 1 })).expect_err("unknown");
    assert_eq!(error.problems()[0].hint.as_deref(), Some("the connector takes no configuration here"));
    check(json!({ "additionalProperties": true }), json!({ "x": 1 })).expect("the schema says so");
    let branches = json!({ "allOf": [{ "properties": { "a": {} } }, { "$ref": "#/definitions/b" }],
        "definitions": { "b": { "properties": { "b": {} } } } });
    check(branches.clone(), json!({ "a": 1, "b": 2 })).expect("named in branches");
    check(branches, json!({ "c": 1 })).expect_err("named nowhere");
    let nested = json!({ "properties": { "tls": { "additionalProperties": false, "properties": { "verify": {} } } } });
    let error = check(nested, json!({ "tls": { "verfy": 1 } })).expect_err("unknown below");
    assert_eq!(error.problems()[0].to_string(), "`/tls`: unknown key `verfy`");
    assert_eq!(error.hint(), Some("did you mean `verify`?"));
    assert_eq!(check(json!({}), json!([])).expect_err("a list").to_string(), "expected an object, found array");
}

#[test]
fn secrets_are_found_in_every_branch_and_shape() {
    let body = json!({ "properties": {
        "auth": { "oneOf": [
            { "additionalProperties": false, "properties": { "token": { "type": "string", "x-rapidbyte-secret": true } } },
            { "additionalProperties": false, "properties": { "pin": { "type": "integer", "x-rapidbyte-secret": true } } },
        ]},
        "keys": { "type": "array", "x-rapidbyte-secret": true },
        "headers": { "additionalProperties": { "type": "string", "x-rapidbyte-secret": true } },
    }});
    let config = json!({ "auth": { "pin": 123_456 }, "keys": ["k-one-1", { "x": "k-two-2" }], "headers": { "h": "head-er" } });
    let expected = ["123456", "k-one-1", "k-two-2", "head-er"];
    let grants = check(body.clone(), config.clone()).expect("valid");
    let secrets: Vec<&str> = grants.secrets.iter().map(crate::Secret::expose).collect();
    assert_eq!(secrets, expected);
    // Also of a configuration that is not valid.
    let mut config = config;
    config["nope"] = json!(1);
    let found = ConfigSchema::parse(&schema(body)).expect("a schema").secrets(&config);
    assert_eq!(found.iter().map(crate::Secret::expose).collect::<Vec<_>>(), expected);
}

#[test]
fn grants_that_make_no_sense_are_refused() {
    let key_only = json!({ "host": "h", "user": "u", "password": "p", "sslkey": "k.pem" });
    assert!(check(postgres(), key_only).expect_err("half a pair").to_string().contains("one of them is missing"));
    let empty = json!({ "host": "h", "user": "u", "password": "p", "spool": "" });
    assert_eq!(check(postgres(), empty).expect_err("no path").to_string(), "`/spool`: not a path");
    let twice = json!({ "properties": {
        "a": { "type": "string", "x-rapidbyte-tls": "ca" }, "b": { "type": "string", "x-rapidbyte-tls": "ca" } } });
    assert!(check(twice, json!({ "a": "x", "b": "y" })).expect_err("two").to_string().contains("a second file for TLS `ca`"));
}

#[test]
fn two_places_never_share_a_guest_path() {
    let body = json!({ "additionalProperties": { "type": "string", "x-rapidbyte-path": "read" } });
    let grants = check(body, json!({ "a b": "x", "a-b": "y", "a/b": "z", "a-b.2": "w" })).expect("valid");
    let mut paths: Vec<&str> = grants.paths.iter().map(|grant| grant.guest_path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), 4, "{paths:?}");
}

#[test]
fn defaults_fill_what_is_absent_also_below() {
    let body = json!({ "properties": {
        "a": { "default": { "x": 1 }, "properties": { "x": { "default": 9 }, "y": { "default": 2 } } },
        "list": { "items": { "properties": { "n": { "default": 0 } } } },
        "nul": { "default": 5 },
    }});
    let grants = check(body, json!({ "list": [{}, { "n": 7 }], "nul": null })).expect("valid");
    assert_eq!(grants.guest_config, json!({ "list": [{ "n": 0 }, { "n": 7 }], "nul": null, "a": { "x": 1, "y": 2 } }));
}

#[test]
fn schemas_that_cannot_be_trusted_are_refused() {
    let deep = (0..100).fold(json!({}), |inner, _| json!({ "properties": { "x": inner } }));
    let fan: serde_json::Map<String, Value> = (0..30)
        .map(|i| {
            let next = json!({ "$ref": format!("#/definitions/d{}", i + 1) });
            (format!("d{i}"), json!({ "allOf": [next.clone(), next] }))
        })
        .chain([("d30".to_owned(), json!({}))])
        .collect();
    let many_refs: serde_json::Map<String, Value> =
        (0..300).map(|i| (format!("p{i}"), json!({ "$ref": "#/definitions/x" }))).collect();
    for (name, body, message) in [
        ("remote", json!({ "properties": { "a": { "$ref": "http://example.com/x" } } }), "into the schema itself"),
        ("file", json!({ "$ref": "other.json" }), "into the schema itself"),
        ("dangling", json!({ "$ref": "#/definitions/none" }), "into the schema itself"),
        ("loop", json!({ "$ref": "#" }), "without end"),
        (
            "loop of two",
            json!({ "definitions": { "a": { "$ref": "#/definitions/b" }, "b": { "not": { "$ref": "#/definitions/a" } } } }),
            "without end",
        ),
        ("fan", json!({ "definitions": fan, "$ref": "#/definitions/d0" }), "too many branches"),
        ("refs", json!({ "definitions": { "x": {} }, "properties": many_refs }), "at most 256"),
        ("deep", deep, "nested deeper"),
        ("large", json!({ "description": "x".repeat(MAX_SCHEMA_BYTES) }), "bytes, more than"),
        ("not a schema", json!({ "type": "strng" }), "not a valid schema"),
        ("bad pattern", json!({ "pattern": "(" }), "not a valid schema"),
        ("look-around", json!({ "pattern": "(?=a)" }), "not a valid schema"),
        ("inner id", json!({ "properties": { "a": { "$id": "http://x/y" } } }), "only the root"),
        ("unknown mark", json!({ "properties": { "a": { "x-rapidbyte-secrt": true } } }), "did you mean `x-rapidbyte-secret`?"),
        ("mark value", json!({ "properties": { "a": { "x-rapidbyte-secret": "yes" } } }), "takes `true`"),
        ("path mode", json!({ "properties": { "a": { "x-rapidbyte-path": "write" } } }), "takes one of: `read`, `read-write`"),
        ("path type", json!({ "properties": { "a": { "type": "integer", "x-rapidbyte-path": "read" } } }), "not a string"),
        (
            "two marks",
            json!({ "properties": { "a": { "x-rapidbyte-path": "read", "x-rapidbyte-host": true } } }),
            "exclude each other",
        ),
        ("hidden mark", json!({ "patternProperties": { "^a": { "x-rapidbyte-secret": true } } }), "marks are not read there"),
        ("tuple mark", json!({ "properties": { "a": { "items": [{ "x-rapidbyte-secret": true }] } } }), "marks are not read there"),
        ("endless defaults", json!({ "properties": { "x": { "$ref": "#", "default": {} } } }), "can't be filled in"),
    ] {
        let error = ConfigSchema::parse(&schema(body)).expect_err(name);
        assert!(error.to_string().contains(message), "{name}: {error}");
    }
    for (value, message) in [
        (json!([]), "expected an object"),
        (json!({}), "`$schema` is missing"),
        (
            json!({ "$schema": "https://json-schema.org/draft/2020-12/schema" }),
            "expected `http://json-schema.org/draft-07/schema#`",
        ),
    ] {
        assert!(ConfigSchema::parse(&value).expect_err(message).to_string().contains(message));
    }
    // A property may have any name, also a keyword's or a mark's.
    let named = json!({ "properties": { "$ref": { "type": "string" }, "x-rapidbyte-secret": { "type": "string" } } });
    ConfigSchema::parse(&schema(named)).expect("names are not keywords");
    // Recursion that ends with the value is fine.
    let tree = json!({ "properties": { "root": { "$ref": "#/definitions/node" } }, "definitions": { "node": {
        "additionalProperties": false,
        "properties": { "next": { "$ref": "#/definitions/node" }, "pw": { "type": "string", "x-rapidbyte-secret": true } } } } });
    let grants = check(tree, json!({ "root": { "next": { "next": { "pw": "deep-secret" } } } })).expect("valid");
    assert_eq!(grants.secrets.len(), 1);
}

#[test]
fn patterns_run_in_linear_time() {
    let body = json!({ "properties": { "v": { "type": "string", "pattern": "^(a+)+$" } } });
    let started = std::time::Instant::now();
    check(body, json!({ "v": format!("{}!", "a".repeat(50_000)) })).expect_err("no match");
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

/// The longest chain of references that is let in does not exhaust the stack of an ordinary thread.
#[test]
fn long_chains_of_references_are_followed() {
    let definitions: serde_json::Map<String, Value> = (0..255)
        .map(|i| (format!("d{i}"), json!({ "properties": { "x": { "$ref": format!("#/definitions/d{}", i + 1) } } })))
        .chain([("d255".to_owned(), json!({ "type": "integer" }))])
        .collect();
    let body = schema(json!({ "definitions": definitions, "properties": { "x": { "$ref": "#/definitions/d0" } } }));
    let parsed = ConfigSchema::parse(&body).expect("within the cap");
    parsed.check(&json!({ "x": { "x": { "x": {} } } }), Path::new("/")).expect("valid");
}
