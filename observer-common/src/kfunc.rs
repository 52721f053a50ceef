//! Functions of the kernel's own that a program calls (kfuncs).
//!
//! rustc and the loader know only calls of helper functions, by number. So a
//! program calls a number that no helper has. Before the load userspace turns
//! that into a call of the kernel function, which it finds by name in the
//! kernel's BTF.

/// A kernel function, and the number that stands for it in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kfunc {
    /// Its name in the kernel's BTF.
    pub name: &'static str,
    /// A number so large that no helper will ever have it.
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

/// `void bpf_preempt_disable(void)` (`kernel/bpf/helpers.c`, Linux 6.10): the
/// task keeps its CPU until [`PREEMPT_ENABLE`].
pub const PREEMPT_DISABLE: Kfunc = Kfunc {
    name: "bpf_preempt_disable",
    placeholder: 0x6b66_0003,
};

/// `void bpf_preempt_enable(void)` (likewise).
pub const PREEMPT_ENABLE: Kfunc = Kfunc {
    name: "bpf_preempt_enable",
    placeholder: 0x6b66_0004,
};

/// What it takes to give a pointer a type.
pub const CASTS: [Kfunc; 2] = [CAST_TO_KERN_CTX, RDONLY_CAST];

/// What it takes to keep a CPU.
pub const PREEMPTION: [Kfunc; 2] = [PREEMPT_DISABLE, PREEMPT_ENABLE];

/// All that the object calls.
pub const ALL: [Kfunc; 4] = [
    CAST_TO_KERN_CTX,
    RDONLY_CAST,
    PREEMPT_DISABLE,
    PREEMPT_ENABLE,
];
