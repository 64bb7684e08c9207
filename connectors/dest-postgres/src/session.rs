//! A connection, and transactions with the settings that receipts rest on.

use crate::fault;
use postgres_wire::{ConnectConfig, Connection, CopyIn, Error, InsertIn, Param, Row, TransactionStatus};
use rapidbyte_sdk::{CommitState, ConnectorError, ErrorCategory, host_ffi};
use std::time::{Duration, Instant};

/// What every transaction begins with.
///
/// A receipt must never be lost after it was acknowledged, whatever role or database say; a stronger setting stays. The server's
/// clocks for idle and long transactions would end a load that waits for its source; one whose machine is gone holds its rows until
/// the server has noticed, which the system's own clocks let take hours. All of it, and the settings that texts are
/// written and read under, holds for the transaction alone, since a pooler may give the session to others between two.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL tcp_keepalives_idle = 30;
SET LOCAL tcp_keepalives_interval = 10;
SET LOCAL tcp_keepalives_count = 3;
SELECT pg_catalog.set_config('synchronous_commit', 'on', true)
WHERE pg_catalog.current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
SELECT pg_catalog.set_config('transaction_timeout', '0', true)
WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL";

/// One session of the server.
pub(crate) struct Session {
    connection: Connection,
    connect_time: Duration,
    begin: String,
    /// Statements that a dry run keeps instead of running them.
    kept: Option<Vec<String>>,
}

impl Session {
    /// Connects. Locks of other sessions are waited for at most so many seconds.
    pub(crate) fn open(config: &ConnectConfig, lock_timeout_seconds: u32) -> Result<Self, ConnectorError> {
        let started = Instant::now();
        let connection = Connection::connect(config)?;
        let begin = format!("{BEGIN}; {}; SET LOCAL lock_timeout = '{lock_timeout_seconds}s'", postgres_wire::settings(true));
        Ok(Self { connection, connect_time: started.elapsed(), begin, kept: None })
    }

    /// Connects for a dry run: statements without an answer are kept, queries run in one transaction that can't write.
    pub(crate) fn dry(config: &ConnectConfig, lock_timeout_seconds: u32) -> Result<Self, ConnectorError> {
        let mut made = Self::open(config, lock_timeout_seconds)?;
        let settings = postgres_wire::settings(true);
        made.run(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {settings}"))?;
        made.kept = Some(Vec::new());
        Ok(made)
    }

    /// Whether it keeps statements instead of running them.
    pub(crate) fn is_dry(&self) -> bool {
        self.kept.is_some()
    }

    /// The statements kept since this was last asked.
    pub(crate) fn take_kept(&mut self) -> Vec<String> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Tries something in the transaction of a dry run; what the server refuses does not end the transaction.
    pub(crate) fn attempt<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.connection.batch_execute("SAVEPOINT rb_plan").map_err(fault::from_server)?;
        let done = act(self);
        if self.connection.transaction() == TransactionStatus::Failed {
            self.connection.batch_execute("ROLLBACK TO rb_plan").map_err(fault::from_server)?;
        }
        done
    }

    /// How long it took to get here, told once.
    pub(crate) fn take_connect_time(&mut self) -> Duration {
        std::mem::take(&mut self.connect_time)
    }

    /// Makes it as if just opened, for a call of another stream perhaps. A session that can't be is lost.
    pub(crate) fn renew(&mut self) -> bool {
        self.connection.renew("")
    }

    /// `150018` for 15.18.
    pub(crate) fn server_version(&self) -> u32 {
        self.connection.server_version()
    }

    /// Runs statements without an answer.
    pub(crate) fn run(&mut self, sql: &str) -> Result<(), ConnectorError> {
        if let Some(kept) = &mut self.kept {
            // Locks are no part of what is told.
            if !sql.starts_with("SELECT ") {
                kept.push(sql.to_owned());
            }
            return Ok(());
        }
        self.connection.batch_execute(sql).map_err(fault::from_server)
    }

    /// Runs one statement and gives its rows as text.
    pub(crate) fn query(&mut self, sql: &str) -> Result<Vec<Row>, ConnectorError> {
        self.connection.query(sql).map_err(fault::from_server)
    }

