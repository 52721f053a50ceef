//! What has to be noticed between events: losses, and attestation that fails.

use std::time::{Duration, Instant};

use observer::Observer;
use observer::attest::tier_name;
use observer_audit::Trail;
use observer_events::Counters;
use observer_events::event::Via;

/// How often a loss that goes on is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Compares counters with what they were.
#[derive(Default)]
pub(super) struct Watch {
    stdout: Loss,
    log: Loss,
    audit: Loss,
    /// Datagrams that passed without a record, at the last look.
    unrecorded: u64,
    /// Whether attestation was lost at the last look.
    attestation_lost: bool,
}

/// A loss as the operator is told of it.
#[derive(Default)]
struct Loss {
    told: u64,
    when: Option<Instant>,
}

impl Loss {
    /// Says at a bounded rate that more was lost; whether all of it was said.
    fn tell(&mut self, lost: u64, what: &str) -> bool {
        let often = self.when.is_some_and(|when| when.elapsed() < LOG_EVERY);
        if lost > self.told && !often {
            let new = lost.saturating_sub(self.told);
            tracing::warn!("{new} {what} ({lost} since the start)");
            (self.told, self.when) = (lost, Some(Instant::now()));
        }
        self.told == lost
    }
}

impl Watch {
    /// Takes down at the start that senders are attested by less than the
    /// best, be it for want of something or because it was asked for.
    pub(super) fn begin(observer: &Observer, trail: Option<&Trail>) -> Self {
        let unix = ("", observer.via(), observer.degraded());
        let udp = (" of udp", observer.udp_via(), observer.udp_degraded());
        let has_udp = observer.udp_listeners().next().is_some();
        for (what, via, reason) in [Some(unix), has_udp.then_some(udp)].into_iter().flatten() {
            let Some(trail) = trail.filter(|_| via != Via::Btf) else {
                continue;
            };
            let reason = format!(
                "weaker attestation{what} from the start, tier {}: {}",
                tier_name(via),
                reason.unwrap_or("it was asked for")
            );
            if !trail.attestation_lost(reason) {
                // Nothing is in the queue yet.
                tracing::warn!("the audit trail does not say that attestation is weaker");
            }
        }
        Self::default()
    }

    /// Looks at the counters, about once a second. `lost` is what stdout and
    /// the log lost. Returns whether there is nothing left to be said.
    pub(super) fn look(
        &mut self,
        counters: &Counters,
        lost: (u64, u64),
        trail: Option<&Trail>,
    ) -> bool {
        let (stdout_lost, log_lost) = lost;
        let stdout = "events lost: stdout is not being read";
        let log = "lines of this log lost: stderr is not being read";
        let is_told = self.stdout.tell(stdout_lost, stdout) & self.log.tell(log_lost, log);
        let Some(trail) = trail else {
            return is_told;
        };
        let audit = "incidents lost: the audit trail is not written fast enough";
        is_told
            & self.audit.tell(trail.counts().audit_lost, audit)
            & self.attestation(counters, trail)
    }

    /// A datagram without a record is an authentication failure or, where the
    /// policy lets it pass, a beat that nobody vouches for. The auditor has to
    /// know from when to when that was so.
    ///
    /// Returns whether there is nothing left to be said.
    fn attestation(&mut self, counters: &Counters, trail: &Trail) -> bool {
        let unrecorded = counters.ring_full.saturating_add(counters.unreadable);
        let new = unrecorded.saturating_sub(self.unrecorded);
        let lost = new > 0;
        let is_told = lost == self.attestation_lost
            || if lost {
                trail.attestation_lost(format!(
                    "{new} records of sends, or of attempts, were lost: {} in all for a full \
                     ring, {} unreadable",
                    counters.ring_full, counters.unreadable
                ))
            } else {
                trail.attestation_regained("no record was lost for a second".into())
            };
        // What found the trail's queue full is told at the next look.
        if is_told {
            (self.attestation_lost, self.unrecorded) = (lost, unrecorded);
        }
        is_told && !lost
    }
}
