//! What is kept for the next build, and what is not.

use super::rig::{Act, Server, guest, ok, reply};
use crate::store::Store;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const PACKAGE: &str = "/pool/a/a_1.0-1_amd64.deb";

#[tokio::test]
async fn a_second_build_fetches_no_package_again() {
    let dir = tempfile::tempdir().unwrap();
    let body = vec![5; 300_000];
    let sent = body.clone();
    let server = Server::start(move |_| {
        reply(
            "200 OK",
            "Content-Length: 300000\r\nETag: \"1\"\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nVary: Accept-Encoding\r\n",
            &sent,
        )
    })
    .await;
    let url = server.url(PACKAGE);
    for build in 0..3 {
        let guest = guest(&[&server.rule()], dir.path());
        let answer = guest.get(&url).await;
        assert_eq!((answer.status.as_str(), &answer.body), ("200 OK", &body));
        assert_eq!(answer.header("content-length"), Some("300000"));
        assert_eq!(answer.header("etag"), Some("\"1\""));
        assert_eq!(answer.header("last-modified"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        let fetch = guest.proxy.record().fetches().remove(0);
        assert_eq!((fetch.from_store, fetch.size), (build > 0, 300_000));
        assert_eq!(fetch.sha256, hex::encode(Sha256::digest(&body)));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn the_whole_is_asked_for_so_that_it_can_be_stored() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ok(b"whole")).await;
    let guest = guest(&[&server.rule()], dir.path());
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nRange: bytes=2-\r\nIf-Range: \"1\"\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
        server.url(PACKAGE)
    );
    assert_eq!(guest.send(&request).await.text(), "whole");
    let asked = server.last_request().to_lowercase();
    assert!(!asked.contains("range") && !asked.contains("accept-encoding"), "{asked}");
    guest.proxy.settle();
    assert_eq!(guest.send(&request).await.text(), "whole");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_index_is_fetched_again_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ok(b"index")).await;
    let guest = guest(&[&server.rule()], dir.path());
    for _ in 0..2 {
        guest.get(&server.url("/dists/trixie/InRelease")).await;
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn what_is_incomplete_or_not_for_everybody_is_not_stored() {
    for (headers, body) in [
        // Shorter than announced.
        ("Content-Length: 10\r\n", "short"),
        // A broken chunk, no last chunk.
        ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
        // Nobody can tell whether this is all.
        ("", "hello"),
        ("Content-Length: 5\r\nCache-Control: max-age=5, no-store\r\n", "hello"),
        ("Content-Length: 5\r\nCache-Control: private=\"set-cookie\"\r\n", "hello"),
        ("Content-Length: 5\r\nCache-Control: Private\r\n", "hello"),
        ("Content-Length: 5\r\nVary: Accept-Encoding, User-Agent\r\n", "hello"),
        ("Content-Length: 5\r\nVary: *\r\n", "hello"),
        ("Content-Length: 5\r\nContent-Encoding: gzip\r\n", "hello"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(move |_| reply("200 OK", headers, body.as_bytes())).await;
        for _ in 0..2 {
            let guest = guest(&[&server.rule()], dir.path());
            guest.get(&server.url(PACKAGE)).await;
        }
        assert_eq!(server.requests(), 2, "{headers}");
        assert_eq!(Store::open(dir.path()).unwrap().size().unwrap(), 0, "{headers}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_stored_before_its_end_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::start(|_| reply("200 OK", "Transfer-Encoding: chunked\r\n", b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")).await;
    for _ in 0..2 {
        let guest = guest(&[&server.rule()], dir.path());
        let answer = guest.get(&server.url(PACKAGE)).await;
        assert!(answer.text().contains("lo"), "{}", answer.text());
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_error_page_is_not_a_package() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| reply("404 Gone Fishing", "Content-Length: 2\r\n", b"no")).await;
    let guest = guest(&[&server.rule()], dir.path());
    for _ in 0..2 {
        let answer = guest.get(&server.url(PACKAGE)).await;
        assert_eq!((answer.status.as_str(), answer.text()), ("404 Gone Fishing", "no"));
    }
    assert_eq!(server.requests(), 2);
    assert_eq!(guest.proxy.record().fetches()[0].status, 404);
}

#[tokio::test]
async fn by_hash_the_digest_decides() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|head| ok(if head.contains("right") { b"right" } else { b"wrong" })).await;
    let right = hex::encode(Sha256::digest(b"right"));
    let guest = guest(&[&server.rule()], dir.path());
    let url = |folder: &str| server.url(&format!("/{folder}/by-hash/SHA256/{right}"));
    for _ in 0..2 {
        assert_eq!(guest.get(&url("right")).await.text(), "right");
    }
    assert_eq!(server.requests(), 1);
    for _ in 0..2 {
        assert_eq!(guest.get(&url("bad")).await.text(), "wrong");
    }
    assert_eq!(server.requests(), 3);
    let failures = guest.proxy.record().failures();
    assert_eq!(failures.len(), 1);
    assert!(failures[0].contains("the mirror sent wrong bytes"), "{failures:?}");
    assert_eq!(guest.proxy.store().size().unwrap(), 5);
}

/// A mirror that sends wrong bytes the first time, with the same length and the same validators.
async fn mends_itself() -> (Server, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let server = Server::start(move |_| -> Act {
        let body: &[u8] = if counter.fetch_add(1, SeqCst) == 0 { b"wrong" } else { b"right" };
        reply("200 OK", "Content-Length: 5\r\nETag: \"same\"\r\n", body)
    })
    .await;
    (server, count)
}

#[tokio::test]
async fn wrong_bytes_do_not_outlive_the_build_that_failed_on_them() {
    let dir = tempfile::tempdir().unwrap();
    let (server, count) = mends_itself().await;
    let first = guest(&[&server.rule()], dir.path());
    assert_eq!(first.get(&server.url(PACKAGE)).await.text(), "wrong");
    first.proxy.doubt();
    let second = guest(&[&server.rule()], dir.path());
    assert_eq!(second.get(&server.url(PACKAGE)).await.text(), "right");
    second.proxy.settle();
    let third = guest(&[&server.rule()], dir.path());
    assert_eq!(third.get(&server.url(PACKAGE)).await.text(), "right");
    assert_eq!(count.load(SeqCst), 2);
}

#[tokio::test]
async fn a_package_that_is_asked_for_twice_in_one_stage_is_fetched_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (server, count) = mends_itself().await;
    let first = guest(&[&server.rule()], dir.path());
    assert_eq!(first.get(&server.url(PACKAGE)).await.text(), "wrong");
    assert_eq!(first.get(&server.url(PACKAGE)).await.text(), "right");
    assert!(server.last_request().to_lowercase().contains("cache-control: no-cache\r\n"));
    let second = guest(&[&server.rule()], dir.path());
    assert_eq!(second.get(&server.url(PACKAGE)).await.text(), "right");
    assert_eq!(count.load(SeqCst), 2);
}

