//! Agents that try to send, and of which nothing arrives.
//!
//! Whoever sends a beat is alive, whether it arrives or not: the queue may be
//! full because the observer was away, or because others send too much. So an
//! attempt that the kernel recorded is a sign of life if its beat would have
//! been accepted. It is no beat: it enters no agent, and ends no stall.

use observer_common::frame::Frame;
use observer_events::event::{BeatOrigin, Via};
use observer_events::{Evidence, Notice, Report};

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
            self.note_sign(sign, attempt.evidence());
        }
    }

    /// Whether the agent that is silent for longest sends, and a program drops it
    /// as too much. A system call for each route, before a stall.
    pub(super) fn is_still_dropped(&mut self) -> bool {
        let Some((sender, last_beat_ns)) = self.tracker.longest_silent() else {
            return false;
        };
        let since_ns = self.clock.monotonic(last_beat_ns);
        let mut routes = self.routes.each_mut();
        if !routes.any(|route| route.base_mut().is_still_dropped(&sender, since_ns)) {
            return false;
        }
        drop(routes);
        let sign = self.tracker.further_attempt(self.now);
        self.note_sign(sign, Evidence::new(Some(sender), None, None));
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

    /// A beat by the Unix socket without a record, which is not believed. Where
    /// records were lost there it may be an agent's, and its silence is not the
    /// agent's. The pid in `SCM_CREDENTIALS` is the kernel's, or was checked by it
    /// (`scm_check_creds`, `net/core/scm.c`): only who has `CAP_SYS_ADMIN` over
    /// its own pid namespace can write another one of that namespace.
    pub(super) fn note_unattested(&mut self, frame: &Frame, delivery: &Delivery) {
        let sender = delivery.sender.filter(|sender| sender.via == Via::Scm);
        let Some(pid) = sender.and_then(|sender| sender.pid) else {
            return;
        };
        let Some(agent) = self.tracker.sender_of(pid) else {
            return;
        };
        let is_its_claim = frame.pid == agent.own_pid.unwrap_or(pid);
        let is_its_user = sender.and_then(|sender| sender.uid) == agent.uid;
        if is_its_claim && is_its_user && self.attestation.has_unix_losses(&self.routes) {
            let sighting = sighting(frame, pid, BeatOrigin::KernelAttested, None);
            let sign = self.tracker.attempt(&sighting, self.now);
            self.note_sign(sign, delivery.evidence());
        }
    }

    fn note_sign(&mut self, sign: Sign, evidence: Evidence) {
        if let Sign::Unheard(agent) = sign {
            self.ready.push_back(Report::Notice(Notice::Unheard {
                pid: agent.pid,
                last_nonce: agent.last_nonce,
                last_ns: agent.last_ns,
                observer_ns: self.now.observer_ns,
                evidence,
            }));
        }
    }
}
