//! The state store, as far as connectors may see it.

use rapidbyte_runtime::{StateAccess, StateScope};
use rapidbyte_state::{ErrorKind, KeyValueScope, PipelineId, StateError, StateStore};
use rapidbyte_types::{ConnectorError, ErrorCategory};
use std::sync::Arc;

/// The key-values of one pipeline.
pub(crate) struct GuestState {
    pipeline: PipelineId,
    store: Arc<dyn StateStore>,
}

impl GuestState {
    pub(crate) fn new(pipeline: PipelineId, store: Arc<dyn StateStore>) -> Self {
        Self { pipeline, store }
    }
}

fn scope(scope: &StateScope) -> KeyValueScope {
    match scope {
        StateScope::Pipeline => KeyValueScope::Pipeline,
        StateScope::Stream(name) => KeyValueScope::Stream(name.clone()),
    }
}

fn told(error: &StateError) -> ConnectorError {
    let category = match error.kind() {
        ErrorKind::Locked => ErrorCategory::TransientDb,
        _ => ErrorCategory::Internal,
    };
    ConnectorError::new(category, error.kind().as_str(), error.to_string())
}

impl StateAccess for GuestState {
    fn get(&self, of: &StateScope, key: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
        self.store.key_value_get(self.pipeline, &scope(of), key).map_err(|error| told(&error))
    }

    fn put(&self, of: &StateScope, key: &str, value: &[u8]) -> Result<(), ConnectorError> {
        self.store.key_value_put(self.pipeline, &scope(of), key, value).map_err(|error| told(&error))
    }

    fn cas(&self, of: &StateScope, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, ConnectorError> {
        self.store.key_value_cas(self.pipeline, &scope(of), key, expected, value).map_err(|error| told(&error))
    }
}
