//! What can be changed while agents are tracked.

use observer_events::event::{Attestation, BeatOrigin};

use super::{Now, Tracker};

impl Tracker {
    /// Sets the threshold. Where it shrinks, the silence of each live agent
    /// counts from its last beat or from now, whichever is later: none has been
    /// silent for too long by the change itself. The order of the live agents is
    /// the same by either.
    pub fn set_threshold(&mut self, threshold_ns: u64, now: Now) {
        if threshold_ns < self.threshold_ns {
            self.silent_from_ns = self.advance_to(now).attended_ns;
        }
        self.threshold_ns = threshold_ns;
    }

    /// Forgets the agents of which this is true, by their origin and by who sent
    /// when their session began; returns how many. No stall is reported of them.
    pub fn forget_where(
        &mut self,
        is_unwanted: impl Fn(BeatOrigin, Option<&Attestation>) -> bool,
    ) -> usize {
        let is_unwanted = |&index: &u32| {
            let sender = self.senders.get(index as usize).and_then(Option::as_ref);
            let slot = self.slot(index);
            slot.is_some_and(|slot| is_unwanted(slot.origin, sender))
        };
        let unwanted: Vec<u32> = self.index.iter().copied().filter(is_unwanted).collect();
        for &index in &unwanted {
            self.forget(index);
        }
        unwanted.len()
    }
}
