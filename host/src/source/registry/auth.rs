//! What a registry wants to see before it hands something out.
//!
//! Sources: RFC 7617 ("Basic"); "Token Authentication Specification" and "OAuth2 Token Authentication" of the registry
//! of the distribution project.

use super::super::credentials::Credentials;
use super::super::document;
use super::super::error::Problem;
use super::client::Connection;
use super::{DOCUMENT, Unread, read};
use crate::vm::proxy::is_loopback;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_auth::{ChallengeParser, ChallengeRef};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Request, StatusCode, Url};
use serde::Deserialize;
use url::form_urlencoded::Serializer;

/// Most bytes of the answer of a token server.
const MAX_TOKEN: u64 = 1 << 20;

/// What we are to a token server.
const CLIENT: &str = "particle-vm";

/// The answer of a token server.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What the registry wants.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Connection {
    /// Get what the registry wants, after it has refused `used`.
    ///
    /// # Errors
    /// When there is nothing that it would accept.
    pub(super) async fn authorise(
        &self,
        headers: &HeaderMap,
        used: Option<HeaderValue>,
        what: &str,
    ) -> Result<(), Problem> {
        let mut authorization = self.authorization.lock().await;
        if *authorization != used {
            // Another request of ours has got it meanwhile.
            return Ok(());
        }
        let refused = || Problem::Unauthorized {
            registry: self.registry.clone(),
            what: what.to_owned(),
            known: self.credentials.is_some(),
        };
        let value = match (challenge(headers), &self.credentials) {
            (Some(_), Some(Credentials::Bearer(token))) => bearer(token),
            (Some(Challenge::Basic), Some(Credentials::Password { user, password })) => basic(user, password),
            (Some(Challenge::Bearer { realm, service, scope }), _) => {
                bearer(&self.token(&realm, service, scope, what).await?)
            }
            _ => return Err(refused()),
        };
        let value = value.ok_or_else(|| self.protocol("its token is no text".into()))?;
        if used.as_ref() == Some(&value) {
            return Err(refused());
        }
        *authorization = Some(value);
        Ok(())
    }

    /// A token for pulling, from the registry's token server.
    async fn token(
        &self,
        realm: &str,
        service: Option<String>,
        scope: Option<String>,
        what: &str,
    ) -> Result<String, Problem> {
        let wrong = |reason: &str| self.protocol(format!("{reason}: {}", document::shown(realm)));
        let mut url = Url::parse(realm).map_err(|_| wrong("its token server has no usable address"))?;
        // A password is not sent in the open because a registry says so.
        let may_be_plain = self.plain_http || (self.base.scheme() == "http" && is_loopback(&url));
        if url.scheme() != "https" && !(url.scheme() == "http" && may_be_plain) {
            return Err(wrong("its token server does not speak https"));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
        let mut headers = HeaderMap::new();
        let mut body = None;
        if let Some(Credentials::Identity(token)) = &self.credentials {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT);
            form.append_pair("service", service.as_deref().unwrap_or_default());
            form.append_pair("scope", &scope).append_pair("refresh_token", token);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            body = Some(form.finish());
        } else {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &service {
                query.append_pair("service", service);
            }
            query.extend_pairs(scope.split(' ').map(|scope| ("scope", scope)));
            if let Some(Credentials::Password { user, password }) = &self.credentials {
                query.append_pair("account", user).append_pair("client_id", CLIENT);
                headers.extend(basic(user, password).map(|value| (AUTHORIZATION, value)));
            }
        }
        let answer = self.tried(&self.strict, what, || {
            let method = if body.is_some() { Method::POST } else { Method::GET };
            let mut request = Request::new(method, url.clone());
            *request.headers_mut() = headers.clone();
            *request.body_mut() = body.clone().map(Into::into);
            request
        });
        let answer = answer.await?;
        if [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status()) {
            let (registry, what) = (self.registry.clone(), what.to_owned());
            return Err(Problem::Unauthorized { registry, what, known: self.credentials.is_some() });
        }
        let answer = self.success(answer, &format!("a token for {what}")).await?;
        let text = read(answer, MAX_TOKEN, DOCUMENT).await.map_err(|unread| match unread {
            Unread::TooLarge(_) => wrong("its token server sends no token"),
            Unread::Broken(reason) => self.protocol(format!("its token server broke off: {reason}")),
        })?;
        let token: Token = serde_json::from_slice(&text).map_err(|_| wrong("its token server sends no token"))?;
        let given = [token.token, token.access_token].into_iter().flatten().find(|token| !token.is_empty());
        given.ok_or_else(|| wrong("its token server sends no token"))
    }
}

/// The challenge that is answered: with a token where that is possible.
fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let mut basic = None;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Ok(text) = value.to_str() else { continue };
        for challenge in ChallengeParser::new(text).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = parameter(&challenge, "realm")
            {
                let (service, scope) = (parameter(&challenge, "service"), parameter(&challenge, "scope"));
                return Some(Challenge::Bearer { realm, service, scope });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

fn parameter(challenge: &ChallengeRef<'_>, name: &str) -> Option<String> {
    let found = challenge.params.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_unescaped())
}

fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    secret(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(format!("Bearer {token}"))
}

/// A value that no log shows.
fn secret(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        challenge(&headers)
    }

    #[test]
    fn a_token_is_preferred_to_a_password() {
        assert_eq!(of(&[r#"Basic realm="Registry""#]), Some(Challenge::Basic));
        let bearer = Challenge::Bearer {
            realm: "https://auth.example.org/token".into(),
            service: Some("registry".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        let text =
            r#"Bearer realm="https://auth.example.org/token",service="registry",scope="repository:a/b:pull,push""#;
        assert_eq!(of(&[r#"Basic realm="x""#, text]), Some(bearer));
        assert_eq!(of(&["Bearer", "Negotiate", "=,\""]), None);
        assert_eq!(of(&[]), None);
    }
}
