//! Things a guest can wait for beside its sockets' data: capacity, events, durability.

use crate::link::{EventWaiter, RoomWaiter};
use crate::net::{ReadInterest, WriteInterest};
use rapidbyte_types::Position;
use tokio::sync::watch;
use wasmtime_wasi::p2::Pollable;

/// One thing to wait for. It owns what it looks at, so it may outlive the resource it came from.
pub(crate) enum Interest {
    Read(ReadInterest),
    Write(WriteInterest),
    Capacity(RoomWaiter),
    Event(EventWaiter),
    Durable(watch::Receiver<Option<Position>>),
    /// Nothing will come; asking again says why.
    Now,
}

#[wasmtime_wasi::async_trait]
impl Pollable for Interest {
    async fn ready(&mut self) {
        match self {
            Self::Read(interest) => interest.ready().await,
            Self::Write(interest) => interest.ready().await,
            Self::Capacity(waiter) => waiter.ready().await,
            Self::Event(waiter) => waiter.ready().await,
            Self::Durable(watch) => {
                // Looks through a copy, which marks nothing as seen here: readiness lasts.
                let _ = watch.clone().changed().await;
            }
            Self::Now => {}
        }
    }
}
