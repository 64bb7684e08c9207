//! The guard of the server's disk: how much of its log the slot keeps, held against what the pipeline allows.
//!
//! It warns at a half of the budget, at the budget, at twice and four times of it, and acts from the budget on. Nothing here makes a
//! reader faster: it reads as fast as its rows are taken, and tells the server what is durable as soon as it is.

use super::config::Names;
use super::slot::{ServerLog, Slot};
use postgres_wire::{ConnectConfig, Connection};
use rapidbyte_sdk::host_ffi::{self, LogLevel, MetricKind};
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// How often it is looked at what the slot keeps: for the metrics, and against a budget. Guessed: a log that is written at 1 GB/s
/// goes 5 GB beyond its budget unseen.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const GUARD_EVERY: Duration = Duration::from_secs(5);
/// The line at the budget itself.
const LINE_OF_BUDGET: u32 = 2;
/// The code of an error that no one sees: the slot is to be dropped.
const GIVE_UP: &str = "give_up_slot";

/// What is done when the slot keeps more than `max_slot_lag_bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SlotLagPolicy {
    /// It is told.
    #[default]
    Warn,
    /// The run ends, and the slot stays.
    Fail,
    /// The slot is given up, so that the server may remove the log.
    DropSlot,
}

/// How much log the slot may keep, and what happens beyond that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    bytes: u64,
    policy: SlotLagPolicy,
}

impl Budget {
    /// The budget that a configuration names, if it names one.
    pub(crate) fn of(bytes: Option<u64>, policy: Option<SlotLagPolicy>) -> Result<Option<Self>, ConnectorError> {
        match (bytes, policy) {
            (Some(bytes), policy) => Ok(Some(Self { bytes, policy: policy.unwrap_or_default() })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(ConnectorError::config(
                "unused_policy",
                "`on_slot_lag` says what is done beyond `max_slot_lag_bytes`, and there is none",
            )
            .with_hint("set `max_slot_lag_bytes`, or leave `on_slot_lag` out")),
        }
    }

    /// The line that a lag has reached: 0 below a half of the budget, then 1, from the budget on 2, and one more with each doubling.
    fn line(self, lag: u64) -> u32 {
        let halves = u128::from(lag) * 2 / u128::from(self.bytes.max(1));
        halves.checked_ilog2().map_or(0, |doubled| doubled + 1)
    }
}

/// What a slot keeps at the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// All of it: what the server may not remove.
    pub(super) bytes: u64,
    /// The part that is not durable at the destination yet, as far as the server knows.
    pub(super) unread: u64,
}

/// A thing to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Kept {
    /// What there is to say of it, from a half of the budget on.
    pub(super) fn against(self, budget: Budget, slot: &str) -> Option<Told> {
        let how = match budget.line(self.bytes) {
            0 => return None,
            1 => "more than half of",
            _ => "beyond",
        };
        let message = format!(
            "replication slot `{slot}` keeps {} of the server's log, {how} the {} that `max_slot_lag_bytes` allows",
            mebibytes(self.bytes),
            mebibytes(budget.bytes)
        );
        // A slot whose changes have arrived keeps what a transaction has written that is open since then.
        let hint = if self.unread < self.bytes / 2 {
            "most of it has arrived, and is kept for a transaction that is open at the source: \
             `SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 1` names it"
        } else {
            "run the pipeline more often, find out what holds its destination up, or raise `max_slot_lag_bytes`"
        };
        Some(Told { message, hint: hint.to_owned() })
    }
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// Looks at the slot while it is read.
pub(super) struct Guard {
    connect: ConnectConfig,
    names: Names,
    budget: Option<Budget>,
    /// The line that was told last. None before the first look.
    told: Option<u32>,
    /// That the server's own limit is near was told.
    told_limit: bool,
    looked: Instant,
    /// For looks while the reader's sessions are busy.
    session: Option<Connection>,
}

impl Guard {
    pub(super) fn new(connect: ConnectConfig, names: Names, budget: Option<Budget>) -> Self {
        Self { connect, names, budget, told: None, told_limit: false, looked: Instant::now(), session: None }
    }

    /// How often there is something to look at while a call waits for room; none without a budget.
    pub(super) fn every(&self) -> Option<Duration> {
        self.budget.map(|_| GUARD_EVERY)
    }

    /// Looks at the slot on a session of the reader's, if it is time to. An error ends the read.
    pub(super) fn look(&mut self, connection: &mut Connection) -> Result<(), ConnectorError> {
        if self.looked.elapsed() < self.every().unwrap_or(LOOK_EVERY) {
            return Ok(());
        }
        self.look_now(connection)
    }

