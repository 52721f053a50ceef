//! Requests and responses of one connection, over HTTP/1.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue,
    WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use observer_events::format::write_json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::places::Lease;
use super::source::Source;
use crate::control::{STATUS_PATH, requested_rows};
use crate::metrics::{TextFormat, render};

/// How long a peer may take to send a request, or pause between two. This is
/// longer than scrapers pause; a connection whose place is needed ends sooner.
const HEADER_TIME: Duration = Duration::from_secs(150);
/// How long a connection lasts at most. Scrapers connect again.
const LIFE: Duration = Duration::from_hours(1);
/// The longest request head, bytes; hyper takes no less.
const MAX_HEAD: usize = 8192;
/// Path of the metrics.
const METRICS_PATH: &str = "/metrics";
/// Path of a word on whether all is well.
const HEALTH_PATH: &str = "/health";
/// What stands before a token.
const SCHEME: &[u8] = b"Bearer ";

/// What may be requested at a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Metrics, with the token if there is one.
    Metrics(Option<String>),
    /// Metrics, and the status with agents and incidents.
    Control,
}

/// Responds to requests until the peer has no more, or its place is needed.
pub(super) async fn serve_connection<S>(stream: S, place: Lease, access: Access, source: Source)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(async |request| {
        place.begin(is_allowed(&request, &access));
        let response = respond(request, &access, &source).await;
        place.end();
        response
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = timeout(LIFE, connection) => match result {
            Ok(Ok(())) => {}
            // A peer that closes in the middle is no problem of the observer's.
            Ok(Err(error)) => tracing::debug!("a request got no response: {error}"),
            Err(_) => tracing::debug!("a connection was closed after {LIFE:?}"),
        },
        () = place.needed() => tracing::debug!("an idle connection was closed: its place was needed"),
    }
}

type Body = Full<Bytes>;

async fn respond(
    request: Request<Incoming>,
    access: &Access,
    source: &Source,
) -> Result<Response<Body>, Infallible> {
    let (uri, headers) = (request.uri(), request.headers());
    if !is_authorized(headers, access) {
        let challenge = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Ok(refuse(StatusCode::UNAUTHORIZED, Some(challenge)));
    }
    if !is_known(uri, access) {
        return Ok(refuse(StatusCode::NOT_FOUND, None));
    }
    if !is_read(request.method()) {
        let allowed = (ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refuse(StatusCode::METHOD_NOT_ALLOWED, Some(allowed)));
    }
    let response = match uri.path() {
        STATUS_PATH => status(uri.query(), source).await,
        HEALTH_PATH => health(source).await,
        _ => metrics(headers, source).await,
    };
    Ok(response.unwrap_or_else(|| refuse(StatusCode::SERVICE_UNAVAILABLE, None)))
}

/// Whether the peer may have what it requests. If not, it has no claim to a
/// place.
fn is_allowed(request: &Request<Incoming>, access: &Access) -> bool {
    is_authorized(request.headers(), access)
        && is_known(request.uri(), access)
        && is_read(request.method())
}

fn is_known(uri: &Uri, access: &Access) -> bool {
    match uri.path() {
        METRICS_PATH | HEALTH_PATH => true,
        STATUS_PATH => *access == Access::Control,
        _ => false,
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Whether the request has the token. The time that comparing takes does not
/// show how much of a token was right.
fn is_authorized(headers: &HeaderMap, access: &Access) -> bool {
    let Access::Metrics(Some(token)) = access else {
        return true;
    };
    let sent = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    // Schemes are written in any case (RFC 9110, section 11.1).
    let sent = sent.and_then(|sent| sent.split_at_checked(SCHEME.len()));
    let sent = sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    sent.is_some_and(|(_, sent)| bool::from(subtle::ConstantTimeEq::ct_eq(sent, token.as_bytes())))
}

async fn metrics(headers: &HeaderMap, source: &Source) -> Option<Response<Body>> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = TextFormat::accepted(accept);
    let text = render(source.summary().await?, format).ok()?;
    Some(success(format.content_type(), text))
}

async fn status(query: Option<&str>, source: &Source) -> Option<Response<Body>> {
    let status = source.status(requested_rows(query)).await?;
    let mut text = Vec::new();
    write_json(&mut text, &status).ok()?;
    Some(success("application/json", text))
}

/// Whether the observer does its work, for who restarts or replaces it if not.
async fn health(source: &Source) -> Option<Response<Body>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let troubles: Vec<String> = source.summary().await?.troubles().collect();
    if troubles.is_empty() {
        return Some(success(TEXT, "ok\n"));
    }
    let mut response = success(TEXT, format!("{}\n", troubles.join("\n")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    Some(response)
}

fn success(content_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refuse(code: StatusCode, header: Option<(HeaderName, HeaderValue)>) -> Response<Body> {
    let mut response = success("text/plain; charset=utf-8", format!("{code}\n"));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.extend(header);
    if code.is_client_error() {
        // Whoever requests what it may not have has to connect again.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
