//! From a frame whose sender is settled to an event.

use std::io;

use observer_common::frame::{DecodeError, FRAME_LEN, Frame};
use observer_events::counters::count;
use observer_events::event::{Attestation, AuthFailureCause, BeatOrigin, Event};
use observer_events::{Notice, Observation, Report};

use super::Engine;
use super::refused::Refusal;
use crate::clock::Now;
use crate::judge::{Policy, Verdict, judge, may_claim_pid_1};
use crate::route::Delivery;
use crate::tracker::{Outcome, Sighting};

impl Delivery {
    /// An event with what is known of this.
    pub(super) fn report(&self, event: Event) -> Report {
        Report::Observation(Observation {
            event,
            evidence: self.evidence(),
        })
    }
}

impl Engine {
    /// What a frame whose sender is settled is worth. There may be something
    /// in line that is to be reported before it.
    pub(super) fn conclude(&mut self, delivery: &Delivery) -> Option<Event> {
        let Delivery {
            frame,
            sender,
            truncated,
            received,
            ..
        } = delivery;
        if *truncated {
            count(&mut self.counters.ctrl_truncated);
            let error = io::Error::other("the sender attached control data; none of it was taken");
            self.emit(Event::CtrlTruncated(error, received.observer_ns), delivery);
        }
        match decode(frame, sender.as_ref(), &self.policy) {
            Ok(frame) => self.weigh(&frame, delivery),
            Err(error) => {
                self.counters.decode_error(&error);
                Some(Event::Decode(error, received.observer_ns))
            }
        }
    }

    /// Puts an event in line, with what is known of its datagram.
    fn emit(&mut self, event: Event, delivery: &Delivery) {
        self.ready.push_back(delivery.report(event));
    }

    fn weigh(&mut self, frame: &Frame, delivery: &Delivery) -> Option<Event> {
        let Delivery {
            trust,
            sender,
            received,
            ..
        } = delivery;
        match judge(frame, sender.as_ref(), *trust, &self.policy) {
            Verdict::Authentic { origin, pid } => self.track(frame, pid, origin, delivery),
            Verdict::Refused => {
                self.refuse(frame, delivery);
                None
            }
            Verdict::AuthFailure(cause) => {
                self.counters.auth_failure(cause);
                if cause == AuthFailureCause::Unattested {
                    self.note_unattested(frame, delivery);
                }
                Some(Event::AuthFailure {
                    claimed_pid: frame.pid,
                    observer_ns: received.observer_ns,
                    cause,
                })
            }
            Verdict::NamespaceConflict => {
                let expected = self.policy.observer_ns_inode;
                Some(self.namespace_conflict(frame, expected, delivery))
            }
        }
    }

    /// Takes an authentic frame to its agent, whom the observer sees as `pid`.
    fn track(
        &mut self,
        frame: &Frame,
        pid: u32,
        origin: BeatOrigin,
        delivery: &Delivery,
    ) -> Option<Event> {
        let Delivery {
            sender, received, ..
        } = delivery;
        let sighting = sighting(frame, pid, origin, *sender);
        let conflict = |observed_origin, slot_origin| Event::OriginConflict {
            claimed_pid: frame.pid,
            observed_origin,
            slot_origin,
            observer_ns: received.observer_ns,
        };
        match self.sight(&sighting, *received) {
            Outcome::Accepted => {}
            Outcome::Displaced { displaced_origin } => {
                count(&mut self.counters.origin_conflicts);
                // Of the claim that gave way nobody was named.
                let unknown = Delivery {
                    sender: None,
                    source: None,
                    ..*delivery
                };
                self.emit(conflict(displaced_origin, origin), &unknown);
            }
            Outcome::OriginConflict { slot_origin } => {
                count(&mut self.counters.origin_conflicts);
                return Some(conflict(origin, slot_origin));
            }
            Outcome::NamespaceConflict { slot_ns_inode } => {
                return Some(self.namespace_conflict(frame, slot_ns_inode, delivery));
            }
            Outcome::StaleNonce | Outcome::TableFull => return None,
        }
        count(&mut self.counters.beats);
        Some(Event::Beat {
            pid,
            status: frame.status,
            payload: frame.payload,
            nonce: frame.nonce,
            origin,
            pid_ns_inode: sighting.pid_ns_inode,
            observer_ns: received.observer_ns,
        })
    }

    /// Has the tracker see a beat, and the programs vouch for an agent that is
    /// new: in all routes, for it may send by another one next, and is no
    /// stranger there. A system call or two, once for each new agent.
    fn sight(&mut self, sighting: &Sighting, received: Now) -> Outcome {
        let known = self.tracker.counts().new_agents;
        let outcome = self.tracker.sight(sighting, received);
        if self.tracker.take_overflow() && self.table_full.take(received) {
            self.notify_full_table(received);
        }
        let is_new = self.tracker.counts().new_agents != known
            || matches!(outcome, Outcome::Displaced { .. });
        if let Some(sender) = sighting.sender.as_ref().filter(|_| is_new) {
            for route in self.routes.each_mut() {
                route.base_mut().attestor.vouch(sender);
            }
        }
        outcome
    }

    fn notify_full_table(&mut self, now: Now) {
        let counts = self.tracker.counts();
        self.ready.push_back(Report::Notice(Notice::TableFull {
            agents: self.tracker.known() as u64,
            division: self.tracker.division(),
            refused: counts.refused_full,
            evicted: counts.evicted_live,
            observer_ns: now.observer_ns,
        }));
    }

    /// Counts a beat of someone who is not to be an agent: no event is made of
    /// what the policy keeps out.
    fn refuse(&mut self, frame: &Frame, delivery: &Delivery) {
        count(&mut self.counters.refused_senders);
        let notice = self.refusals.note(Refusal {
            claimed_pid: frame.pid,
            observer_ns: delivery.received.observer_ns,
            evidence: delivery.evidence(),
        });
        self.ready.extend(notice.map(Report::Notice));
    }

    fn namespace_conflict(
        &mut self,
        frame: &Frame,
        expected: Option<u64>,
        delivery: &Delivery,
    ) -> Event {
        count(&mut self.counters.namespace_conflicts);
        let sender = delivery.sender.as_ref();
        Event::NamespaceConflict {
            claimed_pid: frame.pid,
            observed_ns_inode: sender.and_then(|sender| sender.pid_ns_inode),
            observer_ns_inode: expected,
            observer_ns: delivery.received.observer_ns,
        }
    }
}

/// A frame of an agent that the observer sees as `pid`.
pub(super) fn sighting(
    frame: &Frame,
    pid: u32,
    origin: BeatOrigin,
    sender: Option<Attestation>,
) -> Sighting {
    Sighting {
        pid,
        start_ns: sender.as_ref().and_then(|sender| sender.start_ns),
        pid_ns_inode: sender.as_ref().and_then(|sender| sender.pid_ns_inode),
        origin,
        status: frame.status,
        nonce: frame.nonce,
        sender,
    }
}

/// Pid 1 is reserved by VLP, and honest where the policy translates it.
pub(super) fn decode(
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
