//! Between the generated types and those of `rapidbyte-types`: every field named, every variant matched.

use crate::requests::{
    ClaimStream, ClaimedStream, DiscoveredStream, PartitionPlan, PlanRequest, PrepareRequest, PublishRequest, ReadRequest,
    TransformRequest, WriteRequest, WriteStream,
};
use crate::wit::exports::rapidbyte::connector::{destination, source, transform};
use crate::wit::rapidbyte::connector::types as wit;
use rapidbyte_types as ours;

/// Text from a guest is kept only so long.
const MAX_TEXT: usize = 16 << 10;

/// Cuts text at a character boundary.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

fn cut_option(text: Option<String>, max: usize) -> Option<String> {
    text.map(|text| cut(text, max))
}

macro_rules! same_words {
    ($wit:ident, $ours:ident: $($variant:ident),+) => {
        impl From<wit::$wit> for ours::$ours {
            fn from(word: wit::$wit) -> Self {
                match word { $(wit::$wit::$variant => Self::$variant),+ }
            }
        }
        impl From<ours::$ours> for wit::$wit {
            fn from(word: ours::$ours) -> Self {
                match word { $(ours::$ours::$variant => Self::$variant),+ }
            }
        }
    };
}

same_words!(ErrorCategory, ErrorCategory:
    Config, Auth, Permission, RateLimit, TransientNetwork, TransientDb, Data, Schema, Internal);
same_words!(ErrorScope, ErrorScope: Stream, Batch, Record);
same_words!(BackoffClass, BackoffClass: Fast, Normal, Slow);
same_words!(CommitState, CommitState: BeforeCommit, AfterCommitUnknown, AfterCommitConfirmed);
same_words!(SyncMode, SyncMode: FullRefresh, Incremental, Cdc);
same_words!(WriteMode, WriteMode: Append, Replace, Upsert);
same_words!(CursorType, CursorType: Int64, Utf8, TimestampMillis, TimestampMicros, Decimal, Json, Lsn);
same_words!(DataErrorPolicy, DataErrorPolicy: Fail, Skip, Dlq);
same_words!(NewColumnPolicy, NewColumnPolicy: Add, Ignore, Fail);
same_words!(RemovedColumnPolicy, RemovedColumnPolicy: Ignore, Fail);
same_words!(TypeChangePolicy, TypeChangePolicy: Coerce, Fail, Null);
same_words!(NullabilityPolicy, NullabilityPolicy: Allow, Fail);
same_words!(CheckStatus, CheckStatus: Ok, Warning, Failed);

impl From<wit::ConnectorError> for ours::ConnectorError {
    fn from(error: wit::ConnectorError) -> Self {
        let wit::ConnectorError {
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
            // Unknown keys are ignored, and none is known yet.
            extensions: _,
        } = error;
        Self {
            category: category.into(),
            scope: scope.into(),
            code: cut(code, 128),
            message: cut(message, MAX_TEXT),
            hint: cut_option(hint, MAX_TEXT),
            retryable,
            retry_after_ms,
            backoff: backoff.into(),
            safe_to_retry,
            commit_state: commit_state.into(),
            details: cut_option(details, MAX_TEXT),
        }
    }
}

