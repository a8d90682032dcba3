//! The guest's only way out: an HTTP proxy at the host's end of a virtio-serial port.
//!
//! The agent listens on [`particle_vm_protocol::GUEST_PROXY_ADDRESS`] in the guest and makes each connection one yamux
//! stream; here each stream is served as one HTTP/1.1 connection. Plain http is fetched by the proxy, recorded with its
//! size and digest, and kept in the [`Store`] where it cannot change under its name. https goes through tunnels.
//! Requests for hosts that are not in the [`Policy`] are answered with 403; so is every hop of a redirect, because the
//! guest follows them itself.
//!
//! A mirror may send wrong bytes. The digest in a `by-hash` URL is checked here; that of a package is known only to the
//! package manager in the guest. So every object that was handed out during a stage is doubted when that stage fails
//! ([`Proxy::doubt`]) and is fetched anew the next time, and a package that is asked for twice in one stage is fetched
//! anew at once: the agent asks twice when the package manager finds wrong bytes, so that a mirror may also replace a
//! package under its name. What no package manager looks at, because a script fetched it, and what came before the VM or
//! this process was ended is doubted by nobody: a later build that installs such a package asks twice.

mod answer;
mod fetch;
mod policy;
mod record;
#[cfg(test)]
mod tests;
mod transfer;
mod tunnel;
mod upstream;

pub(crate) use fetch::public_url;
pub use policy::{Policy, Rule, RuleError};
pub use record::{Fetch, Record, Tunnel};
pub(crate) use upstream::is_loopback;
pub use upstream::{Upstream, UpstreamError};

use crate::error::{Class, Classify};
use crate::event::Events;
use crate::store::Store;
use answer::{Body, root_cause};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use particle_vm_protocol::MAX_NETWORK_STREAMS;
use std::collections::HashSet;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use url::Url;

/// Most bytes of a request's head; hyper answers 431 beyond that.
const MAX_HEAD: usize = 64 << 10;

/// Most characters of a URL.
const MAX_URL: usize = 4096;

/// Most packages that are remembered as handed out in one stage.
const MAX_SERVED: usize = 1 << 16;

/// Times after which upstream is given up. Both are below apt's own 30 s, so that the guest hears the reason from us.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Until a connection is made.
    connect: Duration,
    /// Without a byte.
    stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(15), stall: Duration::from_secs(25) }
    }
}

/// Why the guest has no network any more.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The client for plain http cannot be made.
    #[error("cannot set up the HTTP client")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What comes over the port is not yamux, or the port broke.
    #[error("the network channel to the guest broke")]
    Link(#[source] yamux::ConnectionError),
}

impl Classify for ProxyError {
    fn class(&self) -> Class {
        match self {
            Self::Client(_) => Class::Internal,
            // What is at the other end of the channel has broken it.
            Self::Link(_) => Class::Build,
        }
    }
}

/// The proxy of one VM. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Proxy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: Policy,
    store: Store,
    upstream: Upstream,
    client: reqwest::Client,
    limits: Limits,
    record: Record,
    events: Events,
    /// Objects of the store that the guest got in this stage.
    served: Mutex<HashSet<String>>,
}

