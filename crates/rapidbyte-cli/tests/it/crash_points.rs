//! What the sweeps stand on: the binary with crash points counts each hit, and dies at exactly the one it is told.

use rapidbyte_testkit::{Project, crash_binary};
use std::collections::BTreeMap;
use std::fs;

const SIGKILL: i32 = 9;
/// One that a guest marks, and one of the host.
const POINTS: [&str; 2] = ["dest.receipt.before", "engine.mirror.after"];
const PIPELINE: &str = "version: \"1.0\"\npipeline: points\nsource:\n  use: source-datagen\n\
     \x20 config: { pattern: sequence, max_events: 400, batch_rows: 100 }\n  streams: [ { name: sequence } ]\n\
     destination:\n  use: dest-file\n  config: { path: out, format: jsonl }\n\
     resources: { checkpoint_interval_rows: 100, max_retries: 0 }\n";

/// How it ended, and what was noted on the way.
struct Ended {
    signal: Option<i32>,
    code: Option<i32>,
    /// The points in the order of their hits.
    hits: Vec<String>,
    fired: String,
}

impl Ended {
    fn of(&self, point: &str) -> usize {
        self.hits.iter().filter(|hit| *hit == point).count()
    }

    fn each(&self) -> BTreeMap<&str, usize> {
        self.hits.iter().map(|hit| (hit.as_str(), self.of(hit))).collect()
    }
}

fn run(at: Option<&str>) -> Ended {
    let project = Project::with_pipeline(PIPELINE);
    let (counts, fired) = (project.path("counts"), project.path("fired"));
    let mut command = project.run().program(crash_binary());
    command = command.env("RAPIDBYTE_CRASH_COUNTS", &counts).env("RAPIDBYTE_CRASH_FIRED", &fired);
    if let Some(at) = at {
        command = command.env("RAPIDBYTE_CRASH_AT", at);
    }
    let ended = command.finish();
    let read = |path| fs::read_to_string(path).expect("the crash binary writes it");
    Ended { signal: ended.signal, code: ended.code, hits: read(counts).lines().map(str::to_owned).collect(), fired: read(fired) }
}

#[test]
fn every_hit_is_counted_and_the_chosen_one_kills() {
    let whole = run(None);
    assert_eq!((whole.signal, whole.code, whole.fired.as_str()), (None, Some(0), ""));
    for point in POINTS {
        let all = whole.of(point);
        assert!(all >= 3, "{point}: {all} of {:?}", whole.each());
        for (at, nth) in
            [(point.to_owned(), 1), (format!("{point}:1"), 1), (format!("{point}:3"), 3), (format!("{point}:{all}"), all)]
        {
            let killed = run(Some(&at));
            assert_eq!((killed.signal, killed.code, killed.fired.as_str()), (Some(SIGKILL), None, "kill\n"), "{at}");
            assert_eq!(killed.of(point), nth, "{at}");
            assert_eq!(killed.hits.last().map(String::as_str), Some(point), "{at}: nothing comes after it");
        }
    }
    for beyond in [format!("{}:{}", POINTS[0], whole.of(POINTS[0]) + 1), "no.such.point".to_owned()] {
        let ended = run(Some(&beyond));
        assert_eq!((ended.signal, ended.code, ended.fired.as_str()), (None, Some(0), ""), "{beyond}");
        assert_eq!(ended.each(), whole.each(), "{beyond}");
    }
}
