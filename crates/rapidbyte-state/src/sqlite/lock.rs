//! One run of a pipeline at a time: an advisory lock on a file beside the state file, which the operating system lets go when
//! the process ends, however it ends.

use super::file::private;
use crate::error::{ErrorKind, StateError};
use crate::pipeline::PipelineId;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// A holder's own words fit many times over; a foreign file in this place is not read whole.
const MAX_HOLDER_BYTES: u64 = 4 << 10;

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    run_id: String,
}

pub(super) struct LockFile(File);

impl Drop for LockFile {
    fn drop(&mut self) {
        // The file stays: removing it would let two runs hold two files of one name. Without a holder it is empty.
        let _ = self.0.set_len(0);
    }
}

pub(super) fn path(state: &Path, pipeline: PipelineId) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(format!(".{pipeline}.lock"));
    path.into()
}

pub(super) fn take(state: &Path, pipeline: PipelineId, run_id: &str) -> Result<LockFile, StateError> {
    let path = path(state, pipeline);
    let mut file = private(OpenOptions::new().read(true).write(true).create(true).truncate(false))
        .open(&path)
        .map_err(|error| StateError::io("open the lock file of the pipeline", &path, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held(&mut file).at(&path)),
        Err(TryLockError::Error(error)) => return Err(StateError::io("lock the pipeline", &path, error)),
    }
    let holder = Holder { pid: std::process::id(), run_id: run_id.to_owned() };
    let text = serde_json::to_string(&holder).expect("a number and a string are always JSON");
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(|error| StateError::io("write the lock file of the pipeline", &path, error))?;
    Ok(LockFile(file))
}

/// The refusal, naming the holder as far as it can be known: it may be about to write its name.
fn held(file: &mut File) -> StateError {
    let mut text = Vec::new();
    let read = file.rewind().and_then(|()| file.take(MAX_HOLDER_BYTES).read_to_end(&mut text));
    match read.ok().and_then(|_| serde_json::from_slice::<Holder>(&text).ok()) {
        Some(Holder { pid, run_id }) => {
            let message = format!("another run of this pipeline is under way: run `{run_id}`, process {pid}");
            StateError::new(ErrorKind::Locked, message)
                .with_hint(format!("wait for it to finish, or stop process {pid}, then run again"))
        }
        None => StateError::new(ErrorKind::Locked, "another run of this pipeline is under way"),
    }
}
