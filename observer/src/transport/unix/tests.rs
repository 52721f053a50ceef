//! Binding, with real sockets and files.

mod refused;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg, sockopt,
};
use rustix::process::Uid;
use tempfile::TempDir;

use super::{BindError, BoundListener, BoundSocket, SocketOptions, name_socket, path};
use crate::transport::Receiver;

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
    bind_with(&options(path))
}

fn bind_with(options: &SocketOptions) -> Result<BoundSocket, BindError> {
    BoundSocket::open().expect("a socket").bind(options)
}

fn mode_of(path: &Path) -> u32 {
    let file = fs::symlink_metadata(path).expect("a file");
    file.permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
}

/// Runs `act` in a thread of its own without any privilege.
fn unprivileged<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let drop_and_act = || {
        if rustix::process::geteuid().is_root() {
            let nobody = Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("another user");
        }
        act()
    };
    thread::scope(|scope| scope.spawn(drop_and_act).join().expect("no panic"))
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
    let received = Receiver::for_unix().receive(socket.as_fd());
    assert_eq!(received.expect("receives").received, 1);
}

#[test]
fn the_longest_path_works() {
    let scratch = scratch();
    let room = 107 - scratch.path().as_os_str().len() - 1;
    let path = scratch.path().join("x".repeat(room));
    let _socket = bind(&path).expect("binds");
    sender(&path).send(&[0]).expect("sends");
}

/// By the path in `/proc/net/unix` others know that the file is in use.
#[test]
fn the_socket_has_its_whole_path_by_whichever_it_was_named() {
    let scratch = scratch();
    let root = scratch.path().canonicalize().expect("it is there");
    fs::create_dir(root.join("real")).expect("a directory");
    symlink("real", root.join("link")).expect("a link");
    let whole = root.join("real/s");
    // The last is too long as it is given.
    let long = format!("{}real/s", "real/../".repeat(20));
    for given in ["real/s", "link/s", "link/../real/./s", &long] {
        let socket = bind(&root.join(given)).expect("binds");
        assert_eq!(bound_path(socket.as_fd()), whole, "{given}");
        sender(&whole).send(&[0]).expect("sends");
        drop(socket);
        assert!(!whole.exists(), "{given}");
    }
    let listener = BoundListener::bind(&options(root.join("link/l"))).expect("binds");
    assert_eq!(bound_path(listener.get().as_fd()), root.join("real/l"));
}

/// A whole path that does not fit is no reason not to start.
#[test]
fn a_socket_is_bound_as_it_is_given_where_its_whole_path_is_too_long() {
    let scratch = scratch();
    let deep = scratch.path().join("x".repeat(100));
    fs::create_dir(&deep).expect("a directory");
    symlink(&deep, scratch.path().join("link")).expect("a link");
    let given = scratch.path().join("link/s");
    let socket = bind(&given).expect("binds");
    assert_eq!(bound_path(socket.as_fd()), given);
    drop(socket);
    assert_eq!(fs::read_dir(&deep).expect("a list").count(), 0);
}

fn bound_path(socket: BorrowedFd<'_>) -> PathBuf {
    let name = rustix::net::getsockname(socket).expect("it is bound");
    let address = SocketAddrUnix::try_from(name).expect("an address");
    PathBuf::from(OsStr::from_bytes(address.path_bytes().expect("a path")))
}

/// Between opening the folder and binding, the path may come to lead to
/// another one.
#[test]
fn a_link_that_is_changed_leads_nowhere_else() {
    let scratch = scratch();
    let [ours, other, link] = ["ours", "other", "link"].map(|name| scratch.path().join(name));
    fs::create_dir(&ours).expect("a directory");
    fs::create_dir(&other).expect("a directory");
    symlink(&ours, &link).expect("a link");
    let directory = path::Directory::open(&link).expect("a directory");
    fs::remove_file(&link).expect("removes");
    symlink(&other, &link).expect("a link");
    let address = |name: &str| {
        let given = link.join(name);
        let address = path::address(&given, &directory, name.as_ref()).expect("an address");
        PathBuf::from(OsStr::from_bytes(address.path_bytes().expect("a path")))
    };
    let ours = ours.canonicalize().expect("it is there");
    assert_eq!(address("s"), ours.join("s"));
    // The folder that is open has no path any more: the kernel is asked to
    // resolve what was given, and the file will not be found in the folder.
    fs::remove_dir(&ours).expect("removes");
    assert_eq!(address("s"), link.join("s"));
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
        let _socket = bind_with(&asked).expect("binds");
        assert_eq!(mode_of(&path), mode);
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
    let _socket = bind_with(&asked).expect("binds");
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

#[test]
fn the_file_is_its_owners_only_until_it_has_its_group() {
    let scratch = scratch();
    let asked = SocketOptions {
        mode: 0o666,
        ..options(scratch.path().join("s"))
    };
    let unbound = BoundSocket::open().expect("a socket");
    assert!(sockopt::socket_passcred(&unbound).expect("an option"));
    let address = path::as_given(&asked.path).expect("an address");
    name_socket(&unbound.socket, &address, &asked).expect("binds");
    assert_eq!(mode_of(&asked.path), 0o600);
}

/// By whatever socket: the datagrams of agents, and connections of those who
/// ask.
#[test]
fn descriptors_are_refused_where_the_kernel_can() {
    let scratch = scratch();
    let unbound = BoundSocket::open().expect("a socket");
    let is_refused = unbound.refuses_descriptors();
    let path = scratch.path().join("s");
    let _socket = unbound.bind(&options(&path)).expect("binds");
    assert_eq!(attach(sender(&path).as_fd()), is_refused);
    let path = scratch.path().join("l");
    let _listener = BoundListener::bind(&options(&path)).expect("binds");
    let client = UnixStream::connect(&path).expect("connects");
    assert_eq!(attach(client.as_fd()), is_refused);
}

/// Sends a descriptor; whether that is refused.
fn attach(socket: BorrowedFd<'_>) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [socket];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let payload = [IoSlice::new(&[0; 32])];
    match sendmsg(socket, &payload, &mut control, SendFlags::empty()) {
        Ok(_) => false,
        Err(errno) => {
            assert_eq!(errno, Errno::PERM);
            true
        }
    }
}

#[test]
fn as_many_can_wait_as_the_queue_limit_says() {
    let scratch = scratch();
    let path = scratch.path().join("s");
    let socket = bind(&path).expect("binds");
    let sender = sender(&path);
    sender.set_nonblocking(true).expect("a flag");
    let fitted = std::iter::from_fn(|| sender.send(&[0]).ok()).count();
    assert_eq!(fitted, socket.queue_limit());
}

#[test]
fn a_path_without_directory_is_in_the_working_directory() {
    let (directory, name) = path::split(Path::new("s")).expect("a path");
    assert_eq!((directory, name), (Path::new("."), "s".as_ref()));
}
