//! Evidence about a forger beyond the kernel's record, and that no forger holds
//! the trail up.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, PATIENCE, Setup};
use observer_tests::privilege::{Binary, Privilege};
use observer_tests::senders::sender;
use observer_tests::trail::Trail;
use observer_tests::{attacker, must, need_kernel, procfs};
use rustix::process::Signal;
use serde_json::Value;

const FREEZER: &str = env!("CARGO_BIN_EXE_freezer");
const SENDER: &str = env!("CARGO_BIN_EXE_sender");
const NOBODY: &str = "65534";

/// How often it is tried to freeze processes.
const ATTEMPTS: usize = 5;

/// Forgers whose memory nobody can read, until they are let go.
struct Frozen {
    agent: Agent,
    pids: Vec<u64>,
    _folder: tempfile::TempDir,
}

impl Frozen {
    /// So many of one user, each of which has sent one forgery, with an observer
    /// that leaves a trail. Whoever looks at all processes of the host meanwhile
    /// gets stuck in one before it is frozen, and it never is: then all of it
    /// begins anew.
    fn with_observer(folder: &Path, count: usize) -> (Trail, Observer, Self) {
        for attempt in 0..ATTEMPTS {
            let folder = folder.join(attempt.to_string());
            fs::create_dir(&folder).expect("a directory");
            let trail = Trail::new(&folder);
            let observer = trail.observer(Setup::new(60_000));
            if let Some(frozen) = Self::start(&observer, count, "memory") {
                return (trail, observer, frozen);
            }
        }
        panic!("no {count} processes can be frozen here");
    }

    fn start(observer: &Observer, count: usize, how: &str) -> Option<Self> {
        let (folder, file) = place();
        let socket = observer.target();
        let file = file.display().to_string();
        let arguments = [socket, file, NOBODY.into(), count.to_string(), how.into()];
        let mut agent = Agent::start(FREEZER, arguments);
        let number = |agent: &mut Agent| agent.next_line()?.parse().ok();
        let pids: Option<Vec<_>> = (0..count).map(|_| number(&mut agent)).collect();
        let pids = pids?;
        assert_eq!(agent.line(), "frozen");
        Some(Self {
            agent,
            pids,
            _folder: folder,
        })
    }

    /// Lets them go; they must have been frozen until now.
    fn release(mut self) {
        self.agent.finish_well();
        assert_eq!(self.agent.line(), "released");
    }
}

/// An empty file that others can reach.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("sets");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("writes");
    (folder, file)
}

/// A forger that claims to be this process, and stays.
fn forger(observer: &Observer, claimed: u32) -> Agent {
    let mut agent = sender(observer.target(), "volleys", &[]);
    agent.write_line(&format!("{claimed} 1"));
    assert_eq!(agent.line(), "sent");
    agent
}

fn assert_unread(evidence: &Value) {
    let process = &evidence["process"];
    assert_eq!(process["exe"], FREEZER, "{evidence}");
    assert!(process["command"].is_null(), "{evidence}");
    let error = process["error"].as_str().expect("a reason");
    assert!(error.starts_with("cmdline: not read"), "{evidence}");
    assert_eq!(process["command_state"], "unread", "{evidence}");
    assert!(evidence["container"]["cgroup"].is_string(), "{evidence}");
}

fn assert_read(evidence: &Value) {
    let process = &evidence["process"];
    assert_eq!(process["exe"], SENDER, "{evidence}");
    assert_eq!(process["command"][1], "volleys", "{evidence}");
    assert!(process["error"].is_null(), "{evidence}");
}

/// How many of the observer's threads gather evidence.
fn helpers(observer: &Observer) -> usize {
    let threads = procfs::thread_names(observer.pid());
    threads.iter().filter(|name| *name == "evidence").count()
}

