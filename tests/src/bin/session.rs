//! Agents that come, go, and begin again: `session SCENARIO …`.
//!
//! Prints what the test has to know as lines on stdout.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::panic;
use std::process::{self, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getppid};
use observer_common::frame::{FRAME_LEN, Frame, NONCE_TERMINAL, Status};
use varta_client::{BeatOutcome, Varta};

/// How long an agent waits between two beats.
const PAUSE: Duration = Duration::from_millis(25);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["handles", socket, alone] => two_handles(socket, number(alone)),
        ["client", socket, beats] => client(socket, number(beats)),
        ["exec", socket, before, after] => exec(socket, number(before), after, false),
        ["exec-thread", socket, before, after] => exec(socket, number(before), after, true),
        ["panic", socket, beats] => caught_panic(socket, number(beats)),
        ["lines", socket] => lines(socket),
        ["crowd", socket] => crowd(socket),
        ["once", socket, nonce] => send(&connect(socket), number(nonce)),
        ["steady", socket, nonce] => steady(socket, number(nonce)),
        ["routine-then-critical", socket, each] => routine_then_critical(socket, number(each)),
        ["namespace", control, program, ref rest @ ..] => namespace(control, program, rest),
        _ => panic!("session SCENARIO ..., not {arguments:?}"),
    }
}

/// As fast as they go: so many beats that are routine, and as many that are
/// not.
fn routine_then_critical(socket: &str, each: u64) {
    let socket = connect(socket);
    for nonce in 1..=each {
        socket.send(&frame(Status::Ok, nonce)).expect("sends");
    }
    for nonce in each + 1..=2 * each {
        socket.send(&frame(Status::Critical, nonce)).expect("sends");
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn connect(path: &str) -> UnixDatagram {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    socket
}

fn frame(status: Status, nonce: u64) -> [u8; FRAME_LEN] {
    let (pid, timestamp, payload) = (process::id(), 0, 0);
    Frame {
        status,
        pid,
        timestamp,
        nonce,
        payload,
    }
    .encode()
}

fn send(socket: &UnixDatagram, nonce: u64) {
    let status = if nonce == NONCE_TERMINAL {
        Status::Critical
    } else {
        Status::Ok
    };
    socket.send(&frame(status, nonce)).expect("sends");
}

/// Beats with the public client; says whether the kernel took it.
fn beat(client: &mut Varta) -> bool {
    let outcome = client.beat(varta_client::Status::Ok, 0);
    thread::sleep(PAUSE);
    match outcome {
        BeatOutcome::Sent => true,
        BeatOutcome::Dropped(_) => false,
        BeatOutcome::Failed(error) => panic!("{error}"),
    }
}

/// Beats `beats` times; says how often the kernel took it.
fn beats(client: &mut Varta, beats: u64) -> u64 {
    (0..beats).filter(|_| beat(client)).count() as u64
}

/// The second handle begins when the first is far ahead, and goes on alone
/// when the first has gone, with nonces that the first has used.
fn two_handles(socket: &str, alone: u64) {
    let mut first = Varta::connect(socket).expect("connects");
    let mut sent = beats(&mut first, 20);
    let mut second = Varta::connect(socket).expect("connects");
    for _ in 0..10 {
        sent += u64::from(beat(&mut first));
        sent += u64::from(beat(&mut second));
    }
    drop(first);
    sent += beats(&mut second, alone);
    println!("{sent}");
    wait_for_end();
}

fn client(socket: &str, count: u64) {
    let mut client = Varta::connect(socket).expect("connects");
    println!("{}", beats(&mut client, count));
    wait_for_end();
}

/// Beats, and becomes another program that beats from 1 on: at the call of
/// the first thread or of another.
fn exec(socket: &str, before: u64, after: &str, from_thread: bool) {
    let mut client = Varta::connect(socket).expect("connects");
    println!("{}", beats(&mut client, before));
    let mut next = Command::new(env::current_exe().expect("this program"));
    next.args(["client", socket, after]);
    let error = if from_thread {
        thread::spawn(move || next.exec())
            .join()
            .expect("it does not panic")
    } else {
        next.exec()
    };
    panic!("exec: {error}");
}

/// A panic hook says goodbye, the panic is caught, and the agent goes on.
///
/// The hook does what `varta_client::install_panic_handler` does, which is
/// behind a feature: a socket of its own, a critical frame, the terminal nonce.
fn caught_panic(socket: &str, count: u64) {
    let goodbye = connect(socket);
    panic::set_hook(Box::new(move |_| {
        send(&goodbye, NONCE_TERMINAL);
    }));
    let mut client = Varta::connect(socket).expect("connects");
    println!("{}", beats(&mut client, count));
    let caught = panic::catch_unwind(|| panic!("on purpose"));
    assert!(caught.is_err());
    println!("{}", beats(&mut client, count));
    wait_for_end();
}

/// One frame with each nonce that it is told.
fn lines(socket: &str) {
    let socket = connect(socket);
    for line in io::stdin().lock().lines() {
        send(&socket, number(&line.expect("text")));
        println!("sent");
    }
}

/// As many agents as it is told: each sends one beat and ends, one after the
/// other.
fn crowd(socket: &str) {
    let socket = connect(socket);
    for line in io::stdin().lock().lines() {
        for _ in 0..number(&line.expect("text")) {
            // SAFETY: this process has one thread.
            match unsafe { fork() }.expect("forks") {
                ForkResult::Child => {
                    send(&socket, 1);
                    process::exit(0);
                }
                ForkResult::Parent { child } => {
                    waitpid(child, None).expect("it is our child");
                }
            }
        }
        println!("done");
    }
}

/// Beats with ever higher nonces until its parent is gone.
fn steady(socket: &str, first: u64) {
    let (socket, parent) = (connect(socket), getppid());
    for nonce in first.. {
        send(&socket, nonce);
        thread::sleep(PAUSE);
        if getppid() != parent {
            break;
        }
    }
}

/// Runs a program, and agents beside it, in a pid namespace of their own;
/// ends as the program does. `control` is a socket to ask for agents at.
fn namespace(control: &str, program: &str, arguments: &[&str]) {
    let listener = UnixListener::bind(control).expect("binds");
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block().expect("blocks");
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).expect("root may");
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("forks") {
        ForkResult::Parent { child } => {
            while signals.wait().expect("waits") == Signal::SIGTERM {
                kill(child, Signal::SIGTERM).expect("it is our child");
            }
            match waitpid(child, None).expect("it is our child") {
                WaitStatus::Exited(_, code) => process::exit(code),
                status => panic!("{status:?}"),
            }
        }
        ForkResult::Child => {
            let status = init(listener, signals, program, arguments);
            process::exit(status.code().unwrap_or(255));
        }
    }
}

/// The namespace's first process. When it ends, the kernel kills the rest.
fn init(listener: UnixListener, signals: SigSet, program: &str, arguments: &[&str]) -> ExitStatus {
    set_pdeathsig(Signal::SIGKILL).expect("sets");
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).expect("mounts");
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).expect("mounts");
    // The program gets the mask of the thread that starts it.
    signals.thread_unblock().expect("unblocks");
    let mut child = Command::new(program)
        .args(arguments)
        .spawn()
        .expect("starts");
    let pid = Pid::from_raw(child.id().cast_signed());
    // SIGTERM would not reach the first process of a namespace, which has no
    // handler for it; blocked, in all threads, it waits.
    let end = SigSet::from_iter([Signal::SIGTERM]);
    end.thread_block().expect("blocks");
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(&stream.expect("accepts"));
        }
    });
    thread::spawn(move || {
        // It fails only once the program has ended.
        while end.wait().is_ok() && kill(pid, Signal::SIGTERM).is_ok() {}
    });
    child.wait().expect("it is our child")
}

