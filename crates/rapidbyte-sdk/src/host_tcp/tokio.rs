//! `AsyncRead + AsyncWrite` over a host socket.
//!
//! A guest is one thread and has no reactor. [`block_on`] polls the future; when nothing moves, it suspends the guest in the
//! host until one of the sockets that would have blocked is ready.

#[cfg(not(target_family = "wasm"))]
use super::native::{Pollable, wait_any};
#[cfg(target_family = "wasm")]
use super::wasm::{Pollable, wait_any};
use super::{HostTcpStream, ReadOutcome};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes asked for at once; a driver's own buffer may be smaller.
const READ_CHUNK: u32 = 64 << 10;

/// Bytes read from the host and not yet taken by the driver.
#[derive(Default)]
pub(super) struct Pending {
    unread: Vec<u8>,
    at: usize,
}

impl Pending {
    pub(super) fn has_unread(&self) -> bool {
        self.at < self.unread.len()
    }
}

thread_local! {
    /// Who waits for which socket.
    static WAITING: RefCell<Vec<(Pollable, Waker)>> = const { RefCell::new(Vec::new()) };
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a future to its end on this thread. Its only reactor is the host's sockets: a future that waits for anything else
/// and is never woken would wait for ever, so that is an error.
pub fn block_on<F: Future>(future: F) -> Result<F::Output, io::Error> {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        if woken.0.swap(false, Ordering::AcqRel) {
            continue;
        }
        let waiting = WAITING.take();
        if waiting.is_empty() {
            return Err(io::Error::other("the future waits for something other than a host socket"));
        }
        let pollables: Vec<&Pollable> = waiting.iter().map(|(pollable, _)| pollable).collect();
        let ready = wait_any(&pollables);
        drop(pollables);
        let mut rest = Vec::new();
        for (index, entry) in waiting.into_iter().enumerate() {
            if ready.contains(&(index as u32)) {
                entry.1.wake();
            } else {
                rest.push(entry);
            }
        }
        WAITING.with_borrow_mut(|list| list.extend(rest));
    }
}

impl HostTcpStream {
    fn wait_for(&self, read: bool, context: &Context<'_>) {
        let entry = (self.backend.subscribe(read), context.waker().clone());
        WAITING.with_borrow_mut(|list| list.push(entry));
    }
}

impl Drop for HostTcpStream {
    fn drop(&mut self) {
        // A pollable must go before its stream. The others are woken and ask again.
        for (pollable, waker) in WAITING.take() {
            drop(pollable);
            waker.wake();
        }
    }
}

impl AsyncRead for HostTcpStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.pending.at == this.pending.unread.len() {
            match this.backend.read(READ_CHUNK, 1, Duration::ZERO)? {
                ReadOutcome::Data(bytes) => this.pending = Pending { unread: bytes, at: 0 },
                ReadOutcome::Eof => return Poll::Ready(Ok(())),
                ReadOutcome::WouldBlock => {
                    this.wait_for(true, context);
                    return Poll::Pending;
                }
            }
        }
        let unread = &this.pending.unread[this.pending.at..];
        let count = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..count]);
        this.pending.at += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HostTcpStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match self.backend.write(bytes, Duration::ZERO)? {
            0 => {
                self.wait_for(false, context);
                Poll::Pending
            }
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.backend.shutdown().map_err(io::Error::from))
    }
}
