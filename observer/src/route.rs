//! The ways in: from sockets and rings to settled senders.
//!
//! A route owns all that a beat goes through until its sender is settled: its
//! sockets, its program's rings, the join of the two, the frames that wait for
//! a record, and whom the program drops datagrams of. There are two,
//! [`UnixRoute`] and [`UdpRoute`], and the observer drives them alike:
//!
//! 1. *fill*: [`Route::receive`] takes a batch from each socket, then
//!    [`Route::fill`] reads the records that belong to it;
//! 2. *next*: [`Route::next`] gives each frame with its sender;
//! 3. *read as of*: [`Route::read_as_of`] says what may be concluded from there
//!    being no more;
//! 4. *wait*: [`Route::may_wait`] and [`Route::next_due`] say for how long.

mod backlog;
mod base;
mod coalescing;
mod join;
mod own_ring;
mod parked;
mod reception;
mod settled;
mod socket_queue;
mod still_dropped;
mod throttled;
mod udp;
mod unix;
mod window;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;

use observer_common::frame::FRAME_LEN;
use observer_events::event::Attestation;
use observer_events::{Evidence, Notice};

pub(crate) use self::base::{Base, RouteCounts};
#[cfg(not(feature = "internals"))]
pub(crate) use self::join::Join;
#[cfg(feature = "internals")]
pub use self::join::{Hint, Join, JoinCounts, Otherwise};
pub(crate) use self::parked::{PARK_NS, PARK_RETRY_NS};
pub(crate) use self::udp::{UdpRoute, UdpSource};
pub(crate) use self::unix::UnixRoute;
use crate::clock::{Clock, Now};
use crate::judge::Trust;

/// A way in.
pub(crate) trait Route: Send {
    /// What both ways in have.
    fn base(&self) -> &Base;

    /// The same, to change it.
    fn base_mut(&mut self) -> &mut Base;

    /// The sockets, in a fixed order.
    fn sockets(&self) -> Vec<BorrowedFd<'_>>;

    /// Finds out whether each socket can be received from, before any is.
    ///
    /// # Errors
    /// Which cannot, and why.
    fn try_receive(&mut self) -> Result<(), (String, io::Error)>;

    /// Whether a socket cannot be received from, and is tried again now and then.
    fn is_deaf(&self) -> bool;

    /// Which, and why.
    fn why_deaf(&self) -> Option<String>;

    /// When a socket is to be received from although nothing comes, in
    /// nanoseconds of `CLOCK_MONOTONIC`.
    fn owed_ns(&self) -> Option<u64>;

    /// Why datagrams are received one by one, if they are.
    fn one_by_one(&self) -> Option<String>;

    /// Takes a batch from one socket; whether that was all it had, or it is not
    /// to be received from for a while. What the ring delivered before has its
    /// turn before.
    fn receive(&mut self, socket: usize) -> bool;

    /// Takes a batch from each socket that has not had its turn since the
    /// route was last filled, if `is_due` says so, the route itself has to have
    /// them read first, or the socket is owed a receive.
    fn receive_rest(&mut self, is_due: bool);

    /// How long the oldest datagram waited of what was received since the route
    /// was last filled, nanoseconds.
    fn waited_ns(&self, clock: &Clock, now: Now) -> Option<u64>;

    /// Reads the records of what was received, and what the ring delivers by
    /// itself. `is_due`: someone is to be judged by there being no more.
    fn fill(&mut self, now: Now, is_due: bool);

    /// The next frame whose sender is settled, or a receive that failed.
    fn next(&mut self) -> Option<io::Result<Delivery>>;

    /// The last moment of which it is known that all that had been sent until
    /// then has been read, in attended nanoseconds.
    fn read_as_of(&self) -> u64;

    /// The next attempt to send of which nothing arrived: a send that failed, or
    /// waits for room, or was one too many. To be asked for once there is no
    /// next frame.
    fn next_attempt(&mut self) -> Option<Delivery>;

    /// The last moment of which it is known what became of all attempts until
    /// then, in attended nanoseconds.
    fn settled_as_of(&self) -> u64;

    /// Whether something that was not read yet when this pass began was sent
    /// from one moment to another, both in nanoseconds since the start.
    fn was_sent_within(&self, clock: &Clock, now: Now, moments: &RangeInclusive<u64>) -> bool;

    /// Whether a ring holds more that can be read without waiting.
    fn has_more(&self) -> bool {
        false
    }

    /// Whether there is nothing to be read from a ring now. If so, its program
    /// has been asked to wake the observer.
    fn may_wait(&self) -> bool {
        true
    }

    /// How many frames wait for their records.
    fn parked(&self) -> usize;

    /// Whether a ring holds what is still to be read, or to be written.
    fn has_unread(&self) -> bool;

    /// Has a ring that is looked at by the clock looked at now.
    fn expedite(&mut self) {}

    /// When something is to be done without further input, in nanoseconds since
    /// the start.
    fn next_due(&self, now: Now) -> Option<u64> {
        self.base_due(now)
    }

    /// The same as far as it is alike for all routes.
    fn base_due(&self, now: Now) -> Option<u64> {
        let retry = (self.parked() > 0 || self.has_unread())
            .then(|| now.observer_ns.saturating_add(PARK_RETRY_NS));
        let counted = self.base().throttled.next_due();
        retry.into_iter().chain(counted).min()
    }

    /// A sender whose datagrams the program dropped, if one is to be reported
    /// now, or any with `all`.
    fn next_throttled(&mut self, now: Now, all: bool) -> Option<Notice> {
        self.base_mut().next_throttled(now, all)
    }
}

/// A frame whose sender is settled: all that will be known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) frame: [u8; FRAME_LEN],
    /// What it is worth without a record.
    pub(crate) trust: Trust,
    /// The kernel's record of who sent it.
    pub(crate) sender: Option<Attestation>,
    /// Where it came from, if by UDP.
    pub(crate) source: Option<SocketAddr>,
    /// The sender attached control data.
    pub(crate) truncated: bool,
    pub(crate) received: Now,
}

impl Delivery {
    /// What is known beside the event that it becomes.
    pub(crate) fn evidence(&self) -> Evidence {
        Evidence::new(self.sender, self.source, Some(self.frame))
    }
}

/// All routes of an observer.
pub(crate) struct Routes {
    pub(crate) unix: UnixRoute,
    /// Without a socket where there is no listener.
    pub(crate) udp: UdpRoute,
}

impl Routes {
    /// How many there are at most.
    pub(crate) const COUNT: usize = 2;

    /// Each that is in use.
    pub(crate) fn each(&self) -> impl Iterator<Item = &dyn Route> {
        let Self { unix, udp } = self;
        let used = Self::used(udp);
        let all: [&dyn Route; Self::COUNT] = [unix, udp];
        all.into_iter().take(used)
    }

    /// Each that is in use, to change it.
    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut dyn Route> {
        let Self { unix, udp } = self;
        let used = Self::used(udp);
        let all: [&mut dyn Route; Self::COUNT] = [unix, udp];
        all.into_iter().take(used)
    }

    /// Finds out whether each socket can be received from.
    ///
    /// # Errors
    /// Which cannot, and why.
    pub(crate) fn try_receive(&mut self) -> Result<(), (String, io::Error)> {
        self.each_mut().try_for_each(Route::try_receive)
    }

    fn used(udp: &UdpRoute) -> usize {
        if udp.is_used() { Self::COUNT } else { 1 }
    }
}
