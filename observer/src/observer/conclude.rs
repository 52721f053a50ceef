//! From a frame whose sender is settled to an event.

use std::{io, net::SocketAddr};

use observer_common::frame::{DecodeError, FRAME_LEN, Frame};

use super::Observer;
use crate::{
    attention::Now,
    audit::{Incident, What},
    counters::count,
    event::{Attestation, BeatOrigin, Event},
    judge::{Channel, Policy, Verdict, judge, may_claim_pid_1},
    tracker::{Outcome, Sighting},
};

/// A frame and all that is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) bytes: [u8; FRAME_LEN],
    pub(super) channel: Channel,
    /// The kernel's record of who sent it.
    pub(super) sender: Option<Attestation>,
    /// Where it came from, if by UDP.
    pub(super) source: Option<SocketAddr>,
    /// The sender attached control data.
    pub(super) truncated: bool,
    pub(super) now: Now,
}

impl Observer {
    /// Says what a frame whose sender is settled is worth.
    pub(super) fn conclude(&mut self, delivery: &Delivery) {
        let Delivery {
            sender,
            source,
            truncated,
            now,
            ..
        } = *delivery;
        if truncated {
            count(&mut self.counters.ctrl_truncated);
            let error = io::Error::other("the sender attached control data; none of it was taken");
            self.emit(
                Event::CtrlTruncated(error, now.observer_ns, sender),
                delivery,
            );
        }
        match decode(&delivery.bytes, sender.as_ref(), &self.policy) {
            Ok(frame) => self.weigh(&frame, delivery),
            Err(error) => {
                self.counters.decode_error(&error);
                self.emit(
                    Event::Decode(error, now.observer_ns, sender, source),
                    delivery,
                );
            }
        }
    }

    /// Puts an event in line, with the datagram that it is about.
    fn emit(&mut self, event: Event, delivery: &Delivery) {
        self.ready.push_back((event, Some(delivery.bytes)));
    }

    fn weigh(&mut self, frame: &Frame, delivery: &Delivery) {
        let Delivery {
            channel,
            sender,
            source,
            now,
            ..
        } = *delivery;
        let event = match judge(frame, sender.as_ref(), channel, &self.policy) {
            Verdict::Authentic { origin, pid } => {
                self.track(frame, pid, origin, delivery);
                return;
            }
            Verdict::Refused => {
                self.refuse(frame, delivery);
                return;
            }
            Verdict::AuthFailure(cause) => {
                self.counters.auth_failure(cause);
                Event::AuthFailure {
                    claimed_pid: frame.pid,
                    observer_ns: now.observer_ns,
                    cause,
                    sender,
                    source,
                }
            }
            Verdict::NamespaceConflict => {
                let expected = self.policy.observer_ns_inode;
                self.namespace_conflict(frame, expected, delivery)
            }
        };
        self.emit(event, delivery);
    }

    /// Takes an authentic frame to its agent, whom the observer sees as `pid`.
    fn track(&mut self, frame: &Frame, pid: u32, origin: BeatOrigin, delivery: &Delivery) {
        let Delivery {
            sender,
            source,
            now,
            ..
        } = *delivery;
        let pid_ns_inode = sender.as_ref().and_then(|sender| sender.pid_ns_inode);
        let conflict = |observed_origin, slot_origin, sender, source| Event::OriginConflict {
            claimed_pid: frame.pid,
            observed_origin,
            slot_origin,
            observer_ns: now.observer_ns,
            sender,
            source,
        };
        let outcome = self.tracker.sight(
            &Sighting {
                pid,
                start_ns: sender.as_ref().and_then(|sender| sender.start_ns),
                pid_ns_inode,
                origin,
                status: frame.status,
                nonce: frame.nonce,
                sender,
            },
            now,
        );
        match outcome {
            Outcome::Accepted => {}
            Outcome::Displaced { displaced_origin } => {
                count(&mut self.counters.origin_conflicts);
                self.emit(conflict(displaced_origin, origin, None, None), delivery);
            }
            Outcome::OriginConflict { slot_origin } => {
                count(&mut self.counters.origin_conflicts);
                self.emit(conflict(origin, slot_origin, sender, source), delivery);
                return;
            }
            Outcome::NamespaceConflict { slot_ns_inode } => {
                let event = self.namespace_conflict(frame, slot_ns_inode, delivery);
                self.emit(event, delivery);
                return;
            }
            Outcome::StaleNonce | Outcome::TableFull => return,
        }
        count(&mut self.counters.beats);
        let beat = Event::Beat {
            pid,
            status: frame.status,
            payload: frame.payload,
            nonce: frame.nonce,
            origin,
            pid_ns_inode,
            observer_ns: now.observer_ns,
            sender,
            source,
        };
        self.emit(beat, delivery);
    }

    /// Counts a beat of someone who is not to be an agent, and tells the
    /// operator: no event is made of what the policy keeps out, and a sender
    /// must not be able to fill the log.
    fn refuse(&mut self, frame: &Frame, delivery: &Delivery) {
        count(&mut self.counters.refused_senders);
        let now = delivery.now.observer_ns;
        if let Some(take_down) = &mut self.on_refusal {
            take_down(Incident {
                what: What::RefusedSender,
                claimed_pid: Some(frame.pid),
                observer_ns: now,
                frame: Some(delivery.bytes),
                sender: delivery.sender,
                source: delivery.source,
            });
        }
        let due = self
            .refusal_told_ns
            .is_none_or(|told| now.saturating_sub(told) >= REFUSAL_PAUSE_NS);
        if !due {
            return;
        }
        self.refusal_told_ns = Some(now);
        let Some(sender) = &delivery.sender else {
            tracing::warn!("refused a sender without credentials");
            return;
        };
        tracing::warn!(
            pid = sender.pid,
            uid = sender.uid,
            gid = sender.gid,
            comm = sender.comm.map(tracing::field::debug),
            refused_so_far = self.counters.refused_senders,
            "refused a sender that no --allow-uid or --allow-gid names"
        );
    }

    fn namespace_conflict(
        &mut self,
        frame: &Frame,
        expected: Option<u64>,
        delivery: &Delivery,
    ) -> Event {
        let Delivery {
            sender,
            source,
            now,
            ..
        } = *delivery;
        count(&mut self.counters.namespace_conflicts);
        Event::NamespaceConflict {
            claimed_pid: frame.pid,
            observed_ns_inode: sender.as_ref().and_then(|sender| sender.pid_ns_inode),
            observer_ns_inode: expected,
            observer_ns: now.observer_ns,
            sender,
            source,
        }
    }
}

/// At most one word about refused senders in this time, nanoseconds.
const REFUSAL_PAUSE_NS: u64 = 1_000_000_000;

/// Pid 1 is reserved by VLP, and honest where the policy translates it.
fn decode(
    bytes: &[u8; FRAME_LEN],
    sender: Option<&Attestation>,
    policy: &Policy,
) -> Result<Frame, DecodeError> {
    match Frame::decode(bytes) {
        Err(DecodeError::BadPid(1)) if may_claim_pid_1(sender, policy) => {
            Frame::decode_in_container(bytes)
        }
        result => result,
    }
}
