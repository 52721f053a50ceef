//! Facts about processes, to compare the observer's reports with.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// Inode of a process's pid namespace.
#[must_use]
pub fn pid_namespace(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/pid"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/ns/pid: {error}"))
        .ino()
}

/// How many descriptors a process has open.
#[must_use]
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/fd: {error}"))
        .count()
}

/// When a process started, in clock ticks since boot: field 22 of
/// `/proc/<pid>/stat`.
#[must_use]
pub fn start_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/stat: {error}"));
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in brackets");
    fields
        .split(' ')
        .nth(19)
        .and_then(|field| field.parse().ok())
        .expect("a start time")
}

/// The pid of a process in each namespace that it lives in, from that of the
/// `/proc` that is read to its own (`NSpid`, `proc_pid_status(5)`).
#[must_use]
pub fn pids(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/status: {error}"));
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .expect("NSpid")
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect()
}

/// The only child of a process.
#[must_use]
pub fn child(pid: u32) -> u32 {
    match children(pid)[..] {
        [child] => child,
        ref children => panic!("children of {pid}: {children:?}"),
    }
}

/// The children of a process's first thread, zombies among them.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let children = children.split_whitespace();
    children
        .map(|child| child.parse().expect("a number"))
        .collect()
}

/// The names of a process's threads, and how often each was woken up: its
/// voluntary context switches.
#[must_use]
pub fn wake_ups(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of_task = |task: io::Result<fs::DirEntry>| {
        let path = task.expect("a thread").path();
        let name = fs::read_to_string(path.join("comm")).expect("it is there");
        let status = fs::read_to_string(path.join("status")).expect("it is there");
        let count = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.expect("a count").trim().parse().expect("a count");
        (name.trim_end().to_owned(), count)
    };
    tasks.map(of_task).collect()
}

/// The names of a process's threads. Those that end meanwhile are left out.
#[must_use]
pub fn thread_names(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/task: {error}"));
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// Time that a process has had on a CPU, all threads that it has now together.
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let of_task = |task: io::Result<fs::DirEntry>| {
        let path = task.expect("a thread").path().join("schedstat");
        let text = fs::read_to_string(path).expect("it is there");
        let nanoseconds = text.split(' ').next().expect("a number");
        nanoseconds.parse::<u64>().expect("a number")
    };
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    Duration::from_nanos(tasks.map(of_task).sum())
}
