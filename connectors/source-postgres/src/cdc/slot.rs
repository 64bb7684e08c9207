//! The replication slot: what holds the server's log back until its changes are durable elsewhere.

use super::config::Names;
use super::guard::Kept;
use super::lsn::Lsn;
use super::publication;
use super::source_changed;
use crate::PostgresSource;
use postgres_wire::{Connection, Error, Row};
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, ErrorCategory, Position, StreamContext, SyncMode};
use std::thread;
use std::time::{Duration, Instant};

/// How long the server may take to notice that a session which read the slot is closed.
const LET_GO: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Where the server's log stands, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerLog {
    /// Empty where the server does not tell.
    pub(crate) system: String,
    pub(crate) timeline: String,
    /// What is safe on its disk.
    pub(crate) flushed: Lsn,
}

/// A slot as the catalog shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    plugin: String,
    here: bool,
    lost: bool,
    /// The log from here on is kept.
    restart: Option<Lsn>,
    /// What lies before was let go.
    pub(crate) confirmed: Option<Lsn>,
    /// Bytes that may still be written before the slot is lost; `None` = without a limit.
    pub(super) safe_bytes: Option<i64>,
}

pub(crate) fn lsn(row: &Row, index: usize) -> Result<Option<Lsn>, ConnectorError> {
    let parse =
        |text: &str| text.parse().map_err(|_| ConnectorError::internal("lsn", "a catalog query gave a malformed place in the log"));
    row.get(index).map(parse).transpose()
}

/// The end of the log that is being written.
pub(crate) fn insert_lsn(connection: &mut Connection) -> Result<Lsn, ConnectorError> {
    let rows = connection.query("SELECT pg_current_wal_insert_lsn()")?;
    let found = rows.first().map(|row| lsn(row, 0)).transpose()?.flatten();
    found.ok_or_else(|| ConnectorError::internal("lsn", "the server does not say where its log ends"))
}

impl ServerLog {
    pub(crate) fn look(connection: &mut Connection) -> Result<Self, ConnectorError> {
        let standby = connection.query("SELECT pg_is_in_recovery()")?;
        if standby.first().is_some_and(|row| row.get(0) == Some("t")) {
            return Err(ConnectorError::config("standby", "the server is a standby, and changes are read from the primary")
                .with_hint("set `host` to the primary server"));
        }
        let rows = connection.query("SELECT pg_current_wal_flush_lsn(), left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)")?;
        let row = rows.first().ok_or_else(|| ConnectorError::internal("lsn", "the server does not say where its log ends"))?;
        let flushed = lsn(row, 0)?.unwrap_or_default();
        let timeline = row.text(1)?.to_owned();
        let system = match connection.query("SELECT system_identifier FROM pg_control_system()") {
            Ok(rows) => rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned(),
            Err(error) if error.server().is_some() => String::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { system, timeline, flushed })
    }
}

