//! Runs a program to which the kernel refuses system calls, as under a seccomp
//! policy: `refuse CALL:ERRNO[:taking]... -- PROGRAM ARGUMENTS`.
//!
//! `recvmmsg:38` has that call fail with `ENOSYS`; with `:taking`, only where it
//! would take something, and not where it looks (`MSG_PEEK`). The filter is
//! classic BPF, which `exec` keeps.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use observer_tests::process::number;

/// Offsets in `struct seccomp_data` (`include/uapi/linux/seccomp.h`).
const CALL: u32 = 0;
const ARGUMENTS: u32 = 16;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, the same with
/// `BPF_JSET`, and `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

fn main() {
    let mut arguments = env::args().skip(1);
    let rules = arguments.by_ref().take_while(|argument| argument != "--");
    let mut filter: Vec<libc::sock_filter> = rules.flat_map(|rule| refuse(&rule)).collect();
    filter.push(instruction(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    install(&mut filter);
    let program = arguments.next().expect("a program after --");
    let error = Command::new(&program).args(arguments).exec();
    panic!("{program}: {error}");
}

/// Instructions that refuse one call, and go on after them with any other.
fn refuse(rule: &str) -> Vec<libc::sock_filter> {
    let mut words = rule.split(':');
    let (name, errno) = (words.next(), words.next().expect("an error's number"));
    // The call, and its argument with the flags.
    let (call, flags) = match name {
        Some("recvmsg") => (libc::SYS_recvmsg, 2),
        Some("recvmmsg") => (libc::SYS_recvmmsg, 3),
        other => panic!("{other:?} is not known here"),
    };
    let call = u32::try_from(call).expect("numbers are small");
    let errno: u32 = number(errno);
    let fail = instruction(RETURN, libc::SECCOMP_RET_ERRNO | errno, 0, 0);
    match words.next() {
        None => vec![
            instruction(LOAD, CALL, 0, 0),
            instruction(JUMP_IF_EQUAL, call, 0, 1),
            fail,
        ],
        Some("taking") => vec![
            instruction(LOAD, CALL, 0, 0),
            instruction(JUMP_IF_EQUAL, call, 0, 3),
            instruction(LOAD, ARGUMENTS + 8 * flags, 0, 0),
            instruction(JUMP_IF_SET, libc::MSG_PEEK.cast_unsigned(), 1, 0),
            fail,
        ],
        Some(other) => panic!("{other:?} is not known here"),
    }
}

fn instruction(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn install(filter: &mut [libc::sock_filter]) {
    let program = libc::sock_fprog {
        len: filter.len().try_into().expect("a short filter"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: it takes numbers only.
    let status = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(status, 0);
    // SAFETY: `program` describes the instructions, which live until the call
    // returns; the kernel copies them.
    let status = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    assert_eq!(status, 0, "the kernel takes no filter");
}
