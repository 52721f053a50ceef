//! A process that sends frames, honestly or not: `sender SCENARIO SOCKET …`.
//!
//! It prints what the test has to know as lines on stdout.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, IoSlice};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, gettid, setgid, setuid};
use observer_common::frame::{FRAME_LEN, Frame, Status};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [scenario, socket, rest @ ..] = &arguments[..] else {
        panic!("sender SCENARIO SOCKET [NUMBER]...");
    };
    let numbers: Vec<u32> = rest
        .iter()
        .map(|number| number.parse().expect("a number"))
        .collect();
    let socket = connect(socket);
    match (scenario.as_str(), &numbers[..]) {
        ("honest", []) => send(&socket, process::id(), 1),
        ("honest-as", &[uid]) => honest_as(&socket, uid),
        ("claim", &[pid]) => send(&socket, pid, 1),
        ("forge", &[scm_pid, claimed]) => forge(&socket, scm_pid, claimed, 1),
        ("child", &[claimed_parent]) => child(&socket, claimed_parent != 0),
        ("pass", []) => pass(&socket),
        ("threads", []) => threads(&socket),
        ("unshare", []) => unshare_only(&socket),
        ("foreign-child", &[claimed]) => foreign_child(&socket, claimed),
        ("echo", &[claimed, scm_pid, rounds]) => echo(&socket, claimed, scm_pid, rounds),
        ("each-line", []) => each_line(&socket),
        ("volleys", []) => volleys(&socket),
        ("volleys-as", &[uid]) => {
            become_user(uid);
            volleys(&socket);
        }
        other => panic!("unknown scenario {other:?}"),
    }
}

fn connect(path: &str) -> UnixDatagram {
    let socket = UnixDatagram::unbound().expect("a socket");
    socket.connect(path).expect("the observer is there");
    socket
}

fn frame(pid: u32, nonce: u64) -> [u8; FRAME_LEN] {
    let (status, timestamp, payload) = (Status::Ok, 0, 0);
    Frame {
        status,
        pid,
        timestamp,
        nonce,
        payload,
    }
    .encode()
}

fn send(socket: &UnixDatagram, pid: u32, nonce: u64) {
    socket.send(&frame(pid, nonce)).expect("sends");
}

/// An honest agent that is another user.
fn honest_as(socket: &UnixDatagram, uid: u32) {
    become_user(uid);
    send(socket, process::id(), 1);
    wait_for_end();
}

fn become_user(uid: u32) {
    setgid(Gid::from_raw(uid)).expect("root may");
    setuid(Uid::from_raw(uid)).expect("root may");
}

/// `SCM_CREDENTIALS` with a pid of the sender's choosing, which needs
/// `CAP_SYS_ADMIN` (`scm_check_creds`, `net/core/scm.c`).
fn forge(socket: &UnixDatagram, scm_pid: u32, claimed: u32, nonce: u64) {
    send_as(socket, scm_pid, &frame(claimed, nonce));
}

fn send_as(socket: &UnixDatagram, scm_pid: u32, bytes: &[u8; FRAME_LEN]) {
    let credentials = UnixCredentials::from(libc::ucred {
        pid: scm_pid.cast_signed(),
        uid: 0,
        gid: 0,
    });
    let control = [ControlMessage::ScmCredentials(&credentials)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &control,
        MsgFlags::empty(),
        None,
    )
    .expect("sends");
}

/// For each line `CLAIMED COUNT`, so many frames that claim to be of that
/// process; `CLAIMED COUNT PID` forges `SCM_CREDENTIALS` besides. Says when
/// they are sent.
fn volleys(socket: &UnixDatagram) {
    println!("{}", process::id());
    for line in io::stdin().lock().lines() {
        let line = line.expect("text");
        let numbers = line.split(' ').map(|word| word.parse().expect("a number"));
        let numbers: Vec<u32> = numbers.collect();
        let (claimed, count) = (numbers[0], numbers[1]);
        for nonce in 1..=u64::from(count) {
            // As clients put the time there: what two processes send differs.
            let bytes = Frame {
                status: Status::Ok,
                pid: claimed,
                timestamp: process::id().into(),
                nonce,
                payload: 0,
            }
            .encode();
            match numbers.get(2) {
                Some(&scm_pid) => send_as(socket, scm_pid, &bytes),
                None => drop(socket.send(&bytes).expect("sends")),
            }
        }
        println!("sent");
    }
}

