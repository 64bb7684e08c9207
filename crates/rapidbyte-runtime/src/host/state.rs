//! `state`: a small key-value store, kept by whoever runs the pipeline.

use super::HostState;
use crate::wit::rapidbyte::connector::state as wit_state;
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types::ConnectorError;
use std::sync::Arc;

const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 1 << 20;
const MAX_STREAM_NAME: usize = 512;

/// Whose value it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StateScope {
    /// The pipeline's.
    Pipeline,
    /// One stream's.
    Stream(String),
}

/// The store behind `state-get`, `state-put` and `state-cas`. Calls may block; the host makes them off its own threads.
pub trait StateAccess: Send + Sync {
    /// The value, if there is one.
    ///
    /// # Errors
    /// When the store fails.
    fn get(&self, scope: &StateScope, key: &str) -> Result<Option<Vec<u8>>, ConnectorError>;
    /// Sets the value.
    ///
    /// # Errors
    /// When the store fails.
    fn put(&self, scope: &StateScope, key: &str, value: &[u8]) -> Result<(), ConnectorError>;
    /// Sets or (`None`) deletes the value if it equals `expected`; says whether it did.
    ///
    /// # Errors
    /// When the store fails.
    fn cas(&self, scope: &StateScope, key: &str, expected: Option<&[u8]>, value: Option<&[u8]>) -> Result<bool, ConnectorError>;
}

/// No store: reading finds nothing, writing is refused. For `check`, `discover` and `spec`.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoState;

impl StateAccess for NoState {
    fn get(&self, _scope: &StateScope, _key: &str) -> Result<Option<Vec<u8>>, ConnectorError> {
        Ok(None)
    }

    fn put(&self, _scope: &StateScope, _key: &str, _value: &[u8]) -> Result<(), ConnectorError> {
        Err(no_state())
    }

    fn cas(
        &self,
        _scope: &StateScope,
        _key: &str,
        _expected: Option<&[u8]>,
        _value: Option<&[u8]>,
    ) -> Result<bool, ConnectorError> {
        Err(no_state())
    }
}

fn no_state() -> ConnectorError {
    ConnectorError::internal("no_state", "state can be written during a run only")
}

fn scope_of(scope: wit_state::StateScope) -> Result<StateScope, ConnectorError> {
    match scope {
        wit_state::StateScope::Pipeline => Ok(StateScope::Pipeline),
        wit_state::StateScope::Stream(name) if name.len() <= MAX_STREAM_NAME => Ok(StateScope::Stream(name)),
        wit_state::StateScope::Stream(_) => Err(too_large("stream name", MAX_STREAM_NAME)),
    }
}

fn too_large(what: &str, max: usize) -> ConnectorError {
    ConnectorError::internal("state_limit", format!("a {what} in the state store has 1 to {max} bytes"))
}

fn check(key: &str, values: [Option<&[u8]>; 2]) -> Result<(), ConnectorError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(too_large("key", MAX_KEY));
    }
    if values.into_iter().flatten().any(|value| value.len() > MAX_VALUE) {
        return Err(too_large("value", MAX_VALUE));
    }
    Ok(())
}

/// Makes a blocking call off the async threads.
async fn with_state<R: Send + 'static>(
    state: Arc<dyn StateAccess>,
    call: impl FnOnce(&dyn StateAccess) -> Result<R, ConnectorError> + Send + 'static,
) -> Result<R, ConnectorError> {
    tokio::task::spawn_blocking(move || call(&*state))
        .await
        .unwrap_or_else(|_| Err(ConnectorError::internal("state_failed", "the state store gave no answer")))
}

impl wit_state::Host for HostState {
    async fn state_get(
        &mut self,
        scope: wit_state::StateScope,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, wit::ConnectorError>> {
        let store = Arc::clone(&self.state);
        let work = async move {
            let scope = scope_of(scope)?;
            check(&key, [None, None])?;
            with_state(store, move |state| state.get(&scope, &key)).await
        };
        Ok(work.await.map_err(Into::into))
    }

    async fn state_put(
        &mut self,
        scope: wit_state::StateScope,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), wit::ConnectorError>> {
        let store = Arc::clone(&self.state);
        let work = async move {
            let scope = scope_of(scope)?;
            check(&key, [Some(&value), None])?;
            with_state(store, move |state| state.put(&scope, &key, &value)).await
        };
        Ok(work.await.map_err(Into::into))
    }

    async fn state_cas(
        &mut self,
        scope: wit_state::StateScope,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
    ) -> wasmtime::Result<Result<bool, wit::ConnectorError>> {
        let store = Arc::clone(&self.state);
        let work = async move {
            let scope = scope_of(scope)?;
            check(&key, [expected.as_deref(), value.as_deref()])?;
            with_state(store, move |state| state.cas(&scope, &key, expected.as_deref(), value.as_deref())).await
        };
        Ok(work.await.map_err(Into::into))
    }
}
