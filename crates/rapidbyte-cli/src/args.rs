//! The command line.

use crate::environment::VARIABLES;
use crate::exit::ExitCode;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const GETTING_STARTED: &str = "\
Getting started:
  rapidbyte init > pipeline.yaml      a first pipeline, with comments
  rapidbyte check pipeline.yaml       would it run?
  rapidbyte run pipeline.yaml         move the rows";

/// Moves tables through sandboxed connectors, and loses nothing.
#[derive(Debug, Parser)]
#[command(name = "rapidbyte", version, after_help = GETTING_STARTED, disable_help_subcommand = true)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The command line as clap knows it.
pub(crate) fn definition() -> clap::Command {
    let mut long = format!("{GETTING_STARTED}\n\nEnvironment:\n");
    for variable in VARIABLES {
        long.push_str(&format!("  {:<26}{}\n", variable.name, variable.doc.replace('`', "")));
    }
    long.push_str("\nExit codes:\n");
    for code in ExitCode::ALL {
        long.push_str(&format!("  {:<5}{}\n", code.number(), code.meaning().replace('`', "")));
    }
    CommandLine::command().after_long_help(long)
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Logs this level and above; without it and `-v`, the variable RUST_LOG decides, or else warnings are logged
    #[arg(long, global = true, value_name = "LEVEL", value_enum, conflicts_with = "verbose")]
    pub(crate) log_level: Option<LogLevel>,
    /// Says more: -v logs milestones and shows all timings, -vv is for debugging, -vvv traces
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// How results are printed; with `json`, one document per line
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) output: OutputFormat,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a pipeline: moves its streams, or goes on where an earlier run stopped
    Run(RunArgs),
    /// Checks a pipeline without moving rows: file, manifests, permissions, connections, state store
    Check(PipelineArgs),
    /// Shows what a pipeline's source has: streams, columns, keys, sizes
    Discover(PipelineArgs),
    /// Tells what a run would do, and writes nothing: statements to come, sizes, missing rights, what policies do
    ///
    /// Ends with 12 if the run would fail, and lists the statements that mend it. Nothing is claimed: a run under way goes on.
    Plan(PipelineArgs),
    /// Compares what is at the source with what is at the destination, and writes nothing
    ///
    /// Each server digests its own rows, by ranges of the key's hash; only digests cross the network. Keys that differ are looked
    /// at again, so that rows that are changing are not called different. An incremental stream is compared up to the place that it
    /// is loaded to. Ends with 0 if all is equal, 21 if rows differ, 22 if that could not be told.
    Verify(VerifyArgs),
    /// Looks at what is remembered of a pipeline, begins streams anew, or moves the memory
    State(StateArgs),
    /// Shows rows that could not be processed, and writes them again
    Dlq(DlqArgs),
    /// Gives a pipeline up: removes its progress at the destination, and slots and publications at the source; rows stay
    Teardown(TeardownArgs),
    /// Lists the connectors that can be used by name, or packs one
    Connectors(ConnectorsArgs),
    /// Begins a new connector: a project that builds, tests and runs as it is
    Scaffold(ScaffoldArgs),
    /// Prints a first pipeline with comments
    Init(InitArgs),
    /// Shows a connector's abilities, permissions and configuration
    Spec(SpecArgs),
}

/// A pipeline.
#[derive(Debug, Args)]
pub(crate) struct PipelineArgs {
    /// The pipeline file
    #[arg(value_name = "PIPELINE")]
    pub(crate) pipeline: PathBuf,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Goes on with the changes of its streams as they come, until Ctrl-C or SIGTERM; all of them have `sync_mode: cdc`
    #[arg(long)]
    pub(crate) follow: bool,
    /// Shows the first N rows of each stream that reached the destination in this run
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub(crate) peek: u32,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// A stream, as the pipeline names it; may be given several times. Without it: every stream of the pipeline
    #[arg(long = "stream", value_name = "STREAM")]
    pub(crate) streams: Vec<String>,
    /// Compares these columns and the key alone, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// Names at most N of each stream's keys that differ. Keys are values of rows
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) keys: u32,
}

/// `teardown`
#[derive(Debug, Args)]
pub(crate) struct TeardownArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Does it; without, nothing is done
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `state`
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    pub(crate) command: StateCommand,
}

/// What to do with a pipeline's state.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Shows streams, epochs, loads, how far each is, and the last run
    Show(StateScopeArgs),
    /// Makes the next run load streams from the start
    ///
    /// The next run gives up the stream's open load, at the destination too, and begins another. Rows that are visible stay
    /// where they are: `replace` replaces them when the new load is complete, `upsert` merges into them, and `append` adds
    /// every row again beside those that are there. Empty the target first if that is not what you want.
    Reset(StateResetArgs),
    /// Writes what runs go on from as one JSON document: pipelines, epochs, loads, checkpoints, connectors' key-values
    ///
    /// The history of runs and the copies of dead letters are not part of it.
    Export(StateExportArgs),
    /// Takes in a document that `state export` has written, all of it or nothing
    ///
    /// A stream of which as much or more is known already stays as it is. Documents that are damaged, or of another pipeline,
    /// are refused.
    Import(StateImportArgs),
}

/// `state show`
#[derive(Debug, Args)]
pub(crate) struct StateScopeArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Every pipeline in the same state file
    #[arg(long)]
    pub(crate) all: bool,
}

/// `state reset`
#[derive(Debug, Args)]
pub(crate) struct StateResetArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// A stream, as the pipeline names it; may be given several times. Without it: every stream of the pipeline
    #[arg(long = "stream", value_name = "STREAM")]
    pub(crate) streams: Vec<String>,
}

