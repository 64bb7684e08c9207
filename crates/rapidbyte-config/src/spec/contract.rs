//! A stream's contract as written.

use super::Marked;
use super::reader::Table;
use crate::contract::{OnViolation, OtherColumns};
use crate::error::{ConfigError, Mark};

/// `contract`.
#[derive(Debug, Clone, PartialEq)]
pub struct ContractSpec {
    /// Where it begins.
    pub mark: Mark,
    /// `on_violation`.
    pub on_violation: Option<Marked<OnViolation>>,
    /// `other_columns`.
    pub other_columns: Option<Marked<OtherColumns>>,
    /// `columns`, in the document's order.
    pub columns: Vec<ColumnSpec>,
}

/// One of `contract.columns`.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSpec {
    /// Where the column's rules begin.
    pub mark: Mark,
    /// Its name.
    pub name: String,
    /// `on_violation`.
    pub on_violation: Option<Marked<OnViolation>>,
    /// `required`.
    pub required: Option<Marked<bool>>,
    /// `type`.
    pub data_type: Option<Marked<String>>,
    /// `nullable`.
    pub nullable: Option<Marked<bool>>,
    /// `not_null`.
    pub not_null: Option<Marked<bool>>,
    /// `range`.
    pub range: Option<RangeSpec>,
    /// `regex`.
    pub regex: Option<Marked<String>>,
    /// `one_of`.
    pub one_of: Option<Marked<Vec<String>>>,
}

/// `range`.
#[derive(Debug, Clone, PartialEq)]
pub struct RangeSpec {
    /// Where it begins.
    pub mark: Mark,
    /// `min`.
    pub min: Option<Marked<String>>,
    /// `max`.
    pub max: Option<Marked<String>>,
}

const ON_VIOLATION: &[(&str, OnViolation)] = &[
    ("fail", OnViolation::Fail),
    ("coerce", OnViolation::Coerce),
    ("discard_row", OnViolation::DiscardRow),
    ("discard_column", OnViolation::DiscardColumn),
];

const OTHER_COLUMNS: &[(&str, OtherColumns)] =
    &[("allow", OtherColumns::Allow), ("fail", OtherColumns::Fail), ("discard_column", OtherColumns::DiscardColumn)];

pub(super) fn read(table: &Table<'_>) -> Result<ContractSpec, ConfigError> {
    Ok(ContractSpec {
        mark: table.mark(),
        on_violation: table.word_as("on_violation", ON_VIOLATION)?,
        other_columns: table.word_as("other_columns", OTHER_COLUMNS)?,
        columns: table.named_objects("columns")?.into_iter().map(|(name, table)| column(name, &table)).collect::<Result<_, _>>()?,
    })
}

fn column(name: String, table: &Table<'_>) -> Result<ColumnSpec, ConfigError> {
    let range = |table: Table<'_>| -> Result<RangeSpec, ConfigError> {
        Ok(RangeSpec { mark: table.mark(), min: table.scalar("min")?, max: table.scalar("max")? })
    };
    Ok(ColumnSpec {
        mark: table.mark(),
        name,
        on_violation: table.word_as("on_violation", ON_VIOLATION)?,
        required: table.flag("required")?,
        data_type: table.text("type")?,
        nullable: table.flag("nullable")?,
        not_null: table.flag("not_null")?,
        range: table.object("range")?.map(range).transpose()?,
        regex: table.text("regex")?,
        one_of: table.scalar_list("one_of")?,
    })
}
