//! `dlq`: rows that could not be processed, and their way into the destination after all.

use super::{Context, Loaded};
use crate::amounts;
use crate::args::{DlqArgs, DlqCommand, DlqExportArgs, DlqListArgs, DlqReplayArgs, DlqShowArgs};
use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::progress::{JsonLines, Lines};
use crate::style::Style;
use crate::summary;
use crate::table::{Align, Table, printable};
use rapidbyte_engine::{Cancel, EngineError, Observer, ReplayOptions};
use rapidbyte_state::{DeadLetterEntry, DeadLetterSummary, PipelineId, StateStore};
use rapidbyte_types::StreamName;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// Letters read from the state store in one step.
const PAGE: u32 = 1000;

pub(crate) async fn run(context: &Context, args: &DlqArgs) -> Outcome {
    match &args.command {
        DlqCommand::List(args) => list(context, args),
        DlqCommand::Show(args) => show(context, args),
        DlqCommand::Export(args) => export(context, args),
        DlqCommand::Replay(args) => replay(context, args).await,
    }
}

fn state_failure(error: rapidbyte_state::StateError) -> Failure {
    Failure::from(EngineError::from(error))
}

/// The pipeline's letters in the state store; none if it has never run.
struct Letters {
    store: Arc<dyn StateStore>,
    pipeline: Option<PipelineId>,
    stream: Option<StreamName>,
}

impl Letters {
    fn of(loaded: &Loaded, stream: Option<&str>) -> Outcome<Self> {
        let store = loaded.engine.state(&loaded.plan)?;
        let pipeline = store.find_pipeline(&loaded.plan.pipeline).map_err(state_failure)?.map(|record| record.id);
        Ok(Self { store, pipeline, stream: stream.map(|name| stream_named(loaded, name)).transpose()? })
    }

    /// Hands each letter on, in order of arrival, until `act` says that it is enough.
    fn each(&self, mut act: impl FnMut(DeadLetterSummary) -> Outcome<bool>) -> Outcome {
        let Some(pipeline) = self.pipeline else { return Ok(()) };
        let mut after = 0;
        loop {
            let page = self.store.dead_letters(pipeline, self.stream.as_ref(), after, PAGE).map_err(state_failure)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            for letter in page {
                if !act(letter)? {
                    return Ok(());
                }
            }
        }
    }

    fn whole(&self, id: u64) -> Outcome<DeadLetterEntry> {
        let found = self.store.dead_letter(id).map_err(state_failure)?;
        found.filter(|entry| Some(entry.key.pipeline) == self.pipeline).ok_or_else(|| unknown(id))
    }
}

fn unknown(id: u64) -> Failure {
    Failure::usage(format!("there is no dead letter {id} of this pipeline"), "`rapidbyte dlq list` shows those that are there")
}

/// The stream as the pipeline names it, or as it did when the letters were made.
fn stream_named(loaded: &Loaded, name: &str) -> Outcome<StreamName> {
    if let Some(stream) = loaded.plan.streams.iter().find(|stream| stream.name.to_string() == name) {
        return Ok(stream.name.clone());
    }
    Ok(match name.split_once('.') {
        Some((namespace, name)) => StreamName::qualified(namespace, name),
        None => StreamName::new(name),
    })
}

fn list(context: &Context, args: &DlqListArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let letters = Letters::of(&loaded, args.stream.as_deref())?;
    let mut shown = Vec::new();
    let (mut open, mut replayed) = (0_u64, 0_u64);
    letters.each(|letter| {
        let counter = if letter.replayed { &mut replayed } else { &mut open };
        *counter += 1;
        if (args.all || !letter.replayed) && shown.len() < args.limit as usize {
            shown.push(letter);
        }
        Ok(true)
    })?;
    if context.printer.is_json() {
        let documents: Vec<Value> = shown.iter().map(summary_document).collect();
        return context.printer.json(&json!({ "letters": documents, "open": open, "replayed": replayed }));
    }
    context.printer.data(&render(&shown, open, replayed, context.printer.out()))
}

fn summary_document(letter: &DeadLetterSummary) -> Value {
    json!({
        "id": letter.id,
        "stream": letter.key.stream.to_string(),
        "generation": letter.key.generation,
        "partition": letter.key.partition,
        "seq": letter.key.seq,
        "ordinal": letter.key.ordinal,
        "run_id": letter.run_id,
        "error_category": letter.error_category.as_str(),
        "error_message": letter.error_message,
        "failed_at_ms": letter.failed_at_ms,
        "replayed": letter.replayed,
    })
}

