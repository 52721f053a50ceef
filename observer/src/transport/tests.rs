//! Binding and receiving, with real sockets and files.

use std::{
    fs::{self, File},
    io::IoSlice,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _, symlink},
            net::UnixDatagram,
        },
    },
    path::{Path, PathBuf},
    process,
    sync::Barrier,
    thread,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;

use super::{BATCH, BindError, BoundSocket, Datagram, Payload, Receiver, SocketOptions};

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a scratch directory")
}

fn options(path: impl Into<PathBuf>) -> SocketOptions {
    SocketOptions {
        path: path.into(),
        mode: 0o600,
        group: None,
    }
}

fn bind(path: &Path) -> Result<BoundSocket, BindError> {
    BoundSocket::open().expect("a socket").bind(&options(path))
}

/// A socket file that nobody receives from.
fn leave_stale(path: &Path) {
    drop(UnixDatagram::bind(path).expect("binds"));
}

fn sender(path: &Path) -> UnixDatagram {
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.connect(path).expect("connects");
    sender
}

#[test]
fn a_stale_socket_is_replaced() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    leave_stale(&path);
    let socket = bind(&path).expect("binds");
    sender(&path).send(&[0; 32]).expect("sends");
    assert_eq!(
        Receiver::new().receive(socket.as_fd()).expect("receives"),
        1
    );
}

#[test]
fn a_live_socket_is_refused_even_with_a_full_queue() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    let live = UnixDatagram::bind(&path).expect("binds");
    let sender = sender(&path);
    sender.set_nonblocking(true).expect("a flag");
    while sender.send(&[0]).is_ok() {}
    assert!(matches!(bind(&path), Err(BindError::InUse(refused)) if refused == path));
    drop(live);
}

#[test]
fn what_is_no_socket_is_refused_and_left_alone() {
    let scratch = scratch();
    let [file, directory, link, target] =
        ["file", "directory", "link", "target"].map(|name| scratch.path().join(name));
    File::create(&file).expect("a file");
    fs::create_dir(&directory).expect("a directory");
    leave_stale(&target);
    symlink(&target, &link).expect("a link");
    for path in [&file, &directory, &link] {
        let refused = bind(path).expect_err("refused");
        assert!(matches!(refused, BindError::NotASocket { .. }), "{refused}");
        assert!(refused.to_string().contains(&path.display().to_string()));
        assert!(fs::symlink_metadata(path).is_ok(), "{path:?} is gone");
    }
    assert!(target.exists());
}

#[test]
fn bad_paths_are_refused_with_a_reason() {
    let scratch = scratch();
    let missing = bind(&scratch.path().join("missing/s"));
    assert!(matches!(missing, Err(BindError::NoDirectory(_))));
    let long = bind(&scratch.path().join("x".repeat(108)));
    assert!(matches!(long, Err(BindError::PathTooLong { length, .. }) if length > 107));
    for path in ["", "/", "..", "s/", "/tmp/nul\0"] {
        let refused = bind(Path::new(path)).expect_err("refused");
        assert!(
            matches!(refused, BindError::BadPath(_)),
            "{path:?}: {refused}"
        );
    }
}

#[test]
fn the_longest_path_works() {
    let scratch = scratch();
    let room = 107 - scratch.path().as_os_str().len() - 1;
    let path = scratch.path().join("x".repeat(room));
    let _socket = bind(&path).expect("binds");
    sender(&path).send(&[0]).expect("sends");
}

#[test]
fn the_mode_is_as_asked_for() {
    let scratch = scratch();
    for mode in [0o600, 0o660, 0o666] {
        let path = scratch.path().join("s");
        let asked = SocketOptions {
            mode,
            ..options(&path)
        };
        let _socket = BoundSocket::open()
            .expect("a socket")
            .bind(&asked)
            .expect("binds");
        let found = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(found & 0o7777, mode);
    }
}

