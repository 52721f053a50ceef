//! Beats by UDP.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use observer::Builder;

use crate::address::parse_address;

/// Which UDP addresses are received at, and which of their beats are accepted.
#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "UDP", group(ArgGroup::new("udp_listener").multiple(true)))]
pub(super) struct Flags {
    /// UDP address to receive beats at, besides the socket. Beats of this
    /// host's processes are attested as on the socket. May be given several
    /// times: up to eight listeners, with those of --trust-udp
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, group = "udp_listener")]
    udp: Vec<SocketAddr>,

    /// UDP address to receive beats at, on a network that you trust: beats that
    /// no process of this host sent are accepted there, as
    /// `operator_attested_transport`. May be given several times
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_address, group = "udp_listener")]
    trust_udp: Vec<SocketAddr>,

    /// Accept beats that no process of this host sent, as `network_unverified`,
    /// and allow --udp addresses that other hosts can reach
    #[arg(long)]
    accept_network_beats: bool,

    /// Network device behind which are containers of this host, such as a
    /// bridge or the host's end of a veth pair: attest what they send by UDP
    /// over it. May be given several times
    #[arg(long, value_name = "DEVICE", requires = "udp_listener")]
    attest_device: Vec<String>,

    /// The addresses of senders behind these devices are translated (NAT) on
    /// the way: join their datagrams with records by their bytes alone
    #[arg(long, requires = "attest_device")]
    attest_translated: bool,

    /// Give each UDP datagram of this network namespace a mark (`SO_MARK`) that
    /// names its record, so that no other datagram with the same bytes is
    /// taken for it. Firewall rules that match marks see it
    #[arg(long, requires = "udp_listener", hide_short_help = true)]
    udp_tokens: bool,

    /// cgroup2 directory whose processes' UDP datagrams are attested
    /// [default: the mounted root, which has every process]
    #[arg(long, value_name = "DIR")]
    pub(super) cgroup: Option<PathBuf>,
}

impl Flags {
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
