//! The proxy's own answers. apt prints the status line and nothing else, so the reason phrase says it all.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;

/// The body of every response.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Most characters of a reason phrase.
const MAX_REASON: usize = 300;

/// The host is not on the allow-list; `entry` is what the list would have to hold.
pub(super) fn refused(entry: &str) -> Response<Body> {
    let reason = format!("{entry} is not in network.allow of the recipe");
    let mend = format!("If the build may reach it, add to the recipe:\n\n    network: {{ allow: [{entry}] }}");
    answer(StatusCode::FORBIDDEN, &reason, &mend)
}

/// The guest asked for something that this proxy does not do.
pub(super) fn bad_request(reason: &str) -> Response<Body> {
    answer(StatusCode::BAD_REQUEST, reason, "")
}

/// A method other than GET, HEAD and CONNECT.
pub(super) fn wrong_method() -> Response<Body> {
    let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, "the proxy passes on GET, HEAD and CONNECT only", "");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, CONNECT"));
    response
}

/// Upstream could not be reached, or answered nonsense.
pub(super) fn bad_gateway(reason: &str) -> Response<Body> {
    answer(StatusCode::BAD_GATEWAY, reason, "")
}

/// Upstream did not answer in time.
pub(super) fn gateway_timeout(reason: &str) -> Response<Body> {
    answer(StatusCode::GATEWAY_TIMEOUT, reason, "")
}

/// Any other answer, with `more` in the body below the reason.
pub(super) fn answer(status: StatusCode, reason: &str, more: &str) -> Response<Body> {
    let text = if more.is_empty() { format!("{reason}\n") } else { format!("{reason}\n{more}\n") };
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // What a server or a resolver says may hold anything; a status line holds visible characters.
    let visible = |c: char| if c.is_ascii_graphic() { c } else { ' ' };
    let phrase: String = reason.chars().map(visible).take(MAX_REASON).collect();
    if let Ok(phrase) = ReasonPhrase::try_from(phrase) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// A body that is known as a whole.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// What is at the bottom of an error: `Connection refused (os error 111)`.
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
