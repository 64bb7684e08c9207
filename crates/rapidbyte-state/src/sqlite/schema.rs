//! The tables, as numbered migrations. A released migration never changes.

use crate::error::{ErrorKind, StateError};
use rusqlite::{Connection, TransactionBehavior};

/// "RByt", in the header of every file of ours.
pub(super) const APPLICATION_ID: u32 = 0x5242_7974;

// Tables that progress depends on have a count and a sum of their rows' checksums in `ledger`, kept by triggers: a row lost
// from one of these must be noticed.
const MIGRATIONS: &[&str] = &[
    concat!(include_str!("migrations/0001_tables.sql"), include_str!("migrations/0001_ledger.sql")),
    include_str!("migrations/0002_resets.sql"),
    include_str!("migrations/0003_replays.sql"),
];

/// The first version with the table `resets`.
pub(super) const WITH_RESETS: u32 = 2;

/// The version this build writes.
pub(super) fn latest() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("a handful of migrations")
}

/// Brings a database from whatever version it has to the newest, one transaction per step.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), StateError> {
    migrate_to(connection, latest())
}

fn migrate_to(connection: &mut Connection, target: u32) -> Result<(), StateError> {
    loop {
        // Immediate: the version is read under the write lock, so two processes don't both take the same step.
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version = version(&step)?;
        if version >= target {
            return Ok(());
        }
        let sql = MIGRATIONS[version as usize];
        step.execute_batch(sql)?;
        if version == 0 {
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
}

/// The version a database says it has.
pub(super) fn version(connection: &Connection) -> Result<u32, StateError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// Refuses a database whose tables are not exactly those of its version.
pub(super) fn verify(connection: &Connection, version: u32) -> Result<(), StateError> {
    let mut reference = Connection::open_in_memory()?;
    migrate_to(&mut reference, version)?;
    if objects(connection)? == objects(&reference)? {
        return Ok(());
    }
    Err(StateError::new(ErrorKind::Corrupt, format!("the state file is damaged: its tables are not those of version {version}")))
}

type Object = (String, String, String, Option<String>);

fn objects(connection: &Connection) -> Result<Vec<Object>, StateError> {
    // `sqlite_stat1` and its like appear when someone runs ANALYZE; they hold nothing of ours.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_stat%' ESCAPE '\\' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_can_be_taken_alone_and_twice() {
        for target in 0..=latest() {
            let mut connection = Connection::open_in_memory().expect("opens");
            migrate_to(&mut connection, target).expect("migrates");
            migrate_to(&mut connection, target).expect("migrates again");
            assert_eq!(version(&connection).expect("reads"), target);
            verify(&connection, target).expect("is as it should be");
            migrate(&mut connection).expect("goes on from there");
            verify(&connection, latest()).expect("is as it should be");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().expect("opens");
        connection.execute_batch("CREATE TABLE runs (x)").expect("creates");
        migrate(&mut connection).expect_err("the table is in the way");
        assert_eq!(version(&connection).expect("reads"), 0);
        assert_eq!(objects(&connection).expect("reads").len(), 1);
    }

    #[test]
    fn another_schema_is_noticed() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection).expect("migrates");
        connection.execute_batch("ALTER TABLE probe ADD COLUMN extra TEXT").expect("alters");
        assert_eq!(verify(&connection, latest()).expect_err("differs").kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn every_ledgered_table_has_its_triggers() {
        let mut connection = Connection::open_in_memory().expect("opens");
        migrate(&mut connection).expect("migrates");
        let sql = "SELECT ledger.name, count(schema.name) FROM ledger LEFT JOIN sqlite_schema AS schema
                   ON schema.type = 'trigger' AND schema.tbl_name = ledger.name GROUP BY ledger.name ORDER BY ledger.name";
        let mut statement = connection.prepare(sql).expect("prepares");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("queries");
        let found: Vec<(String, u32)> = rows.collect::<Result<_, _>>().expect("reads");
        let expected =
            ["checkpoints", "epochs", "generations", "key_values", "pipelines", "resets"].map(|name| (name.to_owned(), 3));
        assert_eq!(found, expected);
    }
}
