//! Images in a registry.
//!
//! Source: OCI Distribution Specification 1.1, "Pull".

use super::document::{self, INDEXES, MANIFESTS, MAX_MANIFEST};
use super::error::Problem;
use super::reference::Named;
use super::{Blobs, Context, Image, Progress, digest};
use client::Connection;
use futures::StreamExt;
use oci_spec::image::Descriptor;
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::error::Error as StdError;
use std::io;
use std::time::Duration;
use tokio::sync::OnceCell;

mod auth;
mod blob;
mod client;

#[cfg(test)]
use client::message_of;

/// How often something is tried that did not work and might the next time.
const ATTEMPTS: u32 = 5;

/// How long it is waited before the second attempt; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// Longest that is waited because a registry asks for it.
const MAX_PAUSE: Duration = Duration::from_secs(120);

/// Most bytes of what goes with an error.
const MAX_MESSAGE: usize = 64 << 10;

/// Longest that a document may take to arrive. A server that sends a byte now and then is never silent.
const DOCUMENT: Duration = Duration::from_secs(180);

/// The digest of a manifest, as the registry sees it.
const DIGEST: &str = "docker-content-digest";

/// Fetch the image `named`.
///
/// # Errors
/// When the registry cannot be reached, does not have it, or is not to be believed.
pub async fn fetch(context: &Context<'_>, named: &Named) -> Result<Image, Problem> {
    let registry = Registry { context, named, connection: OnceCell::new() };
    if let Some(digest) = named.digest()
        && let Some(text) = context.stored(digest, MAX_MANIFEST).await?
    {
        return context.image(text, None, &registry).await;
    }
    let (text, declared) = registry.manifest(named.digest().or(named.tag()).unwrap_or("latest")).await?;
    if let Some(digest) = named.digest() {
        digest::check("its manifest", digest, &text)?;
        context.keep(digest, &text).await?;
    }
    context.image(text, declared, &registry).await
}

/// A repository in a registry. A connection is made when something is to be fetched.
struct Registry<'a> {
    context: &'a Context<'a>,
    named: &'a Named,
    connection: OnceCell<Connection>,
}

impl Registry<'_> {
    async fn connection(&self) -> Result<&Connection, Problem> {
        let connect = || Connection::new(self.named, self.context.options, self.context.events.clone());
        self.connection.get_or_try_init(connect).await
    }

    /// A manifest or an index by its tag or its digest, with the type that it is handed out as.
    async fn manifest(&self, name: &str) -> Result<(Vec<u8>, Option<String>), Problem> {
        let accepted = MANIFESTS.into_iter().chain(INDEXES).map(|text| (ACCEPT, HeaderValue::from_static(text)));
        let headers: HeaderMap = accepted.fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name, value);
            headers
        });
        let what = format!("the manifest {} of {}", name, self.named.repository());
        let (text, answered) = self.document_at(&format!("manifests/{name}"), headers, &what, MAX_MANIFEST).await?;
        let field = |name: &str| answered.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let Some(digest) = field(DIGEST).filter(|digest| digest::sha256(digest).is_some()) {
            digest::check("its manifest", &digest, &text)?;
        }
        Ok((text, field(CONTENT_TYPE.as_str())))
    }

    /// A small document.
    async fn document_at(
        &self,
        path: &str,
        headers: HeaderMap,
        what: &str,
        most: u64,
    ) -> Result<(Vec<u8>, HeaderMap), Problem> {
        let connection = self.connection().await?;
        let mut attempt = 1;
        loop {
            let answer = connection.get(path, &headers, what).await?;
            let answered = answer.headers().clone();
            match read(answer, most, DOCUMENT).await {
                Ok(text) => return Ok((text, answered)),
                Err(Unread::TooLarge(size)) => {
                    return Err(document::oversized(what, size, most));
                }
                Err(Unread::Broken(reason)) => connection.pause(what, &mut attempt, reason, None).await?,
            }
        }
    }
}

impl Blobs for Registry<'_> {
    async fn document(&self, what: &str, descriptor: &Descriptor) -> Result<Vec<u8>, Problem> {
        let digest = descriptor.digest().as_ref();
        let media_type = descriptor.media_type().to_string();
        if MANIFESTS.into_iter().chain(INDEXES).any(|own| own == media_type) {
            return Ok(self.manifest(digest).await?.0);
        }
        let what = format!("{what} {digest}");
        Ok(self.document_at(&format!("blobs/{digest}"), HeaderMap::new(), &what, descriptor.size()).await?.0)
    }

    async fn layer(
        &self,
        context: &Context<'_>,
        what: &str,
        layer: &Descriptor,
        progress: &Progress,
    ) -> Result<(), Problem> {
        blob::download(self.connection().await?, context.store, what, layer, progress).await
    }

    fn address(&self, digest: &str) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.named.resolve_registry(), self.named.repository())
    }
}

/// Why a body was not read.
enum Unread {
    TooLarge(u64),
    Broken(String),
}

/// The body of `answer`, which has at most so many bytes and takes at most so long.
async fn read(answer: Response, most: u64, longest: Duration) -> Result<Vec<u8>, Unread> {
    let late = |_| Unread::Broken(format!("it takes longer than {} s", longest.as_secs_f32()));
    tokio::time::timeout(longest, read_all(answer, most)).await.map_err(late)?
}

async fn read_all(answer: Response, most: u64) -> Result<Vec<u8>, Unread> {
    if let Some(size) = answer.content_length().filter(|size| *size > most) {
        return Err(Unread::TooLarge(size));
    }
    let mut text = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        text.extend_from_slice(&chunk.map_err(|error| Unread::Broken(root_cause(&error)))?);
        if text.len() as u64 > most {
            return Err(Unread::TooLarge(text.len() as u64));
        }
    }
    Ok(text)
}

/// What an error comes from.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let root = causes(error).last().unwrap_or(error);
    crate::clean::line(&root.to_string()).into_owned()
}

/// An error and what it comes from. An I/O error that wraps another hides it from [`StdError::source`].
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// The answer of a server that sends a byte every few milliseconds, and would go on for a minute.
    async fn dripping() -> Response {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12000\r\n\r\n").await.unwrap();
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(crate::tls::none().unwrap());
        client.build().unwrap().get(url).send().await.unwrap()
    }

    #[tokio::test]
    async fn a_document_does_not_drip_for_ever() {
        let begin = std::time::Instant::now();
        let read = read(dripping().await, MAX_MANIFEST, Duration::from_millis(300)).await;
        let Err(Unread::Broken(reason)) = read else { panic!("it was read") };
        assert_eq!(reason, "it takes longer than 0.3 s");
        assert!(begin.elapsed() < Duration::from_secs(30));
        let text = message_of(dripping().await, Duration::from_millis(300)).await;
        assert!(!text.is_empty() && text.iter().all(|byte| *byte == b' '), "{text:?}");
    }
}
