//! The layers of an image as streams of plain tar archives, for whoever looks at them once and keeps nothing.

use super::document::layer_name;
use super::error::{Problem, SourceError};
use super::unpack::{CHUNK, RATIO, decoder};
use super::{Image, Layer, background, digest, wanted};
use crate::event::{Events, Step, Unit};
use crate::store::Store;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

impl Image {
    /// Give the layers to `work`, lowest first, each a tar archive without compression that is to be read to its end: only
    /// there it is compared with the digest that the configuration names. `work` blocks, and what it makes of streams that
    /// break off does not count.
    ///
    /// # Errors
    /// When a layer cannot be decompressed, is another one, or grows too large.
    pub async fn read_layers<T: Send + 'static>(
        &self,
        events: &Events,
        work: impl FnOnce(&mut dyn Iterator<Item = io::Result<Plain>>) -> T + Send + 'static,
    ) -> Result<T, SourceError> {
        let (layers, store) = (self.layers.clone(), self.store.clone());
        let (most, always) = (self.max_size, self.always);
        let step = events.step(format!("read {}", self.reference), None, Unit::Bytes);
        let done = background(move |given_up| {
            let shared = Shared {
                most,
                always,
                step,
                given_up: given_up.clone(),
                used: AtomicU64::new(0),
                failed: Mutex::default(),
            };
            let shared = Arc::new(shared);
            let open = |(number, layer): (usize, Layer)| {
                Plain::open(&store, layer_name(number), layer, shared.clone()).map_err(|problem| shared.fail(problem))
            };
            let made = work(&mut layers.into_iter().enumerate().map(open));
            wanted(given_up)?;
            if let Some(problem) = shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(problem);
            }
            if let Some(shared) = Arc::into_inner(shared) {
                shared.step.finish();
            }
            Ok(made)
        });
        done.await.map_err(|problem| problem.of(&self.reference))
    }
}

/// What the streams of an image have in common.
struct Shared {
    most: u64,
    always: u64,
    step: Step,
    given_up: CancellationToken,
    used: AtomicU64,
    /// The first that went wrong. A reader can say only that something did.
    failed: Mutex<Option<Problem>>,
}

impl Shared {
    fn fail(&self, problem: Problem) -> io::Error {
        let error = io::Error::other(problem.to_string());
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(problem);
        error
    }
}

/// A layer as a tar archive without compression.
pub struct Plain {
    reader: Box<dyn Read>,
    what: String,
    layer: Layer,
    hash: Sha256,
    size: u64,
    ended: bool,
    shared: Arc<Shared>,
}

impl Plain {
    fn open(store: &Store, what: String, layer: Layer, shared: Arc<Shared>) -> Result<Self, Problem> {
        let object = store.locate(&layer.digest)?.ok_or_else(|| Problem::Gone { what: what.clone() })?;
        let packed = BufReader::with_capacity(CHUNK, object);
        let reader = decoder(packed).map_err(|source| Problem::Unpack { what: what.clone(), source })?;
        Ok(Self { reader, what, layer, hash: Sha256::new(), size: 0, ended: false, shared })
    }

    /// Count what was read, or say what is wrong with it.
    fn check(&mut self, piece: &[u8]) -> Result<(), Problem> {
        wanted(&self.shared.given_up)?;
        if piece.is_empty() {
            self.ended = true;
            let found = digest::finish(std::mem::take(&mut self.hash));
            return digest::equal(&format!("{}, unpacked,", self.what), &self.layer.diff_id, found);
        }
        self.size += piece.len() as u64;
        let most = self.shared.always.max(self.layer.size.saturating_mul(RATIO));
        if self.size > most {
            return Err(Problem::Bomb { what: self.what.clone(), packed: self.layer.size, most });
        }
        let used = self.shared.used.fetch_add(piece.len() as u64, Ordering::Relaxed) + piece.len() as u64;
        if used > self.shared.most {
            return Err(Problem::Unpacked { most: self.shared.most });
        }
        self.hash.update(piece);
        self.shared.step.progress(used);
        Ok(())
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The end was compared already, and an empty buffer is no end.
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let count = match self.reader.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(source) => return Err(self.shared.fail(Problem::Unpack { what: self.what.clone(), source })),
        };
        match self.check(&buffer[..count]) {
            Ok(()) => Ok(count),
            Err(problem) => Err(self.shared.fail(problem)),
        }
    }
}
