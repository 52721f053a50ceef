//! Functions of the kernel's own (kfuncs).
//!
//! Userspace puts each in the place of its placeholder, or a program that gets
//! to the call does not load. So does every program of a loader without
//! `CAP_PERFMON` that merely has such a call in it: the verifier follows both
//! ways of every branch then, speculatively (Linux up to 6.15).

use core::ffi::c_void;

use observer_common::kfunc;

use crate::{constants::layout, task::Kernel};

/// Whether a program may have calls of these functions in it.
pub(crate) const KFUNCS: bool = true;
/// ... or not.
pub(crate) const NO_KFUNCS: bool = false;

/// The `struct sk_buff` behind a program's context.
#[inline(always)]
pub(crate) fn cast_to_kern_ctx(ctx: *mut c_void) -> Kernel {
    type Function = unsafe extern "C" fn(*mut c_void) -> Kernel;
    // SAFETY: that is the function's type.
    let function: Function =
        unsafe { core::mem::transmute(kfunc::CAST_TO_KERN_CTX.placeholder as usize) };
    // SAFETY: it takes a program's context.
    unsafe { function(ctx) }
}

/// A pointer to read a structure by, given the BTF id of its type.
#[inline(always)]
pub(crate) fn rdonly_cast(object: Kernel, type_id: u32) -> Kernel {
    type Function = unsafe extern "C" fn(Kernel, u32) -> Kernel;
    // SAFETY: likewise.
    let function: Function =
        unsafe { core::mem::transmute(kfunc::RDONLY_CAST.placeholder as usize) };
    // SAFETY: it reads nothing, and what it returns is read by loads that
    // survive a fault (`PTR_UNTRUSTED`, `kernel/bpf/verifier.c`).
    unsafe { function(object, type_id) }
}

/// Does something without losing the CPU to another task, where this kernel
/// has a way to see to that (Linux 6.10 and later). An interrupt still comes
/// between, and a hypervisor.
#[inline(always)]
pub(crate) fn on_one_cpu<const HAS_KFUNCS: bool, T>(work: impl FnOnce() -> T) -> T {
    // Asked twice, so that the work is there once.
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
    // SAFETY: the verifier sees to it that they come in pairs
    // (`active_preempt_locks`, `kernel/bpf/verifier.c`, Linux 6.10).
    unsafe { function() };
}
