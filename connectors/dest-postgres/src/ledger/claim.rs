//! Epochs: who may write a stream.

use super::{damaged, generation, hex, holders, parse, receipt, stored, unhex_text};
use crate::fault;
use crate::names::{StreamKey, target_of};
use crate::session::Session;
use postgres_wire::quote_literal;
use rapidbyte_sdk::{ClaimRequest, ClaimedStream, ConnectorError, RunContext};
use std::collections::HashMap;

/// A claim of more streams does not mark them: each mark takes a place in the server's table of locks, which a claim of thousands
/// would fill.
const MARKED: usize = 256;

/// A stream in the ledger, and the right under which it is touched.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) pipeline_id: String,
    pub(crate) key: StreamKey,
    pub(crate) epoch: u64,
    /// For messages.
    pub(crate) stream: String,
}

impl Owner {
    pub(crate) fn new(run: &RunContext, context: &rapidbyte_sdk::StreamContext, epoch: u64) -> Self {
        Self { pipeline_id: run.pipeline_id.clone(), key: StreamKey::of(context), epoch, stream: context.name.to_string() }
    }
}

/// How the stream's row is held to the end of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Claims wait, other writers do not.
    Share,
    /// Everybody waits.
    Update,
    /// Nobody waits; only for a look in the middle of a window.
    No,
}

/// The stream's number in the ledger, if the epoch is still the one claimed.
pub(crate) fn check_epoch(session: &mut Session, owner: &Owner, hold: Hold) -> Result<i64, ConnectorError> {
    let (mark, lock) = match hold {
        Hold::Share => (holders::mark(), "FOR SHARE"),
        Hold::Update => (holders::mark(), "FOR UPDATE"),
        Hold::No => ("NULL".to_owned(), ""),
    };
    let rows = session.query_params(
        &format!(
            "SELECT id, epoch, {mark} FROM _rapidbyte.streams WHERE pipeline_id = $1 AND namespace = $2 AND stream = $3 {lock}"
        ),
        &[(&owner.pipeline_id).into(), (&owner.key.namespace).into(), (&owner.key.name).into()],
    )?;
    let Some(row) = rows.first() else { return Err(fault::fenced(&owner.stream)) };
    let epoch: u64 = parse(row, 1, "an epoch")?;
    if epoch != owner.epoch {
        return Err(fault::fenced(&owner.stream));
    }
    parse(row, 0, "a stream")
}

/// Two streams of one run must not write into each other.
fn check_targets(request: &ClaimRequest, schema: &str) -> Result<(), ConnectorError> {
    let mut seen = HashMap::new();
    for stream in &request.streams {
        let target = target_of(&stream.context, schema)?;
        let shown = target.to_string();
        if let Some(other) = seen.insert(target, &stream.context.name) {
            return Err(ConnectorError::config(
                "target_conflict",
                format!("streams `{other}` and `{}` both mean the table `{shown}`", stream.context.name),
            )
            .with_hint("give one of them another table with `destination: { table: … }`"));
        }
    }
    Ok(())
}

/// Takes the right to write each stream, in one transaction, and reads back what is known of it.
pub(crate) fn claim(session: &mut Session, request: &ClaimRequest, schema: &str) -> Result<Vec<ClaimedStream>, ConnectorError> {
    check_targets(request, schema)?;
    // In one order everywhere, so that two runs that claim the same streams do not deadlock.
    let mut order: Vec<usize> = (0..request.streams.len()).collect();
    order.sort_by_key(|index| StreamKey::of(&request.streams[*index].context));
    let take = |session: &mut Session, at_first: bool| {
        session.transaction(|session| {
            if at_first {
                holders::be_brief(session)?;
            }
            let mut claimed: Vec<Option<ClaimedStream>> = request.streams.iter().map(|_| None).collect();
            let mut ids = Vec::with_capacity(order.len());
            for index in &order {
                let (id, stream) = claim_one(session, request, *index, schema)?;
                ids.push(id.to_string());
                claimed[*index] = Some(stream);
            }
            check_spelling(session, request, &ids)?;
            Ok(claimed.into_iter().flatten().collect())
        })
    };
    match take(session, true) {
        Err(error) if error.code == "lock_timeout" => {
            holders::end_vanished(session, request)?;
            take(session, false).map_err(|error| holders::name(session, error, &request.run.pipeline_id))
        }
        taken => taken,
    }
}

