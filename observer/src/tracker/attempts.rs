//! Signs of life that are no beats.

use std::hash::BuildHasher as _;

use super::slot::known;
use super::{Now, Sighting, Sign, Tracker, Unarrived};

impl Tracker {
    /// Takes in that an agent tried to send a beat which did not arrive: it is
    /// alive. That ends no stall, begins no session and enters nobody. If it has
    /// been all of the agent for a threshold, that is said; once, until it is
    /// heard.
    pub(crate) fn attempt(&mut self, sighting: &Sighting, now: Now) -> Sign {
        let now = self.advance_to(now);
        let agent = self.agent_of(sighting);
        let is_new = |index: &u32| {
            let slot = self.slot(*index);
            slot.is_some_and(|slot| slot.advance(sighting).is_some())
        };
        match agent.filter(is_new) {
            Some(index) => self.sign_of_life(index, now),
            None => Sign::None,
        }
    }

    /// The same of the agent that is silent for longest: it goes on sending, and
    /// nobody has seen what.
    pub(crate) fn further_attempt(&mut self, now: Now) -> Sign {
        let now = self.advance_to(now);
        match self.live.front() {
            Some(index) => self.sign_of_life(index, now),
            None => Sign::None,
        }
    }

    /// The live agent that this is of without a doubt.
    fn agent_of(&self, sighting: &Sighting) -> Option<u32> {
        let index = self.slot_of(self.hasher.hash_one(sighting.pid), sighting)?;
        let slot = self.slot(index)?;
        let is_it = sighting.start_ns.is_none() || slot.start_ns == known(sighting.start_ns);
        (is_it && !slot.silent && slot.conflict(sighting).is_none()).then_some(index)
    }

    fn sign_of_life(&mut self, index: u32, now: Now) -> Sign {
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Sign::None;
        };
        slot.is_unheard = true;
        slot.last.attended_ns = now.attended_ns;
        let slot = *slot;
        self.live.move_to_back(&mut self.links, index);
        self.shares.beat(&mut self.links, index);
        if !self.unheard.note(index, now.observer_ns, self.threshold_ns) {
            return Sign::Alive;
        }
        Sign::Unheard(Unarrived {
            pid: slot.pid,
            last_nonce: slot.last_nonce,
            last_ns: slot.last.observer_ns,
        })
    }
}
