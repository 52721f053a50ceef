//! The folder of one process in /proc.
//!
//! It is opened once, and leads to that very process or, when it has ended, to
//! nothing (`proc_pid_lookup`, `fs/proc/base.c`), never to the next one with its
//! pid. Each file is read in one call, into a buffer that is large enough: a
//! process that ends between two calls would leave a part that looks whole.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use rustix::process::{Pid, test_kill_process};

use super::boot_clock::BootClock;
use super::executable::Exe;

/// `/proc/PID/stat` and `/proc/PID/cgroup` are shorter.
const MAX_FILE: usize = 8192;
/// Threads that are tried where the main thread has ended. All that live have
/// the same memory.
const MAX_THREADS: usize = 16;
/// Which fields of `stat` these are, counted from the one after the name
/// (`do_task_stat`, `fs/proc/array.c`: fields 3, 9 and 22 from 1).
const STATE_FIELD: usize = 0;
const FLAGS_FIELD: usize = 6;
const START_FIELD: usize = 19;
/// `PF_EXITING` (`include/linux/sched.h`): the process has no memory any more,
/// or will have none in a moment.
const EXITING: u64 = 4;

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The process has ended.
    Gone,
    /// Its pid is another process's now, so it has ended.
    Reused,
    /// It is not this observer's to see.
    Denied(String),
    /// Anything else.
    Unknown(String),
}

/// A process's folder, with its `stat` open.
pub(super) struct Folder {
    folder: OwnedFd,
    stat: OwnedFd,
}

/// What `stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: u8,
    flags: u64,
    start_ticks: u64,
}

impl Folder {
    /// The process's folder, if it is still that of the process that started
    /// then.
    pub(super) fn open(pid: u32, start_ns: Option<u64>, clock: BootClock) -> Result<Self, Missing> {
        let unknown = |what: &str| Missing::Unknown(what.to_owned());
        let start_ns = start_ns.ok_or_else(|| {
            unknown("not looked up: without a start time the pid may be another's")
        })?;
        let due = clock.ticks(start_ns).ok_or_else(|| {
            unknown("not looked up: the observer's time namespace does not say when it started")
        })?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
            .map_err(|errno| not_opened(pid, errno))?;
        let stat = file(&folder, c"stat").map_err(|errno| not_opened(pid, errno))?;
        let folder = Self { folder, stat };
        if folder.stat()?.start_ticks == due {
            Ok(folder)
        } else {
            Err(Missing::Reused)
        }
    }

    /// The executable.
    pub(super) fn exe(&self) -> Result<Exe, Missing> {
        let exe = self.of_any_thread("exe", |folder| Exe::read(folder).map(Some))?;
        exe.ok_or_else(|| Missing::Unknown("exe: there is none".into()))
    }

    /// The beginning of the command line, this long at most; `None`: it is empty.
    /// That takes the process's `mmap_lock` (`get_mm_cmdline`, `fs/proc/base.c`;
    /// `__access_remote_vm`, `mm/memory.c`), so the process chooses how long it
    /// takes.
    pub(super) fn command(&self, limit: usize) -> Result<Option<Vec<u8>>, Missing> {
        self.of_any_thread("cmdline", |folder| {
            let bytes = read(&file(folder, c"cmdline")?, limit)?;
            Ok((!bytes.is_empty()).then_some(bytes))
        })
    }

    /// The path in the unified hierarchy: the line `0::PATH`.
    pub(super) fn cgroup(&self) -> Option<String> {
        let text = file(&self.folder, c"cgroup").and_then(|file| read(&file, MAX_FILE));
        cgroup_path(&text.ok()?)
    }

