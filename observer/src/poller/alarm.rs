//! A clock that wakes at a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

/// It is only ever set to an earlier time: each beat moves a deadline back, and
/// an alarm that rings too early once in a while costs less than one that is
/// set anew for each beat. Nor has a wait a time limit then, with a timer to
/// start and to cancel.
pub(super) struct Alarm {
    clock: OwnedFd,
    /// What it is set to, in nanoseconds of `CLOCK_MONOTONIC`.
    set_to: Option<u64>,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            clock: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            set_to: None,
        })
    }

    /// Sees to it that it rings by this moment; `None`: it need not.
    pub(super) fn ring_by(&mut self, due_ns: Option<u64>) -> io::Result<()> {
        let Some(due_ns) = due_ns else {
            return Ok(());
        };
        if self.set_to.is_some_and(|set_to| set_to <= due_ns) {
            return Ok(());
        }
        // Zero would disarm it.
        let due = Duration::from_nanos(due_ns.max(1));
        let times = Itimerspec {
            it_interval: Duration::ZERO.try_into().map_err(io::Error::other)?,
            it_value: due.try_into().map_err(io::Error::other)?,
        };
        timerfd_settime(&self.clock, TimerfdTimerFlags::ABSTIME, &times)?;
        self.set_to = Some(due_ns);
        Ok(())
    }

    /// Notes that it has rung. It need not be read: setting it anew begins
    /// anew (`timerfd_setup`, `fs/timerfd.c`).
    pub(super) fn note_rung(&mut self) {
        self.set_to = None;
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }
}
