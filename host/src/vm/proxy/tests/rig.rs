//! Both ends of the wire: a guest that speaks yamux, and servers on loopback that do as they are told.

use super::super::{Limits, Policy, Proxy, Upstream};
use crate::event::Events;
use crate::store::Store;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

pub type GuestStream = Compat<yamux::Stream>;

/// The guest's end of a proxy that runs.
pub struct Guest {
    pub proxy: Proxy,
    open: mpsc::UnboundedSender<oneshot::Sender<yamux::Stream>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Short times, so that the tests of stalls are short.
pub const LIMITS: Limits = Limits { connect: Duration::from_secs(2), stall: Duration::from_millis(600) };

pub fn upstream(variables: &[(&str, &str)]) -> Upstream {
    Upstream::from_variables(|name| {
        variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
    })
    .unwrap()
}

/// A guest that may reach `allow`, with a store in `store`.
pub fn guest(allow: &[&str], store: &Path) -> Guest {
    guest_behind(allow, store, upstream(&[]))
}

pub fn guest_behind(allow: &[&str], store: &Path, upstream: Upstream) -> Guest {
    let policy = Policy::new(allow).unwrap();
    let store = Store::open(store).unwrap();
    let proxy = Proxy::with_limits(policy, store, upstream, Events::none(), LIMITS).unwrap();
    let (host_end, guest_end) = UnixStream::pair().unwrap();
    let (open, mut wanted) = mpsc::unbounded_channel::<oneshot::Sender<yamux::Stream>>();
    let server = proxy.clone();
    let serve = tokio::spawn(async move { server.serve(host_end).await.unwrap() });
    let client = tokio::spawn(async move {
        let mut link = yamux::Connection::new(guest_end.compat(), yamux::Config::default(), yamux::Mode::Client);
        let mut waiting = VecDeque::new();
        poll_fn(|context| {
            while let Poll::Ready(Some(sender)) = wanted.poll_recv(context) {
                waiting.push_back(sender);
            }
            while !waiting.is_empty() {
                match link.poll_new_outbound(context) {
                    Poll::Ready(stream) => waiting.pop_front().unwrap().send(stream.unwrap()).unwrap(),
                    Poll::Pending => break,
                }
            }
            link.poll_next_inbound(context).map(drop)
        })
        .await;
    });
    Guest { proxy, open, tasks: vec![serve, client] }
}

/// A response as its bytes say.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status and reason phrase.
    pub status: String,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Guest {
    pub async fn connect(&self) -> GuestStream {
        let (sender, receiver) = oneshot::channel();
        self.open.send(sender).unwrap();
        receiver.await.unwrap().compat()
    }

    /// Send `request` on a connection of its own and read until the proxy closes it.
    pub async fn send(&self, request: &str) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        parse(&bytes)
    }

    pub async fn get(&self, url: &str) -> Reply {
        self.send(&format!("GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }
}

pub fn parse(bytes: &[u8]) -> Reply {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a response has a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.lines().next().unwrap().strip_prefix("HTTP/1.1 ").unwrap().to_owned();
    Reply { status, head, body: bytes[end + 4..].to_vec() }
}

/// A server that reads the head of a request and lets `answer` do the rest. What it was asked is kept.
pub struct Server {
    pub address: SocketAddr,
    pub asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a server does with the connection when it has read a request. It is closed afterwards.
pub enum Act {
    /// Send this.
    Send(Vec<u8>),
    /// Send this and nothing more, but keep the connection.
    Stall(Vec<u8>),
    /// Be an echo, after having sent this.
    Echo(&'static str),
}

impl Server {
    pub async fn start(answer: impl Fn(&str) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (record, answer) = (asked.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, record.clone(), answer.clone()));
            }
        });
        Self { address, asked, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The rule that allows it.
    pub fn rule(&self) -> String {
        self.address.to_string()
    }

    pub fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn last_request(&self) -> String {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>, answer: Arc<impl Fn(&str) -> Act>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    asked.lock().unwrap().push(head.clone());
    match answer(&head) {
        Act::Send(bytes) => {
            // The proxy may have hung up.
            let _ = stream.write_all(&bytes).await;
        }
        Act::Stall(bytes) => {
            stream.write_all(&bytes).await.unwrap();
            std::future::pending::<()>().await;
        }
        Act::Echo(greeting) => {
            stream.write_all(greeting.as_bytes()).await.unwrap();
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        }
    }
}

/// A whole response.
pub fn ok(body: &[u8]) -> Act {
    reply("200 OK", &format!("Content-Length: {}\r\n", body.len()), body)
}

pub fn reply(status: &str, headers: &str, body: &[u8]) -> Act {
    let mut bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    Act::Send(bytes)
}