    /// Reads something that needs the process's memory. Its main thread may have
    /// ended before the others, and has none then.
    fn of_any_thread<T>(
        &self,
        what: &str,
        read: impl Fn(&OwnedFd) -> Result<Option<T>, Errno>,
    ) -> Result<Option<T>, Missing> {
        let of_main = read(&self.folder);
        if let Ok(Some(found)) = of_main {
            return Ok(Some(found));
        }
        // Nothing or an error: because it has ended?
        if !self.stat()?.has_ended() {
            return of_main.map_err(|errno| failed(what, errno));
        }
        let mut result = Err(Missing::Gone);
        for thread in self.threads() {
            match read(&thread) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) | Err(Errno::NOENT | Errno::SRCH) => {}
                Err(errno) => result = Err(failed(what, errno)),
            }
        }
        result
    }

    /// Folders of threads other than the main one.
    fn threads(&self) -> Vec<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(tasks) = openat(&self.folder, "task", flags, Mode::empty()) else {
            return Vec::new();
        };
        let Ok(entries) = Dir::read_from(&tasks) else {
            return Vec::new();
        };
        let names = entries.flatten().filter(|entry| {
            let name = entry.file_name().to_bytes();
            name.iter().all(u8::is_ascii_digit)
        });
        // The main thread is listed first.
        let others = names.skip(1).take(MAX_THREADS);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        others
            .filter_map(|entry| openat(&tasks, entry.file_name(), flags, Mode::empty()).ok())
            .collect()
    }

    fn stat(&self) -> Result<Stat, Missing> {
        let text = read(&self.stat, MAX_FILE).map_err(|errno| failed("stat", errno))?;
        Stat::new(&text).ok_or_else(|| Missing::Unknown("stat: it has no start time".into()))
    }
}

impl Stat {
    /// The name is in brackets and may hold anything, brackets too.
    fn new(text: &[u8]) -> Option<Self> {
        let name_end = text.iter().rposition(|&byte| byte == b')')?;
        let fields = text.get(name_end.checked_add(2)?..)?;
        let field = |number| fields.split(|&byte| byte == b' ').nth(number);
        let number = |at| std::str::from_utf8(field(at)?).ok()?.parse().ok();
        Some(Self {
            state: *field(STATE_FIELD)?.first()?,
            flags: number(FLAGS_FIELD)?,
            start_ticks: number(START_FIELD)?,
        })
    }

    /// Whether the main thread has ended, or is about to.
    fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X') || self.flags & EXITING != 0
    }
}

/// A folder that is not there is hidden (`hidepid`) if the process is.
fn not_opened(pid: u32, errno: Errno) -> Missing {
    let missing = failed("open", errno);
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let is_there = pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH));
    if missing == Missing::Gone && is_there {
        return Missing::Denied("/proc does not show the process".into());
    }
    missing
}

fn failed(what: &str, errno: Errno) -> Missing {
    match errno {
        Errno::NOENT | Errno::SRCH => Missing::Gone,
        Errno::ACCESS | Errno::PERM => Missing::Denied(format!("{what}: {errno}")),
        errno => Missing::Unknown(format!("{what}: {errno}")),
    }
}

fn file(folder: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(
        folder,
        name,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Reads a file from its beginning, in one call.
fn read(file: impl AsFd, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; limit];
    let read = loop {
        match pread(&file, &mut bytes[..], 0) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    bytes.truncate(read);
    Ok(bytes)
}

fn cgroup_path(text: &[u8]) -> Option<String> {
    let mut lines = text.split(|&byte| byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::"))?;
    String::from_utf8(path.to_vec()).ok()
}

/// When this process started, by the kernel's record.
#[cfg(test)]
pub(super) fn own_start_ns() -> u64 {
    let ticks = Stat::new(&std::fs::read("/proc/self/stat").unwrap());
    let tick_ns = 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second());
    let shown = ticks.unwrap().start_ticks.saturating_mul(tick_ns.unwrap());
    shown.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_confuse_the_start_time() {
        let stat = b"7 (a) 1 2) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        let read = Stat::new(stat).unwrap();
        assert_eq!(read.start_ticks, 4242);
        assert_eq!((read.state, read.flags), (b'Z', 6));
        for bad in [&b""[..], b"7 (x", b"7 (x)", b"7 (x) S 1 2"] {
            assert_eq!(Stat::new(bad), None);
        }
    }

    #[test]
    fn a_process_that_proc_does_not_show_is_not_called_ended() {
        let own = std::process::id();
        assert!(matches!(not_opened(own, Errno::NOENT), Missing::Denied(_)));
        assert_eq!(not_opened(1 << 30, Errno::NOENT), Missing::Gone);
        assert!(matches!(not_opened(own, Errno::MFILE), Missing::Unknown(_)));
    }
}
