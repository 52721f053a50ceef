//! The conversation with one who asks, over HTTP/1.

use std::convert::Infallible;
use std::time::Duration;

use crate::metrics::{TextFormat, render};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
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
use crate::status::{DEFAULT_ROWS, MAX_ROWS, PATH};

/// How long a peer may take to send a request, or pause between two: longer
/// than scrapers do, for a connection whose place is needed yields before.
const HEADER_TIME: Duration = Duration::from_secs(150);
/// How long a connection lasts at most. Scrapers connect again.
const LIFE: Duration = Duration::from_hours(1);
/// The longest request head, bytes; hyper takes no less.
const MAX_HEAD: usize = 8192;
/// What stands before a token.
const SCHEME: &[u8] = b"Bearer ";

/// What may be asked at a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Metrics; of those who show the token, if there is one.
    Metrics(Option<String>),
    /// Metrics, and the status with agents and attacks.
    Control,
}

/// Answers requests until the peer has no more, or its place is needed.
pub(super) async fn converse<S>(stream: S, place: Lease, access: Access, source: Source)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(async |request| {
        place.begin(is_allowed(&request, &access));
        let answer = answer(request, &access, &source).await;
        place.end();
        answer
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::select! {
        result = timeout(LIFE, connection) => match result {
            Ok(Ok(())) => {}
            // A peer that goes away in the middle is its own affair.
            Ok(Err(error)) => tracing::debug!("a question was not answered: {error}"),
            Err(_) => tracing::debug!("a connection was closed after {LIFE:?}"),
        },
        () = place.needed() => tracing::debug!("an idle connection had to yield its place"),
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    request: Request<Incoming>,
    access: &Access,
    source: &Source,
) -> Result<Answer, Infallible> {
    let (uri, headers) = (request.uri(), request.headers());
    if !may_ask(headers, access) {
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
    let told = if uri.path() == PATH {
        status(uri.query(), source).await
    } else {
        metrics(headers, source).await
    };
    Ok(told.unwrap_or_else(|| refuse(StatusCode::SERVICE_UNAVAILABLE, None)))
}

/// Whether the peer may have what it asks for. Who may not has no claim to a
/// place.
fn is_allowed(request: &Request<Incoming>, access: &Access) -> bool {
    may_ask(request.headers(), access)
        && is_known(request.uri(), access)
        && is_read(request.method())
}

fn is_known(uri: &Uri, access: &Access) -> bool {
    uri.path() == "/metrics" || (*access == Access::Control && uri.path() == PATH)
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Compares in a time that does not tell how much of a token was right.
fn may_ask(headers: &HeaderMap, access: &Access) -> bool {
    let Access::Metrics(Some(token)) = access else {
        return true;
    };
    let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    // Schemes are written in any case (RFC 9110, section 11.1).
    let shown = shown.and_then(|shown| shown.split_at_checked(SCHEME.len()));
    let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    shown.is_some_and(|(_, shown)| {
        bool::from(subtle::ConstantTimeEq::ct_eq(shown, token.as_bytes()))
    })
}

async fn metrics(headers: &HeaderMap, source: &Source) -> Option<Answer> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = TextFormat::accepted(accept);
    let text = render(source.summary().await?, format).ok()?;
    Some(tell(format.content_type(), text))
}

async fn status(query: Option<&str>, source: &Source) -> Option<Answer> {
    let rows = query
        .and_then(|query| query.strip_prefix("agents="))
        .and_then(|number| number.parse().ok())
        .unwrap_or(DEFAULT_ROWS);
    let status = source.ask(rows.min(MAX_ROWS)).await?;
    let mut text = Vec::new();
    write_json(&mut text, &status).ok()?;
    Some(tell("application/json", text))
}

fn tell(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn refuse(code: StatusCode, header: Option<(hyper::header::HeaderName, HeaderValue)>) -> Answer {
    let mut answer = tell("text/plain; charset=utf-8", format!("{code}\n"));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.extend(header);
    if code.is_client_error() {
        // Who asks for what it may not have is not to do it again for nothing.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
