//! What can be changed while it observes.

use super::Engine;
use crate::policy::Senders;

impl Engine {
    /// Sets how long an agent may be silent; none stalls by that alone.
    pub(crate) fn set_threshold(&mut self, threshold_ns: u64) {
        self.tracker.set_threshold(threshold_ns, self.clock.now());
    }

    /// Forgets the agents that no longer may be any, and returns how many.
    pub(crate) fn set_senders(&mut self, senders: Senders) -> usize {
        if senders == self.policy.senders {
            return 0;
        }
        let forgotten = self
            .tracker
            .forget_where(|origin, sender| !senders.keeps(origin, sender));
        self.policy.senders = senders;
        forgotten
    }
}
