//! What a manifest must be beyond its types.

use super::MANIFEST_VERSION;
use super::document::{Artifact, EnvPermissions, FsPermissions, Manifest, NetworkPermissions, Permissions, Preopen, Roles};
use super::error::{ManifestError, ManifestErrorKind};
use crate::connector_config::ConfigSchema;
use crate::suggest::{did_you_mean, listed, shown};
use rapidbyte_types::PROTOCOL_VERSION;
use serde_json::Value;

/// Keys of each object; `*` stands for every element of a list.
const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "manifest_version",
            "id",
            "name",
            "version",
            "description",
            "author",
            "license",
            "protocol_version",
            "artifact",
            "permissions",
            "roles",
            "config_schema",
        ],
    ),
    ("artifact", &["entry_point", "checksum", "min_memory_mb"]),
    ("permissions", &["network", "env", "fs"]),
    ("permissions.network", &["tls", "allowed_domains", "allow_runtime_config_domains"]),
    ("permissions.env", &["allowed_vars"]),
    ("permissions.fs", &["preopens"]),
    ("permissions.fs.preopens.*", &["host", "guest", "mode"]),
    ("roles", &["source", "destination", "transform", "utility"]),
    ("roles.source", &["supported_sync_modes", "features"]),
    ("roles.destination", &["supported_write_modes", "delivery", "features"]),
    ("roles.transform", &["stateful", "features"]),
    ("roles.utility", &[]),
];

/// Refuses keys that no reader knows, with the one that may have been meant.
pub(super) fn known_keys(tree: &Value) -> Result<(), ManifestError> {
    for (path, keys) in KEYS {
        let steps: Vec<&str> = path.split('.').filter(|step| !step.is_empty()).collect();
        for object in find(tree, &steps) {
            for key in object.keys() {
                if !keys.contains(&key.as_str()) {
                    let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
                    let message = format!("unknown key `{}`{place} of the manifest", shown(key));
                    let hint = did_you_mean(key, keys.iter().copied())
                        .or_else(|| (!keys.is_empty()).then(|| format!("known keys: {}", listed(keys.iter().copied()))));
                    return Err(ManifestError::new(ManifestErrorKind::UnknownKey, message).with_hint_opt(hint));
                }
            }
        }
    }
    Ok(())
}

fn find<'t>(tree: &'t Value, steps: &[&str]) -> Vec<&'t serde_json::Map<String, Value>> {
    match (steps, tree) {
        ([], Value::Object(object)) => vec![object],
        (["*", rest @ ..], Value::Array(items)) => items.iter().flat_map(|item| find(item, rest)).collect(),
        ([step, rest @ ..], Value::Object(object)) => object.get(*step).map(|child| find(child, rest)).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn invalid(message: impl Into<String>) -> ManifestError {
    ManifestError::new(ManifestErrorKind::InvalidValue, message)
}

/// Refuses values out of their sets and ranges.
pub(super) fn values(manifest: &Manifest) -> Result<(), ManifestError> {
    let Manifest {
        manifest_version,
        id,
        name,
        version,
        description: _,
        author: _,
        license: _,
        protocol_version,
        artifact,
        permissions,
        roles,
        config_schema,
    } = manifest;
    if manifest_version != MANIFEST_VERSION {
        return Err(ManifestError::new(
            ManifestErrorKind::UnsupportedVersion,
            format!("`manifest_version` is `{}`, this version reads `{MANIFEST_VERSION}`", shown(manifest_version)),
        ));
    }
    if protocol_version != PROTOCOL_VERSION {
        return Err(ManifestError::new(
            ManifestErrorKind::UnsupportedVersion,
            format!("`protocol_version` is `{}`, this version speaks `{PROTOCOL_VERSION}`", shown(protocol_version)),
        ));
    }
    if !id.split_once('/').is_some_and(|(owner, name)| is_slug(owner) && is_slug(name)) {
        return Err(invalid(format!("`id` is `{}`, not `owner/name`", shown(id)))
            .with_hint("use lower-case letters, digits and `-`, as in `rapidbyte/source-postgres`"));
    }
    if name.trim().is_empty() {
        return Err(invalid("`name` is empty"));
    }
    if !is_version(version) {
        return Err(invalid(format!("`version` is `{}`, not `major.minor.patch`", shown(version))));
    }
    check_artifact(artifact)?;
    check_permissions(permissions)?;
    check_roles(roles)?;
    ConfigSchema::parse(config_schema)
        .map_err(|error| ManifestError::new(ManifestErrorKind::ConfigSchema, format!("`config_schema`: {error}")))?;
    Ok(())
}

fn check_artifact(artifact: &Artifact) -> Result<(), ManifestError> {
    let Artifact { entry_point, checksum, min_memory_mb } = artifact;
    let stem = entry_point.strip_suffix(".wasm").unwrap_or_default();
    if stem.is_empty() || stem.starts_with('.') || !stem.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Err(invalid(format!("`artifact.entry_point` is `{}`, not the name of a `.wasm` file", shown(entry_point)))
            .with_hint("name a file in the manifest's own directory, without a path"));
    }
    if let Some(checksum) = checksum {
        let digits = checksum.strip_prefix("sha256:").unwrap_or_default();
        if digits.len() != 64 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(invalid("`artifact.checksum` is not `sha256:` and 64 lower-case hexadecimal digits"));
        }
    }
    // The ceiling is the address space of a 32-bit guest.
    if !(1..=4096).contains(min_memory_mb) {
        return Err(invalid(format!("`artifact.min_memory_mb` is {min_memory_mb}, not within 1 and 4096")));
    }
    Ok(())
}

