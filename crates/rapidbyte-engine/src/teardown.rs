//! Giving a pipeline up: what it has left beside the data is removed at both ends.

use crate::error::{EngineError, Stage};
use crate::kit::Operator;
use crate::run::{load_kit, now_ms, open_state};
use crate::select;
use crate::task::blocking;
use rapidbyte_config::PipelinePlan;
use rapidbyte_runtime::{NoState, StateAccess};
use rapidbyte_types::{RunContext, StreamName};
use std::sync::Arc;

/// Removes it, the destination's part first: from there on no writer of the pipeline commits anything, whatever machine it is on.
/// Gives the streams that it was done for.
pub(crate) async fn teardown(operator: &Operator, plan: &PipelinePlan) -> Result<Vec<StreamName>, EngineError> {
    let kit = load_kit(operator, plan).await?;
    let (state_plan, name, kind) = (plan.state.clone(), plan.pipeline.clone(), kit.source_kind().to_owned());
    let (pipeline, _guard) = blocking(move || {
        let store = open_state(&state_plan)?;
        let record = store.announce_pipeline(&name, &kind, now_ms())?;
        let guard = store.lock_run(record.id, "a teardown")?;
        Ok::<_, EngineError>((record.id, guard))
    })
    .await??;
    let run_id = uuid::Uuid::new_v4().to_string();
    let run = RunContext { pipeline_id: pipeline.to_string(), pipeline: plan.pipeline.clone(), run_id, attempt: 1 };
    let streams = select::select(&kit, plan).await?.plan.streams;
    let state: Arc<dyn StateAccess> = Arc::new(NoState);

    let fail = |error| EngineError::guest(Stage::Destination, error).in_connector(kit.destination_name());
    let mut destination = kit.open_controller().await?;
    destination.teardown(run.clone(), streams.clone()).await.map_err(fail)?;
    destination.close().await.map_err(fail)?;

    let fail = |error| EngineError::guest(Stage::Source, error).in_connector(kit.source_name());
    let mut source = kit.open_source(None, &state).await?;
    source.teardown(run, streams.clone()).await.map_err(fail)?;
    source.close().await.map_err(fail)?;
    Ok(streams.into_iter().map(|stream| stream.name).collect())
}
