//! What is known of a task without the program: what the system calls and
//! `/proc` say of it.

use std::fs;
use std::path::PathBuf;
use std::process;

use observer_common::record::{COMM_LEN, Program, Record};
use observer_events::exe::ExeId;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{getgid, getuid};
use rustix::thread::{gettid, name};

use super::stat::{Start, Stat};
use crate::ebpf::cgroup::Cgroup;
use crate::ebpf::namespace::{PidNamespace, in_initial_user_namespace};

/// Flags of a task that stay as they are while it runs: `PF_IO_WORKER`,
/// `PF_FORKNOEXEC`, `PF_KTHREAD`, `PF_RANDOMIZE` (`include/linux/sched.h`, read
/// in 6.1 to 6.18). The others come and go.
pub(in crate::ebpf::program) const STEADY_FLAGS: u32 = 0x10 | 0x40 | 0x0020_0000 | 0x0040_0000;

/// What a record of a task has to say. `None`: it is not known, and not
/// compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ebpf::program) struct Truth {
    pub(in crate::ebpf::program) pid: u32,
    pub(in crate::ebpf::program) own_pid: u32,
    pub(in crate::ebpf::program) host_pid: Option<u32>,
    pub(in crate::ebpf::program) host_tid: Option<u32>,
    pub(in crate::ebpf::program) namespace: Option<u32>,
    pub(in crate::ebpf::program) level: Option<u32>,
    pub(in crate::ebpf::program) uid: Option<u32>,
    pub(in crate::ebpf::program) gid: Option<u32>,
    pub(in crate::ebpf::program) start: Option<Start>,
    pub(in crate::ebpf::program) comm: Option<[u8; COMM_LEN]>,
    pub(in crate::ebpf::program) cgroup_id: Option<u64>,
    /// Compared with a record that names one: a program whose types lead to
    /// none is honest about it.
    pub(in crate::ebpf::program) exe: Option<ExeId>,
}

impl Truth {
    /// Of the thread that calls this, whose process is in this pid namespace.
    pub(in crate::ebpf::program) fn of_this_thread(namespace: &PidNamespace) -> Self {
        let is_initial = namespace.is_initial();
        // Ids of another user namespace are not those of the initial one.
        let has_ids = in_initial_user_namespace() == Some(true);
        Self {
            pid: process::id(),
            own_pid: process::id(),
            host_pid: is_initial.then(process::id),
            host_tid: is_initial.then(|| gettid().as_raw_pid().unsigned_abs()),
            namespace: Some(namespace.inode),
            level: is_initial.then_some(0),
            uid: has_ids.then(|| getuid().as_raw()),
            gid: has_ids.then(|| getgid().as_raw()),
            start: Stat::of("self").and_then(|stat| stat.start),
            comm: name().ok().map(|name| padded(name.to_bytes())),
            cgroup_id: own_cgroup(),
            exe: own_exe(),
        }
    }

    /// Without the cgroup if this thread is in another by now.
    pub(in crate::ebpf::program) fn unless_moved(self) -> Self {
        let cgroup_id = self.cgroup_id.filter(|&id| own_cgroup() == Some(id));
        Self { cgroup_id, ..self }
    }

    /// What of it a program shows.
    pub(in crate::ebpf::program) fn as_seen_by(&self, program: Program) -> Self {
        match program {
            Program::UnixBtf | Program::UdpBtf => self.clone(),
            Program::UnixHelper => Self {
                level: None,
                uid: None,
                gid: None,
                start: None,
                comm: None,
                cgroup_id: None,
                exe: None,
                ..self.clone()
            },
        }
    }

    /// Says what is wrong with a record of the task, if anything is.
    pub(in crate::ebpf::program) fn compare(&self, record: &Record) -> Result<(), String> {
        let Self {
            pid,
            own_pid,
            host_pid,
            host_tid,
            namespace,
            level,
            uid,
            gid,
            start,
            comm,
            cgroup_id,
            exe,
        } = self;
        let numbers = [
            ("pid", record.pid.into(), Some(u64::from(*pid))),
            ("own pid", record.own_pid.into(), Some((*own_pid).into())),
            ("host pid", record.host_pid.into(), host_pid.map(Into::into)),
            ("tid", record.host_tid.into(), host_tid.map(Into::into)),
            (
                "pid namespace",
                record.pid_ns_inode.into(),
                namespace.map(Into::into),
            ),
            ("level", record.level.into(), level.map(Into::into)),
            ("uid", record.uid.into(), uid.map(Into::into)),
            ("gid", record.gid.into(), gid.map(Into::into)),
            ("cgroup id", record.cgroup_id, *cgroup_id),
        ];
        for (what, found, expected) in numbers {
            if let Some(expected) = expected.filter(|&expected| expected != found) {
                return Err(format!("{what} is {found}, should be {expected}"));
            }
        }
        if let Some(start) = start.filter(|start| !start.is(record.start_ns)) {
            let found = record.start_ns;
            return Err(format!("start time is {found} ns, should be {start:?}"));
        }
        if let Some((expected, found)) = exe
            .zip(exe_of(record))
            .filter(|(expected, found)| expected != found)
        {
            return Err(format!("executable is {found}, should be {expected}"));
        }
        match comm {
            Some(comm) if *comm != record.comm => Err(format!(
                "comm is {}, should be {}",
                record.comm.escape_ascii(),
                comm.escape_ascii()
            )),
            _ => Ok(()),
        }
    }
}

