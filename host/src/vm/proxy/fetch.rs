//! Plain http: GET and HEAD in absolute form, from the store or from upstream.

use super::Proxy;
use super::answer::{self, Body, root_cause};
use super::record::Fetch;
use super::transfer::{Expected, Transfer};
use crate::store::{Fields, Object};
use futures::StreamExt;
use hyper::body::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE,
    ETAG, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VARY, VIA,
};
use hyper::{Method, Response, StatusCode};
use tokio_util::io::ReaderStream;
use url::Url;

/// How the proxy calls itself in `Via` (RFC 9110, 7.6.3).
const PSEUDONYM: HeaderValue = HeaderValue::from_static("1.1 particle-vm");

/// Bytes that are read from a stored object at a time.
const READ_SIZE: usize = 128 << 10;

/// Fields that belong to one connection (RFC 9110, 7.6.1), `Keep-Alive` and `Proxy-Connection` beside those that
/// `http` has names for.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Answer a GET or HEAD whose host has been let through.
pub(super) async fn fetch(proxy: &Proxy, method: Method, url: Url, headers: HeaderMap) -> Response<Body> {
    let key = store_key(&url, &headers);
    let mut again = false;
    if let Some(key) = &key {
        again = proxy.was_served(key);
        let found = if again { Ok(None) } else { proxy.store().get(key).await };
        match found {
            Ok(Some(object)) => return from_store(proxy, &method, &url, object).await,
            Ok(None) => {}
            Err(error) => proxy.events().warn(format!("the store is not used: {error}: {}", root_cause(&error))),
        }
    }
    from_upstream(proxy, method, url, headers, key, again).await
}

/// The name under which the response may be stored: only what never changes under its name, and only for those who
/// need no credentials for it: a cookie is one.
///
/// That is `by-hash/SHA256/DIGEST`, and packages whose name holds their version as Debian's archive spells it
/// (`NAME_VERSION_ARCHITECTURE.deb`); `program_current_amd64.deb` is another file every week.
fn store_key(url: &Url, headers: &HeaderMap) -> Option<String> {
    let public = url.username().is_empty() && url.password().is_none();
    let public = public && !headers.contains_key(AUTHORIZATION) && !headers.contains_key(COOKIE);
    (public && (by_hash(url).is_some() || is_package(url))).then(|| public_url(url))
}

fn is_package(url: &Url) -> bool {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let Some(stem) = name.strip_suffix(".deb").or_else(|| name.strip_suffix(".udeb")) else {
        return false;
    };
    let mut parts = stem.split('_');
    let (package, version, architecture, rest) = (parts.next(), parts.next(), parts.next(), parts.next());
    package.is_some_and(|package| !package.is_empty())
        && version.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        && architecture.is_some_and(|architecture| !architecture.is_empty())
        && rest.is_none()
}

/// The digest in `.../by-hash/SHA256/DIGEST`.
fn by_hash(url: &Url) -> Option<String> {
    let (_, digest) = url.path().rsplit_once("/by-hash/SHA256/")?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| digest.to_ascii_lowercase())
}

/// The URL without credentials and fragment: it goes into manifests and logs.
pub(crate) fn public_url(url: &Url) -> String {
    let mut url = url.clone();
    // These fail for URLs without a host, which have no credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url.into()
}

async fn from_store(proxy: &Proxy, method: &Method, url: &Url, object: Object) -> Response<Body> {
    let Object { file, size, sha256, fields } = object;
    let mut fetch = Fetch { url: public_url(url), status: 200, size: 0, sha256, from_store: true, trouble: None };
    // Conditions and ranges are ignored, as RFC 9110 (13.1 and 14.2) lets a server do: the whole is at hand.
    let body = if method == Method::HEAD {
        fetch.sha256 = String::new();
        proxy.record().fetched(fetch, proxy.events());
        answer::full(Bytes::new())
    } else {
        // What is named by its digest is right. At once, and not when all of it has gone: a package manager that sees a
        // wrong size in the head hangs up.
        if by_hash(url).is_none() {
            proxy.served(fetch.url.clone());
        }
        let chunks = ReaderStream::with_capacity(tokio::fs::File::from_std(file), READ_SIZE);
        Transfer::stored(proxy.clone(), chunks.boxed(), fetch, size).into_body().await
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(VIA, PSEUDONYM);
    let fields = [(CONTENT_TYPE, fields.content_type), (LAST_MODIFIED, fields.last_modified), (ETAG, fields.etag)];
    for (name, value) in fields {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(name, value);
        }
    }
    response
}

