//! The way in by UDP listeners: what each datagram's way demands, and which
//! records may serve it.
//!
//! | it came by | it needs | without |
//! |---|---|---|
//! | the loopback device | a record of this network namespace | it is denied |
//! | a declared device | a record of another namespace | the listener's trust counts, unless records were lost |
//! | another device | nothing | the listener's trust counts |
//!
//! The last two rows have an exception: a process of this host is no network
//! that the operator vouched for. Where a record of another namespace, or of an
//! own datagram that left by another device, has the bytes of a datagram to a
//! trusted listener, it is denied.

mod foreign;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use observer_common::record::{Fate, Record};
use observer_events::counters::count;
use observer_events::event::Attestation;

use self::foreign::Foreign;
use super::base::Base;
use super::parked::{Arrived, Parked};
use super::socket_queue::SocketQueue;
use super::{Delivery, Route, Wake};
use crate::attest::{Attestor, Hint, Join, Mark, Otherwise};
use crate::clock::{Clock, Now};
use crate::judge::Trust;
use crate::policy::Network;
use crate::transport::{Payload, Receiver, UdpSocket, Way};

/// The sockets of all UDP listeners, and the rings of their program.
pub(crate) struct UdpRoute {
    base: Base,
    sockets: Vec<(UdpSource, SocketQueue<UdpSocket>)>,
    /// Records of this network namespace.
    own: Join,
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

/// Which records may serve a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Those of this network namespace.
    Own,
    /// Those of others.
    Others,
    /// Those of others, and only to deny it.
    Denial,
}

