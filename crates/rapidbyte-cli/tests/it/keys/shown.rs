//! What a run shows, as text.

use rapidbyte_testkit::{Finished, Project, python};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exit code, report or error, what was printed, and what was written.
pub(super) fn of(project: &Project, run: &Finished) -> String {
    let mut text = format!("exit {}\n", run.code.unwrap_or(-1));
    let document: Value = run.stdout.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let report = &document["report"];
    if report.is_object() {
        let _ = writeln!(text, "pipeline {}", report["pipeline"].as_str().unwrap_or_default());
        let packed = report["timings_ns"]["compress"].as_u64().unwrap_or_default();
        text.push_str(if packed > 0 { "compressed to less\n" } else { "not compressed\n" });
    }
    for stream in report["streams"].as_array().into_iter().flatten() {
        let number = |key: &str| stream[key].as_u64().unwrap_or_default();
        let checkpoints = number("checkpoints");
        let _ = writeln!(
            text,
            "stream {}; read {} ; written {}; checkpoints {}; partitions {}; location {};",
            stream["stream"].as_str().unwrap_or_default(),
            number("rows_read"),
            number("rows_written"),
            if checkpoints > 25 { "many".to_owned() } else { checkpoints.to_string() },
            number("partitions"),
            stream["location"].as_str().unwrap_or_default()
        );
    }
    let error = &document["error"];
    if error.is_object() {
        let _ = writeln!(text, "attempts {};\n{} {} {}", error["attempts"], error["message"], error["cause"], error["hint"]);
    }
    let marks = run.stderr.lines().filter(|line| line.contains("source.batch.emitted")).count();
    if marks > 0 {
        text.push_str(if marks < 12 { "waited early\n" } else { "waited late\n" });
    }
    let is_result = |line: &str| serde_json::from_str::<Value>(line).is_ok_and(|line| line["exit_code"].is_number());
    let printed: Vec<&str> = run.stdout.lines().filter(|line| !is_result(line)).collect();
    if !printed.is_empty() {
        let _ = writeln!(text, "printed {} lines:\n{}", printed.len(), printed[..printed.len().min(4)].join("\n"));
    }
    files(project.dir(), project.dir(), &mut text);
    text
}

/// Folders with visible files: how many lines, the columns, the first line and the last.
fn files(root: &Path, dir: &Path, text: &mut String) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    let (mut lines, mut count, mut parquet) = (Vec::new(), 0, Vec::new());
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with(['_', '.']) {
            files(root, &path, text);
        } else if name.ends_with(".jsonl") || name.ends_with(".csv") {
            lines.extend(fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned));
            count += 1;
        } else if name.ends_with(".parquet") {
            parquet.push(path);
        } else if name.ends_with(".db") {
            let _ = writeln!(text, "state {}", path.strip_prefix(root).unwrap_or(&path).display());
        }
    }
    let below = dir.strip_prefix(root).unwrap_or(dir).display();
    if let (Some(first), Some(last)) = (lines.first(), lines.last()) {
        let keys = serde_json::from_str::<Value>(first).ok();
        let keys = keys
            .as_ref()
            .and_then(Value::as_object)
            .map(|keys| keys.keys().cloned().collect::<Vec<_>>().join(","))
            .unwrap_or_default();
        let several = if count > 1 { "several files" } else { "one file" };
        let _ = writeln!(text, "{below}/ has {} lines; columns {keys}; {several}:\n{first}\n{last}", lines.len());
    }
    if !parquet.is_empty() {
        let _ = writeln!(text, "{below}/ has {}", layout(&parquet));
    }
}

/// How a foreign reader finds Parquet files laid out.
fn layout(files: &[PathBuf]) -> String {
    const SCRIPT: &str = "import sys, pyarrow.parquet as p\nfor f in sys.argv[1:]:\n m = p.ParquetFile(f).metadata\n \
                          print(m.num_row_groups, 'row groups', m.row_group(0).column(0).compression)";
    let output = Command::new(python()).args(["-c", SCRIPT]).args(files).output().expect("the tests' Python can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
