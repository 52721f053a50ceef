//! The kernel's table of UDP sockets: who else has bound a port.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

/// Fails if a socket that is not one of `own` would get datagrams to an
/// address.
///
/// # Errors
/// "Address in use" then; or if the table cannot be read.
pub(super) fn check_alone<'a>(
    address: SocketAddr,
    own: impl Iterator<Item = &'a Socket>,
) -> io::Result<()> {
    let own: io::Result<Vec<u64>> = own
        .map(|socket| Ok(rustix::fs::fstat(socket)?.st_ino))
        .collect();
    let own = own?;
    let path = match address {
        SocketAddr::V4(_) => "/proc/thread-self/net/udp",
        SocketAddr::V6(_) => "/proc/thread-self/net/udp6",
    };
    let table = fs::read_to_string(path)
        .map_err(|error| io::Error::other(format!("cannot read {path}: {error}; mount /proc")))?;
    let mut others = table.lines().skip(1).map(parse);
    if others.any(|entry| {
        entry.is_none_or(|entry| entry.overlaps(address) && !own.contains(&entry.inode))
    }) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    Ok(())
}

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    address: Option<IpAddr>,
    port: u16,
    inode: u64,
}

impl Entry {
    fn overlaps(&self, listener: SocketAddr) -> bool {
        let is_same_address = match self.address {
            Some(address) => address == listener.ip(),
            None => true,
        };
        self.port == listener.port() && (is_same_address || listener.ip().is_unspecified())
    }
}

/// `SL: ADDRESS:PORT REMOTE:PORT STATE QUEUES TIMER RETRANSMITS UID TIMEOUT
/// INODE ...` (`udp4_format_sock`, `net/ipv4/udp.c`; `__ip6_dgram_sock_seq_show`,
/// `net/ipv6/datagram.c`), addresses as words of the machine's byte order.
fn parse(line: &str) -> Option<Entry> {
    let mut fields = line.split_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let words: Option<Vec<u32>> = (0..address.len())
        .step_by(8)
        .map(|at| u32::from_str_radix(address.get(at..at.checked_add(8)?)?, 16).ok())
        .collect();
    let address: IpAddr = match *words? {
        [word] => word.to_ne_bytes().into(),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (to, from) in bytes.chunks_mut(4).zip([a, b, c, d]) {
                to.copy_from_slice(&from.to_ne_bytes());
            }
            bytes.into()
        }
        _ => return None,
    };
    Some(Entry {
        address: (!address.is_unspecified()).then_some(address),
        port: u16::from_str_radix(port, 16).ok()?,
        inode: fields.nth(7)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn lines_of_both_tables_are_read() {
        let v4 = "  335: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                  1000        0 4242 2 0000000000000000 0";
        let expected = Entry {
            address: Some([127, 0, 0, 1].into()),
            port: 8080,
            inode: 4242,
        };
        assert_eq!(parse(v4), Some(expected));
        let v6 = "  335: 00000000000000000000000001000000:1F90 \
                  00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000 \
                  0        0 77 2 0000000000000000 0";
        let entry = parse(v6).expect("a line");
        assert_eq!(
            entry.address,
            Some(IpAddr::from(std::net::Ipv6Addr::LOCALHOST))
        );
        assert_eq!((entry.port, entry.inode), (8080, 77));
        for line in ["", "1: zz:1", "1: 0100007F:1F90"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_stranger_on_the_port_is_found() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let stranger = UdpSocket::bind(loopback).expect("binds");
            let address = stranger.local_addr().expect("bound");
            let error = check_alone(address, std::iter::empty()).expect_err("it is there");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            let own = Socket::from(stranger);
            check_alone(address, std::iter::once(&own)).expect("it is ours");
        }
    }
}
