//! What tests of UDP share.

use std::process;

use serde_json::Value;

use crate::kernel::{self, ATTESTED_IPV4, attested_loopback};
use crate::observer::{Observer, Setup, is};
use crate::{is_emulated, procfs};

/// An address of this host's own whose senders are attested.
///
/// # Panics
/// Never: each kernel attests one.
#[must_use]
pub fn one_address() -> &'static str {
    attested_loopback().first().expect("IPv6 at least")
}

/// Whether senders by IPv4 are attested.
#[must_use]
pub fn is_ipv4_attested() -> bool {
    kernel::is_at_least(ATTESTED_IPV4)
}

/// An observer that listens at these addresses, too.
#[must_use]
pub fn listening(setup: Setup, addresses: &[&str]) -> Observer {
    let flags = addresses.iter().flat_map(|address| ["--udp", address]);
    setup.args(flags).start()
}

/// How many datagrams a sender may send between two pauses of 2 ms, so that
/// none is lost: a UDP sender does not learn of a full buffer.
#[must_use]
pub fn burst(usual: u32) -> u32 {
    if is_emulated() { 1 } else { usual }
}

/// Whether an event is a beat of a process.
pub fn beats_of(pid: u32) -> impl Fn(&Value) -> bool {
    move |event| is(event, "beat") && event["pid"] == pid
}

/// Checks what the kernel's record has of the helper `sender`, which still
/// runs.
///
/// # Panics
/// If it is not so.
pub fn assert_attested(event: &Value, pid: u32) {
    let sender = &event["sender"];
    assert_eq!(sender["pid"], pid, "{event}");
    assert_eq!(sender["own_pid"], pid);
    assert_eq!(sender["via"], "btf");
    assert_eq!(sender["comm"], "sender");
    assert_eq!(sender["scm_pid"], Value::Null);
    assert_eq!(sender["pid_ns_inode"], procfs::pid_namespace(process::id()));
    let start = sender["start_ns"].as_u64().expect("a start time");
    assert_eq!(start / 10_000_000, procfs::start_ticks(pid), "{event}");
}
