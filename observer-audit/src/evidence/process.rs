//! What a sender runs, read from /proc after the fact.
//!
//! The kernel's record names one process; /proc shows whichever has that pid
//! now. So /proc is believed only where the start time is the record's. The
//! process's folder is opened once: it leads to that very process or, when it
//! has ended, to nothing (`proc_pid_lookup`, `fs/proc/base.c`), never to the
//! next one with its pid.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use serde::Serialize;

use observer_events::event::Attestation;

/// How much of a command line is kept, in bytes; the process chooses how long
/// it is.
const MAX_COMMAND: usize = 2048;
/// `/proc/<pid>/stat` and `/proc/<pid>/cgroup` are shorter.
const MAX_FILE: usize = 8192;
/// Which field of `stat` is the start time, counted from the one after the
/// name (`do_task_stat`, `fs/proc/array.c`: field 22 from 1).
const START_FIELD: usize = 19;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// What /proc shows of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Process {
    /// Marks that it may have changed since the datagram was sent.
    read: &'static str,
    exe: Option<String>,
    command: Option<Vec<String>>,
    /// Whether the command line is longer.
    command_cut: bool,
    /// Why something is missing.
    error: Option<String>,
    /// Its cgroup as /proc shows it: where to look first for the kernel's id.
    #[serde(skip)]
    cgroup_hint: Option<String>,
    /// Whether /proc still has that very process.
    #[serde(skip)]
    is_running: bool,
}

impl Process {
    /// Reads all that /proc shows without the process's `mmap_lock`
    /// (`do_task_stat`, `fs/proc/array.c`; `proc_exe_link`, `fs/proc/base.c`;
    /// `proc_cgroup_show`, `kernel/cgroup/cgroup.c`; run on 6.18 with the lock
    /// held: `tests/tests/evidence.rs`). `None` where the kernel named no process
    /// that the observer can see.
    ///
    /// It may have to wait for other locks: see [`gather`](super::gather).
    pub(crate) fn look_up(sender: &Attestation) -> Option<Self> {
        let mut process = Self {
            read: "after_the_fact",
            ..Self::default()
        };
        match open(sender.pid?, sender.start_ns) {
            Ok(folder) => process.describe(&folder),
            Err(error) => process.error = Some(error),
        }
        Some(process)
    }

    fn describe(&mut self, folder: &OwnedFd) {
        self.is_running = true;
        self.cgroup_hint = read(folder, "cgroup", MAX_FILE)
            .ok()
            .and_then(|text| hint(&text));
        match readlinkat(folder, "exe", Vec::new()) {
            Ok(exe) => self.exe = Some(exe.to_string_lossy().into_owned()),
            Err(errno) => self.note_failure(gone(errno, "exe")),
        }
    }

    /// Adds the command line. That takes the process's `mmap_lock`
    /// (`get_mm_cmdline`, `fs/proc/base.c`; `__access_remote_vm`,
    /// `mm/memory.c`), so the process chooses how long it takes.
    pub(crate) fn read_command(&mut self, sender: &Attestation) {
        let result = sender
            .pid
            .ok_or_else(|| "no pid".into())
            .and_then(|pid| open(pid, sender.start_ns))
            .and_then(|folder| {
                let command = read(&folder, "cmdline", MAX_COMMAND.saturating_add(1));
                command.map_err(|errno| gone(errno, "cmdline"))
            });
        match result {
            Ok(command) => self.set_command(&command),
            Err(error) => self.note_failure(error),
        }
    }

    /// Notes why something is missing; the first failure is kept.
    pub(crate) fn note_failure(&mut self, error: impl Into<String>) {
        self.error.get_or_insert(error.into());
    }

    /// Whether there is a process whose command line could be read.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Its path in the unified hierarchy, as /proc shows it.
    pub(crate) fn cgroup_hint(&self) -> Option<&str> {
        self.cgroup_hint.as_deref()
    }

    /// Keeps the command line. A process that is ending has none any more.
    fn set_command(&mut self, bytes: &[u8]) {
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

/// The process's folder, if it is still that of the process that started then.
fn open(pid: u32, start_ns: Option<u64>) -> Result<OwnedFd, String> {
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
    Ok(folder)
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
    File::from(file)
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
    use observer_events::event::{TaskKind, Via};

    fn this_process(start_ns: Option<u64>) -> Attestation {
        Attestation {
            pid: Some(std::process::id()),
            start_ns,
            task_kind: TaskKind::Thread,
            ..Attestation::unknown(Via::Btf)
        }
    }

    fn own_start_ns() -> u64 {
        let ticks = start_ticks(&std::fs::read("/proc/self/stat").unwrap()).unwrap();
        let tick_ns = NS_PER_SECOND.checked_div(rustix::param::clock_ticks_per_second());
        ticks.saturating_mul(tick_ns.unwrap()).saturating_add(1)
    }

    #[test]
    fn a_process_that_still_runs_is_described() {
        let sender = this_process(Some(own_start_ns()));
        let mut process = Process::look_up(&sender).unwrap();
        assert!(process.is_running());
        process.read_command(&sender);
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
        let process = Process::look_up(&this_process(Some(other))).unwrap();
        assert!(!process.is_running());
        assert_eq!(
            process.error.as_deref(),
            Some("the pid is another process's now")
        );
        assert_eq!((process.exe, process.command), (None, None));
        let process = Process::look_up(&this_process(None)).unwrap();
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
        process.set_command(&vec![b'x'; MAX_COMMAND + 1]);
        assert!(process.command_cut);
        assert_eq!(process.command.unwrap()[0].len(), MAX_COMMAND);
    }

    #[test]
    fn no_command_line_is_not_an_empty_one() {
        let mut process = Process::default();
        process.set_command(b"");
        assert_eq!(process.command, None);
        process.set_command(b"\0");
        assert_eq!(process.command, Some(vec![String::new()]));
    }
}
