//! What UDP listeners need beyond the Unix socket.

use observer_events::event::Via;

use super::{Finding, HostReport, State, finding, ok, tier};

impl HostReport {
    pub(super) fn cgroup(&self) -> Finding {
        let check = "cgroup";
        match &self.cgroup {
            None => Finding {
                action: Some(
                    "for --udp: mount -t cgroup2 none /sys/fs/cgroup; in a container, mount the \
                     host's and name it with --cgroup"
                        .into(),
                ),
                ..finding(check, State::Limited, "no cgroup2 file system is mounted")
            },
            Some(root) if root.is_root => ok(check, format!("{}, the root", root.path.display())),
            Some(root) => Finding {
                action: Some(
                    "for --udp: give the container the host's cgroup root (docker: \
                     -v /sys/fs/cgroup:/host/cgroup:ro) and name it with --cgroup"
                        .into(),
                ),
                ..finding(
                    check,
                    State::Limited,
                    format!(
                        "{} is not the root: UDP senders outside of it are not attested",
                        root.path.display()
                    ),
                )
            },
        }
    }

    pub(super) fn udp_tiers(&self) -> impl Iterator<Item = Finding> {
        self.udp_tiers.iter().map(|tier| {
            let check = match tier.via {
                Via::Btf => "udp_tier_btf",
                Via::Helper => "udp_tier_helper",
                Via::Scm => "udp_tier_scm",
            };
            tier::tried(
                check,
                tier,
                self.attested_udp_tier(),
                State::Limited,
                || {
                    if self.udp6_tier.error.is_none() {
                        "let --udp listen on IPv6, as on [::1]".into()
                    } else {
                        self.udp_remedy().into()
                    }
                },
            )
        })
    }

    fn udp_remedy(&self) -> &'static str {
        let may_attach = self
            .capabilities
            .map(|held| held.net_admin || held.sys_admin);
        if may_attach == Some(true) && self.may_use_bpf() == Some(true) {
            "for --udp: see to that; the Unix socket works without"
        } else {
            "for --udp: add CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON; the Unix socket works without \
             the first"
        }
    }

    /// Of interest only where IPv4 listeners are not attested: where they are,
    /// IPv6 ones are as well.
    pub(super) fn udp6_tier(&self) -> Option<Finding> {
        let check = "udp6_tier_btf";
        if self.attested_udp_tier().is_some() {
            return None;
        }
        Some(match &self.udp6_tier.error {
            None => tier::works(check),
            Some(error) => finding(check, State::Limited, error.as_str()),
        })
    }
}
