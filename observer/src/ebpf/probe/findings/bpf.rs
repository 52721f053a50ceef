//! Findings on eBPF itself: what the binary holds, what the kernel lets this
//! process load and call, and which tiers work.

use std::env;

use observer_events::event::Via;

use super::{Finding, HostReport, State, finding, ok, tier};
use crate::ebpf::probe::{Capabilities, Support};

impl HostReport {
    pub(super) fn object(&self) -> Finding {
        if self.object_built_in {
            return ok("ebpf_object", "built in");
        }
        Finding {
            action: Some("build this binary with `cargo xtask build`".into()),
            ..finding("ebpf_object", State::Missing, "not in this binary")
        }
    }

    pub(super) fn capabilities(&self) -> Vec<Finding> {
        let Some(capabilities) = self.capabilities else {
            return vec![finding("capabilities", State::Unknown, "capget failed")];
        };
        let Capabilities {
            bpf,
            perfmon,
            net_admin,
            sys_admin,
        } = capabilities;
        vec![
            self.capability("cap_bpf", bpf, sys_admin),
            self.capability("cap_perfmon", perfmon, sys_admin),
            ok(
                "cap_net_admin",
                held(net_admin, "not held; only --udp needs it"),
            ),
            ok("cap_sys_admin", held(sys_admin, "not held, and not needed")),
        ]
    }

    /// `CAP_SYS_ADMIN` stands for both (`bpf_capable` and `perfmon_capable`,
    /// `include/linux/capability.h`), in the initial user namespace only.
    fn capability(&self, check: &'static str, held: bool, sys_admin: bool) -> Finding {
        if self.initial_user_ns == Some(false) {
            return Finding {
                action: Some(self.grant_capabilities()),
                ..finding(
                    check,
                    State::Missing,
                    "a user namespace's capabilities do not count",
                )
            };
        }
        match (held, sys_admin) {
            (true, _) => ok(check, "held"),
            (false, true) => ok(check, "not held; CAP_SYS_ADMIN does as well"),
            (false, false) => Finding {
                action: Some(self.grant_capabilities()),
                ..finding(check, State::Missing, "not held")
            },
        }
    }

    pub(super) fn socket_filter(&self) -> Finding {
        let check = "socket_filter";
        match &self.socket_filter {
            Support::Yes => ok(check, "can be loaded"),
            Support::No => Finding {
                action: Some("boot a kernel built with CONFIG_BPF_SYSCALL=y".into()),
                ..finding(check, State::Missing, "unknown to this kernel")
            },
            Support::Refused { error } => Finding {
                action: Some(self.on_refusal()),
                ..finding(check, State::Missing, error.as_str())
            },
        }
    }

    fn on_refusal(&self) -> String {
        if self.may_use_bpf() == Some(false) {
            return self.grant_capabilities();
        }
        "allow the bpf system call: the container's seccomp profile or a security module refuses \
         it (systemd: SystemCallFilter=bpf)"
            .into()
    }

    /// How to give this process the capabilities that it lacks.
    fn grant_capabilities(&self) -> String {
        if self.initial_user_ns == Some(false) {
            return "run the observer outside of user namespaces".into();
        }
        let program = env::current_exe();
        let program = program
            .as_ref()
            .map_or("observer".into(), |path| path.to_string_lossy());
        format!(
            "run as root, or: setcap cap_bpf,cap_perfmon=ep {program}; in a systemd unit: \
             AmbientCapabilities=CAP_BPF CAP_PERFMON"
        )
    }

    pub(super) fn may_use_bpf(&self) -> Option<bool> {
        self.capabilities.map(|held| {
            (held.bpf && held.perfmon || held.sys_admin) && self.initial_user_ns != Some(false)
        })
    }

    pub(super) fn task_helper(&self) -> Finding {
        let check = "get_current_task_btf";
        let state = self.unless_attested();
        match &self.helpers.get_current_task_btf {
            Support::Yes => ok(check, "callable"),
            Support::No if self.may_use_bpf() == Some(false) => Finding {
                action: Some(self.grant_capabilities()),
                ..finding(check, state, "not for this process")
            },
            Support::No => Finding {
                action: Some("boot a newer kernel, 6.1 or later".into()),
                ..finding(check, state, "unknown to this kernel")
            },
            Support::Refused { error } => finding(check, State::Unknown, error.as_str()),
        }
    }

    /// A helper function that only tier `helper` needs: it is missing only if
    /// tier `btf` does not work.
    pub(super) fn pid_helper(&self, check: &'static str, support: &Support) -> Finding {
        match support {
            Support::Yes => ok(check, "callable"),
            Support::No if self.attested_tier() == Some(Via::Btf) => {
                ok(check, "not callable; only tier helper needs it")
            }
            Support::No => Finding {
                action: Some("boot kernel 6.10 or later, or make tier btf work".into()),
                ..finding(check, State::Missing, "unknown to this kernel")
            },
            Support::Refused { error } => finding(check, State::Unknown, error.as_str()),
        }
    }

    pub(super) fn tiers(&self) -> impl Iterator<Item = Finding> {
        self.tiers.iter().map(|tier| {
            let check = match tier.via {
                Via::Btf => "tier_btf",
                Via::Helper => "tier_helper",
                Via::Scm => "tier_scm",
            };
            let state = self.unless_attested();
            tier::tried(check, tier, self.attested_tier(), state, || {
                if self.may_use_bpf() == Some(false) {
                    self.grant_capabilities()
                } else {
                    "first fix what is missing above".into()
                }
            })
        })
    }
}

fn held(held: bool, otherwise: &'static str) -> &'static str {
    if held { "held" } else { otherwise }
}
