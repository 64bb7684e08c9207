//! Comparing what the source has with what the destination has, by digests that each side makes of its own rows.
//!
//! The encoding and the reasons are in `docs/design/verify.md`. Nothing is written.

mod agree;
mod compare;
mod look;
mod report;

pub use report::{Converted, Counts, Difference, FoundKey, LeftOut, StreamVerdict, Verdict, VerifyReport};

use crate::contract::{self, Comparable};
use crate::error::{Cause, EngineError, Stage};
use crate::keeper::Keeper;
use crate::kit::{Kit, Operator};
use crate::listing;
use crate::retry;
use crate::run::load_kit;
use crate::select::select;
use crate::task::blocking;
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::contract::Contract;
use rapidbyte_types::{ConnectorError, Position, StreamContext, StreamName, SyncMode, WriteMode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// These streams, as the pipeline names them; empty = all.
    pub streams: Vec<String>,
    /// These columns beside those of the key; empty = all that both sides have.
    pub columns: Vec<String>,
    /// How many keys that differ are named, for each stream.
    pub keys: usize,
}

pub(crate) async fn verify(operator: &Operator, plan: &PipelinePlan, options: VerifyOptions) -> Result<VerifyReport, EngineError> {
    let started = Instant::now();
    let kit = load_kit(operator, plan).await?;
    comparable(&kit, &options)?;
    let selection = retry::again(plan.resources.max_retries, || select(&kit, plan)).await?;
    let streams = chosen(&selection.plan.streams, &options.streams)?;
    refuse_logs(&streams)?;
    let mut contracts = retry::again(plan.resources.max_retries, || contracts(&kit, &selection.plan, &streams)).await?;
    let positions = positions(plan, &streams).await?;
    let options = Arc::new(options);
    let width = Arc::new(Semaphore::new(kit.parallelism() as usize));
    let mut looks: JoinSet<(usize, Result<StreamVerdict, EngineError>)> = JoinSet::new();
    for (index, stream) in streams.iter().cloned().enumerate() {
        let (kit, options, width, retries) =
            (Arc::clone(&kit), Arc::clone(&options), Arc::clone(&width), plan.resources.max_retries);
        let position = positions.get(&stream.name).cloned();
        let contract = contracts.remove(&stream.name).unwrap_or_default();
        looks.spawn(async move {
            // The semaphore is never closed.
            let _turn = width.acquire_owned().await.ok();
            let found = retry::again(retries, || look::compare(&kit, &stream, &contract, position.as_ref(), &options)).await;
            (index, found.map_err(|error| error.in_stream(&stream.name)))
        });
    }
    let mut found: Vec<Option<Result<StreamVerdict, EngineError>>> = streams.iter().map(|_| None).collect();
    while let Some(joined) = looks.join_next().await {
        let Ok((index, verdict)) = joined else { continue };
        if let Some(slot) = found.get_mut(index) {
            *slot = Some(verdict);
        }
    }
    let lost = || EngineError::internal(Stage::Engine, "stream_lost", "a comparison ended without a word");
    let streams = found.into_iter().map(|verdict| verdict.unwrap_or_else(|| Err(lost()))).collect::<Result<_, _>>()?;
    Ok(VerifyReport { pipeline: plan.pipeline.clone(), streams, duration: started.elapsed() })
}

/// Refuses pipelines whose two ends can't be the same.
fn comparable(kit: &Kit, options: &VerifyOptions) -> Result<(), EngineError> {
    let refuse = |stage, name: &str, code: &str, message: String, hint: &str| {
        let error = ConnectorError::config(code, message).with_hint(hint);
        Err(EngineError::new(stage, Cause::Connector(error)).in_connector(name))
    };
    if let Some((stage, name)) = kit.without_digests() {
        let message = format!("`{name}` does not digest its rows, so that a pipeline with it can't be verified");
        return refuse(stage, name, "not_verifiable", message, "`verify` compares `source-postgres` with `dest-postgres`");
    }
    for index in 0..kit.transforms() {
        let (stage, name) = (Stage::Transform(u32::try_from(index).unwrap_or(u32::MAX)), kit.transform_name(index));
        if kit.transform_has(index, "keeps_content") {
            continue;
        }
        if !kit.transform_has(index, "keeps_rows") {
            let message =
                format!("`{name}` changes which rows arrive, so that source and destination are not meant to be the same");
            return refuse(stage, name, "not_verifiable", message, "verify a pipeline without it, into another table");
        }
        if options.columns.is_empty() {
            let message =
                format!("`{name}` changes values on their way, so that source and destination are not meant to be the same");
            return refuse(stage, name, "not_verifiable", message, "name the columns that it leaves alone with `--columns`");
        }
    }
    Ok(())
}

