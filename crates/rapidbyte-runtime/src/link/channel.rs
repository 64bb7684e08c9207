//! The queue itself.

use super::budget::{Held, MemoryBudget};
use super::event::{Barrier, Event};
use super::frame::{Compression, Frame};
use crate::timings::{HostTimings, Step};
use bytes::Bytes;
use rapidbyte_types::ConnectorError;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Schemas, barriers and the like that may wait: they weigh little, and their number is what must be bounded.
const MAX_CONTROL: usize = 64;

/// How two stages are joined.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Batches that may wait.
    pub max_batches: usize,
    /// Bytes that may wait in this link; a batch larger than that passes alone.
    pub max_bytes: usize,
    /// Bytes that may wait in all links together.
    pub budget: MemoryBudget,
    /// How frames are packed.
    pub compression: Compression,
    /// The sender is a transform. Such a link may hold one batch even when the budget is used up by the links before it;
    /// otherwise those could never be emptied.
    pub fed_by_transform: bool,
    /// Where compression and its undoing are measured.
    pub timings: Arc<HostTimings>,
}

impl LinkOptions {
    /// Sixteen batches, bounded by the budget alone, not compressed, fed by a source.
    pub fn new(budget: MemoryBudget, timings: Arc<HostTimings>) -> Self {
        Self { max_batches: 16, max_bytes: usize::MAX, budget, compression: Compression::None, fed_by_transform: false, timings }
    }
}

/// How an attempt to send ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// It is in the queue.
    Accepted,
    /// There was no room before the deadline; nothing was taken.
    Full,
    /// The receiver is gone.
    Closed,
}

#[derive(Debug)]
enum Payload {
    Schema { stream: u32, schema_id: u32, ipc: Bytes },
    Batch { stream: u32, schema_id: u32, rows: u32, frame: Frame },
    Plain(Event),
}

#[derive(Debug)]
struct Item {
    payload: Payload,
    /// What it counts against this link's byte bound.
    weight: usize,
    heavy: bool,
    /// Held until the receiver takes it.
    _held: Held,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    heavy: usize,
    control: usize,
    bytes: usize,
    /// Places promised to senders that are packing their frame.
    reserved_heavy: usize,
    reserved_bytes: usize,
    senders: usize,
    receiver_gone: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Wakes senders and their pollables.
    room: Notify,
    /// Wakes the receiver and its pollables.
    arrived: Notify,
    options: LinkOptions,
    ended: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every critical section leaves the queue whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_room(&self, queue: &Queue, weight: usize) -> bool {
        let heavy = queue.heavy + queue.reserved_heavy;
        if heavy == 0 {
            return true;
        }
        let bytes = queue.bytes.saturating_add(queue.reserved_bytes).saturating_add(weight);
        heavy < self.options.max_batches.max(1) && bytes <= self.options.max_bytes
    }
}

/// The sending half. Clones share the queue; when the last is dropped the receiver sees the link as closed.
#[derive(Debug)]
pub struct EventSender {
    shared: Arc<Shared>,
}

/// The receiving half.
#[derive(Debug)]
pub struct EventReceiver {
    shared: Arc<Shared>,
}

/// Joins two stages.
pub fn link(options: LinkOptions) -> (EventSender, EventReceiver) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue { senders: 1, ..Queue::default() }),
        room: Notify::new(),
        arrived: Notify::new(),
        options,
        ended: AtomicBool::new(false),
    });
    (EventSender { shared: Arc::clone(&shared) }, EventReceiver { shared })
}

impl Clone for EventSender {
    fn clone(&self) -> Self {
        self.shared.lock().senders += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.senders -= 1;
        let last = queue.senders == 0;
        drop(queue);
        if last {
            self.shared.arrived.notify_waiters();
        }
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.receiver_gone = true;
        // Gives the budget back at once, whatever senders are still about.
        let items = std::mem::take(&mut queue.items);
        drop(queue);
        drop(items);
        self.shared.room.notify_waiters();
    }
}

/// A place in the queue that nobody else can take.
struct Reserved<'a> {
    shared: &'a Shared,
    weight: usize,
    held: Option<Held>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.held.is_some() {
            let mut queue = self.shared.lock();
            queue.reserved_heavy -= 1;
            queue.reserved_bytes -= self.weight;
            drop(queue);
            self.shared.room.notify_waiters();
        }
    }
}

