//! The kernel's own structures, and functions of its own (kfuncs).
//!
//! Userspace replaces each function's placeholder. The verifier refuses a
//! program that can reach a placeholder. Of a loader without `CAP_PERFMON` it
//! refuses every program that has one at all, since it then follows both ways
//! of every branch, speculatively (Linux up to 6.15).

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use observer_common::kfunc;

use crate::constants::layout;

/// A pointer into the kernel. The verifier knows the type of what it points to,
/// unless [`copy`] is to read there.
pub(crate) type KernelPtr = *const u8;

/// For programs that may have calls of these functions in them.
pub(crate) const KFUNCS: bool = true;
/// For programs that may not.
pub(crate) const NO_KFUNCS: bool = false;

/// The `struct sk_buff` behind a program's context.
#[inline(always)]
pub(crate) fn cast_to_kern_ctx(ctx: *mut c_void) -> KernelPtr {
    type Function = unsafe extern "C" fn(*mut c_void) -> KernelPtr;
    // SAFETY: that is the function's type.
    let function: Function =
        unsafe { core::mem::transmute(kfunc::CAST_TO_KERN_CTX.placeholder as usize) };
    // SAFETY: it takes a program's context.
    unsafe { function(ctx) }
}

/// A pointer to read a structure by, given the BTF id of its type.
#[inline(always)]
pub(crate) fn rdonly_cast(object: KernelPtr, type_id: u32) -> KernelPtr {
    type Function = unsafe extern "C" fn(KernelPtr, u32) -> KernelPtr;
    // SAFETY: likewise.
    let function: Function =
        unsafe { core::mem::transmute(kfunc::RDONLY_CAST.placeholder as usize) };
    // SAFETY: it reads nothing, and what it returns is read by loads that
    // survive a fault (`PTR_UNTRUSTED`, `kernel/bpf/verifier.c`).
    unsafe { function(object, type_id) }
}

/// Does something without losing the CPU to another task, where this kernel has
/// functions for that (Linux 6.10 and later). An interrupt or a hypervisor can
/// still come between.
#[inline(always)]
pub(crate) fn on_one_cpu<const HAS_KFUNCS: bool, T>(work: impl FnOnce() -> T) -> T {
    // Two conditions, so that the code of the work is there once.
    if HAS_KFUNCS && layout!(holds_cpu) != 0 {
        call(kfunc::PREEMPT_DISABLE.placeholder);
    }
    let done = work();
    if HAS_KFUNCS && layout!(holds_cpu) != 0 {
        call(kfunc::PREEMPT_ENABLE.placeholder);
    }
    done
}

/// A function that takes nothing and returns nothing.
#[inline(always)]
fn call(placeholder: u32) {
    // SAFETY: that is the type of the two that this is for.
    let function: unsafe extern "C" fn() = unsafe { core::mem::transmute(placeholder as usize) };
    // SAFETY: the verifier makes sure that they come in pairs
    // (`active_preempt_locks`, `kernel/bpf/verifier.c`, Linux 6.10).
    unsafe { function() };
}

/// One typed load. Volatile, so that the compiler neither merges loads nor
/// moves them out of the branch that makes their offset a constant.
#[inline(always)]
pub(crate) fn load<T: Copy>(base: KernelPtr, offset: u32) -> T {
    // SAFETY: the verifier checks it for each load: `base + offset` has to be a
    // field of a kernel structure in BTF, of the size of `T`, or the program
    // does not load.
    unsafe { core::ptr::read_volatile(base.add(offset as usize).cast::<T>()) }
}

/// What is at an offset from an address in the kernel's memory; `None` if
/// nothing can be read there.
#[inline(always)]
pub(crate) fn copy<T: Copy>(base: KernelPtr, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the destination has so many bytes; whether the source can be read
    // the helper finds out (`bpf_probe_read_kernel_common`,
    // `kernel/trace/bpf_trace.c`).
    let status = unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset as usize).cast(),
        )
    };
    // SAFETY: it was zeros, and now is bytes of the kernel's memory: this is
    // for numbers and addresses, of which all are valid.
    (status == 0).then(|| unsafe { value.assume_init() })
}
