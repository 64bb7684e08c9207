//! A batch held to a contract.

use super::bind::{Bound, Column};
use super::rule::Rule;
use super::weight::fits;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use rapidbyte_config::contract::OnViolation;
use rapidbyte_types::arrow::letter::{self, LetterCount, RowText};
use rapidbyte_types::arrow::split;
use rapidbyte_types::arrow::text::ColumnText;
use rapidbyte_types::{ConnectorError, DeadLetter, ErrorCategory, ErrorScope};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

/// Violations that a message names at most.
const MAX_NAMED: usize = 20;

/// Where a batch stands, for errors.
pub(super) struct Place<'a> {
    pub(super) partition: &'a str,
    /// Rows of the partition that came before it in this run.
    pub(super) rows_before: u64,
}

/// Makes dead letters of the rows that are left out.
pub(super) struct Letters<'a> {
    pub(super) stream: u32,
    pub(super) max_record_bytes: usize,
    pub(super) count: &'a mut LetterCount,
    pub(super) made: Vec<DeadLetter>,
}

/// What has become of a batch.
#[derive(Debug)]
pub(super) struct Applied {
    /// The rows that pass; `None` if the batch goes on as it came.
    pub(super) batch: Option<RecordBatch>,
    pub(super) discarded: u64,
}

/// What a row breaks, by the places of columns.
type Broken = BTreeMap<usize, Vec<(usize, Rule)>>;

impl Bound {
    /// Casts, checks, and leaves out.
    ///
    /// # Errors
    /// For the first violation whose policy is to fail, also in a row that another rule leaves out.
    pub(super) fn apply(
        &self,
        batch: &RecordBatch,
        place: &Place<'_>,
        letters: Option<&mut Letters<'_>>,
    ) -> Result<Applied, ConnectorError> {
        let rows = batch.num_rows();
        let (mut broken, mut misfits, mut nulled) = (Broken::new(), HashMap::new(), false);
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (at, column) in self.columns.iter().enumerate() {
            let Some(source) = batch.columns().get(column.source) else { return Err(other_shape()) };
            let (mut array, misfit) = match &column.cast {
                None => (source.clone(), Vec::new()),
                Some(cast) => {
                    let casted = cast.apply(source)?;
                    (casted.array, casted.misfits)
                }
            };
            let hits = hits(column, &array, &misfit)?;
            match column.policy {
                _ if hits.is_empty() => {}
                OnViolation::Fail | OnViolation::Coerce => return Err(self.violation(column, hits[0], place)),
                OnViolation::DiscardRow => {
                    for (row, rule) in hits {
                        broken.entry(row).or_default().push((at, rule));
                    }
                }
                OnViolation::DiscardColumn => {
                    let mut mask = vec![false; rows];
                    hits.iter().for_each(|(row, _)| mask[*row] = true);
                    array = arrow_select::nullif::nullif(&array, &BooleanArray::from(mask)).map_err(|_| other_shape())?;
                    nulled = true;
                }
            }
            if misfit.contains(&true) {
                misfits.insert(at, misfit);
            }
            arrays.push(array);
        }
        if broken.is_empty() && !nulled && self.unchanged {
            return Ok(Applied { batch: None, discarded: 0 });
        }
        if let (false, Some(letters)) = (broken.is_empty(), letters) {
            self.write(batch, &arrays, &broken, &misfits, letters)?;
        }
        if !broken.is_empty() {
            let keep: BooleanArray = (0..rows).map(|row| Some(!broken.contains_key(&row))).collect();
            let filter = arrow_select::filter::FilterBuilder::new(&keep).optimize().build();
            arrays = arrays.iter().map(|array| filter.filter(array)).collect::<Result<_, _>>().map_err(|_| other_shape())?;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows - broken.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|_| other_shape())?;
        Ok(Applied { batch: Some(batch), discarded: broken.len() as u64 })
    }

