//! What only a Unix socket takes: credentials, descriptors, and queues that
//! are full at once.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead as _, ErrorKind, IoSlice};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
use nix::unistd::{Pid, gettid};
use observer_testing::frame;
use observer_tests::process::{in_child, start_child, wait_for_child, wait_for_end};
use observer_tests::socket::Socket;

use crate::any::{self, each_volley};

fn send(socket: &UnixDatagram, pid: u32, nonce: u64) {
    socket.send(&frame(pid, nonce).encode()).expect("sends");
}

/// Honest frames without waiting; prints which of them were sent.
pub(crate) fn attempts(socket: &UnixDatagram, count: u64) {
    socket.set_nonblocking(true).expect("a flag");
    for nonce in 1..=count {
        match socket.send(&frame(process::id(), nonce).encode()) {
            Ok(_) => println!("{nonce}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// Honest frames with descriptors attached; prints how many were refused.
pub(crate) fn descriptors(socket: &UnixDatagram, count: u64, each: u32) {
    // Nobody else has this one open: it would be seen in who took it.
    let program = env::current_exe().expect("a path");
    let file = File::open(program).expect("it runs");
    let attached = vec![file.as_raw_fd(); usize::try_from(each).expect("small")];
    let mut refused = 0;
    for nonce in 1..=count {
        let bytes = frame(process::id(), nonce).encode();
        let sent = send_with(socket, &bytes, &ControlMessage::ScmRights(&attached));
        refused += u64::from(sent == Err(Errno::EPERM));
        assert!(matches!(sent, Ok(_) | Err(Errno::EPERM)), "{sent:?}");
    }
    println!("{refused}");
}

fn send_with(
    socket: &UnixDatagram,
    bytes: &[u8],
    control: &ControlMessage<'_>,
) -> nix::Result<usize> {
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        &[*control],
        MsgFlags::empty(),
        None,
    )
}

/// `SCM_CREDENTIALS` with a pid of the sender's choosing, which needs
/// `CAP_SYS_ADMIN` (`scm_check_creds`, `net/core/scm.c`).
pub(crate) fn forge(socket: &UnixDatagram, scm_pid: u32, claimed: u32, nonce: u64) {
    send_as(socket, scm_pid, &frame(claimed, nonce).encode());
}

/// Volleys with forged credentials.
pub(crate) fn forging_volleys(socket: &UnixDatagram, scm_pid: u32) {
    each_volley(|bytes| send_as(socket, scm_pid, bytes));
}

fn send_as(socket: &UnixDatagram, scm_pid: u32, bytes: &[u8]) {
    let credentials = UnixCredentials::from(libc::ucred {
        pid: scm_pid.cast_signed(),
        uid: 0,
        gid: 0,
    });
    send_with(socket, bytes, &ControlMessage::ScmCredentials(&credentials)).expect("sends");
}

/// A forked child sends on the socket that it inherited.
pub(crate) fn child(socket: &UnixDatagram, claims_parent: bool) {
    let parent = process::id();
    in_child(|| {
        let own = process::id();
        println!("{own}");
        send(socket, if claims_parent { parent } else { own }, 1);
    });
}

/// Another process gets the socket by `SCM_RIGHTS` and claims to be this one.
pub(crate) fn pass(socket: &UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().expect("a pair");
    let claimed = process::id();
    let descriptors = [socket.as_raw_fd()];
    send_with(&ours, b"x", &ControlMessage::ScmRights(&descriptors)).expect("sends");
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
pub(crate) fn threads(socket: &UnixDatagram) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let own = gettid().as_raw().cast_unsigned();
            println!("{own}");
            send(socket, process::id(), 1);
            send(socket, own, 1);
        });
    });
}

/// The main thread ends, and another one sends what each line asks for.
pub(crate) fn orphan_thread(to: &str) {
    let socket = Socket::connect(to);
    thread::spawn(move || {
        let of_main = format!("/proc/self/task/{}/stat", process::id());
        while !fs::read_to_string(&of_main).is_ok_and(|stat| stat.contains(") Z ")) {
            thread::yield_now();
        }
        any::volleys(&socket);
        process::exit(0);
    });
    // SAFETY: the call ends this thread and none else, and nothing of it is used
    // any more.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// A new pid namespace for children leaves the process where it is.
pub(crate) fn unshare_only(socket: &UnixDatagram) {
    unshare(CloneFlags::CLONE_NEWPID).expect("root may");
    send(socket, process::id(), 1);
    wait_for_end();
}

/// A child in a pid namespace of its own. Prints the namespace's inode.
pub(crate) fn foreign_child(socket: &UnixDatagram, claimed: u32) {
    unshare(CloneFlags::CLONE_NEWPID).expect("root may");
    let claimed = if claimed == 0 { process::id() } else { claimed };
    let child = start_child(|| {
        send(socket, claimed, 1);
        wait_for_end();
    });
    let inode = namespace(child);
    wait_for_child(child);
    println!("{inode}");
}

/// Sends one frame for each line, in so many rounds: the same bytes as everyone
/// else who gets the same line.
pub(crate) fn echo(socket: &UnixDatagram, claimed: u32, scm_pid: u32, rounds: u32) {
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

/// Inode of a child's pid namespace.
fn namespace(pid: Pid) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/pid")).map_or(0, |file| file.ino())
}
