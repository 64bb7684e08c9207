//! The bare socket. With the feature `crash-points` it can be told to misbehave, below TLS, as a network would.

#[cfg(not(feature = "crash-points"))]
pub(super) type Wire = tokio::net::TcpStream;

#[cfg(feature = "crash-points")]
pub(crate) use tampered::Tamper;
#[cfg(feature = "crash-points")]
pub(super) use tampered::Wire;

#[cfg(feature = "crash-points")]
mod tampered {
    use crate::fault::Act;
    use std::future::Future;
    use std::io;
    use std::ops::Deref;
    use std::pin::Pin;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker, ready};
    use std::time::Duration;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio::net::TcpStream;
    use tokio::time::Sleep;

    /// Bytes that pass at once where a stream is sliced.
    const SLICE: usize = 3;

    /// What is done to a socket.
    #[derive(Default)]
    pub(crate) struct Tamper(Mutex<State>);

    #[derive(Default)]
    struct State {
        act: Option<Act>,
        sliced: bool,
        reader: Option<Waker>,
    }

    impl Tamper {
        fn lock(&self) -> MutexGuard<'_, State> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// From now on.
        pub(crate) fn set(&self, act: Act) {
            let mut state = self.lock();
            state.act = Some(act);
            if let Some(reader) = state.reader.take() {
                reader.wake();
            }
        }

        fn act(&self) -> Option<Act> {
            self.lock().act
        }
    }

    /// A socket that may be tampered with.
    pub(crate) struct Wire {
        stream: Option<TcpStream>,
        tamper: Arc<Tamper>,
        pause: Option<Pin<Box<Sleep>>>,
    }

    impl Wire {
        pub(crate) fn new(stream: TcpStream) -> Self {
            Self { stream: Some(stream), tamper: Arc::default(), pause: None }
        }

        pub(crate) fn tamper(&self) -> &Arc<Tamper> {
            &self.tamper
        }

        fn inner(&mut self) -> &mut TcpStream {
            self.stream.as_mut().expect("taken only on drop")
        }

        /// Waits before a read or a write.
        fn poll_pause(&mut self, cx: &mut Context<'_>, milliseconds: u64) -> Poll<()> {
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(milliseconds))));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
            Poll::Ready(())
        }

        /// A few bytes, then nothing for a moment, so that a reader who takes what is there gets just these.
        fn poll_slice(&self, cx: &Context<'_>) -> Poll<()> {
            let mut state = self.tamper.lock();
            state.sliced = !state.sliced;
            if state.sliced {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn reset() -> io::Error {
            io::Error::new(io::ErrorKind::ConnectionReset, "the sweep cut the connection")
        }

        fn hang_up(&self) {
            let socket = socket2::SockRef::from(&**self);
            // A socket that is gone already is as good.
            let _ = socket.set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }

    impl Deref for Wire {
        type Target = TcpStream;

        fn deref(&self) -> &TcpStream {
            self.stream.as_ref().expect("taken only on drop")
        }
    }

    impl Drop for Wire {
        fn drop(&mut self) {
            if self.tamper.act() == Some(Act::Silence) {
                // The server must not learn that we are gone.
                std::mem::forget(self.stream.take());
            }
        }
    }

    impl AsyncRead for Wire {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let act = self.tamper.act();
            match act {
                Some(Act::Cut) => {
                    self.hang_up();
                    return Poll::Ready(Err(Self::reset()));
                }
                Some(Act::Close) => {
                    self.hang_up();
                    return Poll::Ready(Ok(()));
                }
                Some(Act::Silence) => return Poll::Pending,
                Some(Act::LoseAnswer) => {
                    let mut lost = [0; 512];
                    let mut lost = ReadBuf::new(&mut lost);
                    ready!(Pin::new(self.inner()).poll_read(cx, &mut lost))?;
                    self.tamper.set(Act::Cut);
                    self.hang_up();
                    return Poll::Ready(Err(Self::reset()));
                }
                Some(Act::Slow(milliseconds)) => ready!(self.poll_pause(cx, milliseconds)),
                Some(Act::Slice) => {
                    ready!(self.poll_slice(cx));
                    let mut few = buffer.take(SLICE);
                    ready!(Pin::new(self.inner()).poll_read(cx, &mut few))?;
                    let count = few.filled().len();
                    // SAFETY: the bytes of `few` are those of `buffer` behind its filled part.
                    unsafe { buffer.assume_init(count) };
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                _ => {}
            }
            let before = buffer.filled().len();
            let outcome = Pin::new(self.inner()).poll_read(cx, buffer);
            if outcome.is_pending() {
                self.tamper.lock().reader = Some(cx.waker().clone());
            }
            let filled = &mut buffer.filled_mut()[before..];
            if act == Some(Act::Corrupt) && !filled.is_empty() {
                let middle = filled.len() / 2;
                filled[middle] ^= 0x10;
                self.tamper.lock().act = None;
            }
            outcome
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut bytes = bytes;
            let corrupted;
            match self.tamper.act() {
                Some(Act::Cut) => {
                    self.hang_up();
                    return Poll::Ready(Err(Self::reset()));
                }
                Some(Act::Close) => {
                    self.hang_up();
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
                Some(Act::Silence) => return Poll::Ready(Ok(bytes.len())),
                Some(Act::Slow(milliseconds)) => ready!(self.poll_pause(cx, milliseconds)),
                Some(Act::Slice) => bytes = &bytes[..bytes.len().min(SLICE)],
                Some(Act::Corrupt) if !bytes.is_empty() => {
                    let mut copy = bytes.to_vec();
                    copy[bytes.len() / 2] ^= 0x10;
                    corrupted = copy;
                    let written = ready!(Pin::new(self.inner()).poll_write(cx, &corrupted))?;
                    if written > corrupted.len() / 2 {
                        self.tamper.lock().act = None;
                    }
                    return Poll::Ready(Ok(written));
                }
                _ => {}
            }
            Pin::new(self.inner()).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(self.inner()).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.tamper.act() == Some(Act::Silence) {
                return Poll::Ready(Ok(()));
            }
            Pin::new(self.inner()).poll_shutdown(cx)
        }
    }
}
