//! The way in by UDP listeners.

mod foreign;
mod identify;

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;

use observer_common::record::Fate;
use observer_events::counters::count;

use self::foreign::Foreign;
use self::identify::Sender;
use super::base::Base;
use super::join::Join;
use super::parked::{Arrived, Parked};
use super::reception::Reception;
use super::settled::Settled;
use super::socket_queue::SocketQueue;
use super::{Delivery, Route};
use crate::clock::{Clock, Now};
use crate::ebpf::{Attestor, Mark};
use crate::policy::Network;
use crate::transport::{Payload, Receiver, UdpSocket, Way};

/// How soon the sockets are read, nanoseconds, if something was sent to them and
/// has not come: its sender is alive now, and may not be for long.
const SETTLE_NS: u64 = 10_000_000;

/// The sockets of all UDP listeners, and the rings of their program.
pub(crate) struct UdpRoute {
    base: Base,
    sockets: Vec<(UdpSource, SocketQueue<UdpSocket>)>,
    /// Records of this network namespace.
    own: Join,
    settled: Settled,
    /// How far the ring had been written when it was last looked at.
    mark: Option<Mark>,
    /// All that it held at this moment, in attended nanoseconds, has been read.
    read_as_of: u64,
    foreign: Foreign,
    parked: Parked<UdpSource>,
    /// The socket whose turn it is to be judged from.
    turn: usize,
}

/// What a listener's socket says of the datagrams that come by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UdpSource {
    /// What they are worth without a record.
    pub(crate) network: Network,
    /// By which way they come, where there is but one.
    pub(crate) way: Option<Way>,
}

impl UdpRoute {
    /// `is_translated`: addresses are translated between other network
    /// namespaces and this one.
    pub(crate) fn new(
        sockets: Vec<(UdpSource, UdpSocket)>,
        attestor: Attestor,
        is_translated: bool,
    ) -> Self {
        let queue = |(source, socket)| (source, SocketQueue::new(socket, Receiver::for_udp()));
        Self {
            base: Base::new(attestor),
            sockets: sockets.into_iter().map(queue).collect(),
            own: Join::new(),
            settled: Settled::default(),
            mark: None,
            read_as_of: 0,
            foreign: Foreign::new(is_translated),
            parked: Parked::new(0),
            turn: 0,
        }
    }

    /// Whether there are any listeners.
    pub(crate) fn is_used(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// What the listeners are bound to, in the order in which they were asked
    /// for, trusted ones first.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let mut last = None;
        self.sockets
            .iter()
            .map(|(_, queue)| queue.get().address())
            // A listener's sockets follow one another.
            .filter(move |&address| last.replace(address) != Some(address))
    }

    /// Datagrams that the sockets dropped.
    pub(crate) fn dropped(&self) -> u64 {
        let dropped = self.sockets.iter().map(|(_, queue)| queue.get().dropped());
        dropped.fold(0, u64::saturating_add)
    }

    /// Records of this network namespace that wait for their datagrams.
    pub(crate) fn join(&self) -> &Join {
        &self.own
    }

    /// Reads both rings; returns how many records there were.
    fn read_rings(&mut self, now: u64) -> u64 {
        let Self {
            base,
            own,
            mark: last_mark,
            read_as_of,
            foreign,
            ..
        } = self;
        let Some(program) = base.attestor.program_mut() else {
            *read_as_of = now;
            return 0;
        };
        #[cfg(feature = "ebpf-log")]
        program.debug_log.pass_on();
        let ring = &mut program.ring;
        let mark = ring.mark();
        ring.begin_look();
        let mut records = 0_u64;
        while let Some(record) = ring.peek(mark) {
            ring.advance();
            records = records.saturating_add(1);
            if record.fate == Fate::Passed as u8 {
                own.record(&record, now);
            } else if !Base::take_dropped(&mut base.dropped, &record) {
                ring.note_malformed();
            }
        }
        ring.release();
        *last_mark = Some(mark);
        if ring.is_read_up_to(mark) {
            *read_as_of = now;
        }
        records.saturating_add(foreign.read(&mut program.others, now))
    }

    /// Decides all parked frames whose records have been read by now.
    fn retry_parked(&mut self) {
        for (arrived, mark) in self.parked.take() {
            let give_up = arrived.is_overdue(self.base.filled);
            match self.identify(&arrived, Some(mark), give_up) {
                Sender::Known(trust, sender) => {
                    let delivery = arrived.delivery(trust, sender);
                    self.base.settled.push_back(Ok(delivery));
                }
                Sender::Pending(mark) => self.parked.keep(arrived, mark),
            }
        }
    }

    /// The delivery of a frame, or of one that was parked before it; `None` if
    /// it is parked itself.
    fn settle(&mut self, arrived: &Arrived<UdpSource>) -> Option<Delivery> {
        match self.identify(arrived, None, false) {
            Sender::Known(trust, sender) => Some(arrived.delivery(trust, sender)),
            Sender::Pending(mark) => {
                count(&mut self.base.counts.parked);
                let oldest = self.parked.push(*arrived, mark)?;
                match self.identify(&oldest, None, true) {
                    Sender::Known(trust, sender) => Some(oldest.delivery(trust, sender)),
                    Sender::Pending(_) => None,
                }
            }
        }
    }

    /// The last moment of which it is known that all that waited in the sockets
    /// then has been read, in attended nanoseconds.
    fn sockets_read_as_of(&self) -> Option<u64> {
        self.sockets
            .iter()
            .map(|(_, queue)| queue.read_as_of())
            .min()
    }

    fn receptions(&self) -> impl Iterator<Item = &Reception> {
        self.sockets.iter().map(|(_, queue)| queue.reception())
    }

