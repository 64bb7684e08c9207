//! Columns that have changed, between loads or within one: each change follows its declared policy.
//!
//! A load is held against its staging table where there is one already, else against the table it goes into: when a schema is
//! announced, so that nothing is moved in vain, and again when the rows go into the table, which may have changed meanwhile.

mod added;
mod fit;
mod moment;
mod staging;

pub(crate) use added::{Earlier, weigh};
pub(crate) use staging::{alter, changes};

use crate::catalog::{self, Relation, RelationColumn};
use crate::changes;
use crate::encode::{CellFault, Codec, EncodeFault};
use crate::layout::Layout;
use crate::ledger::{Columns, LoadColumn};
use crate::names::Table;
use crate::session::Session;
use crate::transfer::Transfer;
use crate::types::{Marks, Wire, looks_like_type, widens};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema};
use fit::Fit;
use postgres_wire::quote_ident;
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{
    ConnectorError, NewColumnPolicy, NullabilityPolicy, RemovedColumnPolicy, StreamContext, TypeChangePolicy, WriteMode,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What is done to a batch before it is written. Batches of most loads are written as they are.
#[derive(Debug, Default)]
pub(crate) struct Conversion {
    /// Columns that are written, by their places; `None` = all.
    kept: Option<Vec<usize>>,
    /// Those that have changed their type, by their places among the kept ones.
    fits: Vec<(usize, Arc<Field>, Way)>,
}

/// A batch as it is written.
pub(crate) struct Converted<'a> {
    pub(crate) batch: Cow<'a, RecordBatch>,
    /// By row, the first value that does not fit; NULL stands in its place.
    pub(crate) misfits: BTreeMap<usize, EncodeFault>,
}

/// What becomes of the values of a column that has changed its type.
#[derive(Debug)]
enum Way {
    Fit(Fit),
    /// No value keeps what it says in the table's type: NULL takes its place.
    Nothing,
}

impl Conversion {
    /// The batch as it is written; the first row with a value that does not fit is an error.
    pub(crate) fn apply<'a>(&self, batch: &'a RecordBatch) -> Result<Cow<'a, RecordBatch>, EncodeFault> {
        let Converted { batch, misfits } = self.convert(batch)?;
        match misfits.into_iter().next() {
            None => Ok(batch),
            Some((_, fault)) => Err(fault),
        }
    }

    /// The batch as it is written, with the rows that can't be.
    pub(crate) fn convert<'a>(&self, batch: &'a RecordBatch) -> Result<Converted<'a>, EncodeFault> {
        let mut misfits = BTreeMap::new();
        if self.kept.is_none() && self.fits.is_empty() {
            return Ok(Converted { batch: Cow::Borrowed(batch), misfits });
        }
        let shape = |_| EncodeFault::Column(0);
        let kept = match &self.kept {
            Some(kept) => batch.project(kept).map_err(shape)?,
            None => batch.clone(),
        };
        let mut columns: Vec<ArrayRef> = kept.columns().to_vec();
        let mut fields = kept.schema().fields().to_vec();
        for (at, field, way) in &self.fits {
            let made = match way {
                Way::Fit(fit) => {
                    let mut rows = Vec::new();
                    let made = fit.apply(field, &columns[*at], &mut rows).ok_or(EncodeFault::Column(*at))?;
                    for row in rows {
                        misfits.entry(row).or_insert(EncodeFault::Cell { row, column: *at, fault: CellFault::DoesNotFit });
                    }
                    made
                }
                Way::Nothing => arrow_array::new_null_array(&DataType::Null, kept.num_rows()),
            };
            fields[*at] = Arc::new(Field::new(field.name(), made.data_type().clone(), true));
            columns[*at] = made;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept.num_rows()));
        let made = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(shape)?;
        Ok(Converted { batch: Cow::Owned(made), misfits })
    }
}

/// What the columns of a load are held against.
pub(crate) struct Ground<'a> {
    pub(crate) context: &'a StreamContext,
    pub(crate) target: &'a Table,
    pub(crate) relation: Option<&'a Relation>,
    /// Columns of the load's staging table.
    pub(crate) staging: Option<&'a Columns>,
}