fn render(letters: &[DeadLetterSummary], open: u64, replayed: u64, style: Style) -> String {
    let mut text = String::new();
    if !letters.is_empty() {
        let columns = [
            ("id", Align::Right),
            ("stream", Align::Left),
            ("failed at", Align::Left),
            ("kind", Align::Left),
            ("why", Align::Left),
        ];
        let mut table = Table::new(&columns);
        for letter in letters {
            let mut why = letter.error_message.clone();
            if letter.replayed {
                why.push_str(" (replayed)");
            }
            table.row([
                letter.id.to_string(),
                letter.key.stream.to_string(),
                moment(letter.failed_at_ms),
                letter.error_category.as_str().to_owned(),
                why,
            ]);
        }
        text.push_str(&table.render(style));
        text.push('\n');
    }
    text.push_str(&format!("{} not replayed, {} replayed\n", amounts::counted(open, "dead letter"), amounts::count(replayed)));
    text
}

/// `2024-02-29 12:00:00` in UTC.
fn moment(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

fn show(context: &Context, args: &DlqShowArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let letters = Letters::of(&loaded, None)?;
    let document = document(&letters, args.id)?;
    if context.printer.is_json() {
        return context.printer.json(&document);
    }
    let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
    let mut shown = format!(
        "dead letter {} of {}\n  why: {} ({})\n  run: {}, generation {}, partition {}, commit {}, place {}\n",
        args.id,
        printable(&text("stream")),
        printable(&text("error_message")),
        text("error_category"),
        printable(&text("run_id")),
        document["generation"],
        printable(&text("partition")),
        document["seq"],
        document["ordinal"],
    );
    let mut table = Table::new(&[("  column", Align::Left), ("type", Align::Left), ("value", Align::Left)]);
    for (name, entry) in document["record"].as_object().into_iter().flatten() {
        let value = match &entry["value"] {
            Value::String(text) => text.clone(),
            Value::Null if entry["omitted"].is_string() => format!("({})", entry["omitted"].as_str().unwrap_or_default()),
            Value::Null => "NULL".to_owned(),
            other => other.to_string(),
        };
        let source_type = entry["metadata"]["rapidbyte.pg.type"].as_str();
        let data_type = source_type.or_else(|| entry["type"].as_str()).unwrap_or("?").to_owned();
        table.row([format!("  {name}"), data_type, value]);
    }
    shown.push_str(&table.render(context.printer.out()));
    context.printer.data(&shown)
}

fn document(letters: &Letters, id: u64) -> Outcome<Value> {
    let mut found = None;
    letters.each(|letter| {
        let here = letter.id == id;
        if here {
            found = Some(letter);
        }
        Ok(!here)
    })?;
    let summary = found.ok_or_else(|| unknown(id))?;
    with_record(letters, &summary)
}

fn with_record(letters: &Letters, summary: &DeadLetterSummary) -> Outcome<Value> {
    let entry = letters.whole(summary.id)?;
    let mut document = summary_document(summary);
    // A record that is no JSON goes out as the text it is.
    document["record"] = serde_json::from_str(&entry.letter.record_json).unwrap_or(Value::String(entry.letter.record_json));
    Ok(document)
}

fn export(context: &Context, args: &DlqExportArgs) -> Outcome {
    let loaded = context.load(&args.pipeline.pipeline)?;
    let letters = Letters::of(&loaded, args.stream.as_deref())?;
    let mut file = match &args.out {
        Some(path) => Some(create(path)?),
        None => None,
    };
    let mut count = 0;
    letters.each(|summary| {
        if summary.replayed && !args.all {
            return Ok(true);
        }
        count += 1;
        let document = with_record(&letters, &summary)?;
        match (&mut file, &args.out) {
            (Some(file), Some(path)) => {
                writeln!(file, "{document}").map_err(|error| Failure::file("write", path, error))?;
            }
            _ => context.printer.data(&format!("{document}\n"))?,
        }
        Ok(true)
    })?;
    if let (Some(file), Some(path)) = (file, &args.out) {
        file.sync_all().map_err(|error| Failure::file("write", path, error))?;
        context.printer.note(&format!("{} exported to `{}`\n", amounts::counted(count, "dead letter"), path.display()));
    }
    Ok(())
}

/// A file with rows in it is its owner's alone.
fn create(path: &Path) -> Outcome<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Failure::file("make", path, error))
}

