//! Between the wire's records and the vocabulary: every field, every variant, in one place.

use crate::bindings::destination::exports::rapidbyte::connector::destination as wd;
use crate::bindings::digest::exports::rapidbyte::connector::digest_ranges as wg;
use crate::bindings::dry_run::exports::rapidbyte::connector::dry_run as wr;
use crate::bindings::imports::rapidbyte::connector::{input as wi, types as w};
use crate::bindings::source::exports::rapidbyte::connector::source as ws;
use crate::bindings::transform::exports::rapidbyte::connector::transform as wt;
use crate::host_ffi::RawEvent;
use crate::*;

/// Two enums with the same variants, both ways.
macro_rules! same {
    ($to:ident, $from:ident: $ours:ty = $theirs:ty { $($variant:ident),+ $(,)? }) => {
        pub(crate) fn $to(value: $ours) -> $theirs {
            match value { $(<$ours>::$variant => <$theirs>::$variant),+ }
        }
        pub(crate) fn $from(value: $theirs) -> $ours {
            match value { $(<$theirs>::$variant => <$ours>::$variant),+ }
        }
    };
}

same!(category_to_wit, category_from_wit: ErrorCategory = w::ErrorCategory {
    Config, Auth, Permission, RateLimit, TransientNetwork, TransientDb, Data, Schema, Internal,
});
same!(scope_to_wit, scope_from_wit: ErrorScope = w::ErrorScope { Stream, Batch, Record });
same!(backoff_to_wit, backoff_from_wit: BackoffClass = w::BackoffClass { Fast, Normal, Slow });
same!(commit_state_to_wit, commit_state_from_wit: CommitState = w::CommitState { BeforeCommit, AfterCommitUnknown, AfterCommitConfirmed });
same!(cursor_type_to_wit, cursor_type_from_wit: CursorType = w::CursorType {
    Int64, Utf8, TimestampMillis, TimestampMicros, Decimal, Json, Lsn,
});

fn sync_mode_from_wit(mode: w::SyncMode) -> SyncMode {
    match mode {
        w::SyncMode::FullRefresh => SyncMode::FullRefresh,
        w::SyncMode::Incremental => SyncMode::Incremental,
        w::SyncMode::Cdc => SyncMode::Cdc,
    }
}

fn sync_mode_to_wit(mode: SyncMode) -> w::SyncMode {
    match mode {
        SyncMode::FullRefresh => w::SyncMode::FullRefresh,
        SyncMode::Incremental => w::SyncMode::Incremental,
        SyncMode::Cdc => w::SyncMode::Cdc,
    }
}

pub(crate) fn error_to_wit(error: ConnectorError) -> w::ConnectorError {
    let ConnectorError {
        category,
        scope,
        code,
        message,
        hint,
        retryable,
        retry_after_ms,
        backoff,
        safe_to_retry,
        commit_state,
        details,
    } = error;
    w::ConnectorError {
        category: category_to_wit(category),
        scope: scope_to_wit(scope),
        code,
        message,
        hint,
        retryable,
        retry_after_ms,
        backoff: backoff_to_wit(backoff),
        safe_to_retry,
        commit_state: commit_state_to_wit(commit_state),
        details,
        extensions: Vec::new(),
    }
}

pub(crate) fn error_from_wit(error: w::ConnectorError) -> ConnectorError {
    let w::ConnectorError {
        category,
        scope,
        code,
        message,
        hint,
        retryable,
        retry_after_ms,
        backoff,
        safe_to_retry,
        commit_state,
        details,
        extensions: _,
    } = error;
    ConnectorError {
        category: category_from_wit(category),
        scope: scope_from_wit(scope),
        code,
        message,
        hint,
        retryable,
        retry_after_ms,
        backoff: backoff_from_wit(backoff),
        safe_to_retry,
        commit_state: commit_state_from_wit(commit_state),
        details,
    }
}

pub(crate) fn position_to_wit(position: Position) -> w::Position {
    let Position { kind, value } = position;
    w::Position { type_: cursor_type_to_wit(kind), value }
}

