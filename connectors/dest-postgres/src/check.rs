//! What can be known before a run: the server answers, the rights are there, each target can be written.

use crate::catalog;
use crate::config::OwnConfig;
use crate::merge;
use crate::names::{LEDGER, Table, target_of};
use crate::publish::{check_kind, sees_all_rows};
use crate::references::References;
use crate::session::Session;
use postgres_wire::{ConnectConfig, quote_ident};
use rapidbyte_sdk::{CheckItem, CheckStatus, ConnectorError, StreamContext, SyncMode, WriteMode};
use std::collections::BTreeSet;

/// The oldest server whose catalogs have what is asked here.
const OLDEST_SERVER: u32 = 120_000;

fn item(name: impl Into<String>, status: CheckStatus, message: impl Into<String>, hint: Option<String>) -> CheckItem {
    CheckItem { name: name.into(), status, message: message.into(), hint }
}

fn ok(name: impl Into<String>, message: impl Into<String>) -> CheckItem {
    item(name, CheckStatus::Ok, message, None)
}

fn failed(name: impl Into<String>, error: ConnectorError) -> CheckItem {
    item(name, CheckStatus::Failed, error.message, error.hint)
}

/// Looks and changes nothing.
pub(crate) fn check(config: &ConnectConfig, own: &OwnConfig, streams: &[StreamContext]) -> Result<Vec<CheckItem>, ConnectorError> {
    let mut session = match Session::open(config, own.lock_timeout_seconds) {
        Ok(session) => session,
        Err(error) => return Ok(vec![failed("connection", error)]),
    };
    let mut items = vec![ok("connection", format!("reached database `{}` as `{}`", config.database, config.user))];
    items.push(version(&session));
    items.push(writable(&mut session)?);
    let mut schemas: BTreeSet<String> = BTreeSet::from([LEDGER.to_owned()]);
    let mut tables = Vec::new();
    for stream in streams {
        let name = format!("table of `{}`", stream.name);
        match target_of(stream, &own.schema) {
            Ok(target) => {
                let (found, exists) = table(&mut session, stream, &target)?;
                if !exists {
                    schemas.insert(target.schema);
                }
                tables.push(CheckItem { name, ..found });
            }
            Err(error) => tables.push(failed(name, error)),
        }
    }
    for name in schemas {
        items.push(schema_rights(&mut session, config, &name)?);
    }
    items.extend(ledger_rights(&mut session, config)?);
    items.extend(tables);
    session.close();
    Ok(items)
}

fn version(session: &Session) -> CheckItem {
    let version = session.server_version();
    let shown = format!("PostgreSQL {}.{}", version / 10_000, version % 10_000);
    if version >= OLDEST_SERVER {
        ok("version", shown)
    } else {
        let hint = "use PostgreSQL 12 or newer as the destination".to_owned();
        item("version", CheckStatus::Failed, format!("{shown} is too old"), Some(hint))
    }
}

fn writable(session: &mut Session) -> Result<CheckItem, ConnectorError> {
    let rows =
        session.query("SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')")?;
    let standby = rows.first().and_then(|row| row.get(0)) == Some("t");
    Ok(if standby {
        let hint = "set `host` to the primary server".to_owned();
        item("writable", CheckStatus::Failed, "the server is a standby and takes no writes", Some(hint))
    } else {
        ok("writable", "the server takes writes")
    })
}

/// Whether tables can be made in a schema, or the schema itself.
fn schema_rights(session: &mut Session, config: &ConnectConfig, schema: &str) -> Result<CheckItem, ConnectorError> {
    let name = format!("schema `{schema}`");
    let user = quote_ident(&config.user)?;
    let rows = session.query_params(
        "SELECT n.oid IS NOT NULL, coalesce(pg_catalog.has_schema_privilege(n.oid, 'CREATE') AND
             pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false),
             pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
         FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = $1",
        &[schema.into()],
    )?;
    let flag = |index: usize| rows.first().and_then(|row| row.get(index)) == Some("t");
    Ok(match (flag(0), flag(1), flag(2)) {
        (true, true, _) => ok(name, "tables can be made in it"),
        (true, false, _) => {
            let hint = format!("as its owner run: `GRANT USAGE, CREATE ON SCHEMA {} TO {user}`", quote_ident(schema)?);
            item(name, CheckStatus::Failed, "no right to make tables in it", Some(hint))
        }
        (false, _, true) => ok(name, "will be made by the first run"),
        (false, _, false) => {
            let (quoted, database) = (quote_ident(schema)?, quote_ident(&config.database)?);
            let hint = format!(
                "as a superuser run: `CREATE SCHEMA {quoted} AUTHORIZATION {user}`, or `GRANT CREATE ON DATABASE {database} TO {user}`"
            );
            item(name, CheckStatus::Failed, "is not there, and there is no right to make it", Some(hint))
        }
    })
}

