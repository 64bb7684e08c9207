//! Looking whether changes can be read, with the statement that mends what cannot.

use super::config::Plugin;
use super::guard::mebibytes;
use super::logged_columns;
use super::publication::{Publication, check_identity, check_plugin, creation, refuse_nested};
use super::slot::{ServerLog, Slot};
use crate::PostgresSource;
use crate::catalog::{Relation, columns_of, find_relation};
use postgres_wire::{Connection, quote_ident};
use rapidbyte_sdk::{CheckItem, CheckStatus, ConnectorError, StreamContext, SyncMode};

fn item(name: &str, status: CheckStatus, message: impl Into<String>, hint: Option<String>) -> CheckItem {
    CheckItem { name: name.into(), status, message: message.into(), hint }
}

fn of(name: &str, error: ConnectorError) -> CheckItem {
    item(name, CheckStatus::Failed, format!("{} (`{}`)", error.message, error.code), error.hint)
}

fn setting(connection: &mut Connection, name: &str) -> Result<String, ConnectorError> {
    let rows = connection.query_params("SELECT coalesce(current_setting($1, true), '')", &[name.into()])?;
    Ok(rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned())
}

/// Looks at one thing.
type Look = fn(&mut PostgresSource, &[&StreamContext]) -> Result<CheckItem, ConnectorError>;

/// What reading changes needs of the server, slot and publication; nothing if no stream is read by its changes.
pub(crate) fn check(source: &mut PostgresSource, streams: &[StreamContext]) -> Vec<CheckItem> {
    let streams: Vec<&StreamContext> = streams.iter().filter(|stream| stream.sync_mode == SyncMode::Cdc).collect();
    if streams.is_empty() {
        return Vec::new();
    }
    let looks: [(&str, Look); 5] = [
        ("wal_level", wal_level),
        ("replication role", role),
        ("replication slot", slot),
        ("publication", publication),
        ("max_slot_wal_keep_size", keep_size),
    ];
    looks.into_iter().map(|(name, look)| look(source, &streams).unwrap_or_else(|error| of(name, error))).collect()
}

fn wal_level(source: &mut PostgresSource, _: &[&StreamContext]) -> Result<CheckItem, ConnectorError> {
    let session = source.session()?;
    ServerLog::look(session)?;
    let level = setting(session, "wal_level")?;
    Ok(if level == "logical" {
        item("wal_level", CheckStatus::Ok, "the log tells changes", None)
    } else {
        let hint = "as a superuser run: `ALTER SYSTEM SET wal_level = 'logical'`, then restart the server".to_owned();
        item("wal_level", CheckStatus::Failed, format!("`wal_level` is `{level}`: the log does not tell changes"), Some(hint))
    })
}

fn role(source: &mut PostgresSource, _: &[&StreamContext]) -> Result<CheckItem, ConnectorError> {
    let user = source.connect.user.clone();
    let rows = source.session()?.query(
        "SELECT rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_roles m WHERE m.rolname = 'rds_replication' AND pg_has_role(current_user, m.oid, 'MEMBER')),
                EXISTS (SELECT FROM pg_roles m WHERE m.rolname = 'rds_replication')
         FROM pg_roles WHERE rolname = current_user",
    )?;
    let flag = |index: usize| rows.first().is_some_and(|row| row.get(index) == Some("t"));
    if flag(0) {
        return Ok(item("replication role", CheckStatus::Ok, format!("`{user}` may replicate"), None));
    }
    let quoted = quote_ident(&user)?;
    let sql = if flag(1) { format!("GRANT rds_replication TO {quoted}") } else { format!("ALTER ROLE {quoted} REPLICATION") };
    Ok(item(
        "replication role",
        CheckStatus::Failed,
        format!("`{user}` may not replicate"),
        Some(format!("as a superuser run: `{sql}`")),
    ))
}

