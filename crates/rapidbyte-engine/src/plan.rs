//! What a run would do: looked at, and not done.
//!
//! Source and destination are asked by `check`, `discover` and the optional interface `dry-run`; the state store is read where there
//! is one. Nothing is claimed, so that a run under way goes on.

use crate::contract;
use crate::error::{EngineError, Stage};
use crate::inspect::evolution;
use crate::keeper::{Keeper, KeeperStream};
use crate::kit::{Kit, Operator};
use crate::listing;
use crate::retry;
use crate::run::load_kit;
use crate::select::select;
use crate::task::blocking;
use arrow_schema::Schema;
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::contract::Contract;
use rapidbyte_runtime::{DiscoveredStream, NoState, PlannedStream, StateAccess};
use rapidbyte_state::GenerationState;
use rapidbyte_types::arrow::encode_schema;
use rapidbyte_types::{
    CheckItem, CheckStatus, DataErrorPolicy, Effect, EffectKind, PlannedTarget, StreamContext, StreamName, SyncMode, WriteMode,
};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;

/// Something that stands in the way of a run, or that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanFinding {
    /// `source`, `destination` or a transform, with the connector.
    pub area: String,
    /// What was looked at.
    pub name: String,
    /// How it was found.
    pub status: CheckStatus,
    /// In words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exact statement that mends it, to be run by whom the hint names.
    pub sql: Option<String>,
}

/// What a run would do with one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamPlan {
    /// The stream.
    pub stream: StreamName,
    /// How it is read.
    pub sync_mode: SyncMode,
    /// How it is written.
    pub write_mode: WriteMode,
    /// Columns that are read; none where the source does not show them.
    pub columns: Vec<String>,
    /// Rows at the source, as it guesses.
    pub estimated_rows: Option<u64>,
    /// Bytes at the source, as it guesses.
    pub estimated_bytes: Option<u64>,
    /// How the source would read it, in its words.
    pub reading: String,
    /// From where.
    pub resumes: String,
    /// The table it goes into.
    pub target: String,
    /// Whether that is there; `None` where the destination does not say.
    pub exists: Option<bool>,
    /// Rows that are there, as the destination guesses.
    pub target_rows: Option<u64>,
    /// What would happen there, in order.
    pub effects: Vec<Effect>,
    /// What its policies do.
    pub policies: Vec<String>,
}

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlanReport {
    /// The pipeline.
    pub pipeline: String,
    /// Its streams, in order.
    pub streams: Vec<StreamPlan>,
    /// What stands in the way, and what else is to be known.
    pub findings: Vec<PlanFinding>,
}

impl PlanReport {
    /// Whether a run would fail, as far as can be seen from here.
    pub fn refused(&self) -> bool {
        let refusal = |effect: &Effect| effect.kind == EffectKind::Refusal;
        self.findings.iter().any(|finding| finding.status == CheckStatus::Failed)
            || self.streams.iter().any(|stream| stream.effects.iter().any(refusal))
    }
}

