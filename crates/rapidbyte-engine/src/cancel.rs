//! Asking a run to stop.

use std::sync::Arc;
use tokio::sync::watch;

/// A request to stop, shared by whoever may ask and whoever must listen. Clones are the same request.
#[derive(Debug, Clone)]
pub struct Cancel {
    asked: Arc<watch::Sender<bool>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancel {
    /// Nobody has asked yet.
    pub fn new() -> Self {
        Self { asked: Arc::new(watch::Sender::new(false)) }
    }

    /// Asks. What is under way is dropped where it stands, which is safe at any instant; asking twice is the same as once.
    pub fn cancel(&self) {
        self.asked.send_replace(true);
    }

    /// Whether someone has asked.
    pub fn is_cancelled(&self) -> bool {
        *self.asked.borrow()
    }

    /// Waits until someone asks.
    pub async fn cancelled(&self) {
        // The sender lives as long as `self`, so the wait can't fail.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }
}
