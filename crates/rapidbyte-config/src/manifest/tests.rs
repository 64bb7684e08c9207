use super::*;
use ManifestErrorKind::*;
use serde_json::{Value, json};

/// A component of two custom sections: enough to be one to its frames.
fn component() -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.extend(binary::custom_section("a", b"first").expect("small"));
    bytes.extend(binary::custom_section("name", &[7; 200]).expect("small"));
    bytes
}

/// The format of the specification, word for word.
fn example() -> Value {
    json!({ "manifest_version": "1.0", "id": "rapidbyte/source-postgres", "name": "PostgreSQL Source", "version": "0.1.0",
      "description": "…", "author": "…", "license": "…", "protocol_version": "2",
      "artifact": { "entry_point": "source_postgres.wasm", "min_memory_mb": 64 },
      "permissions": { "network": { "tls": "optional", "allowed_domains": [], "allow_runtime_config_domains": true },
                       "env": { "allowed_vars": ["PGSSLROOTCERT"] }, "fs": {} },
      "roles": { "source": { "supported_sync_modes": ["full_refresh", "incremental"], "features": [] } },
      "config_schema": { "$schema": "http://json-schema.org/draft-07/schema#" } })
}

fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    Manifest::parse(value.to_string().as_bytes())
}

#[test]
fn the_example_is_read_completely_and_written_back_the_same() {
    let manifest = parse(&example()).expect("valid");
    assert_eq!(manifest.roles(), [Role::Source]);
    assert!(manifest.has_role(Role::Source) && !manifest.has_role(Role::Destination));
    assert!(manifest.supports_sync_mode(rapidbyte_types::SyncMode::Incremental));
    assert!(!manifest.supports_sync_mode(rapidbyte_types::SyncMode::Cdc));
    assert!(!manifest.supports_write_mode(rapidbyte_types::WriteMode::Append));
    let network = manifest.permissions.network.as_ref().expect("asked for");
    assert_eq!((network.tls, network.allow_runtime_config_domains), (TlsRule::Optional, true));
    assert_eq!(serde_json::to_value(&manifest).expect("JSON"), example());
}

#[test]
fn what_is_not_asked_for_is_not_granted() {
    let mut least = example();
    least.as_object_mut().expect("object").remove("permissions");
    let manifest = parse(&least).expect("valid");
    assert_eq!(manifest.permissions, Permissions::default());
    assert!(manifest.permissions.network.is_none());
    least["permissions"] = json!({ "network": {} });
    let network = parse(&least).expect("valid").permissions.network.expect("asked for");
    assert_eq!((network.tls, network.allow_runtime_config_domains, network.allowed_domains.len()), (TlsRule::Required, false, 0));
}

#[test]
fn a_destination_says_what_it_promises() {
    let mut value = example();
    value["roles"] = json!({ "destination": { "supported_write_modes": ["append"], "delivery": "at_least_once" } });
    let manifest = parse(&value).expect("valid");
    assert_eq!(manifest.roles.destination.as_ref().expect("there").delivery, Delivery::AtLeastOnce);
    value["roles"]["destination"].as_object_mut().expect("object").remove("delivery");
    assert_eq!(parse(&value).expect("valid").roles.destination.expect("there").delivery, Delivery::ExactlyOnce);
}

#[test]
fn a_utility_has_nothing_to_declare() {
    let mut value = example();
    value["roles"] = json!({ "utility": {} });
    let manifest = parse(&value).expect("valid");
    assert_eq!(manifest.roles(), [Role::Utility]);
    assert!(manifest.has_role(Role::Utility) && !manifest.has_role(Role::Source));
    assert!(!manifest.supports_sync_mode(rapidbyte_types::SyncMode::FullRefresh) && !manifest.is_stateful());
    assert_eq!(serde_json::to_value(&manifest).expect("JSON"), value, "written back the same");
    value["roles"]["utility"] = json!({ "features": [] });
    let error = parse(&value).expect_err("no keys");
    assert_eq!(error.kind(), UnknownKey);
    assert!(error.to_string().contains("`features` in `roles.utility`"), "{error}");
}

