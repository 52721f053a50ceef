//! Why a program cannot be used.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use observer_common::listener::MAX_LISTENERS;
use thiserror::Error;

use crate::ebpf::cgroup::CgroupError;
use crate::ebpf::layout::LayoutError;

/// How the verifier's lines of statistics begin.
const STATISTICS: [&str; 3] = ["processed ", "stack depth ", "verification time "];

/// Why a tier cannot be used on this host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The binary was built where no BPF toolchain was at hand.
    #[error("this binary was built without its eBPF object; build it with `cargo xtask run`")]
    NoObject,
    /// The observer's own pid namespace cannot be read.
    #[error("cannot read /proc/self/ns/pid: {0}; mount /proc")]
    Namespace(io::Error),
    /// The field offsets cannot be had.
    #[error(transparent)]
    Layout(#[from] Arc<LayoutError>),
    /// There is no cgroup to attach the program for UDP to.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The program for UDP may not be attached by this process.
    #[error("cannot attach the eBPF program to {0} without CAP_NET_ADMIN")]
    NotAllowed(PathBuf),
    /// The program for UDP can be attached by nobody.
    #[error(
        "cannot attach the eBPF program to {0}: another program, attached there or above, lets no \
         other in; `bpftool cgroup tree` shows it"
    )]
    Exclusive(PathBuf),
    /// More listeners than the eBPF object has room for.
    #[error("there can be at most {MAX_LISTENERS} UDP listeners")]
    TooManyListeners,
    /// The observer's own network namespace cannot be read.
    #[error("cannot read /proc/self/ns/net: {0}; mount /proc")]
    NetNamespace(io::Error),
    /// Only the sender's own socket shows whether a UDP send is corked, and no
    /// helper function reads that.
    #[error("no helper function shows whether a UDP send is corked: only tier btf attests UDP")]
    UdpNeedsBtf,
    /// Kernels before 6.2 let a program read IPv6 sockets only.
    #[error(
        "this kernel does not show whether a send of an IPv4 socket is corked (Linux 6.2 and \
         later do): listen on IPv6, as on [::1]"
    )]
    UdpNeedsIpv6,
    /// The kernel refused a map or the object itself.
    #[error("the kernel refused the eBPF maps: {}", chain(.0))]
    Object(#[from] EbpfError),
    /// The kernel refused the program.
    #[error("the kernel refused the eBPF program: {}", summary(.0))]
    Program(#[from] ProgramError),
    /// A map is not of the kind that it should be.
    #[error("the eBPF object is damaged: {0}")]
    Map(#[from] MapError),
    /// A map or program of that name is not in the object.
    #[error("the eBPF object has no {0}")]
    Absent(&'static str),
    /// A system call on the way failed.
    #[error("{what}: {error}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// What a program reads of senders was found to be wrong, or could not be
    /// tried out.
    #[error(transparent)]
    Proof(Arc<Self>),
    /// The program's record of the observer itself is wrong or missing.
    #[error("the eBPF program fails its self-test: {0}")]
    SelfTest(String),
}

/// Makes an error of what a system call failed with.
pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> KernelError {
    move |error| KernelError::System { what, error }
}

/// An error with its causes on one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The refusal, and the last line of the verifier's log before its statistics,
/// which is the reason: the log has thousands of lines.
fn summary(error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return chain(error);
    };
    let log = verifier_log.to_string();
    let last = log
        .lines()
        .rev()
        .find(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
        .unwrap_or_default();
    format!("{io_error} ({last})")
}
