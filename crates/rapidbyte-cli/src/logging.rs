//! Logs: to standard error, without secrets, as much as asked for.

use crate::args::{LogLevel, OutputFormat};
use crate::environment::{Environment, RUST_LOG};
use crate::failure::{Failure, Outcome};
use crate::printer::{redact_json, write_stderr, write_stderr_json};
use crate::style::Style;
use std::io;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The directives in force. A flag wins over `RUST_LOG`, `--log-level` excludes `-v`; without any of them: warnings.
///
/// # Errors
/// When `RUST_LOG` can't be read.
pub(crate) fn directives(level: Option<LogLevel>, verbose: u8, environment: &Environment) -> Outcome<String> {
    let ours = match (level, verbose) {
        (Some(level), _) => level,
        (None, 0) => {
            return Ok(environment.get(RUST_LOG).unwrap_or("warn").to_owned());
        }
        (None, 1) => LogLevel::Info,
        (None, 2) => LogLevel::Debug,
        (None, _) => LogLevel::Trace,
    };
    Ok(match ours {
        LogLevel::Error | LogLevel::Warn => ours.as_str().to_owned(),
        // Libraries are asked for by name in `RUST_LOG`: their debug output would bury ours.
        LogLevel::Info | LogLevel::Debug | LogLevel::Trace => format!("warn,rapidbyte={0}", ours.as_str()),
    })
}

/// Starts logging, once per process.
///
/// # Errors
/// When the directives can't be read.
pub(crate) fn start(directives: &str, format: OutputFormat, style: Style) -> Outcome {
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::usage(
            format!("`{}` can't be read: {error}", RUST_LOG.name),
            "write a level (`debug`) or directives (`rapidbyte_engine=debug,warn`)",
        )
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    // A second start has no effect; the first subscriber stays.
    let _ = match format {
        OutputFormat::Text => builder.with_ansi(style.is_colored()).with_writer(Sink { json: false }).try_init(),
        OutputFormat::Json => builder.json().flatten_event(true).with_writer(Sink { json: true }).try_init(),
    };
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Sink {
    json: bool,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Event;

    fn make_writer(&'a self) -> Event {
        Event { json: self.json, muted: false, text: Vec::new() }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Event {
        Event { json: self.json, muted: shows_rows(meta.target(), *meta.level()), text: Vec::new() }
    }
}

/// The library that carries a guest's standard output logs what is written there, and `dest-stdout` writes rows.
fn shows_rows(target: &str, level: Level) -> bool {
    target.starts_with("wasmtime_wasi") && level > Level::WARN
}

/// One event, gathered whole before it is redacted: a secret could stand across two writes.
struct Event {
    json: bool,
    /// Nothing of it is written.
    muted: bool,
    text: Vec<u8>,
}

impl io::Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        if text.is_empty() || self.muted {
            return;
        }
        if self.json
            && let Ok(mut value) = serde_json::from_str(&text)
        {
            redact_json(&mut value);
            write_stderr_json(&value);
        } else {
            write_stderr(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_environment() {
        let environment = Environment::of(&[("RUST_LOG", "wasmtime=debug")]);
        let of = |level, verbose| directives(level, verbose, &environment).expect("directives");
        assert_eq!(of(None, 0), "wasmtime=debug");
        assert_eq!(of(Some(LogLevel::Error), 0), "error");
        assert_eq!(of(Some(LogLevel::Debug), 0), "warn,rapidbyte=debug");
        assert_eq!(of(None, 1), "warn,rapidbyte=info");
        assert_eq!(of(None, 2), "warn,rapidbyte=debug");
        assert_eq!(of(None, 9), "warn,rapidbyte=trace");
        assert_eq!(directives(None, 0, &Environment::of(&[])).expect("directives"), "warn");
    }

    #[test]
    fn rows_that_pass_a_library_are_not_logged() {
        assert!(shows_rows("wasmtime_wasi::p2::host::io", Level::DEBUG) && shows_rows("wasmtime_wasi", Level::TRACE));
        assert!(!shows_rows("wasmtime_wasi", Level::WARN) && !shows_rows("rapidbyte_engine", Level::TRACE));
    }

    #[test]
    fn our_directive_covers_every_crate_of_ours() {
        // Targets are matched by prefix: `rapidbyte` stands for `rapidbyte_engine` and `rapidbyte::mark` alike.
        let filter = EnvFilter::try_new("warn,rapidbyte=debug").expect("directives");
        assert_eq!(filter.max_level_hint(), Some(tracing::level_filters::LevelFilter::DEBUG));
    }
}
