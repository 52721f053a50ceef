//! What the facts about a host mean, and what to do about them.

use std::path::Path;

use serde::Serialize;

use super::{Btf, Descriptors, HostReport, Lockdown};
use crate::ebpf::KERNEL_BTF;

mod bpf;
mod fields;
mod tier;
mod udp;

/// The kernel's default for `net.unix.max_dgram_qlen`
/// (`unix_net_init`, `net/unix/af_unix.c`).
const DEFAULT_QLEN: u64 = 10;

/// What was found by one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a stable name.
    pub check: &'static str,
    /// What it means for the observer.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; `None`: nothing.
    pub action: Option<String>,
}

/// What a fact means for the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be, or without effect on the observer.
    Ok,
    /// The observer works, but less well.
    Limited,
    /// It may be as it should be, but this process could not prove it.
    Unproven,
    /// Something that attestation needs is not there.
    Missing,
    /// It could not be found out.
    Unknown,
}

impl HostReport {
    /// What the facts mean, in the order in which to look at them.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = vec![
            ok("kernel", self.kernel_release.clone()),
            self.lockdown(),
            self.btf(),
            self.object(),
        ];
        findings.extend(self.capabilities());
        findings.extend([
            self.unprivileged_bpf(),
            self.socket_filter(),
            self.task_helper(),
            self.pid_helper("get_current_pid_tgid", &self.helpers.get_current_pid_tgid),
            self.pid_helper(
                "get_ns_current_pid_tgid",
                &self.helpers.get_ns_current_pid_tgid,
            ),
        ]);
        findings.extend(self.tiers());
        findings.extend(self.fields());
        findings.push(self.cgroup());
        findings.extend(self.udp_tiers());
        findings.extend(self.udp6_tier());
        findings.extend([
            self.pid_namespace(),
            self.queue_length(),
            self.io_uring(),
            self.descriptors(),
            self.security_module(),
        ]);
        findings
    }

    fn lockdown(&self) -> Finding {
        match self.lockdown {
            Lockdown::Unknown => Finding {
                action: Some(
                    "to see it: mount -t securityfs securityfs /sys/kernel/security; no state \
                     of it keeps tier btf from working"
                        .into(),
                ),
                ..finding(
                    "lockdown",
                    State::Unknown,
                    "/sys/kernel/security/lockdown is not readable",
                )
            },
            state => ok("lockdown", state.to_string()),
        }
    }

    fn btf(&self) -> Finding {
        let file = self.btf_file.display();
        match &self.btf {
            Btf::Readable => ok("btf", "readable"),
            Btf::Absent if self.btf_file != Path::new(KERNEL_BTF) => Finding {
                action: Some(format!(
                    "name another file, or leave out --btf for {KERNEL_BTF}"
                )),
                ..finding(
                    "btf",
                    self.unless_attested(),
                    format!("{file} is not there"),
                )
            },
            Btf::Absent => Finding {
                action: Some(
                    "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions' are; \
                     in a container, mount /sys"
                        .into(),
                ),
                ..finding(
                    "btf",
                    self.unless_attested(),
                    format!("{file} is not there"),
                )
            },
            Btf::Unreadable { error } => Finding {
                action: Some(format!(
                    "have {file} hold the kernel's types, readable (mode 0444)"
                )),
                ..finding("btf", self.unless_attested(), format!("{file}: {error}"))
            },
        }
    }

    fn unprivileged_bpf(&self) -> Finding {
        let check = "unprivileged_bpf_disabled";
        match self.unprivileged_bpf_disabled {
            Some(0) => ok(
                check,
                "0: any user may load socket filters; no matter to the observer",
            ),
            Some(value) => ok(check, format!("{value}: eBPF needs CAP_BPF")),
            None => finding(check, State::Unknown, "the sysctl is not readable"),
        }
    }

    fn pid_namespace(&self) -> Finding {
        let check = "pid_namespace";
        match (self.pid_ns_inode, self.initial_pid_ns) {
            (Some(inode), Some(true)) => ok(check, format!("{inode}, the initial one")),
            (Some(inode), _) => Finding {
                action: Some(
                    "to observe the whole host, run the observer in its pid namespace (docker: \
                     --pid=host, Kubernetes: hostPID: true)"
                        .into(),
                ),
                ..finding(
                    check,
                    State::Limited,
                    format!("{inode}, a container's: agents outside of it are refused"),
                )
            },
            (None, _) => Finding {
                action: Some("mount /proc of this pid namespace".into()),
                ..finding(check, State::Unknown, "/proc/self/ns/pid is not readable")
            },
        }
    }

    fn queue_length(&self) -> Finding {
        let check = "max_dgram_qlen";
        match self.max_dgram_qlen {
            Some(length) if length > DEFAULT_QLEN => ok(check, length.to_string()),
            Some(length) => Finding {
                action: Some(
                    "before the observer starts: sysctl -w net.unix.max_dgram_qlen=512 (a socket \
                     keeps the value that it was made with)"
                        .into(),
                ),
                ..finding(
                    check,
                    State::Limited,
                    format!("{length}: agents that beat at the same moment get EAGAIN"),
                )
            },
            None => finding(check, State::Unknown, "the sysctl is not readable"),
        }
    }

    fn io_uring(&self) -> Finding {
        let check = "io_uring_disabled";
        match self.io_uring_disabled {
            Some(value) => ok(
                check,
                format!("{value}: beats by SQPOLL threads are refused anyhow"),
            ),
            None => finding(
                check,
                State::Unknown,
                "no such sysctl: Linux before 6.6, or no /proc/sys",
            ),
        }
    }

    fn descriptors(&self) -> Finding {
        let check = "attached_descriptors";
        match self.descriptors {
            Descriptors::Refused => ok(check, "refused: their senders get EPERM"),
            Descriptors::Dropped => ok(check, "tier btf drops what they are attached to"),
            Descriptors::Closed => Finding {
                action: Some(
                    "use --ingest ring, or keep strangers out with --socket-mode; tier btf drops \
                     such datagrams (before Linux 6.2 not under lockdown=confidentiality), the \
                     socket refuses them from 6.16 on"
                        .into(),
                ),
                ..finding(
                    check,
                    State::Limited,
                    "closed when the observer receives: a sender can have it wait (SO_LINGER)",
                )
            },
        }
    }

    fn security_module(&self) -> Finding {
        let check = "security_module";
        let Some(module) = self.security_module else {
            return ok(check, "none decides who may send by Unix sockets");
        };
        Finding {
            action: Some(
                "--ingest ring and --refuse kernel pass it by, and need --over-lsm; without them \
                 it is asked as ever"
                    .into(),
            ),
            ..finding(
                check,
                State::Limited,
                format!("{module} decides who may send by Unix sockets"),
            )
        }
    }

    /// The state of what only tier `btf` needs, where it is not there.
    fn unless_attested(&self) -> State {
        if self.attested_tier().is_some() {
            State::Limited
        } else {
            State::Missing
        }
    }
}

fn ok(check: &'static str, found: impl Into<String>) -> Finding {
    finding(check, State::Ok, found)
}

fn finding(check: &'static str, state: State, found: impl Into<String>) -> Finding {
    Finding {
        check,
        state,
        found: found.into(),
        action: None,
    }
}
