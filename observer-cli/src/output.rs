//! An output: a bounded queue before stdout or stderr, so that a reader that
//! does not read delays nothing.
//!
//! Whoever fills the queue writes it as far as that needs no waiting: waking
//! another thread for each line costs several times what the line does. The
//! rest is left to a thread that may wait. Who holds an end of a pipe can delay
//! even such a write, by a buffer in memory that takes long to be had: the kernel
//! copies under the pipe's lock (`pipe_read`, `fs/pipe.c`).

mod direct;
mod shares;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use observer::Waker;
use tokio::sync::oneshot;

use self::direct::Direct;
use self::shares::{Charges, Shares};
use crate::stream::Stream;

pub(crate) use self::shares::{Plan, Rank, Sender};

/// Bytes that the thread takes at once, unless one text is longer: their room
/// is free again as soon as they are written.
const PIECE: usize = 64 << 10;

/// How long the thread pauses where there is no room on the disk.
const PAUSE: Duration = Duration::from_millis(200);

/// The observer's end of the queue.
#[derive(Clone)]
pub(super) struct Output(Arc<Shared>);

/// Whether the stream can no longer be written, and why.
pub(super) struct Failure(oneshot::Receiver<io::Error>);

impl Failure {
    /// Why the stream failed, if it did.
    pub(super) fn reason(&mut self) -> Option<io::Error> {
        let Self(failure) = self;
        match failure.try_recv() {
            Ok(error) => Some(error),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => {
                Some(io::Error::other("the thread that writes has ended"))
            }
        }
    }
}

struct Shared {
    /// Where the stream can be written without waiting.
    direct: Option<Direct>,
    /// Texts that found the queue full.
    lost: AtomicU64,
    queue: Mutex<Queue>,
    /// There is something for the thread to write.
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
    /// So many bytes of it have been written.
    written: usize,
    charges: Charges,
}

impl Output {
    /// Starts the thread; `plan` is how many bytes may wait. If the stream
    /// fails, the waker wakes who has to know.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        stream: Stream,
        plan: Plan,
        waker: Option<Waker>,
    ) -> anyhow::Result<(Self, Failure)> {
        let shared = Arc::new(Shared {
            direct: Direct::open(stream),
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
                if let Some(waker) = waker {
                    waker.wake();
                }
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

    /// Writes what is in the queue, or has the thread write what would have to
    /// wait.
    pub(super) fn flush(&self) {
        let Self(shared) = self;
        if !shared.write_directly() {
            shared.more.notify_one();
        }
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

    /// Writes as much as can be without waiting; whether that was all. A stream
    /// that fails is left to the thread, which reports it.
    fn write_directly(&self) -> bool {
        let Some(direct) = &self.direct else {
            return false;
        };
        let mut queue = self.lock();
        // What the thread has taken comes first.
        if queue.taken > 0 || queue.has_failed {
            return false;
        }
        while let Some(rest) = queue.next() {
            let Ok(written) = direct.write_some(rest) else {
                return false;
            };
            queue.note_written(written);
        }
        true
    }

    /// Writes what comes, until that fails for good. Where there is no room for
    /// it, it waits, and what finds the queue full meanwhile is counted.
    fn write_all(&self, stream: Stream) -> io::Error {
        let mut piece = Piece::default();
        let mut is_waiting = false;
        loop {
            self.take(&mut piece);
            let mut rest = piece.rest();
            while !rest.is_empty() {
                match stream.write_some(rest) {
                    Ok(written) => {
                        rest = rest.get(written..).unwrap_or_default();
                        self.lock().taken = rest.len();
                        self.less.notify_all();
                        if mem::take(&mut is_waiting) {
                            tracing::info!("{} can be written again", stream.name());
                        }
                    }
                    Err(error) if may_pass(&error) => {
                        if !mem::replace(&mut is_waiting, true) {
                            tracing::warn!("{} cannot be written for now: {error}", stream.name());
                        }
                        thread::sleep(PAUSE);
                    }
                    Err(error) => return error,
                }
            }
        }
    }

    /// Gives back a piece that was written, waits for another, and takes it.
    fn take(&self, piece: &mut Piece) {
        let mut queue = self.lock();
        queue.release(piece);
        let queue = self
            .more
            .wait_while(queue, |queue| queue.waiting.is_empty());
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = queue.waiting.pop_front() {
            queue.spare = mem::replace(piece, next);
        }
        queue.taken = piece.rest().len();
        queue.bytes = queue.bytes.saturating_sub(queue.taken);
    }

    fn fail(&self) {
        self.lock().has_failed = true;
        self.less.notify_all();
    }
}

/// Whether a write may succeed later: the disk is full, or the file is as long
/// as it may be.
fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded
    )
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
            self.waiting.push_back(mem::take(&mut self.spare));
        }
        if let Some(last) = self.waiting.back_mut() {
            self.shares.charge(text.len(), rank, &mut last.charges);
            last.text.extend_from_slice(text);
            self.bytes = self.bytes.saturating_add(text.len());
        }
        true
    }

    /// The oldest bytes that wait.
    fn next(&self) -> Option<&[u8]> {
        self.waiting.front().map(Piece::rest)
    }

    /// Notes that some of them were written.
    fn note_written(&mut self, written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        if let Some(piece) = self.waiting.front_mut() {
            piece.written = piece.written.saturating_add(written);
        }
        if self.next().is_some_and(<[u8]>::is_empty)
            && let Some(mut piece) = self.waiting.pop_front()
        {
            self.release(&mut piece);
            self.spare = piece;
        }
    }

    /// Gives back the room of a piece that was written.
    fn release(&mut self, piece: &mut Piece) {
        self.shares.release(&mut piece.charges);
        piece.text.clear();
        piece.written = 0;
    }

    fn length(&self) -> usize {
        self.bytes.saturating_add(self.taken)
    }
}

impl Piece {
    /// What of it has not been written.
    fn rest(&self) -> &[u8] {
        self.text.get(self.written..).unwrap_or_default()
    }
}