/// Who sent a frame.
enum Sender {
    /// All that will ever be known.
    Known(Trust, Option<Attestation>),
    /// Its record has not been read yet.
    Pending(Mark),
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
            mark: None,
            read_as_of: 0,
            foreign: Foreign::new(is_translated),
            parked: Parked::new(0),
            turn: 0,
        }
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
                    let delivery = delivery(&arrived, trust, sender);
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
            Sender::Known(trust, sender) => Some(delivery(arrived, trust, sender)),
            Sender::Pending(mark) => {
                count(&mut self.base.counts.parked);
                let oldest = self.parked.push(*arrived, mark)?;
                match self.identify(&oldest, None, true) {
                    Sender::Known(trust, sender) => Some(delivery(&oldest, trust, sender)),
                    Sender::Pending(_) => None,
                }
            }
        }
    }

    /// Who sent a frame. Once the ring has been read as far as its record must
    /// lie (`mark`, of one that was parked), or `give_up` says so, the answer
    /// is final.
    fn identify(
        &mut self,
        arrived: &Arrived<UdpSource>,
        mark: Option<Mark>,
        give_up: bool,
    ) -> Sender {
        let UdpSource { network, way } = arrived.context;
        let by_network = Trust::Network(network);
        let wanted = match (way, network) {
            (Some(Way::Loopback), _) => Wanted::Own,
            (Some(Way::Declared), _) => Wanted::Others,
            (Some(Way::Other), Network::Trusted) => Wanted::Denial,
            (Some(Way::Other) | None, _) => return Sender::Known(by_network, None),
        };
        if self.base.attestor.program().is_none() {
            return Sender::Known(by_network, None);
        }
        if let Some(record) = self.claim(arrived, wanted) {
            let trust = match wanted {
                Wanted::Own | Wanted::Others => by_network,
                Wanted::Denial => Trust::Denied,
            };
            return Sender::Known(trust, Some(self.base.attestor.attestation(&record, None)));
        }
        if let Some(record) = self.claim_away(arrived, wanted) {
            let sender = self.base.attestor.attestation(&record, None);
            return Sender::Known(Trust::Denied, Some(sender));
        }
        if let Some(mark) = self.unread_mark(wanted, mark).filter(|_| !give_up) {
            return Sender::Pending(mark);
        }
        let trust = if self.is_denied_without(wanted) {
            Trust::Denied
        } else {
            by_network
        };
        Sender::Known(trust, None)
    }

    fn claim(&mut self, arrived: &Arrived<UdpSource>, wanted: Wanted) -> Option<Record> {
        let Arrived {
            frame, datagram, ..
        } = arrived;
        let token = datagram.mark.unwrap_or_default();
        let hint = datagram
            .source
            .map(|address| Hint::Source { address, token });
        let Self { own, foreign, .. } = self;
        match wanted {
            Wanted::Own => own.claim(frame, hint, Otherwise::None),
            Wanted::Others if !foreign.is_translated => {
                foreign.join.claim(frame, hint, Otherwise::None)
            }
            Wanted::Others | Wanted::Denial => foreign.join.claim(frame, hint, Otherwise::Oldest),
        }
    }

    /// The record of an own datagram that came back by a device that is not `lo`,
    /// where the listener's trust would say more than the network's.
    fn claim_away(&mut self, arrived: &Arrived<UdpSource>, wanted: Wanted) -> Option<Record> {
        let is_asked = wanted != Wanted::Own && arrived.context.network == Network::Trusted;
        let away = is_asked.then_some(&mut self.foreign.away)?;
        away.claim(&arrived.frame, None, Otherwise::Oldest)
    }

    /// The place up to which a ring has to be read before it is certain that a
    /// datagram has no record; `None`: it has been.
    fn unread_mark(&self, wanted: Wanted, parked: Option<Mark>) -> Option<Mark> {
        let program = self.base.attestor.program()?;
        let (ring, mark) = match wanted {
            Wanted::Own => (&program.ring, self.mark),
            Wanted::Others | Wanted::Denial => (&program.others, self.foreign.mark),
        };
        parked.or(mark).filter(|&mark| !ring.is_read_up_to(mark))
    }

    /// By `lo` nothing honest comes without a record: where none can be written
    /// the datagram is dropped, so what has none was sent past the program, or
    /// changed after it was seen.
    fn is_denied_without(&mut self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Own => true,
            Wanted::Others => {
                let losses = &mut self.foreign.losses;
                losses.check(&self.base.attestor, self.read_as_of)
            }
            Wanted::Denial => false,
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

    fn receive(&mut self, socket: usize) -> bool {
        let Some((_, queue)) = self.sockets.get_mut(socket) else {
            return true;
        };
        match queue.receive() {
            Ok(batch) => batch.is_drained(),
            Err(error) => {
                self.base.settled.push_back(Err(error));
                true
            }
        }
    }

    fn receive_rest(&mut self, is_due: bool) {
        for socket in 0..self.sockets.len() {
            let has_turn = self
                .sockets
                .get(socket)
                .is_some_and(|(_, queue)| queue.batch().is_none());
            if is_due && has_turn {
                self.receive(socket);
            }
        }
    }

    fn waited_ns(&self, _clock: &Clock, _now: Now) -> Option<u64> {
        let waited = self.sockets.iter().map(|(_, queue)| queue.waited_ns());
        waited.max().flatten()
    }

    fn fill(&mut self, now: Now, _is_due: bool) -> usize {
        self.base.filled = now;
        let batches = self.sockets.iter().filter_map(|(_, queue)| queue.batch());
        let received = batches.fold(0_usize, |sum, batch| sum.saturating_add(batch.received));
        self.base.counts.datagrams = self.base.counts.datagrams.saturating_add(received as u64);
        let records = self.read_rings(now.attended_ns);
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
        received
    }

    fn next(&mut self) -> Option<io::Result<Delivery>> {
        if let Some(settled) = self.base.settled.pop_front() {
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

    fn wake(&self, _now: Now) -> Wake {
        Wake::Rings
    }

    fn parked(&self) -> usize {
        self.parked.len()
    }

    fn has_unread(&self) -> bool {
        let mut rings = self.base.attestor.rings();
        rings.any(|ring| !ring.is_quiet() || ring.has_busy())
    }
}

fn delivery(arrived: &Arrived<UdpSource>, trust: Trust, sender: Option<Attestation>) -> Delivery {
    let Arrived {
        frame,
        datagram,
        context: _,
        received,
    } = arrived;
    Delivery {
        frame: *frame,
        trust,
        sender,
        source: datagram.source,
        truncated: datagram.truncated_control,
        received: *received,
    }
}