#[tokio::test]
async fn a_stage_that_fails_does_not_cost_what_the_stages_before_it_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ok(b"right")).await;
    let first = guest(&[&server.rule()], dir.path());
    first.get(&server.url(PACKAGE)).await;
    first.proxy.settle();
    first.get(&server.url("/b_1_all.deb")).await;
    first.proxy.doubt();
    let second = guest(&[&server.rule()], dir.path());
    second.get(&server.url(PACKAGE)).await;
    assert_eq!(server.requests(), 2);
    second.get(&server.url("/b_1_all.deb")).await;
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn two_builds_at_once_share_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|head| ok(&head.split(' ').nth(1).unwrap().repeat(5000).into_bytes())).await;
    let guests: Vec<_> = (0..4).map(|_| guest(&[&server.rule()], dir.path())).collect();
    let paths: Vec<_> = (0..8).map(|number| format!("/a_{number}_all.deb")).collect();
    let urls: Vec<_> = paths.iter().map(|path| server.url(path)).collect();
    let answers =
        futures::future::join_all(guests.iter().flat_map(|guest| {
            paths.iter().zip(&urls).map(move |(path, url)| async move { (path, guest.get(url).await) })
        }))
        .await;
    for (path, answer) in answers {
        assert_eq!(answer.text(), path.repeat(5000));
    }
    let before = server.requests();
    let late = guest(&[&server.rule()], dir.path());
    for (path, url) in paths.iter().zip(&urls) {
        assert_eq!(late.get(url).await.text(), path.repeat(5000));
    }
    assert_eq!(server.requests(), before);
}
