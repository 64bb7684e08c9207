//! One run of a pipeline at a time, across threads and processes.

use crate::fixture::{Fixture, pipeline};
use rapidbyte_state::*;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;

#[test]
fn a_second_run_is_refused_until_the_first_is_over() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.store(), fixture.store());
    let id = pipeline(&one);
    let guard = one.lock_run(id, "run-1").expect("locks");
    for store in [&one, &two] {
        let refused = store.lock_run(id, "run-2").expect_err("held");
        assert_eq!(refused.kind(), ErrorKind::Locked);
        assert!(refused.message().contains("`run-1`"), "{refused:?}");
        assert!(refused.message().contains(&std::process::id().to_string()), "{refused:?}");
    }
    let other = two.resolve_pipeline("other", "source:2", 1).expect("resolves").id;
    two.lock_run(other, "run-3").expect("another pipeline is free");
    drop(guard);
    two.lock_run(id, "run-2").expect("free again");
}

#[test]
fn two_names_of_one_file_make_one_lock() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let alias = fixture.folder.path().join("alias.db");
    std::os::unix::fs::symlink(fixture.file(), &alias).expect("links");
    let _guard = store.lock_run(id, "run-1").expect("locks");
    let same = SqliteStore::open(&alias).expect("opens");
    assert_eq!(same.lock_run(id, "run-2").expect_err("held").kind(), ErrorKind::Locked);
}

#[test]
fn of_many_runs_at_once_one_goes_ahead() {
    const RUNS: usize = 8;
    let fixture = Fixture::new();
    let id = pipeline(&fixture.store());
    let (start, end) = (Barrier::new(RUNS), Barrier::new(RUNS));
    let run = |n: usize| {
        let store = fixture.store();
        start.wait();
        let guard = store.lock_run(id, &format!("run-{n}"));
        end.wait();
        guard.is_ok()
    };
    let held = std::thread::scope(|scope| {
        let run = &run;
        let runs: Vec<_> = (0..RUNS).map(|n| scope.spawn(move || run(n))).collect();
        runs.into_iter().map(|run| run.join().expect("ends")).filter(|held| *held).count()
    });
    assert_eq!(held, 1);
}

#[test]
fn a_file_made_by_many_at_once_is_made_once() {
    const OPENERS: usize = 8;
    // Who meets whom is up to the machine: several rounds make sure that some do.
    const ROUNDS: usize = 10;
    for _ in 0..ROUNDS {
        let fixture = Fixture::new();
        let start = Barrier::new(OPENERS);
        let ids: Vec<PipelineId> = std::thread::scope(|scope| {
            let open = || {
                start.wait();
                pipeline(&fixture.store())
            };
            let openers: Vec<_> = (0..OPENERS).map(|_| scope.spawn(open)).collect();
            openers.into_iter().map(|opener| opener.join().expect("ends")).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        for entry in std::fs::read_dir(fixture.folder.path()).expect("lists") {
            let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            assert!(!name.ends_with(".new"), "a draft was left behind: {name}");
        }
    }
}

/// Holds the lock of the store named by the environment until its standard input ends. Runs as a child of the test below.
#[test]
#[ignore = "a child process of another test"]
fn child_holds_the_lock() {
    let Some(path) = std::env::var_os("STATE_UNDER_TEST") else { return };
    let store = SqliteStore::open(path).expect("opens");
    let guard = store.lock_run(pipeline(&store), "run-of-child").expect("locks");
    store.begin_run(&guard, 1).expect("begins");
    println!("<held>");
    std::io::stdin().read_to_end(&mut Vec::new()).expect("waits");
}

fn child(path: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["locking::child_holds_the_lock", "--exact", "--ignored", "--nocapture"])
        .env("STATE_UNDER_TEST", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let held = lines.map_while(Result::ok).any(|line| line.contains("<held>"));
    assert!(held, "the child took the lock");
    child
}

#[test]
fn the_lock_of_a_killed_process_is_free_and_its_run_interrupted() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let id = pipeline(&store);
    let mut child = child(&fixture.file());
    let refused = store.lock_run(id, "run-2").expect_err("held by the child");
    assert_eq!(refused.kind(), ErrorKind::Locked);
    assert!(refused.message().contains("`run-of-child`"), "{refused:?}");
    assert!(refused.hint().is_some_and(|hint| hint.contains(&child.id().to_string())), "{refused:?}");
    child.kill().expect("kills");
    child.wait().expect("ends");
    let guard = store.lock_run(id, "run-2").expect("the dead hold nothing");
    assert_eq!(store.begin_run(&guard, 2).expect("begins"), ["run-of-child"]);
    let run = store.run("run-of-child").expect("reads").expect("is there");
    assert_eq!((run.status, run.finished_at_ms), (RunStatus::Interrupted, None));
}
