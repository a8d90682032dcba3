//! A network that fails in every way a network can.

use super::rig::{Act, Server, guest, guest_behind, ok, reply, upstream};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

/// An address that nobody listens on.
async fn closed_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn a_mirror_that_is_down_is_a_502_that_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let address = closed_address().await;
    let guest = guest(&[&address], dir.path());
    let answer = guest.get(&format!("http://{address}/x")).await;
    assert_eq!(answer.status, "502 cannot connect to 127.0.0.1: Connection refused (os error 111)");
    assert!(answer.text().contains("Connection refused"));
    let failures = guest.proxy.record().failures();
    assert!(failures[0].starts_with(&format!("http://{address}/x: cannot connect")), "{failures:?}");
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_502() {
    let dir = tempfile::tempdir().unwrap();
    let guest = guest(&["does-not-exist.invalid"], dir.path());
    let answer = guest.get("http://does-not-exist.invalid/x").await;
    assert!(answer.status.starts_with("502 cannot connect to does-not-exist.invalid: "), "{}", answer.status);
}

#[tokio::test]
async fn an_upstream_proxy_that_is_down_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let address = closed_address().await;
    let proxy = format!("http://me:secret@{address}");
    let way = upstream(&[("http_proxy", &proxy), ("https_proxy", &proxy)]);
    let guest = guest_behind(&["example.org"], dir.path(), way);
    let expected = format!("example.org (through the proxy {address}): Connection refused");
    let plain = guest.get("http://example.org/x").await.status;
    assert!(plain.starts_with("502 ") && plain.contains(&expected), "{plain}");
    let tunnel = guest.send("CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.status;
    assert!(tunnel.contains(&format!("example.org:443 (through the proxy {address}): ")), "{tunnel}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_504() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Act::Stall(Vec::new())).await;
    let guest = guest(&[&server.rule()], dir.path());
    let begun = Instant::now();
    let answer = guest.get(&server.url("/x")).await;
    assert_eq!(answer.status, "504 no answer from 127.0.0.1 within 0.6 s");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(guest.proxy.record().failures().len(), 1);
}

#[tokio::test]
async fn a_transfer_that_stalls_is_broken_off_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| Act::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())).await;
    let guest = guest(&[&server.rule()], dir.path());
    let answer = guest.get(&server.url("/a_1_all.deb")).await;
    assert_eq!(answer.text(), "half");
    let fetch = guest.proxy.record().fetches().remove(0);
    assert_eq!(fetch.trouble.as_deref(), Some("it stalled: no byte came for 0.6 s (after 4 of 10 bytes)"));
    assert_eq!(guest.proxy.store().size().unwrap(), 0);
}

#[tokio::test]
async fn a_slow_transfer_that_goes_on_is_not_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        for byte in b"hello" {
            tokio::time::sleep(Duration::from_millis(250)).await;
            stream.write_all(&[*byte]).await.unwrap();
        }
    });
    let guest = guest(&[&address.to_string()], dir.path());
    assert_eq!(guest.get(&format!("http://{address}/x")).await.text(), "hello");
    server.await.unwrap();
}

#[tokio::test]
async fn a_truncated_transfer_is_truncated_for_the_guest_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| reply("200 OK", "Content-Length: 10\r\n", b"half")).await;
    let guest = guest(&[&server.rule()], dir.path());
    let answer = guest.get(&server.url("/a_1_all.deb")).await;
    assert_eq!((answer.header("content-length"), answer.text()), (Some("10"), "half"));
    let failures = guest.proxy.record().failures();
    assert!(failures[0].contains("the connection broke") && failures[0].contains("4 of 10 bytes"), "{failures:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_http_or_has_endless_headers_is_a_502() {
    let dir = tempfile::tempdir().unwrap();
    let endless = format!("HTTP/1.1 200 OK\r\n{}", format!("X: {}\r\n", "y".repeat(1000)).repeat(1000));
    for bytes in [b"SSH-2.0-x\r\n\r\n".to_vec(), Vec::new(), endless.into_bytes()] {
        let sent = bytes.clone();
        let server = Server::start(move |_| Act::Send(sent.clone())).await;
        let guest = guest(&[&server.rule()], dir.path());
        let status = guest.get(&server.url("/x")).await.status;
        assert!(status.starts_with("502 no usable answer from 127.0.0.1: "), "{status}");
    }
}

#[tokio::test]
async fn a_guest_that_breaks_off_ends_the_download() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ok(&vec![0; 50_000_000])).await;
    let guest = guest(&[&server.rule()], dir.path());
    let mut stream = guest.connect().await;
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", server.url("/a_1_all.deb"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut some = vec![0; 100_000];
    stream.read_exact(&mut some).await.unwrap();
    drop(stream);
    let recorded = async {
        while guest.proxy.record().fetches().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), recorded).await.unwrap();
    let fetch = guest.proxy.record().fetches().remove(0);
    assert_eq!(fetch.trouble.as_deref(), Some("broken off by the guest"));
    assert!(fetch.size < 50_000_000);
    assert!(guest.proxy.record().failures().is_empty());
    assert_eq!(guest.proxy.store().size().unwrap(), 0);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_does_not_stop_the_download() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ok(b"hello")).await;
    let guest = guest(&[&server.rule()], dir.path());
    // A file where the store's folders belong.
    for name in ["tmp", "content-v2", "index-v5"] {
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    assert_eq!(guest.get(&server.url("/a_1_all.deb")).await.text(), "hello");
    assert_eq!(guest.proxy.record().fetches()[0].trouble, None);
}

#[tokio::test]
async fn a_guest_that_ends_in_the_middle_of_something_is_no_broken_channel() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = guest(&[], dir.path()).proxy.clone();
    for sent in [&b""[..], b"\0\0\0"] {
        let (host_end, mut guest_end) = UnixStream::pair().unwrap();
        let serve = tokio::spawn({
            let proxy = proxy.clone();
            async move { proxy.serve(host_end).await }
        });
        // The host's first ping is not taken, as when QEMU is killed.
        guest_end.readable().await.unwrap();
        guest_end.write_all(sent).await.unwrap();
        drop(guest_end);
        serve.await.unwrap().unwrap();
    }
}
