//! The system calls that receive: one for many datagrams, or one for each.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

use super::Batch;

/// Never waiting, and never with a descriptor that outlives an `exec`.
const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;

/// Fills headers with datagrams, without waiting.
///
/// # Safety
/// What the headers point to is nobody else's until it returns, and as large as
/// they say. The kernel keeps none of it.
pub(super) unsafe fn fill(
    socket: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
    flags: libc::c_int,
    one_by_one: bool,
) -> io::Result<Batch> {
    if one_by_one {
        // SAFETY: the caller vouches for the headers.
        unsafe { fill_one_by_one(socket, headers, flags) }
    } else {
        // SAFETY: the caller vouches for the headers.
        unsafe { fill_together(socket, headers, flags) }
    }
}

/// By one call.
///
/// # Safety
/// As of [`fill`].
unsafe fn fill_together(
    socket: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
    flags: libc::c_int,
) -> io::Result<Batch> {
    let length = libc::c_uint::try_from(headers.len()).unwrap_or_default();
    // SAFETY: there are `length` headers, and the caller vouches for what they
    // point to.
    let status = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            length,
            FLAGS | flags,
            ptr::null_mut(),
        )
    };
    let received = usize::try_from(status).map_err(|_| io::Error::last_os_error())?;
    Ok(Batch {
        received,
        is_drained: received < headers.len(),
    })
}

/// By a call for each. One that fails after others did well is repeated by the
/// next receive: the socket was not seen empty.
///
/// # Safety
/// As of [`fill`].
unsafe fn fill_one_by_one(
    socket: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
    flags: libc::c_int,
) -> io::Result<Batch> {
    let mut received = 0_usize;
    for header in headers {
        // SAFETY: the caller vouches for what the header points to.
        let status =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header.msg_hdr, FLAGS | flags) };
        let Ok(length) = libc::c_uint::try_from(status) else {
            let error = io::Error::last_os_error();
            return match (received, error.kind()) {
                (0, _) => Err(error),
                (_, kind) => Ok(Batch {
                    received,
                    is_drained: kind == io::ErrorKind::WouldBlock,
                }),
            };
        };
        header.msg_len = length;
        received = received.saturating_add(1);
    }
    Ok(Batch {
        received,
        is_drained: false,
    })
}

/// Whether a system call is refused, and not what it was to do: a seccomp
/// policy returns these.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}
