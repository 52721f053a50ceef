//! The control data of a datagram: when it was queued, and who sent it.

use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::sockopt::switch_on;

/// Room for exactly one time stamp and one `SCM_CREDENTIALS` message, and for
/// nothing after them.
///
/// The kernel delivers them in this order, the time stamp always
/// (`__unix_dgram_recvmsg`, `net/unix/af_unix.c`; `__sock_recv_timestamp`,
/// `net/socket.c`; `scm_recv`, `include/net/scm.h` in 6.1, and
/// `__scm_recv_common`, `net/core/scm.c` in 6.18). With no room left
/// `scm_detach_fds` installs none of the descriptors that a sender attached,
/// drops them, and sets `MSG_CTRUNC`: nothing foreign ever enters the
/// process, so there is nothing to close.
///
/// The kernel closes what it drops in the receiving task if the sender has
/// closed its own already, and a file may take its time for that: a TCP
/// socket with `SO_LINGER` and unsent data keeps `recvmmsg` for the time that
/// it lingers. So none is to get here, see
/// [`refuse_descriptors`](crate::sockopt::refuse_descriptors).
pub(super) const CONTROL_LEN: usize = size_of::<TimeMessage>() + size_of::<CredentialsMessage>();

/// Asks for all the control data that a Unix socket has room for. To be
/// called before anyone can send to it: a socket that lacks one of the two
/// would have room for descriptors.
///
/// The time costs its sender a look at the clock, and nobody else: Unix
/// sockets do not switch the host's time stamps on (`sock_needs_netstamp`,
/// `net/core/sock.c`), as an IP socket would for each packet received.
///
/// # Errors
/// What `setsockopt` fails with.
pub(crate) fn ask_for_time_and_credentials(socket: impl AsFd) -> io::Result<()> {
    switch_on(socket.as_fd(), libc::SO_TIMESTAMPNS)?;
    Ok(sockopt::set_socket_passcred(socket, true)?)
}

/// A control message with `struct timespec` as `put_cmsg`
/// (`net/core/scm.c`) writes it on a 64-bit kernel.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct TimeMessage {
    header: Header,
    seconds: i64,
    nanoseconds: i64,
}

/// A control message with `struct ucred`, likewise: header and data, padded
/// to a multiple of 8.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CredentialsMessage {
    header: Header,
    pid: i32,
    uid: u32,
    gid: u32,
    padding: u32,
}

/// `struct cmsghdr`
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    length: usize,
    level: i32,
    kind: i32,
}

const _: () = assert!(CONTROL_LEN == 64, "CMSG_SPACE(16) + CMSG_SPACE(12)");

/// `struct ucred` in the receiver's namespaces. The kernel fills it in unless
/// a privileged sender did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The sender; 0 if the receiver's pid namespace does not see it.
    pub pid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
}

/// What the kernel attached to one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Control {
    /// When it was queued, since the epoch.
    pub(super) queued: Option<Duration>,
    pub(super) credentials: Option<Credentials>,
    pub(super) mark: Option<u32>,
}

impl Control {
    /// Reads the control data of one datagram, as far as it is what was asked
    /// for.
    pub(super) fn read(bytes: &[u8]) -> Self {
        if let Some(mark) = mark(bytes) {
            return Self {
                mark: Some(mark),
                ..Self::default()
            };
        }
        let (queued, rest) = match TimeMessage::read_from_prefix(bytes) {
            Ok((message, rest)) if message.is_time() => (message.time(), rest),
            _ => (None, bytes),
        };
        Self {
            queued,
            credentials: credentials(rest),
            mark: None,
        }
    }
}

impl TimeMessage {
    fn is_time(&self) -> bool {
        self.header
            .is(libc::SCM_TIMESTAMPNS, size_of::<TimeMessage>())
    }

    fn time(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.seconds).ok()?;
        let nanoseconds = u32::try_from(self.nanoseconds).ok()?;
        Duration::from_secs(seconds).checked_add(Duration::from_nanos(nanoseconds.into()))
    }
}

impl Header {
    fn is(&self, kind: i32, length: usize) -> bool {
        self.length == length && self.level == libc::SOL_SOCKET && self.kind == kind
    }
}

/// A control message with the mark of an IP datagram (`sock_recv_mark`,
/// `net/socket.c`), padded to a multiple of 8.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MarkMessage {
    header: Header,
    mark: u32,
    padding: u32,
}

/// Only UDP sockets are asked for it, and for nothing else.
fn mark(bytes: &[u8]) -> Option<u32> {
    let message = MarkMessage::read_from_bytes(bytes).ok()?;
    let length = mem::offset_of!(MarkMessage, padding);
    message
        .header
        .is(libc::SO_MARK, length)
        .then_some(message.mark)
}

fn credentials(bytes: &[u8]) -> Option<Credentials> {
    let message = CredentialsMessage::read_from_bytes(bytes).ok()?;
    let length = mem::offset_of!(CredentialsMessage, padding);
    if !message.header.is(libc::SCM_CREDENTIALS, length) {
        return None;
    }
    Some(Credentials {
        pid: u32::try_from(message.pid).ok()?,
        uid: message.uid,
        gid: message.gid,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control message as the kernel writes it.
    fn message(length: usize, level: i32, kind: i32, pid: i32) -> Vec<u8> {
        let mut bytes = length.to_ne_bytes().to_vec();
        for word in [level, kind, pid, 1000, 1001, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn an_invisible_sender_is_pid_0_and_not_nobody() {
        let bytes = message(28, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 0);
        let expected = Credentials {
            pid: 0,
            uid: 1000,
            gid: 1001,
        };
        assert_eq!(Control::read(&bytes).credentials, Some(expected));
    }

    #[test]
    fn the_time_comes_before_the_credentials() {
        let mut bytes = 32_usize.to_ne_bytes().to_vec();
        for word in [libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, 5, 0, 6, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        let time = Duration::new(5, 6);
        assert_eq!(Control::read(&bytes).queued, Some(time));
        bytes.extend(message(28, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 7));
        let Control {
            queued,
            credentials,
            mark: _,
        } = Control::read(&bytes);
        assert_eq!(queued, Some(time));
        assert_eq!(credentials.map(|found| found.pid), Some(7));
    }

    #[test]
    fn what_was_not_asked_for_is_none() {
        let whole = message(28, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 5);
        for length in 0..whole.len() {
            assert_eq!(Control::read(&whole[..length]), Control::default());
        }
        for (length, level, kind, pid) in [
            (27, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 5),
            (28, libc::SOL_IP, libc::SCM_CREDENTIALS, 5),
            (28, libc::SOL_SOCKET, libc::SCM_RIGHTS, 5),
            (28, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, -1),
            (28, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, 5),
        ] {
            let bytes = message(length, level, kind, pid);
            assert_eq!(Control::read(&bytes), Control::default());
        }
        let mut negative = 32_usize.to_ne_bytes().to_vec();
        for word in [libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, -1, -1, 6, 0] {
            negative.extend(word.to_ne_bytes());
        }
        assert_eq!(Control::read(&negative), Control::default());
    }
}
