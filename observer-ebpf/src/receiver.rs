//! Whether anyone still receives.
//!
//! A filter outlives its socket's owner: a connected sender keeps the socket,
//! and `unix_dgram_sendmsg` (`net/unix/af_unix.c`, read in 6.1 to 6.18) runs
//! the filter before it looks at `SOCK_DEAD` and `sk_shutdown`. If the filter
//! dropped a datagram then, the send would succeed, and so would every later
//! one; if it passes the datagram, the kernel refuses it (`ECONNREFUSED`). So
//! once the observer has gone everything is passed, and nothing is recorded or
//! charged.

use aya_ebpf::helpers::bpf_skc_to_unix_sock;
use aya_ebpf::macros::map;
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::SkBuffContext;

use crate::constants::layout;
use crate::kernel::{KernelPtr, load};

/// Whether the socket that this filter is attached to has not been closed.
///
/// `sk_filter_trim_cap` (`net/core/filter.c`) puts the receiving socket in
/// `skb->sk` for the time of the filter; `unix_release_sock`
/// (`net/unix/af_unix.c`) sets `sk_shutdown` to `SHUTDOWN_MASK`. A send that
/// comes before that is one to an observer that has not closed yet.
#[inline(always)]
pub(crate) fn is_open(ctx: &SkBuffContext) -> bool {
    // SAFETY: a field of the context; the verifier knows what it points to.
    let socket = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the helper takes any socket, and this was just found to be one.
    let socket = unsafe { bpf_skc_to_unix_sock(socket.cast()) } as KernelPtr;
    !socket.is_null() && load::<u8>(socket, layout!(unix_sock_shutdown)) == 0
}

/// The program to go on with, in its only entry.
///
/// The kernel clears it when the last descriptor of the map is closed
/// (`prog_array_map_clear`, called by `map_release_uref`,
/// `kernel/bpf/arraymap.c`, read in 6.12 and 6.18): soon after the observer has
/// ended, however it did.
#[map]
static OPEN: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Goes on to the other program, and does not return, while the observer lives.
/// It is for where `CAP_PERFMON` is missing: without it a program may not look
/// at the socket itself.
#[inline(always)]
pub(crate) fn go_on_if_observed(ctx: &SkBuffContext) {
    // SAFETY: nothing has to be done after the call.
    unsafe { OPEN.tail_call(ctx, 0) };
}
