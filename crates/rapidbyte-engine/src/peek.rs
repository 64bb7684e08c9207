//! The first rows that reach a destination, for people to see.

use arrow_array::RecordBatch;
use arrow_cast::display::FormatOptions;
use arrow_cast::pretty::pretty_format_batches_with_options;
use arrow_ipc::reader::StreamReader;
use rapidbyte_runtime::{Event, EventReceiver, EventSender};
use std::collections::HashMap;
use std::io::{Chain, Cursor};

/// Passes events on and keeps the first rows of each stream.
pub(crate) struct Tap {
    wanted: usize,
    schemas: HashMap<(u32, u32), Vec<u8>>,
    taken: HashMap<u32, Vec<RecordBatch>>,
}

impl Tap {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, schemas: HashMap::new(), taken: HashMap::new() }
    }

    /// Carries events from one link to the next until either end is gone.
    pub(crate) async fn pump(mut self, mut from: EventReceiver, to: EventSender) -> Self {
        while let Ok(event) = from.recv().await {
            self.look(&event);
            let end = matches!(event, Event::End);
            if to.send(event).await.is_err() || end {
                break;
            }
        }
        self
    }

    fn look(&mut self, event: &Event) {
        match event {
            Event::Schema { stream, schema_id, ipc } => {
                self.schemas.insert((*stream, *schema_id), ipc.to_vec());
            }
            Event::Batch { stream, schema_id, bytes, .. } => {
                let have: usize = self.taken.get(stream).map_or(0, |batches| batches.iter().map(RecordBatch::num_rows).sum());
                if have >= self.wanted {
                    return;
                }
                let Some(schema) = self.schemas.get(&(*stream, *schema_id)) else { return };
                if let Some(batch) = decode(schema, bytes) {
                    let rows = batch.num_rows().min(self.wanted - have);
                    self.taken.entry(*stream).or_default().push(batch.slice(0, rows));
                }
            }
            Event::DeadLetters(_)
            | Event::Truncate { .. }
            | Event::ReplaceRange { .. }
            | Event::Barrier(_)
            | Event::Heartbeat
            | Event::End => {}
        }
    }

    /// The rows of a stream as a table.
    pub(crate) fn table(&self, stream: u32) -> Option<String> {
        let batches = self.taken.get(&stream)?;
        let options = FormatOptions::new().with_null("NULL").with_display_error(true);
        pretty_format_batches_with_options(batches, &options).ok().map(|table| table.to_string())
    }
}

/// A batch that can't be shown is not shown: whoever writes it judges it.
fn decode(schema: &[u8], batch: &[u8]) -> Option<RecordBatch> {
    let stream: Chain<Cursor<&[u8]>, Cursor<&[u8]>> = std::io::Read::chain(Cursor::new(schema), Cursor::new(batch));
    StreamReader::try_new(stream, None).ok()?.next()?.ok()
}
