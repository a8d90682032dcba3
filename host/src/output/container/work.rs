//! Work that needs a processor, on a thread of its own; it ends when its handle is dropped.

use super::OutputError;
use crate::event::Step;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(200);

/// Connects the work with who waits for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    given_up: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Watch {
    /// So many bytes more are done.
    ///
    /// # Errors
    /// When nobody wants them any more.
    pub(super) fn advance(&self, bytes: u64) -> io::Result<()> {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if self.given_up.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// Work under way.
pub(super) struct Work<T> {
    task: JoinHandle<io::Result<T>>,
    watch: Watch,
}

impl<T: Send + 'static> Work<T> {
    pub(super) fn start(work: impl FnOnce(Watch) -> io::Result<T> + Send + 'static) -> Self {
        let watch = Watch::default();
        let own = watch.clone();
        Self { task: tokio::task::spawn_blocking(move || work(own)), watch }
    }

    /// Its result; `path` is what it writes.
    ///
    /// # Errors
    /// What it failed with.
    pub(super) async fn finish(mut self, path: &Path, step: &Step) -> Result<T, OutputError> {
        let failed = |source| OutputError::Write { path: path.to_owned(), source };
        loop {
            tokio::select! {
                ended = &mut self.task => return ended.map_err(|error| failed(error.into()))?.map_err(failed),
                () = tokio::time::sleep(PAUSE) => step.progress(self.watch.done.load(Ordering::Relaxed)),
            }
        }
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.watch.given_up.store(true, Ordering::Relaxed);
    }
}
