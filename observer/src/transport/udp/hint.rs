//! What keeps an address from being used, where the system's error does not
//! say it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

/// What an operator can do where a socket cannot be bound to an address of this
/// host, or cannot send to it: text that goes on behind the error. Empty where
/// that is not known.
#[must_use]
pub fn address_hint(address: SocketAddr, error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRINUSE) => "; another process has the port, stop it or choose another",
        Some(Errno::ADDRNOTAVAIL | Errno::NETUNREACH) => no_such_address(address.ip()),
        Some(Errno::AFNOSUPPORT) if address.is_ipv6() => NO_IPV6,
        Some(Errno::ACCESS) => "; a port below 1024 needs CAP_NET_BIND_SERVICE",
        Some(Errno::PERM) => "; a firewall forbids it",
        _ => "",
    }
}

const NO_IPV6: &str = "; IPv6 is disabled on this host: enable it, or use an address of IPv4";

fn no_such_address(ip: IpAddr) -> &'static str {
    // Both have neither address nor route while they last.
    if ip.is_ipv6() && is_ipv6_disabled(ip) {
        "; IPv6 is disabled (sysctl net.ipv6.conf.all.disable_ipv6): enable it, or use an address \
         of IPv4"
    } else if (ip.is_loopback() || ip.is_unspecified()) && is_loopback_down() {
        "; the loopback device of this network namespace is down: ip link set lo up"
    } else {
        "; no interface of this host has the address"
    }
}

/// The settings in `/proc/sys/net` are those of the network namespace of whoever
/// reads them (`net_ctl_header_lookup`, `net/sysctl_net.c`, read in 6.1 to
/// 6.18).
fn is_ipv6_disabled(ip: IpAddr) -> bool {
    let device = if ip.is_loopback() || ip.is_unspecified() {
        "lo"
    } else {
        "all"
    };
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
}

/// There is a route to 127.0.0.1 only while the device is up. Connecting sends
/// nothing.
fn is_loopback_down() -> bool {
    const DISCARD: u16 = 9;
    let connect = || {
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        UdpSocket::bind(any)?.connect((Ipv4Addr::LOCALHOST, DISCARD))
    };
    connect().is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::NETUNREACH))
}