    /// One datagram of each socket in turn.
    fn next_frame(&mut self) -> Option<Arrived<UdpSource>> {
        let mut passed = 0_usize;
        while passed < self.sockets.len() {
            let at = self.turn.checked_rem(self.sockets.len())?;
            self.turn = at.saturating_add(1);
            let (source, queue) = self.sockets.get_mut(at)?;
            let Some(datagram) = queue.next() else {
                passed = passed.saturating_add(1);
                continue;
            };
            passed = 0;
            let Payload::Frame(frame) = datagram.payload else {
                count(&mut self.base.counts.wrong_length);
                continue;
            };
            return Some(Arrived {
                frame,
                datagram,
                context: *source,
                received: self.base.filled,
            });
        }
        None
    }
}

/// What an operator reads of a socket.
fn name(socket: &UdpSocket) -> String {
    format!("udp {}", socket.address())
}

impl Route for UdpRoute {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        let sockets = self.sockets.iter();
        sockets.map(|(_, queue)| queue.as_fd()).collect()
    }

    fn try_receive(&mut self) -> Result<(), (String, io::Error)> {
        for (_, queue) in &mut self.sockets {
            let tried = queue.try_receive();
            tried.map_err(|error| (name(queue.get()), error))?;
        }
        Ok(())
    }

    fn is_deaf(&self) -> bool {
        self.receptions().any(Reception::is_deaf)
    }

    fn why_deaf(&self) -> Option<String> {
        let deaf = self.sockets.iter().filter_map(|(_, queue)| {
            let error = queue.reception().why_deaf()?;
            Some(format!("{}: {error}", name(queue.get())))
        });
        let mut deaf: Vec<String> = deaf.collect();
        // A listener's sockets follow one another.
        deaf.dedup();
        (!deaf.is_empty()).then(|| deaf.join(", "))
    }

    fn owed_ns(&self) -> Option<u64> {
        self.receptions().filter_map(Reception::owed_ns).min()
    }

    fn one_by_one(&self) -> Option<String> {
        let mut sockets = self.sockets.iter();
        let why = sockets.find_map(|(_, queue)| queue.one_by_one());
        why.map(ToString::to_string)
    }

    fn receive(&mut self, socket: usize) -> bool {
        let Some((_, queue)) = self.sockets.get_mut(socket) else {
            return true;
        };
        queue.receive(&mut self.base)
    }

    /// A socket that nothing comes by is read as well as long as it is not known
    /// what became of a send: it may have been to this one.
    fn receive_rest(&mut self, is_due: bool) {
        let fresh_since = self.own.fresh_since();
        for (_, queue) in &mut self.sockets {
            let has_turn = queue.batch().is_none();
            let may_hold = fresh_since.is_some_and(|since| queue.read_as_of() <= since);
            if has_turn && (is_due || may_hold || queue.reception().is_due()) {
                queue.receive(&mut self.base);
            }
        }
    }

    fn waited_ns(&self, _clock: &Clock, _now: Now) -> Option<u64> {
        let waited = self.sockets.iter().map(|(_, queue)| queue.waited_ns());
        waited.max().flatten()
    }

    fn fill(&mut self, now: Now, _is_due: bool) {
        let read_before = self.base.filled.attended_ns;
        self.base.filled = now;
        let batches = self.sockets.iter().filter_map(|(_, queue)| queue.batch());
        let received = batches.fold(0_usize, |sum, batch| sum.saturating_add(batch.received));
        self.base.counts.datagrams = self.base.counts.datagrams.saturating_add(received as u64);
        let records = self.read_rings(now.attended_ns);
        self.settled
            .note_look(&self.own, now.attended_ns, read_before);
        self.base.counts.records = self.base.counts.records.saturating_add(records);
        // By what was read before this, see `UnixRoute::fill`.
        if let Some(read_as_of) = self.sockets_read_as_of() {
            self.own.expire(read_as_of);
            self.foreign.expire(read_as_of);
        }
        for (_, queue) in &mut self.sockets {
            queue.settle(now.attended_ns);
        }
        self.retry_parked();
    }

    fn next(&mut self) -> Option<io::Result<Delivery>> {
        if let Some(settled) = self.base.next_settled() {
            return Some(settled);
        }
        while let Some(arrived) = self.next_frame() {
            if let Some(delivery) = self.settle(&arrived) {
                return Some(Ok(delivery));
            }
        }
        None
    }

    fn read_as_of(&self) -> u64 {
        self.sockets_read_as_of().unwrap_or(u64::MAX)
    }

    fn next_attempt(&mut self) -> Option<Delivery> {
        let dropped = self.base.attempts.pop_front();
        let record = dropped.or_else(|| self.own.next_missed(self.sockets_read_as_of()?))?;
        Some(self.base.attempt(&record))
    }

    fn settled_as_of(&self) -> u64 {
        let read_as_of = self.base.filled.attended_ns;
        self.settled.as_of(read_as_of, self.own.fresh_since())
    }

    fn was_sent_within(&self, clock: &Clock, now: Now, moments: &RangeInclusive<u64>) -> bool {
        let mut sockets = self.sockets.iter();
        sockets.any(|(_, queue)| queue.was_sent_within(now, moments))
            || self.base.was_recorded_within(clock, moments)
    }

    fn next_due(&self, now: Now) -> Option<u64> {
        let is_open = self.own.fresh_since().is_some() && !self.is_deaf();
        let settle = is_open.then(|| now.observer_ns.saturating_add(SETTLE_NS));
        settle.into_iter().chain(self.base_due(now)).min()
    }

    fn parked(&self) -> usize {
        self.parked.len()
    }

    fn has_unread(&self) -> bool {
        let mut rings = self.base.attestor.rings();
        rings.any(|ring| !ring.is_quiet() || ring.has_busy())
    }
}
