//! Requests to a registry: the way there, attempts, and what its answers mean.

use super::super::Options;
use super::super::credentials::{self, Credentials};
use super::super::document::shown;
use super::super::error::Problem;
use super::super::reference::Named;
use super::{ATTEMPTS, DOCUMENT, MAX_MESSAGE, MAX_PAUSE, PAUSE, causes, root_cause};
use crate::event::Events;
use crate::tls::{self, TlsError};
use crate::vm::proxy::{Upstream, is_loopback};
use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response, StatusCode, Url};
use serde::Deserialize;
use std::error::Error as StdError;
use std::time::Duration;
use tokio::sync::Mutex;

/// Until a connection is made.
const CONNECT: Duration = Duration::from_secs(30);

/// Without a byte.
const STALL: Duration = Duration::from_secs(60);

/// How long a registry on loopback may take to show whether it speaks TLS.
const PROBE: Duration = Duration::from_secs(5);

/// Most redirects.
const REDIRECTS: usize = 10;

/// A way to a repository.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    /// For token servers: what is sent to them is for nobody else.
    pub(super) strict: Client,
    pub(super) plain_http: bool,
    /// `https://HOST/v2/`
    pub(super) base: Url,
    pub(super) registry: String,
    pub(super) repository: String,
    pub(super) credentials: Option<Credentials>,
    pub(super) authorization: Mutex<Option<HeaderValue>>,
    via: String,
    pub(super) events: Events,
}

/// The errors of a registry (OCI Distribution Specification, "Error Codes").
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Connection {
    /// Find the way, and the credentials.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn new(named: &Named, options: &Options, events: Events) -> Result<Self, Problem> {
        let registry = named.resolve_registry().to_owned();
        let protocol = |reason: String| Problem::Protocol { registry: registry.clone(), reason };
        let url = |scheme: &str| Url::parse(&format!("{scheme}://{registry}/v2/"));
        let secure = url("https").map_err(|error| protocol(error.to_string()))?;
        let plain = url("http").map_err(|error| protocol(error.to_string()))?;
        let hosts = if named.registry() == registry { vec![&*registry] } else { vec![named.registry(), &registry] };
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(Into::into);
        let credentials = credentials::find(&hosts, named.repository(), options.authfile.as_deref(), variable).await;
        let credentials = credentials.map_err(|source| Problem::Credentials { registry: registry.clone(), source })?;
        let upstream = Upstream::from_env().map_err(Problem::Upstream)?;
        let may_be_plain = options.plain_http || is_loopback(&plain);
        let tls = match tls::for_host(&registry) {
            // A machine that trusts nobody can still speak plain http.
            Err(TlsError::NoRoots { .. }) if may_be_plain => tls::none(),
            tls => tls,
        };
        let tls = tls.map_err(|source| Problem::Tls { registry: registry.clone(), source })?;
        let client = |redirects: Policy| {
            let client = Client::builder().tls_backend_preconfigured(tls.clone()).redirect(redirects).referer(false);
            let client = client.connect_timeout(CONNECT).read_timeout(STALL).proxy(upstream.proxy());
            client.user_agent(concat!("particle-vm/", env!("CARGO_PKG_VERSION"))).build().map_err(Problem::Client)
        };
        let strict = client(Policy::none())?;
        let base =
            if options.plain_http || (may_be_plain && !speaks_tls(&strict, &secure).await) { plain } else { secure };
        Ok(Self {
            client: client(redirects(options.plain_http))?,
            strict,
            plain_http: options.plain_http,
            via: if is_loopback(&base) { String::new() } else { upstream.describe(&base) },
            base,
            registry,
            repository: named.repository().to_owned(),
            credentials,
            authorization: Mutex::new(None),
            events,
        })
    }

    /// Get `path` of the repository, which is `what` to people. Authorised as the registry wants it; tried again when it
    /// is busy. The answer is a success.
    ///
    /// # Errors
    /// When it is none.
    pub async fn get(&self, path: &str, headers: &HeaderMap, what: &str) -> Result<Response, Problem> {
        let path = format!("{}/{path}", self.repository);
        let url = self.base.join(&path).map_err(|error| self.protocol(error.to_string()))?;
        let mut asked = false;
        loop {
            let authorization = self.authorization.lock().await.clone();
            let answer = self.tried(&self.client, what, || {
                let mut request = Request::new(reqwest::Method::GET, url.clone());
                *request.headers_mut() = headers.clone();
                if let Some(value) = &authorization {
                    request.headers_mut().insert(AUTHORIZATION, value.clone());
                }
                request
            });
            let answer = answer.await?;
            // Where it has sent us, nobody gets to know who we are.
            let is_registry = answer.url().origin() == url.origin();
            if answer.status() == StatusCode::UNAUTHORIZED && is_registry && !asked {
                asked = true;
                self.authorise(answer.headers(), authorization, what).await?;
                continue;
            }
            return self.success(answer, what).await;
        }
    }

    /// Send what `request` makes until it is answered by something else than that the server is busy, or broken.
    pub(super) async fn tried(
        &self,
        client: &Client,
        what: &str,
        request: impl Fn() -> Request,
    ) -> Result<Response, Problem> {
        let mut attempt = 1;
        loop {
            let answer = match client.execute(request()).await {
                Ok(answer) => answer,
                Err(error) => {
                    let reason = self.unanswered(error)?;
                    self.pause(what, &mut attempt, reason, None).await?;
                    continue;
                }
            };
            let status = answer.status();
            let is_busy = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
            if !is_busy || attempt == ATTEMPTS {
                return Ok(answer);
            }
            let wait = retry_after(answer.headers());
            self.pause(what, &mut attempt, format!("it answers {}", status.as_u16()), wait).await?;
        }
    }

    /// Wait before the next attempt; `wait` is what the registry asks for.
    ///
    /// # Errors
    /// When there were enough attempts.
    pub(super) async fn pause(
        &self,
        what: &str,
        attempt: &mut u32,
        reason: String,
        wait: Option<Duration>,
    ) -> Result<(), Problem> {
        if *attempt == ATTEMPTS {
            let (registry, what) = (self.registry.clone(), what.to_owned());
            return Err(Problem::Broken { registry, what, attempts: ATTEMPTS, reason });
        }
        let wait = wait.unwrap_or(PAUSE * 2_u32.pow(*attempt - 1)).min(MAX_PAUSE);
        *attempt += 1;
        let seconds = wait.as_secs_f32();
        self.events.detail(format!("{}: {what}: {reason}; tried again in {seconds} s", self.registry));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Why there was no answer, if it may be another the next time.
    fn unanswered(&self, error: reqwest::Error) -> Result<String, Problem> {
        let registry = self.registry.clone();
        if let Some(reason) = distrusted(&error) {
            return Err(Problem::Certificate { registry, reason });
        }
        let reason = root_cause(&error);
        if error.is_redirect() {
            return Err(self.protocol(reason));
        }
        if error.is_connect() && !error.is_timeout() {
            return Err(Problem::Connect { registry: registry + &self.via, reason });
        }
        Ok(reason)
    }

    pub(super) fn protocol(&self, reason: String) -> Problem {
        Problem::Protocol { registry: self.registry.clone(), reason }
    }

    /// `answer`, when it is a success.
    pub(super) async fn success(&self, answer: Response, what: &str) -> Result<Response, Problem> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        // Where it was redirected to may be another host.
        let host = answer.url().host_str().unwrap_or_default().to_owned();
        let registry = if answer.url().origin() == self.base.origin() { self.registry.clone() } else { host };
        let (what, message) = (what.to_owned(), message(answer).await);
        Err(match status {
            StatusCode::UNAUTHORIZED => Problem::Unauthorized { registry, what, known: self.credentials.is_some() },
            StatusCode::FORBIDDEN => Problem::Forbidden { registry, what, message },
            StatusCode::NOT_FOUND => Problem::NotFound { registry, what, message },
            status => Problem::Status { registry, what, status: status.as_u16(), message },
        })
    }
}

