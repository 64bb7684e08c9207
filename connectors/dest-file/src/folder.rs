//! Acts on a folder's entries that commits rest on: flushing them, and giving a file a second or another name.

#[cfg(target_os = "wasi")]
pub(crate) use in_sandbox::{link, rename, sync};
#[cfg(not(target_os = "wasi"))]
pub(crate) use native::{link, rename, sync};

/// Makes a file's bytes durable.
pub(crate) fn sync_file(file: &std::fs::File) -> std::io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    witness::file(file)?;
    Ok(())
}

#[cfg(not(target_os = "wasi"))]
mod native {
    use std::fs::{self, File};
    use std::io;
    use std::path::Path;

    pub(crate) fn sync(folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()?;
        #[cfg(test)]
        super::witness::folder(folder)?;
        Ok(())
    }

    pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

/// By the interface itself. Some C libraries for the sandbox refuse to flush a folder, because they go through WASI's preview 1,
/// and take the second of two paths for both.
#[cfg(target_os = "wasi")]
mod in_sandbox {
    use std::io::{self, ErrorKind};
    use std::path::Path;
    use wasip2::filesystem::preopens;
    use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

    pub(crate) fn sync(folder: &Path) -> io::Result<()> {
        let (granted, [below]) = within([folder])?;
        granted
            .open_at(PathFlags::empty(), below, OpenFlags::DIRECTORY, DescriptorFlags::READ)
            .and_then(|folder| folder.sync())
            .map_err(said)
    }

    pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
        let (granted, [from, to]) = within([from, to])?;
        granted.link_at(PathFlags::empty(), from, &granted, to).map_err(said)
    }

    pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        let (granted, [from, to]) = within([from, to])?;
        granted.rename_at(from, &granted, to).map_err(said)
    }

    /// The granted folder that all paths are in, and the paths within it.
    fn within<const N: usize>(paths: [&Path; N]) -> io::Result<(Descriptor, [&str; N])> {
        for (granted, name) in preopens::get_directories() {
            let below = paths.map(|path| path.strip_prefix(&name).ok().and_then(Path::to_str));
            if below.iter().all(Option::is_some) {
                return Ok((granted, below.map(|path| path.filter(|path| !path.is_empty()).unwrap_or("."))));
            }
        }
        Err(io::Error::new(ErrorKind::PermissionDenied, "the path is in no granted folder"))
    }

    fn said(code: ErrorCode) -> io::Error {
        let kind = match code {
            ErrorCode::Access | ErrorCode::NotPermitted => ErrorKind::PermissionDenied,
            ErrorCode::Exist => ErrorKind::AlreadyExists,
            ErrorCode::InsufficientSpace => ErrorKind::StorageFull,
            ErrorCode::Quota => ErrorKind::QuotaExceeded,
            ErrorCode::NoEntry => ErrorKind::NotFound,
            ErrorCode::NotDirectory => ErrorKind::NotADirectory,
            ErrorCode::ReadOnly => ErrorKind::ReadOnlyFilesystem,
            ErrorCode::Unsupported => ErrorKind::Unsupported,
            ErrorCode::TooManyLinks => ErrorKind::TooManyLinks,
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, code.name())
    }
}

/// What would be left after a loss of power, as far as this thread has made it durable.
#[cfg(test)]
pub(crate) mod witness {
    use std::cell::RefCell;
    use std::collections::{BTreeSet, HashMap};
    use std::ffi::OsString;
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};

    #[derive(Default)]
    struct Durable {
        lengths: HashMap<u64, u64>,
        names: HashMap<u64, BTreeSet<OsString>>,
    }

    thread_local! {
        static DURABLE: RefCell<Durable> = RefCell::default();
    }

    fn names(folder: &Path) -> io::Result<BTreeSet<OsString>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    pub(super) fn file(file: &File) -> io::Result<()> {
        let known = file.metadata()?;
        DURABLE.with_borrow_mut(|durable| durable.lengths.insert(known.ino(), known.len()));
        Ok(())
    }

    pub(super) fn folder(path: &Path) -> io::Result<()> {
        let (ino, names) = (fs::metadata(path)?.ino(), names(path)?);
        DURABLE.with_borrow_mut(|durable| durable.names.insert(ino, names));
        Ok(())
    }

    /// Everything below a folder that a loss of power might take away: entries of folders, and bytes of files.
    pub(crate) fn at_risk(root: &Path) -> Vec<PathBuf> {
        let mut risky = Vec::new();
        let mut left = vec![root.to_owned()];
        while let Some(path) = left.pop() {
            let known = fs::symlink_metadata(&path).unwrap();
            if known.is_file() {
                let length = DURABLE.with_borrow(|durable| durable.lengths.get(&known.ino()).copied());
                if length != Some(known.len()) {
                    risky.push(path);
                }
            } else if known.is_dir() {
                let durable = DURABLE.with_borrow(|durable| durable.names.get(&known.ino()).cloned()).unwrap_or_default();
                let there = names(&path).unwrap();
                risky.extend(there.difference(&durable).map(|name| path.join(name)));
                left.extend(there.iter().map(|name| path.join(name)));
            }
        }
        risky
    }
}
