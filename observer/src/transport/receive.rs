//! Receives datagrams in batches.

#[cfg(test)]
mod tests;

use std::{
    io, mem,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use observer_common::frame::FRAME_LEN;
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// How many datagrams one system call takes at most.
pub const BATCH: usize = 64;

/// [`BATCH`] as `recvmmsg` wants it.
const BATCH_LEN: libc::c_uint = 64;

const _: () = assert!(BATCH_LEN as usize == BATCH);

/// Room for exactly one `SCM_CREDENTIALS` message, and for nothing after it.
///
/// The kernel delivers credentials first (`scm_recv`, `include/net/scm.h` in
/// 6.1; `__scm_recv_common`, `net/core/scm.c` in 6.18). With no room left
/// `scm_detach_fds` installs none of the descriptors that a sender attached,
/// drops them, and sets `MSG_CTRUNC`: nothing foreign ever enters the
/// process, so there is nothing to close.
///
/// The kernel closes what it drops in the receiving task if the sender has
/// closed its own already, and a file may take its time for that: a TCP
/// socket with `SO_LINGER` and unsent data keeps `recvmmsg` for the time that
/// it lingers. Only `SO_PASSRIGHTS` (Linux 6.16) makes the kernel refuse
/// descriptors at the sender.
const CONTROL_LEN: usize = size_of::<CredentialsMessage>();

/// A control message with `struct ucred` as `put_cmsg` (`net/core/scm.c`)
/// writes it on a 64-bit kernel: `struct cmsghdr`, then the data, padded to a
/// multiple of 8.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct CredentialsMessage {
    length: usize,
    level: i32,
    kind: i32,
    pid: i32,
    uid: u32,
    gid: u32,
    padding: u32,
}

const _: () = assert!(CONTROL_LEN == 32, "CMSG_SPACE(sizeof(struct ucred))");

/// One received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// What it carried.
    pub payload: Payload,
    /// What `SCM_CREDENTIALS` says of its sender; `None` if the kernel gave
    /// none.
    pub credentials: Option<Credentials>,
    /// The sender attached control data that was not taken (`MSG_CTRUNC`).
    pub truncated_control: bool,
}

/// What a datagram carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// As many bytes as a frame has.
    Frame([u8; FRAME_LEN]),
    /// More bytes than a frame has, or fewer.
    WrongLength,
}

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

/// Buffers for a batch of datagrams.
pub struct Receiver {
    payloads: Box<[[u8; FRAME_LEN]; BATCH]>,
    controls: Box<[Control; BATCH]>,
    results: [Received; BATCH],
    received: usize,
}

/// A control buffer, aligned as the kernel's headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// What the kernel said of one datagram.
#[derive(Clone, Copy, Default)]
struct Received {
    length: usize,
    flags: i32,
    control_len: usize,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self {
            payloads: Box::new([[0; FRAME_LEN]; BATCH]),
            controls: Box::new([Control([0; CONTROL_LEN]); BATCH]),
            results: [Received::default(); BATCH],
            received: 0,
        }
    }

    /// Takes up to [`BATCH`] datagrams, without waiting; returns how many. If
    /// it is fewer than [`BATCH`] the queue was empty.
    ///
    /// # Errors
    /// What `recvmmsg` fails with, other than "would block" and "interrupted".
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        loop {
            match self.receive_once(socket) {
                Ok(received) => {
                    self.received = received;
                    return Ok(received);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(0),
                    _ => return Err(error),
                },
            }
        }
    }

    /// A datagram of the last batch.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Datagram> {
        if index >= self.received {
            return None;
        }
        let Received {
            length,
            flags,
            control_len,
        } = *self.results.get(index)?;
        let whole = length == FRAME_LEN && flags & libc::MSG_TRUNC == 0;
        let control = self.controls.get(index)?.0.get(..control_len)?;
        Some(Datagram {
            payload: if whole {
                Payload::Frame(*self.payloads.get(index)?)
            } else {
                Payload::WrongLength
            },
            credentials: credentials(control),
            truncated_control: flags & libc::MSG_CTRUNC != 0,
        })
    }

    /// The headers are built anew each time: about 200 ns for a batch, and no
    /// pointer outlives the call.
    fn receive_once(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let Self {
            payloads,
            controls,
            results,
            received: _,
        } = self;
        let mut buffers = payloads.each_mut().map(|payload| libc::iovec {
            iov_base: payload.as_mut_ptr().cast(),
            iov_len: FRAME_LEN,
        });
        let mut headers = [EMPTY_HEADER; BATCH];
        for ((header, buffer), control) in headers
            .iter_mut()
            .zip(&mut buffers)
            .zip(controls.iter_mut())
        {
            header.msg_hdr.msg_iov = ptr::from_mut(buffer);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
        }
        // SAFETY: `headers` holds `BATCH` headers. Each points to one iovec
        // of this frame, a payload buffer of `FRAME_LEN` bytes and a control
        // buffer of `CONTROL_LEN` bytes; all are distinct, borrowed mutably
        // and live until the call returns, and the kernel keeps none of them.
        let status = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH_LEN,
                libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(status) else {
            return Err(io::Error::last_os_error());
        };
        for (result, header) in results.iter_mut().zip(&headers).take(received) {
            *result = Received {
                length: header.msg_len as usize,
                flags: header.msg_hdr.msg_flags,
                control_len: header.msg_hdr.msg_controllen,
            };
        }
        Ok(received)
    }
}

/// A header that asks for nothing.
const EMPTY_HEADER: libc::mmsghdr = libc::mmsghdr {
    msg_hdr: libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    },
    msg_len: 0,
};

/// Reads `SCM_CREDENTIALS` from the control data of one datagram.
fn credentials(control: &[u8]) -> Option<Credentials> {
    let message = CredentialsMessage::read_from_bytes(control).ok()?;
    let expected = mem::offset_of!(CredentialsMessage, padding);
    if message.length != expected
        || message.level != libc::SOL_SOCKET
        || message.kind != libc::SCM_CREDENTIALS
    {
        return None;
    }
    Some(Credentials {
        pid: u32::try_from(message.pid).ok()?,
        uid: message.uid,
        gid: message.gid,
    })
}
