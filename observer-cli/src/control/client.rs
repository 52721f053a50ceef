//! Requests to a control socket.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::status_target;
use crate::daemon_status::DaemonStatus;

/// How long the observer may take to respond.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest response, bytes.
const MAX_RESPONSE: usize = 8 << 20;

/// The status of the observer behind a control socket, with so many agents at
/// most.
///
/// # Errors
/// If there is none, or it does not respond.
pub(crate) async fn fetch_status(control: &Path, rows: usize) -> anyhow::Result<DaemonStatus> {
    let response = timeout(PATIENCE, fetch(control, rows)).await;
    let body = response.context("the observer does not respond")??;
    serde_json::from_slice(&body)
        .context("cannot read the observer's response: is it of another version?")
}

async fn fetch(control: &Path, rows: usize) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(control)
        .await
        .map_err(|error| explain(control, &error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(status_target(rows))
        .header(HOST, "observer")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context(
        "the observer closed the connection; only the observer's own user and root may use it",
    )?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::SERVICE_UNAVAILABLE => bail!("the observer is too busy to respond"),
        code => bail!("the observer responded {code}"),
    }
    let body = Limited::new(response.into_body(), MAX_RESPONSE)
        .collect()
        .await;
    connection.abort();
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => bail!("the observer's response is incomplete: {error}"),
    }
}

fn explain(control: &Path, error: &io::Error) -> anyhow::Error {
    let path = control.display();
    let advice = match error.kind() {
        // What connecting to any other file fails with.
        io::ErrorKind::ConnectionRefused if !is_socket(control) => "; it is no socket",
        io::ErrorKind::NotFound => "; is an observer running with --control at that path?",
        io::ErrorKind::ConnectionRefused => "; the observer that created it has ended",
        io::ErrorKind::PermissionDenied => "; only the observer's own user and root may use it",
        _ => "",
    };
    anyhow!("cannot connect to {path}: {error}{advice}")
}

fn is_socket(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_socket())
}
