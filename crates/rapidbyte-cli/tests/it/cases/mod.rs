//! The folders of `tests/cases/`: something is wrong, and is said in a way that helps.
//!
//! A case is a pipeline, what is wrong around it, and what must be said. Its format stands in `tests/cases/README.md`.

mod hint;
mod kept;

use crate::scaffold;
use hint::{Command as Advice, commands};
use kept::{Arrives, Keeps};
use rapidbyte_testkit::{Database, Finished, Postgres, Project, Rapidbyte, Running, binary, connectors, is_root, root};
use serde::Deserialize;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Whom the binary runs as in cases about permissions, when we are root, whom no permission stops.
const ORDINARY: &str = "postgres";

/// `expect.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(rename = "about")]
    _about: String,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    ordinary_user: bool,
    before: Option<String>,
    beside: Option<Beside>,
    command: Vec<String>,
    exit: i32,
    says: Vec<String>,
    #[serde(default)]
    never_says: Vec<String>,
    hint: Vec<String>,
    #[serde(default)]
    runs_hint: Vec<String>,
    #[serde(default)]
    runs_hint_in: String,
    after: Option<String>,
    keeps: Keeps,
    arrives: Arrives,
}

/// A run under way beside the command under test.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    command: Vec<String>,
    until_stderr: String,
}

struct Case<'a> {
    name: &'a str,
    expected: Expected,
    project: Project,
    database: Option<Database<'a>>,
    ordinary: bool,
    program: PathBuf,
}

impl<'a> Case<'a> {
    fn of(name: &'a str) -> Self {
        let folder = root().join("tests/cases").join(name);
        let text = fs::read_to_string(folder.join("expect.json")).unwrap_or_else(|error| panic!("{name}/expect.json: {error}"));
        let expected: Expected = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}/expect.json: {error}"));
        let project = Project::empty();
        for entry in fs::read_dir(&folder).expect("a case is a folder").flatten() {
            fs::copy(entry.path(), project.path(&entry.file_name().to_string_lossy())).expect("a case has files only");
        }
        assert!(expected.services.iter().all(|service| service == "postgres"), "{name}: unknown services");
        let database = (!expected.services.is_empty()).then(|| Postgres::shared().database("case"));
        let ordinary = expected.ordinary_user && is_root();
        let mut program = binary();
        if ordinary {
            // The checkout and its target directory may lie where an ordinary user can't look.
            program = project.path("bin/rapidbyte");
            fs::create_dir_all(project.path("bin")).expect("a directory can be made");
            fs::copy(binary(), &program).expect("the binary can be copied");
        }
        let case = Self { name, expected, project, database, ordinary, program };
        case.sql("seed.sql");
        if let Some(script) = &case.expected.before {
            case.shell(".", script);
        }
        case.sql("later.sql");
        case
    }

    /// Runs a file of the case in its database.
    #[track_caller]
    fn sql(&self, file: &str) {
        if let (Some(database), Ok(script)) = (&self.database, fs::read_to_string(self.project.path(file))) {
            database.sql(&script);
        }
    }

    /// What scripts and pipelines are told.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("RAPIDBYTE", self.program.display().to_string()),
            ("CONNECTORS", connectors().display().to_string()),
            ("SCAFFOLDED", scaffold::target().display().to_string()),
            ("DIR", self.project.dir().display().to_string()),
        ];
        if let Some(database) = &self.database {
            all.push(("PG_PORT", database.server().port().to_string()));
            all.push(("PG_USER", database.server().user().to_owned()));
            all.push(("PG_PASSWORD", database.server().password().to_owned()));
            all.push(("PG_DATABASE", database.name().to_owned()));
        }
        all
    }

    /// Runs a script in a folder of the project, as ourselves.
    #[track_caller]
    fn shell(&self, folder: &str, script: &str) {
        let (well, words) = scaffold::shell(&self.project.path(folder), script, &self.variables());
        assert!(well, "{}: `{script}`: {words}", self.name);
    }

    fn command(&self, arguments: &[String]) -> Rapidbyte {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = Rapidbyte::new(self.project.dir()).program(self.program.clone()).args(&arguments);
        for (name, value) in self.variables() {
            command = command.env(name, value);
        }
        if self.ordinary {
            command = command.as_user(ORDINARY).env("RAPIDBYTE_CACHE_DIR", self.project.path("cache"));
        }
        command
    }

    /// Whether what is wrong is a line of a report, rather than an error.
    fn reports(&self) -> bool {
        self.expected.command.first().is_some_and(|word| word == "check")
    }

    /// The one thing that is said to be wrong, with its hint: an error, or two lines of the report.
    #[track_caller]
    fn complaint(&self, finished: &Finished) -> String {
        let Finished { stdout, stderr, .. } = finished;
        let failed = stdout.lines().filter(|line| line.starts_with("failed ")).count();
        let said = (stderr.matches("error: ").count(), failed);
        assert_eq!(said, if self.reports() { (0, 1) } else { (1, 0) }, "{}: one clear error: {}", self.name, finished.told());
        if self.reports() {
            stdout.lines().skip_while(|line| !line.starts_with("failed ")).take(2).collect::<Vec<_>>().join("\n")
        } else {
            stderr.clone()
        }
    }

    /// The hint as printed.
    #[track_caller]
    fn hint(&self, finished: &Finished) -> String {
        let complaint = self.complaint(finished);
        let begins = if self.reports() { "         hint: " } else { "hint: " };
        let line = complaint.lines().find_map(|line| line.strip_prefix(begins));
        line.unwrap_or_else(|| panic!("{}: no hint: {}", self.name, finished.told())).to_owned()
    }

    /// Runs something that the project needs beside the command under test.
    fn beside(&self) -> Option<Running> {
        let Beside { command, until_stderr } = self.expected.beside.as_ref()?;
        let mut running = self.command(command).start();
        running.until_stderr(until_stderr, Duration::from_secs(30));
        Some(running)
    }

    /// Types what the hint says, as it was printed.
    #[track_caller]
    fn follow(&self, hint: &str) {
        let advised = commands(hint);
        let texts: Vec<&str> = advised.iter().map(Advice::text).collect();
        assert_eq!(texts, self.expected.runs_hint, "{}: commands in the hint `{hint}`, and those in `runs_hint`", self.name);
        for advice in &advised {
            match advice {
                Advice::Shell(line) => self.shell(&self.expected.runs_hint_in, &line.replace("<PIPELINE>", "pipeline.yaml")),
                Advice::Sql(statement) => {
                    self.database.as_ref().expect("a statement needs `postgres` among the services").sql(statement);
                }
            }
        }
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        // Mounts and protected folders would stay behind.
        let script = "if mountpoint -q small; then umount small; fi; chmod -R u+w .";
        let _ = scaffold::shell(self.project.dir(), script, &[]);
    }
}