/// The stream's number in the ledger, and what is known of it.
fn claim_one(
    session: &mut Session,
    request: &ClaimRequest,
    index: usize,
    schema: &str,
) -> Result<(i64, ClaimedStream), ConnectorError> {
    let stream = &request.streams[index];
    let key = StreamKey::of(&stream.context);
    let target = target_of(&stream.context, schema)?;
    let identity = hex(stream.source_identity.as_bytes());
    let rows = session
        .query_params(
            &format!(
                "INSERT INTO _rapidbyte.streams AS s
                 (pipeline_id, namespace, stream, pipeline, target_schema, target_table, source_identity, epoch)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8::bigint + 1)
             ON CONFLICT (pipeline_id, namespace, stream) DO UPDATE SET
                 epoch = greatest(s.epoch, $8::bigint) + 1, pipeline = excluded.pipeline, claimed_at = clock_timestamp(),
                 target_schema = excluded.target_schema, target_table = excluded.target_table
             WHERE s.source_identity = excluded.source_identity
             RETURNING id, epoch, newest_generation, {}",
                if request.streams.len() <= MARKED { holders::mark() } else { "NULL".to_owned() }
            ),
            &[
                (&request.run.pipeline_id).into(),
                (&key.namespace).into(),
                (&key.name).into(),
                (&request.run.pipeline).into(),
                (&target.schema).into(),
                (&target.name).into(),
                (&identity).into(),
                stored(stream.known_epoch)?.into(),
            ],
        )
        .map_err(|error| fault::of_stream(error, &stream.context.name.to_string()))?;
    let Some(row) = rows.first() else {
        return Err(mismatch(session, request, &key)?);
    };
    let id: i64 = parse(row, 0, "a stream")?;
    let generation = generation::open(session, id)?;
    let receipts = match &generation {
        Some(generation) => receipt::newest(session, id, generation.number, u32::try_from(index).unwrap_or(u32::MAX))?,
        None => Vec::new(),
    };
    let claimed = ClaimedStream {
        epoch: parse(row, 1, "an epoch")?,
        newest_generation: parse(row, 2, "a generation")?,
        generation,
        receipts,
        location: target.to_string(),
    };
    Ok((id, claimed))
}

/// A stream that goes on in a table as `orders` and is `public.orders` from now on, or the other way, is the same rows: read from the start
/// they would come once more.
fn check_spelling(session: &mut Session, request: &ClaimRequest, ids: &[String]) -> Result<(), ConnectorError> {
    let rows = session.query_params(
        "SELECT mine.namespace, mine.stream, other.namespace, other.stream, mine.target_table
         FROM _rapidbyte.streams AS mine
             JOIN _rapidbyte.streams AS other USING (pipeline_id, target_schema, target_table)
             JOIN _rapidbyte.generations AS g ON g.stream_id = other.id AND g.state = 'open' AND g.write_mode <> 'replace'
         WHERE pipeline_id = $1 AND mine.id = ANY ($2::bigint[])
             AND mine.stream = other.stream AND (mine.namespace = '') <> (other.namespace = '')
             AND NOT EXISTS (SELECT FROM _rapidbyte.generations AS own WHERE own.stream_id = mine.id AND own.state = 'open')
         LIMIT 1",
        &[(&request.run.pipeline_id).into(), format!("{{{}}}", ids.join(",")).into()],
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    let text = |column: usize| row.get(column).unwrap_or_default();
    let (mine, other) = (shown(text(0), text(1)), shown(text(2), text(3)));
    Err(ConnectorError::config(
        "target_conflict",
        format!(
            "stream `{mine}` would write from the start into the table `{}`, in which stream `{other}` of this pipeline goes on",
            text(4)
        ),
    )
    .with_hint(format!(
        "if these are the same rows, name the stream `{other}` as before; if not, give it another table with `destination: {{ table: … }}`, or \
         forget how far `{other}` has come with: `DELETE FROM _rapidbyte.streams WHERE pipeline_id = {} AND namespace = {} AND stream = {}`",
        quote_literal(&request.run.pipeline_id)?,
        quote_literal(text(2))?,
        quote_literal(text(3))?,
    )))
}

fn shown(namespace: &str, stream: &str) -> String {
    if namespace.is_empty() { stream.to_owned() } else { format!("{namespace}.{stream}") }
}

fn mismatch(session: &mut Session, request: &ClaimRequest, key: &StreamKey) -> Result<ConnectorError, ConnectorError> {
    let rows = session.query_params(
        "SELECT source_identity FROM _rapidbyte.streams WHERE pipeline_id = $1 AND namespace = $2 AND stream = $3",
        &[(&request.run.pipeline_id).into(), (&key.namespace).into(), (&key.name).into()],
    )?;
    let known = rows.first().and_then(|row| row.get(0)).and_then(unhex_text).ok_or_else(|| damaged("a source identity"))?;
    let shown = shown(&key.namespace, &key.name);
    Ok(ConnectorError::config(
        "source_mismatch",
        format!("the stream `{shown}` of this pipeline was loaded from another source: `{known}`"),
    )
    .with_hint(format!(
        "point the pipeline at that source again, or forget what was loaded with: \
         `DELETE FROM _rapidbyte.streams WHERE pipeline_id = '{}'`",
        request.run.pipeline_id.replace('\'', "''")
    )))
}