/// Why columns can't go on.
pub(crate) struct Refusal {
    pub(crate) error: Box<ConnectorError>,
    /// They do not go with rows that the load has already: no attempt to go on with it would end in another way.
    pub(crate) within_load: bool,
}

impl From<ConnectorError> for Refusal {
    fn from(error: ConnectorError) -> Self {
        Self { error: Box::new(error), within_load: false }
    }
}

/// `format_type()` spells some types longer than SQL lets others write them.
fn spelled(sql: &str) -> &str {
    match sql {
        "timestamptz" => "timestamp with time zone",
        "timestamp" => "timestamp without time zone",
        "time" => "time without time zone",
        other => other,
    }
}

fn refusal(code: &str, message: String, hint: String) -> ConnectorError {
    ConnectorError::schema(code, message).with_hint(hint)
}

impl Ground<'_> {
    fn named(&self, name: &str) -> Option<&RelationColumn> {
        self.relation.and_then(|relation| relation.columns.iter().find(|known| known.name == name))
    }

    fn staged(&self, name: &str) -> Option<&LoadColumn> {
        self.staging.and_then(|columns| columns.iter().find(|known| known.name == name))
    }

    fn quoted(&self) -> Result<String, ConnectorError> {
        self.target.quoted()
    }

    /// Whether a column is one that the table, or the load so far, lacks.
    fn is_new(&self, name: &str) -> bool {
        if changes::is_own(name) {
            return false;
        }
        match (self.relation, self.staging) {
            (Some(_), _) => self.named(name).is_none(),
            (None, Some(_)) => self.staged(name).is_none(),
            (None, None) => false,
        }
    }

    fn new_column(&self, column: &LoadColumn) -> Result<ConnectorError, ConnectorError> {
        let name = quote_ident(&column.name)?;
        let earlier = match column.earlier {
            Earlier::Null => "",
            Earlier::Value(_) | Earlier::Untold => {
                ", and with the default that it came with at the source, if its earlier rows show one"
            }
        };
        Ok(refusal(
            "new_column",
            format!("column `{}` is new: `{}` does not have it", column.name, self.target),
            format!(
                "add it with: `ALTER TABLE {} ADD COLUMN {name} {}`{earlier}; or set `new_column: add` or `new_column: ignore` under \
                 `schema_evolution`",
                self.quoted()?,
                column.published
            ),
        ))
    }

    fn type_change(&self, name: &str, was: &str, is: &str, within_load: bool) -> Result<Refusal, ConnectorError> {
        if within_load {
            let error = refusal(
                "type_change",
                format!("column `{name}` was `{was}` and has become `{is}` while it was being loaded"),
                "run again: the next load takes the new type".to_owned(),
            );
            return Ok(Refusal { error: Box::new(error), within_load });
        }
        let column = quote_ident(name)?;
        let error = refusal(
            "type_mismatch",
            format!("column `{name}` of `{}` is `{was}`, the source's is `{is}`", self.target),
            format!("change it with: `ALTER TABLE {} ALTER COLUMN {column} TYPE {is} USING {column}::{is}`", self.quoted()?),
        );
        Ok(error.into())
    }

    /// Columns that the source lacks; those that the server fills by itself never came from it.
    pub(crate) fn removed<'s>(&'s self, names: &'s [&str]) -> impl Iterator<Item = &'s RelationColumn> {
        let known = self.relation.into_iter().flat_map(|relation| &relation.columns);
        let theirs = known.filter(|known| !known.generated && !known.has_default && !changes::is_own(&known.name));
        theirs.filter(move |known| names.iter().all(|name| *name != known.name))
    }

    /// Whether NULL may be put into a column where a value has no place in it.
    fn may_be_null(&self, column: &LoadColumn) -> bool {
        let known = self.named(&column.name);
        let key = known.is_some_and(|known| known.in_primary_key)
            || (self.context.write_mode == WriteMode::Upsert
                && (self.context.primary_key.contains(&column.name)
                    || (self.context.primary_key.is_empty() && column.key.is_some())));
        let bound = match known {
            Some(known) => known.not_null,
            None => self.staged(&column.name).is_some_and(|known| known.not_null),
        };
        let held = bound && self.context.policies.nullability_change == NullabilityPolicy::Fail;
        !key && !held
    }
}

