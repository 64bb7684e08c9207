//! Making, opening and refusing state files.

use super::schema::{self, APPLICATION_ID};
use super::verify;
use crate::error::{ErrorKind, StateError};
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

/// How long a call waits for another process's transaction. Ours take milliseconds; seconds allow for a slow disk's sync.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEADER_BYTES: usize = 100;
/// Where the header says how the file is written and read, which version it has and whose it is.
const WRITE_VERSION_AT: usize = 18;
const READ_VERSION_AT: usize = 19;
const APPLICATION_ID_AT: usize = 68;

/// Opens the state file, making it and its folder if they are not there. Returns the file's own path beside the connection.
pub(super) fn open(path: &Path) -> Result<(Connection, PathBuf), StateError> {
    let path = std::path::absolute(path).map_err(|error| StateError::io("find the state file", path, error))?;
    match fs::symlink_metadata(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path)?,
        Err(error) => return Err(StateError::io("find the state file", &path, error)),
    }
    // Lock files are named after the path: two names of one file must not make two locks.
    let path = fs::canonicalize(&path).map_err(|error| StateError::io("find the state file", &path, error))?;
    let connection = open_existing(&path).map_err(|error| error.at(&path))?;
    Ok((connection, path))
}

/// Makes the file whole beside its place and then puts it there, so that an empty or half-made file is never one of ours.
fn create(path: &Path) -> Result<(), StateError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StateError::new(ErrorKind::Io, "the path of the state file names no file").at(path));
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| StateError::io("make the folder of the state file", folder, error))?;

    let mut draft_name = name.to_owned();
    draft_name.push(format!(".{}.new", Uuid::new_v4()));
    let draft = Draft(folder.join(draft_name));
    private(OpenOptions::new().write(true).create_new(true))
        .open(&draft.0)
        .map_err(|error| StateError::io("make the state file", path, error))?;
    fill(&draft.0).map_err(|error| error.at(path))?;
    let placed = fs::hard_link(&draft.0, path);
    match placed {
        Ok(()) => {}
        // Another process was first; its file is as good.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        // Not every file system has hard links.
        Err(_) => fs::rename(&draft.0, path).map_err(|error| StateError::io("make the state file", path, error))?,
    }
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StateError::io("make the folder of the state file durable", folder, error))
}

/// The file being made; removed unless it was renamed, when there is nothing left to remove.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn fill(path: &Path) -> Result<(), StateError> {
    let mut connection = connect(path)?;
    // One sync at the end does for a file that nobody sees before.
    connection.pragma_update(None, "synchronous", "OFF")?;
    schema::migrate(&mut connection)?;
    // Closing writes the log back into the file and removes it.
    connection.close().map_err(|(_, error)| StateError::from(error))?;
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| StateError::io("make the state file durable", path, error))
}

fn open_existing(path: &Path) -> Result<Connection, StateError> {
    check_header(path)?;
    let mut connection = connect(path).map_err(StateError::or_damage)?;
    let version = schema::version(&connection).map_err(StateError::or_damage)?;
    if version > schema::latest() {
        let message = format!("the state file has version {version}, this rapidbyte knows up to {}", schema::latest());
        return Err(StateError::new(ErrorKind::TooNew, message));
    }
    verify::all(&connection, version).map_err(StateError::or_damage)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// Looks at the first bytes without SQLite, which would change a foreign database by opening it our way.
fn check_header(path: &Path) -> Result<(), StateError> {
    let meta = fs::metadata(path).map_err(|error| StateError::io("look at the state file", path, error))?;
    if !meta.is_file() {
        return Err(StateError::new(ErrorKind::NotOurs, "the path of the state file names something else than a file"));
    }
    if meta.len() == 0 {
        return Err(StateError::new(ErrorKind::Corrupt, "the state file is empty").with_hint(
            "restore it from a backup, or remove it to start with a new one; an empty file is never one rapidbyte made",
        ));
    }
    let mut header = Vec::with_capacity(HEADER_BYTES);
    File::open(path)
        .and_then(|file| file.take(HEADER_BYTES as u64).read_to_end(&mut header))
        .map_err(|error| StateError::io("read the state file", path, error))?;
    if !header.starts_with(MAGIC) {
        return Err(StateError::new(ErrorKind::NotOurs, "the file is not a state file: it is not a SQLite database"));
    }
    if header.len() < HEADER_BYTES {
        return Err(StateError::new(ErrorKind::Corrupt, "the state file is damaged: it has been cut off"));
    }
    let id = &header[APPLICATION_ID_AT..APPLICATION_ID_AT + 4];
    if id != APPLICATION_ID.to_be_bytes() {
        return Err(StateError::new(ErrorKind::NotOurs, "the file is not a state file: it is another program's SQLite database"));
    }
    // 1 is the rollback journal, which a copy made by a tool may have; 2 is the log.
    if !matches!((header[WRITE_VERSION_AT], header[READ_VERSION_AT]), (1, 1) | (2, 2)) {
        return Err(StateError::new(ErrorKind::Corrupt, "the state file is damaged: its header names no known format"));
    }
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, StateError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // SQLite falls back to reading what it can't write, and would say so at the first write only.
    if connection.is_readonly("main")? {
        return Err(StateError::new(ErrorKind::ReadOnly, "the state file can't be written"));
    }
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(StateError::new(ErrorKind::Io, "the state file's folder can't hold a write-ahead log")
            .with_hint("set `state.connection` to a path on a local disk"));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    // Nothing in the file may make SQLite call functions of its choosing.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Files that only this user may read.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}
