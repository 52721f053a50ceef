//! The eBPF object inside this binary.

/// The object, if the binary was built with one.
#[cfg(ebpf_object)]
#[expect(clippy::unnecessary_wraps, reason = "the other build has none")]
pub(super) fn bytes() -> Option<&'static [u8]> {
    Some(aya::include_bytes_aligned!(env!(
        "OBSERVER_EBPF_OBJECT_PATH"
    )))
}

/// The object, if the binary was built with one.
#[cfg(not(ebpf_object))]
pub(super) fn bytes() -> Option<&'static [u8]> {
    None
}

/// Whether the binary was built with its eBPF object. Crates that depend on
/// this one are, without the feature `no-object`. In this crate's repository
/// `cargo xtask run` builds such an observer, and plain `cargo build` does not.
#[must_use]
pub fn object_is_built_in() -> bool {
    bytes().is_some()
}
