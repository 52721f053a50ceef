//! Reads the configuration again when SIGHUP comes.

use std::ffi::OsString;
use std::sync::Arc;

use observer::Waker;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::config::{Loaded, Refusal, load};
use crate::daemon::Reload;
use crate::signals::Hangup;

/// Reads for the observing thread, which waits for no file. Nor do those who
/// request something: the file may be on a disk that does not answer.
pub(super) struct Reloader {
    /// Those of this process.
    arguments: Arc<[OsString]>,
    hangup: Hangup,
    reloads: mpsc::Sender<Reload>,
    waker: Waker,
}

impl Reloader {
    /// One that wakes the observing thread for each that it sends.
    pub(super) fn new(
        arguments: Vec<OsString>,
        hangup: Hangup,
        waker: Waker,
    ) -> (Self, mpsc::Receiver<Reload>) {
        let (sender, receiver) = mpsc::channel(1);
        let reloader = Self {
            arguments: arguments.into(),
            hangup,
            reloads: sender,
            waker,
        };
        (reloader, receiver)
    }

    /// Goes on for as long as somebody takes what is read. A signal that comes
    /// while what was read before is still to be taken is served after that, so
    /// that the last is not missed.
    pub(super) async fn run(mut self) {
        while self.hangup.came().await {
            let Ok(room) = self.reloads.reserve().await else {
                return;
            };
            let arguments = Arc::clone(&self.arguments);
            let read = spawn_blocking(move || read(&arguments)).await;
            room.send(read.unwrap_or_else(|error| Err(error.to_string())));
            self.waker.wake();
        }
    }
}

fn read(arguments: &[OsString]) -> Reload {
    match load(arguments) {
        Ok(Loaded { effective, .. }) if effective.file.is_none() => {
            Err("the observer was started without --config".into())
        }
        Ok(loaded) => Ok(Box::new(loaded)),
        Err(Refusal::Other(reason)) => Err(reason),
        Err(Refusal::Usage(error)) => Err(error.to_string()),
    }
}
