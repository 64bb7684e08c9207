//! Looking at server and streams before a run.

use crate::PostgresSource;
use crate::catalog::{columns_of, find_relation, missing_table};
use crate::cdc;
use crate::incremental::{self, Cursor};
use crate::read::{checked_filter, sees_all_rows, select_columns};
use crate::shares::unsplit;
use postgres_wire::{Connection, quote_qualified};
use rapidbyte_sdk::{CheckItem, CheckStatus, ConnectorError, ErrorCategory, StreamContext, SyncMode};

/// Oldest server whose catalog and COPY are known to fit.
const MIN_SERVER_VERSION: u32 = 120_000;

/// Refuses servers that are too old.
pub(crate) fn supported(connection: &Connection) -> Result<(), ConnectorError> {
    let version = connection.server_version();
    if version >= MIN_SERVER_VERSION {
        return Ok(());
    }
    let shown = connection.parameter("server_version").unwrap_or("unknown");
    Err(ConnectorError::config("server_version", format!("the server runs PostgreSQL {shown}; 12 or newer is needed"))
        .with_hint("upgrade the server, or read from a replica that is newer"))
}

fn item(name: impl Into<String>, status: CheckStatus, message: impl Into<String>, hint: Option<String>) -> CheckItem {
    CheckItem { name: name.into(), status, message: message.into(), hint }
}

fn failed(name: impl Into<String>, error: ConnectorError) -> CheckItem {
    item(name, CheckStatus::Failed, format!("{} (`{}`)", error.message, error.code), error.hint)
}

/// One item for the connection, then one for each stream.
pub(crate) fn check(source: &mut PostgresSource, streams: &[StreamContext]) -> Vec<CheckItem> {
    let mut items = Vec::new();
    match source.session() {
        Ok(session) => {
            let version = session.parameter("server_version").unwrap_or("unknown");
            let encrypted = session.tls().map_or("not encrypted", |tls| tls.protocol.as_str());
            items.push(item("connection", CheckStatus::Ok, format!("PostgreSQL {version}, {encrypted}"), None));
        }
        Err(error) => {
            items.push(failed("connection", error));
            return items;
        }
    }
    items.extend(cdc::check(source, streams));
    for stream in streams {
        let name = format!("stream `{}`", stream.name);
        match check_stream(source, stream) {
            Ok(found) => items.push(found),
            Err(error) => items.push(failed(name, error)),
        }
    }
    items
}

fn check_stream(source: &mut PostgresSource, stream: &StreamContext) -> Result<CheckItem, ConnectorError> {
    let (schema, table) = source.table(&stream.name);
    let (schema, table) = (schema.to_owned(), table.to_owned());
    let session = source.session()?;
    let Some(relation) = find_relation(session, &schema, &table)? else {
        return Err(missing_table(session, &schema, &table));
    };
    let columns = columns_of(session, &[relation.oid])?.remove(&relation.oid).unwrap_or_default();
    let columns = if stream.sync_mode == SyncMode::Cdc { cdc::logged_columns(stream, columns)? } else { columns };
    let selected = select_columns(stream, &relation, columns.clone())?;

    let usage = session.query_params("SELECT has_schema_privilege($1, 'USAGE')", &[(&schema).into()])?;
    let user = source.connect.user.clone();
    let quoted_user = postgres_wire::quote_ident(&user)?;
    let (mut what, mut grants) = (Vec::new(), Vec::new());
    if usage.first().and_then(|row| row.get(0)) != Some("t") {
        what.push(format!("schema `{schema}`"));
        grants.push(format!("GRANT USAGE ON SCHEMA {} TO {quoted_user}", postgres_wire::quote_ident(&schema)?));
    }
    let unreadable: Vec<&str> = selected.iter().filter(|column| !column.readable).map(|column| column.name.as_str()).collect();
    if !relation.readable && !unreadable.is_empty() {
        what.push(format!("`{}` of `{}`", unreadable.join("`, `"), relation.label()));
        grants.push(format!("GRANT SELECT ON {} TO {quoted_user}", quote_qualified(&schema, &table)?));
    }
    if !what.is_empty() {
        let message = format!("user `{user}` may not read {}", what.join(" and "));
        return Err(ConnectorError::new(ErrorCategory::Permission, "permission_denied", message)
            .with_hint(format!("run at the source: `{}`", grants.join("; "))));
    }
    sees_all_rows(source.session()?, &relation, &selected, &user)?;
    checked_filter(source.session()?, stream, &relation, &columns)?;
    if stream.sync_mode == SyncMode::Incremental {
        let cursor = Cursor::of(source.session()?, stream, &relation, &columns)?;
        return incremental::check(source.session()?, stream, &relation, &cursor);
    }
    let large = relation.estimated_bytes.unwrap_or(0) > source.config.split_above_bytes;
    let message = match (large, unsplit(&relation)) {
        (true, None) => "can be read, in shares side by side".to_owned(),
        (true, Some(why)) => format!("can be read, in one share: {why}"),
        (false, _) => "can be read".to_owned(),
    };
    Ok(item(format!("stream `{}`", stream.name), CheckStatus::Ok, message, None))
}
