//! What stands at the other ends: a terminal that shows how far a run is, and a pipe whose reader goes away.

use rapidbyte_testkit::{Finished, Project, Rapidbyte, binary};
use std::fs;

const WIDTH: usize = 160;

/// A terminal as far as the display needs one.
#[derive(Default)]
struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    /// What stands on it in the end.
    fn after(output: &str) -> Vec<String> {
        let mut screen = Self::default();
        let mut rest = output.chars();
        while let Some(c) = rest.next() {
            match c {
                '\r' => screen.column = 0,
                '\n' => screen.row += 1,
                '\x1b' => screen.sequence(&mut rest),
                c => screen.put(c),
            }
        }
        screen.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    fn sequence(&mut self, rest: &mut impl Iterator<Item = char>) {
        assert_eq!(rest.next(), Some('['), "a sequence that this terminal does not know");
        let mut number = String::new();
        let last = rest.find(|c| {
            if c.is_ascii_alphabetic() {
                true
            } else {
                number.push(*c);
                false
            }
        });
        let count = number.parse().unwrap_or(1);
        match last {
            Some('A') => self.row = self.row.checked_sub(count).expect("not above the first line"),
            Some('B') => self.row += count,
            Some('K') if number == "2" => self.line().clear(),
            Some('m') => {}
            other => panic!("a sequence that this terminal does not know: {number} {other:?}"),
        }
    }

    fn line(&mut self) -> &mut Vec<char> {
        while self.lines.len() <= self.row {
            self.lines.push(Vec::new());
        }
        &mut self.lines[self.row]
    }

    fn put(&mut self, c: char) {
        if self.column == WIDTH {
            (self.row, self.column) = (self.row + 1, 0);
        }
        let column = self.column;
        let line = self.line();
        while line.len() <= column {
            line.push(' ');
        }
        line[column] = c;
        self.column += 1;
    }
}

fn shell(project: &Project, line: &str, terminal: &str) -> Finished {
    let line = line.replace("rapidbyte ", &format!("'{}' ", binary().display()));
    Rapidbyte::new(project.dir()).program("/bin/sh".into()).args(&["-c", &line]).env("TERM", terminal).finish()
}

fn pipeline(rate: u32) -> Project {
    Project::with_pipeline(&format!(
        "version: \"1.0\"\npipeline: shown\nsource:\n  use: source-datagen\n\
         \x20 config: {{ pattern: orders, max_events: 800, events_per_second: {rate}, batch_rows: 100 }}\n  streams: [ {{ name: orders }} ]\n\
         destination:\n  use: dest-file\n  config: {{ path: out, format: jsonl }}\n"
    ))
}

/// The run on a terminal of its own.
fn on_terminal(rate: u32, terminal: &str) -> String {
    let line = format!("script -qec \"stty cols {WIDTH} rows 50; rapidbyte run pipeline.yaml\" /dev/null");
    shell(&pipeline(rate), &line, terminal).success().stdout
}

#[test]
fn a_terminal_shows_how_far_a_run_is_and_is_left_clean() {
    let output = on_terminal(1000, "xterm");
    // Both lines are drawn at once, between two sequences.
    let drawn = |piece: &str| piece.contains("orders: ") && piece.contains("total: 0 of 1 stream · ");
    let last = output.split('\x1b').rfind(|piece| drawn(piece) && !piece.contains("starting"));
    let last = last.unwrap_or_else(|| panic!("nothing moves in {output:?}"));
    let (stream, total) = last.split_once("total: ").expect("both");
    for (line, what) in [(stream, "the stream"), (total, "all of it")] {
        let speed = line.split(" · ").find_map(|fact| fact.strip_suffix(" rows/s")).unwrap_or_else(|| panic!("{what}: {last}"));
        let speed: u64 = speed.replace(',', "").parse().expect("a number");
        assert!(speed > 0 && line.contains("00 rows · ") && line.contains(" KiB · "), "{what}: {last}");
    }
    assert!(stream.contains(" committed"), "{last}");

    let screen = Screen::after(&output);
    let text = screen.join("\n");
    assert!(screen[0] == "running `shown`" && screen[1].starts_with("orders: 800 rows published at "), "{text}");
    assert!(screen[2].is_empty() && screen[3].starts_with("stream "), "{text}");
    assert!(text.contains("done: `shown` succeeded: 800 records read"), "{text}");
    for gone in ["total:", " committed", "starting"] {
        assert!(!text.contains(gone), "`{gone}` is left on\n{text}");
    }
}

#[test]
fn a_terminal_that_can_not_be_moved_in_gets_plain_lines() {
    let output = on_terminal(0, "dumb");
    assert!(!output.contains('\x1b'), "{output:?}");
    for line in ["orders: reading in 1 partition", "orders: 800 rows published at ", "done: `shown` succeeded"] {
        assert!(output.contains(line), "{output}");
    }
}

#[test]
fn a_reader_who_goes_away_ends_a_run_well() {
    let project = Project::with_pipeline(
        "version: \"1.0\"\npipeline: piped\nsource:\n  use: source-datagen\n  config: { pattern: orders, max_events: 200000, batch_rows: 1000 }\n\
         \x20 streams: [ { name: orders } ]\ndestination: { use: dest-stdout, config: { format: json } }\nresources: { parallelism: 1 }\n",
    );
    for (output, ends) in
        [("text", "`piped` ended early, because its output is no longer read"), ("json", "\"output_closed\":true")]
    {
        let line = format!("{{ rapidbyte run pipeline.yaml --output {output}; echo $? >code; }} | head -1");
        let read = shell(&project, &line, "dumb").success().says(ends);
        assert!(read.stdout.starts_with("{\"order_id\":1,") && read.stdout.lines().count() == 1, "{}", read.told());
        assert_eq!(fs::read_to_string(project.path("code")).expect("the run's exit code"), "0\n", "{}", read.told());
        for never in ["error", "panicked", "published at", "\"published\""] {
            assert!(!read.stderr.contains(never), "`{never}` in {}", read.told());
        }
        let state = project.rapidbyte(&["state", "show", "pipeline.yaml", "--output", "json"]).finish().success();
        assert_eq!(state.at("/pipelines/0/last_run/status"), "succeeded");
        assert_eq!(state.at("/pipelines/0/streams/0/generations/0/state"), "open", "nothing is published");
    }
    // Whoever reads to the end gets all of it, and that is published.
    let read = shell(&project, "rapidbyte run pipeline.yaml | wc -l", "dumb").success().says("published at");
    assert_eq!(read.stdout.trim(), "200000");
}
