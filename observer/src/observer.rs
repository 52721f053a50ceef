//! The observer's loop: receive, join, judge, track.

mod backlog;
mod conclude;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use observer_common::{frame::FRAME_LEN, loss::Loss};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::backlog::Backlog;
use crate::{
    attention::{AWAY_NS, Attention, Now},
    attest::{Attestor, Finding, Pending},
    builder::Builder,
    counters::{Counters, count},
    event::{Event, Via},
    judge::Policy,
    tracker::Tracker,
    transport::{BoundSocket, Credentials, Datagram, Payload, Receiver},
};

/// How long a frame waits for a record that is still being written,
/// nanoseconds. The writer is a sender that was preempted within some hundred
/// instructions; after this its record counts as lost.
const PARK_NS: u64 = 100_000_000;

/// An absence that an operator should hear of, nanoseconds. Shorter ones are
/// counted.
const WORTH_A_WARNING_NS: u64 = 500_000_000;

/// How often the ring is looked at while a frame waits, nanoseconds.
const PARK_RETRY_NS: u64 = 1_000_000;

/// How many frames wait at most; beyond it the oldest is decided at once.
const MAX_PARKED: usize = 1024;

/// Tells which agents are alive, which went silent, and which beats were
/// lies.
///
/// Drive it with [`Observer::poll`] and [`Observer::wait`], or as a
/// [`Stream`](futures_core::Stream) in a tokio runtime.
pub struct Observer {
    socket: BoundSocket,
    receiver: Receiver,
    /// How much of the last batch is still to be judged.
    unread: std::ops::Range<usize>,
    attestor: Attestor,
    policy: Policy,
    tracker: Tracker,
    attention: Attention,
    /// The moment of the last pass: what was received in it is dated so.
    now: Now,
    parked: VecDeque<Parked>,
    ready: VecDeque<Event>,
    backlog: Backlog,
    counters: Counters,
    pub(crate) wake: crate::stream::Wake,
}

/// A frame whose record is still being written.
struct Parked {
    frame: [u8; FRAME_LEN],
    credentials: Option<Credentials>,
    truncated: bool,
    received: Now,
    pending: Pending,
}

