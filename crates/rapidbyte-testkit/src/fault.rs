//! Something that goes wrong on purpose, in the binary with crash points.

use crate::command::Rapidbyte;
use crate::environment::crash_binary;
use crate::project::Project;
use std::fs;
use std::path::PathBuf;

/// One fault of one process: an act at a hit of a point. `docs/reference/faults.md` lists the acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    at: String,
    act: String,
}

impl Fault {
    /// `act` at the `hit`th time, counted from 1, that `point` is reached.
    pub fn new(point: &str, hit: u64, act: &str) -> Self {
        Self { at: format!("{point}:{hit}"), act: act.to_owned() }
    }

    /// A command with the fault in it, run by the binary with crash points.
    #[must_use]
    pub fn arm(&self, command: Rapidbyte, project: &Project) -> Rapidbyte {
        command
            .program(crash_binary())
            .env("RAPIDBYTE_CRASH_AT", &self.at)
            .env("RAPIDBYTE_CRASH_ACT", &self.act)
            .env("RAPIDBYTE_CRASH_FIRED", project.path("fired"))
            .env("RAPIDBYTE_CRASH_SECOND", Self::reached(project))
    }

    /// What came to pass, one word for each time. Without any the fault did not happen.
    pub fn fired(project: &Project) -> Vec<String> {
        let text = fs::read_to_string(project.path("fired")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The file that the act `second` makes when its point is reached. The process goes on when [`Self::go`] is called.
    pub fn reached(project: &Project) -> PathBuf {
        project.path("point.reached")
    }

    /// Lets a process go on that waits at its point.
    ///
    /// # Panics
    /// When the file can't be made.
    #[track_caller]
    pub fn go(project: &Project) {
        fs::write(Self::reached(project).with_extension("go"), "").expect("a file can be made");
    }
}
