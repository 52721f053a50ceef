//! Flags of `observer run` on UDP.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgGroup, Args};
use observer::Builder;

/// Where beats come in by UDP, and what they are worth.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("udp_listener").multiple(true)))]
pub(super) struct Flags {
    /// UDP address to receive on besides; may be given several times. Beats
    /// of local processes are attested as on the socket
    #[arg(long, value_name = "ADDR:PORT", group = "udp_listener")]
    pub(super) udp: Vec<SocketAddr>,

    /// UDP address to receive on whose network is trusted: beats that no
    /// local process sent count as "operator attested" there
    #[arg(long, value_name = "ADDR:PORT", group = "udp_listener")]
    pub(super) trust_udp: Vec<SocketAddr>,

    /// Take beats that no local process sent, as "network unverified", and
    /// allow --udp addresses that other hosts can reach
    #[arg(long)]
    pub(super) accept_network_beats: bool,

    /// Network device whose senders are containers of this host: attest what
    /// they send by UDP over it, as a bridge or the host's end of a veth pair;
    /// may be given several times
    #[arg(long, value_name = "DEVICE", requires = "udp_listener")]
    pub(super) attest_device: Vec<String>,

    /// Addresses are translated (NAT) on the way from those devices' senders:
    /// know them by the bytes that they sent alone
    #[arg(long, requires = "attest_device")]
    pub(super) attest_translated: bool,

    /// Have each UDP datagram of this network namespace carry a mark that names
    /// it, so that none with the same bytes is taken for it. Firewall rules on
    /// marks see it
    #[arg(long, requires = "udp_listener", hide_short_help = true)]
    pub(super) udp_tokens: bool,

    /// cgroup2 directory whose processes' UDP datagrams are attested
    /// [default: the mounted root, with every process]
    #[arg(long, value_name = "DIR")]
    pub(super) cgroup: Option<PathBuf>,
}

impl Flags {
    /// An observer that heeds them.
    pub(super) fn apply(&self, builder: Builder) -> Builder {
        let Self {
            udp,
            trust_udp,
            accept_network_beats,
            attest_device,
            attest_translated,
            udp_tokens,
            cgroup,
        } = self;
        let mut builder = builder
            .accept_network_beats(*accept_network_beats)
            .attest_translated(*attest_translated)
            .udp_tokens(*udp_tokens)
            .cgroup(cgroup.clone());
        for &address in udp {
            builder = builder.udp(address);
        }
        for &address in trust_udp {
            builder = builder.trust_udp(address);
        }
        for device in attest_device {
            builder = builder.attest_device(device);
        }
        builder
    }
}