/// A forked child sends on the socket that it inherited.
fn child(socket: &UnixDatagram, claims_parent: bool) {
    let parent = process::id();
    in_child(|| {
        let own = process::id();
        println!("{own}");
        send(socket, if claims_parent { parent } else { own }, 1);
    });
}

/// Another process gets the socket by `SCM_RIGHTS` and claims to be this one.
fn pass(socket: &UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().expect("a pair");
    let claimed = process::id();
    let descriptors = [socket.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(
        ours.as_raw_fd(),
        &[IoSlice::new(b"x")],
        &control,
        MsgFlags::empty(),
        None,
    )
    .expect("sends");
    in_child(|| {
        println!("{}", process::id());
        send(&UnixDatagram::from(take_descriptor(&theirs)), claimed, 1);
    });
}

fn take_descriptor(socket: &UnixDatagram) -> OwnedFd {
    let mut space = nix::cmsg_space!(std::os::fd::RawFd);
    let mut byte = [0];
    let mut buffers = [io::IoSliceMut::new(&mut byte)];
    let message = nix::sys::socket::recvmsg::<()>(
        socket.as_raw_fd(),
        &mut buffers,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .expect("receives");
    let descriptor = message
        .cmsgs()
        .expect("whole")
        .find_map(|control| match control {
            nix::sys::socket::ControlMessageOwned::ScmRights(found) => found.first().copied(),
            _ => None,
        });
    // SAFETY: the kernel just made the descriptor for us, and nothing else
    // knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor.expect("a descriptor")) }
}

/// A thread claims its process, then itself.
fn threads(socket: &UnixDatagram) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let own = gettid().as_raw().cast_unsigned();
            println!("{own}");
            send(socket, process::id(), 1);
            send(socket, own, 1);
        });
    });
}

/// A new pid namespace for children leaves the process where it is.
fn unshare_only(socket: &UnixDatagram) {
    unshare(CloneFlags::CLONE_NEWPID).expect("root may");
    send(socket, process::id(), 1);
    wait_for_end();
}

/// A child in a pid namespace of its own. Prints the namespace's inode.
fn foreign_child(socket: &UnixDatagram, claimed: u32) {
    unshare(CloneFlags::CLONE_NEWPID).expect("root may");
    let claimed = if claimed == 0 { process::id() } else { claimed };
    let inode = in_child(|| {
        send(socket, claimed, 1);
        wait_for_end();
    });
    println!("{inode}");
}

/// Sends one frame per round as soon as it is told to: the same bytes as
/// everyone else who is told the same.
fn echo(socket: &UnixDatagram, claimed: u32, scm_pid: u32, rounds: u32) {
    println!("{}", process::id());
    let mut lines = io::stdin().lock().lines();
    for round in 0..rounds {
        if lines.next().is_none() {
            return;
        }
        let nonce = u64::from(round).saturating_add(2);
        if scm_pid == 0 {
            send(socket, claimed, nonce);
        } else {
            forge(socket, scm_pid, claimed, nonce);
        }
    }
}

/// One honest beat for each line; a number in it is the pid to claim.
fn each_line(socket: &UnixDatagram) {
    println!("{}", process::id());
    for (nonce, line) in (1..).zip(io::stdin().lock().lines()) {
        let claimed = line.ok().and_then(|line| line.parse().ok());
        send(socket, claimed.unwrap_or_else(process::id), nonce);
    }
}

/// Runs in a forked child, which then ends; returns the inode of the child's
/// pid namespace.
fn in_child(job: impl FnOnce()) -> u64 {
    // SAFETY: the process has one thread, so the child may do what it likes.
    match unsafe { fork() }.expect("forks") {
        ForkResult::Child => {
            job();
            process::exit(0);
        }
        ForkResult::Parent { child } => {
            let inode = namespace(child);
            let status = waitpid(child, None).expect("it is our child");
            assert!(
                matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)),
                "{status:?}"
            );
            inode
        }
    }
}

fn namespace(pid: Pid) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/pid")).map_or(0, |file| file.ino())
}

/// Stays until stdin is closed.
fn wait_for_end() {
    for line in io::stdin().lock().lines() {
        drop(line);
    }
}
