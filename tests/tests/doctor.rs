//! What `observer doctor` finds is so: each finding is compared with what an
//! observer with the same rights then does.

use observer_tests::kernel::{self, HELPER_TIER};
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::{fact, need_kernel};
use serde_json::Value;

const PRIVILEGES: [Privilege; 5] = [
    Privilege::Root,
    Privilege::BTF,
    Privilege::HELPER,
    Privilege::NONE,
    Privilege::Nobody(&["bpf", "perfmon", "net_admin"]),
];

fn report(binary: &Binary, privilege: Privilege) -> (Value, Option<i32>) {
    let mut command = binary.command(privilege);
    let output = command
        .args(["doctor", "--json"])
        .output()
        .expect("it runs");
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (report, output.status.code())
}

/// Why an observer does not start with these flags; `None`: it does.
fn refusal(binary: &Binary, privilege: Privilege, flags: &[&str]) -> Option<String> {
    let remains = binary.start(privilege, flags).err()?;
    assert_eq!(remains.status.code(), Some(3), "{:#?}", remains.log);
    Some(remains.log.join("\n"))
}

/// What is missing comes with what to do about it.
fn assert_has_remedies(report: &Value) {
    for finding in report["findings"].as_array().expect("findings") {
        if finding["state"] == "missing" {
            assert!(finding["action"].is_string(), "{finding}");
        }
    }
}

/// Without the names of maps, of which any may be the first to be refused.
fn unnamed(text: &str) -> String {
    text.split('`').step_by(2).collect()
}

#[test]
fn each_tier_does_what_doctor_found() {
    need_kernel!();
    let binary = Binary::new();
    for privilege in PRIVILEGES {
        let (report, code) = report(&binary, privilege);
        assert_has_remedies(&report);
        for (tiers, more) in [
            ("tiers", &[][..]),
            ("udp_tiers", &["--udp", "127.0.0.1:0"]),
            ("udp6_tier", &["--udp", "[::1]:0"]),
        ] {
            let found = &report[tiers];
            let one = std::slice::from_ref(found);
            for tier in found.as_array().map_or(one, Vec::as_slice) {
                let via = tier["via"].as_str().expect("a name");
                let flags = [&["--tier", via], more].concat();
                let refusal = refusal(&binary, privilege, &flags);
                let context = format!("{privilege:?}, {tiers} {via}: {tier}; {refusal:?}");
                match (&tier["error"], refusal) {
                    (Value::Null, refusal) => assert_eq!(refusal, None, "{context}"),
                    (Value::String(error), Some(refusal)) if more.is_empty() => {
                        assert!(unnamed(&refusal).contains(&unnamed(error)), "{context}");
                    }
                    (error, refusal) => {
                        assert!(error.is_string() && refusal.is_some(), "{context}");
                    }
                }
            }
        }
        // The whole: whether `run` starts, and by what.
        let starts = refusal(&binary, privilege, &[]).is_none();
        assert_eq!(report["can_attest"], starts, "{privilege:?}");
        assert_eq!(code, Some(if starts { 0 } else { 3 }), "{privilege:?}");
        fact::record(
            &format!("doctor/{}", privilege.name()),
            report["tier"].as_str().expect("a tier"),
        );
    }
}

#[test]
fn the_facts_are_those_of_the_kernel() {
    need_kernel!();
    let (report, _) = report(&Binary::new(), Privilege::Root);
    assert_eq!(report["kernel_release"], kernel::release());
    let lockdown = kernel::lockdown();
    assert_eq!(report["lockdown"], lockdown);
    assert_eq!(report["btf"]["state"], "readable");
    assert_eq!(report["cgroup"]["is_root"], true);
    let helper = report["helpers"]["get_ns_current_pid_tgid"]["state"] == "yes";
    assert_eq!(helper, kernel::is_at_least(HELPER_TIER));
    let namespace = observer_tests::procfs::pid_namespace(std::process::id());
    assert_eq!(report["pid_ns_inode"], namespace);
    let descriptors = if kernel::is_at_least(kernel::REFUSES_DESCRIPTORS) {
        "refused"
    } else if kernel::sees_descriptors() {
        "dropped"
    } else {
        "closed"
    };
    assert_eq!(report["descriptors"], descriptors);
    fact::record("release", &kernel::release());
    fact::record("lockdown", &lockdown);
}
