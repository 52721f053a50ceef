//! What can be changed while it observes.

use std::mem;
use std::time::Duration;

use super::Observer;
use crate::builder::{StartError, nonzero_ns};
use crate::policy::Senders;

impl Observer {
    /// Sets how long an agent may be silent, from now on.
    ///
    /// No agent stalls by the change itself: where the threshold shrinks, the
    /// silence of each that is live counts from its last beat or from now,
    /// whichever is later. One whose stall was reported stays stalled until its
    /// next beat.
    ///
    /// # Errors
    /// If it is zero. Nothing is changed then.
    pub fn set_threshold(&mut self, threshold: Duration) -> Result<(), StartError> {
        self.engine.set_threshold(nonzero_ns(threshold)?);
        self.look_again();
        Ok(())
    }

    /// Sets which users and groups may be agents, from the next datagram that is
    /// judged on. Agents that no longer may are forgotten, without a stall;
    /// returns how many that were.
    ///
    /// # Errors
    /// If the observer cannot keep such lists, as [`Builder::bind`]. Nothing is
    /// changed then.
    ///
    /// [`Builder::bind`]: crate::Builder::bind
    pub fn set_senders(&mut self, senders: Senders) -> Result<usize, StartError> {
        self.id_lists.check(&senders)?;
        let forgotten = self.engine.set_senders(senders);
        self.look_again();
        Ok(forgotten)
    }

    /// A stall may be due earlier than whoever waits knows.
    fn look_again(&mut self) {
        mem::take(&mut self.has_looked);
        if let Err(error) = self.poller.wake_by(Some(0)) {
            self.engine.note_io_error(error);
        }
    }
}
