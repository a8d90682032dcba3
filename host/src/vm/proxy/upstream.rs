//! How the proxy reaches the network: directly, or through the proxy that the host's own variables name.
//!
//! `http_proxy`, `https_proxy` and `no_proxy` (or the same in upper case) mean what they mean to curl: the first for
//! plain http, the second for tunnels, the third for hosts that are reached directly.

use crate::error::{Class, Classify};
use crate::tls;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;
use tower_service::Service;
use url::{Host, Url};

/// A variable that does not name an HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the environment variable {name} does not name an HTTP proxy: `{value}`")]
pub struct UpstreamError {
    name: String,
    value: String,
}

impl Classify for UpstreamError {
    fn class(&self) -> Class {
        Class::Host
    }

    fn advice(&self) -> Option<String> {
        Some(format!("set {} to http://HOST:PORT, or unset it", self.name))
    }
}

/// The way out of the host.
#[derive(Debug, Clone)]
pub struct Upstream {
    http: Option<Url>,
    https: Option<Url>,
    direct: Option<String>,
    matcher: Arc<Matcher>,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |proxy: &Option<Url>| match proxy {
            Some(url) => format!("through the proxy {}", shown(url)),
            None => "directly".to_owned(),
        };
        write!(f, "http {}, https {}", way(&self.http), way(&self.https))?;
        match &self.direct {
            Some(hosts) => write!(f, ", no proxy for {hosts}"),
            None => Ok(()),
        }
    }
}

/// `host:port` of a proxy, without its credentials.
fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl Upstream {
    /// As the environment of this process says.
    ///
    /// # Errors
    /// When a variable is set to something else than an HTTP proxy.
    pub fn from_env() -> Result<Self, UpstreamError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As the variables say that `variable` looks up.
    ///
    /// # Errors
    /// When a variable is set to something else than an HTTP proxy.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, UpstreamError> {
        // Lower case first, as curl and apt do: CGI sets HTTP_PROXY from what a client sends.
        let find = |name: &str| {
            [name.to_owned(), name.to_uppercase()]
                .into_iter()
                .find_map(|name| variable(&name).filter(|value| !value.trim().is_empty()).map(|value| (name, value)))
        };
        let proxy = |name: &str| find(name).map(|(name, value)| parse_proxy(name, &value)).transpose();
        let (http, https) = (proxy("http_proxy")?, proxy("https_proxy")?);
        let mut builder = Matcher::builder();
        if let Some(url) = &http {
            builder = builder.http(url.to_string());
        }
        if let Some(url) = &https {
            builder = builder.https(url.to_string());
        }
        let direct = find("no_proxy").map(|(_, hosts)| hosts);
        if let Some(hosts) = &direct {
            builder = builder.no(hosts.clone());
        }
        Ok(Self { http, https, direct, matcher: Arc::new(builder.build()) })
    }

    /// The client for plain http. It follows no redirects: the guest does, and each hop is checked.
    pub(super) fn client(&self, connect_timeout: Duration) -> Result<reqwest::Client, Box<dyn StdError + Send + Sync>> {
        let this = self.clone();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::none()?)
            .connect_timeout(connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .proxy(reqwest::Proxy::custom(move |url| {
                let uri: Uri = url.as_str().parse().ok()?;
                this.matcher.intercept(&uri).and(this.http.clone())
            }));
        Ok(client.build()?)
    }

    /// The way for a client that speaks https too. This machine is reached directly, as other clients of registries do.
    pub(crate) fn proxy(&self) -> reqwest::Proxy {
        let this = self.clone();
        reqwest::Proxy::custom(move |url| {
            let proxy = if url.scheme() == "https" { &this.https } else { &this.http };
            let uri: Uri = url.as_str().parse().ok()?;
            this.matcher.intercept(&uri).filter(|_| !is_loopback(url)).and(proxy.clone())
        })
    }

    /// ` (through the proxy HOST:PORT)` for messages about `url`, or nothing.
    pub(crate) fn describe(&self, url: &Url) -> String {
        let proxy = url.as_str().parse().ok().and_then(|uri: Uri| self.matcher.intercept(&uri));
        let authority = proxy.and_then(|proxy| proxy.uri().authority().map(ToString::to_string));
        authority.map(|authority| format!(" (through the proxy {authority})")).unwrap_or_default()
    }

    /// A connection for a tunnel to `host` and `port`.
    pub(super) async fn dial(
        &self,
        host: &Host<String>,
        port: u16,
        connect_timeout: Duration,
    ) -> Result<TokioIo<TcpStream>, Box<dyn StdError + Send + Sync>> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(connect_timeout));
        let target: Uri = format!("https://{host}:{port}/").parse()?;
        match self.matcher.intercept(&target) {
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
                if let Some(credentials) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(credentials.clone());
                }
                Ok(tunnel.call(target).await?)
            }
            None => Ok(connector.call(target).await?),
        }
    }
}

/// `http://host:port`, or `host:port` alone, as people write it.
fn parse_proxy(name: String, value: &str) -> Result<Url, UpstreamError> {
    let value = value.trim();
    let whole = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    match Url::parse(&whole) {
        Ok(url) if url.scheme() == "http" && url.has_host() => Ok(url),
        // The value may hold a password; what follows the last `@` does not.
        _ => {
            let value = value.rsplit('@').next().unwrap_or_default().to_owned();
            Err(UpstreamError { name, value })
        }
    }
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(variables: &[(&str, &str)]) -> Result<Upstream, UpstreamError> {
        Upstream::from_variables(|name| {
            variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy_for(upstream: &Upstream, uri: &str) -> Option<String> {
        upstream.matcher.intercept(&uri.parse().unwrap()).map(|proxy| proxy.uri().to_string())
    }

    #[test]
    fn the_variables_mean_what_they_mean_to_curl() {
        let upstream = upstream(&[
            ("http_proxy", "http://lower:3128"),
            ("HTTP_PROXY", "http://upper:3128"),
            ("https_proxy", ""),
            ("HTTPS_PROXY", "upper:3129"),
            ("no_proxy", "direct.example.org,10.0.0.0/8"),
        ])
        .unwrap();
        assert_eq!(proxy_for(&upstream, "http://example.org/").unwrap(), "http://lower:3128/");
        assert_eq!(proxy_for(&upstream, "https://example.org/").unwrap(), "http://upper:3129/");
        assert_eq!(proxy_for(&upstream, "https://direct.example.org/"), None);
        assert_eq!(proxy_for(&upstream, "http://10.1.2.3/"), None);
        assert_eq!(
            upstream.to_string(),
            "http through the proxy lower:3128, https through the proxy upper:3129, no proxy for \
             direct.example.org,10.0.0.0/8"
        );
    }

    #[test]
    fn a_proxy_of_another_kind_is_an_error_that_keeps_the_password() {
        let error = upstream(&[("https_proxy", "socks5h://user:secret@proxy:1080")]).unwrap_err();
        assert_eq!(error.to_string(), "the environment variable https_proxy does not name an HTTP proxy: `proxy:1080`");
        assert_eq!(error.class(), Class::Host);
    }

    #[test]
    fn loopback_is_known_by_its_names() {
        let is = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for url in ["http://localhost:5000/", "http://127.1.2.3/", "http://[::1]:5000/", "http://a.localhost/"] {
            assert!(is(url), "{url}");
        }
        for url in ["http://localhost.example.org/", "http://127.0.0.1.example.org/", "http://10.0.0.1/"] {
            assert!(!is(url), "{url}");
        }
    }
}
