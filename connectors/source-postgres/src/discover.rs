//! Listing what can be read.

use crate::catalog::{columns_of, readable_relations};
use arrow_schema::Schema;
use postgres_wire::Connection;
use rapidbyte_sdk::{ConnectorError, DiscoveredStream, StreamName, SyncMode};
use std::sync::Arc;

pub(crate) fn discover(connection: &mut Connection) -> Result<Vec<DiscoveredStream>, ConnectorError> {
    let relations = readable_relations(connection)?;
    let oids: Vec<u32> = relations.iter().map(|relation| relation.oid).collect();
    let mut columns = columns_of(connection, &oids)?;
    let mut found = Vec::with_capacity(relations.len());
    for relation in relations {
        let columns: Vec<_> =
            columns.remove(&relation.oid).unwrap_or_default().into_iter().filter(|column| column.readable).collect();
        let mut key: Vec<_> = columns.iter().filter_map(|column| Some((column.key_position?, column.name.clone()))).collect();
        key.sort();
        found.push(DiscoveredStream {
            kind: relation.kind_word().to_owned(),
            schema: Arc::new(Schema::new(columns.iter().map(|column| column.field()).collect::<Vec<_>>())),
            primary_key: key.into_iter().map(|(_, name)| name).collect(),
            cursor_candidates: columns.iter().filter(|column| column.kind.orders()).map(|column| column.name.clone()).collect(),
            sync_modes: sync_modes(relation.kind),
            estimated_rows: relation.estimated_rows,
            estimated_bytes: relation.estimated_bytes,
            name: StreamName::qualified(relation.schema, relation.name),
        });
    }
    Ok(found)
}

/// The log tells changes of tables, and of nothing else that can be read.
fn sync_modes(kind: char) -> Vec<SyncMode> {
    let mut modes = vec![SyncMode::FullRefresh, SyncMode::Incremental];
    modes.extend(matches!(kind, 'r' | 'p').then_some(SyncMode::Cdc));
    modes
}
