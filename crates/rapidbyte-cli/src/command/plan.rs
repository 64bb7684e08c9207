//! `plan`: what would a run do?

use super::Context;
use crate::amounts;
use crate::args::PipelineArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::finding;
use crate::style::Style;
use crate::table::printable;
use rapidbyte_engine::{PlanReport, StreamPlan};
use rapidbyte_types::{Effect, EffectKind};
use serde_json::{Value, json};

pub(crate) async fn run(context: &Context, args: &PipelineArgs) -> Outcome {
    let loaded = context.load(&args.pipeline)?;
    let work = async { loaded.engine.plan(&loaded.plan).await.map_err(Failure::from) };
    let report = loaded.signals.unless_stopped(work).await?;
    if context.printer.is_json() {
        context.printer.json(&document(&report))?;
    } else {
        context.printer.data(&render(&report, context.printer.out()))?;
    }
    if report.refused() { Err(Failure::CheckFailed) } else { Ok(()) }
}

fn document(report: &PlanReport) -> Value {
    let streams: Vec<Value> = report
        .streams
        .iter()
        .map(|stream| {
            let mut document = json!(stream);
            document["stream"] = json!(stream.stream.to_string());
            document
        })
        .collect();
    let (status, code) = if report.refused() { ("refused", ExitCode::CheckFailed) } else { ("ready", ExitCode::Success) };
    json!({
        "status": status,
        "exit_code": code.number(),
        "pipeline": report.pipeline,
        "streams": streams,
        "findings": report.findings,
    })
}

fn render(report: &PlanReport, style: Style) -> String {
    let mut text = String::new();
    for stream in &report.streams {
        text.push_str(&one(stream, style));
        text.push('\n');
    }
    for found in &report.findings {
        let what = format!("{}: {} – {}", found.area, found.name, found.message);
        text.push_str(&finding::shown(found.status, &what, found.hint.as_deref(), style));
    }
    let statements: Vec<&str> = report.findings.iter().filter_map(|finding| finding.sql.as_deref()).collect();
    if !statements.is_empty() {
        text.push_str(&format!("\n{}\n", style.heading("statements that mend it:")));
        for statement in statements {
            text.push_str(&format!("  {};\n", printable(statement)));
        }
    }
    let pipeline = printable(&report.pipeline);
    let verdict = match report.refused() {
        false => format!("{} nothing stands in the way of `{pipeline}`; nothing was written", style.good("ready:")),
        true => format!("{} `{pipeline}` would fail; nothing was written", style.error("refused:")),
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}

fn one(stream: &StreamPlan, style: Style) -> String {
    let mut facts = vec![format!("{}, {}", stream.sync_mode, stream.write_mode)];
    facts.extend(stream.estimated_rows.map(|rows| format!("about {}", amounts::counted(rows, "row"))));
    facts.extend(stream.estimated_bytes.map(amounts::bytes));
    facts.push(amounts::counted(stream.columns.len() as u64, "column"));
    let name = printable(&stream.stream.to_string());
    let mut text = format!("{} – {}\n", style.heading(&name), printable(&facts.join(" · ")));
    let mut line = |what: &str, said: &str| text.push_str(&format!("  {what:<8} {}\n", printable(said)));
    line("reads", &stream.reading);
    line("begins", &stream.resumes);
    let there = match (stream.exists, stream.target_rows) {
        (None, _) => String::new(),
        (Some(false), _) => ", which is not there".to_owned(),
        (Some(true), None) => ", which is there".to_owned(),
        (Some(true), Some(rows)) => format!(", which is there with about {}", amounts::counted(rows, "row")),
    };
    line("into", &format!("{}{there}", stream.target));
    for Effect { kind, message, sql, hint } in &stream.effects {
        let word = match kind {
            EffectKind::Create => "creates",
            EffectKind::Alter => "alters",
            EffectKind::Write => "writes",
            EffectKind::Policy => "policy",
            EffectKind::Refusal => "REFUSED",
        };
        line(word, message);
        for sql in sql.iter().flat_map(|sql| sql.lines()) {
            line("", &format!("    {sql}"));
        }
        if let Some(hint) = hint {
            line("", &format!("hint: {hint}"));
        }
    }
    for policy in &stream.policies {
        line("policy", policy);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_engine::PlanFinding;
    use rapidbyte_types::{CheckStatus, StreamName, SyncMode, WriteMode};

    fn report(status: CheckStatus) -> PlanReport {
        let create = Effect {
            kind: EffectKind::Create,
            message: "the table `raw.orders` is made".into(),
            sql: Some("CREATE TABLE \"raw\".\"orders\" (\"id\" bigint NOT NULL,\n\"at\" date)".into()),
            hint: None,
        };
        PlanReport {
            pipeline: "p".into(),
            streams: vec![StreamPlan {
                stream: StreamName::qualified("public", "orders"),
                sync_mode: SyncMode::FullRefresh,
                write_mode: WriteMode::Append,
                columns: vec!["id".into(), "at".into()],
                estimated_rows: Some(1000),
                estimated_bytes: None,
                reading: "can be read".into(),
                resumes: "from the start".into(),
                target: "raw.orders".into(),
                exists: Some(false),
                target_rows: None,
                effects: vec![create],
                policies: vec!["a row ends the run".into()],
            }],
            findings: vec![PlanFinding {
                area: "destination `dest-postgres`".into(),
                name: "schema `raw`".into(),
                status,
                message: "no right to make tables in it".into(),
                hint: Some("as its owner run: `GRANT CREATE ON SCHEMA \"raw\" TO \"u\"`".into()),
                sql: Some("GRANT CREATE ON SCHEMA \"raw\" TO \"u\"".into()),
            }],
        }
    }

    #[test]
    fn what_would_happen_is_said_in_order() {
        assert_eq!(
            render(&report(CheckStatus::Failed), Style::plain()),
            "public.orders – full_refresh, append · about 1,000 rows · 2 columns\n  reads    can be read\n  begins   from the start\n  \
             into     raw.orders, which is not there\n  creates  the table `raw.orders` is made\n               \
             CREATE TABLE \"raw\".\"orders\" (\"id\" bigint NOT NULL,\n               \"at\" date)\n  policy   a row ends the run\n\n\
             failed   destination `dest-postgres`: schema `raw` – no right to make tables in it\n         \
             hint: as its owner run: `GRANT CREATE ON SCHEMA \"raw\" TO \"u\"`\n\nstatements that mend it:\n  \
             GRANT CREATE ON SCHEMA \"raw\" TO \"u\";\n\nrefused: `p` would fail; nothing was written\n"
        );
    }

    #[test]
    fn the_same_as_data() {
        let refused = document(&report(CheckStatus::Failed));
        assert_eq!((&refused["status"], &refused["exit_code"]), (&json!("refused"), &json!(12)));
        assert_eq!(refused["streams"][0]["effects"][0]["kind"], "create");
        assert_eq!(refused["streams"][0]["sync_mode"], "full_refresh");
        assert_eq!(document(&report(CheckStatus::Warning))["status"], "ready");
    }
}
