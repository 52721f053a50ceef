//! The way in by the Unix socket, and by the ring that may deliver past it.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use observer_events::counters::count;
use observer_events::event::Attestation;

use super::base::Base;
use super::coalescing::Coalescing;
use super::join::{Hint, Join, Otherwise};
use super::own_ring::{OwnRing, Readers};
use super::parked::{Arrived, Parked};
use super::settled::Settled;
use super::socket_queue::SocketQueue;
use super::{Delivery, Route};
use crate::clock::{Clock, Now};
use crate::ebpf::{Attestor, Mark, from_credentials};
use crate::judge::Trust;
use crate::transport::{Batch, BoundSocket, Payload, Receiver};

/// What an operator reads of the socket.
const NAME: &str = "the Unix socket";

/// The Unix socket and the ring of its program.
pub(crate) struct UnixRoute {
    base: Base,
    socket: SocketQueue<BoundSocket>,
    ring: OwnRing,
    join: Join,
    settled: Settled,
    parked: Parked<()>,
    coalescing: Coalescing,
    /// The ring holds more that can be read without waiting for it.
    is_read_in_part: bool,
}

/// Who sent a frame.
enum Sender {
    /// All that will ever be known.
    Known(Option<Attestation>),
    /// Its record has not been read yet: the ring is read in parts.
    Pending(Mark),
}

impl UnixRoute {
    /// The ring `delivers` what the program takes off the socket; while much
    /// comes by it, it is looked at once each poll interval.
    pub(crate) fn new(
        socket: BoundSocket,
        attestor: Attestor,
        delivers: bool,
        poll_interval: Duration,
    ) -> Self {
        let socket = SocketQueue::new(socket, Receiver::for_unix());
        let is_ordered = delivers && attestor.program().is_some();
        Self {
            parked: Parked::new(socket.queue_limit()),
            base: Base::new(attestor),
            socket,
            ring: OwnRing::new(is_ordered),
            join: Join::new(),
            settled: Settled::default(),
            coalescing: Coalescing::new(poll_interval),
            is_read_in_part: false,
        }
    }

    /// Records that wait for their datagrams.
    pub(crate) fn join(&self) -> &Join {
        &self.join
    }

    /// Reads the ring.
    ///
    /// While they come fast the ring is looked at by the clock, and not as
    /// often as this is called; but what was received by the socket has its
    /// record, and whose stall is due has not been heard of by either.
    fn read_ring(&mut self, now: Now, is_due: bool) {
        let has_parked = self.parked.len() > 0;
        let Self {
            base,
            socket,
            ring,
            join,
            coalescing,
            ..
        } = self;
        let batch = socket.batch();
        let is_look = coalescing.is_due(now.observer_ns);
        let is_fresh =
            is_look || is_due || has_parked || batch.is_some_and(|batch| batch.received > 0);
        // What cannot be received holds up nothing that the ring delivers.
        let is_deaf = socket.reception().is_deaf();
        if let Some(batch) = batch.or(is_deaf.then_some(Batch::NONE)) {
            ring.note_received(batch, socket.queue_limit());
        }
        let before = ring.taken();
        let dropped = &mut base.dropped;
        let mut readers = Readers { join, dropped };
        let program = base.attestor.program_mut();
        let records = ring.read(program, &mut readers, now.attended_ns, is_fresh);
        let delivered = ring.taken().saturating_sub(before);
        base.counts.records = base.counts.records.saturating_add(records);
        base.counts.taken = base.counts.taken.saturating_add(delivered as u64);
        if is_look {
            coalescing.note(now.observer_ns, delivered);
            if coalescing.next_ns().is_some() {
                base.attestor.disarm_wakeup();
            }
        }
        let program = base.attestor.program();
        self.is_read_in_part =
            ring.is_second(program, join) || records > 0 && !ring.is_read_to_mark(program);
    }

    /// Whether what waits in the socket is to stay there until the ring has been
    /// read further. Its senders wait meanwhile, and nobody else.
    fn is_held_up(&self) -> bool {
        let program = self.base.attestor.program();
        !self.parked.has_room() && !self.ring.is_second(program, &self.join)
    }

    /// Decides all parked frames whose records have been read by now.
    fn retry_parked(&mut self) {
        for (arrived, mark) in self.parked.take() {
            let mark = Some(mark).filter(|_| !arrived.is_overdue(self.base.filled));
            match self.identify(&arrived, mark) {
                Sender::Known(sender) => {
                    let delivery = arrived.delivery(Trust::SocketMode, sender);
                    self.base.settled.push_back(Ok(delivery));
                }
                Sender::Pending(mark) => self.parked.keep(arrived, mark),
            }
        }
    }

    /// The delivery of a frame, or of one that was parked before it; `None` if
    /// it is parked itself.
    fn settle(&mut self, arrived: &Arrived<()>) -> Option<Delivery> {
        let mark = self.ring.mark(self.base.attestor.program());
        match self.identify(arrived, mark) {
            Sender::Known(sender) => Some(arrived.delivery(Trust::SocketMode, sender)),
            Sender::Pending(mark) => {
                count(&mut self.base.counts.parked);
                let oldest = self.parked.push(*arrived, mark)?;
                match self.identify(&oldest, None) {
                    Sender::Known(sender) => Some(oldest.delivery(Trust::SocketMode, sender)),
                    Sender::Pending(_) => None,
                }
            }
        }
    }

