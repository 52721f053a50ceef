//! The `bpf` system call, for what no library does: to attach a program that
//! lets no other in.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// `BPF_PROG_LOAD`, `BPF_PROG_ATTACH` (`enum bpf_cmd`,
/// `include/uapi/linux/bpf.h`).
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
/// `BPF_PROG_TYPE_CGROUP_SKB`, `BPF_CGROUP_INET_EGRESS`
const CGROUP_SKB: u32 = 8;
const EGRESS: u32 = 1;

/// `r0 = 1; exit`: 1 lets a packet pass.
const PASS: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
const LICENSE: &CStr = c"GPL";

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    hook: u32,
}

/// The same for `BPF_PROG_ATTACH`. No flags: it is alone.
#[repr(C)]
struct Attach {
    target: RawFd,
    program: RawFd,
    hook: u32,
    flags: u32,
}

/// Loads a program that lets all packets pass.
#[must_use]
pub fn pass_all() -> OwnedFd {
    let load = Load {
        kind: CGROUP_SKB,
        instructions: 2,
        code: PASS.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        hook: EGRESS,
        ..Load::default()
    };
    let fd = bpf(PROG_LOAD, &load).expect("root may");
    // SAFETY: the kernel just made this descriptor, for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Attaches a program to a cgroup so that no other can be, there or below.
///
/// # Errors
/// What the kernel refuses it with.
pub fn attach_exclusively(cgroup: &File, program: &OwnedFd) -> io::Result<()> {
    let attach = Attach {
        target: cgroup.as_raw_fd(),
        program: program.as_raw_fd(),
        hook: EGRESS,
        flags: 0,
    };
    bpf(PROG_ATTACH, &attach).map(|_| ())
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<RawFd> {
    // SAFETY: the kernel reads as many bytes of the attributes as it is told,
    // and what they point to lives for ever.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    RawFd::try_from(result)
        .ok()
        .filter(|&fd| fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}