enum Try<'a> {
    Got(Reserved<'a>),
    Closed,
    /// The link itself has no room.
    LinkFull,
    /// The link has room, the process has not.
    BudgetFull,
}

impl EventSender {
    /// Sends, waiting as long as it takes.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub async fn send(&self, event: Event) -> Result<(), ConnectorError> {
        match self.send_before(event, None, || {}).await {
            Sent::Accepted => Ok(()),
            Sent::Full | Sent::Closed => Err(downstream_closed()),
        }
    }

    /// Sends if there is room within `wait`.
    pub async fn send_timeout(&self, event: Event, wait: Duration) -> Sent {
        self.send_before(event, Some(Instant::now() + wait), || {}).await
    }

    /// As [`Self::send_timeout`]; `placed` is called once the event's place is certain and before the receiver can see it.
    pub(crate) async fn send_placed(&self, event: Event, wait: Duration, placed: impl FnOnce()) -> Sent {
        self.send_before(event, Some(Instant::now() + wait), placed).await
    }

    /// As [`Self::send_timeout`]; the barrier is asked for only once its place is certain, and none is sent for `None`.
    ///
    /// Two callers must not wait here at once.
    pub async fn send_barrier(&self, wait: Duration, make: impl FnOnce() -> Option<Barrier>) -> Sent {
        match self.wait_control(Some(Instant::now() + wait)).await {
            Sent::Accepted => {}
            other => return other,
        }
        // One sender emits at a time, so the place that was free still is.
        if let Some(barrier) = make() {
            self.push_control(Payload::Plain(Event::Barrier(barrier)));
        }
        Sent::Accepted
    }

    async fn send_before(&self, event: Event, deadline: Option<Instant>, placed: impl FnOnce()) -> Sent {
        let weight = event.weight();
        let event = match event {
            Event::Batch { stream, schema_id, rows, bytes } => {
                let mut reserved = match self.reserve(weight, deadline).await {
                    Ok(reserved) => reserved,
                    Err(sent) => return sent,
                };
                placed();
                let frame = self.pack(bytes);
                let weight = frame.len();
                let mut held = reserved.held.take().unwrap_or_else(Held::nothing);
                held.shrink(weight);
                self.commit(&reserved, Payload::Batch { stream, schema_id, rows, frame }, weight, held);
                return Sent::Accepted;
            }
            Event::DeadLetters(letters) => {
                let mut reserved = match self.reserve(weight, deadline).await {
                    Ok(reserved) => reserved,
                    Err(sent) => return sent,
                };
                placed();
                let held = reserved.held.take().unwrap_or_else(Held::nothing);
                self.commit(&reserved, Payload::Plain(Event::DeadLetters(letters)), weight, held);
                return Sent::Accepted;
            }
            Event::Schema { stream, schema_id, ipc } => Payload::Schema { stream, schema_id, ipc },
            other @ (Event::Truncate { .. } | Event::ReplaceRange { .. } | Event::Barrier(_) | Event::Heartbeat | Event::End) => {
                Payload::Plain(other)
            }
        };
        match self.wait_control(deadline).await {
            Sent::Accepted => {}
            other => return other,
        }
        placed();
        self.push_control(event);
        Sent::Accepted
    }

    fn pack(&self, bytes: Bytes) -> Frame {
        let options = &self.shared.options;
        if options.compression == Compression::None {
            return Frame::pack(Compression::None, bytes);
        }
        let _span = options.timings.span(Step::Compress);
        Frame::pack(options.compression, bytes)
    }

    fn try_reserve(&self, weight: usize, held: Option<Held>) -> Try<'_> {
        let shared = &*self.shared;
        let mut queue = shared.lock();
        if queue.receiver_gone {
            return Try::Closed;
        }
        if !shared.has_room(&queue, weight) {
            return Try::LinkFull;
        }
        let held = held.or_else(|| shared.options.budget.try_hold(weight)).or_else(|| {
            let empty = queue.heavy + queue.reserved_heavy == 0;
            (shared.options.fed_by_transform && empty).then(Held::nothing)
        });
        let Some(held) = held else { return Try::BudgetFull };
        queue.reserved_heavy += 1;
        queue.reserved_bytes += weight;
        Try::Got(Reserved { shared, weight, held: Some(held) })
    }

    async fn reserve(&self, weight: usize, deadline: Option<Instant>) -> Result<Reserved<'_>, Sent> {
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.try_reserve(weight, None) {
                Try::Got(reserved) => return Ok(reserved),
                Try::Closed => return Err(Sent::Closed),
                Try::LinkFull => {
                    if !before(deadline, room).await {
                        return Err(Sent::Full);
                    }
                }
                Try::BudgetFull => {
                    let hold = self.shared.options.budget.hold(weight);
                    // `room` also wakes when this link has run empty or its receiver has gone.
                    let either = async {
                        tokio::select! {
                            held = hold => Some(held),
                            () = room => None,
                        }
                    };
                    let held = match deadline {
                        None => either.await,
                        Some(deadline) => match tokio::time::timeout_at(deadline, either).await {
                            Ok(held) => held,
                            Err(_) => return Err(Sent::Full),
                        },
                    };
                    if let Some(held) = held {
                        match self.try_reserve(weight, Some(held)) {
                            Try::Got(reserved) => return Ok(reserved),
                            Try::Closed => return Err(Sent::Closed),
                            Try::LinkFull | Try::BudgetFull => {}
                        }
                    }
                }
            }
        }
    }

    /// Turns a reserved place, whose `held` the caller has taken, into an item.
    fn commit(&self, reserved: &Reserved<'_>, payload: Payload, weight: usize, held: Held) {
        let mut queue = self.shared.lock();
        queue.reserved_heavy -= 1;
        queue.reserved_bytes -= reserved.weight;
        queue.heavy += 1;
        queue.bytes += weight;
        self.push(queue, Item { payload, weight, heavy: true, _held: held });
    }

    fn push_control(&self, payload: Payload) {
        let mut queue = self.shared.lock();
        queue.control += 1;
        self.push(queue, Item { payload, weight: 0, heavy: false, _held: Held::nothing() });
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, item: Item) {
        if !queue.receiver_gone {
            queue.items.push_back(item);
        }
        drop(queue);
        self.shared.arrived.notify_waiters();
    }

    async fn wait_control(&self, deadline: Option<Instant>) -> Sent {
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            {
                let queue = self.shared.lock();
                if queue.receiver_gone {
                    return Sent::Closed;
                }
                if queue.control < MAX_CONTROL {
                    return Sent::Accepted;
                }
            }
            if !before(deadline, room).await {
                return Sent::Full;
            }
        }
    }

    /// What a pollable needs to wait for room.
    pub(crate) fn waiter(&self) -> RoomWaiter {
        RoomWaiter { shared: Arc::clone(&self.shared) }
    }
}

