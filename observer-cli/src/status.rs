//! `observer status`: asks a running observer how it is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon_status::DaemonStatus;
use anyhow::{Context as _, bail};
use clap::Args;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::describe;
use super::plain::{PlainText, ignore_broken_pipe, write_document};

/// Where the status is, at the control socket.
pub(super) const PATH: &str = "/status";
/// How many agents are told of where nobody says how many.
pub(super) const DEFAULT_ROWS: usize = 64;
/// How many at most: the observing thread makes the list, in about a
/// millisecond for so many.
pub(super) const MAX_ROWS: usize = 4096;

/// How long the observer may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, bytes.
const MAX_ANSWER: usize = 8 << 20;

/// `observer status`
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Control socket of the observer, as it was given to `observer run
    /// --control`
    #[arg(long, value_name = "PATH")]
    control: PathBuf,

    /// Write one JSON object
    #[arg(long)]
    json: bool,

    /// How many agents to tell of one by one: the silent first, then those
    /// whose last beat is the oldest
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=MAX_ROWS as u64),
        default_value_t = DEFAULT_ROWS
    )]
    agents: usize,
}

pub(super) fn execute(args: &Status) -> anyhow::Result<()> {
    let status = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?
        .block_on(ask(&args.control, args.agents))?;
    let mut out = PlainText(io::stdout().lock());
    let written = if args.json {
        write_document(&mut out, &status)
    } else {
        describe::write(&mut out, &status)
    };
    Ok(ignore_broken_pipe(written)?)
}

/// The status of the observer behind a control socket.
///
/// # Errors
/// If there is none, or it does not answer.
pub(super) async fn ask(control: &Path, rows: usize) -> anyhow::Result<DaemonStatus> {
    let answer = timeout(PATIENCE, fetch(control, rows)).await;
    let body = answer.context("the observer does not answer")??;
    serde_json::from_slice(&body)
        .context("the observer's answer is not understood: is it of another version?")
}

async fn fetch(control: &Path, rows: usize) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(control)
        .await
        .map_err(|error| explain(control, error))?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("{PATH}?agents={rows}"))
        .header(HOST, "observer")
        .body(Empty::<Bytes>::new())?;
    let answer = sender
        .send_request(request)
        .await
        .context("the observer closed the connection; it answers its own user and root only")?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::SERVICE_UNAVAILABLE => bail!("the observer is too busy to answer"),
        code => bail!("the observer answered {code}"),
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    connection.abort();
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => bail!("the observer's answer broke off: {error}"),
    }
}

fn explain(control: &Path, error: io::Error) -> anyhow::Error {
    let path = control.display();
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "; is an observer running with --control at that path?",
        io::ErrorKind::ConnectionRefused => "; the observer that made it has ended",
        io::ErrorKind::PermissionDenied => "; it answers its own user and root only",
        _ => "",
    };
    anyhow::Error::new(error).context(format!("cannot connect to {path}{advice}"))
}
