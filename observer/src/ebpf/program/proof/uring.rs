//! A datagram that a kernel thread sends, for an io_uring of the calling process.
//!
//! To be called in a child: a seccomp filter may kill who asks for an io_uring,
//! and the kernel's threads go away with their process.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::atomic::Ordering;

use observer_common::frame::FRAME_LEN;
use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringOp, IoringSetupFlags,
    IoringSqeFlags, io_uring_enter, io_uring_params, io_uring_setup,
};
use rustix::mm::ProtFlags;

use crate::ebpf::mapping::Mapping;

/// Length of `struct io_uring_sqe` (`include/uapi/linux/io_uring.h`).
const ENTRY_LEN: usize = 64;

/// Whose thread carries a send out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uring {
    /// A kernel thread looks for what is submitted.
    pub(super) is_polled: bool,
    /// A worker carries it out.
    pub(super) by_worker: bool,
}

impl Uring {
    /// Sends, and returns once that was carried out; `None`: it was not possible.
    /// Allocates nothing.
    pub(super) fn send(self, socket: BorrowedFd<'_>, frame: &[u8; FRAME_LEN]) -> Option<()> {
        let mut params = io_uring_params::default();
        if self.is_polled {
            params.flags = IoringSetupFlags::SQPOLL;
            params.sq_thread_idle = 1000;
        }
        // SAFETY: the parameters live until the call is over.
        let ring = unsafe { io_uring_setup(1, &mut params) }.ok()?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let map = |offset: u64, length: usize| {
            Mapping::new(&ring, usize::try_from(offset).ok()?, length, access).ok()
        };
        let entries = map(IORING_OFF_SQES, ENTRY_LEN)?;
        let tail = usize::try_from(params.sq_off.tail).ok()?;
        let array = usize::try_from(params.sq_off.array).ok()?;
        let queue = map(IORING_OFF_SQ_RING, array.max(tail).checked_add(4)?)?;
        let entry = self.entry(socket, frame);
        let (words, _) = entry.as_chunks::<4>();
        for (number, word) in words.iter().enumerate() {
            let word = u32::from_ne_bytes(*word);
            let place = entries.half_word(number.checked_mul(4)?)?;
            place.store(word, Ordering::Relaxed);
        }
        queue.half_word(array)?.store(0, Ordering::Relaxed);
        queue.half_word(tail)?.store(1, Ordering::Release);
        let flags = IoringEnterFlags::GETEVENTS | IoringEnterFlags::SQ_WAKEUP;
        // SAFETY: frame and socket live until the send was carried out, which
        // this waits for; if it fails the process ends.
        unsafe { io_uring_enter(ring.as_fd(), 1, 1, flags) }.ok()?;
        Some(())
    }

    /// `struct io_uring_sqe`: opcode, flags, descriptor; address and length.
    fn entry(self, socket: BorrowedFd<'_>, frame: &[u8; FRAME_LEN]) -> [u8; ENTRY_LEN] {
        let flags = if self.by_worker {
            IoringSqeFlags::ASYNC.bits()
        } else {
            0
        };
        let address = u64::try_from(frame.as_ptr().addr()).unwrap_or_default();
        let length = u32::try_from(FRAME_LEN).unwrap_or_default();
        let mut entry = [0; ENTRY_LEN];
        let fields: [(usize, &[u8]); 4] = [
            (0, &[IoringOp::Send as u8, flags]),
            (4, &socket.as_raw_fd().to_ne_bytes()),
            (16, &address.to_ne_bytes()),
            (24, &length.to_ne_bytes()),
        ];
        for (at, field) in fields {
            for (to, from) in entry.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        }
        entry
    }
}
