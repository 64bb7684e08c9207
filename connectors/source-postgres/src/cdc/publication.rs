//! The publication: which tables' changes the server sends.

use super::config::{Names, Plugin};
use crate::catalog::Relation;
use postgres_wire::{Connection, Error, quote_ident, quote_literal, quote_qualified};
use rapidbyte_sdk::host_ffi::{self, LogLevel};
use rapidbyte_sdk::{ConnectorError, ErrorCategory};
use std::collections::BTreeSet;

/// Publications that send partitions' changes as those of their root came with it.
const VIA_ROOT: u32 = 130_000;
/// The comment that tells our publications from those of other people.
const COMMENT: &str = "made by Rapidbyte, removed by `rapidbyte teardown`";

/// A publication as the catalog shows it.
#[derive(Debug, Clone)]
pub(crate) struct Publication {
    oid: u32,
    /// Whether it sends inserts, updates, deletes and truncates.
    whole: bool,
    via_root: bool,
    ours: bool,
}

/// Columns that tell rows apart in the log, for one table or leaf of a partitioned one.
#[derive(Debug)]
struct Identity {
    kind: char,
    table: String,
    key: Vec<String>,
}

/// The table as statements about publications name it.
fn member(relation: &Relation) -> Result<String, ConnectorError> {
    member_of(relation.kind, &relation.schema, &relation.name)
}

/// The same by `pg_class.relkind` and name.
fn member_of(kind: char, schema: &str, name: &str) -> Result<String, ConnectorError> {
    // Rows of tables that inherit are those tables' own streams. Without the word they would leave a publication with their parent.
    let only = if kind == 'r' { "ONLY " } else { "" };
    Ok(format!("{only}{}", quote_qualified(schema, name)?))
}

impl Publication {
    pub(crate) fn find(connection: &mut Connection, name: &str) -> Result<Option<Self>, ConnectorError> {
        let rows = connection.query_params(
            "SELECT p.oid, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
                    coalesce((to_jsonb(p) ->> 'pubviaroot')::bool, false), coalesce(obj_description(p.oid, 'pg_publication') = $2, false)
             FROM pg_publication p WHERE p.pubname = $1",
            &[name.into(), COMMENT.into()],
        )?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Self { oid: row.parse(0)?.unwrap_or_default(), whole: row.flag(1)?, via_root: row.flag(2)?, ours: row.flag(3)? }))
    }

    /// Whether it sends all of a table.
    pub(crate) fn covers(&self, connection: &mut Connection, name: &str, relation: &Relation) -> Result<bool, ConnectorError> {
        let quoted = quote_ident(name)?;
        let refuse = |what: &str, fix: String| {
            Err(ConnectorError::config("publication", format!("publication `{name}` {what}"))
                .with_hint(format!("run at the source: `{fix}`")))
        };
        if !self.whole {
            return refuse(
                "leaves out some kinds of changes",
                format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate')"),
            );
        }
        if relation.kind == 'p' && !self.via_root {
            return refuse(
                &format!("sends changes of `{}` as those of its partitions", relation.label()),
                format!("ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true)"),
            );
        }
        self.refuse_under_root(connection, name, relation)?;
        let filters = connection.query_params(
            "SELECT FROM pg_publication_rel r WHERE r.prpubid = $1::oid AND r.prrelid = $2::oid
             AND (to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL)",
            &[self.oid.to_string().into(), relation.oid.to_string().into()],
        )?;
        if !filters.is_empty() {
            let table = member(relation)?;
            return refuse(
                &format!("leaves out some rows or columns of `{}`", relation.label()),
                format!("ALTER PUBLICATION {quoted} DROP TABLE {table}; ALTER PUBLICATION {quoted} ADD TABLE {table}"),
            );
        }
        let rows = connection.query_params(
            "SELECT FROM pg_publication_tables t WHERE t.pubname = $1 AND t.schemaname = $2 AND t.tablename = $3",
            &[name.into(), (&relation.schema).into(), (&relation.name).into()],
        )?;
        Ok(!rows.is_empty())
    }

    /// Refuses a partition whose changes come as those of a table above it.
    fn refuse_under_root(&self, connection: &mut Connection, name: &str, relation: &Relation) -> Result<(), ConnectorError> {
        if !self.via_root {
            return Ok(());
        }
        let rows = connection.query_params(
            "SELECT n.nspname, c.relname, EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = $3::oid AND r.prrelid = c.oid)
             FROM pg_partition_ancestors($1::oid::regclass) a JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid <> $1::oid AND (SELECT count(*) FROM pg_publication_tables t
                 WHERE t.pubname = $2 AND t.schemaname = n.nspname AND t.tablename = c.relname) > 0 LIMIT 1",
            &[relation.oid.to_string().into(), name.into(), self.oid.to_string().into()],
        )?;
        let Some(row) = rows.first() else { return Ok(()) };
        let (root, named) = (format!("{}.{}", row.text(0)?, row.text(1)?), row.flag(2)?);
        let quoted = quote_ident(name)?;
        let mend = match named {
            true => format!("ALTER PUBLICATION {quoted} DROP TABLE {}", member_of('p', row.text(0)?, row.text(1)?)?),
            false => format!("ALTER PUBLICATION {quoted} SET (publish_via_partition_root = false)"),
        };
        let message = format!(
            "publication `{name}` sends changes of `{}` as those of `{root}`, of which it is a partition",
            relation.label()
        );
        Err(ConnectorError::config("publication", message)
            .with_hint(format!("name `{root}` as a stream instead; or keep to its partitions, and run at the source: `{mend}`")))
    }
}

