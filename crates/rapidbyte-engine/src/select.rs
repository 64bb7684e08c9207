//! Patterns among a pipeline's streams: what they stand for, the source says.

use crate::error::{Cause, EngineError, Stage};
use crate::kit::Kit;
use crate::listing::list;
use rapidbyte_config::{PipelinePlan, SelectionError};
use rapidbyte_types::{ConnectorError, StreamName};
use std::sync::Arc;

/// What patterns have become.
pub(crate) struct Selection {
    /// The plan with streams alone.
    pub(crate) plan: PipelinePlan,
    /// Each pattern with an exclusion that leaves nothing out: most likely misspelt.
    pub(crate) idle: Vec<(String, String)>,
}

/// Asks the source which streams there are, if the plan has patterns, and puts them in their place.
pub(crate) async fn select(kit: &Arc<Kit>, plan: &PipelinePlan) -> Result<Selection, EngineError> {
    if plan.patterns.is_empty() {
        return Ok(Selection { plan: plan.clone(), idle: Vec::new() });
    }
    let found: Vec<StreamName> = list(kit).await?.into_iter().map(|stream| stream.name).collect();
    let idle = plan.patterns.iter().flat_map(|pattern| {
        let of = |exclusion: &str| (pattern.text().to_owned(), exclusion.to_owned());
        pattern.idle(&found).into_iter().map(of).collect::<Vec<_>>()
    });
    Ok(Selection { idle: idle.collect(), plan: plan.with_found(&found).map_err(refused)? })
}

fn refused(error: SelectionError) -> EngineError {
    let SelectionError { stream, message, hint } = error;
    let error = ConnectorError::config("stream_selection", message).with_hint(hint);
    EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&StreamName::new(stream))
}
