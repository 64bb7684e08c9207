//! What `verify` asks of the two ends, and what they answer. The words are explained in `wit/v2/digest.wit`.

use crate::{Position, StreamContext};

/// Fix one view of a stream's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRequest {
    /// The stream.
    pub stream: StreamContext,
    /// How far it has been loaded; a source shows the rows up to here.
    pub position: Option<Position>,
}

/// A column as one side holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestColumn {
    /// Its name.
    pub name: String,
    /// Its type in this side's own words.
    pub type_name: String,
    /// Forms in which its values can be digested, its own first.
    pub encodings: Vec<String>,
}

/// A view that has been fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Where the rows are, in words.
    pub place: String,
    /// The columns, in order.
    pub columns: Vec<DigestColumn>,
    /// Its own key, in order; empty when it has none.
    pub key: Vec<String>,
    /// A guess at the number of rows.
    pub estimated_rows: Option<u64>,
    /// Names how rows are hashed.
    pub method: String,
}

/// A column and the form in which its values are digested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnEncoding {
    /// Its name.
    pub name: String,
    /// The form.
    pub encoding: String,
}

/// What is to be digested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestRequest {
    /// The columns, in order.
    pub columns: Vec<ColumnEncoding>,
    /// Those that tell rows apart, in order; empty = only whole rows are told apart.
    pub key: Vec<String>,
    /// Ranges of the key's hash, a power of two from 1 to [`DigestRequest::MAX_RANGES`].
    pub ranges: u32,
    /// Rows beyond the pinned position too.
    pub whole: bool,
}

impl DigestRequest {
    /// The most ranges a table is cut into.
    pub const MAX_RANGES: u32 = 1 << 16;
}

/// The digest of one range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeDigest {
    /// Its number.
    pub range: u32,
    /// Its rows.
    pub rows: u64,
    /// Of the multiset of its rows.
    pub digest: String,
}

/// The digest of the rows of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDigest {
    /// The key's hash.
    pub id: String,
    /// The key for people, as a JSON array of texts; `None` where rows have no key.
    pub key: Option<String>,
    /// How many rows have it.
    pub rows: u64,
    /// Of the multiset of these rows.
    pub digest: String,
}
