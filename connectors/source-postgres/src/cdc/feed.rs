//! Messages of the log through SQL: `peek`, which changes nothing, in windows.
//!
//! Each peek decodes from where the slot stands. So the slot is advanced between two windows as far as the destination has come,
//! and while it has not, each window is twice as long as the one before: all windows together cost at most twice the last one.

use super::config::{Names, Plugin};
use super::lsn::Lsn;
use super::slot::{self, Slot};
use super::source_changed;
use postgres_wire::{Connection, CopyOutError, Error, quote_ident, quote_literal};
use rapidbyte_sdk::ConnectorError;

/// Log looked through at first.
const WINDOW: u64 = 16 << 20;
const MAX_WINDOW: u64 = 4 << 30;
/// Header of binary COPY data.
const HEADER: usize = 19;
/// Looked at of a message that is refused: its table stands there, by name perhaps. No limit of messages is smaller.
const REFUSED: usize = 512;

/// Where a window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    size: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { size: WINDOW }
    }
}

impl Window {
    /// The end of the window that begins at the slot's own place and reaches beyond `from`.
    pub(super) fn end(&self, from: Lsn, goal: Lsn) -> Lsn {
        goal.min(Lsn(from.0.saturating_add(self.size)))
    }

    /// The slot could not be advanced.
    pub(super) fn grow(&mut self) {
        self.size = (self.size * 2).min(MAX_WINDOW);
    }
}

/// The statement that shows the messages of `pgoutput` up to `upto`.
pub(super) fn peek(names: &Names, binary: bool, upto: Lsn) -> Result<String, ConnectorError> {
    Ok(format!(
        "COPY (SELECT data FROM pg_logical_slot_peek_binary_changes({}, '{upto}', NULL, 'proto_version', '1', 'publication_names', {}{})) \
         TO STDOUT (FORMAT binary)",
        quote_literal(&names.slot)?,
        quote_literal(&quote_ident(&names.publication)?)?,
        if binary { ", 'binary', 'true'" } else { "" },
    ))
}

/// Why a window could not be read.
pub(super) enum WindowError {
    Failed(ConnectorError),
    /// The server or the way to it; [`explain`] says what it means.
    Wire(Error),
    /// A message of this length was refused; the beginning of it.
    TooLong(usize, Vec<u8>),
}

impl From<ConnectorError> for WindowError {
    fn from(error: ConnectorError) -> Self {
        Self::Failed(error)
    }
}

/// What an error of the server means. Of something that is not there it says no more than that, so the catalog is asked for the slot.
pub(super) fn explain(error: Error, names: &Names, catalog: &mut Connection) -> ConnectorError {
    match error.sqlstate() {
        Some("42704") => match Slot::find(catalog, &names.slot) {
            Ok(None) => slot::missing(&names.slot),
            Ok(Some(_)) if names.plugin == Plugin::Pgoutput => source_changed(
                format!("publication `{}` was not there when some of the changes were made", names.publication),
                "load the streams anew, which makes the publication again",
            ),
            _ => error.into(),
        },
        Some("55006") => {
            let mut made = ConnectorError::from(error);
            made.retryable = true;
            made.safe_to_retry = true;
            made.with_hint("somebody else reads the replication slot: end that session, or wait for it")
        }
        _ => error.into(),
    }
}

/// Shows every message that a statement gives to `take`.
pub(super) fn read_window(
    connection: &mut Connection,
    sql: &str,
    largest: usize,
    mut take: impl FnMut(&[u8]) -> Result<(), ConnectorError>,
) -> Result<(), WindowError> {
    let mut copy = connection.copy_out(sql, largest.saturating_add(HEADER + 64)).map_err(WindowError::Wire)?;
    let mut rows = Rows::default();
    loop {
        match copy.next_payload() {
            Ok(Some(payload)) => rows.push(payload, &mut take)?,
            Ok(None) => break,
            Err(CopyOutError::Wire(error)) => return Err(WindowError::Wire(error)),
            Err(CopyOutError::TooLong { length }) => {
                let skip = if rows.begun { 6 } else { HEADER + 6 };
                let head = copy.refused_head(skip + REFUSED).map(<[u8]>::to_vec).unwrap_or_default();
                return Err(WindowError::TooLong(length, head.get(skip..).unwrap_or_default().to_vec()));
            }
        }
    }
    Ok(rows.end()?)
}

