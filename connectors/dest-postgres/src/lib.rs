//! Writes tables of PostgreSQL: rows by COPY BINARY into a staging table, each commit with a receipt in the same transaction,
//! and a publication that readers see as one act.

mod catalog;
mod changes;
mod check;
mod config;
mod digest;
mod dlq_table;
mod dry_run;
mod encode;
mod evolution;
mod fault;
mod feed;
mod identity;
mod layout;
mod ledger;
mod load;
mod merge;
mod names;
mod publish;
mod references;
mod rejects;
mod session;
mod share;
mod teardown;
mod tolerant;
mod transfer;
mod types;
mod user_types;

use config::OwnConfig;
use postgres_wire::{ConnectConfig, split_config};
use rapidbyte_sdk::{
    CheckItem, ClaimRequest, ClaimedStream, ConnectorError, Destination, InitContext, Input, PrepareRequest, PublishRequest,
    PublishSummary, RunContext, StreamContext, SyncMode, WriteMode, WriteRequest, WriteSummary, host_ffi,
};
use session::Session;

/// The destination.
pub struct PostgresDestination {
    connect: ConnectConfig,
    own: OwnConfig,
    session: Option<Session>,
    /// The rows that are digested.
    view: Option<digest::View>,
}

rapidbyte_sdk::connector_main!(destination, PostgresDestination, digest_ranges, dry_run);

impl PostgresDestination {
    /// The session for a call, asked for once at its beginning: that of the call before, renewed, or another one where it can't be.
    fn session(&mut self) -> Result<&mut Session, ConnectorError> {
        if !self.session.as_mut().is_some_and(Session::renew) {
            self.session = None;
            self.session = Some(Session::open(&self.connect, self.own.lock_timeout_seconds)?);
        }
        self.session.as_mut().ok_or_else(|| ConnectorError::internal("no_session", "the session is gone"))
    }
}

/// What would put new rows in the place of everything is refused here too, whatever the host has let through.
fn check_mode(context: &StreamContext) -> Result<(), ConnectorError> {
    let hint = match (context.sync_mode, context.write_mode) {
        (SyncMode::FullRefresh, _) | (SyncMode::Incremental | SyncMode::Cdc, WriteMode::Append | WriteMode::Upsert) => {
            return Ok(());
        }
        (SyncMode::Incremental | SyncMode::Cdc, WriteMode::Replace) => "use `write_mode: append` or `write_mode: upsert`",
    };
    Err(ConnectorError::config(
        "unsupported_mode",
        format!(
            "stream `{}`: sync mode `{}` with write mode `{}` is not available",
            context.name, context.sync_mode, context.write_mode
        ),
    )
    .with_hint(hint))
}

impl Destination for PostgresDestination {
    type Config = serde_json::Value;

    fn init(config: Self::Config, _context: InitContext) -> Result<Self, ConnectorError> {
        let (connect, own) = split_config::<OwnConfig>(config)?;
        postgres_wire::quote_ident(&own.schema)?;
        postgres_wire::quote_ident(&own.dlq_table)?;
        Ok(Self { connect, own, session: None, view: None })
    }

    fn validate(&mut self, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
        check::check(&self.connect, &self.own, streams)
    }

    fn claim(&mut self, request: &ClaimRequest) -> Result<Vec<ClaimedStream>, ConnectorError> {
        request.streams.iter().try_for_each(|stream| check_mode(&stream.context))?;
        let schema = self.own.schema.clone();
        let session = self.session()?;
        ledger::schema::ensure(session)?;
        host_ffi::mark("dest.claim.before");
        let claimed = ledger::claim(session, request, &schema)?;
        host_ffi::mark("dest.claim.after");
        Ok(claimed)
    }

    fn prepare(&mut self, request: &PrepareRequest) -> Result<(), ConnectorError> {
        check_mode(&request.context)?;
        host_ffi::mark("dest.prepare.before");
        let target = names::target_of(&request.context, &self.own.schema)?;
        ledger::prepare(self.session()?, request, &target)?;
        host_ffi::mark("dest.prepare.after");
        Ok(())
    }

    fn write(&mut self, request: &WriteRequest, input: &mut Input) -> Result<WriteSummary, ConnectorError> {
        let own = self.own.clone();
        load::write(self.session()?, &own, request, input)
    }

    fn publish(&mut self, request: &PublishRequest) -> Result<PublishSummary, ConnectorError> {
        let own = self.own.clone();
        publish::publish(self.session()?, request, &own)
    }

    fn teardown(&mut self, run: &RunContext, streams: &[StreamContext]) -> Result<(), ConnectorError> {
        teardown::teardown(self.session()?, run, streams)
    }

    fn close(&mut self) -> Result<(), ConnectorError> {
        if let Some(session) = self.session.take() {
            session.close();
        }
        if let Some(view) = self.view.take() {
            view.let_go();
        }
        Ok(())
    }
}
