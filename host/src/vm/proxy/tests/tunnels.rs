//! CONNECT.

use super::rig::{Act, GuestStream, Server, guest, guest_behind, reply, upstream};
use crate::vm::proxy::Tunnel;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn read_head(stream: &mut GuestStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// An echo that speaks only when spoken to, as TLS does.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_tunnel_passes_bytes_in_both_directions_and_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let address = echo().await;
    let guest = guest(&[&address], dir.path());
    for _ in 0..2 {
        let mut stream = guest.connect().await;
        let request = format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let message = vec![0x16; 500_000];
        let (mut from, mut to) = tokio::io::split(stream);
        let mut back = Vec::new();
        let write = async {
            to.write_all(&message).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let (_, read) = tokio::join!(write, from.read_to_end(&mut back));
        read.unwrap();
        assert_eq!(back, message);
    }
    // Both ends have closed; the proxy notes it a moment later.
    let noted = async {
        while guest.proxy.record().tunnels().first().is_none_or(|tunnel| tunnel.sent < 1_000_000) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), noted).await.unwrap();
    let tunnel = Tunnel { host: address, sent: 1_000_000, received: 1_000_000 };
    assert_eq!(guest.proxy.record().tunnels(), [tunnel]);
}

#[tokio::test]
async fn a_tunnel_goes_through_the_proxy_that_the_variables_name() {
    let dir = tempfile::tempdir().unwrap();
    let way = Server::start(|_| Act::Echo("HTTP/1.1 200 Connection established\r\n\r\n")).await;
    let proxy = format!("http://me:secret@{}", way.address);
    let guest = guest_behind(&["example.org"], dir.path(), upstream(&[("https_proxy", &proxy)]));
    let mut stream = guest.connect().await;
    stream.write_all(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    stream.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
    let asked = way.last_request();
    assert!(asked.starts_with("CONNECT example.org:443 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{asked}");
}

#[tokio::test]
async fn a_proxy_on_the_way_that_refuses_is_a_502() {
    let dir = tempfile::tempdir().unwrap();
    let way = Server::start(|_| reply("407 Who Are You", "Content-Length: 0\r\n", b"")).await;
    let proxy = format!("http://{}", way.address);
    let guest = guest_behind(&["example.org"], dir.path(), upstream(&[("https_proxy", &proxy)]));
    let answer = guest.send("CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.status.starts_with("502 cannot connect to example.org:443 (through the proxy"), "{}", answer.status);
    assert!(answer.status.contains("proxy authorization required"), "{}", answer.status);
}

#[tokio::test]
async fn a_tunnel_to_another_port_has_to_be_listed() {
    let dir = tempfile::tempdir().unwrap();
    let guest = guest(&["127.0.0.1"], dir.path());
    let answer = guest.send("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer.status, "403 127.0.0.1:22 is not in network.allow of the recipe");
}

#[tokio::test]
async fn the_end_of_the_vm_closes_its_tunnels() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let guest = guest(&[&address], dir.path());
    let mut stream = guest.connect().await;
    stream.write_all(format!("CONNECT {address} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 OK"));
    let proxy = guest.proxy.clone();
    drop(guest);
    let closed = tokio::time::timeout(Duration::from_secs(5), far.read_u8()).await.unwrap();
    assert!(closed.is_err());
    assert_eq!(proxy.record().tunnels().len(), 1);
}
