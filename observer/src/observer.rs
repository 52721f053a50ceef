//! The observer, as a library's user sees it.

mod change;

use std::fmt;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use observer_events::agents::Agent;
use observer_events::counters::{Counters, count};
use observer_events::event::{Event, Via};
use observer_events::snapshot::Snapshot;
use observer_events::{Observation, Report};

use crate::builder::IdLists;
use crate::clock::monotonic_ns;
use crate::engine::Engine;
use crate::poller::Poller;
use crate::route::{PARK_RETRY_NS, Route as _, Routes};
use crate::stream::Registered;
use crate::waker::Waker;

/// How many passes in a row may bring nothing to report, as in a flood of what
/// is no beat, before the caller gets its turn.
pub(crate) const MOST_PASSES: usize = 16;

/// How often the caller has it looked in vain whether something has come, before
/// it gets its turn.
const MOST_LOOKS: usize = 4;

/// Says which agents are alive, which have stalled, and which beats were
/// forged.
///
/// Drive it with [`Observer::observe`] (or [`Observer::poll`], for events alone)
/// and [`Observer::wait`], or as a [`Stream`](futures_core::Stream) in a tokio
/// runtime.
pub struct Observer {
    pub(crate) engine: Engine,
    pub(crate) poller: Poller,
    /// Something has come, or is due, that no pass has been made for.
    pub(crate) is_pass_due: bool,
    /// Once what is at hand has been reported there is nothing else, as far as
    /// was known when [`Observer::wait`] returned or nothing was found.
    has_looked: bool,
    /// With a tokio runtime, once the stream has been polled.
    pub(crate) registered: Option<Registered>,
    /// Notices that [`Observer::poll`] passed over.
    notices_skipped: u64,
    /// [`Observer::drain`] has reported what was counted until then.
    is_drained: bool,
    /// Which lists of senders can be kept.
    id_lists: IdLists,
}

impl Observer {
    pub(crate) fn new(
        engine: Engine,
        id_lists: IdLists,
        waker: Option<&Waker>,
    ) -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new(&engine, waker)?,
            engine,
            is_pass_due: false,
            has_looked: false,
            registered: None,
            notices_skipped: 0,
            is_drained: false,
            id_lists,
        })
    }

    /// The next event or notice, if there is one now; never blocks.
    ///
    /// A stall is judged only after all waiting input has been read. After
    /// [`Observer::wait`] it reports what was waited for, and takes no system
    /// call more to find that there is nothing else. In a flood of what is not
    /// reported it returns `None` now and then, so that the caller has its turn;
    /// a wait does not block then.
    pub fn observe(&mut self) -> Option<Report> {
        for _ in 0..MOST_LOOKS {
            if let Some(report) = self.next_at_hand() {
                return Some(report);
            }
            if self.is_pass_due {
                break;
            }
            if mem::take(&mut self.has_looked) {
                return None;
            }
            self.look();
        }
        // What is left makes the descriptor readable at once.
        if let Err(error) = self.poller.wake_by(Some(0)) {
            self.engine.note_io_error(error);
        }
        None
    }

    /// The next report of what is known to have come, unless that takes too
    /// long.
    pub(crate) fn next_at_hand(&mut self) -> Option<Report> {
        for _ in 0..MOST_PASSES {
            if let Some(report) = self.engine.next_at_hand() {
                return Some(report);
            }
            if !mem::take(&mut self.is_pass_due) {
                return None;
            }
            self.pass();
        }
        self.engine.next_at_hand()
    }

    /// Receives once from each socket that may hold something.
    fn pass(&mut self) {
        let now = self.engine.start_pass();
        self.poller.receive(&mut self.engine);
        self.engine.finish_pass(now);
        self.is_pass_due = self.poller.has_readable() || self.engine.has_more();
        // A socket that is never empty must not hide the others.
        if self.is_pass_due
            && let Err(error) = self.take_events()
        {
            self.engine.note_io_error(error);
        }
    }

    /// Finds out whether something has come, or is due. If not, whatever comes
    /// makes the descriptor readable from now on.
    fn look(&mut self) {
        let looked = self.take_events().and_then(|()| self.prepare_wait(None));
        if let Err(error) = looked {
            self.engine.note_io_error(error);
        }
        let due = self.engine.next_due();
        self.is_pass_due |= due.is_some_and(|due| due <= monotonic_ns());
        self.has_looked = !self.is_pass_due;
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
            // Also of what wakes nobody.
            self.take_events()?;
            self.is_pass_due = true;
            if let Some(report) = self.observe() {
                return Ok(Some(report));
            }
            if !self.is_pass_due && self.engine.parked() == 0 {
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
    /// the time is up, or a [`Waker`] wakes it. It may return early. To be called
    /// once there is nothing left to observe.
    ///
    /// # Errors
    /// What `epoll_wait` fails with, an interrupting signal included.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.has_looked = true;
        if self.prepare_wait(timeout)? {
            self.is_pass_due = self.poller.wait()?;
        }
        Ok(())
    }

    /// Sees to it that whatever has to ends a wait; false if there is something
    /// already.
    pub(crate) fn prepare_wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        if !self.engine.may_wait() {
            // The sockets are looked at as well: a pass that does not see what
            // has waited in them while the observer was away takes that for
            // time in which it was there.
            self.is_pass_due = true;
            self.take_events()?;
        }
        if self.is_pass_due {
            return Ok(false);
        }
        let end = timeout.map(|timeout| {
            let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
            monotonic_ns().saturating_add(timeout)
        });
        let due = self.engine.next_due();
        self.poller.wake_by(due.into_iter().chain(end).min())?;
        Ok(true)
    }

    /// Notes that something has come.
    pub(crate) fn take_events(&mut self) -> io::Result<()> {
        self.is_pass_due |= self.poller.look()?;
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
    /// the last to stall first, then the others by the age of their last sign of
    /// life, the oldest first.
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

/// Readable once there may be something to observe, if [`Observer::observe`] found
/// nothing the last time, and no [`Observer::wait`] came before: an event loop of
/// another kind waits for it instead.
impl AsFd for Observer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
