//! What the guest asked for: for the manifest, and to explain a build that failed for want of it.

use crate::event::{Event, Events};
use crate::output::manifest::Input;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes of URLs and host names that are kept; a guest can ask as often as it likes.
const MAX_TEXT: usize = 8 << 20;

/// A response to a request for plain http.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetch {
    /// The URL, without credentials.
    pub url: String,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the body that were passed on.
    pub size: u64,
    /// SHA-256 of these bytes in hexadecimal.
    pub sha256: String,
    /// Whether they came from the store of this machine.
    pub from_store: bool,
    /// Why the body is not whole or not right, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A tunnel (`CONNECT`). What passed through it is encrypted end to end, so there is no digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// `host:port`.
    pub host: String,
    /// Bytes from the guest.
    pub sent: u64,
    /// Bytes to the guest.
    pub received: u64,
}

/// Everything that a guest asked for. Cheap to clone; all clones are one record.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    fetches: Vec<Fetch>,
    tunnels: BTreeMap<String, (u64, u64)>,
    refused: BTreeSet<String>,
    failed: BTreeMap<String, String>,
    text: usize,
    omitted: u64,
}

impl Entries {
    /// Whether there is room for `text` more.
    fn room(&mut self, text: &str) -> bool {
        let room = self.text + text.len() <= MAX_TEXT;
        if room {
            self.text += text.len();
        } else {
            self.omitted += 1;
        }
        room
    }
}

impl Record {
    /// Responses to requests for plain http, in the order in which they ended.
    pub fn fetches(&self) -> Vec<Fetch> {
        self.entries().fetches.clone()
    }

    /// Tunnels, summed up by host.
    pub fn tunnels(&self) -> Vec<Tunnel> {
        let tunnel = |(host, (sent, received)): (&String, &(u64, u64))| Tunnel {
            host: host.clone(),
            sent: *sent,
            received: *received,
        };
        self.entries().tunnels.iter().map(tunnel).collect()
    }

    /// Everything whose bytes the guest got, for the manifest: the responses with a body in the order in which they
    /// ended, then the tunnels. Pages of errors and parts of files are among them, as the guest may have used them.
    pub fn inputs(&self) -> Vec<Input> {
        let fetches = self.fetches().into_iter();
        let with_body = fetches.filter(|fetch| !fetch.sha256.is_empty() && (fetch.size > 0 || fetch.trouble.is_none()));
        let fetched = |fetch: Fetch| Input {
            url: fetch.url,
            status: Some(fetch.status),
            size: fetch.size,
            // The store knows the digest of the whole.
            sha256: (!fetch.from_store || fetch.trouble.is_none()).then_some(fetch.sha256),
            complete: fetch.trouble.is_none(),
            from_store: fetch.from_store,
        };
        let tunnelled = |tunnel: Tunnel| Input {
            url: tunnel.host,
            status: None,
            size: tunnel.received,
            sha256: None,
            complete: false,
            from_store: false,
        };
        with_body.map(fetched).chain(self.tunnels().into_iter().map(tunnelled)).collect()
    }

    /// Hosts that were refused in this stage, as `network.allow` of the recipe would have to name them.
    pub fn refused(&self) -> Vec<String> {
        self.entries().refused.iter().cloned().collect()
    }

    /// What went wrong upstream in this stage, one sentence for each URL or host: no connection, an error's status, a
    /// stall, a broken transfer, wrong bytes. A request that succeeded when it was repeated is not among them.
    pub fn failures(&self) -> Vec<String> {
        self.entries().failed.values().cloned().collect()
    }

    /// How many requests are missing from the lists because there were too many.
    pub fn omitted(&self) -> u64 {
        self.entries().omitted
    }

    /// What to do about the refused hosts, if there are any.
    pub fn advice(&self) -> Option<String> {
        let refused = self.refused();
        let hosts = refused.join(", ");
        (!refused.is_empty()).then(|| {
            format!("the build asked for {hosts}; if it may, add to the recipe: `network: {{ allow: [{hosts}] }}`")
        })
    }

    /// A stage ended well: what it could not get, it did not need.
    pub(super) fn settle(&self) {
        let mut entries = self.entries();
        entries.failed.clear();
        entries.refused.clear();
    }

    pub(super) fn fetched(&self, fetch: Fetch, events: &Events) {
        events.send(Event::Fetched { url: fetch.url.clone(), size: fetch.size, cached: fetch.from_store });
        let mut entries = self.entries();
        let status = (fetch.status >= 400).then(|| format!("the server answered {}", fetch.status));
        match fetch.trouble.clone().or(status) {
            Some(trouble) => {
                let sentence = format!("{}: {trouble}", fetch.url);
                events.detail(&sentence);
                if entries.room(&sentence) {
                    entries.failed.insert(fetch.url.clone(), sentence);
                }
            }
            None => {
                entries.failed.remove(&fetch.url);
            }
        }
        if entries.room(&fetch.url) {
            entries.fetches.push(fetch);
        }
    }

    /// The guest closed its connection before the response had come to its end; that is its own affair.
    pub(super) fn broken_off(&self, mut fetch: Fetch, events: &Events) {
        events.detail(format!("the guest broke off {} after {} bytes", fetch.url, fetch.size));
        fetch.trouble = Some("broken off by the guest".into());
        let mut entries = self.entries();
        if entries.room(&fetch.url) {
            entries.fetches.push(fetch);
        }
    }