/// What a registry says about an error.
async fn message(answer: Response) -> String {
    let text = message_of(answer, DOCUMENT).await;
    let first = serde_json::from_slice::<Errors>(&text).ok().and_then(|errors| errors.errors.into_iter().next());
    let said = first.map(|first| if first.message.is_empty() { first.code } else { first.message });
    shown(&said.unwrap_or_default())
}

/// How the body of an answer begins: as much as a message may have, and as what comes within `longest`.
pub(super) async fn message_of(answer: Response, longest: Duration) -> Vec<u8> {
    let mut text = Vec::new();
    let mut body = answer.bytes_stream();
    let read = async {
        while let Some(Ok(chunk)) = body.next().await {
            text.extend_from_slice(&chunk[..chunk.len().min(MAX_MESSAGE - text.len())]);
            if text.len() == MAX_MESSAGE {
                break;
            }
        }
    };
    // What has come until then may be all that is to be said.
    let _ = tokio::time::timeout(longest, read).await;
    text
}

/// How long the server wants to be left alone: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    Duration::try_from(date.timestamp().duration_since(jiff::Timestamp::now())).ok()
}

/// What rustls has against a certificate, if that is what an error comes from.
fn distrusted(error: &(dyn StdError + 'static)) -> Option<String> {
    causes(error).find_map(|error| match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(reason)) => Some(reason.to_string()),
        _ => None,
    })
}

/// Whether what listens on loopback speaks TLS. A bad certificate is a matter for the first request.
async fn speaks_tls(client: &Client, url: &Url) -> bool {
    match tokio::time::timeout(PROBE, client.get(url.clone()).send()).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => distrusted(&error).is_some(),
        Err(_) => false,
    }
}

/// Follow redirects, but not out of TLS, nor from loopback into the network without it.
fn redirects(plain_http: bool) -> Policy {
    Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS {
            return attempt.error("it redirects too often");
        }
        let from_plain = attempt.previous().last().is_some_and(|url| url.scheme() == "http");
        let may_be_plain = plain_http || (from_plain && is_loopback(attempt.url()));
        match attempt.url().scheme() {
            "https" => attempt.follow(),
            "http" if may_be_plain => attempt.follow(),
            "http" => attempt.error("it redirects to plain http"),
            _ => attempt.error("it redirects to something else than http"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_given_in_seconds_or_as_a_date() {
        let wait =
            |value: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]));
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(90);
        let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!((80..=90).contains(&wait(&date).unwrap().as_secs()), "{date}");
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(wait("soon"), None);
    }
}
