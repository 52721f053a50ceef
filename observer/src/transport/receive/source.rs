//! The address that an IP datagram came from.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, big_endian};

/// Room for a `struct sockaddr_in` or a `struct sockaddr_in6`
/// (`include/uapi/linux/in6.h`), whose first bytes are the other's.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub(super) struct Source {
    family: u16,
    port: big_endian::U16,
    /// The address itself, in a `sockaddr_in`.
    flow: [u8; 4],
    address: [u8; 16],
    scope: u32,
}

/// Length of a [`Source`].
pub(super) const SOURCE_LEN: u32 = 28;

const _: () = assert!(SOURCE_LEN as usize == size_of::<Source>());

impl Source {
    /// The address; `None` if the family is no IP.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let port = self.port.get();
        match i32::from(self.family) {
            libc::AF_INET => Some((Ipv4Addr::from(self.flow), port).into()),
            libc::AF_INET6 => Some((Ipv6Addr::from(self.address), port).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read() {
        let mut source = Source {
            family: u16::try_from(libc::AF_INET).unwrap(),
            port: 9.into(),
            flow: [192, 0, 2, 1],
            ..Source::default()
        };
        assert_eq!(source.address(), Some("192.0.2.1:9".parse().unwrap()));
        source.family = u16::try_from(libc::AF_INET6).unwrap();
        source.address = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(source.address(), Some("[::1]:9".parse().unwrap()));
        source.family = u16::try_from(libc::AF_UNIX).unwrap();
        assert_eq!(source.address(), None);
    }
}