/// Sees room without taking it. It does not count as a sender, so one left behind keeps no link open.
pub(crate) struct RoomWaiter {
    shared: Arc<Shared>,
}

impl RoomWaiter {
    /// Resolves when a batch would probably be accepted.
    pub(crate) async fn ready(&self) {
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let link_has_room = {
                let queue = self.shared.lock();
                queue.receiver_gone || (self.shared.has_room(&queue, 1) && queue.control < MAX_CONTROL)
            };
            if !link_has_room {
                room.await;
                continue;
            }
            if self.shared.options.fed_by_transform {
                return;
            }
            tokio::select! {
                _held = self.shared.options.budget.hold(1) => return,
                () = room => {}
            }
        }
    }
}

impl EventReceiver {
    /// The next event, waiting as long as it takes.
    ///
    /// # Errors
    /// When every sender is gone without an [`Event::End`].
    pub async fn recv(&mut self) -> Result<Event, ConnectorError> {
        loop {
            if let Some(event) = self.recv_before(None).await? {
                return Ok(event);
            }
        }
    }

    /// The next event, or `None` when none came within `wait`.
    ///
    /// # Errors
    /// When every sender is gone without an [`Event::End`].
    pub async fn recv_timeout(&mut self, wait: Duration) -> Result<Option<Event>, ConnectorError> {
        self.recv_before(Some(Instant::now() + wait)).await
    }

