//! The layers of an image as plain tar archives, which the guest reads: decompressed here, where a file is cut off when
//! it grows too large, and never interpreted.

use super::document::layer_name;
use super::error::{Problem, SourceError};
use super::{Image, Layer, background, digest, free, wanted};
use crate::event::{Events, Unit};
use crate::store::Store;
use flate2::bufread::MultiGzDecoder;
use futures::{StreamExt, TryStreamExt};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// Most bytes that come out of one byte of a layer. Real ones have 2 to 20; zeros through gzip make 1,000, through zstd
/// more than 10,000.
const RATIO: u64 = 200;

/// What every layer may unpack to, whatever its ratio: files of zeros are found in real layers.
pub(super) const ALWAYS: u64 = 256 << 20;

/// Of a file system so much is left to others.
const LEFT_TO_OTHERS: u64 = 20;

/// Bytes that are handled at a time.
const CHUNK: usize = 256 << 10;

/// What is allowed to all layers together, and used.
#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    most: u64,
    free: u64,
    dir: PathBuf,
}

impl Budget {
    fn take(&self, bytes: u64) -> Result<u64, Problem> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if used > self.most {
            return Err(Problem::Unpacked { most: self.most });
        }
        if used > self.free {
            return Err(Problem::Space { path: self.dir.clone(), needed: used, free: self.free });
        }
        Ok(used)
    }
}

impl Image {
    /// Write each layer to `dir`, which is there, as a plain tar archive: `layer-0.tar` is the lowest. Each is compared
    /// with the digest that the configuration names.
    ///
    /// # Errors
    /// When a layer cannot be decompressed, is another one, grows too large, or the file system is full.
    pub async fn unpack(&self, dir: &Path, events: &Events) -> Result<Vec<PathBuf>, SourceError> {
        self.unpack_layers(dir, events).await.map_err(|problem| problem.of(&self.reference))
    }

    async fn unpack_layers(&self, dir: &Path, events: &Events) -> Result<Vec<PathBuf>, Problem> {
        let free = free(dir)?;
        let free = free - free / LEFT_TO_OTHERS;
        let budget = Budget { used: AtomicU64::new(0), most: self.max_size, free, dir: dir.to_owned() };
        let budget = Arc::new(budget);
        let step = Arc::new(events.step(format!("unpack {}", self.reference), None, Unit::Bytes));
        let at_a_time = std::thread::available_parallelism().map_or(1, usize::from).min(4);
        let unpacked = futures::stream::iter(self.layers.iter().enumerate().map(|(number, layer)| {
            let path = dir.join(format!("layer-{number}.tar"));
            let work = Work {
                what: layer_name(number),
                layer: layer.clone(),
                path: path.clone(),
                store: self.store.clone(),
                budget: budget.clone(),
                always: self.always,
            };
            let step = step.clone();
            async move {
                background(move |given_up| work.run(given_up, |used| step.progress(used))).await?;
                Ok::<_, Problem>(path)
            }
        }));
        let paths = unpacked.buffered(at_a_time).try_collect().await?;
        if let Some(step) = Arc::into_inner(step) {
            step.finish();
        }
        Ok(paths)
    }
}

/// The unpacking of one layer.
struct Work {
    what: String,
    layer: Layer,
    path: PathBuf,
    store: Store,
    budget: Arc<Budget>,
    always: u64,
}

impl Work {
    fn run(&self, given_up: &CancellationToken, progress: impl FnMut(u64)) -> Result<(), Problem> {
        wanted(given_up)?;
        let done = self.write(given_up, progress);
        if done.is_err() {
            // Nobody shall take a part of it for the whole.
            let _ = std::fs::remove_file(&self.path);
        }
        done
    }

    fn write(&self, given_up: &CancellationToken, mut progress: impl FnMut(u64)) -> Result<(), Problem> {
        let (what, layer) = (&self.what, &self.layer);
        let object = self.store.locate(&layer.digest)?.ok_or_else(|| Problem::Gone { what: what.clone() })?;
        let mut packed = BufReader::with_capacity(CHUNK, Hashing { reader: object, hash: Sha256::new() });
        let failed = |source| Problem::Unpack { what: what.clone(), source };
        let written = |source| Problem::Io { what: "write", path: self.path.clone(), source };
        let most = self.always.max(layer.size.saturating_mul(RATIO));
        let mut file = File::create_new(&self.path).map_err(written)?;
        let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; CHUNK]);
        {
            let mut plain = decoder(&mut packed).map_err(failed)?;
            loop {
                wanted(given_up)?;
                let count = plain.read(&mut buffer).map_err(failed)?;
                if count == 0 {
                    break;
                }
                size += count as u64;
                if size > most {
                    return Err(Problem::Bomb { what: what.clone(), packed: layer.size, most });
                }
                progress(self.budget.take(count as u64)?);
                hash.update(&buffer[..count]);
                file.write_all(&buffer[..count]).map_err(written)?;
            }
        }
        // What a decoder does not look at belongs to the blob all the same.
        io::copy(&mut packed, &mut io::sink()).map_err(failed)?;
        digest::equal(what, &layer.digest, digest::finish(packed.into_inner().hash))?;
        digest::equal(&format!("{what}, unpacked,"), &layer.diff_id, digest::finish(hash))
    }
}

/// What undoes the compression, which is told by the first bytes.
fn decoder<'a, R: BufRead>(packed: &'a mut R) -> io::Result<Box<dyn Read + 'a>> {
    let begins = |text: &[u8], magic: &[u8]| text.starts_with(magic);
    let start = packed.fill_buf()?;
    if begins(start, b"\x1f\x8b") {
        return Ok(Box::new(MultiGzDecoder::new(packed)));
    }
    if begins(start, b"\x28\xb5\x2f\xfd") {
        return Ok(Box::new(zstd::Decoder::with_buffer(packed)?));
    }
    if begins(start, b"\xfd7zXZ\0") || begins(start, b"BZh") {
        return Err(io::Error::other("it is compressed with what image layers are not: neither gzip nor zstd"));
    }
    Ok(Box::new(packed))
}

/// A reader that hashes what is read.
struct Hashing<R> {
    reader: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