fn run_case(name: &str) {
    let case = Case::of(name);
    let Expected { command, keeps, arrives, .. } = &case.expected;
    let content = || keeps.content(&case.project, case.database.as_ref());
    let kept = content();
    let beside = case.beside();

    let failed = case.command(command).finish().exit(case.expected.exit);
    let complaint = case.complaint(&failed);
    for words in &case.expected.says {
        assert!(complaint.contains(words), "{name}: no `{words}` in {}", failed.told());
    }
    for words in &case.expected.never_says {
        assert!(!failed.stderr.contains(words) && !failed.stdout.contains(words), "{name}: `{words}` in {}", failed.told());
    }
    assert!(!failed.stderr.contains("panicked"), "{name}: {}", failed.told());
    let hint = case.hint(&failed);
    for words in &case.expected.hint {
        assert!(hint.contains(words), "{name}: no `{words}` in the hint `{hint}`");
    }
    assert_eq!(content(), kept, "{name}: what was there is kept");

    // What the hint says is done, and then the same command succeeds.
    if let Some(mut running) = beside {
        assert!(hint.contains(&format!("stop process {}", running.pid())), "{name}: {hint}");
        running.signal("TERM");
        running.finish().exit(143);
    }
    case.follow(&hint);
    if let Some(script) = &case.expected.after {
        case.shell(".", script);
    }
    case.command(command).finish().success();
    if case.reports() {
        // It moves nothing itself, and has just said that this would.
        case.command(&["run".to_owned(), "pipeline.yaml".to_owned()]).finish().success();
    }
    arrives.check(&case.project, case.database.as_ref());
}

/// One test for each folder, so that each has a name to be called by.
macro_rules! cases {
    ($($test:ident = $folder:literal,)*) => {
        const FOLDERS: &[&str] = &[$($folder),*];
        $(
            #[test]
            fn $test() {
                run_case($folder);
            }
        )*
    };
}

cases! {
    case_check_corrupt_state_file = "check-corrupt-state-file",
    case_check_wrong_password = "check-wrong-password",
    case_corrupt_state_file = "corrupt-state-file",
    case_denied_host = "denied-host",
    case_lying_manifest = "lying-manifest",
    case_malformed_yaml = "malformed-yaml",
    case_missing_column = "missing-column",
    case_missing_table = "missing-table",
    case_missing_variable = "missing-variable",
    case_no_privilege = "no-privilege",
    case_not_a_component = "not-a-component",
    case_not_wasm = "not-wasm",
    case_read_only_folder = "read-only-folder",
    case_read_only_state = "read-only-state",
    case_second_run = "second-run",
    case_unknown_connector = "unknown-connector",
    case_unknown_host = "unknown-host",
    case_unknown_key = "unknown-key",
    case_wrong_password = "wrong-password",
    case_wrong_type = "wrong-type",
}

#[test]
fn case_disk_full() {
    if is_root() {
        run_case("disk-full");
    } else {
        eprintln!("skipped: mounting a small disk needs root");
    }
}

#[test]
fn every_folder_is_run() {
    let mut there: Vec<String> = fs::read_dir(root().join("tests/cases"))
        .expect("tests/cases")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    let mut run: Vec<&str> = FOLDERS.iter().copied().chain(["disk-full"]).collect();
    run.sort_unstable();
    assert_eq!(there, run);
}
