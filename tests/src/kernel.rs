//! What is known of kernels by their version: what the tests expect, and
//! compare with what the observer finds out by trying.

/// The first kernel that lets a socket filter call
/// `bpf_get_ns_current_pid_tgid`, which tier helper needs
/// (`bpf_base_func_proto`, `kernel/bpf/helpers.c`).
pub const HELPER_TIER: (u32, u32) = (6, 10);

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
