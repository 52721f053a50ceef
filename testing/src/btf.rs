//! Types of a kernel (BTF), as tests write them.

/// What comes after the header of a type of each kind that is known, in bytes:
/// once, and for each of its parts (`struct btf_layout`, `include/uapi/linux/btf.h`,
/// Linux 7.1).
pub const LAYOUT: [[u8; 2]; 20] = [
    [0, 0],
    [4, 0],
    [0, 0],
    [12, 0],
    [0, 12],
    [0, 12],
    [0, 8],
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 8],
    [4, 0],
    [0, 12],
    [0, 0],
    [4, 0],
    [0, 0],
    [0, 12],
];
