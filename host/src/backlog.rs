//! How much waits in a queue whose sender must not wait, so that whoever fills it can hold back before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::Notify;

/// A count of what waits, in whatever unit. Cheap to clone; all clones are one count.
#[derive(Debug, Clone, Default)]
pub struct Backlog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waiting: AtomicUsize,
    less: Notify,
}

impl Backlog {
    /// So much more waits.
    pub fn add(&self, amount: usize) {
        self.0.waiting.fetch_add(amount, Relaxed);
    }

    /// So much less waits.
    pub fn remove(&self, amount: usize) {
        self.0.waiting.fetch_sub(amount, Relaxed);
        // Kept until somebody waits, so that it is not missed between the look and the wait.
        self.0.less.notify_one();
    }

    /// Whether less than `most` waits now.
    pub fn is_below(&self, most: usize) -> bool {
        self.0.waiting.load(Relaxed) < most
    }

    /// Wait until less than `most` waits. At most one may wait at a time. Can be dropped and called again.
    pub async fn below(&self, most: usize) {
        while !self.is_below(most) {
            self.0.less.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn whoever_fills_a_queue_waits_until_it_is_emptied() {
        let backlog = Backlog::default();
        backlog.below(1).await;
        backlog.add(10);
        let other = backlog.clone();
        let mut waiting = Box::pin(other.below(4));
        assert!(waiting.as_mut().now_or_never().is_none());
        backlog.remove(6);
        assert!(waiting.as_mut().now_or_never().is_none());
        backlog.remove(1);
        waiting.await;
    }
}
