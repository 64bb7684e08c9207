//! `verify`: is the destination what the source is?

use super::Context;
use crate::amounts;
use crate::args::VerifyArgs;
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::style::Style;
use crate::table::printable;
use rapidbyte_engine::{StreamVerdict, Verdict, VerifyOptions, VerifyReport};
use serde_json::{Value, json};

pub(crate) async fn run(context: &Context, args: &VerifyArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let options = VerifyOptions { streams: args.streams.clone(), columns: args.columns.clone(), keys: args.keys as usize };
    let work = async { loaded.engine.verify(&loaded.plan, options).await.map_err(Failure::from) };
    let report = loaded.signals.unless_stopped(work).await?;
    if context.printer.is_json() {
        context.printer.json(&document(&report))?;
    } else {
        context.printer.data(&render(&report, context.printer.out()))?;
    }
    match report.verdict() {
        Verdict::Equal => Ok(()),
        Verdict::Different => Err(Failure::Different),
        Verdict::Unsettled => Err(Failure::Unsettled),
    }
}

fn exit_code(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Equal => ExitCode::Success,
        Verdict::Different => ExitCode::Different,
        Verdict::Unsettled => ExitCode::Unsettled,
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn document(report: &VerifyReport) -> Value {
    let streams: Vec<Value> = report
        .streams
        .iter()
        .map(|stream| {
            let mut document = json!(stream);
            document["stream"] = json!(stream.stream.to_string());
            document["duration_ms"] = json!(milliseconds(stream.duration));
            document
        })
        .collect();
    let verdict = report.verdict();
    json!({
        "status": verdict.as_str(),
        "exit_code": exit_code(verdict).number(),
        "pipeline": report.pipeline,
        "duration_ms": milliseconds(report.duration),
        "streams": streams,
    })
}

fn render(report: &VerifyReport, style: Style) -> String {
    let mut text = String::new();
    for stream in &report.streams {
        text.push_str(&one(stream, style));
    }
    let total: u64 = report.streams.iter().map(|stream| stream.source_rows.max(stream.destination_rows)).sum();
    let of = |verdict| report.streams.iter().filter(|stream| stream.verdict == verdict).count() as u64;
    let (different, unsettled) = (of(Verdict::Different), of(Verdict::Unsettled));
    let pipeline = printable(&report.pipeline);
    let verdict = match (different, unsettled) {
        (0, 0) => format!("{} `{pipeline}` arrived as it was", style.good("equal:")),
        (0, _) => format!("{} {} could not be told", style.warning("unsettled:"), amounts::counted(unsettled, "stream")),
        (_, _) => format!(
            "{} {} of {} differ",
            style.error("different:"),
            different,
            amounts::counted(report.streams.len() as u64, "stream")
        ),
    };
    text.push_str(&format!("\n{verdict}: {} compared in {}\n", amounts::counted(total, "row"), amounts::duration(report.duration)));
    text
}

fn one(stream: &StreamVerdict, style: Style) -> String {
    let mark = match stream.verdict {
        Verdict::Equal => style.good("equal    "),
        Verdict::Different => style.error("different"),
        Verdict::Unsettled => style.warning("unsettled"),
    };
    let rows = match (stream.source_rows, stream.destination_rows) {
        (source, destination) if source == destination => amounts::counted(source, "row"),
        (source, destination) => {
            format!("{} at the source, {} at the destination", amounts::counted(source, "row"), amounts::count(destination))
        }
    };
    let name = printable(&stream.stream.to_string());
    let mut text = format!("{mark}  {name} – {rows}, {} columns, {}\n", stream.columns.len(), amounts::duration(stream.duration));
    let mut line = |what: &str| text.push_str(&format!("           {}\n", printable(what)));
    let counts = &stream.counts;
    let thing = if stream.key.is_empty() { "row" } else { "key" };
    let least = if stream.complete { "" } else { "at least " };
    let found = [
        (counts.missing, "missing at the destination"),
        (counts.extra, "at the destination alone"),
        (counts.different, "with other values"),
        (counts.unsettled, "still changing"),
    ];
    for (count, what) in found.into_iter().filter(|(count, _)| *count > 0) {
        line(&format!("{least}{} {what}", amounts::counted(count, thing)));
    }
    if counts.pending > 0 {
        line(&format!("{} changed at the source since the last run, not counted", amounts::counted(counts.pending, thing)));
    }
    for key in &stream.keys {
        let times = match (key.source_rows, key.destination_rows) {
            (0 | 1, 0 | 1) => String::new(),
            (source, destination) => format!(", {source} rows at the source, {destination} at the destination"),
        };
        line(&format!("  {} {}{times}", key.difference.as_str(), key.key));
    }
    let named = stream.keys.len() as u64;
    let all = counts.missing + counts.extra + counts.different + counts.unsettled;
    if named > 0 && all > named {
        line(&format!("  … and {} more: `--keys N` names more of them", amounts::count(all - named)));
    }
    for out in &stream.left_out {
        line(&format!("column `{}` is not compared: {}", out.column, out.reason));
    }
    for one in &stream.converted {
        let (from, to, form) = (&one.source_type, &one.destination_type, &one.compared_as);
        line(&format!("column `{}` is `{from}` at the source and `{to}` at the destination, compared as `{form}`", one.column));
    }
    for note in &stream.notes {
        line(note);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_engine::{Counts, Difference, FoundKey, LeftOut};
    use rapidbyte_types::StreamName;
    use std::time::Duration;

    fn stream() -> StreamVerdict {
        StreamVerdict {
            stream: StreamName::qualified("public", "orders"),
            verdict: Verdict::Different,
            source: "public.orders".into(),
            destination: "raw.orders".into(),
            source_rows: 1000,
            destination_rows: 999,
            key: vec!["id".into()],
            counts: Counts { missing: 2, extra: 1, pending: 3, ..Counts::default() },
            complete: true,
            keys: vec![FoundKey { difference: Difference::Missing, key: "[\"7\"]".into(), source_rows: 1, destination_rows: 0 }],
            columns: vec!["id".into(), "at".into()],
            left_out: vec![LeftOut { column: "mine".into(), reason: "only the destination has it".into() }],
            converted: Vec::new(),
            notes: Vec::new(),
            duration: Duration::from_millis(1500),
        }
    }

    fn report(streams: Vec<StreamVerdict>) -> VerifyReport {
        VerifyReport { pipeline: "p".into(), streams, duration: Duration::from_secs(2) }
    }

    #[test]
    fn differences_are_counted_and_named() {
        assert_eq!(
            render(&report(vec![stream()]), Style::plain()),
            "different  public.orders – 1,000 rows at the source, 999 at the destination, 2 columns, 1.50 s\n           \
             2 keys missing at the destination\n           1 key at the destination alone\n           \
             3 keys changed at the source since the last run, not counted\n             missing [\"7\"]\n             \
             … and 2 more: `--keys N` names more of them\n           column `mine` is not compared: only the destination has it\n\n\
             different: 1 of 1 stream differ: 1,000 rows compared in 2.00 s\n"
        );
    }

    #[test]
    fn the_same_as_data() {
        let document = document(&report(vec![stream()]));
        assert_eq!((&document["status"], &document["exit_code"]), (&json!("different"), &json!(21)));
        assert_eq!(document["streams"][0]["stream"], "public.orders");
        assert_eq!(document["streams"][0]["counts"]["missing"], 2);
        assert_eq!(document["streams"][0]["keys"][0]["difference"], "missing");
        assert_eq!(document["streams"][0]["duration_ms"], 1500);
    }

    #[test]
    fn the_worst_stream_decides() {
        let verdict = |verdict| StreamVerdict { verdict, ..stream() };
        let of = |all: &[Verdict]| exit_code(report(all.iter().map(|one| verdict(*one)).collect()).verdict()).number();
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[Verdict::Equal, Verdict::Equal]), 0);
        assert_eq!(of(&[Verdict::Equal, Verdict::Unsettled]), 22);
        assert_eq!(of(&[Verdict::Unsettled, Verdict::Different, Verdict::Equal]), 21);
    }
}
