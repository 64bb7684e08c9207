//! A complete generation becomes visible, in one transaction.
//!
//! No table there: staging is moved to its place. A table there: it keeps its identity, with owner, grants, indexes and views,
//! and the rows are copied into it: under `replace` after the old ones are deleted in the same transaction, under `upsert` over
//! those of the same key. Readers see the old rows until the commit and the new ones after it, since both statements are ordinary ones under MVCC.

use crate::catalog::{self, Relation};
use crate::changes;
use crate::config::{Deletes, OwnConfig};
use crate::dlq_table::{self, Place};
use crate::fault;
use crate::identity;
use crate::ledger::{self, Columns, Hold, Load, LoadColumn, Owner};
use crate::merge::{self, Insertion};
use crate::names::{Table, target_of};
use crate::references::References;
use crate::rejects::Rejects;
use crate::session::Session;
use crate::tolerant;
use crate::transfer::Transfer;
use postgres_wire::quote_ident;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, DataErrorPolicy, ErrorCategory, PublishRequest, PublishSummary, SyncMode, WriteMode};

/// Publishes, or says again what was published.
pub(crate) fn publish(session: &mut Session, request: &PublishRequest, own: &OwnConfig) -> Result<PublishSummary, ConnectorError> {
    let owner = Owner::new(&request.run, &request.context, request.epoch);
    let target = target_of(&request.context, &own.schema)?;
    let mut rejects = Rejects::new(0, request.context.policies.on_data_error);
    host_ffi::mark("dest.publish.before");
    let published = session
        .transaction_marked("dest.publish.sent", |session| {
            let published = publish_within(session, request, &owner, &target, own, &mut rejects)?;
            if let Published::Now(_) = published {
                let place = Place::publication(&request.run, &owner.stream, request.generation);
                host_ffi::mark("dest.letters.before");
                dlq_table::write(session, &own.letters_table(), &place, rejects.letters())?;
                host_ffi::mark("dest.letters.after");
            }
            Ok(published)
        })
        .map_err(|error| fault::of_stream(error, &owner.stream))?;
    host_ffi::mark("dest.publish.after");
    let (summary, letters) = match published {
        Published::Now(summary) => (summary, rejects.own().to_vec()),
        Published::Before(summary) if rejects.keeps() => {
            let table = own.letters_table();
            let letters = dlq_table::of_publication(session, &table, &request.run, &owner.stream, request.generation)?;
            (summary, letters)
        }
        Published::Before(summary) => (summary, Vec::new()),
    };
    if !letters.is_empty() {
        host_ffi::report_dead_letters(&letters)?;
    }
    Ok(summary)
}

/// What came of a publication.
enum Published {
    Now(PublishSummary),
    /// It had happened already; what it gave up is in the table.
    Before(PublishSummary),
}

