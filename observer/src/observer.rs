//! The observer, as a library's user sees it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_core::Stream;
use observer_events::agents::Agent;
use observer_events::counters::{Counters, count};
use observer_events::event::{Event, Via};
use observer_events::snapshot::Snapshot;
use observer_events::{Observation, Report};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::ebpf::Ring;
use crate::engine::Engine;
use crate::route::{self, PARK_RETRY_NS, Route as _, Routes};
use crate::wake::Wake;

/// How many batches without a report are worked off before other tasks of the
/// runtime get their turn.
const BUDGET: usize = 16;

/// Says which agents are alive, which have stalled, and which beats were
/// forged.
///
/// Drive it with [`Observer::observe`] (or [`Observer::poll`], for events alone)
/// and [`Observer::wait`], or as a [`Stream`](futures_core::Stream) in a tokio
/// runtime.
pub struct Observer {
    engine: Engine,
    wake: Wake,
    /// Notices that [`Observer::poll`] passed over.
    notices_skipped: u64,
    /// [`Observer::drain`] has reported what was counted until then.
    is_drained: bool,
}

impl Observer {
    pub(crate) fn new(engine: Engine) -> Self {
        Self {
            engine,
            wake: Wake::default(),
            notices_skipped: 0,
            is_drained: false,
        }
    }

    /// The next event or notice, if there is one now; never blocks.
    ///
    /// A stall is judged only after all waiting input has been read.
    pub fn observe(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.engine.next_at_hand() {
                return Some(report);
            }
            if self.engine.receive() == 0 {
                return self.engine.next_at_hand();
            }
        }
    }

    /// The next event, if there is one now; never blocks. Notices are passed
    /// over, and counted ([`Observer::notices_skipped`]).
    pub fn poll(&mut self) -> Option<Event> {
        loop {
            match self.observe()? {
                Report::Observation(Observation { event, .. }) => return Some(event),
                Report::Notice(_) => count(&mut self.notices_skipped),
            }
        }
    }

    /// How many notices [`Observer::poll`] has passed over.
    #[must_use]
    pub fn notices_skipped(&self) -> u64 {
        self.notices_skipped
    }

    /// The next report of what had been sent when this was first called; `None`
    /// once there is no more, or the time has come. To be called at the end: a
    /// sender that never pauses must not keep the observer alive.
    ///
    /// # Errors
    /// As [`Observer::wait`].
    pub fn drain(&mut self, until: Instant) -> io::Result<Option<Report>> {
        while !self.is_drained && Instant::now() < until {
            self.engine.expedite();
            if let Some(report) = self.observe() {
                return Ok(Some(report));
            }
            if self.engine.parked() == 0 {
                break;
            }
            self.wait(Some(Duration::from_nanos(PARK_RETRY_NS)))?;
        }
        if !self.is_drained {
            self.is_drained = true;
            self.engine.finish();
        }
        Ok(self.engine.next_ready())
    }

    /// Blocks until there may be something for [`Observer::observe`] to report,
    /// or the time is up. It may return early.
    ///
    /// # Errors
    /// What `ppoll` fails with, an interrupting signal included.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let now = self.engine.start_pass();
        let mut timeout = timeout;
        let mut sources = Vec::new();
        for route in self.engine.routes.each() {
            sources.extend(route.sockets());
            match route.wake(now) {
                route::Wake::Now => return Ok(()),
                route::Wake::Clock { until, .. } => timeout = earlier(timeout, Some(until)),
                route::Wake::Rings => {
                    sources.extend(route.rings_to_poll().into_iter().map(Ring::as_fd));
                }
            }
            // Such a ring cannot be waited for.
            if route.base().attestor.rings().any(Ring::has_busy) {
                timeout = earlier(timeout, Some(Duration::from_nanos(PARK_RETRY_NS)));
            }
        }
        // After the rings have been chosen: what is in one that was left out is due.
        let timeout = earlier(timeout, self.engine.until_due());
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut sources: Vec<_> = sources
            .into_iter()
            .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
            .collect();
        poll(&mut sources, timeout.as_ref())?;
        Ok(())
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.engine.counters()
    }

    /// The state at this moment. It takes some system calls, to read what the
    /// kernel counts, and the same time however many agents there are.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }

    /// The agents, those first that an operator has to look at: the stalled,
    /// the last to stall first, then the others by the age of their last beat,
    /// the oldest first.
    pub fn agents(&self) -> impl Iterator<Item = Agent> + '_ {
        self.engine.agents()
    }

    /// By which means senders on the Unix socket are known.
    #[must_use]
    pub fn via(&self) -> Via {
        self.routes().unix.base().attestor.via()
    }

    /// Why a weaker means than the strongest is in use there.
    #[must_use]
    pub fn degraded(&self) -> Option<&str> {
        self.routes().unix.base().attestor.degraded()
    }

    /// By which means local senders to UDP listeners are known;
    /// [`Via::Scm`]: not at all.
    #[must_use]
    pub fn udp_via(&self) -> Via {
        self.routes().udp.base().attestor.via()
    }

    /// Why a weaker means than the strongest is in use there.
    #[must_use]
    pub fn udp_degraded(&self) -> Option<&str> {
        self.routes().udp.base().attestor.degraded()
    }

    /// What the UDP listeners are bound to, in the order in which they were
    /// asked for, trusted ones first.
    pub fn udp_listeners(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.routes().udp.listeners()
    }

    /// Inode of the observer's own pid namespace.
    #[must_use]
    pub fn pid_ns_inode(&self) -> Option<u64> {
        self.engine.pid_ns_inode()
    }

    fn routes(&self) -> &Routes {
        &self.engine.routes
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("via", &self.via())
            .field("udp_via", &self.udp_via())
            .field("notices_skipped", &self.notices_skipped)
            .finish_non_exhaustive()
    }
}

/// The stream never ends. A receive that fails is an
/// [`Event::Io`](observer_events::Event::Io) in it.
///
/// # Panics
/// Outside of a tokio runtime that drives I/O and time.
impl Stream for Observer {
    type Item = Report;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Report>> {
        let Self { engine, wake, .. } = self.get_mut();
        for _ in 0..BUDGET {
            if let Some(report) = engine.next_at_hand() {
                return Poll::Ready(Some(report));
            }
            match wake.poll_pass(engine, cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(engine.io_error(error))),
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The shorter of two times; `None`: without end.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}