/// A name as `task_struct.comm` has it.
pub(in crate::ebpf::program) fn padded(name: &[u8]) -> [u8; COMM_LEN] {
    let mut comm = [0; COMM_LEN];
    // The last byte is always NUL (`__set_task_comm`, `fs/exec.c`).
    for (to, from) in comm.iter_mut().take(COMM_LEN.saturating_sub(1)).zip(name) {
        *to = *from;
    }
    comm
}

/// The executable that a record names.
pub(in crate::ebpf::program) fn exe_of(record: &Record) -> Option<ExeId> {
    ExeId::from_record(record.exe_device, record.exe_inode)
}

/// The file that this process executes. `None` where `/proc` does not show the
/// mount that it is on.
fn own_exe() -> Option<ExeId> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let file = open("/proc/thread-self/exe", flags, Mode::empty()).ok()?;
    ExeId::of_file(file).ok()?
}

/// Id of this thread's cgroup in the unified hierarchy: the inode of its
/// directory. `None` where that is not mounted, or the mount does not show it.
fn own_cgroup() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/cgroup").ok()?;
    let path = parse_cgroup(&text)?;
    let root = Cgroup::shown_whole()?;
    Some(Cgroup::open(Some(&root.join(path))).ok()?.inode())
}

/// The path below the root of the cgroup namespace (`cgroups(7)`): the line
/// with hierarchy 0. A task outside of that has a path with `..` in it.
fn parse_cgroup(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.split('/').any(|name| name == "..")).then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(truth: &Truth) -> Record {
        Record {
            pid: truth.pid,
            own_pid: truth.own_pid,
            pid_ns_inode: truth.namespace.unwrap(),
            host_pid: 10,
            host_tid: 11,
            level: 2,
            uid: 12,
            gid: 13,
            start_ns: 98_765_432_109,
            cgroup_id: 14,
            exe_device: 8 << 20 | 1,
            exe_inode: 15,
            comm: padded(b"a name"),
            ..Record::UNKNOWN
        }
    }

    fn truth() -> Truth {
        Truth {
            pid: 3,
            own_pid: 4,
            host_pid: Some(10),
            host_tid: Some(11),
            namespace: Some(5),
            level: Some(2),
            uid: Some(12),
            gid: Some(13),
            start: Some(Start::of_initial_namespace(9876)),
            comm: Some(padded(b"a name")),
            cgroup_id: Some(14),
            exe: ExeId::from_record(8 << 20 | 1, 15),
        }
    }

    #[test]
    fn each_field_that_is_known_is_compared() {
        type Change = fn(&mut Record);
        let truth = truth();
        let good = record_of(&truth);
        assert_eq!(truth.compare(&good), Ok(()));
        let changes: [(&str, Change); 13] = [
            ("pid is", |record| record.pid = 9),
            ("own pid", |record| record.own_pid = 9),
            ("host pid", |record| record.host_pid = 9),
            ("tid", |record| record.host_tid = 9),
            ("pid namespace", |record| record.pid_ns_inode = 9),
            ("level", |record| record.level = 9),
            ("uid", |record| record.uid = 0),
            ("gid", |record| record.gid = 0),
            ("start time", |record| record.start_ns = 98_770_000_000),
            ("comm", |record| record.comm[15] = b'x'),
            ("cgroup id", |record| record.cgroup_id = 1),
            ("executable", |record| record.exe_inode = 1),
            ("executable", |record| record.exe_device = 1),
        ];
        for (name, change) in changes {
            let mut record = good;
            change(&mut record);
            let error = truth.compare(&record).unwrap_err();
            assert!(error.starts_with(name), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        let nothing = Truth {
            host_pid: None,
            host_tid: None,
            namespace: None,
            level: None,
            uid: None,
            gid: None,
            start: None,
            comm: None,
            cgroup_id: None,
            exe: None,
            ..truth()
        };
        let record = Record {
            pid: nothing.pid,
            own_pid: nothing.own_pid,
            ..Record::UNKNOWN
        };
        assert_eq!(nothing.compare(&record), Ok(()));
    }

    #[test]
    fn cgroups_are_found_below_their_namespaces_root() {
        let text = "4:memory:/x\n0::/a.slice/b.service\n";
        assert_eq!(parse_cgroup(text), Some("a.slice/b.service".into()));
        assert_eq!(parse_cgroup("0::/"), Some("".into()));
        assert_eq!(parse_cgroup("0::/../b"), None);
        assert_eq!(parse_cgroup("4:memory:/x\n"), None);
    }

    #[test]
    fn this_thread_is_known() {
        let Ok(namespace) = PidNamespace::of_self() else {
            return;
        };
        let truth = Truth::of_this_thread(&namespace);
        assert_eq!(truth.pid, process::id());
        assert!(truth.start.is_some());
        // A test runs in a thread with its name.
        assert_eq!(&truth.comm.unwrap()[..8], b"ebpf::pr");
    }
}