fn publish_within(
    session: &mut Session,
    request: &PublishRequest,
    owner: &Owner,
    target: &Table,
    own: &OwnConfig,
    rejects: &mut Rejects,
) -> Result<Published, ConnectorError> {
    let stream = ledger::check_epoch(session, owner, Hold::Update)?;
    let load = ledger::find(session, stream, request.generation)?.ok_or_else(|| {
        ConnectorError::internal("unknown_generation", format!("generation {} is not known at the destination", request.generation))
    })?;
    let written = ledger::written_rows(session, stream, request.generation)?;
    let summary = |rows: u64, location: String| {
        // Rows that fell out and are not among the letters.
        let records_skipped = if rejects_skip(request) { written.saturating_sub(rows) } else { 0 };
        PublishSummary { rows, records_skipped, location }
    };
    if load.published || load.visible {
        let location = load.location.unwrap_or_else(|| target.to_string());
        return Ok(Published::Before(summary(load.rows.unwrap_or(0), location)));
    }
    let unfinished = ledger::unfinished_partitions(session, stream, request.generation)?;
    if let Some(first) = unfinished.first() {
        return Err(ConnectorError::internal(
            "unfinished_generation",
            format!("generation {} has {} unfinished partitions, the first is `{first}`", request.generation, unfinished.len()),
        ));
    }
    let goes_on = request.context.sync_mode == SyncMode::Cdc;
    let mut rows = written;
    // An earlier attempt of this pipeline may be gone and its session not, in the middle of a COPY into the staging table.
    ledger::end_overtaken_sessions(session, &load.staging)?;
    merge::lock_target(session, target)?;
    match ledger::columns(session, stream, request.generation)? {
        Some(columns) => {
            let key = merge::key_of(&request.context, &columns)?;
            let transfer = Transfer { context: &request.context, load: &load, columns: &columns, target, key: &key };
            match catalog::relation(session, target)? {
                None => {
                    rows -= first(session, &transfer, rejects)?.min(rows);
                    if goes_on {
                        changes::dress(session, target, load.write_mode, own.deletes)?;
                    }
                }
                Some(relation) => {
                    let relation = if goes_on {
                        merge::refuse_unlogged(target, &relation)?;
                        changes::dress(session, target, load.write_mode, own.deletes)?;
                        catalog::relation(session, target)?.unwrap_or(relation)
                    } else {
                        relation
                    };
                    rows -= copy_over(session, &transfer, &relation, rows, own, rejects)?.min(rows);
                }
            }
        }
        None if rows == 0 && load.write_mode == WriteMode::Append => {}
        None => {
            return Err(ConnectorError::internal("missing_schema", "the load has ended and its source has announced no schema"));
        }
    }
    let location = target.to_string();
    ledger::set_visible(session, stream, request.generation, rows, &location, goes_on)?;
    Ok(Published::Now(summary(rows, location)))
}

fn rejects_skip(request: &PublishRequest) -> bool {
    request.context.policies.on_data_error == DataErrorPolicy::Skip
}

/// There is no target yet. Gives how many rows fell out.
fn first(session: &mut Session, transfer: &Transfer<'_>, rejects: &mut Rejects) -> Result<u64, ConnectorError> {
    if !rejects.tolerant() {
        return make(session, transfer, rejects);
    }
    let tried = tolerant::attempt(session, |session| make(session, transfer, rejects))?;
    if let Ok(fallen) = tried {
        return Ok(fallen);
    }
    // Some rows stand in the way of moving the table whole: the others are copied into one of the same columns and key.
    let Transfer { load, columns, target, key, .. } = *transfer;
    let own = if load.write_mode == WriteMode::Upsert { key.to_vec() } else { own_key(load, columns) };
    merge::create(session, columns, target, &own)?;
    fill(session, transfer, rejects)
}

/// The rows are copied into a table just made. Gives how many fell out.
fn fill(session: &mut Session, transfer: &Transfer<'_>, rejects: &mut Rejects) -> Result<u64, ConnectorError> {
    let fallen = Insertion::plan(session, transfer, false)?.run(session, rejects)?.fallen;
    session.run(&format!("DROP TABLE {}", transfer.load.staging.quoted()?))?;
    Ok(fallen)
}

/// The load becomes the table. Gives how many rows fell out.
fn make(session: &mut Session, transfer: &Transfer<'_>, rejects: &mut Rejects) -> Result<u64, ConnectorError> {
    let Transfer { load, columns, target, key, .. } = *transfer;
    if load.write_mode == WriteMode::Upsert {
        merge::refuse_null_keys(session, transfer)?;
        // Most loads have each key once, and then moving the table saves writing every row again.
        if merge::has_twins(session, transfer)? {
            merge::create(session, columns, target, key)?;
            return fill(session, transfer, rejects);
        }
        return move_into_place(session, transfer).map(|()| 0);
    }
    move_into_place(session, &Transfer { key: &own_key(load, columns), ..*transfer }).map(|()| 0)
}

/// The key that a new table gets. Rows of one full refresh have unique keys. Appended refreshes would not, so the source's own
/// key belongs to `replace` alone.
fn own_key(load: &Load, columns: &Columns) -> Vec<String> {
    if load.write_mode == WriteMode::Replace { merge::source_key(columns) } else { Vec::new() }
}

