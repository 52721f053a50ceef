//! The last incidents, as the status reports them.

use jiff::Timestamp;
use observer_audit::{Incident, What};
use observer_events::event::AuthFailureCause;

use crate::daemon_status::{RecentIncident, comm_text};

/// How many are kept; the one longest ago is removed.
const MAX_INCIDENTS: usize = 32;

/// The last incidents, counted by sender, claim and kind, so that a flood of
/// one does not hide the others.
#[derive(Debug, Default)]
pub(crate) struct RecentIncidents {
    /// The latest last.
    tallies: Vec<Tally>,
}

#[derive(Clone, Copy, Debug)]
struct Tally {
    /// The last of them.
    incident: Incident,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl RecentIncidents {
    /// Counts an incident.
    pub(crate) fn count(&mut self, incident: &Incident, time: Timestamp) {
        let mut tallies = self.tallies.iter();
        let known = tallies.rposition(|tally| is_alike(&tally.incident, incident));
        let before = known.map(|at| self.tallies.remove(at));
        if self.tallies.len() >= MAX_INCIDENTS {
            self.tallies.remove(0);
        }
        self.tallies.push(Tally {
            incident: *incident,
            count: before
                .map_or(0, |tally| tally.count)
                .saturating_add(incident.count),
            first: before.map_or(time, |tally| tally.first),
            last: time,
        });
    }

    /// The incidents, the latest first.
    pub(crate) fn list(&self) -> impl Iterator<Item = RecentIncident> + '_ {
        self.tallies.iter().rev().map(RecentIncident::from)
    }
}

impl From<&Tally> for RecentIncident {
    fn from(tally: &Tally) -> Self {
        let Incident {
            what,
            claimed_pid,
            sender,
            source,
            ..
        } = tally.incident;
        let sender = sender.filter(|_| names_author(what));
        Self {
            kind: what.name().to_owned(),
            cause: match what {
                What::AuthFailure { cause } => Some(cause),
                _ => None,
            },
            claimed_pid,
            pid: sender.and_then(|sender| sender.pid),
            host_pid: sender.and_then(|sender| sender.host_pid),
            pid_ns_inode: sender.and_then(|sender| sender.pid_ns_inode),
            start_ns: sender.and_then(|sender| sender.start_ns),
            uid: sender.and_then(|sender| sender.uid),
            comm: sender.as_ref().and_then(comm_text),
            via: sender.map(|sender| sender.via),
            source,
            count: tally.count,
            first: tally.first,
            last: tally.last,
            last_ns: Some(tally.incident.observer_ns),
        }
    }
}

/// Whether two incidents are of one kind, one sender and one claim.
fn is_alike(one: &Incident, other: &Incident) -> bool {
    let key = |incident: &Incident| {
        // By reference: of a copy that is `None` the optimizer (LLVM 22) reads
        // the fields all the same, and beyond it.
        let sender = incident.sender.as_ref();
        let sender = sender.filter(|_| names_author(incident.what));
        (
            incident.what,
            incident.claimed_pid,
            sender.and_then(|sender| sender.host_pid.or(sender.pid)),
            sender.and_then(|sender| sender.start_ns),
            sender.map(|sender| sender.via),
        )
    };
    key(one) == key(other)
}

/// Whether the sender of an incident is its author. Of a corked send it need
/// not be: others may have put their data into it.
fn names_author(what: What) -> bool {
    !matches!(
        what,
        What::AuthFailure {
            cause: AuthFailureCause::Corked
        }
    )
}

#[cfg(test)]
mod tests;
