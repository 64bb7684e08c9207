//! Instances between two calls. To open one costs little; what costs is the session that it then makes at its server. So an
//! instance that has done its work well is kept for whoever needs one next, of whatever stream.
//!
//! Nothing of a load is kept with it: an instance is kept only if its last call has ended well and it holds nothing at its server,
//! and before another attempt all are given up. A fresh one is opened only when none is idle, so that there are never more than
//! calls were under way at once.

use crate::kit::BUSY_GUEST;
use rapidbyte_runtime::{DestinationInstance, GuestError, InstanceOptions, SourceInstance};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than this an instance is not used any more: between it and its server there may be what forgets a silent connection
/// without a word. Guessed; such things wait for minutes.
const LONGEST: Duration = Duration::from_secs(30);

/// An instance with more memory than this is not kept, since it would never give any of it back: those that are kept fit into what
/// the tasks that may run at once are reckoned with.
const LARGEST: usize = BUSY_GUEST as usize;

/// How long instances may take together to say goodbye. Guessed: they only tell their servers, and nobody waits for answers.
const GOODBYE: Duration = Duration::from_millis(250);

/// What can be kept.
pub(crate) trait Instance: Send + Sized {
    fn turn_to(&mut self, options: &InstanceOptions);
    fn is_sound(&self) -> bool;
    fn memory(&self) -> usize;
    fn close(self) -> impl Future<Output = Result<(), GuestError>> + Send;
}

macro_rules! instance {
    ($name:ident) => {
        impl Instance for $name {
            fn turn_to(&mut self, options: &InstanceOptions) {
                Self::turn_to(self, options);
            }

            fn is_sound(&self) -> bool {
                Self::is_sound(self)
            }

            fn memory(&self) -> usize {
                Self::memory(self)
            }

            fn close(self) -> impl Future<Output = Result<(), GuestError>> + Send {
                Self::close(self)
            }
        }
    };
}

instance!(SourceInstance);
instance!(DestinationInstance);

/// The idle instances of one end.
pub(crate) struct Idle<T> {
    /// As many at most; none until a run says so.
    most: AtomicUsize,
    kept: Mutex<Vec<(Instant, T)>>,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self { most: AtomicUsize::new(0), kept: Mutex::default() }
    }
}

impl<T: Instance> Idle<T> {
    fn kept(&self) -> MutexGuard<'_, Vec<(Instant, T)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on so many are kept at most.
    pub(crate) fn keep_up_to(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// The one used last, if that was not too long ago, for the stream that the options name.
    pub(crate) fn take(&self, options: &InstanceOptions) -> Option<T> {
        let mut kept = self.kept();
        let newest = kept.pop().filter(|(since, _)| since.elapsed() < LONGEST);
        if newest.is_none() {
            // The others have waited for longer.
            kept.clear();
        }
        drop(kept);
        newest.map(|(_, mut instance)| {
            instance.turn_to(options);
            instance
        })
    }

    /// Keeps an instance that holds nothing at its server, or closes it. What it did is done: how it ends changes nothing.
    pub(crate) async fn give(&self, instance: T) {
        if !instance.is_sound() {
            return;
        }
        if instance.memory() <= LARGEST {
            let mut kept = self.kept();
            if kept.len() < self.most.load(Ordering::Relaxed) {
                kept.push((Instant::now(), instance));
                return;
            }
        }
        close([instance]).await;
    }

    /// Gives all up, without a word to their servers.
    pub(crate) fn forget(&self) {
        self.kept().clear();
    }

    /// Closes all but so many, those that have waited longest first.
    pub(crate) async fn close_down_to(&self, most: usize) {
        let surplus: Vec<_> = {
            let mut kept = self.kept();
            let surplus = kept.len().saturating_sub(most);
            kept.drain(..surplus).collect()
        };
        close(surplus.into_iter().map(|(_, instance)| instance)).await;
    }
}

async fn close<T: Instance>(instances: impl IntoIterator<Item = T, IntoIter: Send> + Send) {
    let closing = async {
        for instance in instances {
            if let Err(error) = instance.close().await {
                tracing::debug!(error = %error, "an instance did not close cleanly");
            }
        }
    };
    if tokio::time::timeout(GOODBYE, closing).await.is_err() {
        tracing::debug!("instances did not close in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapidbyte_runtime::Grants;
    use std::sync::Arc;

    #[derive(Clone)]
    struct Fake {
        name: &'static str,
        sound: bool,
        memory: usize,
        closed: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Instance for Fake {
        fn turn_to(&mut self, _: &InstanceOptions) {}

        fn is_sound(&self) -> bool {
            self.sound
        }

        fn memory(&self) -> usize {
            self.memory
        }

        async fn close(self) -> Result<(), GuestError> {
            self.closed.lock().unwrap().push(self.name);
            Ok(())
        }
    }

    fn taken(idle: &Idle<Fake>) -> Option<&'static str> {
        idle.take(&InstanceOptions::new("{}", Grants::default())).map(|fake| fake.name)
    }

    #[tokio::test]
    async fn what_is_sound_small_and_fresh_is_kept_as_far_as_there_is_room() {
        let (idle, closed) = (Idle::default(), Arc::default());
        let fake = |name| Fake { name, sound: true, memory: 1 << 20, closed: Arc::clone(&closed) };
        let closed_now = || std::mem::take(&mut *closed.lock().unwrap());
        // A visit keeps nothing.
        idle.give(fake("a visitor")).await;
        assert_eq!((taken(&idle), closed_now()), (None, vec!["a visitor"]));
        idle.keep_up_to(2);
        for name in ["first", "second", "third"] {
            idle.give(fake(name)).await;
        }
        assert_eq!(closed_now(), ["third"]);
        assert_eq!((taken(&idle), taken(&idle), taken(&idle)), (Some("second"), Some("first"), None));
        idle.give(Fake { sound: false, ..fake("trapped") }).await;
        idle.give(Fake { memory: LARGEST + 1, ..fake("large") }).await;
        assert_eq!((taken(&idle), closed_now()), (None, vec!["large"]));
    }

    #[tokio::test]
    async fn what_has_waited_for_long_or_before_an_error_is_not_used() {
        let (idle, closed) = (Idle::default(), Arc::default());
        let fake = |name| Fake { name, sound: true, memory: 0, closed: Arc::clone(&closed) };
        idle.keep_up_to(3);
        let long_ago = Instant::now().checked_sub(LONGEST).expect("a clock that has run for a while");
        idle.kept().push((long_ago, fake("older")));
        idle.kept().push((long_ago, fake("old")));
        assert_eq!((taken(&idle), idle.kept().len()), (None, 0));
        idle.give(fake("before")).await;
        idle.forget();
        assert_eq!((taken(&idle), closed.lock().unwrap().len()), (None, 0));
        for name in ["first", "second", "third"] {
            idle.give(fake(name)).await;
        }
        idle.close_down_to(1).await;
        assert_eq!(*closed.lock().unwrap(), ["first", "second"]);
        assert_eq!(taken(&idle), Some("third"));
    }
}
