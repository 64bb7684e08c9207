//! Closed sets of words, each parsed once at the edge.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A word that is not in its set; the message lists the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    what: &'static str,
    found: String,
    allowed: &'static [&'static str],
}

impl UnknownWord {
    /// The words that would have been accepted.
    pub fn allowed(&self) -> &'static [&'static str] {
        self.allowed
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown {} `{}`, expected one of: ", self.what, self.found)?;
        for (i, word) in self.allowed.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}`{word}`")?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownWord {}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident ($what:literal) { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value, in the order of the protocol.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Every word, in the order of [`Self::ALL`].
            pub const WORDS: &'static [&'static str] = &[$($text),+];

            /// The word as written in documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::UnknownWord;
            fn from_str(text: &str) -> Result<Self, crate::UnknownWord> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(crate::words::unknown($what, other, Self::WORDS)),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

pub(crate) fn unknown(what: &'static str, found: &str, allowed: &'static [&'static str]) -> UnknownWord {
    // A hostile document may put megabytes where a word belongs.
    UnknownWord { what, found: found.chars().take(64).collect(), allowed }
}

words! {
    /// How a stream is read.
    SyncMode ("sync mode") {
        /// Every row, each time.
        FullRefresh = "full_refresh",
        /// Rows past a cursor.
        Incremental = "incremental",
        /// The source's log of changes.
        Cdc = "cdc",
    }
}
words! {
    /// How rows meet those already there.
    WriteMode ("write mode") {
        /// Added to them.
        Append = "append",
        /// In their place, all at once.
        Replace = "replace",
        /// Over those with the same key.
        Upsert = "upsert",
    }
}
words! {
    /// How a position's text is read and compared.
    CursorType ("cursor type") {
        /// A signed decimal integer.
        Int64 = "int64",
        /// Text in byte order.
        Utf8 = "utf8",
        /// Milliseconds since the Unix epoch.
        TimestampMillis = "timestamp_millis",
        /// Microseconds since the Unix epoch.
        TimestampMicros = "timestamp_micros",
        /// A decimal number of any precision.
        Decimal = "decimal",
        /// JSON that only the connector understands.
        Json = "json",
        /// A PostgreSQL log position, `X/X`.
        Lsn = "lsn",
    }
}
words! {
    /// What happens when the source can't go on with a stream's changes.
    LostSlotPolicy ("lost slot policy") {
        /// The run ends.
        Fail = "fail",
        /// The stream is loaded anew, and what was missed is found by that.
        Resnapshot = "resnapshot",
    }
}
words! {
    /// What happens to a row that can't be processed.
    DataErrorPolicy ("data error policy") {
        /// The run ends.
        Fail = "fail",
        /// The row is left out and counted.
        Skip = "skip",
        /// The row goes to the dead letters.
        Dlq = "dlq",
    }
}
words! {
    /// What happens when the source has a new column.
    NewColumnPolicy ("new column policy") {
        /// It is added, nullable.
        Add = "add",
        /// It is left out.
        Ignore = "ignore",
        /// The run ends.
        Fail = "fail",
    }
}
words! {
    /// What happens when a column is gone from the source.
    RemovedColumnPolicy ("removed column policy") {
        /// The destination keeps it, unwritten.
        Ignore = "ignore",
        /// The run ends.
        Fail = "fail",
    }
}
words! {
    /// What happens when a column's type has changed.
    TypeChangePolicy ("type change policy") {
        /// Values become those of the destination's column where nothing is lost; one that does not fit is a data error.
        Coerce = "coerce",
        /// The run ends.
        Fail = "fail",
        /// Values that don't fit become NULL.
        Null = "null",
    }
}
words! {
    /// What happens when a column becomes nullable.
    NullabilityPolicy ("nullability policy") {
        /// The destination's NOT NULL is dropped.
        Allow = "allow",
        /// The run ends.
        Fail = "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_as_itself() {
        for mode in SyncMode::ALL {
            assert_eq!(mode.as_str().parse::<SyncMode>().as_ref(), Ok(mode));
        }
        for kind in CursorType::ALL {
            assert_eq!(kind.as_str().parse::<CursorType>().as_ref(), Ok(kind));
        }
    }

    #[test]
    fn an_unknown_word_lists_the_allowed_ones() {
        let error = "upsrt".parse::<WriteMode>().expect_err("not a mode");
        assert_eq!(error.to_string(), "unknown write mode `upsrt`, expected one of: `append`, `replace`, `upsert`");
    }
}