impl From<ours::ConnectorError> for wit::ConnectorError {
    fn from(error: ours::ConnectorError) -> Self {
        let ours::ConnectorError {
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
        Self {
            category: category.into(),
            scope: scope.into(),
            code,
            message,
            hint,
            retryable,
            retry_after_ms,
            backoff: backoff.into(),
            safe_to_retry,
            commit_state: commit_state.into(),
            details,
            extensions: Vec::new(),
        }
    }
}

impl From<wit::Position> for ours::Position {
    fn from(wit::Position { type_, value }: wit::Position) -> Self {
        Self { kind: type_.into(), value }
    }
}

impl From<ours::Position> for wit::Position {
    fn from(ours::Position { kind, value }: ours::Position) -> Self {
        Self { type_: kind.into(), value }
    }
}

impl From<wit::StreamName> for ours::StreamName {
    fn from(wit::StreamName { namespace, name }: wit::StreamName) -> Self {
        Self { namespace, name }
    }
}

impl From<ours::StreamName> for wit::StreamName {
    fn from(ours::StreamName { namespace, name }: ours::StreamName) -> Self {
        Self { namespace, name }
    }
}

impl From<ours::Limits> for wit::Limits {
    fn from(limits: ours::Limits) -> Self {
        let ours::Limits {
            max_batch_bytes,
            max_record_bytes,
            max_inflight_batches,
            max_parallel_requests,
            checkpoint_interval_bytes,
            checkpoint_interval_rows,
            checkpoint_interval_seconds,
        } = limits;
        Self {
            max_batch_bytes,
            max_record_bytes,
            max_inflight_batches,
            max_parallel_requests,
            checkpoint_interval_bytes,
            checkpoint_interval_rows,
            checkpoint_interval_seconds,
        }
    }
}

impl From<ours::Policies> for wit::Policies {
    fn from(policies: ours::Policies) -> Self {
        let ours::Policies { on_data_error, new_column, removed_column, type_change, nullability_change } = policies;
        Self {
            on_data_error: on_data_error.into(),
            new_column: new_column.into(),
            removed_column: removed_column.into(),
            type_change: type_change.into(),
            nullability_change: nullability_change.into(),
        }
    }
}

impl From<ours::StreamContext> for wit::StreamContext {
    fn from(context: ours::StreamContext) -> Self {
        let ours::StreamContext {
            name,
            target,
            sync_mode,
            write_mode,
            cursor_field,
            safe_boundary,
            null_cursor,
            filter,
            primary_key,
            selected_columns,
            limits,
            policies,
        } = context;
        let boundary = safe_boundary.map(|boundary| (ours::StreamContext::SAFE_BOUNDARY.to_owned(), boundary.to_string()));
        let nulls = (null_cursor != ours::NullCursorPolicy::Fail)
            .then(|| (ours::StreamContext::NULL_CURSOR.to_owned(), null_cursor.to_string()));
        let filter = filter.map(|filter| (ours::StreamContext::FILTER.to_owned(), filter));
        Self {
            name: name.into(),
            target: target.into(),
            sync_mode: sync_mode.into(),
            write_mode: write_mode.into(),
            cursor_field,
            primary_key,
            selected_columns,
            limits: limits.into(),
            policies: policies.into(),
            extensions: boundary.into_iter().chain(nulls).chain(filter).collect(),
        }
    }
}

impl From<ours::RunContext> for wit::RunContext {
    fn from(ours::RunContext { pipeline_id, pipeline, run_id, attempt }: ours::RunContext) -> Self {
        Self { pipeline_id, pipeline, run_id, attempt }
    }
}

impl From<wit::Partition> for ours::Partition {
    fn from(wit::Partition { id, spec }: wit::Partition) -> Self {
        Self { id, spec }
    }
}

impl From<ours::Partition> for wit::Partition {
    fn from(ours::Partition { id, spec }: ours::Partition) -> Self {
        Self { id, spec }
    }
}

impl From<wit::Generation> for ours::Generation {
    fn from(wit::Generation { number, snapshot, partitions }: wit::Generation) -> Self {
        Self { number, snapshot, partitions: all(partitions) }
    }
}

impl From<ours::Generation> for wit::Generation {
    fn from(ours::Generation { number, snapshot, partitions }: ours::Generation) -> Self {
        Self { number, snapshot, partitions: all(partitions) }
    }
}

impl From<wit::Receipt> for ours::Receipt {
    fn from(receipt: wit::Receipt) -> Self {
        let wit::Receipt {
            stream,
            generation,
            partition,
            epoch,
            seq,
            position,
            rows,
            bytes,
            last,
            transform_state,
            committed_at_ms,
        } = receipt;
        Self {
            stream,
            generation,
            partition,
            epoch,
            seq,
            position: position.map(Into::into),
            rows,
            bytes,
            last,
            transform_state,
            committed_at_ms,
        }
    }
}

impl From<wit::DeadLetter> for ours::DeadLetter {
    fn from(letter: wit::DeadLetter) -> Self {
        let wit::DeadLetter { stream, record_json, error_message, error_category, failed_at_ms } = letter;
        Self { stream, record_json, error_message, error_category: error_category.into(), failed_at_ms }
    }
}

impl From<ours::DeadLetter> for wit::DeadLetter {
    fn from(letter: ours::DeadLetter) -> Self {
        let ours::DeadLetter { stream, record_json, error_message, error_category, failed_at_ms } = letter;
        Self { stream, record_json, error_message, error_category: error_category.into(), failed_at_ms }
    }
}

impl From<wit::CheckItem> for ours::CheckItem {
    fn from(wit::CheckItem { name, status, message, hint }: wit::CheckItem) -> Self {
        Self { name: cut(name, 256), status: status.into(), message: cut(message, MAX_TEXT), hint: cut_option(hint, MAX_TEXT) }
    }
}

impl From<wit::ReadSummary> for ours::ReadSummary {
    fn from(summary: wit::ReadSummary) -> Self {
        let wit::ReadSummary { records, bytes, batches_emitted, checkpoint_count, records_skipped, perf } = summary;
        let wit::ReadPerf { connect_ns, query_ns, fetch_ns, encode_ns } = perf;
        let perf = ours::ReadPerf { connect_ns, query_ns, fetch_ns, encode_ns };
        Self { records, bytes, batches_emitted, checkpoint_count, records_skipped, perf }
    }
}

impl From<wit::WriteSummary> for ours::WriteSummary {
    fn from(summary: wit::WriteSummary) -> Self {
        let wit::WriteSummary { records, bytes, batches_written, checkpoint_count, records_skipped, perf } = summary;
        let wit::WritePerf { connect_ns, decode_ns, flush_ns, commit_ns } = perf;
        let perf = ours::WritePerf { connect_ns, decode_ns, flush_ns, commit_ns };
        Self { records, bytes, batches_written, checkpoint_count, records_skipped, perf }
    }
}

impl From<wit::TransformSummary> for ours::TransformSummary {
    fn from(summary: wit::TransformSummary) -> Self {
        let wit::TransformSummary { records_in, records_out, bytes_in, bytes_out, batches_emitted, records_skipped } = summary;
        Self { records_in, records_out, bytes_in, bytes_out, batches_emitted, records_skipped }
    }
}

impl From<wit::ConnectorSpec> for ours::ConnectorSpec {
    fn from(wit::ConnectorSpec { id, version, protocol_version }: wit::ConnectorSpec) -> Self {
        Self { id: cut(id, 256), version: cut(version, 128), protocol_version: cut(protocol_version, 16) }
    }
}

impl From<source::DiscoveredStream> for DiscoveredStream {
    fn from(stream: source::DiscoveredStream) -> Self {
        let source::DiscoveredStream {
            name,
            kind,
            schema,
            primary_key,
            cursor_candidates,
            sync_modes,
            estimated_rows,
            estimated_bytes,
        } = stream;
        Self {
            name: name.into(),
            kind: cut(kind, 128),
            schema,
            primary_key,
            cursor_candidates,
            sync_modes: all(sync_modes),
            estimated_rows,
            estimated_bytes,
        }
    }
}

impl From<PlanRequest> for source::PlanRequest {
    fn from(PlanRequest { run, stream, max_partitions, pinned }: PlanRequest) -> Self {
        Self { run: run.into(), stream: stream.into(), max_partitions, pinned: pinned.map(Into::into) }
    }
}

impl From<source::PartitionPlan> for PartitionPlan {
    fn from(source::PartitionPlan { snapshot, partitions, token }: source::PartitionPlan) -> Self {
        Self { snapshot, partitions: all(partitions), token }
    }
}

impl From<ReadRequest> for source::ReadRequest {
    fn from(ReadRequest { run, streams, partition, token, resume, follow }: ReadRequest) -> Self {
        Self {
            run: run.into(),
            streams: all(streams),
            partition: partition.map(Into::into),
            token,
            resume: resume.map(Into::into),
            follow,
        }
    }
}

impl From<ClaimStream> for destination::ClaimStream {
    fn from(ClaimStream { context, known_epoch, source_identity }: ClaimStream) -> Self {
        Self { context: context.into(), known_epoch, source_identity }
    }
}

impl From<destination::ClaimedStream> for ClaimedStream {
    fn from(claimed: destination::ClaimedStream) -> Self {
        let destination::ClaimedStream { epoch, newest_generation, generation, receipts, location } = claimed;
        Self {
            epoch,
            newest_generation,
            generation: generation.map(Into::into),
            receipts: all(receipts),
            location: cut(location, MAX_TEXT),
        }
    }
}

impl From<PrepareRequest> for destination::PrepareRequest {
    fn from(PrepareRequest { run, context, epoch, generation }: PrepareRequest) -> Self {
        Self { run: run.into(), context: context.into(), epoch, generation: generation.into() }
    }
}

impl From<WriteStream> for destination::WriteStream {
    fn from(WriteStream { context, epoch, generation, partition, seq, rows, bytes }: WriteStream) -> Self {
        Self { context: context.into(), epoch, generation, partition, seq, rows, bytes }
    }
}

impl From<WriteRequest> for destination::WriteRequest {
    fn from(WriteRequest { run, streams }: WriteRequest) -> Self {
        Self { run: run.into(), streams: all(streams) }
    }
}

impl From<PublishRequest> for destination::PublishRequest {
    fn from(PublishRequest { run, context, epoch, generation }: PublishRequest) -> Self {
        Self { run: run.into(), context: context.into(), epoch, generation }
    }
}

impl From<destination::PublishSummary> for ours::PublishSummary {
    fn from(destination::PublishSummary { rows, records_skipped, location }: destination::PublishSummary) -> Self {
        Self { rows, records_skipped, location: cut(location, MAX_TEXT) }
    }
}

impl From<TransformRequest> for transform::TransformRequest {
    fn from(TransformRequest { run, streams, state }: TransformRequest) -> Self {
        Self { run: run.into(), streams: all(streams), state }
    }
}

/// Converts each.
pub(crate) fn all<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(Into::into).collect()
}
