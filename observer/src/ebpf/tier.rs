//! The tiers of attestation, and why a host allows none.

use std::fmt;

use observer_events::event::Via;
use rustix::thread::{CapabilitySet, capabilities};

use super::layout::KernelTypes;
use super::namespace::in_initial_user_namespace;
use super::program::KernelError;
use crate::policy::AttestMode;

/// How attestation is set up.
#[derive(Clone, Debug)]
pub(crate) struct AttestOptions {
    pub(crate) mode: AttestMode,
    /// The one tier to use; `None`: the strongest that this host allows.
    pub(crate) tier: Option<Via>,
    /// The weakest tier to use.
    pub(crate) min_tier: Option<Via>,
    /// Size of the ring in bytes: a power of two, a page or more.
    pub(crate) ring_bytes: u32,
    pub(crate) types: KernelTypes,
}

impl AttestOptions {
    /// The tiers to try, strongest first.
    pub(super) fn tiers(&self) -> impl Iterator<Item = Via> {
        let tiers: &[Via] = match (self.mode, self.tier) {
            (AttestMode::Off, _) | (_, Some(Via::Scm)) => &[],
            (_, Some(Via::Btf)) => &[Via::Btf],
            (_, Some(Via::Helper)) => &[Via::Helper],
            (_, None) => &[Via::Btf, Via::Helper],
        };
        let min_tier = self.min_tier;
        tiers
            .iter()
            .copied()
            .filter(move |&via| min_tier.is_none_or(|min| strength(via) >= strength(min)))
    }

    /// Whether nobody agreed to a weaker tier than one that does not work and
    /// that should: where attestation is demanded, this process has the rights
    /// for it, and the kernel has types. Where one of these is missing the next
    /// tier is the strongest that is possible.
    pub(super) fn holds_to(&self, via: Via) -> bool {
        let is_left_to_us = self.mode == AttestMode::Require && self.tier.is_none();
        is_left_to_us && via == Via::Btf && btf_is_expected(&self.types)
    }

    /// Whether an observer may be left without a program.
    pub(crate) fn may_do_without(&self) -> bool {
        self.mode != AttestMode::Require && self.min_tier.is_none_or(|min| min == Via::Scm)
    }
}

/// Whether tier `btf` should work: this process has the capabilities for it, and
/// the kernel does not lack types.
pub(super) fn btf_is_expected(types: &KernelTypes) -> bool {
    let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
    let has_capabilities = capabilities(None).is_ok_and(|sets| {
        sets.effective.contains(both) || sets.effective.contains(CapabilitySet::SYS_ADMIN)
    });
    // Capabilities of another user namespace do not count for eBPF.
    has_capabilities && in_initial_user_namespace() != Some(false) && !types.kernel_has_none()
}

/// A number that is larger for a tier that knows more.
pub(crate) fn strength(via: Via) -> u8 {
    match via {
        Via::Scm => 0,
        Via::Helper => 1,
        Via::Btf => 2,
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
pub struct CannotAttest {
    pub(super) refusals: Vec<(Via, KernelError)>,
    /// A weaker tier was not tried: nobody asked for it.
    pub(super) is_held: bool,
}

impl CannotAttest {
    /// No tier was tried.
    pub(super) fn untried() -> Self {
        Self {
            refusals: Vec::new(),
            is_held: false,
        }
    }

    /// Whether listeners on IPv6 could be attested.
    pub(crate) fn is_for_ipv6_only(&self) -> bool {
        let mut errors = self.refusals.iter().map(|(_, error)| error);
        errors.any(|error| matches!(error, KernelError::UdpNeedsIpv6))
    }

    /// The tiers and their reasons, if any was tried.
    pub(super) fn reasons(&self) -> Option<String> {
        let reasons: Vec<String> = self
            .refusals
            .iter()
            .map(|(via, error)| format!("tier {}: {error}", tier_name(*via)))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

impl fmt::Display for CannotAttest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_held {
            "tier btf should work here and does not, and a weaker one has to be asked for"
        } else {
            "this host cannot attest senders"
        })?;
        match self.reasons() {
            Some(reasons) => write!(f, "; {reasons}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CannotAttest {}
