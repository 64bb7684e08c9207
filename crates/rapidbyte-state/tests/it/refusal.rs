//! Files and folders that are not for us.

use crate::fixture::{Fixture, fill};
use rapidbyte_state::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn refused(path: &Path, kind: ErrorKind) -> StateError {
    let error = SqliteStore::open(path).expect_err("refused");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error:?}");
    assert!(error.path().is_some(), "{error:?}");
    error
}

#[test]
fn a_foreign_file_is_refused_and_left_as_it_was() {
    let fixture = Fixture::new();
    let noise: Vec<u8> = (0..10_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [b"x".to_vec(), b"version: \"1.0\"\n".to_vec(), noise] {
        fs::write(fixture.file(), &bytes).expect("writes");
        refused(&fixture.file(), ErrorKind::NotOurs);
        assert_eq!(fs::read(fixture.file()).expect("reads"), bytes);
    }
    fs::remove_file(fixture.file()).expect("removes");
    let other = rusqlite::Connection::open(fixture.file()).expect("opens");
    other.execute_batch("CREATE TABLE pipelines (id TEXT); PRAGMA user_version = 1").expect("runs");
    other.close().expect("closes");
    let bytes = fs::read(fixture.file()).expect("reads");
    refused(&fixture.file(), ErrorKind::NotOurs);
    assert_eq!(fs::read(fixture.file()).expect("reads"), bytes);
    refused(fixture.folder.path(), ErrorKind::NotOurs);
    let names = fs::read_dir(fixture.folder.path()).expect("lists").count();
    assert_eq!(names, 1, "no litter beside a refused file");
}

#[test]
fn an_empty_file_is_not_taken_for_a_new_one() {
    let fixture = Fixture::new();
    fs::write(fixture.file(), b"").expect("writes");
    let error = refused(&fixture.file(), ErrorKind::Corrupt);
    assert!(error.hint().is_some_and(|hint| hint.contains("remove it")), "{error:?}");
    fs::remove_file(fixture.file()).expect("removes");
    fixture.store().check().expect("the hint works");
}

#[test]
fn noise_behind_a_good_header_is_refused() {
    let fixture = Fixture::new();
    drop(fixture.store());
    let mut bytes = fs::read(fixture.file()).expect("reads");
    for (n, byte) in bytes.iter_mut().enumerate().skip(100) {
        *byte = (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0];
    }
    fs::write(fixture.file(), &bytes).expect("writes");
    refused(&fixture.file(), ErrorKind::Corrupt);
}

#[test]
fn a_newer_version_is_refused_and_left_as_it_was() {
    let fixture = Fixture::new();
    fill(&fixture.store());
    let newer = rusqlite::Connection::open(fixture.file()).expect("opens");
    newer.execute_batch("CREATE TABLE of_tomorrow (x); PRAGMA user_version = 99").expect("runs");
    newer.close().expect("closes");
    let error = refused(&fixture.file(), ErrorKind::TooNew);
    assert!(error.message().contains("99"), "{error:?}");
    let newer = rusqlite::Connection::open(fixture.file()).expect("opens");
    let version: u32 = newer.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("reads");
    assert_eq!(version, 99);
}

#[test]
fn check_finds_damage_done_while_open() {
    let fixture = Fixture::new();
    let store = fixture.store();
    fill(&store);
    store.check().expect("all is well");
    let other = rusqlite::Connection::open(fixture.file()).expect("opens");
    let left: u32 = other.query_row("SELECT count(*) FROM probe", [], |row| row.get(0)).expect("counts");
    assert_eq!(left, 0, "the probe is gone");
    other.execute_batch("UPDATE epochs SET epoch = epoch + 1").expect("runs");
    assert_eq!(store.check().expect_err("damaged").kind(), ErrorKind::Corrupt);
}

#[test]
fn a_writer_who_does_not_let_go_is_reported() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let other = rusqlite::Connection::open(fixture.file()).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("begins");
    let error = store.check().expect_err("busy");
    assert_eq!(error.kind(), ErrorKind::Locked, "{error:?}");
    assert!(error.hint().is_some());
    other.execute_batch("ROLLBACK").expect("rolls back");
    store.check().expect("free again");
}

/// Opens the store named by the environment and says how that went. Runs as a child of the test below.
#[test]
#[ignore = "a child process of another test"]
fn child_opens_what_it_is_told_to() {
    let Some(path) = std::env::var_os("STATE_UNDER_TEST") else { return };
    match SqliteStore::open(path).map(drop) {
        Ok(()) => println!("<opened>"),
        Err(error) => println!("<{}> {error:?} hint={:?}", error.kind().as_str(), error.hint()),
    }
}

#[test]
fn what_cannot_be_written_is_said_to_be_read_only() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    let allow = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("sets the mode");
    // Root may write anywhere, so the child is somebody else; it needs a copy of this program that it may run.
    let program = folder.join("program");
    fs::copy(std::env::current_exe().expect("this program"), &program).expect("copies");
    allow(&program, 0o755);
    allow(folder, 0o755);
    let root = fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0);
    let open = |path: &Path| {
        let mut child = Command::new(&program);
        child.args(["refusal::child_opens_what_it_is_told_to", "--exact", "--ignored", "--nocapture"]);
        child.env("STATE_UNDER_TEST", path).current_dir("/");
        if root {
            child.uid(65_534).gid(65_534);
        }
        let output = child.output().expect("runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let place = |name: &str, file: Option<u32>, mode| {
        let place = folder.join(name);
        fs::create_dir(&place).expect("makes");
        if let Some(file) = file {
            drop(SqliteStore::open(place.join("state.db")).expect("opens"));
            allow(&place.join("state.db"), file);
        }
        allow(&place, mode);
        open(&place.join("state.db"))
    };
    let nobody = place("open-to-all", Some(0o666), 0o777);
    assert!(nobody.contains("<opened>"), "the child can work where it may: {nobody}");
    for (name, file, mode) in [
        ("no file, closed folder", None, 0o555),
        ("closed file", Some(0o444), 0o777),
        ("closed file, closed folder", Some(0o444), 0o555),
        ("open file, closed folder", Some(0o666), 0o555),
    ] {
        let said = place(name, file, mode);
        assert!(said.contains("<read_only>") && said.contains("hint=Some"), "{name}: {said}");
        allow(&folder.join(name), 0o755);
    }
}