/// Refuses a table of which the rows of another stream are a part: their changes come once, as those of the outermost.
pub(crate) fn refuse_nested(connection: &mut Connection, relation: &Relation, others: &[u32]) -> Result<(), ConnectorError> {
    if others.is_empty() {
        return Ok(());
    }
    let list = others.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let rows = connection.query_params(
        "SELECT n.nspname || '.' || c.relname, a.relid IS NOT NULL FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_partition_ancestors($1::oid::regclass) a ON a.relid = c.oid
         WHERE c.oid = ANY ($2::oid[]) AND c.oid <> $1::oid
         AND (a.relid IS NOT NULL OR c.oid IN (SELECT p.relid FROM pg_partition_tree($1::oid::regclass) p)) ORDER BY 1 LIMIT 1",
        &[relation.oid.to_string().into(), format!("{{{list}}}").into()],
    )?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (this, other) = (relation.label(), row.text(0)?.to_owned());
    let (root, part) = if row.flag(1)? { (other, this) } else { (this, other) };
    let message =
        format!("`{part}` is a partition of `{root}`, and both are streams: its changes would come as those of `{root}` only");
    Err(ConnectorError::config("nested_streams", message)
        .with_hint(format!("leave `{part}` out, whose rows come with `{root}`; or name partitions only")))
}

/// The statement that lets a publication send tables.
pub(crate) fn creation(connection: &Connection, name: &str, tables: &[&Relation]) -> Result<String, ConnectorError> {
    let members: Vec<String> = tables.iter().map(|table| member(table)).collect::<Result<_, _>>()?;
    let options = if connection.server_version() >= VIA_ROOT { " WITH (publish_via_partition_root = true)" } else { "" };
    Ok(format!("CREATE PUBLICATION {} FOR TABLE {}{options}", quote_ident(name)?, members.join(", ")))
}

/// Refuses a table that the plugin does not tell by its name.
pub(crate) fn check_plugin(names: &Names, relation: &Relation) -> Result<(), ConnectorError> {
    if names.plugin != Plugin::TestDecoding || relation.kind != 'p' {
        return Ok(());
    }
    let message = format!("`{}` is partitioned, and `test_decoding` tells the changes of its partitions", relation.label());
    Err(ConnectorError::config("unsupported_table", message).with_hint("name the partitions as streams, or use `plugin: pgoutput`"))
}

