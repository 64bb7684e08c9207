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
use std::sync::{Mutex, PoisonError, RwLock};

/// The first rows of a stream, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peek {
    pub(crate) stream: StreamName,
    pub(crate) table: String,
}

/// Keeps what is shown after the run, and hands everything on until it is closed.
pub(crate) struct Watch {
    shown: RwLock<Option<Box<dyn Observer>>>,
    peeks: Mutex<Vec<Peek>>,
}

impl Watch {
    pub(crate) fn new(shown: Box<dyn Observer>) -> Self {
        Self { shown: RwLock::new(Some(shown)), peeks: Mutex::new(Vec::new()) }
    }

    /// Takes the display away and returns the peeks. A task that is still being dropped may hold this and say more; that is
    /// not shown.
    pub(crate) fn close(&self) -> Vec<Peek> {
        let shown = self.shown.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(shown);
        std::mem::take(&mut self.peeks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Watch {
    fn event(&self, event: RunEvent<'_>) {
        if let RunEvent::Peek { stream, table } = &event {
            let peek = Peek { stream: (*stream).clone(), table: (*table).to_owned() };
            self.peeks.lock().unwrap_or_else(PoisonError::into_inner).push(peek);
        }
        if let Some(shown) = &*self.shown.read().unwrap_or_else(PoisonError::into_inner) {
            shown.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(Arc<AtomicUsize>);

    impl Observer for Count {
        fn event(&self, _event: RunEvent<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn nothing_is_shown_after_the_end() {
        let count = Arc::new(AtomicUsize::new(0));
        let watch = Watch::new(Box::new(Count(Arc::clone(&count))));
        let stream = StreamName::new("orders");
        watch.event(RunEvent::Peek { stream: &stream, table: "+" });
        assert_eq!(watch.close(), [Peek { stream: stream.clone(), table: "+".to_owned() }]);
        watch.event(RunEvent::Read { stream: &stream, rows: 1, bytes: 1 });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
