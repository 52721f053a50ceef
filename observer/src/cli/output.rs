//! Events on their way to stdout: a bounded queue and a thread of its own, so
//! that a reader that does not read delays nothing.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::stdout::Stdout;

/// Bytes that wait for the reader at most.
const LIMIT: usize = 8 << 20;
/// How often a queue that empties is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The observer's end of the queue.
pub(super) struct Output {
    shared: Arc<Shared>,
    /// Events that found the queue full.
    lost: u64,
}

/// Says that stdout cannot be written any more.
pub(super) struct Failure(oneshot::Receiver<io::Error>);

impl Failure {
    /// Waits until stdout fails. To be asked no more once it has.
    pub(super) async fn happened(&mut self) -> io::Error {
        let Self(failure) = self;
        match failure.await {
            Ok(error) => error,
            Err(_) => io::Error::other("the thread that writes to stdout is gone"),
        }
    }
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    taken: usize,
}

impl Output {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be none.
    pub(super) fn start() -> anyhow::Result<(Self, Failure)> {
        let shared = Arc::new(Shared::default());
        let (failed, failure) = oneshot::channel();
        let queue = Arc::clone(&shared);
        thread::Builder::new()
            .name("stdout".into())
            .spawn(move || {
                let error = queue.write_for_ever();
                // At the end nobody wants to know any more.
                failed.send(error).unwrap_or_default();
            })
            .context("cannot start the thread that writes to stdout")?;
        Ok((Self { shared, lost: 0 }, Failure(failure)))
    }

    /// Leaves the text of one event in the queue; if it is full, the event is
    /// counted as lost. Never waits for the reader.
    pub(super) fn push(&mut self, event: &[u8]) {
        let mut queue = self.shared.lock();
        let length = queue.length().saturating_add(event.len());
        if length > LIMIT {
            self.lost = self.lost.saturating_add(1);
        } else {
            queue.waiting.extend_from_slice(event);
        }
    }

    /// Tells the thread that there is something to write.
    pub(super) fn flush(&self) {
        self.shared.more.notify_one();
    }

    /// Events lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Waits until everything is written; returns how many bytes are not, when
    /// time is up.
    ///
    /// # Errors
    /// If stdout fails.
    pub(super) async fn drain(
        &self,
        failure: &mut Failure,
        patience: Duration,
    ) -> io::Result<usize> {
        self.flush();
        let began = Instant::now();
        loop {
            let left = self.shared.lock().length();
            if left == 0 || began.elapsed() > patience {
                return Ok(left);
            }
            tokio::select! {
                error = failure.happened() => return Err(error),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until that fails.
    fn write_for_ever(&self) -> io::Error {
        let mut taken = Vec::new();
        loop {
            self.take(&mut taken);
            let mut rest = taken.as_slice();
            while !rest.is_empty() {
                match Stdout::write_some(rest) {
                    Ok(written) => {
                        rest = rest.get(written..).unwrap_or_default();
                        self.lock().taken = rest.len();
                    }
                    Err(error) => return error,
                }
            }
        }
    }

    /// Waits for bytes, and takes all there are.
    fn take(&self, taken: &mut Vec<u8>) {
        taken.clear();
        let queue = self
            .more
            .wait_while(self.lock(), |queue| queue.waiting.is_empty());
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut queue.waiting, taken);
        queue.taken = taken.len();
    }
}

impl Queue {
    fn length(&self) -> usize {
        self.waiting.len().saturating_add(self.taken)
    }
}
