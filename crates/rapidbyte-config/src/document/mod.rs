//! A YAML text as a tree with places, capped before it is built.
//!
//! Variables are substituted scalar by scalar after parsing, so that no value can add keys or change structure. A plain
//! scalar takes its type from the substituted text by the core rules of YAML 1.2 (`port: ${PORT}` is a number), a quoted
//! or block scalar stays a string.

mod scalar;
mod tree;
mod variable;

pub(crate) use tree::{Entry, Node, NodeValue, parse};
pub(crate) use variable::is_variable_name;

use crate::error::{ConfigError, ConfigErrorKind};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// A document larger than this is refused.
pub(crate) const MAX_DOCUMENT_BYTES: usize = 1 << 20;

/// Reads a file, at most one byte more than is accepted.
pub(crate) fn read_file(path: &Path) -> Result<String, ConfigError> {
    let origin = path.display().to_string();
    let io = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path, or write an example with `rapidbyte init`",
            std::io::ErrorKind::PermissionDenied => "let this user read the file",
            _ => "name a file",
        };
        ConfigError::new(ConfigErrorKind::Io, None, format!("can't read the file: {error}")).with_hint(hint).at_origin(&origin)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    check_size(bytes.len()).map_err(|error| error.at_origin(&origin))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        ConfigError::new(ConfigErrorKind::Syntax, None, format!("the file is not UTF-8 text: byte {at}")).at_origin(&origin)
    })
}

pub(crate) fn check_size(bytes: usize) -> Result<(), ConfigError> {
    if bytes > MAX_DOCUMENT_BYTES {
        return Err(ConfigError::new(ConfigErrorKind::TooLarge, None, "the file is larger than 1 MiB"));
    }
    Ok(())
}