pub(crate) fn position_from_wit(position: w::Position) -> Position {
    let w::Position { type_, value } = position;
    Position { kind: cursor_type_from_wit(type_), value }
}

fn name_from_wit(name: w::StreamName) -> StreamName {
    let w::StreamName { namespace, name } = name;
    StreamName { namespace, name }
}

fn limits_from_wit(limits: w::Limits) -> Limits {
    let w::Limits {
        max_batch_bytes,
        max_record_bytes,
        max_inflight_batches,
        max_parallel_requests,
        checkpoint_interval_bytes,
        checkpoint_interval_rows,
        checkpoint_interval_seconds,
    } = limits;
    Limits {
        max_batch_bytes,
        max_record_bytes,
        max_inflight_batches,
        max_parallel_requests,
        checkpoint_interval_bytes,
        checkpoint_interval_rows,
        checkpoint_interval_seconds,
    }
}

fn policies_from_wit(policies: w::Policies) -> Policies {
    let w::Policies { on_data_error, new_column, removed_column, type_change, nullability_change } = policies;
    Policies {
        on_data_error: match on_data_error {
            w::DataErrorPolicy::Fail => DataErrorPolicy::Fail,
            w::DataErrorPolicy::Skip => DataErrorPolicy::Skip,
            w::DataErrorPolicy::Dlq => DataErrorPolicy::Dlq,
        },
        new_column: match new_column {
            w::NewColumnPolicy::Add => NewColumnPolicy::Add,
            w::NewColumnPolicy::Ignore => NewColumnPolicy::Ignore,
            w::NewColumnPolicy::Fail => NewColumnPolicy::Fail,
        },
        removed_column: match removed_column {
            w::RemovedColumnPolicy::Ignore => RemovedColumnPolicy::Ignore,
            w::RemovedColumnPolicy::Fail => RemovedColumnPolicy::Fail,
        },
        type_change: match type_change {
            w::TypeChangePolicy::Coerce => TypeChangePolicy::Coerce,
            w::TypeChangePolicy::Fail => TypeChangePolicy::Fail,
            w::TypeChangePolicy::Null => TypeChangePolicy::Null,
        },
        nullability_change: match nullability_change {
            w::NullabilityPolicy::Allow => NullabilityPolicy::Allow,
            w::NullabilityPolicy::Fail => NullabilityPolicy::Fail,
        },
    }
}

fn context_from_wit(context: w::StreamContext) -> StreamContext {
    let w::StreamContext {
        name,
        target,
        sync_mode,
        write_mode,
        cursor_field,
        primary_key,
        selected_columns,
        limits,
        policies,
        extensions,
    } = context;
    // A word of a later version is as good as none here; whoever must follow it refuses by its manifest's features.
    let said = |key: &str| extensions.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    StreamContext {
        safe_boundary: said(StreamContext::SAFE_BOUNDARY).and_then(|text| text.parse().ok()),
        null_cursor: said(StreamContext::NULL_CURSOR).and_then(|text| text.parse().ok()).unwrap_or(NullCursorPolicy::Fail),
        filter: said(StreamContext::FILTER).map(str::to_owned),
        name: name_from_wit(name),
        target: name_from_wit(target),
        sync_mode: sync_mode_from_wit(sync_mode),
        write_mode: match write_mode {
            w::WriteMode::Append => WriteMode::Append,
            w::WriteMode::Replace => WriteMode::Replace,
            w::WriteMode::Upsert => WriteMode::Upsert,
        },
        cursor_field,
        primary_key,
        selected_columns,
        limits: limits_from_wit(limits),
        policies: policies_from_wit(policies),
    }
}

pub(crate) fn contexts_from_wit(contexts: Vec<w::StreamContext>) -> Vec<StreamContext> {
    contexts.into_iter().map(context_from_wit).collect()
}

pub(crate) fn run_from_wit(run: w::RunContext) -> RunContext {
    let w::RunContext { pipeline_id, pipeline, run_id, attempt } = run;
    RunContext { pipeline_id, pipeline, run_id, attempt }
}

fn partition_from_wit(partition: w::Partition) -> Partition {
    let w::Partition { id, spec } = partition;
    Partition { id, spec }
}

