//! The folders of `tests/cases/`: something is wrong, and is said in a way that helps.
//!
//! A case is a pipeline, what is wrong around it, and what must be said. Its format stands in `tests/cases/README.md`.

use rapidbyte_testkit::{Database, Finished, Postgres, Project, Rapidbyte, Running, TableHash, binary, connectors, is_root, root};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Whom the binary runs as in cases about permissions, when we are root, whom no permission stops.
const ORDINARY: &str = "postgres";

struct Case<'a> {
    name: &'a str,
    expected: Value,
    project: Project,
    database: Option<Database<'a>>,
    ordinary: bool,
    program: PathBuf,
}

impl<'a> Case<'a> {
    fn of(name: &'a str) -> Self {
        let folder = root().join("tests/cases").join(name);
        let text = fs::read_to_string(folder.join("expect.json")).unwrap_or_else(|error| panic!("{name}/expect.json: {error}"));
        let expected: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}/expect.json: {error}"));
        let known = [
            "about",
            "services",
            "ordinary_user",
            "before",
            "beside",
            "command",
            "exit",
            "says",
            "never_says",
            "hint",
            "runs_hint",
            "after",
            "kept",
        ];
        for key in expected.as_object().expect("an object").keys() {
            assert!(known.contains(&key.as_str()), "{name}/expect.json: unknown key `{key}`");
        }
        let project = Project::empty();
        for entry in fs::read_dir(&folder).expect("a case is a folder").flatten() {
            fs::copy(entry.path(), project.path(&entry.file_name().to_string_lossy())).expect("a case has files only");
        }
        let wants = |service: &str| expected["services"].as_array().into_iter().flatten().any(|of| of == service);
        let database = wants("postgres").then(|| Postgres::shared().database("case"));
        if let (Some(database), Ok(seed)) = (&database, fs::read_to_string(folder.join("seed.sql"))) {
            database.sql(&seed);
        }
        let ordinary = expected["ordinary_user"] == true && is_root();
        let mut program = binary();
        if ordinary {
            // The checkout and its target directory may lie where an ordinary user can't look.
            program = project.path("bin/rapidbyte");
            fs::create_dir_all(project.path("bin")).expect("a directory can be made");
            fs::copy(binary(), &program).expect("the binary can be copied");
        }
        let case = Self { name, expected, project, database, ordinary, program };
        if let Some(script) = case.expected["before"].as_str() {
            case.shell(script, true);
        }
        case
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let list = self.expected[key].as_array().into_iter().flatten();
        list.map(|text| text.as_str().expect("a text").to_owned()).collect()
    }

    /// What scripts and pipelines are told.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("RAPIDBYTE", self.program.display().to_string()),
            ("CONNECTORS", connectors().display().to_string()),
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

    /// Runs a script in the project, as ourselves.
    #[track_caller]
    fn shell(&self, script: &str, must: bool) {
        let output = Command::new("sh").args(["-euc", script]).current_dir(self.project.dir()).envs(self.variables()).output();
        let output = output.expect("a shell can be started");
        assert!(output.status.success() || !must, "{}: `{script}`: {}", self.name, String::from_utf8_lossy(&output.stderr));
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

    fn kept(&self) -> Option<TableHash> {
        let table = self.expected["kept"].as_str()?;
        Some(self.database.as_ref().expect("`kept` needs `postgres`").hash(table))
    }

    /// The hint as printed.
    #[track_caller]
    fn hint(&self, finished: &Finished) -> String {
        let line = finished.stderr.lines().find_map(|line| line.strip_prefix("hint: "));
        line.unwrap_or_else(|| panic!("{}: no hint: {}", self.name, finished.told())).to_owned()
    }

    /// Runs something that the project needs beside the command under test.
    fn beside(&self) -> Option<Running> {
        let beside = &self.expected["beside"];
        let arguments: Vec<String> =
            beside["command"].as_array()?.iter().map(|word| word.as_str().expect("a word").to_owned()).collect();
        let mut running = self.command(&arguments).start();
        running.until_stderr(beside["until_stderr"].as_str().expect("`until_stderr`"), Duration::from_secs(30));
        Some(running)
    }
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        // Mounts and protected folders would stay behind.
        self.shell("if mountpoint -q small; then umount small; fi; chmod -R u+w .", false);
    }
}

fn run_case(name: &str) {
    let case = Case::of(name);
    let command = case.texts("command");
    let kept = case.kept();
    let beside = case.beside();

    let failed = case.command(&command).finish();
    let code = i32::try_from(case.expected["exit"].as_i64().expect("`exit` is a number")).expect("a small number");
    let failed = failed.exit(code);
    for words in case.texts("says") {
        assert!(failed.stderr.contains(&words), "{name}: no `{words}` in {}", failed.told());
    }
    for words in case.texts("never_says") {
        assert!(!failed.stderr.contains(&words) && !failed.stdout.contains(&words), "{name}: `{words}` in {}", failed.told());
    }
    assert_eq!(failed.stderr.matches("error: ").count(), 1, "{name}: one clear error: {}", failed.told());
    assert!(!failed.stderr.contains("panicked"), "{name}: {}", failed.told());
    let hint = case.hint(&failed);
    for words in case.texts("hint") {
        assert!(hint.contains(&words), "{name}: no `{words}` in the hint `{hint}`");
    }
    assert_eq!(case.kept(), kept, "{name}: what was there is kept");

    // What the hint says is done, and then the same command succeeds.
    if let Some(running) = beside {
        assert!(hint.contains(&format!("stop process {}", running.pid())), "{name}: {hint}");
        let mut running = running;
        running.signal("TERM");
        running.finish().exit(143);
    }
    match case.expected["runs_hint"].as_str() {
        Some("sql") => {
            let (_, sql) = hint.split_once(": ").unwrap_or_else(|| panic!("{name}: no SQL in the hint `{hint}`"));
            case.database.as_ref().expect("`runs_hint: sql` needs `postgres`").sql(sql.trim_matches('`'));
        }
        Some("shell") => {
            let quoted: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
            let command = quoted
                .iter()
                .find(|piece| piece.contains(' '))
                .unwrap_or_else(|| panic!("{name}: no command in the hint `{hint}`"));
            case.shell(command, true);
        }
        Some(other) => panic!("{name}: `runs_hint` is `sql` or `shell`, not `{other}`"),
        None => {}
    }
    if let Some(script) = case.expected["after"].as_str() {
        case.shell(script, true);
    }
    case.command(&command).finish().success();
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