    /// The same on a session of its own, where the reader waits for room. Without a budget nothing is looked at then.
    pub(super) fn look_apart(&mut self) -> Result<(), ConnectorError> {
        if self.every().is_none_or(|every| self.looked.elapsed() < every) {
            return Ok(());
        }
        let mut connection = match self.session.take().filter(|session| !session.is_broken()) {
            Some(session) => session,
            None => Connection::connect(&self.connect)?,
        };
        let looked = self.look_now(&mut connection);
        self.session = Some(connection);
        looked
    }

    fn look_now(&mut self, connection: &mut Connection) -> Result<(), ConnectorError> {
        let log = ServerLog::look(connection)?;
        // One that is gone is found by whoever reads it.
        let Some(slot) = Slot::find(connection, &self.names.slot)? else { return Ok(()) };
        self.see(&slot, &log)
    }

    /// Tells how much log the slot keeps, and acts on it. The first time is the start of the run.
    pub(super) fn see(&mut self, slot: &Slot, log: &ServerLog) -> Result<(), ConnectorError> {
        self.looked = Instant::now();
        let Some(kept) = slot.kept(log) else { return Ok(()) };
        host_ffi::metric("source.slot.retained_bytes", MetricKind::Gauge, kept.bytes as f64, &[("slot", &self.names.slot)]);
        self.see_limit(slot, kept);
        let Some(budget) = self.budget else { return Ok(()) };
        let starts = self.told.is_none();
        let Some(line) = self.next_line(budget, kept.bytes) else { return Ok(()) };
        let Some(told) = kept.against(budget, &self.names.slot) else { return Ok(()) };
        if line >= LINE_OF_BUDGET && budget.policy == SlotLagPolicy::DropSlot {
            return Err(ConnectorError::internal(GIVE_UP, told.message));
        }
        // What has grown while nobody ran is read all the same: an end would only let it grow on.
        if line >= LINE_OF_BUDGET && budget.policy == SlotLagPolicy::Fail && !starts {
            let mut error = ConnectorError::new(ErrorCategory::TransientDb, "slot_lag", told.message);
            error.retryable = false;
            return Err(error.with_hint(format!("{}; a run that begins beyond the budget catches up first", told.hint)));
        }
        host_ffi::log(LogLevel::Warn, &told.message, &[("slot", &self.names.slot), ("hint", &told.hint)]);
        Ok(())
    }

    /// The line that was reached since the last look, if there is one. A lag that swings about a line is told once: it is forgotten at
    /// a half of it.
    fn next_line(&mut self, budget: Budget, lag: u64) -> Option<u32> {
        let line = budget.line(lag);
        let told = self.told.unwrap_or_default().min(budget.line(lag.saturating_mul(2)));
        self.told = Some(told.max(line));
        (line > told).then_some(line)
    }

    /// Warns while there is time before the server itself takes the slot away.
    fn see_limit(&mut self, slot: &Slot, kept: Kept) {
        let Some(left) = slot.safe_bytes else { return };
        host_ffi::metric("source.slot.safe_bytes", MetricKind::Gauge, left as f64, &[("slot", &self.names.slot)]);
        let near = u64::try_from(left).unwrap_or(0) < kept.bytes;
        if near && !self.told_limit {
            host_ffi::log(
                LogLevel::Warn,
                "more than half of what `max_slot_wal_keep_size` lets the slot keep is used up; past it the slot is lost",
                &[("slot", &self.names.slot), ("kept_bytes", &kept.bytes.to_string()), ("left_bytes", &left.to_string())],
            );
        }
        self.told_limit = near;
    }
}

