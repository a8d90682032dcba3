//! Locks of what one process makes at a time: a layer of an image that is fetched, what a stage makes.
//!
//! They are files that are made when they are needed and never removed, as many as the first bytes of a digest have values.
//! Names that have nothing to do with each other may share one, so that nobody waits for a second one while he holds a first.

use super::{Store, StoreError};
use sha2::{Digest, Sha256};
use std::fs::{File, TryLockError};
use std::time::Duration;

/// How often somebody who waits for a lock looks whether it is free.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What is made by one process at a time.
#[derive(Debug, Clone, Copy)]
pub enum Making<'a> {
    /// The object of this name is fetched. That takes minutes at most.
    Download(&'a str),
    /// A stage makes the object of this name, which may take hours.
    Stage(&'a str),
}

impl Making<'_> {
    /// The folder of the lock's file, and its name.
    fn place(self) -> (&'static str, String) {
        let (folder, name, bytes) = match self {
            Self::Download(name) => ("locks", name, 1),
            Self::Stage(name) => ("locks-of-stages", name, 3),
        };
        (folder, hex::encode(&Sha256::digest(name)[..bytes]))
    }
}

/// Nobody else makes what this was got for.
#[derive(Debug)]
#[must_use = "others may go on when it is dropped"]
pub struct Alone(#[expect(dead_code, reason = "the lock goes with the file")] File);

impl Store {
    /// Wait until nobody else makes this, and keep others, of this process and of others, from it until the handle is dropped.
    /// What they were about to store is there then.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub async fn alone(&self, making: Making<'_>) -> Result<Alone, StoreError> {
        loop {
            match self.try_alone(making)? {
                Some(alone) => return Ok(alone),
                // Nobody can be interrupted while he waits for it in the kernel.
                None => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }

    /// [`Self::alone`], unless somebody else makes it; then none.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn try_alone(&self, making: Making<'_>) -> Result<Option<Alone>, StoreError> {
        let (folder, name) = making.place();
        let folder = self.root.join(folder);
        let path = folder.join(name);
        let failed = |source| StoreError::Folder { path: path.clone(), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Alone(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
