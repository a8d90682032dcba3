//! The proxy between a guest and servers on loopback.

mod faults;
mod rig;
mod stored;
mod tunnels;

use rig::{Server, guest, guest_behind, ok, reply, upstream};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_host_on_the_list_is_fetched_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let server =
        Server::start(|_| reply("200 Fine With Me", "Content-Length: 5\r\nX-A: b\r\nKeep-Alive: 5\r\n", b"hello"))
            .await;
    let guest = guest(&[&server.rule()], dir.path());
    let url = server.url("/dists/InRelease?x=1");
    let request = format!(
        "GET {url} HTTP/1.1\r\nHost: lie\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-C: d\r\nRange: bytes=0-9\r\nConnection: close\r\n\r\n"
    );
    let answer = guest.send(&request).await;
    assert_eq!((answer.status.as_str(), answer.text()), ("200 Fine With Me", "hello"));
    assert_eq!(answer.header("x-a"), Some("b"));
    assert_eq!(answer.header("via"), Some("1.1 particle-vm"));
    assert_eq!(answer.header("keep-alive"), None);
    let asked = server.last_request().to_lowercase();
    assert!(asked.starts_with("get /dists/inrelease?x=1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {}\r\n", server.address)), "{asked}");
    assert!(asked.contains("x-c: d\r\n") && asked.contains("range: bytes=0-9\r\n"), "{asked}");
    assert!(!asked.contains("proxy-connection") && !asked.contains("te: "), "{asked}");
    let fetches = guest.proxy.record().fetches();
    assert_eq!(fetches.len(), 1);
    assert_eq!((fetches[0].url.as_str(), fetches[0].status, fetches[0].size), (url.as_str(), 200, 5));
    assert_eq!(fetches[0].sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!((fetches[0].from_store, &fetches[0].trouble), (false, &None));
}

#[tokio::test]
async fn a_host_that_is_not_on_the_list_gets_a_403_that_says_what_to_add() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|_| ok(b"secret")).await;
    let guest = guest(&["example.org"], dir.path());
    let host = server.rule();
    for request in [
        format!("GET {} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n", server.url("/")),
        format!("CONNECT {host} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"),
    ] {
        let answer = guest.send(&request).await;
        assert_eq!(answer.status, format!("403 {host} is not in network.allow of the recipe"));
        assert!(answer.text().contains(&format!("network: {{ allow: [{host}] }}")), "{}", answer.text());
    }
    assert_eq!(server.requests(), 0);
    assert_eq!(guest.proxy.record().refused(), [host]);
    assert!(guest.proxy.record().fetches().is_empty());
}

#[tokio::test]
async fn a_length_beside_a_coding_is_not_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let headers = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
    let server = Server::start(|_| reply("200 OK", headers, b"a\r\n0123456789\r\n0\r\n\r\n")).await;
    let guest = guest(&[&server.rule()], dir.path());
    let answer = guest.get(&server.url("/x")).await;
    assert_eq!(answer.header("content-length"), None, "{}", answer.head);
    assert!(answer.text().contains("0123456789"), "{}", answer.text());
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_its_target_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let target = Server::start(|_| ok(b"secret")).await;
    let location = target.url("/x");
    let headers = format!("Location: {location}\r\nContent-Length: 0\r\n");
    let server = Server::start(move |_| reply("302 Found", &headers, b"")).await;
    let guest = guest(&[&server.rule()], dir.path());
    let answer = guest.get(&server.url("/")).await;
    assert_eq!((answer.status.as_str(), answer.header("location")), ("302 Found", Some(location.as_str())));
    assert!(guest.get(&location).await.status.starts_with("403 "));
    assert_eq!(target.requests(), 0);
    assert_eq!(guest.proxy.record().fetches()[0].status, 302);
}

#[tokio::test]
async fn an_answer_without_a_body_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|head| match head {
        head if head.starts_with("HEAD") => reply("200 OK", "Content-Length: 1234\r\n", b""),
        _ => reply("304 Not Modified", "ETag: \"x\"\r\n", b""),
    })
    .await;
    let guest = guest(&[&server.rule()], dir.path());
    let head = guest.send(&format!("HEAD {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", server.url("/"))).await;
    assert_eq!((head.header("content-length"), head.body.len()), (Some("1234"), 0));
    let unchanged = guest.get(&server.url("/")).await;
    assert_eq!((unchanged.status.as_str(), unchanged.header("etag")), ("304 Not Modified", Some("\"x\"")));
    assert_eq!(guest.proxy.record().fetches().len(), 2);
    assert!(guest.proxy.record().failures().is_empty());
}

