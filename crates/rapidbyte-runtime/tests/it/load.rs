use crate::support::*;
use rapidbyte_config::connector_config::PathGrant;
use rapidbyte_config::manifest::FsMode;
use rapidbyte_runtime::*;
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn refused(bytes: &[u8]) -> HostErrorKind {
    runtime().load(bytes, None).expect_err("refused").kind()
}

#[test]
fn only_packed_components_of_a_connector_world_are_loaded() {
    let source = manifest("source");
    assert_eq!(refused(b"not wasm"), HostErrorKind::NotAComponent);
    assert_eq!(refused(b""), HostErrorKind::NotAComponent);
    assert_eq!(refused(b"\0asm\x01\0\0\0"), HostErrorKind::NotAComponent, "a core module");
    assert_eq!(refused(&fixture("misfit_source")), HostErrorKind::Manifest, "not packed");
    assert_eq!(refused(&packed("no_world", &source)), HostErrorKind::World);
    let whole = packed("misfit_source", &source);
    assert_eq!(refused(&whole[..whole.len() / 2]), HostErrorKind::NotAComponent, "cut off");
    let mut changed = whole.clone();
    changed[5000] ^= 1;
    assert!(runtime().load(&changed, None).is_err(), "changed");
    assert_eq!(runtime().load(&whole, None).expect("whole").role().as_str(), "source");
    assert_eq!(runtime().load(&whole, Some(b"{}")).expect_err("another manifest").kind(), HostErrorKind::Manifest);
}

#[test]
fn a_manifest_that_disagrees_with_the_component_is_refused() {
    assert_eq!(refused(&packed("misfit_source", &manifest("destination"))), HostErrorKind::Manifest);
    let mut both = manifest("source");
    both["roles"]["transform"] = json!({});
    assert_eq!(refused(&packed("misfit_source", &both)), HostErrorKind::Manifest);
}

#[test]
fn a_utility_is_not_loaded_and_is_no_obstacle_beside_another_role() {
    let mut utility = manifest("source");
    utility["roles"] = json!({ "utility": {} });
    for fixture in ["misfit_source", "no_world"] {
        let error = runtime().load(&packed(fixture, &utility), None).expect_err("no world is a utility's");
        assert_eq!(error.kind(), HostErrorKind::World);
        assert!(error.to_string().contains("no role but `utility`"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("`source`, `destination` or `transform`")), "{:?}", error.hint());
    }
    let mut both = manifest("source");
    both["roles"]["utility"] = json!({});
    assert_eq!(runtime().load(&packed("misfit_source", &both), None).expect("loads").role().as_str(), "source");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_says_it_is_another_is_refused() {
    for (key, value) in [("id", "fixtures/other"), ("version", "9.9.9")] {
        let mut other = manifest("source");
        other[key] = value.into();
        let connector = runtime().load(&packed("misfit_source", &other), None).expect("loads");
        let outcome = SourceInstance::open(&connector, &options(json!({}))).await;
        match outcome.map(|_| ()) {
            Err(GuestError::Host(error)) => assert_eq!(error.kind(), HostErrorKind::Manifest, "{key}"),
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_needs_more_memory_than_its_limit_is_not_started() {
    let mut hungry = manifest("source");
    hungry["artifact"]["min_memory_mb"] = 600.into();
    let connector = runtime().load(&packed("misfit_source", &hungry), None).expect("loads");
    match SourceInstance::open(&connector, &options(json!({}))).await.map(|_| ()) {
        Err(GuestError::Host(error)) => assert_eq!(error.kind(), HostErrorKind::Memory),
        other => panic!("{other:?}"),
    }
}

#[test]
fn precompiled_code_is_not_taken_and_the_cache_trusts_only_what_it_wrote() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("aot");
    let start = |build_id: &str| {
        Runtime::new(RuntimeOptions { aot: AotMode::Cache(cache.clone()), build_id: build_id.into() }).expect("an engine")
    };
    let bytes = packed("misfit_transform", &manifest("transform"));
    let load = |build_id: &str| start(build_id).load(&bytes, None).expect("loads").from_cache();
    assert!(!load("one"));
    assert!(load("one"), "the second start takes it from the cache");
    assert!(!load("two"), "another build compiles again");

    assert_eq!(std::fs::metadata(&cache).expect("there").mode() & 0o777, 0o700);
    let files: Vec<_> = std::fs::read_dir(&cache).expect("there").map(|entry| entry.expect("there").path()).collect();
    assert_eq!(files.len(), 3, "the key and two compiled components");
    for file in &files {
        assert_eq!(std::fs::metadata(file).expect("there").mode() & 0o777, 0o600, "{file:?}");
    }

    let code: Vec<_> = files.iter().filter(|file| file.extension().is_some()).collect();
    let whole = std::fs::read(code[0]).expect("there");
    assert_eq!(refused(&whole[32..]), HostErrorKind::Precompiled);

    // Every way of changing a file, and each is found out.
    let both = |change: &dyn Fn(&std::path::Path)| {
        for file in &code {
            change(file);
        }
        let taken = [load("one"), load("two")];
        assert_eq!(taken, [false, false]);
        assert_eq!([load("one"), load("two")], [true, true], "and mended");
    };
    both(&|file| {
        let mut bytes = std::fs::read(file).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).expect("written");
    });
    both(&|file| std::fs::write(file, b"short").expect("written"));
    both(&|file| std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("set"));
    both(&|file| {
        let elsewhere = dir.path().join(file.file_name().expect("a name"));
        std::fs::rename(file, &elsewhere).expect("moved");
        symlink(elsewhere, file).expect("linked");
    });
    // Good code under another's name.
    let whole: Vec<_> = code.iter().map(|file| std::fs::read(file).expect("there")).collect();
    both(&|file| {
        let other = usize::from(code[0] == file);
        std::fs::write(file, &whole[other]).expect("written");
    });

    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o755)).expect("set");
    let outcome = Runtime::new(RuntimeOptions { aot: AotMode::Cache(cache.clone()), build_id: "one".into() });
    assert_eq!(outcome.map(|_| ()).expect_err("an open directory").kind(), HostErrorKind::Engine);
}