    /// A record, or none for good, or none as long as the ring has not been
    /// read up to the mark, if there is one.
    fn identify(&mut self, arrived: &Arrived<()>, mark: Option<Mark>) -> Sender {
        let attestor = &self.base.attestor;
        let credentials = arrived.datagram.credentials.as_ref();
        let scm_pid = credentials.map(|credentials| credentials.pid);
        let hint = scm_pid.map(Hint::Pid);
        if let Some(record) = self.join.claim(&arrived.frame, hint, Otherwise::Oldest) {
            return Sender::Known(Some(attestor.attestation(&record, scm_pid)));
        }
        match (attestor.program(), mark) {
            (Some(program), Some(mark)) if !program.ring.is_read_up_to(mark) => {
                Sender::Pending(mark)
            }
            _ => Sender::Known(credentials.map(from_credentials)),
        }
    }

    /// The next datagram that the ring delivers.
    fn next_taken(&mut self) -> Option<Delivery> {
        let record = self.ring.next_taken()?;
        Some(Delivery {
            frame: record.frame,
            trust: Trust::SocketMode,
            sender: Some(self.base.attestor.attestation(&record, None)),
            source: None,
            truncated: false,
            received: self.base.filled,
        })
    }
}

impl Route for UnixRoute {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.socket.as_fd()]
    }

    fn try_receive(&mut self) -> Result<(), (String, io::Error)> {
        let tried = self.socket.try_receive();
        tried.map_err(|error| (NAME.into(), error))
    }

    fn is_deaf(&self) -> bool {
        self.socket.reception().is_deaf()
    }

    fn why_deaf(&self) -> Option<String> {
        let error = self.socket.reception().why_deaf()?;
        Some(format!("{NAME}: {error}"))
    }

    fn owed_ns(&self) -> Option<u64> {
        self.socket.reception().owed_ns()
    }

    fn one_by_one(&self) -> Option<String> {
        self.socket.one_by_one().map(ToString::to_string)
    }

    fn receive(&mut self, _socket: usize) -> bool {
        if self.ring.is_first(self.base.attestor.program(), &self.join) || self.is_held_up() {
            return false;
        }
        self.socket.receive(&mut self.base)
    }

    fn receive_rest(&mut self, is_due: bool) {
        let program = self.base.attestor.program();
        let is_owed = self.socket.reception().is_due();
        let is_wanted = is_due || is_owed || self.ring.is_second(program, &self.join);
        if is_wanted && self.socket.batch().is_none() {
            self.receive(0);
        }
    }

    /// A record of a datagram that was taken is no mere attempt: its time
    /// is that of a datagram.
    fn waited_ns(&self, clock: &Clock, now: Now) -> Option<u64> {
        let sent_ns = self.ring.oldest_taken_ns(self.base.attestor.program());
        let in_ring = sent_ns.map(|sent_ns| clock.since_monotonic(now, sent_ns));
        self.socket.waited_ns().max(in_ring)
    }

    fn fill(&mut self, now: Now, is_due: bool) {
        self.base.filled = now;
        let received = self.socket.batch().map_or(0, |batch| batch.received);
        self.base.counts.datagrams = self.base.counts.datagrams.saturating_add(received as u64);
        let read_before = self.ring.read_as_of();
        self.read_ring(now, is_due);
        self.settled
            .note_look(&self.join, now.attended_ns, read_before);
        // By what was read before this, of which nothing has been judged yet: a
        // datagram may wait for long where the queue is long, and its record as
        // long as it.
        self.join.expire(self.socket.read_as_of());
        self.socket.settle(now.attended_ns);
        self.retry_parked();
    }

    fn next(&mut self) -> Option<io::Result<Delivery>> {
        if let Some(settled) = self.base.next_settled() {
            return Some(settled);
        }
        while let Some(datagram) = self.socket.next() {
            let Payload::Frame(frame) = datagram.payload else {
                count(&mut self.base.counts.wrong_length);
                continue;
            };
            let arrived = Arrived {
                frame,
                datagram,
                context: (),
                received: self.base.filled,
            };
            if let Some(delivery) = self.settle(&arrived) {
                return Some(Ok(delivery));
            }
        }
        self.next_taken().map(Ok)
    }

    fn read_as_of(&self) -> u64 {
        self.socket.read_as_of().min(self.ring.read_as_of())
    }

    fn next_attempt(&mut self) -> Option<Delivery> {
        let dropped = self.base.attempts.pop_front();
        let record = dropped.or_else(|| self.join.next_missed(self.socket.read_as_of()))?;
        Some(self.base.attempt(&record))
    }

    fn settled_as_of(&self) -> u64 {
        let fresh = self.join.fresh_since();
        self.settled.as_of(self.ring.read_as_of(), fresh)
    }

    fn was_sent_within(&self, clock: &Clock, now: Now, moments: &RangeInclusive<u64>) -> bool {
        self.socket.was_sent_within(now, moments) || self.base.was_recorded_within(clock, moments)
    }

    fn has_more(&self) -> bool {
        self.is_read_in_part
    }

    /// The order matters where the ring wakes the observer: the program is
    /// asked to, the ring was empty after that, and only then is it waited for.
    fn may_wait(&self) -> bool {
        let is_read_by_the_clock = self.coalescing.next_ns().is_some();
        let is_empty = || self.ring.taken() == 0 && self.base.attestor.arm_wakeup();
        !self.is_read_in_part && (is_read_by_the_clock || is_empty())
    }

    fn next_due(&self, now: Now) -> Option<u64> {
        let look = self.coalescing.next_ns();
        look.into_iter().chain(self.base_due(now)).min()
    }

    fn parked(&self) -> usize {
        self.parked.len()
    }

    fn has_unread(&self) -> bool {
        !self.ring.is_read_to_mark(self.base.attestor.program())
    }

    fn expedite(&mut self) {
        self.coalescing.expedite();
    }
}
