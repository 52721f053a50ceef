//! What an observer waits for: its sockets, its rings, other threads, and the
//! time. All of it is one `epoll` descriptor, for whoever waits in whatever way.
//!
//! It reports edges (`EPOLLET`): that something came, and not that something is
//! still there. So which sockets may hold more is noted here, and a socket that
//! was read until it was empty is not looked at again before something comes.
//! Nothing is forgotten in between: the kernel puts a source back on its list
//! for each datagram (`ep_poll_callback`, `fs/eventpoll.c`, 6.1 to 6.18), and
//! checks only when it is asked whether that is there still.

mod alarm;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use self::alarm::Alarm;
use crate::engine::Engine;
use crate::route::Routes;
use crate::waker::Waker;

/// Events that one system call takes at most. The kernel keeps the others.
const EVENTS: usize = 8;

/// All that wakes an observer.
pub(crate) struct Poller {
    watched: Watched,
    /// Which sockets of each route may hold something.
    readable: [Vec<bool>; Routes::COUNT],
    alarm: Alarm,
    /// A [`Waker`] was used and no wait has ended by it.
    is_woken: bool,
}

/// What the kernel watches.
struct Watched {
    epoll: OwnedFd,
    /// What each number stands for that the kernel gives back.
    sources: Vec<Source>,
}

/// Something that wakes.
#[derive(Clone, Copy, Debug)]
enum Source {
    Socket { route: usize, socket: usize },
    Ring,
    Alarm,
    Waker,
}

impl Poller {
    /// Begins to watch all sources of an engine, which it has to outlive.
    ///
    /// # Errors
    /// If there can be no more descriptors.
    pub(crate) fn new(engine: &Engine, waker: Option<&Waker>) -> io::Result<Self> {
        let alarm = Alarm::new()?;
        let mut watched = Watched::new()?;
        watched.add(alarm.as_fd(), Source::Alarm)?;
        let mut readable = [const { Vec::new() }; Routes::COUNT];
        for (route, each) in engine.routes.each().enumerate() {
            for (socket, fd) in each.sockets().into_iter().enumerate() {
                watched.add(fd, Source::Socket { route, socket })?;
                if let Some(readable) = readable.get_mut(route) {
                    readable.push(false);
                }
            }
            for ring in each.base().attestor.rings() {
                watched.add(ring.as_fd(), Source::Ring)?;
            }
        }
        if let Some(waker) = waker {
            watched.add(waker.as_fd(), Source::Waker)?;
        }
        Ok(Self {
            watched,
            readable,
            alarm,
            is_woken: false,
        })
    }

    /// Sees to it that a wait ends by this moment, in nanoseconds of
    /// `CLOCK_MONOTONIC`. It may end earlier.
    ///
    /// # Errors
    /// If the clock cannot be set.
    pub(crate) fn wake_by(&mut self, due_ns: Option<u64>) -> io::Result<()> {
        self.alarm.ring_by(due_ns)
    }

    /// Waits until something comes; returns whether that is more than a
    /// [`Waker`].
    ///
    /// # Errors
    /// What `epoll_wait` fails with, an interrupting signal included.
    pub(crate) fn wait(&mut self) -> io::Result<bool> {
        let mut is_something = false;
        if !self.is_woken {
            (is_something, _) = self.take_events(None)?;
        }
        self.is_woken = false;
        Ok(is_something)
    }

    /// The same for what has come already.
    ///
    /// # Errors
    /// As [`Poller::wait`].
    pub(crate) fn look(&mut self) -> io::Result<bool> {
        let mut is_something = false;
        loop {
            let (one, is_all) = self.take_events(Some(&Timespec::default()))?;
            is_something |= one;
            if is_all {
                return Ok(is_something);
            }
        }
    }

    /// Whether there is something among the next events, and whether they were
    /// all.
    fn take_events(&mut self, timeout: Option<&Timespec>) -> io::Result<(bool, bool)> {
        let mut events = [const { NOTHING }; EVENTS];
        let count = epoll::wait(&self.watched.epoll, &mut events[..], timeout)?;
        let mut is_something = false;
        for event in events.iter().take(count) {
            is_something |= self.note(event.data);
        }
        Ok((is_something, count < EVENTS))
    }

    fn note(&mut self, data: EventData) -> bool {
        let number = usize::try_from(data.u64()).ok();
        match number.and_then(|number| self.watched.sources.get(number)) {
            Some(&Source::Socket { route, socket }) => {
                let sockets = self.readable.get_mut(route);
                if let Some(is_readable) = sockets.and_then(|sockets| sockets.get_mut(socket)) {
                    *is_readable = true;
                }
                true
            }
            Some(Source::Alarm) => {
                self.alarm.note_rung();
                true
            }
            Some(Source::Ring) => true,
            Some(Source::Waker) => {
                self.is_woken = true;
                false
            }
            None => false,
        }
    }

    /// Whether a socket may hold something.
    pub(crate) fn has_readable(&self) -> bool {
        self.readable
            .iter()
            .flatten()
            .any(|&is_readable| is_readable)
    }

    /// Receives once from each socket that may hold something. A datagram that
    /// comes after that is an edge of its own.
    pub(crate) fn receive(&mut self, engine: &mut Engine) {
        for (sockets, route) in self.readable.iter_mut().zip(engine.routes.each_mut()) {
            for (socket, is_readable) in sockets.iter_mut().enumerate() {
                if *is_readable {
                    *is_readable = !route.receive(socket);
                }
            }
        }
    }
}

impl Watched {
    fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sources: Vec::new(),
        })
    }

    fn add(&mut self, source: BorrowedFd<'_>, what: Source) -> io::Result<()> {
        let number = EventData::new_u64(self.sources.len() as u64);
        self.sources.push(what);
        epoll::add(&self.epoll, source, number, EventFlags::IN | EventFlags::ET)?;
        Ok(())
    }
}

const NOTHING: Event = Event {
    flags: EventFlags::empty(),
    data: EventData::new_u64(0),
};

/// Readable when a wait would end.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.epoll.as_fd()
    }
}
