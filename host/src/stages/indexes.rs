//! What archives have to offer at the moment: the digests of their signed indexes.
//!
//! What apt installs follows from the archive too. Its `InRelease` has the digest of each of its lists, and these have the
//! digest of each package, so that one digest stands for all. (Debian Wiki, "DebianRepository/Format".)

use crate::event::Events;
use crate::tls;
use crate::vm::proxy::{Upstream, public_url};
use futures::future::join_all;
use particle_vm_protocol::stage::Source;
use particle_vm_protocol::{PlannedStage, Stage};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// Most bytes of an index. Debian's have 200 KB.
const MOST: usize = 16 << 20;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an index may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The URLs of the indexes that the work of `stage`, and of those that install packages after it, follows from.
pub(super) fn of(stage: &Stage) -> Vec<String> {
    match stage {
        Stage::Debootstrap(options) => options.mirror.iter().map(|mirror| url(mirror, &options.suite)).collect(),
        Stage::Sources(options) => options.sources.iter().flat_map(of_source).collect(),
        _ => Vec::new(),
    }
}

fn of_source(source: &Source) -> impl Iterator<Item = String> {
    source.uris.iter().flat_map(|uri| source.suites.iter().map(move |suite| url(uri, suite)))
}

/// A suite that ends in a slash is a folder, sources.list(5).
fn url(mirror: &str, suite: &str) -> String {
    let mirror = mirror.trim_end_matches('/');
    if suite.ends_with('/') {
        format!("{mirror}/{suite}InRelease")
    } else {
        format!("{mirror}/dists/{suite}/InRelease")
    }
}

/// The digests of the indexes that `stages` follow from. Those that cannot be had are missing; why, is told.
pub(super) async fn digests(stages: &[PlannedStage], events: &Events) -> BTreeMap<String, String> {
    let urls: BTreeSet<String> = stages.iter().flat_map(|planned| of(&planned.stage)).collect();
    let digests = urls.into_iter().map(|url| async move {
        let why = match timeout(PATIENCE, digest(&url)).await {
            Ok(Ok(digest)) => return Some((url, digest)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it has not come within {} s", PATIENCE.as_secs()),
        };
        // A URL may have a password in it.
        let shown = Url::parse(&url).map(|url| public_url(&url)).unwrap_or_default();
        events.detail(format!("the stages that need {shown} are run, and not kept for later builds: {why}"));
        None
    });
    join_all(digests).await.into_iter().flatten().collect()
}

async fn digest(url: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let url = Url::parse(url)?;
    let tls = if url.scheme() == "https" { tls::for_host(url.host_str().unwrap_or_default())? } else { tls::none()? };
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).referer(false).connect_timeout(CONNECT);
    // Nobody but the recipe says where the host goes.
    let client = client.redirect(Policy::none()).proxy(Upstream::from_env()?.proxy()).build()?;
    let mut response = client.get(url).send().await.map_err(reqwest::Error::without_url)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()).into());
    }
    let (mut hash, mut size) = (Sha256::new(), 0);
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        size += chunk.len();
        if size > MOST {
            return Err(format!("it is longer than {MOST} bytes").into());
        }
        hash.update(&chunk);
    }
    Ok(hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stage(json: serde_json::Value) -> Stage {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn each_suite_of_each_mirror_has_an_index() {
        let options = json!({ "suite": "trixie", "mirror": "http://m.example/debian/" });
        let debootstrap = stage(json!({ "type": "debootstrap", "options": options }));
        assert_eq!(of(&debootstrap), ["http://m.example/debian/dists/trixie/InRelease"]);
        let source = json!({ "name": "x", "uris": ["http://a.example", "http://b.example"], "suites": ["y", "./"] });
        let sources = stage(json!({ "type": "sources", "options": { "sources": [source] } }));
        assert_eq!(
            of(&sources),
            [
                "http://a.example/dists/y/InRelease",
                "http://a.example/./InRelease",
                "http://b.example/dists/y/InRelease",
                "http://b.example/./InRelease",
            ]
        );
    }
}
