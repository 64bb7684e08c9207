//! Parameters of a prepared statement.

use std::borrow::Cow;

/// A value for `$1`, `$2`, …
#[derive(Debug, Clone, PartialEq)]
pub enum Param<'a> {
    /// NULL; the server infers the type.
    Null,
    /// The value's text; the server infers the type.
    Text(Cow<'a, str>),
    /// The value's binary form.
    Binary {
        /// Its type.
        oid: u32,
        /// Its send form.
        bytes: Cow<'a, [u8]>,
    },
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Param<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i32> for Param<'_> {
    fn from(number: i32) -> Self {
        Self::Text(Cow::Owned(number.to_string()))
    }
}

impl From<i64> for Param<'_> {
    fn from(number: i64) -> Self {
        Self::Text(Cow::Owned(number.to_string()))
    }
}

impl From<bool> for Param<'_> {
    fn from(flag: bool) -> Self {
        Self::Text(Cow::Borrowed(if flag { "true" } else { "false" }))
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
