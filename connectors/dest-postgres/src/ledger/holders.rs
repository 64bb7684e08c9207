//! Who holds the row of a stream that a claim waits for.
//!
//! Whoever locks a stream's row takes an advisory lock with the stream's number first, shared and to the end of the transaction.
//! Nobody waits for it: it is a mark, since a row lock itself does not tell whose it is.

use crate::names::StreamKey;
use crate::session::Session;
use postgres_wire::Row;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ClaimRequest, ConnectorError};

/// Sessions told of, at most.
const TOLD: usize = 3;
/// The upper half of the mark's key; the lower one is the stream's number.
const MARK: i64 = 0x5261_7057_0000_0000;
/// How long a writer may do nothing between two statements of its commit before a claim takes it for gone; in milliseconds. They
/// follow each other at once. Shorter than the shortest `idle_timeout_seconds`, so that the answer comes before the client gives
/// the server up. A writer that is only slow loses its commit and no row: the claim that waits will have overtaken it anyway.
const PATIENCE_MS: u32 = 800;

/// The expression that marks the session as one that works at the stream `id`.
pub(super) fn mark() -> String {
    format!("pg_catalog.pg_advisory_xact_lock_shared({MARK} # id)")
}

/// Lets the transaction wait for locks no longer than it takes to know that their holders do nothing.
pub(super) fn be_brief(session: &mut Session) -> Result<(), ConnectorError> {
    session.run(&format!(
        "SELECT pg_catalog.set_config('lock_timeout', '{PATIENCE_MS}ms', true)
         WHERE pg_catalog.current_setting('lock_timeout')::interval > interval '{PATIENCE_MS} milliseconds'"
    ))
}

/// Ends the sessions of this role that are in the middle of a commit to one of the claimed streams and have done nothing for a
/// while: their client has vanished, or stands still. A server that is not told of it keeps them until its own keepalive does.
pub(super) fn end_vanished(session: &mut Session, request: &ClaimRequest) -> Result<(), ConnectorError> {
    let keys: Vec<StreamKey> = request.streams.iter().map(|stream| StreamKey::of(&stream.context)).collect();
    let names: Vec<[&str; 2]> = keys.iter().map(|key| [key.namespace.as_str(), key.name.as_str()]).collect();
    let names = serde_json::to_string(&names).map_err(|_| ConnectorError::internal("json", "names can't be written as JSON"))?;
    let sql = format!(
        "SELECT a.pid, pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a
         WHERE a.usename = current_user AND a.pid <> pg_catalog.pg_backend_pid() AND a.state LIKE 'idle in transaction%'
             AND a.state_change < pg_catalog.clock_timestamp() - interval '{PATIENCE_MS} milliseconds' * 0.9 AND a.pid IN
             (SELECT l.pid FROM pg_catalog.pg_locks AS l, _rapidbyte.streams AS s,
                  pg_catalog.json_array_elements($2::json) AS e(name)
              WHERE s.pipeline_id = $1 AND s.namespace = e.name ->> 0 AND s.stream = e.name ->> 1
                  AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                  AND (l.classid::bigint << 32) | l.objid::bigint = {MARK} # s.id
                  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = current_database()))"
    );
    for row in session.query_params(&sql, &[(&request.run.pipeline_id).into(), names.into()])? {
        let pid = row.get(0).unwrap_or("?");
        host_ffi::log(
            LogLevel::Warn,
            "ended the session of a writer that has done nothing while it held a stream",
            &[("pid", pid)],
        );
    }
    Ok(())
}

/// Sessions with a transaction that has written or locked rows, with their numbers. `who` says more of them.
fn sessions(session: &mut Session, who: &str, pipeline_id: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), 'without a name'), coalesce(a.state, 'state unknown'),
             coalesce(pg_catalog.date_trunc('second', pg_catalog.now() - a.xact_start)::text, 'unknown')
         FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
         WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid() AND {who} ORDER BY a.pid"
    );
    // Only words for an error that is there already: one more must not take its place.
    let rows = session.query_params(&sql, &[pipeline_id.into()]).unwrap_or_default();
    let told = |row: &Row| {
        let pid = row.get(0)?.to_owned();
        let words = format!("session {pid} (`{}`, {}, in its transaction for {})", row.get(1)?, row.get(2)?, row.get(3)?);
        Some((pid, words))
    };
    rows.iter().filter_map(told).collect()
}

/// A claim that has waited in vain, with the sessions that hold the rows.
pub(super) fn name(session: &mut Session, error: ConnectorError, pipeline_id: &str) -> ConnectorError {
    if error.code != "lock_timeout" {
        return error;
    }
    // One holder stands in the row itself. Several do not; then all count that have looked at the table.
    let one = "l.locktype = 'transactionid' AND l.transactionid IN
        (SELECT s.xmax FROM _rapidbyte.streams AS s WHERE s.pipeline_id = $1::uuid)";
    let all = "l.locktype = 'relation' AND l.relation = '_rapidbyte.streams'::regclass AND $1 <> ''
        AND EXISTS (SELECT FROM pg_catalog.pg_locks AS x WHERE x.pid = l.pid AND x.locktype = 'transactionid' AND x.granted)";
    let mut holders = sessions(session, one, pipeline_id);
    if holders.is_empty() {
        holders = sessions(session, all, pipeline_id);
    }
    holders.truncate(TOLD);
    if holders.is_empty() {
        return error;
    }
    let (pids, words): (Vec<String>, Vec<String>) = holders.into_iter().unzip();
    let message = format!("the claim waited too long for a stream's row, which is held by {}", words.join(", "));
    let calls: Vec<String> = pids.iter().map(|pid| format!("pg_terminate_backend({pid})")).collect();
    let hint = format!(
        "if it belongs to a run that is gone, end it with `SELECT {}`; its rows are not lost: the next attempt reads what was \
         committed",
        calls.join(", ")
    );
    ConnectorError { message, hint: Some(hint), ..error }
}