/// Whether a read has ended so that the slot is given up.
pub(super) fn gives_up(error: &ConnectorError) -> bool {
    error.code == GIVE_UP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdc::slot::tests::{log, slot};
    use rapidbyte_sdk::testing::FakeHost;

    const MIB: u64 = 1 << 20;

    fn budget(policy: SlotLagPolicy) -> Budget {
        Budget { bytes: 100 * MIB, policy }
    }

    #[test]
    fn lines_stand_at_a_half_and_at_each_doubling() {
        let budget = budget(SlotLagPolicy::Warn);
        for (mebibytes, line) in [(0, 0), (49, 0), (50, 1), (99, 1), (100, 2), (199, 2), (200, 3), (400, 4), (799, 4)] {
            assert_eq!(budget.line(mebibytes * MIB), line, "{mebibytes} MiB");
        }
        assert_eq!(budget.line(100 * MIB - 1), 1);
        assert_eq!(Budget { bytes: 0, ..budget }.line(u64::MAX), 65, "whatever is allowed");
        assert_eq!(Budget { bytes: u64::MAX, ..budget }.line(u64::MAX), 2);
    }

    fn guard(policy: SlotLagPolicy) -> Guard {
        let names = crate::cdc::CdcConfig::default().names(Some("p")).unwrap();
        let connect = serde_json::json!({ "host": "h", "user": "u", "database": "d" });
        Guard::new(serde_json::from_value(connect).unwrap(), names, Some(budget(policy)))
    }

    #[test]
    fn a_line_is_told_once_until_the_lag_has_fallen_well_below_it() {
        let mut guard = guard(SlotLagPolicy::Warn);
        let budget = budget(SlotLagPolicy::Warn);
        let told: Vec<(u64, Option<u32>)> = [0, 50, 60, 49, 51, 24, 55, 120, 99, 130, 250, 90, 110, 10, 300]
            .map(|lag| (lag, guard.next_line(budget, lag * MIB)))
            .into();
        let new: Vec<(u64, u32)> = told.into_iter().filter_map(|(lag, line)| Some((lag, line?))).collect();
        assert_eq!(new, [(50, 1), (55, 1), (120, 2), (250, 3), (300, 3)]);
    }

    fn see(guard: &mut Guard, kept: u64) -> Result<(), String> {
        let (began, end) = (7 * MIB, (7 + kept) * MIB);
        guard.see(&slot(began, began), &log(end)).map_err(|error| error.code)
    }

    #[test]
    fn the_policy_acts_from_the_budget_on() {
        let host = FakeHost::install();
        let mut warns = guard(SlotLagPolicy::Warn);
        assert_eq!([10, 60, 70, 120, 900].map(|lag| see(&mut warns, lag)), [const { Ok(()) }; 5]);
        let told = host.logs();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].contains("keeps 60 MiB") && told[1].contains("keeps 120 MiB") && told[2].contains("keeps 900 MiB"),
            "{told:?}"
        );
        let mut fails = guard(SlotLagPolicy::Fail);
        assert_eq!([10, 60].map(|lag| see(&mut fails, lag)), [Ok(()), Ok(())]);
        assert_eq!(see(&mut fails, 100), Err("slot_lag".into()));
        let mut drops = guard(SlotLagPolicy::DropSlot);
        assert_eq!([10, 99].map(|lag| see(&mut drops, lag)), [Ok(()), Ok(())]);
        assert_eq!(see(&mut drops, 100), Err(GIVE_UP.into()));
        assert_eq!(see(&mut guard(SlotLagPolicy::DropSlot), 100), Err(GIVE_UP.into()), "at the start, too");
    }

    #[test]
    fn a_run_that_begins_beyond_the_budget_may_catch_up() {
        let _host = FakeHost::install();
        let mut fails = guard(SlotLagPolicy::Fail);
        assert_eq!([150, 190, 110].map(|lag| see(&mut fails, lag)), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(see(&mut fails, 200), Err("slot_lag".into()), "it does not");
        let mut fails = guard(SlotLagPolicy::Fail);
        assert_eq!([150, 20].map(|lag| see(&mut fails, lag)), [Ok(()), Ok(())]);
        assert_eq!(see(&mut fails, 100), Err("slot_lag".into()), "it did, and then fell behind");
    }

    #[test]
    fn what_holds_the_log_back_is_told_apart() {
        let budget = budget(SlotLagPolicy::Warn);
        let told = |unread: u64| Kept { bytes: 120 * MIB, unread: unread * MIB }.against(budget, "s").unwrap();
        let behind = told(110);
        assert_eq!(
            behind.message,
            "replication slot `s` keeps 120 MiB of the server's log, beyond the 100 MiB that `max_slot_lag_bytes` allows"
        );
        assert!(behind.hint.contains("run the pipeline more often"), "{}", behind.hint);
        assert!(told(10).hint.contains("pg_stat_activity"), "{}", told(10).hint);
        assert_eq!(Kept { bytes: 49 * MIB, unread: 0 }.against(budget, "s"), None);
    }

    #[test]
    fn a_policy_without_a_budget_is_refused() {
        assert_eq!(Budget::of(None, None), Ok(None));
        assert_eq!(Budget::of(Some(7), None), Ok(Some(Budget { bytes: 7, policy: SlotLagPolicy::Warn })));
        let budget = Budget::of(Some(7), Some(SlotLagPolicy::DropSlot));
        assert_eq!(budget, Ok(Some(Budget { bytes: 7, policy: SlotLagPolicy::DropSlot })));
        assert_eq!(Budget::of(None, Some(SlotLagPolicy::Fail)).unwrap_err().code, "unused_policy");
    }
}