impl Slot {
    pub(crate) fn find(connection: &mut Connection, name: &str) -> Result<Option<Self>, ConnectorError> {
        // Two of the columns came with version 13; asking through JSON works before, too.
        let rows = connection.query_params(
            "SELECT coalesce(s.plugin, ''), s.database = current_database() AND s.slot_type = 'logical', s.restart_lsn, s.confirmed_flush_lsn,
                    coalesce(to_jsonb(s) ->> 'wal_status', '') = 'lost', to_jsonb(s) ->> 'safe_wal_size'
             FROM pg_replication_slots s WHERE s.slot_name = $1",
            &[name.into()],
        )?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Self {
            plugin: row.text(0)?.to_owned(),
            here: row.get(1) == Some("t"),
            restart: lsn(row, 2)?,
            confirmed: lsn(row, 3)?,
            lost: row.flag(4)?,
            safe_bytes: row.parse(5)?,
        }))
    }

    /// Refuses a slot that could not have kept what we need.
    pub(crate) fn usable(&self, names: &Names) -> Result<Lsn, ConnectorError> {
        let (name, plugin) = (&names.slot, names.plugin.as_str());
        let drop = format!("SELECT pg_drop_replication_slot('{name}')");
        if !self.here {
            return Err(ConnectorError::config(
                "slot_elsewhere",
                format!("replication slot `{name}` is not a logical slot of this database"),
            )
            .with_hint("set `replication_slot` to another name"));
        }
        if self.plugin != plugin {
            let message = format!("replication slot `{name}` uses the plugin `{}`, `{plugin}` is needed", self.plugin);
            return Err(ConnectorError::config("slot_plugin", message).with_hint(format!(
                "set `replication_slot` to another name, or `plugin` to the slot's; or if nobody needs the slot, run `{drop}`"
            )));
        }
        match self.confirmed {
            Some(confirmed) if !self.lost => Ok(confirmed),
            _ => Err(source_changed(
                format!("replication slot `{name}` is lost: the server has removed log that was not read yet"),
                format!("run `{drop}`, raise `max_slot_wal_keep_size`, and load the streams anew"),
            )),
        }
    }

    /// How much log the slot keeps; none where the server does not say.
    pub(super) fn kept(&self, log: &ServerLog) -> Option<Kept> {
        let since = |place: Lsn| log.flushed.0.saturating_sub(place.0);
        let bytes = since(self.restart?);
        Some(Kept { bytes, unread: self.confirmed.map_or(bytes, since) })
    }
}

/// Finds the slot, or makes it, and says whether it did: the server then has waited for the transactions that were in flight. A slot
/// that is there is kept, for others may depend on it; but nobody can read any more from one that the server has invalidated.
pub(crate) fn ensure(connection: &mut Connection, names: &Names) -> Result<bool, ConnectorError> {
    let name = &names.slot;
    match Slot::find(connection, name)? {
        Some(slot) if slot.here && slot.plugin == names.plugin.as_str() && slot.lost => {
            connection.query_params("SELECT pg_drop_replication_slot($1)", &[name.into()]).map_err(in_use)?;
            host_ffi::log(LogLevel::Warn, "removed the replication slot that was lost, to make it again", &[("slot", name)]);
        }
        Some(slot) => return slot.usable(names).map(|_| false),
        None => {}
    }
    host_ffi::mark("source.slot.before_create");
    let made = connection
        .query_params("SELECT lsn FROM pg_create_logical_replication_slot($1, $2)", &[name.into(), names.plugin.as_str().into()]);
    match made {
        Ok(_) => {}
        Err(error) => return Err(explain_create(error, name)),
    }
    host_ffi::mark("source.slot.created");
    host_ffi::log(LogLevel::Info, "made the replication slot", &[("slot", name)]);
    Ok(true)
}

fn explain_create(error: Error, name: &str) -> ConnectorError {
    let hint = match error.sqlstate() {
        Some("42501") => {
            "run at the source: `ALTER ROLE … REPLICATION` for the pipeline's user; `rapidbyte check` prints the statement"
        }
        Some("55000") => "run at the source: `ALTER SYSTEM SET wal_level = 'logical'`, then restart the server",
        Some("53400") => "raise `max_replication_slots` at the source, or drop a slot that nobody needs",
        Some("57014") => {
            "the server waits for transactions that are in flight before it makes a slot: raise `statement_timeout_seconds`, or end the long ones"
        }
        _ => return error.into(),
    };
    let mut made = ConnectorError::from(error);
    made.message = format!("cannot make replication slot `{name}`: {}", made.message);
    made.with_hint(hint)
}