    async fn recv_before(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, ConnectorError> {
        let item = loop {
            let arrived = self.shared.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let mut queue = self.shared.lock();
                if let Some(item) = queue.items.pop_front() {
                    if item.heavy {
                        queue.heavy -= 1;
                        queue.bytes -= item.weight;
                    } else {
                        queue.control -= 1;
                    }
                    break item;
                }
                if queue.senders == 0 {
                    return Err(upstream_closed());
                }
            }
            if !before(deadline, arrived).await {
                return Ok(None);
            }
        };
        let Item { payload, _held: held, .. } = item;
        drop(held);
        self.shared.room.notify_waiters();
        Ok(Some(match payload {
            Payload::Schema { stream, schema_id, ipc } => Event::Schema { stream, schema_id, ipc },
            Payload::Batch { stream, schema_id, rows, frame } => {
                Event::Batch { stream, schema_id, rows, bytes: self.unpack(frame)? }
            }
            Payload::Plain(event) => {
                if event == Event::End {
                    self.shared.ended.store(true, Ordering::Relaxed);
                }
                event
            }
        }))
    }

    fn unpack(&self, frame: Frame) -> Result<Bytes, ConnectorError> {
        let _span = frame.is_packed().then(|| self.shared.options.timings.span(Step::Decompress));
        frame.unpack().map_err(|_| ConnectorError::internal("frame_damaged", "a compressed frame could not be read back"))
    }

    /// What a pollable needs to wait on this link.
    pub(crate) fn waiter(&self) -> EventWaiter {
        EventWaiter { shared: Arc::clone(&self.shared) }
    }
}

/// Sees arrivals without taking them.
pub(crate) struct EventWaiter {
    shared: Arc<Shared>,
}

impl EventWaiter {
    /// Resolves when there is something to take, or nothing will ever come.
    pub(crate) async fn ready(&self) {
        loop {
            let arrived = self.shared.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            {
                let queue = self.shared.lock();
                if !queue.items.is_empty() || queue.senders == 0 || self.shared.ended.load(Ordering::Relaxed) {
                    return;
                }
            }
            arrived.await;
        }
    }
}

/// Waits; `false` when the deadline came first.
async fn before(deadline: Option<Instant>, wait: impl Future<Output = ()>) -> bool {
    match deadline {
        None => {
            wait.await;
            true
        }
        Some(deadline) => tokio::time::timeout_at(deadline, wait).await.is_ok(),
    }
}

/// What a stage is told when the one after it has stopped. An echo: the cause lies there.
pub(crate) fn downstream_closed() -> ConnectorError {
    ConnectorError::internal("downstream_closed", "the next stage has stopped")
}

