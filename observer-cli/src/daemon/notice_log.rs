//! Notices in the log, with the flags that they are about.

use std::time::Duration;

use observer_events::event::Attestation;
use observer_events::report::Limit;
use observer_events::{Evidence, Notice};

use super::log_limit::LogLimit;

/// How often one kind of notice is logged.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Logs notices, each kind at a bounded rate.
#[derive(Debug)]
pub(super) struct NoticeLog {
    refused: LogLimit,
    throttled: LogLimit,
    descriptors: LogLimit,
    table_full: LogLimit,
    unheard: LogLimit,
}

impl NoticeLog {
    pub(super) const fn new() -> Self {
        const LIMIT: LogLimit = LogLimit::new(LOG_EVERY);
        Self {
            refused: LIMIT,
            throttled: LIMIT,
            descriptors: LIMIT,
            table_full: LIMIT,
            unheard: LIMIT,
        }
    }

    /// Logs a notice, if its kind may be logged now.
    pub(super) fn log(&mut self, notice: &Notice) {
        match notice {
            Notice::RefusedSender {
                count, evidence, ..
            } if self.refused.take() => log_refused(*count, evidence),
            Notice::ThrottledSender {
                count,
                limit,
                evidence,
                ..
            } if self.throttled.take() => log_dropped(*count, over(*limit), evidence),
            Notice::DescriptorsRefused {
                count, evidence, ..
            } if self.descriptors.take() => {
                let what = "refused datagrams with descriptors attached";
                log_dropped(*count, what, evidence);
            }
            Notice::Absence { away_ns, .. } => tracing::warn!(
                milliseconds = away_ns / 1_000_000,
                "the observer was away; its agents are given the time back"
            ),
            Notice::TableFull { .. } if self.table_full.take() => log_full_table(notice),
            Notice::Unheard {
                pid,
                last_ns,
                observer_ns,
                ..
            } if self.unheard.take() => tracing::warn!(
                pid,
                milliseconds = observer_ns.saturating_sub(*last_ns) / 1_000_000,
                "an agent tries to beat, and nothing of it has arrived since"
            ),
            // Reported once a second at most.
            Notice::AttestationLost { reason, .. } => {
                tracing::warn!("attestation lost: {reason}");
            }
            Notice::AttestationRegained { reason, .. } => {
                tracing::info!("attestation regained: {reason}");
            }
            // Reported for what goes on only.
            Notice::ReceiveLost { reason, .. } => tracing::error!(
                "not ready: cannot receive from {reason}; no stall is judged meanwhile"
            ),
            Notice::ReceiveRegained { reason, .. } => {
                tracing::warn!("ready again: {reason}; agents are given the time back");
            }
            _ => {}
        }
    }
}

fn log_refused(count: u64, evidence: &Evidence) {
    let Some(sender) = &evidence.sender else {
        tracing::warn!("refused a sender without credentials");
        return;
    };
    tracing::warn!(
        pid = sender.pid,
        uid = sender.uid,
        gid = sender.gid,
        comm = sender.comm.map(tracing::field::debug),
        refused = count,
        "refused a sender that neither --allow-uid nor --allow-gid names"
    );
}

fn log_dropped(count: u64, what: &str, evidence: &Evidence) {
    let sender: Option<&Attestation> = evidence.sender.as_ref();
    tracing::warn!(
        pid = sender.and_then(|sender| sender.pid),
        host_pid = sender.and_then(|sender| sender.host_pid),
        uid = sender.and_then(|sender| sender.uid),
        comm = sender
            .and_then(|sender| sender.comm)
            .map(tracing::field::debug),
        dropped = count,
        "{what}"
    );
}

/// Which limit the sender exceeds.
fn over(limit: Limit) -> &'static str {
    match limit {
        Limit::Process => "a sender exceeds --max-beat-rate",
        Limit::User => "processes of a user that are not agents exceed --max-group-rate together",
        Limit::Cgroup => {
            "processes of a cgroup that are not agents exceed --max-group-rate together"
        }
        Limit::Ring => "a sender exceeds its share of the ring, which fills up",
    }
}

fn log_full_table(notice: &Notice) {
    let Notice::TableFull {
        agents,
        division,
        refused,
        evicted,
        ..
    } = notice
    else {
        return;
    };
    let largest = division.largest;
    tracing::warn!(
        agents,
        owners = division.owners,
        share = division.share,
        largest_uid = largest.and_then(|holder| holder.owner.uid),
        largest_origin = largest.map(|holder| tracing::field::debug(holder.owner.origin)),
        largest_agents = largest.map(|holder| holder.agents),
        refused_so_far = refused,
        live_evicted_so_far = evicted,
        "the table of agents is full (--max-agents): owners of more than their share lose slots"
    );
}