fn partition_to_wit(partition: Partition) -> w::Partition {
    let Partition { id, spec } = partition;
    w::Partition { id, spec }
}

fn generation_from_wit(generation: w::Generation) -> Generation {
    let w::Generation { number, snapshot, partitions } = generation;
    Generation { number, snapshot, partitions: partitions.into_iter().map(partition_from_wit).collect() }
}

fn generation_to_wit(generation: Generation) -> w::Generation {
    let Generation { number, snapshot, partitions } = generation;
    w::Generation { number, snapshot, partitions: partitions.into_iter().map(partition_to_wit).collect() }
}

pub(crate) fn receipt_to_wit(receipt: Receipt) -> w::Receipt {
    let Receipt { stream, generation, partition, epoch, seq, position, rows, bytes, last, transform_state, committed_at_ms } =
        receipt;
    w::Receipt {
        stream,
        generation,
        partition,
        epoch,
        seq,
        position: position.map(position_to_wit),
        rows,
        bytes,
        last,
        transform_state,
        committed_at_ms,
    }
}

fn dead_letter_from_wit(letter: w::DeadLetter) -> DeadLetter {
    let w::DeadLetter { stream, record_json, error_message, error_category, failed_at_ms } = letter;
    DeadLetter { stream, record_json, error_message, error_category: category_from_wit(error_category), failed_at_ms }
}

pub(crate) fn dead_letter_to_wit(letter: DeadLetter) -> w::DeadLetter {
    let DeadLetter { stream, record_json, error_message, error_category, failed_at_ms } = letter;
    w::DeadLetter { stream, record_json, error_message, error_category: category_to_wit(error_category), failed_at_ms }
}

pub(crate) fn truncate_to_wit(truncate: Truncate) -> w::TruncateEvent {
    let Truncate { stream, position } = truncate;
    w::TruncateEvent { stream, position: position.map(position_to_wit) }
}

pub(crate) fn init_from_wit(request: w::OpenRequest) -> (String, InitContext) {
    let w::OpenRequest { pipeline, config, blob } = request;
    (config, InitContext { pipeline, blob })
}

pub(crate) fn event_from_wit(event: wi::Event) -> RawEvent {
    match event {
        wi::Event::Schema(wi::SchemaEvent { stream, schema_id, ipc }) => RawEvent::Schema { stream, schema_id, ipc },
        wi::Event::Batch(wi::BatchEvent { stream, schema_id, rows, ipc }) => RawEvent::Batch { stream, schema_id, rows, ipc },
        wi::Event::DeadLetters(letters) => RawEvent::DeadLetters(letters.into_iter().map(dead_letter_from_wit).collect()),
        wi::Event::Truncate(w::TruncateEvent { stream, position }) => {
            RawEvent::Truncate(Truncate { stream, position: position.map(position_from_wit) })
        }
        wi::Event::ReplaceRange(w::RangeEvent { stream, low, high }) => {
            RawEvent::ReplaceRange { stream, range: KeyRange { low, high } }
        }
        wi::Event::Heartbeat => RawEvent::Heartbeat,
        wi::Event::Barrier(wi::BarrierEvent { id, commit, last, position, transform_state }) => {
            RawEvent::Barrier(Barrier { id, commit, last, position: position.map(position_from_wit), transform_state })
        }
        wi::Event::End => RawEvent::End,
        wi::Event::Other((name, _)) => RawEvent::Other { name },
    }
}

pub(crate) fn check_items_to_wit(items: Vec<CheckItem>) -> Vec<w::CheckItem> {
    let item = |CheckItem { name, status, message, hint }| w::CheckItem {
        name,
        status: match status {
            CheckStatus::Ok => w::CheckStatus::Ok,
            CheckStatus::Warning => w::CheckStatus::Warning,
            CheckStatus::Failed => w::CheckStatus::Failed,
        },
        message,
        hint,
    };
    items.into_iter().map(item).collect()
}

