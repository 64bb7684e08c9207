//! The first rows that reach a destination, for people to see.

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::FormatOptions;
use arrow_cast::pretty::pretty_format_batches_with_options;
use arrow_ipc::reader::StreamReader;
use arrow_schema::{DataType, Field, FieldRef, Schema};
use rapidbyte_runtime::{Event, EventReceiver, EventSender};
use std::collections::HashMap;
use std::io::{Chain, Cursor};
use std::sync::Arc;

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
        let batches: Vec<RecordBatch> = self.taken.get(&stream)?.iter().map(in_offset_zones).collect();
        let options = FormatOptions::new().with_null("NULL").with_display_error(true);
        match pretty_format_batches_with_options(&batches, &options) {
            Ok(table) => Some(table.to_string()),
            Err(error) => {
                tracing::warn!(error = %error, "the first rows can't be shown");
                None
            }
        }
    }
}

/// Formatting knows zones by offset only, without a table of names; instants are the same under any.
fn in_offset_zones(batch: &RecordBatch) -> RecordBatch {
    let relabelled = |field: &FieldRef, column: &ArrayRef| match field.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            let kind = DataType::Timestamp(*unit, Some("+00:00".into()));
            let cast = arrow_cast::cast(column, &kind).ok()?;
            Some((Arc::new(Field::new(field.name(), kind, field.is_nullable())), cast))
        }
        _ => Some((Arc::clone(field), Arc::clone(column))),
    };
    let schema = batch.schema();
    let columns: Option<Vec<(FieldRef, ArrayRef)>> =
        schema.fields().iter().zip(batch.columns()).map(|(field, column)| relabelled(field, column)).collect();
    let Some(columns) = columns else { return batch.clone() };
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap_or_else(|_| batch.clone())
}

/// A batch that can't be shown is not shown: whoever writes it judges it.
fn decode(schema: &[u8], batch: &[u8]) -> Option<RecordBatch> {
    let stream: Chain<Cursor<&[u8]>, Cursor<&[u8]>> = std::io::Read::chain(Cursor::new(schema), Cursor::new(batch));
    StreamReader::try_new(stream, None).ok()?.next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, TimestampMicrosecondArray};

    #[test]
    fn zoned_times_are_shown() {
        let times = TimestampMicrosecondArray::from(vec![Some(0), None]).with_timezone("UTC");
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, false),
            ("at", Arc::new(times) as ArrayRef, true),
        ]);
        let mut tap = Tap::new(2);
        tap.taken.insert(0, vec![batch.unwrap()]);
        let table = tap.table(0).unwrap();
        assert!(table.contains("1970-01-01T00:00:00Z"), "{table}");
        assert!(table.contains("NULL"), "{table}");
    }
}
