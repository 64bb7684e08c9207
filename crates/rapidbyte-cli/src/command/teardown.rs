//! `teardown`: a pipeline is given up.

use super::Context;
use crate::args::TeardownArgs;
use crate::failure::{Failure, Outcome};
use crate::table::printable;
use serde_json::json;

pub(crate) async fn run(context: &Context, args: &TeardownArgs) -> Outcome {
    if !args.yes {
        return Err(Failure::usage(
            "this gives up how far the pipeline has come: its next run loads every stream from the start",
            "say `--yes` if that is meant",
        ));
    }
    let loaded = context.load(&args.pipeline.pipeline)?;
    let streams = loaded.signals.unless_stopped(async { Ok(loaded.engine.teardown(&loaded.plan).await?) }).await?;
    let names: Vec<String> = streams.iter().map(ToString::to_string).collect();
    if context.printer.is_json() {
        return context.printer.json(&json!({ "status": "succeeded", "exit_code": 0, "streams": names }));
    }
    let what = format!("`{}` is given up: {} streams; their tables and files stay", loaded.plan.pipeline, names.len());
    context.printer.data(&format!("{}\n", printable(&what)))
}