/// Holds a layout against what is there, and gives it the way into it: columns that are left out, values that are converted.
pub(crate) fn settle(session: &mut Session, natural: &Layout, schema: &Schema, ground: &Ground<'_>) -> Result<Layout, Refusal> {
    let policies = &ground.context.policies;
    let mut settled = Layout { replaced: natural.replaced.clone(), ..Layout::default() };
    let mut kept = Vec::new();
    for (at, (column, codec)) in natural.columns.iter().zip(&natural.codecs).enumerate() {
        if ground.is_new(&column.name) {
            match policies.new_column {
                NewColumnPolicy::Add => {}
                NewColumnPolicy::Ignore => continue,
                NewColumnPolicy::Fail => {
                    let within_load = ground.relation.is_none();
                    return Err(Refusal { error: Box::new(ground.new_column(column)?), within_load });
                }
            }
        }
        let (mut column, mut codec) = (column.clone(), codec.clone());
        let field = &schema.fields()[at];
        if let Some(existing) = other_type(ground, &column) {
            let place = settled.columns.len();
            if let Some(way) = way(session, ground, field, &column, &existing)? {
                codec = way.codec();
                if matches!(way, Way::Nothing) {
                    host_ffi::log(
                        LogLevel::Warn,
                        "no value of the column has an exact place in the table's type, NULL takes their place",
                        &[("stream", &ground.context.name.to_string()), ("column", &column.name), ("type", existing.sql)],
                    );
                }
                column.not_null &= !way.may_be_null();
                settled.conversion.fits.push((place, Arc::clone(field), way));
                existing.sql.clone_into(&mut column.staged);
                existing.sql.clone_into(&mut column.published);
            }
        }
        if policies.nullability_change == NullabilityPolicy::Fail && !column.not_null {
            refuse_nullable(ground, &column)?;
        }
        kept.push(at);
        settled.columns.push(column);
        settled.codecs.push(codec);
    }
    if kept.len() != natural.columns.len() {
        settled.conversion.kept = Some(kept);
        settled.columns.iter_mut().for_each(|column| column.partial = true);
    }
    refuse_removed(ground, natural)?;
    Ok(settled)
}

impl Way {
    fn may_be_null(&self) -> bool {
        match self {
            Self::Fit(fit) => fit.or_null,
            Self::Nothing => true,
        }
    }

    fn codec(&self) -> Codec {
        match self {
            Self::Fit(fit) => fit.codec(),
            // NULL is the same in every form.
            Self::Nothing => Codec { wire: Wire::Text, postgres: true },
        }
    }
}

/// The type that is there for a column, if it is another one.
struct Existing<'a> {
    sql: &'a str,
    within_load: bool,
    /// The staging table has the values as text, and the table's type only when they are published.
    as_text: bool,
}

fn other_type<'a>(ground: &'a Ground<'_>, column: &LoadColumn) -> Option<Existing<'a>> {
    if let Some(known) = ground.staged(&column.name) {
        let same = spelled(&known.staged) == spelled(&column.staged) && spelled(&known.published) == spelled(&column.published);
        let as_text = known.staged != known.published;
        return (!same).then_some(Existing { sql: &known.published, within_load: true, as_text });
    }
    let known = ground.named(&column.name).filter(|known| !known.generated)?;
    let same = spelled(&known.sql_type) == spelled(&column.published);
    // What holds every value anyway takes it when the rows go into the table.
    let other = !same && !widens(spelled(&column.published), &known.sql_type);
    other.then_some(Existing { sql: &known.sql_type, within_load: false, as_text: false })
}

