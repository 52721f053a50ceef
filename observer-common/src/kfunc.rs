//! Functions of the kernel's own that a program calls (kfuncs).
//!
//! rustc and the loader know calls of helper functions only, by their numbers.
//! So a program calls a helper that there is not, and userspace makes a call
//! of a kernel function out of it before the load, by its name in the kernel's
//! BTF.

/// A kernel function, and the number that stands for it in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kfunc {
    /// Its name in the kernel's BTF.
    pub name: &'static str,
    /// No helper will ever have this number.
    pub placeholder: u32,
}

/// `void *bpf_cast_to_kern_ctx(void *)` (`kernel/bpf/helpers.c`, Linux 6.2):
/// the `struct sk_buff` behind a program's context.
pub const CAST_TO_KERN_CTX: Kfunc = Kfunc {
    name: "bpf_cast_to_kern_ctx",
    placeholder: 0x6b66_0001,
};

/// `void *bpf_rdonly_cast(const void *, u32)` (likewise): a pointer to read a
/// structure by, given the BTF id of its type.
pub const RDONLY_CAST: Kfunc = Kfunc {
    name: "bpf_rdonly_cast",
    placeholder: 0x6b66_0002,
};

/// All that the object calls.
pub const ALL: [Kfunc; 2] = [CAST_TO_KERN_CTX, RDONLY_CAST];
