//! Taking state out as a document, and putting it in.

use super::key_values;
use super::pipelines;
use super::progress::{self, GenerationRow};
use super::resets;
use super::rows::known;
use crate::checkpoint::{Checkpoint, check_stream};
use crate::error::{ErrorKind, StateError};
use crate::generation::{GenerationRecord, GenerationState};
use crate::pipeline::{PipelineId, PipelineRecord, check_length, check_name};
use crate::portable::{
    ImportReport, PortableCheckpoint, PortableGeneration, PortablePipeline, PortableStream, PortableValue, StateExport, hex, unhex,
};
use crate::reset::ResetRecord;
use rapidbyte_types::{MAX_POSITION_BYTES, StreamName};
use rusqlite::{Connection, Transaction};
use std::collections::BTreeSet;

pub(super) fn export(connection: &Connection, wanted: Option<PipelineId>, now_ms: u64) -> Result<StateExport, StateError> {
    let all = pipelines::all(connection)?;
    if let Some(id) = wanted {
        pipelines::require(connection, id)?;
    }
    let chosen = all.into_iter().filter(|pipeline| wanted.is_none_or(|id| id == pipeline.id));
    let pipelines = chosen.map(|pipeline| one(connection, pipeline)).collect::<Result<_, _>>()?;
    Ok(StateExport { exported_at_ms: now_ms, pipelines })
}

fn one(connection: &Connection, pipeline: PipelineRecord) -> Result<PortablePipeline, StateError> {
    let id = pipeline.id;
    let resets = resets::all(connection, id)?;
    let mut names: BTreeSet<StreamName> = progress::streams(connection, id)?.into_iter().collect();
    names.extend(resets.iter().map(|reset| reset.stream.clone()));
    let mut streams = Vec::with_capacity(names.len());
    for stream in names {
        streams.push(PortableStream {
            epoch: progress::epoch(connection, id, &stream)?,
            generations: progress::generations(connection, id, &stream)?.into_iter().map(portable_generation).collect(),
            checkpoints: progress::checkpoints(connection, id, &stream)?.into_iter().map(portable_checkpoint).collect(),
            reset_asked_at_ms: resets.iter().find(|reset| reset.stream == stream).map(|reset| reset.asked_at_ms),
            stream,
        });
    }
    let key_values = key_values::all(connection, id)?
        .into_iter()
        .map(|(scope, key, value)| PortableValue { scope, key, value: hex(&value) })
        .collect();
    let PipelineRecord { id, name, source_identity, created_at_ms } = pipeline;
    Ok(PortablePipeline { id: id.to_string(), name, source_identity, created_at_ms, streams, key_values })
}

fn portable_generation(record: GenerationRecord) -> PortableGeneration {
    let GenerationRecord { number, snapshot, state } = record;
    PortableGeneration { number, snapshot, state: state.as_str().to_owned() }
}

fn portable_checkpoint(checkpoint: Checkpoint) -> PortableCheckpoint {
    let Checkpoint { pipeline: _, stream: _, generation, partition, epoch, seq, position, rows, bytes, last, committed_at_ms } =
        checkpoint;
    PortableCheckpoint { generation, partition, epoch, seq, position, rows, bytes, last, committed_at_ms }
}

/// Puts a document in. Nothing moves backward: a stream whose epoch here is as new or newer stays as it is.
pub(super) fn import(tx: &Transaction<'_>, export: &StateExport) -> Result<ImportReport, StateError> {
    let mut report = ImportReport::default();
    for pipeline in &export.pipelines {
        let id = settle(tx, pipeline)?;
        for stream in &pipeline.streams {
            let place = (pipeline.name.clone(), stream.stream.clone());
            if put(tx, id, stream)? { report.taken.push(place) } else { report.kept.push(place) }
        }
        for PortableValue { scope, key, value } in &pipeline.key_values {
            let value = unhex(value).ok_or_else(|| impossible("a value that is not hexadecimal"))?;
            key_values::restore(tx, id, scope, key, &value)?;
        }
    }
    Ok(report)
}