/// Rows of one `bytea` in binary COPY data. Whoever stands in between may cut them anywhere.
#[derive(Default)]
struct Rows {
    begun: bool,
    ended: bool,
    carry: Vec<u8>,
}

fn malformed(what: &str) -> ConnectorError {
    ConnectorError::internal("copy_format", format!("changes from the server: {what}"))
}

impl Rows {
    fn push(&mut self, payload: &[u8], take: &mut impl FnMut(&[u8]) -> Result<(), ConnectorError>) -> Result<(), ConnectorError> {
        if self.carry.is_empty() {
            let used = self.consume(payload, take)?;
            self.carry.extend_from_slice(&payload[used..]);
        } else {
            let mut joined = std::mem::take(&mut self.carry);
            joined.extend_from_slice(payload);
            let used = self.consume(&joined, take)?;
            joined.drain(..used);
            self.carry = joined;
        }
        Ok(())
    }

    /// Takes whole rows; gives the bytes used.
    fn consume(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(&[u8]) -> Result<(), ConnectorError>,
    ) -> Result<usize, ConnectorError> {
        let mut at = 0;
        if !self.begun {
            if bytes.len() < HEADER {
                return Ok(0);
            }
            if !bytes.starts_with(b"PGCOPY\n\xff\r\n\0") || bytes[11..HEADER] != [0; 8] {
                return Err(malformed("no binary COPY header"));
            }
            self.begun = true;
            at = HEADER;
        }
        while at < bytes.len() {
            if self.ended {
                return Err(malformed("data after the trailer"));
            }
            let Some((count, rest)) = bytes[at..].split_first_chunk::<2>() else { break };
            match i16::from_be_bytes(*count) {
                -1 => {
                    self.ended = true;
                    at += 2;
                    continue;
                }
                1 => {}
                _ => return Err(malformed("a row with another number of columns")),
            }
            let Some((length, rest)) = rest.split_first_chunk::<4>() else { break };
            let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| malformed("a message that is NULL"))?;
            let Some(message) = rest.get(..length) else { break };
            take(message)?;
            at += 6 + length;
        }
        Ok(at)
    }

    fn end(&self) -> Result<(), ConnectorError> {
        if self.ended && self.carry.is_empty() { Ok(()) } else { Err(malformed("they end without a trailer")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(messages: &[&[u8]]) -> Vec<u8> {
        let mut bytes = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for message in messages {
            bytes.extend_from_slice(&1_i16.to_be_bytes());
            bytes.extend_from_slice(&(message.len() as i32).to_be_bytes());
            bytes.extend_from_slice(message);
        }
        bytes.extend_from_slice(&(-1_i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_may_be_cut_anywhere() {
        let whole = data(&[b"first", b"", b"third"]);
        for size in 1..=whole.len() {
            let (mut rows, mut seen) = (Rows::default(), Vec::new());
            for part in whole.chunks(size) {
                rows.push(part, &mut |message| {
                    seen.push(message.to_vec());
                    Ok(())
                })
                .unwrap();
            }
            rows.end().unwrap();
            assert_eq!(seen, [&b"first"[..], b"", b"third"], "pieces of {size}");
        }
        for length in 0..whole.len() {
            let mut rows = Rows::default();
            let pushed = rows.push(&whole[..length], &mut |_| Ok(()));
            assert!(pushed.is_err() || rows.end().is_err(), "data cut at {length} were accepted");
        }
    }

    #[test]
    fn malformed_rows_are_refused() {
        let mut two = data(&[b"x"]);
        two[HEADER + 1] = 2;
        let mut null = data(&[b""]);
        null[HEADER + 2..HEADER + 6].fill(0xff);
        let after = [data(&[b"x"]), b"\0\x01".to_vec()].concat();
        for bytes in [two, null, after, vec![0; 64]] {
            assert!(Rows::default().push(&bytes, &mut |_| Ok(())).is_err());
        }
    }

    #[test]
    fn windows_grow_until_the_slot_moves() {
        let mut window = Window::default();
        assert_eq!(window.end(Lsn(100), Lsn(1000)), Lsn(1000));
        assert_eq!(window.end(Lsn(100), Lsn(u64::MAX)), Lsn(100 + WINDOW));
        for _ in 0..40 {
            window.grow();
        }
        assert_eq!(window.end(Lsn(0), Lsn(u64::MAX)), Lsn(MAX_WINDOW));
    }
}
