//! What is logged on standard error, by whose word.

use rapidbyte_testkit::{Finished, Postgres, Project};
use serde_json::Value;
use std::collections::BTreeSet;

/// A pipeline that has something to say at three levels: an exclusion without an effect is a warning, fewer tasks than were asked for a
/// milestone, and each point that is reached a trace.
fn project() -> Project {
    let database = Postgres::shared().database("logged");
    database.sql("CREATE TABLE t AS SELECT i AS id FROM generate_series(1, 10) i");
    Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: logged\nsource:\n  use: source-postgres\n  config: {{ {} }}\n\
         \x20 streams: [ {{ name: 'public.*', exclude: [nothing] }} ]\n\
         destination:\n  use: dest-file\n  config: {{ path: out, format: jsonl }}\n  write_mode: replace\nresources: {{ parallelism: 64 }}\n",
        database.config()
    ))
}

/// The levels of the lines that are log lines, which begin with their moment.
fn levels(run: &Finished) -> BTreeSet<String> {
    let lines = run.stderr.lines().filter(|line| line.starts_with("20"));
    let level = |line: &str| line.split_whitespace().nth(1).expect("a level").to_owned();
    let levels: BTreeSet<_> = lines.map(level).collect();
    for (level, words) in
        [("WARN", "an exclusion leaves no stream out"), ("INFO", "has room for fewer tasks"), ("TRACE", "engine.claim.before")]
    {
        assert_eq!(run.stderr.contains(words), levels.contains(level), "`{words}`, which is {level}: {}", run.told());
    }
    levels
}

#[test]
fn flags_win_over_the_variable_and_without_either_warnings_are_logged() {
    let project = project();
    let none: &[&str] = &[];
    let run = |flags: &[&str], variable: Option<&str>| {
        let command = project.rapidbyte(&["run", "pipeline.yaml"]).args(flags);
        if let Some(value) = variable { command.env("RUST_LOG", value) } else { command }.finish()
    };
    for (flags, variable, expected) in [
        (none, None, "WARN"),
        (&["--log-level", "error"], None, ""),
        (&["-v"], None, "INFO WARN"),
        (&["--verbose"], None, "INFO WARN"),
        (&["--log-level", "info"], None, "INFO WARN"),
        (&["-vv"], None, "INFO WARN"),
        (&["-vvv"], None, "INFO TRACE WARN"),
        (&["--log-level", "trace"], None, "INFO TRACE WARN"),
        (none, Some(""), "WARN"),
        (none, Some("error"), ""),
        (none, Some("info"), "INFO WARN"),
        (none, Some("off,rapidbyte_engine::kit=info"), "INFO"),
        (none, Some("off,rapidbyte::mark=trace"), "TRACE"),
        (&["-v"], Some("off"), "INFO WARN"),
        (&["--log-level", "warn"], Some("trace"), "WARN"),
    ] {
        let finished = run(flags, variable).success();
        let found: Vec<_> = levels(&finished).into_iter().collect();
        assert_eq!(found.join(" "), expected, "{flags:?} with RUST_LOG {variable:?}: {}", finished.told());
        // Steps that took no time are for whoever asks for more.
        let all = flags.iter().any(|flag| flag.starts_with("-v") || *flag == "--verbose");
        assert_eq!(finished.stderr.contains("decompress 0 s"), all, "{flags:?}: {}", finished.told());
    }
    run(none, Some("[")).exit(2).says("`RUST_LOG` can't be read").says("hint: ");
    run(&["-v", "--log-level", "info"], None).exit(2).says("cannot be used with");
}

#[test]
fn with_json_log_lines_are_documents() {
    let run = project().run().args(&["-v"]).finish().success();
    let documents: Vec<Value> = run.stderr.lines().map(|line| serde_json::from_str(line).expect("each line is one")).collect();
    let logged: Vec<_> = documents.iter().filter_map(|document| document["level"].as_str()).collect();
    assert_eq!(logged, ["INFO", "WARN"], "{}", run.told());
    assert!(documents.iter().all(|document| document["level"].is_string() != document["event"].is_string()), "{}", run.told());
}
