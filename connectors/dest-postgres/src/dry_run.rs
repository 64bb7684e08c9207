//! What a run would do here, for `plan`: the code that does it is asked, in a session that keeps statements instead of running
//! them and whose transaction the server holds to be read-only.

use crate::PostgresDestination;
use crate::catalog::{self, Relation};
use crate::changes;
use crate::config::OwnConfig;
use crate::evolution::{self, Ground};
use crate::layout::{self, Layout};
use crate::ledger;
use crate::merge;
use crate::names::{Table, target_of};
use crate::publish::check_kind;
use crate::session::Session;
use crate::types::Marks;
use crate::user_types;
use postgres_wire::quote_ident;
use rapidbyte_sdk::{
    ConnectorError, DryRun, Effect, EffectKind, NewColumnPolicy, PlannedStream, PlannedTarget, StreamContext, SyncMode,
    TypeChangePolicy, WriteMode,
};
use std::collections::HashSet;

fn effect(kind: EffectKind, message: impl Into<String>, sql: Option<String>) -> Effect {
    Effect { kind, message: message.into(), sql, hint: None }
}

fn refusal(error: ConnectorError) -> Effect {
    Effect { kind: EffectKind::Refusal, message: error.message, sql: None, hint: error.hint }
}

impl DryRun for PostgresDestination {
    fn dry_run(&mut self, streams: &[PlannedStream]) -> Result<Vec<PlannedTarget>, ConnectorError> {
        let own = self.own.clone();
        let mut session = Session::dry(&self.connect, own.lock_timeout_seconds)?;
        let mut planned = Vec::with_capacity(streams.len());
        for stream in streams {
            planned.push(target(&mut session, &own, stream)?);
        }
        if let Some(first) = planned.first_mut().filter(|_| !streams.is_empty())
            && !session.attempt(ledger::schema::exists).unwrap_or(true)
        {
            let message = "the schema `_rapidbyte` with the tables of receipts is made by the first run";
            first.effects.insert(0, effect(EffectKind::Create, message, Some("CREATE SCHEMA IF NOT EXISTS _rapidbyte".into())));
        }
        session.close();
        Ok(planned)
    }
}

fn target(session: &mut Session, own: &OwnConfig, stream: &PlannedStream) -> Result<PlannedTarget, ConnectorError> {
    let context = &stream.context;
    let target = match target_of(context, &own.schema) {
        Ok(target) => target,
        Err(error) => {
            let place = context.target.to_string();
            return Ok(PlannedTarget { place, exists: false, rows: None, effects: vec![refusal(error)] });
        }
    };
    let relation = catalog::relation(session, &target)?;
    let mut planned =
        PlannedTarget { place: target.to_string(), exists: relation.is_some(), rows: rows(session, &target)?, effects: Vec::new() };
    // A query that the server refuses would end the transaction for the streams after it.
    let found = session.attempt(|session| effects(session, own, stream, &target, relation.as_ref()));
    match found {
        Ok(effects) => planned.effects = effects,
        Err(error) => planned.effects.push(refusal(error)),
    }
    session.take_kept();
    Ok(planned)
}

/// How many rows the server believes are there.
fn rows(session: &mut Session, target: &Table) -> Result<Option<u64>, ConnectorError> {
    let found = session.query_params(
        "SELECT CASE WHEN c.reltuples >= 0 THEN c.reltuples::pg_catalog.int8 END FROM pg_catalog.pg_class AS c
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
        &[(&target.schema).into(), (&target.name).into()],
    )?;
    Ok(found.first().map(|row| row.parse(0)).transpose()?.flatten())
}

/// The statements that were kept, as effects.
fn made(session: &mut Session, kind: EffectKind, what: impl Fn(&str) -> String) -> Vec<Effect> {
    session.take_kept().into_iter().map(|sql| effect(kind, what(&sql), Some(sql))).collect()
}