pub(crate) fn spec_to_wit(spec: ConnectorSpec) -> w::ConnectorSpec {
    let ConnectorSpec { id, version, protocol_version } = spec;
    w::ConnectorSpec { id, version, protocol_version }
}

pub(crate) fn discovered_to_wit(stream: DiscoveredStream) -> Result<ws::DiscoveredStream, ConnectorError> {
    let DiscoveredStream { name, kind, schema, primary_key, cursor_candidates, sync_modes, estimated_rows, estimated_bytes } =
        stream;
    let StreamName { namespace, name } = name;
    Ok(ws::DiscoveredStream {
        name: w::StreamName { namespace, name },
        kind,
        schema: encode_schema(&schema)?,
        primary_key,
        cursor_candidates,
        sync_modes: sync_modes.into_iter().map(sync_mode_to_wit).collect(),
        estimated_rows,
        estimated_bytes,
    })
}

pub(crate) fn plan_request_from_wit(request: ws::PlanRequest) -> PlanRequest {
    let ws::PlanRequest { run, stream, max_partitions, pinned } = request;
    PlanRequest {
        run: run_from_wit(run),
        stream: context_from_wit(stream),
        max_partitions,
        pinned: pinned.map(generation_from_wit),
    }
}

pub(crate) fn plan_to_wit(plan: PartitionPlan) -> ws::PartitionPlan {
    let PartitionPlan { snapshot, partitions, token } = plan;
    ws::PartitionPlan { snapshot, partitions: partitions.into_iter().map(partition_to_wit).collect(), token }
}

pub(crate) fn read_request_from_wit(request: ws::ReadRequest) -> ReadRequest {
    let ws::ReadRequest { run, streams, partition, token, resume, follow } = request;
    ReadRequest {
        run: run_from_wit(run),
        streams: contexts_from_wit(streams),
        partition: partition.map(partition_from_wit),
        token,
        resume: resume.map(position_from_wit),
        follow,
    }
}

pub(crate) fn read_summary_to_wit(summary: ReadSummary) -> w::ReadSummary {
    let ReadSummary { records, bytes, batches_emitted, checkpoint_count, records_skipped, perf } = summary;
    let ReadPerf { connect_ns, query_ns, fetch_ns, encode_ns } = perf;
    w::ReadSummary {
        records,
        bytes,
        batches_emitted,
        checkpoint_count,
        records_skipped,
        perf: w::ReadPerf { connect_ns, query_ns, fetch_ns, encode_ns },
    }
}

pub(crate) fn write_summary_to_wit(summary: WriteSummary) -> w::WriteSummary {
    let WriteSummary { records, bytes, batches_written, checkpoint_count, records_skipped, perf } = summary;
    let WritePerf { connect_ns, decode_ns, flush_ns, commit_ns } = perf;
    w::WriteSummary {
        records,
        bytes,
        batches_written,
        checkpoint_count,
        records_skipped,
        perf: w::WritePerf { connect_ns, decode_ns, flush_ns, commit_ns },
    }
}

pub(crate) fn transform_summary_to_wit(summary: TransformSummary) -> w::TransformSummary {
    let TransformSummary { records_in, records_out, bytes_in, bytes_out, batches_emitted, records_skipped } = summary;
    w::TransformSummary { records_in, records_out, bytes_in, bytes_out, batches_emitted, records_skipped }
}

pub(crate) fn claim_request_from_wit(request: wd::ClaimRequest) -> ClaimRequest {
    let wd::ClaimRequest { run, streams } = request;
    let stream = |wd::ClaimStream { context, known_epoch, source_identity }| ClaimStream {
        context: context_from_wit(context),
        known_epoch,
        source_identity,
    };
    ClaimRequest { run: run_from_wit(run), streams: streams.into_iter().map(stream).collect() }
}

pub(crate) fn claimed_to_wit(claimed: ClaimedStream) -> wd::ClaimedStream {
    let ClaimedStream { epoch, newest_generation, generation, receipts, location } = claimed;
    wd::ClaimedStream {
        epoch,
        newest_generation,
        generation: generation.map(generation_to_wit),
        receipts: receipts.into_iter().map(receipt_to_wit).collect(),
        location,
    }
}

