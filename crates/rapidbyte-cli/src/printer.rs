//! Two streams: data goes to standard output, everything else to standard error. Both without secrets.

use crate::args::OutputFormat;
use crate::failure::{Failure, Outcome};
use crate::redaction::redact;
use crate::style::Style;
use indicatif::MultiProgress;
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The moving display, when there is one: it must step aside while a line is written above it.
static DISPLAY: Mutex<Option<MultiProgress>> = Mutex::new(None);

/// A connector writes rows to standard output: nothing of ours may stand between them.
static STDOUT_CEDED: AtomicBool = AtomicBool::new(false);

/// From here on what would go to standard output goes to standard error.
pub(crate) fn cede_stdout() {
    STDOUT_CEDED.store(true, Ordering::Relaxed);
}

/// Sets or removes the moving display.
pub(crate) fn set_display(display: Option<MultiProgress>) {
    *DISPLAY.lock().unwrap_or_else(PoisonError::into_inner) = display;
}

/// Writes text to standard error, redacted. A closed one loses it: there is nowhere left to say so.
pub(crate) fn write_stderr(text: &str) {
    let text = redact(text);
    let write = || {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    };
    let display = DISPLAY.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match display {
        Some(display) => display.suspend(write),
        None => write(),
    }
}

/// One JSON document on one line of standard error.
pub(crate) fn write_stderr_json(value: &impl Serialize) {
    if let Ok(mut value) = serde_json::to_value(value) {
        redact_json(&mut value);
        let line = format!("{value}\n");
        // Redacted already; strings only, so that numbers stay numbers.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    }
}

/// Where a command's words go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    format: OutputFormat,
    out: Style,
    err: Style,
}

impl Printer {
    pub(crate) fn new(format: OutputFormat, out: Style, err: Style) -> Self {
        Self { format, out, err }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// How text on standard output is coloured.
    pub(crate) fn out(&self) -> Style {
        self.out
    }

    /// How text on standard error is coloured.
    pub(crate) fn err(&self) -> Style {
        self.err
    }

    /// Data, as text.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] when nobody reads any more.
    pub(crate) fn data(&self, text: &str) -> Outcome {
        write_stdout(&redact(text))
    }

    /// Data, as one JSON document on one line.
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] when nobody reads any more.
    pub(crate) fn json(&self, value: &impl Serialize) -> Outcome {
        let mut value =
            serde_json::to_value(value).map_err(|error| Failure::Internal(format!("the result is no JSON: {error}")))?;
        redact_json(&mut value);
        write_stdout(&format!("{value}\n"))
    }

    /// Anything that is not data.
    pub(crate) fn note(&self, text: &str) {
        write_stderr(text);
    }
}

/// Text that has been redacted.
fn write_stdout(text: &str) -> Outcome {
    if STDOUT_CEDED.load(Ordering::Relaxed) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::file("write", "standard output".as_ref(), error),
    })
}

/// Redacts every string of a document and leaves its keys, numbers and shape as they are.
pub(crate) fn redact_json(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let std::borrow::Cow::Owned(clean) = redact(text) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact_json),
        Value::Object(object) => object.values_mut().for_each(redact_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_config::Secret;
    use serde_json::json;

    #[test]
    fn redacted_json_is_still_json() {
        crate::redaction::learn([&Secret::new("printer-9988"), &Secret::new("776655")]);
        let mut value = json!({ "rows": 776_655, "text": ["at printer-9988", "776655"] });
        redact_json(&mut value);
        assert_eq!(value, json!({ "rows": 776_655, "text": ["at ***", "***"] }));
    }
}