fn effects(
    session: &mut Session,
    own: &OwnConfig,
    stream: &PlannedStream,
    target: &Table,
    relation: Option<&Relation>,
) -> Result<Vec<Effect>, ConnectorError> {
    let PlannedStream { context, schema } = stream;
    let name = context.name.to_string();
    let mut layout = layout::plan(session, schema, &name, target, own.missing_types, false)?;
    if (context.sync_mode, context.write_mode) == (SyncMode::Cdc, WriteMode::Append) {
        layout.columns = changes::all_nullable(&layout.columns);
    }
    let mut found = made(session, EffectKind::Create, |sql| match sql.starts_with("CREATE SCHEMA") {
        true => format!("the schema `{}` is made", target.schema),
        false => "a type of the source is made".to_owned(),
    });
    found.extend(types(session, own, stream, target, &mut layout)?);
    let key = key_of(context, &layout)?;
    match relation {
        None => {
            merge::create(session, &layout.columns, target, &key)?;
            found.extend(made(session, EffectKind::Create, |sql| match sql.starts_with("CREATE SCHEMA") {
                true => format!("the schema `{}` is made", target.schema),
                false => format!("the table `{target}` is made"),
            }));
        }
        Some(relation) => {
            check_kind(target, relation)?;
            found.extend(evolved(session, stream, target, relation, &layout)?);
            if context.write_mode == WriteMode::Upsert {
                merge::require_unique(session, target, &key)?;
            }
        }
    }
    if context.sync_mode == SyncMode::Cdc {
        found.extend(dressed(target, relation, context.write_mode, own)?);
    }
    // The schema is asked for by types and table alike.
    let mut seen = HashSet::new();
    found.retain(|one| one.sql.as_ref().is_none_or(|sql| seen.insert(sql.clone())));
    found.push(effect(EffectKind::Write, written(context, relation.is_some(), &key, own.upsert_skip_identical), None));
    Ok(found)
}

/// Columns whose types are made by the run get them; others take what is said in their place.
fn types(
    session: &mut Session,
    own: &OwnConfig,
    stream: &PlannedStream,
    target: &Table,
    layout: &mut Layout,
) -> Result<Vec<Effect>, ConnectorError> {
    let marks: Vec<Marks<'_>> = stream.schema.fields().iter().filter_map(|field| Marks::of(field).ok()).collect();
    let local = user_types::settle(session, &marks, &target.schema, own.missing_types, &stream.context.name.to_string())?;
    session.take_kept();
    // What was looked up in vain is in the table's schema once it is made.
    let schema = format!("{}.", quote_ident(&target.schema)?);
    let mut given = HashSet::new();
    for (column, marks) in layout.columns.iter_mut().zip(&marks) {
        if let Some(named) = marks.pg_type.and_then(|wanted| local.of(wanted)).filter(|named| named.starts_with(&schema)) {
            given.insert(column.name.clone());
            column.published = named;
        }
    }
    let others = layout.replacements().into_iter().filter(|(column, ..)| !given.contains(column));
    let told = |(column, wanted, instead)| {
        let message = format!("column `{column}`: the type `{wanted}` is not known here, `{instead}` takes its place");
        effect(EffectKind::Policy, message, None)
    };
    Ok(others.map(told).collect())
}

/// The key that rows are merged by, or that a table which is replaced gets.
fn key_of(context: &StreamContext, layout: &Layout) -> Result<Vec<String>, ConnectorError> {
    if context.write_mode != WriteMode::Replace {
        return merge::key_of(context, &layout.columns);
    }
    Ok(merge::source_key(&layout.columns))
}

/// The columns that a table of changes has beside the source's.
fn dressed(target: &Table, relation: Option<&Relation>, mode: WriteMode, own: &OwnConfig) -> Result<Vec<Effect>, ConnectorError> {
    let there = |name: &str| relation.is_some_and(|relation| relation.columns.iter().any(|known| known.name == name));
    let lacking = changes::dresses(mode, own.deletes).iter().filter(|(name, _)| !there(name));
    let added = |(name, sql): &(&str, &str)| {
        let sql = changes::dressing(target, name, sql)?;
        Ok(effect(EffectKind::Alter, format!("the column `{name}` of changes is added"), Some(sql)))
    };
    lacking.map(added).collect()
}