/// Whether the log sends the table.
pub(crate) fn sends(connection: &mut Connection, names: &Names, relation: &Relation) -> Result<bool, ConnectorError> {
    if names.plugin == Plugin::TestDecoding {
        return Ok(true);
    }
    match Publication::find(connection, &names.publication)? {
        Some(found) => found.covers(connection, &names.publication, relation),
        None => Ok(false),
    }
}

/// The tables that the publication sends; `None` = the log tells all tables.
pub(crate) fn sent(connection: &mut Connection, names: &Names) -> Result<Option<BTreeSet<u32>>, ConnectorError> {
    if names.plugin == Plugin::TestDecoding {
        return Ok(None);
    }
    let rows = connection.query_params(
        "SELECT c.oid FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename WHERE t.pubname = $1",
        &[names.publication.as_str().into()],
    )?;
    rows.iter().map(|row| Ok(row.parse(0)?.unwrap_or_default())).collect::<Result<_, ConnectorError>>().map(Some)
}

/// Lets the log send the table; says whether it did already.
pub(crate) fn ensure(connection: &mut Connection, names: &Names, relation: &Relation) -> Result<bool, ConnectorError> {
    check_identity(connection, relation)?;
    check_plugin(names, relation)?;
    if names.plugin == Plugin::TestDecoding {
        return Ok(true);
    }
    let name = &names.publication;
    let quoted = quote_ident(name)?;
    let (sql, what) = match Publication::find(connection, name)? {
        Some(found) if found.covers(connection, name, relation)? => return Ok(true),
        Some(_) => (format!("ALTER PUBLICATION {quoted} ADD TABLE {}", member(relation)?), "added a table to the publication"),
        None => {
            let create = creation(connection, name, &[relation])?;
            (format!("{create}; COMMENT ON PUBLICATION {quoted} IS {}", quote_literal(COMMENT)?), "made the publication")
        }
    };
    host_ffi::mark("source.publication.before_change");
    connection.batch_execute(&sql).map_err(|error| explain(error, name, &sql))?;
    host_ffi::mark("source.publication.changed");
    host_ffi::log(LogLevel::Info, what, &[("publication", name), ("table", &relation.label())]);
    Ok(false)
}

fn explain(error: Error, name: &str, sql: &str) -> ConnectorError {
    if error.sqlstate() != Some("42501") {
        return error.into();
    }
    let statement = sql.split("; COMMENT").next().unwrap_or(sql);
    let message = format!(
        "the user may not change publication `{name}`: that takes the right to create in the database, and to own the tables"
    );
    ConnectorError::new(ErrorCategory::Permission, "permission_denied", message)
        .with_hint(format!("as the tables' owner run: `{statement}`"))
}

/// Refuses a table whose updates and deletes the server would refuse once the table is published: the application would fail.
pub(crate) fn check_identity(connection: &mut Connection, relation: &Relation) -> Result<Vec<String>, ConnectorError> {
    if !matches!(relation.kind, 'r' | 'p') {
        let message = format!("`{}` is a {}, and the log tells changes of tables only", relation.label(), relation.kind_word());
        return Err(ConnectorError::config("not_a_table", message).with_hint("use `sync_mode: full_refresh` for it"));
    }
    if relation.kind == 'p' && connection.server_version() < VIA_ROOT {
        return Err(ConnectorError::config("server_version", "changes of partitioned tables need PostgreSQL 13 or newer")
            .with_hint("name the partitions as streams"));
    }
    let rows = connection.query_params(
        "SELECT c.relreplident, n.nspname, c.relname,
                (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_index i
                 JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                 WHERE i.indrelid = c.oid AND i.indimmediate AND i.indisvalid
                 AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END),
                c.relpersistence
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = $1::oid OR c.oid IN (SELECT p.relid FROM pg_partition_tree($1::oid::regclass) p WHERE p.isleaf) ORDER BY 2, 3",
        &[relation.oid.to_string().into()],
    )?;
    let mut narrowest: Option<BTreeSet<String>> = None;
    for row in &rows {
        let table = quote_qualified(row.text(1)?, row.text(2)?)?;
        if row.text(4)? != "p" {
            return Err(ConnectorError::config(
                "not_logged",
                format!("the log does not tell changes of the unlogged table {table}"),
            )
            .with_hint(format!("run at the source: `ALTER TABLE {table} SET LOGGED`")));
        }
        let key = row.get(3).map(|text| serde_json::from_str::<Vec<String>>(text).unwrap_or_default()).unwrap_or_default();
        let identity = Identity { kind: row.text(0)?.chars().next().unwrap_or('n'), table, key };
        identity.check()?;
        if identity.kind != 'f' {
            let key: BTreeSet<String> = identity.key.into_iter().collect();
            narrowest = Some(narrowest.map_or(key.clone(), |before| before.intersection(&key).cloned().collect()));
        }
    }
    Ok(narrowest.map(|names| names.into_iter().collect()).unwrap_or_default())
}