fn slot(source: &mut PostgresSource, _: &[&StreamContext]) -> Result<CheckItem, ConnectorError> {
    let (names, budget) = (source.cdc_names()?, source.budget);
    let session = source.session()?;
    let name = "replication slot";
    if let Some(found) = Slot::find(session, &names.slot)? {
        found.usable(&names)?;
        let kept = found.kept(&ServerLog::look(session)?);
        if let Some(told) = kept.zip(budget).and_then(|(kept, budget)| kept.against(budget, &names.slot)) {
            return Ok(item(name, CheckStatus::Warning, told.message, Some(told.hint)));
        }
        let keeps = kept.map_or_else(String::new, |kept| format!(", and keeps {} of the server's log", mebibytes(kept.bytes)));
        return Ok(item(name, CheckStatus::Ok, format!("`{}` is there{keeps}", names.slot), None));
    }
    let rows = session.query("SELECT count(*), current_setting('max_replication_slots')::bigint FROM pg_replication_slots")?;
    let number =
        |index: usize| rows.first().map(|row| row.parse::<i64>(index)).transpose().map(|found| found.flatten().unwrap_or(0));
    let (used, most) = (number(0)?, number(1)?);
    Ok(if used < most {
        item(name, CheckStatus::Ok, format!("`{}` will be made by the first run", names.slot), None)
    } else {
        let hint = format!("as a superuser run: `ALTER SYSTEM SET max_replication_slots = {}`, then restart the server", most + 5);
        item(name, CheckStatus::Failed, format!("all {most} replication slots of the server are in use"), Some(hint))
    })
}

/// The tables of the streams; one that is not there has an item of its own already.
fn relations(source: &mut PostgresSource, streams: &[&StreamContext]) -> Result<Vec<Relation>, ConnectorError> {
    let mut found = Vec::new();
    for stream in streams {
        let (schema, table) = source.table(&stream.name);
        let (schema, table) = (schema.to_owned(), table.to_owned());
        found.extend(find_relation(source.session()?, &schema, &table)?);
    }
    Ok(found)
}

fn publication(source: &mut PostgresSource, streams: &[&StreamContext]) -> Result<CheckItem, ConnectorError> {
    let names = source.cdc_names()?;
    let (name, user) = (&names.publication, source.connect.user.clone());
    let tables = relations(source, streams)?;
    let session = source.session()?;
    let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
    for (stream, table) in streams.iter().zip(&tables) {
        check_identity(session, table)?;
        check_plugin(&names, table)?;
        refuse_nested(session, table, &oids)?;
        let columns = columns_of(session, &[table.oid])?.remove(&table.oid).unwrap_or_default();
        logged_columns(stream, columns)?;
    }
    if names.plugin == Plugin::TestDecoding {
        return Ok(item("publication", CheckStatus::Ok, "`test_decoding` needs none", None));
    }
    let found = Publication::find(session, name)?;
    let mut lacking = Vec::new();
    for table in &tables {
        match &found {
            Some(found) if found.covers(session, name, table)? => {}
            _ => lacking.push(table),
        }
    }
    if lacking.is_empty() && found.is_some() {
        return Ok(item("publication", CheckStatus::Ok, format!("`{name}` sends every stream"), None));
    }
    let rows = session.query("SELECT has_database_privilege(current_database(), 'CREATE')")?;
    let may_create = found.is_some() || rows.first().is_some_and(|row| row.get(0) == Some("t"));
    let foreign: Vec<String> = lacking.iter().filter(|table| !table.owned).map(|table| table.label()).collect();
    if may_create && foreign.is_empty() {
        return Ok(item("publication", CheckStatus::Ok, format!("`{name}` will be given its tables by the first run"), None));
    }
    let sql = match found {
        None => creation(session, name, &tables.iter().collect::<Vec<_>>())?,
        Some(_) => creation(session, name, &lacking)?
            .replacen("CREATE PUBLICATION", "ALTER PUBLICATION", 1)
            .replacen(" FOR TABLE ", " ADD TABLE ", 1)
            .replace(" WITH (publish_via_partition_root = true)", ""),
    };
    let message = if foreign.is_empty() {
        format!("`{user}` may not create a publication in this database")
    } else {
        format!("publication `{name}` lacks `{}`, which `{user}` does not own", foreign.join("`, `"))
    };
    Ok(item("publication", CheckStatus::Failed, message, Some(format!("as the tables' owner run: `{sql}`"))))
}

fn keep_size(source: &mut PostgresSource, _: &[&StreamContext]) -> Result<CheckItem, ConnectorError> {
    let name = "max_slot_wal_keep_size";
    let size = setting(source.session()?, name)?;
    Ok(match size.as_str() {
        "" => {
            item(name, CheckStatus::Warning, "a slot that is not read fills the server's disk: PostgreSQL 12 knows no limit", None)
        }
        "-1" => {
            let hint = "as a superuser run: `ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf()`".to_owned();
            item(name, CheckStatus::Warning, "a slot that is not read fills the server's disk: no limit is set", Some(hint))
        }
        size => item(name, CheckStatus::Ok, format!("a slot that is not read keeps at most {size} of log"), None),
    })
}
