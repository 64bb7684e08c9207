//! What the destination remembers of each stream: who may write, which load is open, and how far it has come. Schema
//! `_rapidbyte` of the destination's own database, so that rows and receipts share a transaction.

mod claim;
mod generation;
mod holders;
mod receipt;
pub(crate) mod schema;

pub(crate) use claim::{Hold, Owner, check_epoch, claim};
pub(crate) use generation::{
    Columns, Load, LoadColumn, columns, drop_staging, end_overtaken_sessions, find, open_load, prepare, set_columns, set_visible,
    spoil,
};
pub(crate) use receipt::{Progress, place_of, unfinished_partitions, write_receipt, written_rows};

use postgres_wire::Row;
use rapidbyte_sdk::ConnectorError;
use std::fmt::Write as _;
use std::str::FromStr;

/// What helps where the ledger is damaged.
const RESTORE: &str = "restore the schema `_rapidbyte` from a backup; or run `DROP SCHEMA _rapidbyte CASCADE`, after which every pipeline \
                       into this database loads from the start: empty the tables that they append to";

/// A ledger row that does not hold what this connector writes.
fn damaged(what: &str) -> ConnectorError {
    ConnectorError::schema("ledger_damaged", format!("`_rapidbyte` holds {what} that can't be read")).with_hint(RESTORE)
}

fn parse<T: FromStr>(row: &Row, index: usize, what: &str) -> Result<T, ConnectorError> {
    row.get(index).and_then(|text| text.parse().ok()).ok_or_else(|| damaged(what))
}

/// A number of the protocol as the ledger stores it.
pub(crate) fn stored(number: u64) -> Result<i64, ConnectorError> {
    i64::try_from(number).map_err(|_| ConnectorError::internal("number_range", "a number of the protocol is beyond 63 bits"))
}

/// Bytes as a `bytea` literal, also read back so: `\x…`.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("\\x");
    for byte in bytes {
        // Writing into a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

fn unhex_text(text: &str) -> Option<String> {
    String::from_utf8(unhex(text)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_ledger() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&all)), Some(all));
        assert_eq!(unhex("\\x"), Some(Vec::new()));
        for wrong in ["", "00", "\\x0", "\\xzz"] {
            assert_eq!(unhex(wrong), None);
        }
    }
}
