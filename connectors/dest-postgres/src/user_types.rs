//! Types of users at the source that a table needs here: found, or made.
//!
//! They are made in the schema of the table, as the table itself is, from what the source tells of them: enums with their labels,
//! domains with their base type (a copy checks nothing, so their checks and defaults stay behind, as those of tables do),
//! composite types with their fields, ranges with their subtype. Types of extensions are found wherever the extension is
//! installed, and never made.

use crate::catalog::with_full_names;
use crate::config::MissingTypes;
use crate::session::Session;
use crate::types::{Marks, looks_like_type};
use postgres_wire::{Row, Shape, UserType, quote_ident, quote_literal, quote_qualified};
use rapidbyte_sdk::ConnectorError;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use std::collections::HashMap;

/// Advisory lock: types are being made.
const TYPES_LOCK: i64 = 0x5261_7069_7479_7065;
/// Multiranges came with it.
const MULTIRANGES: u32 = 140_000;

/// The source's names of types, each with its name here; `None`: there is none here.
#[derive(Debug, Default)]
pub(crate) struct LocalNames {
    names: HashMap<String, Option<String>>,
}

impl LocalNames {
    /// How a type of the source is called here: `public.mood[]` may be `raw.mood[]`.
    pub(crate) fn of(&self, name: &str) -> Option<String> {
        // The longest known name, followed by nothing, a modifier or an array's brackets.
        let known = self.names.iter().filter_map(|(known, local)| {
            let rest = name.strip_prefix(known.as_str())?;
            (rest.is_empty() || rest.starts_with(['(', '['])).then_some((known.len(), rest, local))
        });
        match known.max_by_key(|(length, ..)| *length) {
            Some((_, rest, local)) => local.as_ref().map(|local| format!("{local}{rest}")),
            None => Some(name.to_owned()),
        }
    }
}

