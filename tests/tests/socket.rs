//! The socket's file: bound safely, and an operator's mistakes are errors that
//! name them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use observer_tests::agent::Agent;
use observer_tests::observer::{Observer, Setup};
use observer_tests::{need_kernel, observer_binary};

/// Starts an observer that must refuse to.
fn refused(socket: &Path) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new("timeout")
        .arg("10")
        .arg(observer_binary())
        .args(["run", "--threshold-ms", "1000", "--socket"])
        .arg(socket)
        .output()
        .expect("it runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn what_is_in_the_way_is_refused_and_left_alone() {
    need_kernel!();
    let scratch = tempfile::tempdir().expect("a directory");
    let path = |name: &str| scratch.path().join(name);
    let live = UnixDatagram::bind(path("live")).expect("binds");
    fs::write(path("file"), "precious").expect("a file");
    fs::create_dir(path("directory")).expect("a directory");
    std::os::unix::fs::symlink(path("live"), path("link")).expect("a link");
    for (name, reason) in [
        ("live", "in use"),
        ("file", "not a socket"),
        ("directory", "not a socket"),
        ("link", "not a socket"),
        ("missing/s", "does not exist"),
        (&"x".repeat(108), "bytes"),
    ] {
        let (code, message) = refused(&path(name));
        assert_eq!(code, Some(1), "{name}: {message}");
        assert!(message.contains(reason), "{name}: {message}");
        let named = path(name);
        let named = if name.contains('/') {
            scratch.path()
        } else {
            &named
        };
        assert!(
            message.contains(&named.display().to_string()),
            "{name}: {message}"
        );
    }
    assert_eq!(fs::read(path("file")).expect("still there"), b"precious");
    assert!(path("directory").is_dir());
    assert!(path("link").is_symlink());
    drop(live);
}

#[test]
fn a_stale_socket_is_replaced_and_a_running_observer_is_not() {
    need_kernel!();
    let first = Observer::start(60_000);
    let (code, message) = refused(&first.socket());
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("in use"), "{message}");

    let scratch = tempfile::tempdir().expect("a directory");
    let stale = scratch.path().join("s");
    drop(UnixDatagram::bind(&stale).expect("binds"));
    let mut observer = Command::new(observer_binary())
        .args(["run", "--threshold-ms", "1000", "--socket"])
        .arg(&stale)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        observer.stderr.take().expect("stderr is piped"),
    ));
    assert!(lines.any(|line| line.expect("text") == "ready"));
    observer.kill().expect("it is our child");
    observer.wait().expect("it is our child");
    assert!(stale.exists(), "killed, it could not clean up");
}

#[test]
fn the_socket_is_for_whom_the_operator_says() {
    need_kernel!();
    let look = |observer: &Observer| {
        let file = fs::metadata(observer.socket()).expect("a socket");
        (file.permissions().mode() & 0o7777, file.gid())
    };
    assert_eq!(look(&Observer::start(60_000)).0, 0o600);
    let shared = Setup::new(60_000)
        .arg("--socket-mode")
        .arg("0660")
        .arg("--socket-group")
        .arg("65534")
        .start();
    assert_eq!(look(&shared), (0o660, 65534));
}

#[test]
fn the_file_is_removed_only_if_it_is_still_ours() {
    need_kernel!();
    let observer = Observer::start(60_000);
    let socket = observer.socket();
    fs::remove_file(&socket).expect("removes");
    let other = UnixDatagram::bind(&socket).expect("binds");
    let (code, exists) = observer.stop_keeping(|| socket.exists());
    assert_eq!(code, Some(0));
    assert!(exists, "the observer removed what was not its own");
    drop(other);
}

/// Whoever may read the folder may lock it: with systemd's `RuntimeDirectory`
/// that is everyone.
#[test]
fn a_lock_on_the_folder_keeps_nobody_from_starting_or_ending() {
    need_kernel!();
    let setup = Setup::new(60_000);
    let folder = setup.directory().to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("sets");
    let script = "exec 9<\"$0\" && flock 9 && echo locked && exec sleep 60";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.args(["sh", "-c", script]).arg(&folder);
    let mut holder = Agent::spawn(command);
    assert_eq!(holder.line(), "locked");
    let path = |name: &str| folder.join(name).display().to_string();
    let started = setup
        .arg("--control")
        .arg(&path("control"))
        .arg("--metrics")
        .arg(&format!("unix:{}", path("metrics")))
        .try_start();
    let observer = started.unwrap_or_else(|remains| panic!("{:#?}", remains.log));
    let files = || fs::read_dir(&folder).expect("a list").count();
    assert_eq!(files(), 3, "the sockets and nothing else");
    let (code, left) = observer.stop_keeping(files);
    assert_eq!((code, left), (Some(0), 0));
}