/// What a stage is told when the one before it has stopped. An echo: the cause lies there.
pub(crate) fn upstream_closed() -> ConnectorError {
    ConnectorError::internal("upstream_closed", "the stage before has stopped")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 4 << 10;

    fn batch(size: usize) -> Event {
        Event::Batch { stream: 0, schema_id: 1, rows: 1, bytes: Bytes::from(vec![0; size]) }
    }

    fn options(budget: usize) -> LinkOptions {
        LinkOptions::new(MemoryBudget::new(budget), Arc::default())
    }

    /// How many of these are taken before the link is full.
    async fn taken(sender: &EventSender, size: usize) -> usize {
        let mut count = 0;
        while sender.send_timeout(batch(size), Duration::ZERO).await == Sent::Accepted {
            count += 1;
            assert!(count < 1_000, "no bound");
        }
        count
    }

    #[tokio::test]
    async fn batches_own_bytes_and_the_common_budget_each_bound_a_link() {
        let mut by_count = options(1 << 30);
        by_count.max_batches = 3;
        let (sender, _receiver) = link(by_count);
        assert_eq!(taken(&sender, PIECE).await, 3);

        let mut by_bytes = options(1 << 30);
        by_bytes.max_bytes = 4 * PIECE;
        let (sender, _receiver) = link(by_bytes);
        assert_eq!(taken(&sender, PIECE).await, 4);

        let shared = options(5 * PIECE);
        let (one, _first) = link(shared.clone());
        let (two, mut second) = link(shared);
        assert_eq!(taken(&two, PIECE).await, 5);
        assert_eq!(taken(&one, PIECE).await, 0);
        second.recv().await.expect("one");
        assert_eq!(taken(&one, PIECE).await, 1, "what one link gives back another may take");
    }

    #[tokio::test]
    async fn a_batch_over_the_budget_passes_alone() {
        let (sender, mut receiver) = link(options(PIECE));
        assert_eq!(taken(&sender, 10 * PIECE).await, 1);
        receiver.recv().await.expect("it");
        assert_eq!(taken(&sender, PIECE).await, 1);
    }

    #[tokio::test]
    async fn a_link_after_a_transform_is_never_starved_by_those_before_it() {
        let before = options(2 * PIECE);
        let after = LinkOptions { fed_by_transform: true, ..before.clone() };
        let (source, _held) = link(before);
        let (transform, mut receiver) = link(after);
        assert_eq!(taken(&source, PIECE).await, 2);
        assert_eq!(taken(&transform, PIECE).await, 1, "one beyond the budget");
        receiver.recv().await.expect("it");
        assert_eq!(taken(&transform, PIECE).await, 1);
    }

    #[tokio::test]
    async fn a_full_link_takes_nothing_and_wakes_the_sender_when_there_is_room() {
        let (sender, mut receiver) = link(options(PIECE));
        assert_eq!(taken(&sender, PIECE).await, 1);
        let started = std::time::Instant::now();
        assert_eq!(sender.send_timeout(batch(PIECE), Duration::from_millis(50)).await, Sent::Full);
        assert!(started.elapsed() >= Duration::from_millis(50));
        let waiter = sender.waiter();
        let sending = tokio::spawn(async move {
            waiter.ready().await;
            sender.send(batch(PIECE)).await
        });
        tokio::task::yield_now().await;
        receiver.recv().await.expect("the first");
        receiver.recv().await.expect("the second");
        sending.await.expect("joined").expect("sent");
    }

    #[tokio::test]
    async fn a_barrier_that_finds_no_room_is_not_asked_for() {
        let (sender, mut receiver) = link(options(1 << 20));
        for _ in 0..MAX_CONTROL {
            sender.send(Event::Heartbeat).await.expect("room");
        }
        assert_eq!(sender.send_barrier(Duration::ZERO, || panic!("asked")).await, Sent::Full);
        receiver.recv().await.expect("one");
        assert_eq!(sender.send_barrier(Duration::ZERO, || None).await, Sent::Accepted);
    }

    #[tokio::test]
    async fn ends_that_vanish_are_seen_and_their_bytes_given_back() {
        let shared = options(4 * PIECE);
        let budget = shared.budget.clone();
        let (sender, receiver) = link(shared.clone());
        assert_eq!(taken(&sender, PIECE).await, 4);
        assert_eq!(budget.available(), 0);
        drop(receiver);
        assert_eq!(budget.available(), 4 * PIECE);
        assert_eq!(sender.send_timeout(batch(PIECE), Duration::ZERO).await, Sent::Closed);
        assert_eq!(sender.send(Event::End).await.expect_err("closed").code, "downstream_closed");

        let (sender, mut receiver) = link(shared);
        let other = sender.clone();
        other.send(batch(PIECE)).await.expect("room");
        drop(other);
        assert!(matches!(receiver.recv().await, Ok(Event::Batch { .. })));
        assert_eq!(receiver.recv_timeout(Duration::ZERO).await, Ok(None), "one sender is left");
        drop(sender);
        assert_eq!(receiver.recv().await.expect_err("closed").code, "upstream_closed");
    }

    #[tokio::test]
    async fn a_sender_that_gives_up_leaves_no_place_taken() {
        let (sender, mut receiver) = link(options(PIECE));
        assert_eq!(taken(&sender, PIECE).await, 1);
        for _ in 0..10 {
            assert_eq!(sender.send_timeout(batch(PIECE), Duration::from_millis(1)).await, Sent::Full);
        }
        receiver.recv().await.expect("it");
        assert_eq!(sender.shared.options.budget.available(), PIECE);
        assert_eq!(taken(&sender, PIECE).await, 1);
    }
}
