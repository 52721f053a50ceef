//! Findings on what is proved of the fields that tier `btf` reads of senders.

use super::{Finding, HostReport, State, finding, ok};
use crate::ebpf::probe::{Field, FieldProof};

impl HostReport {
    /// What is proved, on one line, and each field that is not, on its own.
    pub(super) fn fields(&self) -> Vec<Finding> {
        if self.fields.is_empty() {
            return Vec::new();
        }
        let (proved, others): (Vec<&FieldProof>, Vec<&FieldProof>) = self
            .fields
            .iter()
            .partition(|proof| proof.unproven.is_none());
        let names: Vec<&str> = proved.iter().map(|proof| name(proof.field)).collect();
        let others = others.into_iter().filter_map(unproven);
        let proved = ok("fields", format!("proved: {}", names.join(", ")));
        [proved].into_iter().chain(others).collect()
    }
}

fn unproven(proof: &FieldProof) -> Option<Finding> {
    let FieldProof { field, unproven } = proof;
    let reason = unproven.as_deref()?;
    Some(Finding {
        action: Some(format!("to have it proved, {}", remedy(*field))),
        ..finding(check(*field), State::Unproven, reason)
    })
}

/// The check's name begins with `field_`, and ends with the field's.
fn check(field: Field) -> &'static str {
    match field {
        Field::Pid => "field_pid",
        Field::Tid => "field_tid",
        Field::PidNamespace => "field_pid_namespace",
        Field::Level => "field_level",
        Field::StartTime => "field_start_time",
        Field::Uid => "field_uid",
        Field::Gid => "field_gid",
        Field::Comm => "field_comm",
        Field::CgroupId => "field_cgroup_id",
        Field::Exe => "field_exe",
        Field::TaskFlags => "field_task_flags",
        Field::IoWorkers => "field_io_workers",
        Field::Descriptors => "field_descriptors",
        Field::SocketShutdown => "field_socket_shutdown",
    }
}

fn name(field: Field) -> &'static str {
    let check = check(field);
    check.strip_prefix("field_").unwrap_or(check)
}

fn remedy(field: Field) -> &'static str {
    match field {
        Field::Uid | Field::Gid => "run as root, or with CAP_SETUID and CAP_SETGID besides",
        Field::Level => "run as root, or let this user make user namespaces",
        Field::IoWorkers => "let this user make an io_uring (kernel.io_uring_disabled, seccomp)",
        Field::StartTime => "use the kernel's own types",
        Field::CgroupId => "run in a cgroup of its own, as a systemd unit does",
        Field::Exe => "run from a file system that is mounted in this mount namespace",
        _ => "run as root in the initial pid namespace, with /proc mounted",
    }
}