/// Finds or makes the types that columns are made of. `schema` is that of the table.
pub(crate) fn settle(
    session: &mut Session,
    marks: &[Marks<'_>],
    schema: &str,
    policy: MissingTypes,
    stream: &str,
) -> Result<LocalNames, ConnectorError> {
    let mut described: Vec<UserType> = Vec::new();
    for text in marks.iter().filter_map(|marks| marks.types) {
        let types = UserType::read_all(text).ok_or_else(|| {
            ConnectorError::schema("damaged_types", format!("the description of types of `{stream}` can't be read"))
                .with_hint("update the source connector and this one to the same release")
        })?;
        for one in types {
            if described.iter().all(|known| known.name != one.name) {
                described.push(one);
            }
        }
    }
    let mut local = LocalNames::default();
    if described.is_empty() {
        return Ok(local);
    }
    if !find_all(session, &described, schema, policy, &mut local)? && policy == MissingTypes::Create {
        // Writers of other tasks may need the same types.
        let make = |session: &mut Session| {
            session.query_params("SELECT pg_catalog.pg_advisory_xact_lock($1)", &[TYPES_LOCK.into()])?;
            let mut local = LocalNames::default();
            make_all(session, &described, schema, policy, &mut local)?;
            Ok(local)
        };
        local = if session.in_transaction() { make(session)? } else { session.transaction(make)? };
    }
    let missing = described.iter().find(|one| local.names.get(&one.name).is_none_or(Option::is_none));
    match missing {
        Some(missing) if policy == MissingTypes::Fail => Err(ConnectorError::schema(
            "missing_type",
            format!("stream `{stream}`: the type `{}` is not known at the destination", missing.name),
        )
        .with_hint(match &missing.shape {
            Shape::Extension { extension } => {
                format!("install its extension: CREATE EXTENSION {}; or set `missing_types: text`", quote_ident(extension)?)
            }
            _ => "make it as it is at the source, or set `missing_types: create` or `missing_types: text`".to_owned(),
        })),
        _ => Ok(local),
    }
}

/// Looks for each type; whether those that can be made are all there.
fn find_all(
    session: &mut Session,
    described: &[UserType],
    schema: &str,
    policy: MissingTypes,
    local: &mut LocalNames,
) -> Result<bool, ConnectorError> {
    let mut complete = true;
    for one in described {
        let name = find(session, one, schema, policy, local)?;
        complete &= name.is_some() || matches!(one.shape, Shape::Extension { .. } | Shape::Other);
        local.names.insert(one.name.clone(), name);
    }
    Ok(complete)
}

fn make_all(
    session: &mut Session,
    described: &[UserType],
    schema: &str,
    policy: MissingTypes,
    local: &mut LocalNames,
) -> Result<(), ConnectorError> {
    for one in described {
        let mut name = find(session, one, schema, policy, local)?;
        if name.is_none()
            && let Some(statement) = statement(session, one, schema, local)?
        {
            crate::ledger::schema::ensure_schema(session, schema)?;
            session.run(&statement).map_err(|error| {
                let hint = "make the type by hand, or set `missing_types: text`".to_owned();
                ConnectorError {
                    message: format!("type `{}`: {}", one.name, error.message),
                    hint: error.hint.or(Some(hint)),
                    ..error
                }
            })?;
            host_ffi::log(LogLevel::Info, "made a type of the source", &[("type", &one.name), ("schema", schema)]);
            // What a dry run has not made can't be found.
            name = if session.is_dry() {
                Some(quote_qualified(schema, &one.typname)?)
            } else {
                find(session, one, schema, policy, local)?
            };
        }
        local.names.insert(one.name.clone(), name);
    }
    Ok(())
}

fn first(rows: &[Row]) -> Option<String> {
    rows.first().and_then(|row| row.get(0)).map(str::to_owned)
}

/// The name of a type here: the source's own name, else its name in the table's schema. One that is made differently is no place for
/// the source's values; it is as good as none where nothing is to be made.
fn find(
    session: &mut Session,
    one: &UserType,
    schema: &str,
    policy: MissingTypes,
    local: &LocalNames,
) -> Result<Option<String>, ConnectorError> {
    if !looks_like_type(&one.name) {
        return Ok(None);
    }
    let there = session.query_params(
        "SELECT t.oid, t.typtype FROM pg_catalog.pg_type AS t WHERE t.oid = pg_catalog.to_regtype($1)",
        &[(&one.name).into()],
    )?;
    if let Some(row) = there.first() {
        let found = Found { name: one.name.clone(), oid: row.text(0)?.to_owned(), class: row.text(1)?.to_owned() };
        return match &one.shape {
            // Of these nothing is told, or they are what they belong to.
            Shape::Extension { .. } | Shape::Other | Shape::Multirange { .. } => Ok(Some(found.name)),
            _ => checked(session, one, found, policy, local),
        };
    }
    match &one.shape {
        Shape::Other => return Ok(None),
        Shape::Extension { extension } => {
            let rows = session.query_params(
                "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname)
                 FROM pg_catalog.pg_extension AS e
                 JOIN pg_catalog.pg_depend AS d ON d.refobjid = e.oid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
                     AND d.classid = 'pg_catalog.pg_type'::regclass AND d.deptype = 'e'
                 JOIN pg_catalog.pg_type AS t ON t.oid = d.objid JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
                 WHERE e.extname = $1 AND t.typname = $2",
                &[extension.into(), (&one.typname).into()],
            )?;
            return Ok(first(&rows));
        }
        Shape::Multirange { range } => {
            // It comes with its range, under whatever name.
            let Some(Some(range)) = local.names.get(range) else { return Ok(None) };
            let rows = with_full_names(session, |session| {
                session.query_params(
                    "SELECT pg_catalog.format_type((pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid, NULL)
                     FROM pg_catalog.pg_range AS r WHERE r.rngtypid = pg_catalog.to_regtype($1)",
                    &[range.into()],
                )
            })?;
            return Ok(first(&rows));
        }
        _ => {}
    }
    let rows = session.query_params(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname), t.oid, t.typtype
         FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
         WHERE n.nspname = $1 AND t.typname = $2",
        &[schema.into(), (&one.typname).into()],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let found = Found { name: row.text(0)?.to_owned(), oid: row.text(1)?.to_owned(), class: row.text(2)?.to_owned() };
    checked(session, one, found, policy, local)
}

/// A type of this server.
struct Found {
    name: String,
    oid: String,
    /// `pg_type.typtype`
    class: String,
}

/// Its name, if it is made as the source's is.
fn checked(
    session: &mut Session,
    one: &UserType,
    found: Found,
    policy: MissingTypes,
    local: &LocalNames,
) -> Result<Option<String>, ConnectorError> {
    if is_the_same(session, one, &found, local)? {
        return Ok(Some(found.name));
    }
    if policy == MissingTypes::Text {
        return Ok(None);
    }
    let statement =
        mending(session, one, &found)?.map_or_else(|| "rename it".to_owned(), |sql| format!("as its owner run: `{sql}`"));
    let message = format!("the type `{}` is there and is not made as the source's `{}` is", found.name, one.name);
    Err(ConnectorError::schema("type_conflict", message).with_hint(format!("{statement}, or set `missing_types: text`")))
}

/// What lets a type take the source's values, or a new one take its place; `None` if its name has no room for another.
fn mending(session: &mut Session, one: &UserType, found: &Found) -> Result<Option<String>, ConnectorError> {
    if let (Shape::Enum { labels }, "e") = (&one.shape, found.class.as_str()) {
        let known = labels_of(session, &found.oid)?;
        let added = labels.iter().filter(|label| !known.contains(label));
        let added = added.map(|label| Ok(format!("ALTER TYPE {} ADD VALUE {}", found.name, quote_literal(label)?)));
        return Ok(Some(added.collect::<Result<Vec<_>, ConnectorError>>()?.join("; ")));
    }
    if found.class == "r" {
        // Its functions would keep their names, which the new one's need. The server drops no type that is in use.
        return Ok(Some(format!("DROP TYPE {}", found.name)));
    }
    Ok(quote_ident(&format!("{}_old", one.typname)).ok().map(|other| format!("ALTER TYPE {} RENAME TO {other}", found.name)))
}

fn labels_of(session: &mut Session, oid: &str) -> Result<Vec<String>, ConnectorError> {
    let rows = session.query_params("SELECT enumlabel FROM pg_catalog.pg_enum WHERE enumtypid = $1::oid", &[oid.into()])?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// Whether a type of this server holds every value of the source's type.
fn is_the_same(session: &mut Session, one: &UserType, found: &Found, local: &LocalNames) -> Result<bool, ConnectorError> {
    let Found { oid, class, .. } = found;
    let ask = |session: &mut Session, sql: &str| with_full_names(session, |session| session.query_params(sql, &[oid.into()]));
    Ok(match (&one.shape, class.as_str()) {
        (Shape::Enum { labels }, "e") => {
            let known = labels_of(session, oid)?;
            labels.iter().all(|label| known.contains(label))
        }
        (Shape::Domain { base }, "d") => {
            let rows =
                ask(session, "SELECT pg_catalog.format_type(typbasetype, typtypmod) FROM pg_catalog.pg_type WHERE oid = $1::oid")?;
            local.of(base) == first(&rows)
        }
        (Shape::Composite { fields }, "c") => {
            let rows = ask(
                session,
                "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute AS a
                 JOIN pg_catalog.pg_type AS t ON t.typrelid = a.attrelid
                 WHERE t.oid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            )?;
            rows.len() == fields.len()
                && rows
                    .iter()
                    .zip(fields)
                    .all(|(row, (name, of))| row.get(0) == Some(name) && row.get(1).map(str::to_owned) == local.of(of))
        }
        (Shape::Range { subtype, .. }, "r") => {
            let rows =
                ask(session, "SELECT pg_catalog.format_type(rngsubtype, NULL) FROM pg_catalog.pg_range WHERE rngtypid = $1::oid")?;
            local.of(subtype) == first(&rows)
        }
        _ => false,
    })
}

/// The statement that makes a type; `None` if it can't be made.
fn statement(session: &Session, one: &UserType, schema: &str, local: &LocalNames) -> Result<Option<String>, ConnectorError> {
    let name = quote_qualified(schema, &one.typname)?;
    // What it is made of comes from outside, and may not be there.
    let part = |of: &str| local.of(of).filter(|of| looks_like_type(of));
    Ok(match &one.shape {
        Shape::Enum { labels } => {
            let labels: Vec<String> = labels.iter().map(|label| quote_literal(label)).collect::<Result<_, _>>()?;
            Some(format!("CREATE TYPE {name} AS ENUM ({})", labels.join(", ")))
        }
        Shape::Domain { base } => part(base).map(|base| format!("CREATE DOMAIN {name} AS {base}")),
        Shape::Composite { fields } => {
            let mut parts = Vec::with_capacity(fields.len());
            for (field, of) in fields {
                let Some(of) = part(of) else { return Ok(None) };
                parts.push(format!("{} {of}", quote_ident(field)?));
            }
            Some(format!("CREATE TYPE {name} AS ({})", parts.join(", ")))
        }
        Shape::Range { subtype, multirange } => {
            let Some(subtype) = part(subtype) else { return Ok(None) };
            let multirange = match multirange {
                Some(multirange) if session.server_version() >= MULTIRANGES => {
                    format!(", multirange_type_name = {}", quote_qualified(schema, multirange)?)
                }
                _ => String::new(),
            };
            Some(format!("CREATE TYPE {name} AS RANGE (subtype = {subtype}{multirange})"))
        }
        Shape::Multirange { .. } | Shape::Extension { .. } | Shape::Other => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_with_their_modifiers_and_brackets() {
        let entries = [
            ("public.mood", Some("raw.mood")),
            ("public.mood_2", Some("raw.m2")),
            ("public.geometry", Some("gis.geometry")),
            ("public.gone", None),
        ];
        let names = entries.map(|(from, to)| (from.to_owned(), to.map(str::to_owned))).into();
        let local = LocalNames { names };
        for (name, expected) in [
            ("public.mood", Some("raw.mood")),
            ("public.mood[]", Some("raw.mood[]")),
            ("public.mood_2[]", Some("raw.m2[]")),
            ("public.geometry(Point,4326)", Some("gis.geometry(Point,4326)")),
            ("public.moody", Some("public.moody")),
            ("numeric(5,2)", Some("numeric(5,2)")),
            ("public.gone[]", None),
        ] {
            assert_eq!(local.of(name).as_deref(), expected, "{name}");
        }
    }
}