pub(crate) fn prepare_request_from_wit(request: wd::PrepareRequest) -> PrepareRequest {
    let wd::PrepareRequest { run, context, epoch, generation } = request;
    PrepareRequest {
        run: run_from_wit(run),
        context: context_from_wit(context),
        epoch,
        generation: generation_from_wit(generation),
    }
}

pub(crate) fn write_request_from_wit(request: wd::WriteRequest) -> WriteRequest {
    let wd::WriteRequest { run, streams } = request;
    let stream = |wd::WriteStream { context, epoch, generation, partition, seq, rows, bytes }| WriteStream {
        context: context_from_wit(context),
        epoch,
        generation,
        partition,
        seq,
        rows,
        bytes,
    };
    WriteRequest { run: run_from_wit(run), streams: streams.into_iter().map(stream).collect() }
}

pub(crate) fn publish_request_from_wit(request: wd::PublishRequest) -> PublishRequest {
    let wd::PublishRequest { run, context, epoch, generation } = request;
    PublishRequest { run: run_from_wit(run), context: context_from_wit(context), epoch, generation }
}

pub(crate) fn publish_summary_to_wit(summary: PublishSummary) -> wd::PublishSummary {
    let PublishSummary { rows, records_skipped, location } = summary;
    wd::PublishSummary { rows, records_skipped, location }
}

pub(crate) fn transform_request_from_wit(request: wt::TransformRequest) -> TransformRequest {
    let wt::TransformRequest { run, streams, state } = request;
    TransformRequest { run: run_from_wit(run), streams: contexts_from_wit(streams), state }
}

pub(crate) fn pin_request_from_wit(request: wg::PinRequest) -> PinRequest {
    let wg::PinRequest { stream, position } = request;
    PinRequest { stream: context_from_wit(stream), position: position.map(position_from_wit) }
}

pub(crate) fn pinned_to_wit(pinned: Pinned) -> wg::Pinned {
    let Pinned { place, columns, key, estimated_rows, method } = pinned;
    let column = |DigestColumn { name, type_name, encodings }| wg::DigestColumn { name, type_: type_name, encodings };
    wg::Pinned { place, columns: columns.into_iter().map(column).collect(), key, estimated_rows, method }
}

pub(crate) fn digest_request_from_wit(request: wg::DigestRequest) -> DigestRequest {
    let wg::DigestRequest { columns, key, ranges, whole } = request;
    let column = |wg::ColumnEncoding { name, encoding }| ColumnEncoding { name, encoding };
    DigestRequest { columns: columns.into_iter().map(column).collect(), key, ranges, whole }
}

pub(crate) fn range_digest_to_wit(digest: RangeDigest) -> wg::RangeDigest {
    let RangeDigest { range, rows, digest } = digest;
    wg::RangeDigest { range, rows, digest }
}

pub(crate) fn key_digest_to_wit(digest: KeyDigest) -> wg::KeyDigest {
    let KeyDigest { id, key, rows, digest } = digest;
    wg::KeyDigest { id, key, rows, digest }
}

pub(crate) fn planned_stream_from_wit(stream: wr::PlannedStream) -> Result<PlannedStream, ConnectorError> {
    let wr::PlannedStream { context, schema } = stream;
    Ok(PlannedStream { context: context_from_wit(context), schema: std::sync::Arc::new(decode_schema(&schema)?) })
}

pub(crate) fn planned_target_to_wit(target: PlannedTarget) -> wr::PlannedTarget {
    let PlannedTarget { place, exists, rows, effects } = target;
    let effect = |Effect { kind, message, sql, hint }| wr::Effect {
        kind: match kind {
            EffectKind::Create => wr::EffectKind::Create,
            EffectKind::Alter => wr::EffectKind::Alter,
            EffectKind::Write => wr::EffectKind::Write,
            EffectKind::Policy => wr::EffectKind::Policy,
            EffectKind::Refusal => wr::EffectKind::Refusal,
        },
        message,
        sql,
        hint,
    };
    wr::PlannedTarget { place, exists, rows, effects: effects.into_iter().map(effect).collect() }
}
