//! The `rapidbyte` command: the engine's face in a terminal.

mod amounts;
mod args;
mod bundle;
mod command;
#[cfg(test)]
mod docs;
mod environment;
mod exit;
mod failure;
mod finding;
mod logging;
mod panic;
mod printer;
mod progress;
mod redaction;
mod schema;
mod signals;
mod style;
mod summary;
mod table;
mod time;

use crate::args::{Command, CommandLine, definition};
use crate::command::Context;
use crate::environment::{Environment, TERM};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::printer::Printer;
use crate::style::Style;
use clap::FromArgMatches;
use std::io::IsTerminal;
use std::time::Duration;

fn main() -> std::process::ExitCode {
    panic::install_hook();
    // A panic that reaches this far has been reported by the hook.
    let code = std::panic::catch_unwind(run).unwrap_or(ExitCode::Internal);
    std::process::ExitCode::from(code.number())
}

fn run() -> ExitCode {
    let arguments = match read_arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output, a wrong command line to standard error: clap knows. A closed stream ends it.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success };
        }
    };
    let environment = Environment::of_process();
    let style = |is_terminal| Style::choose(arguments.global.color, &environment, is_terminal);
    let (out, err) = (style(std::io::stdout().is_terminal()), style(std::io::stderr().is_terminal()));
    let printer = Printer::new(arguments.global.output, out, err);
    let can_move = std::io::stderr().is_terminal() && environment.get(TERM) != Some("dumb");
    let outcome = start_logging(&arguments, &environment, err).and_then(|()| {
        let context = Context { environment, printer, verbose: arguments.global.verbose, can_move };
        execute(&context, arguments.command)
    });
    match outcome {
        Ok(()) => ExitCode::Success,
        Err(failure) => {
            say(&printer, &failure);
            failure.exit_code()
        }
    }
}

/// Reads the command line. Colours of help and of clap's own errors are decided before anything else is.
fn read_arguments() -> Result<CommandLine, clap::Error> {
    let wish = std::env::args().skip_while(|arg| arg != "--color" && !arg.starts_with("--color=")).take(2).collect::<Vec<_>>();
    let color = match wish.iter().flat_map(|arg| arg.split('=')).nth(1) {
        Some("always") => clap::ColorChoice::Always,
        Some("never") => clap::ColorChoice::Never,
        _ => clap::ColorChoice::Auto,
    };
    let matches = definition().color(color).try_get_matches()?;
    CommandLine::from_arg_matches(&matches)
}

fn start_logging(arguments: &CommandLine, environment: &Environment, style: Style) -> Outcome {
    let directives = logging::directives(arguments.global.log_level, arguments.global.verbose, environment)?;
    logging::start(&directives, arguments.global.output, style)
}

fn execute(context: &Context, command: Option<Command>) -> Outcome {
    match command {
        None => context.printer.data(&definition().render_help().to_string()),
        Some(Command::Run(args)) => block_on(command::run::run(context, &args)),
        Some(Command::Check(args)) => block_on(command::check::run(context, &args)),
        Some(Command::Discover(args)) => block_on(command::discover::run(context, &args)),
        Some(Command::Plan(args)) => block_on(command::plan::run(context, &args)),
        Some(Command::Verify(args)) => block_on(command::verify::run(context, &args)),
        Some(Command::State(args)) => command::state::run(context, &args),
        Some(Command::Teardown(args)) => block_on(command::teardown::run(context, &args)),
        Some(Command::Dlq(args)) => block_on(command::dlq::run(context, &args)),
        Some(Command::Connectors(args)) => command::connectors::run(context, &args),
        Some(Command::Scaffold(args)) => command::scaffold::run(context, &args),
        Some(Command::Init(args)) => command::init::run(context, &args),
        Some(Command::Spec(args)) => command::spec::run(context, &args),
    }
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .enable_all()
        .build()
        .map_err(|error| Failure::Internal(format!("the runtime can't start: {error}")))?;
    let outcome = runtime.block_on(work);
    // A blocking call that hangs must not keep the process: everything durable has a receipt.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// Says what went wrong, in the form that was asked for.
fn say(printer: &Printer, failure: &Failure) {
    let Some(words) = failure.words() else { return };
    if printer.is_json() {
        let status = if matches!(failure, Failure::Stopped(_)) { "cancelled" } else { "failed" };
        let document =
            serde_json::json!({ "status": status, "exit_code": failure.exit_code().number(), "error": failure.as_json() });
        if printer.json(&document).is_ok() {
            return;
        }
    }
    printer.note(&words.render(printer.err()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_begins_a_newcomer() {
        let help = definition().render_help().to_string();
        for part in ["Usage: rapidbyte", "Getting started:", "rapidbyte init > pipeline.yaml", "scaffold"] {
            assert!(help.contains(part), "{part}\n{help}");
        }
    }
}
