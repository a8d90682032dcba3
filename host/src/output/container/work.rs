//! Work that needs a processor, on a thread of its own; it ends when its handle is dropped.

use super::OutputError;
use crate::event::Step;
use std::io::{self, Read};
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
        // Not `Interrupted`: whoever copies tries again then.
        if self.given_up.load(Ordering::Relaxed) { Err(io::Error::other("it was given up")) } else { Ok(()) }
    }

    /// `reader`, what is read from which is done.
    pub(super) fn over<R>(&self, reader: R) -> Watched<'_, R> {
        Watched { reader, watch: self }
    }
}

/// A reader that ends when nobody wants its bytes any more.
pub(super) struct Watched<'a, R> {
    reader: R,
    watch: &'a Watch,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.watch.advance(count as u64)?;
        Ok(count)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_ends_when_nobody_waits_for_it() {
        let watch = Watch::default();
        io::copy(&mut watch.over(&b"abc"[..]), &mut io::sink()).unwrap();
        assert_eq!(watch.done.load(Ordering::Relaxed), 3);
        watch.given_up.store(true, Ordering::Relaxed);
        io::copy(&mut watch.over(io::repeat(0)), &mut io::sink()).unwrap_err();
    }
}