/// Lets the log before `to` go. Never backwards, and never beyond what was asked for.
pub(crate) fn advance(connection: &mut Connection, names: &Names, to: Lsn) -> Result<(), ConnectorError> {
    let name = &names.slot;
    let Some(slot) = Slot::find(connection, name)? else { return Err(missing(name)) };
    if slot.usable(names)? >= to {
        return Ok(());
    }
    host_ffi::mark("source.slot.before_advance");
    connection
        .query_params("SELECT end_lsn FROM pg_replication_slot_advance($1, $2::pg_lsn)", &[name.into(), to.to_string().into()])?;
    host_ffi::mark("source.slot.advanced");
    Ok(())
}

pub(crate) fn missing(name: &str) -> ConnectorError {
    source_changed(
        format!("replication slot `{name}` is gone, and with it the changes since the last run"),
        "load the streams anew, which makes the slot again",
    )
}

/// Everything before `position` is durable.
pub(crate) fn confirm(source: &mut PostgresSource, position: &Position) -> Result<(), ConnectorError> {
    let to = Lsn::of(position)?;
    let names = source.cdc_names()?;
    advance(source.session()?, &names, to)
}

/// Removes slot and publication, as far as they are there.
pub(crate) fn teardown(source: &mut PostgresSource, streams: &[StreamContext]) -> Result<(), ConnectorError> {
    if !streams.iter().any(|stream| stream.sync_mode == SyncMode::Cdc) {
        return Ok(());
    }
    let names: Names = source.cdc_names()?;
    let session = source.session()?;
    if let Some(slot) = Slot::find(session, &names.slot)? {
        if slot.here && slot.plugin == names.plugin.as_str() {
            session.query_params("SELECT pg_drop_replication_slot($1)", &[(&names.slot).into()]).map_err(in_use)?;
        } else {
            let fields = [("slot", names.slot.as_str())];
            host_ffi::log(LogLevel::Warn, "left a replication slot alone that is not the pipeline's", &fields);
        }
    }
    publication::drop(session, &names)
}

/// Drops the slot that this run has read, so that the server may remove its log. The reader's session has been closed, which the server
/// notices a moment later.
pub(crate) fn give_up(connection: &mut Connection, name: &str) -> Result<(), ConnectorError> {
    host_ffi::mark("source.slot.before_drop");
    let began = Instant::now();
    loop {
        match connection.query_params("SELECT pg_drop_replication_slot($1)", &[name.into()]) {
            Ok(_) => break,
            Err(error) if error.sqlstate() == Some("55006") && began.elapsed() < LET_GO => thread::sleep(POLL),
            // Somebody was faster.
            Err(error) if error.sqlstate() == Some("42704") => break,
            Err(error) => return Err(in_use(error)),
        }
    }
    host_ffi::mark("source.slot.dropped");
    Ok(())
}

fn in_use(error: Error) -> ConnectorError {
    if error.sqlstate() == Some("55006") {
        return ConnectorError::new(ErrorCategory::TransientDb, "slot_in_use", "the replication slot is being read")
            .with_hint("stop the pipeline's run, then try again");
    }
    error.into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A slot of ours that keeps the log from `restart` on, and has let go what lies before `confirmed`.
    pub(in crate::cdc) fn slot(restart: u64, confirmed: u64) -> Slot {
        let (restart, confirmed) = (Some(Lsn(restart)), Some(Lsn(confirmed)));
        Slot { plugin: "pgoutput".into(), here: true, lost: false, restart, confirmed, safe_bytes: None }
    }

    /// A log that ends at a place.
    pub(in crate::cdc) fn log(end: u64) -> ServerLog {
        ServerLog { system: String::new(), timeline: String::new(), flushed: Lsn(end) }
    }

    #[test]
    fn what_is_kept_is_counted_from_where_the_server_begins() {
        assert_eq!(slot(100, 700).kept(&log(1000)), Some(Kept { bytes: 900, unread: 300 }));
        assert_eq!(slot(100, 700).kept(&log(50)), Some(Kept { bytes: 0, unread: 0 }), "a server that was restored");
        assert_eq!(Slot { restart: None, ..slot(0, 0) }.kept(&log(1000)), None);
    }
}
