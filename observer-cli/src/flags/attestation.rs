//! How the kernel attests senders.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use observer::{AttestMode, Builder};
use observer_events::event::Via;

use crate::choice::{Choices, choice};

const RING_SIZES: RangeInclusive<u32> = 4096..=observer::MAX_RING_BYTES;

const MODES: Choices<AttestMode> = &[
    (
        "require",
        AttestMode::Require,
        "Refuse to start where the kernel cannot attest senders, and refuse every beat without \
         attestation",
    ),
    (
        "prefer",
        AttestMode::Prefer,
        "Where the kernel cannot attest, use `SCM_CREDENTIALS`, which a privileged sender can \
         forge, and log a warning",
    ),
    ("off", AttestMode::Off, "Use `SCM_CREDENTIALS` only"),
];

const TIERS: Choices<Via> = &[
    (
        "btf",
        Via::Btf,
        "eBPF that reads the sender's task structures",
    ),
    ("helper", Via::Helper, "eBPF with helper functions only"),
    (
        "scm",
        Via::Scm,
        "`SCM_CREDENTIALS`. Not with --attest require",
    ),
];

const MIN_TIERS: Choices<Via> = &[
    (
        "btf",
        Via::Btf,
        "Start only where senders are known by tier btf",
    ),
    (
        "helper",
        Via::Helper,
        "Start only where the kernel names senders, by whichever tier",
    ),
];

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Attestation")]
pub(super) struct Flags {
    /// Whether the kernel has to attest the sender of each beat
    #[arg(long, value_name = "MODE", value_parser = choice(MODES), default_value = "require")]
    pub(super) attest: AttestMode,

    /// Use this tier of attestation and no other [default: the strongest that
    /// is possible; with --attest require, none weaker if that does not work]
    #[arg(long, value_name = "TIER", value_parser = choice(TIERS), hide_short_help = true)]
    pub(super) tier: Option<Via>,

    /// Use no weaker tier than this one, on no route and whatever --attest says
    #[arg(long, value_name = "TIER", value_parser = choice(MIN_TIERS), hide_short_help = true)]
    min_tier: Option<Via>,

    /// File with the running kernel's types (BTF), for kernels that do not
    /// show them [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "PATH", hide_short_help = true)]
    btf: Option<PathBuf>,

    /// Size of the kernel's ring of records, in bytes: a power of two, at
    /// most 16 MiB [default: 1 MiB, or 4 MiB with --ingest ring]
    #[arg(long, value_name = "BYTES", value_parser = parse_ring, hide_short_help = true)]
    ring_bytes: Option<u32>,
}

impl Flags {
    pub(super) fn apply(&self, builder: Builder) -> Builder {
        let Self {
            attest,
            tier,
            min_tier,
            btf,
            ring_bytes,
        } = self;
        let builder = builder
            .attest(*attest)
            .tier(*tier)
            .min_tier(*min_tier)
            .btf(btf.clone());
        match *ring_bytes {
            Some(bytes) => builder.ring_bytes(bytes),
            None => builder,
        }
    }
}

fn parse_ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if bytes.is_power_of_two() && RING_SIZES.contains(&bytes) => Ok(bytes),
        _ => Err(format!(
            "not a power of two from {} to {}",
            RING_SIZES.start(),
            RING_SIZES.end()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings() {
        assert_eq!(parse_ring("4096"), Ok(4096));
        assert_eq!(parse_ring("16777216"), Ok(observer::MAX_RING_BYTES));
        for bad in ["0", "2048", "5000", "33554432", "x"] {
            assert!(parse_ring(bad).is_err(), "{bad}");
        }
    }
}
