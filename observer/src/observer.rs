//! The observer's loop: receive, join, judge, track.

mod backlog;
mod conclude;
mod inlet;
mod inspect;
mod moderation;
mod parked;
mod refused;
mod ring;
mod throttled;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use observer_common::listener::MAX_LISTENERS;
use observer_events::{
    Evidence, Notice, Observation, Report,
    counters::{Counters, count},
    event::Event,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use self::inlet::Inlet;
use self::{
    conclude::Delivery,
    moderation::Moderation,
    parked::{PARK_RETRY_NS, Queue},
    refused::Refusals,
    ring::Found,
    throttled::Account,
};
use crate::{
    attention::{Attention, Now, since},
    attest::{Attestors, Finding},
    builder::Builder,
    judge::{Channel, Network, Policy},
    tracker::Tracker,
    transport::{BATCH, Datagram, Payload, Way},
};

/// An absence that an operator should hear of, nanoseconds. Shorter ones are
/// counted.
const WORTH_A_WARNING_NS: u64 = 500_000_000;

/// How often the ring is looked at while it delivers many datagrams, where
/// nobody asks for another time.
pub const DEFAULT_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Tells which agents are alive, which went silent, and which beats were
/// lies.
///
/// Drive it with [`Observer::observe`] (or [`Observer::poll`], for events alone)
/// and [`Observer::wait`], or as a [`Stream`](futures_core::Stream) in a tokio
/// runtime.
pub struct Observer {
    inlets: Vec<Inlet>,
    attestors: Attestors,
    policy: Policy,
    tracker: Tracker,
    attention: Attention,
    /// The moment of the last pass: what was received in it is dated so.
    now: Now,
    parked: Queue,
    /// The last pass left something in the ring that was there before it.
    is_ring_read_in_part: bool,
    moderation: Moderation,
    throttled: Account,
    /// The same of senders by UDP, who have budgets of their own.
    udp_throttled: Account,
    /// Beats that the policy keeps out.
    refusals: Refusals,
    /// Stalls reported since the last look at the input.
    stalls: usize,
    /// What is to be reported next, in order.
    ready: VecDeque<Report>,
    /// Notices that [`Observer::poll`] passed over.
    notices_skipped: u64,
    /// [`Observer::drain`] has reported what was counted until then.
    is_settled: bool,
    counters: Counters,
    /// When the log last spoke of a refused sender.
    refusal_told_ns: Option<u64>,
    /// When it last spoke of one that sends too much.
    throttling_told_ns: Option<u64>,
    /// When it last spoke of one that attaches descriptors.
    descriptors_told_ns: Option<u64>,
    /// When it last spoke of a full table.
    overflow_told_ns: Option<u64>,
    pub(crate) wake: crate::stream::Wake,
}

impl Observer {
    /// Starts to describe an observer.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(
        inlets: Vec<Inlet>,
        attestors: Attestors,
        policy: Policy,
        tracker: Tracker,
        poll_interval: Duration,
    ) -> Self {
        Self {
            inlets,
            attestors,
            policy,
            tracker,
            attention: Attention::start(),
            now: Now::default(),
            parked: Queue::new(),
            is_ring_read_in_part: false,
            moderation: Moderation::new(poll_interval),
            throttled: Account::default(),
            udp_throttled: Account::default(),
            refusals: Refusals::default(),
            stalls: 0,
            ready: VecDeque::new(),
            notices_skipped: 0,
            is_settled: false,
            counters: Counters::default(),
            refusal_told_ns: None,
            throttling_told_ns: None,
            descriptors_told_ns: None,
            overflow_told_ns: None,
            wake: crate::stream::Wake::default(),
        }
    }

    /// The next event or notice, if there is one now; never blocks.
    ///
    /// A stall is judged only after all waiting input has been read.
    pub fn observe(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.next_at_hand() {
                return Some(report);
            }
            if self.receive() == 0 {
                return self.next_at_hand();
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
        while !self.is_settled && Instant::now() < until {
            self.moderation.hurry();
            if let Some(report) = self.observe() {
                return Ok(Some(report));
            }
            if self.parked.is_empty() {
                break;
            }
            self.wait(Some(Duration::from_nanos(PARK_RETRY_NS)))?;
        }
        if !self.is_settled {
            self.is_settled = true;
            self.settle(true);
        }
        Ok(self.ready.pop_front())
    }

    /// Blocks until there may be something for [`Observer::observe`] to report,
    /// or the time is up. It may return early.
    ///
    /// # Errors
    /// What `ppoll` fails with, an interrupting signal included.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let until_busy = self.until_busy();
        let asleep = match self.until_look().or(until_busy) {
            Some(_) => None,
            None if self.arm_wakeup() => self.attestors.unix.wakeup(),
            None => return Ok(()),
        };
        let timeout = [timeout, self.until_due(), self.until_look(), until_busy];
        let timeout = timeout.into_iter().flatten().min();
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let sockets = self.inlets.iter().map(AsFd::as_fd);
        let mut sources: Vec<_> = sockets
            .chain(asleep)
            .chain(self.attestors.udp.read_rings())
            .map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN))
            .collect();
        poll(&mut sources, timeout.as_ref())?;
        Ok(())
    }

    /// How long until the ring is to be looked at because a record in it is
    /// still being written. `poll` would not wait for it: see
    /// [`Attestor::has_busy`](crate::attest::Attestor::has_busy).
    fn until_busy(&self) -> Option<Duration> {
        let is_busy = self.attestors.unix.has_busy();
        is_busy.then_some(Duration::from_nanos(PARK_RETRY_NS))
    }

    /// How long until something is to be judged without further input.
    pub(crate) fn until_due(&self) -> Option<Duration> {
        let now = self.attention.now();
        let silence = self
            .tracker
            .next_deadline()
            .map(|deadline| deadline.saturating_sub(now.attended_ns));
        let parked = (!self.parked.is_empty()).then_some(PARK_RETRY_NS);
        let counted = [&self.throttled, &self.udp_throttled]
            .into_iter()
            .filter_map(Account::next_due)
            .chain(self.refusals.next_due())
            .map(|due| due.saturating_sub(now.observer_ns))
            .min();
        // What the socket gave has its turn before.
        let Attestors { unix, udp } = &self.attestors;
        let is_unread = !unix.is_read_to_mark() || udp.has_unread();
        let unread = is_unread.then_some(PARK_RETRY_NS);
        [silence, parked, counted, unread]
            .into_iter()
            .flatten()
            .min()
            .map(Duration::from_nanos)
    }

    /// The next report that needs no further input.
    pub(crate) fn next_at_hand(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.ready.pop_front() {
                return Some(report);
            }
            if self.take_received() {
                continue;
            }
            match self.take_from_ring() {
                Some(Found::Next(report)) => return Some(report),
                // What the program said of senders may be in line now.
                None if self.ready.is_empty() => return self.next_stall(),
                Some(Found::Other) | None => {}
            }
        }
    }

    /// Receives a batch from each socket and reads the records that belong to
    /// it; returns how many datagrams there were.
    pub(crate) fn receive(&mut self) -> usize {
        let mut pass = self.start_pass();
        self.read_others(&mut pass);
        self.finish_pass(&pass)
    }

    /// Begins to receive. Each socket has its turn in each pass, for one
    /// batch: none waits for another that is never empty.
    pub(crate) fn start_pass(&self) -> Pass {
        Pass {
            now: self.attention.now(),
            waited_ns: None,
            batches: [None; MAX_INLETS],
        }
    }

    /// Takes a batch from one socket; whether that was all it had. What the
    /// ring delivered before has its turn before.
    pub(crate) fn read(&mut self, pass: &mut Pass, socket: usize) -> bool {
        let is_unix = self.inlets.get(socket).map(|inlet| inlet.channel) == Some(Channel::Unix);
        if is_unix && self.attestors.unix.is_ring_first() {
            return false;
        }
        let Some((inlet, batch)) = self
            .inlets
            .get_mut(socket)
            .zip(pass.batches.get_mut(socket))
        else {
            return true;
        };
        let received = inlet.receive();
        pass.waited_ns = pass.waited_ns.max(inlet.first_queued().map(since));
        let received = received.unwrap_or_else(|error| {
            let report = self.io_error(error);
            self.ready.push_back(report);
            0
        });
        *batch = Some(received);
        received < BATCH
    }

    /// Reads the records of what was received, and what the ring delivers by
    /// itself; returns how much there was. No silence is judged by sockets
    /// that nobody looked at.
    pub(crate) fn finish_pass(&mut self, pass: &Pass) -> usize {
        let mut pass = *pass;
        let deadline = self.tracker.next_deadline();
        let is_due = deadline.is_some_and(|due| due <= pass.now.attended_ns);
        if is_due || self.attestors.unix.is_socket_first() {
            self.read_others(&mut pass);
        }
        self.stalls = 0;
        let received: usize = pass.batches.iter().flatten().sum();
        self.counters.datagrams = self.counters.datagrams.saturating_add(received as u64);
        let waited_ns = pass.waited_ns.max(self.waited_in_ring(pass.now));
        self.give_back_absence(pass.now, waited_ns);
        let delivered = self.read_ring(&pass, is_due);
        self.read_udp_ring();
        self.forget_records();
        self.note_backlogs(&pass);
        self.retry_parked();
        self.settle(false);
        received.saturating_add(delivered)
    }

    fn read_udp_ring(&mut self) {
        let records = self.attestors.udp.absorb(self.now.attended_ns, true);
        self.counters.records = self.counters.records.saturating_add(records);
        while let Some(told) = self.attestors.udp.next_throttled() {
            let more = self.udp_throttled.tell(told, self.now.observer_ns);
            self.note_throttled(more.as_ref());
        }
    }

    /// Forgets the records whose datagrams will not come: by what was read
    /// before this pass, of which nothing has been judged yet. A datagram may
    /// wait for long where the queue is long, and its record as long as it.
    fn forget_records(&mut self) {
        let Attestors { unix, udp } = &mut self.attestors;
        for (attestor, is_unix) in [(unix, true), (udp, false)] {
            let of_route = self
                .inlets
                .iter()
                .filter(|inlet| (inlet.channel == Channel::Unix) == is_unix);
            if let Some(read_as_of) = of_route.map(Inlet::read_as_of).min() {
                attestor.expire(read_as_of);
            }
        }
    }

    /// Takes a batch from each socket that has not had its turn.
    fn read_others(&mut self, pass: &mut Pass) {
        for socket in 0..self.inlets.len() {
            if pass.batches.get(socket).is_some_and(Option::is_none) {
                self.read(pass, socket);
            }
        }
    }

    /// What wakes the observer: its sockets, in a fixed order, and whether
    /// each is one of UDP.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.inlets
            .iter()
            .map(|inlet| (inlet.as_fd(), inlet.udp_address().is_some()))
    }

    pub(crate) fn io_error(&mut self, error: io::Error) -> Report {
        count(&mut self.counters.io_errors);
        Report::Observation(Observation {
            event: Event::Io(error, self.attention.now().observer_ns),
            evidence: Evidence::default(),
        })
    }

    fn give_back_absence(&mut self, now: Now, waited_ns: Option<u64>) {
        let deadline = self.tracker.next_deadline();
        let (now, absence) = self.attention.look(now, waited_ns, deadline);
        self.now = now;
        if absence > 0 {
            count(&mut self.counters.absences);
        }
        if absence > WORTH_A_WARNING_NS {
            tracing::warn!(
                milliseconds = absence / 1_000_000,
                "the observer was away; its agents get the time back"
            );
            self.ready.push_back(Report::Notice(Notice::Absence {
                away_ns: absence,
                observer_ns: now.observer_ns,
            }));
        }
    }

    fn note_backlogs(&mut self, pass: &Pass) {
        for (inlet, batch) in self.inlets.iter_mut().zip(pass.batches) {
            if let Some(received) = batch {
                inlet.note_backlog(self.now.attended_ns, received);
            }
        }
    }

    /// Judges one datagram of each batch in turn; whether there was one.
    fn take_received(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.inlets.len() {
            let Some(inlet) = self.inlets.get_mut(at) else {
                break;
            };
            let (channel, way) = (inlet.channel, inlet.way);
            if let Some(datagram) = inlet.next() {
                self.take(&datagram, channel, way);
                any = true;
            }
        }
        any
    }

    fn take(&mut self, datagram: &Datagram, channel: Channel, way: Option<Way>) {
        let Payload::Frame(frame) = &datagram.payload else {
            count(&mut self.counters.wrong_length);
            return;
        };
        let finding = self.attestors.identify(frame, datagram, channel, way);
        let (channel, sender) = match finding {
            Finding::Known(sender) => (channel, sender),
            Finding::Denied(sender) => (Channel::Udp(Network::Denied), sender),
            Finding::Pending(pending) => {
                return self.park(frame, datagram, (channel, way), pending);
            }
        };
        self.conclude(&Delivery {
            bytes: *frame,
            channel,
            sender,
            source: datagram.source,
            truncated: datagram.truncated_control,
            now: self.now,
        });
    }

    /// The next agent that has been silent for too long, once all input that
    /// waited when it became so has been read. After some the input has its
    /// turn again: no beat waits for the end of a wave of stalls.
    fn next_stall(&mut self) -> Option<Report> {
        let due = self.tracker.next_deadline()?;
        let is_read = self.inlets.iter().all(|inlet| inlet.read_as_of() >= due)
            && self.attestors.unix.read_as_of() >= due;
        if !is_read || self.is_waiting_for_records() || self.stalls >= MOST_STALLS {
            return None;
        }
        let silence = self.tracker.next_silent(self.now)?;
        self.stalls = self.stalls.saturating_add(1);
        count(&mut self.counters.stalls);
        Some(Report::Observation(Observation {
            event: Event::Stall {
                pid: silence.pid,
                last_nonce: silence.last_nonce,
                last_ns: silence.last_ns,
                origin: silence.origin,
                pid_ns_inode: silence.pid_ns_inode,
                observer_ns: self.now.observer_ns,
            },
            evidence: Evidence::new(silence.sender, None, None),
        }))
    }
}

/// How many stalls are reported between two looks at the input.
const MOST_STALLS: usize = 64;

/// One round of receiving.
#[derive(Clone, Copy)]
pub(crate) struct Pass {
    now: Now,
    /// How long the oldest datagram had waited.
    waited_ns: Option<u64>,
    /// How many datagrams each socket gave, of those that had their turn.
    batches: [Option<usize>; MAX_INLETS],
}

/// The Unix socket and the UDP listeners, each with a socket for each way.
pub(crate) const MAX_INLETS: usize = MAX_LISTENERS * Way::ALL.len() + 1;
