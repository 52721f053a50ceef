//! Which reports go to the audit trail.

use std::collections::VecDeque;

use observer::{Observer, tier_name};
use observer_audit::{Counts, Incident, Trail};
use observer_events::event::Via;
use observer_events::{Notice, Report};

/// Notices of what was lost and regained that wait for room in the trail's queue
/// at most. There are a few a second at most. Where more are missing, the
/// trail's line about lost incidents shows it.
const MAX_PENDING: usize = 64;

/// Changes of the configuration that wait for it at most. They come at most as
/// fast as the file is read.
const MAX_CHANGES: usize = 64;

/// The audit trail, if one is kept.
pub(super) struct Recorder {
    trail: Option<Trail>,
    /// When attestation or reception was lost and regained has to be in the
    /// trail: what found its queue full is tried again.
    pending: VecDeque<Notice>,
    /// Likewise what the operator has changed.
    changes: VecDeque<String>,
}

impl Recorder {
    /// Records at the start that a tier other than `btf` is in use, whether
    /// something is missing or it was asked for.
    pub(super) fn new(trail: Option<Trail>, observer: &Observer) -> Self {
        let recorder = Self {
            trail,
            pending: VecDeque::new(),
            changes: VecDeque::new(),
        };
        recorder.record_tier("", observer.via(), observer.degraded());
        if observer.udp_listeners().next().is_some() {
            recorder.record_tier(" of udp", observer.udp_via(), observer.udp_degraded());
        }
        recorder
    }

    fn record_tier(&self, what: &str, via: Via, reason: Option<&str>) {
        let Some(trail) = self.trail.as_ref().filter(|_| via != Via::Btf) else {
            return;
        };
        let is_recorded = trail.attestation_lost(format!(
            "attestation{what} degraded from the start, tier {}: {}",
            tier_name(via),
            reason.unwrap_or("it was asked for")
        ));
        if !is_recorded {
            // Nothing is in the queue yet.
            tracing::warn!("the audit trail has no line that attestation is degraded");
        }
    }

    /// Records a report; returns it as an incident, if it is one.
    pub(super) fn record(&mut self, report: &Report) -> Option<Incident> {
        if let (Some(_), Report::Notice(notice)) = (&self.trail, report)
            && is_kept(notice)
        {
            if self.pending.len() >= MAX_PENDING {
                // One that was lost and regained; the last has to be right.
                self.pending.drain(..2);
            }
            self.pending.push_back(notice.clone());
            self.retry();
        }
        let incident = Incident::of(report)?;
        if let Some(trail) = &self.trail {
            trail.incident(incident);
        }
        Some(incident)
    }

    /// Records what the operator has changed.
    pub(super) fn record_reload(&mut self, changes: String) {
        if self.trail.is_none() {
            return;
        }
        if self.changes.len() >= MAX_CHANGES {
            tracing::warn!("the audit trail has no line of a change: its queue is full");
            self.changes.pop_front();
        }
        self.changes.push_back(changes);
        self.retry();
    }

    /// Tries again what the trail had no room for; whether nothing is left.
    pub(super) fn retry(&mut self) -> bool {
        let Some(trail) = &self.trail else {
            return true;
        };
        while let Some(notice) = self.pending.front() {
            let is_recorded = match notice {
                Notice::AttestationLost { reason, .. } => trail.attestation_lost(reason.clone()),
                Notice::AttestationRegained { reason, .. } => {
                    trail.attestation_regained(reason.clone())
                }
                Notice::ReceiveLost { reason, .. } => trail.receive_lost(reason.clone()),
                Notice::ReceiveRegained { reason, .. } => trail.receive_regained(reason.clone()),
                _ => true,
            };
            if !is_recorded {
                return false;
            }
            self.pending.pop_front();
        }
        while let Some(changes) = self.changes.front() {
            if !trail.reloaded(changes.clone()) {
                return false;
            }
            self.changes.pop_front();
        }
        true
    }

    /// What the trail counted; `None` without one.
    pub(super) fn counts(&self) -> Option<Counts> {
        self.trail.as_ref().map(Trail::counts)
    }

    /// The trail, if one is kept.
    pub(super) fn trail(&self) -> Option<&Trail> {
        self.trail.as_ref()
    }

    /// The trail, to be closed.
    pub(super) fn into_trail(self) -> Option<Trail> {
        self.trail
    }
}

/// Whether a notice is of what the observer itself lost or regained.
fn is_kept(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::AttestationLost { .. }
            | Notice::AttestationRegained { .. }
            | Notice::ReceiveLost { .. }
            | Notice::ReceiveRegained { .. }
    )
}
