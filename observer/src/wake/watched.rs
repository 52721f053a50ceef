//! Descriptors that the runtime watches.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A socket or a ring, known to the runtime by a descriptor of its own.
#[derive(Debug)]
pub(super) struct Watched {
    source: AsyncFd<OwnedFd>,
    /// It was readable when it was last polled.
    is_readable: bool,
}

impl Watched {
    pub(super) fn new(source: impl AsFd) -> io::Result<Self> {
        Ok(Self {
            source: watch(source.as_fd().try_clone_to_owned()?)?,
            is_readable: false,
        })
    }

    /// Whether it is readable; it stays so until a read finds nothing left.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        self.is_readable = match self.source.poll_read_ready(cx) {
            Poll::Ready(ready) => ready.map(|_| true)?,
            Poll::Pending => false,
        };
        Ok(self.is_readable)
    }

    /// Reads if it was readable; `read` says whether nothing is left.
    pub(super) fn read_if_readable(&mut self, read: impl FnOnce() -> bool) {
        if !std::mem::take(&mut self.is_readable) {
            return;
        }
        // The error is the "would block" below, or that another poll has taken
        // the readiness meanwhile.
        let _is_empty = self
            .source
            .try_io(Interest::READABLE, |_| {
                if read() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            })
            .is_err();
    }

    /// Ready once something has been written to it, each time anew.
    pub(super) fn poll_notified(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.source
            .poll_read_ready(cx)
            .map_ok(|mut guard| guard.clear_ready())
    }
}

/// A clock that ticks until it is dropped. The runtime's own has no finer
/// grain than a millisecond, and rounds up.
#[derive(Debug)]
pub(super) struct Ticks(AsyncFd<OwnedFd>);

impl Ticks {
    /// The first tick comes after `first`, the others at this interval.
    pub(super) fn start(first: Duration, interval: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let clock = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Zero would disarm it.
        let [it_value, it_interval] = [first, interval].map(|time| {
            time.max(Duration::from_nanos(1))
                .try_into()
                .map_err(io::Error::other)
        });
        let times = Itimerspec {
            it_interval: it_interval?,
            it_value: it_value?,
        };
        timerfd_settime(&clock, TimerfdTimerFlags::empty(), &times)?;
        watch(clock).map(Self)
    }

    /// Ready once for each tick, or for several that were missed.
    pub(super) fn poll_tick(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self(clock) = self;
        loop {
            let Ok(mut guard) = (match clock.poll_read_ready(cx) {
                Poll::Ready(guard) => guard,
                Poll::Pending => return Poll::Pending,
            }) else {
                return Poll::Ready(Err(io::Error::other("the clock cannot be waited for")));
            };
            match rustix::io::read(clock.get_ref(), &mut [0_u8; 8]) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

fn watch(source: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, stays so and stays the same until it is
    // dropped, and the `AsyncFd` owns it.
    let watched = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
    watched.map_err(|error| error.into_parts().1)
}
