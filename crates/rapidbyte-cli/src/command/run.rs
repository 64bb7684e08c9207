//! `run`: moves rows.

use super::{Context, Loaded, place_of};
use crate::args::RunArgs;
use crate::bundle;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::printer::write_stderr_json;
use crate::progress::{Bars, JsonLines, Lines, Peek, Watch};
use crate::signals::Signals;
use crate::summary;
use crate::table::printable;
use rapidbyte_engine::{Cancel, Cause, Observer, RunOptions, RunReport};
use serde_json::{Value, json};
use std::sync::Arc;

/// The connector that writes rows to standard output, which then has no room for anything else.
const OWNER_OF_STDOUT: &str = "rapidbyte/dest-stdout";

pub(crate) async fn run(context: &Context, args: &RunArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let rows_on_stdout = owns_stdout(&loaded);
    let watch = Arc::new(Watch::new(observer(context)));
    let result = execute(&loaded, &watch, args.peek as usize).await;
    let peeks = watch.take_peeks();
    // The moving display goes away before anything else is said.
    drop(watch);
    let report = match result {
        Ok(report) => report,
        // A document for the failure is printed where every command's is.
        Err(failure) => return Err(failure),
    };
    if context.printer.is_json() {
        let document = success(&report, &peeks);
        if rows_on_stdout {
            write_stderr_json(&document);
            return Ok(());
        }
        return context.printer.json(&document);
    }
    let peeked = show(&peeks);
    if rows_on_stdout {
        context.printer.note(&peeked);
    } else if !peeked.is_empty() {
        context.printer.data(&peeked)?;
    }
    context.printer.note(&summary::render(&report, context.printer.err(), context.verbose > 0));
    Ok(())
}

async fn execute(loaded: &Loaded, watch: &Arc<Watch>, peek_rows: usize) -> Outcome<RunReport> {
    let cancel = Cancel::new();
    let options = RunOptions { cancel: cancel.clone(), observer: watch.clone(), peek_rows };
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

fn stopped_or(error: rapidbyte_engine::EngineError, signals: &Signals) -> Failure {
    match (&error.cause, signals.received()) {
        (Cause::Cancelled, Some(signal)) => Failure::Stopped(signal),
        _ => Failure::Engine(error),
    }
}

fn observer(context: &Context) -> Arc<dyn Observer> {
    if context.printer.is_json() {
        Arc::new(JsonLines::new())
    } else if context.can_move {
        Arc::new(Bars::new(context.printer.err()))
    } else {
        Arc::new(Lines::new())
    }
}

fn owns_stdout(loaded: &Loaded) -> bool {
    let place = place_of(&loaded.plan.destination.connector, &loaded.connectors);
    place.and_then(|place| bundle::manifest_unverified(&place)).is_some_and(|manifest| manifest.id == OWNER_OF_STDOUT)
}

fn success(report: &RunReport, peeks: &[Peek]) -> Value {
    let mut document = json!({
        "status": "succeeded",
        "exit_code": ExitCode::Success.number(),
        "report": report,
    });
    if !peeks.is_empty() {
        document["peek"] =
            peeks.iter().map(|peek| json!({ "stream": peek.stream.to_string(), "table": peek.table })).collect();
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