impl Proxy {
    /// A proxy that lets the guest reach what `policy` allows, by the way that `upstream` names.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(policy: Policy, store: Store, upstream: Upstream, events: Events) -> Result<Self, ProxyError> {
        Self::with_limits(policy, store, upstream, events, Limits::default())
    }

    fn with_limits(
        policy: Policy,
        store: Store,
        upstream: Upstream,
        events: Events,
        limits: Limits,
    ) -> Result<Self, ProxyError> {
        let client = upstream.client(limits.connect).map_err(ProxyError::Client)?;
        let (record, served) = Default::default();
        Ok(Self(Arc::new(Inner { policy, store, upstream, client, limits, record, events, served })))
    }

    /// Serve the guest until it closes the port `stream`. Dropping the future closes all connections.
    ///
    /// # Errors
    /// When the port breaks or the guest sends something else than yamux frames.
    pub async fn serve(&self, stream: UnixStream) -> Result<(), ProxyError> {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_NETWORK_STREAMS);
        // The least that this number of streams needs: the guest cannot make the host hold more.
        config.set_max_connection_receive_window(Some(MAX_NETWORK_STREAMS * yamux::DEFAULT_CREDIT as usize));
        let mut link = yamux::Connection::new(stream.compat(), config, yamux::Mode::Server);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                inbound = poll_fn(|context| link.poll_next_inbound(context)) => match inbound {
                    Some(Ok(stream)) => {
                        connections.spawn(self.clone().connection(stream));
                    }
                    Some(Err(error)) if is_gone(&error) => return Ok(()),
                    Some(Err(error)) => return Err(ProxyError::Link(error)),
                    None => return Ok(()),
                },
                Some(ended) = connections.join_next() => {
                    if let Err(panic) = ended {
                        std::panic::resume_unwind(panic.into_panic());
                    }
                }
            }
        }
    }

    /// What the guest asked for so far.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// A stage ended well: what the guest got was right, and what it did not get was not needed.
    pub fn settle(&self) {
        self.record().settle();
        self.lock_served().clear();
    }

    /// A stage failed: packages that the guest got during it may have been the reason, so the next build fetches them
    /// anew.
    pub fn doubt(&self) {
        let served = std::mem::take(&mut *self.lock_served());
        for key in served {
            if let Err(error) = self.store().doubt(&key) {
                self.events().warn(format!("{error}: {}", root_cause(&error)));
            }
        }
    }

    async fn connection(self, stream: yamux::Stream) {
        let pending = Mutex::new(None);
        let service = service_fn(|request| async {
            let (response, tunnel) = self.respond(request).await;
            if tunnel.is_some() {
                *pending.lock().unwrap_or_else(PoisonError::into_inner) = tunnel;
            }
            Ok::<_, Infallible>(response)
        });
        let served = hyper::server::conn::http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream.compat()), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            self.events().detail(format!("a connection of the guest broke: {}", root_cause(&error)));
        }
        let tunnel = pending.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tunnel) = tunnel {
            tunnel.run(&self).await;
        }
    }

    async fn respond(&self, mut request: Request<Incoming>) -> (Response<Body>, Option<tunnel::Tunnel>) {
        if request.method() == Method::CONNECT {
            let near = hyper::upgrade::on(&mut request);
            return tunnel::open(self, request.uri(), near).await;
        }
        (self.respond_plain(request).await, None)
    }

    async fn respond_plain(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, _) = request.into_parts();
        let text = head.uri.to_string();
        if text.len() > MAX_URL {
            return answer::answer(StatusCode::URI_TOO_LONG, "the URL is too long", "");
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return answer::wrong_method();
        }
        match head.uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                let reason = "https is tunnelled: use CONNECT";
                return answer::answer(StatusCode::NOT_IMPLEMENTED, reason, "");
            }
            Some(_) => return answer::bad_request("the proxy passes on http and https only"),
            None => return answer::bad_request("this is a proxy: ask for an absolute URL"),
        }
        // What is checked is what the HTTP client will connect to: both read the URL by the URL Standard.
        let url = Url::parse(&text).ok();
        let target = url.and_then(|url| {
            let host = policy::normal(url.host()?.to_owned());
            let port = url.port_or_known_default()?;
            Some((url, host, port))
        });
        let Some((url, host, port)) = target else {
            return answer::bad_request("the URL cannot be understood");
        };
        if !self.policy().allows(&host, port) {
            let entry = policy::entry_for(&host, port);
            self.record().refuse(&entry, self.events());
            return answer::refused(&entry);
        }
        fetch::fetch(self, head.method, url, head.headers).await
    }

    fn policy(&self) -> &Policy {
        &self.0.policy
    }

    /// Where what it fetches is kept.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    fn client(&self) -> &reqwest::Client {
        &self.0.client
    }

    fn limits(&self) -> Limits {
        self.0.limits
    }

    fn events(&self) -> &Events {
        &self.0.events
    }

    /// The guest got the object `key`, and nobody but the guest can tell whether it is right.
    fn served(&self, key: String) {
        let mut served = self.lock_served();
        if served.len() < MAX_SERVED {
            served.insert(key);
        }
    }

    fn was_served(&self, key: &str) -> bool {
        self.lock_served().contains(key)
    }

    fn lock_served(&self) -> MutexGuard<'_, HashSet<String>> {
        // Each change is one insertion or removal, so a panic elsewhere leaves the set usable.
        self.0.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the other end has closed the port: yamux notices it when it writes, too, and when it reads, in the middle of a
/// frame or because QEMU ended before it had taken all that was sent.
fn is_gone(error: &yamux::ConnectionError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    use yamux::{ConnectionError, FrameDecodeError};
    let (ConnectionError::Io(error) | ConnectionError::Decode(FrameDecodeError::Io(error))) = error else {
        return false;
    };
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}
