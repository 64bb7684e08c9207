//! {{name}}: a transform that turns one column into capitals. Replace what it does, keep the order of the events.

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use rapidbyte_sdk::{
    CheckItem, ConnectorError, Event, InitContext, Input, StreamContext, Transform, TransformOutput, TransformRequest,
    TransformSummary,
};
use serde::Deserialize;
use std::sync::Arc;

/// The `config:` block. Its shape is also told by `config_schema` in `manifest.json`, which is checked first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    column: String,
}

/// The connector.
pub struct Capitals {
    column: String,
}

rapidbyte_sdk::connector_main!(transform, Capitals);

impl Transform for Capitals {
    type Config = Config;

    fn init(config: Config, _context: InitContext) -> Result<Self, ConnectorError> {
        Ok(Self { column: config.column })
    }

    fn validate(&mut self, _streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        // The columns are known only when the first schema comes.
        Ok(Vec::new())
    }

    fn transform(
        &mut self,
        request: &TransformRequest,
        input: &mut Input,
        output: &mut TransformOutput,
    ) -> Result<TransformSummary, ConnectorError> {
        loop {
            let event = match input.next()? {
                Event::End => return Ok(output.summary()),
                Event::Schema { stream, schema_id, schema } => {
                    self.check(request, stream, &schema)?;
                    Event::Schema { stream, schema_id, schema }
                }
                Event::Batch { stream, schema_id, batch, bytes } => {
                    Event::Batch { stream, schema_id, batch: self.capitals(batch)?, bytes }
                }
                // Barriers, dead letters and the rest pass as they are, in order.
                other => other,
            };
            output.pass(event)?;
        }
    }
}

impl Capitals {
    fn check(&self, request: &TransformRequest, stream: u32, schema: &Schema) -> Result<(), ConnectorError> {
        let name = request.streams.get(stream as usize).map_or_else(String::new, |stream| stream.name.to_string());
        let problem = match schema.field_with_name(&self.column) {
            Ok(field) if field.data_type() == &DataType::Utf8 => return Ok(()),
            Ok(field) => format!("column `{}` of stream `{name}` has type `{}` and not text", self.column, field.data_type()),
            Err(_) => format!("stream `{name}` has no column `{}`", self.column),
        };
        let texts = schema.fields().iter().filter(|field| field.data_type() == &DataType::Utf8);
        let choice: Vec<String> = texts.map(|field| format!("`{}`", field.name())).collect();
        Err(ConnectorError::schema("column", problem).with_hint(format!("set `column` to one of: {}", choice.join(", "))))
    }

    fn capitals(&self, batch: RecordBatch) -> Result<RecordBatch, ConnectorError> {
        let internal = |error: arrow_schema::ArrowError| ConnectorError::internal("batch", error.to_string());
        let at = batch.schema_ref().index_of(&self.column).map_err(internal)?;
        let changed: StringArray = batch.column(at).as_string::<i32>().iter().map(|text| text.map(str::to_uppercase)).collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns[at] = Arc::new(changed);
        RecordBatch::try_new(batch.schema(), columns).map_err(internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Int64Array;
    use arrow_schema::Field;
    use rapidbyte_sdk::StreamName;
    use rapidbyte_sdk::testing::{Emitted, FakeHost, run_context};

    fn batch(texts: &[Option<&str>]) -> RecordBatch {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
        let ids = Int64Array::from_iter_values(0..texts.len() as i64);
        let columns: Vec<ArrayRef> = vec![Arc::new(ids), Arc::new(StringArray::from(texts.to_vec()))];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    fn run(host: &FakeHost, column: &str) -> Result<TransformSummary, ConnectorError> {
        let mut transform = Capitals::init(Config { column: column.into() }, InitContext::default()).unwrap();
        let streams = vec![StreamContext::full_refresh(StreamName::new("people"))];
        let request = TransformRequest { run: run_context(), streams, state: None };
        transform.transform(&request, &mut host.input(), &mut host.transform_output())
    }

    #[test]
    fn changes_the_column_and_nothing_else() {
        let host = FakeHost::install();
        host.feed(0, 0, &[batch(&[Some("straße"), None, Some("")]), batch(&[Some("b")])]).unwrap();
        let summary = run(&host, "name").unwrap();
        assert_eq!(host.batches(0).unwrap(), [batch(&[Some("STRASSE"), None, Some("")]), batch(&[Some("B")])]);
        assert_eq!((summary.records_in, summary.records_out), (4, 4));
    }

    #[test]
    fn passes_barriers_on_in_order() {
        let host = FakeHost::install();
        host.feed(0, 0, &[batch(&[Some("a")])]).unwrap();
        host.feed_commit(7, true, None);
        run(&host, "name").unwrap();
        assert!(matches!(host.emitted().last(), Some(Emitted::ForwardedBarrier { id: 7, .. })));
    }

    #[test]
    fn a_column_that_is_no_text_is_refused() {
        for column in ["id", "missing"] {
            let host = FakeHost::install();
            host.feed(0, 0, &[batch(&[Some("a")])]).unwrap();
            let error = run(&host, column).unwrap_err();
            assert_eq!((error.code.as_str(), error.hint.as_deref()), ("column", Some("set `column` to one of: `name`")));
        }
    }
}
