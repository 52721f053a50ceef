//! `--btf`: a file in which one field is where another is. The observer does not
//! start with it, or `doctor` reports that the field is not proved.

use std::fs;
use std::path::Path;

use observer_tests::btf::Types;
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::{is_emulated, need_kernel};
use serde_json::Value;

/// What an observer and `doctor` make of a file of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The observer does not start.
    Refused,
    /// It starts, and `doctor` says that the field is not proved.
    Reported,
    /// It starts, and nobody says anything.
    Unnoticed,
}

/// A field that the programs read, where else it may be said to be, and which
/// check of `doctor` speaks of it.
struct Field {
    structure: &'static str,
    name: &'static str,
    /// Other members of the structure, or of one within it.
    instead: &'static [&'static str],
    check: &'static str,
}

const fn field(
    structure: &'static str,
    name: &'static str,
    check: &'static str,
    instead: &'static [&'static str],
) -> Field {
    Field {
        structure,
        name,
        instead,
        check,
    }
}

/// Members that hold the same value for every sender: which of them is read makes
/// no difference. The two credentials of a task differ only while the kernel
/// works for it with another's (`override_creds`), which is no send of its own.
/// The two memories of a task differ only for threads of the kernel's own, of
/// which no executable is recorded.
const EQUAL: [(&str, &str); 2] = [("cred", "real_cred"), ("mm", "active_mm")];

const FIELDS: [Field; 37] = [
    field("task_struct", "pid", "field_tid", &["tgid", "flags"]),
    field("task_struct", "tgid", "field_pid", &["pid", "flags"]),
    field(
        "task_struct",
        "flags",
        "field_task_flags",
        &["ptrace", "pid", "personality"],
    ),
    field(
        "task_struct",
        "group_leader",
        "field_pid",
        &["real_parent", "parent"],
    ),
    field("task_struct", "thread_pid", "field_pid", &["group_leader"]),
    field(
        "task_struct",
        "start_boottime",
        "field_start_time",
        &["utime", "nvcsw", "min_flt"],
    ),
    field(
        "task_struct",
        "cred",
        "field_uid",
        &["ptracer_cred", "files", "fs"],
    ),
    field("task_struct", "comm", "field_comm", &["nvcsw"]),
    field("task_struct", "cgroups", "field_cgroup_id", &["nsproxy"]),
    field(
        "cred",
        "uid",
        "field_uid",
        &["gid", "suid", "euid", "fsuid"],
    ),
    field(
        "cred",
        "gid",
        "field_gid",
        &["uid", "sgid", "egid", "fsgid"],
    ),
    field("pid", "level", "field_level", &["count"]),
    field("pid", "numbers", "field_pid", &["level"]),
    field("upid", "nr", "field_pid", &[]),
    field("upid", "ns", "field_pid_namespace", &[]),
    field("ns_common", "inum", "field_pid_namespace", &[]),
    field(
        "css_set",
        "dfl_cgrp",
        "field_cgroup_id",
        &["mg_dst_cgrp", "mg_src_cgrp"],
    ),
    field("cgroup", "kn", "field_cgroup_id", &["procs_file"]),
    field(
        "kernfs_node",
        "id",
        "field_cgroup_id",
        &["count", "rb", "priv"],
    ),
    field("task_struct", "mm", EXE, &["stack", "files", "fs"]),
    field("mm_struct", "exe_file", EXE, &["pgd", "binfmt"]),
    field("file", "f_inode", EXE, &["f_mapping", "f_op", "f_cred"]),
    field(
        "inode",
        "i_ino",
        EXE,
        &["i_size", "i_version", "i_rdev", "i_sb"],
    ),
    field("inode", "i_sb", EXE, &["i_mapping", "i_op"]),
    field(
        "super_block",
        "s_dev",
        EXE,
        &["s_flags", "s_magic", "s_blocksize", "s_time_gran"],
    ),
    field(
        "sock",
        "sk_shutdown",
        "field_socket_shutdown",
        &["sk_type", "sk_protocol"],
    ),
    field(
        "task_struct",
        "worker_private",
        "field_io_workers",
        &["pid", "tgid"],
    ),
    field("io_worker", "wq", "field_io_workers", &["task"]),
    field("io_wq", "task", "field_io_workers", &["hash"]),
    field("unix_skb_parms", "fp", "field_descriptors", &["pid"]),
    field("sk_buff", "cb", "field_descriptors", &["sk"]),
    field("sk_buff", "sk", UDP, &[]),
    field("sock_common", "skc_net", UDP, &["skc_prot"]),
    field("sock", "sk_type", UDP, &["sk_protocol", "sk_shutdown"]),
    field("sock", "sk_protocol", UDP, &["sk_type"]),
    field("udp_sock", "pending", UDP, &["udp_flags"]),
    field("net", "ns", UDP, &[]),
];

