//! Receives datagrams in batches.

mod call;
mod control;
mod source;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
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

/// How often a receive is tried that is interrupted: it never waits, so nothing
/// should do that for ever.
const MOST_TRIES: usize = 8;

/// What one receive took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many datagrams, [`BATCH`] at most.
    pub received: usize,
    /// Nothing waited in the socket when these had been taken: they are fewer
    /// than were asked for. `recvmmsg` stops early for an error, too, and then
    /// it keeps that in the socket, which wakes who waits for it.
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
    /// Why `recvmsg` is used, for one datagram after the other; `None`:
    /// `recvmmsg` is.
    one_by_one: Option<io::Error>,
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
            one_by_one: None,
        }
    }

    /// Finds out by which call the socket can be received from, and takes
    /// nothing from it: a seccomp policy may know `recvmsg` only.
    ///
    /// # Errors
    /// What `recvmsg` fails with, if that cannot be used either.
    pub(crate) fn try_receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let peek = |this: &mut Self| this.receive_most::<1>(socket, libc::MSG_PEEK);
        // An error that waited in the socket comes once.
        let Err(error) = peek(self).or_else(|_| peek(self)) else {
            return Ok(());
        };
        if self.one_by_one.is_some() {
            return Err(error);
        }
        self.fall_back(error);
        peek(self).map(drop)
    }

    /// Why datagrams are received one by one, if they are.
    pub(crate) fn one_by_one(&self) -> Option<&io::Error> {
        self.one_by_one.as_ref()
    }

    /// For good: what was refused once is not tried again.
    fn fall_back(&mut self, error: io::Error) {
        tracing::warn!(
            "recvmmsg is refused ({error}): datagrams are received one by one, which takes more \
             system calls"
        );
        self.one_by_one = Some(error);
    }

    /// Takes up to [`BATCH`] datagrams, without waiting.
    ///
    /// # Errors
    /// What the kernel fails with, other than "would block" and "interrupted".
    /// The socket has not been read then.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<Batch> {
        self.received = 0;
        let batch = if self.was_full {
            self.receive_most::<BATCH>(socket, 0)
        } else {
            self.receive_most::<FEW>(socket, 0)
        }?;
        self.received = batch.received;
        self.was_full = !batch.is_drained;
        Ok(batch)
    }

    /// Takes `N` at most.
    fn receive_most<const N: usize>(
        &mut self,
        socket: BorrowedFd<'_>,
        flags: libc::c_int,
    ) -> io::Result<Batch> {
        let mut tries = 1_usize;
        loop {
            let error = match self.receive_once::<N>(socket, flags) {
                Ok(batch) => return Ok(batch),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(Batch::NONE),
                io::ErrorKind::Interrupted if tries < MOST_TRIES => {}
                _ if call::is_refusal(&error) && self.one_by_one.is_none() => self.fall_back(error),
                _ => return Err(error),
            }
            tries = tries.saturating_add(1);
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
    fn receive_once<const N: usize>(
        &mut self,
        socket: BorrowedFd<'_>,
        flags: libc::c_int,
    ) -> io::Result<Batch> {
        const { assert!(N <= BATCH) };
        let Self {
            payloads,
            controls,
            sources,
            results,
            one_by_one,
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
        // SAFETY: each header points to one iovec of this frame, a payload
        // buffer of `FRAME_LEN` bytes and a control buffer of `CONTROL_LEN`
        // bytes, and to none or to `SOURCE_LEN` bytes for a name; all are
        // distinct, borrowed mutably and live until the call returns.
        let batch = unsafe { call::fill(socket, &mut headers, flags, one_by_one.is_some()) }?;
        for (result, header) in results.iter_mut().zip(&headers).take(batch.received) {
            *result = Received {
                length: header.msg_len as usize,
                flags: header.msg_hdr.msg_flags,
                control_len: header.msg_hdr.msg_controllen,
            };
        }
        Ok(batch)
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
