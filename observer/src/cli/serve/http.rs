//! The conversation with one who asks, over HTTP/1.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use observer::metrics::{TextFormat, render};
use observer::sinks::write_json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::source::Source;
use crate::cli::status::{DEFAULT_ROWS, MAX_ROWS, PATH};

/// How long a peer may take to send a request, or pause between two.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a connection lasts at most: a peer that does not read its answer
/// must not keep a place for ever. Scrapers connect again.
const LIFE: Duration = Duration::from_mins(5);
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

/// Answers requests until the peer has no more.
pub(super) async fn converse<S>(stream: S, access: Access, source: Source)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let answer = service_fn(|request| answer(request, &access, &source));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(LIFE, connection).await {
        Ok(Ok(())) => {}
        // A peer that goes away in the middle is its own affair.
        Ok(Err(error)) => tracing::debug!("a question was not answered: {error}"),
        Err(_) => tracing::debug!("a connection was closed after {LIFE:?}"),
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(
    request: Request<Incoming>,
    access: &Access,
    source: &Source,
) -> Result<Answer, Infallible> {
    let (uri, headers) = (request.uri(), request.headers());
    let is_control = *access == Access::Control;
    if !may_ask(headers, access) {
        let challenge = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Ok(refuse(StatusCode::UNAUTHORIZED, Some(challenge)));
    }
    let is_known = uri.path() == "/metrics" || (is_control && uri.path() == PATH);
    if !is_known {
        return Ok(refuse(StatusCode::NOT_FOUND, None));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
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
    answer.headers_mut().extend(header);
    answer
}