#[test]
fn a_forger_whose_memory_nobody_can_read_holds_up_nobody() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let (trail, observer, frozen) = Frozen::with_observer(scratch.path(), 1);
    let others: Vec<Agent> = (5000..5020).map(|pid| forger(&observer, pid)).collect();
    for other in &others {
        assert_read(&trail.evidence(other.pid().into()));
    }
    let pid = frozen.pids[0];
    let unread = trail.evidence(pid);
    assert_unread(&unread);
    assert!(unread["late_ms"].is_u64(), "{unread}");
    // Nor is the end held up.
    let remains = observer.stop();
    frozen.release();
    assert!(remains.status.success(), "{:#?}", remains.log);
    assert_eq!(remains.counter("audit_incidents"), 21);
    assert_eq!(remains.counter("audit_unread"), 1);
    trail.assert_clean();
    let lines = trail.lines();
    let of_line = |number: &Value| lines.iter().find(|line| line["seq"] == *number);
    let first = of_line(&unread["line"]).expect("it refers to a line");
    assert_eq!(first["kind"], "auth_failure");
    assert_eq!(first["claimed_pid"], 1000);
    assert_eq!(first["sender"], unread["sender"]);
    let report: Value = serde_json::from_str(&trail.report(&["--json"])).expect("JSON");
    let attackers = report["attackers"].as_array().expect("a list");
    assert_eq!(attackers.len(), 21);
    let attacker = attackers.iter().find(|attacker| attacker["pid"] == pid);
    assert_eq!(attacker.expect("it is listed")["exe"], FREEZER);
}

/// Not even with more processes than there are helpers.
#[test]
fn no_user_keeps_the_evidence_of_others_from_the_trail() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let (trail, observer, frozen) = Frozen::with_observer(scratch.path(), 8);
    for &pid in &frozen.pids {
        assert_unread(&trail.evidence(pid));
    }
    let other = forger(&observer, 5000);
    assert_read(&trail.evidence(other.pid().into()));
    // Four are held up, and one waits for what comes next.
    assert!(helpers(&observer) <= 5, "{}", helpers(&observer));
    frozen.release();
    let end = Instant::now() + PATIENCE;
    while helpers(&observer) > 1 {
        assert!(Instant::now() < end, "{} helpers stay", helpers(&observer));
        thread::sleep(Duration::from_millis(10));
    }
    let remains = observer.stop();
    assert!(remains.status.success(), "{:#?}", remains.log);
    assert_eq!(remains.counter("audit_unread"), 8);
    trail.assert_clean();
}

/// Nor by an execution that never comes to its end, which on newer kernels holds
/// up whoever looks the process up.
#[test]
fn nobody_is_held_up_by_who_executes_a_program() {
    const MANY: u32 = 40;
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let observer = trail.observer(Setup::with_queue_limit(2 * MANY, 60_000));
    // It looks when they are all at it.
    observer.signal(Signal::STOP);
    let frozen = Frozen::start(&observer, MANY as usize, "exec").expect("all execute");
    observer.signal(Signal::CONT);
    let other = forger(&observer, 5000);
    assert_read(&trail.evidence(other.pid().into()));
    let held = frozen.pids.iter().map(|&pid| trail.evidence(pid));
    for evidence in held {
        assert!(evidence["container"]["cgroup"].is_string(), "{evidence}");
    }
    println!("{} helpers", helpers(&observer));
    let remains = observer.stop();
    frozen.release();
    assert!(remains.status.success(), "{:#?}", remains.log);
    trail.assert_clean();
}

