//! The sockets that requests come in by.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use observer::local::{BoundListener, SocketOptions, address_hint};
use rustix::process::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::sleep;

use super::flags::Address;
use super::http::{Access, serve_connection};
use super::places::{Lease, Peer, Places};
use super::source::Source;

/// How long a listener pauses after an accept that failed, as it does where
/// file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(500);
/// Mode of a socket that serves metrics: for the observer's group, too.
const METRICS_MODE: u32 = 0o660;
/// Mode of the control socket.
const CONTROL_MODE: u32 = 0o600;

/// A listening socket.
pub(super) enum Listener {
    Tcp(StdTcpListener),
    Unix(BoundListener),
}

impl Listener {
    pub(super) fn for_metrics(address: &Address) -> anyhow::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let listener = listen(*address).map_err(|error| {
                    let hint = address_hint(*address, &error);
                    anyhow!("cannot serve metrics at {address}: {error}{hint}")
                })?;
                tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
                Ok(Self::Tcp(listener))
            }
            Address::Unix(path) => {
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

    /// Serves whoever connects, until the runtime ends.
    pub(super) async fn serve(self, access: Access, source: Source) {
        let result = match &self {
            Self::Tcp(listener) => serve_tcp(listener, access, source).await,
            Self::Unix(listener) => serve_unix(listener, access, source).await,
        };
        if let Err(error) = result {
            tracing::error!("metrics and status are no longer served: {error}");
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

async fn serve_tcp(listener: &StdTcpListener, access: Access, source: Source) -> io::Result<()> {
    let listener = TcpListener::from_std(listener.try_clone()?)?;
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let place = places.admit(Peer::at(peer.ip()));
                spawn(stream, place, &access, &source).await;
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn serve_unix(listener: &BoundListener, access: Access, source: Source) -> io::Result<()> {
    let listener = UnixListener::from_std(listener.get().try_clone()?)?;
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) if access == Access::Control && !is_trusted(&stream) => {}
            Ok((stream, _)) => {
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                let place = places.admit(Peer::User(uid));
                spawn(stream, place, &access, &source).await;
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Serves a connection for as long as it has its place; one without a place is
/// closed. It has its turn before the next one is accepted: if it has sent its
/// request by then, it does not lose its place to the next one.
async fn spawn<S>(stream: S, place: Option<Lease>, access: &Access, source: &Source)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Some(place) = place {
        tokio::spawn(serve_connection(
            stream,
            place,
            access.clone(),
            source.clone(),
        ));
        tokio::task::yield_now().await;
    }
}

/// Whether the peer is the observer's own user, or root. The mode of the
/// socket demands the same, but can be changed by mistake; the peer's user is
/// what the kernel noted at `connect` (`unix_stream_connect`,
/// `net/unix/af_unix.c`: `init_peercred`).
fn is_trusted(stream: &UnixStream) -> bool {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            tracing::warn!("refused a request at the control socket: {error}");
            return false;
        }
    };
    let is_trusted = uid == 0 || uid == geteuid().as_raw();
    if !is_trusted {
        tracing::warn!("refused a request of user {uid} at the control socket");
    }
    is_trusted
}

async fn pause(error: &io::Error) {
    tracing::warn!("cannot accept a connection: {error}");
    sleep(PAUSE).await;
}