impl Identity {
    fn check(&self) -> Result<(), ConnectorError> {
        let table = &self.table;
        let message = match self.kind {
            'f' => return Ok(()),
            'd' | 'i' if !self.key.is_empty() => return Ok(()),
            'd' => format!("table {table} has no primary key that is always checked at once, and no other replica identity"),
            'i' => format!("the index that was the replica identity of table {table} is gone"),
            _ => format!("table {table} has REPLICA IDENTITY NOTHING"),
        };
        let message = format!("{message}: once its changes are published, the server refuses its updates and deletes");
        let mend = format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
        let hint = match self.kind {
            'd' => format!("run at the source: `{mend}`, or give it a primary key that is not DEFERRABLE"),
            _ => format!("run at the source: `{mend}`, or `ALTER TABLE {table} REPLICA IDENTITY DEFAULT` if it has a primary key"),
        };
        Err(ConnectorError::config("replica_identity", message).with_hint(hint))
    }
}

/// Lets tables that are no streams any more leave the pipeline's own publication.
pub(crate) fn keep_only(connection: &mut Connection, names: &Names, oids: &[u32]) -> Result<(), ConnectorError> {
    if names.plugin == Plugin::TestDecoding {
        return Ok(());
    }
    let Some(found) = Publication::find(connection, &names.publication)? else { return Ok(()) };
    if !names.own_publication || !found.ours {
        return Ok(());
    }
    let rows = connection.query_params(
        "SELECT r.prrelid, n.nspname, c.relname, c.relkind FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = $1::oid",
        &[found.oid.to_string().into()],
    )?;
    for row in rows {
        if oids.contains(&row.parse(0)?.unwrap_or_default()) {
            continue;
        }
        let table = member_of(row.text(3)?.chars().next().unwrap_or('r'), row.text(1)?, row.text(2)?)?;
        let sql = format!("ALTER PUBLICATION {} DROP TABLE {table}", quote_ident(&names.publication)?);
        connection.batch_execute(&sql).map_err(|error| explain(error, &names.publication, &sql))?;
        host_ffi::log(
            LogLevel::Info,
            "took a table out of the publication",
            &[("publication", &names.publication), ("table", &table)],
        );
    }
    Ok(())
}

/// Removes the publication if it is ours.
pub(crate) fn drop(connection: &mut Connection, names: &Names) -> Result<(), ConnectorError> {
    if names.plugin == Plugin::TestDecoding {
        return Ok(());
    }
    match Publication::find(connection, &names.publication)? {
        Some(found) if found.ours => {
            let sql = format!("DROP PUBLICATION {}", quote_ident(&names.publication)?);
            connection.batch_execute(&sql).map_err(|error| explain(error, &names.publication, &sql))
        }
        Some(_) => {
            let fields = [("publication", names.publication.as_str())];
            host_ffi::log(LogLevel::Info, "left a publication alone that somebody else has made", &fields);
            Ok(())
        }
        None => Ok(()),
    }
}
