//! `--btf`: types that are missing, damaged, or of another kernel. With each the
//! observer does not start, unless a weaker tier was agreed to: then the reason
//! is logged, and nothing is left half-loaded.

use std::fs;
use std::path::{Path, PathBuf};

use observer_tests::btf::{KERNEL_BTF, Types};
use observer_tests::kernel::{self, HELPER_TIER};
use observer_tests::need_kernel;
use observer_tests::observer::{Observer, is};
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::senders::sender;
use serde_json::Value;
use tempfile::TempDir;

/// A file of types, and what the observer logs about it.
struct Case {
    name: &'static str,
    btf: PathBuf,
    reason: &'static str,
}

/// Files in a folder of their own.
fn cases(folder: &TempDir) -> Vec<Case> {
    let good = fs::read(KERNEL_BTF).expect("this kernel shows its types");
    let case = |name: &'static str, bytes: Option<Vec<u8>>, reason| {
        let btf = folder.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&btf, bytes).expect("there is room");
        }
        Case { name, btf, reason }
    };
    let half = good.len() / 2;
    vec![
        case("absent", None, "cannot read the kernel's type information"),
        case(
            "empty",
            Some(Vec::new()),
            "no BTF of this machine's byte order",
        ),
        case("cut", Some(good[..half].to_vec()), "it ends too early"),
        case(
            "noise",
            Some(vec![0x5a; 4096]),
            "no BTF of this machine's byte order",
        ),
        case(
            "without-a-field",
            Some(renamed(&good, "start_boottime", "stort_beettime")),
            "this kernel has no task_struct.start_boottime",
        ),
        // As in types of another kernel: an offset at which something else
        // lies. The verifier compares each load with the true types.
        case(
            "of-another-kernel",
            Some(swapped(&good, "thread_pid", "exit_state")),
            "the kernel refused the eBPF program",
        ),
    ]
}

/// Where a string is among the names.
fn position(types: &[u8], name: &str) -> usize {
    let name = [b"\0", name.as_bytes(), b"\0"].concat();
    let found = types.windows(name.len()).position(|window| window == name);
    found.expect("the kernel has the name") + 1
}

fn renamed(types: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut types = types.to_vec();
    let at = position(&types, from);
    types[at..at + to.len()].copy_from_slice(to.as_bytes());
    types
}

fn swapped(types: &[u8], one: &str, other: &str) -> Vec<u8> {
    let (first, second) = (position(types, one), position(types, other));
    let mut types = types.to_vec();
    types[first..first + one.len()].copy_from_slice(other.as_bytes());
    types[second..second + other.len()].copy_from_slice(one.as_bytes());
    types
}

/// Whether an observer holds a program of tier btf.
fn has_loaded(observer: &Observer) -> bool {
    kernel::programs_of(observer.pid()).iter().any(|program| {
        matches!(
            program.name_as_str(),
            Some("unix_btf" | "udp_btf" | "udp_btf_v6")
        )
    })
}

fn start(btf: &Path, flags: &[&str]) -> Result<Observer, observer_tests::observer::Remains> {
    let btf = btf.display().to_string();
    let flags = [&["--btf", btf.as_str()], flags].concat();
    Binary::new().start(Privilege::Root, &flags)
}

fn honest_beat(observer: &Observer) -> Value {
    let mut agent = sender(observer.target(), "honest", &[]);
    let beat = observer.expect("a beat", |event| is(event, "beat"));
    agent.finish_well();
    beat
}

#[test]
fn useless_types_leave_the_next_tier_and_the_reason() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let next = if kernel::is_at_least(HELPER_TIER) {
        "helper"
    } else {
        "scm"
    };
    for Case { name, btf, reason } in cases(&folder) {
        let observer = start(&btf, &["--attest", "prefer"])
            .unwrap_or_else(|remains| panic!("{name}: {:#?}", remains.log));
        assert!(!has_loaded(&observer), "{name}: half-loaded");
        assert_eq!(honest_beat(&observer)["sender"]["via"], next, "{name}");
        let log = observer.stop().log;
        let reasons: Vec<_> = log.iter().filter(|line| line.contains(reason)).collect();
        assert_eq!(reasons.len(), 1, "{name}: {log:#?}");
        assert!(
            reasons[0].contains("attestation degraded"),
            "{name}: {reasons:?}"
        );
    }
}

