//! Serves metrics to scrapers, and the status to `observer status` and
//! `observer top`.
//!
//! Serving has a thread and an event loop of its own. The observing thread
//! only fills in a [`DaemonStatus`] when one is requested; it renders nothing
//! and waits for no client. Requests wait in a queue of [`MAX_REQUESTS`]; one
//! that finds it full gets the response 503.

mod flags;
mod http;
mod listener;
mod places;
mod source;

use std::future;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::flags::Flags;
use self::http::Access;
use self::listener::Listener;
use self::source::Source;
use crate::daemon_status::DaemonStatus;

/// How many requests wait for the observing thread at most.
const MAX_REQUESTS: usize = 4;

/// A request for the status.
pub(crate) struct Request {
    /// How many agents to list.
    pub(crate) rows: usize,
    pub(crate) response: oneshot::Sender<DaemonStatus>,
}

/// The listeners for requests. They are closed when this is dropped.
pub(crate) struct Serving {
    requests: mpsc::Receiver<Request>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Opens the listeners that the flags name.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub(crate) fn open(flags: &Flags) -> anyhow::Result<Self> {
        let (sender, requests) = mpsc::channel(MAX_REQUESTS);
        let mut listeners = Vec::new();
        let token = flags.token()?;
        for address in &flags.metrics {
            let access = Access::Metrics(token.clone());
            listeners.push((Listener::for_metrics(address)?, access));
        }
        if let Some(path) = &flags.control {
            listeners.push((Listener::for_control(path)?, Access::Control));
        }
        let (stop, thread) = if listeners.is_empty() {
            (None, None)
        } else {
            let (stop, stopped) = oneshot::channel();
            let source = Source::new(sender);
            (Some(stop), Some(start(listeners, source, stopped)?))
        };
        Ok(Self {
            requests,
            stop,
            thread,
        })
    }

    /// Waits for a request; for ever, if there is no listener.
    pub(crate) async fn next(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            None => future::pending().await,
        }
    }
}

impl Drop for Serving {
    /// Waits for the thread, which removes the socket files.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that serves metrics and status failed");
        }
    }
}

fn start(
    listeners: Vec<(Listener, Access)>,
    source: Source,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop for metrics and status")?;
    thread::Builder::new()
        .name("serve".into())
        .spawn(move || {
            runtime.block_on(async move {
                for (listener, access) in listeners {
                    tokio::spawn(listener.serve(access, source.clone()));
                }
                // Sent or dropped: either ends it.
                stopped.await.unwrap_or_default();
            });
        })
        .context("cannot start the thread that serves metrics and status")
}
