//! What every request passes: who may ask, whether the host still takes requests, and what becomes of a panic.
//!
//! Without tokens everything is open to whoever sits at this machine, and to nobody else. A web page that the operator happens
//! to visit runs on this machine too: so the `Host` must be a loopback name (a page that rebinds its own name to 127.0.0.1
//! keeps its name there), and an `Origin` must be this host itself: a page that another program serves on this machine is a stranger.

use super::State;
use super::error::{Code, Problem};
use axum::extract::{Request, State as Of};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::task::Poll;

/// Wraps the whole router.
pub(crate) async fn guard(Of(state): Of<State>, request: Request, next: Next) -> Response {
    let mut response = match admit(&state, &request) {
        Ok(()) => catch_panic(next, request).await,
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn admit(state: &State, request: &Request) -> Result<(), Problem> {
    check_origin(request.uri(), request.headers())?;
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && state.is_stopping() {
        return Err(Problem::new(
            Code::ShuttingDown,
            "the host is shutting down; send the request again once it is back",
        ));
    }
    Ok(())
}

/// Refuses what a page of another site could have sent.
fn check_origin(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |what: &str| Err(Problem::new(Code::Forbidden, what));
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|value| value.to_str().ok());
    let authority = uri.authority().map(|authority| authority.as_str());
    if hosts.next().is_some() || !host.is_some_and(is_loopback) || !authority.is_none_or(is_loopback) {
        return refuse("the Host header must name this machine (localhost, 127.0.0.1 or [::1]), since no tokens are configured");
    }
    let is_own = |origin: &HeaderValue| origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")) == host;
    if !headers.get_all(header::ORIGIN).iter().all(is_own) {
        return refuse("requests from web pages of other sites are refused, since no tokens are configured");
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"cross-site") => refuse("requests that another site starts are refused, since no tokens are configured"),
        _ => Ok(()),
    }
}

/// `localhost`, `127.x.x.x` or `[::1]`, with any port or none.
fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => return address.parse() == Ok(Ipv6Addr::LOCALHOST) && is_port(port),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let local = host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    local && is_port(port)
}

/// Nothing, or a colon and a number.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
}

/// Answers a panic with a 500. The task that serves the connection goes on.
async fn catch_panic(next: Next, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut answer = std::pin::pin!(next.run(request));
    std::future::poll_fn(
        |context| match std::panic::catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context))) {
            Ok(poll) => poll,
            Err(cause) => {
                let said = cause.downcast_ref::<&str>().copied();
                let said = said.or_else(|| cause.downcast_ref::<String>().map(String::as_str));
                tracing::error!(path, panic = said.unwrap_or("of unknown cause"), "a request handler panicked");
                let problem = Problem::new(Code::Internal, "the host made a mistake; its log says which");
                Poll::Ready(problem.into_response())
            }
        },
    )
    .await
}

/// For every address that nothing answers.
pub(crate) async fn no_route(uri: Uri) -> Problem {
    let path = super::error::shorten(uri.path());
    Problem::new(
        Code::UnknownRoute,
        format!("there is nothing at {path}; /api/v1/openapi.json lists what there is"),
    )
}

/// For every method that an address does not take; the `Allow` header says which it does.
pub(crate) async fn no_method(method: Method, uri: Uri) -> Problem {
    let path = super::error::shorten(uri.path());
    Problem::new(
        Code::MethodNotAllowed,
        format!("{path} does not take {method}; the Allow header says what it takes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_are_told_from_others() {
        for good in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.9.8.7:1", "[::1]", "[::1]:8080"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "localhost:",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "127.0.0.1:80@evil",
            "localhost:8080:80",
            "0.0.0.0",
            "[::]",
            "[::1",
            "[::1]x",
            "evil.com:127.0.0.1",
            "10.0.0.1:8080",
            "user@localhost",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let check = |uri: &str, headers: &[(&'static str, &str)]| {
            let headers = headers.iter().map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, value.parse().unwrap())
            });
            check_origin(&uri.parse().unwrap(), &HeaderMap::from_iter(headers)).is_ok()
        };
        assert!(check("/", &[("host", "localhost:8080")]));
        assert!(check("/", &[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        assert!(check("/", &[("host", "localhost"), ("sec-fetch-site", "same-origin")]));
        assert!(!check("/", &[]));
        assert!(!check("/", &[("host", "rebound.example:8080")]));
        assert!(!check("http://rebound.example/", &[("host", "localhost")]));
        assert!(!check("/", &[("host", "localhost"), ("origin", "http://evil.example")]));
        assert!(!check("/", &[("host", "localhost:8080"), ("origin", "http://localhost:3000")]));
        assert!(!check("/", &[("host", "localhost:8080"), ("origin", "http://127.0.0.1:8080")]));
        assert!(!check("/", &[("host", "localhost"), ("origin", "null")]));
        assert!(!check("/", &[("host", "localhost"), ("origin", "file://")]));
        assert!(!check("/", &[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
    }
}
