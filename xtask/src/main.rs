//! Everything that is done to the project, as one command: `cargo xtask <verb>`.
//!
//! Each verb does its own set-up, says what it does, and can be run again.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod bench;
mod bundle;
mod checks;
mod demo;
mod guest_toolchain;
mod prove;
mod run;
mod system;
mod tests;

use run::Failure;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask <verb>

  demo            set up, build, and run the first pipeline: generated orders to Parquet, no database needed
  test            set up everything the tests need, then run all of them
  lint            formatting, lints, docs, dependencies
  ci              test and lint: what a change must pass
  connectors      build and pack the first-party connectors
  build           build the `rapidbyte` binary with the connectors inside; prints its path
  bench [ARGS]    run the benchmarks (see benches/README.md)
  prove [ARGS]    run the long proofs and write docs/proof.md
  setup           install what the tests need and is missing, and nothing else
";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next();
    let rest: Vec<String> = words.collect();
    let done = match verb.as_deref() {
        Some("demo") => demo::run(),
        Some("test") => tests::run(&rest),
        Some("lint") => checks::lint(),
        Some("ci") => checks::run(),
        Some("connectors") => bundle::connectors().map(|dir| println!("{}", dir.display())),
        Some("build") => bundle::binary(bundle::Flavour::Release).map(|path| println!("{}", path.display())),
        Some("bench") => bench::run(&rest),
        Some("prove") => prove::run(&rest),
        Some("setup") => system::for_tests(),
        Some("help" | "--help" | "-h") | None => {
            print!("{HELP}");
            Ok(())
        }
        Some(other) => Err(Failure::new(format!("no verb `{other}`")).hint("`cargo xtask help` lists the verbs")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            if let Some(hint) = failure.hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
