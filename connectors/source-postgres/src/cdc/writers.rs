//! Transactions that were writing to a table when the log began to tell its changes.
//!
//! `ALTER PUBLICATION … ADD TABLE` waits for nobody. What a transaction wrote before is decoded as of then, when the table was not
//! published, and is never sent; a snapshot taken while it goes on does not see it either. So the snapshot is taken once
//! those that were under way have ended, as `CREATE INDEX CONCURRENTLY` does and as the server itself does when a slot is made.

use postgres_wire::Connection;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Who holds a lock that writing to one of the tables, or a leaf of one, takes: the transaction, and its session. Prepared
/// transactions have none.
const HOLDERS: &str = "SELECT DISTINCT l.virtualtransaction, coalesce(l.pid::text, 'prepared') FROM pg_locks l
    WHERE l.locktype = 'relation' AND l.granted AND l.mode IN ('RowExclusiveLock', 'AccessExclusiveLock')
    AND l.pid IS DISTINCT FROM pg_backend_pid() AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
    AND l.relation IN (SELECT t FROM unnest($1::oid[]) t UNION ALL SELECT p.relid FROM unnest($1::oid[]) t, pg_partition_tree(t::regclass) p)";

/// Waits until nobody is left who writes to one of the tables now.
///
/// # Errors
/// `writers_in_flight`, to be tried again, when they take longer than `timeout`.
pub(super) fn wait(connection: &mut Connection, tables: &BTreeSet<u32>, timeout: Option<Duration>) -> Result<(), ConnectorError> {
    let oids: Vec<String> = tables.iter().map(u32::to_string).collect();
    let oids = format!("{{{}}}", oids.join(","));
    let mut waited_for = holders(connection, &oids)?;
    if waited_for.is_empty() {
        return Ok(());
    }
    host_ffi::log(
        LogLevel::Info,
        "waits for transactions that were writing before the table's changes were kept",
        &[("sessions", &sessions(&waited_for))],
    );
    let started = Instant::now();
    loop {
        connection.query("SELECT pg_sleep(0.05)")?;
        let still = holders(connection, &oids)?;
        waited_for.retain(|transaction, _| still.contains_key(transaction));
        if waited_for.is_empty() {
            return Ok(());
        }
        if timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
            let message = format!(
                "transactions have been writing since before the table's changes were kept, in sessions {}",
                sessions(&waited_for)
            );
            return Err(ConnectorError::new(ErrorCategory::TransientDb, "writers_in_flight", message)
                .with_hint("raise `statement_timeout_seconds`, or end them: the load begins once they have ended"));
        }
    }
}

fn holders(connection: &mut Connection, oids: &str) -> Result<BTreeMap<String, String>, ConnectorError> {
    let rows = connection.query_params(HOLDERS, &[oids.into()])?;
    rows.iter().map(|row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).collect()
}

fn sessions(of: &BTreeMap<String, String>) -> String {
    let mut shown: Vec<&str> = of.values().map(String::as_str).collect();
    shown.dedup();
    let more = shown.len().saturating_sub(8);
    shown.truncate(8);
    if more == 0 { shown.join(", ") } else { format!("{}, and {more} more", shown.join(", ")) }
}
