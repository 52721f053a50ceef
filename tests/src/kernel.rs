//! Facts about the running kernel, to compare the observer's reports with.

use std::fs;

use aya::programs::{ProgramInfo, loaded_programs};

/// The first kernel that lets a socket filter call
/// `bpf_get_ns_current_pid_tgid`, which tier helper needs
/// (`bpf_base_func_proto`, `kernel/bpf/helpers.c`).
pub const HELPER_TIER: (u32, u32) = (6, 10);

/// The first kernel that can refuse descriptors at their sender
/// (`SO_PASSRIGHTS`, `net/core/sock.c`).
pub const REFUSES_DESCRIPTORS: (u32, u32) = (6, 16);

/// The first kernel on which a program can keep its CPU
/// (`bpf_preempt_disable`, `kernel/bpf/helpers.c`).
pub const HOLDS_CPU: (u32, u32) = (6, 10);

/// Whether tier btf sees descriptors that are attached to a datagram, and drops
/// the datagram: by `bpf_cast_to_kern_ctx` from Linux 6.2 on, before by
/// `bpf_probe_read_kernel` where lockdown does not forbid it (`kernel/bpf/helpers.c`).
#[must_use]
pub fn sees_descriptors() -> bool {
    is_at_least((6, 2)) || lockdown() != "confidentiality"
}

/// Whether tier btf sees whose work an io-wq worker does, by the same means;
/// elsewhere nothing is believed that one sends.
#[must_use]
pub fn sees_submitters() -> bool {
    sees_descriptors()
}

/// State of the kernel's lockdown; `unknown` where the kernel does not show it.
#[must_use]
pub fn lockdown() -> String {
    let states = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let state = states
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    state.map_or("unknown", |(state, _)| state).to_owned()
}

/// Whether the running kernel is of this version or a later one.
///
/// # Panics
/// If its release does not begin with a version.
#[must_use]
pub fn is_at_least(version: (u32, u32)) -> bool {
    let release = release();
    let mut numbers = release.split(['.', '-']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        panic!("{release:?} is no release of a kernel");
    };
    (major, minor) >= version
}

/// The running kernel's release.
#[must_use]
pub fn release() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

/// The eBPF programs that a process holds, by its descriptors
/// (`bpf_prog_show_fdinfo`, `kernel/bpf/syscall.c`): tests that run at the
/// same time have others loaded.
///
/// # Panics
/// If the process is not there, or is not ours to look at.
#[must_use]
pub fn programs_of(pid: u32) -> Vec<ProgramInfo> {
    let folder = format!("/proc/{pid}/fdinfo");
    let descriptors = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let ids: Vec<u32> = descriptors
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|info| {
            let mut lines = info.lines();
            let id = lines.find_map(|line| line.strip_prefix("prog_id:"))?;
            id.trim().parse().ok()
        })
        .collect();
    programs()
        .filter(|program| ids.contains(&program.id()))
        .collect()
}

/// All that the kernel has.
pub fn programs() -> impl Iterator<Item = ProgramInfo> {
    loaded_programs().filter_map(Result::ok)
}

/// The first kernel on which the socket that a packet leaves by can be looked
/// into whatever its family: by `bpf_cast_to_kern_ctx` and `bpf_rdonly_cast`
/// (`kernel/bpf/helpers.c`). Before, only IPv6 is attested by UDP.
pub const ATTESTED_IPV4: (u32, u32) = (6, 2);

/// Addresses to listen on for UDP whose senders this kernel attests.
#[must_use]
pub fn attested_loopback() -> &'static [&'static str] {
    if is_at_least(ATTESTED_IPV4) {
        &["127.0.0.1:0", "[::1]:0"]
    } else {
        &["[::1]:0"]
    }
}