    /// The same with parameters.
    pub(crate) fn query_params(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, ConnectorError> {
        self.connection.query_params(sql, params).map_err(fault::from_server)
    }

    /// Runs one statement with parameters; gives the rows affected.
    pub(crate) fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, ConnectorError> {
        self.connection.execute(sql, params).map_err(fault::from_server)
    }

    /// Starts a COPY. Dropping it ends it with an error.
    pub(crate) fn copy_in(&mut self, sql: &str) -> Result<CopyIn<'_>, Error> {
        self.connection.copy_in(sql)
    }

    /// Starts to insert rows with parameters. Dropping it leaves out what was not sent.
    pub(crate) fn insert_in(&mut self, into: &str, columns: usize) -> Result<InsertIn<'_>, Error> {
        self.connection.insert_in(into, columns)
    }

    /// Whether a transaction is open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.connection.transaction() != TransactionStatus::Idle
    }

    /// Opens a transaction.
    pub(crate) fn begin(&mut self) -> Result<(), ConnectorError> {
        self.connection.batch_execute(&self.begin).map_err(fault::from_server)
    }

    /// Opens the transaction of a window. A COPY lasts as long as its source, which is no fault of the statement: the time
    /// limit for statements is not for it, the one for the server's silence is.
    pub(crate) fn begin_window(&mut self) -> Result<(), ConnectorError> {
        let begin = format!("{}; SET LOCAL statement_timeout = 0", self.begin);
        self.run(&begin)
    }

    /// Ends the transaction without a trace. A connection that can't do even that loses it at the server anyway.
    pub(crate) fn roll_back(&mut self) {
        if !self.connection.is_broken() && self.in_transaction() {
            let _ = self.connection.batch_execute("ROLLBACK");
        }
    }

    /// Makes the transaction durable. When the answer is lost nobody here knows whether it is: the error says so, and the
    /// next `claim` reads the truth.
    ///
    /// `sent` is called between the statement and its answer.
    pub(crate) fn commit(&mut self, sent: impl FnOnce()) -> Result<(), ConnectorError> {
        if self.connection.transaction() != TransactionStatus::Open {
            return Err(ConnectorError::internal("no_transaction", "there is no transaction to commit"));
        }
        let answer = self.connection.batch_execute_marked("COMMIT", sent);
        let Err(error) = answer else { return Ok(()) };
        // A server that is being stopped may end the session after the commit record was written.
        let unknown = match error.sqlstate() {
            Some(code) => code.starts_with("08") || code.starts_with("57P"),
            None => true,
        };
        if !unknown {
            return Err(fault::from_server(error));
        }
        let cause = fault::from_server(error);
        let mut lost = ConnectorError::new(
            ErrorCategory::TransientNetwork,
            "commit_outcome_unknown",
            format!("COMMIT was sent and its answer lost: {}", cause.message),
        )
        .with_hint("nothing needs to be done: the next attempt reads the receipt at the destination before it writes")
        .with_commit_state(CommitState::AfterCommitUnknown);
        lost.safe_to_retry = false;
        Err(lost)
    }

    /// Runs `act` in a transaction of its own.
    pub(crate) fn transaction<T>(&mut self, act: impl FnOnce(&mut Self) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        self.transaction_marked("dest.ledger.sent", act)
    }

    /// The same for what means nothing without a later commit of this session: the server writes it to disk with that one. A server
    /// that crashes in between takes the session with it.
    pub(crate) fn transaction_ahead<T>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        let begin = format!("{}; SET LOCAL synchronous_commit = off", self.begin);
        self.connection.batch_execute(&begin).map_err(fault::from_server)?;
        self.end_of("dest.ledger.sent", act)
    }

    /// As [`Session::transaction`]; `point` is marked between COMMIT and its answer.
    pub(crate) fn transaction_marked<T>(
        &mut self,
        point: &str,
        act: impl FnOnce(&mut Self) -> Result<T, ConnectorError>,
    ) -> Result<T, ConnectorError> {
        self.begin()?;
        self.end_of(point, act)
    }

    /// The rest of a transaction that has begun.
    fn end_of<T>(&mut self, point: &str, act: impl FnOnce(&mut Self) -> Result<T, ConnectorError>) -> Result<T, ConnectorError> {
        match act(self) {
            Ok(value) => {
                self.commit(|| host_ffi::mark(point))?;
                Ok(value)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Says goodbye.
    pub(crate) fn close(self) {
        self.connection.close();
    }
}
