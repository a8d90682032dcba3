//! `CONNECT`: bytes to and from a host on the allow-list. They are encrypted end to end between the guest and that
//! host, so the proxy sees how many there are and nothing else.

use super::Proxy;
use super::answer::{self, Body, root_cause};
use super::policy::entry_for;
use hyper::body::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::TcpStream;
use tokio_util::io::InspectReader;
use url::Host;

/// A tunnel whose far end is connected, waiting for the guest's end.
pub(super) struct Tunnel {
    host: String,
    near: OnUpgrade,
    far: TokioIo<TcpStream>,
}

/// Connect to what `target` names.
pub(super) async fn open(proxy: &Proxy, target: &Uri, near: OnUpgrade) -> (Response<Body>, Option<Tunnel>) {
    let authority = target.authority().map(|authority| (authority.host(), authority.port_u16()));
    let Some((Some(host), Some(port))) = authority.map(|(host, port)| (super::policy::parse_host(host), port)) else {
        return (answer::bad_request("CONNECT needs HOST:PORT"), None);
    };
    if !proxy.policy().allows(&host, port) {
        let entry = entry_for(&host, port);
        proxy.record().refuse(&entry, proxy.events());
        return (answer::refused(&entry), None);
    }
    let name = format!("{host}:{port}");
    match connect(proxy, &host, port).await {
        Ok(far) => (Response::new(answer::full(Bytes::new())), Some(Tunnel { host: name, near, far })),
        Err(response) => (response, None),
    }
}

async fn connect(proxy: &Proxy, host: &Host<String>, port: u16) -> Result<TokioIo<TcpStream>, Response<Body>> {
    let limits = proxy.limits();
    let name = format!("{host}:{port}");
    let via =
        url::Url::parse(&format!("https://{name}")).map(|url| proxy.upstream().describe(&url)).unwrap_or_default();
    // A proxy on the way needs its time to connect as well.
    let dialled = tokio::time::timeout(limits.stall, proxy.upstream().dial(host, port, limits.connect)).await;
    let (why, response): (_, fn(&str) -> _) = match dialled {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => {
            (format!("cannot connect to {name}{via}: {}", root_cause(error.as_ref())), answer::bad_gateway)
        }
        Err(_) => {
            (format!("no answer from {name}{via} within {} s", limits.stall.as_secs_f64()), answer::gateway_timeout)
        }
    };
    proxy.record().failed(&name, &why, proxy.events());
    Err(response(&why))
}

impl Tunnel {
    /// Pass bytes on until both ends have closed.
    pub(super) async fn run(self, proxy: &Proxy) {
        let Ok(near) = self.near.await else { return };
        let count = Count { proxy, host: self.host, sent: AtomicU64::new(0), received: AtomicU64::new(0) };
        let add = |to: &AtomicU64, bytes: &[u8]| {
            to.fetch_add(bytes.len() as u64, Relaxed);
        };
        let mut near = InspectReader::new(TokioIo::new(near), |bytes| add(&count.sent, bytes));
        let mut far = InspectReader::new(self.far.into_inner(), |bytes| add(&count.received, bytes));
        if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
            proxy.events().detail(format!("the tunnel to {} broke: {error}", count.host));
        }
    }
}

/// Recorded when it is dropped, also when the guest is switched off in the middle.
struct Count<'a> {
    proxy: &'a Proxy,
    host: String,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        let (sent, received) = (self.sent.load(Relaxed), self.received.load(Relaxed));
        self.proxy.record().tunnelled(&self.host, sent, received, self.proxy.events());
    }
}