/// Whether the ledger that another role has made can be used.
fn ledger_rights(session: &mut Session, config: &ConnectConfig) -> Result<Option<CheckItem>, ConnectorError> {
    let rows = session.query(
        "SELECT count(*) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace,
             (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS r(kind)
         WHERE n.nspname = '_rapidbyte' AND c.relname IN ('version', 'streams', 'generations', 'receipts')
             AND NOT pg_catalog.has_table_privilege(c.oid, r.kind)",
    )?;
    if rows.first().and_then(|row| row.get(0)) == Some("0") {
        return Ok(None);
    }
    let hint = format!(
        "as its owner run: `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA _rapidbyte TO {}`",
        quote_ident(&config.user)?
    );
    Ok(Some(item("receipts", CheckStatus::Failed, "no right to write receipts in `_rapidbyte`", Some(hint))))
}

/// The item for a target, and whether the target is there.
fn table(session: &mut Session, stream: &StreamContext, target: &Table) -> Result<(CheckItem, bool), ConnectorError> {
    let Some(relation) = catalog::relation(session, target)? else {
        return Ok((ok("", format!("`{target}` will be made by the first run")), false));
    };
    if let Err(error) = check_kind(target, &relation) {
        return Ok((failed("", error), true));
    }
    let quoted = target.quoted()?;
    let mut wanted = vec!["INSERT"];
    match stream.write_mode {
        WriteMode::Append => {}
        WriteMode::Replace => {
            wanted.push("DELETE");
            if catalog::may_keep_rows(session, target)? {
                wanted.push("SELECT");
            }
        }
        WriteMode::Upsert => wanted.extend(["UPDATE", "SELECT"]),
    }
    if (stream.sync_mode, stream.write_mode) == (SyncMode::Cdc, WriteMode::Upsert) {
        wanted.push("DELETE");
    }
    let user = session.query("SELECT current_user")?;
    let user = quote_ident(user.first().and_then(|row| row.get(0)).unwrap_or_default())?;
    let (usage, missing) = rights(session, target, &wanted)?;
    let table_grant = format!("GRANT {} ON TABLE {quoted} TO {user}", missing.join(", "));
    if !usage {
        let mut grants = vec![format!("GRANT USAGE ON SCHEMA {} TO {user}", quote_ident(&target.schema)?)];
        grants.extend((!missing.is_empty()).then_some(table_grant));
        let hint = format!("as its owner run: `{}`", grants.join("; "));
        let message = format!("no right to use the schema of `{target}`");
        return Ok((item("", CheckStatus::Failed, message, Some(hint)), true));
    }
    if stream.write_mode == WriteMode::Upsert
        && !stream.primary_key.is_empty()
        && let Err(error) = merge::require_unique(session, target, &stream.primary_key)
    {
        return Ok((failed("", error), true));
    }
    if stream.write_mode == WriteMode::Replace
        && let Err(error) = References::of(session, target)?.refuse_actions()
    {
        return Ok((failed("", error), true));
    }
    if stream.sync_mode != SyncMode::FullRefresh
        && let Err(error) = merge::refuse_unlogged(target, &relation)
    {
        return Ok((failed("", error), true));
    }
    if wanted.contains(&"DELETE")
        && let Err(error) = sees_all_rows(session, target)
    {
        return Ok((failed("", error), true));
    }
    Ok((
        if missing.is_empty() {
            ok("", format!("`{target}` is there and keeps its identity"))
        } else {
            let hint = format!("as its owner run: `{table_grant}`");
            item("", CheckStatus::Failed, format!("no right to {} on `{target}`", missing.join(", ")), Some(hint))
        },
        true,
    ))
}

/// Whether the user may use the table's schema, and the rights on the table that are missing. By number: a name could not be looked
/// up without the first.
fn rights(session: &mut Session, target: &Table, wanted: &[&'static str]) -> Result<(bool, Vec<&'static str>), ConnectorError> {
    let mut usage = true;
    let mut missing = Vec::new();
    for right in wanted {
        let rows = session.query_params(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_table_privilege(c.oid, $3)
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2",
            &[(&target.schema).into(), (&target.name).into(), (*right).into()],
        )?;
        let said = |index: usize| rows.first().and_then(|row| row.get(index)) == Some("t");
        usage &= said(0);
        if !said(1) {
            missing.push(*right);
        }
    }
    Ok((usage, missing))
}
