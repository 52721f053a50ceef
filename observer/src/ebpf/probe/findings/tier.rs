//! Findings on tiers: what came of trying them out.

use observer_events::event::Via;

use super::{Finding, State, finding, ok};
use crate::ebpf::probe::Tier;
use crate::ebpf::tier_name;

/// What was found of a tier, where `attested` is the strongest that works. A
/// tier that does not work is in this state, and is made to work so.
pub(super) fn tried(
    check: &'static str,
    tier: &Tier,
    attested: Option<Via>,
    state: State,
    remedy: impl FnOnce() -> String,
) -> Finding {
    match (&tier.error, attested) {
        (None, _) => works(check),
        (Some(error), Some(Via::Btf)) => ok(check, format!("not needed; {error}")),
        (Some(error), _) => Finding {
            action: Some(match attested {
                Some(via) => format!("tier {} is used instead; it knows less", tier_name(via)),
                None => remedy(),
            }),
            ..finding(check, state, error.as_str())
        },
    }
}

pub(super) fn works(check: &'static str) -> Finding {
    ok(check, "loaded, attached and found truthful")
}
