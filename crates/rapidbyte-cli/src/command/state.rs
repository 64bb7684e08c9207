//! `state`: what is remembered of a pipeline.

use super::{Context, streams};
use crate::amounts;
use crate::args::{StateArgs, StateCommand, StateExportArgs, StateImportArgs, StateResetArgs, StateScopeArgs};
use crate::bundle::read_capped;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::style::Style;
use crate::table::{Align, Table, printable};
use crate::time::utc;
use rapidbyte_engine::{Cause, EngineError, Keeper, KeeperStream, Stage};
use rapidbyte_state::{Checkpoint, MAX_EXPORT_BYTES, PipelineRecord, RunRecord, StateError, StateExport};
use rapidbyte_types::{StreamName, WriteMode};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A position is shown up to here; the whole of it stands in the JSON.
const SHOWN_POSITION: usize = 100;

pub(crate) fn run(context: &Context, args: &StateArgs) -> Outcome {
    match &args.command {
        StateCommand::Show(args) => show(context, args),
        StateCommand::Reset(args) => reset(context, args),
        StateCommand::Export(args) => export(context, args),
        StateCommand::Import(args) => import(context, args),
    }
}

fn state_failure(error: StateError) -> Failure {
    Failure::Engine(EngineError {
        stage: Stage::State,
        connector: None,
        stream: None,
        cause: Cause::State(error),
        attempts: 1,
        first: None,
    })
}

/// A pipeline in a store, with all that is shown of it.
struct Shown {
    pipeline: PipelineRecord,
    last_run: Option<RunRecord>,
    streams: Vec<KeeperStream>,
}

fn show(context: &Context, args: &StateScopeArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let keeper = Keeper::open_existing(&loaded.plan)?;
    let mut shown = Vec::new();
    if let Some(keeper) = &keeper {
        for pipeline in keeper.pipelines(args.all)? {
            shown.push(Shown { last_run: keeper.last_run(&pipeline)?, streams: keeper.streams(&pipeline)?, pipeline });
        }
    }
    let location = keeper.map(|keeper| keeper.location());
    if context.printer.is_json() {
        return context.printer.json(&json!({ "location": location, "pipelines": shown.iter().map(document).collect::<Vec<_>>() }));
    }
    if shown.is_empty() {
        let what = match location {
            Some(location) => format!("{location} knows nothing of `{}` yet", loaded.plan.pipeline),
            None => format!("`{}` has no state yet: it has never been run from here", loaded.plan.pipeline),
        };
        context.printer.note(&format!("{}\n", printable(&what)));
        return Ok(());
    }
    let style = context.printer.out();
    let pipelines: Vec<String> = shown.iter().map(|shown| render(shown, style)).collect();
    context.printer.data(&pipelines.join("\n"))
}

fn document(shown: &Shown) -> Value {
    let Shown { pipeline, last_run, streams } = shown;
    json!({
        "id": pipeline.id.to_string(),
        "name": pipeline.name,
        "source_identity": (!pipeline.source_identity.is_empty()).then_some(&pipeline.source_identity),
        "created_at_ms": pipeline.created_at_ms,
        "last_run": last_run.as_ref().map(|run| json!({
            "run_id": run.run_id,
            "status": run.status.as_str(),
            "started_at_ms": run.started_at_ms,
            "finished_at_ms": run.finished_at_ms,
            "rows_written": run.totals.rows_written,
            "error": run.error.as_ref().map(|error| json!({
                "category": error.category.as_str(), "code": error.code, "message": error.message, "hint": error.hint,
            })),
        })),
        "streams": streams.iter().map(stream_document).collect::<Vec<_>>(),
    })
}

fn stream_document(stream: &KeeperStream) -> Value {
    let checkpoint = |of: &Checkpoint| {
        json!({
            "generation": of.generation,
            "partition": of.partition,
            "epoch": of.epoch,
            "seq": of.seq,
            "position": of.position.as_ref().map(|position| json!({ "type": position.kind.as_str(), "value": position.value })),
            "rows": of.rows,
            "bytes": of.bytes,
            "last": of.last,
            "committed_at_ms": of.committed_at_ms,
        })
    };
    json!({
        "namespace": stream.stream.namespace,
        "name": stream.stream.name,
        "epoch": stream.epoch,
        "generations": stream.generations.iter().map(|of| json!({
            "number": of.number, "state": of.state.as_str(), "snapshot": of.snapshot,
        })).collect::<Vec<_>>(),
        "checkpoints": stream.checkpoints.iter().map(checkpoint).collect::<Vec<_>>(),
        "reset_asked_at_ms": stream.reset_asked_at_ms,
    })
}

