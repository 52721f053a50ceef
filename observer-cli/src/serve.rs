//! Serves metrics to scrapers, and the status to `observer status` and
//! `observer top`; and waits for signals. When SIGHUP comes it reads the
//! configuration, too.
//!
//! All of this has a thread and an event loop of its own, so that nothing lies
//! between the observing thread and the kernel. The observing thread
//! only fills in a [`DaemonStatus`] when one is requested; it renders nothing
//! and waits for no client. Requests wait in a queue of [`MAX_REQUESTS`]; one
//! that finds it full gets the response 503.

mod flags;
mod http;
mod listener;
mod places;
mod reloader;
mod source;

use std::ffi::OsString;
use std::process;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use observer::Waker;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::flags::Flags;
use self::http::Access;
use self::listener::Listener;
use self::reloader::Reloader;
use self::source::Source;
use crate::daemon::Reload;
use crate::daemon_status::DaemonStatus;
use crate::signals::{Hangup, Shutdown, reap_orphans};

/// How many requests wait for the observing thread at most.
const MAX_REQUESTS: usize = 4;

/// A request for the status.
pub(crate) struct Request {
    /// How many agents to list.
    pub(crate) rows: usize,
    pub(crate) response: oneshot::Sender<DaemonStatus>,
}

/// The observing thread's end of it. The listeners are closed when this is
/// dropped.
pub(crate) struct Serving {
    requests: mpsc::Receiver<Request>,
    signal: oneshot::Receiver<&'static str>,
    reloads: mpsc::Receiver<Reload>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The thread's end.
struct Server {
    runtime: Runtime,
    listeners: Vec<(Listener, Access)>,
    source: Source,
    shutdown: Shutdown,
    reloader: Reloader,
    signalled: oneshot::Sender<&'static str>,
    stopped: oneshot::Receiver<()>,
    waker: Waker,
}

impl Serving {
    /// Catches signals, then opens the listeners that the flags name. For each
    /// request and each signal the observing thread is woken.
    ///
    /// # Errors
    /// If a listener cannot be opened, or signals cannot be caught.
    pub(crate) fn open(
        flags: &Flags,
        arguments: Vec<OsString>,
        waker: &Waker,
    ) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the event loop for signals and requests")?;
        let (shutdown, hangup) = {
            let _context = runtime.enter();
            (Shutdown::new()?, Hangup::new()?)
        };
        let (reloader, reloads) = Reloader::new(arguments, hangup, waker.clone());
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
        let (stop, stopped) = oneshot::channel();
        let (signalled, signal) = oneshot::channel();
        let server = Server {
            runtime,
            listeners,
            source: Source::new(sender, waker.clone()),
            shutdown,
            reloader,
            signalled,
            stopped,
            waker: waker.clone(),
        };
        Ok(Self {
            requests,
            signal,
            reloads,
            stop: Some(stop),
            thread: Some(server.start()?),
        })
    }

    /// The next request, if there is one.
    pub(crate) fn request(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// What was read because SIGHUP came.
    pub(crate) fn reload(&mut self) -> Option<Reload> {
        self.reloads.try_recv().ok()
    }

    /// The name of the signal to stop, once it has come.
    pub(crate) fn signal(&mut self) -> Option<&'static str> {
        self.signal.try_recv().ok()
    }
}

impl Drop for Serving {
    /// Waits for the thread, which removes the socket files.
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread for signals and requests failed");
        }
    }
}

impl Server {
    fn start(self) -> anyhow::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name("serve".into())
            .spawn(move || self.run())
            .context("cannot start the thread for signals and requests")
    }

    fn run(self) {
        let Self {
            runtime,
            listeners,
            source,
            mut shutdown,
            reloader,
            signalled,
            mut stopped,
            waker,
        } = self;
        runtime.block_on(async move {
            for (listener, access) in listeners {
                tokio::spawn(listener.serve(access, source.clone()));
            }
            tokio::spawn(reloader.run());
            if process::id() == 1 {
                tokio::spawn(reap_orphans());
            }
            tokio::select! {
                signal = shutdown.requested() => {
                    signalled.send(signal).unwrap_or_default();
                    waker.wake();
                }
                _ = &mut stopped => return,
            }
            // Sent or dropped: either ends it.
            stopped.await.unwrap_or_default();
        });
        // Whatever becomes of a file that is being read.
        runtime.shutdown_background();
    }
}