#[test]
fn the_group_is_as_asked_for() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    let own = rustix::process::getegid().as_raw();
    let group = if own == 0 { 12345 } else { own };
    let asked = SocketOptions {
        group: Some(group),
        ..options(&path)
    };
    let _socket = BoundSocket::open()
        .expect("a socket")
        .bind(&asked)
        .expect("binds");
    assert_eq!(fs::metadata(&path).expect("a file").gid(), group);
}

#[test]
fn the_file_goes_with_the_socket_unless_it_is_anothers() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    drop(bind(&path).expect("binds"));
    assert!(!path.exists());

    let ours = bind(&path).expect("binds");
    fs::remove_file(&path).expect("removes");
    let theirs = UnixDatagram::bind(&path).expect("binds");
    drop(ours);
    assert!(path.exists());
    drop(theirs);
}

#[test]
fn of_many_that_start_at_once_one_wins() {
    const STARTERS: usize = 8;
    for _ in 0..20 {
        let scratch = scratch();
        let path = scratch.path().join("s");
        leave_stale(&path);
        let barrier = Barrier::new(STARTERS);
        let results: Vec<_> = thread::scope(|scope| {
            let start = || {
                barrier.wait();
                bind(&path)
            };
            let starters: Vec<_> = (0..STARTERS).map(|_| scope.spawn(start)).collect();
            starters
                .into_iter()
                .map(|starter| starter.join().expect("no panic"))
                .collect()
        });
        let won = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(won, 1, "{results:?}");
        sender(&path).send(&[0]).expect("the winner receives");
    }
}

fn receive_all(socket: BorrowedFd<'_>) -> Vec<Datagram> {
    let mut receiver = Receiver::new();
    let mut all = Vec::new();
    loop {
        let count = receiver.receive(socket).expect("receives");
        all.extend((0..count).map(|index| receiver.get(index).expect("received")));
        if count < BATCH {
            return all;
        }
    }
}

#[test]
fn lengths_are_told_apart_and_credentials_come_along() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    let socket = bind(&path).expect("binds");
    let sender = sender(&path);
    for length in 0..=100 {
        sender.send(&vec![7; length]).expect("sends");
        let [datagram] = receive_all(socket.as_fd())[..] else {
            panic!("not one datagram");
        };
        let expected = match length {
            32 => Payload::Frame([7; 32]),
            _ => Payload::WrongLength,
        };
        assert_eq!(datagram.payload, expected, "{length} bytes");
        let credentials = datagram.credentials.expect("credentials");
        assert_eq!(credentials.pid, process::id());
        assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
        assert_eq!(credentials.gid, rustix::process::getgid().as_raw());
        assert!(!datagram.truncated_control);
    }
}

#[test]
fn an_empty_queue_is_no_error() {
    let scratch = scratch();
    let socket = bind(&scratch.path().join("s")).expect("binds");
    assert!(receive_all(socket.as_fd()).is_empty());
}

/// Links of this process's descriptors that lead to `marker`.
fn copies_of(marker: &Path) -> usize {
    fs::read_dir("/proc/self/fd")
        .expect("/proc")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target == marker)
        .count()
}

#[test]
fn foreign_descriptors_never_arrive() {
    let scratch = scratch();
    let (path, marker) = (scratch.path().join("s"), scratch.path().join("marker"));
    let socket = bind(&path).expect("binds");
    let sender = sender(&path);
    let file = File::create(&marker).expect("a file");
    // 253 is SCM_MAX_FD, `include/net/scm.h`.
    for count in [1, 2, 52, 253] {
        for _ in 0..100 {
            let descriptors = vec![file.as_fd(); count];
            let mut space = vec![std::mem::MaybeUninit::uninit(); 2048];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            let payload = [IoSlice::new(&[7; 32])];
            sendmsg(&sender, &payload, &mut control, SendFlags::empty()).expect("sends");
            let [datagram] = receive_all(socket.as_fd())[..] else {
                panic!("not one datagram");
            };
            assert!(datagram.truncated_control);
            assert_eq!(datagram.payload, Payload::Frame([7; 32]));
            assert_eq!(
                datagram.credentials.map(|sent| sent.pid),
                Some(process::id())
            );
        }
        assert_eq!(copies_of(&marker), 1, "after datagrams with {count}");
    }
}