pub(crate) async fn plan(operator: &Operator, plan: &PipelinePlan) -> Result<PlanReport, EngineError> {
    let kit = load_kit(operator, plan).await?;
    let plan = retry::again(plan.resources.max_retries, || select(&kit, plan)).await?.plan;
    let known = known(&plan).await?;
    let mut findings = Vec::new();
    let (read, found) = retry::again(plan.resources.max_retries, || source(&kit, &plan.streams)).await?;
    for index in 0..kit.transforms() {
        let (area, stage) = (format!("transform `{}`", kit.transform_name(index)), Stage::Transform(index as u32));
        let state: Arc<dyn StateAccess> = Arc::new(NoState);
        let fail = |error| EngineError::guest(stage, error).in_connector(kit.transform_name(index));
        let mut transform = kit.open_transform(index, None, &state).await?;
        let items = transform.check(plan.streams.clone()).await.map_err(fail)?;
        transform.close().await.map_err(fail)?;
        findings.extend(items.into_iter().map(|item| finding(&area, item)));
    }
    let area = format!("source `{}`", kit.source_name());
    let said = |stream: &StreamContext| {
        let name = format!("stream `{}`", stream.name);
        read.iter().find(|item| item.name == name && item.status != CheckStatus::Failed).map(|item| item.message.clone())
    };
    let readings: Vec<String> =
        plan.streams.iter().map(|stream| said(stream).unwrap_or_else(|| "can't be told".to_owned())).collect();
    findings.extend(read.into_iter().map(|item| finding(&area, item)));
    let listed: Vec<Option<&DiscoveredStream>> = plan.streams.iter().map(|stream| listing::named(&found, &stream.name)).collect();
    let arriving: Vec<Arriving> = plan
        .streams
        .iter()
        .zip(&listed)
        .map(|(stream, listed)| Arriving::of(stream, plan.contracts.get(&stream.name).map(Arc::as_ref), *listed))
        .collect();
    findings.extend(arriving.iter().filter_map(|one| Some(finding("contracts", one.finding.clone()?))));
    let (items, targets) = retry::again(plan.resources.max_retries, || destination(&kit, &plan.streams, &arriving)).await?;
    let area = format!("destination `{}`", kit.destination_name());
    findings.extend(items.into_iter().map(|item| finding(&area, item)));
    if !kit.plans() {
        let message = "it does not tell what it would do: nothing is known of tables and columns to come";
        findings.push(note(&area, message));
    }
    if kit.transforms() > 0 && kit.plans() {
        let message = "columns are those of the source: what transforms add, take away or make of them is not seen here";
        findings.push(note("transforms", message));
    }
    findings.retain(|finding| finding.status != CheckStatus::Ok);
    let streams = plan
        .streams
        .iter()
        .zip(readings)
        .zip(listed)
        .zip(arriving)
        .zip(targets)
        .map(|((((stream, reading), found), Arriving { columns, contract, .. }), target)| {
            let mut policies = policies(&kit, stream);
            policies.extend(contract.into_iter().map(|line| format!("contract: {line}")));
            StreamPlan {
                stream: stream.name.clone(),
                sync_mode: stream.sync_mode,
                write_mode: stream.write_mode,
                columns,
                estimated_rows: found.and_then(|found| found.estimated_rows),
                estimated_bytes: found.and_then(|found| found.estimated_bytes),
                reading,
                resumes: resumes(stream, known.get(&stream.name)),
                target: target.as_ref().map_or_else(|| stream.target.to_string(), |target| target.place.clone()),
                exists: target.as_ref().map(|target| target.exists),
                target_rows: target.as_ref().and_then(|target| target.rows),
                effects: target.map(|target| target.effects).unwrap_or_default(),
                policies,
            }
        })
        .collect();
    Ok(PlanReport { pipeline: plan.pipeline.clone(), streams, findings })
}

fn note(area: &str, message: &str) -> PlanFinding {
    PlanFinding {
        area: area.to_owned(),
        name: "plan".into(),
        status: CheckStatus::Warning,
        message: message.to_owned(),
        hint: None,
        sql: None,
    }
}

/// An item of `check`, with the statement that its hint names.
fn finding(area: &str, item: CheckItem) -> PlanFinding {
    let CheckItem { name, status, message, hint } = item;
    let sql = hint.as_deref().and_then(statement).filter(|_| status == CheckStatus::Failed);
    PlanFinding { area: area.to_owned(), name, status, message, hint, sql }
}

/// The first statement between backticks.
fn statement(hint: &str) -> Option<String> {
    const WORDS: [&str; 4] = ["GRANT ", "CREATE ", "ALTER ", "DROP "];
    hint.split('`').skip(1).step_by(2).find(|text| WORDS.iter().any(|word| text.starts_with(word))).map(str::to_owned)
}

async fn source(kit: &Kit, streams: &[StreamContext]) -> Result<(Vec<CheckItem>, Vec<DiscoveredStream>), EngineError> {
    let state: Arc<dyn StateAccess> = Arc::new(NoState);
    let fail = |error| EngineError::guest(Stage::Source, error).in_connector(kit.source_name());
    let mut source = kit.open_source(None, &state).await?;
    let items = source.check(streams.to_vec()).await.map_err(fail)?;
    let found = source.discover().await.map_err(fail)?;
    source.close().await.map_err(fail)?;
    Ok((items, found))
}

async fn destination(
    kit: &Kit,
    streams: &[StreamContext],
    arriving: &[Arriving],
) -> Result<(Vec<CheckItem>, Vec<Option<PlannedTarget>>), EngineError> {
    let fail = |error| EngineError::guest(Stage::Destination, error).in_connector(kit.destination_name());
    let mut destination = kit.open_destination().await?;
    let items = destination.check(streams.to_vec()).await.map_err(fail)?;
    destination.close().await.map_err(fail)?;
    let none = || streams.iter().map(|_| None).collect();
    if !kit.plans() || items.iter().any(|item| item.name == "connection" && item.status == CheckStatus::Failed) {
        return Ok((items, none()));
    }
    let mut wanted = Vec::new();
    for (stream, Arriving { schema, .. }) in streams.iter().zip(arriving) {
        if let Some(schema) = schema.clone() {
            wanted.push(PlannedStream { context: stream.clone(), schema });
        }
    }
    let names: Vec<StreamName> = wanted.iter().map(|stream| stream.context.name.clone()).collect();
    let mut dry = kit.open_dry_run().await?;
    let planned = dry.dry_run(wanted).await.map_err(fail)?;
    dry.close().await.map_err(fail)?;
    let mut planned: HashMap<StreamName, PlannedTarget> = names.into_iter().zip(planned).collect();
    Ok((items, streams.iter().map(|stream| planned.remove(&stream.name)).collect()))
}

