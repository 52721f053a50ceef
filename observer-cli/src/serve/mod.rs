//! Answers questions about the observer: metrics for a scraper, and the
//! status for `observer status` and `observer top`.
//!
//! Answering has a thread and an event loop of its own. The observing thread
//! only fills in a [`DaemonStatus`] when one is asked for; it renders nothing
//! and waits for no reader. Questions wait in a queue of [`QUESTIONS`]; one
//! that finds it full is answered 503.

mod door;
mod flags;
mod http;
mod places;
mod source;

use std::thread::JoinHandle;

use crate::daemon_status::DaemonStatus;
use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use self::door::Door;
pub(super) use self::flags::{Flags, check};
use self::http::Access;
use self::source::Source;

/// How many questions wait for the observing thread at most.
const QUESTIONS: usize = 4;

/// Somebody wants to know how the observer is.
pub(super) struct Question {
    /// How many agents to tell of one by one.
    pub(super) rows: usize,
    pub(super) reply: oneshot::Sender<DaemonStatus>,
}

/// The open doors. They close when this is dropped.
pub(super) struct Serving {
    questions: mpsc::Receiver<Question>,
    /// Dropping it tells the thread to end.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Opens what the flags ask for.
    ///
    /// # Errors
    /// If an address or path cannot be had.
    pub(super) fn open(flags: &Flags) -> anyhow::Result<Self> {
        let (sender, questions) = mpsc::channel(QUESTIONS);
        let mut doors = Vec::new();
        let token = flags.token()?;
        for place in &flags.metrics {
            let access = Access::Metrics(token.clone());
            doors.push((Door::for_metrics(place)?, access));
        }
        if let Some(path) = &flags.control {
            doors.push((Door::for_control(path)?, Access::Control));
        }
        let (stop, thread) = if doors.is_empty() {
            (None, None)
        } else {
            let (stop, stopped) = oneshot::channel();
            let source = Source::new(sender);
            (Some(stop), Some(start(doors, source, stopped)?))
        };
        Ok(Self {
            questions,
            stop,
            thread,
        })
    }

    /// Waits for a question; for ever, if nobody can ask.
    pub(super) async fn asked(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
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
            tracing::warn!("the thread that answers questions failed");
        }
    }
}

fn start(
    doors: Vec<(Door, Access)>,
    source: Source,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop that answers questions")?;
    std::thread::Builder::new()
        .name("serve".into())
        .spawn(move || {
            runtime.block_on(async move {
                for (door, access) in doors {
                    tokio::spawn(door.keep(access, source.clone()));
                }
                // Whichever way the other end goes: it is over.
                stopped.await.unwrap_or_default();
            });
        })
        .context("cannot start the thread that answers questions")
}