impl Observer {
    /// Starts to describe an observer.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        socket: BoundSocket,
        attestor: Attestor,
        policy: Policy,
        tracker: Tracker,
    ) -> Self {
        Self {
            socket,
            receiver: Receiver::new(),
            unread: 0..0,
            attestor,
            policy,
            tracker,
            attention: Attention::start(),
            now: Now::default(),
            parked: VecDeque::new(),
            ready: VecDeque::new(),
            backlog: Backlog::default(),
            counters: Counters::default(),
            wake: crate::stream::Wake::default(),
        }
    }

    /// The next event, if there is one now; never blocks.
    ///
    /// Silence is judged only after all waiting input has been read.
    pub fn poll(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.next_at_hand() {
                return Some(event);
            }
            if self.receive() == 0 {
                return self.next_at_hand();
            }
        }
    }

    /// Blocks until there may be something for [`Observer::poll`] to say, or
    /// the time is up. It may return early.
    ///
    /// # Errors
    /// What `ppoll` fails with, an interrupting signal included.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let due = self.until_due();
        let timeout = match (timeout, due) {
            (Some(timeout), Some(due)) => Some(timeout.min(due)),
            (timeout, due) => timeout.or(due),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            timeout.as_ref(),
        )?;
        Ok(())
    }

    /// How long until something is to be judged without further input.
    pub(crate) fn until_due(&self) -> Option<Duration> {
        let now = self.attention.now();
        let silence = self
            .tracker
            .next_deadline()
            .map(|deadline| deadline.saturating_sub(now.attended_ns));
        let parked = (!self.parked.is_empty()).then_some(PARK_RETRY_NS);
        [silence, parked]
            .into_iter()
            .flatten()
            .min()
            .map(Duration::from_nanos)
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let joined = self.attestor.join_counts();
        let tracked = self.tracker.counts();
        Counters {
            wrong_length: self
                .counters
                .wrong_length
                .saturating_add(self.attestor.loss(Loss::WrongLength)),
            stale_nonces: tracked.stale_nonces,
            refused_full: tracked.refused_full,
            evicted_silent: tracked.evicted_silent,
            ring_full: self.attestor.loss(Loss::RingFull),
            unreadable: self.attestor.loss(Loss::Unreadable),
            records_malformed: self.attestor.malformed(),
            records_expired: joined.expired,
            records_displaced: joined.displaced,
            away_ns: self.attention.away_ns(),
            ..self.counters
        }
    }

    /// By which means senders are known.
    #[must_use]
    pub fn via(&self) -> Via {
        self.attestor.via()
    }

    /// Why a weaker means than the strongest is in use.
    #[must_use]
    pub fn degraded(&self) -> Option<&str> {
        self.attestor.fallback()
    }

    /// Inode of the observer's own pid namespace.
    #[must_use]
    pub fn pid_ns_inode(&self) -> Option<u64> {
        self.policy.observer_ns_inode
    }

    /// How many agents are known, silent ones included.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.tracker.len()
    }

    /// The next event that needs no further input.
    pub(crate) fn next_at_hand(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if let Some(index) = self.unread.next() {
                self.take(index);
                continue;
            }
            if self.take_parked() {
                continue;
            }
            return self.next_silence();
        }
    }

    /// Receives a batch and reads the records that belong to it; returns how
    /// many datagrams there were.
    pub(crate) fn receive(&mut self) -> usize {
        let now = self.attention.now();
        let received = match self.receiver.receive(self.socket.as_fd()) {
            Ok(received) => received,
            Err(error) => {
                let event = self.io_error(error);
                self.ready.push_back(event);
                0
            }
        };
        self.counters.datagrams = self.counters.datagrams.saturating_add(received as u64);
        self.unread = 0..received;
        let absorbed = self.attestor.absorb(now.attended_ns);
        self.counters.records = self.counters.records.saturating_add(absorbed.records);
        self.give_back_absence(now, absorbed.oldest_ns);
        self.attestor.expire(self.now.attended_ns);
        self.note_backlog(received);
        received
    }

    /// Whether the last receive took all there was.
    pub(crate) fn is_drained(&self) -> bool {
        self.backlog.is_drained()
    }

    pub(crate) fn io_error(&mut self, error: io::Error) -> Event {
        count(&mut self.counters.io_errors);
        Event::Io(error, self.attention.now().observer_ns)
    }

    fn give_back_absence(&mut self, now: Now, oldest_sent_ns: Option<u64>) {
        let deadline = self
            .tracker
            .next_deadline()
            .map(|due| self.evidence(now, due));
        let (now, absence) = self.attention.look(now, oldest_sent_ns, deadline);
        self.now = now;
        if absence > 0 {
            count(&mut self.counters.absences);
        }
        if absence > WORTH_A_WARNING_NS {
            tracing::warn!(
                milliseconds = absence / 1_000_000,
                "the observer was away; its agents get the time back"
            );
        }
    }

    /// What a deadline that has passed shows of an absence: that the observer
    /// was away from then on. Without records nothing tells when the absence
    /// began, and a long one is taken to have begun at the last look.
    fn evidence(&self, now: Now, due: u64) -> u64 {
        let late = now.attended_ns.saturating_sub(due);
        match self.via() {
            Via::Scm if late > AWAY_NS.saturating_mul(10) => 0,
            _ => due,
        }
    }

    fn note_backlog(&mut self, received: usize) {
        let now = self.now.attended_ns;
        let due = self.tracker.next_deadline();
        self.backlog
            .note(received, due.is_some_and(|due| due <= now));
    }

    /// Judges one datagram of the batch.
    fn take(&mut self, index: usize) {
        let Some(datagram) = self.receiver.get(index) else {
            return;
        };
        let Datagram {
            payload,
            credentials,
            truncated_control,
        } = datagram;
        let Payload::Frame(frame) = payload else {
            count(&mut self.counters.wrong_length);
            return;
        };
        match self.attestor.identify(&frame, credentials.as_ref()) {
            Finding::Known(sender) => self.conclude(&frame, sender, truncated_control, self.now),
            Finding::Pending(pending) => self.park(Parked {
                frame,
                credentials,
                truncated: truncated_control,
                received: self.now,
                pending,
            }),
        }
    }

    fn park(&mut self, parked: Parked) {
        count(&mut self.counters.parked);
        if self.parked.len() >= MAX_PARKED
            && let Some(oldest) = self.parked.pop_front()
        {
            self.decide(oldest, true);
        }
        self.parked.push_back(parked);
    }

    /// Decides the frame that has waited longest, if it can be.
    fn take_parked(&mut self) -> bool {
        let Some(oldest) = self.parked.pop_front() else {
            return false;
        };
        let waited = self
            .now
            .observer_ns
            .saturating_sub(oldest.received.observer_ns);
        self.decide(oldest, waited > PARK_NS)
    }

    fn decide(&mut self, parked: Parked, give_up: bool) -> bool {
        let Parked {
            frame,
            credentials,
            truncated,
            received,
            pending,
        } = &parked;
        let finding = self
            .attestor
            .identify_again(frame, credentials.as_ref(), *pending, give_up);
        match finding {
            Finding::Known(sender) => {
                self.conclude(frame, sender, *truncated, *received);
                true
            }
            Finding::Pending(_) => {
                self.parked.push_front(parked);
                false
            }
        }
    }

    /// The next agent that has been silent for too long, once all input that
    /// waited when it became due has been read: the queue was seen empty, or
    /// more than it can hold was read since.
    fn next_silence(&mut self) -> Option<Event> {
        if !self.backlog.is_read(self.socket.queue_limit()) || self.is_waiting_for_records() {
            return None;
        }
        let silence = self.tracker.next_silent(self.now)?;
        count(&mut self.counters.stalls);
        Some(Event::Stall {
            pid: silence.pid,
            last_nonce: silence.last_nonce,
            last_ns: silence.last_ns,
            origin: silence.origin,
            pid_ns_inode: silence.pid_ns_inode,
            observer_ns: self.now.observer_ns,
            sender: silence.sender,
        })
    }

    /// Whether a silence may yet be broken by a frame that waits for its
    /// record. It postpones no silence for longer than a frame may wait.
    fn is_waiting_for_records(&self) -> bool {
        let overdue = self
            .tracker
            .next_deadline()
            .is_some_and(|deadline| deadline.saturating_add(PARK_NS) <= self.now.attended_ns);
        !self.parked.is_empty() && !overdue
    }
}

impl AsFd for Observer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
