//! What an instance may use, from what its manifest asks and its configuration names.

use crate::error::{HostError, HostErrorKind};
use crate::net::{HostPattern, HostPatternError, NetworkGrant};
use rapidbyte_config::ConfigGrants;
use rapidbyte_config::manifest::{FsMode, Manifest};
use std::path::PathBuf;

/// A directory of the host, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// On the host.
    pub host: PathBuf,
    /// For the guest.
    pub guest: String,
    /// How it may be used.
    pub mode: FsMode,
}

/// Everything an instance may use beyond its own memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Hosts.
    pub network: NetworkGrant,
    /// Environment variables and their values.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub dirs: Vec<DirGrant>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values of variables may be secrets.
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Grants").field("network", &self.network).field("env", &names).field("dirs", &self.dirs).finish()
    }
}

impl Grants {
    /// What the manifest asks for, with the configuration's hosts, directories and files. `env` looks a variable up in the
    /// operator's environment; `operator` narrows the hosts, `None` = any.
    ///
    /// # Errors
    /// When a host's name is none.
    pub fn new(
        manifest: &Manifest,
        config: &ConfigGrants,
        env: impl Fn(&str) -> Option<String>,
        operator: Option<Vec<HostPattern>>,
    ) -> Result<Self, HostError> {
        let network = match &manifest.permissions.network {
            None => NetworkGrant::default(),
            Some(asked) => {
                let patterns: Result<Vec<HostPattern>, _> = asked.allowed_domains.iter().map(|text| text.parse()).collect();
                let hosts = if asked.allow_runtime_config_domains { config.hosts.as_slice() } else { &[] };
                let hosts: Result<Vec<_>, _> = hosts.iter().map(|text| HostPattern::outright(text)).collect();
                NetworkGrant {
                    manifest: patterns.map_err(|error| no_host("the manifest", error))?,
                    config: hosts.map_err(|error| no_host("the configuration", error))?,
                    operator,
                    tls: asked.tls,
                    files: config.tls.clone(),
                }
            }
        };
        let vars = manifest.permissions.env.allowed_vars.iter();
        let env = vars.filter_map(|name| env(name).map(|value| (name.clone(), value))).collect();
        let fixed = manifest.permissions.fs.preopens.iter();
        let fixed = fixed.map(|open| DirGrant { host: open.host.clone().into(), guest: open.guest.clone(), mode: open.mode });
        let named = config.paths.iter();
        let named = named.map(|path| DirGrant { host: path.host_path.clone(), guest: path.guest_path.clone(), mode: path.mode });
        Ok(Self { network, env, dirs: fixed.chain(named).collect() })
    }
}

fn no_host(whence: &str, error: HostPatternError) -> HostError {
    HostError::new(HostErrorKind::Grant, format!("a host in {whence} can't be used"))
        .with_hint("a host is a DNS name or an address, without scheme, path or user")
        .because(error)
}
