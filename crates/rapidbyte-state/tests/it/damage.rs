//! A damaged file gives back exactly what was stored, or is refused. Never something else.

use crate::fixture::{Fixture, acknowledged, dump, fill, orders, pipeline, receipt};
use rapidbyte_state::*;
use rapidbyte_types::Position;
use std::fs;
use std::path::Path;

/// A sealed state file's bytes and what a store on it gives back.
fn sealed() -> (Vec<u8>, String) {
    let fixture = Fixture::new();
    let store = fixture.store();
    fill(&store);
    let content = dump(&store).expect("reads");
    drop(store);
    assert!(!fixture.folder.path().join("state.db-wal").exists(), "the last one out writes the log back");
    (fs::read(fixture.file()).expect("reads"), content)
}

/// What a store on these bytes gives back.
fn reread(bytes: &[u8]) -> Result<String, StateError> {
    let fixture = Fixture::new();
    fs::write(fixture.file(), bytes).expect("writes");
    let store = SqliteStore::open(fixture.file())?;
    dump(&store)
}

/// Xorshift: the same bits are flipped on every machine.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let (bytes, content) = sealed();
    assert_eq!(reread(&bytes).expect("whole"), content);
    let mut cuts = 0;
    for length in (0..bytes.len()).step_by(512).chain([1, 15, 17, 99, 101, bytes.len() - 1]) {
        let refused = reread(&bytes[..length]).expect_err("cut off");
        let expected = if (1..16).contains(&length) { ErrorKind::NotOurs } else { ErrorKind::Corrupt };
        assert_eq!(refused.kind(), expected, "{length} bytes: {refused:?}");
        assert!(refused.hint().is_some() && refused.path().is_some());
        cuts += 1;
    }
    assert!(cuts > 100, "only {cuts} cuts");
}

#[test]
fn a_flipped_bit_is_harmless_or_refused() {
    let (bytes, content) = sealed();
    let mut seeded = Seeded(0x5EED);
    // Anywhere, and every bit of the header.
    let places = (0..300).map(|_| seeded.below(bytes.len() * 8)).collect::<Vec<_>>();
    let (mut harmless, mut refused) = (0, 0);
    for place in places.into_iter().chain(0..100 * 8) {
        let mut damaged = bytes.clone();
        damaged[place / 8] ^= 1 << (place % 8);
        match reread(&damaged) {
            Ok(found) => {
                assert!(found == content, "bit {place} of byte {} reads back as another", place / 8);
                harmless += 1;
            }
            Err(error) => {
                let kinds = [ErrorKind::Corrupt, ErrorKind::NotOurs, ErrorKind::TooNew];
                assert!(kinds.contains(&error.kind()), "bit {place} of byte {}: {error:?}", place / 8);
                refused += 1;
            }
        }
    }
    assert!(harmless > 50 && refused > 100, "{harmless} harmless, {refused} refused");
}

#[test]
fn every_bit_of_a_stored_cursor_counts() {
    // One for each of the three streams; more may linger in pages' unused space, where they mean nothing.
    const LIVE: usize = 3;
    const CURSOR: &[u8] = b"41.000000000000000000000000000001";
    let (bytes, content) = sealed();
    let mut counting = 0;
    for (at, _) in bytes.windows(CURSOR.len()).enumerate().filter(|(_, window)| *window == CURSOR) {
        let mut refused = 0;
        for place in at * 8..(at + CURSOR.len()) * 8 {
            let mut damaged = bytes.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            match reread(&damaged) {
                Ok(found) => assert!(found == content, "a wrong cursor: bit {place}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {place}");
                    refused += 1;
                }
            }
        }
        assert!(refused == 0 || refused == CURSOR.len() * 8, "{refused} bits count at byte {at}");
        counting += usize::from(refused > 0);
    }
    assert_eq!(counting, LIVE);
}

/// Changes a sealed file behind the store's back, as SQLite allows anyone to.
fn tampered(sql: &str) -> Result<String, StateError> {
    let fixture = Fixture::new();
    let store = fixture.store();
    fill(&store);
    drop(store);
    let connection = rusqlite::Connection::open(fixture.file()).expect("opens");
    connection.execute_batch(sql).expect("runs");
    connection.close().expect("closes");
    dump(&SqliteStore::open(fixture.file())?)
}

