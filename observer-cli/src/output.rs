//! An output: a bounded queue before stdout or stderr and a thread that writes,
//! so that a reader that does not read delays nothing.

mod shares;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::oneshot;

use self::shares::{Charges, Shares};
use crate::stream::Stream;

pub(crate) use self::shares::{Plan, Rank, Sender};

/// Bytes that the thread takes at once, unless one text is longer: their room
/// is free again as soon as they are written.
const PIECE: usize = 64 << 10;

/// The observer's end of the queue.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

/// Whether the stream can no longer be written, and why.
pub(super) struct Failure(oneshot::Receiver<io::Error>);

impl Failure {
    /// Waits until the stream fails. Not to be called again once it has.
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
    io::Error::other("the thread that writes has ended")
}

struct Shared {
    /// Texts that found the queue full.
    lost: AtomicU64,
    queue: Mutex<Queue>,
    /// There is something to write.
    more: Condvar,
    /// Something has been written, or nothing will be any more.
    less: Condvar,
}

struct Queue {
    shares: Shares,
    waiting: VecDeque<Piece>,
    /// Has been written, and is to be used again.
    spare: Piece,
    /// Bytes that wait.
    bytes: usize,
    /// Bytes that the thread has taken and not yet written.
    taken: usize,
    /// The stream has failed.
    has_failed: bool,
}

/// Some texts, and which shares they fill.
#[derive(Default)]
struct Piece {
    text: Vec<u8>,
    charges: Charges,
}

impl Output {
    /// Starts the thread; `plan` is how many bytes may wait.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(stream: Stream, plan: Plan) -> anyhow::Result<(Self, Failure)> {
        let shared = Arc::new(Shared {
            lost: AtomicU64::new(0),
            queue: Mutex::new(Queue::new(plan)),
            more: Condvar::new(),
            less: Condvar::new(),
        });
        let (failed, failure) = oneshot::channel();
        let queue = Arc::clone(&shared);
        let name = stream.name();
        thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let error = queue.write_all(stream);
                // At the end nobody waits for it any more.
                failed.send(error).unwrap_or_default();
                queue.fail();
            })
            .with_context(|| format!("cannot start the thread that writes to {name}"))?;
        Ok((Self(shared), Failure(failure)))
    }

    /// Puts a text into the queue, whole or not at all; if there is no room
    /// for it, it is counted as lost. Never waits for the reader.
    pub(super) fn push(&self, text: &[u8], rank: Rank) {
        let Self(shared) = self;
        if !shared.lock().push(text, rank) {
            shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes the thread: there is something to write.
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
                queue.length() > 0 && !queue.has_failed
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
    fn write_all(&self, stream: Stream) -> io::Error {
        let mut piece = Piece::default();
        loop {
            self.take(&mut piece);
            let mut rest = piece.text.as_slice();
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

    /// Gives back a piece that was written, waits for another, and takes it.
    fn take(&self, piece: &mut Piece) {
        piece.text.clear();
        let mut queue = self.lock();
        queue.shares.release(&mut piece.charges);
        let queue = self
            .more
            .wait_while(queue, |queue| queue.waiting.is_empty());
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = queue.waiting.pop_front() {
            queue.spare = std::mem::replace(piece, next);
        }
        queue.taken = piece.text.len();
        queue.bytes = queue.bytes.saturating_sub(queue.taken);
    }

    fn fail(&self) {
        self.lock().has_failed = true;
        self.less.notify_all();
    }
}

impl Queue {
    fn new(plan: Plan) -> Self {
        Self {
            shares: Shares::new(plan),
            waiting: VecDeque::new(),
            spare: Piece::default(),
            bytes: 0,
            taken: 0,
            has_failed: false,
        }
    }

    /// Whether there is room for a text; if so, it is in.
    fn push(&mut self, text: &[u8], rank: Rank) -> bool {
        if !self.shares.has_room(text.len(), rank) {
            return false;
        }
        let has_space = |last: &Piece| last.text.len().saturating_add(text.len()) <= PIECE;
        if !self.waiting.back().is_some_and(has_space) {
            self.waiting.push_back(std::mem::take(&mut self.spare));
        }
        if let Some(last) = self.waiting.back_mut() {
            self.shares.charge(text.len(), rank, &mut last.charges);
            last.text.extend_from_slice(text);
            self.bytes = self.bytes.saturating_add(text.len());
        }
        true
    }

    fn length(&self) -> usize {
        self.bytes.saturating_add(self.taken)
    }
}
