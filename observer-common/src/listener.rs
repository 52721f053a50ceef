//! Which IP datagrams are the observer's: constants that userspace injects
//! when it loads the eBPF program for UDP.
//!
//! The program runs for every IP packet that the host sends. Constants let
//! the verifier turn the comparison into a few literals and remove the rest.

/// How many UDP listeners one observer can have.
pub const MAX_LISTENERS: usize = 8;

/// The destination that a listener is bound to, in network byte order as
/// packets have it: the program compares without swapping bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Listener {
    /// IPv6 address, or an IPv4 address as the first word.
    pub address: [u32; 4],
    /// UDP port.
    pub port: u16,
    /// IP version: 4 or 6; 0: no listener.
    pub version: u8,
    /// 1 if the listener receives datagrams to any address of the host, 0 if to
    /// its own only. A `u8` and not a `bool`: no invalid value.
    pub any_address: u8,
}

/// The `LISTENERS` constant of the eBPF object.
pub type Listeners = [Listener; MAX_LISTENERS];

/// How many devices an operator can declare.
pub const MAX_DEVICES: usize = 8;

/// Index of the loopback device, the same in each network namespace
/// (`LOOPBACK_IFINDEX`, `include/net/flow.h`).
pub const LOOPBACK: u32 = 1;

/// Where the observer is in the network, and how to read where a socket is: the
/// `NETWORK` constant of the eBPF object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::IntoBytes, zerocopy::Immutable))]
#[repr(C)]
pub struct Network {
    /// The observer is woken once more than this many bytes of a ring are
    /// unread.
    pub wake_above: u64,
    /// Inode of the network namespace that the listeners are in.
    pub inode: u32,
    /// 1: datagrams of other network namespaces are recorded, in a ring of
    /// their own. `u32` and not `bool`, here and below: no padding, no invalid
    /// value.
    pub records_others: u32,
    /// 1: each datagram carries a token.
    pub tokens: u32,
    /// BTF id of `struct udp_sock`.
    pub udp_sock: u32,
    /// `sk_buff.sk`
    pub skb_sk: u32,
    /// `sock.__sk_common.skc_net.net`
    pub sock_net: u32,
    /// `sock.sk_type`
    pub sock_type: u32,
    /// `sock.sk_protocol`
    pub sock_protocol: u32,
    /// `udp_sock.pending`
    pub udp_pending: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// Indices of the devices that the operator declared; 0: none.
    pub devices: [u32; MAX_DEVICES],
}

impl Network {
    /// What stands in the object file: no namespace has the inode 0.
    pub const UNRESOLVED: Self = Self {
        wake_above: 0,
        inode: 0,
        records_others: 0,
        tokens: 0,
        udp_sock: 0,
        skb_sk: 0,
        sock_net: 0,
        sock_type: 0,
        sock_protocol: 0,
        udp_pending: 0,
        net_inum: 0,
        devices: [0; MAX_DEVICES],
    };
}

const _: () = assert!(size_of::<Network>() == 8 + 10 * 4 + MAX_DEVICES * 4);

impl Listener {
    /// No listener.
    pub const NONE: Self = Self {
        address: [0; 4],
        port: 0,
        version: 0,
        any_address: 0,
    };
}

#[cfg(feature = "user")]
impl From<core::net::SocketAddr> for Listener {
    fn from(bound: core::net::SocketAddr) -> Self {
        let (address, version) = match bound.ip() {
            core::net::IpAddr::V4(address) => ([u32::from(address).to_be(), 0, 0, 0], 4),
            core::net::IpAddr::V6(address) => (zerocopy::transmute!(address.octets()), 6),
        };
        Self {
            address,
            port: bound.port().to_be(),
            version,
            any_address: u8::from(bound.ip().is_unspecified()),
        }
    }
}

const _: () = assert!(size_of::<Listener>() == 20);

#[cfg(all(test, feature = "user"))]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::Listener;

    #[test]
    fn addresses_are_in_network_order() {
        let listener = Listener::from("192.0.2.7:258".parse::<core::net::SocketAddr>().unwrap());
        assert_eq!(listener.as_bytes()[..4], [192, 0, 2, 7]);
        assert_eq!(listener.as_bytes()[16..], [1, 2, 4, 0]);
        let listener = Listener::from("[2001:db8::1]:1".parse::<core::net::SocketAddr>().unwrap());
        assert_eq!(listener.as_bytes()[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(listener.as_bytes()[15], 1);
        assert_eq!(listener.as_bytes()[16..], [0, 1, 6, 0]);
    }

    #[test]
    fn the_unspecified_address_is_any() {
        for text in ["0.0.0.0:5", "[::]:5"] {
            let bound = text.parse::<core::net::SocketAddr>().unwrap();
            assert_eq!(Listener::from(bound).any_address, 1);
        }
    }
}