/// The staging table becomes the target, with a primary key if one is named.
fn move_into_place(session: &mut Session, transfer: &Transfer<'_>) -> Result<(), ConnectorError> {
    let Transfer { load, columns, target, key, .. } = *transfer;
    ledger::schema::ensure_schema(session, &target.schema)?;
    let staging = load.staging.quoted()?;
    let (schema, name) = (quote_ident(&target.schema)?, quote_ident(&target.name)?);
    let mut casts = Vec::new();
    if load.write_mode == WriteMode::Upsert {
        casts.push(format!("DROP COLUMN IF EXISTS {}", merge::ARRIVAL));
    }
    for column in columns.iter().filter(|column| column.staged != column.published) {
        let name = quote_ident(&column.name)?;
        casts.push(format!("ALTER COLUMN {name} TYPE {} USING {}", column.published, from_text(&name, &column.published)));
    }
    if !casts.is_empty() {
        session.run(&format!("ALTER TABLE {staging} {}", casts.join(", "))).map_err(|error| unknown_object(error, columns))?;
    }
    session.run(&format!("ALTER TABLE {staging} SET SCHEMA {schema}"))?;
    session.run(&format!("ALTER TABLE {schema}.{} RENAME TO {name}", quote_ident(&load.staging.name)?))?;
    grant_defaults(session, target)?;
    if !key.is_empty() {
        session.run(&format!("ALTER TABLE {schema}.{name} ADD {}", merge::primary_key(key)?))?;
    }
    identity::add(session, transfer)
}

/// The value of a type from its text. The cast to `regclass` takes names only, its input function takes what it writes.
pub(crate) fn from_text(name: &str, published: &str) -> String {
    match published {
        "regclass" => format!("pg_catalog.regclassin(pg_catalog.textout({name}))"),
        _ => format!("{name}::{published}"),
    }
}

/// Values of `regclass` and its like are names of objects, and the server's complaint about one would tell it.
pub(crate) fn unknown_object(error: ConnectorError, columns: &Columns) -> ConnectorError {
    let details = error.details.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let state = details.as_ref().and_then(|details| details["sqlstate"].as_str()).unwrap_or_default();
    let named = |column: &&LoadColumn| column.staged != column.published && column.published.starts_with("reg");
    let names: Vec<String> = columns.iter().filter(named).map(|column| format!("`{}`", column.name)).collect();
    if names.is_empty() || !matches!(state, "42P01" | "42883" | "42704" | "3F000" | "42725") {
        return error;
    }
    ConnectorError::data(
        "unknown_object",
        format!("a value of column {} names an object that is not there at the destination", names.join(" or ")),
    )
    .with_hint("make the objects that the values name, or leave the columns out with `columns:`")
}

/// Gives the table what `ALTER DEFAULT PRIVILEGES IN SCHEMA` promises for tables made in its schema: moved ones are left out
/// by the server.
fn grant_defaults(session: &mut Session, target: &Table) -> Result<(), ConnectorError> {
    let rows = session.query_params(
        "SELECT x.privilege_type, CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee) END, x.is_grantable
         FROM pg_catalog.pg_default_acl AS d CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS x
         WHERE d.defaclrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user) AND d.defaclobjtype = 'r'
             AND d.defaclnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1)",
        &[(&target.schema).into()],
    )?;
    for row in &rows {
        let grantee = row.get(1).map_or(Ok("PUBLIC".to_owned()), quote_ident)?;
        let option = if row.flag(2)? { " WITH GRANT OPTION" } else { "" };
        session.run(&format!("GRANT {} ON TABLE {} TO {grantee}{option}", row.text(0)?, target.quoted()?))?;
    }
    Ok(())
}