/// How values come into a column of another type; `None` if they are written as they are.
fn way(
    session: &mut Session,
    ground: &Ground<'_>,
    field: &Field,
    column: &LoadColumn,
    existing: &Existing<'_>,
) -> Result<Option<Way>, Refusal> {
    let policy = ground.context.policies.type_change;
    let lossless = widens(spelled(&column.published), spelled(existing.sql));
    let refuse = || -> Result<Refusal, ConnectorError> {
        ground.type_change(&column.name, existing.sql, &column.published, existing.within_load)
    };
    if policy == TypeChangePolicy::Fail && !lossless {
        return Err(refuse()?);
    }
    let pg_type = Marks::of(field).ok().and_then(|marks| marks.pg_type);
    let or_null = policy == TypeChangePolicy::Null && !lossless && ground.may_be_null(column);
    let labels = labels(session, existing.sql)?;
    let fit = if existing.as_text { None } else { Fit::new(field, pg_type, spelled(existing.sql), labels, or_null) };
    match fit {
        Some(fit) => Ok(Some(Way::Fit(fit))),
        None if or_null => Ok(Some(Way::Nothing)),
        None => {
            let mut refusal = refuse()?;
            refusal.error.message.push_str(", and there is no exact way from the one to the other");
            Err(refusal)
        }
    }
}

/// The labels of an enum of this server.
fn labels(session: &mut Session, sql: &str) -> Result<Option<HashSet<String>>, ConnectorError> {
    // Enums are never in `pg_catalog`, so their names have a schema.
    if !sql.contains('.') || !looks_like_type(sql) {
        return Ok(None);
    }
    let rows = session.query_params(
        "SELECT e.enumlabel FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = pg_catalog.to_regtype($1)",
        &[sql.into()],
    )?;
    let labels: HashSet<String> = rows.iter().filter_map(|row| row.get(0)).map(str::to_owned).collect();
    Ok((!labels.is_empty()).then_some(labels))
}

fn nullable_error(ground: &Ground<'_>, name: &str, what: &str) -> Result<ConnectorError, ConnectorError> {
    Ok(refusal(
        "nullability_change",
        format!("column `{name}` of `{}` is NOT NULL, and {what}", ground.target),
        format!(
            "let it be empty: `ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL`; or set `nullability_change: allow` under \
             `schema_evolution`",
            ground.quoted()?,
            quote_ident(name)?
        ),
    ))
}

fn refuse_nullable(ground: &Ground<'_>, column: &LoadColumn) -> Result<(), Refusal> {
    let bound = match (ground.named(&column.name), ground.relation, ground.staged(&column.name)) {
        // The server's own key keeps NULLs out, row by row.
        (Some(known), ..) => known.not_null && !known.in_primary_key && !known.generated,
        (None, None, Some(staged)) => staged.not_null,
        _ => false,
    };
    if !bound {
        return Ok(());
    }
    let error = nullable_error(ground, &column.name, "the source's may be empty")?;
    Err(Refusal { error: Box::new(error), within_load: ground.relation.is_none() })
}

fn refuse_removed(ground: &Ground<'_>, natural: &Layout) -> Result<(), Refusal> {
    let names: Vec<&str> = natural.columns.iter().map(|column| column.name.as_str()).collect();
    let policies = &ground.context.policies;
    if policies.removed_column == RemovedColumnPolicy::Fail {
        if let Some(gone) = ground.removed(&names).next() {
            return Err(removed_error(ground, &gone.name).into());
        }
        let gone = ground.staging.and_then(|columns| columns.iter().find(|known| !names.contains(&known.name.as_str())));
        if let Some(gone) = gone {
            return Err(Refusal { error: Box::new(removed_error(ground, &gone.name)), within_load: true });
        }
    }
    if policies.nullability_change == NullabilityPolicy::Fail {
        if let Some(gone) = ground.removed(&names).find(|known| known.not_null) {
            return Err(nullable_error(ground, &gone.name, "the source does not have it any more")?.into());
        }
        let bound = |known: &&LoadColumn| known.not_null && !names.contains(&known.name.as_str());
        if let Some(gone) = ground.staging.and_then(|columns| columns.iter().find(bound)) {
            let error = nullable_error(ground, &gone.name, "the source does not have it any more")?;
            return Err(Refusal { error: Box::new(error), within_load: true });
        }
    }
    Ok(())
}

