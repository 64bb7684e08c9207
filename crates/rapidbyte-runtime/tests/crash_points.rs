//! Marks count themselves and kill at the hit they are told to. Needs `--features crash-points`.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

const SIGKILL: i32 = 9;

/// The body of the child process: five hits of one point, one of another.
#[test]
fn child() {
    if std::env::var_os("RAPIDBYTE_CRASH_COUNTS").is_none() {
        return;
    }
    for _ in 0..5 {
        rapidbyte_runtime::mark("test.point");
    }
    rapidbyte_runtime::mark("test.other");
}

fn run(at: Option<&str>) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let counts = dir.path().join("counts");
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(["child", "--exact"]).env("RAPIDBYTE_CRASH_COUNTS", &counts).env_remove("RAPIDBYTE_CRASH_AT");
    if let Some(at) = at {
        command.env("RAPIDBYTE_CRASH_AT", at);
    }
    let out = command.output().expect("runs");
    (out.status.signal(), std::fs::read_to_string(counts).expect("counted"))
}

#[test]
fn every_hit_is_counted_and_the_chosen_one_kills() {
    let (signal, counts) = run(None);
    assert_eq!(signal, None);
    assert_eq!(counts.lines().filter(|line| *line == "test.point").count(), 5);
    assert_eq!(counts.lines().filter(|line| *line == "test.other").count(), 1);
    for (at, hits) in [("test.point", 1), ("test.point:1", 1), ("test.point:3", 3)] {
        let (signal, counts) = run(Some(at));
        assert_eq!(signal, Some(SIGKILL), "{at}");
        assert_eq!(counts.lines().count(), hits, "{at}");
    }
    assert_eq!(run(Some("test.point:9")).0, None);
    assert_eq!(run(Some("test.other")).1.lines().count(), 6);
}