/// With and without a word on tiers: nobody agreed to a weaker one.
#[test]
fn useless_types_end_an_observer_that_should_use_them() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    for Case { name, btf, reason } in cases(&folder) {
        for flags in [
            &[][..],
            &["--tier", "btf"],
            &["--min-tier", "btf", "--attest", "prefer"],
            &["--min-tier", "helper"],
        ] {
            let remains = start(&btf, flags).err().expect("it cannot start");
            let context = format!("{name} {flags:?}: {:#?}", remains.log);
            assert_eq!(remains.status.code(), Some(3), "{context}");
            assert!(remains.log.join("\n").contains(reason), "{context}");
            let warned = remains.log.iter().any(|line| line.contains("degraded"));
            assert!(!warned, "{context}");
        }
    }
}

/// Who says which tier it is to be has agreed to it.
#[test]
fn the_operator_may_choose_the_weaker_tier() {
    need_kernel!();
    if !kernel::is_at_least(HELPER_TIER) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    for Case { name, btf, .. } in cases(&folder) {
        for flags in [
            &["--tier", "helper"][..],
            &["--attest", "prefer", "--min-tier", "helper"],
        ] {
            let observer =
                start(&btf, flags).unwrap_or_else(|remains| panic!("{name}: {:#?}", remains.log));
            assert_eq!(honest_beat(&observer)["sender"]["via"], "helper", "{name}");
        }
    }
}

/// The kernel's own types in the format that Linux 7.1 has, with kinds that came
/// later still.
#[test]
fn types_of_later_kernels_are_read() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let later = folder.path().join("later.btf");
    fs::write(&later, Types::of_this_kernel().of_later_format()).expect("there is room");
    let observer = start(&later, &[]).unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    assert_eq!(honest_beat(&observer)["sender"]["via"], "btf");
    let degraded = observer
        .log()
        .into_iter()
        .any(|line| line.contains("degraded"));
    assert!(!degraded);
}

/// Types that lead to no executable: none is recorded, and nothing else changes.
#[test]
fn without_the_way_to_the_executable_it_is_unknown() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let types = folder.path().join("vmlinux.btf");
    let good = fs::read(KERNEL_BTF).expect("this kernel shows its types");
    for name in ["exe_file", "f_inode", "i_ino", "i_sb", "s_dev"] {
        let other = "x".repeat(name.len());
        fs::write(&types, renamed(&good, name, &other)).expect("there is room");
        let observer = start(&types, &[]).unwrap_or_else(|remains| panic!("{:#?}", remains.log));
        let beat = honest_beat(&observer);
        assert_eq!(beat["sender"]["via"], "btf", "{name}: {beat}");
        assert!(beat["sender"]["exe"].is_null(), "{name}: {beat}");
        assert!(beat["sender"]["cgroup_id"].is_number(), "{name}: {beat}");
    }
    let binary = Binary::new();
    let mut doctor = binary.command(Privilege::Root);
    let output = doctor
        .args(["doctor", "--json", "--btf"])
        .arg(&types)
        .output();
    let report: Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let found = findings
        .iter()
        .find(|finding| finding["check"] == "field_exe");
    assert_eq!(found.expect("it is there")["state"], "unproven");
}

/// A copy of the kernel's own types is as good as they are.
#[test]
fn good_types_may_lie_anywhere() {
    need_kernel!();
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("vmlinux.btf");
    fs::copy(KERNEL_BTF, &copy).expect("there is room");
    let observer = start(&copy, &[]).unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    assert_eq!(honest_beat(&observer)["sender"]["via"], "btf");
    assert!(has_loaded(&observer));
}
