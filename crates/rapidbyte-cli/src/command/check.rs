//! `check`: would it run?

use super::Context;
use crate::args::PipelineArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::finding;
use crate::style::Style;
use crate::table::printable;
use rapidbyte_engine::{CheckLine, CheckReport};
use rapidbyte_types::CheckStatus;
use serde_json::{Value, json};

pub(crate) async fn run(context: &Context, args: &PipelineArgs) -> Outcome {
    let loaded = context.load(&args.pipeline)?;
    let report = loaded.signals.unless_stopped(async { Ok(loaded.engine.check(&loaded.plan).await) }).await?;
    if context.printer.is_json() {
        context.printer.json(&document(&report))?;
    } else {
        context.printer.data(&render(&report, &loaded.plan.pipeline, context.printer.out()))?;
    }
    if report.failed() { Err(Failure::CheckFailed) } else { Ok(()) }
}

fn document(report: &CheckReport) -> Value {
    let items: Vec<Value> = report
        .items
        .iter()
        .map(|item| {
            json!({
                "area": item.area,
                "name": item.name,
                "status": item.status.as_str(),
                "message": item.message,
                "hint": item.hint,
            })
        })
        .collect();
    let (status, code) = if report.failed() { ("failed", ExitCode::CheckFailed) } else { ("succeeded", ExitCode::Success) };
    json!({ "status": status, "exit_code": code.number(), "items": items })
}

fn render(report: &CheckReport, pipeline: &str, style: Style) -> String {
    let mut text = String::new();
    for CheckLine { area, name, status, message, hint } in &report.items {
        let what = if name.is_empty() { area.clone() } else { format!("{area}: {name}") };
        let message = if message.is_empty() { String::new() } else { format!(" – {message}") };
        text.push_str(&finding::shown(*status, &format!("{what}{message}"), hint.as_deref(), style));
    }
    let count = |status| report.items.iter().filter(|item| item.status == status).count();
    let (failed, warnings) = (count(CheckStatus::Failed), count(CheckStatus::Warning));
    let cautions = if warnings > 0 { format!(", {warnings} with a caution") } else { String::new() };
    let verdict = match failed {
        0 => format!("`{}` is ready to run{cautions}", printable(pipeline)),
        _ => format!("`{}` would not run: {failed} of {} checks failed{cautions}", printable(pipeline), report.items.len()),
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, status: CheckStatus, hint: Option<&str>) -> CheckLine {
        CheckLine {
            area: "source `source-a`".to_owned(),
            name: name.to_owned(),
            status,
            message: "m".to_owned(),
            hint: hint.map(str::to_owned),
        }
    }

    #[test]
    fn a_failed_check_says_what_and_how_to_mend_it() {
        let items =
            vec![line("manifest", CheckStatus::Ok, Some("unsaid")), line("connection", CheckStatus::Failed, Some("mend it"))];
        let report = CheckReport { items };
        assert_eq!(
            render(&report, "p", Style::plain()),
            "ok       source `source-a`: manifest – m\n\
             failed   source `source-a`: connection – m\n         hint: mend it\n\
             \n`p` would not run: 1 of 2 checks failed\n"
        );
        assert_eq!(document(&report)["exit_code"], 12);
        assert_eq!(document(&report)["items"][1]["status"], "failed");
    }

    #[test]
    fn cautions_do_not_fail() {
        let report = CheckReport { items: vec![line("delivery", CheckStatus::Warning, None)] };
        assert!(render(&report, "p", Style::plain()).ends_with("\n`p` is ready to run, 1 with a caution\n"));
        assert_eq!(document(&report)["status"], "succeeded");
    }
}
