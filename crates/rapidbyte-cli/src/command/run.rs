//! `run`: moves rows.

use super::{Context, Loaded, place_of};
use crate::args::RunArgs;
use crate::bundle;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::printer::cede_stdout;
use crate::progress::{Bars, JsonLines, Lines, Peek, Watch};
use crate::signals::Signals;
use crate::summary;
use crate::table::printable;
use rapidbyte_engine::{Cancel, EngineError, Observer, RunOptions, RunReport};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::sync::Arc;

/// The connector that writes rows to standard output, which then has no room for anything else.
const OWNER_OF_STDOUT: &str = "rapidbyte/dest-stdout";

pub(crate) async fn run(context: &Context, args: &RunArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let rows_on_stdout = owns_stdout(&loaded);
    if rows_on_stdout {
        cede_stdout();
    }
    // Rows and a moving display on one terminal would write over each other.
    let can_move = context.can_move && !(rows_on_stdout && std::io::stdout().is_terminal());
    let watch = Arc::new(Watch::new(observer(context, can_move)));
    let result = execute(&loaded, &watch, args).await;
    // The moving display goes away before anything else is said.
    let peeks = watch.close();
    let report = result?;
    let skipped = if report.rows_dropped > 0 { Err(Failure::RowsSkipped) } else { Ok(()) };
    if context.printer.is_json() {
        return context.printer.json(&success(&report, &peeks)).and(skipped);
    }
    let shown = if peeks.is_empty() { Ok(()) } else { context.printer.data(&show(&peeks)) };
    context.printer.note(&summary::render(&report, context.printer.err(), context.verbose > 0));
    shown.and(skipped)
}

async fn execute(loaded: &Loaded, watch: &Arc<Watch>, args: &RunArgs) -> Outcome<RunReport> {
    let cancel = Cancel::new();
    let (follow, peek_rows) = (args.follow, args.peek as usize);
    let options = RunOptions { cancel: cancel.clone(), observer: watch.clone(), follow, peek_rows };
    let run = loaded.engine.run(&loaded.plan, options);
    tokio::pin!(run);
    let result = tokio::select! {
        result = &mut run => result,
        _ = loaded.signals.first() => {
            cancel.cancel();
            run.await
        }
    };
    result.map_err(|error| stopped_or(error, &loaded.signals))
}

/// After a signal the run ended because of it, whatever broke first on the way.
fn stopped_or(error: EngineError, signals: &Signals) -> Failure {
    signals.received().map_or(Failure::Engine(error), Failure::Stopped)
}

fn observer(context: &Context, can_move: bool) -> Box<dyn Observer> {
    if context.printer.is_json() {
        Box::new(JsonLines::new())
    } else if can_move {
        Box::new(Bars::new(context.printer.err()))
    } else {
        Box::new(Lines::new())
    }
}

fn owns_stdout(loaded: &Loaded) -> bool {
    let place = place_of(&loaded.plan.destination.connector, &loaded.connectors);
    place.and_then(|place| bundle::manifest_unverified(&place)).is_some_and(|manifest| manifest.id == OWNER_OF_STDOUT)
}

fn success(report: &RunReport, peeks: &[Peek]) -> Value {
    let mut document = json!({
        "status": "succeeded",
        "exit_code": if report.rows_dropped > 0 { ExitCode::RowsSkipped } else { ExitCode::Success }.number(),
        "report": report,
    });
    if !peeks.is_empty() {
        document["peek"] = peeks.iter().map(|peek| json!({ "stream": peek.stream.to_string(), "table": peek.table })).collect();
    }
    document
}

fn show(peeks: &[Peek]) -> String {
    let mut text = String::new();
    for peek in peeks {
        text.push_str(&format!("{}\n{}\n", printable(&peek.stream.to_string()), peek.table.trim_end()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_types::StreamName;

    #[test]
    fn success_is_one_document() {
        let peek = Peek { stream: StreamName::new("orders"), table: "| 1 |".to_owned() };
        let document = success(&summary::tests::report(), &[peek]);
        assert_eq!(document["status"], "succeeded");
        assert_eq!(document["report"]["streams"][0]["rows_read"], 100_000);
        assert_eq!(document["report"]["streams"][0]["stream"], "public.orders");
        assert_eq!(document["report"]["duration_ms"], 2000);
        assert_eq!(document["report"]["timings_ns"]["commit"], 2_000_000);
        assert_eq!(document["peek"][0]["table"], "| 1 |");
    }

    #[test]
    fn peeks_are_headed_by_their_stream() {
        let peek = Peek { stream: StreamName::new("orders"), table: "+--+\n".to_owned() };
        assert_eq!(show(&[peek]), "orders\n+--+\n");
    }
}