#[test]
fn rows_lost_or_changed_behind_our_back_are_noticed() {
    tampered("SELECT 1").expect("nothing happened");
    tampered("VACUUM").expect("the same rows in other places");
    tampered("PRAGMA journal_mode = DELETE").expect("the same rows in another mode");
    let cases = [
        "DROP TRIGGER checkpoints_deleted; DELETE FROM checkpoints WHERE partition = '3'",
        "DROP TRIGGER epochs_deleted; DELETE FROM epochs WHERE stream LIKE '%users%'",
        "UPDATE ledger SET count = count - 1 WHERE name = 'checkpoints'",
        "UPDATE ledger SET total = total + 1 WHERE name = 'epochs'",
        "DELETE FROM ledger WHERE name = 'generations'",
        "UPDATE checkpoints SET position_value = '1' WHERE partition = '3'",
        "UPDATE checkpoints SET seq = seq - 1",
        "UPDATE checkpoints SET position_type = 'int64'",
        "UPDATE epochs SET epoch = 1",
        "UPDATE generations SET snapshot = 'x'",
        "UPDATE pipelines SET source_identity = 'x'",
        "UPDATE key_values SET value = x'00'",
        "UPDATE key_values SET key = key || 'x'",
        "UPDATE runs SET status = 'succeeded'",
        "UPDATE stream_results SET rows = 1",
        "UPDATE dead_letters SET record = 'x'",
        "UPDATE dead_letters SET seq = seq + 1",
        "PRAGMA user_version = 0",
    ];
    for sql in cases {
        // The statements that keep the triggers still leave the row's own checksum behind.
        assert_eq!(tampered(sql).expect_err(sql).kind(), ErrorKind::Corrupt, "{sql}");
    }
}

#[test]
fn rows_lost_without_a_trace_in_the_schema_are_noticed() {
    // The triggers are put back word for word: only the ledger can tell.
    let fixture = Fixture::new();
    let store = fixture.store();
    fill(&store);
    drop(store);
    let connection = rusqlite::Connection::open(fixture.file()).expect("opens");
    let trigger: String = connection
        .query_row("SELECT sql FROM sqlite_schema WHERE name = 'checkpoints_deleted'", [], |row| row.get(0))
        .expect("reads");
    connection.execute_batch("DROP TRIGGER checkpoints_deleted; DELETE FROM checkpoints WHERE partition = '3'").expect("runs");
    connection.execute_batch(&trigger).expect("runs");
    connection.close().expect("closes");
    let refused = SqliteStore::open(fixture.file()).expect_err("rows are missing");
    assert_eq!(refused.kind(), ErrorKind::Corrupt);
    assert!(refused.message().contains("missing"), "{refused:?}");
}

#[test]
fn a_damaged_log_gives_an_earlier_state_whole_or_is_refused() {
    const COMMITS: u64 = 30;
    let fixture = Fixture::new();
    drop(fixture.store());
    let store = fixture.store();
    let id = pipeline(&store);
    for seq in 1..=COMMITS {
        store.mirror(&acknowledged(id, receipt(1, "0", 1, seq))).expect("mirrors");
    }
    let wal = |folder: &Path| folder.join("state.db-wal");
    let (base, log) = (fs::read(fixture.file()).expect("reads"), fs::read(wal(fixture.folder.path())).expect("the log is there"));
    let seq_after = |log: &[u8]| -> Result<u64, StateError> {
        let copy = Fixture::new();
        fs::write(copy.file(), &base).expect("writes");
        fs::write(wal(copy.folder.path()), log).expect("writes");
        let store = SqliteStore::open(copy.file())?;
        let found = store.checkpoints(id, &orders())?;
        let Some(checkpoint) = found.first() else {
            return Ok(0);
        };
        let expected = receipt(1, "0", 1, checkpoint.seq);
        assert_eq!((&checkpoint.position, checkpoint.rows), (&expected.position, expected.rows));
        assert!(checkpoint.position.as_ref().is_some_and(|Position { value, .. }| value.starts_with(&checkpoint.seq.to_string())));
        Ok(checkpoint.seq)
    };
    assert_eq!(seq_after(&log).expect("whole"), COMMITS);
    let mut seen = std::collections::BTreeSet::new();
    let mut seeded = Seeded(0xC0FFEE);
    for length in (0..log.len()).step_by(log.len() / 60) {
        seen.extend(seq_after(&log[..length]).ok());
        let mut damaged = log.clone();
        let place = seeded.below(log.len() * 8);
        damaged[place / 8] ^= 1 << (place % 8);
        seen.extend(seq_after(&damaged).ok());
    }
    assert!(seen.len() > 10 && seen.iter().all(|seq| *seq <= COMMITS), "{seen:?}");
}