/// `state export`
#[derive(Debug, Args)]
pub(crate) struct StateExportArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// The file to make, readable by this user alone; one that is there already is not written over
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Every pipeline in the same state file
    #[arg(long)]
    pub(crate) all: bool,
}

/// `state import`
#[derive(Debug, Args)]
pub(crate) struct StateImportArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// The document
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `dlq`
#[derive(Debug, Args)]
pub(crate) struct DlqArgs {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// Lists a pipeline's dead letters, without their values
    List(DlqListArgs),
    /// Shows one dead letter with its values
    Show(DlqShowArgs),
    /// Writes dead letters as JSON lines, to be looked at or edited
    Export(DlqExportArgs),
    /// Writes dead letters into the destination, each once; an interrupted replay is gone on with
    Replay(DlqReplayArgs),
}

/// `dlq list`
#[derive(Debug, Args)]
pub(crate) struct DlqListArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Only those of this stream
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// Also those that were replayed
    #[arg(long)]
    pub(crate) all: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
}

/// `dlq show`
#[derive(Debug, Args)]
pub(crate) struct DlqShowArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// The letter's number, as `dlq list` shows it
    #[arg(value_name = "ID")]
    pub(crate) id: u64,
}

/// `dlq export`
#[derive(Debug, Args)]
pub(crate) struct DlqExportArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Only those of this stream
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// Also those that were replayed
    #[arg(long)]
    pub(crate) all: bool,
    /// The file to make; by default standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `dlq replay`
#[derive(Debug, Args)]
pub(crate) struct DlqReplayArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Only those of this stream
    #[arg(long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
    /// Only this letter; may be given more than once
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<u64>,
    /// Only the letters of this file, with their records as they stand there; made by `dlq export`
    #[arg(long, value_name = "FILE")]
    pub(crate) edited: Option<PathBuf>,
}

/// `connectors`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ConnectorsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ConnectorsCommand>,
}

/// What to do with connectors.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectorsCommand {
    /// Puts a built component and its manifest together, so that it can be used in a pipeline
    Pack(PackArgs),
}

/// `connectors pack`
#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The connector's project, where manifest.json is
    #[arg(value_name = "DIR", default_value = ".")]
    pub(crate) project: PathBuf,
    /// The component as built; by default `DIR`/target/wasm32-wasip2/release/ and the manifest's entry point
    #[arg(long, value_name = "FILE")]
    pub(crate) wasm: Option<PathBuf>,
    /// Where the packed component and its manifest go; by default `DIR`/dist
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What a scaffolded connector is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScaffoldRole {
    /// It reads
    Source,
    /// It writes
    Destination,
    /// It changes what passes
    Transform,
}

impl ScaffoldRole {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Source, Self::Destination, Self::Transform];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Transform => "transform",
        }
    }
}

/// `scaffold`
#[derive(Debug, Args)]
pub(crate) struct ScaffoldArgs {
    /// The connector's name, such as `source-weather`; lower-case words with hyphens
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it is used as; by default what its name begins with (`source-`, `dest-`, `transform-`), or else a source
    #[arg(long, value_enum)]
    pub(crate) role: Option<ScaffoldRole>,
    /// The directory to make; by default the name
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// `init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Where rows come from
    #[arg(long, value_name = "CONNECTOR", default_value = "source-datagen")]
    pub(crate) source: String,
    /// Where rows go
    #[arg(long, value_name = "CONNECTOR", default_value = "dest-file")]
    pub(crate) destination: String,
}

/// `spec`
#[derive(Debug, Args)]
pub(crate) struct SpecArgs {
    /// The connector: a name as in `rapidbyte connectors`, or a component file
    #[arg(value_name = "CONNECTOR")]
    pub(crate) connector: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<CommandLine, clap::error::ErrorKind> {
        let all = std::iter::once("rapidbyte").chain(args.iter().copied());
        CommandLine::try_parse_from(all).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn no_command_is_not_an_error() {
        assert!(parse(&[]).expect("parsed").command.is_none());
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for args in [["--output", "json", "-vv", "check", "p.yaml"], ["check", "p.yaml", "--output", "json", "-vv"]] {
            let parsed = parse(&args).expect("parsed");
            assert_eq!((parsed.global.output, parsed.global.verbose), (OutputFormat::Json, 2));
        }
    }

    #[test]
    fn level_and_verbosity_exclude_each_other() {
        for args in [vec!["-v", "--log-level", "info", "run", "p"], vec!["run", "-v", "p", "--log-level=info"]] {
            assert_eq!(parse(&args).expect_err("conflict"), clap::error::ErrorKind::ArgumentConflict);
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        use clap::error::ErrorKind::{InvalidSubcommand, InvalidValue, UnknownArgument, ValueValidation};
        for (args, kind) in [
            (vec!["fly"], InvalidSubcommand),
            (vec!["run", "p", "--fast"], UnknownArgument),
            (vec!["run", "p", "--output", "xml"], InvalidValue),
            (vec!["run", "p", "--peek", "-1"], UnknownArgument),
            (vec!["run", "p", "--peek", "1001"], ValueValidation),
        ] {
            assert_eq!(parse(&args).expect_err("refused"), kind, "{args:?}");
        }
    }

    #[test]
    fn packing_is_a_command_below_connectors() {
        let parsed = parse(&["connectors", "pack", "x", "--wasm", "a.wasm"]).expect("parsed");
        let Some(Command::Connectors(ConnectorsArgs { command: Some(ConnectorsCommand::Pack(pack)) })) = parsed.command else {
            panic!("another command");
        };
        assert_eq!((pack.project, pack.wasm, pack.out), ("x".into(), Some("a.wasm".into()), None));
    }
}
