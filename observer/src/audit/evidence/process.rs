//! What a sender runs, read from /proc after the fact.
//!
//! The kernel's record names the process for ever; /proc shows what has its
//! pid now. So /proc is believed only where the start time is the record's.
//! The process's folder is opened once: it leads to that very process or, when
//! it has ended, to nothing (`proc_pid_lookup`, `fs/proc/base.c`), never to
//! the next one with its pid.

use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use serde::Serialize;

use crate::event::Attestation;

/// How much of a command line is kept, in bytes; its process chooses it.
const MAX_COMMAND: usize = 2048;
/// `/proc/<pid>/stat` and `/proc/<pid>/cgroup` are shorter.
const MAX_FILE: usize = 8192;
/// Which field of `stat` is the start time, counted from the one after the
/// name (`do_task_stat`, `fs/proc/array.c`: field 22 from 1).
const START_FIELD: usize = 19;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// What /proc says of a process.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    /// That it could have changed since the datagram was sent.
    read: &'static str,
    exe: Option<String>,
    command: Option<Vec<String>>,
    /// Whether the command line is longer.
    command_cut: bool,
    /// Why something is missing.
    error: Option<String>,
    /// Its cgroup as /proc has it: a hint where to look for the kernel's id.
    #[serde(skip)]
    cgroup_hint: Option<String>,
}

impl Process {
    /// Looks the sender up. `None` where the kernel did not name one that the
    /// observer can see.
    pub(crate) fn of(sender: &Attestation) -> Option<Self> {
        let pid = sender.pid?;
        let mut process = Self {
            read: "after_the_fact",
            ..Self::default()
        };
        if let Err(error) = process.fill(pid, sender.start_ns) {
            process.error = Some(error);
        }
        Some(process)
    }

    /// Its path in the unified hierarchy, as /proc has it.
    pub(crate) fn cgroup_hint(&self) -> Option<&str> {
        self.cgroup_hint.as_deref()
    }

    fn fill(&mut self, pid: u32, start_ns: Option<u64>) -> Result<(), String> {
        let start_ns =
            start_ns.ok_or("not looked up: without a start time the pid may be another's")?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
            .map_err(|errno| gone(errno, "open"))?;
        let stat = read(&folder, "stat", MAX_FILE).map_err(|errno| gone(errno, "stat"))?;
        let ticks = start_ticks(&stat).ok_or("/proc has no start time")?;
        if ticks != ticks_of(start_ns) {
            return Err("the pid is another process's now".into());
        }
        let exe = readlinkat(&folder, "exe", Vec::new()).map_err(|errno| gone(errno, "exe"));
        self.cgroup_hint = read(&folder, "cgroup", MAX_FILE)
            .ok()
            .and_then(|text| hint(&text));
        let command = read(&folder, "cmdline", MAX_COMMAND.saturating_add(1));
        self.command(&command.map_err(|errno| gone(errno, "cmdline"))?);
        self.exe = Some(exe?.to_string_lossy().into_owned());
        Ok(())
    }

    /// Takes the command line in. A process that is ending has none any more.
    fn command(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.command_cut = bytes.len() > MAX_COMMAND;
        let kept = bytes.get(..MAX_COMMAND).unwrap_or(bytes);
        let kept = kept.strip_suffix(b"\0").unwrap_or(kept);
        let words = kept.split(|&byte| byte == 0);
        self.command = Some(
            words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect(),
        );
    }
}

fn gone(errno: Errno, what: &str) -> String {
    match errno {
        Errno::NOENT | Errno::SRCH => "the process has ended".into(),
        errno => format!("{what}: {errno}"),
    }
}

fn read(folder: &OwnedFd, name: &str, limit: usize) -> Result<Vec<u8>, Errno> {
    let file = openat(
        folder,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(limit as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(bytes)
}

/// The name is in brackets and may hold anything, brackets too.
fn start_ticks(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields = stat.get(name_end.checked_add(2)?..)?;
    let field = fields.split(|&byte| byte == b' ').nth(START_FIELD)?;
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// As `nsec_to_clock_t` (`kernel/time/time.c`) has it.
fn ticks_of(start_ns: u64) -> u64 {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    start_ns
        .checked_div(NS_PER_SECOND.checked_div(per_second).unwrap_or(1))
        .unwrap_or_default()
}

/// The path in the unified hierarchy: the line `0::PATH`.
fn hint(text: &[u8]) -> Option<String> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    String::from_utf8(path.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{TaskKind, Via};

    fn this_process(start_ns: Option<u64>) -> Attestation {
        Attestation {
            pid: Some(std::process::id()),
            own_pid: None,
            host_pid: None,
            tid: None,
            pid_ns_inode: None,
            uid: None,
            gid: None,
            start_ns,
            comm: None,
            cgroup_id: None,
            scm_pid: None,
            via: Via::Btf,
            task_kind: TaskKind::Thread,
            corked: false,
        }
    }

    fn own_start_ns() -> u64 {
        let ticks = start_ticks(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let tick_ns = NS_PER_SECOND.checked_div(rustix::param::clock_ticks_per_second());
        ticks.saturating_mul(tick_ns.unwrap()).saturating_add(1)
    }

    #[test]
    fn a_process_that_still_runs_is_described() {
        let process = Process::of(&this_process(Some(own_start_ns()))).unwrap();
        assert_eq!(process.error, None);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(process.exe.as_deref(), exe.to_str());
        let words: Vec<String> = std::env::args().collect();
        assert_eq!(process.command, Some(words));
        assert!(process.cgroup_hint.is_some());
    }

    #[test]
    fn a_pid_with_another_start_time_is_not_believed() {
        let other = own_start_ns().saturating_add(NS_PER_SECOND);
        let process = Process::of(&this_process(Some(other))).unwrap();
        assert_eq!(
            process.error.as_deref(),
            Some("the pid is another process's now")
        );
        assert_eq!((process.exe, process.command), (None, None));
        let process = Process::of(&this_process(None)).unwrap();
        assert!(process.error.unwrap().contains("without a start time"));
    }

    #[test]
    fn names_with_brackets_do_not_confuse_the_start_time() {
        let stat = b"7 (a) 1 2) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_ticks(stat), Some(4242));
        for bad in [&b""[..], b"7 (x", b"7 (x)", b"7 (x) S 1 2"] {
            assert_eq!(start_ticks(bad), None);
        }
    }

    #[test]
    fn a_long_command_line_is_cut() {
        let mut process = Process::default();
        process.command(&vec![b'x'; MAX_COMMAND + 1]);
        assert!(process.command_cut);
        assert_eq!(process.command.unwrap()[0].len(), MAX_COMMAND);
    }

    #[test]
    fn no_command_line_is_not_an_empty_one() {
        let mut process = Process::default();
        process.command(b"");
        assert_eq!(process.command, None);
        process.command(b"\0");
        assert_eq!(process.command, Some(vec![String::new()]));
    }
}
