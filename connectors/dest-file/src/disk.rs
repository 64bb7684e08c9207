//! The granted folder. Paths are relative to it; every failure names the path and says what to do.

use crate::folder;
use rapidbyte_sdk::{BackoffClass, ConnectorError, ErrorCategory};
use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The code of an error about a disk without space.
pub(crate) const DISK_FULL: &str = "disk_full";
/// The code of an error about a file that is not there.
pub(crate) const FILE_MISSING: &str = "file_missing";

/// The granted folder.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    root: PathBuf,
}

/// What stands where a stream's link belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visible {
    /// Nothing.
    Absent,
    /// A link to this directory.
    Link(String),
    /// A folder or file that is not ours.
    Foreign,
}

/// A name that nobody else uses.
pub(crate) fn nonce() -> String {
    // Keyed at random for each state; the guest has no other source of randomness without more dependencies.
    let mut high = RandomState::new().build_hasher();
    high.write_u8(1);
    let mut low = RandomState::new().build_hasher();
    low.write_u8(2);
    format!("{:016x}{:016x}", high.finish(), low.finish())
}

/// How often a directory is listed that others change meanwhile.
const LISTINGS: u32 = 100;

impl Disk {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    /// Makes a directory and those above it, durably.
    pub(crate) fn ensure_dir(&self, path: &str) -> Result<(), ConnectorError> {
        let mut made = String::new();
        for component in path.split('/') {
            let parent = made.clone();
            if !made.is_empty() {
                made.push('/');
            }
            made.push_str(component);
            match fs::create_dir(self.at(&made)) {
                Ok(()) => self.sync_dir(&parent)?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("make the folder", &made, error)),
            }
        }
        Ok(())
    }

    /// Makes the entries of a directory durable.
    pub(crate) fn sync_dir(&self, path: &str) -> Result<(), ConnectorError> {
        folder::sync(&self.at(path)).map_err(|error| failed("make the folder durable", path, error))
    }

    /// Makes a file that must not exist yet.
    pub(crate) fn create(&self, path: &str) -> Result<File, ConnectorError> {
        OpenOptions::new().write(true).create_new(true).open(self.at(path)).map_err(|error| failed("make the file", path, error))
    }

    /// Gives a file a second name. False when that name is taken.
    pub(crate) fn link(&self, from: &str, to: &str) -> Result<bool, ConnectorError> {
        match folder::link(&self.at(from), &self.at(to)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(failed("make the hard link", to, error)),
        }
    }

    /// Lets the symbolic link at `path` lead to `target`, in one step for everyone who looks.
    pub(crate) fn point(&self, path: &str, target: &str) -> Result<(), ConnectorError> {
        self.ensure_dir(crate::names::STAGING)?;
        let temporary = format!("{}/link-{}", crate::names::STAGING, nonce());
        symlink(target, &self.at(&temporary)).map_err(|error| failed("make the symbolic link", path, error))?;
        let moved = folder::rename(&self.at(&temporary), &self.at(path)).map_err(|error| failed("move the link", path, error));
        if moved.is_err() {
            self.remove_file(&temporary)?;
        }
        moved?;
        self.sync_dir("")
    }

    /// Makes a symbolic link that leads nowhere, to see whether it can be made.
    pub(crate) fn probe_symlink(&self, path: &str) -> Result<(), ConnectorError> {
        symlink("nowhere", &self.at(path)).map_err(|error| failed("make the symbolic link", path, error))
    }

    /// What stands at `path`.
    pub(crate) fn visible(&self, path: &str) -> Result<Visible, ConnectorError> {
        match fs::symlink_metadata(self.at(path)) {
            Ok(found) if found.file_type().is_symlink() => {
                let target = fs::read_link(self.at(path)).map_err(|error| failed("read the link", path, error))?;
                Ok(target.to_str().map_or(Visible::Foreign, |target| Visible::Link(target.to_owned())))
            }
            Ok(_) => Ok(Visible::Foreign),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Visible::Absent),
            Err(error) => Err(failed("look at", path, error)),
        }
    }

    /// Removes a file; one that is not there is fine.
    pub(crate) fn remove_file(&self, path: &str) -> Result<(), ConnectorError> {
        absent_is_fine(fs::remove_file(self.at(path)), "remove the file", path)
    }

    /// Removes a directory and all below; one that is not there is fine.
    pub(crate) fn remove_tree(&self, path: &str) -> Result<(), ConnectorError> {
        absent_is_fine(fs::remove_dir_all(self.at(path)), "remove the folder", path)
    }

    /// The names in a directory; none where it does not exist.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, ConnectorError> {
        // The host looks at each entry as it lists them. One that another writer removes in between spoils the listing, which
        // is then made anew; that another is removed each time would be a chance too many.
        let mut spoiled = ErrorKind::NotFound.into();
        for _ in 0..LISTINGS {
            let entries = match fs::read_dir(self.at(path)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(failed("list the folder", path, error)),
            };
            let names: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.file_name().into_string())).collect();
            match names {
                // Names that are not UTF-8 are not ours.
                Ok(names) => return Ok(names.into_iter().flatten().collect()),
                Err(error) if error.kind() == ErrorKind::NotFound => spoiled = error,
                Err(error) => return Err(failed("list the folder", path, error)),
            }
        }
        Err(failed("list the folder", path, spoiled))
    }

    /// The bytes of a file, `None` where it does not exist. More than `limit` is refused.
    pub(crate) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ConnectorError> {
        let describe = |error| failed("read the file", path, error);
        let file = match File::open(self.at(path)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(describe(error)),
        };
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(describe)?;
        if bytes.len() as u64 > limit {
            return Err(ConnectorError::data("file_too_large", format!("`{path}` is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The size of a file, `None` where it does not exist.
    pub(crate) fn size(&self, path: &str) -> Result<Option<u64>, ConnectorError> {
        match fs::metadata(self.at(path)) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", path, error)),
        }
    }
}

#[expect(deprecated, reason = "the only stable way to a symbolic link on WASI; the folder is on the host, whatever its kind")]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    fs::soft_link(target, link)
}

fn absent_is_fine(result: io::Result<()>, what: &str, path: &str) -> Result<(), ConnectorError> {
    match result {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(what, path, error)),
        _ => Ok(()),
    }
}

/// A failure of the file system, in words.
pub(crate) fn failed(what: &str, path: &str, error: io::Error) -> ConnectorError {
    let place = if path.is_empty() { "`path`".to_owned() } else { format!("`{path}` below `path`") };
    let message = |cause: &str| format!("could not {what} {place}: {cause}");
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            ConnectorError::new(ErrorCategory::Permission, "path_not_writable", message("not allowed, or the folder is read-only"))
                .with_hint("let the user that runs Rapidbyte write to the folder, or set `path` to another one")
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            // A retry would fill the disk again at once, so it waits for a person.
            let mut full = ConnectorError::new(ErrorCategory::TransientDb, DISK_FULL, message("the disk is full"))
                .with_hint("free some space and run again: what was published before is untouched, and the load goes on");
            full.retryable = false;
            full.backoff = BackoffClass::Slow;
            full
        }
        ErrorKind::Unsupported => {
            ConnectorError::config("filesystem_links", message("the file system of `path` has no such links"))
                .with_hint("set `path` to a folder on a file system with hard and symbolic links")
        }
        ErrorKind::NotFound => ConnectorError::data(FILE_MISSING, message("it does not exist"))
            .with_hint("another process has removed files below `path`; leave the folders that begin with `_` alone"),
        ErrorKind::AlreadyExists => ConnectorError::internal("file_exists", message("it exists already")),
        _ => {
            let mut other = ConnectorError::new(ErrorCategory::TransientDb, "file_system", message(&error.to_string()))
                .with_hint("see whether the disk that holds `path` has free space left, and whether it works");
            other.retryable = matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::TimedOut | ErrorKind::ResourceBusy);
            other
        }
    }
}
