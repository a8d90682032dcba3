//! Blocking work that ends soon after nobody waits for it any more, so that what it has begun is removed before the
//! process ends.

use super::error::ApplianceError;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether blocking work has been given up. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct GivenUp(Arc<AtomicBool>);

impl GivenUp {
    /// For work that goes on.
    ///
    /// # Errors
    /// [`ApplianceError::GivenUp`] when nobody waits for it.
    pub fn check(&self) -> Result<(), ApplianceError> {
        if self.0.load(Ordering::Relaxed) { Err(ApplianceError::GivenUp) } else { Ok(()) }
    }

    /// `reader`, as long as somebody waits. Everything that takes long reads something.
    pub fn reader<R: Read>(&self, reader: R) -> Reader<R> {
        Reader { reader, given_up: self.clone() }
    }
}

/// Fails when the work is given up.
#[derive(Debug)]
pub struct Reader<R> {
    reader: R,
    given_up: GivenUp,
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.given_up.check().map_err(io::Error::other)?;
        self.reader.read(buffer)
    }
}

/// Becomes true when the future that waits is dropped.
struct Waiting(GivenUp);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Do blocking `work`.
///
/// # Errors
/// What it fails with, or that it broke down.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce(&GivenUp) -> Result<T, ApplianceError> + Send + 'static,
) -> Result<T, ApplianceError> {
    let waiting = Waiting(GivenUp::default());
    let given_up = waiting.0.clone();
    tokio::task::spawn_blocking(move || work(&given_up)).await.map_err(ApplianceError::Task)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;
    use std::time::Duration;

    #[tokio::test]
    async fn work_that_is_given_up_ends_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let workspace = Workspace::new(parent.path()).unwrap();
        let endless = run(move |given_up| {
            let mut file = std::fs::File::create(workspace.path().join("file")).unwrap();
            let copied = io::copy(&mut given_up.reader(io::repeat(0)).take(1 << 40), &mut file);
            copied.map(drop).map_err(ApplianceError::io("copy", workspace.path()))
        });
        assert!(tokio::time::timeout(Duration::from_millis(50), endless).await.is_err());
        for _ in 0..100 {
            if std::fs::read_dir(parent.path()).unwrap().count() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it goes on");
    }
}
