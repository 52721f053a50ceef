use super::*;
use crate::ebpf::KERNEL_BTF;

/// A host on which everything works.
fn good() -> HostReport {
    HostReport {
        kernel_release: "6.12.0".into(),
        lockdown: Lockdown::Integrity,
        btf: Btf::Readable,
        btf_file: KERNEL_BTF.into(),
        capabilities: Some(Capabilities {
            bpf: true,
            perfmon: true,
            net_admin: false,
            sys_admin: false,
        }),
        initial_user_ns: Some(true),
        unprivileged_bpf_disabled: Some(2),
        socket_filter: Support::Yes,
        helpers: Helpers {
            get_current_task_btf: Support::Yes,
            get_current_pid_tgid: Support::Yes,
            get_ns_current_pid_tgid: Support::Yes,
        },
        object_built_in: true,
        btf_expected: true,
        fields: vec![FieldProof {
            field: Field::Uid,
            unproven: None,
        }],
        tiers: tiers(None, None),
        cgroup: Some(CgroupRoot {
            path: "/sys/fs/cgroup".into(),
            is_root: true,
        }),
        udp_tiers: tiers(None, None),
        udp6_tier: tier(Via::Btf, None),
        pid_ns_inode: Some(INITIAL_PID_NS),
        initial_pid_ns: Some(true),
        max_dgram_qlen: Some(512),
        io_uring_disabled: Some(0),
        descriptors: Descriptors::Refused,
        security_module: None,
    }
}

fn tiers(btf: Option<&str>, helper: Option<&str>) -> Vec<Tier> {
    vec![tier(Via::Btf, btf), tier(Via::Helper, helper)]
}

fn tier(via: Via, error: Option<&str>) -> Tier {
    Tier {
        via,
        error: error.map(Into::into),
    }
}

fn find(report: &HostReport, check: &str) -> Finding {
    report
        .findings()
        .into_iter()
        .find(|finding| finding.check == check)
        .unwrap()
}

#[test]
fn lockdown_is_the_word_in_brackets() {
    assert_eq!(
        parse_lockdown("[none] integrity confidentiality\n"),
        Lockdown::None
    );
    assert_eq!(
        parse_lockdown("none [integrity] confidentiality\n"),
        Lockdown::Integrity
    );
    assert_eq!(
        parse_lockdown("none integrity [confidentiality]"),
        Lockdown::Confidentiality
    );
    assert_eq!(parse_lockdown("none integrity"), Lockdown::Unknown);
    assert_eq!(parse_lockdown("[new] none"), Lockdown::Unknown);
    assert_eq!(parse_lockdown(""), Lockdown::Unknown);
}

#[test]
fn a_good_host_needs_nothing() {
    let report = good();
    assert_eq!(report.tier(), Via::Btf);
    for finding in report.findings() {
        assert_eq!(
            (finding.state, &finding.action),
            (State::Ok, &None),
            "{finding:?}"
        );
    }
}

#[test]
fn whatever_is_missing_names_an_action() {
    let report = HostReport {
        btf: Btf::Absent,
        capabilities: Some(Capabilities {
            bpf: false,
            perfmon: false,
            net_admin: false,
            sys_admin: false,
        }),
        socket_filter: Support::Refused {
            error: "Operation not permitted".into(),
        },
        helpers: Helpers {
            get_current_task_btf: Support::No,
            get_current_pid_tgid: Support::No,
            get_ns_current_pid_tgid: Support::No,
        },
        object_built_in: false,
        tiers: tiers(Some("no BTF"), Some("refused")),
        max_dgram_qlen: Some(10),
        ..good()
    };
    assert_eq!(report.attested_tier(), None);
    assert_eq!(report.tier(), Via::Scm);
    for finding in report.findings() {
        let needs_action = finding.state != State::Ok;
        assert_eq!(finding.action.is_some(), needs_action, "{finding:?}");
    }
    let action = find(&report, "cap_bpf").action.unwrap();
    assert!(
        action.contains("setcap cap_bpf,cap_perfmon=ep "),
        "{action}"
    );
    assert!(
        action.contains("AmbientCapabilities=CAP_BPF CAP_PERFMON"),
        "{action}"
    );
}

#[test]
fn what_passes_a_security_module_by_is_said() {
    let report = HostReport {
        security_module: Some(SecurityModule::SeLinux),
        ..good()
    };
    let finding = find(&report, "security_module");
    assert_eq!(finding.state, State::Limited);
    assert!(finding.action.unwrap().contains("--over-lsm"));
}