    pub(super) fn tunnelled(&self, host: &str, sent: u64, received: u64, events: &Events) {
        events.send(Event::Fetched { url: host.to_owned(), size: received, cached: false });
        let mut entries = self.entries();
        entries.failed.remove(host);
        if let Some((total_sent, total_received)) = entries.tunnels.get_mut(host) {
            *total_sent += sent;
            *total_received += received;
        } else if entries.room(host) {
            entries.tunnels.insert(host.to_owned(), (sent, received));
        }
    }

    pub(super) fn refuse(&self, entry: &str, events: &Events) {
        let mut entries = self.entries();
        if !entries.refused.contains(entry) && entries.room(entry) {
            entries.refused.insert(entry.to_owned());
            events.warn(format!("the guest asked for {entry}, which is not in network.allow of the recipe"));
        }
    }

    /// `what` (a URL, or `host:port`) could not be reached.
    pub(super) fn failed(&self, what: &str, why: &str, events: &Events) {
        let sentence = format!("{what}: {why}");
        events.detail(&sentence);
        let mut entries = self.entries();
        if entries.room(&sentence) {
            entries.failed.insert(what.to_owned(), sentence);
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Each change is complete before the next begins, so a panic elsewhere leaves the record usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(url: &str, trouble: Option<&str>) -> Fetch {
        Fetch {
            url: url.into(),
            status: 200,
            size: 1,
            sha256: String::new(),
            from_store: false,
            trouble: trouble.map(str::to_owned),
        }
    }

    #[test]
    fn a_failure_that_a_repetition_mended_is_forgotten() {
        let (record, events) = (Record::default(), Events::none());
        record.fetched(fetch("http://a/x", Some("it stalled")), &events);
        record.failed("http://a/y", "no connection", &events);
        assert_eq!(record.failures(), ["http://a/x: it stalled", "http://a/y: no connection"]);
        record.fetched(fetch("http://a/x", None), &events);
        assert_eq!(record.failures(), ["http://a/y: no connection"]);
        record.fetched(Fetch { status: 404, ..fetch("http://a/z", None) }, &events);
        assert_eq!(record.failures()[1], "http://a/z: the server answered 404");
        record.settle();
        assert!(record.failures().is_empty());
        assert_eq!(record.fetches().len(), 3);
    }

    #[test]
    fn the_manifest_gets_everything_whose_bytes_the_guest_got() {
        let (record, events) = (Record::default(), Events::none());
        record.fetched(Fetch { sha256: "12".into(), ..fetch("http://a/whole", None) }, &events);
        record.fetched(Fetch { sha256: "34".into(), ..fetch("http://a/half", Some("it stalled")) }, &events);
        record.fetched(Fetch { sha256: "56".into(), status: 404, ..fetch("http://a/page", None) }, &events);
        record.fetched(Fetch { sha256: "78".into(), status: 206, ..fetch("http://a/range", None) }, &events);
        record.broken_off(Fetch { sha256: "90".into(), from_store: true, ..fetch("http://a/stored", None) }, &events);
        record.fetched(Fetch { sha256: "e3".into(), size: 0, ..fetch("http://a/none", Some("it stalled")) }, &events);
        record.fetched(fetch("http://a/head", None), &events);
        record.tunnelled("b:443", 3, 4, &events);
        let inputs = record.inputs();
        let told = |input: &Input| (input.url.clone(), input.status, input.sha256.clone(), input.complete);
        let input = |url: &str, status, sha256: Option<&str>, complete| {
            (url.to_owned(), status, sha256.map(str::to_owned), complete)
        };
        assert_eq!(
            inputs.iter().map(told).collect::<Vec<_>>(),
            [
                input("http://a/whole", Some(200), Some("12"), true),
                input("http://a/half", Some(200), Some("34"), false),
                input("http://a/page", Some(404), Some("56"), true),
                input("http://a/range", Some(206), Some("78"), true),
                input("http://a/stored", Some(200), None, false),
                input("b:443", None, None, false),
            ]
        );
        assert_eq!(inputs[5].size, 4);
    }

    #[test]
    fn refused_hosts_become_one_line_of_advice_and_one_warning_each() {
        let (events, mut heard) = Events::channel();
        let record = Record::default();
        for host in ["b.org", "a.org", "b.org"] {
            record.refuse(host, &events);
        }
        assert_eq!(
            record.advice().unwrap(),
            "the build asked for a.org, b.org; if it may, add to the recipe: `network: { allow: [a.org, b.org] }`"
        );
        drop(events);
        let mut warnings = 0;
        while heard.try_recv().is_ok() {
            warnings += 1;
        }
        assert_eq!(warnings, 2);
    }

    #[test]
    fn a_guest_that_asks_without_end_does_not_fill_the_memory() {
        let (record, events) = (Record::default(), Events::none());
        let long = "x".repeat(1 << 20);
        for number in 0..20 {
            record.refuse(&format!("{number}{long}"), &events);
        }
        assert_eq!(record.refused().len(), 7);
        assert_eq!(record.omitted(), 13);
    }
}
