//! The sockets that questions come in by.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use observer::transport::{BoundListener, SocketOptions};
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::flags::Place;
use super::http::{Access, converse};
use super::source::Source;

/// Connections that are served at the same time, for each door. More wait in
/// the socket's backlog.
const CONNECTIONS: usize = 16;
/// How long a door rests after an accept that failed, as it does where file
/// descriptors have run out.
const REST: Duration = Duration::from_millis(500);
/// Of the socket that serves metrics: for the observer's group, too.
const METRICS_MODE: u32 = 0o660;
/// Of the control socket.
const CONTROL_MODE: u32 = 0o600;

/// A listening socket.
pub(super) enum Door {
    Tcp(StdTcpListener),
    Unix(BoundListener),
}

impl Door {
    pub(super) fn for_metrics(place: &Place) -> anyhow::Result<Self> {
        match place {
            Place::Tcp(address) => {
                let listener = listen(*address)
                    .with_context(|| format!("cannot serve metrics at {address}"))?;
                tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
                Ok(Self::Tcp(listener))
            }
            Place::Unix(path) => {
                let listener = listen_unix(path, METRICS_MODE).context("cannot serve metrics")?;
                tracing::info!("metrics at unix:{}, /metrics", path.display());
                Ok(Self::Unix(listener))
            }
        }
    }

    pub(super) fn for_control(path: &Path) -> anyhow::Result<Self> {
        let listener = listen_unix(path, CONTROL_MODE).context("cannot open the control socket")?;
        tracing::info!("control socket {}", path.display());
        Ok(Self::Unix(listener))
    }

    /// Answers whoever comes, until the runtime ends.
    pub(super) async fn keep(self, access: Access, source: Source) {
        let result = match &self {
            Self::Tcp(listener) => keep_tcp(listener, access, source).await,
            Self::Unix(listener) => keep_unix(listener, access, source).await,
        };
        if let Err(error) = result {
            tracing::error!("questions are no longer answered: {error}");
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<StdTcpListener> {
    let listener = StdTcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen_unix(path: &Path, mode: u32) -> anyhow::Result<BoundListener> {
    Ok(BoundListener::bind(&SocketOptions {
        path: path.to_owned(),
        mode,
        group: None,
    })?)
}

async fn keep_tcp(listener: &StdTcpListener, access: Access, source: Source) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.try_clone()?)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            // Nobody closes the semaphore.
            return Ok(());
        };
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, place, access.clone(), source.clone()),
            Err(error) => rest(&error).await,
        }
    }
}

async fn keep_unix(listener: &BoundListener, access: Access, source: Source) -> io::Result<()> {
    let listener = UnixListener::from_std(listener.get().try_clone()?)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            // Nobody closes the semaphore.
            return Ok(());
        };
        match listener.accept().await {
            Ok((stream, _)) if access == Access::Control && !is_trusted(&stream) => {}
            Ok((stream, _)) => admit(stream, place, access.clone(), source.clone()),
            Err(error) => rest(&error).await,
        }
    }
}

/// Serves a connection, which has its place for as long as it lasts.
fn admit<S>(stream: S, place: OwnedSemaphorePermit, access: Access, source: Source)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        converse(stream, access, source).await;
        drop(place);
    });
}

/// Whether the peer is the observer's own user, or root. The mode of the
/// socket file says the same; but a mode can be changed by mistake, and who
/// connected is what the kernel noted at `connect` (`unix_stream_connect`,
/// `net/unix/af_unix.c`: `init_peercred`).
fn is_trusted(stream: &UnixStream) -> bool {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            tracing::warn!("refused a question at the control socket: {error}");
            return false;
        }
    };
    let is_trusted = uid == 0 || uid == geteuid().as_raw();
    if !is_trusted {
        tracing::warn!("refused a question of user {uid} at the control socket");
    }
    is_trusted
}

async fn rest(error: &io::Error) {
    tracing::warn!("cannot accept a connection: {error}");
    sleep(REST).await;
}
