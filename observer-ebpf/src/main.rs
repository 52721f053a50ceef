//! The observer's eBPF programs.
//!
//! Unix sockets: a socket filter on the observer's own receiving socket.
//! `unix_dgram_sendmsg` (`net/unix/af_unix.c`, read in 6.1, 6.12 and 6.18)
//! runs the receiver's filter in the sending task before it queues the
//! datagram, so the current task is the sender, byte 0 of the packet is byte
//! 0 of the payload, and no other socket of the host pays for it.
//!
//! UDP: a program at `cgroup_skb/egress` of the root cgroup, see [`udp`], and
//! a filter on each listener's sockets, see [`listener`].
//!
//! - [`unix_btf`], [`udp_btf`] and [`udp_btf_v6`] name the sender from its own
//!   `task_struct`. The last is for kernels without the functions that
//!   [`udp_btf`] calls (Linux before 6.2), and sees IPv6 sockets only.
//! - [`unix_helper`] names the sender by helper functions where BTF or
//!   `CAP_PERFMON` is missing (Linux 6.10 and later). While there is an
//!   observer it goes on to [`unix_helper_run`]. For UDP there is no such
//!   program: no helper function shows whether a send is corked.
//! - [`udp_by_lo`], [`udp_by_device`], [`udp_by_others`] and [`udp_by_wire`]
//!   keep out of each of a listener's sockets what came by another way than the
//!   socket's own, and what is no frame.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "the macro makes each program public and undocumented, and calls it so"
)]
#![expect(
    clippy::inline_always,
    reason = "the verifier knows the types of kernel pointers within one function only"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "sizes and namespace levels are small, and ids are halves of a word"
)]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "an address and its access belong together"
)]

mod atomic;
mod budget;
mod constants;
mod executable;
mod filter;
mod helper;
mod kernel;
mod listener;
mod loss;
mod output;
mod packet;
mod receiver;
mod rights;
mod socket;
mod task;
mod udp;
mod wakeup;
mod worker;

use aya_ebpf::macros::{cgroup_skb, socket_filter};
use aya_ebpf::programs::SkBuffContext;
use observer_common::record::Program;

use crate::kernel::{KFUNCS, NO_KFUNCS};

/// Records each datagram with all that is read from the sending task's own
/// structures.
#[socket_filter]
pub fn unix_btf(ctx: SkBuffContext) -> i64 {
    if !receiver::is_open(&ctx) {
        return filter::pass(&ctx);
    }
    filter::run::<KFUNCS>(&ctx, |record| {
        task::describe(record, Program::UnixBtf);
    })
}

/// Goes on to [`unix_helper_run`] while the observer lives.
#[socket_filter]
pub fn unix_helper(ctx: SkBuffContext) -> i64 {
    receiver::go_on_if_observed(&ctx);
    filter::pass(&ctx)
}

/// Records each datagram with what helper functions return of the sender.
#[socket_filter]
pub fn unix_helper_run(ctx: SkBuffContext) -> i64 {
    filter::run::<NO_KFUNCS>(&ctx, |record| {
        helper::describe(record, Program::UnixHelper);
    })
}

/// Records each datagram to a UDP listener with all that is read from the
/// sending task's own structures.
#[cgroup_skb(egress)]
pub fn udp_btf(ctx: SkBuffContext) -> i32 {
    udp::run(&ctx, socket::of, |record| {
        task::describe(record, Program::UdpBtf);
    })
}

/// The same where the socket's structures are read by helper functions.
#[cgroup_skb(egress)]
pub fn udp_btf_v6(ctx: SkBuffContext) -> i32 {
    udp::run(&ctx, socket::of_udp6, |record| {
        task::describe(record, Program::UdpBtf);
    })
}

/// Lets frames pass that came by the loopback device.
#[socket_filter]
pub fn udp_by_lo(ctx: SkBuffContext) -> i64 {
    listener::filter(&ctx, listener::Way::Loopback, false)
}

/// Lets frames pass that came by a device that the operator declared.
#[socket_filter]
pub fn udp_by_device(ctx: SkBuffContext) -> i64 {
    listener::filter(&ctx, listener::Way::Declared, true)
}

/// Lets frames pass that came by any other device.
#[socket_filter]
pub fn udp_by_others(ctx: SkBuffContext) -> i64 {
    listener::filter(&ctx, listener::Way::Other, false)
}

/// The same for a network that is trusted: it keeps out what this host itself
/// sent as well.
#[socket_filter]
pub fn udp_by_wire(ctx: SkBuffContext) -> i64 {
    listener::filter(&ctx, listener::Way::Other, true)
}

/// Nothing here panics; the compiler requires the function nevertheless.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers in use are GPL-only (`bpf_get_current_task_btf`,
/// `kernel/trace/bpf_trace.c`), so the object declares a licence that permits
/// them.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
