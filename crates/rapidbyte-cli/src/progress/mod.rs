//! What is shown while a run is under way: a moving display on a terminal, otherwise a line per event.

mod bars;
mod json;
mod lines;
mod tally;

pub(crate) use bars::Bars;
pub(crate) use json::JsonLines;
pub(crate) use lines::Lines;

use rapidbyte_engine::{Observer, RunEvent};
use rapidbyte_types::StreamName;
use std::sync::{Arc, Mutex, PoisonError};

/// The first rows of a stream, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peek {
    pub(crate) stream: StreamName,
    pub(crate) table: String,
}

/// Keeps what is shown after the run, and hands everything on.
pub(crate) struct Watch {
    shown: Arc<dyn Observer>,
    peeks: Mutex<Vec<Peek>>,
}

impl Watch {
    pub(crate) fn new(shown: Arc<dyn Observer>) -> Self {
        Self { shown, peeks: Mutex::new(Vec::new()) }
    }

    /// The peeks so far, which are then forgotten.
    pub(crate) fn take_peeks(&self) -> Vec<Peek> {
        std::mem::take(&mut self.peeks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Watch {
    fn event(&self, event: RunEvent<'_>) {
        if let RunEvent::Peek { stream, table } = &event {
            let peek = Peek { stream: (*stream).clone(), table: (*table).to_owned() };
            self.peeks.lock().unwrap_or_else(PoisonError::into_inner).push(peek);
        }
        self.shown.event(event);
    }
}
