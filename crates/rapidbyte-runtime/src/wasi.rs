//! The small part of WASI a guest gets: clocks, randomness, granted directories and variables, and its standard streams.

use crate::error::{HostError, HostErrorKind};
use crate::grants::Grants;
use crate::host::Labels;
use bytes::Bytes;
use rapidbyte_config::Redactor;
use rapidbyte_config::manifest::FsMode;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx};

/// What is kept of a guest's standard error for the message of a trap.
const TAIL: usize = 16 << 10;
/// Lines of it that reach the log, for each stream that an instance turns to.
const MAX_LINES: usize = 2_000;
const MAX_LINE: usize = 1 << 10;

/// Makes a writer for a guest's standard output.
pub type OpenStdout = Arc<dyn Fn() -> Box<dyn AsyncWrite + Send + Sync> + Send + Sync>;

/// Where a guest's standard output goes.
#[derive(Clone, Default)]
pub enum StdoutMode {
    /// Nowhere.
    #[default]
    Discard,
    /// To this process's own.
    Inherit,
    /// To a writer of the caller's.
    To(OpenStdout),
}

/// Remembers that whoever read a guest's standard output has gone away.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClosedPipe(Arc<AtomicBool>);

impl ClosedPipe {
    /// Whether a write has met a closed pipe.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Stdout {
    open: OpenStdout,
    closed: ClosedPipe,
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Watched { inner: Pin::from((self.open)()), closed: self.closed.clone() })
    }
}

/// A writer that notes a closed pipe.
struct Watched {
    inner: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    closed: ClosedPipe,
}

impl Watched {
    fn note<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            self.closed.0.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.inner.as_mut().poll_write(cx, bytes);
        self.note(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.inner.as_mut().poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.inner.as_mut().poll_shutdown(cx);
        self.note(outcome)
    }
}

/// A guest's standard error: its end is kept, its lines are logged at `debug`.
#[derive(Clone)]
pub(crate) struct Stderr(Arc<Mutex<Captured>>);

struct Captured {
    tail: VecDeque<u8>,
    line: Vec<u8>,
    lines: usize,
    labels: Labels,
    redactor: Arc<Redactor>,
}

impl Stderr {
    pub(crate) fn new(labels: Labels, redactor: Arc<Redactor>) -> Self {
        Self(Arc::new(Mutex::new(Captured { tail: VecDeque::new(), line: Vec::new(), lines: 0, labels, redactor })))
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it is about another stream.
    pub(crate) fn turn_to(&self, stream: &str) {
        let mut captured = self.lock();
        captured.labels.stream.replace_range(.., stream);
        captured.tail.clear();
        captured.line.clear();
        captured.lines = 0;
    }

    /// The end of what was written, redacted.
    pub(crate) fn tail(&self) -> String {
        let mut captured = self.lock();
        let text = String::from_utf8_lossy(captured.tail.make_contiguous()).into_owned();
        captured.redactor.redact(&text).into_owned()
    }
}

impl Captured {
    fn take(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(TAIL)..];
        let surplus = (self.tail.len() + kept.len()).saturating_sub(TAIL);
        self.tail.drain(..surplus.min(self.tail.len()));
        self.tail.extend(kept);
        for byte in bytes {
            if self.lines >= MAX_LINES {
                return;
            }
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                let text = String::from_utf8_lossy(&line);
                let Labels { connector, pipeline, stream } = &self.labels;
                tracing::debug!(target: "rapidbyte::connector", connector, pipeline, stream, "stderr: {}", self.redactor.redact(&text));
                self.lines += 1;
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stderr {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stderr {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lock().take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Stderr {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.lock().take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a guest gets of WASI: no arguments, no standard input, no sockets; the granted variables and directories.
pub(crate) fn context(grants: &Grants, stdout: &StdoutMode, closed: &ClosedPipe, stderr: &Stderr) -> Result<WasiCtx, HostError> {
    let mut builder = WasiCtx::builder();
    builder.envs(&grants.env).stderr(stderr.clone());
    // Asking for more random bytes in one call than any key needs is a way to make the host allocate.
    builder.max_random_size(64 << 10);
    match stdout {
        StdoutMode::Discard => {}
        StdoutMode::Inherit => {
            let open: OpenStdout = Arc::new(|| Box::new(tokio::io::stdout()));
            builder.stdout(Stdout { open, closed: closed.clone() });
        }
        StdoutMode::To(open) => {
            builder.stdout(Stdout { open: Arc::clone(open), closed: closed.clone() });
        }
    }
    for dir in &grants.dirs {
        let perms = match dir.mode {
            FsMode::Read => FsPerms::ReadOnly,
            FsMode::ReadWrite => FsPerms::ReadWrite,
        };
        let refused = |doing: &str| {
            HostError::new(HostErrorKind::Grant, format!("the directory `{}` can't be {doing}", dir.host.display()))
                .with_hint("name a directory that this user may use, or give it the right to")
        };
        if dir.mode == FsMode::ReadWrite {
            std::fs::create_dir_all(&dir.host).map_err(|error| refused("made").because(error))?;
        }
        builder.preopened_dir(&dir.host, &dir.guest, perms).map_err(|error| refused("opened").because(error))?;
    }
    Ok(builder.build())
}
