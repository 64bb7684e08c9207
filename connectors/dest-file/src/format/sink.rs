//! A staged file while it is written: counts bytes and the time the file system takes.

use rapidbyte_sdk::ConnectorError;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Fewer, larger calls to the host; guessed.
const BUFFER_BYTES: usize = 256 << 10;

/// A file that is being staged.
pub(crate) struct Sink {
    file: File,
    path: String,
    buffer: Vec<u8>,
    bytes: u64,
    spent: Duration,
}

impl Sink {
    pub(crate) fn new(file: File, path: String) -> Self {
        Self { file, path, buffer: Vec::with_capacity(BUFFER_BYTES), bytes: 0, spent: Duration::ZERO }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Bytes taken so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Time spent in the file system so far.
    pub(crate) fn spent(&self) -> Duration {
        self.spent
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self) -> Result<(), ConnectorError> {
        self.flush()
            .and_then(|()| crate::folder::sync_file(&self.file))
            .map_err(|error| crate::disk::failed("write the file", &self.path, error))
    }

    fn drain(&mut self) -> io::Result<()> {
        let started = Instant::now();
        let written = self.file.write_all(&self.buffer);
        self.spent += started.elapsed();
        self.buffer.clear();
        written
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.drain()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            let started = Instant::now();
            let written = self.file.write_all(bytes);
            self.spent += started.elapsed();
            written?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain()
    }
}
