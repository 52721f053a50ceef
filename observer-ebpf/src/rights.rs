//! Descriptors that senders attach to datagrams (`SCM_RIGHTS`).

use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::SkBuffContext;
use observer_common::layout::Access;

use crate::constants::layout;
use crate::kernel::{KernelPtr, cast_to_kern_ctx, copy, load, rdonly_cast};

/// Whether descriptors are attached to the datagram; false where this kernel
/// gives no way to find out.
///
/// `unix_scm_to_skb` puts them in `UNIXCB(skb).fp` before the filter runs
/// (`unix_dgram_sendmsg`, `net/unix/af_unix.c`, read in 6.1, 6.12 and 6.18),
/// and leaves it NULL for a message of none (`scm_fp_copy`, `net/core/scm.c`).
/// `UNIXCB` is `skb->cb`, which a filter's own context shows as zeros
/// (`bpf_prog_run_save_cb`, `include/linux/filter.h`).
///
/// At run time a socket filter's context is the `struct sk_buff` itself
/// (`bpf_prog_run_save_cb`): the verifier turns each access to the context into
/// one to that (`bpf_convert_ctx_access`, `net/core/filter.c`, read in 6.1).
#[inline(always)]
pub(crate) fn are_attached(ctx: &SkBuffContext) -> bool {
    if layout!(unix_skb_parms) == 0 {
        return false;
    }
    // The verifier follows only one of these ways: another may call a function
    // that this kernel lacks.
    let access = layout!(access);
    if access == Access::Cast as u32 {
        let parms = rdonly_cast(cb(cast_to_kern_ctx(ctx.as_ptr())), layout!(unix_skb_parms));
        return load::<u64>(parms, layout!(unix_skb_parms_fp)) != 0;
    }
    if access == Access::Copy as u32 {
        return copy::<u64>(cb(ctx.as_ptr().cast()), layout!(unix_skb_parms_fp)) != Some(0);
    }
    false
}

#[inline(always)]
fn cb(skb: KernelPtr) -> KernelPtr {
    skb.wrapping_add(layout!(skb_cb) as usize)
}
