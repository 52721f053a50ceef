//! Receives datagrams in batches.

mod control;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;
use std::time::Duration;

use observer_common::frame::FRAME_LEN;

pub(crate) use self::control::Credentials;
pub(super) use self::control::ask_for_time_and_credentials;
use self::control::{CONTROL_LEN, Control};
use self::source::{SOURCE_LEN, Source};

/// How many datagrams one system call takes at most.
pub(crate) const BATCH: usize = 64;

/// How many it is asked for where few came the last time: what is prepared for
/// more is memory that a CPU has to fetch first when beats are rare.
const FEW: usize = 4;

/// What one receive took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many datagrams, [`BATCH`] at most.
    pub received: usize,
    /// Nothing waited in the socket when these had been taken: they are fewer
    /// than were asked for, and `recvmmsg` stops early for no other reason.
    pub is_drained: bool,
}

impl Batch {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        received: 0,
        is_drained: true,
    };
}

/// One received datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// What it carried.
    pub payload: Payload,
    /// What `SCM_CREDENTIALS` says of its sender; `None` if the kernel gave
    /// none.
    pub credentials: Option<Credentials>,
    /// Where it came from, if it came by IP; anyone can write any address
    /// there.
    pub source: Option<SocketAddr>,
    /// The sender attached control data that was not taken (`MSG_CTRUNC`).
    pub truncated_control: bool,
    /// The mark that it came with, where the socket was asked for it.
    pub mark: Option<u32>,
}

/// What a datagram carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// As many bytes as a frame has.
    Frame([u8; FRAME_LEN]),
    /// More bytes than a frame has, or fewer.
    WrongLength,
}

/// Buffers for a batch of datagrams.
pub struct Receiver {
    payloads: Box<[[u8; FRAME_LEN]; BATCH]>,
    controls: Box<[ControlBuffer; BATCH]>,
    /// Only where datagrams have a source that is of use.
    sources: Option<Box<[Source; BATCH]>>,
    results: [Received; BATCH],
    received: usize,
    /// The last receive took all that it asked for.
    was_full: bool,
}

/// A control buffer, aligned as the kernel's headers are.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_LEN]);

/// What the kernel said of one datagram.
#[derive(Clone, Copy, Default)]
struct Received {
    length: usize,
    flags: i32,
    control_len: usize,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Receiver {
    /// Buffers for datagrams of a Unix socket: with credentials.
    #[must_use]
    pub fn for_unix() -> Self {
        Self::new(None)
    }

    /// Buffers for datagrams of a UDP socket: with the source's address.
    #[must_use]
    pub fn for_udp() -> Self {
        Self::new(Some(Box::new([Source::default(); BATCH])))
    }

    fn new(sources: Option<Box<[Source; BATCH]>>) -> Self {
        Self {
            payloads: Box::new([[0; FRAME_LEN]; BATCH]),
            controls: Box::new([ControlBuffer([0; CONTROL_LEN]); BATCH]),
            sources,
            results: [Received::default(); BATCH],
            received: 0,
            was_full: false,
        }
    }

    /// Takes up to [`BATCH`] datagrams, without waiting.
    ///
    /// # Errors
    /// What `recvmmsg` fails with, other than "would block" and "interrupted".
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<Batch> {
        self.received = 0;
        let batch = if self.was_full {
            self.receive_most::<BATCH>(socket)
        } else {
            self.receive_most::<FEW>(socket)
        }?;
        self.received = batch.received;
        self.was_full = !batch.is_drained;
        Ok(batch)
    }

    /// Takes `N` at most.
    fn receive_most<const N: usize>(&mut self, socket: BorrowedFd<'_>) -> io::Result<Batch> {
        loop {
            match self.receive_once::<N>(socket) {
                Ok(received) => {
                    return Ok(Batch {
                        received,
                        is_drained: received < N,
                    });
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Ok(Batch::NONE),
                    _ => return Err(error),
                },
            }
        }
    }

    /// A datagram of the last batch.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Datagram> {
        let Received { length, flags, .. } = self.result(index)?;
        let whole = length == FRAME_LEN && flags & libc::MSG_TRUNC == 0;
        let source = self.sources.as_ref().and_then(|all| all.get(index));
        Some(Datagram {
            payload: if whole {
                Payload::Frame(*self.payloads.get(index)?)
            } else {
                Payload::WrongLength
            },
            credentials: self.control(index)?.credentials,
            source: source.and_then(Source::address),
            truncated_control: flags & libc::MSG_CTRUNC != 0,
            mark: self.control(index)?.mark,
        })
    }

    /// When the first datagram of the last batch began to wait, if it came by
    /// the Unix socket: a time of `CLOCK_REALTIME`, from the kernel and not
    /// from the sender.
    pub(crate) fn first_queued(&self) -> Option<Duration> {
        self.control(0)?.queued
    }

    /// When each datagram of the last batch began to wait.
    pub(crate) fn queued(&self) -> impl Iterator<Item = Duration> + '_ {
        (0..self.received).filter_map(|at| self.control(at)?.queued)
    }

    fn result(&self, index: usize) -> Option<Received> {
        let results = self.results.get(..self.received)?;
        results.get(index).copied()
    }

    fn control(&self, index: usize) -> Option<Control> {
        let Received { control_len, .. } = self.result(index)?;
        let ControlBuffer(bytes) = self.controls.get(index)?;
        Some(Control::read(bytes.get(..control_len)?))
    }

    /// The headers are built anew each time: about 200 ns for a batch, and no
    /// pointer outlives the call.
    fn receive_once<const N: usize>(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        const { assert!(N <= BATCH) };
        let Self {
            payloads,
            controls,
            sources,
            results,
            ..
        } = self;
        let mut buffers = [EMPTY_BUFFER; N];
        let mut headers = [EMPTY_HEADER; N];
        for (((header, buffer), payload), control) in headers
            .iter_mut()
            .zip(&mut buffers)
            .zip(payloads.iter_mut())
            .zip(controls.iter_mut())
        {
            buffer.iov_base = payload.as_mut_ptr().cast();
            buffer.iov_len = FRAME_LEN;
            header.msg_hdr.msg_iov = ptr::from_mut(buffer);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_LEN;
        }
        for (header, source) in headers
            .iter_mut()
            .zip(sources.iter_mut().flat_map(|all| all.iter_mut()))
        {
            *source = Source::default();
            header.msg_hdr.msg_name = ptr::from_mut(source).cast();
            header.msg_hdr.msg_namelen = SOURCE_LEN;
        }
        let length = libc::c_uint::try_from(N).unwrap_or_default();
        // SAFETY: `headers` holds `length` headers. Each points to one iovec
        // of this frame, a payload buffer of `FRAME_LEN` bytes and a control
        // buffer of `CONTROL_LEN` bytes, and to none or to `SOURCE_LEN` bytes
        // for a name; all are distinct, borrowed mutably and live until the
        // call returns, and the kernel keeps none of them.
        let status = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                length,
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

/// A buffer for nothing.
const EMPTY_BUFFER: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

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
