//! The tiers of attestation, and why a host allows none.

use std::fmt;

use observer_events::event::Via;

use super::layout::KernelTypes;
use super::program::KernelError;
use crate::policy::AttestMode;

/// How attestation is set up.
#[derive(Clone, Debug)]
pub(crate) struct AttestOptions {
    pub(crate) mode: AttestMode,
    /// The one tier to use; `None`: the strongest that this host allows.
    pub(crate) tier: Option<Via>,
    /// Size of the ring in bytes: a power of two, a page or more.
    pub(crate) ring_bytes: u32,
    pub(crate) types: KernelTypes,
}

impl AttestOptions {
    /// The tiers to try, strongest first.
    pub(super) fn tiers(&self) -> &'static [Via] {
        match (self.mode, self.tier) {
            (AttestMode::Off, _) | (_, Some(Via::Scm)) => &[],
            (_, Some(Via::Btf)) => &[Via::Btf],
            (_, Some(Via::Helper)) => &[Via::Helper],
            (_, None) => &[Via::Btf, Via::Helper],
        }
    }
}

/// The name of a tier as reports have it.
#[must_use]
pub fn tier_name(via: Via) -> &'static str {
    match via {
        Via::Btf => "btf",
        Via::Helper => "helper",
        Via::Scm => "scm",
    }
}

/// Why this host cannot attest: each tier that was tried, and its reason.
#[derive(Debug)]
pub struct CannotAttest(pub(super) Vec<(Via, KernelError)>);

impl CannotAttest {
    /// Whether listeners on IPv6 could be attested.
    pub(crate) fn is_for_ipv6_only(&self) -> bool {
        let Self(refusals) = self;
        let mut errors = refusals.iter().map(|(_, error)| error);
        errors.any(|error| matches!(error, KernelError::UdpNeedsIpv6))
    }

    /// The tiers and their reasons, if any was tried.
    pub(super) fn reasons(&self) -> Option<String> {
        let Self(refusals) = self;
        let reasons: Vec<String> = refusals
            .iter()
            .map(|(via, error)| format!("tier {}: {error}", tier_name(*via)))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

impl fmt::Display for CannotAttest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this host cannot attest senders")?;
        match self.reasons() {
            Some(reasons) => write!(f, "; {reasons}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CannotAttest {}