/// The check of all that leads to the executable.
const EXE: &str = "field_exe";

/// What only the program for UDP reads: without it that listener is refused.
const UDP: &str = "udp_tier_btf";

/// What is tried on an emulated machine, where each takes many seconds: the
/// fields that a verdict is made of.
const EMULATED: [&str; 9] = [
    "tgid",
    "thread_pid",
    "start_boottime",
    "cred",
    "uid",
    "comm",
    "exe_file",
    "i_ino",
    "s_dev",
];

/// By `doctor` alone: what it finds of a tier is what the observer does
/// (`doctor.rs`).
fn outcome(binary: &Binary, file: &Path, check: &str) -> Outcome {
    let mut command = binary.command(Privilege::Root);
    let command = command.args(["doctor", "--json", "--btf"]).arg(file);
    let output = command.output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    if check == UDP && report["udp_tiers"][0]["error"].is_string() {
        return Outcome::Refused;
    }
    if report["tiers"][0]["error"].is_string() {
        assert_eq!(report["can_attest"], false, "{report}");
        assert_eq!(output.status.code(), Some(3));
        return Outcome::Refused;
    }
    let findings = report["findings"].as_array().expect("findings");
    let is_reported = findings
        .iter()
        .any(|finding| finding["check"] == check && finding["state"] == "unproven");
    if is_reported {
        Outcome::Reported
    } else {
        Outcome::Unnoticed
    }
}

/// Offsets in bits at which a field is not.
fn places(types: &Types, field: &Field) -> Vec<(String, u32)> {
    let right = types.find(field.structure, field.name);
    let mut places: Vec<(String, u32)> = field
        .instead
        .iter()
        .map(|name| ((*name).to_owned(), types.find(field.structure, name).bits))
        .collect();
    let next = right.bits + 64;
    if !is_equal(types, field, next) {
        places.push(("the next word".into(), next));
    }
    places
}

/// Whether what lies there is as good.
fn is_equal(types: &Types, field: &Field, bits: u32) -> bool {
    let others = types.members(field.structure);
    let mut others = others.iter().filter(|other| other.bits == bits);
    others.any(|other| EQUAL.contains(&(field.name, other.name.as_str())))
}

#[test]
fn no_field_that_is_elsewhere_goes_unnoticed() {
    need_kernel!();
    let types = Types::of_this_kernel();
    let binary = Binary::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("vmlinux.btf");
    fs::write(&file, types.bytes()).expect("there is room");
    let right = outcome(&binary, &file, FIELDS[0].check);
    assert_eq!(right, Outcome::Unnoticed, "there is no mistake in these");
    let mut unnoticed = Vec::new();
    let is_tried = |field: &&Field| !is_emulated() || EMULATED.contains(&field.name);
    for field in FIELDS.iter().filter(is_tried) {
        let member = types.find(field.structure, field.name);
        for (name, bits) in places(&types, field) {
            fs::write(&file, types.with(&member, bits)).expect("there is room");
            let outcome = outcome(&binary, &file, field.check);
            let mistake = format!("{}.{} at {name}", field.structure, field.name);
            println!("{mistake}: {outcome:?}");
            if outcome == Outcome::Unnoticed {
                unnoticed.push(mistake);
            }
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}