#[test]
fn grants_come_from_manifest_and_configuration() {
    let mut asked = manifest("source");
    asked["permissions"]["network"]["allowed_domains"] = json!(["*.example.com"]);
    asked["permissions"]["fs"]["preopens"] = json!([
        { "host": "/usr/share/zoneinfo", "guest": "/zones", "mode": "read" },
        { "host": "/var/spool/rows", "guest": "/spool", "mode": "read-write" },
    ]);
    let config = rapidbyte_config::ConfigGrants {
        secrets: Vec::new(),
        paths: vec![PathGrant {
            pointer: "/path".into(),
            host_path: "/data/out".into(),
            guest_path: "/grants/0".into(),
            mode: FsMode::ReadWrite,
        }],
        hosts: vec!["db.internal".into()],
        tls: Default::default(),
        guest_config: json!({}),
    };
    let env = |name: &str| Some(format!("value of {name}"));
    let grants = Grants::new(&parse(&asked), &config, env, None).expect("granted");
    assert_eq!(grants.env, [("ALLOWED_VAR".to_owned(), "value of ALLOWED_VAR".to_owned())]);
    assert_eq!(grants.network.config, ["db.internal".parse().expect("a host")]);
    assert!(!format!("{grants:?}").contains("value of"), "values of variables stay hidden");
    let dir = |host: &str, guest: &str, mode| DirGrant { host: host.into(), guest: guest.into(), mode };
    let fixed = [dir("/usr/share/zoneinfo", "/zones", FsMode::Read), dir("/var/spool/rows", "/spool", FsMode::ReadWrite)];
    assert_eq!(grants.dirs[..2], fixed, "what the manifest names");
    assert_eq!(grants.dirs[2..], [dir("/data/out", "/grants/0", FsMode::ReadWrite)], "what the configuration names");
    asked["permissions"]["fs"] = json!({});
    assert_eq!(Grants::new(&parse(&asked), &config, env, None).expect("granted").dirs.len(), 1, "nothing else");
    asked["permissions"]["network"]["allow_runtime_config_domains"] = false.into();
    assert!(Grants::new(&parse(&asked), &config, env, None).expect("granted").network.config.is_empty());
    asked["permissions"]["network"]["allow_runtime_config_domains"] = true.into();
    let wild = rapidbyte_config::ConfigGrants { hosts: vec!["*".into()], ..config };
    assert_eq!(Grants::new(&parse(&asked), &wild, env, None).expect_err("no host").kind(), HostErrorKind::Grant);
}