/// What arrives of a stream, as far as it is known before the run.
struct Arriving {
    /// The columns that are read, in their order.
    columns: Vec<String>,
    /// What the destination gets to see, as an IPC message: the columns as the stream's contract passes them.
    schema: Option<Vec<u8>>,
    /// What the contract does, in words.
    contract: Vec<String>,
    /// How the contract was found, if there is one.
    finding: Option<CheckItem>,
}

impl Arriving {
    fn of(stream: &StreamContext, contract: Option<&Contract>, listed: Option<&DiscoveredStream>) -> Self {
        let schema = listed.and_then(|listed| listing::columns_of(stream, listed));
        let names = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect();
        let columns = schema.as_ref().map_or_else(|| stream.selected_columns.clone().unwrap_or_default(), names);
        let (passed, contract, finding) = match contract {
            None => (schema, Vec::new(), None),
            Some(contract) => {
                let held = contract::held_to(contract, stream, listed);
                let finding = Some(contract::item(stream, held.as_ref()));
                match held {
                    Some(Ok(bound)) => (Some(bound.passes().as_ref().clone()), bound.told(stream.policies.on_data_error), finding),
                    // A run would end before it made anything.
                    Some(Err(_)) | None => (None, Vec::new(), finding),
                }
            }
        };
        Self { columns, schema: passed.and_then(|schema| encode_schema(&schema).ok()), contract, finding }
    }
}

/// What the state store knows of the streams; it is read where it is there, and not made.
async fn known(plan: &PipelinePlan) -> Result<HashMap<StreamName, KeeperStream>, EngineError> {
    let of = plan.clone();
    blocking(move || {
        let mut known = HashMap::new();
        if let Some(keeper) = Keeper::open_existing(&of)? {
            for pipeline in keeper.pipelines(false)? {
                known.extend(keeper.streams(&pipeline)?.into_iter().map(|stream| (stream.stream.clone(), stream)));
            }
        }
        Ok(known)
    })
    .await?
}

/// From where a run would go on, as far as the state store knows: the destination has the last word.
fn resumes(stream: &StreamContext, known: Option<&KeeperStream>) -> String {
    let Some(known) = known else { return "from the start: no run is known here".to_owned() };
    if known.reset_asked_at_ms.is_some() {
        return "from the start: `state reset` has asked for it".to_owned();
    }
    let Some(newest) = known.generations.first() else { return "from the start".to_owned() };
    let open = newest.state == GenerationState::Open;
    let done = known.checkpoints.iter().filter(|at| at.last).count();
    match (stream.sync_mode, open) {
        (SyncMode::FullRefresh, true) => format!(
            "load {} is not finished ({done} of {} partitions known to be complete): the run goes on with it if the source still has \
             its snapshot",
            newest.number,
            known.checkpoints.len()
        ),
        (SyncMode::FullRefresh, false) => format!("from the start, as load {}", newest.number + 1),
        (SyncMode::Incremental | SyncMode::Cdc, _) => {
            let rows: u64 = known.checkpoints.iter().map(|at| at.rows).sum();
            format!("after what load {} has delivered: {rows} rows so far", newest.number)
        }
    }
}

/// What a stream's policies do, in words.
fn policies(kit: &Kit, stream: &StreamContext) -> Vec<String> {
    let rows = match stream.policies.on_data_error {
        DataErrorPolicy::Fail => "a row that can't be carried ends the run (`on_data_error: fail`)",
        DataErrorPolicy::Skip => "a row that can't be carried is left out and counted (`on_data_error: skip`)",
        DataErrorPolicy::Dlq => "a row that can't be carried goes to the dead letters (`on_data_error: dlq`)",
    };
    let mut said = vec![rows.to_owned()];
    if kit.evolves() {
        said.push(evolution(&stream.policies));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_taken_out_of_hints() {
        for (hint, expected) in [
            ("as its owner run: `GRANT SELECT ON \"a\".\"b\" TO \"c\"`", Some("GRANT SELECT ON \"a\".\"b\" TO \"c\"")),
            ("set `schema`, or run `CREATE SCHEMA x`", Some("CREATE SCHEMA x")),
            ("set `host` to the primary server", None),
        ] {
            assert_eq!(statement(hint).as_deref(), expected);
        }
    }
}
