//! Reference pages that are made from the code. `RAPIDBYTE_BLESS=1 cargo test -p rapidbyte-cli` writes them anew.

use crate::args::definition;
use crate::environment::VARIABLES;
use crate::exit::ExitCode;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const MADE: &str = "<!-- Made from the code by a test of rapidbyte-cli; `RAPIDBYTE_BLESS=1` writes it anew. -->\n\n";

fn same(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    if std::env::var_os("RAPIDBYTE_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(&path, made).expect("written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(there, made, "docs/reference/{name} is not what the code says; write it anew with RAPIDBYTE_BLESS=1");
}

#[test]
fn exit_codes_page() {
    let mut page = format!(
        "# Exit codes\n\n{MADE}A number never changes its meaning; new ones may be added. The word stands in the `kind` of an error under `--output json`.\n\n\
         | Code | Word | Meaning |\n|---|---|---|\n"
    );
    for code in ExitCode::ALL {
        let _ = writeln!(page, "| {} | `{}` | {} |", code.number(), code.word(), code.meaning());
    }
    same("exit-codes.md", &page);
}

#[test]
fn environment_page() {
    let mut page = format!(
        "# Environment\n\n{MADE}What `rapidbyte` reads from its environment. An empty value counts as none.\n\n\
         | Variable | Takes | Effect |\n|---|---|---|\n"
    );
    for variable in VARIABLES {
        let _ = writeln!(page, "| `{}` | {} | {} |", variable.name, variable.takes, variable.doc);
    }
    page.push_str(
        "\nA pipeline file may name any variable as `${NAME}`, `${NAME:-default}` or `${NAME:?message}`. Values that come into a pipeline \
         this way are treated as secrets: wherever they would be printed or logged stands `***`.\n\n\
         A connector sees no variable but those that its manifest lists under `permissions.env`; `rapidbyte spec` shows them.\n\n\
         ## What is logged\n\n\
         `--log-level` and `-v` exclude each other, and either wins over `RUST_LOG`. They apply to Rapidbyte's own code; libraries are \
         logged from `warn` on. With `RUST_LOG` alone its directives hold as they are. With none of the three, warnings and errors are \
         logged.\n",
    );
    same("environment.md", &page);
}

#[test]
fn command_line_page() {
    let mut page = format!("# Command line\n\n{MADE}");
    page.push_str(OUTPUTS);
    let mut root = definition();
    // Names and wraps as they are when the binary runs, whatever terminal the test has.
    root = root.term_width(100);
    root.build();
    describe(&mut page, &root, "rapidbyte");
    same("cli.md", &page);
}

fn describe(page: &mut String, command: &clap::Command, path: &str) {
    if command.get_name() == "help" {
        return;
    }
    // The root's long help repeats other pages.
    let mut command = command.clone().term_width(100);
    let help = if path == "rapidbyte" { command.render_help() } else { command.render_long_help() }.to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let _ = write!(page, "\n## `{path}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for sub in command.get_subcommands() {
        describe(page, sub, &format!("{path} {}", sub.get_name()));
    }
}

const OUTPUTS: &str = "\
## What is printed where

Data goes to standard output, everything else to standard error. Rows of `dest-stdout` are data; so are the results of `check`,
`discover`, `plan`, `verify`, `state`, `connectors`, `spec`, `init` and the rows that `run --peek` shows. Progress, logs, errors and the summary after a run
are not. Where `dest-stdout` is the destination it owns standard output, and a peek goes to standard error.

On a terminal a run shows a line per stream that is under way, otherwise it prints a line per event. Known secrets are replaced by
`***` wherever text is printed.

With `--output json`

- a command prints exactly one JSON document on standard output, on one line. `run` prints `{\"status\": \"succeeded\", \"exit_code\": 0,
  \"report\": …}` at its end, with `peek` if that was asked for. Where `dest-stdout` owns standard output the document is the last
  line of standard error;
- a failure is `{\"status\": \"failed\", \"exit_code\": …, \"error\": {\"kind\", \"code\", \"category\", \"stage\", \"connector\", \"stream\",
  \"attempts\", \"first_attempt\", \"message\", \"cause\", \"hint\"}}`, with the keys that apply; `status` is `cancelled` after a signal. `kind` is a word of
  [exit codes](exit-codes.md);
- progress is one JSON document per line on standard error, with `event` one of `started`, `planned`, `progress` (cumulative, at most
  one per second and stream), `retrying`, `published`, `failed`; log lines are JSON, too, and have a `level`.

A wrong command line is always reported as text.

## Signals

The first Ctrl-C or SIGTERM ends a run cleanly within two seconds, with exit code 130 or 143; the second ends it at once. Either is
safe: what was committed stays, and the next run goes on from there. When the reader of standard output goes away, the command ends
with exit code 0.
";
