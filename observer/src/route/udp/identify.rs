//! Who sent a UDP datagram: what its way demands, and which records may serve
//! it.
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

use observer_common::record::Record;
use observer_events::event::Attestation;

use super::{UdpRoute, UdpSource};
use crate::ebpf::Mark;
use crate::judge::Trust;
use crate::policy::Network;
use crate::route::join::{Hint, Otherwise};
use crate::route::parked::Arrived;
use crate::transport::Way;

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
pub(super) enum Sender {
    /// All that will ever be known.
    Known(Trust, Option<Attestation>),
    /// Its record has not been read yet.
    Pending(Mark),
}

impl UdpRoute {
    /// Who sent a frame. Once the ring has been read as far as its record must
    /// lie (`mark`, of one that was parked), or `give_up` says so, the answer
    /// is final.
    pub(super) fn identify(
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
}
