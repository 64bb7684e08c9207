//! What the source lists, and which of it a pipeline's stream is.

use crate::error::{EngineError, Stage};
use crate::kit::Kit;
use arrow_schema::Schema;
use rapidbyte_runtime::{DiscoveredStream, NoState, StateAccess};
use rapidbyte_types::arrow::decode_schema;
use rapidbyte_types::{StreamContext, StreamName};
use std::sync::Arc;

/// Asks the source which streams there are.
pub(crate) async fn list(kit: &Arc<Kit>) -> Result<Vec<DiscoveredStream>, EngineError> {
    let state: Arc<dyn StateAccess> = Arc::new(NoState);
    let fail = |error| EngineError::guest(Stage::Source, error).in_connector(kit.source_name());
    let mut source = kit.open_source(None, &state).await?;
    let found = source.discover().await.map_err(fail)?;
    kit.give_source(source).await;
    Ok(found)
}

/// The columns that are read of a stream, in their order; `None` where the source does not list one of them.
pub(crate) fn columns_of(stream: &StreamContext, listed: &DiscoveredStream) -> Option<Schema> {
    let schema = decode_schema(&listed.schema).ok()?;
    let Some(selected) = &stream.selected_columns else { return Some(schema) };
    let places: Vec<usize> = selected.iter().map(|name| schema.index_of(name).ok()).collect::<Option<_>>()?;
    schema.project(&places).ok()
}

/// The stream of a name. Which namespace a bare name means, only the source knows: it is taken for the one in `public`, or for the
/// only one; else nothing is said of it.
pub(crate) fn named<'f>(found: &'f [DiscoveredStream], name: &StreamName) -> Option<&'f DiscoveredStream> {
    if let Some(exact) = found.iter().find(|one| one.name == *name) {
        return Some(exact);
    }
    let bare: Vec<&DiscoveredStream> = found.iter().filter(|one| name.namespace.is_none() && one.name.name == name.name).collect();
    match bare.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|one| one.name.namespace.as_deref() == Some("public")).copied(),
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;
    use rapidbyte_types::arrow::encode_schema;

    /// A stream of a schema as a source would list it.
    pub(crate) fn listed(name: StreamName, schema: &Schema) -> DiscoveredStream {
        DiscoveredStream {
            name,
            kind: "table".into(),
            schema: encode_schema(schema).unwrap(),
            primary_key: vec![],
            cursor_candidates: vec![],
            sync_modes: vec![],
            estimated_rows: None,
            estimated_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_that_of_public_or_of_the_only_one() {
        let listed = |namespaces: &[&str]| -> Vec<DiscoveredStream> {
            namespaces.iter().map(|one| fixture::listed(StreamName::qualified(*one, "t"), &Schema::empty())).collect()
        };
        let of = |namespaces: &[&str], name: StreamName| {
            named(&listed(namespaces), &name).and_then(|found| found.name.namespace.clone())
        };
        let bare = || StreamName::new("t");
        assert_eq!(of(&["a"], bare()).as_deref(), Some("a"));
        assert_eq!(of(&["a", "public"], bare()).as_deref(), Some("public"));
        assert_eq!(of(&["a", "b"], bare()), None);
        assert_eq!(of(&["a", "b"], StreamName::qualified("b", "t")).as_deref(), Some("b"));
        assert_eq!(of(&["a", "public"], StreamName::qualified("b", "t")), None);
        assert_eq!(of(&["public"], StreamName::new("u")), None);
    }
}