#[test]
fn who_can_have_the_observer_wait_is_said() {
    let with = |descriptors| HostReport {
        descriptors,
        ..good()
    };
    let finding = find(&with(Descriptors::Closed), "attached_descriptors");
    assert_eq!(finding.state, State::Limited);
    assert!(finding.action.unwrap().contains("--ingest ring"));
    let finding = find(&with(Descriptors::Dropped), "attached_descriptors");
    assert_eq!(finding.state, State::Ok);
}

#[test]
fn the_second_tier_attests_too() {
    let report = HostReport {
        btf: Btf::Absent,
        btf_expected: false,
        tiers: tiers(Some("no BTF"), None),
        ..good()
    };
    assert_eq!(report.attested_tier(), Some(Via::Helper));
    assert_eq!(find(&report, "btf").state, State::Limited);
    assert!(find(&report, "btf").found.contains(KERNEL_BTF));
    assert_eq!(find(&report, "tier_btf").state, State::Limited);
    assert_eq!(find(&report, "tier_helper").state, State::Ok);
}

/// Nobody asked for a weaker tier than the one that should work.
#[test]
fn a_tier_that_should_work_is_not_replaced_by_a_weaker_one() {
    let report = HostReport {
        tiers: tiers(Some("the types are damaged"), None),
        ..good()
    };
    assert_eq!(report.attested_tier(), None);
    assert_eq!(report.tier(), Via::Helper);
    let finding = find(&report, "tier_btf");
    assert_eq!(finding.state, State::Missing);
    assert!(finding.action.is_some());
}

#[test]
fn what_is_not_proved_is_said() {
    let proof = |field, reason: Option<&str>| FieldProof {
        field,
        unproven: reason.map(Into::into),
    };
    let report = HostReport {
        fields: vec![
            proof(Field::Gid, Some("nobody could send")),
            proof(Field::Comm, None),
        ],
        ..good()
    };
    assert_eq!(find(&report, "fields").found, "proved: comm");
    let finding = find(&report, "field_gid");
    assert_eq!(finding.state, State::Unproven);
    assert_eq!(finding.found, "nobody could send");
    assert!(finding.action.unwrap().contains("CAP_SETGID"));
}

#[test]
fn sys_admin_does_for_the_two_others_but_not_in_a_user_namespace() {
    let capabilities = Some(Capabilities {
        bpf: false,
        perfmon: false,
        net_admin: true,
        sys_admin: true,
    });
    let mut report = HostReport {
        capabilities,
        ..good()
    };
    assert_eq!(find(&report, "cap_bpf").state, State::Ok);
    report.initial_user_ns = Some(false);
    assert_eq!(find(&report, "cap_bpf").state, State::Missing);
}

#[test]
fn this_host_can_be_probed() {
    let report = probe(Path::new(KERNEL_BTF));
    assert!(!report.kernel_release.is_empty());
    assert!(report.pid_ns_inode.is_some());
    assert_eq!(report.object_built_in, object_is_built_in());
    assert_eq!(report.tiers.len(), 2);
}

#[test]
fn what_udp_lacks_is_a_limit_and_no_more() {
    let refused = "the kernel refused the eBPF program: Operation not permitted";
    let without = HostReport {
        udp_tiers: tiers(Some(refused), Some(refused)),
        udp6_tier: tier(Via::Btf, Some(refused)),
        ..good()
    };
    assert_eq!(without.attested_tier(), Some(Via::Btf));
    assert_eq!(without.attested_udp_tier(), None);
    for check in ["udp_tier_btf", "udp_tier_helper"] {
        let finding = find(&without, check);
        assert_eq!(finding.state, State::Limited);
        assert!(finding.action.unwrap().contains("CAP_NET_ADMIN"));
    }
    assert_eq!(find(&good(), "udp_tier_btf").state, State::Ok);
    let old = HostReport {
        udp_tiers: tiers(Some("IPv4 sockets cannot be looked into"), Some(refused)),
        ..good()
    };
    assert_eq!(find(&old, "udp6_tier_btf").state, State::Ok);
    let finding = find(&old, "udp_tier_btf");
    assert!(finding.action.unwrap().contains("[::1]"));

    let unmounted = HostReport {
        cgroup: None,
        ..good()
    };
    assert_eq!(find(&unmounted, "cgroup").state, State::Limited);
    let container = HostReport {
        cgroup: Some(CgroupRoot {
            path: "/sys/fs/cgroup".into(),
            is_root: false,
        }),
        ..good()
    };
    let finding = find(&container, "cgroup");
    assert_eq!(finding.state, State::Limited);
    assert!(finding.action.unwrap().contains("--cgroup"));
}
