//! Text on its way to stdout or stderr: a bounded queue and a thread of its
//! own, so that a reader that does not read delays nothing.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::stream::Stream;

/// The observer's end of the queue.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

/// How much of the queue a text may fill: what anyone can send much of leaves
/// some room for what nobody can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Most of it.
    Common,
    /// All of it.
    Vital,
}

impl Rank {
    fn share(self, limit: usize) -> usize {
        match self {
            Self::Common => limit.saturating_sub(limit / 8),
            Self::Vital => limit,
        }
    }
}

/// Says that the stream cannot be written any more.
pub(super) struct Failure(oneshot::Receiver<io::Error>);

impl Failure {
    /// Waits until the stream fails. To be asked no more once it has.
    pub(super) async fn happened(&mut self) -> io::Error {
        let Self(failure) = self;
        failure.await.unwrap_or_else(|_| thread_gone())
    }

    /// Why the stream failed, if it did.
    pub(super) fn reason(&mut self) -> Option<io::Error> {
        let Self(failure) = self;
        match failure.try_recv() {
            Ok(error) => Some(error),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(thread_gone()),
        }
    }
}

fn thread_gone() -> io::Error {
    io::Error::other("the thread that writes is gone")
}

struct Shared {
    /// Bytes that wait for the reader at most.
    limit: usize,
    /// Texts that found the queue full.
    lost: AtomicU64,
    queue: Mutex<Queue>,
    /// There is something to write.
    more: Condvar,
    /// Something has been written, or nothing will be any more.
    less: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<u8>,
    /// Bytes that the thread has taken and not yet written.
    taken: usize,
    /// The stream has failed.
    is_dead: bool,
}

impl Output {
    /// Starts the thread; `limit` is how many bytes may wait.
    ///
    /// # Errors
    /// If there can be none.
    pub(super) fn start(stream: Stream, limit: usize) -> anyhow::Result<(Self, Failure)> {
        let shared = Arc::new(Shared {
            limit,
            lost: AtomicU64::new(0),
            queue: Mutex::default(),
            more: Condvar::new(),
            less: Condvar::new(),
        });
        let (failed, failure) = oneshot::channel();
        let queue = Arc::clone(&shared);
        let name = stream.name();
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let error = queue.write_for_ever(stream);
                // At the end nobody wants to know any more.
                failed.send(error).unwrap_or_default();
                queue.give_up();
            })
            .with_context(|| format!("cannot start the thread that writes to {name}"))?;
        Ok((Self(shared), Failure(failure)))
    }

    /// Leaves a text in the queue, whole or not at all; if it is full, as far
    /// as the text may fill it, the text is counted as lost. Never waits for
    /// the reader.
    pub(super) fn push(&self, text: &[u8], rank: Rank) {
        let Self(shared) = self;
        let mut queue = shared.lock();
        if queue.length().saturating_add(text.len()) > rank.share(shared.limit) {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            queue.waiting.extend_from_slice(text);
        }
    }

    /// Tells the thread that there is something to write.
    pub(super) fn flush(&self) {
        self.0.more.notify_one();
    }

    /// Texts lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, the stream fails, or time is up;
    /// returns how many bytes are left.
    pub(super) fn drain(&self, patience: Duration) -> usize {
        self.flush();
        let Self(shared) = self;
        let (queue, _) = shared
            .less
            .wait_timeout_while(shared.lock(), patience, |queue| {
                queue.length() > 0 && !queue.is_dead
            })
            .unwrap_or_else(PoisonError::into_inner);
        queue.length()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, until that fails.
    fn write_for_ever(&self, stream: Stream) -> io::Error {
        let mut taken = Vec::new();
        loop {
            self.take(&mut taken);
            let mut rest = taken.as_slice();
            while !rest.is_empty() {
                match stream.write_some(rest) {
                    Ok(written) => {
                        rest = rest.get(written..).unwrap_or_default();
                        self.lock().taken = rest.len();
                        self.less.notify_all();
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

    fn give_up(&self) {
        self.lock().is_dead = true;
        self.less.notify_all();
    }
}

impl Queue {
    fn length(&self) -> usize {
        self.waiting.len().saturating_add(self.taken)
    }
}
