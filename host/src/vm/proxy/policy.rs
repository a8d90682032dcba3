//! Which hosts the guest may reach: the recipe's `network.allow` and the mirrors in use.
//!
//! A rule is `host`, `host:port` or `*.suffix` with or without a port. Without a port it stands for the ports 80 and
//! 443. `*.suffix` stands for every name below `suffix`, at any depth, and not for `suffix` itself.
//!
//! Hosts are compared after the URL Standard's host parser, the one that the HTTP client uses as well: `0x7f.1` and
//! `2130706433` are both 127.0.0.1, and `EXAMPLE.org.` is `example.org`. A name stands for whatever the host's resolver
//! says, also for an address of a private network or of this machine: mirrors live there, and who lists a name trusts
//! who runs its zone. An IP address is let through only if it is itself on the list; no wildcard and no name covers it.

use crate::error::{Class, Classify};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use url::{Host, Url};

/// Ports of a rule that names none.
const DEFAULT_PORTS: [u16; 2] = [80, 443];

/// An entry of `network.allow` that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{entry}` is not a host: {reason}")]
pub struct RuleError {
    entry: String,
    reason: &'static str,
    advice: String,
}

impl Classify for RuleError {
    fn class(&self) -> Class {
        Class::Usage
    }

    fn advice(&self) -> Option<String> {
        Some(self.advice.clone())
    }
}

/// One entry of the allow-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pattern: Pattern,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Host(Host<String>),
    Below(String),
}

impl Rule {
    fn allows(&self, host: &Host<String>, port: u16) -> bool {
        let port_fits = self.port.map_or_else(|| DEFAULT_PORTS.contains(&port), |own| own == port);
        port_fits
            && match (&self.pattern, host) {
                (Pattern::Host(own), _) => own == host,
                (Pattern::Below(suffix), Host::Domain(name)) => {
                    name.strip_suffix(suffix.as_str()).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
                }
                (Pattern::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
            }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(entry: &str) -> Result<Self, RuleError> {
        let wrong = |reason, advice: &str| RuleError { entry: entry.to_owned(), reason, advice: advice.to_owned() };
        let usual = "write a host (`deb.example.org`), a suffix (`*.example.org`), or either with a port (`:8080`)";
        if entry.contains("://") {
            let host = Url::parse(entry).ok().and_then(|url| authority(&url));
            let advice = host.map_or_else(|| usual.to_owned(), |host| format!("give its host only: `{host}`"));
            return Err(wrong("it is a URL", &advice));
        }
        // The colon of a port stands behind the bracket of an IPv6 address.
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0);
                let port = port.ok_or_else(|| wrong("its port is not a number from 1 to 65535", usual))?;
                (host, Some(port))
            }
            _ => (entry, None),
        };
        let pattern = if host == "*" {
            return Err(wrong("it stands for the whole network", "name the hosts that the build needs"));
        } else if let Some(suffix) = host.strip_prefix("*.") {
            match parse_host(suffix) {
                Some(Host::Domain(suffix)) => Pattern::Below(suffix),
                _ => return Err(wrong("what follows `*.` is not a domain name", usual)),
            }
        } else {
            Pattern::Host(parse_host(host).ok_or_else(|| wrong("it is neither a name nor an IP address", usual))?)
        };
        Ok(Self { pattern, port })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            Pattern::Host(host) => write!(f, "{host}")?,
            Pattern::Below(suffix) => write!(f, "*.{suffix}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The allow-list of one build. An empty one allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// The list that a plan has: the recipe's entries and the mirrors in use.
    ///
    /// # Errors
    /// When one of them is no rule.
    pub fn new(entries: &[impl AsRef<str>]) -> Result<Self, RuleError> {
        let rules = entries.iter().map(|entry| entry.as_ref().parse()).collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }

    /// Whether a connection to `host` and `port` may be made. `host` is as [`parse_host`] gives it.
    pub(super) fn allows(&self, host: &Host<String>, port: u16) -> bool {
        self.rules.iter().any(|rule| rule.allows(host, port))
    }
}

/// Host of a URL, of an authority or of a rule in the form in which hosts are compared.
pub(super) fn parse_host(text: &str) -> Option<Host<String>> {
    Host::parse(text).ok().map(normal).filter(|host| !matches!(host, Host::Domain(name) if name.is_empty()))
}

/// Without the dot that ends a fully qualified name.
pub(super) fn normal(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').map_or_else(|| name.clone(), str::to_owned)),
        address => address,
    }
}

/// What `network.allow` has to hold for `host` and `port`: the port is named only where it has to be.
pub(super) fn entry_for(host: &Host<String>, port: u16) -> String {
    if DEFAULT_PORTS.contains(&port) { host.to_string() } else { format!("{host}:{port}") }
}

fn authority(url: &Url) -> Option<String> {
    let host = normal(url.host()?.to_owned());
    Some(entry_for(&host, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(rules: &[&str], host: &str, port: u16) -> bool {
        Policy::new(rules).unwrap().allows(&parse_host(host).unwrap(), port)
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        assert!(!allows(&[], "example.org", 80));
    }

    #[test]
    fn a_rule_without_a_port_stands_for_80_and_443() {
        let rules = ["example.org", "other.org:8080"];
        assert!(allows(&rules, "example.org", 80));
        assert!(allows(&rules, "EXAMPLE.org.", 443));
        assert!(!allows(&rules, "example.org", 8080));
        assert!(!allows(&rules, "a.example.org", 80));
        assert!(allows(&rules, "other.org", 8080));
        assert!(!allows(&rules, "other.org", 80));
    }

    #[test]
    fn a_suffix_stands_for_what_is_below_it() {
        let rules = ["*.example.org"];
        assert!(allows(&rules, "a.example.org", 80));
        assert!(allows(&rules, "b.a.example.org", 443));
        assert!(!allows(&rules, "example.org", 80));
        assert!(!allows(&rules, "badexample.org", 80));
        assert!(!allows(&rules, ".example.org", 80));
    }

    #[test]
    fn an_address_has_to_be_listed_itself_however_it_is_written() {
        for disguise in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1"] {
            assert!(!allows(&["localhost", "*.localhost"], disguise, 80));
            assert!(allows(&["127.0.0.1"], disguise, 80));
        }
        assert!(allows(&["[::1]:8080"], "[0:0::1]", 8080));
        assert!(!allows(&["[::1]:8080"], "[::2]", 8080));
        assert!(allows(&["[::1]"], "[::1]", 80));
    }

    #[test]
    fn what_is_no_host_is_refused_with_what_to_write() {
        let error = |entry: &str| entry.parse::<Rule>().unwrap_err();
        assert_eq!(error("https://example.org/x").advice().unwrap(), "give its host only: `example.org`");
        assert_eq!(error("http://example.org:81/").advice().unwrap(), "give its host only: `example.org:81`");
        for entry in ["", "*", "*.", "*.127.0.0.1", "a b", "example.org:", "example.org:0", "example.org:70000", "a/b"]
        {
            assert_eq!(error(entry).class(), Class::Usage, "{entry}");
        }
        assert_eq!("*.Example.ORG:99".parse::<Rule>().unwrap().to_string(), "*.example.org:99");
    }
}