async fn from_upstream(
    proxy: &Proxy,
    method: Method,
    url: Url,
    mut headers: HeaderMap,
    key: Option<String>,
    again: bool,
) -> Response<Body> {
    let shown = public_url(&url);
    strip_hop_by_hop(&mut headers);
    headers.remove(HOST);
    headers.remove(CONTENT_LENGTH);
    headers.append(VIA, PSEUDONYM);
    if key.is_some() {
        // The whole of it, as it is, so that it can be stored.
        for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, ACCEPT_ENCODING]
        {
            headers.remove(name);
        }
    }
    if again {
        // No cache on the way shall send the same once more.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    let expected_digest = by_hash(&url);
    let mut request = reqwest::Request::new(method.clone(), url.clone());
    *request.headers_mut() = headers;
    let answered = tokio::time::timeout(proxy.limits().stall, proxy.client().execute(request)).await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_timeout() => return timed_out(proxy, &url, &shown),
        Ok(Err(error)) => {
            let via = proxy.upstream().describe(&url);
            let what = if error.is_connect() { "cannot connect to" } else { "no usable answer from" };
            let why = format!("{what} {}{via}: {}", host_of(&url), root_cause(&error));
            proxy.record().failed(&shown, &why, proxy.events());
            return answer::bad_gateway(&why);
        }
        Err(_) => return timed_out(proxy, &url, &shown),
    };
    let size = length(response.headers());
    let storable = method == Method::GET && response.status() == StatusCode::OK && may_be_stored(response.headers());
    let fields = Fields::new(
        text(response.headers(), &CONTENT_TYPE),
        text(response.headers(), &LAST_MODIFIED),
        text(response.headers(), &ETAG),
    );
    let status = response.status();
    let fetch =
        Fetch { url: shown, status: status.as_u16(), size: 0, sha256: String::new(), from_store: false, trouble: None };
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    *answer.headers_mut() = response.headers().clone();
    if answer.headers().contains_key(TRANSFER_ENCODING) {
        // The coding is undone here, and overrides the length (RFC 9112, 6.3), which would cut the body short.
        answer.headers_mut().remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(answer.headers_mut());
    answer.headers_mut().append(VIA, PSEUDONYM);
    if let Some(reason) = response.extensions().get::<ReasonPhrase>() {
        answer.extensions_mut().insert(reason.clone());
    }
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    let body = if method == Method::HEAD || bodiless {
        proxy.record().fetched(fetch, proxy.events());
        answer::full(Bytes::new())
    } else {
        // An error page under a by-hash URL has another digest, and rightly so.
        let sha256 = expected_digest.filter(|_| status == StatusCode::OK);
        let source = response.bytes_stream().map(|chunk| chunk.map_err(std::io::Error::other)).boxed();
        let mut transfer = Transfer::upstream(proxy.clone(), source, fetch, Expected { size, sha256 });
        if let Some(key) = key.filter(|_| storable) {
            match proxy.store().put_stream(&key, fields).await {
                Ok(put) => transfer = transfer.store(key, put),
                Err(error) => {
                    proxy.events().warn(format!("{key} is not kept for the next build: {}", root_cause(&error)));
                }
            }
        }
        transfer.into_body().await
    };
    answer.map(|()| body)
}

fn timed_out(proxy: &Proxy, url: &Url, shown: &str) -> Response<Body> {
    let seconds = proxy.limits().stall.as_secs_f64();
    let why = format!("no answer from {}{} within {seconds} s", host_of(url), proxy.upstream().describe(url));
    proxy.record().failed(shown, &why, proxy.events());
    answer::gateway_timeout(&why)
}

fn host_of(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Complete, unchanged, and the same for all readers: not meant for one only, nor chosen by what the request says beside
/// the URL. By `Accept-Encoding` it may be, which is not passed on for what may be stored. A body that ends with its
/// connection could be cut short and nobody would know.
fn may_be_stored(headers: &HeaderMap) -> bool {
    // `private` may name the fields that it is about.
    let directive = |word: &str| word.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    let no_store = words(headers, &CACHE_CONTROL).any(|word| ["no-store", "private"].contains(&&*directive(word)));
    let varies = words(headers, &VARY).any(|word| !word.eq_ignore_ascii_case(ACCEPT_ENCODING.as_str()));
    let framed = length(headers).is_some() || headers.contains_key(TRANSFER_ENCODING);
    framed && !no_store && !varies && !headers.contains_key(CONTENT_ENCODING)
}

fn length(headers: &HeaderMap) -> Option<u64> {
    // A transfer coding overrides the length (RFC 9112, 6.3).
    let coded = headers.contains_key(TRANSFER_ENCODING);
    headers.get(CONTENT_LENGTH).filter(|_| !coded)?.to_str().ok()?.parse().ok()
}

/// The members of a field that is a list. What is no text is one that nobody knows.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or("?"));
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(url: &str) -> Option<String> {
        store_key(&Url::parse(url).unwrap(), &HeaderMap::new())
    }

    #[test]
    fn only_what_never_changes_under_its_name_is_stored() {
        let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for stored in [
            "http://m/pool/main/b/bash/bash_5.2.37-2+b5_amd64.deb",
            "http://m/pool/main/i/iproute2/iproute2_1%3a6.1-1_all.deb",
            "http://m/pool/main/d/di/di_1_amd64.udeb",
            &format!("http://m/dists/trixie/main/by-hash/SHA256/{digest}"),
        ] {
            assert_eq!(key(stored).as_deref(), Some(stored));
        }
        for passed_on in [
            "http://m/program_current_amd64.deb",
            "http://m/program.deb",
            "http://m/_1_amd64.deb",
            "http://m/a_1_amd64_x.deb",
            "http://m/dists/trixie/InRelease",
            "http://m/by-hash/MD5Sum/d41d8cd98f00b204e9800998ecf8427e",
            "http://m/by-hash/SHA256/short",
            "http://user@m/a_1_amd64.deb",
        ] {
            assert_eq!(key(passed_on), None, "{passed_on}");
        }
        for name in [AUTHORIZATION, COOKIE] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("x"))]);
            assert_eq!(store_key(&Url::parse("http://m/a_1_amd64.deb").unwrap(), &headers), None);
        }
    }

    #[test]
    fn fields_of_the_connection_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Mine"), ("x-mine", "1"), ("keep-alive", "5"), ("te", "gzip"), ("accept", "*/*")]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
