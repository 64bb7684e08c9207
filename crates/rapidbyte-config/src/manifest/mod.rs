//! The manifest of a connector: what it is, may do and needs, as JSON beside the component and inside it.
//!
//! A manifest is a claim by a stranger. Parsing checks its form; [`verify`] checks that it belongs to the bytes it came
//! with; whether the component keeps to it is the runtime's business.

mod binary;
mod check;
mod document;
mod error;
mod package;

pub use binary::{MANIFEST_SECTION, MAX_COMPONENT_BYTES, Unpacked, unpack};
pub(crate) use check::is_slug;
pub use document::{
    Artifact, Delivery, DestinationRole, EnvPermissions, FsMode, FsPermissions, Manifest, NetworkPermissions, Permissions, Preopen,
    Role, Roles, SourceRole, TlsRule, TransformRole, UtilityRole,
};
pub use error::{ManifestError, ManifestErrorKind};
pub use package::{Packed, pack, verify};

/// The manifest format this version reads.
pub const MANIFEST_VERSION: &str = "1.0";

/// A manifest larger than this is refused.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
