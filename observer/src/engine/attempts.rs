//! Agents that try to send, and of which nothing arrives.
//!
//! Whoever sends a beat is alive, whether it arrives or not: the queue may be
//! full because the observer was away, or because others send too much. So an
//! attempt that the kernel recorded is a sign of life if its beat would have
//! been accepted. It is no beat: it enters no agent, and ends no stall.

use observer_common::frame::Frame;
use observer_events::event::{BeatOrigin, Via};
use observer_events::{Notice, Report};

use super::Engine;
use super::conclude::{decode, sighting};
use crate::judge::{Verdict, judge};
use crate::route::{Delivery, Route, Routes};
use crate::tracker::{Sighting, Sign};

impl Engine {
    /// Takes in what was tried, as far as it is known that nothing arrived.
    pub(super) fn note_attempts(&mut self) {
        for at in 0..Routes::COUNT {
            while let Some(attempt) = self.next_attempt(at) {
                self.note_attempt(&attempt);
            }
        }
    }

    fn next_attempt(&mut self, route: usize) -> Option<Delivery> {
        self.routes
            .each_mut()
            .nth(route)
            .and_then(Route::next_attempt)
    }

    fn note_attempt(&mut self, attempt: &Delivery) {
        if let Some(sighting) = self.claim(attempt) {
            let sign = self.tracker.attempt(&sighting, self.now);
            self.note_sign(sign, attempt);
        }
    }

    /// Whether the agent that is silent for longest sends, and the programs drop
    /// it as too much.
    pub(super) fn is_still_dropped(&mut self) -> bool {
        let Some(agent) = self.tracker.longest_silent() else {
            return false;
        };
        let still_dropped = |route: &mut dyn Route| route.base_mut().still_dropped(&agent);
        let Some(attempt) = self.routes.each_mut().find_map(still_dropped) else {
            return false;
        };
        let Some(sighting) = self.claim(&attempt) else {
            return false;
        };
        let sign = self.tracker.further_attempt(&sighting, self.now);
        self.note_sign(sign, &attempt);
        sign != Sign::None
    }

    /// The agent that an attempt is of, if its beat would be believed.
    fn claim(&self, attempt: &Delivery) -> Option<Sighting> {
        let Delivery {
            frame,
            sender,
            trust,
            ..
        } = attempt;
        let frame = decode(frame, sender.as_ref(), &self.policy).ok()?;
        match judge(&frame, sender.as_ref(), *trust, &self.policy) {
            Verdict::Authentic {
                origin: origin @ BeatOrigin::KernelAttested,
                pid,
            } => Some(sighting(&frame, pid, origin, *sender)),
            _ => None,
        }
    }

    /// A beat without a record, which is not believed. Where records were lost
    /// it may be an agent's, and its silence is not the agent's: the kernel
    /// wrote the pid in `SCM_CREDENTIALS`, or checked it, and only who may act as
    /// anybody could have written another (`scm_check_creds`, `net/core/scm.c`, 6.18).
    pub(super) fn note_unattested(&mut self, frame: &Frame, delivery: &Delivery) {
        let sender = delivery.sender.as_ref();
        let Some(pid) = sender
            .filter(|sender| sender.via == Via::Scm)
            .and_then(|sender| sender.pid)
        else {
            return;
        };
        if pid == frame.pid && self.attestation.has_losses(&self.routes) {
            let sighting = sighting(frame, pid, BeatOrigin::KernelAttested, delivery.sender);
            let sign = self.tracker.attempt(&sighting, self.now);
            self.note_sign(sign, delivery);
        }
    }

    fn note_sign(&mut self, sign: Sign, attempt: &Delivery) {
        if let Sign::Unheard(agent) = sign {
            self.ready.push_back(Report::Notice(Notice::Unheard {
                pid: agent.pid,
                last_nonce: agent.last_nonce,
                last_ns: agent.last_ns,
                observer_ns: self.now.observer_ns,
                evidence: attempt.evidence(),
            }));
        }
    }
}
