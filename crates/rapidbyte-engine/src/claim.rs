//! Taking the right to write, and believing what the destination says.

use crate::error::{EngineError, Stage};
use crate::kit::Kit;
use crate::load::Claimed;
use crate::task::blocking;
use rapidbyte_runtime::{ClaimStream, mark};
use rapidbyte_state::{DurableReceipt, PipelineId, StateStore};
use rapidbyte_types::{RunContext, StreamContext};
use std::sync::Arc;

/// Claims streams: a larger epoch at the destination, the same in the state store, and every receipt that was made durable
/// without being mirrored made up for.
pub(crate) async fn claim(
    kit: &Kit,
    state: &Arc<dyn StateStore>,
    run: &RunContext,
    pipeline: PipelineId,
    source_identity: &str,
    streams: &[StreamContext],
) -> Result<Vec<Claimed>, EngineError> {
    let mut asked = Vec::with_capacity(streams.len());
    for stream in streams {
        let (store, name) = (Arc::clone(state), stream.name.clone());
        let known_epoch = blocking(move || store.epoch(pipeline, &name)).await??;
        asked.push(ClaimStream { context: stream.clone(), known_epoch, source_identity: source_identity.to_owned() });
    }
    let known: Vec<u64> = asked.iter().map(|stream| stream.known_epoch).collect();
    let fail = |error| EngineError::guest(Stage::Destination, error).in_connector(kit.destination_name());
    let mut controller = kit.open_controller().await?;
    mark("engine.claim.before");
    let claimed = controller.claim(run.clone(), asked).await.map_err(fail)?;
    mark("engine.claim.after");
    kit.give_destination(controller).await;

    let mut believed = Vec::with_capacity(claimed.len());
    for ((stream, known), claimed) in streams.iter().zip(known).zip(claimed) {
        let (store, name, epoch) = (Arc::clone(state), stream.name.clone(), claimed.epoch);
        let mut proofs = Vec::with_capacity(claimed.receipts.len());
        for receipt in &claimed.receipts {
            proofs.push(DurableReceipt::read_back(receipt.clone(), pipeline, stream.name.clone(), epoch)?);
        }
        blocking(move || {
            store.advance_epoch(pipeline, &name, known, epoch)?;
            proofs.iter().try_for_each(|proof| store.mirror(proof).map(|_| ()))
        })
        .await??;
        believed.push(Claimed {
            epoch,
            newest_generation: claimed.newest_generation,
            generation: claimed.generation,
            receipts: claimed.receipts,
            location: claimed.location,
        });
    }
    Ok(believed)
}