/// The rows are copied into the table that is there. Gives how many fell out.
fn copy_over(
    session: &mut Session,
    transfer: &Transfer<'_>,
    relation: &Relation,
    rows: u64,
    own: &OwnConfig,
    rejects: &mut Rejects,
) -> Result<u64, ConnectorError> {
    let Transfer { context, load, target, key, .. } = *transfer;
    check_kind(target, relation)?;
    let references = match load.write_mode {
        WriteMode::Replace => Some(References::of(session, target)?),
        WriteMode::Append | WriteMode::Upsert => None,
    };
    if relation.unlogged {
        host_ffi::log(
            LogLevel::Warn,
            "the table is unlogged: a crash of the server empties it, and no run fills it again but a `replace`",
            &[("table", &target.to_string())],
        );
    }
    // What the columns need is done by the insertion, in the same transaction.
    if let Some(references) = &references {
        let old = target.own_rows(relation.kind)?;
        // Readers go on; other writers wait, so that no row of theirs falls between DELETE and INSERT.
        session.run(&format!("LOCK TABLE {old} IN SHARE ROW EXCLUSIVE MODE"))?;
        sees_all_rows(session, target)?;
        references.refuse_actions()?;
        references.defer(session)?;
        session.run(&format!("DELETE FROM {old}")).map_err(|error| references.explain(error))?;
        refuse_left(session, target, &old)?;
    }
    let insertion = Insertion::plan(session, transfer, own.upsert_skip_identical)?;
    let anew = context.sync_mode == SyncMode::Cdc && !key.is_empty() && load.supersedes.as_ref() == Some(&target.to_string());
    // Rows that are gone at the source may have values that must be unique. Only where rows that stay refer to them they have to
    // wait until these are changed; at once if they would go along.
    let made_room = anew
        && own.deletes == Deletes::Hard
        && !catalog::cascades_to_itself(session, target)?
        && tolerant::attempt(session, |session| changes::remove_missing(session, transfer, own.deletes))?.is_ok();
    let inserted = insertion.run(session, rejects)?;
    if let Some(references) = &references {
        references.check(session)?;
    }
    if anew && !made_room {
        changes::remove_missing(session, transfer, own.deletes)?;
    }
    if key.is_empty() {
        merge::took_all(target, rows.saturating_sub(inserted.fallen), inserted.rows)?;
    }
    session.run(&format!("DROP TABLE {}", load.staging.quoted()?))?;
    Ok(inserted.fallen)
}

/// Nothing of the server's says that a DELETE has left rows, which would be there beside the new ones. Only where something can have kept
/// some is it worth a look: it goes past all rows that were just deleted.
fn refuse_left(session: &mut Session, target: &Table, rows: &str) -> Result<(), ConnectorError> {
    if !catalog::may_keep_rows(session, target)? {
        return Ok(());
    }
    let left = session.query(&format!("SELECT EXISTS (SELECT FROM {rows})"))?;
    if left.first().and_then(|row| row.get(0)) != Some("t") {
        return Ok(());
    }
    let message = format!("a trigger or rule of `{target}` keeps rows that `replace` must delete; nothing was changed");
    Err(ConnectorError::config("rows_left_out", message).with_hint(
        "let the trigger return the rows that this role deletes, drop the rule, or name a table without it with `destination: { table: … }`",
    ))
}

/// A DELETE leaves the rows that a policy hides from this role, so that a replaced table would hold them beside the new ones.
pub(crate) fn sees_all_rows(session: &mut Session, target: &Table) -> Result<(), ConnectorError> {
    let rows = session.query_params(
        "SELECT pg_catalog.row_security_active(pg_catalog.to_regclass($1)), current_user",
        &[target.quoted()?.into()],
    )?;
    let Some(row) = rows.first().filter(|row| row.get(0) == Some("t")) else { return Ok(()) };
    let user = row.text(1)?;
    let message = format!("row-level security would hide rows of `{target}` from `{user}`, which `replace` must delete");
    Err(ConnectorError::new(ErrorCategory::Permission, "row_security", message)
        .with_hint(format!("as a superuser run: `ALTER ROLE {} BYPASSRLS`", quote_ident(user)?)))
}

/// Only tables can be written.
pub(crate) fn check_kind(target: &Table, relation: &Relation) -> Result<(), ConnectorError> {
    match relation.kind {
        'r' | 'p' | 'h' => Ok(()),
        'v' | 'm' => Err(ConnectorError::schema("not_a_table", format!("`{target}` is a view"))
            .with_hint("name another table with `destination: { table: … }`, or another `schema`")),
        _ => Err(ConnectorError::schema("not_a_table", format!("`{target}` is not an ordinary table"))
            .with_hint("name another table with `destination: { table: … }`, or another `schema`")),
    }
}
