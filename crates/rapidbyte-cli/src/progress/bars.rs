//! The moving display: a line per active stream, and one for all.

use super::tally::{Tallies, Tally};
use crate::amounts;
use crate::printer::{set_display, write_stderr};
use crate::style::Style;
use crate::table::printable;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rapidbyte_engine::{Observer, RunEvent};
use rapidbyte_types::StreamName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A person can't read faster.
const EVERY: Duration = Duration::from_millis(100);
/// More streams at once than this are counted in the last line only.
const MOST_LINES: usize = 12;

/// The moving display. It is gone when this is dropped.
pub(crate) struct Bars {
    all: MultiProgress,
    style: Style,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    tallies: Tallies,
    lines: HashMap<StreamName, ProgressBar>,
    total: ProgressBar,
    done: usize,
    streams: usize,
}

impl Bars {
    pub(crate) fn new(style: Style) -> Self {
        let all = MultiProgress::new();
        let total = all.add(line());
        set_display(Some(all.clone()));
        let state = State { tallies: Tallies::new(EVERY), lines: HashMap::new(), total, done: 0, streams: 0 };
        Self { all, style, began: Instant::now(), state: Mutex::new(state) }
    }

    fn total(&self, state: &State, now: Instant) {
        let (rows, bytes) = state.tallies.total();
        let elapsed = now.duration_since(self.began);
        let lag = state.tallies.lag.map_or_else(String::new, |lag| format!(" · {} behind the source", amounts::duration(lag)));
        state.total.set_message(format!(
            "total: {} of {} · {} rows · {} · {} rows/s · {}{lag}",
            state.done,
            amounts::counted(state.streams as u64, "stream"),
            amounts::count(rows),
            amounts::bytes(bytes),
            amounts::count(amounts::per_second(rows, elapsed)),
            amounts::duration(Duration::from_secs(elapsed.as_secs())),
        ));
    }

    fn show(&self, state: &mut State, stream: &StreamName, tally: Option<Tally>, now: Instant) {
        let Some(tally) = tally else { return };
        if let Some(line) = state.lines.get(stream) {
            line.set_message(format!(
                "{}: {} rows · {} · {} rows/s · {} committed",
                printable(&stream.to_string()),
                amounts::count(tally.rows_read),
                amounts::bytes(tally.bytes_read),
                amounts::count(amounts::per_second(tally.rows_read, now.duration_since(tally.started))),
                amounts::count(tally.rows_written),
            ));
        }
        self.total(state, now);
    }

    fn end(&self, state: &mut State, stream: &StreamName, now: Instant, words: &str) {
        if let Some(line) = state.lines.remove(stream) {
            line.finish_and_clear();
            self.all.remove(&line);
        }
        state.done += 1;
        self.total(state, now);
        self.say(&format!("{}: {words}", stream));
    }

    fn say(&self, words: &str) {
        write_stderr(&format!("{}\n", printable(words)));
    }
}

fn line() -> ProgressBar {
    let line = ProgressBar::new_spinner();
    // The template is a constant that indicatif knows how to read; without it the default would do.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
        line.set_style(style);
    }
    line.enable_steady_tick(Duration::from_millis(120));
    line
}

impl Observer for Bars {
    fn event(&self, event: RunEvent<'_>) {
        let now = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        match event {
            RunEvent::Started { pipeline, streams, .. } => {
                state.streams = streams;
                self.say(&format!("running `{pipeline}`"));
                self.total(state, now);
            }
            RunEvent::Planned { stream, resumed, .. } => {
                state.tallies.begin(stream, now);
                if resumed {
                    self.say(&format!("{stream}: going on where an earlier run stopped"));
                }
                if !state.lines.contains_key(stream) && state.lines.len() < MOST_LINES {
                    let line = self.all.insert_before(&state.total, line());
                    line.set_message(format!("{}: starting", printable(&stream.to_string())));
                    state.lines.insert(stream.clone(), line);
                }
            }
            RunEvent::Read { stream, rows, bytes } => {
                let tally = state.tallies.read(stream, rows, bytes, now);
                self.show(state, stream, tally, now);
            }
            RunEvent::Committed { stream, rows, bytes } => {
                let tally = state.tallies.committed(stream, rows, bytes, now);
                self.show(state, stream, tally, now);
            }
            RunEvent::Retrying { stream, attempt, wait, error } => {
                let label = self.style.warning("warning:");
                let words =
                    format!("{stream}: attempt {attempt} failed, trying again in {}: {}", amounts::duration(wait), error.message());
                write_stderr(&format!("{label} {}\n", printable(&words)));
            }
            RunEvent::Published { stream, rows, location } => {
                let rows = state.tallies.of_load(stream, rows);
                self.end(state, stream, now, &format!("{} published at {location}", amounts::counted(rows, "row")));
            }
            RunEvent::Following => self.say("following the changes; Ctrl-C ends it"),
            RunEvent::Lag { lag } => {
                state.tallies.lag = Some(lag);
                self.total(state, now);
            }
            RunEvent::Failed { stream, .. } => self.end(state, stream, now, "failed"),
            RunEvent::Peek { .. } => {}
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        set_display(None);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for line in state.lines.values() {
            line.finish_and_clear();
        }
        state.total.finish_and_clear();
        let _ = self.all.clear();
    }
}
