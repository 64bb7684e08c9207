//! The way of a load's rows out of their staging table.

use crate::ledger::{Columns, Load};
use crate::names::Table;
use rapidbyte_sdk::StreamContext;

/// What is moved where: the rows of a load's staging table, into the table they are for.
#[derive(Clone, Copy)]
pub(crate) struct Transfer<'a> {
    pub(crate) context: &'a StreamContext,
    pub(crate) load: &'a Load,
    /// Those of the load, in order.
    pub(crate) columns: &'a Columns,
    /// The table they are for; it need not be there.
    pub(crate) target: &'a Table,
    /// What rows are merged by, and a table that is made gets as its primary key; empty where there is none.
    pub(crate) key: &'a [String],
}
