//! Descriptors that senders attach to datagrams (`SCM_RIGHTS`).

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_probe_read_kernel, programs::SkBuffContext,
};
use observer_common::layout::Access;

use crate::{
    constants::layout,
    kernel::{cast_to_kern_ctx, rdonly_cast},
    task::{Kernel, load},
};

/// Whether descriptors are attached to the datagram; false where this kernel
/// gives no way to find out.
///
/// `unix_scm_to_skb` puts them in `UNIXCB(skb).fp` before the filter runs
/// (`unix_dgram_sendmsg`, `net/unix/af_unix.c`, read in 6.1, 6.12 and 6.18),
/// and leaves it NULL for a message of none (`scm_fp_copy`, `net/core/scm.c`).
/// `UNIXCB` is `skb->cb`, which a filter's own context shows as zeros
/// (`bpf_prog_run_save_cb`, `include/linux/filter.h`).
#[inline(always)]
pub(crate) fn are_attached(ctx: &SkBuffContext) -> bool {
    // The verifier follows one of these ways only: what the others call may be
    // what no kernel has.
    let access = layout!(attached);
    if access == Access::Cast as u32 {
        let parms = rdonly_cast(cb(cast_to_kern_ctx(ctx.as_ptr())), layout!(unix_skb_parms));
        return load::<u64>(parms, layout!(unix_skb_parms_fp)) != 0;
    }
    if access == Access::Copy as u32 {
        let parms = cb(ctx.as_ptr().cast());
        return copy(parms.wrapping_add(layout!(unix_skb_parms_fp) as usize)) != Some(0);
    }
    false
}

#[inline(always)]
fn cb(skb: Kernel) -> Kernel {
    skb.wrapping_add(layout!(skb_cb) as usize)
}

/// A word of the kernel's memory; `None` if there is none at this address.
///
/// A socket filter's context is at run time the `struct sk_buff` itself
/// (`bpf_prog_run_save_cb`; the verifier turns each access to the context into
/// one to it, `bpf_convert_ctx_access`, `net/core/filter.c`, read in 6.1).
#[inline(always)]
fn copy(address: Kernel) -> Option<u64> {
    let mut word = 0_u64;
    // SAFETY: the destination has so many bytes; of the source the helper
    // finds out whether it can be read (`bpf_probe_read_kernel_common`,
    // `kernel/trace/bpf_trace.c`).
    let status = unsafe {
        bpf_probe_read_kernel(
            (&raw mut word).cast(),
            size_of_val(&word) as u32,
            address.cast(),
        )
    };
    (status == 0).then_some(word)
}