fn removed_error(ground: &Ground<'_>, name: &str) -> ConnectorError {
    refusal(
        "removed_column",
        format!("column `{name}` of `{}` is gone from the source", ground.target),
        "set `removed_column: ignore` under `schema_evolution` to keep it as it is, or drop it at the destination".to_owned(),
    )
}

/// Brings the columns of the table that is there and the load's together: new columns are added, NOT NULL gives way to NULLs that
/// have come, as far as the policies say. What the policies do not let happen is an error.
pub(crate) fn evolve(session: &mut Session, transfer: &Transfer<'_>, relation: &Relation) -> Result<(), ConnectorError> {
    let Transfer { context, load, columns, target, .. } = *transfer;
    let ground = Ground { context, target, relation: Some(relation), staging: None };
    let policies = &context.policies;
    let staged = catalog::relation(session, &load.staging)?;
    for column in columns {
        let Some(known) = ground.named(&column.name) else {
            match if changes::is_own(&column.name) { NewColumnPolicy::Add } else { policies.new_column } {
                NewColumnPolicy::Add => added::add(session, target, column)?,
                NewColumnPolicy::Ignore => {}
                NewColumnPolicy::Fail => return Err(ground.new_column(column)?),
            }
            continue;
        };
        if known.generated {
            refuse_computed(target, column)?;
            continue;
        }
        // The server's own spelling of the staged type, since the target's is the server's too.
        let spelled = staged.as_ref().and_then(|staged| staged.columns.iter().find(|of| of.name == column.name));
        let coming = match spelled {
            Some(of) if column.staged == column.published => of.sql_type.as_str(),
            _ => column.published.as_str(),
        };
        if known.sql_type != coming && !widens(coming, &known.sql_type) {
            return Err(*ground.type_change(&column.name, &known.sql_type, coming, false)?.error);
        }
        if known.not_null && !known.in_primary_key && !column.not_null {
            if policies.nullability_change == NullabilityPolicy::Fail {
                return Err(nullable_error(&ground, &column.name, "the source's may be empty")?);
            }
            loosen(session, transfer, known, &changes::nulls(context, staged.as_ref(), &column.name)?)?;
        }
    }
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    for gone in ground.removed(&names) {
        if policies.removed_column == RemovedColumnPolicy::Fail {
            return Err(removed_error(&ground, &gone.name));
        }
        if !gone.not_null {
            continue;
        }
        if gone.in_primary_key {
            return Err(refusal(
                "missing_column",
                format!("column `{}` of `{target}` is part of its primary key, and the source does not have it", gone.name),
                "read the column, or give the table another key".to_owned(),
            ));
        }
        if policies.nullability_change == NullabilityPolicy::Fail {
            return Err(nullable_error(&ground, &gone.name, "the source does not have it any more")?);
        }
        loosen(session, transfer, gone, "true")?;
    }
    Ok(())
}

/// Drops NOT NULL if rows of the load need it.
fn loosen(session: &mut Session, transfer: &Transfer<'_>, known: &RelationColumn, rows: &str) -> Result<(), ConnectorError> {
    let sql = format!("SELECT EXISTS (SELECT FROM {} WHERE {rows})", transfer.load.staging.quoted()?);
    if session.query(&sql)?.first().and_then(|row| row.get(0)) == Some("t") {
        let (quoted, name) = (transfer.target.quoted()?, quote_ident(&known.name)?);
        session.run(&format!("ALTER TABLE {quoted} ALTER COLUMN {name} DROP NOT NULL"))?;
    }
    Ok(())
}

fn refuse_computed(target: &Table, column: &LoadColumn) -> Result<(), ConnectorError> {
    if column.generated {
        return Ok(());
    }
    let (quoted, name) = (target.quoted()?, quote_ident(&column.name)?);
    Err(refusal(
        "generated_column",
        format!("column `{}` of `{target}` is computed by the server", column.name),
        format!("leave it out with `columns:`, or make it a plain one: `ALTER TABLE {quoted} ALTER COLUMN {name} DROP EXPRESSION`"),
    ))
}
