//! Puts calls of kernel functions into the eBPF object.
//!
//! The loader has no support for such calls (aya 0.14), and does not change
//! them: it relocates no instruction whose source register is
//! `BPF_PSEUDO_KFUNC_CALL`. The verifier checks each call against the
//! function's type in BTF (`check_kfunc_call`, `kernel/bpf/verifier.c`).

use observer_common::kfunc::{ALL, CASTS, Kfunc, PREEMPTION};
use zerocopy::IntoBytes as _;

use super::btf::Btf;

/// `BPF_JMP | BPF_CALL` (`include/uapi/linux/bpf.h`)
const CALL: u8 = 0x85;

/// `BPF_PSEUDO_KFUNC_CALL` as the source register; the destination is 0.
const KFUNC: u8 = if cfg!(target_endian = "big") {
    0x02
} else {
    0x20
};

/// Length of `struct bpf_insn`.
const INSTRUCTION: usize = 8;

/// BTF ids of those of [`ALL`] that this kernel has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kfuncs([Option<u32>; ALL.len()]);

impl Kfuncs {
    pub(super) fn of(types: &Btf) -> Self {
        Self(ALL.map(|kfunc| types.function_id(kfunc.name)))
    }

    /// Whether a program can give any pointer a type, and so read what it
    /// points to (Linux 6.2 and later).
    pub(super) fn can_cast(&self) -> bool {
        self.have(&CASTS)
    }

    /// Whether a program can keep its CPU (Linux 6.10 and later).
    pub(super) fn can_hold_cpu(&self) -> bool {
        self.have(&PREEMPTION)
    }

    fn have(&self, wanted: &[Kfunc]) -> bool {
        wanted
            .iter()
            .all(|wanted| self.iter().any(|(kfunc, _)| kfunc == *wanted))
    }

    fn iter(&self) -> impl Iterator<Item = (Kfunc, u32)> + '_ {
        let ids = ALL.into_iter().zip(self.0);
        ids.filter_map(|(kfunc, id)| Some((kfunc, id?)))
    }
}

/// A copy of the object, aligned as the original, in which the calls of
/// placeholders are calls of the kernel functions with these BTF ids. A
/// placeholder of a function that this kernel lacks stays, and the verifier
/// refuses a program that can reach it.
pub(super) fn link(object: &[u8], kfuncs: &Kfuncs) -> Vec<u64> {
    let mut copy = vec![0_u64; object.len().div_ceil(INSTRUCTION)];
    let bytes = copy.as_mut_bytes();
    for (to, from) in bytes.iter_mut().zip(object) {
        *to = *from;
    }
    let (instructions, _) = bytes.as_chunks_mut::<INSTRUCTION>();
    for instruction in instructions {
        for (Kfunc { placeholder, .. }, id) in kfuncs.iter() {
            if *instruction == call(0, placeholder) {
                *instruction = call(KFUNC, id);
            }
        }
    }
    copy
}

fn call(registers: u8, immediate: u32) -> [u8; INSTRUCTION] {
    let [a, b, c, d] = immediate.to_ne_bytes();
    [CALL, registers, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::*;

    #[test]
    fn placeholders_and_nothing_else_are_replaced() {
        let [first, second, third, _] = ALL.map(|found| found.placeholder);
        let helper = call(0, 25);
        let other = call(1, first);
        let absent = call(0, third);
        let object = [call(0, first), helper, call(0, second), other, absent].concat();
        let kfuncs = Kfuncs([Some(1000), Some(2000), None, Some(4000)]);
        let expected = [call(KFUNC, 1000), helper, call(KFUNC, 2000), other, absent];
        assert_eq!(link(&object, &kfuncs).as_bytes(), expected.concat());
        assert!(kfuncs.can_cast() && !kfuncs.can_hold_cpu());
        assert_eq!(link(&object, &Kfuncs::default()).as_bytes(), object);
    }
}