/// Refuses streams whose table is a log of changes: it holds what rows once were, and those that are gone.
fn refuse_logs(streams: &[StreamContext]) -> Result<(), EngineError> {
    let is_log = |stream: &&StreamContext| (stream.sync_mode, stream.write_mode) == (SyncMode::Cdc, WriteMode::Append);
    let Some(log) = streams.iter().find(is_log) else { return Ok(()) };
    let message = "under `sync_mode: cdc` and `write_mode: append` the destination is a log of changes and no copy of the table";
    let error = ConnectorError::config("not_verifiable", message)
        .with_hint("`write_mode: upsert` keeps a copy that can be compared; `--stream` names the streams to compare");
    Err(EngineError::new(Stage::Plan, Cause::Connector(error)).in_stream(&log.name))
}

/// What contracts leave of the comparison, of the streams that have one.
///
/// # Errors
/// `contract_violation` and `contract_unusable` as of a run, `not_verifiable` where the source does not list a stream's columns.
async fn contracts(
    kit: &Arc<Kit>,
    plan: &PipelinePlan,
    streams: &[StreamContext],
) -> Result<HashMap<StreamName, Comparable>, EngineError> {
    let held: Vec<_> = streams.iter().filter_map(|stream| Some((stream, plan.contracts.get(&stream.name)?))).collect();
    if held.is_empty() {
        return Ok(HashMap::new());
    }
    let found = listing::list(kit).await?;
    let comparable = |(stream, contract): (&StreamContext, &Arc<Contract>)| {
        let bound = contract::held_to(contract, stream, listing::named(&found, &stream.name)).unwrap_or_else(|| {
            let message = "the source does not list the stream's columns, so that it is not known what its contract changes";
            Err(ConnectorError::config("not_verifiable", message)
                .with_hint("name the stream with its namespace, as `rapidbyte discover <PIPELINE>` lists it"))
        });
        let fail = |error| EngineError::new(Stage::Contract, Cause::Connector(error)).in_stream(&stream.name);
        Ok((stream.name.clone(), bound.map_err(fail)?.comparable()))
    };
    held.into_iter().map(comparable).collect()
}

/// The streams asked for.
fn chosen(streams: &[StreamContext], wanted: &[String]) -> Result<Vec<StreamContext>, EngineError> {
    let named = |stream: &StreamContext, name: &String| stream.name.to_string() == *name || stream.name.name == *name;
    if let Some(unknown) = wanted.iter().find(|name| !streams.iter().any(|stream| named(stream, name))) {
        let names: Vec<String> = streams.iter().take(20).map(|stream| format!("`{}`", stream.name)).collect();
        let error = ConnectorError::config("unknown_stream", format!("the pipeline has no stream `{unknown}`"))
            .with_hint(format!("it has: {}", names.join(", ")));
        return Err(EngineError::new(Stage::Plan, Cause::Connector(error)));
    }
    let all = wanted.is_empty();
    Ok(streams.iter().filter(|stream| all || wanted.iter().any(|name| named(stream, name))).cloned().collect())
}

/// How far each incremental stream is loaded, as far as the state store knows.
async fn positions(plan: &PipelinePlan, streams: &[StreamContext]) -> Result<HashMap<StreamName, Position>, EngineError> {
    let incremental: Vec<StreamName> =
        streams.iter().filter(|stream| stream.sync_mode == SyncMode::Incremental).map(|stream| stream.name.clone()).collect();
    if incremental.is_empty() {
        return Ok(HashMap::new());
    }
    let of = plan.clone();
    let known = blocking(move || {
        let Some(keeper) = Keeper::open_existing(&of)? else { return Ok(HashMap::new()) };
        let mut known = HashMap::new();
        for pipeline in keeper.pipelines(false)? {
            for stream in keeper.streams(&pipeline)? {
                let own = stream.checkpoints.into_iter().filter(|at| !at.partition.starts_with(crate::load::RESERVED_PREFIX));
                if let Some(position) = own.max_by_key(|at| at.seq).and_then(|at| at.position) {
                    known.insert(stream.stream, position);
                }
            }
        }
        Ok::<_, EngineError>(known)
    })
    .await??;
    if let Some(unknown) = incremental.iter().find(|name| !known.contains_key(name)) {
        let error = ConnectorError::config("position_unknown", "how far the stream is loaded is not known here")
            .with_hint("run the pipeline from here once, then verify: a run reads its place back from the destination");
        return Err(EngineError::new(Stage::State, Cause::Connector(error)).in_stream(unknown));
    }
    Ok(known)
}
