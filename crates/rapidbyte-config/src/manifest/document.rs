//! The manifest as a typed document.

use super::MAX_MANIFEST_BYTES;
use super::check;
use super::error::{ManifestError, ManifestErrorKind};
use rapidbyte_types::{SyncMode, WriteMode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The manifest of a connector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of this document, [`super::MANIFEST_VERSION`].
    pub manifest_version: String,
    /// `owner/name`.
    pub id: String,
    /// For people.
    pub name: String,
    /// `major.minor.patch`, with an optional `-pre` or `+build`.
    pub version: String,
    /// One sentence.
    pub description: String,
    /// Who made it.
    pub author: String,
    /// An SPDX expression.
    pub license: String,
    /// The protocol its component speaks, [`rapidbyte_types::PROTOCOL_VERSION`].
    pub protocol_version: String,
    /// The component it belongs to.
    pub artifact: Artifact,
    /// What it asks for; what is not asked for is refused.
    #[serde(default)]
    pub permissions: Permissions,
    /// What it can be used as.
    pub roles: Roles,
    /// The JSON Schema (Draft 7) of its configuration.
    pub config_schema: serde_json::Value,
}

/// The component a manifest belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// The file beside the manifest.
    pub entry_point: String,
    /// `sha256:` and 64 hexadecimal digits over the component without its manifest section; filled in by packaging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// Guest memory it needs at least.
    pub min_memory_mb: u32,
}

/// What a connector asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permissions {
    /// Absent: no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkPermissions>,
    /// Variables of the host's environment.
    #[serde(default)]
    pub env: EnvPermissions,
    /// Directories of the host.
    #[serde(default)]
    pub fs: FsPermissions,
}

/// Whether connections are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsRule {
    /// Nothing but a recognised preamble leaves in the clear.
    #[default]
    Required,
    /// As the configuration says.
    Optional,
    /// TLS is not used.
    Forbidden,
}

/// Which peers a connector may dial.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPermissions {
    /// Whether connections are encrypted.
    #[serde(default)]
    pub tls: TlsRule,
    /// Host names, `*.domain` for every name below one.
    #[serde(default)]
    pub allowed_domains: Vec<String>,
    /// Whether hosts named by the configuration (schema mark `x-rapidbyte-host`) may be dialled too.
    #[serde(default)]
    pub allow_runtime_config_domains: bool,
}

/// Which variables a connector may see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvPermissions {
    /// Their names.
    #[serde(default)]
    pub allowed_vars: Vec<String>,
}

/// Which directories a connector may open, beside those its configuration names (schema mark `x-rapidbyte-path`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsPermissions {
    /// Fixed directories.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preopens: Vec<Preopen>,
}

/// How a directory may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FsMode {
    /// Only read.
    Read,
    /// Read and written.
    ReadWrite,
}

impl FsMode {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::ReadWrite => "read-write",
        }
    }
}

/// One directory of the host, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preopen {
    /// The directory on the host, absolute.
    pub host: String,
    /// Where the guest sees it, absolute.
    pub guest: String,
    /// How it may be used.
    pub mode: FsMode,
}

/// What a connector can be used as; at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// It reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceRole>,
    /// It writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationRole>,
    /// It changes what passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<TransformRole>,
    /// It does something beside pipelines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utility: Option<UtilityRole>,
}

/// What a source can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRole {
    /// How it can read.
    pub supported_sync_modes: Vec<SyncMode>,
    /// Named abilities.
    #[serde(default)]
    pub features: Vec<String>,
}

/// What a destination promises of a row that arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Rows and receipt are one atomic act.
    #[default]
    ExactlyOnce,
    /// A retry may repeat rows.
    AtLeastOnce,
}

/// What a destination can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationRole {
    /// How it can write.
    pub supported_write_modes: Vec<WriteMode>,
    /// What it promises.
    #[serde(default)]
    pub delivery: Delivery,
    /// Named abilities.
    #[serde(default)]
    pub features: Vec<String>,
}

/// What a transform is, and what it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformRole {
    /// What it makes of a row depends on rows before: its state travels in the receipts, and it sees each stream as one partition.
    #[serde(default)]
    pub stateful: bool,
    /// Named abilities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// A utility has nothing to declare yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UtilityRole {}

/// What a connector is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// It reads.
    Source,
    /// It writes.
    Destination,
    /// It changes what passes.
    Transform,
    /// It does something beside pipelines.
    Utility,
}

impl Role {
    /// The word as written in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Transform => "transform",
            Self::Utility => "utility",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Manifest {
    /// Reads and checks a manifest. The checksum may be absent, as it is before packaging.
    ///
    /// # Errors
    /// When the text is too large, not JSON, has unknown keys, or a value is out of its set or range.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::new(
                ManifestErrorKind::TooLarge,
                format!("the manifest has {} bytes, more than {MAX_MANIFEST_BYTES}", bytes.len()),
            ));
        }
        let syntax = |error: serde_json::Error| {
            let message = crate::suggest::shown(&error.to_string());
            ManifestError::new(ManifestErrorKind::Syntax, format!("the manifest can't be read: {message}"))
        };
        let tree: serde_json::Value = serde_json::from_slice(bytes).map_err(syntax)?;
        check::known_keys(&tree)?;
        // Read again from the text, because its errors then carry line and column.
        let manifest: Self = serde_json::from_slice(bytes).map_err(syntax)?;
        check::values(&manifest)?;
        Ok(manifest)
    }

    /// What it can be used as.
    pub fn roles(&self) -> Vec<Role> {
        let Roles { source, destination, transform, utility } = &self.roles;
        let present = [
            (Role::Source, source.is_some()),
            (Role::Destination, destination.is_some()),
            (Role::Transform, transform.is_some()),
            (Role::Utility, utility.is_some()),
        ];
        present.into_iter().filter(|(_, present)| *present).map(|(role, _)| role).collect()
    }

    /// Whether it can be used as `role`.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles().contains(&role)
    }

    /// Whether it can read in this mode.
    pub fn supports_sync_mode(&self, mode: SyncMode) -> bool {
        self.roles.source.as_ref().is_some_and(|role| role.supported_sync_modes.contains(&mode))
    }

    /// Whether it can write in this mode.
    pub fn supports_write_mode(&self, mode: WriteMode) -> bool {
        self.roles.destination.as_ref().is_some_and(|role| role.supported_write_modes.contains(&mode))
    }

    /// Whether, as a transform, it keeps a state.
    pub fn is_stateful(&self) -> bool {
        self.roles.transform.as_ref().is_some_and(|role| role.stateful)
    }

    /// Whether it names an ability in any of its roles.
    pub fn has_feature(&self, feature: &str) -> bool {
        let Roles { source, destination, transform, utility: _ } = &self.roles;
        let lists = [
            source.as_ref().map(|role| &role.features),
            destination.as_ref().map(|role| &role.features),
            transform.as_ref().map(|role| &role.features),
        ];
        lists.into_iter().flatten().flatten().any(|one| one == feature)
    }

    /// The checked schema of its configuration.
    ///
    /// # Errors
    /// Never for a manifest that came from [`Manifest::parse`].
    pub fn config_schema(&self) -> Result<crate::connector_config::ConfigSchema, crate::connector_config::SchemaError> {
        crate::connector_config::ConfigSchema::parse(&self.config_schema)
    }
}
