//! A checksum over the fields of one row.
//!
//! SQLite checks its log, not its pages: a bit flipped in a value on disk reads back as another value. Every row therefore
//! carries the first 63 bits of the SHA-256 of its table's name and its fields.

use sha2::{Digest, Sha256};

pub(super) struct Checksum(Sha256);

impl Checksum {
    /// Rows of different tables never share a checksum, not even with equal fields.
    pub(super) fn of(table: &str) -> Self {
        Self(Sha256::new()).text(table)
    }

    pub(super) fn int(mut self, value: u64) -> Self {
        self.0.update([1]);
        self.0.update(value.to_le_bytes());
        self
    }

    pub(super) fn text(self, value: &str) -> Self {
        self.bytes(value.as_bytes())
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.update([2]);
        self.0.update((value.len() as u64).to_le_bytes());
        self.0.update(value);
        self
    }

    pub(super) fn maybe_int(self, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.int(value),
            None => self.absent(),
        }
    }

    pub(super) fn maybe_text(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(value),
            None => self.absent(),
        }
    }

    fn absent(mut self) -> Self {
        self.0.update([0]);
        self
    }

    /// Non-negative, so that it is the same number in Rust and in SQL.
    pub(super) fn finish(self) -> i64 {
        let digest = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_be_bytes(first) & i64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    #[test]
    fn fields_do_not_run_into_each_other() {
        let sums = [
            Checksum::of("t").text("ab").text("c").finish(),
            Checksum::of("t").text("a").text("bc").finish(),
            Checksum::of("t").text("a\u{2}").text("b").finish(),
            Checksum::of("t").text("a").text("\u{2}b").finish(),
            Checksum::of("t").text("abc").finish(),
            Checksum::of("t").text("abc").maybe_text(None).finish(),
            Checksum::of("t").text("abc").maybe_text(Some("")).finish(),
            Checksum::of("t").text("abc").int(0).finish(),
            Checksum::of("ta").text("bc").finish(),
        ];
        for (i, one) in sums.iter().enumerate() {
            assert!(*one >= 0);
            assert!(!sums[i + 1..].contains(one), "sum {i} is not its own");
        }
    }
}
