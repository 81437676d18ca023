//! Who may call: the Host and Origin that a browser cannot forge, and the token.
//!
//! A page on another site may have a browser call a loopback address (CSRF), or give its own name
//! the node's address (DNS rebinding). So a call must name the node by an address, `localhost` or a
//! configured name, and where an Origin is sent it must be the very host that is called.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{ApiError, Readiness, Token};

/// Names by which the API may be called, besides addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<[String]>);

impl Hosts {
    /// The configured names.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    fn allow(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else {
            return false;
        };
        let host = host.to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        host == "localhost" || bare.parse::<IpAddr>().is_ok() || self.0.contains(&host)
    }
}

/// The host of `host[:port]`; `None` where it is no such thing.
fn host_of(authority: &str) -> Option<&str> {
    let end_of_address = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority.get(end_of_address..)?.rfind(':') {
        Some(at) => (authority.get(..end_of_address + at)?, authority.get(end_of_address + at + 1..)?),
        None => (authority, "0"),
    };
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(host)
}

/// Decides about Host and Origin (pure).
fn check_source(headers: &HeaderMap, hosts: &Hosts) -> Result<(), ApiError> {
    let forbidden =
        |code, message: String, hint: &str| Err(ApiError::new(StatusCode::FORBIDDEN, code, message).hint(hint));
    let Some(host) = only(headers, HOST) else {
        return Err(ApiError::bad_request("a request needs exactly one Host header"));
    };
    if !hosts.allow(host) {
        let hint = "call the node by its address, or name the host in [http] hosts";
        return forbidden("host_refused", format!("the node is not known by the name {host:?}"), hint);
    }
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = only(headers, ORIGIN).unwrap_or_default();
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    match authority {
        Some(authority) if authority.eq_ignore_ascii_case(host) => Ok(()),
        _ => forbidden("origin_refused", format!("pages of {origin:?} may not call this node"), ""),
    }
}

/// Decides about the token (pure).
fn check_token(headers: &HeaderMap, token: &Token) -> Result<(), ApiError> {
    let presented = only(headers, AUTHORIZATION).and_then(|value| value.split_once(' '));
    let allowed = match presented {
        Some((scheme, text)) => scheme.eq_ignore_ascii_case("bearer") && token.is(text.trim()),
        None => false,
    };
    if allowed {
        return Ok(());
    }
    let error =
        ApiError::new(StatusCode::UNAUTHORIZED, "token_refused", "the call brings no token, or not this node's");
    Err(error.hint("send Authorization: Bearer with the content of admin.token in the node's data folder"))
}

/// A header's value where it occurs once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Lets through what names the node rightly.
pub async fn source(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    match check_source(request.headers(), &hosts) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// While the node leaves its site, or is kept out of it, lets through what only looks, and what is about the site.
pub async fn still_takes(State(readiness): State<Arc<Readiness>>, request: Request, next: Next) -> Response {
    let is_about_site = request.uri().path().trim_start_matches("/v1").starts_with("/site");
    if request.method() == Method::GET || is_about_site {
        return next.run(request).await;
    }
    let leaving = |what: &str| ApiError::unavailable(format!("the node leaves its site{what}")).coded("leaving");
    let Some(_under_way) = readiness.begin_call().await else {
        if let Some(why) = readiness.kept_out() {
            return ApiError::unavailable(why).coded("kept-out").into_response();
        }
        return leaving(", and takes nothing new").hint("ask another node of the site").into_response();
    };
    let response = next.run(request).await;
    if response.status().is_success() && readiness.is_shut() {
        let hint = "look at another node of the site before you ask again";
        return leaving("; it is not known whether the others have what was asked for").hint(hint).into_response();
    }
    response
}

/// Lets through what brings the token.
pub async fn bearer(State(token): State<Token>, request: Request, next: Next) -> Response {
    match check_token(request.headers(), &token) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn hosts_that_a_page_cannot_choose_are_allowed() {
        let hosts = Hosts::new(&["Gateway.local".to_owned()]);
        for allowed in [
            "127.0.0.1",
            "127.0.0.1:7080",
            "[::1]:7080",
            "[::1]",
            "localhost:1",
            "LOCALHOST",
            "10.0.0.7:80",
            "gateway.local",
            "GATEWAY.local:7080",
        ] {
            assert!(hosts.allow(allowed), "{allowed}");
        }
        for refused in [
            "",
            ":80",
            "evil.example",
            "evil.example:7080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "localhost:",
            "[::1",
            "a@localhost",
            "localhost/",
        ] {
            assert!(!hosts.allow(refused), "{refused}");
        }
    }

    #[test]
    fn an_origin_must_be_the_host_itself() {
        let hosts = Hosts::new(&[]);
        // (origin, allowed)
        let cases = [
            ("http://127.0.0.1:7080", true),
            ("https://127.0.0.1:7080", true),
            ("http://127.0.0.1:7081", false),
            ("http://127.0.0.1", false),
            ("http://localhost:7080", false),
            ("https://evil.example", false),
            ("null", false),
            ("", false),
            ("file://127.0.0.1:7080", false),
        ];
        for (origin, allowed) in cases {
            let headers = headers(&[(HOST, "127.0.0.1:7080"), (ORIGIN, origin)]);
            assert_eq!(check_source(&headers, &hosts).is_ok(), allowed, "{origin}");
        }
        let twice = headers(&[(HOST, "localhost"), (ORIGIN, "http://localhost"), (ORIGIN, "http://localhost")]);
        assert_eq!(check_source(&twice, &hosts).unwrap_err().code, "origin_refused");
        let no_host = headers(&[]);
        assert_eq!(check_source(&no_host, &hosts).unwrap_err().code, "bad_request");
        let two_hosts = headers(&[(HOST, "localhost"), (HOST, "localhost")]);
        assert_eq!(check_source(&two_hosts, &hosts).unwrap_err().code, "bad_request");
    }

    #[test]
    fn the_token_comes_as_a_bearer() {
        let token = Token::of("0123456789abcdef");
        // (header, allowed)
        let cases = [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("BEARER   0123456789abcdef ", true),
            ("Bearer", false),
            ("Bearer ", false),
            ("Bearer 0123456789abcdeg", false),
            ("Bearer 0123456789abcde", false),
            ("Basic 0123456789abcdef", false),
            ("0123456789abcdef", false),
            ("", false),
        ];
        for (value, allowed) in cases {
            assert_eq!(check_token(&headers(&[(AUTHORIZATION, value)]), &token).is_ok(), allowed, "{value:?}");
        }
        assert!(check_token(&headers(&[]), &token).is_err());
        let value = "Bearer 0123456789abcdef";
        assert!(check_token(&headers(&[(AUTHORIZATION, value), (AUTHORIZATION, value)]), &token).is_err());
    }
}
