//! Layers: downloaded into the store, and taken up again where they broke off.
//!
//! Source: RFC 9110, 14 ("Range Requests").

use super::super::error::Problem;
use super::super::{Progress, digest};
use super::client::Connection;
use super::root_cause;
use crate::store::{Fields, Store};
use futures::StreamExt;
use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// A connection that brings so much before it breaks may break as often as it likes.
const WORTH_IT: u64 = 1 << 20;

/// Put the blob that `layer` describes into `store`, under its digest.
///
/// # Errors
/// When it cannot be had, or is another.
pub async fn download(
    connection: &Connection,
    store: &Store,
    what: &str,
    layer: &Descriptor,
    progress: &Progress,
) -> Result<(), Problem> {
    let digest = layer.digest().as_ref();
    let (path, shown) = (format!("blobs/{digest}"), format!("{what} ({digest})"));
    let wrong_size = |found| Problem::Size { what: what.to_owned(), expected: layer.size(), found };
    let begin = || store.put_stream(digest, Fields::default());
    let (mut put, mut hash, mut have, mut attempt) = (begin().await?, Sha256::new(), 0, 1);
    loop {
        let mut headers = HeaderMap::new();
        if have > 0 {
            headers.extend(HeaderValue::try_from(format!("bytes={have}-")).map(|value| (RANGE, value)));
        }
        let answer = match connection.get(&path, &headers, &shown).await {
            // There is no more of it.
            Err(Problem::Status { status: 416, .. }) => return Err(wrong_size(have)),
            answer => answer?,
        };
        if have > 0 && !goes_on(&answer, have) {
            // It begins anew.
            progress.take_back(have);
            (put, hash, have) = (begin().await?, Sha256::new(), 0);
        }
        let before = have;
        let mut body = answer.bytes_stream();
        let mut reason = "it ends too early".to_owned();
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    reason = root_cause(&error);
                    break;
                }
            };
            have += chunk.len() as u64;
            if have > layer.size() {
                return Err(wrong_size(have));
            }
            hash.update(&chunk);
            put.write(&chunk).await?;
            progress.add(chunk.len() as u64);
        }
        if have == layer.size() {
            digest::equal(what, digest, digest::finish(hash))?;
            return Ok(put.commit().await?);
        }
        if have - before >= WORTH_IT && before > 0 {
            attempt = 1;
        }
        let reason = format!("{reason}, after {have} of {} bytes", layer.size());
        connection.pause(&shown, &mut attempt, reason, None).await?;
    }
}

/// Whether the answer is what follows the first `have` bytes.
fn goes_on(answer: &Response, have: u64) -> bool {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.trim().starts_with(&format!("bytes {have}-")))
}
