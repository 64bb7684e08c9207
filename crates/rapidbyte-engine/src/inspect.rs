//! Looking without moving: `check` and `discover`.

use crate::contract;
use crate::error::{EngineError, Stage};
use crate::kit::{Kit, Operator};
use crate::listing::list;
use crate::run::{load_kit, open_state};
use crate::select::select;
use crate::task::blocking;
use arrow_ipc::convert::try_schema_from_ipc_buffer;
use rapidbyte_config::PipelinePlan;
use rapidbyte_config::plan::StatePlan;
use rapidbyte_runtime::{NoState, StateAccess};
use rapidbyte_types::{
    CheckItem, CheckStatus, NewColumnPolicy, NullabilityPolicy, Policies, RemovedColumnPolicy, StreamName, SyncMode,
    TypeChangePolicy,
};
use serde::Serialize;
use std::sync::Arc;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckLine {
    /// `state`, ``source `source-postgres` ``, …
    pub area: String,
    /// What was looked at.
    pub name: String,
    /// How it was found.
    pub status: CheckStatus,
    /// In words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The lines.
    pub items: Vec<CheckLine>,
}

impl CheckReport {
    /// Whether a run would fail.
    pub fn failed(&self) -> bool {
        self.items.iter().any(|line| line.status == CheckStatus::Failed)
    }

    fn say(&mut self, area: &str, item: CheckItem) {
        let CheckItem { name, status, message, hint } = item;
        self.items.push(CheckLine { area: area.to_owned(), name, status, message, hint });
    }

    fn fine(&mut self, area: &str, name: &str, message: impl Into<String>) {
        self.say(area, CheckItem { name: name.into(), status: CheckStatus::Ok, message: message.into(), hint: None });
    }

    fn fail(&mut self, area: &str, name: &str, error: &EngineError) {
        self.say(area, CheckItem { name: name.into(), status: CheckStatus::Failed, message: error.message(), hint: error.hint() });
    }
}

/// A column of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type on the way, as Arrow names it.
    pub data_type: String,
    /// Its type at the source, where the source says.
    pub source_type: Option<String>,
    /// Whether it may be NULL.
    pub nullable: bool,
}

/// A stream that a source has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// `table`, `view`, … in the source's own words.
    pub kind: String,
    /// Its key, in order.
    pub primary_key: Vec<String>,
    /// Columns fit for an incremental read.
    pub cursor_candidates: Vec<String>,
    /// How it can be read.
    pub sync_modes: Vec<SyncMode>,
    /// A guess at its rows.
    pub estimated_rows: Option<u64>,
    /// A guess at its bytes.
    pub estimated_bytes: Option<u64>,
    /// Its columns, in order.
    pub columns: Vec<ColumnInfo>,
}

/// Looks at everything a run needs. Problems are lines, never an error.
pub(crate) async fn check(operator: &Operator, plan: &PipelinePlan) -> CheckReport {
    let mut report = CheckReport::default();
    let state_plan = plan.state.clone();
    let StatePlan::Sqlite { path } = &plan.state;
    let shown = path.display().to_string();
    match blocking(move || open_state(&state_plan).and_then(|store| store.check().map_err(EngineError::from))).await {
        Ok(Ok(())) => report.fine("state", "sqlite", format!("{shown} can be read and written")),
        Ok(Err(error)) | Err(error) => report.fail("state", "sqlite", &error),
    }
    let kit = match load_kit(operator, plan).await {
        Ok(kit) => kit,
        Err(error) => {
            let area = error.connector.as_deref().map_or_else(|| "connectors".to_owned(), |name| format!("connector `{name}`"));
            report.fail(&area, "load", &error);
            return report;
        }
    };
    report.fine("connectors", "load", "configuration, manifests and permissions are valid");
    let selected = selected(&kit, plan, &mut report).await;
    let plan = selected.as_ref().unwrap_or(plan);
    source(&kit, plan, &mut report).await;
    contracts(&kit, plan, &mut report).await;
    for index in 0..kit.transforms() {
        transform(&kit, index, plan, &mut report).await;
    }
    destination(&kit, plan, &mut report).await;
    report
}

/// The plan with its patterns resolved, or nothing where it has none, or they can't be.
async fn selected(kit: &Arc<Kit>, plan: &PipelinePlan, report: &mut CheckReport) -> Option<PipelinePlan> {
    if plan.patterns.is_empty() {
        return None;
    }
    let selection = match select(kit, plan).await {
        Ok(selection) => selection,
        Err(error) => {
            report.fail("streams", "patterns", &error);
            return None;
        }
    };
    let named = plan.streams.len();
    let chosen: Vec<String> = selection.plan.streams.iter().skip(named).map(|stream| format!("`{}`", stream.name)).collect();
    let shown = chosen.iter().take(20).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if chosen.len() > 20 { ", …" } else { "" };
    report.fine("streams", "patterns", format!("they stand for {} streams: {shown}{more}", chosen.len()));
    for (pattern, exclusion) in selection.idle {
        let message = format!("`{exclusion}` leaves no stream of `{pattern}` out");
        let hint = Some("`rapidbyte discover <PIPELINE>` lists the names; take it out if it is not needed".to_owned());
        report.say("streams", CheckItem { name: "exclude".into(), status: CheckStatus::Warning, message, hint });
    }
    Some(selection.plan)
}

