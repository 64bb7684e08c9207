//! Who holds the row of a stream that a claim waits for.

use crate::session::Session;
use postgres_wire::Row;
use rapidbyte_sdk::ConnectorError;

/// Sessions told of, at most.
const TOLD: usize = 3;

/// Sessions with a transaction that has written or locked rows. `who` says more of them.
fn sessions(session: &mut Session, who: &str, pipeline_id: &str) -> Vec<String> {
    let sql = format!(
        "SELECT DISTINCT a.pid, coalesce(nullif(a.application_name, ''), 'without a name'), coalesce(a.state, 'state unknown'),
             coalesce(pg_catalog.date_trunc('second', pg_catalog.now() - a.xact_start)::text, 'unknown')
         FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
         WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid() AND {who} ORDER BY a.pid"
    );
    // Only words for an error that is there already: one more must not take its place.
    let rows = session.query_params(&sql, &[pipeline_id.into()]).unwrap_or_default();
    let told = |row: &Row| {
        Some(format!("session {} (`{}`, {}, in its transaction for {})", row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
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
    let message = format!("the claim waited too long for a stream's row, which is held by {}", holders.join(", "));
    let hint = "if it belongs to a run that is gone, end it with `SELECT pg_terminate_backend(<PID>)`; its rows are not lost: \
                the next attempt reads what was committed";
    ConnectorError { message, hint: Some(hint.to_owned()), ..error }
}
