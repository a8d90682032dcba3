//! The wish that a verb ends, for work that can do more about it than to be dropped.
//!
//! A signal drops the verb's future, and everything that it holds goes with it. A stage in a VM gets a moment before that:
//! its agent kills what it has started and says so, and the log tells how far it came. Whoever can end so listens; while
//! nobody does, nothing is waited for.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio_util::sync::CancellationToken;

tokio::task_local! {
    /// The wish that the verb of this task ends. A matter of the task and not of each function on the way to a VM, as the
    /// signal is one of the process.
    static CURRENT: Cancel;
}

/// The wish. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    asked: CancellationToken,
    listening: AtomicUsize,
}

impl Cancel {
    /// Ask for the end; tells whether somebody is listening, who will bring it about.
    pub fn ask(&self) -> bool {
        self.0.asked.cancel();
        self.0.listening.load(Relaxed) > 0
    }

    /// Do `work`, in which [`listen`] hears this wish.
    pub async fn scope<T>(&self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self.clone(), work).await
    }
}

/// Somebody who ends what it does when it is asked to.
#[derive(Debug)]
pub struct Listening(Option<Cancel>);

/// Listen from now on.
pub fn listen() -> Listening {
    let current = CURRENT.try_with(Clone::clone).ok();
    if let Some(cancel) = &current {
        cancel.0.listening.fetch_add(1, Relaxed);
    }
    Listening(current)
}

impl Listening {
    /// Whether the end was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|cancel| cancel.0.asked.is_cancelled())
    }

    /// Wait until the end is asked for; for ever where nobody could ask. Can be dropped and called again.
    pub async fn asked(&self) {
        match &self.0 {
            Some(cancel) => cancel.0.asked.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(cancel) = &self.0 {
            cancel.0.listening.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn who_listens_hears_and_nobody_else_is_waited_for() {
        let cancel = Cancel::default();
        let inside = cancel.clone();
        cancel
            .scope(async {
                let listening = listen();
                assert!(listening.asked().now_or_never().is_none());
                assert!(!listening.is_asked());
                assert!(inside.ask());
                listening.asked().await;
                assert!(listening.is_asked());
            })
            .await;
        assert!(!cancel.ask());
        // Outside of a verb.
        assert!(listen().asked().now_or_never().is_none() && !listen().is_asked());
    }
}
