//! Socket options that no library at hand has a safe call for.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Length of an int option.
const INT_LEN: libc::socklen_t = 4;

const _: () = assert!(INT_LEN as usize == size_of::<libc::c_int>());

/// `SO_PASSRIGHTS` (`include/uapi/asm-generic/socket.h`, Linux 6.16), the same
/// on all machines that the observer runs on.
const SO_PASSRIGHTS: libc::c_int = 83;

/// Has the kernel refuse descriptors that senders attach to datagrams, with
/// `EPERM` and before they are queued (`unix_dgram_sendmsg`,
/// `net/unix/af_unix.c`, 6.18); false where it cannot (Linux before 6.16).
///
/// # Errors
/// What `setsockopt` fails with otherwise.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    match set(socket, SO_PASSRIGHTS, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Switches an option of level `SOL_SOCKET` on that takes an int.
///
/// # Errors
/// What `setsockopt` fails with.
pub(crate) fn switch_on(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    set(socket, option, 1)
}

fn set(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: pointer and length are those of `value`, which outlives the call.
    // An option that takes more than an int refuses the length.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            INT_LEN,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Attaches a program to the group of sockets that a socket is in
/// (`SO_REUSEPORT`): it says by its number which of them a datagram is for.
///
/// # Errors
/// What `setsockopt` fails with.
pub(crate) fn attach_reuseport_filter(
    socket: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        // The kernel copies from it, and writes nothing.
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: pointer and length are those of `program`, which names as many
    // instructions as it points to; both outlive the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            PROGRAM_LEN,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Length of a program's description.
const PROGRAM_LEN: libc::socklen_t = 16;

const _: () = assert!(PROGRAM_LEN as usize == size_of::<libc::sock_fprog>());

/// How many datagrams the socket has dropped: no room, a bad checksum, or a
/// filter that refused them (`sk_drops`, `include/net/sock.h`; reported by
/// `SO_MEMINFO`, `sk_getsockopt`, `net/core/sock.c`).
///
/// # Errors
/// What `getsockopt` fails with.
pub(crate) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    /// `SK_MEMINFO_VARS` and `SK_MEMINFO_DROPS`,
    /// `include/uapi/linux/sock_diag.h`
    const WORDS: usize = 9;
    const DROPS: usize = 8;
    let mut words = [0_u32; WORDS];
    let mut length = MEMINFO_LEN;
    // SAFETY: the kernel writes at most `length` bytes to `words`, which has
    // as many; both outlive the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(io::Error::last_os_error());
    }
    let [.., drops] = words;
    const { assert!(DROPS + 1 == WORDS && MEMINFO_LEN as usize == WORDS * 4) };
    Ok(drops)
}

/// Length of `SO_MEMINFO`'s answer.
const MEMINFO_LEN: libc::socklen_t = 36;