/// The letters of an exported file, with their records as they stand there.
fn edited(path: &Path) -> Outcome<BTreeMap<u64, String>> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, error))?;
    let mut found = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: &str| {
            Failure::usage(
                format!("line {number} of `{}` {what}", path.display()),
                "give a file that `rapidbyte dlq export` has made; edit nothing but values within `record`",
            )
        };
        let document: Value = serde_json::from_str(line).map_err(|_| wrong("is not JSON"))?;
        let id = document["id"].as_u64().ok_or_else(|| wrong("has no `id`"))?;
        if !document["record"].is_object() {
            return Err(wrong("has no `record`"));
        }
        if found.insert(id, document["record"].to_string()).is_some() {
            return Err(wrong("has the `id` of an earlier one"));
        }
    }
    Ok(found)
}

async fn replay(context: &Context, args: &DlqReplayArgs) -> Outcome {
    let edited = args.edited.as_deref().map(edited).transpose()?.unwrap_or_default();
    let loaded = context.load(&args.pipeline.pipeline)?;
    let stream = args.stream.as_deref().map(|name| stream_named(&loaded, name)).transpose()?;
    let observer: Arc<dyn Observer> = if context.printer.is_json() { Arc::new(JsonLines::new()) } else { Arc::new(Lines::new()) };
    let cancel = Cancel::new();
    let options = ReplayOptions { stream, ids: args.id.clone(), edited, cancel: cancel.clone(), observer };
    let work = loaded.engine.replay(&loaded.plan, options);
    tokio::pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        _ = loaded.signals.first() => {
            cancel.cancel();
            work.await
        }
    };
    let report = result.map_err(|error| loaded.signals.received().map_or(Failure::Engine(error), Failure::Stopped))?;
    let skipped = if report.rows_dropped > 0 { Err(Failure::RowsSkipped) } else { Ok(()) };
    if context.printer.is_json() {
        let code = if report.rows_dropped > 0 { ExitCode::RowsSkipped } else { ExitCode::Success };
        let document = json!({ "status": "succeeded", "exit_code": code.number(), "report": report });
        return context.printer.json(&document).and(skipped);
    }
    if report.streams.is_empty() {
        context.printer.note("there is nothing to replay\n");
        return Ok(());
    }
    context.printer.note(&summary::render(&report, context.printer.err(), context.verbose > 0));
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_state::DeadLetterKey;
    use rapidbyte_types::ErrorCategory;

    fn letter(replayed: bool) -> DeadLetterSummary {
        DeadLetterSummary {
            id: 7,
            key: DeadLetterKey {
                pipeline: "00000000-0000-4000-8000-000000000001".parse().expect("a UUID"),
                stream: StreamName::qualified("public", "orders"),
                generation: 1,
                partition: "0".into(),
                seq: 2,
                ordinal: 3,
            },
            run_id: "r".into(),
            error_message: "a row repeats a unique key".into(),
            error_category: ErrorCategory::Data,
            failed_at_ms: 1_709_208_000_000,
            replayed,
        }
    }

    #[test]
    fn letters_are_listed() {
        assert_eq!(
            render(&[letter(false)], 1, 0, Style::plain()),
            "id  stream         failed at            kind  why\n \
             7  public.orders  2024-02-29 12:00:00  data  a row repeats a unique key\n\n1 dead letter not replayed, 0 replayed\n"
        );
        assert!(render(&[letter(true)], 0, 1, Style::plain()).contains("(replayed)"));
    }

    #[test]
    fn an_edited_file_is_read_by_its_ids() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("letters.jsonl");
        fs::write(&path, "{\"id\":7,\"record\":{\"a\":{\"type\":\"Int64\",\"value\":\"1\"}},\"replayed\":false}\n\n")
            .expect("writes");
        let found = edited(&path).expect("reads");
        assert_eq!(found[&7], r#"{"a":{"type":"Int64","value":"1"}}"#);
        for wrong in ["x", "{}", "{\"id\":7}", "{\"id\":7,\"record\":{}}\n{\"id\":7,\"record\":{}}"] {
            fs::write(&path, wrong).expect("writes");
            assert!(matches!(edited(&path), Err(Failure::Usage { .. })), "{wrong}");
        }
    }
}
