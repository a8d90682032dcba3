//! The body of one response on its way to the guest: counted, digested, written to the store, given up when it stalls.

use super::Proxy;
use super::answer::{Body, root_cause};
use super::record::Fetch;
use crate::store::{Put, StoreError};
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use sha2::{Digest, Sha256};
use std::io;

/// Objects beyond this many bytes are passed on and not stored.
const MAX_OBJECT: u64 = 8 << 30;

/// Where the bytes come from.
pub(super) type Source = BoxStream<'static, Result<Bytes, io::Error>>;

/// What is known of a body before it comes.
pub(super) struct Expected {
    /// Its length in bytes.
    pub(super) size: Option<u64>,
    /// Its SHA-256 in lower-case hexadecimal, from a `by-hash` URL.
    pub(super) sha256: Option<String>,
}

/// A body under way.
pub(super) struct Transfer {
    proxy: Proxy,
    source: Source,
    /// What will be in the record.
    fetch: Fetch,
    expected: Expected,
    /// Running, unless the digest has been known from the beginning.
    digest: Option<Sha256>,
    put: Option<Put>,
    /// Name in the store, of what is put there.
    key: Option<String>,
    /// A chunk that may be the last one. The guest gets that only when the object is stored: whatever it does next, also
    /// power off, it finds it there.
    held: Option<Bytes>,
    state: State,
}

enum State {
    Running,
    /// Recorded; the end is due, after the chunk that is held.
    Ended(Option<io::Error>),
    Over,
}

impl Transfer {
    /// A body from upstream, to be stored in `put` if there is one.
    pub(super) fn upstream(proxy: Proxy, source: Source, fetch: Fetch, expected: Expected) -> Self {
        Self {
            proxy,
            source,
            fetch,
            expected,
            digest: Some(Sha256::new()),
            put: None,
            key: None,
            held: None,
            state: State::Running,
        }
    }

    /// Store it in `put`, named `key`.
    pub(super) fn store(mut self, key: String, put: Put) -> Self {
        (self.key, self.put) = (Some(key), Some(put));
        self
    }

    /// A body from the store: its digest has been checked.
    pub(super) fn stored(proxy: Proxy, source: Source, fetch: Fetch, size: u64) -> Self {
        let expected = Expected { size: Some(size), sha256: None };
        let mut transfer = Self::upstream(proxy, source, fetch, expected);
        transfer.digest = None;
        transfer
    }

    /// The body for the guest's response.
    pub(super) async fn into_body(mut self) -> Body {
        // A body of no bytes is not asked for.
        if self.expected.size == Some(0) {
            self.finish().await;
        }
        let chunks = futures::stream::unfold(self, |mut transfer| async {
            transfer.next().await.map(|chunk| (chunk.map(Frame::data), transfer))
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return None,
                State::Ended(error) => {
                    if let Some(chunk) = self.held.take() {
                        self.state = State::Ended(error);
                        return Some(Ok(chunk));
                    }
                    if error.is_some() {
                        // The server hangs up at once when it gets the error; let it send first what it has.
                        tokio::task::yield_now().await;
                    }
                    return error.map(Err);
                }
                State::Running => self.state = State::Running,
            }
            let limit = self.proxy.limits().stall;
            let chunk = match tokio::time::timeout(limit, self.source.next()).await {
                Err(_) => {
                    self.fail(format!("it stalled: no byte came for {} s", limit.as_secs_f64()));
                    continue;
                }
                Ok(Some(Err(error))) => {
                    self.fail(format!("the connection broke: {}", root_cause(&error)));
                    continue;
                }
                Ok(None) => {
                    self.finish().await;
                    continue;
                }
                Ok(Some(Ok(chunk))) => chunk,
            };
            self.take_in(&chunk).await;
            if self.expected.size == Some(self.fetch.size) {
                // The server does not ask for more than the announced length.
                self.finish().await;
                return Some(Ok(chunk));
            }
            if self.put.is_none() || self.expected.size.is_some() {
                return Some(Ok(chunk));
            }
            if let Some(earlier) = self.held.replace(chunk) {
                return Some(Ok(earlier));
            }
        }
    }

    async fn take_in(&mut self, chunk: &Bytes) {
        self.fetch.size += chunk.len() as u64;
        if let Some(digest) = &mut self.digest {
            digest.update(chunk);
        }
        let Some(mut put) = self.put.take() else { return };
        if self.fetch.size > MAX_OBJECT {
            return;
        }
        match put.write(chunk).await {
            Ok(()) => self.put = Some(put),
            Err(error) => self.not_stored(&error),
        }
    }

    /// The body came to its end.
    async fn finish(&mut self) {
        self.note_digest();
        let wrong = self.expected.sha256.as_ref().filter(|expected| **expected != self.fetch.sha256);
        if let Some(size) = self.expected.size.filter(|size| *size != self.fetch.size) {
            return self.fail(format!("{} of {size} bytes came", self.fetch.size));
        }
        if let Some(expected) = wrong {
            // Passed on nevertheless: the guest's package manager says best what it thinks of it.
            let trouble = format!("the mirror sent wrong bytes: SHA-256 {} instead of {expected}", self.fetch.sha256);
            self.fetch.trouble = Some(trouble);
        } else {
            if let Some(put) = self.put.take()
                && let Err(error) = put.commit().await
            {
                self.not_stored(&error);
            }
            // What is named by its digest is right.
            if let Some(key) = self.key.take().filter(|_| self.expected.sha256.is_none()) {
                self.proxy.served(key);
            }
        }
        self.end(None);
    }

    /// The body will not come to its end.
    fn fail(&mut self, why: String) {
        self.note_digest();
        let size = self.expected.size.map(|size| format!(" of {size}")).unwrap_or_default();
        let trouble = format!("{why} (after {}{size} bytes)", self.fetch.size);
        self.fetch.trouble = Some(trouble.clone());
        self.end(Some(io::Error::other(trouble)));
    }

    fn end(&mut self, error: Option<io::Error>) {
        self.put = None;
        self.proxy.record().fetched(self.fetch.clone(), self.proxy.events());
        self.state = State::Ended(error);
    }

    fn note_digest(&mut self) {
        if let Some(digest) = self.digest.take() {
            self.fetch.sha256 = hex::encode(digest.finalize());
        }
    }

    fn not_stored(&self, error: &StoreError) {
        self.proxy.events().warn(format!("{} is not kept for the next build: {}", self.fetch.url, root_cause(error)));
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        // The guest has closed its connection.
        if matches!(self.state, State::Running) {
            self.note_digest();
            self.proxy.record().broken_off(self.fetch.clone(), self.proxy.events());
        }
    }
}
