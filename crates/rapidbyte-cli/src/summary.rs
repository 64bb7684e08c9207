//! What is said after a run.

use crate::amounts;
use crate::style::Style;
use crate::table::{Align, Table, printable};
use rapidbyte_engine::RunReport;
use std::time::Duration;

/// The summary for people: a line per stream, the totals, and where the time went. With `all_timings` also steps that took none.
pub(crate) fn render(report: &RunReport, style: Style, all_timings: bool) -> String {
    let mut table = Table::new(&[
        ("stream", Align::Left),
        ("read", Align::Right),
        ("written", Align::Right),
        ("bytes", Align::Right),
        ("commits", Align::Right),
        ("location", Align::Left),
    ]);
    for stream in &report.streams {
        let mut name = stream.stream.to_string();
        if stream.resumed {
            name.push_str(" (resumed)");
        }
        if stream.attempts > 1 {
            name.push_str(&format!(" ({} attempts)", stream.attempts));
        }
        table.row([
            name,
            amounts::count(stream.rows_read),
            amounts::count(stream.rows_written),
            amounts::bytes(stream.bytes_read),
            amounts::count(stream.checkpoints),
            stream.location.clone(),
        ]);
    }
    let sum = |of: fn(&rapidbyte_engine::StreamReport) -> u64| report.streams.iter().map(of).fold(0_u64, u64::saturating_add);
    let read = sum(|stream| stream.rows_read);
    let mut text = String::from("\n");
    text.push_str(&table.render(style));
    text.push_str(&format!(
        "\n{} `{}` {}: {} read, {} written, {} in {} ({} rows/s)\n",
        style.good("done:"),
        printable(&report.pipeline),
        if report.output_closed { "ended early, because its output is no longer read" } else { "succeeded" },
        amounts::counted(read, "record"),
        amounts::count(sum(|stream| stream.rows_written)),
        amounts::bytes(sum(|stream| stream.bytes_read)),
        amounts::duration(report.duration),
        amounts::count(amounts::per_second(read, report.duration)),
    ));
    let skipped = sum(|stream| stream.rows_skipped);
    if skipped > 0 {
        text.push_str(&format!("{} {} left out by policy\n", style.warning("note:"), amounts::counted(skipped, "record")));
    }
    let letters = sum(|stream| stream.dead_letters);
    if letters > 0 {
        let letters = amounts::counted(letters, "record");
        text.push_str(&format!("{} {letters} put into the dead letters: see `rapidbyte dlq list`\n", style.warning("note:")));
    }
    text.push_str(&timings(report, style, all_timings));
    text
}

/// Steps overlap between tasks and stages: the sum may exceed the duration.
fn timings(report: &RunReport, style: Style, all: bool) -> String {
    let steps = report.timings_ns.steps().into_iter().filter(|(_, nanos)| all || *nanos > 0);
    let words: Vec<String> =
        steps.map(|(step, nanos)| format!("{step} {}", amounts::duration(Duration::from_nanos(nanos)))).collect();
    if words.is_empty() { String::new() } else { format!("{} {}\n", style.label("time:"), words.join(" · ")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rapidbyte_engine::{StreamReport, Timings};
    use rapidbyte_types::StreamName;

    pub(crate) fn report() -> RunReport {
        RunReport {
            run_id: "r1".to_owned(),
            pipeline: "p".to_owned(),
            streams: vec![StreamReport {
                stream: StreamName::qualified("public", "orders"),
                rows_read: 100_000,
                bytes_read: 5 << 20,
                rows_written: 99_999,
                bytes_written: 5 << 20,
                rows_published: 99_999,
                rows_skipped: 1,
                rows_discarded: 0,
                dead_letters: 2,
                checkpoints: 2,
                partitions: 1,
                attempts: 2,
                resumed: true,
                location: "output/orders".to_owned(),
            }],
            duration: Duration::from_millis(2_000),
            timings_ns: Timings { connect: 1_000_000, commit: 2_000_000, ..Timings::default() },
            output_closed: false,
            rows_dropped: 0,
        }
    }

    #[test]
    fn the_summary_reads_well() {
        assert_eq!(
            render(&report(), Style::plain(), false),
            "\nstream                                   read  written    bytes  commits  location\n\
             public.orders (resumed) (2 attempts)  100,000   99,999  5.0 MiB        2  output/orders\n\
             \n\
             done: `p` succeeded: 100,000 records read, 99,999 written, 5.0 MiB in 2.00 s (50,000 rows/s)\n\
             note: 1 record left out by policy\n\
             note: 2 records put into the dead letters: see `rapidbyte dlq list`\n\
             time: connect 1 ms · commit 2 ms\n"
        );
    }

    #[test]
    fn every_step_is_named_on_demand() {
        let text = render(&report(), Style::plain(), true);
        for step in [
            "connect",
            "query",
            "fetch",
            "encode",
            "decode",
            "flush",
            "commit",
            "vm_setup",
            "emit_batch",
            "next_batch",
            "compress",
            "decompress",
        ] {
            assert!(text.contains(step), "{step}");
        }
    }
}