#[test]
fn lies_and_mistakes_are_refused() {
    let preopen = |host: &str, guest: &str| json!({ "preopens": [{ "host": host, "guest": guest, "mode": "read" }] });
    for (pointer, key, value, kind, message, hint) in [
        ("", "nmae", json!(1), UnknownKey, "unknown key `nmae`", "did you mean `name`?"),
        ("/artifact", "check_sum", json!(1), UnknownKey, "in `artifact`", "did you mean `checksum`?"),
        ("/permissions", "netwrk", json!({}), UnknownKey, "`netwrk`", "did you mean `network`?"),
        ("/permissions/network", "allowed_domain", json!([]), UnknownKey, "`allowed_domain`", "did you mean `allowed_domains`?"),
        ("/permissions/fs", "preopens", json!([{ "hst": "/x" }]), UnknownKey, "`hst`", "did you mean `host`?"),
        ("/roles", "sorce", json!({}), UnknownKey, "`sorce`", "did you mean `source`?"),
        ("/roles", "transform", json!({ "statefull": true }), UnknownKey, "`statefull`", "did you mean `stateful`?"),
        ("/roles", "transform", json!({ "stateful": "yes" }), Syntax, "invalid type", ""),
        ("/roles", "transform", json!({ "modes": [] }), UnknownKey, "`modes` in `roles.transform`", ""),
        ("/roles", "transform", json!({ "features": ["a b"] }), InvalidValue, "`roles.transform.features` has `a b`", ""),
        ("", "manifest_version", json!("2.0"), UnsupportedVersion, "reads `1.0`", ""),
        ("", "protocol_version", json!("1"), UnsupportedVersion, "speaks `2`", ""),
        ("", "protocol_version", json!(2), Syntax, "invalid type", ""),
        ("", "id", json!("source-postgres"), InvalidValue, "not `owner/name`", "lower-case"),
        ("", "id", json!("a/b/c"), InvalidValue, "not `owner/name`", ""),
        ("", "id", json!("../b"), InvalidValue, "not `owner/name`", ""),
        ("", "name", json!(" "), InvalidValue, "`name` is empty", ""),
        ("", "version", json!("1.0"), InvalidValue, "not `major.minor.patch`", ""),
        ("", "version", json!("01.0.0"), InvalidValue, "not `major.minor.patch`", ""),
        ("/artifact", "entry_point", json!("../x.wasm"), InvalidValue, "entry_point", "without a path"),
        ("/artifact", "entry_point", json!("x.so"), InvalidValue, "entry_point", ""),
        ("/artifact", "entry_point", json!(".wasm"), InvalidValue, "entry_point", ""),
        ("/artifact", "checksum", json!("md5:00"), InvalidValue, "checksum", ""),
        ("/artifact", "checksum", json!(format!("sha256:{}", "A".repeat(64))), InvalidValue, "checksum", ""),
        ("/artifact", "min_memory_mb", json!(0), InvalidValue, "min_memory_mb", ""),
        ("/artifact", "min_memory_mb", json!(4097), InvalidValue, "min_memory_mb", ""),
        ("/artifact", "min_memory_mb", json!(-1), Syntax, "invalid value", ""),
        ("/permissions/network", "tls", json!("maybe"), Syntax, "`required`, `optional`, `forbidden`", ""),
        ("/permissions/network", "allowed_domains", json!(["*"]), InvalidValue, "`*`", "*.example.com"),
        ("/permissions/network", "allowed_domains", json!(["*.com"]), InvalidValue, "`*.com`", ""),
        ("/permissions/network", "allowed_domains", json!(["http://x"]), InvalidValue, "not a host name", ""),
        ("/permissions/network", "allowed_domains", json!(["a..b"]), InvalidValue, "not a host name", ""),
        ("/permissions/env", "allowed_vars", json!(["A=B"]), InvalidValue, "not a variable's name", ""),
        ("/permissions/env", "allowed_vars", json!(["*"]), InvalidValue, "not a variable's name", ""),
        ("/permissions", "fs", preopen("relative", "/x"), InvalidValue, "not an absolute path", ""),
        ("/permissions", "fs", preopen("/a/../b", "/x"), InvalidValue, "not an absolute path", ""),
        ("/permissions", "fs", preopen("/", "/x"), InvalidValue, "not an absolute path", ""),
        ("/permissions", "fs", preopen("/a", "/grants/x"), InvalidValue, "is the host's", ""),
        ("", "roles", json!({}), InvalidValue, "names none", "source"),
        ("/roles/source", "supported_sync_modes", json!([]), InvalidValue, "is empty", ""),
        ("/roles/source", "supported_sync_modes", json!(["cdc", "cdc"]), InvalidValue, "twice", ""),
        ("/roles/source", "supported_sync_modes", json!(["full"]), Syntax, "unknown variant `full`", ""),
        ("/roles/source", "features", json!(["a b"]), InvalidValue, "not a word", ""),
        ("", "config_schema", json!({}), ConfigSchema, "`$schema` is missing", ""),
        ("", "config_schema", json!(true), ConfigSchema, "expected an object", ""),
    ] {
        let mut manifest = example();
        manifest.pointer_mut(pointer).expect("there")[key] = value.clone();
        let error = parse(&manifest).expect_err(key);
        assert_eq!(error.kind(), kind, "{key} {value}: {error}");
        assert!(error.to_string().contains(message), "{key} {value}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{key} {value}: {error} {:?}", error.hint());
    }
    for key in ["id", "name", "version", "artifact", "roles", "config_schema", "license", "author", "description"] {
        let mut manifest = example();
        manifest.as_object_mut().expect("object").remove(key);
        let error = parse(&manifest).expect_err(key);
        assert!(error.to_string().contains(&format!("missing field `{key}`")), "{error}");
    }
    assert_eq!(Manifest::parse(b"{\"id\": 1,}").expect_err("not JSON").kind(), Syntax);
    assert_eq!(Manifest::parse(b"[]").expect_err("a list").kind(), Syntax);
    assert_eq!(Manifest::parse(&vec![b' '; MAX_MANIFEST_BYTES + 1]).expect_err("large").kind(), TooLarge);
    assert_eq!(Manifest::parse("[".repeat(100_000).as_bytes()).expect_err("deep").kind(), Syntax);
    let twice = example().to_string().replacen("{", "{\"id\":\"a/b\",", 1);
    assert_eq!(Manifest::parse(twice.as_bytes()).expect_err("a key twice").kind(), Syntax);
}

