//! Which table a stream means, and under which name the ledger knows it.

use postgres_wire::quote_qualified;
use rapidbyte_sdk::{ConnectorError, StreamContext};
use std::fmt;

/// The schema with receipts and staging tables.
pub(crate) const LEDGER: &str = "_rapidbyte";

/// Columns and tables with this prefix belong to the protocol.
const RESERVED_PREFIX: &str = "_rb_";

/// A table, by its exact name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl Table {
    /// A table of the ledger's schema.
    pub(crate) fn staging(name: impl Into<String>) -> Self {
        Self { schema: LEDGER.to_owned(), name: name.into() }
    }

    /// The name as SQL.
    pub(crate) fn quoted(&self) -> Result<String, ConnectorError> {
        quote_qualified(&self.schema, &self.name)
    }

    /// The name as SQL where its rows are read, changed or deleted; `kind` is its [`crate::catalog::KIND`]. Without `ONLY` the rows of
    /// tables that inherit from it would be meant too, which are theirs. A partitioned table has no rows but those of its partitions.
    pub(crate) fn own_rows(&self, kind: char) -> Result<String, ConnectorError> {
        let quoted = self.quoted()?;
        Ok(if kind == 'r' { format!("ONLY {quoted}") } else { quoted })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// How the ledger names a stream: by its name at the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamKey {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl StreamKey {
    pub(crate) fn of(context: &StreamContext) -> Self {
        Self { namespace: context.name.namespace.clone().unwrap_or_default(), name: context.name.name.clone() }
    }
}

/// The table of a stream. The source's namespace is not a schema here: tables go into the configured one, unless the
/// stream's target names another.
pub(crate) fn target_of(context: &StreamContext, schema: &str) -> Result<Table, ConnectorError> {
    let named = context.target.namespace.as_ref().filter(|_| context.target.namespace != context.name.namespace);
    let table = Table { schema: named.map_or(schema, String::as_str).to_owned(), name: context.target.name.clone() };
    table.quoted().map_err(|error| {
        error.with_hint(format!("name another table with `destination: {{ table: … }}` on the stream `{}`", context.name))
    })?;
    if table.schema == LEDGER || table.schema == "information_schema" || table.schema.starts_with("pg_") {
        return Err(ConnectorError::config("reserved_schema", format!("the schema `{}` is not for tables of users", table.schema))
            .with_hint("set `schema` to another one"));
    }
    if table.name.starts_with(RESERVED_PREFIX) {
        return Err(ConnectorError::config(
            "reserved_table",
            format!("table names that begin with `{RESERVED_PREFIX}` are reserved"),
        )
        .with_hint(format!("name another table with `destination: {{ table: … }}` on the stream `{}`", context.name)));
    }
    Ok(table)
}

/// Refuses a column that this protocol or the server would take for something else.
pub(crate) fn check_column(name: &str) -> Result<(), ConnectorError> {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(ConnectorError::schema(
            "reserved_column",
            format!("column `{name}` begins with `{RESERVED_PREFIX}`, which is reserved"),
        )
        .with_hint("rename the column, or leave it out with `columns:`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_sdk::StreamName;

    #[test]
    fn the_configured_schema_holds_unless_the_target_names_one() {
        let mut context = StreamContext::full_refresh(StreamName::qualified("public", "users"));
        assert_eq!(target_of(&context, "raw").unwrap().to_string(), "raw.users");
        context.target = StreamName::qualified("sales", "people");
        assert_eq!(target_of(&context, "raw").unwrap().to_string(), "sales.people");
    }

    #[test]
    fn names_the_server_would_change_are_refused() {
        let refused = |name: &str, schema: &str| target_of(&StreamContext::full_refresh(StreamName::new(name)), schema).is_err();
        assert!(!refused(&"x".repeat(63), "s"));
        assert!(refused(&"x".repeat(64), "s"));
        assert!(refused("", "s"));
        assert!(refused("a\0b", "s"));
        assert!(refused("t", "_rapidbyte"));
        assert!(refused("t", "pg_catalog"));
        assert!(refused("_rb_load_1_1", "s"));
    }
}
