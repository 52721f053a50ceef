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
use nix::unistd::{Pid, getppid};
use observer_common::frame::{Frame, NONCE_TERMINAL, Status};
use observer_testing::frame;
use observer_tests::process::{number, start_child, wait_for_end};
use observer_tests::socket::unix;
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
        ["once", socket, nonce] => send(&unix(socket), number(nonce)),
        ["steady", socket, nonce] => steady(socket, number(nonce)),
        ["namespace", control, program, ref rest @ ..] => namespace(control, program, rest),
        _ => panic!("session SCENARIO ..., not {arguments:?}"),
    }
}

fn send(socket: &UnixDatagram, nonce: u64) {
    let status = if nonce == NONCE_TERMINAL {
        Status::Critical
    } else {
        Status::Ok
    };
    let frame = Frame {
        status,
        ..frame(process::id(), nonce)
    };
    socket.send(&frame.encode()).expect("sends");
}

/// Beats with the public client; returns whether the kernel took it.
fn beat(client: &mut Varta) -> bool {
    let outcome = client.beat(varta_client::Status::Ok, 0);
    thread::sleep(PAUSE);
    match outcome {
        BeatOutcome::Sent => true,
        BeatOutcome::Dropped(_) => false,
        BeatOutcome::Failed(error) => panic!("{error}"),
    }
}

/// Beats `beats` times; returns how often the kernel took it.
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

/// A panic hook sends a last frame, the panic is caught, and the agent goes on.
///
/// The hook does what `varta_client::install_panic_handler` does, which is
/// behind a feature: a socket of its own, a critical frame, the terminal nonce.
fn caught_panic(socket: &str, count: u64) {
    let farewell = unix(socket);
    panic::set_hook(Box::new(move |_| {
        send(&farewell, NONCE_TERMINAL);
    }));
    let mut client = Varta::connect(socket).expect("connects");
    println!("{}", beats(&mut client, count));
    let caught = panic::catch_unwind(|| panic!("on purpose"));
    assert!(caught.is_err());
    println!("{}", beats(&mut client, count));
    wait_for_end();
}

/// One frame with the nonce of each line.
fn lines(socket: &str) {
    let socket = unix(socket);
    for line in io::stdin().lock().lines() {
        send(&socket, number(&line.expect("text")));
        println!("sent");
    }
}

/// Beats with ever higher nonces until its parent is gone.
fn steady(socket: &str, first: u64) {
    let (socket, parent) = (unix(socket), getppid());
    for nonce in first.. {
        send(&socket, nonce);
        thread::sleep(PAUSE);
        if getppid() != parent {
            break;
        }
    }
}

/// Runs a program, and agents beside it, in a pid namespace of their own;
/// ends as the program does. `control` is a socket that takes requests for
/// agents.
fn namespace(control: &str, program: &str, arguments: &[&str]) {
    let listener = UnixListener::bind(control).expect("binds");
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block().expect("blocks");
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).expect("root may");
    let child = start_child(|| {
        let status = init(listener, signals, program, arguments);
        process::exit(status.code().unwrap_or(255));
    });
    while signals.wait().expect("waits") == Signal::SIGTERM {
        kill(child, Signal::SIGTERM).expect("it is our child");
    }
    match waitpid(child, None).expect("it is our child") {
        WaitStatus::Exited(_, code) => process::exit(code),
        status => panic!("{status:?}"),
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

/// Starts an agent `PID SCENARIO SOCKET NONCE` for each line; the response is
/// its pid. An agent `once` has ended by then.
fn serve(stream: &UnixStream) {
    let mut responses = stream;
    for line in BufReader::new(stream).lines() {
        let line = line.expect("text");
        let (pid, arguments) = line.split_once(' ').expect("PID SCENARIO ...");
        let agent = start_as(number(pid), arguments);
        writeln!(responses, "{agent}").expect("the test listens");
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
