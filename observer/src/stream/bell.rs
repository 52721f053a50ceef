//! What tells the runtime to look at the ring.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    task::{Context, Poll},
    time::Duration,
};

use rustix::{
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

/// The ring's own announcement.
pub(super) struct Bell(AsyncFd<OwnedFd>);

impl Bell {
    pub(super) fn new(ring: BorrowedFd<'_>) -> io::Result<Self> {
        watch(ring.try_clone_to_owned()?).map(Self)
    }

    /// Ready once the program has rung, each time anew.
    pub(super) fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self(ring) = self;
        ring.poll_read_ready(cx)
            .map_ok(|mut guard| guard.clear_ready())
    }
}

/// A clock that ticks until it is dropped. The runtime's own has no finer
/// grain than a millisecond, and rounds up.
pub(super) struct Clock(AsyncFd<OwnedFd>);

impl Clock {
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
