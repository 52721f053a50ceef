//! The observer's loop: receive, join, judge, track.

mod backlog;
mod conclude;
mod inlet;
mod inspect;
mod moderation;
mod parked;
mod ring;
mod throttled;

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use observer_common::{frame::FRAME_LEN, listener::MAX_LISTENERS};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use self::inlet::Inlet;
use self::{
    conclude::Delivery,
    moderation::Moderation,
    parked::{PARK_RETRY_NS, Queue},
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
use observer_events::{
    counters::{Counters, count},
    event::Event,
    incident::Incident,
};

/// An absence that an operator should hear of, nanoseconds. Shorter ones are
/// counted.
const WORTH_A_WARNING_NS: u64 = 500_000_000;

/// How often the ring is looked at while it delivers many datagrams, where
/// nobody asks for another time.
pub const DEFAULT_POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Takes down beats of someone who is not to be an agent, or sends too much.
pub type OnRefusal = Box<dyn FnMut(Incident) + Send>;

/// Tells which agents are alive, which went silent, and which beats were
/// lies.
///
/// Drive it with [`Observer::poll`] and [`Observer::wait`], or as a
/// [`Stream`](futures_core::Stream) in a tokio runtime.
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
    /// Silences told since the last look at the input.
    silences: usize,
    /// Events with the datagrams that they are about.
    ready: VecDeque<(Event, Option<[u8; FRAME_LEN]>)>,
    /// The datagram that the event last handed out is about.
    last_frame: Option<[u8; FRAME_LEN]>,
    counters: Counters,
    /// When the log last spoke of a refused sender.
    refusal_told_ns: Option<u64>,
    /// When it last spoke of one that sends too much.
    throttling_told_ns: Option<u64>,
    /// When it last spoke of one that attaches descriptors.
    descriptors_told_ns: Option<u64>,
    /// When it last spoke of a full table.
    overflow_told_ns: Option<u64>,
    on_refusal: Option<OnRefusal>,
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
            silences: 0,
            ready: VecDeque::new(),
            last_frame: None,
            counters: Counters::default(),
            refusal_told_ns: None,
            throttling_told_ns: None,
            descriptors_told_ns: None,
            overflow_told_ns: None,
            on_refusal: None,
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
        let until_busy = self.until_busy();
        let asleep = match self.until_look().or(until_busy) {
            Some(_) => None,
            None if self.is_announced() => self.attestors.unix.bell(),
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
        let throttled = [&self.throttled, &self.udp_throttled]
            .into_iter()
            .filter_map(Account::next_due)
            .map(|due| due.saturating_sub(now.observer_ns))
            .min();
        // What the socket gave has its turn before.
        let Attestors { unix, udp } = &self.attestors;
        let is_unread = !unix.is_read_to_mark() || udp.has_unread();
        let unread = is_unread.then_some(PARK_RETRY_NS);
        [silence, parked, throttled, unread]
            .into_iter()
            .flatten()
            .min()
            .map(Duration::from_nanos)
    }

    /// Has each beat of a refused sender taken down, and at a bounded rate how
    /// many datagrams of whom flood control dropped: no event is made of what
    /// the policy keeps out.
    pub fn on_refusal(&mut self, take_down: OnRefusal) {
        self.on_refusal = Some(take_down);
    }

    /// Whether a frame is still undecided that was received, for its record is
    /// still to be read.
    #[must_use]
    pub fn is_undecided(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Takes down what flood control has dropped since it was last told: to be
    /// called at the end, for the last second's.
    pub fn settle(&mut self) {
        self.settle_throttled(true);
    }

    /// The next event that needs no further input.
    pub(crate) fn next_at_hand(&mut self) -> Option<Event> {
        loop {
            if let Some((event, frame)) = self.ready.pop_front() {
                self.last_frame = frame;
                return Some(event);
            }
            if self.take_received() {
                continue;
            }
            match self.take_from_ring() {
                Some(Found::Event(event)) => return Some(event),
                Some(Found::Other) => {}
                None => {
                    self.last_frame = None;
                    return self.next_silence();
                }
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
            let event = self.io_error(error);
            self.ready.push_back((event, None));
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
        self.silences = 0;
        let received: usize = pass.batches.iter().flatten().sum();
        self.counters.datagrams = self.counters.datagrams.saturating_add(received as u64);
        let waited_ns = pass.waited_ns.max(self.waited_in_ring(pass.now));
        self.give_back_absence(pass.now, waited_ns);
        let delivered = self.read_ring(&pass, is_due);
        self.read_udp_ring();
        self.forget_records();
        self.note_backlogs(&pass);
        self.retry_parked();
        self.settle_throttled(false);
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

    pub(crate) fn io_error(&mut self, error: io::Error) -> Event {
        count(&mut self.counters.io_errors);
        Event::Io(error, self.attention.now().observer_ns)
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
    /// turn again: no beat waits for the end of a wave of silences.
    fn next_silence(&mut self) -> Option<Event> {
        let due = self.tracker.next_deadline()?;
        let is_read = self.inlets.iter().all(|inlet| inlet.read_as_of() >= due)
            && self.attestors.unix.read_as_of() >= due;
        if !is_read || self.is_waiting_for_records() || self.silences >= MOST_SILENCES {
            return None;
        }
        let silence = self.tracker.next_silent(self.now)?;
        self.silences = self.silences.saturating_add(1);
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
}

/// How many silences are told between two looks at the input.
const MOST_SILENCES: usize = 64;

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
