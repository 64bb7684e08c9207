//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once.

use crate::exit::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::printer::write_stderr;
use std::fmt;
use std::thread;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A clean end takes no longer; what hangs then is left behind. Nothing depends on it: everything durable has a receipt.
const PATIENCE: Duration = Duration::from_millis(1900);

/// What asked the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The first signal, when it has come.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    first: watch::Receiver<Option<Signal>>,
}

impl Signals {
    /// Takes both signals over. They are waited for on a thread of their own, so that busy workers can't delay them.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn install(quiet: bool) -> Outcome<Self> {
        let (sender, first) = watch::channel(None);
        let refused = |error: &dyn fmt::Display| Failure::Internal(format!("signals can't be received: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| refused(&error))?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        let wait = move || runtime.block_on(listen(sender, ready, quiet));
        thread::Builder::new().name("signals".to_owned()).spawn(wait).map_err(|error| refused(&error))?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self { first }),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(refused(&error)),
        }
    }

    /// The first signal, if one has come.
    pub(crate) fn received(&self) -> Option<Signal> {
        *self.first.borrow()
    }

    /// Waits for the first signal.
    pub(crate) async fn first(&self) -> Signal {
        let mut first = self.first.clone();
        match first.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            // The thread lives as long as the process; without it no signal will come.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The result of `work`, or the signal that came before it.
    ///
    /// # Errors
    /// [`Failure::Stopped`], or what `work` failed with.
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
        tokio::select! {
            result = work => result,
            signal = self.first() => Err(Failure::Stopped(signal)),
        }
    }
}

async fn listen(sender: watch::Sender<Option<Signal>>, ready: std::sync::mpsc::Sender<std::io::Result<()>>, quiet: bool) {
    let streams = signal(SignalKind::interrupt()).and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)));
    let (mut interrupt, mut terminate) = match streams {
        Ok(streams) => streams,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => Signal::Interrupt,
            _ = terminate.recv() => Signal::Terminate,
        }
    };
    let first = next().await;
    sender.send_replace(Some(first));
    if !quiet {
        write_stderr("stopping; press Ctrl-C again to stop at once\n");
    }
    tokio::select! {
        second = next() => end(second),
        () = tokio::time::sleep(PATIENCE) => end(first),
    }
}

fn end(signal: Signal) -> ! {
    std::process::exit(i32::from(signal.exit_code().number()))
}