fn render(shown: &Shown, style: Style) -> String {
    let Shown { pipeline, last_run, streams } = shown;
    let mut text = format!("{} – {}\n", style.heading(&printable(&pipeline.name)), pipeline.id);
    if !pipeline.source_identity.is_empty() {
        text.push_str(&format!("  source    {}\n", printable(&pipeline.source_identity)));
    }
    text.push_str(&format!("  last run  {}\n", last_run.as_ref().map_or_else(|| "none".to_owned(), run_words)));
    if streams.is_empty() {
        text.push_str("  no stream has been claimed yet\n");
        return text;
    }
    let mut table = Table::new(&[
        ("  stream", Align::Left),
        ("epoch", Align::Right),
        ("load", Align::Right),
        ("state", Align::Left),
        ("partitions", Align::Right),
        ("rows", Align::Right),
        ("committed", Align::Left),
        ("position", Align::Left),
    ]);
    for stream in streams {
        let newest = stream.generations.first();
        let complete = stream.checkpoints.iter().filter(|checkpoint| checkpoint.last).count();
        let position = match stream.checkpoints.as_slice() {
            [one] => one.position.as_ref().map(|position| format!("{} {}", position.kind.as_str(), short(&position.value))),
            _ => None,
        };
        let state = match (stream.reset_asked_at_ms, newest) {
            (Some(_), _) => "begins anew".to_owned(),
            (None, Some(newest)) => newest.state.to_string(),
            (None, None) => String::new(),
        };
        table.row([
            format!("  {}", stream.stream),
            stream.epoch.to_string(),
            newest.map(|newest| newest.number.to_string()).unwrap_or_default(),
            state,
            format!("{complete}/{}", stream.checkpoints.len()),
            amounts::count(stream.checkpoints.iter().map(|checkpoint| checkpoint.rows).sum()),
            stream.checkpoints.iter().map(|checkpoint| checkpoint.committed_at_ms).max().map(utc).unwrap_or_default(),
            position.unwrap_or_default(),
        ]);
    }
    text.push_str(&table.render(style));
    text
}

fn run_words(run: &RunRecord) -> String {
    let mut words = format!("{} · {} · {}", run.status, utc(run.started_at_ms), amounts::counted(run.totals.rows_written, "row"));
    if let Some(error) = &run.error {
        words.push_str(&format!(" · {} (`{}`)", printable(&error.message), printable(&error.code)));
    }
    words
}

fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN_POSITION {
        return text.to_owned();
    }
    format!("{}…", text.chars().take(SHOWN_POSITION).collect::<String>())
}

fn reset(context: &Context, args: &StateResetArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let chosen = streams::named(&loaded.plan, &args.streams)?;
    let names: Vec<StreamName> = chosen.iter().map(|stream| stream.name.clone()).collect();
    let kind = loaded.engine.manifest(&loaded.plan.source.connector)?.id;
    Keeper::open(&loaded.plan)?.reset(&kind, &names)?;
    if context.printer.is_json() {
        return context.printer.json(&json!({
            "status": "succeeded",
            "exit_code": ExitCode::Success.number(),
            "streams": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    }
    let mut text = String::new();
    for stream in chosen {
        let after = match stream.write_mode {
            WriteMode::Replace => "the next run replaces what is there, in one act",
            WriteMode::Upsert => "the next run merges every row into what is there",
            WriteMode::Append => "the next run adds every row again, beside those that are there",
        };
        text.push_str(&format!("{} begins anew: {after}\n", printable(&stream.name.to_string())));
    }
    context.printer.data(&text)
}

fn export(context: &Context, args: &StateExportArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let Some(keeper) = Keeper::open_existing(&loaded.plan)? else {
        return Err(Failure::usage(
            format!("`{}` has no state yet: it has never been run from here", loaded.plan.pipeline),
            "export it where it runs",
        ));
    };
    let export = keeper.export(args.all)?;
    let path = &args.file;
    // Not to standard output: what is printed is redacted, and would not be what was checked any more.
    write_new(path, export.to_json().as_bytes()).map_err(|error| Failure::file("write", path, error))?;
    if context.printer.is_json() {
        return context.printer.json(&json!({
            "status": "succeeded",
            "exit_code": ExitCode::Success.number(),
            "file": path.display().to_string(),
            "pipelines": export.pipelines().collect::<Vec<_>>(),
            "streams": export.streams(),
        }));
    }
    let what = format!("{} of {}", amounts::counted(export.streams() as u64, "stream"), listed(&export));
    context.printer.data(&format!("{} written to `{}`\n", printable(&what), path.display()))
}

fn listed(export: &StateExport) -> String {
    export.pipelines().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Positions may hold cursor values: nobody else reads the file, and no other file is written over.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file: File = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn import(context: &Context, args: &StateImportArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let bytes = read_capped(&args.file, MAX_EXPORT_BYTES).map_err(|error| Failure::file("read", &args.file, error))?;
    // Bytes that are no text are no document either; what they become says so.
    let export = StateExport::from_json(&String::from_utf8_lossy(&bytes)).map_err(|error| state_failure(error.at(&args.file)))?;
    let report = Keeper::open(&loaded.plan)?.import(&export)?;
    if context.printer.is_json() {
        let named = |streams: &[(String, StreamName)]| -> Vec<Value> {
            streams.iter().map(|(pipeline, stream)| json!({ "pipeline": pipeline, "stream": stream.to_string() })).collect()
        };
        return context.printer.json(&json!({
            "status": "succeeded",
            "exit_code": ExitCode::Success.number(),
            "taken": named(&report.taken),
            "kept": named(&report.kept),
        }));
    }
    let mut text = String::new();
    for (what, streams) in [("taken in", &report.taken), ("known here already, left as it is", &report.kept)] {
        for (pipeline, stream) in streams {
            text.push_str(&format!("`{}` {} – {what}\n", printable(pipeline), printable(&stream.to_string())));
        }
    }
    context.printer.data(&text)
}
