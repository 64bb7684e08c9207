//! The channel between two stages: bounded in bytes, in batches, and by one budget for the whole process.

mod budget;
mod channel;
mod event;
mod frame;

pub use budget::MemoryBudget;
pub use channel::{EventReceiver, EventSender, LinkOptions, Sent, link};
pub use event::{Barrier, Event};
pub use frame::Compression;

pub(crate) use channel::{EventWaiter, RoomWaiter, downstream_closed};