async fn source(kit: &Arc<Kit>, plan: &PipelinePlan, report: &mut CheckReport) {
    let area = format!("source `{}`", kit.source_name());
    let state: Arc<dyn StateAccess> = Arc::new(NoState);
    let looked = async {
        let mut source = kit.open_source(None, &state).await?;
        let items = source.check(plan.streams.clone()).await.map_err(|error| EngineError::guest(Stage::Source, error))?;
        source.close().await.map_err(|error| EngineError::guest(Stage::Source, error))?;
        Ok::<_, EngineError>(items)
    };
    match looked.await {
        Ok(items) => items.into_iter().for_each(|item| report.say(&area, item)),
        Err(error) => report.fail(&area, "check", &error),
    }
}

/// Holds what the source lists to the streams' contracts.
async fn contracts(kit: &Arc<Kit>, plan: &PipelinePlan, report: &mut CheckReport) {
    if plan.contracts.is_empty() {
        return;
    }
    match list(kit).await {
        Ok(found) => contract::look(plan, &found).into_iter().for_each(|item| report.say("contracts", item)),
        Err(error) => report.fail("contracts", "discover", &error),
    }
}

async fn transform(kit: &Arc<Kit>, index: usize, plan: &PipelinePlan, report: &mut CheckReport) {
    let area = format!("transform `{}`", kit.transform_name(index));
    let stage = Stage::Transform(index as u32);
    let state: Arc<dyn StateAccess> = Arc::new(NoState);
    let looked = async {
        let mut transform = kit.open_transform(index, None, &state).await?;
        let items = transform.check(plan.streams.clone()).await.map_err(|error| EngineError::guest(stage, error))?;
        transform.close().await.map_err(|error| EngineError::guest(stage, error))?;
        Ok::<_, EngineError>(items)
    };
    match looked.await {
        Ok(items) => items.into_iter().for_each(|item| report.say(&area, item)),
        Err(error) => report.fail(&area, "check", &error),
    }
}

async fn destination(kit: &Arc<Kit>, plan: &PipelinePlan, report: &mut CheckReport) {
    let area = format!("destination `{}`", kit.destination_name());
    let looked = async {
        let mut destination = kit.open_destination().await?;
        let fail = |error| EngineError::guest(Stage::Destination, error);
        let items = destination.check(plan.streams.clone()).await.map_err(fail)?;
        destination.close().await.map_err(fail)?;
        Ok::<_, EngineError>(items)
    };
    match looked.await {
        Ok(items) => items.into_iter().for_each(|item| report.say(&area, item)),
        Err(error) => report.fail(&area, "check", &error),
    }
    let (status, message) = if kit.at_least_once() {
        (CheckStatus::Warning, "at least once: a run that is killed and started again may repeat rows here")
    } else {
        (CheckStatus::Ok, "exactly once: rows and receipt are one act")
    };
    report.say(&area, CheckItem { name: "delivery".into(), status, message: message.into(), hint: None });
    // They are the pipeline's, the same for each of its streams.
    if let (true, Some(stream)) = (kit.evolves(), plan.streams.first()) {
        report.fine(&area, "schema evolution", evolution(&stream.policies));
    }
}

/// What becomes of columns that change, in words.
pub(crate) fn evolution(policies: &Policies) -> String {
    let new = match policies.new_column {
        NewColumnPolicy::Add => "new columns are added",
        NewColumnPolicy::Ignore => "new columns are left out",
        NewColumnPolicy::Fail => "a new column ends the run",
    };
    let removed = match policies.removed_column {
        RemovedColumnPolicy::Ignore => "removed ones stay, unwritten",
        RemovedColumnPolicy::Fail => "a removed one ends the run",
    };
    let types = match policies.type_change {
        TypeChangePolicy::Coerce => "under another type values are converted, and one that does not fit is a data error",
        TypeChangePolicy::Fail => "another type that does not fit ends the run",
        TypeChangePolicy::Null => "under another type values are converted, and one that does not fit becomes NULL",
    };
    let nullability = match policies.nullability_change {
        NullabilityPolicy::Allow => "NOT NULL gives way",
        NullabilityPolicy::Fail => "a column that has become nullable ends the run",
    };
    format!("{new}; {removed}; {types}; {nullability}")
}

/// Lists what the pipeline's source has.
pub(crate) async fn discover(operator: &Operator, plan: &PipelinePlan) -> Result<Vec<StreamInfo>, EngineError> {
    let kit = load_kit(operator, plan).await?;
    list(&kit)
        .await?
        .into_iter()
        .map(|stream| {
            let schema = try_schema_from_ipc_buffer(&stream.schema).map_err(|error| {
                EngineError::internal(Stage::Source, "schema_invalid", error.to_string()).in_stream(&stream.name)
            })?;
            let column = |field: &arrow_schema::FieldRef| ColumnInfo {
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                source_type: field.metadata().get("rapidbyte.pg.type").cloned(),
                nullable: field.is_nullable(),
            };
            Ok(StreamInfo {
                columns: schema.fields().iter().map(column).collect(),
                name: stream.name,
                kind: stream.kind,
                primary_key: stream.primary_key,
                cursor_candidates: stream.cursor_candidates,
                sync_modes: stream.sync_modes,
                estimated_rows: stream.estimated_rows,
                estimated_bytes: stream.estimated_bytes,
            })
        })
        .collect()
}