/// What becomes of a table that is there.
fn evolved(
    session: &mut Session,
    stream: &PlannedStream,
    target: &Table,
    relation: &Relation,
    natural: &Layout,
) -> Result<Vec<Effect>, ConnectorError> {
    let PlannedStream { context, schema } = stream;
    let ground = Ground { context, target, relation: Some(relation), staging: None };
    let settled = evolution::settle(session, natural, schema, &ground).map_err(|refusal| *refusal.error)?;
    let policies = &context.policies;
    let quoted = target.quoted()?;
    let mut found = Vec::new();
    for column in &natural.columns {
        let name = quote_ident(&column.name)?;
        let there = relation.columns.iter().find(|known| known.name == column.name);
        let goes = settled.columns.iter().find(|settled| settled.name == column.name);
        match (there, goes) {
            (None, Some(goes)) => {
                let sql = format!("ALTER TABLE {quoted} ADD COLUMN {name} {}", goes.published);
                found.push(effect(EffectKind::Alter, format!("column `{}` is added", column.name), Some(sql)));
            }
            (_, None) => {
                let word = NewColumnPolicy::Ignore.as_str();
                let message = format!("column `{}` is left out: the table does not have it (`new_column: {word}`)", column.name);
                found.push(effect(EffectKind::Policy, message, None));
            }
            (Some(there), Some(goes)) => {
                if goes.published != column.published {
                    let (was, is) = (&column.published, &there.sql_type);
                    let misfit = match policies.type_change {
                        TypeChangePolicy::Null => "becomes NULL",
                        TypeChangePolicy::Coerce | TypeChangePolicy::Fail => "is a data error",
                    };
                    let message = format!(
                        "column `{}` is `{was}` at the source and `{is}` here: values are converted, and one that does not fit {misfit} \
                         (`type_change: {}`)",
                        column.name, policies.type_change
                    );
                    found.push(effect(EffectKind::Policy, message, None));
                }
                if there.not_null && !there.in_primary_key && !there.generated && !goes.not_null {
                    let message = format!(
                        "column `{}` is NOT NULL here: that gives way if a NULL comes (`nullability_change: {}`)",
                        column.name, policies.nullability_change
                    );
                    let sql = format!("ALTER TABLE {quoted} ALTER COLUMN {name} DROP NOT NULL");
                    found.push(effect(EffectKind::Policy, message, Some(sql)));
                }
            }
        }
    }
    let names: Vec<&str> = natural.columns.iter().map(|column| column.name.as_str()).collect();
    for gone in ground.removed(&names) {
        let message = format!("column `{}` does not come from the source: it stays, unwritten", gone.name);
        found.push(effect(EffectKind::Policy, message, None));
    }
    Ok(found)
}

/// How rows are written, in words.
fn written(context: &StreamContext, exists: bool, key: &[String], skip_identical: bool) -> String {
    let key = key.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let when = match context.sync_mode {
        SyncMode::Incremental => "with each commit",
        SyncMode::FullRefresh => "in one act at the end",
        SyncMode::Cdc => "those of the load in one act, changes with each commit",
    };
    match (context.write_mode, exists) {
        (WriteMode::Append, _) => format!("rows are added beside those that are there, {when}"),
        (WriteMode::Replace, true) => format!("all rows that are there are replaced, {when}; readers see the old ones until then"),
        (WriteMode::Replace, false) => format!("rows become visible {when}"),
        (WriteMode::Upsert, _) if skip_identical => {
            format!("rows are merged by {key}, {when}; those that are the same stay untouched")
        }
        (WriteMode::Upsert, _) => format!("rows are merged by {key}, {when}"),
    }
}
