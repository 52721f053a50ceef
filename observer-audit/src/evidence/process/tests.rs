//! Processes that run, have ended, and are not what they were.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use observer_events::event::{TaskKind, Via};
use observer_events::exe::Device;

use super::*;
use crate::evidence::procfs::own_start_ns;

fn process(pid: u32, start_ns: Option<u64>) -> Attestation {
    Attestation {
        pid: Some(pid),
        start_ns,
        task_kind: TaskKind::Thread,
        ..Attestation::unknown(Via::Btf)
    }
}

fn this_process(start_ns: Option<u64>) -> Attestation {
    process(std::process::id(), start_ns)
}

#[test]
fn a_process_that_still_runs_is_described() {
    let sender = this_process(Some(own_start_ns()));
    let clock = BootClock::own();
    let mut process = Process::look_up(&sender, clock).unwrap();
    assert!(process.is_running());
    process.read_command(&sender, clock);
    assert_eq!(process.error, None);
    let exe = std::env::current_exe().unwrap();
    assert_eq!(process.exe.as_deref(), exe.to_str());
    let words: Vec<String> = std::env::args().collect();
    assert_eq!(process.command, Some(words));
    assert_eq!(
        (process.exe_state, process.command_state),
        (State::Whole, State::Whole)
    );
    assert!(process.cgroup_hint.is_some());
}

#[test]
fn a_pid_with_another_start_time_is_not_believed() {
    let other = own_start_ns().saturating_add(1_000_000_000);
    let process = Process::look_up(&this_process(Some(other)), BootClock::own()).unwrap();
    assert!(!process.is_running());
    assert_eq!(
        process.error.as_deref(),
        Some("the pid is another process's now")
    );
    assert_eq!((process.exe, process.command), (None, None));
    assert_eq!(process.exe_state, State::Gone);
    let process = Process::look_up(&this_process(None), BootClock::own()).unwrap();
    assert!(process.error.unwrap().contains("without a start time"));
    assert_eq!(process.command_state, State::Unread);
}

/// A process that was started by this one, as the kernel's record has it.
fn child(pid: u32) -> Attestation {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Field 22 of 52.
    let ticks: u64 = stat.rsplit(' ').nth(30).unwrap().parse().unwrap();
    let tick_ns = 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second());
    process(pid, Some(ticks.saturating_mul(tick_ns.unwrap())))
}

/// One that nobody has waited for still has a folder, and no memory.
#[test]
fn a_process_that_ended_is_said_to_be_gone() {
    let mut ended = Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", ended.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        std::thread::yield_now();
    }
    let sender = child(ended.id());
    let mut found = Process::look_up(&sender, BootClock::own()).unwrap();
    assert!(!found.is_running());
    assert_eq!(found.error.as_deref(), Some("the process has ended"));
    assert_eq!(
        (found.exe_state, found.command_state),
        (State::Gone, State::Gone)
    );
    // Nor was its command line empty.
    found.command_state = State::Unread;
    found.read_command(&sender, BootClock::own());
    assert_eq!(found.command_state, State::Gone);
    ended.wait().unwrap();
}

#[test]
fn a_command_line_is_whole_or_said_to_be_cut() {
    for (length, state) in [(33, State::Whole), (1000, State::Whole), (5000, State::Cut)] {
        let word = "x".repeat(length);
        let mut cat = Command::new("cat")
            .args(["-", &word])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Its execution is over once it answers.
        let mut answer = [0];
        cat.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        cat.stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut answer)
            .unwrap();
        let sender = child(cat.id());
        let mut found = Process::look_up(&sender, BootClock::own()).unwrap();
        found.read_command(&sender, BootClock::own());
        drop(cat.stdin.take());
        cat.wait().unwrap();
        assert_eq!(found.command_state, state, "{found:?}");
        assert_eq!(found.command_cut, state == State::Cut);
        let command = found.command.unwrap();
        assert!(word.starts_with(&command[2]), "{command:?}");
        assert_eq!(command[2].len() == length, state == State::Whole);
    }
}

#[test]
fn a_long_command_line_is_cut() {
    let mut process = Process::new();
    process.set_command(Some(&[b'x'; MAX_COMMAND + 1]));
    assert!(process.command_cut);
    assert_eq!(process.command_state, State::Cut);
    assert_eq!(process.command.unwrap()[0].len(), MAX_COMMAND);
}

#[test]
fn no_command_line_is_not_an_empty_one() {
    let mut process = Process::new();
    process.set_command(None);
    assert_eq!(
        (process.command.clone(), process.command_state),
        (None, State::Empty)
    );
    process.set_command(Some(b"\0"));
    assert_eq!(process.command, Some(vec![String::new()]));
    assert_eq!(process.command_state, State::Whole);
}

/// By its inode where no mount is known, as of a file in memory.
#[test]
fn another_executable_than_the_senders_is_said_to_be_another() {
    let exe = |inode, device: Option<u32>| Exe {
        path: "/bin/x".into(),
        place: Some(ExePlace {
            inode,
            device: device.map(Device::from_kernel),
        }),
    };
    let sent_by = ExeId::from_record(5, 77);
    for (found, sent_by, changed) in [
        (exe(77, Some(5)), sent_by, Some(false)),
        (exe(77, Some(6)), sent_by, Some(true)),
        (exe(78, Some(5)), sent_by, Some(true)),
        (exe(78, None), sent_by, Some(true)),
        (exe(77, None), sent_by, None),
        (exe(77, Some(5)), None, None),
    ] {
        let mut process = Process::new();
        process.set_exe(found.clone(), sent_by);
        assert_eq!(process.exe_changed, changed, "{found:?}");
        assert_eq!(process.error.is_some(), changed == Some(true));
    }
}

/// What `/proc` shows of a process that runs is what a record of it would say.
#[test]
fn the_executable_of_this_process_is_named() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let own = ExeId::of_file(file).unwrap();
    let sender = Attestation {
        exe: own,
        ..this_process(Some(own_start_ns()))
    };
    let process = Process::look_up(&sender, BootClock::own()).unwrap();
    assert_eq!(process.exe_id, own);
    assert_eq!(process.exe_changed, own.map(|_| false));
}
