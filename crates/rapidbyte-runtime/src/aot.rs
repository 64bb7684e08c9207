//! The cache of compiled components.
//!
//! A compiled component is machine code: whoever can write one here runs code in this process. So the directory belongs to
//! this user alone, every file carries a MAC under a key that never leaves the directory, and the MAC is checked over the
//! very bytes that are then loaded. Any doubt means: compile again.

use crate::error::{HostError, HostErrorKind};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

const TAG: usize = 32;
const KEY_FILE: &str = "key";
/// A 64 MiB component compiles to less than this.
const MAX_FILE: u64 = 1 << 30;
/// Compiled components kept; the oldest go first.
const MAX_FILES: usize = 64;

/// An open cache directory.
pub(crate) struct AotCache {
    dir: PathBuf,
    key: [u8; 32],
    suffix: String,
}

impl AotCache {
    /// Opens the directory, making it and its key where they are missing.
    pub(crate) fn open(dir: &Path, engine: &Engine, build_id: &str) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(dir)?;
        check_private(&fs::symlink_metadata(dir)?, true)?;
        let key = read_key(dir).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => make_key(dir).and_then(|()| read_key(dir)),
            _ => Err(error),
        })?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let suffix = format!("{:016x}-{}", hasher.finish(), &hex(&Sha256::digest(build_id.as_bytes()))[..16]);
        Ok(Self { dir: dir.to_owned(), key, suffix })
    }

    fn name(&self, digest: &str) -> String {
        format!("{digest}-{}.cwasm", self.suffix)
    }

    /// The MAC covers the name, so that one component's code can't be put in another's place.
    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("a MAC takes a key of any length");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        mac.update(code);
        mac
    }

    /// The compiled component, if a trustworthy one is there.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let name = self.name(digest);
        let bytes = match self.read(&name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "a compiled component could not be read; compiling again");
                return None;
            }
        };
        let Some((tag, code)) = bytes.split_at_checked(TAG) else {
            tracing::warn!("a compiled component is cut off; compiling again");
            return None;
        };
        if self.mac(&name, code).verify_slice(tag).is_err() {
            tracing::warn!("a compiled component is not what was stored; compiling again");
            return None;
        }
        // SAFETY: `deserialize` asks for bytes that `Component::serialize` made. The MAC proves that this user's own process
        // made them, and they are checked and loaded from the same memory.
        match unsafe { Component::deserialize(engine, code) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(%error, "a compiled component does not fit this engine; compiling again");
                None
            }
        }
    }

    /// Keeps a compiled component. A failure costs time at the next start and nothing else.
    pub(crate) fn store(&self, digest: &str, component: &Component) {
        let stored = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| {
                let name = self.name(digest);
                let tag = self.mac(&name, &code).finalize().into_bytes();
                write_private(&self.dir, &name, &[tag.as_slice(), &code], true)
            })
            .and_then(|()| self.forget_oldest());
        if let Err(error) = stored {
            tracing::warn!(%error, "a compiled component could not be kept");
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        read_private(&self.dir.join(name), MAX_FILE)
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|end| end == "cwasm") {
                files.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        files.sort();
        for (_, path) in files.iter().rev().skip(MAX_FILES) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Names a component by its bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()
}

fn check_private(meta: &fs::Metadata, dir: bool) -> io::Result<()> {
    // SAFETY: takes nothing and always succeeds.
    let user = unsafe { libc::geteuid() };
    let kind = if dir { meta.is_dir() } else { meta.is_file() };
    if !kind || meta.uid() != user || meta.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it does not belong to this user alone"));
    }
    Ok(())
}

fn read_private(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    check_private(&meta, false)?;
    if meta.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes whole or not at all; `replace` says whether an existing file gives way.
fn write_private(dir: &Path, name: &str, parts: &[&[u8]], replace: bool) -> io::Result<()> {
    let mut random = [0; 8];
    fill_random(&mut random)?;
    let temporary = dir.join(format!(".{}.tmp", hex(&random)));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        let target = dir.join(name);
        if replace {
            fs::rename(&temporary, target)?;
        } else {
            fs::hard_link(&temporary, target)?;
            fs::remove_file(&temporary)?;
        }
        File::open(dir)?.sync_all()
    };
    let outcome = write();
    if outcome.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

fn read_key(dir: &Path) -> io::Result<[u8; 32]> {
    let bytes = read_private(&dir.join(KEY_FILE), 64)?;
    bytes.try_into().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the key has another length"))
}

fn make_key(dir: &Path) -> io::Result<()> {
    let mut key = [0; 32];
    fill_random(&mut key)?;
    match write_private(dir, KEY_FILE, &[&key], false) {
        // Another process was faster: its key is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(bytes).map_err(|_| io::Error::other("the system gives no random bytes"))
}

/// Why the cache could not be opened, for the caller who asked for it.
pub(crate) fn unusable(dir: &Path, error: io::Error) -> HostError {
    HostError::new(HostErrorKind::Engine, format!("the cache of compiled components in `{}` can't be used", dir.display()))
        .with_hint("the directory and its files must belong to this user alone (modes 0700 and 0600)")
        .because(error)
}