    fn violation(&self, column: &Column, (row, rule): (usize, Rule), place: &Place<'_>) -> ConnectorError {
        let name = column.field.name();
        let mut message = format!(
            "row {} breaks the contract: column `{name}`, rule `{}`; counted from 1 in what this run has read of partition `{}`",
            place.rows_before + row as u64 + 1,
            rule.as_str(),
            place.partition
        );
        if !self.key.is_empty() {
            let key: Vec<String> = self.key.iter().map(|name| format!("`{name}`")).collect();
            // Writing to a string does not fail.
            let _ = write!(message, "; its key is {}", key.join(", "));
        }
        ConnectorError::data("contract_violation", message)
            .with_scope(ErrorScope::Record)
            .with_hint(format!("mend the row at the source, or give column `{name}` of the contract `on_violation: discard_row`"))
    }

    /// Rows as they would have gone on, with the values that could not be cast as they came.
    fn write(
        &self,
        batch: &RecordBatch,
        arrays: &[ArrayRef],
        broken: &Broken,
        misfits: &HashMap<usize, Vec<bool>>,
        letters: &mut Letters<'_>,
    ) -> Result<(), ConnectorError> {
        let texts = RowText::of(self.schema.fields(), arrays)?;
        let mut originals = HashMap::new();
        for at in misfits.keys() {
            let column = &self.columns[*at];
            originals.insert(*at, ColumnText::new(&column.from, batch.column(column.source))?);
        }
        for (row, rules) in broken {
            if !fits(batch, *row, letters.max_record_bytes) {
                let message = format!(
                    "a row that breaks the contract is larger than `max_record_bytes` ({}), too large for a dead letter",
                    letters.max_record_bytes
                );
                return Err(ConnectorError::data("record_too_large", message).with_hint("raise `resources.max_record_bytes`"));
            }
            let record = texts.json_with(*row, |at| {
                if !misfits.get(&at).and_then(|rows| rows.get(*row)).copied().unwrap_or(false) {
                    return None;
                }
                let mut text = String::new();
                originals.get(&at)?.write(*row, &mut text);
                Some(text)
            });
            let named: Vec<String> = rules
                .iter()
                .take(MAX_NAMED)
                .map(|(at, rule)| format!("`{}` (`{}`)", self.columns[*at].field.name(), rule.as_str()))
                .collect();
            let more = if rules.len() > MAX_NAMED { ", …" } else { "" };
            let message = format!("the row breaks the contract: {}{more}", named.join(", "));
            let letter = letter::letter(letters.stream, record, &message, ErrorCategory::Data);
            letters.count.add(&letter)?;
            letters.made.push(letter);
        }
        Ok(())
    }
}

fn other_shape() -> ConnectorError {
    ConnectorError::internal("contract_batch", "a batch is not of its schema")
}

/// Rows that break a rule, each with the first one, in order.
fn hits(column: &Column, array: &ArrayRef, misfit: &[bool]) -> Result<Vec<(usize, Rule)>, ConnectorError> {
    let nulls = array.logical_nulls();
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    let misfits = |row: usize| misfit.get(row).copied().unwrap_or(false);
    let mut first: Vec<Option<Rule>> = vec![None; array.len()];
    let mut hit = |row: usize, rule: Rule| {
        first[row].get_or_insert(rule);
    };
    (0..array.len()).filter(|row| misfits(*row)).for_each(|row| hit(row, Rule::Type));
    if let (Some(rule), Some(_)) = (column.no_nulls, &nulls) {
        (0..array.len()).filter(|row| is_null(*row)).for_each(|row| hit(row, rule));
    }
    for (rule, test) in &column.tests {
        let parts = if split::is_split(&column.field) { split::parts(array.as_ref()) } else { None };
        let verdicts = test.broken(parts.as_ref().map_or(array, |parts| parts.value))?;
        let breaks = |row: usize| match &parts {
            Some(parts) if parts.value.is_null(row) => test.breaks_beyond(),
            _ => verdicts.get(row).copied().unwrap_or(false),
        };
        (0..array.len()).filter(|row| !is_null(*row) && breaks(*row)).for_each(|row| hit(row, *rule));
    }
    Ok(first.into_iter().enumerate().filter_map(|(row, rule)| Some((row, rule?))).collect())
}

#[cfg(test)]
mod tests;
