//! Ends an observer's wait from another thread.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Ends [`Observer::wait`](crate::Observer::wait) from another thread. Given to
/// [`Builder::waker`](crate::Builder::waker).
#[derive(Clone, Debug)]
pub struct Waker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    event: OwnedFd,
    was_used: AtomicBool,
}

impl Waker {
    /// A waker that wakes nobody yet.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Shared {
            event,
            was_used: AtomicBool::new(false),
        })))
    }

    /// Ends the wait, or if there is none, the next one.
    pub fn wake(&self) {
        let Self(shared) = self;
        shared.was_used.store(true, Ordering::Release);
        // It fails only where it was woken 2^64 times: nobody reads it, for each
        // write is an edge.
        rustix::io::write(&shared.event, &1_u64.to_ne_bytes()).unwrap_or_default();
    }

    /// Whether it was used since the last time that this was called. What its
    /// user did before that can be seen then. It takes no system call.
    #[must_use]
    pub fn was_used(&self) -> bool {
        let Self(shared) = self;
        shared.was_used.load(Ordering::Relaxed) && shared.was_used.swap(false, Ordering::Acquire)
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let Self(shared) = self;
        shared.event.as_fd()
    }
}
