//! Which share of stdout's queue a report may fill.

use observer_events::agents::Owner;
use observer_events::{Event, Notice, Observation, Report};

use crate::output::{Rank, Sender};

/// No flood may crowd out a stall or an incident; of neither may one sender
/// cause so much that no room is left for others'.
pub(super) fn rank(report: &Report) -> Rank {
    let Observation { event, evidence } = match report {
        Report::Observation(observation) => observation,
        Report::Notice(notice) => return rank_of_notice(notice),
    };
    let sender = evidence.sender.as_ref();
    match event {
        Event::Stall { origin, .. } => Rank::Stall(Owner {
            origin: *origin,
            uid: sender.and_then(|sender| sender.uid),
        }),
        Event::AuthFailure { .. }
        | Event::NamespaceConflict { .. }
        | Event::OriginConflict { .. } => Rank::Incident(Sender::of(sender)),
        _ => Rank::Common,
    }
}

fn rank_of_notice(notice: &Notice) -> Rank {
    match (notice, notice.evidence()) {
        (
            Notice::AttestationLost { .. }
            | Notice::AttestationRegained { .. }
            | Notice::ReceiveLost { .. }
            | Notice::ReceiveRegained { .. },
            _,
        ) => Rank::Own,
        (_, Some(evidence)) => Rank::Incident(Sender::of(evidence.sender.as_ref())),
        (_, None) => Rank::Common,
    }
}