#[tokio::test]
async fn requests_that_are_no_requests_to_a_proxy_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let guest = guest(&["127.0.0.1"], dir.path());
    let long = format!("http://127.0.0.1/{}", "x".repeat(5000));
    for (line, status) in [
        ("GET / HTTP/1.1", "400 this is a proxy: ask for an absolute URL"),
        ("POST http://127.0.0.1/ HTTP/1.1", "405 the proxy passes on GET, HEAD and CONNECT only"),
        ("GET https://127.0.0.1/ HTTP/1.1", "501 https is tunnelled: use CONNECT"),
        ("GET ftp://127.0.0.1/ HTTP/1.1", "400 the proxy passes on http and https only"),
        ("CONNECT 127.0.0.1 HTTP/1.1", "400 CONNECT needs HOST:PORT"),
        (&format!("GET {long} HTTP/1.1"), "414 the URL is too long"),
        ("nonsense", "400 Bad Request"),
    ] {
        let answer = guest.send(&format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(answer.status, status, "{line}");
    }
    let fields: String = (0..40).map(|number| format!("X-{number}: {}\r\n", "y".repeat(4000))).collect();
    let answer = guest.send(&format!("GET http://127.0.0.1/ HTTP/1.1\r\n{fields}\r\n")).await;
    assert_eq!(answer.status, "431 Request Header Fields Too Large");
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|head| ok(head.split(' ').nth(1).unwrap().as_bytes())).await;
    let guest = guest(&[&server.rule()], dir.path());
    let mut stream = guest.connect().await;
    let requests: String = (0..10)
        .map(|number| format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", server.url(&format!("/{number}"))))
        .collect();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut got = String::new();
    while !got.ends_with("/9") {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert_ne!(read, 0, "{got}");
        got.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    assert_eq!(got.matches("200 OK").count(), 10);
}

#[tokio::test]
async fn many_streams_at_a_time_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|head| {
        let number: u8 = head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        ok(&vec![number; 200_000])
    })
    .await;
    let guest = guest(&[&server.rule()], dir.path());
    let urls: Vec<_> = (0..100_u8).map(|number| server.url(&format!("/{number}"))).collect();
    let answers = futures::future::join_all(urls.iter().map(|url| guest.get(url))).await;
    for (number, answer) in (0..).zip(&answers) {
        assert_eq!(answer.body, vec![number; 200_000]);
    }
    assert_eq!(guest.proxy.record().fetches().len(), 100);
}

#[tokio::test]
async fn plain_http_takes_the_way_that_the_variables_name() {
    let dir = tempfile::tempdir().unwrap();
    let way = Server::start(|_| ok(b"by the proxy")).await;
    let server = Server::start(|_| ok(b"directly")).await;
    let variables = [("http_proxy", &*format!("http://me:secret@{}", way.address)), ("no_proxy", "127.0.0.1")];
    let guest = guest_behind(&["example.org", &server.rule()], dir.path(), upstream(&variables));
    assert_eq!(guest.get("http://example.org/a").await.text(), "by the proxy");
    let asked = way.last_request().to_lowercase();
    assert!(asked.starts_with("get http://example.org/a http/1.1\r\n"), "{asked}");
    assert!(asked.contains("proxy-authorization: basic bwu6c2vjcmv0\r\n"), "{asked}");
    assert_eq!(guest.get(&server.url("/")).await.text(), "directly");
}

#[tokio::test]
async fn a_guest_that_speaks_no_yamux_ends_the_service_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = guest(&[], dir.path()).proxy.clone();
    let (host_end, mut guest_end) = tokio::net::UnixStream::pair().unwrap();
    guest_end.write_all(&[0xff; 64]).await.unwrap();
    let served = tokio::time::timeout(Duration::from_secs(5), proxy.serve(host_end)).await.unwrap();
    assert!(served.is_err());
    let (host_end, guest_end) = tokio::net::UnixStream::pair().unwrap();
    drop(guest_end);
    let served = tokio::time::timeout(Duration::from_secs(5), proxy.serve(host_end)).await.unwrap();
    assert!(served.is_ok());
}