/// Whatever a process that ends at once leaves to be read is right, or is said to
/// be missing.
#[test]
fn what_is_read_of_processes_that_end_at_once_is_whole_or_said_to_be_missing() {
    const COUNT: u32 = 200;
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let observer = trail.observer(Setup::new(60_000));
    let binary = observer_tests::observer_binary().display().to_string();
    let command = |claimed: u32| {
        let socket = observer.socket().display().to_string();
        let flags = ["beat", "--count", "1", "--claim-pid"].map(str::to_owned);
        let rest = [claimed.to_string(), "--socket".into(), socket];
        [vec![binary.clone()], flags.to_vec(), rest.to_vec()].concat()
    };
    for claimed in 0..COUNT {
        let words = command(5000 + claimed);
        must(Command::new(&words[0]).args(&words[1..]));
    }
    let end = Instant::now() + PATIENCE;
    let is_evidence = |line: &Value| line["kind"] == "evidence";
    let count = || {
        trail
            .complete_lines()
            .iter()
            .filter(|line| is_evidence(line))
            .count()
    };
    while count() < COUNT as usize {
        assert!(Instant::now() < end, "{} lines of evidence", count());
        thread::sleep(Duration::from_millis(100));
    }
    let commands: Vec<Vec<String>> = (0..COUNT).map(|claimed| command(5000 + claimed)).collect();
    let remains = observer.stop();
    assert!(remains.status.success(), "{:#?}", remains.log);
    trail.assert_clean();
    let lines = trail.lines();
    let mut states = BTreeMap::new();
    for evidence in lines.iter().filter(|line| is_evidence(line)) {
        let process = &evidence["process"];
        let states_of = format!("{} {}", process["exe_state"], process["command_state"]);
        *states.entry(states_of).or_insert(0_u32) += 1;
        let of_line = |line: &&Value| line["seq"] == evidence["line"];
        let incident = lines.iter().find(of_line).expect("its line");
        let claimed = incident["claimed_pid"].as_u64().expect("a pid") - 5000;
        if process["command_state"] == "whole" {
            let command = &commands[usize::try_from(claimed).expect("small")];
            assert_eq!(process["command"], serde_json::json!(command));
        } else {
            assert_eq!(process["command_state"], "gone", "{evidence}");
            assert!(process["command"].is_null(), "{evidence}");
            assert_eq!(process["error"], "the process has ended", "{evidence}");
        }
        match process["exe_state"].as_str() {
            Some("whole") => assert_eq!(process["exe"], binary.as_str()),
            Some("gone") => assert!(process["exe"].is_null(), "{evidence}"),
            _ => panic!("{evidence}"),
        }
    }
    println!("{states:?}");
    assert_eq!(states.values().sum::<u32>(), COUNT);
}

/// /proc shows start times by the clock of the reader's time namespace.
#[test]
fn processes_are_known_again_in_a_time_namespace() {
    need_kernel!();
    for offset in ["1000000", "-100"] {
        let scratch = tempfile::tempdir().expect("a directory");
        let trail = Trail::new(scratch.path());
        let mut command = Command::new("unshare");
        command.args(["--time", "--boottime", offset, "--"]);
        command.arg(observer_tests::observer_binary());
        let observer = trail.observer(Setup::in_command(command, 60_000));
        let before = forger(&observer, 5000);
        assert_read(&trail.evidence(before.pid().into()));
        assert!(observer.stop().status.success());
        trail.assert_clean();
    }
}

/// A process lives for as long as one of its threads, and all of them have the
/// same executable and command line.
#[test]
fn a_process_whose_main_thread_has_ended_is_read() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    let observer = trail.observer(Setup::new(60_000));
    let mut orphan = sender(observer.target(), "orphan-thread", &[]);
    orphan.write_line("5000 1");
    assert_eq!(orphan.line(), "sent");
    let found = trail.evidence(orphan.pid().into());
    let process = &found["process"];
    assert_eq!(process["exe"], SENDER, "{found}");
    assert_eq!(process["command"][1], "orphan-thread", "{found}");
    assert!(process["error"].is_null(), "{found}");
    orphan.finish_well();
    assert!(observer.stop().status.success());
    trail.assert_clean();
}

/// Without `CAP_SYS_PTRACE` the executables of other users are not to be read.
#[test]
fn what_may_not_be_read_is_said_to_be_denied() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let trail = Trail::new(scratch.path());
    for path in [scratch.path(), &trail.path("key")] {
        chown(path, Some(attacker::NOBODY), Some(attacker::NOBODY)).expect("root may");
    }
    let flags = [("--audit", "trail"), ("--audit-key", "key")];
    let flags = flags.map(|(flag, name)| [flag.into(), trail.path(name).display().to_string()]);
    let flags: Vec<&str> = flags.iter().flatten().map(String::as_str).collect();
    let observer = Binary::new().start(Privilege::BTF, &flags);
    let observer = observer.unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    let other = forger(&observer, 5000);
    let found = trail.evidence(other.pid().into());
    let process = &found["process"];
    assert_eq!(process["exe_state"], "denied", "{found}");
    assert!(process["exe"].is_null(), "{found}");
    let error = process["error"].as_str().expect("a reason");
    assert!(error.contains("Permission denied"), "{found}");
    // Everybody may read command lines.
    assert_eq!(process["command_state"], "whole", "{found}");
    assert_eq!(process["command"][1], "volleys", "{found}");
    assert!(observer.stop().status.success());
}
