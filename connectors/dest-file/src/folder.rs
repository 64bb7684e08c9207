//! Making a folder's entries durable.

#[cfg(target_os = "wasi")]
pub(crate) use in_sandbox::sync;
#[cfg(not(target_os = "wasi"))]
pub(crate) use native::sync;

#[cfg(not(target_os = "wasi"))]
mod native {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(crate) fn sync(path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// By the interface itself: C libraries that still go through WASI's preview 1 refuse to flush a folder.
#[cfg(target_os = "wasi")]
mod in_sandbox {
    use std::io::{self, ErrorKind};
    use std::path::Path;
    use wasip2::filesystem::preopens;
    use wasip2::filesystem::types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags};

    pub(crate) fn sync(path: &Path) -> io::Result<()> {
        for (granted, name) in preopens::get_directories() {
            let Ok(below) = path.strip_prefix(&name) else { continue };
            let below = below.to_str().filter(|below| !below.is_empty()).unwrap_or(".");
            return granted
                .open_at(PathFlags::empty(), below, OpenFlags::DIRECTORY, DescriptorFlags::READ)
                .and_then(|folder| folder.sync())
                .map_err(said);
        }
        Err(io::Error::new(ErrorKind::NotFound, "the folder is in no granted one"))
    }

    fn said(code: ErrorCode) -> io::Error {
        let kind = match code {
            ErrorCode::Access | ErrorCode::NotPermitted => ErrorKind::PermissionDenied,
            ErrorCode::InsufficientSpace => ErrorKind::StorageFull,
            ErrorCode::Quota => ErrorKind::QuotaExceeded,
            ErrorCode::NoEntry => ErrorKind::NotFound,
            ErrorCode::NotDirectory => ErrorKind::NotADirectory,
            ErrorCode::ReadOnly => ErrorKind::ReadOnlyFilesystem,
            _ => ErrorKind::Other,
        };
        io::Error::new(kind, code.name())
    }
}