#[test]
fn a_packed_component_proves_itself() {
    let component = component();
    let packed = pack(&component, example().to_string().as_bytes()).expect("packed");
    let unpacked = unpack(&packed.wasm).expect("a component");
    assert_eq!(unpacked.component, component);
    assert_eq!(unpacked.manifest, Some(packed.manifest_json.as_slice()));
    let manifest = verify(&packed.wasm, Some(&packed.manifest_json)).expect("belongs together");
    assert_eq!(verify(&packed.wasm, None).expect("belongs together"), manifest);
    // Computed by another implementation from the same bytes.
    let expected = "sha256:15cb50caec42aa115106302532bdfb473ab96d324bf6eaab2366f226dae4eb94";
    assert_eq!(manifest.artifact.checksum.as_deref(), Some(expected));
    assert_eq!(pack(&component, example().to_string().as_bytes()).expect("packed"), packed, "the same twice");
    assert_eq!(pack(&packed.wasm, example().to_string().as_bytes()).expect_err("packed already").kind(), Malformed);
    // A stale checksum in the manifest is replaced.
    let mut stale = example();
    stale["artifact"]["checksum"] = json!(format!("sha256:{}", "0".repeat(64)));
    let repacked = pack(&component, stale.to_string().as_bytes()).expect("packed");
    verify(&repacked.wasm, Some(&repacked.manifest_json)).expect("belongs together");
}

#[test]
fn what_is_not_a_packed_component_is_called_by_its_name() {
    let component = component();
    let packed = pack(&component, example().to_string().as_bytes()).expect("packed");
    let with_manifest = |manifest: &Value| {
        let section = binary::custom_section(MANIFEST_SECTION, manifest.to_string().as_bytes()).expect("small");
        [component.as_slice(), &section].concat()
    };
    let mut wrong = example();
    wrong["artifact"]["checksum"] = json!(format!("sha256:{}", "0".repeat(64)));
    let mut followed = packed.wasm.clone();
    followed.extend(binary::custom_section("later", b"x").expect("small"));
    let mut beside = packed.manifest_json.clone();
    beside.push(b' ');
    for (name, bytes, beside, kind, message) in [
        ("empty", Vec::new(), None, NotWasm, "not a WebAssembly file"),
        ("text", b"#!/bin/sh\necho".to_vec(), None, NotWasm, "not a WebAssembly file"),
        ("core", b"\0asm\x01\0\0\0".to_vec(), None, CoreModule, "a core module, not a component"),
        ("later layer", b"\0asm\x0e\0\x01\0".to_vec(), None, NotWasm, "of a known version"),
        ("unpacked", component.clone(), None, ManifestMissing, "manifest missing"),
        ("unpacked beside", component.clone(), Some(packed.manifest_json.clone()), ManifestMissing, "manifest missing"),
        ("other beside", packed.wasm.clone(), Some(beside), Disagree, "not the one inside it"),
        ("no checksum", with_manifest(&example()), None, ChecksumMissing, "no checksum"),
        ("wrong checksum", with_manifest(&wrong), None, ChecksumMismatch, "checksum mismatch"),
        ("not last", followed, None, Malformed, "a section follows the manifest"),
    ] {
        let error = verify(&bytes, beside.as_deref()).expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(message), "{name}: {error}");
    }
    assert_eq!(pack(b"junk", example().to_string().as_bytes()).expect_err("junk").kind(), NotWasm);
    assert_eq!(pack(&component, b"{}").expect_err("no manifest").kind(), Syntax);
}

#[test]
fn no_damage_passes() {
    let packed = pack(&component(), example().to_string().as_bytes()).expect("packed");
    for end in 0..packed.wasm.len() {
        verify(&packed.wasm[..end], Some(&packed.manifest_json)).expect_err("cut off");
        verify(&packed.wasm[..end], None).expect_err("cut off");
    }
    let component_end = component().len();
    for at in 0..packed.wasm.len() {
        for bit in 0..8 {
            let mut bytes = packed.wasm.clone();
            bytes[at] ^= 1 << bit;
            verify(&bytes, Some(&packed.manifest_json)).expect_err("a flipped bit");
            // Without the second copy a flip in the manifest's own prose can't be seen; it must not panic.
            let alone = verify(&bytes, None);
            assert!(at >= component_end || alone.is_err(), "byte {at} bit {bit}");
        }
    }
}