fn impossible(what: &str) -> StateError {
    StateError::new(ErrorKind::Corrupt, format!("the exported state holds {what}"))
        .with_hint("export it again; nothing has been imported")
}

/// The pipeline in this store, made if it is not there.
fn settle(tx: &Transaction<'_>, wanted: &PortablePipeline) -> Result<PipelineId, StateError> {
    let id: PipelineId = wanted.id.parse().map_err(|error| impossible("a pipeline that is not a UUID").with_source(error))?;
    check_name("pipeline name", &wanted.name)?;
    check_length("source identity", wanted.source_identity.len(), crate::pipeline::MAX_NAME_BYTES)?;
    let record = PipelineRecord {
        id,
        name: wanted.name.clone(),
        source_identity: wanted.source_identity.clone(),
        created_at_ms: wanted.created_at_ms,
    };
    let Some(found) = pipelines::find(tx, &wanted.name)? else {
        if let Some(other) = pipelines::all(tx)?.into_iter().find(|other| other.id == id) {
            let message = format!("this store knows the exported pipeline `{}` as `{}`", wanted.name, other.name);
            return Err(StateError::new(ErrorKind::Conflict, message).with_hint("import into another state file"));
        }
        pipelines::put(tx, &record)?;
        return Ok(id);
    };
    let names = [&found.source_identity, &record.source_identity];
    if found.id != id || (names[0] != names[1] && names.iter().all(|name| !name.is_empty())) {
        let message = format!("the exported pipeline `{}` is another one than the one this store knows by that name", wanted.name);
        return Err(StateError::new(ErrorKind::IdentityMismatch, message)
            .with_hint("import into another state file, or give one of the two pipelines another name"));
    }
    if found.source_identity.is_empty() && !record.source_identity.is_empty() {
        pipelines::resolve(tx, &record.name, &record.source_identity, record.created_at_ms)?;
    }
    Ok(id)
}

fn put(tx: &Transaction<'_>, pipeline: PipelineId, from: &PortableStream) -> Result<bool, StateError> {
    let PortableStream { stream, epoch, generations, checkpoints, reset_asked_at_ms } = from;
    check_stream(stream)?;
    if *epoch <= progress::epoch(tx, pipeline, stream)? && (*epoch > 0 || reset_asked_at_ms.is_none()) {
        return Ok(false);
    }
    if *epoch > 0 {
        progress::set_epoch(tx, pipeline, stream, *epoch)?;
    }
    progress::forget(tx, pipeline, stream)?;
    for PortableGeneration { number, snapshot, state } in generations {
        check_length("snapshot's name", snapshot.len(), MAX_POSITION_BYTES)?;
        let known = known(state, "state", GenerationState::ALL, GenerationState::as_str);
        let state = known.map_err(|error| impossible("an unknown word").with_source(error))?;
        let record = GenerationRecord { number: *number, snapshot: snapshot.clone(), state };
        progress::put_generation(tx, &GenerationRow { pipeline, stream: stream.clone(), record })?;
    }
    for checkpoint in checkpoints {
        progress::put_checkpoint(tx, &stored_checkpoint(pipeline, stream, checkpoint)?)?;
    }
    match reset_asked_at_ms {
        Some(at) => resets::ask(tx, pipeline, &ResetRecord { stream: stream.clone(), asked_at_ms: *at })?,
        None => resets::done(tx, pipeline, stream)?,
    }
    Ok(true)
}

fn stored_checkpoint(pipeline: PipelineId, stream: &StreamName, from: &PortableCheckpoint) -> Result<Checkpoint, StateError> {
    let PortableCheckpoint { generation, partition, epoch, seq, position, rows, bytes, last, committed_at_ms } = from.clone();
    check_name("partition id", &partition)?;
    if let Some(position) = &position {
        check_length("position", position.value.len(), MAX_POSITION_BYTES)?;
    }
    if [generation, epoch, seq].contains(&0) {
        return Err(impossible("a checkpoint whose numbers begin at 0"));
    }
    let stream = stream.clone();
    Ok(Checkpoint { pipeline, stream, generation, partition, epoch, seq, position, rows, bytes, last, committed_at_ms })
}
