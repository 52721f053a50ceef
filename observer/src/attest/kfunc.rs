//! Puts calls of kernel functions into the eBPF object.
//!
//! The loader knows no such calls (aya 0.14), and leaves them alone: an
//! instruction whose source register says `BPF_PSEUDO_KFUNC_CALL` is none of
//! its relocations. The verifier checks each call against the function's own
//! type in BTF (`check_kfunc_call`, `kernel/bpf/verifier.c`).

use observer_common::kfunc;
use zerocopy::IntoBytes as _;

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

/// A copy of the object, aligned as the original, in which the placeholders of
/// [`kfunc::ALL`] call the kernel functions with these BTF ids; with none they
/// stay, and what has them in it does not load.
pub(super) fn link(object: &[u8], ids: Option<[u32; kfunc::ALL.len()]>) -> Vec<u64> {
    let mut copy = vec![0_u64; object.len().div_ceil(INSTRUCTION)];
    let bytes = copy.as_mut_bytes();
    for (to, from) in bytes.iter_mut().zip(object) {
        *to = *from;
    }
    let Some(ids) = ids else {
        return copy;
    };
    let (instructions, _) = bytes.as_chunks_mut::<INSTRUCTION>();
    for instruction in instructions {
        for (kfunc::Kfunc { placeholder, .. }, id) in kfunc::ALL.into_iter().zip(ids) {
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
        let [first, second] = kfunc::ALL.map(|found| found.placeholder);
        let helper = call(0, 25);
        let other = call(1, first);
        let object = [call(0, first), helper, call(0, second), other].concat();
        let linked = link(&object, Some([1000, 2000]));
        let expected = [call(KFUNC, 1000), helper, call(KFUNC, 2000), other].concat();
        assert_eq!(linked.as_bytes(), expected);
        assert_eq!(link(&object, None).as_bytes(), object);
    }
}
