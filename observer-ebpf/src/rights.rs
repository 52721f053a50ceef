//! Descriptors that senders attach to datagrams (`SCM_RIGHTS`).

use aya_ebpf::{EbpfContext as _, programs::SkBuffContext};

use crate::{
    constants::layout,
    socket::{cast_to_kern_ctx, rdonly_cast},
    task::load,
};

/// Whether descriptors are attached to the datagram; false where the kernel
/// lacks the functions to find out (Linux before 6.2), or this program the
/// right to.
///
/// `unix_scm_to_skb` puts them in `UNIXCB(skb).fp` before the filter runs
/// (`unix_dgram_sendmsg`, `net/unix/af_unix.c`, read in 6.1, 6.12 and 6.18),
/// and leaves it NULL for a message of none (`scm_fp_copy`, `net/core/scm.c`).
/// `UNIXCB` is `skb->cb`, which a filter's own context shows as zeros
/// (`bpf_prog_run_save_cb`, `include/linux/filter.h`).
#[inline(always)]
pub(crate) fn are_attached(ctx: &SkBuffContext) -> bool {
    // The verifier looks no further where this is 0: the calls stay what no
    // kernel has.
    if layout!(unix_skb_parms) == 0 {
        return false;
    }
    let skb = cast_to_kern_ctx(ctx.as_ptr());
    let cb = skb.wrapping_add(layout!(skb_cb) as usize);
    let parms = rdonly_cast(cb, layout!(unix_skb_parms));
    load::<u64>(parms, layout!(unix_skb_parms_fp)) != 0
}