fn check_permissions(permissions: &Permissions) -> Result<(), ManifestError> {
    let Permissions { network, env: EnvPermissions { allowed_vars }, fs: FsPermissions { preopens } } = permissions;
    if let Some(NetworkPermissions { tls: _, allowed_domains, allow_runtime_config_domains: _ }) = network
        && let Some(bad) = allowed_domains.iter().find(|domain| !is_domain(domain))
    {
        return Err(invalid(format!("`permissions.network.allowed_domains` has `{}`, not a host name", shown(bad)))
            .with_hint("write `db.example.com`, or `*.example.com` for every name below it"));
    }
    if let Some(bad) = allowed_vars.iter().find(|name| !crate::document::is_variable_name(name)) {
        return Err(invalid(format!("`permissions.env.allowed_vars` has `{}`, not a variable's name", shown(bad))));
    }
    for (i, Preopen { host, guest, mode: _ }) in preopens.iter().enumerate() {
        for (key, path) in [("host", host), ("guest", guest)] {
            if !is_absolute_path(path) {
                return Err(invalid(format!("`permissions.fs.preopens[{i}].{key}` is `{}`, not an absolute path", shown(path)))
                    .with_hint("begin with `/` and leave out `.`, `..` and a `/` at the end"));
            }
        }
        if guest == "/grants" || guest.starts_with("/grants/") {
            return Err(invalid(format!("`permissions.fs.preopens[{i}].guest` lies in `/grants`, which is the host's")));
        }
        if preopens[..i].iter().any(|earlier| earlier.guest == *guest) {
            return Err(invalid(format!("`permissions.fs.preopens` has `{}` twice", shown(guest))));
        }
    }
    Ok(())
}

fn check_roles(roles: &Roles) -> Result<(), ManifestError> {
    let Roles { source, destination, transform, utility } = roles;
    if source.is_none() && destination.is_none() && transform.is_none() && utility.is_none() {
        return Err(invalid("`roles` names none").with_hint("name `source`, `destination`, `transform` or `utility`"));
    }
    if let Some(source) = source {
        check_list("roles.source.supported_sync_modes", &source.supported_sync_modes, false)?;
        check_features("roles.source.features", &source.features)?;
    }
    if let Some(destination) = destination {
        check_list("roles.destination.supported_write_modes", &destination.supported_write_modes, false)?;
        check_features("roles.destination.features", &destination.features)?;
    }
    if let Some(transform) = transform {
        check_features("roles.transform.features", &transform.features)?;
    }
    Ok(())
}

fn check_features(path: &str, features: &[String]) -> Result<(), ManifestError> {
    check_list(path, features, true)?;
    match features.iter().find(|feature| !is_slug(&feature.replace('_', "-"))) {
        Some(bad) => Err(invalid(format!("`{path}` has `{}`, not a word", shown(bad)))),
        None => Ok(()),
    }
}

fn check_list<T: PartialEq>(path: &str, items: &[T], may_be_empty: bool) -> Result<(), ManifestError> {
    if items.is_empty() && !may_be_empty {
        return Err(invalid(format!("`{path}` is empty")));
    }
    if (1..items.len()).any(|i| items[..i].contains(&items[i])) {
        return Err(invalid(format!("`{path}` names one twice")));
    }
    Ok(())
}

/// Lower-case letters, digits and inner dashes.
pub(crate) fn is_slug(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_version(text: &str) -> bool {
    let (core, tail) = match text.find(['-', '+']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let number = |part: &str| part.parse::<u32>().is_ok_and(|number| number.to_string() == part);
    let tail_ok =
        tail.is_none_or(|tail| !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+".contains(&b)));
    core.split('.').count() == 3 && core.split('.').all(number) && tail_ok && text.len() <= 64
}

fn is_domain(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    // A wildcard over a whole top-level domain is no restriction.
    let labels = name.split('.').count();
    (1..=253).contains(&name.len())
        && (name.len() == text.len() || labels >= 2)
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

fn is_absolute_path(text: &str) -> bool {
    text.len() <= 4096
        && !text.contains('\0')
        && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}