/// Starts an agent `PID SCENARIO SOCKET NONCE` for each line; answers with
/// its pid. An agent `once` has ended by then.
fn serve(stream: &UnixStream) {
    let mut answers = stream;
    for line in BufReader::new(stream).lines() {
        let line = line.expect("text");
        let (pid, arguments) = line.split_once(' ').expect("PID SCENARIO ...");
        let agent = start_as(number(pid), arguments);
        writeln!(answers, "{agent}").expect("the test listens");
    }
}

/// Starts an agent with a certain pid, in a namespace with few others.
fn start_as(pid: u64, arguments: &str) -> u32 {
    // The next pid is the one behind this, in this namespace alone
    // (`pid_ns_ctl_handler`, `kernel/pid_namespace.c`).
    let before = pid.checked_sub(1).expect("a pid");
    fs::write("/proc/sys/kernel/ns_last_pid", before.to_string()).expect("root may");
    let mut agent = Command::new("/proc/self/exe")
        .args(arguments.split(' '))
        .spawn()
        .expect("starts");
    let id = agent.id();
    let end = thread::spawn(move || agent.wait().expect("it is our child"));
    if arguments.starts_with("once ") {
        assert!(end.join().expect("it does not panic").success());
    }
    id
}

fn wait_for_end() {
    for line in io::stdin().lock().lines() {
        line.expect("text");
    }
}
